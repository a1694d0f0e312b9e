"""What happens between two updates of a PPO run: figures, annealing, evaluations, checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from hrm_gym.agents.sb3.training import PPORun

Watcher = Callable[[dict[str, float]], None]
"""Called after every update with its figures; those of an evaluation have `eval_` before their names."""


class Watch(BaseCallback):
    """Tallies the episodes of a rollout, anneals the entropy bonus, and evaluates and saves when due."""

    def __init__(self, run: PPORun, watcher: Watcher) -> None:
        super().__init__()
        self._run, self._watcher = run, watcher
        self._ends: list[dict[str, Any]] = []
        self._learning = False

    def _on_step(self) -> bool:
        self._ends += [info for info in self.locals["infos"] if "solved" in info]
        return True

    def _on_rollout_start(self) -> None:
        self._after_update()
        self.model.ent_coef = self._run.recipe.ent_coef * self.model._current_progress_remaining  # type: ignore[attr-defined]

    def _on_rollout_end(self) -> None:
        self._learning = True

    def _on_training_end(self) -> None:
        self._after_update(final=True)

    def _after_update(self, final: bool = False) -> None:
        if not self._learning:
            return
        self._learning = False
        run, recipe = self._run, self._run.recipe
        run.updates += 1
        row = self._figures()
        if final or run.updates % recipe.eval_every == 0:
            row |= {f"eval_{name}": value for name, value in run.evaluate().items()}
        if run.updates % recipe.checkpoint_every == 0:
            run.save()
        for name, value in row.items():
            section = "eval" if name.startswith("eval_") else "walks"
            self.logger.record(f"{section}/{name.removeprefix('eval_')}", value)
        self._watcher({**row, "timesteps": self.num_timesteps, "seconds": run.clock()})

    def _figures(self) -> dict[str, float]:
        """Shares and means of the training episodes that ended in the last rollout."""
        ends, self._ends = self._ends, []
        if not ends:
            return {}
        names = {"solved": "solved", "reached": "reached", "segment": "moves"}
        return {name: float(np.mean([end[key] for end in ends])) for key, name in names.items() if key in ends[0]}
