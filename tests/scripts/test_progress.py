"""Bars of the commands: seen in a log, silent when the wait is short."""

from __future__ import annotations

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
