"""From puzzle sources to the boards that training works on: which puzzle has which number, under which augmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hrm_gym.agents.hrm import augment
from hrm_gym.agents.hrm.act import Boards
from hrm_gym.agents.hrm.losses import IGNORE
from hrm_gym.agents.hrm.recipes import Recipe
from hrm_gym.dataset import PuzzleStream
from hrm_gym.envs.puzzle import Puzzle, PuzzleBatch, PuzzleFamily, PuzzleSource, mix64, puzzle_keys

EVAL_SEED = 0x5EED
"""Seed of the held-out puzzles of every evaluation during training."""

_SHOWN, _SHIFTED = 0x5407, 0x5417
"""Set the draws of partly filled boards and of shifts apart from those of symmetries."""


def environment(recipe: Recipe, split: str) -> tuple[PuzzleFamily, PuzzleSource]:
    """The family and the puzzle source of a recipe's environment for one split.

    Raises:
        ValueError: the environment's boards are not of the size of the recipe's network.
    """
    return _open(recipe, split, recipe.env)


def _open(recipe: Recipe, split: str, arguments: Mapping[str, Any]) -> tuple[PuzzleFamily, PuzzleSource]:
    """The family and the source of the recipe's environment under these arguments."""
    single_file = Path(recipe.source).suffix != ""
    source = "generate" if split == "test" and single_file else recipe.source
    env: Any = gym.make(recipe.env_id, source=source, split=split, **arguments).unwrapped
    if tuple(env.shape) != recipe.model.grid:
        raise ValueError(
            f"{recipe.env_id} has a grid of {tuple(env.shape)}, the recipe's network one of {recipe.model.grid}"
        )
    return env.family, env.puzzle_source


def training_source(recipe: Recipe) -> tuple[PuzzleFamily, PuzzleSource]:
    """The family and what a recipe trains on: a source without end, or a fixed set of puzzles."""
    family, source = environment(recipe, "train")
    if recipe.demonstrations:
        source = SolvedPairs(source, environment(recipe, "test")[1])
    if recipe.mixture:
        others = [_open(recipe, "train", {**recipe.env, **arguments})[1] for arguments in recipe.mixture]
        source = Mixture([source, *others])
    if recipe.puzzles:
        source = FixedPuzzles(source, recipe.puzzles, recipe.seed)
    return family, source


class Mixture:
    """Several sources without end as one: each key belongs to one of them, all equally often."""

    def __init__(self, sources: Sequence[PuzzleSource]) -> None:
        self.shape, self._sources = sources[0].shape, tuple(sources)

    def puzzle(self, key: int) -> Puzzle:
        """The puzzle of one 64-bit key."""
        return self.batch(np.array([key], dtype=np.uint64))[0]

    def batch(self, keys: NDArray[np.uint64]) -> PuzzleBatch:
        """The puzzles of N keys."""
        chosen = puzzle_keys(keys, np.zeros(1, dtype=np.uint64)) % np.uint64(len(self._sources))
        clues, solutions = np.empty((2, len(keys), *self.shape), dtype=np.uint8)
        ids = np.empty(len(keys), dtype=np.int32)
        for number, source in enumerate(self._sources):
            rows = np.flatnonzero(chosen == number)
            if len(rows):
                batch = source.batch(keys[rows])
                clues[rows], solutions[rows], ids[rows] = batch.clues, batch.solutions, batch.puzzle_ids
        return PuzzleBatch(clues, solutions, ids)


class FixedPuzzles:
    """The first so many puzzles of a source's stream, as a set with a length: puzzle i is a function of (seed, i)."""

    def __init__(self, source: PuzzleSource, count: int, seed: int) -> None:
        """Describe the set; the puzzles are made when they are first asked for."""
        if isinstance(source, Sized) and len(source) < count:
            raise ValueError(f"expected a source of at least {count} puzzles, got one of {len(source)}")
        self.shape, self._source, self._count, self._seed = source.shape, source, count, seed

    def __len__(self) -> int:
        """Number of puzzles."""
        return self._count

    @cached_property
    def _all(self) -> PuzzleBatch:
        return PuzzleStream(self._source, self._seed).take(0, self._count)

    def puzzle(self, key: int) -> Puzzle:
        """Puzzle key % len."""
        return self._all[key % self._count]

    def batch(self, keys: NDArray[np.uint64]) -> PuzzleBatch:
        """The puzzles of N keys."""
        rows, every = (keys % np.uint64(self._count)).astype(np.int64), self._all
        return PuzzleBatch(every.clues[rows], every.solutions[rows], every.puzzle_ids[rows])


