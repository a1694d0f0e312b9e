"""What every room agrees on: a puzzle, a family of puzzles, a source of puzzles, and an agent's thought.

Nothing here knows Gymnasium, torch or pygame; `agents/` and `hrm_gym/` see the puzzles only through this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pygame

Grid = NDArray[np.uint8]
"""A grid of token ids, shape (H, W), dtype uint8."""

_GOLDEN = 0x9E3779B97F4A7C15
_MASK64 = (1 << 64) - 1


def mix64(value: int) -> int:
    """Scramble an integer into 64 well-spread bits (the finaliser of SplitMix64)."""
    value = (value + _GOLDEN) & _MASK64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK64
    return value ^ (value >> 31)


def puzzle_key(seed: int, k: int) -> int:
    """The 64-bit key of puzzle `k` under `seed`: the one place where randomness enters a puzzle.

    A source turns a key into a puzzle deterministically, so puzzle k is a pure function of (seed, k) wherever it is
    asked for: in a single environment, a vector environment or a training stream.
    """
    return mix64(mix64(seed & _MASK64) ^ ((k * _GOLDEN) & _MASK64))


@dataclass(frozen=True, eq=False)
class Puzzle:
    """One puzzle.

    Attributes:
        clues: (H, W) uint8 token ids as the solver sees them.
        solution: (H, W) uint8 token ids of the stored solution, clues included.
        puzzle_id: row of the HRM's puzzle embedding (0 for families with one shared row).
        name: where it came from, for messages and records, e.g. `train.csv:17`.
        rating: difficulty on the scale of its source, if known.
    """

    clues: Grid
    solution: Grid
    puzzle_id: int = 0
    name: str = ""
    rating: float | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the grid."""
        return self.clues.shape


@dataclass(frozen=True, eq=False)
class PuzzleBatch:
    """N puzzles of one shape as arrays.

    Attributes:
        clues: (N, H, W) uint8.
        solutions: (N, H, W) uint8.
        puzzle_ids: (N,) int32.
    """

    clues: NDArray[np.uint8]
    solutions: NDArray[np.uint8]
    puzzle_ids: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.clues)

    def __getitem__(self, row: int) -> Puzzle:
        """One of the puzzles."""
        return Puzzle(self.clues[row], self.solutions[row], int(self.puzzle_ids[row]))


@dataclass(frozen=True, eq=False)
class Thought:
    """What an agent had in mind for one board when it acted; drawn as an overlay, kept in recordings.

    Attributes:
        answer: (H, W) uint8, the answer it holds.
        confidence: (H, W) float32 in [0, 1], the probability of the chosen token in every cell; None if unknown.
        q_halt: value of halting now, a probability in [0, 1]; None if the agent has none.
        q_continue: value of thinking on, a probability in [0, 1]; None if the agent has none.
        segment: segments computed so far for this puzzle.
    """

    answer: Grid
    confidence: NDArray[np.float32] | None = None
    q_halt: float | None = None
    q_continue: float | None = None
    segment: int = 0


@runtime_checkable
class PuzzleSource(Protocol):
    """Turns keys into puzzles, deterministically."""

    shape: tuple[int, int]

    def puzzle(self, key: int) -> Puzzle:
        """The puzzle of one 64-bit key."""
        ...

    def batch(self, keys: NDArray[np.uint64]) -> PuzzleBatch:
        """The puzzles of N keys; row i equals `puzzle(keys[i])`."""
        ...


@runtime_checkable
class PuzzleFamily(Protocol):
    """One kind of puzzle: its tokens, rules, solver, symmetries and look. Stateless; grids are (H, W) uint8.

    Attributes:
        name: short name, e.g. `maze`; also the folder under `envs/` and the name in checkpoints.
        vocab_size: number of token ids, the padding token 0 included.
        symbols: one printable character per token id, as the official CSV files write them.
        writable: token ids that cell mode may write.
        move_count: number of moves of move mode, 0 where the family has none.
    """

    name: str
    vocab_size: int
    symbols: str
    writable: tuple[int, ...]
    move_count: int

    def parse(self, puzzle: Any) -> Grid:
        """Clues from text or a token grid. Raises ValueError that names what was expected and what came."""
        ...

    def check(self, clues: Grid) -> None:
        """Raise ValueError unless `clues` is a puzzle that follows the rules and has a solution."""
        ...

    def solve(self, clues: Grid) -> Grid | None:
        """The family's exact solver: the canonical solution of `clues`, or None if there is none."""
        ...

    def free(self, clues: Grid) -> NDArray[np.bool_]:
        """(H, W) bool, the cells that are the solver's to fill: they alone count in cell accuracy."""
        ...

    def is_solved(self, puzzle: Puzzle, answer: Grid) -> bool:
        """Whether `answer` is right by the rules (not merely equal to the stored solution)."""
        ...

    def violations(self, clues: Grid, answer: Grid) -> NDArray[np.bool_]:
        """(H, W) bool, cells of `answer` that break a rule, judged from the clues alone."""
        ...

    def symmetries(self, shape: tuple[int, int]) -> NDArray[np.int64]:
        """(K, H*W) cell permutations that map puzzles to puzzles; row 0 is the identity."""
        ...

    def next_move(self, clues: Grid, current: Grid, answer: Grid) -> int:
        """Move mode: the move that carries out `answer` from the state shown in `current`."""
        ...

    def draw(self, surface: pygame.Surface, clues: Grid, answer: Grid, thought: Thought | None) -> None:
        """Paint the board so that it fills `surface`; the one method that needs pygame."""
        ...
