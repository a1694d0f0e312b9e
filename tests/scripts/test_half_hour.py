"""Every call of the half hour on a GPU works, in tiny sizes on the CPU; one that trains goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from hrm_gym.agents.hrm.recipes import RECIPES
from hrm_gym.files import held
from hrm_gym.scripts.gpu import half_hour
from hrm_gym.scripts.main import run


@pytest.mark.parametrize("call", ["pack", "parity", "speed", "sudoku", "own", "maze", "arc"])
def test_a_dry_run_of_every_call(call: str, tmp_path: Path) -> None:
    argv = [call, "--dry", "--device", "cpu", "--out", str(tmp_path / "out"), "--run", str(tmp_path / "run")]
    assert half_hour.main(argv) == 0
    found = json.loads((tmp_path / "out" / f"{call}.json").read_text())
    assert found["dry"]
    assert found["device"] == "cpu"
    if call == "parity":
        assert (
            found["largest_difference"]["float32"]["logits"] < 1e-5 < found["largest_difference"]["bfloat16"]["logits"]
        )
        tolerance = {"hrm": (2e-4, 0.7), "trm_att": (2e-5, 0.1)}  # as the tests of the golden numbers have it
        assert set(found["golden"]) == set(tolerance)
        for name, limits in tolerance.items():
            for numbers, limit in zip(found["golden"][name].values(), limits, strict=True):
                assert max(numbers.values()) < limit
    if call == "pack":
        assert "gymnasium" in found["wheels"]
        assert "torch" not in found["wheels"]
        puzzles = sum(sum(counts) for counts in found["puzzles"].values()) * (2 * 81 + 3 * 4)  # grids and three numbers
        assert puzzles / 2**20 < found["mebibytes"] < 60e6 / 2**20, "of a whole one"
        assert half_hour.main(argv) == 0, "it continues where it was"
        for name in half_hour.PACKED:
            assert half_hour.main([name, *argv[1:]]) == 0
            own = json.loads((tmp_path / "out" / f"{name}.json").read_text())
            assert own["recipe"]["source"] == str(tmp_path / "out" / "data" / name)
            assert own["held_out"] == 4
    if call in half_hour.TRAININGS:
        assert found["update"] == 3
        assert 0 <= found["fixed_16_exact"] <= 1
        assert (tmp_path / "out" / call / "curve.jsonl").is_file()
        # the 962 embedding rows of every ARC task are too large to be carried back
        assert (tmp_path / "out" / call / "model" / "model.safetensors").is_file() == (call != "arc")


def test_a_training_stops_by_the_clock_and_goes_on(tmp_path: Path) -> None:
    argv = ["own", "--dry", "--device", "cpu", "--out", str(tmp_path / "out"), "--run", str(tmp_path / "run")]
    assert half_hour.main([*argv, "--minutes", "1e-9"]) == 0
    first = json.loads((tmp_path / "out" / "own.json").read_text())["update"]
    assert half_hour.main(argv) == 0
    assert json.loads((tmp_path / "out" / "own.json").read_text())["update"] == 3 >= first


def test_a_length_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At half an update a second a minute holds 30 updates; a length that is shorter stays."""
    trainer = SimpleNamespace(update=10, seconds=20.0, recipe=half_hour.OWN)
    half_hour._fit_length(trainer, 1.0)
    assert trainer.recipe.updates == 30
    half_hour._fit_length(trainer, 2.0)
    assert trainer.recipe.updates == 30
    half_hour._fit_length(trainer, None)
    trainer.update, trainer.seconds = 40, 20.0
    half_hour._fit_length(trainer, 0.1)
    assert trainer.recipe.updates == 30


def test_the_own_recipe_has_100_times_the_budget_of_the_cpu() -> None:
    recipe = half_hour.OWN
    boards = recipe.updates * recipe.batch_size * recipe.gradient_segments
    assert 100 <= boards / half_hour.CPU_BUDGET < 100.1
    names = ("sudoku", "sudoku-harder", "sudoku-longer")
    spent = sum(r.updates * r.batch_size * r.gradient_segments for r in (RECIPES[name] for name in names))
    assert spent == half_hour.CPU_BUDGET
    assert (recipe.init, recipe.model) == ("", RECIPES["sudoku-longer"].model)


def test_wheels_that_pip_cannot_fetch_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(half_hour, "PLATFORM", ["--nonsense"])
    assert run(half_hour.main, ["pack", "--device", "cpu", "--out", str(tmp_path)]) == 2
    assert "expected pip to fetch wheels into" in capsys.readouterr().err


def test_two_packs_of_one_folder_do_not_mix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["pack", "--dry", "--device", "cpu", "--out", str(tmp_path)]
    place = half_hour.Workplace(tmp_path / "data" / "sudoku", {"call": "sudoku", "train": 4, "test": 4})
    with held(place.path):
        assert run(half_hour.main, argv) == 2
    assert "in use by another process" in capsys.readouterr().err
