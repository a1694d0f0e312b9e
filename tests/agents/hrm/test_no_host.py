"""A training step and a solver of a fixed budget run without a read of the device by the host.

PyTorch's meta device stands for the GPU: a fake device whose tensors have shapes and no numbers, so that everything
that reads one (`item`, `tolist`, `cpu`, `nonzero`, `unique`, a mask as index, an `if`) raises.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TINY

from hrm_gym.agents.hrm import group, thinking, trainer
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.halting import Never
from hrm_gym.agents.hrm.queue import PuzzleQueue
from hrm_gym.agents.hrm.recipes import RECIPES, Recipe
from hrm_gym.agents.hrm.trainer import Trainer
from hrm_gym.envs.maze.rules import MazeFamily

AHEAD = 3
CHANGED: dict[str, Any] = {"eval_every": 1000, "checkpoint_every": 1000, "init": "", "warmup": 1}
SUDOKU = dataclasses.replace(
    RECIPES["sudoku-4x4"],
    **CHANGED,
    batch_size=8,
    augment=True,
    shown=0.5,
    clip_norm=1.0,
    silent_segments=1,
    halt_target="solved",
)
PAPER = dataclasses.replace(  # AdamATan2, puzzle vectors, fixed images, Q-learning; without clipping
    RECIPES["sudoku-extreme-1k"],
    **CHANGED,
    batch_size=4,
    puzzles=4,
    variants=2,
    model=HRMConfig(vocab_size=11, grid=(9, 9), hidden_size=64, heads=2, max_segments=2),
)
MAZE = dataclasses.replace(  # Muon, auxiliary labels, several segments, boards of two sizes, random starts, rules
    RECIPES["maze-any-size-8"],
    **CHANGED,
    batch_size=4,
    random_starts=1.0,
    halt_target="solved",
    other_sizes=({"env": {"size": 5}, "batch_size": 6},),
)
ARC = dataclasses.replace(RECIPES["arc-colours"], **CHANGED, batch_size=2)
EVERY = {"sudoku": SUDOKU, "paper": PAPER, "maze": MAZE, "arc": ARC}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The two places where the host may read are answered, and noted."""
    seen: list[str] = []

    def read(queue: PuzzleQueue, halted: torch.Tensor) -> int:
        seen.append("queue")
        return queue.end + len(halted) if queue.end == 0 else queue.end

    monkeypatch.setattr(PuzzleQueue, "read", read)
    monkeypatch.setattr(Trainer, "settle", lambda self: seen.append("settle"))
    return seen


def on_meta(recipe: Recipe, folder: Path) -> Trainer:
    return Trainer(recipe, folder, device="meta", ahead=AHEAD)


@pytest.mark.parametrize("name", EVERY)
def test_training_steps_read_nothing(name: str, tmp_path: Path, reads: list[str]) -> None:
    """Twice as many as the host prepares at a time, each with what `fit` adds up; every group fills its queue once."""
    run = on_meta(EVERY[name], tmp_path)
    for _ in range(AHEAD * len(run.groups)):
        own = run.group
        run.progress.add(run.step(), own.slots, own.recipe.batch_size)
    assert reads == ["settle", "queue"] * len(run.groups)


Read = Callable[[torch.Tensor], Any]
PUT_BACK: dict[str, Read] = {
    "item": lambda tensor: tensor.sum().item(),
    "tolist": lambda tensor: tensor.tolist(),
    "cpu": lambda tensor: tensor.cpu(),
    "nonzero": lambda tensor: tensor.nonzero(),
    "unique": lambda tensor: tensor.unique(),
    "mask": lambda tensor: tensor[tensor > 0],
    "if": lambda tensor: 1 if tensor.any() else 0,
}


@pytest.mark.parametrize("read", PUT_BACK)
def test_a_read_that_is_put_back_is_found(
    read: str, tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = group.training_halt

    def halt(config: Any, segments: torch.Tensor, *rest: Any) -> torch.Tensor:
        PUT_BACK[read](segments)
        return usual(config, segments, *rest)

    monkeypatch.setattr(group, "training_halt", halt)
    with pytest.raises((RuntimeError, NotImplementedError), match=r"(?i)meta"):
        on_meta(SUDOKU, tmp_path).step()


def test_the_permitted_reads_are_reads(tmp_path: Path) -> None:
    with pytest.raises(NotImplementedError, match="meta"):
        on_meta(SUDOKU, tmp_path).step()


def test_rules_without_tensors_are_the_exception(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where Q(halt) learns what the rules of such a family accept, they judge on the host, which a line says."""
    monkeypatch.setattr(MazeFamily, "judges_tensors", False)
    run = on_meta(dataclasses.replace(TINY, halt_target="solved"), tmp_path)
    assert "the rules of maze judge on the host" in caplog.text
    with pytest.raises(NotImplementedError, match="meta"):
        run.step()


def test_a_fixed_budget_is_solved_without_a_read(tmp_path: Path) -> None:
    run = on_meta(SUDOKU, tmp_path)
    boards = thinking.Boards(*(torch.zeros(5, 16, dtype=torch.int32, device="meta") for _ in range(3)))
    boards = boards._replace(puzzle_ids=boards.puzzle_ids[:, 0], free=boards.free.bool())
    found = thinking.own_and_fixed(run.model, boards, 4)
    assert found.own.shape == found.fixed.shape == (5, 16)
    rules = thinking.Rules(Never(), 4)
    assert sum(1 for _ in thinking.think(run.model, boards, rules)) == 4


@pytest.mark.parametrize("name", ["sudoku", "maze"])
def test_a_step_in_front_of_the_optimiser_is_one_graph(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the compiler behind it, which takes minutes: dynamo alone refuses a graph that breaks."""
    usual, asked = torch.compile, []

    def traced(function: Any, **options: Any) -> Any:
        asked.append(options["fullgraph"])
        return usual(function, backend="eager", **options)

    recipe = dataclasses.replace(EVERY[name], batch_size=2, other_sizes=())
    plain = Trainer(recipe, tmp_path / "plain")
    monkeypatch.setattr(trainer, "can_compile", lambda device: True)
    monkeypatch.setattr(torch, "compile", traced)
    whole = Trainer(recipe, tmp_path / "whole", compile="step")
    assert asked == [True]
    for _ in range(2):
        assert torch.equal(plain.step().total, whole.step().total)
    for own, other in zip(plain.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(own, other)
