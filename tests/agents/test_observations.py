"""Every agent answers an observation that is none with a ValueError, and does not depend on torch's default dtype."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import hrm_gym
from hrm_gym.agents.devices import float32_numbers

AGENTS = [
    ("random", "HRMMaze-v0", "answer"),
    ("oracle", "HRMMaze-v0", "move"),
    ("stored", "HRMSudokuMini-v0", "answer"),
    ("hrm", "HRMMaze-v0", "answer"),
    ("hrm-vote", "HRMSudokuMini-v0", "answer"),
    ("hrm-search", "HRMSudoku-v0", "answer"),
    ("ppo", "HRMMaze-v0", "move"),
    ("ppo", "HRMSudokuMini-v0", "cell"),
    ("maskableppo", "HRMSudokuMini-v0", "cell"),
    ("dqn", "HRMSudokuMini-v0", "cell"),
]


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("name", "env_id", "mode"), AGENTS)
def test_observations_that_are_none(name: str, env_id: str, mode: str) -> None:
    env = gym.make(env_id, action_mode=mode)
    agent: Any = hrm_gym.make_agent(name, env)
    good = env.reset(seed=0)[0]
    world: Any = env.unwrapped
    if hasattr(agent, "see"):
        agent.see([world.puzzle])
    agent.predict(good)
    puzzle = good["puzzle"]
    bad: list[tuple[Any, str]] = [
        ({}, "expected an observation with .*'puzzle'.*, got one with nothing"),
        ({"answer": puzzle}, "expected an observation with .*'puzzle'.*, got one with 'answer'"),
        (puzzle, "expected an observation as a dict with .*'puzzle'.*, got ndarray"),
        ({**good, "puzzle": puzzle[:-1]}, "expected (puzzle|answer)s of"),
        ({**good, "puzzle": np.full_like(puzzle, 200)}, "expected token ids in"),
        ({**good, "puzzle": puzzle.astype(np.float32)}, "expected puzzles of integer token ids, got float32"),
        ({**good, "puzzle": np.stack([puzzle] * 3)}, "of the same number of boards"),
    ]
    for given, message in bad:
        with pytest.raises(ValueError, match=message):
            agent.predict(given)


@pytest.mark.parametrize(("name", "env_id", "mode"), [row for row in AGENTS if row[0] not in ("oracle", "stored")])
def test_another_default_dtype_changes_nothing(name: str, env_id: str, mode: str, float64: None) -> None:
    env = gym.make(env_id, action_mode=mode)
    observation = env.reset(seed=5)[0]
    with float32_numbers():
        wanted = hrm_gym.make_agent(name, env).predict(observation)[0]
    assert np.array_equal(hrm_gym.make_agent(name, env).predict(observation)[0], wanted)
    assert torch.get_default_dtype() == torch.float64
