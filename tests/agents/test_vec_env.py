"""VectorEnvAdapter: step by step what DummyVecEnv over the same environments gives; SB3 learns through it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from hrm_gym.agents.sb3.vec_env import VectorEnvAdapter, make_sb3_vec

BOARDS = 5
WORLDS: list[tuple[str, dict[str, Any]]] = [
    ("CartPole-v1", {}),
    ("HRMMaze-v0", {"size": 4, "action_mode": "move", "max_steps": 7}),
    ("HRMMaze-v0", {"size": 4, "action_mode": "cell", "mask_in_info": True, "reward": "dense"}),
    ("HRMMaze-v0", {"size": 4, "action_mode": "answer"}),
    ("HRMSudokuMini-v0", {"action_mode": "cell", "max_steps": 6}),
]
every_world = pytest.mark.parametrize(("env_id", "arguments"), WORLDS, ids=lambda value: str(value))


def synced(env_id: str, arguments: dict[str, Any]) -> VectorEnvAdapter:
    makers = [lambda: gym.make(env_id, **arguments)] * BOARDS
    return VectorEnvAdapter(SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP), running_infos=True)


def native(env_id: str, arguments: dict[str, Any]) -> VectorEnvAdapter:
    adapter = make_sb3_vec(env_id, BOARDS, **arguments)
    return VectorEnvAdapter(adapter.venv, running_infos=True)


def assert_same(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key in theirs:
            assert_same(ours[key], theirs[key])
    else:
        np.testing.assert_array_equal(ours, theirs)


@every_world
@pytest.mark.parametrize("make", [synced, native])
def test_equal_to_dummy_vec_env(make: Any, env_id: str, arguments: dict[str, Any]) -> None:
    ours = make(env_id, arguments)
    theirs = DummyVecEnv([lambda: gym.make(env_id, **arguments)] * BOARDS)
    assert ours.seed(3) == theirs.seed(3)
    assert_same(ours.reset(), theirs.reset())
    assert_same(dict(enumerate(ours.reset_infos)), dict(enumerate(theirs.reset_infos)))
    ours.action_space.seed(1)
    ends = 0
    for _ in range(60):
        actions = np.stack([ours.action_space.sample() for _ in range(BOARDS)])
        got, expected = ours.step(actions), theirs.step(actions)
        assert_same(got[0], expected[0])
        for mine, other in zip(got[1:3], expected[1:3], strict=True):
            assert mine.dtype == other.dtype
            assert_same(mine, other)
        assert_same(dict(enumerate(got[3])), dict(enumerate(expected[3])))
        assert_same(dict(enumerate(ours.reset_infos)), dict(enumerate(theirs.reset_infos)))
        ends += got[2].sum()
    assert ends > 3


def test_only_ended_boards_have_infos() -> None:
    envs = make_sb3_vec("HRMMaze-v0", BOARDS, seed=0, action_mode="move", max_steps=3)
    envs.reset()
    for step in range(1, 4):
        _, _, ended, infos = envs.step(np.zeros(BOARDS, dtype=np.int64))
        assert all(bool(info) == end for info, end in zip(infos, ended, strict=True))
        assert ended.all() == (step == 3)
    assert all(info["TimeLimit.truncated"] and "is_success" in info for info in infos)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
def test_other_autoreset_modes_are_refused(mode: AutoresetMode) -> None:
    for venv in (
        SyncVectorEnv([lambda: gym.make("CartPole-v1")], autoreset_mode=mode),
        gym.make_vec("HRMMaze-v0", num_envs=2, autoreset_mode=mode),
    ):
        with pytest.raises(ValueError, match=r"expected .* SAME_STEP, got"):
            VectorEnvAdapter(venv)


@pytest.mark.parametrize("make", [synced, native])
def test_masks_are_found_board_by_board(make: Any) -> None:
    arguments = {"size": 4, "action_mode": "cell"}
    envs = make("HRMMaze-v0", arguments)
    envs.seed(2)
    envs.reset()
    theirs = DummyVecEnv([lambda: gym.make("HRMMaze-v0", **arguments)] * BOARDS)
    theirs.seed(2)
    theirs.reset()
    assert is_masking_supported(envs)
    np.testing.assert_array_equal(get_action_masks(envs), get_action_masks(theirs))
    np.testing.assert_array_equal(envs.env_method("action_masks", indices=[1, 3])[1], get_action_masks(theirs)[3])
    assert not is_masking_supported(synced("CartPole-v1", {}))


@pytest.mark.parametrize("make", [synced, native])
def test_attributes(make: Any) -> None:
    envs = make("HRMMaze-v0", {"size": 4, "render_mode": "rgb_array"})
    envs.reset()
    assert envs.render_mode == "rgb_array"
    assert envs.has_attr("action_masks")
    assert not envs.has_attr("no_such_thing")
    with pytest.raises(AttributeError):
        envs.env_method("no_such_thing")
    assert envs.env_is_wrapped(Monitor) == [False] * BOARDS
    images = envs.get_images()
    assert len(images) == BOARDS
    assert images[0].dtype == np.uint8
    envs.set_attr("colour", "blue")
    assert envs.get_attr("colour", [0, 2]) == ["blue", "blue"]


def test_what_native_environments_cannot_do_is_said() -> None:
    envs = native("HRMMaze-v0", {})
    with pytest.raises(ValueError, match="a result for each of 5 boards"):
        envs.env_method("reset")
    with pytest.raises(ValueError, match="all boards"):
        envs.set_attr("colour", "blue", [1])
    envs.set_options([{"index": row} for row in range(BOARDS)])
    with pytest.raises(ValueError, match="the same options"):
        envs.reset()


def test_options_go_to_the_next_reset_only() -> None:
    envs = make_sb3_vec("HRMMaze-v0", BOARDS, seed=0)
    envs.set_options({"index": 7})
    first = envs.reset()["puzzle"]
    assert (first == first[0]).all()
    second = envs.reset()["puzzle"]
    assert not (second == second[0]).all()


def test_monitor_counts_episodes() -> None:
    envs = VecMonitor(make_sb3_vec("HRMMaze-v0", BOARDS, seed=0, action_mode="move", max_steps=4))
    envs.reset()
    for _ in range(4):
        _, _, ended, infos = envs.step(np.zeros(BOARDS, dtype=np.int64))
    assert ended.all()
    assert [info["episode"]["l"] for info in infos] == [4] * BOARDS


@pytest.mark.parametrize("env_id", ["HRMMaze-v0", "HRMSudokuMini-v0"])
def test_ppo_and_maskable_ppo_learn_through_it(env_id: str) -> None:
    arguments = {"action_mode": "cell", **({"size": 4} if env_id == "HRMMaze-v0" else {})}
    small = {"n_steps": 16, "batch_size": 32, "n_epochs": 1, "device": "cpu"}
    for algorithm in (PPO, MaskablePPO):
        envs = VecMonitor(make_sb3_vec(env_id, 8, seed=0, **arguments))
        model = algorithm("MultiInputPolicy", envs, **small).learn(256)
        assert model.num_timesteps == 256
        assert len(model.ep_success_buffer) > 0
    rewards, _ = evaluate_policy(model, envs, n_eval_episodes=8, deterministic=False)
    assert 0 <= rewards <= 1
