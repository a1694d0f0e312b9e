"""Every call of the half hour on a GPU works, in tiny sizes on the CPU; one that trains goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hrm_gym.scripts.gpu import half_hour


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
    if call == "pack":
        assert "gymnasium" in found["wheels"]
        assert "torch" not in found["wheels"]
    if call in half_hour.TRAININGS:
        assert found["update"] == 3
        assert 0 <= found["fixed_16_exact"] <= 1


def test_a_training_stops_by_the_clock_and_goes_on(tmp_path: Path) -> None:
    argv = ["own", "--dry", "--device", "cpu", "--out", str(tmp_path / "out"), "--run", str(tmp_path / "run")]
    assert half_hour.main([*argv, "--minutes", "1e-9"]) == 0
    first = json.loads((tmp_path / "out" / "own.json").read_text())["update"]
    assert half_hour.main(argv) == 0
    assert json.loads((tmp_path / "out" / "own.json").read_text())["update"] == 3 >= first
