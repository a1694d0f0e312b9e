"""The program itself: signals, streams, names that nearly fit, completion; and trainings that are stopped."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium as gym
import pytest

import hrm_gym
from hrm_gym.agents.sb3.recipes import RECIPES
from hrm_gym.agents.sb3.run import env_arguments
from hrm_gym.registry import read_env
from hrm_gym.scripts.list import measured
from hrm_gym.scripts.main import COMMANDS, MOVED, main, run

TINY = [
    "train", "maze", "--size", "4", "--batch-size", "4", "--no-compile", "--eval-puzzles", "4",
    "--eval-every", "1000000", "--checkpoint-every", "1000000", "--model.hidden-size", "24", "--model.heads", "2",
]  # fmt: skip


def test_names_that_nearly_fit(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, meant in (
        (["slove"], "solve"),
        (["train", "sudoko-4x4"], "sudoku-4x4"),
        (["solve", "--agent", "orakle"], "oracle"),
        (["solve", "HRMMaez-v0"], "HRMMaze-v0"),
        (["data", "biuld"], "build"),
    ):
        assert main(argv) == 2
        assert f"did you mean {meant!r}" in capsys.readouterr().err
    for name, now in MOVED.items():
        assert main([name]) == 2
        assert now in capsys.readouterr().err


def test_the_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    for word in ("HRMMaze-v0", "hrm-sudoku-9x9", "maskableppo", "train sudoku-4x4", "train-rl maze", "10.8"):
        assert word in said


def test_the_list_shows_the_first_figure_of_each_kind_of_puzzles(tmp_path: Path) -> None:
    rates = {"solved_low": 0.5, "solved_high": 0.75}
    rows = [{"env": env, "solved": solved, **rates} for env, solved in (("a", 0.6), ("a", 0.7), ("b", 0.65))]
    (tmp_path / "measured.json").write_text(json.dumps({"rows": rows}))
    assert measured(tmp_path) == [("a", "60.0% (50.0-75.0)"), ("b", "65.0% (50.0-75.0)")]
    assert measured(tmp_path / "none") == []


def test_completion_knows_commands_and_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert all(word in script for name in COMMANDS for word in name.split()[:2])
    assert "sudoku-extreme-1k" in script
    assert main(["--completion", "fish"]) == 2


def test_help_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert all(len(line) <= 80 for line in capsys.readouterr().out.splitlines())


def test_output_that_is_not_utf_8() -> None:
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "hrm_gym", "list", "environments"]
    ran = subprocess.run(command, env=env, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "HRMMaze-v0" in ran.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_full_and_closed_streams() -> None:
    for redirection, code in (("2>/dev/full", 2), ("2>&-", 2), (">/dev/full", 2)):
        argument = "list environments" if redirection.startswith(">") else "slove"
        command = f"{sys.executable} -m hrm_gym {argument} {redirection}"
        ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
        assert ran.returncode == code, redirection
        assert "Traceback" not in ran.stderr + ran.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_training_leaves_a_checkpoint_and_continues(number: int, code: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "hrm_gym", *TINY, "--out", str(run), "--updates"]

    def listen() -> None:  # a shell's background jobs ignore Ctrl-C, and their children inherit it
        signal.signal(number, signal.SIG_DFL)

    started = subprocess.Popen([*command, "1000000"], stderr=subprocess.PIPE, text=True, preexec_fn=listen)
    with started as process:
        assert process.stderr is not None
        while "parameters" not in process.stderr.readline():
            pass
        time.sleep(1.0)
        process.send_signal(number)
        said = process.stderr.read()
    assert process.returncode == code
    assert "the same command continues from there" in said
    assert "Traceback" not in said
    (kept,) = run.glob("update_*")
    update = int(kept.name.removeprefix("update_"))
    assert 0 < update < 1_000_000
    assert main([*TINY, "--out", str(run), "--updates", str(update + 2)]) == 0
    assert json.loads((run / "model" / "config.json").read_text())["update"] == update + 2


def test_a_finished_run_continues_with_more_updates_and_its_folder_is_an_agent(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for updates in ("3", "5"):
        assert main([*TINY, "--out", str(run), "--updates", updates]) == 0
        assert json.loads((run / "model" / "config.json").read_text())["update"] == int(updates)
    agent = hrm_gym.make_agent("hrm", gym.make("HRMMaze-v0", size=4), weights=run)
    assert agent.predict is not None
    scores = tmp_path / "scores.json"
    solve = ["solve", "--size", "4", "--agent", f"hrm={run}", "--episodes", "2", "--json", str(scores)]
    assert main([*solve, "--check", "--restart", "4"]) == 0
    with_help = json.loads(scores.read_text())[0]["halting_rules"]
    assert main([*solve, "--no-check", "--restart", "0"]) == 0
    assert json.loads(scores.read_text())[0]["halting_rules"] != with_help


def test_commas_in_quotation_marks_do_not_separate() -> None:
    expected = {"data": "my dir, 2/t.csv", "box": (2, 2)}
    assert read_env("HRMSudokuMini-v0:data='my dir, 2/t.csv',box=(2,2)")[1] == expected
    assert read_env('HRMSudokuMini-v0:data="my dir, 2/t.csv",box=(2,2)')[1] == expected


def test_a_training_file_is_not_held_out() -> None:
    import dataclasses

    recipe = dataclasses.replace(RECIPES["sudoku-4x4-maskableppo"], source="train.csv")
    assert env_arguments(recipe, "train")["source"] == "train.csv"
    assert env_arguments(recipe, "test")["source"] == "generate"


@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.6])
def test_ctrl_c_while_the_program_is_imported(seconds: float) -> None:
    command = [sys.executable, "-m", "hrm_gym", "solve", "--no-render", "--episodes", "1"]

    def hear() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # shells start background jobs with SIGINT ignored

    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=hear) as process:
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        assert "Traceback" not in process.communicate()[1]
        assert process.returncode in (-signal.SIGINT, 130)


def test_a_compile_cache_that_cannot_be_made_is_a_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """PyTorch fails at the first optimiser otherwise."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "file" / "cache"))
    seen = []

    def command(_: list[str]) -> int:
        seen.append(Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]))
        return int(not seen[0].is_dir())

    assert run(command, []) == 0
    assert not seen[0].exists()
    assert capsys.readouterr().err.startswith("nothing is kept in TORCHINDUCTOR_CACHE_DIR: Not a directory")


