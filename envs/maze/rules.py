"""The rules of a maze, as pure functions of token grids.

A maze is walked from start to goal through open cells, up, right, down or left. An answer is right if it is the maze
with *some* shortest path drawn in it. The *canonical* solution is one of them, picked without chance: from the start,
always the first of up, right, down, left that comes nearer to the goal.

The `*_kernel` functions are compiled; they see the grid flat with a border of walls, `stride` cells to a line, so that
no step has to ask for the edge. They fill arrays handed in: numba 0.68 can fail to give back a new array from a
function that was loaded from its cache.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from hrm_gym.envs.maze.tokens import GOAL, OPEN, PATH, START, WALL
from hrm_gym.envs.puzzle import Grid

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""(row, column) step of moves 0 up, 1 right, 2 down, 3 left."""

UNREACHED = -1


@njit(cache=True)
def flood_kernel(passable, stride, origin, distance, queue):  # type: ignore[no-untyped-def]
    """Breadth-first distances from `origin`; fills `distance` and the visiting order `queue`, returns its length."""
    distance[:] = UNREACHED
    distance[origin] = 0
    queue[0] = origin
    head, tail = 0, 1
    while head < tail:
        cell = queue[head]
        head += 1
        further = distance[cell] + 1
        for step in (-stride, 1, stride, -1):
            nxt = cell + step
            if passable[nxt] and distance[nxt] == UNREACHED:
                distance[nxt] = further
                queue[tail] = nxt
                tail += 1
    return tail


@njit(cache=True)
def distances_kernel(grid, distance):  # type: ignore[no-untyped-def]
    """Fill bordered flat `distance` to the goal; returns the bordered index of the start, -1 if an end is missing."""
    height, width = grid.shape
    stride = width + 2
    passable = np.zeros(len(distance), dtype=np.uint8)
    start = goal = -1
    for row in range(height):
        for column in range(width):
            token = grid[row, column]
            cell = (row + 1) * stride + column + 1
            passable[cell] = token != WALL
            if token == START:
                start = cell
            elif token == GOAL:
                goal = cell
    distance[:] = UNREACHED
    if start < 0 or goal < 0:
        return -1
    flood_kernel(passable, stride, goal, distance, np.empty(len(distance), dtype=np.int32))
    return start


@njit(cache=True)
def solve_kernel(grid, solution):  # type: ignore[no-untyped-def]
    """Draw the canonical shortest path of `grid` into `solution`; returns its moves, -1 if there is no path."""
    distance = np.empty((grid.shape[0] + 2) * (grid.shape[1] + 2), dtype=np.int32)
    cell = distances_kernel(grid, distance)
    solution[:] = grid
    if cell < 0 or distance[cell] == UNREACHED:
        return -1
    stride = grid.shape[1] + 2
    moves = distance[cell]
    for left in range(moves - 1, 0, -1):
        for step in (-stride, 1, stride, -1):
            if distance[cell + step] == left:
                cell += step
                break
        solution[cell // stride - 1, cell % stride - 1] = PATH
    return moves


@njit(cache=True)
def judge_kernel(clues, answer):  # type: ignore[no-untyped-def]
    """Whether `answer` is `clues` with a shortest path in it."""
    height, width = clues.shape
    distance = np.empty((height + 2) * (width + 2), dtype=np.int32)
    start = distances_kernel(clues, distance)
    cells = 0
    walk = np.empty_like(clues)
    for row in range(height):
        for column in range(width):
            clue, token = clues[row, column], answer[row, column]
            drawn = clue == OPEN and token == PATH
            if token != clue and not drawn:
                return False
            cells += drawn
            walk[row, column] = WALL if token == OPEN else token
    # A walk over the drawn cells alone takes at least `moves`; with moves - 1 drawn cells it uses every one of them.
    moves = distance[start] if start >= 0 else UNREACHED
    if moves < 1 or cells != moves - 1:
        return False
    distances_kernel(walk, distance)
    return distance[start] == moves


@njit(cache=True)
def violations_kernel(clues, answer, wrong):  # type: ignore[no-untyped-def]
    """Mark the cells of `answer` that break a rule; returns how many."""
    height, width = clues.shape
    count = 0
    for row in range(height):
        for column in range(width):
            clue, token = clues[row, column], answer[row, column]
            bad = token != clue
            if clue == OPEN and token == PATH:
                ends = 0
                for up, right in ((-1, 0), (0, 1), (1, 0), (0, -1)):
                    r, c = row + up, column + right
                    if 0 <= r < height and 0 <= c < width:
                        beside = answer[r, c]
                        ends += beside in (PATH, START, GOAL)
                bad = ends != 2
            wrong[row, column] = bad
            count += bad
    return count


def plain(grid: Grid) -> Grid:
    """The same grid as the compiled kernels know it: uint8, contiguous, writable (else each kind compiles anew)."""
    if grid.dtype == np.uint8 and grid.flags.c_contiguous and grid.flags.writeable:
        return grid
    return np.array(grid, dtype=np.uint8, order="C")


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


def is_connected(clues: Grid, answer: Grid) -> bool:
    """Whether `answer` keeps every clue and its path cells connect start and goal, by a shortest way or not."""
    kept = (answer == clues) | ((clues == OPEN) & (answer == PATH))
    return bool(kept.all()) and path_length(np.where(answer == OPEN, np.uint8(WALL), answer)) > 0


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
