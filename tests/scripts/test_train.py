"""`hrm-gym train` and `hrm-gym bench`: a tiny run of each, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import pytest

import hrm_gym
from hrm_gym.rollout import rollout
from hrm_gym.scripts.main import main

TINY = [
    "train", "maze", "--size", "4", "--updates", "6", "--batch-size", "4", "--no-compile", "--eval-puzzles", "4",
    "--eval-every", "3", "--checkpoint-every", "2", "--model.hidden-size", "24", "--model.heads", "2",
]  # fmt: skip


def test_a_tiny_run_makes_weights_that_play(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main([*TINY, "--out", str(run)]) == 0
    assert (run / "curve.jsonl").read_text().count("\n") == 2
    assert list(run.glob("events.out.tfevents.*"))
    env = gym.make("HRMMaze-v0", size=4, split="test")
    agent = hrm_gym.make_agent("hrm", env, weights=run / "model")
    assert len(list(rollout(env, agent, 2, seed=0))) == 2
    capsys.readouterr()
    assert main([*TINY, "--out", str(run)]) == 0
    assert "continuing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "chess"], "unknown recipe 'chess'"),
        (["train", "maze", "--lr", "fast"], "fast"),
        (["train", "maze", "--device", "warp"], "warp"),
        (["train", "maze", "--init", "nowhere"], "nowhere"),
        (["train", "maze", "--model.hidden-size", "10"], "hidden_size"),
        (["bench", "everything"], "everything"),
        (["bench", "env", "--rounds", "0"], "at least one round"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    found = capsys.readouterr().err
    assert said in found
    assert found.startswith("hrm-gym: error: ")
    assert found.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_names_recipes_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "maze-10x10" in shown
    assert "examples" in shown


def test_bench_prints_ratios(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "env", "--rounds", "1", "--seconds", "0.01"]) == 0
    shown = capsys.readouterr().out
    assert "HRMMaze-v0, move" in shown
    assert "x CartPole-v1" in shown
