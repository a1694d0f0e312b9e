"""Adaptive computation time: slots of training, the halting rule, the Q-learning target, solving with real halting."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hrm_gym.agents.hrm.halting import Evidence, Halting, certainty, learned
from hrm_gym.agents.hrm.model import HRM


class Solved(NamedTuple):
    """Answers of N boards after adaptive computation.

    Attributes:
        answers: (N, S) uint8 token ids.
        confidence: (N, S) float32, probability of the chosen token.
        segments: (N,) int32, segments used.
        q_halt: (N,) float32 probability at the end.
        q_continue: (N,) float32 probability at the end.
    """

    answers: Tensor
    confidence: Tensor
    segments: Tensor
    q_halt: Tensor
    q_continue: Tensor


def read_answer(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Answer tokens (…, S) uint8 and their probabilities (…, S) from logits (…, S, V); padding is never chosen."""
    probabilities = torch.softmax(logits.float(), dim=-1)
    confidence, answer = probabilities[..., 1:].max(dim=-1)
    return (answer + 1).to(torch.uint8), confidence


class Reading(NamedTuple):
    """The answers of B boards after a segment.

    Attributes:
        answers: (B, S) uint8 token ids.
        confidence: (B, S) float32, probability of the chosen token.
        unchanged: (B,) int32, segments in a row that left the answer as it was.
    """

    answers: Tensor
    confidence: Tensor
    unchanged: Tensor

    @classmethod
    def nothing(cls, count: int, cells: int, device: torch.device) -> Reading:
        """What is read before the first segment: the padding token everywhere, which no answer has."""
        return cls(
            torch.zeros((count, cells), dtype=torch.uint8, device=device),
            torch.zeros((count, cells), device=device),
            torch.zeros(count, dtype=torch.int32, device=device),
        )

    def rows(self, index: Tensor) -> Reading:
        """Some of the boards: `index` is (K,) int64 or (B,) bool."""
        return Reading(*(part[index] for part in self))

    def after(self, logits: Tensor) -> Reading:
        """The reading of the next segment, given its logits (B, S, V)."""
        answers, confidence = read_answer(logits)
        same = (answers == self.answers).all(dim=1)
        return Reading(answers, confidence, torch.where(same, self.unchanged + 1, 0))


def judge(rule: Halting, segments: Tensor, q: tuple[Tensor, Tensor], reading: Reading, free: Tensor) -> Tensor:
    """(B,) bool, the boards that halt by `rule`.

    Args:
        rule: the halting rule.
        segments: (B,) int32, segments run.
        q: Q(halt) and Q(continue) logits, (B,) float32 each.
        reading: the answers, up to date if the rule reads them.
        free: (B, S) bool, the cells that count in a confidence.
    """
    if not rule.reads_answers:
        return rule.halts(Evidence(segments, *q))
    return rule.halts(Evidence(segments, *q, *certainty(reading.confidence, free), reading.unchanged))


def solve(
    model: HRM,
    inputs: Tensor,
    puzzle_ids: Tensor,
    max_segments: int,
    rule: Halting | None = None,
    free: Tensor | None = None,
) -> Solved:
    """`solve_with` the network's own puzzle vectors, those of the (N,) rows `puzzle_ids` of its puzzle embedding."""
    return solve_with(model, inputs, model.puzzles[puzzle_ids.long()], max_segments, rule, free)


@torch.inference_mode()
def solve_with(
    model: HRM,
    inputs: Tensor,
    puzzles: Tensor,
    max_segments: int,
    rule: Halting | None = None,
    free: Tensor | None = None,
) -> Solved:
    """Solve N boards with real halting: a board that halts leaves the batch, so thinking less costs less.

    Args:
        model: the network.
        inputs: (N, S) integer token ids.
        puzzles: (N, embedding_dim) puzzle vectors.
        max_segments: segments at most; may exceed the number used in training.
        rule: when to halt; the learned rule by default.
        free: (N, S) bool, the cells that count in a confidence; all by default.
    """
    rule = rule or learned(model.config)
    count, device = len(inputs), inputs.device
    rows = torch.arange(count, device=device)
    free = torch.ones_like(inputs, dtype=torch.bool) if free is None else free
    carry, x = model.initial_carry(count), model.embed(inputs, puzzles)
    reading = Reading.nothing(count, inputs.shape[1], device)
    out = _unsolved(reading)
    for segment in range(1, max_segments + 1):
        carry = model.advance(carry, x)
        q = model.q_values(carry.z_h)
        if rule.reads_answers:
            reading = reading.after(model.answer_logits(carry.z_h))
        leave = judge(rule, torch.full_like(rows, segment, dtype=torch.int32), q, reading, free)
        if segment == max_segments:
            leave = torch.ones_like(leave)
        if leave.any():
            _write(out, rows[leave], model.answer_logits(carry.z_h[leave]), (q[0][leave], q[1][leave]), segment)
            stay = ~leave
            rows, x, free, carry, reading = rows[stay], x[stay], free[stay], carry.rows(stay), reading.rows(stay)
            if len(rows) == 0:
                break
    return out


def _unsolved(reading: Reading) -> Solved:
    count, device = len(reading.answers), reading.answers.device
    zeros = (torch.zeros(count, device=device) for _ in range(2))
    segments = torch.zeros(count, dtype=torch.int32, device=device)
    return Solved(reading.answers.clone(), reading.confidence.clone(), segments, *zeros)


def _write(out: Solved, rows: Tensor, logits: Tensor, q: tuple[Tensor, Tensor], segment: int) -> None:
    out.answers[rows], out.confidence[rows] = read_answer(logits)
    out.segments[rows] = segment
    out.q_halt[rows], out.q_continue[rows] = torch.sigmoid(q[0]), torch.sigmoid(q[1])
