"""More pairs of ARC's training tasks: which are written, and where."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import hrm_gym  # noqa: F401  (registers the environments)
from hrm_gym.scripts.experiments import rearc
from hrm_gym.scripts.experiments.rearc import RearcConfig, build, new_pairs


def drawn(draw: random.Random, least: float, most: float) -> Mapping[str, Any]:
    """A square of up to 16 cells a side, and its first row; now and then what real generators do on small boards."""
    side = draw.randint(1, 16)
    if side == 5:
        raise ValueError("empty range")
    grid = tuple(tuple(draw.randint(0, 9) for _ in range(side)) for _ in range(side))
    return {"input": grid, "output": grid[:1]}


class Every(dict[str, Any]):
    """The same generator for every task."""

    def __missing__(self, name: str) -> Any:
        return drawn


def test_new_pairs_fit_differ_and_are_always_the_same() -> None:
    pairs = new_pairs("a", drawn, 30, 12)
    assert len(pairs) == 30 == len({str(pair) for pair in pairs})
    assert max(len(pair["input"]) for pair in pairs) == 12, "none that fits is left out"
    assert all(pair["input"] != pair["output"] for pair in pairs), "a pair of one row would change nothing"
    assert pairs == new_pairs("a", drawn, 30, 12) != new_pairs("b", drawn, 30, 12)


@pytest.mark.parametrize("held_out", [0, 60])
def test_the_folder_has_the_tasks_in_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held_out: int
) -> None:
    monkeypatch.setattr(rearc, "generators", Every)
    made = build(RearcConfig(tmp_path / "tasks", pairs=2, held_out=held_out))
    sources = {
        split: gym.make("HRMARCMini-v0", split=split, augment=False, source=tmp_path / "tasks").unwrapped.puzzle_source  # type: ignore[attr-defined]
        for split in ("train", "evaluation")
    }
    official = gym.make("HRMARCMini-v0", split="train", augment=False).unwrapped.puzzle_source  # type: ignore[attr-defined]
    learnt = 220 - held_out
    assert made == 2 * learnt
    if held_out:
        assert len({sources["evaluation"][k].puzzle_id for k in range(len(sources["evaluation"]))}) == held_out
        assert len(sources["train"]) + len(sources["evaluation"]) == len(official) + made, "no test grid is lost"
    else:
        assert sources["train"].task_names == official.task_names, "rows of the puzzle embedding keep their tasks"
        assert len(sources["train"]) == len(official) + made
        shown = sources["evaluation"][0].extras
        pairs = shown["demonstrations"][: int(shown["pairs"].item())]
        assert len(np.unique(pairs.reshape(len(pairs), -1), axis=0)) < len(pairs), "demonstrations are there repeatedly"


def test_the_generators_are_found_without_importing_what_is_around_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "reasoning_gym" / "arc" / "rearc_utils"
    (folder / "generators").mkdir(parents=True)
    (tmp_path / "reasoning_gym" / "__init__.py").write_text("raise RuntimeError('it needs a dozen packages')\n")
    (folder / "dsl.py").write_text("ZERO = 0\n")
    code = "from ..dsl import *\ndef generate_abc(draw, least, most):\n    return ZERO\n"
    (folder / "generators" / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "rearc_utils"]:
        monkeypatch.delitem(sys.modules, name)
    found = rearc.generators()
    assert list(found) == ["abc"]
    assert found["abc"](random.Random(0), 0.0, 1.0) == 0


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install --no-deps reasoning-gym"):
        build(RearcConfig(tmp_path / "tasks"))
    assert not (tmp_path / "tasks").exists()


@pytest.mark.parametrize("wrong", [{"pairs": 0}, {"canvas": 31}, {"held_out": 220}])
def test_bad_numbers_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, int]) -> None:
    monkeypatch.setattr(rearc, "generators", Every)
    with pytest.raises(ValueError, match="expected --pairs of at least 1"):
        build(RearcConfig(tmp_path / "tasks", **wrong))