class SolvedPairs:
    """Every solved example of tasks as a puzzle of its own, with the task's id: the training set of ARC.

    These are the demonstrations of all tasks, and the test grids of those that are there to be learnt from.
    """

    def __init__(self, learnt: PuzzleSource, shown: PuzzleSource) -> None:
        """Collect the examples.

        Args:
            learnt: tasks all of whose pairs count; a source with a length.
            shown: tasks of which only the demonstrations count, since their test grids are held out.

        Raises:
            ValueError: the puzzles bring no demonstrations.
        """
        parts = [*_demonstrations(learnt), *_demonstrations(shown)]
        tests = learnt.batch(np.arange(len(learnt), dtype=np.uint64))  # type: ignore[arg-type]
        clues = np.concatenate([pairs[:, 0] for pairs, _ in parts] + [tests.clues])
        solutions = np.concatenate([pairs[:, 1] for pairs, _ in parts] + [tests.solutions])
        ids = [np.full(len(pairs), task, dtype=np.int32) for pairs, task in parts]
        self._batch = PuzzleBatch(clues, solutions, np.concatenate([*ids, tests.puzzle_ids]))
        self.shape = learnt.shape

    def __len__(self) -> int:
        """Number of examples."""
        return len(self._batch)

    def puzzle(self, key: int) -> Puzzle:
        """Example key % len."""
        return self._batch[key % len(self)]

    def batch(self, keys: NDArray[np.uint64]) -> PuzzleBatch:
        """The examples of N keys."""
        rows = (keys % np.uint64(len(self))).astype(np.int64)
        return PuzzleBatch(self._batch.clues[rows], self._batch.solutions[rows], self._batch.puzzle_ids[rows])


def _demonstrations(source: PuzzleSource) -> list[tuple[NDArray[np.uint8], int]]:
    """(pairs, 2, H, W) demonstrations and id of every task of a source, each task once."""
    if not isinstance(source, Sized):
        raise ValueError(f"expected a source with a length, got {type(source).__name__}")
    batch = source.batch(np.arange(len(source), dtype=np.uint64))
    if batch.demonstrations is None or batch.pairs is None:
        raise ValueError(f"expected puzzles with demonstrations, got a {type(source).__name__} of puzzles without")
    _, firsts = np.unique(batch.puzzle_ids, return_index=True)
    return [(batch.demonstrations[i, : batch.pairs[i]], int(batch.puzzle_ids[i])) for i in firsts]


