"""The bundled families and agents pass the public checks, and the checks find what is wrong."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import hrm_gym
from hrm_gym.envs.puzzle import PuzzleBatch
from hrm_gym.envs.sudoku.rules import SudokuFamily
from hrm_gym.registry import HALTING_ID, environment_ids
from hrm_gym.testing import check_agent, check_family

IDS = [env_id for env_id in environment_ids() if env_id != HALTING_ID]
PLAYERS = [
    ("random", "HRMMaze-v0", "answer"),
    ("random", "HRMSudokuMini-v0", "cell"),
    ("random", "HRMMaze-v0", "move"),
    ("oracle", "HRMMaze-v0", "move"),
    ("oracle", "HRMSudoku-v0", "answer"),
    ("stored", "HRMSudokuMini-v0", "cell"),
    ("hrm", "HRMSudokuMini-v0", "answer"),
    ("hrm", "HRMMaze-v0", "move"),
    ("hrm-vote", "HRMSudokuMini-v0", "answer"),
    ("maskableppo", "HRMSudokuMini-v0", "cell"),
    ("ppo", "HRMMaze-v0", "move"),
]


@pytest.mark.parametrize("env_id", IDS)
def test_bundled_families(env_id: str) -> None:
    env: Any = gym.make(env_id).unwrapped
    check_family(env.family, env.puzzle_source)


@pytest.mark.parametrize(("name", "env_id", "mode"), PLAYERS)
def test_bundled_agents(name: str, env_id: str, mode: str) -> None:
    env = gym.make(env_id, action_mode=mode, disable_env_checker=True)
    check_agent(hrm_gym.make_agent(name, env), env, random=name == "random")


class Lenient(SudokuFamily):
    """Accepts every full grid."""

    def judge(self, clues: Any, solutions: Any, answers: Any) -> Any:
        return np.ones(len(answers), dtype=np.bool_)


class Wrong(SudokuFamily):
    """Symmetric images that are none."""

    def symmetry(self, shape: Any, key: int) -> Any:
        return np.random.default_rng(key).permutation(shape[0] * shape[1]), np.arange(self.vocab_size, dtype=np.uint8)


class Moody:
    """A source that gives another puzzle every time."""

    def __init__(self, source: Any) -> None:
        self.source, self.shape, self.calls = source, source.shape, 0

    def puzzle(self, key: int) -> Any:
        return self.source.puzzle(key)

    def batch(self, keys: Any) -> PuzzleBatch:
        self.calls += 1
        return self.source.batch(keys + np.uint64(self.calls))


def test_the_checks_find_what_is_wrong() -> None:
    source = gym.make("HRMSudokuMini-v0").unwrapped.puzzle_source
    with pytest.raises(AssertionError, match="expected blank answers not to be solved"):
        check_family(Lenient((2, 2)), source)
    with pytest.raises(AssertionError, match="expected images of solved puzzles to be solved"):
        check_family(Wrong((2, 2)), source)
    with pytest.raises(AssertionError, match="expected the same clues for the same keys"):
        check_family(SudokuFamily((2, 2)), Moody(source))


def test_an_agent_that_answers_anything_is_found() -> None:
    env = gym.make("HRMSudokuMini-v0", action_mode="cell", disable_env_checker=True)
    agent = hrm_gym.make_agent("random", env)
    with pytest.raises(AssertionError, match="expected the same actions"):
        check_agent(agent, env)
    with pytest.raises(AssertionError, match="expected an agent for answer mode, got one for cell"):
        check_agent(agent, gym.make("HRMSudokuMini-v0"))
