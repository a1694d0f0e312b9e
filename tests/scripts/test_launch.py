"""Many trainings by one command: finished ones are skipped, killed ones continue, through every launcher there is."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hrm_gym.agents import checkpoint
from hrm_gym.scripts import launch
from hrm_gym.scripts.main import main

LONG = 4000
TINY = [
    "--size", "4", "--batch-size", "2", "--no-compile", "--eval-puzzles", "2", "--eval-every", "1000", "--workers", "0",
    "--checkpoint-every", "5", "--model.hidden-size", "24", "--model.heads", "2", "--device", "cpu",
]  # fmt: skip
has = importlib.util.find_spec
LAUNCHERS = [
    pytest.param(["local"], id="local"),
    pytest.param(["ray"], marks=pytest.mark.skipif(not has("ray"), reason="no Ray here"), id="ray"),
    pytest.param(
        ["slurm", "--slurm", "cluster=local", "timeout_min=10"],
        marks=pytest.mark.skipif(not has("submitit"), reason="no submitit here"),
        id="slurm",
    ),
]


def command(out: Path, updates: int, *more: str, recipe: str = "maze") -> list[str]:
    return ["train", recipe, *TINY, "--updates", str(updates), "--out", str(out), *more]


def updates(run: Path) -> int:
    return int(checkpoint.read_config(run / "model")["update"])


def test_finished_trainings_are_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = command(tmp_path, 2, "--seeds", "2", "--seed", "3", "--jobs", "2", recipe="maze,maze-direct")
    assert main(asked) == 0
    said = capsys.readouterr().err
    runs = [tmp_path / name / f"seed-{seed}" for name in ("maze", "maze-direct") for seed in (3, 4)]
    assert said.count(": finished\n") == 4
    recipes = [checkpoint.read_config(run / "model")["recipe"] for run in runs]
    assert [recipe["seed"] for recipe in recipes] == [3, 4, 3, 4]
    assert [recipe["model"]["max_segments"] == 1 for recipe in recipes] == [False, False, True, True]
    assert main(asked) == 0
    assert capsys.readouterr().err.count("finished, skipped\n") == 4
    longer = command(tmp_path, 3, "--seeds", "1", "--seed", "3")
    assert main(longer) == 0
    assert (updates(runs[0]), updates(runs[1])) == (3, 2)
    assert "continuing" in runs[0].with_suffix(".log").read_text()


def test_one_that_fails_does_not_end_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "maze").mkdir()
    (tmp_path / "maze" / "seed-0").write_text("in the way")
    assert main(command(tmp_path, 1, "--seeds", "2")) == 1
    said = capsys.readouterr().err
    assert "maze/seed-0: failed, see" in said
    assert "1 of 2 trainings failed: the same command continues them" in said
    assert updates(tmp_path / "maze" / "seed-1") == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--seeds", "0"], "expected --seeds of at least 1, got 0"),
        (["--seeds", "2", "--jobs", "0"], "expected --jobs of at least 1, got 0"),
        (["--seeds", "2", "--launcher", "cron"], "--launcher"),
        (["--seeds", "2", "--lr", "fast"], "fast"),
    ],
)
def test_bad_input_is_one_line(more: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(tmp_path / "runs", 1, *more)) == 2
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1
    assert not (tmp_path / "runs").exists()


class SlowToStart:
    """Stands in for a process and its stdin: `b` is under way when the command is stopped, and ends by that alone."""

    starting, told = threading.Event(), threading.Event()
    stdin = property(lambda self: self)

    def __init__(self, command: list[str], **_: Any) -> None:
        self.slow = command[-1] == "b"
        if self.slow:
            self.starting.set()
            time.sleep(0.5)

    def wait(self) -> int:
        return int(self.slow and not self.told.wait(5))

    def close(self) -> None:
        if self.slow:
            self.told.set()


def test_a_training_that_is_just_starting_is_stopped_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was not told, and the command waited for its end."""
    monkeypatch.setattr(subprocess, "Popen", SlowToStart)
    ended: Any = launch._local([launch.Training((name,), tmp_path / name) for name in "ab"], 2)
    next(ended)
    SlowToStart.starting.wait(5)
    ended.close()
    assert SlowToStart.told.is_set()


@pytest.mark.skipif(os.name == "nt", reason="no pipes in folders")
def test_a_log_is_not_written_into_a_link_or_a_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "maze" / "seed-0.log"
    log.parent.mkdir()
    for make in (lambda: os.mkfifo(log), lambda: log.symlink_to(tmp_path / "precious")):
        make()
        assert main(command(tmp_path, 1, "--seeds", "1")) == 2
        assert str(log) in capsys.readouterr().err
        log.unlink()
    assert not (tmp_path / "precious").exists()


@pytest.mark.parametrize(("launcher", "package", "extra"), [("ray", "ray", "ray"), ("slurm", "submitit", "slurm")])
def test_a_missing_launcher_names_its_extra(
    launcher: str, package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, package, None)
    assert main(command(tmp_path, 1, "--seeds", "2", "--launcher", launcher)) == 2
    expected = f"this needs {package}, which is not installed: pip install 'hrm-gym[{extra}]'\n"
    assert capsys.readouterr().err == f"hrm-gym: error: {expected}"


def test_what_submitit_does_not_know_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("submitit")
    for given, said in (("nonsense=1", "submitit refuses cluster=local nonsense=1"), ("nonsense", "NAME=VALUE, got")):
        asked = command(tmp_path, 1, "--seeds", "2", "--launcher", "slurm", "--slurm", "cluster=local", given)
        assert main(asked) == 2
        line = capsys.readouterr().err
        assert said in line
        assert line.count("\n") == 1


