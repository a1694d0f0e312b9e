"""Which split a puzzle belongs to, the same for all its symmetric images.

A number that no symmetry changes is hashed, modulo 8: 0 is "test", the rest "train".

Boards of 8x8 and 9x9 are split by their *solution*, so that no solution grid of one split is, turned, relabelled or
rearranged, one of the other: any two rows map the digits onto each other by a permutation, whose cycle lengths stay
what they are; the same for columns. Boards of 4x4 and 6x6 have too few kinds of solution and are split by clues and
solution together: marks on the cells, refined by what rows, columns, boxes and digits they share.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from hrm_gym.envs.sudoku.chance import mix_kernel

SPLITS = ("train", "test", "all")

TEST_SHARE = 8
"""One class of puzzles in this many belongs to the test split."""

BY_SOLUTION = 8
"""From this side length on the solution alone decides."""

_ROUNDS = 3
_ROW, _COLUMN, _BOX, _DIGIT = (np.uint64(0x9FB21C651E98DF25 * (i + 1) % 2**64) for i in range(4))


@njit(cache=True)
def _cycle_hash(grid, one, other, turned):
    """A hash of the cycle lengths of the permutation between two rows (or two columns, if `turned`) of a solution."""
    size = len(grid)
    follow = np.zeros(size + 2, dtype=np.int64)
    for place in range(size):
        if turned:
            follow[grid[place, one]] = grid[place, other]
        else:
            follow[grid[one, place]] = grid[other, place]
    total = np.uint64(0)
    for digit in range(2, size + 2):
        length, at = np.uint64(0), digit
        while follow[at]:
            follow[at], at = 0, follow[at]
            length += np.uint64(1)
        if length:
            total += mix_kernel(length)
    return mix_kernel(total)


@njit(cache=True)
def _lines_hash(grid, breadth, turned):
    """A hash of a solution's rows (columns, if `turned`) that no order of them inside and among bands changes."""
    size = len(grid)
    pairs = np.zeros(size, dtype=np.uint64)
    for one in range(size):
        for other in range(one):
            cycles = _cycle_hash(grid, one, other, turned)
            if one // breadth == other // breadth:
                cycles = mix_kernel(cycles)
            pairs[one] += cycles
            pairs[other] += cycles
    total = np.uint64(0)
    for band in range(0, size, breadth):
        inside = np.uint64(0)
        for line in range(band, band + breadth):
            inside += mix_kernel(pairs[line])
        total += mix_kernel(inside)
    return total


@njit(cache=True)
def _solution_hash(solution, rows, columns):
    """A hash of a solution that no symmetry changes."""
    by_rows, by_columns = _lines_hash(solution, rows, np.int64(0)), _lines_hash(solution, columns, np.int64(1))
    if rows != columns:
        by_rows ^= _ROW
    return mix_kernel(mix_kernel(by_rows) + mix_kernel(by_columns))


@njit(cache=True)
def _puzzle_hash(clues, solution, rows, columns):
    """A hash of clues and solution that no symmetry changes."""
    size = len(clues)
    marks = np.empty((size, size), dtype=np.uint64)
    for row in range(size):
        for column in range(size):
            marks[row, column] = clues[row, column] >= 2
    sums = np.empty((6, size), dtype=np.uint64)
    total = np.uint64(0)
    for _ in range(_ROUNDS):
        sums[:] = 0
        for row in range(size):
            for column in range(size):
                mixed = mix_kernel(marks[row, column])
                box = row // rows * rows + column // columns
                places = (row, column, row // rows, column // columns, box, solution[row, column] - 2)
                for kind in range(6):
                    sums[kind, places[kind]] += mixed
        total = np.uint64(0)
        for row in range(size):
            for column in range(size):
                across = mix_kernel(sums[0, row] + mix_kernel(sums[2, row // rows]))
                down = mix_kernel(sums[1, column] + mix_kernel(sums[3, column // columns]))
                if rows != columns:
                    across *= _ROW
                box = row // rows * rows + column // columns
                digit = solution[row, column] - 2
                around = across + down + (sums[4, box] ^ _BOX) * _COLUMN + (sums[5, digit] ^ _DIGIT) * _ROW
                marks[row, column] = mix_kernel(marks[row, column] ^ mix_kernel(around))
                total += marks[row, column]
    return mix_kernel(total)


@njit(cache=True)
def in_split_kernel(clues, solution, rows, columns, split):
    """Whether a puzzle belongs to SPLITS[split]; `clues` do not matter from side BY_SOLUTION on."""
    if split == 2:
        return True
    if len(solution) >= BY_SOLUTION:
        value = _solution_hash(solution, rows, columns)
    else:
        value = _puzzle_hash(clues, solution, rows, columns)
    return (value % np.uint64(TEST_SHARE) == 0) == (split == 1)
