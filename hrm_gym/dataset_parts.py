"""The unfinished state of a data set: parts on disk, each whole or not there, so that a build can be taken up again."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.dataset_folder import put_in_place
from hrm_gym.envs.puzzle import PuzzleBatch
from hrm_gym.recorder import written_whole

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
        if self.path.exists() and not self._is_begun_by(wanted, overwrite):
            shutil.rmtree(self.path)
        self.resumed = self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        with written_whole(self.path / RECIPE) as draft:
            draft.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")

    def _is_begun_by(self, wanted: dict[str, Any], overwrite: bool) -> bool:
        """Whether the folder was begun by this recipe; False if it may be emptied."""
        try:
            begun = json.loads((self.path / RECIPE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            begun = None
        if begun == wanted:
            return True
        if overwrite or (begun is None and not any(self.path.iterdir())):
            return False
        raise ValueError(f"{self.path}: {_difference(begun, wanted)}; use the arguments it was begun with, another "
                         f"--out, or --overwrite to begin anew")  # fmt: skip

    def parts(self, split: str) -> Iterator[Part]:
        """The parts of a split that are there, from the first to the one before the first gap."""
        number = 0
        while (file := self._file(split, number)).exists():
            with np.load(file) as stored:
                yield Part(**{name: stored[name] for name in stored.files})
            number += 1

    def add(self, split: str, number: int, part: Part) -> None:
        """Write one part, whole or not at all."""
        with written_whole(self._file(split, number)) as draft:
            np.savez(draft, **vars(part))

    def finish(self, draft: Path) -> None:
        """Give the finished data set its name, and take down the workplace."""
        put_in_place(draft, self.folder)
        shutil.rmtree(self.path)

    def _file(self, split: str, number: int) -> Path:
        return self.path / "parts" / f"{split}-{number:06d}.npz"


def _difference(begun: Any, wanted: dict[str, Any]) -> str:
    """The first difference between two recipes, in words."""
    if not isinstance(begun, dict):
        return "expected a build to go on with, got a folder without a readable recipe"
    for name in sorted({*begun, *wanted}):
        if begun.get(name) != wanted.get(name):
            return f"expected {name} {begun.get(name)!r}, as the build there was begun, got {wanted.get(name)!r}"
    return "expected another recipe"
