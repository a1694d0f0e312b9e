"""`hrm-gym record`: pages, films, records and Minari data sets of the same puzzles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fuzz.crash import killed_before

from hrm_gym.evaluation import minari_dataset
from hrm_gym.scripts.main import main


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in an empty folder, without a display, with its own place for Minari data sets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.delenv("HRM_GYM_DEBUG", raising=False)
    return tmp_path


def failure(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run a command that must fail, and return its one line."""
    assert main(["record", *argv]) == 2
    line = capsys.readouterr().err
    assert line.startswith("hrm-gym: error: ")
    assert line.count("\n") == 1
    return line


def test_a_page_a_film_and_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["record", "HRMMaze-v0:size=5", "--agent", "oracle", "random", "--episodes", "2", "--html", "a.html"]) == 0
    )
    assert "hrm-gym record HRMMaze-v0:size=5 --agent oracle random" in Path("a.html").read_text()
    argv = ["--agent", "oracle@move", "--episodes", "3", "--film", "b.gif", "--jsonl", "c.jsonl"]
    assert main(["record", "HRMMaze-v0:size=5", *argv]) == 0
    rows = [json.loads(line) for line in Path("c.jsonl").read_text().splitlines()]
    assert [row["index"] for row in rows] == [0, 1, 2]
    assert all(row["solved"] for row in rows)
    assert Path("b.gif").stat().st_size > 1000


def test_a_minari_data_set_reads_back_as_it_was_played(capsys: pytest.CaptureFixture[str]) -> None:
    minari = pytest.importorskip("minari", reason="the minari extra is not installed: pip install -e '.[minari]'")
    argv = ["HRMMaze-v0:size=6", "--agent", "oracle@move", "--episodes", "4", "--minari", "maze/oracle-v0"]
    assert main(["record", *argv, "--jsonl", "same.jsonl"]) == 0
    assert "4 episodes" in capsys.readouterr().out
    records = [json.loads(line) for line in Path("same.jsonl").read_text().splitlines()]
    found = minari.load_dataset("maze/oracle-v0")
    assert found.total_episodes == 4
    told = list(found.storage.get_episode_metadata(range(4)))
    for episode, record, about in zip(found.iterate_episodes(), records, told, strict=True):
        assert np.array_equal(episode.observations["puzzle"][0], record["puzzle"])
        assert np.array_equal(episode.observations["answer"][-1], record["frames"][-1]["answer"])
        assert episode.rewards.tolist() == [frame["reward"] for frame in record["frames"][1:]]
        assert len(episode.actions) == record["steps"] == len(episode.observations["puzzle"]) - 1
        assert bool(about["solved"]) is record["solved"]
    again = found.recover_environment()
    assert again.action_space == found.spec.action_space
    assert again.unwrapped.shape == (6, 6)
    assert "new Minari name" in failure(capsys, *argv)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that share what is compiled")
