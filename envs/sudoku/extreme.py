"""Extreme 9x9 Sudokus, as rated in Sudoku-Extreme, made from 64-bit keys by a walk among neighbouring puzzles.

A random puzzle is extreme once in a thousand, but a neighbour of an extreme one often is. Neighbours differ by one
clue: one is taken away, all solutions that appear are listed, and any digit in a cell that only one of them has there
can be the new clue; the solution may change with it. Clues that have become needless go too. A walk moves to a
neighbour that reaches the walk's bar, or, as long as none did, one that is no easier than where the walk is.

A walk from a random puzzle, up the hill, *founds*; founders are hardened by annealing, where a step may also go down a
little; a walk from a founder, under a random symmetry, gives the puzzle of a key. All founders come from this search.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.compiled import below_kernel, compiled, mix_kernel
from hrm_gym.envs.puzzle import HELD_OUT, SPLITS, Puzzle, PuzzleBatch, apart_from_banks, puzzle_key
from hrm_gym.envs.sudoku.boxes import board
from hrm_gym.envs.sudoku.generator import dig_minimal_kernel, fill_kernel, minimise_kernel
from hrm_gym.envs.sudoku.solver import copy_kernel, search_kernel
from hrm_gym.envs.sudoku.symmetry import in_split_kernel, turn_kernel
from hrm_gym.envs.sudoku.tokens import pack, unpack
from hrm_gym.files import write_npz
from hrm_gym.reading import read_npz

TRIALS = 48
"""Clues tried on the walk from a founder to the puzzle of a key; about one in ten moves."""

CLIMB = 40
"""Clues tried before a climb from a random puzzle is given up and the next one begun."""

MOST_SOLUTIONS = 64
"""A clue whose removal leaves this number of solutions is put back at once."""

MOST_CHANGES = 16
"""New clues tried in place of one."""

FLOOR = 30
"""Twice the guesses of the easiest extreme puzzle."""

HIGHEST = 110
"""The bar of a key's walk is up to this number of guesses above the floor; low bars are more likely than high ones."""

SLACK = 0.08
"""How far a step of annealing goes down: the rating may fall to its u^SLACK-fold, u uniform from 0 to 1."""


