"""The bundled weights do what their cards say, on puzzles of a seed that is not the card's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import hrm_gym
from hrm_gym.agents import pretrained
from hrm_gym.agents.hrm import thinking
from hrm_gym.data.stream import PuzzleStream
from hrm_gym.evaluation.rollout import rollout_batched
from hrm_gym.evaluation.scores import score


def make(mode: str = "answer") -> Any:
    return gym.make("HRMMaze-v0", action_mode=mode, split="test", source="generate", disable_env_checker=True)


def test_every_folder_has_a_card() -> None:
    folders = [path for path in pretrained.FOLDER.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert folders
    for folder in folders:
        assert {"model.safetensors", "config.json", "CARD.md"} <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("mode", ["answer", "move"])
def test_the_bundled_hrm_solves_mazes(mode: str) -> None:
    torch.set_num_threads(1)
    agent = hrm_gym.make_agent("hrm", make(mode), device="cpu")
    found = score(list(rollout_batched(lambda: make(mode), agent, 100, 100, seed=77)))
    assert found.solved > 0.93, f"the card says 98.6 %, got {found.solved:.1%}"
    if mode == "answer":
        assert found.mean_segments is not None
        assert 1 < found.mean_segments < 6


def test_one_set_of_weights_plays_mazes_of_every_size() -> None:
    torch.set_num_threads(1)
    for size, least in ((6, 0.85), (14, 0.75)):

        def make_env(size: int = size) -> Any:
            return gym.make("HRMMaze-v0", size=size, source="generate", split="test", disable_env_checker=True)

        agent = hrm_gym.make_agent("hrm", make_env(), device="cpu")
        found = score(list(rollout_batched(make_env, agent, 60, 60, seed=77)))
        assert found.solved > least, size


def test_loading_twice_changes_nothing() -> None:
    folder = next(iter(pretrained.bundled("hrm")))[0]
    before = {path: path.read_bytes() for path in Path(folder).iterdir()}
    hrm_gym.make_agent("hrm", make())
    assert before == {path: path.read_bytes() for path in Path(folder).iterdir()}


def test_a_processor_without_bfloat16_thinks_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hrm_gym.agents.hrm.agent.has_fast_bfloat16", lambda device: False)
    agent = hrm_gym.make_agent("hrm", make(), device="cpu")
    assert agent.model.dtype == torch.float32  # type: ignore[attr-defined]
    found = score(list(rollout_batched(make, agent, 50, 50, seed=77)))
    assert found.solved > 0.9


def sudoku(**arguments: Any) -> Any:
    settings = {"split": "test", "source": "bank", "max_segments": 64, "disable_env_checker": True, **arguments}
    return gym.make("HRMSudoku-v0", **settings)


@pytest.mark.parametrize(("agent_name", "difficulty", "least"), [("hrm", "easy", 0.95), ("hrm-search", "hard", 0.95)])
def test_the_bundled_hrm_solves_sudoku(agent_name: str, difficulty: str, least: float) -> None:
    torch.set_num_threads(1)

    def make_env() -> Any:
        return sudoku(difficulty=difficulty)

    agent = hrm_gym.make_agent(agent_name, make_env(), device="cpu")
    found = score(list(rollout_batched(make_env, agent, 40, 40, seed=77)))
    assert found.solved >= least


@pytest.mark.parametrize("box", [(2, 2), (2, 3)])
def test_the_bundled_hrms_solve_small_sudokus(box: tuple[int, int]) -> None:
    torch.set_num_threads(1)

    def make_env() -> Any:
        return gym.make("HRMSudokuMini-v0", box=box, split="test", source="bank", disable_env_checker=True)

    found = score(
        list(rollout_batched(make_env, hrm_gym.make_agent("hrm", make_env(), device="cpu"), 100, 50, seed=77))
    )
    assert found.solved >= 0.97, f"the cards say 99.8 % and more, got {found.solved:.1%}"


@pytest.mark.parametrize("blanks", [0, 1, 3])
def test_nearly_finished_sudokus_come_out_right(blanks: int) -> None:
    env = sudoku(difficulty="extreme")
    agent = hrm_gym.make_agent("hrm", env, device="cpu")
    solutions = PuzzleStream(env.unwrapped.puzzle_source, 5).take(0, 100).solutions
    puzzles, rng = solutions.copy(), np.random.default_rng(blanks)
    for puzzle in puzzles:
        puzzle.reshape(-1)[rng.choice(81, blanks, replace=False)] = 1
    boards = agent.boards(puzzles)  # type: ignore[attr-defined]
    solved = thinking.solve(agent.model, boards.inputs, boards.puzzle_ids, 16)  # type: ignore[attr-defined]
    assert (solved.answers.numpy().reshape(solutions.shape) == solutions).all()
