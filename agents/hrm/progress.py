"""What training reports between two lines of progress."""

from __future__ import annotations

import torch

from hrm_gym.agents.hrm.act import Slots
from hrm_gym.agents.hrm.distributed import ALONE, Processes
from hrm_gym.agents.hrm.losses import SegmentLosses


class Progress:
    """Sums over the boards that halted since the last report, kept on the device until they are asked for.

    Attributes:
        sums: (6,) float32: updates, loss, halted boards, and of these exact ones, right cells and segments.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.sums = torch.zeros(6, device=device)

    def add(self, losses: SegmentLosses, slots: Slots, batch: int) -> None:
        """Count one update on `batch` boards, of which these slots are all or, with several processes, a share."""
        halted = slots.halted
        share = len(halted) / batch
        found = (
            torch.full((), share, device=halted.device),
            losses.answer.detach().float() / batch,
            halted.sum().float(),
            (losses.exact & halted).sum().float(),
            (losses.cell_accuracy * halted).sum(),
            (slots.segments * halted).sum().float(),
        )
        self.sums += torch.stack(found)

    def means(self, processes: Processes = ALONE) -> dict[str, float]:
        """Mean loss of an update; exact accuracy, cell accuracy and segments of the boards that halted."""
        sums = self.sums.clone()
        processes.sum([sums])
        updates, loss, halted, exact, cells, segments = sums.tolist()
        halted = max(1.0, halted)
        return {
            "loss": loss / max(1.0, updates),
            "exact": exact / halted,
            "cells": cells / halted,
            "segments": segments / halted,
        }
