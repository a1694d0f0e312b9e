"""How much one right guess opens up in a Sudoku.

A *backdoor* is a cell whose right digit leaves nothing to guess (Williams, Gomes, Selman, IJCAI 2003). Two puzzles that
cost a solver as many guesses may have twenty backdoors, and then it was unlucky, or none. The rating of `solver.rate`
does not tell them apart, and the walks of `extreme.py`, which follow it, find the first kind.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.compiled import compiled
from hrm_gym.envs.sudoku.boxes import board
from hrm_gym.envs.sudoku.solver import count_candidates_kernel, load_kernel, propagate_kernel


@compiled
def _superfluous(clues, layout, words, patterns, counts):
    """Candidates beyond one of all cells, once propagation has gone as far as it goes; fills `counts` (n, n)."""
    propagate_kernel(words, load_kernel(clues, layout, words), layout, patterns)
    count_candidates_kernel(words, layout, counts)
    total = 0
    for cell in range(counts.size):
        total += max(counts.flat[cell] - 1, 0)
    return total


@compiled
def effect_kernel(clues, solution, layout):
    """What right guesses do: the share of superfluous candidates that one removes, in the mean over open cells, and the
    share of open cells that are backdoors. (1, 1) for a puzzle that needs no guess."""
    size = len(clues)
    words = np.empty(2 * size * layout.box_cols, dtype=np.int64)
    patterns, counts = np.empty((size, 2), dtype=np.int64), np.empty((size, size), dtype=np.int64)
    total = _superfluous(clues, layout, words, patterns, counts)
    if total == 0:
        return 1.0, 1.0
    open_cells, trial = counts > 1, clues.copy()
    cells, backdoors, effect = 0, 0, 0.0
    for row in range(size):
        for column in range(size):
            if not open_cells[row, column]:
                continue
            trial[row, column] = solution[row, column]
            left = _superfluous(trial, layout, words, patterns, counts)
            trial[row, column] = clues[row, column]
            cells, backdoors, effect = cells + 1, backdoors + (left == 0), effect + 1 - left / total
    return effect / cells, backdoors / cells


@compiled
def effects_kernel(clues, solutions, layout, effects):
    """Fill (N, 2) float64 `effects` with `effect_kernel` of (N, n, n) puzzles."""
    for i in range(len(clues)):
        effects[i, 0], effects[i, 1] = effect_kernel(clues[i], solutions[i], layout)


def effects(clues: NDArray[np.uint8], solutions: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(N, 2): mean effect of a right guess and share of backdoors of (N, 9, 9) puzzles; see `effect_kernel`."""
    found = np.empty((len(clues), 2))
    effects_kernel(clues, solutions, board((3, 3)).layout, found)
    return found
