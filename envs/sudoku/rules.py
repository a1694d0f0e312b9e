"""The compiled part of the rules: judging, conflicts, writing in cell mode.

The kernels fill arrays handed in: numba 0.68 can fail to give back a new array from a function loaded from its cache.
A digit *clashes* if another cell of the same row, column or box shows it too.

The rules of Sudoku, as pure functions of token grids.

Every digit stands once in every row, column and box. A puzzle has exactly one solution. Every function takes the box
as its last argument; without it, the usual box of the board's side is meant, e.g. (2, 3) for 6x6.

Sudoku as a `PuzzleFamily`: what an agent, a data set or an environment needs to know of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.family import PuzzleFamily, agreement
from hrm_gym.envs.family import CellBoards
from hrm_gym.envs.compiled import compiled, plain
from hrm_gym.envs.puzzle import Grid, Puzzle, Thought
from hrm_gym.envs.sudoku import tokens
from hrm_gym.envs.sudoku.boxes import Box, board, usual_box
from hrm_gym.envs.sudoku.solver import rate, search_kernel
from hrm_gym.envs.sudoku.symmetry import canonical, random_symmetry
from hrm_gym.envs.sudoku.tokens import BLANK, FIRST_DIGIT, SYMBOLS

if TYPE_CHECKING:
    import pygame


_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
"""A word in which every six bits in a row are others: times 2**k, its highest six bits tell k."""

_PLACES = np.zeros(64, dtype=np.uint8)
for _place in range(64):
    _PLACES[(int(_DE_BRUIJN) << _place) % 2**64 >> 58] = _place


@compiled
def _note_digits(answer, rows, columns, once, twice):
    """Fill (3, n) int64 `once` and `twice`: the digits, as bits, that rows, columns and boxes have (more than once)."""
    size = rows * columns
    once[:] = 0
    twice[:] = 0
    for row in range(size):
        first = row // rows * rows  # the first box of the band
        for box in range(first, first + rows):
            for column in range((box - first) * columns, (box - first + 1) * columns):
                token = np.int64(answer[row, column])
                if FIRST_DIGIT <= token < size + FIRST_DIGIT:
                    bit = 1 << token
                    twice[0, row] |= once[0, row] & bit
                    once[0, row] |= bit
                    twice[1, column] |= once[1, column] & bit
                    once[1, column] |= bit
                    twice[2, box] |= once[2, box] & bit
                    once[2, box] |= bit


@compiled
def violations_kernel(clues, answer, rows, columns, wrong):
    """Mark the cells of one `answer` (n, n) that break a rule; returns how many."""
    size = rows * columns
    once, twice = np.empty((3, size), dtype=np.int64), np.empty((3, size), dtype=np.int64)
    _note_digits(answer, rows, columns, once, twice)
    count = 0
    for row in range(size):
        first = row // rows * rows
        for box in range(first, first + rows):
            for column in range((box - first) * columns, (box - first + 1) * columns):
                clue, token = clues[row, column], np.int64(answer[row, column])
                clashing = twice[0, row] | twice[1, column] | twice[2, box]
                clashes = token < size + FIRST_DIGIT and (clashing >> token) & 1 == 1
                bad = clashes or (clue >= FIRST_DIGIT and clue != token)
                wrong[row, column] = bad
                count += bad
    return count


@compiled
def count_violations_many_kernel(clues, answers, rows, columns, out):
    """Fill `out` (N,) int32 with the number of cells of `answers` (N, n, n) that break a rule."""
    wrong = np.empty(clues.shape[1:], dtype=np.bool_)
    for i in range(len(clues)):
        out[i] = violations_kernel(clues[i], answers[i], rows, columns, wrong)


@compiled
def judge_many_kernel(clues, answers, rows, columns, out):
    """Fill `out` (N,) bool: which of `answers` (N, n, n) keep the clues and have every digit once in every unit."""
    size = rows * columns
    once, twice = np.empty((3, size), dtype=np.int64), np.empty((3, size), dtype=np.int64)
    for i in range(len(clues)):
        right = True
        for row in range(size):
            for column in range(size):
                clue = clues[i, row, column]
                right &= clue < FIRST_DIGIT or answers[i, row, column] == clue
        if right:
            _note_digits(answers[i], rows, columns, once, twice)
            for kind in range(3):
                for unit in range(size):
                    right &= once[kind, unit] == ((1 << size) - 1) << FIRST_DIGIT
        out[i] = right


@compiled
def fill_peers_kernel(rows, columns, peers):
    """Fill `peers` (n*n, 2) uint64 with the cells that every cell sees, as bits: 64 cells in the first word."""
    size = rows * columns
    peers[:] = 0
    for cell in range(size * size):
        row, column = cell // size, cell % size
        for other in range(size * size):
            r, c = other // size, other % size
            box = r // rows == row // rows and c // columns == column // columns
            if other != cell and (r == row or c == column or box):
                peers[cell, other // 64] |= np.uint64(1) << np.uint64(other % 64)


@compiled(inline="always")
def _cells_with(boards, i, token):
    """The cells of board i that show `token`, as two words of bits; without a branch, since none could be foretold."""
    low = high = np.uint64(0)
    for cell in range(min(64, boards.shape[1])):
        low |= np.uint64(boards[i, cell] == token) << np.uint64(cell)
    for cell in range(64, boards.shape[1]):
        high |= np.uint64(boards[i, cell] == token) << np.uint64(cell - 64)
    return low, high


@compiled
def _count_breaks(clues, i, cell, token, low, high, peers):
    """How many more cells break a rule when `cell` shows `token` than when it does not; those that do are given."""
    near_low, near_high = low & peers[cell, 0], high & peers[cell, 1]
    if not near_low | near_high:
        return 0
    count = 1
    while near_low | near_high:
        word = near_low if near_low else near_high
        other = np.int64(_PLACES[(word & (~word + np.uint64(1))) * _DE_BRUIJN >> np.uint64(58)])
        if near_low:
            near_low &= near_low - np.uint64(1)
        else:
            near_high &= near_high - np.uint64(1)
            other += 64
        altered = clues[i, other] >= FIRST_DIGIT and clues[i, other] != token
        seen = (low & peers[other, 0]) | (high & peers[other, 1])
        count += not altered and not seen
    return count


@compiled
def _write(clues, boards, i, cell, token, legal_only, peers):
    """Write `token` into one cell of board i if that is allowed; returns by how much the board's violations grow."""
    before = boards[i, cell]
    if clues[i, cell] != BLANK or before == token:
        return 0
    low, high = _cells_with(boards, i, token)
    change = _count_breaks(clues, i, cell, token, low, high, peers)
    if legal_only and change:
        return 0
    boards[i, cell] = token
    if before >= FIRST_DIGIT:
        low, high = _cells_with(boards, i, before)
        change -= _count_breaks(clues, i, cell, before, low, high, peers)
    return change


