"""Bars of the commands: seen in a log, silent when the wait is short."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hrm_gym.scripts import output


def test_a_log_says_where_a_long_run_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "IN_LOG", 0.0)
    monkeypatch.setattr(output, "DELAY", 1e-9)
    assert list(output.with_progress(iter("abc"), 3, "letters", " letters")) == ["a", "b", "c"]
    said = capsys.readouterr()
    assert "letters: 100%" in said.err
    assert "3/3" in said.err
    assert said.out == ""


def test_a_short_wait_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(output.with_progress(range(3), 3, "numbers")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "text"),
    [("TQDM_MININTERVAL", "abc"), ("TQDM_NCOLS", "1.5"), ("TQDM_DELAY", "nan"), ("TQDM_FILE", "x"),
     ("TQDM_BAR_FORMAT", "{nope}"), ("TQDM_WRITE_BYTES", "1")],
)  # fmt: skip
def test_variables_that_tqdm_does_not_take_are_named(name: str, text: str) -> None:
    """It reads them when it is imported; some made a traceback at the first bar, after the work."""
    command = [sys.executable, "-m", "hrm_gym", "list", "environments"]
    ran = subprocess.run(command, env={**os.environ, name: text}, capture_output=True, text=True)
    assert ran.returncode == 2
    assert ran.stderr.startswith("hrm-gym: error: expected ")
    assert ran.stderr.count("\n") == 1
    assert name in ran.stderr
    assert text in ran.stderr


def test_variables_that_tqdm_takes_are_no_error() -> None:
    command = [sys.executable, "-m", "hrm_gym", "list", "recipes"]
    there = {"TQDM_MININTERVAL": "2.5", "TQDM_DISABLE": "1", "TQDM_ASCII": "1", "TQDM_COLOUR": "green"}
    assert subprocess.run(command, env={**os.environ, **there}, capture_output=True).returncode == 0
