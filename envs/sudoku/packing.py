"""Puzzles in few bytes, for the bundled files: four bits for every cell of a solution and one for every clue."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.sudoku.tokens import BLANK, FIRST_DIGIT


def pack(clues: NDArray[np.uint8], solutions: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The bytes of M puzzles.

    Args:
        clues: (M, n, n) uint8 token ids.
        solutions: (M, n, n) uint8 token ids.

    Returns:
        (M, ceil(n*n/8)) uint8, a bit for every cell with a clue, and (M, ceil(n*n/2)) uint8, the solution.
    """
    count = len(clues)
    digits = solutions.reshape(count, -1) - np.uint8(FIRST_DIGIT)
    digits = np.pad(digits, ((0, 0), (0, digits.shape[1] % 2)))
    given = np.packbits(clues.reshape(count, -1) != BLANK, axis=1)
    return given, digits[:, ::2] << np.uint8(4) | digits[:, 1::2]


def unpack(given: NDArray[np.uint8], digits: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """What `pack` packed.

    Args:
        given: (M, ceil(n*n/8)) uint8.
        digits: (M, ceil(n*n/2)) uint8.
        size: n.

    Returns:
        (M, 2, n*n) uint8: the clues of every puzzle, and its solution.
    """
    cells = size * size
    both = np.stack([digits >> 4, digits & 15], axis=2).reshape(len(digits), -1)[:, :cells]
    solutions = both + np.uint8(FIRST_DIGIT)
    shown = np.unpackbits(given, axis=1, count=cells).astype(np.bool_)
    return np.stack([np.where(shown, solutions, np.uint8(BLANK)), solutions], axis=1)
