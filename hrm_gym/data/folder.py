"""Data sets written in the layout of the official HRM and TRM code (see `hrm_gym.envs.files.npy` for reading).

Besides the official files a folder has `manifest.json`: how it was made, how much there is, and what it hashes to.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hrm_gym
from hrm_gym.envs.puzzle import PuzzleBatch
from hrm_gym.files import check_ours, replace_folder, sweep, write_atomically

FORMAT_VERSION = 1
MANIFEST = "manifest.json"

Groups = tuple[PuzzleBatch, NDArray[np.int64]]
"""Puzzles, and the (G,) sizes of the groups that follow one another in them: a puzzle and its symmetric images."""


@dataclass(frozen=True)
class SplitRecord:
    """What was written of one split.

    Attributes:
        puzzles: number of puzzles, images included; each is one example.
        groups: number of groups.
        sha256: of the data of every array, little-endian in C order, by the name of its file.
    """

    puzzles: int
    groups: int
    sha256: dict[str, str]


class NpyStream:
    """An npy file of unknown length that is written piece by piece."""

    def __init__(self, path: Path, dtype: str, row: tuple[int, ...] = ()) -> None:
        """Open `path` for rows of shape `row` and a little-endian dtype such as `<i4`."""
        self.name, self.rows = path.name, 0
        self._dtype, self._row = np.dtype(dtype), row
        self._file = path.open("w+b")
        self._digest = hashlib.sha256()
        self._write_header()
        self._start = self._file.tell()

    def append(self, values: NDArray[Any]) -> None:
        """Write (N, *row) values."""
        data = np.ascontiguousarray(values, dtype=self._dtype).tobytes()
        self._file.write(data)
        self._digest.update(data)
        self.rows += len(values)

    def close(self) -> str:
        """Complete the file; returns the sha256 of its data."""
        with self._file as file:
            file.seek(0)
            self._write_header()  # numpy leaves room for a longer length, so the header stays as long as it was
            assert file.tell() == self._start
        return self._digest.hexdigest()

    def _write_header(self) -> None:
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (self.rows, *self._row)}
        np.lib.format.write_array_header_1_0(self._file, header)


def write_dataset(folder: Path, split: str, batches: Iterable[Groups], vocab_size: int) -> SplitRecord:
    """Write one split of a data set, and the data set's `identifiers.json`.

    Args:
        folder: the data set's folder; made if it is missing.
        split: "train" or "test".
        batches: the puzzles in order, all of one shape, at least one.
        vocab_size: number of token ids, padding included.

    Raises:
        ValueError: if there is no puzzle.
        OSError: if something cannot be written.
    """
    here = folder / split
    here.mkdir(parents=True, exist_ok=True)
    streams: dict[str, NpyStream] = {}
    cells, last_id = 0, 0
    for batch, sizes in batches:
        if not streams:
            cells = batch.clues[0].size
            streams = _open_streams(here, cells)
        _append(streams, batch, sizes)
        last_id = max(last_id, int(batch.puzzle_ids.max(initial=0)))
    if not streams:
        raise ValueError(f"expected at least one puzzle for the split {split!r}, got none")
    hashes = {stream.name: stream.close() for stream in streams.values()}
    record = SplitRecord(streams["inputs"].rows, streams["group_indices"].rows - 1, hashes)
    _write_json(here / "dataset.json", _description(record, cells, vocab_size, last_id + 1))
    _write_json(folder / "identifiers.json", ["<blank>", *map(str, range(1, last_id + 1))])
    return record


def _open_streams(folder: Path, cells: int) -> dict[str, NpyStream]:
    """The files of the set `all`, the indices with their leading 0."""
    streams = {field: NpyStream(folder / f"all__{field}.npy", "|u1", (cells,)) for field in ("inputs", "labels")}
    for field in ("puzzle_identifiers", "puzzle_indices", "group_indices"):
        streams[field] = NpyStream(folder / f"all__{field}.npy", "<i4")
    for field in ("puzzle_indices", "group_indices"):
        streams[field].append(np.zeros(1, dtype=np.int64))
    return streams


def _append(streams: dict[str, NpyStream], batch: PuzzleBatch, sizes: NDArray[np.int64]) -> None:
    first, count = streams["inputs"].rows, len(batch)
    streams["inputs"].append(batch.clues.reshape(count, -1))
    streams["labels"].append(batch.solutions.reshape(count, -1))
    streams["puzzle_identifiers"].append(batch.puzzle_ids)
    streams["puzzle_indices"].append(first + np.arange(1, count + 1))
    streams["group_indices"].append(first + np.cumsum(sizes))


def _description(record: SplitRecord, cells: int, vocab_size: int, identifiers: int) -> dict[str, Any]:
    """The official `dataset.json`; TRM's reader asks for `total_puzzles` too, HRM's passes over it."""
    return {
        "pad_id": 0,
        "ignore_label_id": 0,
        "blank_identifier_id": 0,
        "vocab_size": vocab_size,
        "seq_len": cells,
        "num_puzzle_identifiers": identifiers,
        "total_groups": record.groups,
        "mean_puzzle_examples": 1.0,
        "total_puzzles": record.puzzles,
        "sets": ["all"],
    }


def write_manifest(folder: Path, about: Mapping[str, Any], splits: Mapping[str, SplitRecord]) -> None:
    """Write `manifest.json`: versions and date, what `about` says (it fits JSON), and the records of the splits."""
    stamp = {"format_version": FORMAT_VERSION, "hrm_gym": hrm_gym.__version__}
    records = {split: asdict(record) for split, record in splits.items()}
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    _write_json(folder / MANIFEST, {**stamp, **about, "splits": records, "date": date})


def _write_json(path: Path, value: Any) -> None:
    write_atomically(path, json.dumps(value, indent=2) + "\n")


def check_place(folder: Path, overwrite: bool) -> None:
    """Find out before the work whether a data set may be put at `folder`.

    Raises:
        FileExistsError: if something is there, unless it is a data set that this program wrote and `overwrite` is said.
        OSError: if nothing can be written there.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    sweep(folder.parent, folder.name)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / MANIFEST).is_file():
        raise FileExistsError(f"{folder}: expected a new folder for a data set, got one that holds something else")
    if not overwrite:
        raise FileExistsError(f"{folder}: expected a new folder, got a finished data set (--overwrite replaces it)")
    check_ours(folder)


def put_in_place(draft: Path, folder: Path) -> None:
    """Give the finished `draft` the name `folder`; a data set of that name goes, but not before its successor is there.

    Raises:
        OSError: if it cannot be moved.
    """
    check_place(folder, overwrite=True)
    replace_folder(draft, folder)
