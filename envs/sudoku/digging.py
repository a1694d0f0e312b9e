"""Solution grids out of chance, and puzzles dug out of them; compiled."""

from __future__ import annotations

import numpy as np
from numba import njit

from hrm_gym.envs.sudoku.chance import below_kernel, shuffle_kernel
from hrm_gym.envs.sudoku.search import explore_kernel, search_kernel
from hrm_gym.envs.sudoku.solver import copy_kernel, load_kernel, propagate_kernel

PATIENCE = 8
"""Digits tried, for each cell of a board, before a random filling begins anew."""


@njit(cache=True)
def _random_bit(state, bits):
    """One of the bits of a word, by chance."""
    count, rest = 0, bits
    while rest:
        rest &= rest - 1
        count += 1
    for _ in range(below_kernel(state, count)):
        bits &= bits - 1
    return bits & -bits


@njit(cache=True)
def _toggle(used, rows, columns, cell, bit):
    """Note a digit (as a bit) in the row, column and box of a cell, or take the note back."""
    row, column = cell // (rows * columns), cell % (rows * columns)
    used[0, row] ^= bit
    used[1, column] ^= bit
    used[2, row // rows * rows + column // columns] ^= bit


@njit(cache=True)
def _try_fill(state, rows, columns, used, left, placed):
    """Fill cell after cell with random digits, stepping back from dead ends; False if that takes too long.

    Digits are bits. `used` (3, n) has those of rows, columns and boxes, `left` (n*n,) those still to be tried in a
    cell, `placed` (n*n,) the one that stands there.
    """
    size = rows * columns
    used[:] = 0
    cell, left[0] = 0, (1 << size) - 1
    for _ in range(PATIENCE * size * size):
        if left[cell] == 0:
            cell -= 1
            _toggle(used, rows, columns, cell, placed[cell])
            continue
        bit = _random_bit(state, left[cell])
        left[cell] ^= bit
        placed[cell] = bit
        _toggle(used, rows, columns, cell, bit)
        cell += 1
        if cell == size * size:
            return True
        row, column = cell // size, cell % size
        seen = used[0, row] | used[1, column] | used[2, row // rows * rows + column // columns]
        left[cell] = ((1 << size) - 1) & ~seen
    return False


@njit(cache=True)
def fill_kernel(state, layout, grid):
    """Fill `grid` (n, n) with a random solution."""
    size = len(grid)
    used = np.empty((3, size), dtype=np.int64)
    left, placed = np.empty(size * size, dtype=np.int64), np.empty(size * size, dtype=np.int64)
    while not _try_fill(state, layout.box_rows, layout.box_cols, used, left, placed):
        pass
    for cell in range(size * size):
        token = 2
        while placed[cell] >> (token - 1):
            token += 1
        grid[cell // size, cell % size] = token


@njit(cache=True, inline="always")
def forced_kernel(clues, layout, words, patterns):
    """Whether propagation alone solves a puzzle that has a solution."""
    propagate_kernel(words, load_kernel(clues, layout, words), layout, patterns)
    rows, bands = layout.box_rows, layout.box_cols
    for band in range(bands):
        solved = 0
        for at in range(len(words) // 2 + band, len(words), bands):
            solved |= words[at]
        if solved != (1 << (rows * rows * bands)) - 1:
            return False
    return True


@njit(cache=True, inline="always")
def needed_kernel(clues, solution, cell, layout, words):
    """Whether the one clue `cell` keeps a puzzle from a second solution, with another digit there.

    `clues` must have that cell blank already, and one solution together with it.
    """
    size = len(clues)
    row, column = cell // size, cell % size
    seen = load_kernel(clues, layout, words)
    digit = np.int64(solution[row, column]) - 2
    word = digit * layout.box_cols + row // layout.box_rows
    words[word] &= ~(1 << (row % layout.box_rows * size + column))
    return (
        explore_kernel(words, seen | (1 << digit), layout, np.int64(1), np.empty((1, size, size), dtype=np.uint8))[0]
        > 0
    )


@njit(cache=True, inline="always")
def dig_forced_kernel(state, solution, layout, target, clues):
    """Dig until `target` clues are left, or none can go, so that propagation alone still solves the puzzle."""
    size = len(clues)
    order = np.arange(size * size)
    shuffle_kernel(state, order)
    words = np.empty(2 * size * layout.box_cols, dtype=np.int64)
    patterns = np.empty((size, 2), dtype=np.int64)
    copy_kernel(solution.reshape(-1), clues.reshape(-1))
    left, at, chunk = size * size, 0, size * size // 4
    while left > target and at < size * size:
        chunk = min(chunk, left - target, size * size - at)
        for cell in order[at : at + chunk]:
            clues[cell // size, cell % size] = 1
        if forced_kernel(clues, layout, words, patterns):
            left, at = left - chunk, at + chunk
            continue
        for cell in order[at : at + chunk]:
            clues[cell // size, cell % size] = solution[cell // size, cell % size]
        at += chunk == 1
        chunk = max(1, chunk // 2)


@njit(cache=True, inline="always")
def minimise_kernel(state, solution, layout, clues):
    """Take away clues, in random order, as long as the puzzle keeps its one solution; none can go in the end."""
    size = len(clues)
    order = np.arange(size * size)
    shuffle_kernel(state, order)
    words = np.empty(2 * size * layout.box_cols, dtype=np.int64)
    for cell in order:
        row, column = cell // size, cell % size
        if clues[row, column] >= 2:
            clues[row, column] = 1
            if needed_kernel(clues, solution, cell, layout, words):
                clues[row, column] = solution[row, column]


@njit(cache=True, inline="always")
def dig_minimal_kernel(state, solution, layout, clues):
    """A random minimal puzzle with `solution`: a quarter of the clues go at once if they can, then one by one."""
    size = len(clues)
    order = np.arange(size * size)
    shuffle_kernel(state, order)
    found = np.empty((1, size, size), dtype=np.uint8)
    share = size * size * 5 // 9
    while True:
        copy_kernel(solution.reshape(-1), clues.reshape(-1))
        for cell in order[:share]:
            clues[cell // size, cell % size] = 1
        if search_kernel(clues, layout, np.int64(2), found)[0] == 1:
            break
        share //= 2
    minimise_kernel(state, solution, layout, clues)
