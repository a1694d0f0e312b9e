"""What every training run of an opponent is: a folder, a clock, held-out puzzles, checkpoints, finished weights.

What happens between two updates of SB3: figures, annealing, evaluations, checkpoints.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy

from hrm_gym.agents import checkpoint
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.run_folder import append_curve, trim_curve
from hrm_gym.agents.sb3 import policies
from hrm_gym.agents.sb3.agent import SB3Agent
from hrm_gym.agents.sb3.carry import with_carry
from hrm_gym.agents.sb3.policies import write_policy
from hrm_gym.agents.sb3.recipes import HRMModel, RLRecipe
from hrm_gym.envs.puzzle import mix64
from hrm_gym.evaluation.rollout import rollout_batched
from hrm_gym.registry import registered_env

EVAL_SEED = 1_000_000
EVAL_BOARDS = 250
"""Boards that an evaluation plays at a time."""

Watcher = Callable[[dict[str, float]], None]
"""Called after every update with its figures; those of an evaluation have `eval_` before their names."""


class Run(ABC):
    """One run in one folder; a run found there is continued from its newest checkpoint.

    The folder holds `update_N/` checkpoints, `curve.jsonl` (a line an evaluation: updates, timesteps, seconds of
    wall and of CPU time, shares solved, exact and reached), TensorBoard scalars, and at the end `model/`. The
    order of puzzles and the random draws after a checkpoint follow from the recipe and the number of timesteps, so that
    a continued run ends with the same weights as an uninterrupted one.

    Attributes:
        recipe: what is trained, and how.
        folder: where.
        family: the rules of the puzzle.
        updates: updates made so far, or rounds of updates.
        limit: seconds after which learning stops early, None for none.
        stopping: the signal after which `learn` saves a checkpoint and returns; 0 for none.
    """

    def __init__(self, recipe: RLRecipe, folder: Path, device: str) -> None:
        self.recipe, self.folder, self.device = recipe, Path(folder), device
        checkpoint.model_path(self.folder)
        self.held_out = held_out_env(recipe)
        world: Any = self.held_out.unwrapped
        self.family = world.family
        self.limit: float | None = None
        self.stopping = 0
        self.updates, self._evaluated = 0, -1
        self._began, self._processor_began = time.perf_counter(), time.process_time()
        self._saved_at = self._evaluated_at = 0

    # ---- what an algorithm says ----

    @property
    @abstractmethod
    def policy(self) -> BasePolicy:
        """The current policy."""

    @property
    @abstractmethod
    def timesteps(self) -> int:
        """Environment steps (under supervision: puzzles) learnt from so far."""

    @abstractmethod
    def learn(self, watcher: Watcher) -> None:
        """Learn from the remaining timesteps, then write the finished weights to `model/`."""

    @abstractmethod
    def _fill_state(self, folder: Path) -> None:
        """Write what continuing needs, besides the policy, into an existing folder."""

    def after_checkpoint(self) -> None:  # noqa: B027  (nothing to do where nothing is random)
        """What an uninterrupted run does at a checkpoint so that a continued one ends with the same bits."""

    # ---- time ----

    def seconds(self) -> float:
        """Wall seconds spent so far, those before the checkpoint included and evaluations left out."""
        return time.perf_counter() - self._began

    def processor_seconds(self) -> float:
        """The same of this process's time on the processor, which other work on the machine does not lengthen."""
        return time.process_time() - self._processor_began

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """What happens inside takes no time of the run."""
        seconds, processor_seconds = self.seconds(), self.processor_seconds()
        yield
        self._began = time.perf_counter() - seconds
        self._processor_began = time.process_time() - processor_seconds

    def expired(self) -> bool:
        """Whether a signal asks to stop, or the limit is reached: of CPU time on a CPU, else of wall time."""
        spent = self.processor_seconds() if self.device == "cpu" else self.seconds()
        return bool(self.stopping) or (self.limit is not None and spent >= self.limit)

    # ---- between two updates ----

    def after_update(self, row: dict[str, float], watcher: Watcher, final: bool = False) -> dict[str, float]:
        """Count an update; evaluate and save when due.

        Args:
            row: figures of the update.
            watcher: called with all figures.
            final: whether the run ends here, after an update that was counted already: then both are due.

        Returns:
            The row with what was found.
        """
        self.updates += not final
        if (
            final or _due(self.timesteps, self._evaluated_at, self.recipe.eval_every)
        ) and not self.recently_evaluated():
            with self.standing_still():
                found = self.evaluate()
            self._evaluated, self._evaluated_at = self.updates, self.timesteps
            row = {**row, **{f"eval_{name}": value for name, value in found.items()}}
            append_curve(self.folder, {**self._moment(), **found})
        if final or _due(self.timesteps, self._saved_at, self.recipe.checkpoint_every):
            self.save()
            if not final:
                self.after_checkpoint()
        watcher({**row, **self._moment()})
        return row

    def recently_evaluated(self) -> bool:
        """Whether there was an evaluation since the last update."""
        return self._evaluated == self.updates

    def _moment(self) -> dict[str, float]:
        return {
            "update": self.updates,
            "timesteps": self.timesteps,
            "seconds": round(self.seconds(), 1),
            "processor_seconds": round(self.processor_seconds(), 1),
        }

    def evaluate(self) -> dict[str, float]:
        """Held-out puzzles, the likeliest action each time: shares solved, exact and reached, and mean actions."""
        agent = SB3Agent(self.policy, self.recipe.action_mode, device=self.device, family=self.family)
        count = self.recipe.eval_puzzles
        runs = rollout_batched(lambda: held_out_env(self.recipe), agent, count, min(count, EVAL_BOARDS), EVAL_SEED)
        episodes = list(runs)
        found = {
            "solved": float(np.mean([episode.solved for episode in episodes])),
            "exact": float(np.mean([episode.exact for episode in episodes])),
            "cells": float(np.mean([episode.cell_accuracy for episode in episodes])),
            "actions": float(np.mean([episode.steps for episode in episodes])),
        }
        if episodes[0].reached is not None:
            found["reached"] = float(np.mean([bool(episode.reached) for episode in episodes]))
        return found

    # ---- files ----

    def save(self, keep: int = 2) -> Path:
        """Write a checkpoint from which the run continues; returns its folder."""
        self._saved_at = self.timesteps
        path = checkpoint.checkpoint_path(self.folder, self.updates)
        checkpoint.write_folder(path, self._fill_checkpoint, ours=True)
        checkpoint.drop_old(self.folder, keep, path)
        return path

    def export(self) -> Path:
        """Write the policy alone, as safetensors and JSON, to `model/`; returns the folder."""
        path = checkpoint.model_path(self.folder)
        checkpoint.write_folder(path, lambda folder: write_policy(folder, self.policy, self._about()))
        return path

    def _fill_checkpoint(self, folder: Path) -> None:
        write_policy(folder, self.policy, {**self._about(), "arithmetic": checkpoint.arithmetic(self.device)})
        self._fill_state(folder)

    def _found(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest checkpoint of the folder, with the clocks set and the curve cut to it.

        Raises:
            ValueError: the folder holds a run of another recipe, or a damaged checkpoint.
        """
        found = checkpoint.newest(self.folder, self.recipe.to_json())
        if found is not None:
            path, about = found
            checkpoint.warn_of_other_bits(about.get("arithmetic"), checkpoint.arithmetic(self.device))
            self.updates = self._evaluated = checkpoint.counter(about, "updates", path)
            self._saved_at = self._evaluated_at = checkpoint.counter(about, "timesteps", path)
            self._began -= checkpoint.counter(about, "seconds", path)
            self._processor_began -= checkpoint.counter(about, "processor_seconds", path)
            trim_curve(self.folder, self.updates)
        return found

    def _about(self) -> dict[str, Any]:
        world: Any = self.held_out.unwrapped
        observation: Any = self.held_out.observation_space
        if (kept := self.kept_network()) is not None:
            observation = with_carry(observation, kept)
        spaces = policies.spaces_json(observation, self.held_out.action_space)
        network = policies.to_json(self.recipe.model, self.family.vocab_size, self.family.writable, world.shape)
        return {
            "kind": self.recipe.algorithm,
            "family": self.family.name,
            "action_mode": self.recipe.action_mode,
            "recipe": self.recipe.to_json(),
            **self._moment(),
            "updates": self.updates,
            **({"fed": self.timesteps} if self.recipe.algorithm == "supervised" else {}),
            "model": {**network, **spaces},
        }

    def kept_network(self) -> HRMConfig | None:
        """The network whose states are kept between environment steps, if they are."""
        model = self.recipe.model
        return self.policy_arguments()["hrm"] if isinstance(model, HRMModel) and model.carry else None

    def policy_arguments(self) -> dict[str, Any]:
        """SB3's `policy_kwargs` of the recipe's network for these puzzles."""
        world: Any = self.held_out.unwrapped
        r, family = self.recipe, self.family
        return policies.policy_arguments(r.algorithm, r.model, family.vocab_size, family.writable, world.shape)


def _due(now: int, before: int, every: int) -> bool:
    """Whether a multiple of `every` lies after `before` and not after `now`."""
    return now // every > before // every


def env_arguments(recipe: RLRecipe, split: str) -> dict[str, Any]:
    """Constructor arguments of a recipe's environment: training has its own reward and budget, evaluation not."""
    # A single file is all training puzzles: held-out ones are then new.
    source = recipe.source
    if split != "train" and (Path(source).suffix or source == "generate"):
        source = "bank" if split == "validation" else "generate"
    found = {**recipe.env, "action_mode": recipe.action_mode, "source": source, "split": split}
    if split == "train":
        names = ("reward", "step_cost", "shaping_gamma")
        found |= {name: getattr(recipe, name) for name in names}
        if recipe.max_steps:
            found["max_segments" if recipe.action_mode == "answer" else "max_steps"] = recipe.max_steps
    return found


def held_out_env(recipe: RLRecipe) -> gym.Env[Any, Any]:
    """One environment of the validation split (test where there is no other), with its own reward and budget."""
    env_id = registered_env(recipe.env_id)
    try:
        return gym.make(env_id, disable_env_checker=True, **env_arguments(recipe, "validation"))
    except ValueError:
        return gym.make(env_id, disable_env_checker=True, **env_arguments(recipe, "test"))


def puzzle_seed(recipe: RLRecipe, timesteps: int) -> int:
    """The seed of the first board's puzzles: far from those of every other run and of other stretches of this one."""
    return mix64(mix64(recipe.seed) ^ timesteps) >> 2


class Watch(BaseCallback):
    """Tallies the episodes between reports, anneals the entropy bonus, and lets the run evaluate and save when due."""

    def __init__(self, run: Run, watcher: Watcher) -> None:
        super().__init__()
        self._run, self._watcher = run, watcher
        self._ends: list[dict[str, Any]] = []
        self._learning = False

    def _on_step(self) -> bool:
        self._ends += [info for info in self.locals["infos"] if "solved" in info]
        return not self._run.expired()

    def _on_rollout_start(self) -> None:
        self._after_update()
        if hasattr(self.model, "ent_coef"):
            settings: Any = self._run.recipe.learner
            self.model.ent_coef = settings.ent_coef * self.model._current_progress_remaining

    def _on_rollout_end(self) -> None:
        self._learning = True

    def _on_training_end(self) -> None:
        self._after_update()

    def _after_update(self) -> None:
        if self._learning:
            self._learning = False
            self._record(self._run.after_update(self._figures(), self._watcher))

    def _record(self, row: dict[str, float]) -> None:
        for name, value in row.items():
            section = "eval" if name.startswith("eval_") else "episodes"
            self.logger.record(f"{section}/{name.removeprefix('eval_')}", value)

    def _figures(self) -> dict[str, float]:
        """Shares and means of the training episodes that ended in the last rollout."""
        ends, self._ends = self._ends, []
        if not ends:
            return {}
        names = {"solved": "solved", "reached": "reached", "segment": "actions"}
        return {name: float(np.mean([end[key] for end in ends])) for key, name in names.items() if key in ends[0]}
