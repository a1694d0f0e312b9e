"""Experiment `levels`: what is said of residuals; trainings that differ in seeds alone, and nothing done twice."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from hrm_gym.agents.hrm.recipes import RECIPES
from hrm_gym.scripts.experiments import levels
from hrm_gym.scripts.main import run


def test_what_the_residuals_say() -> None:
    low = np.array([4.0, 3.0, 2.0, 1.0, 3.0, 2.0, 1.0, 0.5, 0.4, 0.4, 0.4, 0.8])
    found = levels.settling(low, np.array([2.0, 1.0, 0.5]), 4)
    assert found["within"] == pytest.approx((1 / 4 + 0.5 / 3 + 2) / 3)
    assert found["falls"] == pytest.approx(2 / 3)
    assert found["moved_again"] == 0.5  # 3 after 1, and 0.4 after 0.5
    assert found["high_left"] == 0.25


def test_the_states_are_looked_at_before_during_and_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = RECIPES["sudoku-4x4"]
    model = dataclasses.replace(recipe.model, hidden_size=16, heads=1, h_layers=1, l_layers=1, max_segments=2)
    monkeypatch.setitem(levels.RECIPES, "sudoku-4x4", dataclasses.replace(recipe, model=model, batch_size=4))
    paths = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    argv = ["--cycles", "3", "--updates", "4", "--seeds", "2", "--puzzles", "16", *paths]
    assert run(levels.main, argv) == 0
    content = json.loads((tmp_path / "out" / "levels.json").read_text())
    assert [row["seed"] for row in content["results"]] == [0, 1]
    for row in content["results"]:
        assert [look["update"] for look in row["looks"]] == [0, 1, 4]
        for look in row["looks"]:
            assert (len(look["low"]), len(look["high"])) == (2 * 2 * 3, 2 * 2)  # segments, cycles, L-steps
            assert [one["puzzles"] for one in look["dimensions"]] == [4, 16]
    first, second = (row["looks"][0]["low"] for row in content["results"])
    assert first != second
    for row in content["summary"]:
        low, high = row["dimensions_ratio_interval"]
        assert low <= row["dimensions_ratio"] <= high
    assert content["command"] in (tmp_path / "out" / "levels.md").read_text()
    assert (tmp_path / "out" / "levels.png").stat().st_size > 1000
    monkeypatch.setattr(levels, "look", None)  # nothing is looked at again
    assert run(levels.main, argv) == 0
    assert json.loads((tmp_path / "out" / "levels.json").read_text())["results"] == content["results"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--recipe", "chess"], "expected a recipe of a network of two levels"),
        (["--recipe", "sudoku-4x4-recurrent"], "expected a recipe"),
        (["--cycles", "1"], "expected at least 2 cycles"),
        (["--seeds", "1"], "2 seeds"),
    ],
)
def test_bad_input_is_one_line(more: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(levels.main, [*more]) == 2
    assert message in capsys.readouterr().err
