"""New Sudokus made from 64-bit keys, easy to hard (extreme ones: `extreme.py`), each proved to have one solution.

A random solution grid is filled first. Easy puzzles are dug out of it, clue by clue, as long as propagation alone
solves them, down to a number of clues drawn by the key. Medium and hard ones are random minimal puzzles, thrown
away until one has the rating. What is not of the split is thrown away too, so a key gives the same puzzle on every
machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.compiled import below_kernel, compiled, mix_kernel, shuffle_kernel
from hrm_gym.envs.puzzle import HELD_OUT, SPLITS, Grid, Puzzle, PuzzleBatch, apart_from_banks
from hrm_gym.envs.sudoku.boxes import Box, board
from hrm_gym.envs.sudoku.solver import (
    DIFFICULTIES,
    LEAST_GUESSES,
    copy_kernel,
    explore_kernel,
    load_kernel,
    ones_kernel,
    propagate_kernel,
    search_kernel,
)
from hrm_gym.envs.sudoku.symmetry import BY_SOLUTION, in_split_kernel

PATIENCE = 8
"""Digits tried, for each cell of a board, before a random filling restarts."""


@compiled
def _random_bit(state, bits):
    """One of the bits of a word, by chance."""
    count, rest = 0, bits
    while rest:
        rest &= rest - 1
        count += 1
    for _ in range(below_kernel(state, count)):
        bits &= bits - 1
    return bits & -bits


@compiled
def _toggle(used, rows, columns, cell, bit):
    """Note a digit (as a bit) in the row, column and box of a cell, or take the note back."""
    row, column = cell // (rows * columns), cell % (rows * columns)
    used[0, row] ^= bit
    used[1, column] ^= bit
    used[2, row // rows * rows + column // columns] ^= bit


@compiled
def _free(used, rows, columns, cell):
    """The digits (as bits) that no set of a cell has yet."""
    size = rows * columns
    row, column = cell // size, cell % size
    return ((1 << size) - 1) & ~(used[0, row] | used[1, column] | used[2, row // rows * rows + column // columns])


@compiled
def _fewest(state, rows, columns, used, placed):
    """One of the empty cells with the fewest digits left, by chance."""
    fewest, ties, chosen = rows * columns + 1, 0, 0
    for cell in range(len(placed)):
        if placed[cell]:
            continue
        rest, count = _free(used, rows, columns, cell), 0
        while rest and count <= fewest:
            rest &= rest - 1
            count += 1
        if count > fewest:
            continue
        ties = 1 if count < fewest else ties + 1
        fewest = count
        if below_kernel(state, ties) == 0:
            chosen = cell
    return chosen


@compiled
def _try_fill(state, rows, columns, scattered, used, left, placed, order):
    """Fill cell after cell with random digits, stepping back from dead ends; False if that takes too long.

    Row after row, or `scattered`: always a cell with the fewest digits left. Digits are bits. `used` (3, n) has those
    of rows, columns and boxes, `left` (n*n,) those still to be tried in a cell, `placed` (n*n,) the one that stands
    there, and `order` (n*n,) the cells as they were filled.
    """
    used[:] = 0
    placed[:] = 0
    depth, descend = 0, True
    for _ in range(PATIENCE * len(placed)):
        if descend:
            order[depth] = _fewest(state, rows, columns, used, placed) if scattered else depth
            left[order[depth]] = _free(used, rows, columns, order[depth])
        cell = order[depth]
        descend = left[cell] != 0
        if descend:
            bit = _random_bit(state, left[cell])
            left[cell] ^= bit
            placed[cell] = bit
            _toggle(used, rows, columns, cell, bit)
            depth += 1
            if depth == len(placed):
                return True
        elif depth == 0:
            return False
        else:
            depth -= 1
            _toggle(used, rows, columns, order[depth], placed[order[depth]])
            placed[order[depth]] = 0
    return False


@compiled
def fill_kernel(state, layout, grid):
    """Fill `grid` (n, n) with a random solution."""
    size = len(grid)
    used = np.empty((3, size), dtype=np.int64)
    left, placed = np.empty(size * size, dtype=np.int64), np.empty(size * size, dtype=np.int64)
    order = np.empty(size * size, dtype=np.int64)
    scattered = size > 9  # row after row, 16x16 boards end up stuck
    while not _try_fill(state, layout.box_rows, layout.box_cols, scattered, used, left, placed, order):
        pass
    for cell in range(size * size):
        token = 2
        while placed[cell] >> (token - 1):
            token += 1
        grid[cell // size, cell % size] = token


@compiled(inline="always")
def forced_kernel(clues, layout, words, patterns):
    """Whether propagation alone solves a puzzle that has a solution."""
    propagate_kernel(words, load_kernel(clues, layout, words), layout, patterns)
    rows, bands = layout.box_rows, layout.box_cols
    for band in range(bands):
        solved = 0
        for at in range(len(words) // 2 + band, len(words), bands):
            solved |= words[at]
        if solved != ones_kernel(rows * rows * bands):
            return False
    return True


@compiled(inline="always")
def needed_kernel(clues, solution, cell, layout, words):
    """Whether the one clue `cell` keeps a puzzle from a second solution, with another digit there.

    `clues` must have that cell blank already, and one solution together with it.
    """
    size = len(clues)
    row, column = cell // size, cell % size
    seen = load_kernel(clues, layout, words)
    digit = np.int64(solution[row, column]) - 2
    word = digit * layout.box_cols + row // layout.box_rows
    words[word] &= ~(1 << (row % layout.box_rows * size + column))
    return (
        explore_kernel(words, seen | (1 << digit), layout, np.int64(1), np.empty((1, size, size), dtype=np.uint8))[0]
        > 0
    )


@compiled(inline="always")
def dig_forced_kernel(state, solution, layout, target, clues):
    """Dig until `target` clues are left, or none can go, so that propagation alone still solves the puzzle."""
    size = len(clues)
    order = np.arange(size * size)
    shuffle_kernel(state, order)
    words = np.empty(2 * size * layout.box_cols, dtype=np.int64)
    patterns = np.empty((size, 2), dtype=np.int64)
    copy_kernel(solution.reshape(-1), clues.reshape(-1))
    left, at, chunk = size * size, 0, size * size // 4
    while left > target and at < size * size:
        chunk = min(chunk, left - target, size * size - at)
        for cell in order[at : at + chunk]:
            clues[cell // size, cell % size] = 1
        if forced_kernel(clues, layout, words, patterns):
            left, at = left - chunk, at + chunk
            continue
        for cell in order[at : at + chunk]:
            clues[cell // size, cell % size] = solution[cell // size, cell % size]
        at += chunk == 1
        chunk = max(1, chunk // 2)


@compiled(inline="always")
def minimise_kernel(state, solution, layout, clues):
    """Take away clues, in random order, as long as the puzzle keeps its one solution; none can go in the end."""
    size = len(clues)
    order = np.arange(size * size)
    shuffle_kernel(state, order)
    words = np.empty(2 * size * layout.box_cols, dtype=np.int64)
    for cell in order:
        row, column = cell // size, cell % size
        if clues[row, column] >= 2:
            clues[row, column] = 1
            if needed_kernel(clues, solution, cell, layout, words):
                clues[row, column] = solution[row, column]


@compiled(inline="always")
def dig_minimal_kernel(state, solution, layout, clues):
    """A random minimal puzzle with `solution`: a quarter of the clues go at once if they can, then one by one."""
    size = len(clues)
    order = np.arange(size * size)
    shuffle_kernel(state, order)
    found = np.empty((1, size, size), dtype=np.uint8)
    share = size * size * 5 // 9
    while True:
        copy_kernel(solution.reshape(-1), clues.reshape(-1))
        for cell in order[:share]:
            clues[cell // size, cell % size] = 1
        if search_kernel(clues, layout, np.int64(2), found)[0] == 1:
            break
        share //= 2
    minimise_kernel(state, solution, layout, clues)


DRAWS = 100_000
"""Puzzles after which a key is given up."""

CLUES = {4: (4, 9), 6: (9, 18), 8: (20, 34), 9: (26, 40), 16: (110, 150)}
"""Least and most clues that an easy puzzle of a side length is dug down to, by default."""


@compiled(inline="always")
def _dig(state, layout, clue_range, rating_range, solution, clues, found):
    """Dig a puzzle out of `solution`; returns its rating, -1 if that is not in the range."""
    if rating_range[1] == 0:
        target = clue_range[0] + below_kernel(state, clue_range[1] - clue_range[0] + 1)
        dig_forced_kernel(state, solution, layout, target, clues)
        return 0
    dig_minimal_kernel(state, solution, layout, clues)
    rating = search_kernel(clues, layout, np.int64(2), found)[1] // 2
    return rating if rating_range[0] <= rating <= rating_range[1] else -1


@compiled
def show_kernel(state, solution, filled, clues):
    """Show blank cells of a puzzle, each with probability `filled` / 65536."""
    size = len(clues)
    for row in range(size):
        for column in range(size):
            if clues[row, column] < 2 and below_kernel(state, 65536) < filled:
                clues[row, column] = solution[row, column]


@compiled
def generate_kernel(keys, layout, split, clue_range, rating_range, filled, clues, solutions, ratings):
    """Fill (N, n, n) `clues` and `solutions` and (N,) `ratings` from N keys; returns how many keys got a puzzle.

    `split` indexes SPLITS; `filled` is a probability times 65536.
    """
    rows, columns = layout.box_rows, layout.box_cols
    by_solution = rows * columns >= BY_SOLUTION
    # A solution of the validation split is dug too, and then thrown away: so most keys of the test split still give the
    # puzzles that they gave before validation was cut out of it.
    first = HELD_OUT if split == 1 else split
    found = np.empty_like(clues[:1])
    for i in range(len(keys)):
        state = np.array([mix_kernel(keys[i])])
        for draw in range(DRAWS + 1):
            if draw == DRAWS:
                return i
            fill_kernel(state, layout, solutions[i])
            if by_solution and not in_split_kernel(clues[i], solutions[i], rows, columns, first):
                continue
            ratings[i] = _dig(state, layout, clue_range, rating_range, solutions[i], clues[i], found)
            if ratings[i] < 0:
                continue
            if filled > 0:
                show_kernel(state, solutions[i], filled, clues[i])
                ratings[i] = search_kernel(clues[i], layout, np.int64(2), found)[1] // 2
            if (by_solution and first == split) or in_split_kernel(clues[i], solutions[i], rows, columns, split):
                break
    return len(keys)


def split_of(clues: Grid, solution: Grid, box: Box) -> str:
    """The split, "train", "validation" or "test", of a puzzle (n, n) with its solution (n, n) and of their images."""
    return next(SPLITS[split] for split in (0, 1, 3) if in_split_kernel(clues, solution, *board(box).box, split))


class GeneratedSudoku:
    """New puzzles without end: easy, medium or hard; extreme ones come from `extreme.ExtremeSudoku`.

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
            split: "train", "validation", "test" (disjoint up to symmetry) or "all".
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
        batch, ratings = self.rated_batch(apart_from_banks(np.array([key], dtype=np.uint64)))
        return Puzzle(batch.clues[0], batch.solutions[0], rating=float(ratings[0]), family="sudoku")

    def batch(self, keys: NDArray[np.uint64]) -> PuzzleBatch:
        """The puzzles of N uint64 keys, in one compiled call."""
        return self.rated_batch(apart_from_banks(keys))[0]

    def rated_batch(self, keys: NDArray[np.uint64]) -> tuple[PuzzleBatch, NDArray[np.int32]]:
        """The puzzles of N uint64 keys, those of the bundled banks for the banks' keys, and their (N,) ratings.

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