@compiled
def _is_full(boards, i):
    """Whether no cell of board i is blank or padding."""
    cell = 0
    while cell < boards.shape[1] and boards[i, cell] >= FIRST_DIGIT:
        cell += 1
    return cell == boards.shape[1]


@compiled
def write_kernel(clues, shown, actions, active, legal_only, peers, violations, ended):
    """Cell mode: carry out one action on each active board of `shown` (N, n, n) uint8.

    Action `cell * n + d` writes token d + 2 into a blank cell of the puzzle, n*n*n halts; what is not allowed changes
    nothing. With `legal_only` a digit that would clash is not. `violations` (N,) int32 are kept right by looking at
    the surroundings of the cell alone; `ended` (N,) bool is set for boards that halt or become solved, and cleared for
    the other active ones. `peers` is what `fill_peers_kernel` fills.
    """
    size = clues.shape[1]
    given, boards = clues.reshape(len(clues), size * size), shown.reshape(len(shown), size * size)
    for i in range(len(actions)):
        if not active[i]:
            continue
        cell = actions[i] // size
        token = np.uint8(actions[i] - cell * size + FIRST_DIGIT)
        ended[i] = cell >= size * size
        if not ended[i]:
            violations[i] += _write(given, boards, i, cell, token, legal_only, peers)
            ended[i] = violations[i] == 0 and _is_full(boards, i)


@compiled
def change_kernel(clues, shown, cell, token, peers):
    """Write `token` into a blank cell of one board (n, n) `shown`; returns by how much its violations grow.

    `peers` is what `fill_peers_kernel` fills.
    """
    return _write(clues.reshape(1, -1), shown.reshape(1, -1), 0, cell, np.uint8(token), False, peers)


