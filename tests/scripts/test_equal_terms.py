"""The comparison on equal terms: same time, same puzzles, same help; and it continues where it was stopped."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrm_gym.scripts.experiments import equal_terms
from hrm_gym.scripts.main import run

ARGUMENTS = ["--agent", "hrm", "a2c", "--seconds", "0.4", "--seeds", "2", "--puzzles", "12"]


def test_every_training_is_judged_alone_and_with_help_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(equal_terms, "TRIAL", 0.2)
    arguments = [*ARGUMENTS, "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    assert equal_terms.main(arguments) == 0
    found = json.loads((tmp_path / "out" / "equal_terms.json").read_text())
    assert len(found["results"]) == 4
    for row in found["results"]:
        assert row["helped"] >= row["alone"] if row["agent"] == "a2c" else 0 <= row["helped"] <= 1
        assert row["cpu_seconds"] > 0
    for name in ("hrm", "a2c"):
        assert found["summary"][name]["trainings"] == 2
        assert found["summary"][name]["dates"] == [found["date"]]
        assert name in (tmp_path / "out" / "equal_terms.md").read_text()
    monkeypatch.setattr(equal_terms, "train_hrm", None)  # nothing is trained again
    monkeypatch.setattr(equal_terms, "train_rl", None)
    assert equal_terms.main(arguments) == 0
    assert json.loads((tmp_path / "out" / "equal_terms.json").read_text())["results"] == found["results"]


@pytest.mark.parametrize("puzzle", equal_terms.PUZZLES)
def test_all_learn_from_the_same_puzzles_and_from_nothing(puzzle: str) -> None:
    asked = equal_terms.hrm_recipe(puzzle, "hrm")
    for name in equal_terms.PUZZLES[puzzle]:
        recipe: Any = (equal_terms.hrm_recipe if equal_terms.is_hrm(name) else equal_terms.rl_recipe)(puzzle, name)
        env = {key: value for key, value in recipe.env.items() if key != "legal_only"}
        assert (recipe.env_id, {"difficulty": "easy", **env}) == (asked.env_id, {"difficulty": "easy", **asked.env})
        assert recipe.source == "generate"
        assert not getattr(recipe, "mixture", ())
        assert not getattr(recipe, "init", "")


def test_the_help_of_dqn_are_answers_that_differ(tmp_path: Path) -> None:
    recipe = dataclasses.replace(equal_terms.rl_recipe("sudoku-4x4", "dqn"), timesteps=1, envs=2)
    policy = equal_terms.RLRun(recipe, tmp_path).policy
    boards = np.full((64, 4, 4), 1, np.uint8)
    seen: dict[str, Any] = {"puzzle": boards, "answer": boards, "segment": np.zeros((64, 1), np.int32)}
    never, sometimes = (equal_terms.Sampled(policy, chance, 0, action_mode="cell") for chance in (0.0, 0.5))
    same = never.predict(seen)[0]
    assert (same == same[0]).all()
    assert 8 < (sometimes.predict(seen)[0] != same).sum() < 56


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--puzzle", "chess"], "expected one of sudoku-4x4, maze-10x10, sudoku-9x9 as puzzle, got 'chess'"),
        (["--agent", "gpt"], "got 'gpt'"),
        (["--seeds", "1"], "at least 2 seeds"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(
    given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(equal_terms.main, given) == 2
    assert message in capsys.readouterr().err


def test_the_speed_of_training_is_measured_after_a_slow_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rules are compiled first, that may take longer than the whole trial."""

    class Slow(equal_terms.RLRun):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self._processor_began -= 1000.0

    monkeypatch.setattr(equal_terms, "TRIAL", 0.2)
    monkeypatch.setattr(equal_terms, "RLRun", Slow)
    equal_terms.rl_speed.cache_clear()
    assert equal_terms.rl_speed("sudoku-4x4", "a2c") > 50.0
    equal_terms.rl_speed.cache_clear()
