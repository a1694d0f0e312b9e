"""Experiment `depth`: networks that differ in what they should, files that tell all, and nothing done twice."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from hrm_gym.agents.hrm.recipes import RECIPES
from hrm_gym.scripts.experiments import depth
from hrm_gym.scripts.main import run


def test_the_networks_differ_in_layers_or_channels_alone() -> None:
    found = depth.chosen(depth.DepthConfig(layers=(2, 8), widths=(32, 64)))
    assert set(found) == {"hrm", "recurrent", "direct-2x64", "direct-8x64", "direct-4x32", "direct-4x64"}
    for name, recipe in found.items():
        if name.startswith("direct"):
            layers, width = (int(n) for n in name.removeprefix("direct-").split("x"))
            assert (recipe.model.h_layers + recipe.model.l_layers, recipe.model.hidden_size) == (layers, width)
            assert recipe.model.max_segments == recipe.model.h_cycles == recipe.model.l_cycles == 1
        assert dataclasses.replace(recipe, model=found["hrm"].model) == found["hrm"]


def test_it_trains_draws_and_does_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = RECIPES["sudoku-4x4"]
    model = dataclasses.replace(recipe.model, hidden_size=32, heads=1, h_layers=1, l_layers=1)
    small = dataclasses.replace(recipe, model=model, batch_size=4, eval_puzzles=2)
    monkeypatch.setitem(depth.RECIPES, "sudoku-4x4", small)
    paths = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    argv = ["--updates", "2", "--layers", "2", "4", "--widths", "32", "64", "--lrs", "1e-3", "2e-3", "--seeds", "2"]
    argv += ["--puzzles", "4", *paths]
    assert run(depth.main, argv) == 0
    found = json.loads((tmp_path / "out" / "depth.json").read_text())
    assert [row["name"] for row in found["results"]] == [
        "hrm",
        "recurrent",
        "direct-2x32",
        "direct-2x64",
        "direct-4x32",
    ]
    for row in found["results"]:
        assert set(row["tried"]) == {"0.001", "0.002"}
        assert row["tried"][str(row["lr"])] == max(row["tried"].values())
        assert [one["seed"] for one in row["trainings"]] == [0, 1]
        assert all(one["split"] == "test" and one["lr"] == row["lr"] for one in row["trainings"])
    deep = found["results"][-1]["trainings"][0]["traces"]
    assert [(trace["level"], len(trace["residuals"])) for trace in deep] == [("layers", 4)]
    assert (tmp_path / "out" / "depth.png").stat().st_size > 1000
    page = (tmp_path / "out" / "depth.md").read_text()
    assert found["command"] in page
    assert "--layers 2 4 --widths 32 64 --lrs 0.001 0.002 --seeds 2 --puzzles 4" in found["command"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}
    assert run(depth.main, argv) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")} == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--recipe", "sudoku"], "expected --recipe to be one of maze, maze-10x10"),
        (["--layers", "3"], "expected --layers of even numbers, got 3"),
        (["--widths", "48"], "expected --widths of multiples of 32, got 48"),
        (["--updates", "0"], "expected updates, puzzles and threads above 0"),
        (["--seeds", "1"], "at least 2 seeds, got 400, 500, 1 and 1"),
        (["--lrs", "0", "1e-3"], "expected --lrs above 0, got 0.0 0.001"),
    ],
)
def test_bad_input_is_one_line(more: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(depth.main, [*more]) == 2
    assert message in capsys.readouterr().err
