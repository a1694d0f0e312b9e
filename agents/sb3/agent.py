"""The legal actions of a board, worked out from its observation: for a masked policy that is handed no masks.

A stable-baselines3 policy as an agent, from bundled or own weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import BasePolicy

from hrm_gym.agents import pretrained
from hrm_gym.agents.agent import Observation, ShownAgent, as_batch, check_puzzles, episode_starts
from hrm_gym.agents.devices import choose_device, float32_numbers
from hrm_gym.agents.sb3.carry import NAME as CARRY
from hrm_gym.agents.sb3.policies import ALGORITHMS, plays_any_size, read_policy
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.puzzle import Thought
from hrm_gym.files import finished_weights
from hrm_gym.registry import registered_env


def legal_actions(family: PuzzleFamily, action_mode: str, observation: Observation) -> NDArray[np.bool_]:
    """The environment's `action_masks()` for a batch of observations.

    Args:
        family: the rules of the puzzle.
        action_mode: "answer", "cell" or "move".
        observation: `puzzle` and `answer`, (B, H, W) uint8 each.

    Returns:
        (B, A) bool.
    """
    clues = observation["puzzle"]
    if action_mode == "cell":
        return family.cell_masks(clues, observation["answer"])
    if action_mode == "answer":
        return family.answer_masks(clues)
    return family.legal_moves(clues, observation["answer"])


class SB3Agent(ShownAgent):
    """A policy trained by stable-baselines3.

    One that was trained under masks acts under masks: it works them out from what it observes, by the family's rules.

    Attributes:
        name: what tables call it.
        action_mode: the mode it was trained in.
        policy: the SB3 policy.
        family: the rules of the puzzle; needed by a policy that acts under masks alone.
        weights: the folder that `load` read.
    """

    weights: Path | None = None
    _state: Any = None

    def __init__(
        self,
        policy: BasePolicy,
        action_mode: str = "move",
        name: str = "ppo",
        device: str = "auto",
        family: PuzzleFamily | None = None,
    ) -> None:
        self.name, self.action_mode, self.family = name, action_mode, family
        self.policy = policy.to(choose_device(device))
        self.policy.set_training_mode(False)

    @classmethod
    def for_env(
        cls, env: gym.Env[Any, Any], weights: Path | str | None = None, algorithm: str = "", **kwargs: Any
    ) -> SB3Agent:
        """The agent for an environment.

        Args:
            env: a puzzle environment; wrappers do not matter.
            weights: a folder of weights; by default bundled ones of the same family and action mode, trained on
                boards of this size or, where the network plays any size, on others.
            algorithm: ppo, maskableppo, a2c, dqn or supervised; any of them by default.
            **kwargs: as the constructor.

        Raises:
            ValueError: no bundled weights fit, or the given ones are damaged or do not fit.
            FileNotFoundError: there are no weights at `weights`.
        """
        found = _bundled_for(env.unwrapped, algorithm) if weights is None else finished_weights(Path(weights))
        return cls.load(found, env, algorithm=algorithm, **kwargs)

    @classmethod
    def ppo(cls, env: gym.Env[Any, Any], weights: Path | str | None = None, **kwargs: Any) -> SB3Agent:
        """`for_env` with weights that PPO trained."""
        return cls.for_env(env, weights, "ppo", **kwargs)

    @classmethod
    def maskableppo(cls, env: gym.Env[Any, Any], weights: Path | str | None = None, **kwargs: Any) -> SB3Agent:
        """`for_env` with weights that MaskablePPO trained."""
        return cls.for_env(env, weights, "maskableppo", **kwargs)

    @classmethod
    def a2c(cls, env: gym.Env[Any, Any], weights: Path | str | None = None, **kwargs: Any) -> SB3Agent:
        """`for_env` with weights that A2C trained."""
        return cls.for_env(env, weights, "a2c", **kwargs)

    @classmethod
    def dqn(cls, env: gym.Env[Any, Any], weights: Path | str | None = None, **kwargs: Any) -> SB3Agent:
        """`for_env` with weights that DQN trained."""
        return cls.for_env(env, weights, "dqn", **kwargs)

    @classmethod
    def load(cls, folder: Path | str, env: gym.Env[Any, Any], algorithm: str = "", **kwargs: Any) -> SB3Agent:
        """The agent of a folder that `hrm-gym train-rl` wrote, for `env`.

        Raises:
            ValueError: the weights are damaged, of another algorithm, or do not fit `env`.
            FileNotFoundError: there are no weights in `folder`.
        """
        world: Any = env.unwrapped
        policy, about = read_policy(folder, world.shape)
        trained, wanted = _fit(about), _wish(world)
        if not _plays(about, wanted):
            raise ValueError(f"weights {folder} are for {_words(trained)}, the environment is {_words(wanted)}")
        if algorithm and about["kind"] != algorithm:
            raise ValueError(f"weights {folder} were trained by {about['kind']}, expected {algorithm}")
        known = {"action_mode": about["action_mode"], "name": about["kind"], "family": _rules(about, world)}
        agent = cls(policy, **{**known, **kwargs})
        agent.weights = Path(folder)
        return agent

    @float32_numbers()
    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
        """Actions for one observation or a batch, and the next state.

        Args:
            observation: the environment's: `puzzle` and `answer` (H, W) uint8, `segment` (1,) and what else ARC
                has, or all with a leading batch axis B.
            state: what the last call returned; None starts every board.
            episode_start: (B,) bool, boards on which a new puzzle begins; those whose `segment` is 0 begin in any case.
            deterministic: the likeliest action, or one drawn from the policy.

        Returns:
            int64 actions of shape () or (B,) (in answer mode (H * W + 1,) or (B, H * W + 1)), and the states of an HRM
            that keeps them between steps, (B, modules, T, D) float32; None for all other policies.

        Raises:
            ValueError: if the observation has another form, or the state is of another batch.
        """
        policy: Any = self.policy
        space = policy.observation_space
        rows, single = as_batch(observation, tuple(name for name in space.spaces if name != CARRY))
        check_puzzles(rows, space["puzzle"].shape, int(space["puzzle"].high.max()) + 1)
        if CARRY in space.spaces:
            rows[CARRY] = self._kept(space[CARRY].shape, rows, state, episode_start)
        actions, _ = policy.predict(rows, deterministic=deterministic, **self._masks(rows))
        after = policy.features_extractor.carry.cpu().numpy() if CARRY in space.spaces else None
        return (actions[0] if single else actions), after

    def _kept(
        self, shape: tuple[int, ...], rows: Observation, state: Any, episode_start: NDArray[np.bool_] | None
    ) -> NDArray[np.float32]:
        """(B, modules, T, D) the states of B boards before an action: zeros, which stand for the initial ones, where a
        puzzle begins."""
        starts = episode_starts(rows, state, episode_start)
        if starts.all():
            return np.zeros((len(starts), *shape), np.float32)
        if state is None or state.shape != (len(starts), *shape):
            raise ValueError(f"expected a state of shape {(len(starts), *shape)}, got {getattr(state, 'shape', state)}")
        return np.where(starts[:, None, None, None], np.float32(0), state)

    def act(self, observation: Observation) -> NDArray[Any]:
        """The action for one environment; a state is kept inside, until a puzzle begins."""
        action, self._state = self.predict(observation, self._state)
        return action

    def reset(self) -> None:
        """Forget the state that `act` keeps."""
        self._state = None

    def thoughts(self) -> list[Thought] | None:
        """None: the policy holds no answer."""
        return None

    def _masks(self, observation: Observation) -> dict[str, Any]:
        """The named argument `action_masks` for a policy that knows it."""
        if self.family is None or not isinstance(self.policy, MaskableActorCriticPolicy):
            return {}
        return {"action_masks": legal_actions(self.family, self.action_mode, observation)}


def _rules(about: dict[str, Any], world: Any) -> PuzzleFamily:
    """The rules by which a policy masks its actions: stricter than the environment's where it was trained so."""
    recipe = about.get("recipe", {})
    if not recipe.get("env"):
        return world.family
    trained: Any = gym.make(registered_env(recipe["env_id"]), **recipe["env"]).unwrapped
    return trained.family if tuple(trained.shape) == tuple(world.shape) else world.family


