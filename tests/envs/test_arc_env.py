"""HRMARC-v0: what its manual page says, on tasks known in advance."""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest

import hrm_gym
from hrm_gym.envs.arc import tokens
from hrm_gym.envs.puzzle import Puzzle, Thought

hrm_gym.register_environments()
TASK = {
    "train": [{"input": [[1, 2]], "output": [[1], [2]]}, {"input": [[3, 4]], "output": [[3], [4]]}],
    "test": [{"input": [[6, 7]], "output": [[6], [7]]}, {"input": [[8]], "output": [[8]]}],
}
SIDE = 4
RIGHT, WRONG = "6|..\n7|..\n|...\n....", "7|..\n6|..\n|...\n...."


def begin(mode: str = "answer", task=TASK, **kwargs) -> gym.Env:
    env = gym.make("HRMARC-v0", canvas=SIDE, action_mode=mode, disable_env_checker=True, **kwargs)
    env.reset(options={"puzzle": task})
    return env


def answer(text: str, halt: int) -> np.ndarray:
    return np.append([tokens.SYMBOLS.index(symbol) for symbol in text.replace("\n", "")], halt)


def test_the_observation_shows_the_task():
    env = begin()
    observation, _ = env.reset(options={"puzzle": TASK})
    assert tokens.to_text(observation["puzzle"]) == "67|.\n||..\n....\n...."
    assert not observation["answer"].any()
    assert observation["demonstrations"].shape == (10, 2, SIDE, SIDE)
    assert tokens.crop(observation["demonstrations"][1, 1]).tolist() == [[3], [4]]
    assert not observation["demonstrations"][2:].any()
    assert [observation[key].tolist() for key in ("pairs", "task", "attempt", "segment")] == [[2], [0], [0], [0.0]]
    assert [str(observation[key].dtype) for key in ("pairs", "task", "attempt")] == ["uint8", "int32", "uint8"]
    assert env.observation_space.contains(observation)


def test_a_right_first_halt_ends_the_episode():
    observation, reward, terminated, truncated, info = begin().step(answer(RIGHT, 1))
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert info["solved"] is info["exact"] is info["is_success"] is True
    assert info["cell_accuracy"] == 1.0
    assert observation["attempt"] == 0


def test_a_wrong_first_halt_begins_the_second_attempt():
    env = begin()
    env.step(answer(WRONG, 0))
    observation, reward, terminated, truncated, info = env.step(answer(WRONG, 1))
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert info == {"segment": 0, "violations": 0}
    assert (observation["attempt"], observation["segment"]) == (1, 0.0)
    assert tokens.to_text(observation["answer"]) == WRONG
    _, reward, terminated, _, info = env.step(answer(RIGHT, 1))
    assert (reward, terminated, info["solved"], info["segment"]) == (1.0, True, True, 1)


def test_a_wrong_second_halt_ends_the_episode():
    env = begin()
    env.step(answer(WRONG, 1))
    _, reward, terminated, _, info = env.step(answer(WRONG, 1))
    assert (reward, terminated, info["solved"], info["cell_accuracy"]) == (0.0, True, False, 0.0)


def test_a_forced_halt_uses_an_attempt_up():
    env = begin(max_segments=2)
    for used, attempt in ((1, 0), (0, 1), (1, 1)):
        observation, _, terminated, _, info = env.step(answer(WRONG, 0))
        assert (info["segment"], observation["attempt"], terminated) == (used, attempt, False)
    _, reward, terminated, truncated, _ = env.step(answer(RIGHT, 0))
    assert (reward, terminated, truncated) == (1.0, True, False)


def test_a_right_answer_at_the_forced_halt_is_paid_in_the_first_attempt():
    _, reward, terminated, _, _ = begin(max_segments=1).step(answer(RIGHT, 0))
    assert (reward, terminated) == (1.0, True)


def test_cell_mode_ends_when_solved_and_keeps_the_drawing_for_the_second_attempt():
    env = begin("cell")
    halt = env.action_space.n - 1
    assert not env.step(11 * 0 + 7)[2]  # 6 top left
    observation, _, terminated, _, info = env.step(halt)
    assert (observation["attempt"], observation["answer"][0, 0], terminated, info["segment"]) == (1, 8, False, 0)
    _, reward, terminated, _, info = env.step(11 * SIDE + 8)  # 7 below it
    assert (reward, terminated, info["solved"]) == (1.0, True, True)


def test_cell_mode_is_cut_at_its_budget():
    env = begin("cell", max_steps=2)
    env.step(0)
    _, _, terminated, truncated, _ = env.step(1)
    assert (terminated, truncated) == (False, True)


