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
def violations_kernel(clues, answer, wrong):
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