_Fit = tuple[str, tuple[int, ...], str]
"""Family, grid, action mode."""


def _fit(about: dict[str, Any]) -> _Fit:
    return str(about.get("family")), tuple(about["model"].get("grid", ())), str(about.get("action_mode"))


def _plays(about: dict[str, Any], wanted: _Fit) -> bool:
    """Whether weights play an environment, on boards of the size they were trained on or of any."""
    family, grid, action_mode = _fit(about)
    sized = grid == wanted[1] or plays_any_size(about["model"])
    return sized and (family, action_mode) == (wanted[0], wanted[2])


def _wish(world: Any) -> _Fit:
    return world.family.name, tuple(world.shape), world.action_mode


def _words(fit: _Fit) -> str:
    family, grid, action_mode = fit
    return f"{family} {'x'.join(map(str, grid))} in {action_mode} mode"


def _bundled_for(world: Any, algorithm: str) -> Path:
    wanted = _wish(world)
    kinds = (algorithm,) if algorithm else ALGORITHMS
    fitting = [(folder, about) for kind in kinds for folder, about in pretrained.bundled(kind) if _plays(about, wanted)]
    for folder, _ in sorted(fitting, key=lambda found: _fit(found[1]) != wanted):
        return folder
    names = "; ".join(f"{kind}: {pretrained.describe(kind)}" for kind in kinds)
    raise ValueError(f"no bundled weights of {' or '.join(kinds)} fit {_words(wanted)}; bundled: {names}")
