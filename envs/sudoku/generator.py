"""New Sudokus made from 64-bit keys, each with a proof that it has one solution.

Easy puzzles are dug out of a random solution, clue by clue, as long as propagation alone solves them, down to a number
of clues drawn by the key. Medium and hard ones are random minimal puzzles, thrown away until one has the rating.
Extreme ones are found by a walk; see `extreme.py`. What does not belong to the split is thrown away too, so a key
always gives the same puzzle on every machine.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from hrm_gym.envs.puzzle import Grid, Puzzle, PuzzleBatch
from hrm_gym.envs.sudoku.boxes import Box, board
from hrm_gym.envs.sudoku.chance import below_kernel, mix_kernel
from hrm_gym.envs.sudoku.digging import dig_forced_kernel, dig_minimal_kernel, fill_kernel
from hrm_gym.envs.sudoku.rating import DIFFICULTIES, LEAST_GUESSES
from hrm_gym.envs.sudoku.search import search_kernel
from hrm_gym.envs.sudoku.splits import BY_SOLUTION, SPLITS, in_split_kernel

DRAWS = 100_000
"""Puzzles after which a key is given up."""

CLUES = {4: (4, 9), 6: (9, 18), 8: (20, 34), 9: (26, 40)}
"""Least and most clues that an easy puzzle of a side length is dug down to, by default."""


@njit(cache=True, inline="always")
def _dig(state, layout, clue_range, rating_range, solution, clues, found):
    """Dig a puzzle out of `solution`; returns its rating, -1 if that is not in the range."""
    if rating_range[1] == 0:
        target = clue_range[0] + below_kernel(state, clue_range[1] - clue_range[0] + 1)
        dig_forced_kernel(state, solution, layout, target, clues)
        return 0
    dig_minimal_kernel(state, solution, layout, clues)
    rating = search_kernel(clues, layout, np.int64(2), found)[1] // 2
    return rating if rating_range[0] <= rating <= rating_range[1] else -1


@njit(cache=True)
def show_kernel(state, solution, filled, clues):
    """Show blank cells of a puzzle, each with probability `filled` / 65536."""
    size = len(clues)
    for row in range(size):
        for column in range(size):
            if clues[row, column] < 2 and below_kernel(state, 65536) < filled:
                clues[row, column] = solution[row, column]


@njit(cache=True)
def generate_kernel(keys, layout, split, clue_range, rating_range, filled, clues, solutions, ratings):
    """Fill (N, n, n) `clues` and `solutions` and (N,) `ratings` from N keys; returns how many keys got a puzzle.

    `split` indexes SPLITS; `filled` is a probability times 65536.
    """
    rows, columns = layout.box_rows, layout.box_cols
    by_solution = rows * columns >= BY_SOLUTION
    found = np.empty_like(clues[:1])
    for i in range(len(keys)):
        state = np.array([mix_kernel(keys[i])])
        for draw in range(DRAWS + 1):
            if draw == DRAWS:
                return i
            fill_kernel(state, layout, solutions[i])
            if by_solution and not in_split_kernel(clues[i], solutions[i], rows, columns, split):
                continue
            ratings[i] = _dig(state, layout, clue_range, rating_range, solutions[i], clues[i], found)
            if ratings[i] < 0:
                continue
            if filled > 0:
                show_kernel(state, solutions[i], filled, clues[i])
                ratings[i] = search_kernel(clues[i], layout, np.int64(2), found)[1] // 2
            if by_solution or in_split_kernel(clues[i], solutions[i], rows, columns, split):
                break
    return len(keys)


def split_of(clues: Grid, solution: Grid, box: Box) -> str:
    """The split, "train" or "test", of a puzzle (n, n) with its solution (n, n) and of all their symmetric images."""
    return "test" if in_split_kernel(clues, solution, *board(box).box, SPLITS.index("test")) else "train"


class GeneratedSudoku:
    """New puzzles without end: easy, medium or hard; `extreme.ExtremeSudoku` makes the rest.

    Attributes:
        shape: (n, n).
    """

    def __init__(
        self,
        box: Box = (3, 3),
        difficulty: str = "easy",
        split: str = "train",
        clues: tuple[int, int] | None = None,
        filled: float = 0.0,
    ) -> None:
        """Describe the puzzles; nothing is generated yet.

        Args:
            box: (rows, columns) of a box.
            difficulty: "easy" (0 guesses), "medium" (1 to 4) or "hard" (5 to 14); boards other than 9x9
                have "easy" only.
            split: "train", "test" (disjoint up to symmetry) or "all".
            clues: least and most clues that easy puzzles are dug down to; where digging ends before, more are left.
            filled: probability with which each blank cell is shown after all; half-filled boards are good training.
                The difficulty is then that of the puzzle before, the rating that of the puzzle shown.

        Raises:
            ValueError: if an argument is out of its range.
        """
        self.board = board(box)
        size = self.board.size
        clues = CLUES[size] if clues is None else clues
        check_difficulty(box, difficulty, split)
        if difficulty == "extreme":
            raise ValueError("expected difficulty easy, medium or hard, got 'extreme': ExtremeSudoku makes those")
        if len(clues) != 2 or not 0 <= clues[0] <= clues[1] <= size * size:
            raise ValueError(f"expected clues (least, most) in 0..{size * size}, got {clues!r}")
        if not 0.0 <= filled < 1.0:
            raise ValueError(f"expected 0 <= filled < 1, got {filled}")
        self.difficulty, self.split, self.clues, self.filled = difficulty, split, clues, filled
        self.shape = self.board.shape
        at = DIFFICULTIES.index(difficulty)
        self._ratings = LEAST_GUESSES[at], LEAST_GUESSES[at + 1] - 1

    def puzzle(self, key: int) -> Puzzle:
        """The puzzle of one 64-bit key, with its rating."""
        batch, ratings = self.rated_batch(np.array([key], dtype=np.uint64))
        return Puzzle(batch.clues[0], batch.solutions[0], rating=float(ratings[0]))

    def batch(self, keys: NDArray[np.uint64]) -> PuzzleBatch:
        """The puzzles of N uint64 keys, in one compiled call."""
        return self.rated_batch(keys)[0]

    def rated_batch(self, keys: NDArray[np.uint64]) -> tuple[PuzzleBatch, NDArray[np.int32]]:
        """The puzzles of N uint64 keys and their (N,) ratings.

        Raises:
            ValueError: if no puzzle with these arguments turns up in a great many draws.
        """
        count = len(keys)
        clues, ratings = np.empty((count, *self.shape), dtype=np.uint8), np.empty(count, dtype=np.int32)
        solutions = np.empty_like(clues)
        chosen = SPLITS.index(self.split), self.clues, self._ratings, round(self.filled * 65536)
        if generate_kernel(keys, self.board.layout, *chosen, clues, solutions, ratings) < count:
            raise ValueError(
                f"expected {self.difficulty} {self.board.name} puzzles of split {self.split} to exist, "
                f"got none in {DRAWS:,} draws"
            )
        return PuzzleBatch(clues, solutions, np.zeros(count, dtype=np.int32)), ratings


def check_difficulty(box: Box, difficulty: str, split: str) -> None:
    """Raise ValueError unless boards of this box have this difficulty, and the split is one."""
    size = board(box).size
    known = DIFFICULTIES if size == 9 else DIFFICULTIES[:1]
    if not isinstance(difficulty, str) or difficulty not in known:
        raise ValueError(f"expected difficulty out of {', '.join(known)} on a {size}x{size} board, got {difficulty!r}")
    if not isinstance(split, str) or split not in SPLITS:
        raise ValueError(f"expected split to be one of {', '.join(SPLITS)}, got {split!r}")
