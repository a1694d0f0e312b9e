"""The rules of a maze, as pure functions of token grids.

A maze is walked from start to goal through open cells, up, right, down or left. An answer is right if it is the maze
with *some* shortest path drawn in it. The *canonical* solution is one of them, picked without chance: from the start,
always the first of up, right, down, left that comes nearer to the goal.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.maze.kernels import (
    UNREACHED,
    connected_kernel,
    count_violations_kernel,
    distances_kernel,
    judge_kernel,
    solve_kernel,
    violations_kernel,
)
from hrm_gym.envs.maze.tokens import GOAL, OPEN, PATH, START, WALL
from hrm_gym.envs.puzzle import Grid, plain

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""(row, column) step of moves 0 up, 1 right, 2 down, 3 left."""


def distances(clues: Grid) -> NDArray[np.int32]:
    """Moves from every cell to the goal.

    Args:
        clues: (H, W) uint8 maze.

    Returns:
        (H, W) int32; -1 for walls and cells cut off from the goal.
    """
    height, width = clues.shape
    flat = np.empty((height + 2) * (width + 2), dtype=np.int32)
    distances_kernel(plain(clues), flat)
    return flat.reshape(height + 2, width + 2)[1:-1, 1:-1].copy()


def solve(clues: Grid) -> Grid | None:
    """The canonical solution.

    Args:
        clues: (H, W) uint8 maze.

    Returns:
        A fresh (H, W) uint8 grid with the path drawn in, or None if the goal cannot be reached.
    """
    solution = np.empty(clues.shape, dtype=np.uint8)
    return solution if solve_kernel(plain(clues), solution) >= 0 else None


def path_length(clues: Grid) -> int:
    """Cells of a shortest path, start and goal counted; 0 if there is none."""
    return int(solve_kernel(plain(clues), np.empty(clues.shape, dtype=np.uint8))) + 1


def is_solved(clues: Grid, answer: Grid) -> bool:
    """Whether `answer` (H, W) is the maze `clues` (H, W) with any one valid shortest path drawn in."""
    return bool(judge_kernel(plain(clues), plain(answer)))


def violations(clues: Grid, answer: Grid) -> NDArray[np.bool_]:
    """Cells of an answer that break a rule, judged from the clues alone.

    A cell breaks one if its clue was altered (other than open made path), or if it is a path cell that does not have
    exactly two neighbours among path, start and goal.

    Args:
        clues: (H, W) uint8 maze.
        answer: (H, W) uint8 token ids.

    Returns:
        (H, W) bool.
    """
    wrong = np.empty(clues.shape, dtype=np.bool_)
    violations_kernel(plain(clues), plain(answer), wrong)
    return wrong


def count_violations(clues: Grid, answer: Grid) -> int:
    """Number of cells that `violations` marks."""
    return int(count_violations_kernel(plain(clues), plain(answer)))


def is_connected(clues: Grid, answer: Grid) -> bool:
    """Whether `answer` keeps every clue and its path cells connect start and goal, by a shortest way or not."""
    return bool(connected_kernel(plain(clues), plain(answer)))


def free(clues: Grid) -> NDArray[np.bool_]:
    """(H, W) bool: the open cells, which are the solver's to fill."""
    return clues == OPEN


def check(clues: Grid) -> None:
    """Raise ValueError unless `clues` is a maze with one start, one goal and a way between them.

    Args:
        clues: (H, W) uint8 token ids.

    Raises:
        ValueError: says what was expected and what came.
    """
    if ((clues < WALL) | (clues > GOAL)).any():
        raise ValueError(f"expected maze tokens 1..4, got {int(clues.min())}..{int(clues.max())}")
    for name, token in (("start 'S'", START), ("goal 'G'", GOAL)):
        count = int(np.count_nonzero(clues == token))
        if count != 1:
            raise ValueError(f"expected exactly one {name}, got {count}")
    if path_length(clues) == 0:
        raise ValueError("expected a maze with a way from start to goal, got one without")


def dihedral(size: int) -> NDArray[np.int64]:
    """The eight symmetries of a square grid as cell permutations.

    Args:
        size: side length.

    Returns:
        (8, size*size) int64; `grid.ravel()[table[t]]` is the grid under symmetry t, row 0 is the identity.
    """
    cells = np.arange(size * size).reshape(size, size)
    turned = [np.rot90(cells, k) for k in range(4)]
    return np.stack([view.ravel() for view in (*turned, *(grid.T for grid in turned))])


def walk_moves(clues: Grid, answer: Grid, cell: tuple[int, int]) -> int:
    """The move that carries out `answer` from `cell`: onto its path (or the goal), as near to the goal as may be.

    Args:
        clues: (H, W) uint8 maze.
        answer: (H, W) uint8 answer with a path in it.
        cell: (row, column) of the walker.

    Returns:
        0..3. If no path cell leads on to the goal, the move towards any path cell beside the walker, else 0.
    """
    walk = np.where((answer == PATH) & (clues == OPEN), PATH, WALL).astype(np.uint8)
    walk[clues == GOAL] = GOAL
    walk[cell] = START
    reach = distances(walk) if clues[cell] != GOAL else np.full(clues.shape, UNREACHED, dtype=np.int32)
    best, choice = np.inf, 0
    for move, (down, right) in enumerate(MOVES):
        r, c = cell[0] + down, cell[1] + right
        if not (0 <= r < clues.shape[0] and 0 <= c < clues.shape[1]) or walk[r, c] == WALL:
            continue
        rank = reach[r, c] if reach[r, c] >= 0 else clues.size + move
        if rank < best:
            best, choice = rank, move
    return choice
