"""Adaptive computation time: slots of training, the halting rule, the Q-learning target, solving with real halting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.network import HRM, Carry, Segment

Run = Callable[[Carry, Tensor, Tensor], Segment]
"""`HRM.run`, compiled or not."""


class Boards(NamedTuple):
    """Puzzles of a batch: inputs (B, S), labels (B, S) with ignored cells -100, puzzle_ids (B,); integer tensors."""

    inputs: Tensor
    labels: Tensor
    puzzle_ids: Tensor


@dataclass
class Slots:
    """The boards under way in training. A slot that halts is refilled with a fresh puzzle before the next segment.

    Attributes:
        carry: states of the boards.
        segments: (B,) int32, segments run on each board.
        halted: (B,) bool, to be refilled.
        boards: what each slot works on.
    """

    carry: Carry
    segments: Tensor
    halted: Tensor
    boards: Boards

    @classmethod
    def empty(cls, model: HRM, boards: Boards) -> Slots:
        """Slots that are all waiting for a puzzle; `boards` only gives shapes and dtypes."""
        batch = len(boards.inputs)
        device = boards.inputs.device
        carry = Carry(*(state.clone() for state in model.initial_carry(batch)))
        return cls(
            carry,
            torch.zeros(batch, dtype=torch.int32, device=device),
            torch.ones(batch, dtype=torch.bool, device=device),
            boards,
        )

    def refill(self, model: HRM, fresh: Boards) -> None:
        """Put row i of `fresh` into slot i wherever slot i has halted."""
        self.carry = model.reset_rows(self.carry, self.halted)
        self.segments = torch.where(self.halted, 0, self.segments)
        mask = self.halted[:, None]
        self.boards = Boards(
            torch.where(mask, fresh.inputs, self.boards.inputs),
            torch.where(mask, fresh.labels, self.boards.labels),
            torch.where(self.halted, fresh.puzzle_ids, self.boards.puzzle_ids),
        )


class Exploration(NamedTuple):
    """Draws of one segment: explore (B,) bool and a random minimum of segments (B,) int32 in [2, max_segments]."""

    explore: Tensor
    minimum: Tensor


def draw_exploration(config: HRMConfig, batch: int, generator: torch.Generator) -> Exploration:
    """Exploration of one segment for every slot, drawn at each segment (the official code; paper: once a puzzle)."""
    explore = torch.rand(batch, generator=generator) < config.exploration
    return Exploration(
        explore, torch.randint(2, max(3, config.max_segments + 1), (batch,), generator=generator, dtype=torch.int32)
    )


def wants_halt(config: HRMConfig, q_halt: Tensor, q_continue: Tensor) -> Tensor:
    """(B,) bool, the learned rule: Q(halt) > Q(continue), or Q(halt) above one half where it is trained alone."""
    return q_halt > q_continue if config.halting == "q_learning" else q_halt > 0


def training_halt(config: HRMConfig, segments: Tensor, result: Segment, exploration: Exploration) -> Tensor:
    """(B,) bool, slots that halt after this segment in training (HRM paper, section 2, "Adaptive computation time")."""
    last = segments >= config.max_segments
    if config.max_segments == 1:
        return last
    minimum = torch.where(exploration.explore, exploration.minimum.to(segments.device), 0)
    return (last | wants_halt(config, result.q_halt, result.q_continue)) & (segments >= minimum)


@torch.no_grad()
def continue_target(
    config: HRMConfig, run: Run, result: Segment, segments: Tensor, inputs: Tensor, puzzles: Tensor
) -> Tensor:
    """(B,) what Q(continue) should predict: the value of the best action after one segment more.

    sigmoid(max(Q'(halt), Q'(continue))), or sigmoid(Q'(halt)) where the next halt is forced. No target network and no
    replay (HRM paper, section 2).
    """
    after = run(result.carry, inputs, puzzles)
    best = torch.maximum(after.q_halt, after.q_continue)
    return torch.sigmoid(torch.where(segments >= config.max_segments, after.q_halt, best))


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


@torch.inference_mode()
def solve(
    model: HRM, inputs: Tensor, puzzle_ids: Tensor, max_segments: int, halt: bool = True, run: Run | None = None
) -> Solved:
    """Solve N boards with real halting: a board that halts leaves the batch, so thinking less costs less.

    Args:
        model: the network.
        inputs: (N, S) integer token ids.
        puzzle_ids: (N,) integers.
        max_segments: segments at most; may exceed the number used in training.
        halt: False runs every board to the limit (a fixed budget).
        run: a compiled `model.run`.
    """
    run = run or model.run
    count, device = len(inputs), inputs.device
    rows = torch.arange(count, device=device)
    carry = model.initial_carry(count)
    puzzles = model.puzzles[puzzle_ids.long()]
    out = Solved(
        torch.zeros(inputs.shape, dtype=torch.uint8, device=device),
        torch.zeros(inputs.shape, device=device),
        torch.zeros(count, dtype=torch.int32, device=device),
        torch.zeros(count, device=device),
        torch.zeros(count, device=device),
    )
    for segment in range(1, max_segments + 1):
        result = run(carry, inputs, puzzles)
        leave = (
            wants_halt(model.config, result.q_halt, result.q_continue)
            if halt
            else torch.zeros_like(rows, dtype=torch.bool)
        )
        if segment == max_segments:
            leave = torch.ones_like(leave)
        if leave.any():
            _write(out, rows[leave], result, leave, segment)
        stay = ~leave
        if not stay.any():
            break
        rows, inputs, puzzles, carry = rows[stay], inputs[stay], puzzles[stay], result.carry.rows(stay)
    return out


def _write(out: Solved, rows: Tensor, result: Segment, leave: Tensor, segment: int) -> None:
    out.answers[rows], out.confidence[rows] = read_answer(result.logits[leave])
    out.segments[rows] = segment
    out.q_halt[rows] = torch.sigmoid(result.q_halt[leave])
    out.q_continue[rows] = torch.sigmoid(result.q_continue[leave])
