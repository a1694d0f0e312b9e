"""Losses of one segment: cross-entropy over the cells and binary cross-entropy on the two Q-values."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = -100
"""Label of a cell that does not count."""

AnswerLoss = Literal["stablemax", "softmax"]


def stablemax_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy under stablemax (arXiv 2501.04697), in float64 as the official code has it (Apple's mps: float32).

    s(x) = x + 1 for x >= 0 and 1 / (1 - x) below; p = s / sum s.

    Args:
        logits: (…, V).
        labels: (…) integer classes, `IGNORE` where nothing counts.

    Returns:
        (…) losses in that precision, 0 where ignored.
    """
    wide = logits.float() if logits.device.type == "mps" else logits.double()
    shares = torch.where(wide < 0, 1 / (1 - wide + 1e-30), wide + 1)
    log_probabilities = torch.log(shares / shares.sum(-1, keepdim=True))
    counted = labels != IGNORE
    picked = log_probabilities.gather(-1, labels.clamp(min=0).long()[..., None])[..., 0]
    return -torch.where(counted, picked, 0.0)


def softmax_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Plain cross-entropy in float32; arguments and result as `stablemax_cross_entropy`, but float32."""
    flat = F.cross_entropy(
        logits.float().flatten(0, -2), labels.long().flatten(), ignore_index=IGNORE, reduction="none"
    )
    return flat.view(labels.shape)


ANSWER_LOSSES = {"stablemax": stablemax_cross_entropy, "softmax": softmax_cross_entropy}


class SegmentLosses(NamedTuple):
    """Sums over the batch, and what each board got right.

    Attributes:
        answer: () mean cross-entropy of each board's counted cells, summed over boards.
        q_halt: () summed.
        q_continue: () summed; 0 where halting is trained by correctness alone.
        total: () answer + (q_halt + q_continue) / 2, what the optimiser gets divided by the batch size.
        exact: (B,) bool, every counted cell right. True for a board without any counted cell, as in the official code.
        cell_accuracy: (B,) float32, share of counted cells that are right; 0 without any.
    """

    answer: Tensor
    q_halt: Tensor
    q_continue: Tensor
    total: Tensor
    exact: Tensor
    cell_accuracy: Tensor


def segment_losses(
    logits: Tensor,
    labels: Tensor,
    q_halt: Tensor,
    q_continue: Tensor,
    target_continue: Tensor | None,
    kind: AnswerLoss = "stablemax",
    target_halt: Tensor | None = None,
) -> SegmentLosses:
    """Losses of one segment of deep supervision (HRM paper, section 2: L = answer loss + binary cross-entropy of Q).

    Args:
        logits: (B, S, V).
        labels: (B, S) integers, `IGNORE` where nothing counts.
        q_halt: (B,) logits.
        q_continue: (B,) logits.
        target_continue: (B,) probabilities Q(continue) should predict, None to leave it untrained.
        kind: cross-entropy over the cells.
        target_halt: (B,) probabilities Q(halt) should predict; `exact` by default, as the paper has it.
    """
    counted = labels != IGNORE
    counts = counted.sum(-1)
    per_board = ANSWER_LOSSES[kind](logits, labels) / counts.clamp(min=1)[:, None]
    right = (logits.argmax(-1) == labels) & counted
    exact = right.sum(-1) == counts
    answer = per_board.sum()
    wanted = exact if target_halt is None else target_halt
    halt = F.binary_cross_entropy_with_logits(q_halt, wanted.to(q_halt.dtype), reduction="sum")
    onward = torch.zeros_like(halt)
    if target_continue is not None:
        onward = F.binary_cross_entropy_with_logits(q_continue, target_continue, reduction="sum")
    accuracy = right.sum(-1) / counts.clamp(min=1)
    return SegmentLosses(answer, halt, onward, answer + 0.5 * (halt + onward), exact, accuracy)
