"""Agents by name."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

import gymnasium as gym
import pytest
import torch

import hrm_gym
from hrm_gym import registry


@pytest.fixture
def env() -> gym.Env:
    return gym.make("HRMMaze-v0", source="generate")


def test_an_unknown_name_is_answered_with_the_known_ones(env: gym.Env) -> None:
    with pytest.raises(ValueError, match=r"unknown agent 'hmr'.*hrm, hrm-vote, .*ppo, .*random, oracle, stored"):
        hrm_gym.make_agent("hmr", env)


def test_a_batch_of_boards_gets_the_agent_of_one() -> None:
    envs = gym.make_vec("HRMMaze-v0", num_envs=2, size=6)
    agent = hrm_gym.make_agent("oracle", envs)
    observations, _ = envs.reset(seed=0)
    actions, _ = agent.predict(observations)
    _, rewards, terminated, _, _ = envs.step(actions)
    assert rewards.tolist() == [1, 1]
    assert terminated.all()
    strange = gym.vector.SyncVectorEnv([lambda: gym.make("HRMMaze-v0", size=6)])
    with pytest.raises(ValueError, match=r"expected an environment of gym.make or gym.make_vec, got SyncVectorEnv"):
        hrm_gym.make_agent("oracle", strange)


def test_module_and_factory(env: gym.Env) -> None:
    agent = hrm_gym.make_agent("hrm_gym.agents.baselines:OracleAgent.for_env", env, name="mine")
    assert agent.name == "mine"


@pytest.mark.parametrize("name", ["no_such_module:make", "hrm_gym.agents.baselines:NoSuchAgent"])
def test_what_cannot_be_imported_is_a_value_error(env: gym.Env, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be loaded"):
        hrm_gym.make_agent(name, env)


def test_plug_ins(env: gym.Env, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("a_plug_in")
    module.make = lambda env, **kwargs: ("made", kwargs)
    monkeypatch.setitem(sys.modules, "a_plug_in", module)
    point = EntryPoint("guesser", "a_plug_in:make", registry.AGENT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    assert hrm_gym.make_agent("guesser", env, depth=2) == ("made", {"depth": 2})
    assert registry.agent_names()[-1] == "guesser"


@pytest.mark.parametrize(
    ("name", "env_id", "mode"),
    [
        ("hrm", "HRMMaze-v0", "answer"),
        ("hrm-search", "HRMSudoku-v0", "answer"),
        ("ppo", "HRMMaze-v0", "move"),
        ("dqn", "HRMMaze-v0", "move"),
    ],
)
def test_an_agent_from_weights_draws_no_random_numbers(name: str, env_id: str, mode: str) -> None:
    world = gym.make(env_id, action_mode=mode)
    before = torch.get_rng_state()
    hrm_gym.make_agent(name, world)
    assert torch.equal(torch.get_rng_state(), before)
