"""The rules of a maze, and mazes as a `PuzzleFamily`.

A maze is walked from start to goal through open cells, up, right, down or left. An answer is right if it is the maze
with *some* shortest path drawn in it. The *canonical* solution is one of them, chosen without chance: from the start,
always the first of up, right, down, left that comes nearer to the goal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.compiled import compiled, plain
from hrm_gym.envs.family import CellBoards, Grids, PuzzleFamily, expect_one_shape, expect_tokens
from hrm_gym.envs.maze import tokens
from hrm_gym.envs.maze.tokens import GOAL, OPEN, PATH, START, WALL
from hrm_gym.envs.puzzle import Grid, Puzzle, Thought

if TYPE_CHECKING:
    import pygame

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
"""(row, column) step of moves 0 up, 1 right, 2 down, 3 left."""

UNREACHED = -1
"""The distance of walls and of cells that are cut off."""

# The kernels of distances see the grid flat with a border of walls, `stride` cells to a line, so that no step has to
# ask for the edge. All kernels fill arrays passed in: numba 0.68 can fail to return a new array from a cached function.


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
def directions_kernel(clues, directions):
    """Fill (N, H, W) `directions` with the canonical path's next step from every cell that has one."""
    height, width = clues.shape[1:]
    stride = width + 2
    distance = np.empty((height + 2) * stride, dtype=np.int32)
    for n in range(len(clues)):
        if distances_kernel(clues[n], distance) < 0:
            continue
        for row in range(height):
            for column in range(width):
                cell = (row + 1) * stride + column + 1
                if distance[cell] == UNREACHED or distance[cell] == 0:
                    continue
                for number, step in enumerate((-stride, 1, stride, -1)):
                    if distance[cell + step] == distance[cell] - 1:
                        directions[n, row, column] = number
                        break


@compiled
def judge_board(clues, answer):
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
            cells += token == PATH  # a partly filled maze shows some of them
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
def _judge_kernel(clues, answers, solved):
    """`judge_board` for (N, H, W) boards; fills (N,) `solved`."""
    for i in range(len(clues)):
        solved[i] = judge_board(clues[i], answers[i])


@compiled
def _connected_kernel(clues, answers, connected):
    """Whether each answer keeps every clue and its path connects start and goal, by a shortest way or not; (N,)."""
    walk = np.empty_like(clues[0])
    distance = np.empty((clues.shape[1] + 2) * (clues.shape[2] + 2), dtype=np.int32)
    for i in range(len(clues)):
        kept = True
        for row in range(clues.shape[1]):
            for column in range(clues.shape[2]):
                clue, token = clues[i, row, column], answers[i, row, column]
                kept &= token == clue or (clue == OPEN and token == PATH)
                walk[row, column] = WALL if token == OPEN else token
        connected[i] = False
        if kept:
            start = distances_kernel(walk, distance)
            connected[i] = start >= 0 and distance[start] > 0


@compiled(inline="always")
def _goes_on(token):
    """Whether path can go on to a cell that shows `token`."""
    return START <= token <= PATH


@compiled(inline="always")
def _ends(shown, row, column):
    """Number of neighbours of a cell that path can go on to."""
    ends = 0
    if row > 0:
        ends += _goes_on(shown[row - 1, column])
    if row + 1 < shown.shape[0]:
        ends += _goes_on(shown[row + 1, column])
    if column > 0:
        ends += _goes_on(shown[row, column - 1])
    if column + 1 < shown.shape[1]:
        ends += _goes_on(shown[row, column + 1])
    return ends


@compiled
def breaks_rule(clues, answer, row, column):
    """Whether one cell of `answer` breaks a rule: an altered clue, or path without two neighbours to go on to."""
    clue, token = clues[row, column], answer[row, column]
    if clue != OPEN or token != PATH:
        return token != clue
    return _ends(answer, row, column) != 2


@compiled
def _violations_kernel(clues, answers, wrong):
    """Mark the cells of (N, H, W) `answers` that break a rule."""
    for i in range(len(clues)):
        for row in range(clues.shape[1]):
            for column in range(clues.shape[2]):
                wrong[i, row, column] = breaks_rule(clues[i], answers[i], row, column)


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
            now = _ends(shown, r, c)  # before the change `ends` fewer
            growth += np.int64(now != 2) - np.int64(now - ends != 2)
    return growth


@compiled
def _write_kernel(clues, shown, actions, active, violations, ended):
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
        ended[i] = violations[i] == 0 and judge_board(clues[i], shown[i])


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


def path_length(clues: Grid) -> int:
    """Cells of a shortest path, start and goal counted; 0 if there is none."""
    return int(solve_kernel(plain(clues), np.empty(clues.shape, dtype=np.uint8))) + 1


def dihedral(height: int, width: int) -> NDArray[np.int64]:
    """The symmetries of a grid as cell permutations: eight of a square one, else four.

    Returns:
        (8 or 4, height*width) int64; `grid.ravel()[table[t]]` is the grid under symmetry t, row 0 is the identity.
    """
    cells = np.arange(height * width).reshape(height, width)
    if height != width:
        return np.stack([view.ravel() for view in (cells, np.rot90(cells, 2), cells[::-1], cells[:, ::-1])])
    turned = [np.rot90(cells, k) for k in range(4)]
    return np.stack([view.ravel() for view in (*turned, *(grid.T for grid in turned))])


