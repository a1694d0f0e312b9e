"""`hrm-gym data`: build, convert, info, fetch; what they refuse, and that interrupted builds lose nothing."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrm_gym.data.build import Workplace
from hrm_gym.envs.files import NpyPuzzles
from hrm_gym.envs.maze import tokens
from hrm_gym.envs.maze.rules import MAZE
from hrm_gym.envs.maze.source import GeneratedMazes, split_of
from hrm_gym.files import held
from hrm_gym.scripts.main import main

BUILD = ["data", "build", "maze", "--size", "6", "--train", "2500", "--test", "40"]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the manifest, which has a date."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set that was built without interruption."""
    folder = tmp_path_factory.mktemp("data") / "whole"
    assert main([*BUILD, "--out", str(folder)]) == 0
    return folder


def test_a_data_set_is_built_and_says_how(whole: Path) -> None:
    train, test = (NpyPuzzles(whole, MAZE, split) for split in ("train", "test"))
    assert (len(train), len(test)) == (2500, 40)
    assert {split_of(puzzle.clues) for puzzle in (test[i] for i in range(40))} == {"test"}
    manifest = json.loads((whole / "manifest.json").read_text())
    assert manifest["command"].startswith("hrm-gym data build maze --size 6")
    assert manifest["arguments"]["size"] == 6
    assert manifest["grid"] == [6, 6]
    assert manifest["splits"]["train"]["puzzles"] == 2500
    assert not whole.with_name("whole.partial").exists()


def test_two_processes_make_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    assert main([*BUILD, "--out", str(tmp_path / "two"), "--processes", "2"]) == 0
    assert contents(tmp_path / "two") == contents(whole)


