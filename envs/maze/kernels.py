"""The compiled part of the rules: breadth-first distances, the canonical path, judging.

The kernels see the grid flat with a border of walls, `stride` cells to a line, so that no step has to ask for the edge.
They fill arrays handed in: numba 0.68 can fail to give back a new array from a function loaded from its cache.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from hrm_gym.envs.maze.tokens import GOAL, OPEN, PATH, START, WALL

UNREACHED = -1
"""The distance of walls and of cells that are cut off."""


@njit(cache=True)
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


@njit(cache=True)
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


@njit(cache=True)
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


@njit(cache=True)
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


@njit(cache=True)
def judge_many_kernel(clues, answers, solved):
    """`judge_kernel` for (N, H, W) boards; fills (N,) `solved`."""
    for i in range(len(clues)):
        solved[i] = judge_kernel(clues[i], answers[i])


@njit(cache=True)
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


@njit(cache=True)
def connected_many_kernel(clues, answers, connected):
    """`connected_kernel` for (N, H, W) boards; fills (N,) `connected`."""
    for i in range(len(clues)):
        connected[i] = connected_kernel(clues[i], answers[i])


@njit(cache=True)
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


@njit(cache=True)
def violations_kernel(clues, answer, wrong):
    """Mark the cells of `answer` that break a rule."""
    for row in range(clues.shape[0]):
        for column in range(clues.shape[1]):
            wrong[row, column] = breaks_rule(clues, answer, row, column)


@njit(cache=True)
def count_violations_kernel(clues, answer):
    """Number of cells of `answer` that break a rule."""
    count = 0
    for row in range(clues.shape[0]):
        for column in range(clues.shape[1]):
            count += breaks_rule(clues, answer, row, column)
    return count


@njit(cache=True)
def count_violations_many_kernel(clues, answers, counts):
    """`count_violations_kernel` for (N, H, W) boards; fills (N,) `counts`."""
    for i in range(len(clues)):
        counts[i] = count_violations_kernel(clues[i], answers[i])


@njit(cache=True, inline="always")
def _goes_on(token):
    """Whether path can go on to a cell that shows `token`."""
    return START <= token <= PATH


@njit(cache=True)
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


@njit(cache=True)
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
