"""Extreme 9x9 puzzles, as rated in Sudoku-Extreme, made from 64-bit keys; see `walking.py` for how."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.puzzle import Puzzle, PuzzleBatch, puzzle_key
from hrm_gym.envs.sudoku.boxes import board
from hrm_gym.envs.sudoku.packing import pack, unpack
from hrm_gym.envs.sudoku.splits import SPLITS
from hrm_gym.envs.sudoku.symmetry import line_orders
from hrm_gym.envs.sudoku.walking import anneal_kernel, extreme_kernel, found_kernel

FOUNDERS = Path(__file__).parent / "banks" / "founders.npz"

BUNDLED_FOUNDERS = {"train": 1024, "test": 256, "seed": 2026, "rounds": 3}
"""The arguments of `build_founders` for the bundled file."""

TRIALS = 400
"""Clues tried in a round of hardening."""

_BOARD = board((3, 3))


@cache
def load_founders(split: str) -> NDArray[np.uint8]:
    """(M, 2, 81) uint8: clues and solution of the bundled founders of "train", "test" or "all"."""
    with np.load(FOUNDERS) as stored:
        names = ("train", "test") if split == "all" else (split,)
        return np.concatenate([unpack(stored[f"{name}_given"], stored[f"{name}_digits"], 9) for name in names])


def build_founders(train: int, test: int, seed: int, rounds: int, path: Path = FOUNDERS) -> Path:
    """Find extreme puzzles from nothing, harden them, and write them; half an hour of one core for the bundled ones.

    Args:
        train: number of founders of the train split that are found, and that come out of every round.
        test: the same for the test split.
        seed: recorded in the file.
        rounds: of hardening.
        path: the npz file to write.

    Returns:
        The file written.
    """
    arrays: dict[str, Any] = {"seed": seed, "rounds": rounds}
    for split, count in (("train", train), ("test", test)):
        keys = np.array([puzzle_key(seed, k) for k in range(count)], dtype=np.uint64)
        clues = np.ones((count, 9, 9), dtype=np.uint8)
        solutions = np.ones_like(clues)
        found_kernel(keys, _BOARD.layout, SPLITS.index(split), clues, solutions)
        arrays[f"{split}_given"], arrays[f"{split}_digits"] = pack(*harden(clues, solutions, split, seed, rounds))
    np.savez_compressed(path, **arrays)
    load_founders.cache_clear()
    return path


def harden(
    clues: NDArray[np.uint8], solutions: NDArray[np.uint8], split: str, seed: int, rounds: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Population annealing: every round makes all puzzles harder, then the easiest quarter gives way to copies.

    The copies are of puzzles of the harder half, and part from them in the next round.

    Args:
        clues: (N, 9, 9) uint8 extreme puzzles, N a multiple of 4.
        solutions: (N, 9, 9) uint8.
        split: the split they belong to and stay in.
        seed: of the walks and of the copies.
        rounds: how many.

    Returns:
        (N * (rounds + 1), 9, 9) clues and solutions: the puzzles given, and those after each round.
    """
    rng = np.random.default_rng(seed)
    quarter = len(clues) // 4
    stages = [(clues, solutions)]
    for _ in range(rounds):
        clues, solutions, ratings = clues.copy(), solutions.copy(), np.empty(len(clues), dtype=np.int64)
        keys = rng.integers(2**63, size=len(clues)).astype(np.uint64)
        anneal_kernel(keys, _BOARD.layout, SPLITS.index(split), TRIALS, clues, solutions, ratings)
        stages.append((clues, solutions))
        order = np.argsort(ratings, kind="stable")
        kept = np.concatenate([order[quarter:], rng.choice(order[2 * quarter :], quarter, replace=False)])
        clues, solutions = clues[kept], solutions[kept]
    return np.concatenate([c for c, _ in stages]), np.concatenate([s for _, s in stages])


class ExtremeSudoku:
    """New 9x9 puzzles of 15 guesses and more, without end.

    Attributes:
        shape: (9, 9).
    """

    shape = (9, 9)

    def __init__(self, split: str = "train") -> None:
        """Choose the split: "train", "test" (disjoint up to symmetry) or "all"; ValueError for any other."""
        if split not in SPLITS:
            raise ValueError(f"expected split to be one of {', '.join(SPLITS)}, got {split!r}")
        self.split = split

    def puzzle(self, key: int) -> Puzzle:
        """The puzzle of one 64-bit key, with its rating."""
        batch, ratings = self.rated_batch(np.array([key], dtype=np.uint64))
        return Puzzle(batch.clues[0], batch.solutions[0], rating=float(ratings[0]))

    def batch(self, keys: NDArray[np.uint64]) -> PuzzleBatch:
        """The puzzles of N uint64 keys, in one compiled call."""
        return self.rated_batch(keys)[0]

    def rated_batch(self, keys: NDArray[np.uint64]) -> tuple[PuzzleBatch, NDArray[np.int32]]:
        """The puzzles of N uint64 keys and their (N,) ratings."""
        count, orders = len(keys), line_orders(3, 3)
        clues, ratings = np.empty((count, 9, 9), dtype=np.uint8), np.empty(count, dtype=np.int32)
        solutions = np.empty_like(clues)
        places = load_founders(self.split), orders, orders, _BOARD.layout, SPLITS.index(self.split)
        extreme_kernel(keys, *places, clues, solutions, ratings)
        return PuzzleBatch(clues, solutions, np.zeros(count, dtype=np.int32)), ratings
