"""Search by guessing, compiled: all solutions of a puzzle, and what finding the one costs on average."""

from __future__ import annotations

import numpy as np
from numba import njit

from hrm_gym.envs.sudoku.solver import (
    choose_kernel,
    copy_kernel,
    force_kernel,
    load_kernel,
    propagate_kernel,
    unload_kernel,
)

CELL, DIGIT, WRONG, RIGHT = range(4)
"""Columns of a level: cell guessed, next digit to try, guesses at and below its wrong digits, and the expected guesses
below its right digit (doubled, to stay whole; -1 as long as none is known)."""


@njit(cache=True, inline="always")
def _open_level(words, layout, level, counts):
    """Choose the cell to guess in `words`; False if there is none because all cells are solved."""
    level[CELL], level[DIGIT], level[WRONG], level[RIGHT] = choose_kernel(words, layout, counts), 0, 0, -1
    return level[CELL] >= 0


@njit(cache=True, inline="always")
def _guess(words, layout, level, below, patterns):
    """Try a level's next digit in `below`, a copy of its `words`; returns 1: fine, 0: contradiction, -1: none left."""
    rows, bands = layout.box_rows, layout.box_cols
    size = rows * bands
    row, column = level[CELL] // size, level[CELL] % size
    bit = 1 << (row % rows * size + column)
    for digit in range(level[DIGIT], size):
        at = digit * bands + row // rows
        if words[at] & bit:
            level[DIGIT] = digit + 1
            copy_kernel(words, below)
            below[at] = force_kernel(below[at], bit, layout)
            return np.int64(propagate_kernel(below, 1 << digit, layout, patterns))
    return -1


@njit(cache=True)
def explore_kernel(words, changed, layout, limit, solutions):
    """Search everything below the state `words`, of which the digits `changed` are news; see `search_kernel`."""
    size = layout.box_rows * layout.box_cols
    stack = np.empty((size * size + 1, len(words)), dtype=np.int64)
    levels = np.empty((size * size + 1, 4), dtype=np.int64)
    patterns = np.empty((size, 2), dtype=np.int64)
    counts = np.empty((size, size), dtype=np.int64)
    if not propagate_kernel(words, changed, layout, patterns):
        return 0, 0
    copy_kernel(words, stack[0])
    if not _open_level(words, layout, levels[0], counts):
        unload_kernel(words, layout, solutions[0])
        return 1, 0
    found, at = 0, 0
    while True:
        fine = _guess(stack[at], layout, levels[at], stack[at + 1], patterns)
        if fine == 0:
            levels[at, WRONG] += 1
        elif fine > 0:
            if _open_level(stack[at + 1], layout, levels[at + 1], counts):
                at += 1
                continue
            unload_kernel(stack[at + 1], layout, solutions[min(found, len(solutions) - 1)])
            levels[at, RIGHT] = 2
            found += 1
            if found == limit:
                return found, 0
        elif at == 0:
            return found, levels[0, WRONG] + levels[0, RIGHT]
        else:
            cost, at = levels[at, WRONG], at - 1
            if levels[at + 1, RIGHT] < 0:
                levels[at, WRONG] += 1 + cost
            else:
                levels[at, RIGHT] = 2 + levels[at + 1, RIGHT] + cost


@njit(cache=True, inline="always")
def search_kernel(clues, layout, limit, solutions):
    """Search all of a puzzle, or until `limit` solutions are found.

    Fills `solutions` (K, n, n) with those found; further ones go to its last row. Returns how many were found and,
    where the search went through with one solution, twice the expected guesses of a solver that stops at the solution:
    it tries the digits of a cell in any order, so a wrong digit comes before the right one with probability 1/2, and
    then costs itself and all below it.
    """
    words = np.empty(2 * len(clues) * layout.box_cols, dtype=np.int64)
    return explore_kernel(words, load_kernel(clues, layout, words), layout, limit, solutions)
