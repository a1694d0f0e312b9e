"""Which row of the puzzle embedding belongs to a task, unchanged and under each symmetry that has its own row.

Our own weights number rows as the environments number tasks, and image k is the same symmetry for all tasks. Official
weights come with a list of names, a row each (`identifiers.json`), and every task has its own symmetries.
"""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hrm_gym.agents.hrm.feed import embedded_variant_key
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.reading import read_json

IDENTIFIERS = "identifiers.json"
"""The official list of the names of all rows."""

MOST_NAMES = 64 * 2**20
"""Bytes of that list; a thousand images of a thousand tasks take 40 million."""

_IMAGE = re.compile(r"(.+?)(?:_|\|\|\|)t([0-7])(?:_|\|\|\|)(0[0-9]{9})")
"""The name of an image: that of the task, its turn, and the colours that take the place of colours 0 to 9.

HRM's data put `_` between them, TRM's `|||`.
"""

Keys = tuple[int | None, ...]
"""Symmetries of the images of a puzzle, without the first, which is the puzzle itself; None is no symmetry."""


class TaskRows(NamedTuple):
    """How a network's puzzle embedding is laid out.

    Attributes:
        variants: symmetric images of a task with a row to themselves, behind the row of the task itself.
        seed: of the run, which drew their symmetries.
        known: whether the rows are numbered as our environments number tasks; those of official weights are not.
    """

    variants: int = 0
    seed: int = 0
    known: bool = True

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> TaskRows:
        """The layout that the recipe in a checkpoint's JSON tells; without one a task has a single row.

        Raises:
            ValueError: it tells none.
        """
        if about.get("official"):
            return cls(known=False)  # without their names
        recipe = about.get("recipe") or {}
        if not recipe.get("embed_variants"):
            return cls()
        numbers: list[Any] = [recipe.get(name) for name in ("variants", "seed")]
        if not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
            said = reprlib.repr(numbers)
            raise ValueError(f"expected variants and seed of the weights' recipe as whole numbers, got {said}")
        return cls(*numbers)

    def keys(self, count: int) -> tuple[int, ...]:
        """The keys of the symmetries of images 1 … count, as they were in training.

        Raises:
            ValueError: fewer have their own row.
        """
        if count > self.variants:
            raise ValueError(
                f"expected at most {self.variants + 1} images, those with their own puzzle embedding, got {count + 1}"
            )
        keys = (embedded_variant_key(self.seed, image) for image in range(1, count + 1))
        return tuple(key for key in keys if key is not None)

    def numbered(self, tasks: Sequence[str]) -> TaskRows:
        """The same layout: tasks have numbers, not names."""
        return self

    def keys_of(self, family: PuzzleFamily, task: int, count: int) -> None:
        """None: a task has no separate symmetries."""

    def rows(self, tasks: NDArray[np.int64], images: NDArray[np.int64], count: int) -> NDArray[np.int32]:
        """(B,) rows of tasks (B,) under images (B,); row 0, that of no task in particular, for tasks without one.

        Args:
            tasks: ids of tasks, counted from 1; 0 for an unknown one.
            images: 0 for the unchanged task, else the number of the image; those past `variants` are the same again.
            count: rows of the embedding.
        """
        rows = tasks * (self.variants + 1) + images % (self.variants + 1)
        return np.where(self.known & (tasks > 0) & (rows < count), rows, 0).astype(np.int32)


@runtime_checkable
class NamesSymmetries(Protocol):
    """A family (ARC's) in which a key can be had for a turn and a permutation of the colours."""

    def symmetry_key(self, turn: int, colours: Sequence[int]) -> int:
        """The key of this very symmetry."""
        ...


@dataclass(frozen=True)
class NamedRows:
    """The layout of official weights whose names are known; the methods are those of `TaskRows`.

    Attributes:
        path: the list of names.
        images: name of a task -> its rows, that of the unchanged task first.
        tasks: the names of an environment's tasks: task k is `tasks[k - 1]`. Empty: none is known.
    """

    path: Path
    images: Mapping[str, list[NamedImage]] = field(compare=False, repr=False)
    tasks: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path, count: int) -> NamedRows:
        """The rows that a file names.

        Args:
            path: a JSON list of names.
            count: rows of the puzzle embedding.

        Raises:
            ValueError: the file is no such list, or does not name `count` rows.
        """
        names = _read_names(path)
        if len(names) != count:
            raise ValueError(
                f"{path}: expected {count} names, one for each row of the puzzle embedding, got {len(names)}"
            )
        return cls(Path(os.path.realpath(path)), images_by_task(names))

    def numbered(self, tasks: Sequence[str]) -> NamedRows:
        """The same rows, for tasks numbered as in `tasks`."""
        return replace(self, tasks=tuple(tasks))

    def keys_of(self, family: PuzzleFamily, task: int, count: int) -> Keys | None:
        """The keys of images 1 … count of a task, those with rows again and again; None for a task without a row."""
        images = self._images(task)
        if not images:
            return None
        assert isinstance(family, NamesSymmetries), family.name
        keys = [family.symmetry_key(image.turn, image.colours) if image.colours else None for image in images]
        return tuple(keys[i % len(keys)] for i in range(1, count + 1))

    def rows(self, tasks: NDArray[np.int64], images: NDArray[np.int64], count: int) -> NDArray[np.int32]:
        """(B,) rows of tasks (B,) under images (B,); row 0 for tasks without one."""
        found = np.zeros(len(tasks), np.int32)
        for place, (task, image) in enumerate(zip(tasks.tolist(), images.tolist(), strict=True)):
            if known := self._images(task):
                found[place] = known[image % len(known)].row
        return found

    def _images(self, task: int) -> list[NamedImage]:
        """The task itself, then its images, of task number `task`."""
        known = 0 < task <= len(self.tasks)
        return self.images.get(self.tasks[task - 1], []) if known else []


class NamedImage(NamedTuple):
    """A row of the puzzle embedding that has a name.

    Attributes:
        row: its number.
        turn: of the task's grids, 0 to 7, as the official augmentation numbers them.
        colours: that take the place of colours 0 to 9; none for the unchanged task.
    """

    row: int
    turn: int = 0
    colours: tuple[int, ...] = ()


def images_by_task(names: Sequence[str]) -> dict[str, list[NamedImage]]:
    """The images of every task that an official list names, the task itself first."""
    images: dict[str, list[NamedImage]] = {}
    for row, name in enumerate(names):
        if named := _IMAGE.fullmatch(name):
            images.setdefault(named[1], []).append(NamedImage(row, int(named[2]), tuple(map(int, named[3]))))
        elif row:  # row 0 is that of no task
            images.setdefault(name, []).insert(0, NamedImage(row))
    return images


def _read_names(path: Path) -> list[str]:
    """The names of all rows, in order; ValueError if the file is no JSON list of names."""
    names = read_json(path, MOST_NAMES)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: expected a JSON list of names, got {type(names).__name__}")
    return names
