"""The HRM state kept between environment steps, for rollouts of stable-baselines3 and sb3-contrib.

SB3's rollout buffers store observations, and no recurrent state. So the state is made part of the observation: after
each action `CarryVecEnv` takes the states that the policy's network was left in, and shows them as `carry` in the next
observation, from which the network continues. Buffers, minibatches in any order, masks and algorithms work unchanged,
and gradient does not pass from one step to the one before, as between an HRM's segments (HRM-Agent, arXiv 2510.22832,
keeps the state likewise). In the later epochs of an update the stored states are those of slightly older weights.

A carry of zeros, which no network is left in, stands for the initial states. It is shown where an episode begins: after
`reset`, and on every board whose episode ended, while `terminal_observation` still has the last state of that episode.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from hrm_gym.agents.hrm.config import HRMConfig

NAME = "carry"
"""Of the observation's entry."""

_MOST = float(np.finfo(np.float32).max)


def with_carry(space: gym.Space[Any], config: HRMConfig) -> gym.spaces.Dict:
    """An observation space with `carry`, (modules, T, D) float32, slowest module first."""
    assert isinstance(space, gym.spaces.Dict)
    shape = (len(config.modules), config.length, config.hidden_size)
    return gym.spaces.Dict({**space.spaces, NAME: gym.spaces.Box(-_MOST, _MOST, shape, np.float32)})


class CarryVecEnv(VecEnvWrapper):
    """Environments that show an HRM policy the states that it was left in.

    >>> from stable_baselines3 import PPO
    >>> from hrm_gym.agents.sb3.hrm_policy import HRMPolicy, default_config
    >>> from hrm_gym.agents.sb3.vec_env import make_sb3_vec
    >>> envs = make_sb3_vec("HRMSudokuMini-v0", 4, action_mode="cell")
    >>> envs = CarryVecEnv(envs, hrm := default_config(envs.observation_space))
    >>> model = PPO(HRMPolicy, envs, policy_kwargs={"hrm": hrm, "segments": 1}, device="cpu")
    >>> envs.follow(model.policy)
    >>> envs.reset()["carry"].shape
    (4, 2, 17, 64)
    """

    def __init__(self, venv: VecEnv, config: HRMConfig) -> None:
        """Wrap `venv` for policies with a network of this config; `follow` names the policy."""
        super().__init__(venv, with_carry(venv.observation_space, config))
        space: Any = self.observation_space
        self._carry = np.zeros((self.num_envs, *space[NAME].shape), np.float32)
        self._policy: Any = None

    def follow(self, policy: Any) -> None:
        """Take the states from this policy, which chooses the actions."""
        self._policy = policy

    def reset(self) -> VecEnvObs:
        """Begin the next episode on every board, from the initial states."""
        self._carry = np.zeros_like(self._carry)
        return self._shown(self.venv.reset())

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take the states that the policy was left in when it chose `actions`.

        Raises:
            ValueError: no policy is followed, or it was last called for another number of boards.
        """
        if self._policy is None:
            raise ValueError("expected follow(policy) before the first step")
        carry = self._policy.features_extractor.carry
        if len(carry) != self.num_envs:
            raise ValueError(f"expected the policy to have chosen {self.num_envs} actions, got {len(carry)}")
        self._carry = carry.cpu().numpy()
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """As SB3's; `carry` is zero where an episode ended, but not in its `terminal_observation`."""
        observation, rewards, ended, infos = self.venv.step_wait()
        if ended.any():
            for row in np.flatnonzero(ended).tolist():
                infos[row]["terminal_observation"][NAME] = self._carry[row]
            self._carry = np.where(ended[:, None, None, None], np.float32(0), self._carry)
        return self._shown(observation), rewards, ended, infos

    def _shown(self, observation: Any) -> VecEnvObs:
        return {**observation, NAME: self._carry}
