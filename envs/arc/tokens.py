"""ARC tokens: a coloured grid on a board of one size, as the official HRM data sets write it; and its kernels.

The kernels fill arrays passed in: numba 0.68 can fail to return a new array from a cached function.
"""

from __future__ import annotations

import reprlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.compiled import compiled, plain
from hrm_gym.envs.puzzle import Grid

PAD, END, BLACK = range(3)
"""Colour k of ARC is token k + 2."""

COLOURS = 10
VOCAB_SIZE = BLACK + COLOURS
SYMBOLS = ".|0123456789"
MAX_SIDE = 30
"""No grid of ARC is longer or wider."""

Colours = NDArray[np.uint8]
"""A grid as ARC has it: (h, w) colours 0..9, uint8."""


def place(grid: Colours, canvas: int) -> Grid:
    """A grid of colours as a board of tokens.

    The grid lies top left; end tokens stand in the row below it and in the column to its right, but not in the corner
    where those two meet, and where the grid reaches the edge of the board there are none. Other cells are pad.

    Args:
        grid: (h, w) uint8 colours 0..9, 1 <= h, w <= canvas.
        canvas: side of the board.

    Returns:
        A fresh (canvas, canvas) uint8 grid of token ids.

    >>> print(to_text(place(np.array([[3, 0]], dtype=np.uint8), 3)))
    30|
    ||.
    ...
    """
    height, width = grid.shape
    board = np.full((canvas, canvas), PAD, dtype=np.uint8)
    board[:height, :width] = grid + BLACK
    if height < canvas:
        board[height, :width] = END
    if width < canvas:
        board[:height, width] = END
    return board


def crop(board: Grid) -> Colours:
    """The grid of colours that a board shows, as the official evaluation reads it.

    Of all rectangles that begin top left and hold colours only it is the one of the largest area, the widest one if
    several are as large. What lies outside means nothing.

    Args:
        board: (H, W) uint8 token ids.

    Returns:
        A fresh (h, w) uint8 grid of colours 0..9; (0, 0) if the cell top left has no colour.
    """
    height, width = crop_size_kernel(plain(board))
    return board[:height, :width] - np.uint8(BLACK)


def to_text(board: Grid) -> str:
    """The board a line a row: digits are colours, `|` ends a grid, `.` is pad."""
    return "\n".join("".join(SYMBOLS[token] for token in row) for row in board)


def read_grid(value: Any) -> Colours:
    """A grid of colours from nested lists or an array.

    Args:
        value: h rows of w colours 0..9, 1 <= h, w <= 30.

    Returns:
        A fresh (h, w) uint8 grid.

    Raises:
        ValueError: says what was expected and what came.
    """
    try:
        grid = np.asarray(value)
    except ValueError:
        raise ValueError(f"expected a grid with rows of one length, got lengths {_lengths(value)}") from None
    if grid.ndim != 2 or grid.size == 0 or not np.issubdtype(grid.dtype, np.integer):
        raise ValueError(f"expected rows of whole numbers, got {reprlib.repr(value)}")
    if max(grid.shape) > MAX_SIDE:
        raise ValueError(f"expected a grid of at most {MAX_SIDE}x{MAX_SIDE} cells, got {grid.shape[0]}x{grid.shape[1]}")
    if grid.min() < 0 or grid.max() >= COLOURS:
        bad = grid.min() if grid.min() < 0 else grid.max()
        raise ValueError(f"expected colours 0..9, got {int(bad)}")
    return grid.astype(np.uint8)


def _lengths(value: Any) -> list[Any]:
    return [len(row) if hasattr(row, "__len__") else "none" for row in value]


def read_board(value: Any, canvas: int) -> Grid:
    """The board of a grid that a person hands in.

    Args:
        value: lines of digits (what `to_text` gives is understood too), or a (canvas, canvas) board of token ids.
        canvas: side of the board.

    Returns:
        A fresh (canvas, canvas) uint8 grid of token ids.

    Raises:
        ValueError: if it is neither, or the grid does not fit.
    """
    if isinstance(value, str):
        return place(_fitting(read_grid(_rows(value)), canvas), canvas)
    try:
        board = np.asarray(value)
    except ValueError:
        raise ValueError(f"expected a board with rows of one length, got lengths {_lengths(value)}") from None
    if board.shape != (canvas, canvas) or not np.issubdtype(board.dtype, np.integer):
        raise ValueError(f"expected a {canvas}x{canvas} board of token ids, got {board.shape} {board.dtype}")
    if board.min() < PAD or board.max() >= VOCAB_SIZE:
        raise ValueError(f"expected token ids 0..{VOCAB_SIZE - 1}, got {int(board.min())}..{int(board.max())}")
    check_board(board.astype(np.uint8))
    return board.astype(np.uint8)


