"""Mazes as a `PuzzleFamily`: what an agent, a data set or an environment needs to know of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.maze import rules, tokens
from hrm_gym.envs.puzzle import Grid, Puzzle, Thought

if TYPE_CHECKING:
    import pygame


class MazeFamily:
    """Random-wall mazes in which a shortest path is wanted; see `PuzzleFamily` for the methods."""

    name = "maze"
    vocab_size = tokens.VOCAB_SIZE
    symbols = tokens.SYMBOLS
    writable: tuple[int, ...] = (tokens.OPEN, tokens.PATH)
    move_count = len(rules.MOVES)

    def parse(self, puzzle: Any) -> Grid:
        """Clues from text or a token grid; see `tokens.parse`."""
        return tokens.parse(puzzle)

    def check(self, clues: Grid) -> None:
        """Raise ValueError unless `clues` has one start, one goal and a way between them."""
        rules.check(clues)

    def solve(self, clues: Grid) -> Grid | None:
        """The canonical shortest path drawn into `clues`, or None if there is no way."""
        return rules.solve(clues)

    def free(self, clues: Grid) -> NDArray[np.bool_]:
        """(H, W) bool, the open cells."""
        return rules.free(clues)

    def is_solved(self, puzzle: Puzzle, answer: Grid) -> bool:
        """Whether `answer` is the maze with any one valid shortest path in it."""
        return rules.is_solved(puzzle.clues, answer)

    def violations(self, clues: Grid, answer: Grid) -> NDArray[np.bool_]:
        """(H, W) bool: altered clues, and path cells without exactly two neighbours among path, start and goal."""
        return rules.violations(clues, answer)

    def symmetries(self, shape: tuple[int, int]) -> NDArray[np.int64]:
        """(8, H*W) cell permutations of a square grid; of another grid the identity alone."""
        height, width = shape
        return rules.dihedral(height) if height == width else np.arange(height * width)[None]

    def next_move(self, clues: Grid, current: Grid, answer: Grid) -> int:
        """The move that carries out `answer` from the walker's cell, shown as the start token in `current`."""
        row, column = divmod(int(np.argmax(current == tokens.START)), current.shape[1])
        return rules.walk_moves(clues, answer, (row, column))

    def draw(self, surface: pygame.Surface, clues: Grid, answer: Grid, thought: Thought | None) -> None:
        """Paint the maze so that it fills `surface`."""
        from hrm_gym.envs.maze.drawing import draw_maze

        draw_maze(surface, clues, answer, thought)


MAZE = MazeFamily()
