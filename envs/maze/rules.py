"""The compiled part of the rules: breadth-first distances, the canonical path, judging.

The kernels see the grid flat with a border of walls, `stride` cells to a line, so that no step has to ask for the edge.
They fill arrays handed in: numba 0.68 can fail to give back a new array from a function loaded from its cache.

The rules of a maze, as pure functions of token grids.

A maze is walked from start to goal through open cells, up, right, down or left. An answer is right if it is the maze
with *some* shortest path drawn in it. The *canonical* solution is one of them, picked without chance: from the start,
always the first of up, right, down, left that comes nearer to the goal.

Mazes as a `PuzzleFamily`: what an agent, a data set or an environment needs to know of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.family import PuzzleFamily, agreement
from hrm_gym.envs.maze import tokens
from hrm_gym.envs.maze.tokens import GOAL, OPEN, PATH, START, WALL
from hrm_gym.envs.family import CellBoards
from hrm_gym.envs.compiled import compiled, plain
from hrm_gym.envs.puzzle import Grid, Puzzle, Thought

if TYPE_CHECKING:
    import pygame


UNREACHED = -1
"""The distance of walls and of cells that are cut off."""


@compiled
def flood_kernel(passable, stride, origin, distance, queue):
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


@compiled
def distances_kernel(grid, distance):
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


@compiled
def solve_kernel(grid, solution):
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


@compiled
def judge_kernel(clues, answer):
    """Whether `answer` is `clues` with a shortest path in it."""
    height, width = clues.shape
    cells = rows = columns = 0
    walk = np.empty_like(clues)
    for row in range(height):
        for column in range(width):
            clue, token = clues[row, column], answer[row, column]
            drawn = clue == OPEN and token == PATH
            if token != clue and not drawn:
                return False
            cells += drawn
            walk[row, column] = WALL if token == OPEN else token
            if clue in (START, GOAL):
                rows, columns = row - rows, column - columns
    if cells < abs(rows) + abs(columns) - 1:  # not even as the crow flies; the breadth-first searches below cost more
        return False
    distance = np.empty((height + 2) * (width + 2), dtype=np.int32)
    start = distances_kernel(clues, distance)
    # A walk over the drawn cells alone takes at least `moves`; with moves - 1 drawn cells it uses every one of them.
    moves = distance[start] if start >= 0 else UNREACHED
    if moves < 1 or cells != moves - 1:
        return False
    distances_kernel(walk, distance)
    return distance[start] == moves


@compiled
def judge_many_kernel(clues, answers, solved):
    """`judge_kernel` for (N, H, W) boards; fills (N,) `solved`."""
    for i in range(len(clues)):
        solved[i] = judge_kernel(clues[i], answers[i])


@compiled
def connected_kernel(clues, answer):
    """Whether `answer` keeps every clue and its path connects start and goal, by a shortest way or not."""
    walk = np.empty_like(clues)
    for row in range(clues.shape[0]):
        for column in range(clues.shape[1]):
            clue, token = clues[row, column], answer[row, column]
            if token != clue and not (clue == OPEN and token == PATH):
                return False
            walk[row, column] = WALL if token == OPEN else token
    distance = np.empty((clues.shape[0] + 2) * (clues.shape[1] + 2), dtype=np.int32)
    start = distances_kernel(walk, distance)
    return start >= 0 and distance[start] > 0


@compiled
def connected_many_kernel(clues, answers, connected):
    """`connected_kernel` for (N, H, W) boards; fills (N,) `connected`."""
    for i in range(len(clues)):
        connected[i] = connected_kernel(clues[i], answers[i])


@compiled
def breaks_rule(clues, answer, row, column):
    """Whether one cell of `answer` breaks a rule: an altered clue, or path without two neighbours to go on to."""
    height, width = clues.shape
    clue, token = clues[row, column], answer[row, column]
    if clue != OPEN or token != PATH:
        return token != clue
    ends = 0
    if row > 0:
        ends += START <= answer[row - 1, column] <= PATH
    if row + 1 < height:
        ends += START <= answer[row + 1, column] <= PATH
    if column > 0:
        ends += START <= answer[row, column - 1] <= PATH
    if column + 1 < width:
        ends += START <= answer[row, column + 1] <= PATH
    return ends != 2


@compiled
def violations_kernel(clues, answer, wrong):
    """Mark the cells of `answer` that break a rule."""
    for row in range(clues.shape[0]):
        for column in range(clues.shape[1]):
            wrong[row, column] = breaks_rule(clues, answer, row, column)


@compiled
def count_violations_kernel(clues, answer):
    """Number of cells of `answer` that break a rule."""
    count = 0
    for row in range(clues.shape[0]):
        for column in range(clues.shape[1]):
            count += breaks_rule(clues, answer, row, column)
    return count


@compiled
def count_violations_many_kernel(clues, answers, counts):
    """`count_violations_kernel` for (N, H, W) boards; fills (N,) `counts`."""
    for i in range(len(clues)):
        counts[i] = count_violations_kernel(clues[i], answers[i])


@compiled(inline="always")
def _goes_on(token):
    """Whether path can go on to a cell that shows `token`."""
    return START <= token <= PATH


@compiled
def change_kernel(clues, shown, cell, token):
    """Write one cell of (H, W) `shown`; returns by how much the number of cells that break a rule grows."""
    height, width = clues.shape
    row, column = cell // width, cell % width
    growth = -np.int64(breaks_rule(clues, shown, row, column))
    ends = np.int64(_goes_on(token)) - np.int64(_goes_on(shown[row, column]))
    shown[row, column] = token
    growth += breaks_rule(clues, shown, row, column)
    if ends == 0:
        return growth
    for down, right in ((-1, 0), (0, 1), (1, 0), (0, -1)):
        r, c = row + down, column + right
        if 0 <= r < height and 0 <= c < width and shown[r, c] == PATH and clues[r, c] == OPEN:
            now = 0  # neighbours that this path can go on to; before the change `ends` fewer
            if r > 0:
                now += _goes_on(shown[r - 1, c])
            if r + 1 < height:
                now += _goes_on(shown[r + 1, c])
            if c > 0:
                now += _goes_on(shown[r, c - 1])
            if c + 1 < width:
                now += _goes_on(shown[r, c + 1])
            growth += np.int64(now != 2) - np.int64(now - ends != 2)
    return growth


@compiled
def write_kernel(clues, shown, actions, active, violations, ended):
    """Cell mode on (N, H, W) boards: 2 * cell clears a cell, 2 * cell + 1 draws path, one past the last halts."""
    width, cells = clues.shape[2], clues.shape[1] * clues.shape[2]
    for i in range(len(clues)):
        if not active[i]:
            continue
        ended[i] = actions[i] == 2 * cells
        if ended[i]:
            continue
        row, column = (actions[i] >> 1) // width, (actions[i] >> 1) % width
        token = PATH if actions[i] & 1 else OPEN
        if clues[i, row, column] != OPEN:
            continue
        if shown[i, row, column] != token:
            violations[i] += change_kernel(clues[i], shown[i], row * width + column, token)
        ended[i] = violations[i] == 0 and judge_kernel(clues[i], shown[i])


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


class MazeFamily(PuzzleFamily):
    """Random-wall mazes in which a shortest path is wanted; see `PuzzleFamily` for the methods."""

    name = "maze"
    title = "Maze"
    vocab_size = tokens.VOCAB_SIZE
    symbols = tokens.SYMBOLS
    writable: tuple[int, ...] = (tokens.OPEN, tokens.PATH)
    move_count = len(MOVES)
    difficulty_unit = "cells of a shortest path"

    def parse(self, puzzle: Any) -> Grid:
        """Clues from text or a token grid; see `tokens.parse`."""
        return tokens.parse(puzzle)

    def check(self, clues: Grid) -> None:
        """Raise ValueError unless `clues` has one start, one goal and a way between them."""
        check(clues)

    def read_row(self, question: str, answer: str) -> tuple[Grid, Grid]:
        """(clues, solution) of a row of an official CSV file; see `tokens.read_row`."""
        clues, solution = tokens.read_row(question, answer)
        check(clues)
        return clues, solution

    def read_rows(
        self, questions: Sequence[str], answers: Sequence[str]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """(N, H, W) clues and solutions of many rows; a maze whose answer is a shortest path needs no other check."""
        clues, solutions = tokens.read_rows(questions, answers)
        for ends in (tokens.START, tokens.GOAL):
            if ((clues == ends).sum((1, 2)) != 1).any():
                raise ValueError("expected one start and one goal in every maze, got another number")
        for maze in clues[~self.judge_many(clues, solutions, solutions)]:
            check(maze)
        return clues, solutions

    def describe(self, puzzle: Puzzle, answer: Grid) -> str:
        """The answer; of a walk `@` is the walker, `o` its trail, `x` where it stepped back onto it."""
        return tokens.describe(puzzle.clues, answer)

    def solve(self, clues: Grid) -> Grid | None:
        """The canonical shortest path drawn into `clues`, or None if there is no way."""
        return solve(clues)

    def free(self, clues: Grid) -> NDArray[np.bool_]:
        """(H, W) bool, the open cells."""
        return free(clues)

    def is_solved(self, puzzle: Puzzle, answer: Grid) -> bool:
        """Whether `answer` is the maze with any one valid shortest path in it."""
        return is_solved(puzzle.clues, answer)

    def difficulty(self, puzzle: Puzzle) -> float:
        """Cells of a shortest path, start and goal counted."""
        return float(path_length(puzzle.clues))

    def violations(self, clues: Grid, answer: Grid) -> NDArray[np.bool_]:
        """(H, W) bool: altered clues, and path cells without exactly two neighbours among path, start and goal."""
        return violations(clues, answer)

    def count_violations(self, clues: Grid, answer: Grid) -> int:
        """Number of cells that `violations` marks."""
        return count_violations(clues, answer)

    def write(self, clues: Grid, shown: Grid, cell: int, token: int) -> int:
        """Write one cell; compiled, and no more than its surroundings are looked at."""
        return int(change_kernel(clues, shown, cell, token))

    def judge_many(
        self, clues: NDArray[np.uint8], solutions: NDArray[np.uint8], answers: NDArray[np.uint8]
    ) -> NDArray[np.bool_]:
        """(N,) bool: `is_solved`, compiled."""
        solved = np.empty(len(clues), dtype=np.bool_)
        judge_many_kernel(plain(clues), plain(answers), solved)
        return solved

    def verdict_many(
        self, clues: NDArray[np.uint8], solutions: NDArray[np.uint8], answers: NDArray[np.uint8]
    ) -> dict[str, NDArray[Any]]:
        """Beside the usual, `reached`: whether the path connects start and goal, by a shortest way or not."""
        reached = self._connected(clues, answers)
        return {
            "solved": self.judge_many(clues, solutions, answers),
            **agreement(clues, solutions, answers, tokens.OPEN),
            "reached": reached,
        }

    def _connected(self, clues: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """(N,) bool: whether the path connects start and goal."""
        reached = np.empty(len(clues), dtype=np.bool_)
        connected_many_kernel(plain(clues), plain(answers), reached)
        return reached

    def cost_many(self, clues: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The cells of a path that connects start and goal; infinite for other answers."""
        whole = self._connected(clues, answers) & (self.count_violations_many(clues, answers) == 0)
        return np.where(whole, np.count_nonzero(answers == tokens.PATH, axis=(1, 2)), np.inf)

    def cell_accuracy_many(
        self, clues: NDArray[np.uint8], solutions: NDArray[np.uint8], answers: NDArray[np.uint8]
    ) -> NDArray[np.float64]:
        """(N,) float64: the share of open cells that agree with the stored solution."""
        return agreement(clues, solutions, answers, tokens.OPEN)["cell_accuracy"]

    def legal_writes_many(self, clues: NDArray[np.uint8], shown: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Every writable token in every open cell."""
        return np.repeat(self.free(clues).reshape(len(clues), -1, 1), len(self.writable), axis=2)

    def count_violations_many(self, clues: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.int32]:
        """(N,) int32: `count_violations`, compiled."""
        counts = np.empty(len(clues), dtype=np.int32)
        count_violations_many_kernel(plain(clues), plain(answers), counts)
        return counts

    def write_many(self, boards: CellBoards, actions: NDArray[np.int64], active: NDArray[np.bool_]) -> None:
        """One action on each active board, compiled."""
        write_kernel(boards.clues, boards.shown, actions, active, boards.violations, boards.ended)

    def symmetry(self, shape: tuple[int, int], key: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """One of the eight symmetries of a square grid; of another grid the identity."""
        cells, same = super().symmetry(shape, key)
        return (dihedral(shape[0])[key % 8] if shape[0] == shape[1] else cells), same

    def canonical(self, clues: Grid) -> Grid:
        """The first, in the order of their tokens, of the symmetric images of a square maze."""
        if clues.shape[0] != clues.shape[1]:
            return clues
        images = clues.ravel()[dihedral(len(clues))]
        return images[np.lexsort(images.T[::-1])[0]].reshape(clues.shape)

    def next_move(self, clues: Grid, current: Grid, answer: Grid) -> int:
        """The move that carries out `answer` from the walker's cell, shown as the start token in `current`."""
        (row,), (column,) = _walkers(current[None])
        return walk_moves(clues, answer, (int(row), int(column)))

    def legal_moves_many(self, clues: NDArray[np.uint8], shown: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """(N, 4) bool: the moves up, right, down and left that no wall stops, from where the start token stands."""
        count, height, width = shown.shape
        row, column = _walkers(shown)
        bordered = np.full((count, height + 2, width + 2), False)
        bordered[:, 1:-1, 1:-1] = clues != tokens.WALL
        beside = [bordered[np.arange(count), 1 + row + down, 1 + column + right] for down, right in MOVES]
        return np.stack(beside, axis=1)

    def draw(self, surface: pygame.Surface, puzzle: Puzzle, answer: Grid, thought: Thought | None) -> None:
        """Paint the maze so that it fills `surface`."""
        from hrm_gym.envs.maze.drawing import draw_maze

        draw_maze(surface, puzzle.clues, answer, thought)


def _walkers(shown: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,) rows and (N,) columns of the walkers that (N, H, W) boards of move mode show, as start tokens."""
    return np.divmod((shown == tokens.START).reshape(len(shown), -1).argmax(axis=1), shown.shape[2])


MAZE = MazeFamily()