def check_board(board: Grid) -> None:
    """Raise ValueError unless the board shows one grid as `place` puts it."""
    grid = crop(board)
    if grid.size == 0:
        raise ValueError("expected a board with a grid top left, got one without a colour there")
    strange = np.argwhere(place(grid, board.shape[0]) != board)
    if len(strange):
        row, column = strange[0].tolist()
        token = int(board[row, column])
        size = f"{grid.shape[0]}x{grid.shape[1]}"
        raise ValueError(f"expected end and pad around a {size} grid, got token {token} at row {row}, column {column}")


def _rows(text: str) -> list[list[int]]:
    """The colours in lines of digits; end and pad at the end of a line, and lines of nothing else, are left out."""
    lines = [line.strip().rstrip(SYMBOLS[: END + 1]) for line in text.splitlines()]
    for line in lines:
        if line and not (line.isascii() and line.isdigit()):
            raise ValueError(f"expected lines of digits, got {line[:60]!r}")
    if not any(lines):
        raise ValueError("expected lines of digits, got none")
    return [[int(character) for character in line] for line in lines if line]


def _fitting(grid: Colours, canvas: int) -> Colours:
    if max(grid.shape) > canvas:
        raise ValueError(f"expected a grid of at most {canvas}x{canvas} cells, got {grid.shape[0]}x{grid.shape[1]}")
    return grid


_SYMBOLS = 1 + COLOURS
"""Tokens that cell mode writes: end and the colours."""


@compiled
def crop_size_kernel(board):
    """(height, width) of the largest rectangle of colours that begins top left; the widest if several are as large."""
    best = height = width = 0
    reach = board.shape[1]
    for row in range(board.shape[0]):
        for column in range(reach):
            if board[row, column] < BLACK:
                reach = column
                break
        area = (row + 1) * reach
        if area > best:
            best, height, width = area, row + 1, reach
        elif board.shape[0] * reach <= best:
            break
    return height, width


@compiled
def judge_board(solution, answer):
    """Whether two boards show the same grid, and one at all."""
    if solution[0, 0] < BLACK or answer[0, 0] != solution[0, 0]:  # most wrong answers end here
        return False
    height, width = crop_size_kernel(solution)
    for row in range(height):
        for column in range(width):
            if answer[row, column] != solution[row, column]:
                return False
    shown = crop_size_kernel(answer)
    return shown[0] == height and shown[1] == width


@compiled
def judge_kernel(solutions, answers, solved):
    """`judge_board` for (N, H, W) boards; fills (N,) `solved`."""
    for i in range(len(solutions)):
        solved[i] = judge_board(solutions[i], answers[i])


@compiled
def write_kernel(solutions, shown, free, actions, active, ended):
    """Cell mode on (N, H, W) boards: 11 * cell + k writes token k + 1 into a cell, one past the last halts."""
    width, cells = shown.shape[2], shown.shape[1] * shown.shape[2]
    for i in range(len(shown)):
        if not active[i]:
            continue
        cell, symbol = actions[i] // _SYMBOLS, actions[i] % _SYMBOLS
        ended[i] = cell == cells
        if cell < cells and free[i, cell]:
            shown[i, cell // width, cell % width] = END + symbol
            ended[i] = judge_board(solutions[i], shown[i])


@compiled
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
    while height < side and board[height, 0] >= BLACK:
        height += 1
    while width < side and board[0, width] >= BLACK:
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
        image[rows, :columns] = END
    if columns < side:
        image[:rows, columns] = END


@compiled
def turn_many_kernel(boards, rows, turns, colours, images):
    """`turn_kernel` on (M, C, C) `boards[rows[i]]`; fills (N, C, C) `images`."""
    for i in range(len(rows)):
        turn_kernel(boards[rows[i]], turns[i], colours[i], images[i])


@compiled
def turn_pairs_kernel(demonstrations, pairs, rows, turns, colours, images):
    """`turn_kernel` on the `pairs[rows[i]]` first of (T, P, 2, C, C) `demonstrations[rows[i]]`."""
    for i in range(len(rows)):
        for pair in range(pairs[rows[i]]):
            for side in range(2):
                turn_kernel(demonstrations[rows[i], pair, side], turns[i], colours[i], images[i, pair, side])
