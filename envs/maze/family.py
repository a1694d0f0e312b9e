"""Mazes as a `PuzzleFamily`: what an agent, a data set or an environment needs to know of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.agreement import agreement
from hrm_gym.envs.family import GridFamily
from hrm_gym.envs.maze import rules, tokens
from hrm_gym.envs.maze.kernels import (
    change_kernel,
    connected_many_kernel,
    count_violations_many_kernel,
    judge_many_kernel,
    write_kernel,
)
from hrm_gym.envs.puzzle import CellBoards, Grid, Puzzle, Thought, plain

if TYPE_CHECKING:
    import pygame


class MazeFamily(GridFamily):
    """Random-wall mazes in which a shortest path is wanted; see `PuzzleFamily` for the methods."""

    name = "maze"
    title = "Maze"
    vocab_size = tokens.VOCAB_SIZE
    symbols = tokens.SYMBOLS
    writable: tuple[int, ...] = (tokens.OPEN, tokens.PATH)
    move_count = len(rules.MOVES)
    difficulty_unit = "cells of a shortest path"

    def parse(self, puzzle: Any) -> Grid:
        """Clues from text or a token grid; see `tokens.parse`."""
        return tokens.parse(puzzle)

    def check(self, clues: Grid) -> None:
        """Raise ValueError unless `clues` has one start, one goal and a way between them."""
        rules.check(clues)

    def read_row(self, question: str, answer: str) -> tuple[Grid, Grid]:
        """(clues, solution) of a row of an official CSV file; see `tokens.read_row`."""
        clues, solution = tokens.read_row(question, answer)
        rules.check(clues)
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
            rules.check(maze)
        return clues, solutions

    def describe(self, puzzle: Puzzle, answer: Grid) -> str:
        """The answer; of a walk `@` is the walker, `o` its trail, `x` where it stepped back onto it."""
        return tokens.describe(puzzle.clues, answer)

    def solve(self, clues: Grid) -> Grid | None:
        """The canonical shortest path drawn into `clues`, or None if there is no way."""
        return rules.solve(clues)

    def free(self, clues: Grid) -> NDArray[np.bool_]:
        """(H, W) bool, the open cells."""
        return rules.free(clues)

    def is_solved(self, puzzle: Puzzle, answer: Grid) -> bool:
        """Whether `answer` is the maze with any one valid shortest path in it."""
        return rules.is_solved(puzzle.clues, answer)

    def difficulty(self, puzzle: Puzzle) -> float:
        """Cells of a shortest path, start and goal counted."""
        return float(rules.path_length(puzzle.clues))

    def violations(self, clues: Grid, answer: Grid) -> NDArray[np.bool_]:
        """(H, W) bool: altered clues, and path cells without exactly two neighbours among path, start and goal."""
        return rules.violations(clues, answer)

    def count_violations(self, clues: Grid, answer: Grid) -> int:
        """Number of cells that `violations` marks."""
        return rules.count_violations(clues, answer)

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
        return (rules.dihedral(shape[0])[key % 8] if shape[0] == shape[1] else cells), same

    def canonical(self, clues: Grid) -> Grid:
        """The first, in the order of their tokens, of the symmetric images of a square maze."""
        if clues.shape[0] != clues.shape[1]:
            return clues
        images = clues.ravel()[rules.dihedral(len(clues))]
        return images[np.lexsort(images.T[::-1])[0]].reshape(clues.shape)

    def next_move(self, clues: Grid, current: Grid, answer: Grid) -> int:
        """The move that carries out `answer` from the walker's cell, shown as the start token in `current`."""
        (row,), (column,) = _walkers(current[None])
        return rules.walk_moves(clues, answer, (int(row), int(column)))

    def legal_moves_many(self, clues: NDArray[np.uint8], shown: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """(N, 4) bool: the moves up, right, down and left that no wall stops, from where the start token stands."""
        count, height, width = shown.shape
        row, column = _walkers(shown)
        bordered = np.full((count, height + 2, width + 2), False)
        bordered[:, 1:-1, 1:-1] = clues != tokens.WALL
        beside = [bordered[np.arange(count), 1 + row + down, 1 + column + right] for down, right in rules.MOVES]
        return np.stack(beside, axis=1)

    def draw(self, surface: pygame.Surface, puzzle: Puzzle, answer: Grid, thought: Thought | None) -> None:
        """Paint the maze so that it fills `surface`."""
        from hrm_gym.envs.maze.drawing import draw_maze

        draw_maze(surface, puzzle.clues, answer, thought)


def _walkers(shown: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,) rows and (N,) columns of the walkers that (N, H, W) boards of move mode show, as start tokens."""
    return np.divmod((shown == tokens.START).reshape(len(shown), -1).argmax(axis=1), shown.shape[2])


MAZE = MazeFamily()