@compiled
def _pick_clue(state, clues, barren):
    """A cell with a clue that is not `barren`, by chance; -1 if there is none."""
    size = len(clues)
    chosen, count = -1, 0
    for cell in range(size * size):
        if clues[cell // size, cell % size] >= 2 and not barren[cell]:
            count += 1
            if below_kernel(state, count) == 0:
                chosen = cell
    return chosen


@compiled
def _list_changes(clues, solutions, count, changes):
    """Fill `changes` with cell * n + digit for what one solution alone has in a blank cell; returns how many."""
    size = len(clues)
    tally = np.zeros((size * size, size), dtype=np.int64)
    for k in range(count):
        for cell in range(size * size):
            tally[cell, solutions[k, cell // size, cell % size] - 2] += 1
    listed = 0
    for cell in range(size * size):
        for digit in range(size):
            if clues[cell // size, cell % size] < 2 and tally[cell, digit] == 1:
                changes[listed] = cell * size + digit
                listed += 1
    return listed


@compiled
def _open(state, layout, clues, barren, base, many, changes):
    """Take a clue away, by chance, in `base`; lists the changes that could stand for it, and returns how many.

    -1 if no clue is left to be taken; -2 for one that leaves too many solutions, which is `barren` from now on.
    """
    size = len(clues)
    cell = _pick_clue(state, clues, barren)
    if cell < 0:
        return -1
    copy_kernel(clues.reshape(-1), base.reshape(-1))
    base[cell // size, cell % size] = 1
    count = search_kernel(base, layout, np.int64(MOST_SOLUTIONS), many)[0]
    barren[cell] = count == MOST_SOLUTIONS
    return -2 if barren[cell] else _list_changes(clues, many, count, changes)


@compiled
def _try_changes(state, layout, split, base, changes, least, trial, found):
    """Make some of the `changes` to `base`, in `trial`, until one has (doubled) rating `least`; returns it, else -1."""
    size = len(base)
    left = len(changes)
    for _ in range(min(left, MOST_CHANGES)):
        pick = below_kernel(state, left)
        change = changes[pick]
        left -= 1
        changes[pick] = changes[left]
        copy_kernel(base.reshape(-1), trial.reshape(-1))
        trial[change // size // size, change // size % size] = change % size + 2
        if search_kernel(trial, layout, np.int64(2), found)[1] < least:
            continue
        if in_split_kernel(trial, found[0], layout.box_rows, layout.box_cols, split):
            minimise_kernel(state, found[0], layout, trial)
            rating = search_kernel(trial, layout, np.int64(2), found)[1]
            if rating >= least:
                return rating
    return -1


@compiled
def walk_kernel(state, layout, split, clues, solution, trials, bar, stop):
    """Walk from a puzzle, in place, for N trials; with `stop`, only until its doubled rating reaches `bar`.

    Returns the doubled rating reached.
    """
    size = len(clues)
    base, trial = np.empty_like(clues), np.empty_like(clues)
    many, found = np.empty((MOST_SOLUTIONS, size, size), dtype=np.uint8), np.empty((1, size, size), dtype=np.uint8)
    changes = np.empty(size * size * size, dtype=np.int64)
    barren = np.zeros(size * size, dtype=np.bool_)
    best = search_kernel(clues, layout, np.int64(2), found)[1]
    for _ in range(trials):
        if stop and best >= bar:
            break
        listed = _open(state, layout, clues, barren, base, many, changes)
        if listed == -1:
            break
        if listed == -2:
            continue
        rating = _try_changes(state, layout, split, base, changes[:listed], min(best, bar), trial, found)
        if rating >= 0:
            best = rating
            copy_kernel(trial.reshape(-1), clues.reshape(-1))
            copy_kernel(found.reshape(-1), solution.reshape(-1))
            barren[:] = False
    return best


@compiled
def anneal_kernel(keys, layout, split, trials, clues, solutions, ratings):
    """Replace each of N puzzles by the hardest on a walk of N trials that also goes down now and then.

    Args:
        keys: (N,) uint64, one a walk.
        layout: of the board.
        split: number of the split all puzzles belong to.
        trials: clues tried.
        clues: (N, n, n) uint8, changed in place.
        solutions: (N, n, n) uint8, changed in place.
        ratings: (N,) int64, filled with the ratings.
    """
    size = clues.shape[1]
    base, trial = np.empty((size, size), dtype=np.uint8), np.empty((size, size), dtype=np.uint8)
    many, found = np.empty((MOST_SOLUTIONS, size, size), dtype=np.uint8), np.empty((1, size, size), dtype=np.uint8)
    changes = np.empty(size * size * size, dtype=np.int64)
    for i in range(len(keys)):
        state = np.array([mix_kernel(keys[i])])
        at = clues[i].copy()
        barren = np.zeros(size * size, dtype=np.bool_)
        here = search_kernel(at, layout, np.int64(2), found)[1]
        best = here
        for _ in range(trials):
            listed = _open(state, layout, at, barren, base, many, changes)
            if listed == -1:
                break
            if listed == -2:
                continue
            least = np.int64(here * ((below_kernel(state, 1000) + 1) / 1001) ** SLACK)
            rating = _try_changes(state, layout, split, base, changes[:listed], least, trial, found)
            if rating >= 0:
                here = rating
                copy_kernel(trial.reshape(-1), at.reshape(-1))
                barren[:] = False
                if here > best:
                    best = here
                    copy_kernel(at.reshape(-1), clues[i].reshape(-1))
                    copy_kernel(found.reshape(-1), solutions[i].reshape(-1))
        ratings[i] = best // 2


@compiled
def found_kernel(keys, layout, split, clues, solutions):
    """Fill (N, n, n) `clues` and `solutions` with extreme puzzles found from N keys alone."""
    for i in range(len(keys)):
        state = np.array([mix_kernel(keys[i])])
        rating = np.int64(0)
        while rating < FLOOR:
            fill_kernel(state, layout, solutions[i])
            if in_split_kernel(clues[i], solutions[i], layout.box_rows, layout.box_cols, split):
                dig_minimal_kernel(state, solutions[i], layout, clues[i])
                rating = walk_kernel(state, layout, split, clues[i], solutions[i], CLIMB, FLOOR, True)


@compiled
def extreme_kernel(keys, founders, layout, split, clues, solutions, ratings):
    """Fill (N, n, n) `clues` and `solutions` and (N,) `ratings` with the extreme puzzles of N keys.

    `founders` (M, 2, n*n) uint8 are extreme puzzles, some of them of the split, each with its solution.
    """
    turned = np.empty((1, 2, founders.shape[2]), dtype=np.uint8)
    row = np.empty(1, dtype=np.int64)
    size, rows, columns = clues.shape[1], layout.box_rows, layout.box_cols
    # Walks for the test split may go through the validation split; those that end there are repeated. So most keys
    # still give the puzzles that they gave before validation was cut out of test.
    through = HELD_OUT if split == 1 else split
    for i in range(len(keys)):
        state = np.array([mix_kernel(keys[i])])
        while True:
            row[0] = below_kernel(state, len(founders))
            founder = founders[row[0]].reshape(2, size, size)
            if not in_split_kernel(founder[0], founder[1], rows, columns, through):
                continue
            turn_kernel(founders, row, state, rows, columns, turned)
            copy_kernel(turned[0, 0], clues[i].reshape(-1))
            copy_kernel(turned[0, 1], solutions[i].reshape(-1))
            bar = FLOOR + 2 * HIGHEST * below_kernel(state, 100) * below_kernel(state, 100) // 10_000
            ratings[i] = walk_kernel(state, layout, through, clues[i], solutions[i], TRIALS, bar, False) // 2
            if through == split or in_split_kernel(clues[i], solutions[i], rows, columns, split):
                break


FOUNDERS = Path(__file__).parent / "banks" / "founders.npz"

BUNDLED_FOUNDERS = {"train": 1024, "test": 256, "seed": 2026, "rounds": 3}
"""The arguments of `build_founders` for the bundled file."""

TRIALS_EXTREME = 400
"""Clues tried in a round of hardening."""

_FOUND_FOR = {"train": SPLITS.index("train"), "test": HELD_OUT}
"""Founders of "test" are those of validation too."""

_BOARD = board((3, 3))


@cache
def load_founders(split: str) -> NDArray[np.uint8]:
    """(M, 2, 81) uint8: clues and solution of the bundled founders that the puzzles of a split may come from.

    Those of "validation" and of "test" were found as one heap, before the first was cut out of the second; the kernel
    takes those that belong to its split.
    """
    names = ("train", "test") if split == "all" else ("train" if split == "train" else "test",)
    lengths = {"given": 11, "digits": 41}
    schema = {f"{name}_{part}": (np.uint8, (name, n)) for name in names for part, n in lengths.items()}
    stored = read_npz(FOUNDERS, schema)
    return np.concatenate([unpack(stored[f"{name}_given"], stored[f"{name}_digits"], 9) for name in names])


def build_founders(train: int, test: int, seed: int, rounds: int, path: Path = FOUNDERS) -> Path:
    """Find extreme puzzles from nothing, harden them, and write them; half an hour of one core for the bundled ones.

    Args:
        train: number of founders of the train split that are found, and that come out of every round.
        test: the same for the test split.
        seed: recorded in the file.
        rounds: of hardening.
        path: the npz file to write.

    Returns:
        The file written.
    """
    arrays: dict[str, Any] = {"seed": seed, "rounds": rounds}
    for split, count in (("train", train), ("test", test)):
        keys = np.array([puzzle_key(seed, k) for k in range(count)], dtype=np.uint64)
        clues = np.ones((count, 9, 9), dtype=np.uint8)
        solutions = np.ones_like(clues)
        found_kernel(keys, _BOARD.layout, _FOUND_FOR[split], clues, solutions)
        arrays[f"{split}_given"], arrays[f"{split}_digits"] = pack(*harden(clues, solutions, split, seed, rounds))
    write_npz(path, arrays)
    load_founders.cache_clear()
    return path


def harden(
    clues: NDArray[np.uint8], solutions: NDArray[np.uint8], split: str, seed: int, rounds: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Population annealing: every round makes all puzzles harder, then the easiest quarter gives way to copies.

    The copies are of puzzles of the harder half, and part from them in the next round.

    Args:
        clues: (N, 9, 9) uint8 extreme puzzles, N a multiple of 4.
        solutions: (N, 9, 9) uint8.
        split: the split they belong to and stay in.
        seed: of the walks and of the copies.
        rounds: how many.

    Returns:
        (N * (rounds + 1), 9, 9) clues and solutions: the puzzles given, and those after each round.
    """
    rng = np.random.default_rng(seed)
    quarter = len(clues) // 4
    stages = [(clues, solutions)]
    for _ in range(rounds):
        clues, solutions, ratings = clues.copy(), solutions.copy(), np.empty(len(clues), dtype=np.int64)
        keys = rng.integers(2**63, size=len(clues)).astype(np.uint64)
        anneal_kernel(keys, _BOARD.layout, _FOUND_FOR[split], TRIALS_EXTREME, clues, solutions, ratings)
        stages.append((clues, solutions))
        order = np.argsort(ratings, kind="stable")
        kept = np.concatenate([order[quarter:], rng.choice(order[2 * quarter :], quarter, replace=False)])
        clues, solutions = clues[kept], solutions[kept]
    return np.concatenate([c for c, _ in stages]), np.concatenate([s for _, s in stages])


class ExtremeSudoku:
    """New 9x9 puzzles of 15 guesses and more, without end.

    Attributes:
        shape: (9, 9).
    """

    shape = (9, 9)

    def __init__(self, split: str = "train") -> None:
        """Choose the split, one of `SPLITS` (disjoint up to symmetry but for "all"); ValueError for any other."""
        if split not in SPLITS:
            raise ValueError(f"expected split to be one of {', '.join(SPLITS)}, got {split!r}")
        self.split = split

    def puzzle(self, key: int) -> Puzzle:
        """The puzzle of one 64-bit key, with its rating."""
        batch, ratings = self.rated_batch(apart_from_banks(np.array([key], dtype=np.uint64)))
        return Puzzle(batch.clues[0], batch.solutions[0], rating=float(ratings[0]), family="sudoku")

    def batch(self, keys: NDArray[np.uint64]) -> PuzzleBatch:
        """The puzzles of N uint64 keys, in one compiled call."""
        return self.rated_batch(apart_from_banks(keys))[0]

    def rated_batch(self, keys: NDArray[np.uint64]) -> tuple[PuzzleBatch, NDArray[np.int32]]:
        """The puzzles of N uint64 keys, those of the bundled bank for the bank's keys, and their (N,) ratings."""
        count = len(keys)
        clues, ratings = np.empty((count, 9, 9), dtype=np.uint8), np.empty(count, dtype=np.int32)
        solutions = np.empty_like(clues)
        places = load_founders(self.split), _BOARD.layout, SPLITS.index(self.split)
        extreme_kernel(keys, *places, clues, solutions, ratings)
        return PuzzleBatch(clues, solutions, np.zeros(count, dtype=np.int32)), ratings
