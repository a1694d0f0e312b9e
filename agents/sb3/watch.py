"""What happens between two updates of SB3: figures, annealing, evaluations, checkpoints."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from hrm_gym.agents.sb3.run import Run, Watcher


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
