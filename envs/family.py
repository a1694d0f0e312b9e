"""How far answers agree with the stored solutions, compiled: on few boards numpy would spend its time on calls.

A family of puzzles in few words: everything that can be said once for all families is said here.

A new family names its tokens and says how to parse, check, solve and judge one board; the methods for many boards then
work by themselves, row by row. Families override them with compiled code where speed matters; a test holds them equal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from hrm_gym.envs.puzzle import CellBoards, Grid, Puzzle, Thought, plain

if TYPE_CHECKING:
    import pygame


@njit(cache=True)
def agreement_kernel(clues, solutions, answers, free, exact, accuracy):
    """Fill (N,) `exact` and `accuracy` from (N, H, W) boards; the cells whose clue is the token `free` are counted."""
    for i in range(len(clues)):
        right = counted = wrong = 0
        for row in range(clues.shape[1]):
            for column in range(clues.shape[2]):
                same = answers[i, row, column] == solutions[i, row, column]
                wrong += not same
                if clues[i, row, column] == free:
                    counted += 1
                    right += same
        exact[i] = wrong == 0
        accuracy[i] = right / counted if counted else 1.0


def agreement(
    clues: NDArray[np.uint8], solutions: NDArray[np.uint8], answers: NDArray[np.uint8], free: int
) -> dict[str, NDArray[Any]]:
    """`exact` and `cell_accuracy` of (N, H, W) answers.

    Args:
        clues: (N, H, W) uint8.
        solutions: (N, H, W) uint8.
        answers: (N, H, W) uint8.
        free: the token of cells that are the solver's to fill; only these count.

    Returns:
        (N,) bool, whether an answer equals the solution, and (N,) float64, the share of right cells among those that
        count (1.0 if none does).
    """
    exact, accuracy = np.empty(len(clues), dtype=np.bool_), np.empty(len(clues))
    agreement_kernel(plain(clues), plain(solutions), plain(answers), free, exact, accuracy)
    return {"exact": exact, "cell_accuracy": accuracy}


class GridFamily(ABC):
    """The defaults of a `PuzzleFamily`; see there for what the methods mean."""

    name: str
    title: str
    vocab_size: int
    symbols: str
    writable: tuple[int, ...]
    move_count: int = 0
    has_solver: bool = True
    attempts: int = 1
    max_pairs: int = 0
    board_size: tuple[int, int] = (480, 480)
    difficulty_unit: str = "free cells"

    # ---- reading ----

    @abstractmethod
    def parse(self, puzzle: Any) -> Grid:
        """Clues from text or a token grid."""

    @abstractmethod
    def check(self, clues: Grid) -> None:
        """Raise ValueError unless `clues` is a puzzle with a solution."""

    @abstractmethod
    def read_row(self, question: str, answer: str) -> tuple[Grid, Grid]:
        """(clues, solution) of a row of an official CSV file."""

    def read_rows(
        self, questions: Sequence[str], answers: Sequence[str]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """`read_row`, row by row."""
        rows = [self.read_row(question, answer) for question, answer in zip(questions, answers, strict=True)]
        return np.stack([clues for clues, _ in rows]), np.stack([solution for _, solution in rows])

    def make_puzzle(self, puzzle: Any) -> Puzzle:
        """A checked puzzle from text, a token grid or a Puzzle; solved here unless it brings its solution."""
        clues = puzzle.clues if isinstance(puzzle, Puzzle) else self.parse(puzzle)
        self.check(clues)
        if isinstance(puzzle, Puzzle):
            return puzzle
        solution = self.solve(clues)
        if solution is None:
            raise ValueError("expected a puzzle with a solution, got one without")
        return Puzzle(clues, solution, name="own puzzle")

    def to_text(self, grid: Grid) -> str:
        """The symbols of the grid, a line a row."""
        return "\n".join("".join(self.symbols[token] for token in row) for row in grid)

    def describe(self, puzzle: Puzzle, answer: Grid) -> str:
        """The answer, for families in which it shows the puzzle too."""
        return self.to_text(answer)

    # ---- rules, one board ----

    @abstractmethod
    def solve(self, clues: Grid) -> Grid | None:
        """The canonical solution of `clues`, or None."""

    def blank(self, clues: Grid) -> Grid:
        """The clues: what is not given shows as the puzzle shows it."""
        return clues.copy()

    @abstractmethod
    def free(self, clues: Grid) -> NDArray[np.bool_]:
        """(…, H, W) bool, the cells that are the solver's to fill."""

    def counted(self, puzzle: Puzzle) -> NDArray[np.bool_]:
        """The free cells."""
        return self.free(puzzle.clues)

    @abstractmethod
    def is_solved(self, puzzle: Puzzle, answer: Grid) -> bool:
        """Whether `answer` is right by the rules."""

    def is_exact(self, puzzle: Puzzle, answer: Grid) -> bool:
        """Whether `answer` equals the stored solution, token by token."""
        return bool(np.array_equal(answer, puzzle.solution))

    def cell_accuracy(self, puzzle: Puzzle, answer: Grid) -> float:
        """Share of the counted cells in which `answer` equals the stored solution."""
        counted = self.counted(puzzle)
        count = int(np.count_nonzero(counted))
        return int(np.count_nonzero((answer == puzzle.solution) & counted)) / count if count else 1.0

    @abstractmethod
    def violations(self, clues: Grid, answer: Grid) -> NDArray[np.bool_]:
        """(H, W) bool, cells of `answer` that break a rule."""

    def count_violations(self, clues: Grid, answer: Grid) -> int:
        """Number of cells of `answer` that break a rule."""
        return int(np.count_nonzero(self.violations(clues, answer)))

    def write(self, clues: Grid, shown: Grid, cell: int, token: int) -> int:
        """Write `token` into `cell` of `shown`; returns by how much the number of violations grows."""
        before = self.count_violations(clues, shown)
        shown.flat[cell] = token
        return self.count_violations(clues, shown) - before

    def may_write(self, clues: Grid, shown: Grid, cell: int, token: int) -> bool:
        """Yes: a free cell takes every writable token."""
        return True

    def legal_writes(self, clues: Grid, shown: Grid) -> NDArray[np.bool_]:
        """Every writable token in every free cell."""
        return np.repeat(self.free(clues).reshape(-1, 1), len(self.writable), axis=1)

    def next_move(self, clues: Grid, current: Grid, answer: Grid) -> int:
        """No moves here."""
        raise ValueError(f"expected a family with moves, got {self.name}")

    def legal_moves_many(self, clues: NDArray[np.uint8], shown: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """(N, move_count) bool: every move there is."""
        return np.ones((len(clues), self.move_count), dtype=np.bool_)

    def difficulty(self, puzzle: Puzzle) -> float:
        """Number of free cells."""
        return float(np.count_nonzero(self.free(puzzle.clues)))

    # ---- rules, many boards ----

    def judge_many(
        self, clues: NDArray[np.uint8], solutions: NDArray[np.uint8], answers: NDArray[np.uint8]
    ) -> NDArray[np.bool_]:
        """`is_solved`, row by row."""
        rows = zip(clues, solutions, answers, strict=True)
        return np.array([self.is_solved(Puzzle(c, s), a) for c, s, a in rows], dtype=np.bool_)

    def verdict_many(
        self, clues: NDArray[np.uint8], solutions: NDArray[np.uint8], answers: NDArray[np.uint8]
    ) -> dict[str, NDArray[Any]]:
        """`solved` by the rules, `exact`, and `cell_accuracy` over the counted cells."""
        rows = [(Puzzle(c, s), a) for c, s, a in zip(clues, solutions, answers, strict=True)]
        return {
            "solved": self.judge_many(clues, solutions, answers),
            "exact": np.array([self.is_exact(puzzle, answer) for puzzle, answer in rows], dtype=np.bool_),
            "cell_accuracy": self.cell_accuracy_many(clues, solutions, answers),
        }

    def cell_accuracy_many(
        self, clues: NDArray[np.uint8], solutions: NDArray[np.uint8], answers: NDArray[np.uint8]
    ) -> NDArray[np.float64]:
        """`cell_accuracy`, row by row."""
        rows = zip(clues, solutions, answers, strict=True)
        return np.array([self.cell_accuracy(Puzzle(c, s), a) for c, s, a in rows], dtype=np.float64)

    def legal_writes_many(self, clues: NDArray[np.uint8], shown: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """`legal_writes`, row by row."""
        return np.stack([self.legal_writes(c, s) for c, s in zip(clues, shown, strict=True)])

    def candidates_many(self, clues: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """What `legal_writes_many` allows on the clues alone."""
        return self.legal_writes_many(clues, clues)

    def count_violations_many(self, clues: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.int32]:
        """`count_violations`, row by row."""
        rows = zip(clues, answers, strict=True)
        return np.array([self.count_violations(c, a) for c, a in rows], dtype=np.int32)

    def cost_many(self, clues: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Infinite for answers with violations, 0 for the others."""
        return np.where(self.count_violations_many(clues, answers) > 0, np.inf, 0.0)

    def write_many(self, boards: CellBoards, actions: NDArray[np.int64], active: NDArray[np.bool_]) -> None:
        """One action on each active board, row by row."""
        symbols = len(self.writable)
        halt = boards.free.shape[1] * symbols
        for row in np.flatnonzero(active).tolist():
            boards.ended[row] = actions[row] == halt
            if actions[row] < halt:
                cell, symbol = divmod(int(actions[row]), symbols)
                self._write(boards, row, cell, self.writable[symbol])

    def _write(self, boards: CellBoards, row: int, cell: int, token: int) -> None:
        clues, shown = boards.clues[row], boards.shown[row]
        if boards.free[row, cell] and self.may_write(clues, shown, cell, token):
            boards.violations[row] += self.write(clues, shown, cell, token)
            boards.ended[row] = self.is_solved(Puzzle(clues, boards.solutions[row]), shown)

    # ---- symmetries and looks ----

    def symmetry(self, shape: tuple[int, int], key: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """The identity."""
        return np.arange(shape[0] * shape[1]), np.arange(self.vocab_size, dtype=np.uint8)

    def image(self, grids: NDArray[np.uint8], key: int) -> NDArray[np.uint8]:
        """(N, H, W) grids under the symmetry of `key`."""
        cells, tokens = self.symmetry(grids.shape[1:], key)
        return tokens[grids.reshape(len(grids), -1)[:, cells]].reshape(grids.shape)

    def preimage(self, grids: NDArray[np.uint8], key: int) -> NDArray[np.uint8]:
        """The grids whose images are `grids`."""
        cells, tokens = self.symmetry(grids.shape[1:], key)
        back = np.argsort(tokens).astype(np.uint8)
        return back[grids.reshape(len(grids), -1)[:, np.argsort(cells)]].reshape(grids.shape)

    def canonical(self, clues: Grid) -> Grid:
        """The clues themselves."""
        return clues

    @abstractmethod
    def draw(self, surface: pygame.Surface, puzzle: Puzzle, answer: Grid, thought: Thought | None) -> None:
        """Paint puzzle and answer so that they fill `surface`."""

    def cell_at(self, shape: tuple[int, int], place: tuple[int, int]) -> tuple[int, int] | None:
        """For a board of square cells, as large as fit, in the middle of the picture."""
        height, width = shape
        cell = min(self.board_size[0] // width, self.board_size[1] // height)
        column, row = (
            (place[axis] - (self.board_size[axis] - cell * count) // 2) // cell
            for axis, count in ((0, width), (1, height))
        )
        return (row, column) if 0 <= row < height and 0 <= column < width else None


def shares(parts: NDArray[np.int64], wholes: NDArray[np.int64]) -> NDArray[np.float64]:
    """`parts / wholes`, and 1.0 where the whole is nothing."""
    return np.where(wholes > 0, parts / np.maximum(wholes, 1), 1.0)
