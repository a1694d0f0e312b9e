"""The rules of Sudoku, and Sudoku as a `PuzzleFamily`.

Every digit is once in every row, column and box, and a puzzle has exactly one solution. A digit *clashes* if another
cell of the same row, column or box shows it too. Kernels fill arrays passed in: numba 0.68 can fail to return a new
array from a cached function.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.compiled import compiled, plain
from hrm_gym.envs.family import CellBoards, Grids, PuzzleFamily, expect_one_shape, expect_tokens
from hrm_gym.envs.puzzle import Grid, Puzzle, Thought
from hrm_gym.envs.sudoku import tokens
from hrm_gym.envs.sudoku.boxes import board, usual_box
from hrm_gym.envs.sudoku.solver import count_solutions, rate, solve
from hrm_gym.envs.sudoku.symmetry import canonical, class_of, random_symmetry
from hrm_gym.envs.sudoku.tokens import BLANK, FIRST_DIGIT

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
def violations_kernel(clues, answers, rows, columns, wrong):
    """Mark the cells of `answers` (N, n, n) that break a rule."""
    size = rows * columns
    once, twice = np.empty((3, size), dtype=np.int64), np.empty((3, size), dtype=np.int64)
    for i in range(len(clues)):
        _note_digits(answers[i], rows, columns, once, twice)
        for row in range(size):
            first = row // rows * rows
            for box in range(first, first + rows):
                for column in range((box - first) * columns, (box - first + 1) * columns):
                    clue, token = clues[i, row, column], np.int64(answers[i, row, column])
                    clashing = twice[0, row] | twice[1, column] | twice[2, box]
                    clashes = token < size + FIRST_DIGIT and (clashing >> token) & 1 == 1
                    wrong[i, row, column] = clashes or (clue >= FIRST_DIGIT and clue != token)


@compiled
def judge_kernel(clues, answers, rows, columns, out):
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
    """Fill `peers` (n*n, W) uint64 with the cells that every cell sees, as bits, 64 cells in a word."""
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
def _count_breaks_anywhere(clues, boards, i, cell, token, peers):
    """What `_count_breaks` counts, on boards whose cells do not fit two words."""
    count = 0
    for other in range(boards.shape[1]):
        if boards[i, other] != token or not (peers[cell, other // 64] >> np.uint64(other % 64)) & np.uint64(1):
            continue
        count = max(count, 1)
        seen = clues[i, other] >= FIRST_DIGIT and clues[i, other] != token
        for third in range(boards.shape[1]):
            near = (peers[other, third // 64] >> np.uint64(third % 64)) & np.uint64(1)
            seen |= near != 0 and third != cell and boards[i, third] == token
        count += not seen
    return count


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
    large = peers.shape[1] > 2
    if large:
        change = _count_breaks_anywhere(clues, boards, i, cell, token, peers)
    else:
        low, high = _cells_with(boards, i, token)
        change = _count_breaks(clues, i, cell, token, low, high, peers)
    if legal_only and change:
        return 0
    boards[i, cell] = token
    if before >= FIRST_DIGIT and large:
        change -= _count_breaks_anywhere(clues, boards, i, cell, before, peers)
    elif before >= FIRST_DIGIT:
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
    """Cell mode: run one action on each active board of `shown` (N, n, n) uint8.

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


