"""Names such as `$\\frac{$`, `[red]`, `<script>` or an escape sequence in all that commands print and draw."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrm_gym.scripts.main import main

NAME = "$\\frac{$ [red]x[/nothing] <script>alert(1)</script> a|b `c` *d* \x1b[31m\x07 :smile: _e"
FILE = NAME.replace("/", "-")
PAIR = {"input": [[1, 2], [3, 4]], "output": [[4, 3]]}
RL = ["train-rl", "sudoku-4x4-dqn", "--timesteps", "32", "--envs", "4", "--eval-every", "32", "--eval-puzzles", "4",
      "--checkpoint-every", "32", "--learning-starts", "16", "--batch-size", "8"]  # fmt: skip
HRM = ["train", "sudoku-4x4", "--updates", "4", "--model.hidden-size", "16", "--model.heads", "2", "--batch-size", "8",
       "--eval-every", "2", "--eval-puzzles", "4", "--no-compile"]  # fmt: skip
MINI = ["HRMSudokuMini-v0", "--episodes", "2"]


def ran(command: list[str], *codes: int) -> str:
    """What a command prints; no escape sequence or bell is in it."""
    held = io.StringIO()
    with contextlib.redirect_stdout(held), contextlib.redirect_stderr(held):
        code = main(command)
    told = held.getvalue()
    assert code in (codes or (0,)), told
    assert not set(told) & {"\x1b", "\x07"}, told
    return told


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_names_of_files_of_puzzles(place: Path) -> None:
    Path(f"{FILE}.csv").write_text("source,question,answer,rating\na,S  G,So G,\n")
    Path("wrong").mkdir()
    Path("wrong", f"{FILE}.csv").write_text("source,question,answer,rating\na,S  G,S  G,\n")
    assert "[red]x[" in ran(["data", "info", f"{FILE}.csv"])
    assert "\\x1b[31m" in ran(["data", "info", "wrong"], 2)
    solve = ["solve", "HRMMaze-v0", "--source", f"{FILE}.csv", "--agent", "oracle"]
    ran([*solve, "--no-render"])
    ran(["record", *solve[1:], "--episodes", "1", "--html", "a.html", "--jsonl", "a.jsonl"])
    assert "<script>alert(1)<" not in Path("a.html").read_text()
    assert "<script>alert(1)<-script>" not in Path("a.html").read_text()
    compare = [
        "compare",
        "--env",
        f"HRMMaze-v0:source={FILE}.csv",
        "--agent",
        "oracle",
        "--films",
        "1",
        "--out",
        "page",
    ]
    ran(compare, 0, 2)
    ran(["analyze", "answers", "HRMMaze-v0", "--data", f"{FILE}.csv", "--episodes", "1", "--segments", "1"], 0, 2)


def test_names_of_tasks(place: Path) -> None:
    Path("tasks.json").write_text(json.dumps({NAME: {"train": [PAIR], "test": [PAIR]}}))
    assert "[red]x[/nothing]" in ran(["data", "info", "tasks.json"])
    solve = ["HRMARC-v0", "--source", "tasks.json", "--agent", "stored"]
    ran(["solve", *solve, "--no-render"])
    ran(["solve", *solve, "--save", "film.gif", "--episodes", "1"])
    ran(["record", *solve, "--episodes", "1", "--html", "a.html"])
    assert "<script>alert(1)" not in Path("a.html").read_text()
    ran(["predict", "tasks.json", "--agent", "random", "--out", "submission.json"], 0, 2)


def test_what_a_manifest_says(place: Path) -> None:
    ran(["data", "build", "maze", "--size", "5", "--train", "3", "--test", "1", "--out", FILE])
    manifest = Path(FILE) / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "command": NAME}))
    assert "<script>alert(1)</script> a|b" in ran(["data", "info", FILE])


def test_what_a_bank_says(place: Path, halting_arrays: Callable[..., dict[str, Any]]) -> None:
    arrays = halting_arrays()
    about = json.loads(str(arrays["about"]))
    told = {**about, "worlds": [NAME]} | dict.fromkeys(("agent", "env", "unit", "command", "created", "weights"), NAME)
    np.savez(f"{FILE}.npz", **{**arrays, "about": np.array(json.dumps(told))})
    assert "[red]x[/nothing]" in ran(["halting", "bank", "info", f"{FILE}.npz"])
    ran(
        ["halting", "report", "--bank", f"{FILE}.npz", "--costs", "0.01", "--seeds", "1", "--steps", "32", "--out", "r"]
    )
    page = Path("r/report.md").read_text()
    assert "\x1b" not in page
    title = page.splitlines()[0]
    assert r"\<script>" in title
    assert r"\[red\]" in title


def test_names_of_runs(place: Path) -> None:
    ran([*HRM, "--out", FILE])
    ran(["analyze", "curve", FILE])
    ran(["weights", "verify", f"{FILE}/model"])
    weights = f"hrm={FILE}/model"
    ran(["solve", *MINI, "--agent", weights, "--no-render"])
    for study in ("segments", "scaling", "answers", "convergence", "dimensionality"):
        ran(["analyze", study, *MINI, "--agent", weights, "--out", f"study-{study}"])
    ran(
        ["compare", "--env", "HRMSudokuMini-v0", "--agent", weights, "--episodes", "2", "--films", "1", "--out", "page"]
    )
    html, page = Path("page/index.html").read_text(), Path("page/compare.md").read_text()
    assert "<script>alert(1)" not in html
    assert "\x1b" not in page + html
    assert r"\[red\]" in page
    shutil.rmtree(FILE)


def test_names_of_runs_of_opponents(place: Path) -> None:
    ran([*RL, "--out", FILE])
    ran(["solve", *MINI, "--agent", f"dqn={FILE}/model", "--no-render"])
    ran([*RL, "--seeds", "2", "--out", f"two {FILE}"])
