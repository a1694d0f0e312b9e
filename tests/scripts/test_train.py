"""`hrm-gym train`: a tiny run, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import subprocess
import sys
import threading
import time
from pathlib import Path

import gymnasium as gym
import pytest
import torch

import hrm_gym
from hrm_gym.agents.hrm.feed import Feed, training_source
from hrm_gym.agents.hrm.recipes import RECIPES
from hrm_gym.evaluation.rollout import rollout
from hrm_gym.scripts.bench.flops import segment_flops
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


def test_settings_of_a_recipe_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "sudoku-extreme-1k", "--help"]) == 0
    shown = capsys.readouterr().out
    for option in ("--variants", "--shown", "--silent-segments", "--model.gradient", "--model.positions", "--device"):
        assert option in shown
    assert "1000" in shown


def test_held_out_puzzles_may_come_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, question in (("train.csv", "1.3434122143.321"), ("test.csv", "12.43412214.4321")):
        row = f"mine,{question},1234341221434321,0\n"
        (tmp_path / name).write_text("source,question,answer,rating\n" + row)
    short = ["--updates", "2", "--batch-size", "2", "--eval-puzzles", "2", "--no-compile"]
    command = ["train", "sudoku-4x4", "--source", str(tmp_path / "train.csv"), *short, "--out", str(tmp_path / "a")]
    assert main(command) == 0
    assert "held out: bundled validation puzzles, or new ones, for" in capsys.readouterr().err
    test = str(tmp_path / "test.csv")
    assert main([*command[:-1], str(tmp_path / "b"), "--test-source", test]) == 0
    assert f"held out: {test}" in capsys.readouterr().err
    recipes = [json.loads((tmp_path / name / "model" / "config.json").read_text())["recipe"] for name in ("a", "b")]
    assert [recipe["test_source"] for recipe in recipes] == ["", test]
    assert Feed(dataclasses.replace(RECIPES["sudoku-4x4"], test_source=test), torch.device("cpu")).held_out.length == 1


def test_variants_stand_behind_a_recipes_name() -> None:
    assert RECIPES["maze-direct"].model.max_segments == 1
    assert RECIPES["sudoku-extreme-1k-trm-mlp"].model.mixer == "mlp"
    assert "maze-direct" not in RECIPES
    with pytest.raises(KeyError):
        RECIPES["chess-direct"]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_finds_puzzles_of_its_networks_size(name: str) -> None:
    recipe = RECIPES[name]
    family, source = training_source(recipe)
    assert source.shape == recipe.model.grid
    assert family.vocab_size == recipe.model.vocab_size
    assert recipe.to_json()["env_id"] == recipe.env_id


def test_two_processes_train_by_command(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "hrm_gym.scripts.main", *TINY, "--device", "cpu", "--out", str(tmp_path / "run")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert "2 processes" in ran.stderr
    assert ran.stderr.count("finished weights") == 1
    assert (tmp_path / "run" / "curve.jsonl").read_text().count("\n") == 2


def test_the_memory_of_a_step_is_tabled_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["bench", "--only", "memory", "--cycles", "1", "--hidden", "16", "--batch", "1", "--out", str(tmp_path)])
        == 0
    )
    assert "| 1 x 1 | 2 |" in capsys.readouterr().out
    assert {file.name for file in tmp_path.iterdir()} == {"memory.md", "memory.json", "memory.png"}


def test_operations_a_second(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Figures hang together; the peak of a large product is not out-run by a tiny network."""
    found = tmp_path / "flops.json"
    arguments = ["sudoku-4x4", "--batch", "4", "--updates", "2", "--warmup", "1", "--no-compile", "--device", "cpu"]
    assert main(["bench", "--only", "flops", *arguments, "--json", str(found)]) == 0
    assert "of the measured peak" in capsys.readouterr().out
    told = json.loads(found.read_text())
    expected = told["boards_per_second"] * told["gflop_per_board"] / 1e3
    assert told["tflops"] == pytest.approx(expected)
    assert 0 < told["share"] == pytest.approx(told["tflops"] / told["peak_tflops"])
    recipe = RECIPES["sudoku-4x4"]
    assert recipe.continue_every == 4
    forward, training = segment_flops(recipe.model), segment_flops(recipe.model, True, target=False)
    assert told["gflop_per_board"] * 1e9 == pytest.approx(training + forward / 4)
    for bad in (["nothing"], ["maze", "--updates", "0"]):
        assert main(["bench", "--only", "flops", *bad]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_no_process_is_left_after_a_training(tmp_path: Path) -> None:
    few = ["--updates", "1", "--eval-puzzles", "2", "--test-puzzles", "2", "--no-compile", "--workers", "1"]
    assert main(["train", "sudoku-4x4", *few, "--out", str(tmp_path / "run")]) == 0
    assert not multiprocessing.active_children()


def test_a_file_in_place_of_a_recipe_is_told_where_it_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("1..33..42...413.\n")
    assert main(["train", str(tmp_path / "mine.txt")]) == 2
    assert "got a file: hrm-gym train ENV --source" in capsys.readouterr().err


def test_a_killed_worker_ends_the_run_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, killed = tmp_path / "run", []

    def kill() -> None:
        while not (run / "curve.jsonl").exists():
            time.sleep(0.05)
        for process in multiprocessing.active_children():
            process.kill()
            killed.append(process)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    assert main([*TINY, "--updates", "100000", "--workers", "2", "--out", str(run)]) == 2
    killer.join()
    assert len(killed) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == (
        "hrm-gym: error: a worker process died (out of memory?); the same command continues where it stopped"
    )
    assert not multiprocessing.active_children()
