"""Search over guesses: it branches when it should, keeps boards apart, and gives only answers that keep the rules."""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_grid_blocks import FOUR, MAZE, agent_for, network

import hrm_gym
from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.inference.search import OPEN, SearchAgent
from hrm_gym.evaluation.rollout import rollout_batched


def make(mode: str = "answer", **arguments: Any) -> Any:
    arguments = {"split": "test", "max_segments": 24, "disable_env_checker": True, **arguments}
    return gym.make("HRMSudokuMini-v0", action_mode=mode, **arguments)


def batch(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    seen = [make().reset(seed=seed + row)[0] for row in range(count)]
    return {key: np.stack([one[key] for one in seen]) for key in ("puzzle", "answer")}


def blank_boards(count: int) -> dict[str, np.ndarray]:
    """Boards without a clue: every cell has all candidates."""
    return {key: np.ones((count, 4, 4), np.uint8) for key in ("puzzle", "answer")}


def steps(agent: SearchAgent, seen: dict[str, np.ndarray], count: int) -> Any:
    state = None
    for _ in range(count):
        _, state = agent.predict(seen, state, np.full(len(seen["puzzle"]), state is None))
    return state


def test_it_branches_in_time_and_no_wider_than_the_beam() -> None:
    agent = SearchAgent(agent_for(FOUR), beam=6, patience=4, look=2)
    seen, lanes_seen = blank_boards(2), []
    for count in (1, 4, 5, 6, 7, 9, 11):
        state = steps(agent, seen, count)
        lanes_seen.append(np.bincount(state.owner).tolist())
        assert state.depth.tolist() == [max(0, (count - 3) // 2)] * 2, count
    assert lanes_seen == [[1, 1], [1, 1], [4, 4], [4, 4], [6, 6], [6, 6], [6, 6]]
    assert agent.spent().tolist() == [4 + 4 * 2 + 6 * 2 + 6 * 2 + 6] * 2


def test_a_wide_beam_never_loses_the_solution() -> None:
    agent, envs = SearchAgent(agent_for(FOUR), beam=200, patience=1, look=1), [make() for _ in range(3)]
    seen = [env.reset(seed=row)[0] for row, env in enumerate(envs)]
    seen = {key: np.stack([one[key] for one in seen]) for key in ("puzzle", "answer")}
    solutions = [env.unwrapped.puzzle.solution for env in envs]
    for count in range(1, 6):
        state = steps(agent, seen, count)
        for board, solution in enumerate(solutions):
            lanes = state.clues[state.owner == board]
            assert ((lanes == 1) | (lanes == solution)).all(axis=(1, 2)).any(), (count, board)


def test_a_lane_without_candidates_is_given_up() -> None:
    clues = np.ones((1, 4, 4), np.uint8)
    clues[0, 0, :3], clues[0, 3, 3] = (2, 3, 4), 5  # the last cell of the first row sees all four symbols
    agent = SearchAgent(agent_for(FOUR), beam=3, patience=1, look=1)
    state = steps(agent, {"puzzle": clues, "answer": clues.copy()}, 4)
    assert len(state.clues) == 1
    assert np.array_equal(state.clues, clues), "with no branch left, the board stays as it is"


def test_every_lane_keeps_the_clues_and_guesses_one_free_cell_more_each_time() -> None:
    agent, seen = SearchAgent(agent_for(FOUR), beam=4, patience=2, look=2), batch(3)
    state = steps(agent, seen, 7)  # guesses before segments 3, 5 and 7
    blanks = (seen["puzzle"] == 1).sum(axis=(1, 2))
    for owner, clues in zip(state.owner, state.clues, strict=True):
        puzzle = seen["puzzle"][owner]
        assert (clues[puzzle != 1] == puzzle[puzzle != 1]).all()
        assert (clues == 1).sum() == blanks[owner] - 3
    for owner in range(3):
        own = state.clues[state.owner == owner]
        assert len({clues.tobytes() for clues in own}) == len(own), "lanes of one board should differ"


def test_a_board_is_thought_about_alike_in_any_company() -> None:
    agent, seen = SearchAgent(agent_for(FOUR), beam=3, patience=2, look=2), batch(4)
    together = steps(agent, seen, 6)
    alone = steps(agent, {key: value[2:3] for key, value in seen.items()}, 6)
    kept = together[np.array([2])]
    assert np.array_equal(kept.clues, alone.clues)
    assert np.array_equal(kept.answers, alone.answers)
    assert torch.allclose(kept.lanes.carry.z_h, alone.lanes.carry.z_h, atol=1e-5)


def test_a_board_that_begins_anew_forgets() -> None:
    agent, seen, other = SearchAgent(agent_for(FOUR), beam=3, patience=2, look=2), blank_boards(3), batch(3, seed=50)
    state = steps(agent, seen, 5)
    mixed = {key: np.concatenate((seen[key][:1], other[key][1:2], seen[key][2:])) for key in seen}
    _, after = agent.predict(mixed, state, np.array([False, True, False]))
    first = steps(agent, {key: value[1:2] for key, value in other.items()}, 1)
    assert np.bincount(after.owner).tolist() == [3, 1, 3]
    assert torch.allclose(after.lanes.carry.z_h[3], first.lanes.carry.z_h[0], atol=1e-5)
    assert after.spent[1] == 1


def always_sure(mode: str) -> SearchAgent:
    """A search whose untrained network wants to halt after every segment."""
    member = agent_for(FOUR)
    torch.nn.init.constant_(member.model.q_head.bias, 5.0)
    torch.nn.init.zeros_(member.model.q_head.weight)
    own = HRMAgent(member.model, member.family, mode, halting="q", device="cpu")
    return SearchAgent(own, beam=8, patience=1, look=1, max_segments=12)


def test_it_does_not_halt_with_answers_that_break_the_rules() -> None:
    episodes = list(rollout_batched(lambda: make(max_segments=12), always_sure("answer"), 20, 10, seed=1))
    assert all(episode.solved or episode.steps == 12 for episode in episodes)


def test_it_plays_cell_by_cell() -> None:
    in_answers = list(rollout_batched(lambda: make(max_segments=12), always_sure("answer"), 8, 8, seed=1))
    in_cells = list(rollout_batched(lambda: make("cell"), always_sure("cell"), 8, 8, seed=1))
    assert sum(episode.solved for episode in in_cells) >= sum(episode.solved for episode in in_answers) > 0
    assert all(episode.steps > 0 for episode in in_cells)


def test_without_a_check_no_rule_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = SearchAgent(agent_for(FOUR), beam=5, patience=2, look=2, check=False)

    def asked(*_: Any, **__: Any) -> Any:
        raise AssertionError("a rule was asked")

    for name in ("candidates", "count_violations", "cost", "judge"):
        monkeypatch.setattr(type(agent.family), name, asked)
    state = steps(agent, batch(3), 7)
    assert (state.depth == 3).all()
    assert agent.halting_rules == "limit alone + search beam 5"


def test_without_a_check_candidates_are_what_the_first_segment_left() -> None:
    agent, seen = SearchAgent(agent_for(FOUR), beam=64, patience=3, look=2, check=False), batch(4)
    first = steps(agent, seen, 1)
    chances = agent._chances(first.lanes)
    assert np.array_equal(first.open, chances > OPEN)
    assert np.array_equal(steps(agent, seen, 3).open, first.open), "later segments do not count"
    children = steps(agent, seen, 4)
    for owner, clues in zip(children.owner, children.clues, strict=True):
        (cell,) = np.flatnonzero((clues != seen["puzzle"][owner]).ravel())
        assert first.open[owner, cell, list(agent.family.writable).index(clues.ravel()[cell])]
    assert np.bincount(children.owner).max() > 1, "one child each: the test shows nothing"


def test_without_a_check_it_halts_as_the_network_says() -> None:
    sure = always_sure("answer").member
    with_check, without = (SearchAgent(sure, beam=4, patience=1, look=1, check=check) for check in (True, False))
    seen = blank_boards(3)
    assert steps(without, seen, 1).halted.all()
    assert not steps(with_check, seen, 1).halted.any()


@settings(max_examples=20, deadline=None, derandomize=True)
@given(budget=st.integers(1, 60), beam=st.integers(2, 9), patience=st.integers(1, 5), look=st.integers(1, 4))
def test_the_budget_is_kept_and_used(budget: int, beam: int, patience: int, look: int) -> None:
    agent = SearchAgent(agent_for(FOUR), beam, patience, look, max_segments=1000, budget=budget, check=False)
    state = agent.solve(blank_boards(2)["puzzle"])
    lanes = np.bincount(state.owner)
    assert (state.spent <= budget).all()
    assert (state.halted | (state.spent + lanes > budget)).all()
    assert f"{budget} segments of all lanes" in agent.halting_rules


def test_a_puzzle_is_solved_as_it_is_played() -> None:
    agent, seen = SearchAgent(agent_for(FOUR), beam=3, patience=2, look=2, max_segments=7, budget=15), batch(4)
    played, solved = steps(agent, seen, 7), agent.solve(seen["puzzle"])
    assert np.array_equal(played.answers, solved.answers)
    assert np.array_equal(played.spent, solved.spent)


def test_an_environment_gives_it_as_many_segments_as_it_has() -> None:
    for limit, expected in ((16, 128), (256, 256)):
        env = gym.make("HRMSudoku-v0", max_segments=limit)
        assert hrm_gym.make_agent("hrm-search", env, device="cpu").max_segments == expected  # type: ignore[attr-defined]


def test_what_cannot_be_searched_is_refused() -> None:
    maze = HRMAgent(network(MAZE), gym.make("HRMMaze-v0", size=7).unwrapped.family, device="cpu")
    with pytest.raises(ValueError, match="mixer 'symbols'"):
        SearchAgent(maze)
    with pytest.raises(ValueError, match="beam of at least 2"):
        SearchAgent(agent_for(dataclasses.replace(FOUR, h_cycles=1)), beam=1)
    with pytest.raises(ValueError, match="budget of at least 1, got 64, 8, 16, 128, 0"):
        SearchAgent(agent_for(FOUR), budget=0)
