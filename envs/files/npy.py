"""Puzzles in folders of npy arrays, the layout that the official HRM and TRM code trains on; read and checked.

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

from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.puzzle import Puzzle, PuzzleBatch
from hrm_gym.reading import NpyRows, open_npy, read_object

INDICES = ("puzzle_identifiers", "puzzle_indices", "group_indices")
_BLOCK_CELLS = 1 << 24


_Count = Annotated[int, Meta(ge=1, lt=2**31)]
# Of a set: begins the names of files in the same folder.
_Name = Annotated[str, Meta(pattern=r"\A[^/\\\x00]+\Z", max_length=100)]


@dataclass(frozen=True)
class Metadata:
    """What a `dataset.json` says, as far as it is needed here.

    Attributes:
        seq_len: cells of a grid.
        vocab_size: number of token ids.
        num_puzzle_identifiers: rows of the puzzle embedding.
        sets: names of the sets.
        ignore_label_id: the label that does not count, None if all do.
    """

    seq_len: _Count
    vocab_size: _Count
    num_puzzle_identifiers: _Count
    sets: Annotated[tuple[_Name, ...], Meta(min_length=1, max_length=100)]
    ignore_label_id: Annotated[int, Meta(ge=-(2**31), lt=2**31)] | None = None


@dataclass(frozen=True, eq=False)
class NpySet:
    """The arrays of one set.

    Attributes:
        inputs: (N, L) integers, N examples.
        labels: (N, L) integers.
        puzzle_identifiers: (P,) int32, P puzzles.
        puzzle_indices: (P + 1,) int64 into the examples.
        group_indices: (G + 1,) int64 into the puzzles.
        path: the folder and the beginning of the names of the files.
    """

    inputs: NDArray[Any] | NpyRows
    labels: NDArray[Any] | NpyRows
    puzzle_identifiers: NDArray[np.int32]
    puzzle_indices: NDArray[np.int64]
    group_indices: NDArray[np.int64]
    path: Path

    def puzzle_ids(self) -> NDArray[np.int32]:
        """(N,) int32, the identifier of the puzzle of every example."""
        return np.repeat(self.puzzle_identifiers, np.diff(self.puzzle_indices))

    def solutions(self, rows: NDArray[np.int64] | slice, metadata: Metadata) -> NDArray[np.uint8]:
        """(K, L) uint8 labels of some examples, 0 where they are ignored."""
        labels = self.labels[rows]
        if metadata.ignore_label_id is not None:
            labels = np.where(labels == metadata.ignore_label_id, 0, labels)
        return labels.astype(np.uint8)


def read_metadata(path: Path) -> Metadata:
    """The contents of a `dataset.json`; ValueError that names the file and the field if they are bad."""
    return read_object(path, Metadata)


def read_set(folder: Path, name: str, metadata: Metadata) -> NpySet:
    """Open a set and check everything but its tokens.

    Raises:
        ValueError: if a file is missing or bad; names it.
    """
    path = folder / name
    inputs, labels = (_open(_file(path, field), 2) for field in ("inputs", "labels"))
    identifiers, puzzles, groups = (np.asarray(_open(_file(path, field), 1)) for field in INDICES)
    for field, array in (("inputs", inputs), ("labels", labels)):
        if array.shape[1] != metadata.seq_len or len(array) != len(inputs) or not len(array):
            expected = f"({len(inputs) or 'at least 1'}, {metadata.seq_len})"
            raise ValueError(f"{_file(path, field)}: expected shape {expected}, got {array.shape}")
    _check_indices(_file(path, "puzzle_indices"), puzzles, len(identifiers), len(inputs), "examples")
    _check_indices(_file(path, "group_indices"), groups, None, len(identifiers), "puzzles")
    _check_range(_file(path, "puzzle_identifiers"), identifiers, metadata.num_puzzle_identifiers, None)
    starts = [np.array(found, dtype=np.int64) for found in (puzzles, groups)]
    return NpySet(inputs, labels, np.array(identifiers, dtype=np.int32), starts[0], starts[1], path)


def check_tokens(part: NpySet, metadata: Metadata) -> None:
    """Look at every token; a progress bar shows up if that takes more than a few seconds.

    Raises:
        ValueError: if one is out of range; names the file and the row.
    """
    from tqdm import tqdm

    rows = max(1, _BLOCK_CELLS // metadata.seq_len)
    blocks = range(0, len(part.inputs), rows)
    for first in tqdm(blocks, desc=str(part.path), unit="block", delay=3.0, disable=None, leave=False):
        for field, ignored in (("inputs", None), ("labels", metadata.ignore_label_id)):
            array = getattr(part, field)[first : first + rows]
            _check_range(_file(part.path, field), array, metadata.vocab_size, ignored, first)


def _file(path: Path, field: str) -> Path:
    return path.with_name(f"{path.name}__{field}.npy")


def _open(file: Path, dimensions: int) -> NDArray[Any] | NpyRows:
    """An array of integers."""
    array = open_npy(file)
    if array.ndim != dimensions or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"{file}: expected integers in {dimensions} dimension{'s' if dimensions > 1 else ''}, "
            f"got shape {array.shape}, dtype {array.dtype}"
        )
    return array


def _check_indices(file: Path, indices: NDArray[Any], count: int | None, end: int, items: str) -> None:
    """Raise ValueError unless `indices` go from 0 to `end` without a step back, for `count` things if given."""
    if len(indices) < 2 or (count is not None and len(indices) != count + 1):
        raise ValueError(f"{file}: expected {'2 or more' if count is None else count + 1} rows, got {len(indices)}")
    values = indices.astype(np.int64)
    if values[0] != 0 or values[-1] != end:
        raise ValueError(f"{file}: expected indices from 0 to {end}, the number of {items}, got {values[0]} to "
                         f"{values[-1]}")  # fmt: skip
    back = np.flatnonzero(np.diff(values) < 0)
    if len(back):
        row = int(back[0]) + 1
        raise ValueError(f"{file}: expected indices that never go back, got {values[row]} after {values[row - 1]} "
                         f"in row {row}")  # fmt: skip


def _check_range(file: Path, values: NDArray[Any], count: int, ignored: int | None, first: int = 0) -> None:
    """Raise ValueError unless all `values` are in 0..count - 1, or ignored; `first` is the number of the first row."""
    if values.min(initial=0) >= 0 and values.max(initial=0) < count:
        return
    bad = (values < 0) | (values >= count)
    if ignored is not None:
        bad &= values != ignored
    if bad.any():
        place = tuple(int(axis[0]) for axis in np.nonzero(bad))
        raise ValueError(f"{file}: expected numbers in 0..{count - 1}, got {values[place]} in row {first + place[0]}")


_CELLS = 10_000_000
"""Cells that are looked at in one go."""


def check_rules(puzzles: NpyPuzzles, family: PuzzleFamily) -> None:
    """Read every example as if it stood in a CSV file; a progress bar shows up if that takes more than a few seconds.

    Of an example with ignored labels only the clues are checked. ARC has no rules that could judge an example.

    Raises:
        ValueError: if an example is no puzzle, or not solved by its labels; names the folder and the row.
    """
    from tqdm import tqdm

    if not family.has_solver:
        return
    rows = max(1, _CELLS // puzzles.metadata.seq_len)
    blocks = range(0, len(puzzles), rows)
    for first in tqdm(blocks, desc=str(puzzles.folder), unit="block", delay=3.0, disable=None, leave=False):
        batch = puzzles.rows(np.arange(first, min(first + rows, len(puzzles))))
        try:
            family.read_rows(_texts(batch.clues, family), _texts(batch.solutions, family))
        except ValueError:
            _check_each(puzzles, family, batch, first)


def _check_each(puzzles: NpyPuzzles, family: PuzzleFamily, batch: PuzzleBatch, first: int) -> None:
    """The examples of a batch one by one; `first` is the row of the first."""
    questions, answers = _texts(batch.clues, family), _texts(batch.solutions, family)
    for at, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        try:
            if (batch.solutions[at] == 0).any():
                family.check(batch.clues[at])
            else:
                family.read_solved(question, answer)
        except ValueError as error:
            raise ValueError(f"{puzzles.folder}: row {first + at}: {error}") from None


def _texts(grids: NDArray[np.uint8], family: PuzzleFamily) -> list[str]:
    """(N, H, W) token grids as the lines of an official CSV file."""
    symbols = np.frombuffer(family.symbols.encode("latin-1"), dtype=np.uint8)
    return [symbols[grid].tobytes().decode("latin-1") for grid in grids]


DESCRIPTION = "dataset.json"


def is_npy_folder(folder: Path) -> bool:
    """Whether `folder` is one split, or holds at least one, in the npy layout."""
    return (folder / DESCRIPTION).is_file() or bool(splits_of(folder))


def splits_of(folder: Path) -> list[str]:
    """The names of the splits in a folder."""
    return sorted(found.parent.name for found in folder.glob(f"*/{DESCRIPTION}"))


class NpyPuzzles:
    """The examples of one split; large inputs and labels stay on disk.

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
        return Puzzle(batch.clues[0], batch.solutions[0], int(batch.puzzle_ids[0]), name, family=self._family.name)

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
