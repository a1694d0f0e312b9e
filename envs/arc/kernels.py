"""The compiled part of ARC: reading a grid off a board, judging, writing, and turning whole puzzles.

The kernels fill arrays handed in: numba 0.68 can fail to give back a new array from a function loaded from its cache.
"""

from __future__ import annotations

from numba import njit

_END, _BLACK = 1, 2
_SYMBOLS = 11
"""Tokens that cell mode writes: end and ten colours, ids 1..11."""


@njit(cache=True)
def crop_size_kernel(board):
    """(height, width) of the largest rectangle of colours that begins top left; the widest if several are as large."""
    best = height = width = 0
    reach = board.shape[1]
    for row in range(board.shape[0]):
        for column in range(reach):
            if board[row, column] < _BLACK:
                reach = column
                break
        area = (row + 1) * reach
        if area > best:
            best, height, width = area, row + 1, reach
        elif board.shape[0] * reach <= best:
            break
    return height, width


@njit(cache=True)
def judge_kernel(solution, answer):
    """Whether two boards show the same grid, and one at all."""
    if solution[0, 0] < _BLACK or answer[0, 0] != solution[0, 0]:  # most wrong answers end here
        return False
    height, width = crop_size_kernel(solution)
    for row in range(height):
        for column in range(width):
            if answer[row, column] != solution[row, column]:
                return False
    shown = crop_size_kernel(answer)
    return shown[0] == height and shown[1] == width


@njit(cache=True)
def judge_many_kernel(solutions, answers, solved):
    """`judge_kernel` for (N, H, W) boards; fills (N,) `solved`."""
    for i in range(len(solutions)):
        solved[i] = judge_kernel(solutions[i], answers[i])


@njit(cache=True)
def count_right_kernel(solutions, answers, right, counted):
    """Of (N, H, W) boards: coloured cells of the solution, and those of them that the answer has too; fills (N,)."""
    for i in range(len(solutions)):
        right[i] = counted[i] = 0
        for row in range(solutions.shape[1]):
            for column in range(solutions.shape[2]):
                token = solutions[i, row, column]
                counted[i] += token >= _BLACK
                right[i] += token >= _BLACK and token == answers[i, row, column]


@njit(cache=True)
def write_kernel(solutions, shown, free, actions, active, ended):
    """Cell mode on (N, H, W) boards: 11 * cell + k writes token k + 1 into a cell, one past the last halts."""
    width, cells = shown.shape[2], shown.shape[1] * shown.shape[2]
    for i in range(len(shown)):
        if not active[i]:
            continue
        cell, symbol = actions[i] // _SYMBOLS, actions[i] % _SYMBOLS
        ended[i] = cell == cells
        if cell < cells and free[i, cell]:
            shown[i, cell // width, cell % width] = _END + symbol
            ended[i] = judge_kernel(solutions[i], shown[i])


@njit(cache=True)
def turn_kernel(board, turn, colours, image):
    """Put the grid of a board that `place` made on the empty board `image`, turned and in other colours.

    Args:
        board: (C, C) uint8.
        turn: 0..7 in the order of `rules.turned`.
        colours: (12,) uint8, the token that takes the place of each token.
        image: (C, C) uint8, all pad; filled.
    """
    side = len(board)
    height = width = 0
    while height < side and board[height, 0] >= _BLACK:
        height += 1
    while width < side and board[0, width] >= _BLACK:
        width += 1
    across = turn in (1, 3, 6, 7)
    upside, mirrored = turn in (2, 3, 5, 7), turn in (1, 2, 4, 7)
    rows, columns = (width, height) if across else (height, width)
    for r in range(rows):
        for c in range(columns):
            row, column = (c, r) if across else (r, c)
            row = height - 1 - row if upside else row
            column = width - 1 - column if mirrored else column
            image[r, c] = colours[board[row, column]]
    if rows < side:
        image[rows, :columns] = _END
    if columns < side:
        image[:rows, columns] = _END


@njit(cache=True)
def turn_many_kernel(boards, rows, turns, colours, images):
    """`turn_kernel` on (M, C, C) `boards[rows[i]]`; fills (N, C, C) `images`."""
    for i in range(len(rows)):
        turn_kernel(boards[rows[i]], turns[i], colours[i], images[i])


@njit(cache=True)
def turn_pairs_kernel(demonstrations, pairs, rows, turns, colours, images):
    """`turn_kernel` on the `pairs[rows[i]]` first of (T, P, 2, C, C) `demonstrations[rows[i]]`."""
    for i in range(len(rows)):
        for pair in range(pairs[rows[i]]):
            for side in range(2):
                turn_kernel(demonstrations[rows[i], pair, side], turns[i], colours[i], images[i, pair, side])
