"""The arms of the search control."""

from __future__ import annotations

import numpy as np

from hrm_gym.envs.sudoku.rules import sudoku
from hrm_gym.envs.sudoku.source import BankedSudoku, find_bank
from hrm_gym.scripts.experiments.search_control import fewest_candidates, without_network

FAMILY = sudoku((3, 3))
BANKS = {name: BankedSudoku(find_bank((3, 3), name), "validation") for name in ("easy", "medium")}  # type: ignore[arg-type]


def test_the_cell_with_the_fewest_candidates_is_guessed() -> None:
    clues = BANKS["medium"].clues[:5]
    counts = np.where(FAMILY.free(clues).reshape(5, -1), FAMILY.candidates(clues).sum(-1), 99)
    cell, worth = fewest_candidates(FAMILY, clues)
    assert np.array_equal(counts[np.arange(5), cell], counts.min(axis=1))
    allowed = FAMILY.candidates(clues)[np.arange(5), cell]
    assert not np.isfinite(worth[~allowed]).any()
    right = BANKS["medium"].solutions[:5].reshape(5, -1)[np.arange(5), cell] - 2
    assert np.isfinite(worth[np.arange(5), right]).all(), "the right symbol never leaves a cell without a candidate"


def test_search_without_a_network() -> None:
    assert all(without_network(FAMILY, clues, 16, 10) for clues in BANKS["easy"].clues[:5])
    assert not without_network(FAMILY, np.ones((9, 9), np.uint8), 4, 2)
    wrong = BANKS["easy"].solutions[0].copy()
    wrong[0, 0] = 1
    wrong[0, 1] = wrong[0, 2]
    assert not without_network(FAMILY, wrong, 4, 2)
