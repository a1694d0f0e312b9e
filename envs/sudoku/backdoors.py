"""How much one right guess opens up, and Sudokus in which it opens up little.

A *backdoor* is a cell whose right digit leaves nothing to guess (Williams, Gomes, Selman, IJCAI 2003). Two puzzles that
cost a solver as many guesses may have twenty backdoors, and then it was unlucky, or none. The rating of `solver.rate`
does not tell them apart, and the walks of `extreme.py`, which follow it, find the first kind.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.compiled import below_kernel, compiled
from hrm_gym.envs.puzzle import SPLITS
from hrm_gym.envs.sudoku.boxes import board
from hrm_gym.envs.sudoku.extreme import MOST_CHANGES, MOST_SOLUTIONS, list_changes_kernel, load_founders
from hrm_gym.envs.sudoku.generator import minimise_kernel
from hrm_gym.envs.sudoku.solver import (
    copy_kernel,
    count_candidates_kernel,
    load_kernel,
    propagate_kernel,
    rate,
    search_kernel,
)
from hrm_gym.envs.sudoku.symmetry import in_split_kernel

NEAR = 0.03
"""A puzzle whose effect is this much too large may come under the mark when its needless clues are taken away."""


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


@compiled
def evolve_kernel(state, layout, split, steps, aim, bars, clues, solutions, effects, guesses):
    """Steps of puzzles of a pool, drawn by chance, each to a neighbour (see `extreme.py`) where a guess opens no more.

    Args:
        state: (1,) uint64 of the stream of chance.
        layout: of the board.
        split: number of the split that all puzzles belong to.
        steps: how many.
        aim: an effect below which any effect is as good.
        bars: (N,) int64; a puzzle's doubled guesses stay above its bar, once they are.
        clues: (N, n, n) uint8, changed in place, as are `solutions`, `effects` (N,) float64 and `guesses` (N,) int64,
            doubled.
    """
    size = clues.shape[1]
    base, trial = np.empty((size, size), dtype=np.uint8), np.empty((size, size), dtype=np.uint8)
    many, found = np.empty((MOST_SOLUTIONS, size, size), dtype=np.uint8), np.empty((1, size, size), dtype=np.uint8)
    changes = np.empty(size * size * size, dtype=np.int64)
    barren = np.zeros(size * size, dtype=np.bool_)
    for _ in range(steps):
        i = below_kernel(state, len(clues))
        most, least = max(effects[i], aim), min(bars[i], guesses[i])
        barren[:] = False
        left = list_changes_kernel(state, layout, clues[i], barren, base, many, changes)
        for _ in range(min(left, MOST_CHANGES)):
            pick = below_kernel(state, left)
            change = changes[pick]
            left -= 1
            changes[pick] = changes[left]
            copy_kernel(base.reshape(-1), trial.reshape(-1))
            trial[change // size // size, change // size % size] = change % size + 2
            if search_kernel(trial, layout, np.int64(2), found)[1] < least:
                continue
            if effect_kernel(trial, found[0], layout)[0] > most + NEAR:
                continue
            if not in_split_kernel(trial, found[0], layout.box_rows, layout.box_cols, split):
                continue
            minimise_kernel(state, found[0], layout, trial)
            rating = search_kernel(trial, layout, np.int64(2), found)[1]
            effect = effect_kernel(trial, found[0], layout)[0]
            if rating >= least and effect <= most:
                effects[i], guesses[i] = effect, rating
                copy_kernel(trial.reshape(-1), clues[i].reshape(-1))
                copy_kernel(found.reshape(-1), solutions[i].reshape(-1))
                break


def few_backdoors(
    pool: int, seed: int, aim: float, steps: int = 8
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float64], NDArray[np.int64]]]:
    """Generations, without end, of a pool of extreme puzzles of the train split in which right guesses open ever less.

    Args:
        pool: puzzles of a generation, at least 20.
        seed: of all chance.
        aim: effect below which puzzles only move about.
        steps: from one generation to the next, a puzzle.

    Yields:
        (N, 9, 9) uint8 clues and solutions, (N,) float64 effects and (N,) int64 guesses. After each the twentieth with
        the largest effects gives way to copies of others.

    Raises:
        ValueError: the pool is too small, or larger than there are founders.
    """
    rng = np.random.default_rng(seed)
    founders = load_founders("train")
    if not 20 <= pool <= len(founders):
        raise ValueError(f"expected a pool of 20 to {len(founders)} puzzles, got {pool}")
    layout = board((3, 3)).layout
    chosen = founders[rng.permutation(len(founders))[:pool]].reshape(pool, 2, 9, 9)
    clues, solutions = chosen[:, 0].copy(), chosen[:, 1].copy()
    opened, guesses = effects(clues, solutions)[:, 0].copy(), np.array([2 * rate(grid) for grid in clues])
    bars = (2 * (5 + 55 * rng.random(pool) ** 2)).astype(np.int64)  # few puzzles are to stay very hard
    state = rng.integers(2**63, size=1).astype(np.uint64)
    while True:
        evolve_kernel(state, layout, SPLITS.index("train"), steps * pool, aim, bars, clues, solutions, opened, guesses)
        yield clues.copy(), solutions.copy(), opened.copy(), guesses // 2
        order = np.argsort(opened, kind="stable")
        count = pool // 20
        worst, copied = order[-count:], rng.choice(order[: pool // 2], count, replace=False)
        for array in (clues, solutions, opened, guesses, bars):
            array[worst] = array[copied]
