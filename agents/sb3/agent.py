"""A stable-baselines3 policy as an agent, from bundled or own weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy

from hrm_gym.agents import pretrained
from hrm_gym.agents.agent import Observation
from hrm_gym.agents.devices import choose_device
from hrm_gym.agents.sb3.export import KIND, read_policy
from hrm_gym.envs.puzzle import Thought


class SB3Agent:
    """A policy trained by stable-baselines3.

    Attributes:
        name: what tables call it.
        action_mode: the mode it was trained in.
        policy: the SB3 policy.
    """

    def __init__(self, policy: BasePolicy, action_mode: str = "move", name: str = "ppo", device: str = "auto") -> None:
        self.name, self.action_mode = name, action_mode
        self.policy = policy.to(choose_device(device))
        self.policy.set_training_mode(False)

    @classmethod
    def for_env(cls, env: gym.Env[Any, Any], weights: Path | str | None = None, **kwargs: Any) -> SB3Agent:
        """The agent for an environment.

        Args:
            env: a puzzle environment; wrappers do not matter.
            weights: a folder of weights; by default bundled ones of the same family, grid and action mode.
            **kwargs: as the constructor.

        Raises:
            ValueError: no bundled weights fit, or the given ones are damaged or do not fit.
            FileNotFoundError: there are no weights at `weights`.
        """
        return cls.load(_bundled_for(env.unwrapped) if weights is None else weights, env, **kwargs)

    @classmethod
    def load(cls, folder: Path | str, env: gym.Env[Any, Any], **kwargs: Any) -> SB3Agent:
        """The agent of a folder that `hrm-gym train-rl` wrote, for `env`.

        Raises:
            ValueError: the weights are damaged or do not fit `env`.
            FileNotFoundError: there are no weights in `folder`.
        """
        policy, about = read_policy(folder)
        trained, wanted = _fit(about), _wish(env.unwrapped)
        if trained != wanted:
            raise ValueError(f"weights {folder} are for {_words(trained)}, the environment is {_words(wanted)}")
        return cls(policy, **{"action_mode": about["action_mode"], **kwargs})

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], None]:
        """Actions for one observation or a batch.

        Args:
            observation: `puzzle` and `answer` (H, W) uint8 and `segment` (1,), or all with a leading batch axis B.
            state: not used; the policy has no memory.
            episode_start: not used.
            deterministic: the likeliest action, or one drawn from the policy.

        Returns:
            int64 actions of shape () or (B,), and None.

        Raises:
            ValueError: if the observation has another form.
        """
        actions, _ = self.policy.predict(observation, deterministic=deterministic)
        return actions, None

    def act(self, observation: Observation) -> NDArray[Any]:
        """The action for one environment."""
        return self.predict(observation)[0]

    def reset(self) -> None:
        """Nothing to forget."""

    def thoughts(self) -> list[Thought] | None:
        """None: the policy holds no answer."""
        return None


_Fit = tuple[str, tuple[int, ...], str]
"""Family, grid, action mode."""


def _fit(about: dict[str, Any]) -> _Fit:
    return str(about.get("family")), tuple(about["model"].get("grid", ())), str(about.get("action_mode"))


def _wish(world: Any) -> _Fit:
    return world.family.name, tuple(world.shape), world.action_mode


def _words(fit: _Fit) -> str:
    family, grid, action_mode = fit
    return f"{family} {'x'.join(map(str, grid))} in {action_mode} mode"


def _bundled_for(world: Any) -> Path:
    wanted = _wish(world)
    for folder, about in pretrained.bundled(KIND):
        if _fit(about) == wanted:
            return folder
    raise ValueError(f"no bundled PPO weights fit {_words(wanted)}; bundled: {pretrained.describe(KIND)}")
