"""Training's side of adaptive computation: active boards in slots, the halting rule of training, the Q-target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.halting import Evidence, learned
from hrm_gym.agents.hrm.losses import IGNORE
from hrm_gym.agents.hrm.model import HRM, Carry, Segment

STATE_NAMES = ("z_h", "z_l", "z_3", "z_4")
"""Of the states of a carry in a checkpoint."""


class Examples(NamedTuple):
    """Puzzles of a batch: inputs (B, S), labels (B, S) with ignored cells -100, puzzle_ids (B,); integer tensors."""

    inputs: Tensor
    labels: Tensor
    puzzle_ids: Tensor


@dataclass
class Slots:
    """The active boards in training. A slot that halts is refilled with a fresh puzzle before the next segment.

    Attributes:
        carry: states of the boards.
        segments: (B,) int32, segments run on each board.
        halted: (B,) bool, to be refilled.
        boards: what each slot works on.
        auxiliary: (B, S) int64 auxiliary labels, for networks that learn them; a function of the boards.
    """

    carry: Carry
    segments: Tensor
    halted: Tensor
    boards: Examples
    auxiliary: Tensor | None = None

    @classmethod
    def waiting(cls, model: HRM, batch: int, device: torch.device) -> Slots:
        """N slots, all waiting for a puzzle."""
        blank = torch.zeros((batch, model.config.cells), dtype=torch.int32, device=device)
        return cls.empty(model, Examples(blank, blank.clone(), blank[:, 0].clone()))

    @classmethod
    def empty(cls, model: HRM, boards: Examples) -> Slots:
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

    def refill(self, model: HRM, fresh: Examples, auxiliary: Tensor | None = None, noise: Tensor | None = None) -> None:
        """Put row i of `fresh` into slot i wherever slot i has halted.

        Args:
            model: gives the initial states.
            fresh: a puzzle for every slot.
            auxiliary: (B, S) int64 their auxiliary labels.
            noise: (B, modules, T, D) float32, added to the initial states.
        """
        self.carry = model.reset_rows(self.carry, self.halted)
        self.segments = torch.where(self.halted, 0, self.segments)
        mask = self.halted[:, None]
        if noise is not None:
            pairs = zip(self.carry, noise.unbind(1), strict=True)
            self.carry = Carry(*(torch.where(mask[..., None], state + own.to(state), state) for state, own in pairs))
        if auxiliary is not None:
            before = torch.full_like(auxiliary, IGNORE) if self.auxiliary is None else self.auxiliary
            self.auxiliary = torch.where(mask, auxiliary, before)
        self.boards = Examples(
            torch.where(mask, fresh.inputs, self.boards.inputs),
            torch.where(mask, fresh.labels, self.boards.labels),
            torch.where(self.halted, fresh.puzzle_ids, self.boards.puzzle_ids),
        )

    def tensors(self) -> dict[str, Tensor]:
        """All that the slots hold, by name; every tensor has the slots as its first axis."""
        states = dict(zip(STATE_NAMES, self.carry, strict=False))
        return states | {"segments": self.segments, "halted": self.halted} | self.boards._asdict()

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Slots:
        """The inverse of `tensors`."""
        carry = Carry(*(tensors[name] for name in STATE_NAMES if name in tensors))
        boards = Examples(*(tensors[name] for name in Examples._fields))
        return cls(carry, tensors["segments"], tensors["halted"], boards)


class Exploration(NamedTuple):
    """Draws of one segment: explore (B,) bool and a random minimum of segments (B,) int32."""

    explore: Tensor
    minimum: Tensor


def draw_exploration(config: HRMConfig, batch: int, generator: torch.Generator) -> Exploration:
    """Exploration of one segment for every slot, drawn at each segment (the official code; paper: once a puzzle)."""
    explore = torch.rand(batch, generator=generator) < config.exploration
    least, past = config.exploration_least, max(config.exploration_least, config.max_segments) + 1
    return Exploration(explore, torch.randint(least, past, (batch,), generator=generator, dtype=torch.int32))


def training_halt(config: HRMConfig, segments: Tensor, result: Segment, exploration: Exploration) -> Tensor:
    """(B,) bool, slots that halt after this segment in training (HRM paper, section 2, "Adaptive computation time")."""
    last = segments >= config.max_segments
    if config.max_segments == 1:
        return last
    minimum = torch.where(exploration.explore, exploration.minimum.to(segments.device), 0)
    wants = learned(config).halts(Evidence(segments, result.q_halt, result.q_continue))
    return (last | wants) & (segments >= minimum)


@torch.no_grad()
def continue_target(model: HRM, result: Segment, segments: Tensor, inputs: Tensor, puzzles: Tensor) -> Tensor:
    """(B,) what Q(continue) should predict: the value of the best action after one segment more.

    sigmoid(max(Q'(halt), Q'(continue))), or sigmoid(Q'(halt)) where the next halt is forced. No target network and no
    replay (HRM paper, section 2).
    """
    q_halt, q_continue = model.next_q_values(result.carry, inputs, puzzles)
    last = segments >= model.config.max_segments
    return torch.sigmoid(torch.where(last, q_halt, torch.maximum(q_halt, q_continue)))
