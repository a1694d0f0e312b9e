"""One set of arrays in a folder of the npy layout, opened and checked; see `npy_folder.py` for the layout."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

INDICES = ("puzzle_identifiers", "puzzle_indices", "group_indices")
_BLOCK_CELLS = 1 << 24


@dataclass(frozen=True)
class Metadata:
    """What a `dataset.json` says, as far as it is needed here.

    Attributes:
        seq_len: cells of a grid.
        vocab_size: number of token ids.
        ignore_label_id: the label that does not count, None if all do.
        num_puzzle_identifiers: rows of the puzzle embedding.
        sets: names of the sets.
    """

    seq_len: int
    vocab_size: int
    ignore_label_id: int | None
    num_puzzle_identifiers: int
    sets: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class NpySet:
    """The arrays of one set.

    Attributes:
        inputs: (N, L) integers on disk, N examples.
        labels: (N, L) integers on disk.
        puzzle_identifiers: (P,) int32, P puzzles.
        puzzle_indices: (P + 1,) int64 into the examples.
        group_indices: (G + 1,) int64 into the puzzles.
        path: the folder and the beginning of the names of the files.
    """

    inputs: NDArray[Any]
    labels: NDArray[Any]
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
    """The contents of a `dataset.json`; ValueError that names the file if they are bad."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: expected a JSON file, got {error}") from None
    if not isinstance(stored, dict):
        raise ValueError(f"{path}: expected a JSON object, got {str(stored)[:40]!r}")
    sets = stored.get("sets")
    if not isinstance(sets, list) or not sets or not all(isinstance(name, str) and _is_plain(name) for name in sets):
        raise ValueError(f"{path}: expected the names of one or more sets as sets, got {str(sets)[:80]!r}")
    ignored = stored.get("ignore_label_id")
    return Metadata(
        seq_len=_number(path, stored, "seq_len", 1),
        vocab_size=_number(path, stored, "vocab_size", 1),
        ignore_label_id=None if ignored is None else _number(path, stored, "ignore_label_id", -(2**31)),
        num_puzzle_identifiers=_number(path, stored, "num_puzzle_identifiers", 1),
        sets=tuple(sets),
    )


def _is_plain(name: str) -> bool:
    """Whether `name` can begin the name of a file in the same folder."""
    return bool(name) and not set(name) & set("/\\\0")


def _number(path: Path, stored: dict[str, Any], key: str, least: int) -> int:
    value = stored.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**31:
        raise ValueError(f"{path}: expected an integer of at least {least} as {key}, got {str(value)[:40]!r}")
    return value


def read_set(folder: Path, name: str, metadata: Metadata) -> NpySet:
    """Open a set and check everything but its tokens.

    Raises:
        ValueError: if a file is missing or bad; names it.
    """
    path = folder / name
    inputs, labels = (_open(_file(path, field), 2) for field in ("inputs", "labels"))
    identifiers, puzzles, groups = (_open(_file(path, field), 1) for field in INDICES)
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


def _open(file: Path, dimensions: int) -> NDArray[Any]:
    """An array of integers, mapped into memory."""
    if not file.is_file():
        raise ValueError(f"{file}: expected a file with an array, found no such file")
    try:
        array: NDArray[Any] = np.lib.format.open_memmap(file, mode="r")
    except OSError:
        raise
    except Exception as error:  # numpy hands on whatever the parser of a damaged header raises
        raise ValueError(
            f"{file}: expected an array in the npy format, got a file that is none ({type(error).__name__})"
        ) from None
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
