"""Data sets computed by several processes: the same bytes from any number of them, however often they are interrupted.

Puzzle k of a seed has one key. Blocks of keys are computed in any order and looked through in order: a puzzle that was
there before (in either split) is left out, and later keys replace it. Finished parts are on disk, each written
atomically, so an interrupted build continues.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hrm_gym.data.folder import put_in_place
from hrm_gym.data.stream import stream_keys
from hrm_gym.data.workers import Workers
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.puzzle import PuzzleBatch, PuzzleSource, puzzle_key
from hrm_gym.files import (
    MARKER,
    UNFINISHED,
    check_no_link,
    check_ours,
    delete_folder,
    sweep,
    write_atomically,
    write_npz,
)
from hrm_gym.reading import Schema, read_json, read_npz

logger = logging.getLogger(__name__)

RECIPE = "recipe.json"


@dataclass(frozen=True, eq=False)
class Part:
    """Some puzzles of a split.

    Attributes:
        clues: (N, H, W) uint8.
        solutions: (N, H, W) uint8.
        puzzle_ids: (N,) int32.
        digests: (N, 16) uint8; puzzles that count as the same have the same.
    """

    clues: NDArray[np.uint8]
    solutions: NDArray[np.uint8]
    puzzle_ids: NDArray[np.int32]
    digests: NDArray[np.uint8]

    SCHEMA: ClassVar[Schema] = {
        "clues": (np.uint8, ("puzzles", "height", "width")),
        "solutions": (np.uint8, ("puzzles", "height", "width")),
        "puzzle_ids": (np.int32, ("puzzles",)),
        "digests": (np.uint8, ("puzzles", 16)),
    }

    def __len__(self) -> int:
        return len(self.clues)

    def keys(self) -> list[bytes]:
        """The digests as N hashable values."""
        return [row.tobytes() for row in self.digests]

    def only(self, rows: NDArray[np.int64]) -> Part:
        """Some of its puzzles."""
        return Part(*(values[rows] for values in vars(self).values()))

    def batch(self) -> PuzzleBatch:
        """Its puzzles."""
        return PuzzleBatch(self.clues, self.solutions, self.puzzle_ids)


def digests_of(grids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, 16) uint8 hashes of (N, H, W) grids."""
    hashes = b"".join(hashlib.blake2b(grid.tobytes(), digest_size=16).digest() for grid in grids)
    return np.frombuffer(hashes, dtype=np.uint8).reshape(len(grids), 16)


class Workplace:
    """The folder `<folder>.partial` in which a data set comes about.

    Attributes:
        path: the folder.
        resumed: whether parts of an earlier start were found.
    """

    def __init__(self, folder: Path, recipe: Mapping[str, Any], overwrite: bool = False) -> None:
        """Make the folder, or take up the one that is there.

        Args:
            folder: where the finished data set will be.
            recipe: everything that its puzzles depend on; it fits JSON.
            overwrite: whether a folder begun by another recipe may be emptied.

        Raises:
            ValueError: if the folder was begun by another recipe; says where they differ.
            OSError: if it cannot be made.
        """
        self.folder, self.path = folder, folder.with_name(f"{folder.name}.partial")
        wanted = json.loads(json.dumps(dict(recipe)))
        check_no_link(self.path)
        sweep(self.path)
        if self.path.exists() and not self._is_begun_by(wanted, overwrite):
            check_ours(self.path)
            delete_folder(self.path)
        self.resumed = self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / MARKER, "".join(f"{line}\n" for line in (RECIPE, *sorted(UNFINISHED))))
        write_atomically(self.path / RECIPE, json.dumps(wanted, indent=2) + "\n")

    def _is_begun_by(self, wanted: dict[str, Any], overwrite: bool) -> bool:
        """Whether the folder was begun by this recipe; False if it may be emptied."""
        try:
            begun = read_json(self.path / RECIPE)
        except (OSError, ValueError):
            begun = None
        if begun == wanted:
            return True
        if overwrite or (begun is None and {path.name for path in self.path.iterdir()} <= {MARKER}):
            return False
        raise ValueError(f"{self.path}: {_difference(begun, wanted)}; use the arguments it was begun with, another "
                         f"--out, or --overwrite to start again")  # fmt: skip

    def parts(self, split: str) -> Iterator[Part]:
        """The parts of a split that are there, from the first to the one before the first gap or damaged one."""
        number = 0
        while (file := self._file(split, number)).exists():
            try:
                part = Part(**read_npz(file, Part.SCHEMA))
            except ValueError as error:
                logger.warning("%s; it and those after it are computed again", error)
                return
            yield part
            number += 1

    def add(self, split: str, number: int, part: Part) -> None:
        """Write one part atomically."""
        write_npz(self._file(split, number), vars(part), compressed=False)

    def finish(self, draft: Path) -> None:
        """Give the finished data set its name, and take down the workplace."""
        put_in_place(draft, self.folder)
        delete_folder(self.path)

    def _file(self, split: str, number: int) -> Path:
        return self.path / "parts" / f"{split}-{number:06d}.npz"


def _difference(begun: Any, wanted: dict[str, Any]) -> str:
    """The first difference between two recipes, in words."""
    if not isinstance(begun, dict):
        return "expected a build to continue, got a folder without a readable recipe"
    for name in sorted({*begun, *wanted}):
        if begun.get(name) != wanted.get(name):
            return f"expected {name} {begun.get(name)!r}, as the build there was begun, got {wanted.get(name)!r}"
    return "expected another recipe"


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
            ValueError: if there are fewer different puzzles.
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
