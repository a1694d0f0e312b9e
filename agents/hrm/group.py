"""The boards of one grid in training: where their puzzles come from, the network on that grid, and the slots.

Most runs have one group. Translation-equivariant networks learn boards of several sizes in turn: a group a size, whose
networks share all parameters.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hrm_gym.agents.hrm import thinking
from hrm_gym.agents.hrm.distributed import Processes
from hrm_gym.agents.hrm.feed import Feed, environment_grid
from hrm_gym.agents.hrm.losses import IGNORE, SegmentLosses, segment_losses, softmax_cross_entropy
from hrm_gym.agents.hrm.memory import solving_batch
from hrm_gym.agents.hrm.model import HRM, Carry, Segment
from hrm_gym.agents.hrm.queue import PuzzleQueue, auxiliary_labels
from hrm_gym.agents.hrm.recipes import Recipe
from hrm_gym.agents.hrm.slots import Exploration, Slots, continue_target, training_halt
from hrm_gym.envs.puzzle import PuzzleBatch

logger = logging.getLogger(__name__)


def group_recipes(recipe: Recipe) -> list[Recipe]:
    """The recipe itself, and one for each of its `other_sizes`, with the grid that its environment has.

    Raises:
        ValueError: the network's weights belong to boards of one size, or an entry names a field that groups share.
    """
    if recipe.other_sizes and not recipe.model.any_grid:
        raise ValueError(f"other_sizes needs a network for boards of all sizes, got mixer {recipe.model.mixer!r}")
    recipes = [recipe]
    for changes in recipe.other_sizes:
        own = dataclasses.replace(recipe, other_sizes=(), **changes)
        recipes.append(dataclasses.replace(own, model=dataclasses.replace(own.model, grid=environment_grid(own))))
    return recipes


def on_grid(model: HRM, grid: tuple[int, int]) -> HRM:
    """The network for boards of another size, with the same parameters and buffers instead of copies."""
    if grid == model.config.grid:
        return model
    other = HRM.from_state(dataclasses.replace(model.config, grid=grid))
    for name, part in other.named_modules():
        own = model.get_submodule(name)
        part._parameters, part._buffers = own._parameters, own._buffers
    return other


class Supervised(NamedTuple):
    """What the segments of an update come to.

    Attributes:
        total: () summed loss of a segment, the mean over segments, with gradient.
        losses: of the last segment.
        carry: of the slots, detached.
        segments: (B,) int32, segments run on each board.
        halted: (B,) bool.
    """

    total: Tensor
    losses: SegmentLosses
    carry: Carry
    segments: Tensor
    halted: Tensor


class Group:
    """Boards of one grid, learnt in the slots of this process.

    Attributes:
        recipe: of these boards.
        feed: their puzzles.
        model: the network on their grid.
        slots: the active boards.
        share: the slots of this process, of all.
        queue: the puzzles of its next updates.
        judge: a copy of the network for evaluations.
    """

    def __init__(self, recipe: Recipe, feed: Feed, model: HRM, processes: Processes, ahead: int = 1) -> None:
        self.recipe, self.feed, self.model, self.processes = recipe, feed, model, processes
        self.device = model.h_init.device
        self.share = processes.share(recipe.batch_size)
        self.slots = Slots.waiting(model, self.share.stop - self.share.start, self.device)
        self.queue = PuzzleQueue(recipe, feed, processes, self.device, ahead)
        self.judge: HRM | None = None
        if self.judges_on_host and self.device.type != "cpu":
            logger.warning("halt_target 'solved': the rules of %s judge on the host, which waits", feed.family.name)
        self._held_out: dict[tuple[int, int], PuzzleBatch] = {}

    @property
    def judges_on_host(self) -> bool:
        """Whether the host reads the answers of every segment: only for Q(halt) that learns rules without tensors."""
        return self.recipe.halt_target == "solved" and not self.feed.family.judges_tensors

    @property
    def fed(self) -> int:
        """Puzzles taken from the stream, by all processes; the host reads it from the device."""
        return int(self.queue.fed)

    def refill(self, updates: Sequence[int]) -> Exploration:
        """Give every halted slot the next puzzle of the stream, in the order of the slots of all processes.

        Args:
            updates: numbers of the group's next N updates, N being its queue's, beginning with this one.

        Returns:
            This update's exploration.
        """
        halted = self.processes.gather(self.slots.halted)
        if not self.queue.left:
            self.queue.fill(halted, updates)
        fresh, exploration = self.queue.take(halted)
        if not self.queue.idle:
            self.slots.refill(self.model, *fresh)
        return exploration

    def auxiliary_loss(self, z_h: Tensor) -> Tensor | float:
        """() the mean cross-entropy of the auxiliary labels of each board, summed over boards; 0 without any."""
        labels = self.slots.auxiliary
        if labels is None:
            return 0.0
        losses = softmax_cross_entropy(self.model.mixer.auxiliary_logits(self.model, z_h), labels)
        return (losses.sum(1) / (labels != IGNORE).sum(1).clamp(min=1)).sum()

    def supervise(self, puzzles: Tensor, exploration: Exploration, targeted: bool) -> Supervised:
        """The segments of an update on every slot, with a loss at each; the slots are left as they are.

        Args:
            puzzles: (B, embedding_dim) vectors of their puzzles.
            exploration: of this update.
            targeted: whether Q(continue) is trained.
        """
        recipe, boards, totals = self.recipe, self.slots.boards, []
        carry, segments = self.slots.carry, self.slots.segments
        for _ in range(recipe.gradient_segments):
            result = self.segments(carry, puzzles)
            carry, segments = result.carry, segments + 1 + recipe.silent_segments
            halted = training_halt(recipe.model, segments, result, exploration)
            target = continue_target(self.model, result, segments, boards.inputs, puzzles) if targeted else None
            solved = self.solved(result.logits) if recipe.halt_target == "solved" else None
            losses = segment_losses(
                result.logits, boards.labels, result.q_halt, result.q_continue, target, recipe.loss, solved
            )
            totals.append(losses.total + self.auxiliary_loss(carry.z_h))
        total = totals[0] if len(totals) == 1 else torch.stack(totals).mean()
        return Supervised(total, losses, carry.detached(), segments, halted)

    def segments(self, carry: Carry, puzzles: Tensor) -> Segment:
        """The recipe's silent segments, then the one that counts, whose carry keeps gradient."""
        inputs = self.slots.boards.inputs
        with torch.no_grad():
            for _ in range(self.recipe.silent_segments):
                carry = self.model.run(carry, inputs, puzzles).carry
        return self.model.run(carry, inputs, puzzles, detach=False)

    def solved(self, logits: Tensor) -> Tensor:
        """(B,) bool, the boards whose answers the rules accept, whatever the stored solution is."""
        boards, answers = self.slots.boards, thinking.read_answer(logits.detach())[0]
        shape, family = (len(answers), *self.recipe.model.grid), self.feed.family
        parts = [part.long().view(shape) for part in (boards.inputs, boards.labels.clamp(min=0), answers)]
        if family.judges_tensors:
            judged: Tensor = family.judge_tensors(*parts)
            return judged
        return torch.from_numpy(family.judge(*(part.cpu().numpy().astype(np.uint8) for part in parts))).to(self.device)

    def held_out_rows(self, model: HRM, first: int, count: int) -> NDArray[np.float32]:
        """(count, 4) of held-out puzzles first … first + count - 1: solved, exact (0 or 1) and segments when the Q-head
        halts, and exact after all segments.

        One pass gives both: nothing halts in it, and what the Q-head would have said is noted. It is the loop that
        `HRMAgent` uses, so that it scores the same.
        """
        if (first, count) not in self._held_out:  # an evaluation's puzzles are made once
            self._held_out[first, count] = self.feed.held_out.take(first, count)
        batch = self._held_out[first, count]
        inputs, ids = self.feed.held_out_boards(batch)
        boards = thinking.Boards(inputs, ids, torch.ones_like(inputs, dtype=torch.bool))
        batch_size = solving_batch(model.config, inputs.device, count)
        found = thinking.own_and_fixed(model, boards, self.recipe.model.max_segments, batch=batch_size)
        answers, last = (grids.cpu().numpy().reshape(batch.clues.shape) for grids in (found.own, found.fixed))
        solved = self.feed.family.judge(batch.clues, batch.solutions, answers)
        exact, fixed = ((grids == batch.solutions).all(axis=(1, 2)) for grids in (answers, last))
        return np.stack((solved, exact, found.segments.cpu().numpy(), fixed), axis=1).astype(np.float32)

    def load(self, slots: dict[str, Tensor], fed: int, path: Path) -> None:
        """Take this process's share of the slots of a checkpoint.

        Args:
            slots: what `Slots.tensors` gave, of all processes.
            fed: puzzles taken from the stream until then.
            path: the file, for messages.

        Raises:
            ValueError: a token or puzzle id that the network does not know.
        """
        vocab, count = self.recipe.model.vocab_size, max(1, self.recipe.model.puzzle_count)
        for name, end in (("inputs", vocab), ("labels", vocab), ("puzzle_ids", count)):
            ids = slots[name].clamp(min=0) if name == "labels" else slots[name]
            if not 0 <= int(ids.min()) <= int(ids.max()) < end:
                raise ValueError(f"{path}: expected {name} in 0..{end - 1}, got {int(ids.max())}")
        self.slots = Slots.from_tensors({name: tensor[self.share].clone() for name, tensor in slots.items()})
        if self.recipe.model.auxiliary:
            labels = auxiliary_labels(self.feed.family, self.recipe, self.slots.boards.inputs)
            self.slots.auxiliary = labels.to(self.device)
        self.queue.start(fed)
