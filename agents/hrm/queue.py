"""What training steps take lies on the device before they run, so that no step waits for the host.

The host prepares puzzles and draws for N updates at once. Which puzzle a slot then gets is decided on the device: slots
that have halted take puzzles in the order of their numbers. Only after N updates the host reads how many were taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hrm_gym.agents.hrm.distributed import Processes
from hrm_gym.agents.hrm.feed import Feed
from hrm_gym.agents.hrm.recipes import Recipe
from hrm_gym.agents.hrm.slots import Examples, Exploration, draw_exploration
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.puzzle import mix64

STARTS = 0x5354415254
"""Sets the random numbers of initial states apart from those of puzzles and exploration."""


class Prepared(NamedTuple):
    """Puzzles with what belongs to them, a row each.

    Attributes:
        boards: the puzzles.
        auxiliary: (B, S) int64 auxiliary labels; None for networks that learn none.
        noise: (B, modules, T, D) float32, added to the initial states; None without random starts.
    """

    boards: Examples
    auxiliary: Tensor | None = None
    noise: Tensor | None = None

    def tensors(self) -> list[Tensor]:
        """All of them, in a fixed order."""
        return [part for part in (*self.boards, self.auxiliary, self.noise) if part is not None]

    def rows(self, index: Tensor) -> Prepared:
        """The rows `index` (K,) int64."""
        return self.of([part[index] for part in self.tensors()])

    def of(self, tensors: Sequence[Tensor]) -> Prepared:
        """The same with these `tensors`, in the order of `tensors()`."""
        others = iter(tensors[3:])
        return Prepared(
            Examples(*tensors[:3]),
            None if self.auxiliary is None else next(others),
            None if self.noise is None else next(others),
        )


class PuzzleQueue:
    """The puzzles and the draws of exploration for the next N updates of a group of slots, on its device.

    Puzzle n lies in row n modulo N * batch until it is taken. All processes hold the same queue: each prepares a share.

    Attributes:
        updates: N. With 1 only puzzles that a slot waits for are made.
        left: updates that can run before the queue has to be filled again.
        fed: () int64 on the device, puzzles taken by the slots of all processes.
        end: number behind the last puzzle that was prepared.
        idle: whether the host knows that no slot takes a puzzle in the next update, which it can only for one.
    """

    def __init__(self, recipe: Recipe, feed: Feed, processes: Processes, device: torch.device, updates: int) -> None:
        """An empty queue.

        Raises:
            ValueError: no updates.
        """
        if updates < 1:
            raise ValueError(f"expected a queue for at least one update, got {updates}")
        self.recipe, self.feed, self.processes, self.device, self.updates = recipe, feed, processes, device, updates
        self.left = 0
        self.share = processes.share(recipe.batch_size)
        self._puzzles = self._blank()
        self._draws = Exploration(torch.empty(0), torch.empty(0))
        self.start(0)

    def _blank(self) -> Prepared:
        """Rows for puzzles, on the device."""
        model, modules = self.recipe.model, len(self.recipe.model.modules)
        boards = torch.zeros((self.rows, model.cells), dtype=torch.int32, device=self.device)
        noise = (self.rows, modules, model.length, model.hidden_size)
        return Prepared(
            Examples(boards, boards.clone(), boards[:, 0].clone()),
            torch.zeros_like(boards, dtype=torch.int64) if model.auxiliary else None,
            torch.zeros(noise, dtype=torch.float32, device=self.device) if self.recipe.random_starts else None,
        )

    def start(self, fed: int) -> None:
        """Continue behind the first `fed` puzzles of the stream, with an empty queue."""
        self.fed = torch.full((), fed, dtype=torch.int64, device=self.device)
        self.end, self.left, self.idle = fed, 0, False

    @property
    def rows(self) -> int:
        """Puzzles that the queue holds at most."""
        return self.updates * self.recipe.batch_size

    def fill(self, halted: Tensor, numbers: Sequence[int]) -> None:
        """Prepare what the next N updates can take at most.

        Args:
            halted: (B,) bool, the slots of all processes that wait for a puzzle now.
            numbers: of these N updates.
        """
        end = self.read(halted) + (self.updates - 1) * self.recipe.batch_size
        self.idle = self.updates == 1 and end == self.end
        if end > self.end:
            self._put(self.end, self._gathered(self.end, end - self.end))
        self.end, self.left = end, self.updates
        self._draws = self._exploration(numbers)

    def read(self, halted: Tensor) -> int:
        """Puzzles taken once the waiting slots have theirs: the one read by the host."""
        return int(self.fed + halted.sum())

    def take(self, halted: Tensor) -> tuple[Prepared, Exploration]:
        """What a step takes; the host reads nothing.

        Args:
            halted: (B,) bool, the slots of all processes that wait for a puzzle.

        Returns:
            A puzzle for every slot of this process, of which only those of halted slots mean something; and this
            update's draws for them.
        """
        assert self.left > 0, "fill the queue first"
        numbers = self.fed - 1 + halted.cumsum(0)
        self.fed = self.fed + halted.sum()
        draws = Exploration(*(part[self.updates - self.left] for part in self._draws))
        self.left -= 1
        return self._puzzles.rows(numbers[self.share] % self.rows), draws

    def _gathered(self, first: int, count: int) -> Prepared:
        """Puzzles first … first + count - 1, of which this process prepares a share; still on the host if alone."""
        if self.processes.count == 1:
            return self.prepare(first, count)
        each = -(-count // self.processes.count)
        own = self.prepare(first + self.processes.rank * each, each)
        return own.of([self.processes.gather(part.to(self.device))[:count] for part in own.tensors()])

    def prepare(self, first: int, count: int) -> Prepared:
        """Puzzles first … first + count - 1 with what belongs to them, on the host."""
        boards = self.feed.boards(first, count)
        labels = auxiliary_labels(self.feed.family, self.recipe, boards.inputs) if self.recipe.model.auxiliary else None
        numbers = range(first, first + count)
        noise = torch.stack([self._noise(number) for number in numbers]) if self.recipe.random_starts else None
        return Prepared(boards, labels, noise)

    def _noise(self, number: int) -> Tensor:
        """(modules, T, D), of the initial states of one puzzle."""
        model = self.recipe.model
        generator = torch.Generator().manual_seed(mix64(mix64(self.recipe.seed ^ STARTS) ^ number) >> 1)
        shape = (len(model.modules), model.length, model.hidden_size)
        return self.recipe.random_starts * torch.randn(shape, generator=generator)

    def _put(self, first: int, puzzles: Prepared) -> None:
        """Copy puzzles first, first + 1, … to their rows, which go round."""
        begin = first % self.rows
        for place, part in zip(self._puzzles.tensors(), puzzles.tensors(), strict=True):
            around = self.rows - begin
            for there, own in ((place[begin:], part[:around]), (place, part[around:])):
                if len(own):
                    there[: len(own)].copy_(_pinned(own, self.device), non_blocking=True)

    def _exploration(self, updates: Sequence[int]) -> Exploration:
        """The draws of some updates for the slots of this process, out of those for all; a row an update."""
        recipe, drawn = self.recipe, []
        for update in updates:
            generator = torch.Generator().manual_seed(mix64(mix64(recipe.seed) ^ update) >> 1)
            drawn.append(draw_exploration(recipe.model, recipe.batch_size, generator))
        stacked = (torch.stack(parts)[:, self.share] for parts in zip(*drawn, strict=True))
        return Exploration(*(_pinned(part, self.device).to(self.device, non_blocking=True) for part in stacked))


def auxiliary_labels(family: PuzzleFamily, recipe: Recipe, inputs: Tensor) -> Tensor:
    """(N, S) int64 auxiliary labels of boards (N, S), made on the host by the rules of the puzzle."""
    clues = inputs.cpu().numpy().astype(np.uint8).reshape(-1, *recipe.model.grid)
    return torch.from_numpy(family.auxiliary_labels(clues)).flatten(1)


def _pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor in memory from which a GPU copies while the host goes on."""
    return tensor.contiguous().pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor
