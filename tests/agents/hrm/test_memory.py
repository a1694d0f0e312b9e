"""The memory of a training step, estimated before the run."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import hrm_gym
from hrm_gym.agents.devices import free_memory
from hrm_gym.agents.hrm import memory
from hrm_gym.agents.hrm.memory import (
    FACTOR,
    MARGIN,
    check_fits,
    estimate_solving,
    estimate_step,
    largest_batch,
    solving_batch,
)
from hrm_gym.agents.hrm.recipes import RECIPES
from hrm_gym.scripts.main import main

hrm_gym.register_environments()
CPU = torch.device("cpu")
MEASURE = """
import dataclasses, sys, torch
from pathlib import Path
import hrm_gym
from hrm_gym.agents.devices import peak_memory, reset_peak_memory
from hrm_gym.agents.hrm.recipes import RECIPES
from hrm_gym.agents.hrm.trainer import Trainer
hrm_gym.register_environments()
torch.set_num_threads(1)
name, batch, out = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
recipe = dataclasses.replace(RECIPES[name], batch_size=2, init="")
Trainer(recipe, out / "first").step()  # what is made once in a process is made now
before = reset_peak_memory(torch.device("cpu"))
Trainer(dataclasses.replace(recipe, batch_size=batch), out / "second").step()
print(-1 if before is None else peak_memory(torch.device("cpu")) - before)
"""


@pytest.mark.parametrize(("name", "batch"), [("sudoku-4x4", 1024), ("sudoku", 128)])
def test_the_estimate_is_near_a_measured_peak(name: str, batch: int, tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-c", MEASURE, name, str(batch), str(tmp_path)], capture_output=True, text=True, check=True
    )
    measured = int(found.stdout.split()[-1])
    if measured < 0:
        pytest.skip("the system does not tell the peak")
    estimate = estimate_step(RECIPES[name], CPU).peak(batch)
    assert measured / FACTOR < estimate < measured * FACTOR


def test_the_estimate_of_solving_is_near_a_measured_peak() -> None:
    """In a process of its own, whose peak nothing has raised."""
    code = """
import torch
from hrm_gym.agents.devices import peak_memory, reset_peak_memory
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.recipes import RECIPES
torch.set_num_threads(1)
model = HRM.from_state(RECIPES["sudoku"].model)
def segment(boards):
    tokens = torch.ones((boards, model.config.cells), dtype=torch.int32)
    with torch.no_grad():
        return model.segment(model.initial_carry(boards), tokens, tokens[:, 0] * 0)
segment(2)
before = reset_peak_memory(torch.device("cpu"))
segment(256)
print(-1 if before is None else peak_memory(torch.device("cpu")) - before)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    measured = int(found.stdout.split()[-1])
    if measured < 0:
        pytest.skip("the system does not tell the peak")
    assert measured / FACTOR < estimate_solving(RECIPES["sudoku"].model).peak(256) < measured * FACTOR


def test_boards_are_solved_in_batches_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    config = RECIPES["sudoku"].model
    needed = estimate_solving(config)
    for free, expected in ((None, 512), (2**40, 512), (int(FACTOR * needed.peak(100)), 64), (0, 1)):
        monkeypatch.setattr(memory, "free_memory", lambda device, free=free: free)
        assert solving_batch(config, CPU, 512) == expected
    assert solving_batch(config, CPU, 7) == 1


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_estimated(name: str) -> None:
    recipe = RECIPES[name]
    state = torch.random.get_rng_state()
    found = estimate_step(recipe, CPU)
    assert torch.equal(state, torch.random.get_rng_state())
    states = 2 * recipe.model.length * recipe.model.hidden_size * 2
    assert found.board > states
    assert found.peak(2) - found.peak(1) == found.board


@pytest.mark.parametrize("free", [2**27, 2**30, 2**33])
def test_the_largest_batch_fits_and_its_double_does_not(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: free)
    recipe = RECIPES["sudoku-4x4"]
    found, batch = estimate_step(recipe, CPU), largest_batch(recipe, CPU)
    assert batch & (batch - 1) == 0
    assert found.peak(batch) <= MARGIN * free < found.peak(2 * batch)
    check_fits(dataclasses.replace(recipe, batch_size=batch), CPU)


def test_what_cannot_fit_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (free_memory(CPU) or 1) > 0
    monkeypatch.setattr(memory, "free_memory", lambda device: 2**24)
    assert main(["train", "sudoku-4x4", "--batch-size", "4096", "--out", str(tmp_path / "run")]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "a batch of 4096 needs about" in line
    monkeypatch.setattr(memory, "free_memory", lambda device: 2**10)
    assert main(["train", "sudoku-4x4", "--batch-size", "auto", "--out", str(tmp_path / "run")]) == 2
    assert "not even a batch of 1 fits" in capsys.readouterr().err


@pytest.mark.parametrize("written", [["--batch-size", "auto"], ["--batch-size=auto"]])
def test_auto_is_kept_when_a_run_continues(
    written: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    each = estimate_step(RECIPES["sudoku-4x4"], CPU)
    command = ["train", "sudoku-4x4", *written, "--out", str(tmp_path), "--no-compile", "--eval-puzzles", "4"]
    for free, updates in ((int(each.peak(9) / MARGIN), 1), (int(each.peak(40) / MARGIN), 2)):
        monkeypatch.setattr(memory, "free_memory", lambda device, free=free: free)
        assert main([*command, "--updates", str(updates)]) == 0
    said = capsys.readouterr().err
    assert "batch size 8\n" in said
    assert "batch size 32" not in said
    assert f"continuing {tmp_path} at update 1 of 2" in said
