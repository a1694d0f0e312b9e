"""The compiled part of the rules: judging, conflicts, writing in cell mode.

The kernels fill arrays handed in: numba 0.68 can fail to give back a new array from a function loaded from its cache.
A digit *clashes* if another cell of the same row, column or box shows it too.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from hrm_gym.envs.sudoku.tokens import BLANK, FIRST_DIGIT


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
    """Fill `peers` (n*n, P) uint8 with the P = 2n - 2 + (rows - 1)(columns - 1) cells that every cell sees."""
    size = rows * columns
    for row in range(size):
        top = row // rows * rows
        for column in range(size):
            left = column // columns * columns
            cell, at = row * size + column, 0
            for there in range(size):
                if there != column:
                    peers[cell, at] = row * size + there
                    at += 1
                if there != row:
                    peers[cell, at] = there * size + column
                    at += 1
            for r in range(top, top + rows):
                for c in range(left, left + columns):
                    if r != row and c != column:
                        peers[cell, at] = r * size + c
                        at += 1


@njit(cache=True, inline="always")
def _where(boards, i, cell, token, peers):
    """The cells that a cell of board i sees and that show `token`, as bits; no branch, since none could be foretold."""
    found = np.int64(0)
    for k in range(peers.shape[1]):
        found |= np.int64(boards[i, peers[cell, k]] == token) << k
    return found


@njit(cache=True)
def _count_dependent(clues, boards, i, cell, token, found, peers):
    """How many of the cells `found`, which show `token` and see `cell`, break a rule only if `cell` shows it too.

    `cell` itself must not show it.
    """
    count = k = 0
    while found:
        if found & 1:
            other = peers[cell, k]
            altered = clues[i, other] >= FIRST_DIGIT and clues[i, other] != token
            count += not altered and _where(boards, i, other, token, peers) == 0
        found >>= 1
        k += 1
    return count


@njit(cache=True)
def _write(clues, boards, i, cell, token, legal_only, peers):
    """Write `token` into one cell of board i if that is allowed; returns by how much the board's violations grow."""
    before = boards[i, cell]
    if clues[i, cell] != BLANK or before == token:
        return 0
    change = 0
    found = _where(boards, i, cell, token, peers)
    if found:
        if legal_only:
            return 0
        change += 1 + _count_dependent(clues, boards, i, cell, token, found, peers)
    boards[i, cell] = token
    if before >= FIRST_DIGIT:
        found = _where(boards, i, cell, before, peers)
        if found:
            change -= 1 + _count_dependent(clues, boards, i, cell, before, found, peers)
    return change


@njit(cache=True)
def _is_full(boards, i):
    """Whether no cell of board i is blank or padding."""
    cell = 0
    while cell < boards.shape[1] and boards[i, cell] >= FIRST_DIGIT:
        cell += 1
    return cell == boards.shape[1]


@njit(cache=True)
def write_kernel(clues, shown, actions, active, legal_only, rows, columns, violations, ended):
    """Cell mode: carry out one action on each active board of `shown` (N, n, n) uint8.

    Action `cell * n + d` writes token d + 2 into a blank cell of the puzzle, n*n*n halts; what is not allowed changes
    nothing. With `legal_only` a digit that would clash is not. `violations` (N,) int32 are kept right by looking at
    the surroundings of the cell alone; `ended` (N,) bool is set for boards that halt or become solved, and cleared for
    the other active ones.
    """
    size = rows * columns
    peers = np.empty((size * size, 2 * size - 2 + (rows - 1) * (columns - 1)), dtype=np.uint8)
    fill_peers_kernel(rows, columns, peers)
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