class MazeFamily(PuzzleFamily):
    """Random-wall mazes in which a shortest path is wanted."""

    name = "maze"
    title = "Maze"
    vocab_size = tokens.VOCAB_SIZE
    symbols = tokens.SYMBOLS
    writable: tuple[int, ...] = (OPEN, PATH)
    clue_tokens = (OPEN, WALL, START, GOAL)
    clue_once = (START, GOAL)
    move_count = len(MOVES)
    difficulty_unit = "cells of a shortest path"
    wanted = (
        "A maze: # is a wall, . is open, S the start, G the goal. Mark one shortest path from S to G, walked up, "
        "right, down and left through open cells: put o into every open cell on it, and leave all other cells."
    )

    # ---- reading ----

    def parse(self, puzzle: Any) -> Grid:
        """Clues from text or a token grid; see `tokens.parse`."""
        return tokens.parse(puzzle)

    def check(self, clues: Grid) -> None:
        """Raise ValueError unless `clues` has one start, one goal and a way between them."""
        if ((clues < WALL) | (clues > GOAL)).any():
            raise ValueError(f"expected maze tokens 1..4, got {int(clues.min())}..{int(clues.max())}")
        for name, token in (("start 'S'", START), ("goal 'G'", GOAL)):
            count = int(np.count_nonzero(clues == token))
            if count != 1:
                raise ValueError(f"expected exactly one {name}, got {count}")
        if path_length(clues) == 0:
            raise ValueError("expected a maze with a way from start to goal, got one without")

    def read_row(self, question: str, answer: str) -> tuple[Grid, Grid]:
        """(clues, solution) of a row of an official CSV file; see `tokens.read_row`."""
        clues, solution = tokens.read_row(question, answer)
        self.check(clues)
        return clues, solution

    def read_rows(self, questions: Sequence[str], answers: Sequence[str]) -> tuple[Grids, Grids]:
        """(N, H, W) clues and solutions of many rows; with a shortest path as answer, a maze needs no other check."""
        clues, solutions = tokens.read_rows(questions, answers)
        for ends in (START, GOAL):
            if ((clues == ends).sum((1, 2)) != 1).any():
                raise ValueError("expected one start and one goal in every maze, got another number")
        if not self.judge(clues, solutions, solutions).all():
            raise ValueError("expected shortest paths as answers, got another")
        return clues, solutions

    def describe(self, puzzle: Puzzle, answer: Grid) -> str:
        """The answer; of a walk `@` is the walker, `o` its trail, `x` where it stepped back onto it."""
        expect_tokens(answer, self.vocab_size)
        expect_one_shape(puzzle.clues, answer)
        return tokens.describe(puzzle.clues, answer)

    # ---- rules ----

    def solve(self, clues: Grid) -> Grid | None:
        """The canonical shortest path drawn into `clues`, or None if there is no way."""
        solution = np.empty(clues.shape, dtype=np.uint8)
        return solution if solve_kernel(plain(clues), solution) >= 0 else None

    def difficulty(self, puzzle: Puzzle) -> float:
        """Cells of a shortest path, start and goal counted."""
        return float(path_length(puzzle.clues))

    def free(self, clues: Grids) -> NDArray[np.bool_]:
        """(..., H, W) bool, the open cells."""
        return clues == OPEN

    def auxiliary_labels(self, clues: Grids) -> NDArray[np.int64]:
        """The direction of the canonical shortest path to the goal: 0 up, 1 right, 2 down, 3 left."""
        directions = np.full(clues.shape, -100, dtype=np.int64)
        directions_kernel(clues, directions)
        return directions

    def judge(self, clues: Grids, solutions: Grids, answers: Grids) -> NDArray[np.bool_]:
        """(N,) bool: which answers are the maze with any one valid shortest path in it."""
        expect_one_shape(clues, answers)
        solved = np.empty(len(clues), dtype=np.bool_)
        _judge_kernel(plain(clues), plain(answers), solved)
        return solved

    def judge_tensors(self, clues: Any, solutions: Any, answers: Any) -> Any:
        """A path of as many cells as the stored one, that goes on from each to exactly one other, is a shortest one.

        Start and goal have one neighbour on it and every cell of it two, so that a walk joins start and goal; it takes
        at least as many cells as a shortest path, so that none are left for anything else. And no cell of a
        shortest path touches a third, which would be a shorter way.
        """
        path, ends = answers == PATH, (answers == START) | (answers == GOAL)
        kept = (answers == clues) | (path & (clues == OPEN))
        walk = (path | ends) * 1
        beside = walk * 0
        beside[:, 1:] += walk[:, :-1]
        beside[:, :-1] += walk[:, 1:]
        beside[:, :, 1:] += walk[:, :, :-1]
        beside[:, :, :-1] += walk[:, :, 1:]
        joined = ~(path | ends) | (beside == path * 2 + ends * 1)
        as_long = (path * 1).sum((1, 2)) == (solutions == PATH).sum((1, 2))
        return (kept & joined).reshape(len(clues), -1).all(1) & as_long

    def verdict(self, clues: Grids, solutions: Grids, answers: Grids) -> dict[str, NDArray[Any]]:
        """Also `reached`: whether the path connects start and goal, by a shortest way or not."""
        return {**super().verdict(clues, solutions, answers), "reached": self.connected(clues, answers)}

    def connected(self, clues: Grids, answers: Grids) -> NDArray[np.bool_]:
        """(N,) bool: whether an answer keeps every clue and its path connects start and goal."""
        expect_one_shape(clues, answers)
        reached = np.empty(len(clues), dtype=np.bool_)
        _connected_kernel(plain(clues), plain(answers), reached)
        return reached

    def violations(self, clues: Grids, answers: Grids) -> NDArray[np.bool_]:
        """(N, H, W) bool: altered clues, and path cells without exactly two neighbours among path, start and goal."""
        expect_one_shape(clues, answers)
        wrong = np.empty(clues.shape, dtype=np.bool_)
        _violations_kernel(plain(clues), plain(answers), wrong)
        return wrong

    def cost(self, clues: Grids, answers: Grids) -> NDArray[np.float64]:
        """The cells of a path that connects start and goal; infinite for other answers."""
        whole = self.connected(clues, answers) & (self.count_violations(clues, answers) == 0)
        return np.where(whole, np.count_nonzero(answers == PATH, axis=(1, 2)), np.inf)

    # ---- acting ----

    def write(self, clues: Grid, shown: Grid, cell: int, token: int) -> int:
        """Write one cell; only its neighbours are looked at."""
        return int(change_kernel(clues, shown, cell, token))

    def write_many(self, boards: CellBoards, actions: NDArray[np.int64], active: NDArray[np.bool_]) -> None:
        """One action on each active board, compiled."""
        _write_kernel(boards.clues, boards.shown, actions, active, boards.violations, boards.ended)

    def next_move(self, clues: Grid, current: Grid, answer: Grid) -> int:
        """The move that follows `answer` from the walker's cell, shown as the start token in `current`.

        Onto the path of `answer` (or the goal), as near to the goal as possible. If no path cell leads on to the goal,
        towards any path cell next to the walker, else 0.
        """
        (row,), (column,) = _walkers(current[None])
        walk = np.where((answer == PATH) & (clues == OPEN), PATH, WALL).astype(np.uint8)
        walk[clues == GOAL] = GOAL
        walk[row, column] = START
        reach = distances(walk) if clues[row, column] != GOAL else np.full(clues.shape, UNREACHED, dtype=np.int32)
        best, choice = np.inf, 0
        for move, (down, right) in enumerate(MOVES):
            r, c = row + down, column + right
            if not (0 <= r < clues.shape[0] and 0 <= c < clues.shape[1]) or walk[r, c] == WALL:
                continue
            rank = reach[r, c] if reach[r, c] >= 0 else clues.size + move
            if rank < best:
                best, choice = rank, move
        return choice

    def legal_moves(self, clues: Grids, shown: Grids) -> NDArray[np.bool_]:
        """(N, 4) bool: the moves up, right, down and left that no wall stops, from where the start token stands."""
        count, height, width = shown.shape
        row, column = _walkers(shown)
        bordered = np.full((count, height + 2, width + 2), False)
        bordered[:, 1:-1, 1:-1] = clues != WALL
        neighbours = [bordered[np.arange(count), 1 + row + down, 1 + column + right] for down, right in MOVES]
        return np.stack(neighbours, axis=1)

    # ---- symmetries and looks ----

    def symmetry(self, shape: tuple[int, int], key: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """One of the symmetries of the grid; tokens stay."""
        table = dihedral(*shape)
        return table[key % len(table)], super().symmetry(shape, key)[1]

    def canonical(self, clues: Grid) -> Grid:
        """The first, in the order of their tokens, of the symmetric images."""
        images = clues.ravel()[dihedral(*clues.shape)]
        return images[np.lexsort(images.T[::-1])[0]].reshape(clues.shape)

    def legend(self, puzzle: Puzzle, answer: Grid, thought: Thought | None) -> list[str]:
        """What the dots mean."""
        planned = thought is not None and bool(((thought.answer == PATH) & (answer == OPEN)).any())
        return ["blue dots: the way it will go"] if planned else []

    def draw(self, surface: pygame.Surface, puzzle: Puzzle, answer: Grid, thought: Thought | None) -> None:
        """Paint the maze so that it fills `surface`."""
        from hrm_gym.envs.maze.drawing import draw_maze

        draw_maze(surface, puzzle.clues, answer, thought)


def _walkers(shown: Grids) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,) rows and (N,) columns of the walkers that (N, H, W) boards of move mode show, as start tokens."""
    return np.divmod((shown == START).reshape(len(shown), -1).argmax(axis=1), shown.shape[2])


MAZE = MazeFamily()
