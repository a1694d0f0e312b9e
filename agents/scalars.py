"""TensorBoard scalars of a training run, where TensorBoard is installed; the run's curve is written in any case."""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType
from typing import Any

from hrm_gym.extras import load_extra

logger = logging.getLogger(__name__)


def has_tensorboard() -> bool:
    """Whether TensorBoard is installed; says once how to get it where it is not."""
    try:
        load_extra("tensorboard")
    except ValueError as error:
        logger.warning("no TensorBoard scalars (curve.jsonl has the curve): %s", error)
        return False
    return True


class NoScalars:
    """A writer that writes nothing."""

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Nothing."""

    def __enter__(self) -> NoScalars:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing."""


def scalar_writer(folder: Path, first_step: int) -> Any:
    """A `SummaryWriter` for `folder` that drops what an interrupted run wrote from `first_step` on, or `NoScalars`."""
    if not has_tensorboard():
        return NoScalars()
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=first_step)