def test_the_shaping_is_the_share_of_right_cells():
    env = begin(reward="dense")
    half = "6|..\n6|..\n|...\n...."
    assert env.step(answer(half, 0))[1] == pytest.approx(0.5)
    assert env.step(answer(half, 1))[1] == pytest.approx(0.0)  # the second attempt begins: Phi stays
    assert env.step(answer(RIGHT, 1))[1] == pytest.approx(1.0 - 0.5)


def test_text_shows_the_demonstrations_and_the_answer_beside_the_test_input():
    env = begin(render_mode="ansi")
    env.step(answer(WRONG, 0))
    shown = env.render()
    for number, pair in enumerate(TASK["train"], 1):
        assert f"demonstration {number}\n" in shown
        assert "".join(map(str, pair["input"][0])) + " -> " + "".join(map(str, pair["output"][0])) in shown
    *lines, status, _ = shown.split("test input -> answer\n")[1].split("\n")
    assert "\n".join(line[len("67 -> ") :] for line in lines) == WRONG
    assert "attempt 1/2" in status


def test_other_test_pairs_json_text_and_puzzles():
    env = begin()
    for given in ((TASK, 1), (json.dumps(TASK), 1)):
        observation, _ = env.reset(options={"puzzle": given})
        assert tokens.crop(observation["puzzle"]).tolist() == [[8]]
    puzzle = env.unwrapped.puzzle
    env.reset(options={"puzzle": json.dumps(TASK)})
    assert tokens.crop(env.reset(options={"puzzle": puzzle})[0]["puzzle"]).tolist() == [[8]]


def test_ten_demonstrations_are_kept():
    shown = [{"input": [[k % 10]], "output": [[k % 10]]} for k in range(13)]
    observation, _ = begin().reset(options={"puzzle": {**TASK, "train": shown}})
    assert observation["pairs"] == 10
    assert [tokens.crop(first).item() for first, _ in observation["demonstrations"]] == list(range(10))


@pytest.mark.parametrize(
    ("puzzle", "message"),
    [
        ("###", "'###': expected JSON, got a text that is none"),
        ([[1, 2], [3]], "expected a Puzzle, a task dictionary or its JSON text"),
        ((TASK, 2), r"expected a test pair in 0..1 with an output, got 2"),
        ((TASK, "first"), "expected a Puzzle, a task dictionary"),
        ({**TASK, "test": [{"input": [[1]]}]}, "expected a test pair with an output, got none in own task"),
        ({**TASK, "test": [{"input": [[1] * 5], "output": [[1]]}]}, "at most 4x4 cells, got a side of 5"),
        ({"train": TASK["train"]}, r"keys 'train' and 'test', got \['train'\]"),
        (Puzzle(np.ones((4, 4), np.uint8), np.ones((4, 4), np.uint8)), "a grid top left"),
        (Puzzle(np.full((4, 4), 3, np.uint8), np.full((4, 4), 3, np.uint8)), "demonstrations as an array"),
    ],
)
def test_bad_puzzles_are_named(puzzle, message):
    with pytest.raises(ValueError, match=message):
        begin().reset(options={"puzzle": puzzle})


def test_registered_environments():
    assert gym.make("HRMARC-v0").observation_space["puzzle"].shape == (30, 30)
    assert gym.make("HRMARC2-v0").unwrapped.puzzle_source.name == "arc2"
    mini = gym.make("HRMARCMini-v0").unwrapped
    assert (mini.shape, mini.family.canvas) == ((12, 12), 12)
    assert gym.make("HRMARC-v0", source=mini.puzzle_source).unwrapped.family.canvas == 12


def test_the_oracle_is_the_stored_answer_and_says_so():
    env = begin()
    agent = hrm_gym.make_agent("oracle", env)
    assert agent.name == "stored"
    observation, _ = env.reset(options={"puzzle": TASK})
    assert env.step(agent.predict(observation)[0])[1] == 1.0


@pytest.mark.parametrize("pairs", [0, 1, 3, 10])
def test_pictures_of_any_number_of_demonstrations(pairs):
    env = begin(render_mode="rgb_array")
    env.reset(options={"puzzle": {**TASK, "train": (TASK["train"] * 5)[: max(pairs, 1)]}})
    if pairs == 0:
        puzzle = env.unwrapped.puzzle
        env.reset(
            options={
                "puzzle": Puzzle(
                    puzzle.clues, puzzle.solution, extras={**puzzle.extras, "pairs": np.zeros(1, np.uint8)}
                )
            }
        )
    blank = env.render()
    env.step(answer("6|.9\n7|..\n|...\n....", 0))
    drawn = env.render()
    env.unwrapped.set_thought(Thought(env.unwrapped.puzzle.clues, np.full((4, 4), 0.4, np.float32), 0.5, 0.5, 1))
    thought = env.render()
    assert not np.array_equal(blank, drawn)
    assert not np.array_equal(drawn, thought)
    assert (drawn == (0xF0, 0x12, 0xBE)).all(axis=2).any()  # magenta as ARC has it
