"""Puzzles in folders of npy arrays, the layout that the official HRM and TRM code trains on.

    folder/identifiers.json                    names of the puzzle embeddings' rows
    folder/{train,test}/dataset.json           seq_len, vocab_size, ignore_label_id, sets, …
    folder/{train,test}/all__inputs.npy        (N, seq_len) token ids, one example a row
    folder/{train,test}/all__labels.npy        (N, seq_len) token ids, or the ignored id
    folder/{train,test}/all__puzzle_identifiers.npy   (P,) the embedding's row of every puzzle
    folder/{train,test}/all__puzzle_indices.npy       (P + 1,) puzzle p is the examples [p] to [p + 1] - 1
    folder/{train,test}/all__group_indices.npy        (G + 1,) group g is the puzzles [g] to [g + 1] - 1

`all` is the usual name of the only set; `dataset.json` lists the names.
"""

from __future__ import annotations

from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.files.npy_rules import check_rules
from hrm_gym.envs.files.npy_set import Metadata, check_tokens, read_metadata, read_set
from hrm_gym.envs.puzzle import Puzzle, PuzzleBatch, PuzzleFamily

DESCRIPTION = "dataset.json"


def is_npy_folder(folder: Path) -> bool:
    """Whether `folder` is one split, or holds at least one, in the npy layout."""
    return (folder / DESCRIPTION).is_file() or bool(splits_of(folder))


def splits_of(folder: Path) -> list[str]:
    """The names of the splits in a folder."""
    return sorted(found.parent.name for found in folder.glob(f"*/{DESCRIPTION}"))


class NpyPuzzles:
    """The examples of one split; inputs and labels stay on disk and are mapped into memory.

    A key gives row `key % len`, an index gives that row. An ignored label shows as token 0 of the solution.

    Attributes:
        folder: the split's folder.
        metadata: what its `dataset.json` says.
        shape: (H, W), H = W.
        sets: names of the sets, whose rows follow one another.
        puzzle_ids: (N,) int32, the row of the puzzle embedding of every example.
        puzzle_indices: (P + 1,) int64; puzzle p is the examples `puzzle_indices[p]` to `puzzle_indices[p + 1] - 1`.
        group_indices: (G + 1,) int64; group g (a puzzle and its augmentations) is the puzzles `group_indices[g]` to
            `group_indices[g + 1] - 1`.
    """

    def __init__(self, folder: str | Path, family: PuzzleFamily, split: str = "train", check: bool = True) -> None:
        """Open and check a split.

        Args:
            folder: the whole data set's folder, or the split's.
            family: whose puzzles they are.
            split: which one of the data set; says nothing if `folder` is a split.
            check: whether all examples are looked at, by their tokens and by the rules; headers and indices are in any
                case.

        Raises:
            ValueError: if the split or one of its files is missing, or bad; the message names the file, and the row.
        """
        self.folder, self._family = _split_folder(Path(folder), split), family
        self.metadata = read_metadata(self.folder / DESCRIPTION)
        side = _side(self.folder, self.metadata, family)
        self.shape = (side, side)
        self._sets = [read_set(self.folder, name, self.metadata) for name in self.metadata.sets]
        self.sets = self.metadata.sets
        if check:
            for part in self._sets:
                check_tokens(part, self.metadata)
        self._starts = _offsets([len(part.inputs) for part in self._sets])
        self.puzzle_ids = np.concatenate([part.puzzle_ids() for part in self._sets])
        self.puzzle_indices = _chained([part.puzzle_indices for part in self._sets])
        self.group_indices = _chained([part.group_indices for part in self._sets])
        if check:
            check_rules(self, family)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the name of the folder, not its puzzles."""
        return NpyPuzzles, (self.folder, self._family, "", False)

    def __len__(self) -> int:
        """Number of examples."""
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Puzzle:
        """Example `index`; IndexError past the end."""
        if not 0 <= index < len(self):
            raise IndexError(f"expected a puzzle index in 0..{len(self) - 1} of {self.folder}, got {index}")
        batch = self.rows(np.array([index], dtype=np.int64))
        name = f"{self.folder.parent.name}/{self.folder.name}:{index}"
        return Puzzle(batch.clues[0], batch.solutions[0], int(batch.puzzle_ids[0]), name)

    def puzzle(self, key: int) -> Puzzle:
        """The example of one 64-bit key."""
        return self[key % len(self)]

    def batch(self, keys: NDArray[np.uint64]) -> PuzzleBatch:
        """The examples of N uint64 keys."""
        return self.rows((keys % np.uint64(len(self))).astype(np.int64))

    def rows(self, indices: NDArray[np.int64]) -> PuzzleBatch:
        """The examples with (N,) int64 indices."""
        clues = np.empty((len(indices), self.metadata.seq_len), dtype=np.uint8)
        solutions = np.empty_like(clues)
        owner = np.searchsorted(self._starts, indices, side="right") - 1
        for number, part in enumerate(self._sets):
            here = owner == number
            local = indices[here] - self._starts[number]
            clues[here], solutions[here] = part.inputs[local], part.solutions(local, self.metadata)
        grids = (len(indices), *self.shape)
        return PuzzleBatch(clues.reshape(grids), solutions.reshape(grids), self.puzzle_ids[indices])


def _split_folder(folder: Path, split: str) -> Path:
    """The folder of the split."""
    if (folder / DESCRIPTION).is_file():
        return folder
    found = splits_of(folder)
    if split not in found:
        raise ValueError(f"{folder}: expected split to be {' or '.join(map(repr, found)) or 'there'}, got {split!r}")
    return folder / split


def _side(folder: Path, metadata: Metadata, family: PuzzleFamily) -> int:
    """Side length of the grids; ValueError unless they are square and of this family."""
    side = isqrt(metadata.seq_len)
    if side * side != metadata.seq_len:
        raise ValueError(
            f"{folder / DESCRIPTION}: expected a square number of cells as seq_len, got {metadata.seq_len}"
        )
    if metadata.vocab_size != family.vocab_size:
        raise ValueError(
            f"{folder / DESCRIPTION}: expected vocab_size {family.vocab_size}, as {family.name} has it, "
            f"got {metadata.vocab_size}"
        )
    return side


def _offsets(lengths: list[int]) -> NDArray[np.int64]:
    """0 and the running sums of lengths."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _chained(indices: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The indices of sets as one, when their items follow one another."""
    starts = _offsets([int(part[-1]) for part in indices])
    return np.concatenate([[0], *(part[1:] + start for part, start in zip(indices, starts, strict=False))])
