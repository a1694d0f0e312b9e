"""First to halt: several thoughts on one puzzle race, and the first that wants to halt gives the answer.

In arXiv 2601.10679 this does as well as voting over the same thoughts, at about a tenth of the segments.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from hrm_gym.agents.hrm.panel import Conclusion, Opinions, PanelAgent, members_for


class EnsembleAgent(PanelAgent):
    """HRMs (several checkpoints, or one on symmetric images of the puzzle), of which the first to halt answers.

    Of several that halt after the same segment the one with the highest Q(halt) answers, and the first of those that
    are equal. While none has halted the board shows the answer of the one with the highest Q(halt). A second attempt,
    where the puzzle allows one, gives the best different answer.
    """

    kind = "first"

    @classmethod
    def for_env(cls, env: gym.Env[Any, Any], images: int = 8, **kwargs: Any) -> EnsembleAgent:
        """The agent for an environment; `images` of every puzzle, the rest as `members_for`."""
        return cls(members_for(env, **kwargs), images)

    def finished(self, clues: NDArray[np.uint8], opinions: Opinions) -> NDArray[np.bool_]:
        """(B,) bool: one has halted."""
        return np.asarray(opinions.halted.any(axis=1))

    def conclude(self, clues: NDArray[np.uint8], opinions: Opinions) -> Conclusion:
        """Take the answer of the first to halt, or of the one that is nearest to it."""
        rows = np.arange(len(clues))
        order = np.lexsort((-opinions.q_halt, ~opinions.halted), axis=1)
        first = order[:, 0]
        answers = np.stack([self._attempts(opinions.answers[row], order[row]) for row in rows])
        alike = (opinions.answers == answers[:, :1]).mean(axis=1, dtype=np.float64).astype(np.float32)
        return Conclusion(answers, alike, opinions.q_halt[rows, first])

    def _attempts(self, answers: NDArray[np.uint8], order: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(A, H, W): the different ones of (K, H, W) answers in order, the last repeated if there are too few."""
        named: dict[bytes, NDArray[np.uint8]] = {}
        for place in order:
            named.setdefault(answers[place].tobytes(), answers[place])
        different = list(named.values())
        return np.stack([different[min(n, len(different) - 1)] for n in range(self.family.attempts)])