def test_a_minari_data_set_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed anywhere, the name stays free until the data set is whole, and others stay as they are."""
    minari = pytest.importorskip("minari", reason="the minari extra is not installed: pip install -e '.[minari]'")
    argv = ["record", "HRMMaze-v0:size=5", "--agent", "oracle", "--episodes", "2", "--minari"]
    nth, killed, found = 0, True, set()
    assert main([*argv, "maze/other-v0"]) == 0
    other = sorted(path.read_bytes() for path in (tmp_path / "minari").rglob("*") if path.is_file())
    while killed:
        nth += 1
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / f"{nth}"))
        assert main([*argv, "maze/other-v0"]) == 0
        killed = killed_before(nth, lambda: main([*argv, "maze/new-v0"]))
        listed = list(minari.list_local_datasets())
        found.add("maze/new-v0" in listed)
        assert main([*argv, "maze/new-v0"]) == (2 if "maze/new-v0" in listed else 0)
        made = minari.load_dataset("maze/new-v0")
        assert made.total_episodes == 2
        assert [bool(about["solved"]) for about in made.storage.get_episode_metadata(range(2))] == [True, True]
        assert minari.load_dataset("maze/other-v0").total_episodes == 2
        assert sorted(path.name for path in (tmp_path / f"{nth}" / "maze").iterdir()) == ["new-v0", "other-v0"]
    assert found == {False, True}
    assert nth > 4
    assert other == sorted(path.read_bytes() for path in (tmp_path / "minari").rglob("*") if path.is_file())


@pytest.mark.skipif(sys.platform != "linux", reason="limits of the size of files")
def test_a_minari_data_set_for_which_there_is_no_room_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """HDF5 ended the process by a segmentation fault."""
    pytest.importorskip("minari", reason="the minari extra is not installed: pip install -e '.[minari]'")
    start = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); from hrm_gym.scripts.main import main; "
        "sys.exit(main('record HRMMaze-v0:size=5 --agent oracle --episodes 3 --minari maze/x-v0'.split()))"
    )
    done = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True)
    assert (done.returncode, done.stderr.splitlines()[-1:]) == (2, ["hrm-gym: error: File too large"])
    assert [path.name for path in (tmp_path / "minari").rglob("*")] == ["maze"]


def test_the_room_of_a_minari_data_set_is_not_taken_too_small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    minari = pytest.importorskip("minari", reason="the minari extra is not installed: pip install -e '.[minari]'")
    asked = []
    monkeypatch.setattr(minari_dataset, "_expect_room", lambda path, size: asked.append(size))
    for number, env in enumerate(("HRMMaze-v0:size=5", "HRMSudokuMini-v0", "HRMARCMini-v0")):
        assert main(["record", env, "--agent", "random", "--episodes", "80", "--minari", f"maze/x-v{number}"]) == 0
        place = Path(minari.storage.get_dataset_path(f"maze/x-v{number}"))
        assert sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) < asked[-1]


def test_without_minari_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "minari", None)
    assert "pip install 'hrm-gym[minari]'" in failure(capsys, "--agent", "oracle", "--minari", "maze/x-v0")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--jsonl", "a.jsonl"], "one --agent for --minari and --jsonl, got hrm, ppo"),
        (["HRMHalting-v0", "--agent", "oracle", "--html", "a.html"], "an environment of puzzles, one of HRMSudoku-v0"),
        (["--agent", "oracle"], "nothing to write"),
        (["--agent", "oracle", "--html", "a.gif"], "end in .html"),
        (["--agent", "oracle", "--film", "a.html"], "end in .gif or .mp4"),
        (["--agent", "oracle", "random", "--jsonl", "a.jsonl"], "one --agent"),
        (["--agent", "oracle", "--html", "a.html", "--episodes", "0"], "at least 1, got 0"),
        (["--agent", "oracle@fly", "--html", "a.html"], "no fly mode here"),
        (["--agent", "nobody", "--html", "a.html"], "unknown agent"),
    ],
)
def test_bad_input_gets_one_line(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in failure(capsys, *argv)
    assert not list(Path().iterdir())


def test_a_bad_minari_name(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("minari", reason="the minari extra is not installed: pip install -e '.[minari]'")
    for name in ("no version", "m/hrm-v0"):  # Minari refused the second after the puzzles were played
        assert "such as maze/hrm-v0" in failure(capsys, "--agent", "oracle", "--minari", name)
    Path("minari/maze/half-v0/data").mkdir(parents=True)
    assert "a killed process left half" in failure(capsys, "--agent", "oracle", "--minari", "maze/half-v0")
    Path("minari/maze/link-v0").symlink_to("nowhere")
    assert "a killed process left half" in failure(capsys, "--agent", "oracle", "--minari", "maze/link-v0")
    said = failure(capsys, "--agent", "oracle", "--minari", "maze/half-v0/inner-v0")
    assert "lies in the data set maze/half-v0" in said


def test_what_a_killed_recording_left_goes_with_the_next(capsys: pytest.CaptureFixture[str]) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in ("a.jsonl", f".a.{dead.pid}.part.jsonl", f".b.{dead.pid}.part.jsonl"):
        Path(name).touch()
    assert main(["record", "HRMSudokuMini-v0", "--agent", "oracle", "--episodes", "1", "--jsonl", "a.jsonl"]) == 0
    assert sorted(path.name for path in Path().iterdir()) == [f".b.{dead.pid}.part.jsonl", "a.jsonl"]