class Feed:
    """Puzzle number n of a run as tensors on a device: a pure function of the recipe and n.

    Attributes:
        family: of the puzzles.
        stream: the numbered puzzles, before augmentation.
        held_out: the numbered puzzles of the test split.
    """

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        """Open the sources of a recipe.

        Raises:
            ValueError: a source does not fit the recipe.
        """
        self._recipe, self._device = recipe, device
        self.family, source = training_source(recipe)
        if recipe.variants and not hasattr(source, "__len__"):
            raise ValueError("expected a fixed set of puzzles (--puzzles N) for --variants, got puzzles without end")
        self.stream = PuzzleStream(source, recipe.seed)
        self.held_out = PuzzleStream(environment(recipe, "test")[1], EVAL_SEED)

    def boards(self, first: int, count: int) -> Boards:
        """Puzzles first … first + count - 1, augmented as the recipe says.

        Raises:
            ValueError: a puzzle id for which the network has no row of the puzzle embedding.
        """
        batch, numbers = self.stream.take(first, count), range(first, first + count)
        self._check_rows(batch.puzzle_ids)
        inputs, labels = (self._tensor(grids.reshape(count, -1)) for grids in (batch.clues, batch.solutions))
        ids = torch.from_numpy(batch.puzzle_ids).to(self._device)
        if self._recipe.augment:
            variants, keys = self._keys(numbers)
            inputs, labels = self._augmented(inputs, labels, keys, numbers)
            ids = self._embedding_rows(ids, torch.tensor(variants, dtype=ids.dtype, device=ids.device))
        elif self._recipe.embed_variants:
            ids = self._embedding_rows(ids, torch.zeros_like(ids))
        if self._recipe.shown:
            draws = [mix64(self._recipe.seed ^ _SHOWN ^ mix64(number)) for number in numbers]
            inputs = augment.show_cells(inputs, labels, draws, self._recipe.shown)
        return Boards(inputs, torch.where(labels == 0, IGNORE, labels), ids)

    def held_out_boards(self, batch: PuzzleBatch) -> tuple[Tensor, Tensor]:
        """(N, S) inputs and (N,) embedding rows of puzzles as they are."""
        self._check_rows(batch.puzzle_ids)
        ids = torch.from_numpy(batch.puzzle_ids).to(self._device)
        ids = self._embedding_rows(ids, torch.zeros_like(ids))
        return self._tensor(batch.clues.reshape(len(batch), -1)), ids

    def _check_rows(self, ids: NDArray[np.int32]) -> None:
        """Refuse puzzle ids for which the puzzle embedding has no row."""
        each = self._recipe.variants + 1 if self._recipe.embed_variants else 1
        last = (int(ids.max()) + 1) * each
        if last > self._recipe.model.puzzle_count:
            raise ValueError(
                f"expected --model.puzzle-count of at least {last} for puzzle id {int(ids.max())}, "
                f"got {self._recipe.model.puzzle_count}"
            )

    def _tensor(self, grids: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(grids).to(self._device).to(torch.int32)

    def _embedding_rows(self, ids: Tensor, variants: Tensor) -> Tensor:
        """The rows of the puzzle embedding: one a puzzle id, or one a variant of it with `embed_variants`."""
        return ids * (self._recipe.variants + 1) + variants if self._recipe.embed_variants else ids

    def _keys(self, numbers: range) -> tuple[list[int], list[int | None]]:
        """The variant of each puzzle number (0 where there are no fixed ones), and the key of its symmetry."""
        recipe, count = self._recipe, self._recipe.variants
        if not count:
            return [0] * len(numbers), [mix64(recipe.seed ^ mix64(number)) for number in numbers]
        chosen = augment.choose_variants(recipe.seed, numbers, count)
        if recipe.embed_variants:
            return chosen, [augment.embedded_variant_key(recipe.seed, variant) for variant in chosen]
        rows = self.stream.rows(numbers.start, len(numbers)).tolist()
        pairs = zip(rows, chosen, strict=True)
        return chosen, [augment.puzzle_variant_key(recipe.seed, row, variant, count) for row, variant in pairs]

    def _augmented(
        self, inputs: Tensor, labels: Tensor, keys: Sequence[int | None], numbers: range
    ) -> tuple[Tensor, Tensor]:
        """(N, S) inputs and labels, each pair under the symmetry of its key; grids shifted anew by puzzle number."""
        grid = self._recipe.model.grid
        symmetries = augment.draw_symmetries(self.family, grid, keys, self._device)
        inputs, labels = (augment.apply_symmetries(symmetries, boards) for boards in (inputs, labels))
        if self._recipe.place_grids:
            inputs, labels = (boards.view(-1, *grid) for boards in (inputs, labels))
            shifts: list[int | None] = [None] * len(numbers)
            if self._recipe.shift_grids:
                shifts = [mix64(self._recipe.seed ^ _SHIFTED ^ mix64(number)) for number in numbers]
            placements = augment.draw_placements(inputs, labels, keys, shifts)
            inputs, labels = (augment.place_grids(placements, boards).flatten(1) for boards in (inputs, labels))
        return inputs, labels
