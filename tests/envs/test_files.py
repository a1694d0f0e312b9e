"""Puzzles in files: official CSV files, npy folders, data sets of the hub."""

from __future__ import annotations

import json
import math
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hrm_gym
from hrm_gym import reading
from hrm_gym.envs.files import NpyPuzzles, PuzzleFile, csv_file, open_puzzles
from hrm_gym.envs.files.csv_file import encode_rows, symbol_table
from hrm_gym.envs.maze import tokens
from hrm_gym.envs.maze.rules import MAZE, MazeFamily
from hrm_gym.envs.maze.source import GeneratedMazes
from hrm_gym.envs.puzzle import PuzzleBatch, PuzzleSource, puzzle_keys

hrm_gym.register_environments()
HEADER = "source,question,answer,rating\n"
KEYS = puzzle_keys(np.zeros(1, dtype=np.uint64), np.arange(40, dtype=np.uint64))


def row(question: str, answer: str, rating: str = "") -> str:
    return f"own,{question},{answer},{rating}\n"


def mazes(count: int, size: int = 4) -> PuzzleBatch:
    return GeneratedMazes(size).batch(KEYS[:count])


def csv_text(batch: PuzzleBatch) -> str:
    texts = [(tokens.decode(batch.clues[i]), tokens.decode(batch.solutions[i])) for i in range(len(batch))]
    return HEADER + "".join(row(*pair, str(i)) for i, pair in enumerate(texts))


def write(folder: Path, text: str | bytes, name: str = "train.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# ---- CSV ----


def test_a_file_gives_its_rows_by_index_and_by_key(tmp_path: Path) -> None:
    batch = mazes(20)
    file = open_puzzles(write(tmp_path, csv_text(batch)), MAZE)
    assert isinstance(file, PuzzleFile)
    assert isinstance(file, PuzzleSource)
    assert len(file) == 20
    assert file.shape == (4, 4)
    assert np.array_equal(file.clues, batch.clues)
    assert np.array_equal(file.solutions, batch.solutions)
    assert (file[3].name, file[3].rating) == ("train.csv:5", 3.0)
    assert np.array_equal(file.puzzle(27).clues, batch.clues[7])
    assert np.array_equal(file.batch(np.array([3, 27], dtype=np.uint64)).solutions, batch.solutions[[3, 7]])
    with pytest.raises(IndexError, match=r"expected a puzzle index in 0\.\.19 of train.csv, got 20"):
        file[20]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: text.replace("\n", "\n\n").encode("utf-8-sig"),
        lambda text: text.rstrip("\n"),
        lambda text: text.replace("own,", '"own, or ""not""",'),
        lambda text: text.replace("source,", "source,").replace("own", "öwn"),
    ],
)
def test_other_ways_to_write_the_same_file(tmp_path: Path, change: Callable[[str], str | bytes]) -> None:
    batch = mazes(5)
    file = PuzzleFile(write(tmp_path, change(csv_text(batch))), MAZE)
    assert np.array_equal(file.clues, batch.clues)
    assert file.ratings.tolist() == [0, 1, 2, 3, 4]


def test_columns_may_stand_in_any_order_and_lines_are_those_of_the_text(tmp_path: Path) -> None:
    text = 'rating,answer,note,question,source\n,So G,"two\nlines",S  G,own\n7,So G,,S  G,own\n'
    file = PuzzleFile(write(tmp_path, text), MAZE)
    assert [file[i].name for i in range(2)] == ["train.csv:3", "train.csv:4"]
    assert file[0].rating is None
    assert math.isnan(file.ratings[0])
    assert file[1].rating == 7.0


def test_chunks_join_to_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "_CHUNK_CHARACTERS", 50)
    batch = mazes(40)
    file = PuzzleFile(write(tmp_path, csv_text(batch)), MAZE)
    assert np.array_equal(file.clues, batch.clues)
    assert [file[i].name for i in (0, 39)] == ["train.csv:2", "train.csv:41"]
    lines = csv_text(batch).splitlines()
    lines[20:] = ['"own"' + line[3:] for line in lines[20:]]
    assert np.array_equal(PuzzleFile(write(tmp_path, "\n".join(lines)), MAZE).clues, batch.clues)
    lines[35] = lines[35].replace("G", "g")
    with pytest.raises(ValueError, match=r"train.csv:36: expected only the characters"):
        PuzzleFile(write(tmp_path, "\n".join(lines)), MAZE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"train.csv:1: expected the columns .* got an empty file"),
        ("a,b\n", r"train.csv:1: expected the columns .* got 'a,b'"),
        (HEADER, "train.csv: expected at least one puzzle"),
        (HEADER + "own,S  G\n", "train.csv:2: expected 4 fields, got 2"),
        (HEADER + row("S  G", "So G") + row("S  G", "SoG"), "train.csv:3: expected 4 characters in answer"),
        (HEADER + row("S  G", "So G") + row("S       G", "Soo  o  G"), "train.csv:3: expected 4 characters in quest"),
        (HEADER + row("S  G", "So G") * 9 + row("S  X", "So G"), "train.csv:11: expected only the characters"),
        (HEADER + row("S  G", "So G", "hard"), "train.csv:2: expected a number as rating, got 'hard'"),
        (HEADER + row("S  G", "So G", "nan"), "train.csv:2: expected a number as rating, got 'nan'"),
        (HEADER + row("S  G", "So Ğ"), "train.csv:2: expected only the characters"),
        (HEADER.encode() + b"\xff\xfe,,,\n", "train.csv: expected a text file in UTF-8"),
        (HEADER + f'own,"{" " * 140_000}",,\n', "train.csv:2: expected a CSV row, got field larger"),
        (HEADER + 'own,"S  G,So G,', "train.csv:2: expected 4 fields, got 2"),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PuzzleFile(write(tmp_path, text), MAZE)


