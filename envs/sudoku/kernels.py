"""The compiled part of the rules: judging, conflicts, writing in cell mode.

The kernels fill arrays handed in: numba 0.68 can fail to give back a new array from a function loaded from its cache.
A digit *clashes* if another cell of the same row, column or box shows it too.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from hrm_gym.envs.sudoku.tokens import BLANK, FIRST_DIGIT

_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
"""A word in which every six bits in a row are others: times 2**k, its highest six bits tell k."""

_PLACES = np.zeros(64, dtype=np.uint8)
for _place in range(64):
    _PLACES[(int(_DE_BRUIJN) << _place) % 2**64 >> 58] = _place


@njit(cache=True)
def _note_digits(answer, rows, columns, once, twice):
    """Fill (3, n) int64 `once` and `twice`: the digits, as bits, that rows, columns and boxes have (more than once)."""
    size = rows * columns
    once[:] = 0
    twice[:] = 0
    for row in range(size):
        first = row // rows * rows  # the first box of the band
        for box in range(first, first + rows):
            for column in range((box - first) * columns, (box - first + 1) * columns):
                token = np.int64(answer[row, column])
                if FIRST_DIGIT <= token < size + FIRST_DIGIT:
                    bit = 1 << token
                    twice[0, row] |= once[0, row] & bit
                    once[0, row] |= bit
                    twice[1, column] |= once[1, column] & bit
                    once[1, column] |= bit
                    twice[2, box] |= once[2, box] & bit
                    once[2, box] |= bit


@njit(cache=True)
def violations_kernel(clues, answer, rows, columns, wrong):
    """Mark the cells of one `answer` (n, n) that break a rule; returns how many."""
    size = rows * columns
    once, twice = np.empty((3, size), dtype=np.int64), np.empty((3, size), dtype=np.int64)
    _note_digits(answer, rows, columns, once, twice)
    count = 0
    for row in range(size):
        first = row // rows * rows
        for box in range(first, first + rows):
            for column in range((box - first) * columns, (box - first + 1) * columns):
                clue, token = clues[row, column], np.int64(answer[row, column])
                clashing = twice[0, row] | twice[1, column] | twice[2, box]
                clashes = token < size + FIRST_DIGIT and (clashing >> token) & 1 == 1
                bad = clashes or (clue >= FIRST_DIGIT and clue != token)
                wrong[row, column] = bad
                count += bad
    return count


@njit(cache=True)
def count_violations_many_kernel(clues, answers, rows, columns, out):
    """Fill `out` (N,) int32 with the number of cells of `answers` (N, n, n) that break a rule."""
    wrong = np.empty(clues.shape[1:], dtype=np.bool_)
    for i in range(len(clues)):
        out[i] = violations_kernel(clues[i], answers[i], rows, columns, wrong)


@njit(cache=True)
def judge_many_kernel(clues, answers, rows, columns, out):
    """Fill `out` (N,) bool: which of `answers` (N, n, n) keep the clues and have every digit once in every unit."""
    size = rows * columns
    once, twice = np.empty((3, size), dtype=np.int64), np.empty((3, size), dtype=np.int64)
    for i in range(len(clues)):
        right = True
        for row in range(size):
            for column in range(size):
                clue = clues[i, row, column]
                right &= clue < FIRST_DIGIT or answers[i, row, column] == clue
        if right:
            _note_digits(answers[i], rows, columns, once, twice)
            for kind in range(3):
                for unit in range(size):
                    right &= once[kind, unit] == ((1 << size) - 1) << FIRST_DIGIT
        out[i] = right


@njit(cache=True)
def fill_peers_kernel(rows, columns, peers):
    """Fill `peers` (n*n, 2) uint64 with the cells that every cell sees, as bits: 64 cells in the first word."""
    size = rows * columns
    peers[:] = 0
    for cell in range(size * size):
        row, column = cell // size, cell % size
        for other in range(size * size):
            r, c = other // size, other % size
            box = r // rows == row // rows and c // columns == column // columns
            if other != cell and (r == row or c == column or box):
                peers[cell, other // 64] |= np.uint64(1) << np.uint64(other % 64)


@njit(cache=True, inline="always")
def _cells_with(boards, i, token):
    """The cells of board i that show `token`, as two words of bits; without a branch, since none could be foretold."""
    low = high = np.uint64(0)
    for cell in range(min(64, boards.shape[1])):
        low |= np.uint64(boards[i, cell] == token) << np.uint64(cell)
    for cell in range(64, boards.shape[1]):
        high |= np.uint64(boards[i, cell] == token) << np.uint64(cell - 64)
    return low, high


@njit(cache=True)
def _count_breaks(clues, i, cell, token, low, high, peers):
    """How many more cells break a rule when `cell` shows `token` than when it does not; those that do are given."""
    near_low, near_high = low & peers[cell, 0], high & peers[cell, 1]
    if not near_low | near_high:
        return 0
    count = 1
    while near_low | near_high:
        word = near_low if near_low else near_high
        other = np.int64(_PLACES[(word & (~word + np.uint64(1))) * _DE_BRUIJN >> np.uint64(58)])
        if near_low:
            near_low &= near_low - np.uint64(1)
        else:
            near_high &= near_high - np.uint64(1)
            other += 64
        altered = clues[i, other] >= FIRST_DIGIT and clues[i, other] != token
        seen = (low & peers[other, 0]) | (high & peers[other, 1])
        count += not altered and not seen
    return count


@njit(cache=True)
def _write(clues, boards, i, cell, token, legal_only, peers):
    """Write `token` into one cell of board i if that is allowed; returns by how much the board's violations grow."""
    before = boards[i, cell]
    if clues[i, cell] != BLANK or before == token:
        return 0
    low, high = _cells_with(boards, i, token)
    change = _count_breaks(clues, i, cell, token, low, high, peers)
    if legal_only and change:
        return 0
    boards[i, cell] = token
    if before >= FIRST_DIGIT:
        low, high = _cells_with(boards, i, before)
        change -= _count_breaks(clues, i, cell, before, low, high, peers)
    return change


