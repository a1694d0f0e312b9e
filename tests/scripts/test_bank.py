"""`hrm-gym halting bank`: one from the command line, killed and continued, told in a table; bad input in one line."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hrm_gym.agents.checkpoint import write_folder
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.run_folder import write_model
from hrm_gym.envs.halting.bank import SCALARS, find_bank
from hrm_gym.registry import read_arguments
from hrm_gym.scripts.main import main

MODEL = HRMConfig(
    vocab_size=6, grid=(5, 5), hidden_size=16, heads=1, h_layers=1, l_layers=1, positions="rope2d", dtype="float32"
)
SUDOKU = HRMConfig(vocab_size=6, grid=(4, 4), hidden_size=16, heads=1, h_layers=1, l_layers=1, dtype="float32")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def weights(config: HRMConfig, family: str) -> Path:
    torch.manual_seed(0)
    about, state = {"kind": "hrm", "family": family}, HRM(config).state_dict()
    write_folder(Path(family), lambda path: write_model(path, state, config, about))
    return Path(family)


def maze_arguments(out: str, puzzles: int = 24) -> list[str]:
    return [
        "halting", "bank", "build", "--env", "HRMMaze-v0", "--agent", f"hrm={weights(MODEL, 'maze')}", "--out", out,
        "--env-args", "size=5,source=generate", "--env-args", "size=6,source=generate", "--puzzles", str(puzzles),
        "--max-segments", "3", "--batch", "8", "--state-dims", "2",
    ]  # fmt: skip


def test_a_bank_of_two_worlds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(maze_arguments("mazes.npz")) == 0
    said = capsys.readouterr().out
    assert "size=6,source=generate" in said
    assert "bank: mazes.npz" in said
    bank = find_bank(Path("mazes.npz"))
    assert (len(bank), bank.segments, bank.observations.shape[2]) == (48, 3, 8)
    assert np.bincount(bank.world).tolist() == [24, 24]
    assert bank.about["seed"] == 0
    assert bank.about["model"]["hidden_size"] == 16
    assert len(bank.about["weights"]) == 64
    assert bank.about["command"].startswith("hrm-gym halting bank build --env HRMMaze-v0")
    assert not Path("mazes.npz.partial").exists()
    assert main(["halting", "bank", "info", "mazes.npz"]) == 0
    assert "48 puzzles, 3 segments" in capsys.readouterr().out


def test_the_table_says_how_often_the_q_head_halts_and_how_often_wrongly(capsys: pytest.CaptureFixture[str]) -> None:
    bank = find_bank(None)
    wrong = [0, 0]
    for row in np.flatnonzero(bank.world == 0):  # segment by segment, as an episode would
        q_halt, q_continue = (bank.observations[row, :, SCALARS.index(name)] for name in ("q_halt", "q_continue"))
        stops = [k for k in range(bank.segments) if q_halt[k] > q_continue[k]]
        wrong[0] += bool(stops)
        wrong[1] += bool(stops) and not bank.solved[row, stops[0]]
    count = int((bank.world == 0).sum())
    assert main(["halting", "bank", "info"]) == 0
    first = next(line for line in capsys.readouterr().out.splitlines() if "size=10" in line)
    assert [cell.strip() for cell in first.split("│")[-3:-1]] == [f"{one / count:.1%}" for one in wrong]


def test_any_puzzle_and_any_argument(capsys: pytest.CaptureFixture[str]) -> None:
    agent = f"hrm={weights(SUDOKU, 'sudoku')}"
    arguments = ["--env", "HRMSudokuMini-v0", "--agent", agent, "--env-args", "source=generate", "--puzzles", "10"]
    assert main(["halting", "bank", "build", *arguments, "--max-segments", "2", "--out", "sudoku.npz"]) == 0
    assert find_bank(Path("sudoku.npz")).about["env"] == "HRMSudokuMini-v0"
    row, other = "s,.234341221434321,1234341221434321,3\n", "s,..34341221434321,1234341221434321,1\n"
    Path("own.csv").write_text("source,question,answer,rating\n" + row + other, encoding="utf-8")
    arguments[arguments.index("source=generate")] = "source=own.csv"
    code = main(
        ["halting", "bank", "build", *arguments, "--max-segments", "2", "--out", "own.npz", "--test-share", "0.5"]
    )
    told = capsys.readouterr()
    if code == 0:
        assert set(find_bank(Path("own.npz")).difficulty.tolist()) == {1.0, 3.0}
    else:
        assert "split" in told.err, "two puzzles may fall into one split, which is refused"


def test_killed_at_ten_random_moments_it_is_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(maze_arguments("whole.npz", 200)) == 0
    arguments = [sys.executable, "-m", "hrm_gym.scripts.main", *maze_arguments("parts.npz", 200)]
    moments, kills, finished = random.Random(int(time.time())), 0, dict[str, int]()
    for blocks in sorted(moments.sample(range(40), 10)):
        process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while process.poll() is None and len(blocks_written()) < blocks and time.monotonic() < end:
            time.sleep(0.002)
        time.sleep(moments.random() * 0.02)
        process.kill()
        kills += process.wait() == -signal.SIGKILL
        if Path("parts.npz").exists():
            break
        there = blocks_written()
        assert finished.items() <= there.items(), "a finished block was lost or made again"
        finished = there
    assert kills >= 5
    capsys.readouterr()
    assert main(maze_arguments("parts.npz", 200)) == 0
    a, b = np.load("whole.npz"), np.load("parts.npz")
    for name in set(a.files) - {"about"}:
        assert np.array_equal(a[name], b[name]), name
    about: Any = json.loads(str(a["about"]))
    assert json.loads(str(b["about"])) == {**about, "command": about["command"].replace("whole", "parts")}


def blocks_written() -> dict[str, int]:
    """When each finished block of the bank was written."""
    return {path.name: path.stat().st_mtime_ns for path in Path("parts.npz.partial").glob("block-*.npz")}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--agent", "ppo"], "expected --agent hrm"),
        (["--puzzles", "1"], "--puzzles of at least 2"),
        (["--puzzles", "5"], "--puzzles once, or once a world (1), got 2"),
        (["--test-share", "1"], "--test-share between 0 and 1"),
        (["--max-segments", "0"], "max_segments of at least 1"),
        (["--out", "bank.txt"], "*.npz"),
        (["--env-args", "size"], "argument=value"),
        (["--env-args", "shape=3"], "HRMMaze-v0 has no argument 'shape'"),
        (["--env-args", "size=1"], "size"),
        (["--env", "HRMHalting-v0"], "expected an environment of puzzles, one of HRMSudoku-v0"),
        (["--env", "HRMNothing-v0"], "HRMNothing"),
        (["--env", "HRMSudoku-v0"], "HRMSudoku-v0 has no argument 'size'"),
        (["--agent", "hrm=nowhere"], "nowhere"),
    ],
)
def test_bad_arguments_are_one_line(changes: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["halting", "bank", "build", "--agent", f"hrm={weights(MODEL, 'maze')}", "--puzzles", "4"]
    for name, value in (("--env", "HRMMaze-v0"), ("--out", "bank.npz"), ("--env-args", "size=5")):
        arguments += [] if name in changes else [name, value]
    assert main([*arguments, *changes]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("hrm-gym: error:")
    assert message in said
    assert not Path("bank.npz").exists()


def test_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["halting", "bank", "--help"]) == 0
    assert "examples:" in capsys.readouterr().out
    assert main(["halting", "bank"]) == main(["halting", "bank", "burn"]) == 2
    assert main(["halting", "bank", "info", "none.npz"]) == 2
    assert "no halting bank at none.npz" in capsys.readouterr().err
    assert main(["halting", "bank", "info"]) == 0


def test_arguments_are_literals_or_text() -> None:
    found = read_arguments("size=12, source=generate,box=(2,3),min_path=None,share=0.5,")
    assert found == {"size": 12, "source": "generate", "box": (2, 3), "min_path": None, "share": 0.5}
    assert read_arguments("") == {}
