"""HRMMaze-v0: what its manual page says, on boards known in advance."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

import hrm_gym
from hrm_gym.envs.maze import tokens
from hrm_gym.envs.maze.source import GeneratedMazes
from hrm_gym.envs.puzzle import Puzzle, puzzle_key

hrm_gym.register_environments()
BOARD = "S  \n # \n  G"  # two shortest paths; the canonical one goes right first
UP, RIGHT, DOWN, LEFT = range(4)


def begin(mode: str, board: str = BOARD, **kwargs) -> gym.Env:
    env = gym.make("HRMMaze-v0", size=3, min_path=2, action_mode=mode, **kwargs)
    env.reset(options={"puzzle": board})
    return env


def answer(text: str, halt: int) -> np.ndarray:
    return np.append(np.concatenate([tokens.encode(row) for row in text.split("\n")]), halt)


@pytest.mark.parametrize(("text", "exact"), [("Soo\n #o\n  G", True), ("S  \no# \nooG", False)])
def test_any_shortest_path_pays_and_exact_tells_the_stored_one(text, exact):
    env = begin("answer")
    _, reward, terminated, truncated, info = env.step(answer(text, 1))
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert info["solved"] is info["reached"] is True
    assert info["exact"] is exact
    assert info["cell_accuracy"] == (1.0 if exact else 0.0)


def test_thinking_on_pays_nothing_until_the_halt():
    env = begin("answer")
    _, reward, terminated, _, info = env.step(answer("Soo\n #o\n  G", 0))
    assert (reward, terminated, info["segment"]) == (0.0, False, 1)
    assert env.step(answer("Soo\n #o\n  G", 1))[1] == 1.0


def test_the_last_segment_halts_by_force_and_is_paid():
    env = begin("answer", max_segments=2)
    assert not env.step(answer("S  \n # \n  G", 0))[2]
    _, reward, terminated, truncated, info = env.step(answer("Soo\n #o\n  G", 0))
    assert (reward, terminated, truncated, info["solved"]) == (1.0, True, False, True)


def test_an_answer_that_alters_a_clue_is_wrong():
    info = begin("answer").step(answer("Soo\n  o\n  G", 1))[4]
    assert info["violations"] == 1
    assert not info["solved"]
    assert not info["reached"]


def test_cell_mode_ends_when_solved_and_takes_corrections():
    env = begin("cell")
    write = [
        2 * 3 + 1,
        2 * 3,
        2 * 1 + 1,
        2 * 2 + 1,
        2 * 5 + 1,
    ]  # path at (1, 0), cleared again, then the canonical path
    for action in write[:-1]:
        assert env.step(action)[2] is False
    observation, reward, terminated, _, info = env.step(write[-1])
    assert (reward, terminated, info["exact"]) == (1.0, True, True)
    assert tokens.to_text(observation["answer"]) == "Soo\n #o\n  G"


def test_cell_mode_halts_unsolved_and_is_cut_at_max_steps():
    assert begin("cell").step(18)[1:4] == (0.0, True, False)
    env = begin("cell", max_steps=1, step_cost=0.25)
    assert env.step(4 * 2 + 1)[1:4] == (-0.25, False, True)  # on the wall


def test_a_shortest_walk_is_paid_whatever_was_bumped_into():
    env = begin("move", step_cost=0.1)
    actions = [UP, RIGHT, RIGHT, RIGHT, DOWN, DOWN]
    rewards = [env.step(action) for action in actions]
    _, reward, terminated, _, info = rewards[-1]
    assert terminated
    assert info["solved"]
    assert info["exact"]
    assert sum(step[1] for step in rewards) == pytest.approx(1.0 - 0.6)
    assert reward == pytest.approx(0.9)


def test_a_walk_with_a_step_back_arrives_but_solves_nothing():
    env = begin("move")
    *steps, last = [env.step(action) for action in (RIGHT, LEFT, RIGHT, RIGHT, DOWN, DOWN)]
    assert [step[4]["violations"] for step in steps] == [0, 1, 2, 2, 2]
    assert last[1:4] == (0.0, True, False)
    assert last[4]["reached"]
    assert not last[4]["solved"]


def test_the_walk_is_shown_and_a_step_back_is_marked():
    env = begin("move")
    shown = [tokens.to_text(env.step(action)[0]["answer"]) for action in (DOWN, DOWN, UP, UP, RIGHT)]
    assert shown == ["o  \nS# \n  G", "o  \no# \nS G", "o  \nS# \n? G", "S  \n?# \n? G", "oS \n?# \n? G"]


def test_text_tells_the_walker_from_the_start():
    env = begin("move", render_mode="ansi")
    walk = [env.render(), *(env.step(action) and env.render() for action in (DOWN, DOWN, UP))]
    assert ["\n".join(text.split("\n")[:3]) for text in walk] == [
        "S  \n # \n  G", "S  \n@# \n  G", "S  \no# \n@ G", "S  \n@# \nx G",
    ]  # fmt: skip


def test_same_place_and_step_with_another_past_looks_different():
    """Two bumps or two steps back: only one of these walks can still be solved, and the observation tells which."""
    bumped, turned = begin("move"), begin("move")
    for a, b in zip((RIGHT, UP, UP), (RIGHT, LEFT, RIGHT), strict=True):
        seen = bumped.step(a)[0], turned.step(b)[0]
    assert seen[0]["segment"] == seen[1]["segment"]
    assert not np.array_equal(seen[0]["answer"], seen[1]["answer"])


def test_dense_walk_earns_the_whole_distance_and_no_more():
    env = begin("move", reward="dense")
    rewards = [env.step(action)[1] for action in (RIGHT, LEFT, DOWN, DOWN, RIGHT, RIGHT)]
    assert rewards[:2] == pytest.approx([0.25, -0.25])
    assert sum(rewards) == pytest.approx(1.0)


def test_puzzle_k_depends_on_seed_and_k_alone():
    env = gym.make("HRMMaze-v0", size=8, source="generate")
    seen = [env.reset(seed=5)[0]["puzzle"], env.reset()[0]["puzzle"]]
    env.reset(options={"puzzle": GeneratedMazes(8).puzzle(1)})
    seen.append(env.reset()[0]["puzzle"])
    for k, clues in enumerate(seen):
        assert np.array_equal(clues, GeneratedMazes(8).puzzle(puzzle_key(5, k)).clues)


def test_own_puzzle_keeps_its_stored_solution():
    clues = GeneratedMazes(8).puzzle(3).clues
    mine = Puzzle(clues, clues, name="mine")
    env = gym.make("HRMMaze-v0", size=8).unwrapped
    env.reset(options={"puzzle": mine})
    assert env.puzzle is mine


def test_wrong_size_is_named():
    with pytest.raises(ValueError, match="expected a puzzle of 8x8 cells, got 3x3"):
        gym.make("HRMMaze-v0", size=8).reset(options={"puzzle": BOARD})


def test_index_needs_a_numbered_source():
    with pytest.raises(ValueError, match="expected a source with numbered puzzles"):
        gym.make("HRMMaze-v0", size=8, source="generate").reset(options={"index": 0})
