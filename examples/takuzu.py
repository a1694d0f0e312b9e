"""Takuzu, the binary puzzle, as a puzzle family of your own: one file outside of the package.

Fill the grid with 0 and 1: as many of each in every row and column, never three alike next to each other, and no two
rows or two columns the same. `docs/own_puzzle.md` explains the file part by part.

    hrm-gym solve takuzu:Takuzu-v0 --agent oracle random
    hrm-gym play takuzu:Takuzu-v0
"""

from __future__ import annotations

import functools
import itertools
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hrm_gym
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.files import open_puzzles
from hrm_gym.envs.puzzle import Grid, Puzzle, PuzzleBatch, PuzzleSource, Thought
from hrm_gym.envs.puzzle_env import PuzzleEnv
from hrm_gym.envs.vector_env import PuzzleVectorEnv

Grids = NDArray[np.uint8]
BLANK, ZERO, ONE = 1, 2, 3  # token 0 is padding, as in every family


class TakuzuFamily(PuzzleFamily):
    """The rules, for (N, n, n) boards at once; n is 4 or 6."""

    name, title = "takuzu", "Takuzu"
    vocab_size, symbols, writable = 4, "?.01", (ZERO, ONE)

    def parse(self, puzzle: Any) -> Grid:
        """Clues from n lines of n characters out of `.01`, one line of all, or a token grid."""
        if isinstance(puzzle, str):
            tokens = [self.symbols.find(character) for character in "".join(puzzle.split())]
            side = 6 if len(tokens) == 36 else 4
            if len(tokens) != side * side:
                raise ValueError(f"expected 16 or 36 characters out of {self.symbols[1:]!r}, got {len(tokens)}")
            puzzle = np.reshape(tokens, (side, side))
        grid = np.asarray(puzzle)
        if grid.shape not in ((4, 4), (6, 6)) or grid.dtype.kind not in "iu":
            raise ValueError(f"expected 4x4 or 6x6 integer tokens, got shape {grid.shape} of {grid.dtype}")
        if grid.min() < BLANK or grid.max() > ONE:
            raise ValueError(f"expected {self.symbols[1:]!r} (tokens {BLANK}..{ONE}), got something else")
        return grid.astype(np.uint8)

    def check(self, clues: Grid) -> None:
        """Raise ValueError unless the puzzle has exactly one solution."""
        if len(solutions(clues)) != 1:
            raise ValueError(f"expected a puzzle with exactly one solution, got one with {len(solutions(clues))}")

    def read_row(self, question: str, answer: str) -> tuple[Grid, Grid]:
        """(clues, solution) of a row of a CSV file."""
        clues, solution = self.parse(question), self.parse(answer)
        if clues.shape != solution.shape or not self.judge(clues[None], solution[None], solution[None])[0]:
            raise ValueError("expected an answer that solves its question, got another")
        return clues, solution

    def solve(self, clues: Grid) -> Grid | None:
        """The first solution, None if there is none."""
        return next(iter(solutions(clues)), None)

    def free(self, clues: Grids) -> NDArray[np.bool_]:
        """(…, n, n) bool, the cells to fill."""
        return clues == BLANK

    def violations(self, clues: Grids, answers: Grids) -> NDArray[np.bool_]:
        """(N, n, n) bool: altered clues, too many of a symbol in a line, three alike in a row, lines that repeat."""
        wrong, side = (clues != BLANK) & (answers != clues), answers.shape[-1]
        for lines, marks in ((answers, wrong), (answers.swapaxes(1, 2), wrong.swapaxes(1, 2))):  # rows, then columns
            for symbol in self.writable:
                alike = lines == symbol
                marks |= alike & (alike.sum(2, keepdims=True) > side // 2)
                triples = alike[:, :, :-2] & alike[:, :, 1:-1] & alike[:, :, 2:]
                for offset in range(3):
                    marks[:, :, offset : side - 2 + offset] |= triples
            twins = (lines[:, :, None] == lines[:, None]).all(3) & (lines >= ZERO).all(2)[:, None]
            marks |= (twins.sum(2) > 1)[..., None]
        return wrong

    def judge(self, clues: Grids, solutions: Grids, answers: Grids) -> NDArray[np.bool_]:
        """(N,) bool: full, and no rule broken."""
        return (answers >= ZERO).all((1, 2)) & ~self.violations(clues, answers).any((1, 2))

    def cost(self, clues: Grids, answers: Grids) -> NDArray[np.float64]:
        """0 for a solution, infinite for anything else: by this votes and search rank answers."""
        return np.where(self.judge(clues, answers, answers), 0.0, np.inf)

    def symmetry(self, shape: tuple[int, int], key: int) -> tuple[NDArray[np.int64], Grids]:
        """One of 16: turned, mirrored, 0 and 1 exchanged."""
        cells = np.rot90(np.arange(shape[0] * shape[1]).reshape(shape), key % 4)
        cells = cells.T if key // 4 % 2 else cells
        tokens = [0, BLANK, ONE, ZERO] if key // 8 % 2 else [0, BLANK, ZERO, ONE]
        return cells.flatten(), np.array(tokens, dtype=np.uint8)

    def canonical(self, clues: Grid) -> Grid:
        """The least of the 16 images, byte by byte."""
        return min((self.image(clues[None], key)[0] for key in range(16)), key=lambda grid: grid.tobytes())

    def draw(self, surface: Any, puzzle: Puzzle, answer: Grid, thought: Thought | None) -> None:
        """White discs for 0, dark ones for 1; a bar under given cells, red for broken rules."""
        import pygame

        cell = min(surface.get_size()) // len(answer)
        wrong = self.violations(puzzle.clues[None], answer[None])[0]
        for (row, column), token in np.ndenumerate(answer):
            box = pygame.Rect(column * cell, row * cell, cell - 1, cell - 1)
            surface.fill((254, 202, 202) if wrong[row, column] else (203, 213, 225), box)
            if token >= ZERO:
                disc = (255, 255, 255) if token == ZERO else (30, 41, 59)
                pygame.draw.circle(surface, disc, box.center, cell * 3 // 8)
            if puzzle.clues[row, column] != BLANK:
                surface.fill((30, 41, 59), (box.left, box.bottom - cell // 16, cell - 1, cell // 16))


@functools.cache
def full_lines(side: int) -> Grids:
    """(M, side) every row that breaks no rule by itself."""
    lines = np.array(list(itertools.product((ZERO, ONE), repeat=side)), dtype=np.uint8)
    balanced = (lines == ZERO).sum(1) == side // 2
    alike = (lines[:, :-2] == lines[:, 1:-1]) & (lines[:, 1:-1] == lines[:, 2:])
    return lines[balanced & ~alike.any(1)]


def solutions(clues: Grid) -> Grids:
    """(K, n, n) all solutions: row after row, every fitting line is tried on every board that is left."""
    boards = clues[None]
    for row, given in enumerate(clues):
        lines = full_lines(len(clues))
        lines = lines[((given == BLANK) | (lines == given)).all(1)]
        count, boards = len(boards), np.repeat(boards, len(lines), axis=0)
        boards[:, row] = np.tile(lines, (count, 1))
        boards = boards[~TakuzuFamily().violations(boards, boards).any((1, 2))]
    return boards


@functools.cache
def full_grids(side: int) -> Grids:
    """All solved boards: 72 of 4x4, 4,140 of 6x6."""
    return solutions(np.full((side, side), BLANK, dtype=np.uint8))


class TakuzuSource:
    """New puzzles without end, each with one solution; no test puzzle is a symmetric image of a training puzzle."""

    def __init__(self, size: int = 6, split: str = "train") -> None:
        """Choose the side length, 4 or 6, and the split: "train", "test" or "all"."""
        if size not in (4, 6) or split not in ("train", "test", "all"):
            raise ValueError(f"expected size 4 or 6 and split train, test or all, got {size!r} and {split!r}")
        self.shape, self.split = (size, size), split

    def puzzle(self, key: int) -> Puzzle:
        """The puzzle of a 64-bit key: a solved board whose cells go, in random order, while one solution remains."""
        rng = np.random.default_rng(int(key))
        while True:
            solution = rng.choice(full_grids(self.shape[0]))
            clues = solution.copy()
            for cell in rng.permutation(clues.size):
                clues.flat[cell] = BLANK
                if len(solutions(clues)) > 1:
                    clues.flat[cell] = solution.flat[cell]
            of_test = zlib.crc32(TakuzuFamily().canonical(clues).tobytes()) % 5 == 0
            if self.split == "all" or of_test == (self.split == "test"):
                return Puzzle(clues, solution, name=f"takuzu {key}", family="takuzu")

    def batch(self, keys: NDArray[np.uint64]) -> PuzzleBatch:
        """The puzzles of N keys."""
        puzzles = [self.puzzle(key) for key in keys]
        grids = (np.stack([getattr(puzzle, name) for puzzle in puzzles]) for name in ("clues", "solution"))
        return PuzzleBatch(*grids, np.zeros(len(keys), dtype=np.int32))


class TakuzuEnv(PuzzleEnv):
    """Fill a grid with 0 and 1; actions, observation, reward and info are those of every puzzle environment."""

    def __init__(
        self, size: int = 6, source: str | Path | PuzzleSource = "generate", split: str = "train", **arguments: Any
    ) -> None:
        """Choose the puzzles; the other arguments are those of `PuzzleEnv`."""
        family = TakuzuFamily()
        if isinstance(source, str | Path):
            new = source in ("bank", "generate")
            source = TakuzuSource(size, split) if new else open_puzzles(source, family, split)
        super().__init__(family, source, **arguments)


class TakuzuVectorEnv(PuzzleVectorEnv):
    """N of them at once."""

    single = TakuzuEnv


hrm_gym.register_family(
    "takuzu",
    family=TakuzuFamily.for_grid,
    env=TakuzuEnv,
    vector_env=TakuzuVectorEnv,
    ids={"Takuzu-v0": {}, "TakuzuMini-v0": {"size": 4}},
)
