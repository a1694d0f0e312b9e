"""The rules of ARC, as pure functions: when an answer is right, and what may be done to a whole puzzle.

A task shows pairs of grids, input and output, and wants the output to one more input. Whether an answer is right only
its stored solution tells; nothing can be judged from the clues.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.arc.tokens import BLACK, COLOURS, VOCAB_SIZE, crop
from hrm_gym.envs.puzzle import Grid, puzzle_keys

TURNS = 8
BACK = (0, 3, 2, 1, 4, 5, 6, 7)
"""The turn that undoes each turn."""


def is_solved(solution: Grid, answer: Grid) -> bool:
    """Whether two (H, W) boards show the same grid, in shape and in content; what lies around it means nothing.

    A board that shows no grid is not like any other.
    """
    wanted = crop(solution)
    return wanted.size > 0 and np.array_equal(wanted, crop(answer))


def turned(grid: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """One of the eight symmetric images of a grid, numbered as the official augmentation does.

    Args:
        grid: (h, w).
        turn: 0 as it is, 1..3 turned left so many times, 4 left and right swapped, 5 top and bottom swapped, 6
            transposed, 7 transposed along the other diagonal.

    Returns:
        A view, (h, w) or (w, h).
    """
    if turn < 4:
        return np.rot90(grid, turn)
    return (np.fliplr, np.flipud, np.transpose, lambda one: np.fliplr(np.rot90(one)))[turn - 4](grid)


RECOLOURINGS = math.factorial(COLOURS - 1)
"""Permutations of the colours that leave black alone."""


def symmetry_key(turn: int, colours: Sequence[int]) -> int:
    """The key that stands for one very symmetry, where others are drawn: 0 is the identity.

    Args:
        turn: 0..7.
        colours: the colour, 0..9, that takes the place of each colour; black stays 0.

    Raises:
        ValueError: there is no such turn, or `colours` is no permutation that leaves black alone.
    """
    if turn not in range(TURNS) or colours[0] != 0 or sorted(colours) != list(range(COLOURS)):
        raise ValueError(f"expected a turn in 0..{TURNS - 1} and a permutation of colours 0, …, got {turn}, {colours}")
    left, rank = list(range(1, COLOURS)), 0
    for colour in colours[1:]:
        rank = rank * len(left) + left.index(colour)
        left.remove(colour)
    return turn * RECOLOURINGS + rank


def _read_key(key: int) -> tuple[int, list[int]]:
    """The inverse of `symmetry_key`."""
    turn, rank = divmod(key, RECOLOURINGS)
    places: list[int] = []
    for size in range(1, COLOURS):
        rank, place = divmod(rank, size)
        places.insert(0, place)
    left = list(range(1, COLOURS))
    return turn, [0, *(left.pop(place) for place in places)]


def draw_symmetries(keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """One symmetry for each 64-bit key: a turn, and a permutation of the colours that leaves black alone.

    Small keys, which no draw of a puzzle comes to, each stand for a symmetry of their own: `symmetry_key`.

    Args:
        keys: (N,) uint64.

    Returns:
        (N,) int64 turns 0..7, and (N, 12) uint8 tokens: the token that takes the place of each token.
    """
    numbers = puzzle_keys(keys[:, None], np.arange(COLOURS, dtype=np.uint64)[None])
    tokens = np.tile(np.arange(VOCAB_SIZE, dtype=np.uint8), (len(keys), 1))
    tokens[:, BLACK + 1 :] = BLACK + 1 + np.argsort(numbers[:, 1:], axis=1)
    turns = (numbers[:, 0] % np.uint64(TURNS)).astype(np.int64)
    for row in np.flatnonzero(keys < TURNS * RECOLOURINGS):
        turns[row], colours = _read_key(int(keys[row]))
        tokens[row, BLACK:] = BLACK + np.array(colours)
    return turns, tokens
