"""Rollout buffers whose minibatches keep the steps of an environment together.

Training by stable-baselines3 and sb3-contrib: PPO, MaskablePPO, A2C and DQN on batched environments.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import DictReplayBuffer, DictRolloutBuffer
from stable_baselines3.common.logger import configure
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from hrm_gym.agents import checkpoint
from hrm_gym.agents.checkpoint import STATE, read_tensors
from hrm_gym.agents.devices import float32_numbers
from hrm_gym.agents.hrm.run_folder import once, pack_optimizer, part, unpack_optimizer
from hrm_gym.agents.sb3 import policies
from hrm_gym.agents.sb3.carry import CarryVecEnv
from hrm_gym.agents.sb3.recipes import DQNSettings, RLRecipe
from hrm_gym.agents.sb3.run import Run, Watch, Watcher, env_arguments, puzzle_seed
from hrm_gym.agents.sb3.supervised import SupervisedRun
from hrm_gym.agents.sb3.vec_env import make_sb3_vec
from hrm_gym.agents.scalars import has_tensorboard
from hrm_gym.reading import read_npz


class WholeWalks:
    """A minibatch is a few environments with all their steps, not steps drawn one by one.

    The steps of one walk share their maze, and `WalkerFeatures` plans once for equal mazes of a batch. So a minibatch
    of whole walks needs a fraction of the plans that as many steps of all walks would.
    """

    def get(self: Any, batch_size: int | None = None) -> Generator[Any, None, None]:
        """Yield minibatches of about `batch_size` steps (all steps if None), environments in random order."""
        assert self.full, "the rollout is not complete"
        if not self.generator_ready:
            # The first call of the parent flattens the arrays, environment after environment.
            next(super().get(1))  # type: ignore[misc]
        # From the global generator, as the parent does: SB3 seeds it.
        order = np.random.permutation(self.n_envs)  # noqa: NPY002
        steps = order[:, None] * self.buffer_size + np.arange(self.buffer_size)
        together = max(1, (batch_size or self.n_envs * self.buffer_size) // self.buffer_size)
        for first in range(0, self.n_envs, together):
            yield self._get_samples(steps[first : first + together].ravel())


class WalksBuffer(WholeWalks, DictRolloutBuffer):
    """SB3's buffer with minibatches of whole walks."""


class MaskableWalksBuffer(WholeWalks, MaskableDictRolloutBuffer):
    """sb3-contrib's buffer with minibatches of whole walks."""


REPLAY = "replay.npz"

PROGRESS = "_current_progress_remaining"
"""The share of the run that is left; below 0 at the end, where the last rollout went beyond it."""

COUNTERS = (
    "num_timesteps",
    "_n_updates",
    "_n_calls",
    "_episode_num",
    "exploration_rate",
    PROGRESS,
)
"""What SB3's algorithms count, as far as they have it: where schedules and target networks stand."""

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"ppo": PPO, "maskableppo": MaskablePPO, "a2c": A2C, "dqn": DQN}


def start_run(recipe: RLRecipe, folder: Path, device: str = "cpu") -> Run:
    """The run of a recipe in a folder, new or continued.

    Raises:
        ValueError: the folder holds a run of another recipe, or its checkpoint is damaged.
    """
    made = SupervisedRun if recipe.algorithm == "supervised" else RLRun
    return made(recipe, folder, device)