DAMAGE = (b"", b'"', b",", b"\n", b"\r", b"S", b" ", b"\0", b"\xc3")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_read_the_same_or_refused_by_name(tmp_path: Path, data: st.DataObject) -> None:
    whole = csv_text(mazes(6, 3)).encode()
    text = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 40))
        text[place : place + cut] = data.draw(st.sampled_from(DAMAGE) | st.binary(max_size=6))
    try:
        file = open_puzzles(write(tmp_path, bytes(text)), MAZE)
    except ValueError as error:
        assert str(error).startswith("train.csv")  # noqa: PT017
        return
    stored = {(tokens.decode(c), tokens.decode(s)) for c, s in zip(file.clues, file.solutions, strict=True)}
    for clues, solution in stored:
        found = MAZE.read_row(clues, solution)
        assert (tokens.decode(found[0]), tokens.decode(found[1])) == (clues, solution)


class SlowMazes(MazeFamily):
    """Mazes without a way to read many rows at once."""

    def read_rows(self, questions: Any, answers: Any) -> Any:
        return super(MazeFamily, self).read_rows(questions, answers)


def test_reading_at_once_equals_reading_row_by_row(tmp_path: Path) -> None:
    text = csv_text(mazes(12))
    fast, slow = (PuzzleFile(write(tmp_path, text), family) for family in (MAZE, SlowMazes()))
    assert np.array_equal(fast.clues, slow.clues)
    assert np.array_equal(fast.solutions, slow.solutions)


def test_encoding_many_rows() -> None:
    table = symbol_table({".": 1, "0": 1, "1": 2})
    assert encode_rows(["01", "1."], table).tolist() == [[1, 2], [2, 1]]
    for bad in (["01", "1"], ["2"], ["ğ"]):
        with pytest.raises(ValueError):  # noqa: PT011
            encode_rows(bad, table)


def test_paths_with_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent.csv: expected a CSV file of puzzles, found no such file"):
        open_puzzles(tmp_path / "absent.csv", MAZE)
    with pytest.raises(ValueError, match=r"expected a folder of puzzles with train.csv, train/dataset.json or dataset"):
        open_puzzles(tmp_path, MAZE)
    with pytest.raises(ValueError, match="got a folder"):
        PuzzleFile(tmp_path, MAZE)


def test_a_folder_of_csv_files(tmp_path: Path) -> None:
    write(tmp_path, csv_text(mazes(3)), "test.csv")
    assert open_puzzles(tmp_path, MAZE, "test").puzzle(0).name == "test.csv:2"


# ---- npy ----