@njit(cache=True)
def _is_full(boards, i):
    """Whether no cell of board i is blank or padding."""
    cell = 0
    while cell < boards.shape[1] and boards[i, cell] >= FIRST_DIGIT:
        cell += 1
    return cell == boards.shape[1]


@njit(cache=True)
def write_kernel(clues, shown, actions, active, legal_only, peers, violations, ended):
    """Cell mode: carry out one action on each active board of `shown` (N, n, n) uint8.

    Action `cell * n + d` writes token d + 2 into a blank cell of the puzzle, n*n*n halts; what is not allowed changes
    nothing. With `legal_only` a digit that would clash is not. `violations` (N,) int32 are kept right by looking at
    the surroundings of the cell alone; `ended` (N,) bool is set for boards that halt or become solved, and cleared for
    the other active ones. `peers` is what `fill_peers_kernel` fills.
    """
    size = clues.shape[1]
    given, boards = clues.reshape(len(clues), size * size), shown.reshape(len(shown), size * size)
    for i in range(len(actions)):
        if not active[i]:
            continue
        cell = actions[i] // size
        token = np.uint8(actions[i] - cell * size + FIRST_DIGIT)
        ended[i] = cell >= size * size
        if not ended[i]:
            violations[i] += _write(given, boards, i, cell, token, legal_only, peers)
            ended[i] = violations[i] == 0 and _is_full(boards, i)


@njit(cache=True)
def change_kernel(clues, shown, cell, token, peers):
    """Write `token` into a blank cell of one board (n, n) `shown`; returns by how much its violations grow.

    `peers` is what `fill_peers_kernel` fills.
    """
    return _write(clues.reshape(1, -1), shown.reshape(1, -1), 0, cell, np.uint8(token), False, peers)
