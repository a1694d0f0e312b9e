"""Random-wall mazes made from 64-bit keys.

One draw: every cell is a wall with probability `wall_share`; the start is uniform over the open cells; the goal is
uniform over the cells far enough from it. Draws with no such goal, or of the other split, are thrown away, so a key
always gives the same maze on every machine.

Splits: the symmetric images of a layout of walls have eight hashes (four where it is not square); the least of them
says where all belong (`puzzle.hash_in_split`). So no maze of one split has the walls of a maze of another, not even
mirrored or turned, wherever its start and goal are.
"""

from __future__ import annotations

import reprlib

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.compiled import GOLDEN, compiled, mix_kernel, plain
from hrm_gym.envs.maze.rules import flood_kernel, solve_kernel
from hrm_gym.envs.maze.tokens import GOAL, OPEN, START, WALL
from hrm_gym.envs.puzzle import SPLITS, Grid, Puzzle, PuzzleBatch, apart_from_banks, hash_in_split, split_of_hash

Size = int | tuple[int, int]
"""Side length of square mazes, or (rows, columns)."""

DRAWS = 200_000
"""Draws after which a key is given up: the parameters ask for mazes that (hardly) exist."""

_PRIME = np.uint64(0x9FB21C651E98DF25)


@compiled
def wall_hash_kernel(grid):
    """The least of the hashes of the symmetric images of a grid's walls: eight of a square one, else four."""
    height, width = grid.shape
    count = 8 if height == width else 4
    hashes = np.full(count, GOLDEN, dtype=np.uint64)
    for a in range(height):
        for b in range(width):
            for t in range(count):
                row, column = (b, a) if t >= 4 else (a, b)
                row = height - 1 - row if t & 1 else row
                column = width - 1 - column if t & 2 else column
                mixed = (hashes[t] ^ np.uint64(grid[row, column] == WALL)) * _PRIME
                hashes[t] = mixed ^ (mixed >> np.uint64(32))
    return mix_kernel(hashes.min())


