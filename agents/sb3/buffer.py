"""Rollout buffers whose minibatches keep the steps of an environment together."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer
from stable_baselines3.common.buffers import DictRolloutBuffer


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