def test_an_interrupted_build_goes_on(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add = Workplace.add

    def interrupted(self: Workplace, split: str, number: int, part: Any) -> None:
        if number == 1:
            raise KeyboardInterrupt
        add(self, split, number, part)

    command = [*BUILD, "--out", str(tmp_path / "set")]
    with monkeypatch.context() as patch:
        patch.setattr(Workplace, "add", interrupted)
        assert main(command) == 130
    said = capsys.readouterr().err
    assert said == f"interrupted: the same command continues from {tmp_path / 'set.partial'}\n"
    assert not (tmp_path / "set").exists()
    assert main([*command, "--seed", "1"]) == 2
    assert "expected seed 0, as the build there was begun, got 1" in capsys.readouterr().err
    assert main(command) == 0
    assert "continuing" in capsys.readouterr().err
    assert contents(tmp_path / "set") == contents(whole)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_killed_build_goes_on(tmp_path: Path) -> None:
    options = ["data", "build", "maze", "--size", "6", "--train", "12000", "--test", "10"]
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    process = subprocess.Popen([sys.executable, "-m", "hrm_gym.scripts.main", *options, "--out", str(killed)])
    first = tmp_path / "killed.partial" / "parts" / "train-000000.npz"
    deadline = time.monotonic() + 60
    while not first.exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not killed.exists()
    assert main([*options, "--out", str(killed)]) == 0
    assert main([*options, "--out", str(straight)]) == 0
    assert contents(killed) == contents(straight)


def test_a_failure_while_it_is_put_together_loses_nothing(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [*BUILD, "--out", str(tmp_path / "set")]
    with monkeypatch.context() as patch:
        patch.setattr("hrm_gym.data.build.put_in_place", lambda draft, folder: (_ for _ in ()).throw(OSError("full")))
        assert main(command) == 2
    assert not (tmp_path / "set").exists()
    assert main(command) == 0
    assert contents(tmp_path / "set") == contents(whole)


def test_a_finished_data_set_is_only_replaced_by_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["data", "build", "maze", "--size", "5", "--train", "4", "--test", "0", "--out", str(tmp_path / "set")]
    assert main(command) == 0
    assert not (tmp_path / "set" / "test").exists()
    assert main(command) == 2
    assert "--overwrite replaces it" in capsys.readouterr().err
    assert main([*command, "--seed", "2", "--overwrite"]) == 0
    assert json.loads((tmp_path / "set" / "manifest.json").read_text())["seed"] == 2
    notes = tmp_path / "set" / "train" / "notes.txt"
    notes.write_text("mine")
    assert main([*command, "--overwrite"]) == 2
    assert "got one that holds train/notes.txt" in capsys.readouterr().err
    assert notes.read_text() == "mine"
    notes.unlink()
    begun = tmp_path / "set.partial"
    (begun / "letters").mkdir(parents=True)
    (begun / "recipe.json").write_text("{}")
    (begun / "letters" / "a").touch()
    assert main([*command, "--overwrite"]) == 2
    assert "got one that holds recipe.json" in capsys.readouterr().err


def test_images_stand_in_the_group_of_their_puzzle(tmp_path: Path) -> None:
    assert (
        main(["data", "build", "maze", "--train", "6", "--test", "3", "--aug", "7", "--out", str(tmp_path / "s")]) == 0
    )
    train, test = (NpyPuzzles(tmp_path / "s", MAZE, split) for split in ("train", "test"))
    assert train.group_indices.tolist() == list(range(0, 49, 8))
    assert len(test) == 3


def write_csv(path: Path, count: int, split: str = "train") -> None:
    batch = GeneratedMazes(6, split).batch(np.arange(count, dtype=np.uint64))
    rows = [f"own,{tokens.decode(c)},{tokens.decode(s)},{i}\n" for i, (c, s) in
            enumerate(zip(batch.clues, batch.solutions, strict=True))]  # fmt: skip
    path.parent.mkdir(exist_ok=True)
    path.write_text("source,question,answer,rating\n" + "".join(rows))


def test_files_are_converted(tmp_path: Path) -> None:
    for split, count in (("train", 30), ("test", 12)):
        write_csv(tmp_path / "csv" / f"{split}.csv", count, split)
    options = ["--subsample", "10", "--min-rating", "5", "--aug", "2"]
    command = ["data", "build", "maze", "--from", str(tmp_path / "csv"), *options]
    assert main([*command, "--out", str(tmp_path / "set")]) == 0
    train, test = (NpyPuzzles(tmp_path / "set", MAZE, split) for split in ("train", "test"))
    assert (len(train), len(train.group_indices) - 1, len(test)) == (30, 10, 7)
    stored = GeneratedMazes(6).batch(np.arange(5, 30, dtype=np.uint64)).clues
    originals = train.rows(train.group_indices[:-1]).clues
    assert {clues.tobytes() for clues in originals} <= {clues.tobytes() for clues in stored}
    files = [str(tmp_path / "csv" / f"{split}.csv") for split in ("train", "test")]
    command = ["data", "build", "maze", "--from", files[0], "--test-from", files[1], *options]
    assert main([*command, "--out", str(tmp_path / "same")]) == 0
    assert contents(tmp_path / "same") == contents(tmp_path / "set")


def test_info_says_what_there_is(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(tmp_path / "train.csv", 5)
    assert main(["data", "info", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "train.csv: CSV, maze 6x6, 5 puzzles, all valid" in said
    assert "ratings: 5, from 0 to 4, mean 2.00" in said
    assert main(["data", "info", str(whole)]) == 0
    said = capsys.readouterr().out
    assert "2,500 examples of 2,500 puzzles in 2,500 groups, 1 identifiers, all valid" in said
    assert "made by: hrm-gym data build maze" in said
    task = {"train": [{"input": [[1, 2]], "output": [[2, 1]]}], "test": [{"input": [[3]], "output": [[4]]}]}
    (tmp_path / "task.json").write_text(json.dumps(task))
    assert main(["data", "info", str(tmp_path / "task.json")]) == 0
    assert "1 tasks, 1 demonstrations, 1 test grids with outputs, sides 1 to 2" in capsys.readouterr().out


def test_a_small_sudoku_is_not_taken_for_a_maze(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, options = tmp_path / "set", ["--box", "2", "2", "--train", "20", "--test", "4", "--aug", "2"]
    assert main(["data", "build", "sudoku", *options, "--out", str(folder)]) == 0
    for path in (folder, folder / "train"):
        capsys.readouterr()
        assert main(["data", "info", str(path)]) == 0
        assert "sudoku 4x4, 60 examples of 60 puzzles in 20 groups, 1 identifiers, all valid" in capsys.readouterr().out
    (folder / "manifest.json").unlink()
    assert main(["data", "info", str(folder), "--family", "sudoku"]) == 0
    assert main(["data", "info", str(folder)]) == 2


def test_info_names_the_row_that_breaks_the_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "set"
    assert main(["data", "build", "maze", "--train", "6", "--test", "0", "--out", str(folder)]) == 0
    file = folder / "train" / "all__inputs.npy"
    inputs = np.load(file)
    inputs[4][inputs[4] == tokens.START] = tokens.GOAL
    np.save(file, inputs)
    capsys.readouterr()
    assert main(["data", "info", str(folder)]) == 2
    said = capsys.readouterr().err
    assert f"{folder / 'train'}: row 4: expected an answer that keeps the maze, got 'S' for 'G' at row" in said


def test_fetch_copies_from_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "test"):
        write_csv(tmp_path / f"{split}.csv", 2)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda name, file, **how: str(tmp_path / file))
    command = ["data", "fetch", "sapientinc/maze-30x30-hard-1k@main", "--split", "train", "test"]
    assert main([*command, "--out", str(tmp_path / "data")]) == 0
    assert sorted(path.name for path in (tmp_path / "data" / "maze-30x30-hard-1k").iterdir()) == [
        "test.csv",
        "train.csv",
    ]
    assert "train.csv" in capsys.readouterr().out
    build = ["data", "build", "maze", "--from", "sapientinc/maze-30x30-hard-1k", "--out", str(tmp_path / "set")]
    monkeypatch.chdir(tmp_path)
    assert main(build) == 0
    assert len(NpyPuzzles(tmp_path / "set", MAZE, "test")) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "needs a command: expected one of build, info, fetch"),
        (["burn"], "unknown command of hrm-gym data"),
        (["build"], "no kind given: expected one of maze, maze-hard, sudoku"),
        (["build", "chess", "--out", "x"], "unknown kind 'chess'"),
        (["build", "maze"], "--out"),
        (["build", "maze", "--out", "x", "--train", "0"], "expected --train of at least 1, got 0"),
        (["build", "maze", "--out", "x", "--size", "1"], "expected size in 2..255, got 1"),
        (["build", "maze", "--out", "x", "--subsample", "3"], "expected --subsample only with --from, got 3"),
        (["build", "maze", "--out", "x", "--from", "a.csv", "--train", "3"], "expected --train without --from"),
        (
            ["build", "maze", "--out", "x", "--from", "a.csv"],
            "a.csv: expected a CSV file of puzzles, found no such file",
        ),
        (["build", "maze", "--out", "."], "got one that holds something else"),
        (["build", "maze", "--out", "full.txt/x"], "full.txt"),
        (["info", "nowhere"], "nowhere: expected a file or folder of puzzles, found neither"),
        (["info", "full.txt"], "full.txt:1: expected the columns"),
        (["fetch", "nothing", "--out", "x"], "expected a data set's name such as owner/name"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("full.txt").write_text("full\n")
    assert main(["data", *arguments]) == 2
    found = capsys.readouterr().err
    assert said in found
    assert found.startswith("hrm-gym: error: ")
    assert found.count("\n") == 1
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["full.txt"]


@pytest.mark.parametrize("arguments", [["--help"], ["build", "--help"]])
def test_help_has_examples(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", *arguments]) == 0
    assert "hrm-gym data build maze --out data/maze-10" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [
        ["data", "info", "mazes.csv"],
        ["data", "build", "maze", "--from", "mazes.csv", "--out", "built"],
        ["solve", "HRMMaze-v0", "--source", "mazes.csv", "--agent", "stored", "--no-render"],
    ],
)
@pytest.mark.parametrize("answer", ["S       G", "So      G", "S  oooooG"])  # no path, half a one, one with more cells
def test_a_wrong_answer_of_a_maze_is_named_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str], answer: str
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"a,S       G,{cells},\n" for cells in ("Soo  o  G", answer))
    Path("mazes.csv").write_text(f"source,question,answer,rating\n{rows}")
    assert main(command) == 2
    assert "mazes.csv:3: expected an answer that solves its maze" in capsys.readouterr().err


def test_a_wrong_answer_of_a_maze_in_an_npy_folder_is_named_with_its_row(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(whole, tmp_path / "data")
    labels = np.load(folder / "test" / "all__labels.npy")
    labels[3] = np.load(folder / "test" / "all__inputs.npy")[3]
    np.save(folder / "test" / "all__labels.npy", labels)
    for command in (["data", "info", str(folder)], ["solve", "HRMMaze-v0", "--source", str(folder), "--no-render"]):
        assert main(command) == 2
        assert "row 3: expected an answer that solves its maze" in capsys.readouterr().err


def test_two_builds_of_one_data_set_do_not_mix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one deleted what the other was about to put in place."""
    build = ["data", "build", "maze", "--size", "6", "--train", "4", "--test", "2", "--out", str(tmp_path / "mazes")]

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Workplace, "finish", stopped)
        assert main(build) == 130
    with held(tmp_path / "mazes.partial"):
        assert main(build) == 2
    assert "in use by another process" in capsys.readouterr().err
    assert main(build) == 0
