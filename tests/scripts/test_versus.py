"""Experiment `versus`: equal networks, files that tell all, and nothing done twice."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from hrm_gym.scripts.experiments import versus
from hrm_gym.scripts.main import run


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny network and evaluations that are over in a moment."""
    tiny = dataclasses.replace(versus.SMALL_HRM, hidden_size=16, heads=2, h_layers=1, l_layers=1)
    monkeypatch.setattr(versus, "SMALL_HRM", tiny)
    supervised, rewarded = versus.supervised_recipe, versus.rewarded_recipe

    def fewer(recipe: Any, **changes: Any) -> Any:
        return dataclasses.replace(recipe, eval_puzzles=4, **changes)

    monkeypatch.setattr(versus, "supervised_recipe", lambda *a: fewer(supervised(*a), batch_size=8))
    monkeypatch.setattr(versus, "rewarded_recipe", lambda *a: fewer(rewarded(*a), envs=4))
    original = versus.supervise
    monkeypatch.setattr(versus, "supervise", lambda *a: original(*a, every=2))


def arguments(folder: Path, *more: str) -> list[str]:
    paths = ["--runs", str(folder / "runs"), "--out", str(folder / "out")]
    return ["--size", "sudoku-4x4", "--seconds", "0.05", "--puzzles", "6", *paths, *more]


def test_every_arm_leaves_its_curve_and_a_second_call_only_draws(small: None, tmp_path: Path) -> None:
    assert run(versus.main, arguments(tmp_path)) == 0
    content = json.loads((tmp_path / "out" / "versus.json").read_text())
    assert [row["arm"] for row in content["results"]] == list(versus.ARMS)
    assert len({row["parameters"] for row in content["results"]}) == 1
    for row in content["results"]:
        assert row["curve"][-1]["processor_seconds"] >= 0.05
        assert 0 <= row["exact"] <= row["solved"] <= 1
    page = (tmp_path / "out" / "versus.md").read_text()
    assert "95 % Wilson" in page
    assert f"{versus.PROGRAM} --size sudoku-4x4 --seconds 0.05" in page
    assert (tmp_path / "out" / "versus.png").stat().st_size > 1000
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}
    assert run(versus.main, arguments(tmp_path)) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")} == before


def test_an_interrupted_arm_goes_on(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(versus, "judged", lambda *a: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(versus.main, arguments(tmp_path, "--arm", "supervision"))
    curve = next((tmp_path / "runs").rglob("curve.jsonl"))
    before = curve.read_text()
    assert run(versus.main, arguments(tmp_path, "--arm", "supervision")) == 0
    assert curve.read_text() == before


def test_the_arms_differ_in_their_signal_alone() -> None:
    for size in versus.SIZES:
        supervised = versus.supervised_recipe(size, 3)
        for arm in ("sparse", "dense"):
            rewarded: Any = versus.rewarded_recipe(size, arm, 3)
            assert rewarded.model.hrm == supervised.model
            assert (rewarded.env_id, rewarded.env, rewarded.seed) == (supervised.env_id, supervised.env, 3)
            assert rewarded.source == supervised.source == "generate"
            assert rewarded.reward == arm


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--size", "maze-9x9"], "expected some of sudoku-4x4, maze-6x6, maze-8x8, got 'maze-9x9'"),
        (["--arm", "both"], "expected some of supervision, sparse, dense, got 'both'"),
        (["--seconds", "0"], "expected seconds, puzzles and threads above 0"),
    ],
)
def test_bad_input_is_one_line(more: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(versus.main, [*more]) == 2
    assert message in capsys.readouterr().err