class RLRun(Run):
    """A run of one of SB3's algorithms.

    Attributes:
        model: the algorithm.
    """

    @float32_numbers()
    def __init__(self, recipe: RLRecipe, folder: Path, device: str = "cpu") -> None:
        """Start, or continue from the newest checkpoint in `folder`.

        Raises:
            ValueError: the folder holds a run of another recipe, or its checkpoint is damaged.
        """
        super().__init__(recipe, folder, device)
        envs: VecEnv = make_sb3_vec(recipe.env_id, recipe.envs, **env_arguments(recipe, "train"))
        if (kept := self.kept_network()) is not None:
            envs = CarryVecEnv(envs, kept)
        self.model: Any = self._fresh(envs)
        if isinstance(envs, CarryVecEnv):
            envs.follow(self.policy)
        envs.seed(puzzle_seed(recipe, 0))
        if (found := self._found()) is not None:
            self._resume(*found)
            self.after_checkpoint()
        self.model.set_logger(configure(str(self.folder), ["tensorboard"] if has_tensorboard() else []))

    @property
    def policy(self) -> BasePolicy:
        """The current policy."""
        found: BasePolicy = self.model.policy
        return found

    @property
    def timesteps(self) -> int:
        """Environment steps so far."""
        return int(self.model.num_timesteps)

    @float32_numbers()
    def learn(self, watcher: Watcher) -> None:
        """Learn from the remaining timesteps, then write the finished weights to `model/`."""
        remaining = self.recipe.timesteps - self.timesteps
        if remaining > 0 and not self.expired():
            self.model.learn(remaining, Watch(self, watcher), reset_num_timesteps=False)
            if self.stopping:
                self.save()
                return
            self.after_update({}, watcher, final=True)
        self.export()

    def _fresh(self, envs: VecEnv) -> BaseAlgorithm:
        r = self.recipe
        return ALGORITHMS[r.algorithm](
            policies.policy_class(r.algorithm, r.model),
            envs,
            policy_kwargs=self.policy_arguments(),
            seed=r.seed,
            device=self.device,
            **learner_arguments(r),
        )

    def after_checkpoint(self) -> None:
        """Begin fresh episodes under fresh random states, which follow from the number of timesteps alone.

        An uninterrupted run does so as well as one continued from the checkpoint, so that both end with the same
        bits, and no state of environments or generators has to be stored.
        """
        self.model.set_random_seed((self.recipe.seed + self.timesteps) % 2**32)
        self.model.env.seed(puzzle_seed(self.recipe, self.timesteps))
        self.model._last_obs = self.model.env.reset()
        self.model._last_episode_starts = np.ones(self.model.env.num_envs, dtype=bool)

    def _resume(self, path: Path, about: dict[str, Any]) -> None:
        try:
            policy = self.policy
            tensors = read_tensors(path / STATE, policy.state_dict(), times=4)
            policy.load_state_dict(part(tensors, "policy."), strict=False)
            unpack_optimizer(self._optimizer, self._names(), tensors)
            counters = about["counters"]
            for name in COUNTERS if isinstance(counters, dict) else ():
                if name in counters:
                    below = name == PROGRESS and isinstance(counters[name], float) and -1 < counters[name] < 0
                    setattr(self.model, name, counters[name] if below else checkpoint.counter(counters, name, path))
            if isinstance(self.model, DQN):
                fill_replay(self.model.replay_buffer, path / REPLAY)
        except (KeyError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path} cannot be continued from: {' '.join(str(error).split())}") from error

    def _fill_state(self, folder: Path) -> None:
        state = {f"policy.{name}": tensor for name, tensor in once(self.policy.state_dict()).items()}
        state |= pack_optimizer(self._optimizer, self._names())
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / STATE)
        if isinstance(self.model, DQN):
            save_replay(self.model.replay_buffer, folder / REPLAY)

    def _names(self) -> list[str]:
        """Of the parameters, in the optimiser's order; DQN's knows only those of the learning network."""
        known = {id(parameter): name for name, parameter in self.policy.named_parameters()}
        return [known[id(p)] for group in self._optimizer.param_groups for p in group["params"]]

    @property
    def _optimizer(self) -> torch.optim.Optimizer:
        policy: Any = self.policy
        found: torch.optim.Optimizer = policy.optimizer
        return found

    def _about(self) -> dict[str, Any]:
        counted = {name: getattr(self.model, name) for name in COUNTERS if hasattr(self.model, name)}
        return {**super()._about(), "counters": counted}


def learner_arguments(recipe: RLRecipe) -> dict[str, Any]:
    """The algorithm's own arguments."""
    settings = recipe.learner
    found = dataclasses.asdict(settings)
    rate, left = found.pop("lr"), found.pop("lr_min_ratio")
    found["learning_rate"] = LinearSchedule(rate, rate * left, 1.0)
    if found.pop("whole_walks", False):
        masked = recipe.algorithm == "maskableppo"
        found["rollout_buffer_class"] = MaskableWalksBuffer if masked else WalksBuffer
    if isinstance(settings, DQNSettings):
        found["train_freq"] = found.pop("n_steps")
        found["target_update_interval"] = found.pop("target_every")
        found["exploration_fraction"] = found.pop("exploration")
        found["exploration_final_eps"] = found.pop("last_random")
    return found


def save_replay(buffer: Any, path: Path) -> None:
    """Write the transitions of a replay buffer, as plain arrays."""
    filled = buffer.buffer_size if buffer.full else buffer.pos
    arrays = {name: array[:filled] for name, array in _arrays(buffer).items()}
    np.savez(path, pos=buffer.pos, full=buffer.full, **arrays)


def fill_replay(buffer: Any, path: Path) -> None:
    """The inverse of `save_replay`.

    Raises:
        ValueError: an array is missing, or is not as this buffer has it.
    """
    arrays = _arrays(buffer)
    schema: Any = {name: (array.dtype, ("rows", *array.shape[1:])) for name, array in arrays.items()}
    size = sum(array.nbytes for array in arrays.values())
    content = read_npz(path, {**schema, "pos": (np.int64, ()), "full": (np.bool_, ())}, most=2 * size + 2**20)
    rows, pos, size = len(content["actions"]), int(content["pos"]), buffer.buffer_size
    if not (0 <= pos <= size and rows == (size if content["full"] else pos)):
        raise ValueError(f"{path}: expected {size} transitions, or as many as pos says, got {rows} and {pos}")
    shown = buffer.observation_space.spaces.items()
    spaces: dict[str, Any] = {f"{part}.{name}": space for part in ("observation", "next") for name, space in shown}
    for name, space in {**spaces, "actions": buffer.action_space}.items():
        low, high = (space.low, space.high) if hasattr(space, "low") else (0, space.n - 1)
        if ((found := content[name]) < low).any() or (found > high).any():
            raise ValueError(f"{path}: expected {name} within its space, got {found.min()} to {found.max()}")
    for name, array in arrays.items():
        array[:rows] = content[name]
    buffer.pos, buffer.full = pos, bool(content["full"])


def _arrays(buffer: DictReplayBuffer) -> dict[str, Any]:
    """The arrays of a replay buffer by name."""
    observations = {f"observation.{name}": array for name, array in buffer.observations.items()}
    after = {f"next.{name}": array for name, array in buffer.next_observations.items()}
    rest = {name: getattr(buffer, name) for name in ("actions", "rewards", "dones", "timeouts")}
    return {**observations, **after, **rest}
