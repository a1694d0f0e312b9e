"""Experiment `versus`: arms that differ in what their names say alone, files that tell all, and nothing done twice."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hrm_gym.agents.hrm.optim import EMA
from hrm_gym.scripts.experiments import versus
from hrm_gym.scripts.main import run

REWARDED = [name for name, arm in versus.ARMS.items() if arm.signal != "supervision"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny network, and few boards at a time."""
    env_id, env, model = versus.SIZES["sudoku-4x4"]
    monkeypatch.setitem(versus.SIZES, "sudoku-4x4", (env_id, env, dataclasses.replace(model, hidden_size=8)))
    monkeypatch.setattr(versus, "BETWEEN", 1)
    supervised, rewarded = versus.supervised_recipe, versus.rewarded_recipe
    monkeypatch.setattr(
        versus, "supervised_recipe", lambda *given: dataclasses.replace(supervised(*given), batch_size=8)
    )
    monkeypatch.setattr(versus, "rewarded_recipe", lambda *given: dataclasses.replace(rewarded(*given), envs=4))


CHOSEN = ("supervision", "supervision-flat", "reward-cells", "reward-writes")


def arguments(folder: Path, *more: str) -> list[str]:
    paths = ["--runs", str(folder / "runs"), "--out", str(folder / "out")]
    return ["--seconds", "0.02", "--seeds", "2", "--puzzles", "6", *paths, *more]


def test_every_arm_leaves_its_curve_and_a_second_call_only_draws(small: None, tmp_path: Path) -> None:
    assert run(versus.main, arguments(tmp_path, "--arm", *CHOSEN)) == 0
    content = json.loads((tmp_path / "out" / "versus.json").read_text())
    assert {(row["arm"], row["seed"]) for row in content["results"]} == {(a, s) for a in CHOSEN for s in (0, 1)}
    assert len({row["parameters"] for row in content["results"] if row["arm"] != "supervision-flat"}) == 1
    for row in content["results"]:
        with_segments = row["arm"] in ("supervision", "supervision-flat")
        assert sorted(row.get("fixed", {})) == (["16", "4"] if with_segments else [])
        seconds = [point["cpu_seconds"] for point in row["curve"]]
        assert len(seconds) == len(versus.MARKS)
        assert all(spent >= 0.02 * mark for spent, mark in zip(seconds, versus.MARKS, strict=True))
        assert all(0 <= point["exact"] <= point["solved"] <= 1 for point in row["curve"])
    for name in CHOSEN:
        scores = [row["curve"][-1]["solved"] for row in content["results"] if row["arm"] == name]
        assert content["summary"]["sudoku-4x4"][name]["4x"]["scores"] == scores
    text = (tmp_path / "out" / "versus.md").read_text()
    assert "Interquartile mean" in text
    assert f"{versus.PROGRAM} --size sudoku-4x4 --arm {' '.join(CHOSEN)} --seconds 0.02" in text
    assert (tmp_path / "out" / "versus.png").stat().st_size > 1000
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}
    assert run(versus.main, arguments(tmp_path, "--arm", *CHOSEN)) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")} == before


def test_what_is_finished_is_kept_when_the_next_training_is_interrupted(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ["--arm", "supervision", "reward-cells"]
    with monkeypatch.context() as patch:
        patch.setattr(versus, "reward", lambda *a: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(versus.main, arguments(tmp_path, *chosen))
    (kept,) = (tmp_path / "runs").iterdir()
    before = kept.read_text()
    assert run(versus.main, arguments(tmp_path, *chosen)) == 0
    assert kept.read_text() == before


@pytest.mark.parametrize("size", versus.SIZES)
def test_the_arms_have_one_network_and_the_same_puzzles_and_segments(size: str) -> None:
    supervised = versus.supervised_recipe(size, "supervision", 3)
    for arm in REWARDED:
        rewarded: Any = versus.rewarded_recipe(size, arm, 3)
        assert rewarded.model.hrm == supervised.model
        assert rewarded.model.segments == 1
        assert rewarded.model.carry is versus.ARMS[arm].carry
        assert (rewarded.env_id, rewarded.env, rewarded.seed) == (supervised.env_id, supervised.env, 3)
        assert rewarded.source == supervised.source == "generate"
        if rewarded.action_mode == "answer":
            assert rewarded.max_steps == supervised.model.max_segments
    flat = versus.supervised_recipe(size, "supervision-flat", 3).model
    assert (flat.levels, flat.l_layers, flat.steps) == (1, 2, supervised.model.steps)
    lone = versus.supervised_recipe(size, "supervision-no-carry", 3)
    assert lone == dataclasses.replace(supervised, model=dataclasses.replace(supervised.model, max_segments=1))
    ends = (versus.rewarded_recipe(size, "reward-writes", 3), versus.rewarded_recipe(size, "reward-writes-no-carry", 3))
    assert dataclasses.replace(ends[1], model=dataclasses.replace(ends[1].model, carry=True)) == ends[0]  # type: ignore[type-var]


def test_a_policy_is_judged_with_averaged_weights_and_learns_on_with_its_own() -> None:
    layer = torch.nn.Linear(2, 1)
    torch.nn.init.constant_(layer.weight, 0.25)  # sums of such numbers are exact
    average = EMA(layer.named_parameters(), 0.5)
    own = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    with torch.no_grad():
        layer.weight += 1.0
    average.update(layer)
    with versus.averaged(layer, average):
        np.testing.assert_allclose(layer.weight.detach(), own["weight"] + 0.5)
    np.testing.assert_allclose(layer.weight.detach(), own["weight"] + 1.0)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--size", "maze-9x9"], "expected some of sudoku-4x4, maze-6x6, got 'maze-9x9'"),
        (["--arm", "both"], "expected some of supervision, supervision-no-carry, supervision-flat, reward-grid"),
        (["--seconds", "0"], "expected seconds and puzzles above 0 and at least 2 seeds"),
        (["--seeds", "1"], "at least 2 seeds"),
    ],
)
def test_bad_input_is_one_line(more: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(versus.main, [*more]) == 2
    assert message in capsys.readouterr().err
