"""Sudoku as a `PuzzleFamily`: what an agent, a data set or an environment needs to know of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.agreement import agreement
from hrm_gym.envs.family import GridFamily
from hrm_gym.envs.puzzle import CellBoards, Grid, Puzzle, Thought, plain
from hrm_gym.envs.sudoku import rules, tokens
from hrm_gym.envs.sudoku.boxes import board
from hrm_gym.envs.sudoku.kernels import (
    change_kernel,
    count_violations_many_kernel,
    fill_peers_kernel,
    judge_many_kernel,
    write_kernel,
)
from hrm_gym.envs.sudoku.rating import rate
from hrm_gym.envs.sudoku.symmetry import canonical, random_symmetry

if TYPE_CHECKING:
    import pygame


class SudokuFamily(GridFamily):
    """Sudoku with boxes of one size; see `PuzzleFamily` for the methods.

    Attributes:
        box: (rows, columns) of a box.
        legal_only: whether cell mode refuses a digit that stands in the same row, column or box already.
    """

    name = "sudoku"
    difficulty_unit = "guesses"
    title = "Sudoku"

    def __init__(self, box: tuple[int, int] = (3, 3), legal_only: bool = False) -> None:
        """Name the box, one of `boxes.BOXES`; ValueError for any other."""
        self.box, self.legal_only = board(box).box, legal_only
        self.size = board(box).size
        self.vocab_size = self.size + 2
        self.symbols = tokens.SYMBOLS[: self.vocab_size]
        self.writable = tuple(range(tokens.FIRST_DIGIT, self.vocab_size))
        rows, columns = self.box
        self._peers = np.empty((self.size**2, 2), dtype=np.uint64)
        fill_peers_kernel(rows, columns, self._peers)

    # ---- reading ----

    def parse(self, puzzle: Any) -> Grid:
        """Clues from text or a token grid; see `tokens.parse`."""
        return tokens.parse(puzzle, self.box)

    def check(self, clues: Grid) -> None:
        """Raise ValueError unless `clues` has exactly one solution."""
        rules.check(clues, self.box)

    def read_row(self, question: str, answer: str) -> tuple[Grid, Grid]:
        """(clues, solution) of a row of an official CSV file."""
        return tokens.read_row(question, answer, self.box)

    def read_rows(
        self, questions: Sequence[str], answers: Sequence[str]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """(N, n, n) clues and solutions of many rows."""
        return tokens.read_rows(questions, answers, self.box)

    def to_text(self, grid: Grid) -> str:
        """The board with lines between the boxes."""
        return tokens.to_text(grid, self.box)

    # ---- rules ----

    def solve(self, clues: Grid) -> Grid | None:
        """The solution, None unless there is exactly one."""
        return rules.solve(clues, self.box)

    def free(self, clues: Grid) -> NDArray[np.bool_]:
        """(…, n, n) bool, the blank cells."""
        return clues == tokens.BLANK

    def is_solved(self, puzzle: Puzzle, answer: Grid) -> bool:
        """Whether `answer` is complete, keeps the clues and repeats no digit."""
        return rules.is_solved(puzzle.clues, answer, self.box)

    def difficulty(self, puzzle: Puzzle) -> float:
        """The guesses that a solver needs which knows the simple ways; see `rating.rate`."""
        return float(rate(puzzle.clues, self.box))

    def violations(self, clues: Grid, answer: Grid) -> NDArray[np.bool_]:
        """(n, n) bool: altered clues, and digits that stand twice in a row, column or box."""
        return rules.violations(clues, answer, self.box)

    def count_violations(self, clues: Grid, answer: Grid) -> int:
        """Number of cells that `violations` marks."""
        return int(self.count_violations_many(clues[None], answer[None])[0])

    def write(self, clues: Grid, shown: Grid, cell: int, token: int) -> int:
        """Write one cell; compiled, and no more than the cells that it sees are looked at."""
        return int(change_kernel(clues, shown, cell, token, self._peers))

    def may_write(self, clues: Grid, shown: Grid, cell: int, token: int) -> bool:
        """Any digit; with `legal_only` one that stands nowhere else in the cell's row, column and box."""
        return not self.legal_only or bool(self.legal_writes(clues, shown)[cell, token - tokens.FIRST_DIGIT])

    def legal_writes(self, clues: Grid, shown: Grid) -> NDArray[np.bool_]:
        """(n*n, n) bool: `may_write` in the free cells."""
        return self.legal_writes_many(clues[None], shown[None])[0]

    # ---- many boards ----

    def judge_many(
        self, clues: NDArray[np.uint8], solutions: NDArray[np.uint8], answers: NDArray[np.uint8]
    ) -> NDArray[np.bool_]:
        """(N,) bool: `is_solved`, compiled."""
        solved = np.empty(len(clues), dtype=np.bool_)
        judge_many_kernel(plain(clues), plain(answers), *self.box, solved)
        return solved

    def verdict_many(
        self, clues: NDArray[np.uint8], solutions: NDArray[np.uint8], answers: NDArray[np.uint8]
    ) -> dict[str, NDArray[Any]]:
        """`solved`, `exact`, and `cell_accuracy` over the blank cells."""
        return {
            "solved": self.judge_many(clues, solutions, answers),
            **agreement(clues, solutions, answers, tokens.BLANK),
        }

    def cell_accuracy_many(
        self, clues: NDArray[np.uint8], solutions: NDArray[np.uint8], answers: NDArray[np.uint8]
    ) -> NDArray[np.float64]:
        """(N,) float64: the share of blank cells that agree with the solution."""
        return agreement(clues, solutions, answers, tokens.BLANK)["cell_accuracy"]

    def count_violations_many(self, clues: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.int32]:
        """(N,) int32: `count_violations`, compiled."""
        counts = np.empty(len(clues), dtype=np.int32)
        count_violations_many_kernel(plain(clues), plain(answers), *self.box, counts)
        return counts

    def cost_many(self, clues: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.float64]:
        """0 for full grids without violations, infinite for others."""
        full = (answers >= tokens.FIRST_DIGIT).all(axis=(1, 2))
        return np.where(full & (self.count_violations_many(clues, answers) == 0), 0.0, np.inf)

    def legal_writes_many(self, clues: NDArray[np.uint8], shown: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """(N, n*n, n) bool: `may_write` in the free cells."""
        free = self.free(clues).reshape(len(clues), -1, 1)
        if not self.legal_only:
            return np.repeat(free, self.size, axis=2)
        return free & self._unopposed(shown)

    def candidates_many(self, clues: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """(N, n*n, n) bool: the digits that stand nowhere in the row, column and box of a blank cell."""
        return self.free(clues).reshape(len(clues), -1, 1) & self._unopposed(clues)

    def _unopposed(self, shown: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """(N, n*n, n) bool: whether a digit stands nowhere else in the row, column and box of a cell."""
        count, (rows, columns) = len(shown), self.box
        stands = (shown[..., None] == np.array(self.writable, dtype=np.uint8)).astype(np.int8)
        boxes = stands.reshape(count, columns, rows, rows, columns, self.size).sum((2, 4), keepdims=True)
        boxes = np.broadcast_to(boxes, (count, columns, rows, rows, columns, self.size)).reshape(stands.shape)
        found = stands.sum(1, keepdims=True) + stands.sum(2, keepdims=True) + boxes
        return (found <= 3 * stands).reshape(count, -1, self.size)

    def write_many(self, boards: CellBoards, actions: NDArray[np.int64], active: NDArray[np.bool_]) -> None:
        """One action on each active board, compiled."""
        places = (boards.clues, boards.shown, actions, active, self.legal_only, self._peers)
        write_kernel(*places, boards.violations, boards.ended)

    # ---- symmetries and looks ----

    def symmetry(self, shape: tuple[int, int], key: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """A relabelling, with bands, stacks, rows and columns shuffled, and maybe transposed."""
        return random_symmetry(self.box, key)

    def canonical(self, clues: Grid) -> Grid:
        """The one of the symmetric images of `clues` that stands for them all."""
        return canonical(clues, self.box)

    def draw(self, surface: pygame.Surface, puzzle: Puzzle, answer: Grid, thought: Thought | None) -> None:
        """Paint the board so that it fills `surface`."""
        from hrm_gym.envs.sudoku.drawing import draw_sudoku

        draw_sudoku(surface, puzzle.clues, answer, thought, self.box)


@cache
def sudoku(box: tuple[int, int] = (3, 3), legal_only: bool = False) -> SudokuFamily:
    """The family with this box; the same object for the same arguments."""
    return SudokuFamily(box, legal_only)
