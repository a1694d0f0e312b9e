"""The cost model of many GPUs: its arithmetic, and that it is checked on two processes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from hrm_gym.agents.hrm.distributed import BUCKET
from hrm_gym.agents.hrm.recipes import RECIPES
from hrm_gym.scripts.bench.scaling import Hardware, Update, predict, table
from hrm_gym.scripts.main import main

PAPER = RECIPES["sudoku-extreme-1k"]


def test_an_update_by_hand() -> None:
    """27.3M parameters, 768 boards of 36.7 GFLOP: docs/gpu.md has these figures."""
    one, eight = predict(PAPER, 1, Hardware()), predict(PAPER, 8, Hardware())
    assert one.compute == pytest.approx(768 * 36.7e9 / (0.4 * 989e12), rel=2e-3)
    assert one.reduce == 0
    assert eight.compute == pytest.approx(one.compute / 8)
    messages = round((eight.reduce - 2 * 7 / 8 * 4 * 27.3e6 / 300e9) / (3 * 15e-6))
    assert eight.reduce == pytest.approx(2 * 7 / 8 * 4 * 27.3e6 / 300e9 + messages * 3 * 15e-6, rel=5e-3)
    assert messages == 4 * 27.3e6 // BUCKET + 1, "the last one is the table of tokens, which is small"
    assert 3 * 15e-6 < eight.last < 3 * 15e-6 + 1e-6
    assert one.fixed == eight.fixed == pytest.approx(600 * 5e-6)
    assert (one.limit, predict(PAPER, 64, Hardware()).limit) == ("products", "kernel launches")
    with pytest.raises(ValueError, match="512 processes can share evenly, got 768"):
        predict(PAPER, 512, Hardware())


def test_what_an_overlap_hides() -> None:
    update = Update(compute=4.0, fixed=3.0, reduce=2.0, last=0.2, whole=1.8, backward=0.25)
    assert (update.in_turn, update.seconds) == (5.8, 5.0)
    assert dataclasses.replace(update, reduce=1.0).seconds == 4.2
    own, shared = (predict(RECIPES[name], 8, Hardware()) for name in ("sudoku-extreme-1k", "sudoku-extreme-1k-trm-mlp"))
    assert own.reduce == pytest.approx(own.whole + 6 * 3 * 15e-6), "six messages more"
    assert 0.2 < own.backward < 0.3
    assert shared.seconds == shared.compute + shared.reduce, "one module, all of whose gradients come at the end"


def test_rows_of_a_batch_that_cannot_be_shared_out_are_left_out() -> None:
    rows = table(PAPER, (1, 64, 512), Hardware())
    assert [(row["gpus"], row["batch"]) for row in rows] == [(1, 768), (64, 768), (64, 6144), (512, 49152)]
    boards = [row["batch"] * row["updates"] for row in rows]
    assert max(boards) / min(boards) < 1.01


@pytest.mark.slow
def test_the_command_checks_the_model_on_two_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "scaling.json"
    assert main(["bench", "--only", "scaling", "--rounds", "1", "--seconds", "0.1", "--json", str(out)]) == 0
    said = capsys.readouterr().out
    assert "computed, not measured" in said
    assert "two processes took" in said
    found = json.loads(out.read_text())["measured"]
    for kind in ("wall", "cpu"):
        assert 0 < found[kind]["reduce"] < found[kind]["two"]
        assert found[kind]["two_computed"] == found[kind]["half"] + found[kind]["reduce"]
        assert found[kind]["whole"] == pytest.approx(found[kind]["fixed"] + found["batch"] * found[kind]["board"])
    assert main(["bench", "--only", "scaling", "nothing"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
