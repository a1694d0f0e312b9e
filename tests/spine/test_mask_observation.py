"""The mask of legal actions in the observation is the environment's own."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import hrm_gym  # noqa: F401
from hrm_gym.wrappers import MaskObservation


@pytest.mark.parametrize(
    "arguments", [{"id": "HRMSudokuMini-v0", "action_mode": "cell"}, {"id": "HRMMaze-v0", "action_mode": "move"}]
)
def test_masks_are_those_of_the_environment(arguments: dict[str, str]) -> None:
    env, plain = MaskObservation(gym.make(**arguments)), gym.make(**arguments)
    check_env(env, skip_render_check=True)
    observation, _ = env.reset(seed=3)
    plain.reset(seed=3)
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = plain.unwrapped.action_masks()
        assert np.array_equal(observation["action_mask"], mask)
        assert observation in env.observation_space
        action = int(rng.choice(np.flatnonzero(mask)))
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            break
        plain.step(action)


def test_whole_answers_have_no_mask_of_this_kind() -> None:
    with pytest.raises(ValueError, match="expected an environment in cell or move mode, got actions of MultiDiscrete"):
        MaskObservation(gym.make("HRMMaze-v0"))
