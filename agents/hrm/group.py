"""The boards of one grid in training: where their puzzles come from, the network on that grid, and the slots.

Most runs have one group. Translation-equivariant networks learn boards of several sizes in turn: a group a size, whose
networks share all parameters.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hrm_gym.agents.hrm import thinking
from hrm_gym.agents.hrm.distributed import Processes
from hrm_gym.agents.hrm.feed import Feed, environment_grid
from hrm_gym.agents.hrm.losses import IGNORE, softmax_cross_entropy
from hrm_gym.agents.hrm.memory import solving_batch
from hrm_gym.agents.hrm.model import HRM, Carry, Segment
from hrm_gym.agents.hrm.recipes import Recipe
from hrm_gym.agents.hrm.slots import Examples, Slots
from hrm_gym.envs.puzzle import PuzzleBatch, mix64

STARTS = 0x5354415254
"""Sets the random numbers of initial states apart from those of puzzles and exploration."""


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
    """The network for boards of another size, with the same parameters and buffers instead of copies.

    Raises:
        ValueError: the weights belong to boards of one size.
    """
    other = model.on_grid(grid)
    for name, part in other.named_modules():
        own = model.get_submodule(name)
        part._parameters, part._buffers = own._parameters, own._buffers
    return other


class Group:
    """Boards of one grid, learnt in the slots of this process.

    Attributes:
        recipe: of these boards.
        feed: their puzzles.
        model: the network on their grid.
        slots: the active boards.
        share: the slots of this process, of all.
        fed: puzzles taken from the stream, by all processes.
    """

    def __init__(self, recipe: Recipe, feed: Feed, model: HRM, processes: Processes) -> None:
        self.recipe, self.feed, self.model, self.processes = recipe, feed, model, processes
        self.device = model.h_init.device
        self.share = processes.share(recipe.batch_size)
        self.slots = Slots.waiting(model, self.share.stop - self.share.start, self.device)
        self.fed = 0
        self._held_out: dict[tuple[int, int], PuzzleBatch] = {}

    def refill(self) -> None:
        """Give every halted slot the next puzzle of the stream, in the order of the slots of all processes."""
        halted = self.processes.gather(self.slots.halted)
        waiting = self.slots.halted.nonzero()[:, 0]
        before = int(halted[: self.share.start].sum())
        if len(waiting):
            fresh = self.feed.boards(self.fed + before, len(waiting))
            rows = torch.zeros(len(self.slots.halted), dtype=torch.int64, device=self.device)
            rows[waiting] = torch.arange(len(waiting), device=self.device)
            self.slots.refill(self.model, Examples(*(part[rows] for part in fresh)))
            self.label(waiting)
            if self.recipe.random_starts:
                self._disturb(waiting, self.fed + before)
        self.fed += int(halted.sum())

    def _disturb(self, rows: Tensor, first: int) -> None:
        """Add the noise of puzzles number first, first + 1, … to the initial states in the slots `rows`."""
        states = [state.clone() for state in self.slots.carry]
        for number, row in enumerate(rows.tolist(), first):
            generator = torch.Generator().manual_seed(mix64(mix64(self.recipe.seed ^ STARTS) ^ number) >> 1)
            noise = self.recipe.random_starts * torch.randn((len(states), *states[0].shape[1:]), generator=generator)
            for state, own in zip(states, noise, strict=True):
                state[row] += own.to(state)
        self.slots.carry = Carry(*states)

    def label(self, rows: Tensor) -> None:
        """Make the auxiliary labels of the boards in the slots `rows` (K,), for a network that learns them."""
        if not self.recipe.model.auxiliary or not len(rows):
            return
        inputs, grid = self.slots.boards.inputs, self.recipe.model.grid
        if self.slots.auxiliary is None:
            self.slots.auxiliary = torch.full(inputs.shape, IGNORE, device=self.device)
        clues = inputs[rows].cpu().numpy().astype(np.uint8).reshape(-1, *grid)
        labels = torch.from_numpy(self.feed.family.auxiliary_labels(clues)).flatten(1)
        self.slots.auxiliary[rows] = labels.to(self.device)

    def auxiliary_loss(self, z_h: Tensor) -> Tensor | float:
        """() the mean cross-entropy of the auxiliary labels of each board, summed over boards; 0 without any."""
        labels = self.slots.auxiliary
        if labels is None:
            return 0.0
        losses = softmax_cross_entropy(self.model.mixer.auxiliary_logits(self.model, z_h), labels)
        return (losses.sum(1) / (labels != IGNORE).sum(1).clamp(min=1)).sum()

    def segments(self, puzzles: Tensor) -> Segment:
        """The recipe's silent segments, then the one that counts, whose carry keeps gradient."""
        carry, inputs = self.slots.carry, self.slots.boards.inputs
        with torch.no_grad():
            for _ in range(self.recipe.silent_segments):
                carry = self.model.run(carry, inputs, puzzles).carry
        return self.model.run(carry, inputs, puzzles, detach=False)

    def solved(self, logits: Tensor) -> Tensor:
        """(B,) bool, the boards whose answers the rules accept, whatever the stored solution is."""
        boards, answers = self.slots.boards, thinking.read_answer(logits.detach())[0]
        shape = (len(answers), *self.recipe.model.grid)
        clues, solutions, found = (
            part.cpu().numpy().astype(np.uint8).reshape(shape)
            for part in (boards.inputs, boards.labels.clamp(min=0), answers)
        )
        return torch.from_numpy(self.feed.family.judge(clues, solutions, found)).to(self.device)

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

    def load(self, slots: dict[str, Tensor], path: Path) -> None:
        """Take this process's share of the slots of a checkpoint.

        Args:
            slots: what `Slots.tensors` gave, of all processes.
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
        self.label(torch.arange(len(self.slots.halted), device=self.device))