SCRIPTS = Path(hrm_gym.__file__).parent / "scripts"
PROGRAMS = sorted(
    path.relative_to(SCRIPTS).with_suffix("").as_posix().replace("/", ".")
    for folder in ("experiments", "bench", "gpu")
    for path in (SCRIPTS / folder).glob("*.py")
    if "__main__" in path.read_text()
)


@pytest.mark.parametrize("name", PROGRAMS)
def test_experiments_end_as_commands_do(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong arguments are one line; and the module itself runs its function by `run`."""
    module = importlib.import_module(f"hrm_gym.scripts.{name}")
    assert run(module.main, ["--nonsense", "1"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("hrm-gym: error: ")
    assert said.count("\n") == 1
    assert Path(str(module.__file__)).read_text().endswith('if __name__ == "__main__":\n    sys.exit(run(main))\n')


def test_every_experiment_is_looked_at() -> None:
    assert {"experiments.backdoors", "experiments.claims", "experiments.versus", "gpu.half_hour"} <= {*PROGRAMS}


def test_an_error_of_any_length_is_shown_in_short(capsys: pytest.CaptureFixture[str]) -> None:
    """A name of 100,000 letters in a list of sums filled the terminal."""
    assert main(["verify", "x" * 100_000 + "/end"]) == 2
    said = capsys.readouterr().err
    assert len(said) < 2100
    assert "File name too long: xxx" in said
    assert said.endswith("/end/config.json\n")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_while_pytorch_is_imported_ends_the_command(tmp_path: Path, name: str) -> None:
    """An exception in its C++ aborted the process; the module here drops exceptions, as imports may do."""
    (tmp_path / "torch.py").write_text(
        "import os, signal, time\n"
        f"try:\n    os.kill(os.getpid(), signal.{name})\n    time.sleep(0.1)\nexcept BaseException:\n    pass\n"
        "set_num_threads = lambda number: None\n"
    )
    start = (
        "import sys; from hrm_gym.scripts.main import run; from hrm_gym.scripts.options import RunOptions; "
        f"sys.path.insert(0, {str(tmp_path)!r}); sys.exit(run(lambda _: RunOptions().use_threads() or 0, []))"
    )

    def hear() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (signal.SIGTERM, signal.SIGHUP):  # nohup, which a whole test run may be under, ignores one
            signal.signal(number, signal.SIG_DFL)

    done = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, preexec_fn=hear)
    assert (done.returncode, "Traceback" in done.stderr) == (128 + getattr(signal, name), False)
