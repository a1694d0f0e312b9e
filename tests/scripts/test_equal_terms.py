"""The comparison on equal terms: same time, same puzzles, same help; and it continues where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hrm_gym.scripts.experiments import equal_terms
from hrm_gym.scripts.main import run

ARGUMENTS = ["--agent", "hrm", "a2c", "--seconds", "0.4", "--seeds", "2", "--puzzles", "12"]


def test_every_training_is_judged_alone_and_with_help_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(equal_terms, "TRIAL", 0.2)
    arguments = [*ARGUMENTS, "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    assert equal_terms.main(arguments) == 0
    found = json.loads((tmp_path / "out" / "equal_terms.json").read_text())
    assert len(found["results"]) == 4
    for row in found["results"]:
        assert row["helped"] >= row["alone"] if row["agent"] == "a2c" else 0 <= row["helped"] <= 1
        assert row["cpu_seconds"] > 0
    for name in ("hrm", "a2c"):
        assert found["summary"][name]["trainings"] == 2
        assert name in (tmp_path / "out" / "equal_terms.md").read_text()
    monkeypatch.setattr(equal_terms, "train_hrm", None)  # nothing is trained again
    monkeypatch.setattr(equal_terms, "train_rl", None)
    assert equal_terms.main(arguments) == 0
    assert json.loads((tmp_path / "out" / "equal_terms.json").read_text())["results"] == found["results"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--puzzle", "chess"], "expected one of sudoku-4x4, maze-10x10, sudoku-9x9 as puzzle, got 'chess'"),
        (["--agent", "gpt"], "got 'gpt'"),
        (["--seeds", "1"], "at least 2 seeds"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(
    given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(equal_terms.main, given) == 2
    assert message in capsys.readouterr().err


def test_the_speed_of_training_is_measured_after_a_slow_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rules are compiled first, that may take longer than the whole trial."""

    class Slow(equal_terms.RLRun):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self._processor_began -= 1000.0

    monkeypatch.setattr(equal_terms, "TRIAL", 0.2)
    monkeypatch.setattr(equal_terms, "RLRun", Slow)
    equal_terms.rl_speed.cache_clear()
    assert equal_terms.rl_speed("sudoku-4x4", "a2c") > 50.0
    equal_terms.rl_speed.cache_clear()