class SudokuFamily(PuzzleFamily):
    """Sudoku with boxes of one size.

    Attributes:
        box: (rows, columns) of a box.
        legal_only: whether cell mode refuses a digit that clashes.
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
        self.writable = tuple(range(FIRST_DIGIT, self.vocab_size))
        self.clue_tokens = (BLANK, *self.writable)
        digits = f"1 to {self.size}" if self.size <= 9 else f"1 to 9 or A to {self.symbols[-1]}"
        rows, columns = self.box
        self.wanted = (
            f"A Sudoku of {self.size}x{self.size} cells. Put a digit {digits} in every empty cell (.), so that "
            f"every row, every column and every box of {rows} rows and {columns} columns has each digit once. "
            "Leave the given digits."
        )
        self.board_size = (480, 480) if self.size <= 9 else (640, 640)
        self._peers = np.empty((self.size**2, 2 if self.size <= 9 else 4), dtype=np.uint64)
        fill_peers_kernel(*self.box, self._peers)

    @classmethod
    def for_grid(cls, grid: tuple[int, int]) -> SudokuFamily:
        """With the usual box of the board's side."""
        return cls(usual_box(grid[0]))

    # ---- reading ----

    def parse(self, puzzle: Any) -> Grid:
        """Clues from text or a token grid; see `tokens.parse`."""
        return tokens.parse(puzzle, self.box)

    def check(self, clues: Grid) -> None:
        """Raise ValueError unless `clues` has exactly one solution."""
        size = self.size
        if clues.shape != (size, size):
            raise ValueError(f"expected a board of {size}x{size} cells, got shape {clues.shape}")
        if ((clues < BLANK) | (clues > size + 1)).any():
            raise ValueError(f"expected Sudoku tokens 1..{size + 1}, got {int(clues.min())}..{int(clues.max())}")
        wrong = self.violations(clues[None], clues[None])[0]
        if wrong.any():
            row, column = (int(place[0]) for place in np.nonzero(wrong))
            digit = self.symbols[clues[row, column]]
            raise ValueError(
                f"expected clues without conflict, got digit {digit} at row {row}, column {column} "
                "once more in its row, column or box"
            )
        count = count_solutions(clues, 2, self.box)
        if count != 1:
            found = "several" if count else "none"
            raise ValueError(f"expected a puzzle with exactly one solution, got one with {found}")

    def read_row(self, question: str, answer: str) -> tuple[Grid, Grid]:
        """(clues, solution) of a row of an official CSV file."""
        return tokens.read_row(question, answer, self.box)

    def read_rows(self, questions: Sequence[str], answers: Sequence[str]) -> tuple[Grids, Grids]:
        """(N, n, n) clues and solutions of many rows."""
        return tokens.read_rows(questions, answers, self.box)

    def to_text(self, grid: Grid) -> str:
        """The board with lines between the boxes."""
        expect_tokens(grid, self.vocab_size)
        return tokens.to_text(grid, self.box)

    # ---- rules ----

    def _expect(self, *boards: Grids, tokens: bool = False) -> None:
        """Raise ValueError unless boards have this size, and tokens that exist: compiled rules look no further."""
        expect_one_shape(*boards)
        for grid in boards:
            if grid.shape[-2:] != (self.size, self.size):
                raise ValueError(f"expected boards of {self.size}x{self.size}, got an array of shape {grid.shape}")
            if tokens and grid.size and not 0 <= grid.min() <= grid.max() < self.vocab_size:
                raise ValueError(f"expected tokens 0..{self.vocab_size - 1}, got {grid.min()}..{grid.max()}")

    def solve(self, clues: Grid) -> Grid | None:
        """The solution, None unless there is exactly one."""
        self._expect(clues, tokens=True)
        return solve(clues, self.box)

    def difficulty(self, puzzle: Puzzle) -> float:
        """The guesses of a solver that knows singles, locked candidates and locked sets; see `solver.rate`."""
        self._expect(puzzle.clues, tokens=True)
        return float(rate(puzzle.clues, self.box))

    def free(self, clues: Grids) -> NDArray[np.bool_]:
        """(..., n, n) bool, the blank cells."""
        return clues == BLANK

    def judge(self, clues: Grids, solutions: Grids, answers: Grids) -> NDArray[np.bool_]:
        """(N,) bool: which answers are complete, keep the clues and repeat no digit."""
        self._expect(clues, answers)
        solved = np.empty(len(clues), dtype=np.bool_)
        judge_kernel(plain(clues), plain(answers), *self.box, solved)
        return solved

    def judge_tensors(self, clues: Any, solutions: Any, answers: Any) -> Any:
        """n powers of two whose sum has n bits are n different ones: so every unit has every digit once."""
        (rows, columns), size = self.box, self.size
        bits = 1 << answers
        boxes = bits.reshape(-1, columns, rows, rows, columns).sum((2, 4))
        units = (bits.sum(1), bits.sum(2), boxes.reshape(-1, size))
        kept = ((clues < FIRST_DIGIT) | (answers == clues)).reshape(-1, size * size).all(1)
        first, second, third = ((sums == ((1 << size) - 1) << FIRST_DIGIT).all(1) for sums in units)
        return kept & first & second & third

    def violations(self, clues: Grids, answers: Grids) -> NDArray[np.bool_]:
        """(N, n, n) bool: altered clues, and digits that clash; a blank cell breaks no rule."""
        self._expect(clues, answers)
        wrong = np.empty(clues.shape, dtype=np.bool_)
        violations_kernel(plain(clues), plain(answers), *self.box, wrong)
        return wrong

    def cost(self, clues: Grids, answers: Grids) -> NDArray[np.float64]:
        """0 for full grids without violations, infinite for others."""
        full = (answers >= FIRST_DIGIT).all(axis=(1, 2))
        return np.where(full & (self.count_violations(clues, answers) == 0), 0.0, np.inf)

    # ---- acting ----

    def may_write(self, clues: Grid, shown: Grid, cell: int, token: int) -> bool:
        """Any digit; with `legal_only` one that does not clash."""
        return not self.legal_only or bool(self.legal_writes(clues[None], shown[None])[0, cell, token - FIRST_DIGIT])

    def write(self, clues: Grid, shown: Grid, cell: int, token: int) -> int:
        """Write one cell; only the cells that share a unit with it are looked at."""
        return int(change_kernel(clues, shown, cell, token, self._peers))

    def write_many(self, boards: CellBoards, actions: NDArray[np.int64], active: NDArray[np.bool_]) -> None:
        """One action on each active board, compiled."""
        places = (boards.clues, boards.shown, actions, active, self.legal_only, self._peers)
        write_kernel(*places, boards.violations, boards.ended)

    def legal_writes(self, clues: Grids, shown: Grids) -> NDArray[np.bool_]:
        """(N, n*n, n) bool: `may_write` in the free cells."""
        legal = super().legal_writes(clues, shown)
        return legal & self._unopposed(shown) if self.legal_only else legal

    def candidates(self, clues: Grids) -> NDArray[np.bool_]:
        """(N, n*n, n) bool: the digits that would not clash in a blank cell."""
        return super().legal_writes(clues, clues) & self._unopposed(clues)

    def _unopposed(self, shown: Grids) -> NDArray[np.bool_]:
        """(N, n*n, n) bool: whether a digit is nowhere else in the row, column and box of a cell."""
        count, (rows, columns) = len(shown), self.box
        present = (shown[..., None] == np.array(self.writable, dtype=np.uint8)).astype(np.int8)
        boxes = present.reshape(count, columns, rows, rows, columns, self.size).sum((2, 4), keepdims=True)
        boxes = np.broadcast_to(boxes, (count, columns, rows, rows, columns, self.size)).reshape(present.shape)
        found = present.sum(1, keepdims=True) + present.sum(2, keepdims=True) + boxes
        return (found <= 3 * present).reshape(count, -1, self.size)

    # ---- symmetries and looks ----

    def symmetry(self, shape: tuple[int, int], key: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """A relabelling, with bands, stacks, rows and columns shuffled, and maybe transposed."""
        return random_symmetry(self.box, key)

    def canonical(self, clues: Grid) -> Grid:
        """The symmetric image of `clues` that represents them all."""
        self._expect(clues, tokens=True)
        return canonical(clues, self.box)

    def cluster(self, puzzle: Puzzle) -> int:
        """From side 8 on puzzles with the same solution under some symmetry; smaller boards have too few solutions."""
        self._expect(puzzle.clues, puzzle.solution, tokens=True)
        return class_of(puzzle.clues, puzzle.solution, self.box)

    def legend(self, puzzle: Puzzle, answer: Grid, thought: Thought | None) -> list[str]:
        """What the small digits mean."""
        from hrm_gym.envs.sudoku.drawing import small_digits

        return [small_digits(answer, thought)]

    def draw(self, surface: pygame.Surface, puzzle: Puzzle, answer: Grid, thought: Thought | None) -> None:
        """Paint the board so that it fills `surface`."""
        from hrm_gym.envs.sudoku.drawing import draw_sudoku

        draw_sudoku(surface, puzzle.clues, answer, thought, self.box)


@cache
def sudoku(box: tuple[int, int] = (3, 3), legal_only: bool = False) -> SudokuFamily:
    """The family with this box; the same object for the same arguments."""
    return SudokuFamily(box, legal_only)