def is_solved(clues: Grid, answer: Grid, box: Box | None = None) -> bool:
    """Whether `answer` (n, n) is complete, keeps the clues (n, n) and has no digit twice in a row, column or box."""
    out = np.empty(1, dtype=np.bool_)
    judge_many_kernel(plain(clues[None]), plain(answer[None]), *(box or usual_box(len(clues))), out)
    return bool(out[0])


def violations(clues: Grid, answer: Grid, box: Box | None = None) -> NDArray[np.bool_]:
    """Cells of an answer that break a rule, judged from the clues alone.

    Args:
        clues: (n, n) uint8 puzzle.
        answer: (n, n) uint8 token ids; blank cells break no rule unless a clue was made blank.
        box: (rows, columns) of a box.

    Returns:
        (n, n) bool: altered clues, and digits that another cell of the same row, column or box has too.
    """
    wrong = np.empty(clues.shape, dtype=np.bool_)
    violations_kernel(plain(clues), plain(answer), *(box or usual_box(len(clues))), wrong)
    return wrong


def free(clues: Grid) -> NDArray[np.bool_]:
    """(..., n, n) bool: the blank cells, which are the solver's to fill."""
    return clues == BLANK


def _search(clues: Grid, box: Box | None, limit: int) -> tuple[int, Grid]:
    solution = np.empty(clues.shape, dtype=np.uint8)
    layout = board(box or usual_box(len(clues))).layout
    return int(search_kernel(plain(clues), layout, limit, solution[None])[0]), solution


def count_solutions(clues: Grid, limit: int = 2, box: Box | None = None) -> int:
    """Number of solutions of (n, n) `clues`; counting stops at `limit`."""
    return _search(clues, box, limit)[0]


def solve(clues: Grid, box: Box | None = None) -> Grid | None:
    """The exact solver.

    Args:
        clues: (n, n) uint8 puzzle.
        box: (rows, columns) of a box.

    Returns:
        The only solution, a fresh (n, n) uint8 grid; None if there is none or more than one.
    """
    count, solution = _search(clues, box, 2)
    return solution if count == 1 else None


def check(clues: Grid, box: Box | None = None) -> None:
    """Raise ValueError unless `clues` is a puzzle with exactly one solution.

    Args:
        clues: (n, n) uint8 token ids.
        box: (rows, columns) of a box.

    Raises:
        ValueError: says what was expected and what came.
    """
    size = board(box or usual_box(len(clues))).size
    if clues.shape != (size, size):
        raise ValueError(f"expected a board of {size}x{size} cells, got shape {clues.shape}")
    if ((clues < BLANK) | (clues > size + 1)).any():
        raise ValueError(f"expected Sudoku tokens 1..{size + 1}, got {int(clues.min())}..{int(clues.max())}")
    wrong = violations(clues, clues, box)
    if wrong.any():
        row, column = (int(place[0]) for place in np.nonzero(wrong))
        digit = SYMBOLS[clues[row, column]]
        raise ValueError(
            f"expected clues without conflict, got digit {digit} at row {row}, column {column} "
            "once more in its row, column or box"
        )
    count = count_solutions(clues, 2, box)
    if count != 1:
        raise ValueError(f"expected a puzzle with exactly one solution, got one with {'several' if count else 'none'}")


class SudokuFamily(PuzzleFamily):
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
        check(clues, self.box)

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
        return solve(clues, self.box)

    def free(self, clues: Grid) -> NDArray[np.bool_]:
        """(…, n, n) bool, the blank cells."""
        return clues == tokens.BLANK

    def is_solved(self, puzzle: Puzzle, answer: Grid) -> bool:
        """Whether `answer` is complete, keeps the clues and repeats no digit."""
        return is_solved(puzzle.clues, answer, self.box)

    def difficulty(self, puzzle: Puzzle) -> float:
        """The guesses that a solver needs which knows the simple ways; see `rating.rate`."""
        return float(rate(puzzle.clues, self.box))

    def violations(self, clues: Grid, answer: Grid) -> NDArray[np.bool_]:
        """(n, n) bool: altered clues, and digits that stand twice in a row, column or box."""
        return violations(clues, answer, self.box)

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
