"""What tests of several rooms need: a made-up halting bank of which everything is known; which tests are slow."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

if "PYTEST_XDIST_WORKER" in os.environ:  # several processes share the cores: PyTorch's threads would fight over them
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

import hrm_gym
import hrm_gym.agents
from hrm_gym.envs.halting.bank import FORMAT_VERSION, SCALARS, HaltingBank, from_arrays

Arrays = dict[str, NDArray[Any]]

QUICK = ("envs", "spine", "test_architecture.py", "agents/hrm/test_components.py", "agents/test_simple_agents.py")
"""Folders and files, under tests/, of quick tests; all others are slow."""

SLOW = (
    "envs/test_compiled.py",
    "envs/test_splits.py",
    "envs/test_sudoku_sources.py",
    "spine/test_compare_training.py",
    "spine/test_conformance.py",
    "spine/test_crash_points.py",
    "spine/test_dataset_build.py",
    "spine/test_extras.py",
    "spine/test_own_puzzle.py",
    "spine/test_plots.py",
    "spine/test_plugins.py",
    "spine/test_stream.py",
)
"""Files among them that compile, start processes, train or draw plots."""

LARGE = ("HRMARC-v0", "HRMARC2", "HRMMazeHard", "HRMSudokuExtreme", "Sudoku16x16")
"""Names in tests of large boards, which are slow; the same tests of the smaller boards of each family are not."""

# An editable installation of another checkout lends its folders to one that lacks the links of `make links`.
CHECKOUT = Path(__file__).resolve().parents[1]
if (
    CHECKOUT in Path(hrm_gym.__file__).resolve().parents
    and CHECKOUT not in Path(hrm_gym.agents.__file__).resolve().parents
):
    pytest.exit(f"hrm_gym.agents is {hrm_gym.agents.__file__}, of another checkout: run `make links` here", 4)

# A randomised test that fails prints how to repeat it: hypothesis with this, the others by their parameters. The first
# call of a compiled function compiles it, so that no example has a deadline.
settings.register_profile("repeatable", print_blob=True, deadline=None)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark slow tests: `make quick` leaves them out."""
    here = Path(__file__).parent
    for item in items:
        place = item.path.relative_to(here).as_posix()
        if not place.startswith(QUICK) or place in SLOW or any(name in item.name for name in LARGE):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def halting_arrays() -> Callable[..., Arrays]:
    """Makes the arrays of a bank: a puzzle becomes right at a random segment, if ever, and sometimes wrong again.

    `q_halt` tells rightness with noise, `q_continue` is near 0.
    """

    def make(puzzles: int = 60, segments: int = 5, dims: int = 2, seed: int = 0, noise: float = 1.0) -> Arrays:
        rng = np.random.default_rng(seed)
        shape = (puzzles, segments)
        solved = np.arange(segments) >= rng.integers(0, segments + 2, size=(puzzles, 1))
        solved &= rng.random(shape) < 0.95
        arrays: Arrays = {"solved": solved, "exact": solved & (rng.random(shape) < 0.9)}
        arrays["cell_accuracy"] = np.where(solved, 1.0, rng.random(shape)).astype(np.float16)
        for name in SCALARS[1:5]:
            arrays[name] = rng.normal(size=shape).astype(np.float16)
        arrays["q_halt"] = (2.0 * np.where(solved, 1, -1) + noise * rng.normal(size=shape)).astype(np.float16)
        arrays["q_continue"] = (0.1 * rng.normal(size=shape)).astype(np.float16)
        arrays["changed"] = rng.random(shape).astype(np.float16)
        arrays["state"] = rng.normal(size=(*shape, dims)).clip(-8, 8).astype(np.float16)
        arrays["difficulty"] = rng.random(puzzles).astype(np.float32)
        arrays["world"], arrays["index"] = np.zeros(puzzles, np.uint8), np.arange(puzzles, dtype=np.int32)
        arrays["test"] = rng.random(puzzles) < 0.4
        about = {
            "format_version": FORMAT_VERSION,
            "agent": "made up",
            "env": "Nowhere-v0",
            "worlds": [""],
            "unit": "nothing",
            "weights": "0" * 64,
            "command": "none",
            "created": "2026-11-24",
        }
        return {**arrays, "about": np.array(json.dumps(about))}

    return make


@pytest.fixture
def halting_bank(halting_arrays: Callable[..., Arrays]) -> HaltingBank:
    """A bank of 60 puzzles and 5 segments."""
    return from_arrays(halting_arrays(), "made-up")


@pytest.fixture
def halting_file(halting_arrays: Callable[..., Arrays], tmp_path: Path) -> Path:
    """The same as a file."""
    np.savez_compressed(tmp_path / "made-up.npz", **halting_arrays())
    return tmp_path / "made-up.npz"
