"""Data sets on disk: the official layout, read back with nothing but json and numpy."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from hrm_gym.data.folder import NpyStream, check_place, put_in_place, write_dataset, write_manifest
from hrm_gym.data.stream import stream_keys
from hrm_gym.envs.files import NpyPuzzles
from hrm_gym.envs.maze.rules import MAZE
from hrm_gym.envs.maze.source import GeneratedMazes
from hrm_gym.envs.puzzle import PuzzleBatch
from hrm_gym.files import replace_folder


def batch(first: int, count: int) -> PuzzleBatch:
    found = GeneratedMazes(5).batch(stream_keys(0, first, count))
    return PuzzleBatch(found.clues, found.solutions, np.arange(first, first + count, dtype=np.int32) % 3)


def write(folder: Path, split: str = "train") -> PuzzleBatch:
    parts = [(batch(0, 4), np.array([1, 3])), (batch(4, 2), np.array([2])), (batch(6, 1), np.array([1]))]
    record = write_dataset(folder, split, iter(parts), 6)
    assert (record.puzzles, record.groups) == (7, 4)
    write_manifest(folder, {"family": "maze"}, {split: record})
    return batch(0, 7)


def test_the_layout_is_the_official_one(tmp_path: Path) -> None:
    whole = write(tmp_path / "set")
    split = tmp_path / "set" / "train"
    found = {field.stem: np.load(field) for field in split.glob("*.npy")}
    assert {name: (array.dtype.str, array.shape) for name, array in found.items()} == {
        "all__inputs": ("|u1", (7, 25)),
        "all__labels": ("|u1", (7, 25)),
        "all__puzzle_identifiers": ("<i4", (7,)),
        "all__puzzle_indices": ("<i4", (8,)),
        "all__group_indices": ("<i4", (5,)),
    }
    assert np.array_equal(found["all__inputs"], whole.clues.reshape(7, 25))
    assert np.array_equal(found["all__labels"], whole.solutions.reshape(7, 25))
    assert found["all__puzzle_indices"].tolist() == list(range(8))
    assert found["all__group_indices"].tolist() == [0, 1, 4, 6, 7]
    assert found["all__puzzle_identifiers"].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert json.loads((split / "dataset.json").read_text()) == {
        "pad_id": 0, "ignore_label_id": 0, "blank_identifier_id": 0, "vocab_size": 6, "seq_len": 25,
        "num_puzzle_identifiers": 3, "total_groups": 4, "mean_puzzle_examples": 1.0, "total_puzzles": 7,
        "sets": ["all"],
    }  # fmt: skip
    assert json.loads((tmp_path / "set" / "identifiers.json").read_text()) == ["<blank>", "1", "2"]


def test_our_own_reader_reads_it(tmp_path: Path) -> None:
    whole = write(tmp_path / "set")
    found = NpyPuzzles(tmp_path / "set", MAZE)
    read = found.batch(np.arange(7, dtype=np.uint64))
    assert np.array_equal(read.clues, whole.clues)
    assert np.array_equal(read.solutions, whole.solutions)
    assert np.array_equal(read.puzzle_ids, whole.puzzle_ids)
    assert found.group_indices.tolist() == [0, 1, 4, 6, 7]


def test_the_manifest_hashes_the_data_of_the_arrays(tmp_path: Path) -> None:
    write(tmp_path / "set")
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    assert manifest["format_version"] == 1
    assert manifest["family"] == "maze"
    for name, digest in manifest["splits"]["train"]["sha256"].items():
        assert hashlib.sha256(np.load(tmp_path / "set" / "train" / name).tobytes()).hexdigest() == digest


@pytest.mark.parametrize("rows", [0, 9, 10, 1000])
def test_a_stream_of_any_length_is_an_npy_file(tmp_path: Path, rows: int) -> None:
    stream = NpyStream(tmp_path / "x.npy", "<i4", (2,))
    values = np.arange(2 * rows).reshape(rows, 2)
    for row in values:
        stream.append(row[None])
    stream.close()
    assert np.array_equal(np.load(tmp_path / "x.npy"), values)


def test_no_puzzles_are_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected at least one puzzle for the split 'test', got none"):
        write_dataset(tmp_path, "test", iter(()), 6)


def test_only_data_sets_are_replaced_and_only_if_that_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    check_place(folder, overwrite=False)
    write(folder)
    with pytest.raises(FileExistsError, match=r"got a finished data set \(--overwrite replaces it\)"):
        check_place(folder, overwrite=False)
    with pytest.raises(FileExistsError, match=r"got one that holds identifiers\.json"):  # without a marker
        check_place(folder, overwrite=True)
    replace_folder(folder, tmp_path / "other")
    replace_folder(tmp_path / "other", folder)
    check_place(folder, overwrite=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").touch()
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match="got one that holds something else"):
            check_place(tmp_path / "home", overwrite)
    write(tmp_path / "draft", "test")
    put_in_place(tmp_path / "draft", folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "set"]
    assert not (folder / "train").exists()
