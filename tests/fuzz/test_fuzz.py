"""`make fuzz`: nothing malformed gets through, cases are reproducible, and what hangs or crashes is reported."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzz import fuzz
from fuzz.cases import Attempt
from fuzz.supervision import Stopped, supervise
from hrm_gym.scripts.main import run


def test_nothing_malformed_gets_through(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = tmp_path / "found.json"
    code = run(fuzz.main, ["--count", "1500", "--seed", "1", "--json", str(found)])
    told = json.loads(found.read_text())
    assert (code, told["findings"]) == (0, [])
    assert sum(row["cases"] for row in told["counts"]) == 1500
    shown = capsys.readouterr().out
    assert "1,500 cases, seed 1" in shown
    assert "rejected" in shown


def test_a_case_follows_from_seed_and_number(capsys: pytest.CaptureFixture[str]) -> None:
    arena = fuzz.Arena(3)
    forwards = [arena.run(case) for case in range(60)]
    backwards = [arena.run(case) for case in reversed(range(60))][::-1]
    assert [item[:4] for item in forwards] == [item[:4] for item in backwards]
    assert run(fuzz.main, ["--seed", "3", "--case", "5"]) == 0
    shown = capsys.readouterr().out
    assert forwards[5].target in shown
    assert forwards[5].outcome in shown


def raising(error: Exception) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call


@pytest.mark.parametrize(
    ("attempt", "outcome", "complaint"),
    [
        (Attempt(1, raising(ValueError("expected 2, got 1")), lambda _: None), "rejected", ""),
        (Attempt(1, raising(ValueError("ambiguous")), lambda _: None), "finding", "ValueError: ambiguous"),
        (Attempt(1, raising(KeyError("x")), lambda _: None), "finding", "KeyError: 'x'"),
        (Attempt(1, raising(KeyError("x")), lambda _: None, (KeyError,)), "rejected", ""),
        (Attempt(1, raising(TypeError("f() got an unexpected keyword argument 'x'")), str), "rejected", ""),
        (Attempt(1, lambda: 7, lambda _: None), "accepted", ""),
        (Attempt(1, lambda: 7, lambda got: f"got {got}"), "finding", "accepted: got 7"),
        (Attempt(1, lambda: 7, lambda got: got.nothing), "finding", "accepted, then AttributeError"),
        (Attempt(1, lambda: 7, lambda _: None, after=raising(OSError())), "finding", "broken afterwards"),
    ],
)
def test_what_counts_as_a_finding(attempt: Attempt, outcome: str, complaint: str) -> None:
    found = fuzz.judge(attempt)
    assert found[0] == outcome
    assert found[1].startswith(complaint)
    assert bool(found[1]) == (outcome == "finding")


def test_findings_make_the_exit_code_1_and_are_grouped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = ("action", "HRMMaze-v0 cell", "finding", "TypeError: 7 has no len()", "envs/modes.py:1", "7")
    items = [(0, *bad), (1, *bad), (2, "seed", "HRMMaze-v0 cell", "accepted"), Stopped(3, "hangs for more than 5 s")]
    monkeypatch.setattr(fuzz, "supervise", lambda *_: iter(items))
    assert run(fuzz.main, ["--count", "4"]) == 1
    shown = capsys.readouterr().out
    assert "2x action: TypeError" in shown
    assert "python -m tests.fuzz.fuzz --seed 0 --case 0" in shown
    assert "hangs for more than 5 s" in shown


def mischief(seed: int) -> Callable[[int], int]:
    def run(case: int) -> int:
        if case == 3:
            time.sleep(60)
        if case == 5:
            os._exit(9)
        return case * seed

    return run


def test_a_hang_and_a_crash_cost_one_case_each() -> None:
    found = list(supervise(mischief, (10,), 8, limit=0.5))
    assert found == [
        0, 10, 20, Stopped(3, "hangs for more than 0.5 s"), 40, Stopped(5, "the process died with exit code 9"), 60, 70,
    ]  # fmt: skip


def broken(_: int) -> Callable[[int], int]:
    os._exit(4)


def test_an_arena_that_cannot_be_made_is_said() -> None:
    with pytest.raises(RuntimeError, match="exit code 4"):
        list(supervise(broken, (0,), 2, limit=1.0))


def test_counts_below_one_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fuzz.main, ["--count", "0"]) == 2
    assert "expected --count of at least 1, got 0" in capsys.readouterr().err