def write_npy(folder: Path, batch: PuzzleBatch, name: str = "all", **changes: Any) -> Path:
    """Two puzzles of one example, then puzzles of two; groups of two puzzles: by hand, as the official code has it."""
    count = len(batch)
    arrays: dict[str, Any] = {
        "inputs": batch.clues.reshape(count, -1),
        "labels": batch.solutions.reshape(count, -1),
        "puzzle_identifiers": np.arange(1, count // 2 + 2, dtype=np.int32),
        "puzzle_indices": np.array([0, 1, *range(2, count + 1, 2)], dtype=np.int32),
        "group_indices": np.array([0, 2, count // 2 + 1], dtype=np.int32),
    }
    about: dict[str, Any] = {
        "pad_id": 0, "ignore_label_id": 0, "blank_identifier_id": 0, "vocab_size": 6, "seq_len": batch.clues[0].size,
        "num_puzzle_identifiers": count, "total_groups": 2, "mean_puzzle_examples": 1.6, "sets": [name],
    }  # fmt: skip
    about.update(changes.pop("about", {}))
    arrays.update(changes)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(about))
    for field, array in arrays.items():
        np.save(folder / f"{name}__{field}.npy", array)
    return folder


def test_an_npy_folder_gives_its_examples(tmp_path: Path) -> None:
    batch = mazes(8)
    labels = batch.solutions.reshape(8, -1).astype(np.int16)
    labels[0, :3] = -100
    write_npy(tmp_path / "train", batch, labels=labels, about={"ignore_label_id": -100})
    found = open_puzzles(tmp_path, MAZE, "train")
    assert isinstance(found, NpyPuzzles)
    assert isinstance(found, PuzzleSource)
    assert len(found) == 8
    assert found.shape == (4, 4)
    assert found.puzzle_ids.tolist() == [1, 2, 3, 3, 4, 4, 5, 5]
    assert found.group_indices.tolist() == [0, 2, 5]
    assert np.array_equal(found[5].clues, batch.clues[5])
    assert found[5].puzzle_id == 4
    assert found[5].name == f"{tmp_path.name}/train:5"
    assert found[0].solution.ravel()[:3].tolist() == [0, 0, 0]
    assert np.array_equal(found.puzzle(13).solution, batch.solutions[5])
    got = found.batch(np.array([7, 9], dtype=np.uint64))
    assert np.array_equal(got.clues, batch.clues[[7, 1]])
    assert (got.puzzle_ids.tolist(), got.clues.dtype) == ([5, 2], np.uint8)
    with pytest.raises(IndexError, match="expected a puzzle index"):
        found[8]


@pytest.mark.parametrize("most", [0, 2**28])
def test_a_file_that_is_cut_short_while_it_is_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """A mapped file ended the process with a bus error. Large files are read row by row, small ones at once."""
    monkeypatch.setattr(reading, "MOST_READ", most)
    batch = mazes(40)
    write_npy(tmp_path / "train", batch)
    found = NpyPuzzles(tmp_path, MAZE)
    some = np.array([39, 3, 4, 5, 3, 0], dtype=np.int64)
    assert np.array_equal(found.rows(some).clues, batch.clues[some])
    os.truncate(tmp_path / "train" / "all__inputs.npy", 500)
    if most:
        assert np.array_equal(found.rows(some).clues, batch.clues[some])
    else:
        with pytest.raises(ValueError, match="expected 40 rows, got a file that was cut short"):
            found.rows(some)
    with pytest.raises(ValueError, match="expected an array in the npy format"):
        NpyPuzzles(tmp_path, MAZE)


def test_sets_follow_one_another_and_a_split_can_be_named_itself(tmp_path: Path) -> None:
    batch = mazes(14)
    folder = write_npy(tmp_path / "train", PuzzleBatch(batch.clues[:8], batch.solutions[:8], batch.puzzle_ids[:8]), "a")
    rest = PuzzleBatch(batch.clues[8:], batch.solutions[8:], batch.puzzle_ids[8:])
    write_npy(folder, rest, "b", about={"sets": ["a", "b"], "num_puzzle_identifiers": 9})
    found = NpyPuzzles(folder, MAZE)
    assert found.sets == ("a", "b")
    assert np.array_equal(found.batch(np.arange(14, dtype=np.uint64)).clues, batch.clues)
    assert found.puzzle_indices.tolist() == [0, 1, 2, 4, 6, 8, 9, 10, 12, 14]
    assert found.group_indices.tolist() == [0, 2, 5, 7, 9]
    again = pickle.loads(pickle.dumps(found))
    assert len(pickle.dumps(found)) < 500
    assert np.array_equal(again[11].clues, batch.clues[11])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"about": {"seq_len": 15}}, r"dataset.json: expected a square number of cells as seq_len, got 15"),
        ({"about": {"seq_len": 25}}, r"all__inputs.npy: expected shape \(8, 25\), got \(8, 16\)"),
        ({"about": {"vocab_size": 11}}, "dataset.json: expected vocab_size 6, as maze has it, got 11"),
        ({"about": {"sets": ["all", "other"]}}, "other__inputs.npy: expected a file with an array, found no such file"),
        ({"about": {"sets": ["../all"]}}, r"dataset.json: sets\[0\]: expected str matching"),
        ({"about": {"ignore_label_id": "0"}}, r"dataset.json: ignore_label_id: expected int \| null, got str"),
        ({"labels": np.ones((7, 16), np.uint8)}, r"all__labels.npy: expected shape \(8, 16\), got \(7, 16\)"),
        ({"inputs": np.ones((8, 16), np.float32)}, "all__inputs.npy: expected integers in 2 dimensions, .* float32"),
        ({"inputs": np.ones(8, np.uint8)}, "all__inputs.npy: expected integers in 2 dimensions"),
        ({"inputs": np.full((8, 16), 6)}, r"all__inputs.npy: expected numbers in 0\.\.5, got 6 in row 0"),
        (
            {"labels": np.eye(8, 16, -5, dtype=int) * -1},
            r"all__labels.npy: expected .* got -1 in row 5",
        ),
        ({"inputs": np.array([{}])}, "all__inputs.npy: expected an array in the npy format"),
        ({"puzzle_indices": np.array([0, 1, 2, 4, 6, 9])}, "all__puzzle_indices.npy: expected indices from 0 to 8"),
        ({"puzzle_indices": np.array([0, 1, 6, 4, 6, 8])}, "puzzle_indices.npy: expected .* got 4 after 6 in row 3"),
        ({"puzzle_indices": np.array([0, 8])}, "all__puzzle_indices.npy: expected 6 rows, got 2"),
        ({"group_indices": np.array([0])}, "all__group_indices.npy: expected 2 or more rows, got 1"),
        (
            {"group_indices": np.array([0, 4])},
            "all__group_indices.npy: expected indices from 0 to 5, ",
        ),
        ({"puzzle_identifiers": np.arange(5) + 4}, r"all__puzzle_identifiers.npy: expected .* got 8 in row 4"),
    ],
)
def test_bad_npy_folders_are_named_with_file_and_row(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_npy(tmp_path / "train", mazes(8), **changes)
    with pytest.raises(ValueError, match=message):
        NpyPuzzles(tmp_path, MAZE)


@pytest.mark.parametrize("field", ["inputs", "labels"])
def test_an_example_that_breaks_the_rules_is_named(tmp_path: Path, field: str) -> None:
    folder = write_npy(tmp_path / "train", mazes(8))
    array = np.load(folder / f"all__{field}.npy")
    array[5] = np.where(array[5] == tokens.GOAL, tokens.START, array[5])
    np.save(folder / f"all__{field}.npy", array)
    with pytest.raises(ValueError, match=r"train: row 5: expected"):
        NpyPuzzles(tmp_path, MAZE)
    assert len(NpyPuzzles(tmp_path, MAZE, check=False)) == 8


@pytest.mark.parametrize("source", ["9" * 5000, "9/" * 3000, "a\0b.csv"])
@pytest.mark.parametrize("env_id", ["HRMSudoku-v0", "HRMMaze-v0", "HRMARC-v0"])
def test_names_that_no_file_can_have(env_id: str, source: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match="expected") as raised:
        gym.make(env_id, source=source)
    assert type(raised.value) in (ValueError, FileNotFoundError)


@pytest.mark.parametrize("text", ["", "[]", '{"sets": []}', "{", '{"sets": ["all"], "seq_len": true}', "\udcff"])
def test_bad_descriptions(tmp_path: Path, text: str) -> None:
    folder = write_npy(tmp_path / "train", mazes(8))
    (folder / "dataset.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=r"dataset.json: .*expected"):
        NpyPuzzles(tmp_path, MAZE)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_array_is_refused_by_name(tmp_path: Path, data: st.DataObject) -> None:
    folder = write_npy(tmp_path / "train", mazes(8))
    file = data.draw(st.sampled_from(sorted(folder.glob("*.npy"))))
    stored = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(stored)))
    stored[place : place + data.draw(st.integers(0, 60))] = data.draw(st.binary(max_size=20))
    file.write_bytes(bytes(stored))
    try:
        found = NpyPuzzles(tmp_path, MAZE)
    except ValueError as error:
        assert str(folder) in str(error)  # noqa: PT017
    else:
        assert found[0].clues.shape == (4, 4)


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    write_npy(tmp_path / "train", mazes(8))
    with pytest.raises(ValueError, match="expected split to be 'train', got 'test'"):
        NpyPuzzles(tmp_path, MAZE, "test")


# ---- hub ----


def test_a_name_is_fetched_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    path = write(tmp_path, csv_text(mazes(3)), "test.csv")

    def download(*place: str, **how: Any) -> str:
        asked.append((place, how))
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert len(open_puzzles("sapientinc/maze-30x30-hard-1k@v1.0", MAZE, "test")) == 3
    assert len(open_puzzles(Path("sapientinc/maze"), MAZE, "test")) == 3
    assert asked == [
        (("sapientinc/maze-30x30-hard-1k", "test.csv"), {"repo_type": "dataset", "revision": "v1.0"}),
        (("sapientinc/maze", "test.csv"), {"repo_type": "dataset", "revision": None}),
    ]


@pytest.mark.parametrize(
    "error", [OSError("Name or service not known. Try again."), RuntimeError(), ValueError("x\ny")]
)
def test_without_a_network_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def download(*place: str, **how: Any) -> str:
        raise error

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with pytest.raises(OSError, match=r"nobody/nothing: found no such file .* train.csv .* give the path") as caught:
        open_puzzles("nobody/nothing", MAZE)
    assert "\n" not in str(caught.value)
