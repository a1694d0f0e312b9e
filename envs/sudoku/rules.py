"""The rules of Sudoku, as pure functions of token grids.

Every digit stands once in every row, column and box. A puzzle has exactly one solution. Every function takes the box
as its last argument; without it, the usual box of the board's side is meant, e.g. (2, 3) for 6x6.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.puzzle import Grid, plain
from hrm_gym.envs.sudoku.boxes import Box, board, usual_box
from hrm_gym.envs.sudoku.kernels import judge_many_kernel, violations_kernel
from hrm_gym.envs.sudoku.search import search_kernel
from hrm_gym.envs.sudoku.tokens import BLANK, SYMBOLS


def is_solved(clues: Grid, answer: Grid, box: Box | None = None) -> bool:
    """Whether `answer` (n, n) is complete, keeps the clues (n, n) and has no digit twice in a row, column or box."""
    out = np.empty(1, dtype=np.bool_)
    judge_many_kernel(plain(clues[None]), plain(answer[None]), *(box or usual_box(len(clues))), out)
    return bool(out[0])


def violations(clues: Grid, answer: Grid, box: Box | None = None) -> NDArray[np.bool_]:
    """Cells of an answer that break a rule, judged from the clues alone.

    Args:
        clues: (n, n) uint8 puzzle.
        answer: (n, n) uint8 token ids; blank cells break no rule unless a clue was made blank.
        box: (rows, columns) of a box.

    Returns:
        (n, n) bool: altered clues, and digits that another cell of the same row, column or box has too.
    """
    wrong = np.empty(clues.shape, dtype=np.bool_)
    violations_kernel(plain(clues), plain(answer), *(box or usual_box(len(clues))), wrong)
    return wrong


def free(clues: Grid) -> NDArray[np.bool_]:
    """(..., n, n) bool: the blank cells, which are the solver's to fill."""
    return clues == BLANK


def _search(clues: Grid, box: Box | None, limit: int) -> tuple[int, Grid]:
    solution = np.empty(clues.shape, dtype=np.uint8)
    layout = board(box or usual_box(len(clues))).layout
    return int(search_kernel(plain(clues), layout, limit, solution[None])[0]), solution


def count_solutions(clues: Grid, limit: int = 2, box: Box | None = None) -> int:
    """Number of solutions of (n, n) `clues`; counting stops at `limit`."""
    return _search(clues, box, limit)[0]


def solve(clues: Grid, box: Box | None = None) -> Grid | None:
    """The exact solver.

    Args:
        clues: (n, n) uint8 puzzle.
        box: (rows, columns) of a box.

    Returns:
        The only solution, a fresh (n, n) uint8 grid; None if there is none or more than one.
    """
    count, solution = _search(clues, box, 2)
    return solution if count == 1 else None


def check(clues: Grid, box: Box | None = None) -> None:
    """Raise ValueError unless `clues` is a puzzle with exactly one solution.

    Args:
        clues: (n, n) uint8 token ids.
        box: (rows, columns) of a box.

    Raises:
        ValueError: says what was expected and what came.
    """
    size = board(box or usual_box(len(clues))).size
    if clues.shape != (size, size):
        raise ValueError(f"expected a board of {size}x{size} cells, got shape {clues.shape}")
    if ((clues < BLANK) | (clues > size + 1)).any():
        raise ValueError(f"expected Sudoku tokens 1..{size + 1}, got {int(clues.min())}..{int(clues.max())}")
    wrong = violations(clues, clues, box)
    if wrong.any():
        row, column = (int(place[0]) for place in np.nonzero(wrong))
        digit = SYMBOLS[clues[row, column]]
        raise ValueError(
            f"expected clues without conflict, got digit {digit} at row {row}, column {column} "
            "once more in its row, column or box"
        )
    count = count_solutions(clues, 2, box)
    if count != 1:
        raise ValueError(f"expected a puzzle with exactly one solution, got one with {'several' if count else 'none'}")