@contextlib.contextmanager
def started(arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    ran = [sys.executable, "-m", "hrm_gym.scripts.main", *arguments]
    child = subprocess.Popen(ran, stderr=subprocess.PIPE, text=True)
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        assert child.stderr is not None
        child.stderr.close()


def writers(log: Path) -> list[int]:
    """Processes that hold a file open."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(link) == str(log):
                found.append(int(link.parts[2]))
    return sorted({number for number in found if number != os.getpid()})


def wait(until: Callable[[], Any], log: Path, seconds: float = 560) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, log.read_text() if log.exists() else "nothing was printed"
        time.sleep(0.1)


def wait_for_checkpoint(run: Path, child: subprocess.Popen[str]) -> None:
    wait(lambda: checkpoint.checkpoints(run) or child.poll() is not None, run.with_suffix(".log"))
    if child.poll() is not None:
        said = child.communicate()[1]
        if "Ray does not start: The current node timed out" in said:
            pytest.skip("too busy a machine: Ray gives its processes 30 s to start")
        pytest.fail(said)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="finds processes as Linux shows them")
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_killed_training_continues(launcher: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ray starts it again by itself; the others when the command is given again."""
    run = tmp_path / "maze" / "seed-0"
    log = run.with_suffix(".log")
    asked = ["--seeds", "1", "--launcher", *launcher]
    with started(command(tmp_path, LONG, *asked)) as child:
        wait_for_checkpoint(run, child)
        trained = set(writers(log)) - {child.pid}
        assert trained
        for number in trained:
            os.kill(number, signal.SIGKILL)
        if launcher[0] == "ray":
            wait(lambda: "continuing" in log.read_text(), log)
            assert not trained & set(writers(log))
        else:
            _, said = child.communicate(timeout=560)
            assert child.returncode == 1, said
            assert "1 of 1 trainings failed" in said
    wait(lambda: not writers(log), log)
    reached = int(checkpoint.read_config(checkpoint.checkpoints(run)[-1])["update"])
    assert main(command(tmp_path, reached + 1, *asked)) == 0
    assert "continuing" in log.read_text()
    assert updates(run) == reached + 1
    capsys.readouterr()
    assert main(command(tmp_path, reached + 1, *asked)) == 0
    assert capsys.readouterr().err == f"{run}: finished, skipped\n"


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_signal_ends_all_after_a_checkpoint(tmp_path: Path) -> None:
    with started(command(tmp_path, LONG, "--seeds", "2", "--jobs", "2")) as child:
        for seed in (0, 1):
            wait_for_checkpoint(tmp_path / "maze" / f"seed-{seed}", child)
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=560)
        assert child.returncode == 128 + signal.SIGTERM
    for seed in (0, 1):
        log = (tmp_path / "maze" / f"seed-{seed}.log").read_text()
        assert "the same command continues from there" in log
        assert not writers(tmp_path / "maze" / f"seed-{seed}.log")


def same_weights(one: Path, other: Path) -> bool:
    return (one / "model" / "model.safetensors").read_bytes() == (other / "model" / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="finds processes as Linux shows them")
@pytest.mark.parametrize("asked_before", [False, True], ids=["killed", "stopped, then killed"])
def test_trainings_end_with_a_checkpoint_when_their_launcher_is_killed(asked_before: bool, tmp_path: Path) -> None:
    """They went on, and the same command said that their folders were in use."""
    runs = [tmp_path / "maze" / f"seed-{seed}" for seed in (0, 1)]
    with started(command(tmp_path, LONG, "--seeds", "2", "--jobs", "2")) as child:
        for run in runs:
            wait_for_checkpoint(run, child)
        if asked_before:
            child.terminate()
            wait(lambda: "stopping" in runs[0].with_suffix(".log").read_text(), runs[0].with_suffix(".log"))
        child.kill()
    for run in runs:
        log = run.with_suffix(".log")
        wait(lambda log=log: not writers(log), log)
        said = log.read_text()
        assert said.count("stopping after this update") == 1
        assert "the same command continues from there" in said
    reached = max(int(checkpoint.read_config(checkpoint.checkpoints(run)[-1])["update"]) for run in runs)
    assert reached < LONG
    for out in (tmp_path, tmp_path / "undisturbed"):
        assert main(command(out, reached + 1, "--seeds", "2", "--jobs", "2")) == 0
    for run in runs:
        assert "continuing" in run.with_suffix(".log").read_text()
        assert updates(run) == reached + 1
        assert same_weights(run, tmp_path / "undisturbed" / "maze" / run.name)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_process_ends_with_its_standard_input() -> None:
    start = "import time; from hrm_gym import _program; _program.end_with_standard_input(); print('up', flush=True)"
    streams: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", f"{start}; time.sleep(60)"], **streams) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == b"up\n"
        child.stdin.write(b"words are no end\n")
        child.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.3)
        child.stdin.close()
        assert child.wait(30) == -signal.SIGTERM


def test_a_recipe_without_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    for names in (",maze", "maze,", ""):
        assert main(["train", names, "--seeds", "2"]) == 2
        assert "unknown recipe ''" in capsys.readouterr().err


def test_a_recipe_that_is_named_twice(capsys: pytest.CaptureFixture[str]) -> None:
    """Two trainings of one folder would be in each other's way."""
    assert main(["train", "maze,sudoku-4x4,maze", "--seeds", "2"]) == 2
    assert "expected every recipe once, got maze twice" in capsys.readouterr().err
