"""What training reports between two lines of progress."""

from __future__ import annotations

from dataclasses import dataclass

from hrm_gym.agents.hrm.act import Slots
from hrm_gym.agents.hrm.losses import SegmentLosses


@dataclass
class Progress:
    """Sums over the boards that halted since the last report."""

    updates: int = 0
    loss: float = 0.0
    halted: int = 0
    exact: float = 0.0
    cells: float = 0.0
    segments: float = 0.0

    def add(self, losses: SegmentLosses, slots: Slots, batch: int) -> None:
        """Count one update."""
        halted = slots.halted
        self.updates += 1
        self.loss += float(losses.answer.detach()) / batch
        self.halted += int(halted.sum())
        self.exact += float((losses.exact & halted).sum())
        self.cells += float(losses.cell_accuracy[halted].sum())
        self.segments += float(slots.segments[halted].sum())

    def means(self) -> dict[str, float]:
        """Mean loss of an update; exact accuracy, cell accuracy and segments of the boards that halted."""
        halted = max(1, self.halted)
        loss = self.loss / max(1, self.updates)
        return {
            "loss": loss,
            "exact": self.exact / halted,
            "cells": self.cells / halted,
            "segments": self.segments / halted,
        }