@compiled
def _draw_kernel(state, min_path, threshold, clues, passable, distance, queue):
    """One draw into `clues`; returns the generator's next state and whether a goal was far enough from the start."""
    height, width = clues.shape
    stride = width + 2
    bits = np.uint64(0)
    for cell in range(height * width):
        if cell % 4 == 0:
            state += GOLDEN
            bits = mix_kernel(state)
        wall = (bits & np.uint64(0xFFFF)) < threshold
        bits >>= np.uint64(16)
        row, column = cell // width, cell % width
        clues[row, column] = WALL if wall else OPEN
        passable[(row + 1) * stride + column + 1] = not wall
    state += GOLDEN
    place = np.int64(mix_kernel(state) % np.uint64(height * width))
    origin = (place // width + 1) * stride + place % width + 1
    if not passable[origin]:
        return state, False
    reached = flood_kernel(passable, stride, origin, distance, queue)
    near = reached
    while near > 1 and distance[queue[near - 1]] >= min_path - 1:
        near -= 1
    if near == reached:
        return state, False
    state += GOLDEN
    goal = queue[near + np.int64(mix_kernel(state) % np.uint64(reached - near))]
    clues[origin // stride - 1, origin % stride - 1] = START
    clues[goal // stride - 1, goal % stride - 1] = GOAL
    return state, True


@compiled
def generate_kernel(keys, min_path, threshold, split, clues, solutions):
    """Fill (N, H, W) `clues` and `solutions` from N keys; returns how many keys got a maze before one was given up.

    `threshold` is the share of walls times 65536; `split` indexes SPLITS.
    """
    bordered = (clues.shape[1] + 2) * (clues.shape[2] + 2)
    passable = np.zeros(bordered, dtype=np.uint8)
    distance = np.empty(bordered, dtype=np.int32)
    queue = np.empty(bordered, dtype=np.int32)
    for i in range(len(keys)):
        state = mix_kernel(keys[i])
        found = False
        for _ in range(DRAWS):
            state, found = _draw_kernel(state, min_path, threshold, clues[i], passable, distance, queue)
            if found and split != 2:
                found = hash_in_split(wall_hash_kernel(clues[i]), split)
            if found:
                break
        if not found:
            return i
        solve_kernel(clues[i], solutions[i])
    return len(keys)


def split_of(clues: Grid) -> str:
    """The split, "train", "validation" or "test", of a maze (H, W) and of all its symmetric images."""
    return split_of_hash(wall_hash_kernel(plain(clues)))


def shape_of(size: Size) -> tuple[int, int]:
    """(H, W) of mazes of a size: one side length, or (rows, columns); ValueError unless each is in 2..255."""
    sides = (size, size) if isinstance(size, int | np.integer) else size
    if (
        not isinstance(sides, tuple | list)
        or len(sides) != 2
        or not all(isinstance(n, int | np.integer) for n in sides)
    ):
        raise ValueError(f"expected size to be an integer, or (rows, columns), got {reprlib.repr(size)}")
    if not all(2 <= side <= 255 for side in sides):
        raise ValueError(f"expected size in 2..255, got {size}")
    return int(sides[0]), int(sides[1])


class GeneratedMazes:
    """New mazes without end.

    Attributes:
        shape: (H, W).
    """

    def __init__(self, size: Size, split: str = "train", min_path: int | None = None, wall_share: float = 0.35) -> None:
        """Describe the mazes; nothing is generated yet.

        Args:
            size: side length in cells, or (rows, columns); 2..255 each.
            split: "train", "validation", "test" (disjoint up to symmetry) or "all".
            min_path: least number of cells of the shortest path, start and goal counted; default the longer side.
            wall_share: probability of a wall, 0 <= share < 1.

        Raises:
            ValueError: if an argument is out of its range.
        """
        self.shape = shape_of(size)
        cells = self.shape[0] * self.shape[1]
        min_path = max(self.shape) if min_path is None else min_path
        if not isinstance(min_path, int | np.integer):
            raise ValueError(f"expected min_path to be an integer, got {reprlib.repr(min_path)}")
        if not isinstance(wall_share, int | float | np.number):
            raise ValueError(f"expected wall_share to be a number, got {reprlib.repr(wall_share)}")
        if not isinstance(split, str) or split not in SPLITS:
            raise ValueError(f"expected split to be one of {', '.join(SPLITS)}, got {split!r}")
        if not 2 <= min_path <= cells:
            raise ValueError(f"expected min_path in 2..{cells} for size {size}, got {min_path}")
        if not 0.0 <= wall_share < 1.0:
            raise ValueError(f"expected 0 <= wall_share < 1, got {wall_share}")
        self.size, self.split, self.min_path, self.wall_share = size, split, min_path, wall_share
        self._threshold = np.uint64(round(wall_share * 65536))
        self._key = np.zeros(1, dtype=np.uint64)

    def puzzle(self, key: int) -> Puzzle:
        """The maze of one 64-bit key."""
        self._key[0] = key
        batch = self.batch(self._key)
        return Puzzle(batch.clues[0], batch.solutions[0], family="maze")

    def batch(self, keys: NDArray[np.uint64]) -> PuzzleBatch:
        """The mazes of N uint64 keys, none of which is one of a bundled bank for its key; see `exactly`."""
        return self.exactly(apart_from_banks(keys))

    def exactly(self, keys: NDArray[np.uint64]) -> PuzzleBatch:
        """The mazes of N keys, in one compiled call; the keys of the bundled banks give the mazes of the banks.

        Args:
            keys: (N,) uint64.

        Raises:
            ValueError: if no maze with these arguments turns up in a great many draws.
        """
        count = len(keys)
        clues = np.empty((count, *self.shape), dtype=np.uint8)
        solutions = np.empty_like(clues)
        split = SPLITS.index(self.split)
        if generate_kernel(keys, self.min_path, self._threshold, split, clues, solutions) < count:
            raise ValueError(
                f"expected mazes of size {self.size} with min_path {self.min_path} and wall_share {self.wall_share} "
                f"to exist, got none in {DRAWS:,} draws"
            )
        return PuzzleBatch(clues, solutions, np.zeros(count, dtype=np.int32))
