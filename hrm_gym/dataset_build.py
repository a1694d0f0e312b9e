"""Data sets computed by several processes: the same bytes however many, and however often the work was interrupted.

Puzzle k of a seed has one key. Blocks of keys are computed in any order and looked through in order: a puzzle that was
there before (in either split) is left out, and the keys behind stand in for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from hrm_gym.dataset import stream_keys
from hrm_gym.dataset_parts import Part, Workplace, digests_of
from hrm_gym.dataset_workers import Workers
from hrm_gym.envs.puzzle import PuzzleBatch, PuzzleFamily, PuzzleSource, puzzle_key

BARREN_BLOCKS = 20
"""Blocks without a single new puzzle after which there seem to be no more."""

_MISSES = 200
"""Draws without a new image after which a puzzle seems to have no more."""


@dataclass(frozen=True)
class Plan:
    """What is computed; it travels to the worker processes.

    Attributes:
        family: whose puzzles they are.
        source: gives the source of a split; a function of a module, or a `functools.partial` of one.
        counts: number of puzzles of each split.
        seed: the stream of keys.
        block: keys that are computed at a time.
    """

    family: PuzzleFamily
    source: Callable[[str], PuzzleSource]
    counts: Mapping[str, int]
    seed: int
    block: int

    def compute(self, split: str, number: int) -> Part:
        """The puzzles of block `number`, all of them."""
        batch = self.source(split).batch(stream_keys(self.seed, number * self.block, self.block))
        grids = np.stack([self.family.canonical(clues) for clues in batch.clues])
        return Part(batch.clues, batch.solutions, batch.puzzle_ids, digests_of(grids))


class DatasetBuild:
    """The computation of a plan, part by part.

    Attributes:
        done: puzzles that are on disk.
    """

    def __init__(self, plan: Plan, workplace: Workplace) -> None:
        """Take up what an earlier start has left."""
        self.plan, self.workplace = plan, workplace
        self._seen: set[bytes] = set()
        self._have: dict[str, int] = {}
        self._next: dict[str, int] = {}
        for split in plan.counts:
            self._have[split] = self._next[split] = 0
            for part in workplace.parts(split):
                self._count(split, part)

    @property
    def done(self) -> int:
        """Puzzles that are on disk."""
        return sum(self._have.values())

    def run(self, processes: int = 1) -> Iterator[int]:
        """Compute what is missing; yields `done` after every part.

        Raises:
            ValueError: if there are not so many different puzzles.
            OSError: if a part cannot be written, or a worker process died.
        """
        if processes == 1:
            yield from self._run(lambda jobs: (self.plan.compute(*job) for job in jobs))
            return
        with Workers(processes, self.plan.compute) as workers:
            yield from self._run(workers.ordered)

    def _run(self, computed: Callable[[Iterator[tuple[str, int]]], Iterator[Part]]) -> Iterator[int]:
        for split, wanted in self.plan.counts.items():
            blocks = computed((split, number) for number in count(self._next[split]))
            barren = 0
            while self._have[split] < wanted:
                barren = 0 if self._take(split, next(blocks), wanted) else barren + 1
                yield self.done
                if barren == BARREN_BLOCKS:
                    raise ValueError(
                        f"expected {wanted} different puzzles for {split} to exist, got no more than "
                        f"{self._have[split]} in {self._next[split] * self.plan.block:,} draws"
                    )

    def _take(self, split: str, part: Part, wanted: int) -> int:
        """Put the new puzzles of a part on disk, as far as they are wanted; returns how many."""
        fresh = part.only(self._fresh(part)[: wanted - self._have[split]])
        self.workplace.add(split, self._next[split], fresh)
        self._count(split, fresh)
        return len(fresh)

    def batches(self, split: str) -> Iterator[PuzzleBatch]:
        """The puzzles of a split that are on disk, in order."""
        return (part.batch() for part in self.workplace.parts(split) if len(part))

    def _fresh(self, part: Part) -> NDArray[np.int64]:
        """Rows of the puzzles that have not been there, nor earlier in the part."""
        first = {key: row for row, key in reversed(list(enumerate(part.keys())))}
        return np.array(sorted(row for key, row in first.items() if key not in self._seen), dtype=np.int64)

    def _count(self, split: str, part: Part) -> None:
        self._seen.update(part.keys())
        self._have[split] += len(part)
        self._next[split] += 1


def with_images(
    family: PuzzleFamily, batch: PuzzleBatch, images: int, seed: int, first: int
) -> tuple[PuzzleBatch, NDArray[np.int64]]:
    """Every puzzle followed by up to `images` different symmetric images of it.

    Args:
        family: whose symmetries.
        batch: N puzzles.
        images: of each puzzle; fewer where a puzzle has no more.
        seed: what the symmetries are drawn by.
        first: number of the first puzzle in its data set, so that the images do not depend on the batches.

    Returns:
        All puzzles, and the (N,) int64 sizes of their groups.
    """
    if not images:
        return batch, np.ones(len(batch), dtype=np.int64)
    groups = [_images(family, batch, row, images, puzzle_key(seed, first + row)) for row in range(len(batch))]
    sizes = np.array([len(clues) for clues, _ in groups], dtype=np.int64)
    clues, solutions = (
        np.concatenate(grids).reshape(-1, *batch.clues.shape[1:]) for grids in zip(*groups, strict=True)
    )
    return PuzzleBatch(clues, solutions, np.repeat(batch.puzzle_ids, sizes)), sizes


def _images(
    family: PuzzleFamily, batch: PuzzleBatch, row: int, images: int, key: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(K, H*W) clues and solutions: a puzzle and its images, K <= images + 1."""
    clues, solution = batch.clues[row].ravel(), batch.solutions[row].ravel()
    found, seen = [(clues, solution)], {clues.tobytes()}
    draw = misses = 0
    while len(found) <= images and misses < _MISSES:
        cells, tokens = family.symmetry(batch.clues.shape[1:], puzzle_key(key, draw))
        image = tokens[clues[cells]]
        misses = misses + 1 if image.tobytes() in seen else 0
        if not misses:
            seen.add(image.tobytes())
            found.append((image, tokens[solution[cells]]))
        draw += 1
    return np.stack([pair[0] for pair in found]), np.stack([pair[1] for pair in found])
