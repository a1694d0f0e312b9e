"""A walk among neighbouring puzzles that ends at an extreme one; compiled.

A random puzzle is extreme once in a thousand, but a neighbour of an extreme one often is. Neighbours differ by one
clue: one is taken away, all solutions that appear are listed, and any digit in a cell that only one of them has there
can be the new clue; the solution may change with it. Clues that have become needless go too. A walk moves to a
neighbour that reaches the walk's bar, or, as long as none did, one that is no easier than where the walk stands.

A walk from a random puzzle, up the hill, *founds*; founders are hardened by annealing, where a step may also go down a
little; a walk from a founder, under a random symmetry, gives the puzzle of a key. All founders come from this search.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from hrm_gym.envs.sudoku.chance import below_kernel, mix_kernel
from hrm_gym.envs.sudoku.digging import dig_minimal_kernel, fill_kernel, minimise_kernel
from hrm_gym.envs.sudoku.search import search_kernel
from hrm_gym.envs.sudoku.solver import copy_kernel
from hrm_gym.envs.sudoku.splits import in_split_kernel
from hrm_gym.envs.sudoku.symmetry import turn_kernel

TRIALS = 48
"""Clues tried on the walk from a founder to the puzzle of a key; about one in ten moves."""

CLIMB = 40
"""Clues tried before a climb from a random puzzle is given up and the next one begun."""

MOST_SOLUTIONS = 64
"""A clue whose removal leaves so many solutions is put back at once."""

MOST_CHANGES = 16
"""New clues tried in place of one."""

FLOOR = 30
"""Twice the guesses of the easiest extreme puzzle."""

HIGHEST = 110
"""The bar of a key's walk is up to so many guesses above the floor; low bars are more likely than high ones."""

SLACK = 0.08
"""How far a step of annealing goes down: the rating may fall to its u^SLACK-fold, u uniform from 0 to 1."""


@njit(cache=True)
def _pick_clue(state, clues, barren):
    """A cell with a clue that is not `barren`, by chance; -1 if there is none."""
    size = len(clues)
    chosen, count = -1, 0
    for cell in range(size * size):
        if clues[cell // size, cell % size] >= 2 and not barren[cell]:
            count += 1
            if below_kernel(state, count) == 0:
                chosen = cell
    return chosen


@njit(cache=True)
def _list_changes(clues, solutions, count, changes):
    """Fill `changes` with cell * n + digit for what one solution alone has in a blank cell; returns how many."""
    size = len(clues)
    tally = np.zeros((size * size, size), dtype=np.int64)
    for k in range(count):
        for cell in range(size * size):
            tally[cell, solutions[k, cell // size, cell % size] - 2] += 1
    listed = 0
    for cell in range(size * size):
        for digit in range(size):
            if clues[cell // size, cell % size] < 2 and tally[cell, digit] == 1:
                changes[listed] = cell * size + digit
                listed += 1
    return listed


@njit(cache=True)
def _open(state, layout, clues, barren, base, many, changes):
    """Take a clue away, by chance, in `base`; lists the changes that could stand for it, and returns how many.

    -1 if no clue is left to be taken; -2 for one that leaves too many solutions, which is `barren` from now on.
    """
    size = len(clues)
    cell = _pick_clue(state, clues, barren)
    if cell < 0:
        return -1
    copy_kernel(clues.reshape(-1), base.reshape(-1))
    base[cell // size, cell % size] = 1
    count = search_kernel(base, layout, np.int64(MOST_SOLUTIONS), many)[0]
    barren[cell] = count == MOST_SOLUTIONS
    return -2 if barren[cell] else _list_changes(clues, many, count, changes)


@njit(cache=True)
def _try_changes(state, layout, split, base, changes, least, trial, found):
    """Make some of the `changes` to `base`, in `trial`, until one has (doubled) rating `least`; returns it, else -1."""
    size = len(base)
    left = len(changes)
    for _ in range(min(left, MOST_CHANGES)):
        pick = below_kernel(state, left)
        change = changes[pick]
        left -= 1
        changes[pick] = changes[left]
        copy_kernel(base.reshape(-1), trial.reshape(-1))
        trial[change // size // size, change // size % size] = change % size + 2
        if search_kernel(trial, layout, np.int64(2), found)[1] < least:
            continue
        if in_split_kernel(trial, found[0], layout.box_rows, layout.box_cols, split):
            minimise_kernel(state, found[0], layout, trial)
            rating = search_kernel(trial, layout, np.int64(2), found)[1]
            if rating >= least:
                return rating
    return -1


@njit(cache=True)
def walk_kernel(state, layout, split, clues, solution, trials, bar, stop):
    """Walk from a puzzle, in place, for so many trials; with `stop`, only until its doubled rating reaches `bar`.

    Returns the doubled rating reached.
    """
    size = len(clues)
    base, trial = np.empty_like(clues), np.empty_like(clues)
    many, found = np.empty((MOST_SOLUTIONS, size, size), dtype=np.uint8), np.empty((1, size, size), dtype=np.uint8)
    changes = np.empty(size * size * size, dtype=np.int64)
    barren = np.zeros(size * size, dtype=np.bool_)
    best = search_kernel(clues, layout, np.int64(2), found)[1]
    for _ in range(trials):
        if stop and best >= bar:
            break
        listed = _open(state, layout, clues, barren, base, many, changes)
        if listed == -1:
            break
        if listed == -2:
            continue
        rating = _try_changes(state, layout, split, base, changes[:listed], min(best, bar), trial, found)
        if rating >= 0:
            best = rating
            copy_kernel(trial.reshape(-1), clues.reshape(-1))
            copy_kernel(found.reshape(-1), solution.reshape(-1))
            barren[:] = False
    return best


@njit(cache=True)
def anneal_kernel(keys, layout, split, trials, clues, solutions, ratings):
    """Replace each of N puzzles by the hardest on a walk of so many trials that also goes down now and then.

    Args:
        keys: (N,) uint64, one a walk.
        layout: of the board.
        split: number of the split all puzzles belong to.
        trials: clues tried.
        clues: (N, n, n) uint8, changed in place.
        solutions: (N, n, n) uint8, changed in place.
        ratings: (N,) int64, filled with the ratings.
    """
    size = clues.shape[1]
    base, trial = np.empty((size, size), dtype=np.uint8), np.empty((size, size), dtype=np.uint8)
    many, found = np.empty((MOST_SOLUTIONS, size, size), dtype=np.uint8), np.empty((1, size, size), dtype=np.uint8)
    changes = np.empty(size * size * size, dtype=np.int64)
    for i in range(len(keys)):
        state = np.array([mix_kernel(keys[i])])
        at = clues[i].copy()
        barren = np.zeros(size * size, dtype=np.bool_)
        here = search_kernel(at, layout, np.int64(2), found)[1]
        best = here
        for _ in range(trials):
            listed = _open(state, layout, at, barren, base, many, changes)
            if listed == -1:
                break
            if listed == -2:
                continue
            least = np.int64(here * ((below_kernel(state, 1000) + 1) / 1001) ** SLACK)
            rating = _try_changes(state, layout, split, base, changes[:listed], least, trial, found)
            if rating >= 0:
                here = rating
                copy_kernel(trial.reshape(-1), at.reshape(-1))
                barren[:] = False
                if here > best:
                    best = here
                    copy_kernel(at.reshape(-1), clues[i].reshape(-1))
                    copy_kernel(found.reshape(-1), solutions[i].reshape(-1))
        ratings[i] = best // 2


@njit(cache=True)
def found_kernel(keys, layout, split, clues, solutions):
    """Fill (N, n, n) `clues` and `solutions` with extreme puzzles found from nothing but N keys."""
    for i in range(len(keys)):
        state = np.array([mix_kernel(keys[i])])
        rating = np.int64(0)
        while rating < FLOOR:
            fill_kernel(state, layout, solutions[i])
            if in_split_kernel(clues[i], solutions[i], layout.box_rows, layout.box_cols, split):
                dig_minimal_kernel(state, solutions[i], layout, clues[i])
                rating = walk_kernel(state, layout, split, clues[i], solutions[i], CLIMB, FLOOR, True)


@njit(cache=True)
def extreme_kernel(keys, founders, row_orders, column_orders, layout, split, clues, solutions, ratings):
    """Fill (N, n, n) `clues` and `solutions` and (N,) `ratings` with the extreme puzzles of N keys.

    `founders` (M, 2, n*n) uint8 are extreme puzzles of the split, each with its solution; see `line_orders` for the
    orders.
    """
    turned = np.empty((1, 2, founders.shape[2]), dtype=np.uint8)
    row = np.empty(1, dtype=np.int64)
    square = layout.box_rows == layout.box_cols
    for i in range(len(keys)):
        state = np.array([mix_kernel(keys[i])])
        row[0] = below_kernel(state, len(founders))
        turn_kernel(founders, row, state, row_orders, column_orders, square, turned)
        copy_kernel(turned[0, 0], clues[i].reshape(-1))
        copy_kernel(turned[0, 1], solutions[i].reshape(-1))
        bar = FLOOR + 2 * HIGHEST * below_kernel(state, 100) * below_kernel(state, 100) // 10_000
        ratings[i] = walk_kernel(state, layout, split, clues[i], solutions[i], TRIALS, bar, False) // 2
