"""What every room agrees on: a puzzle, a family of puzzles, a source of puzzles, and an agent's thought.

Nothing here knows Gymnasium, torch or pygame; `agents/` and `hrm_gym/` see the puzzles only through this file.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def plain(grids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same grids as compiled code knows them: uint8, contiguous, writable (else each kind compiles anew)."""
    if grids.dtype == np.uint8 and grids.flags.c_contiguous and grids.flags.writeable:
        return grids
    return np.array(grids, dtype=np.uint8, order="C")


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


def puzzle_keys(seeds: NDArray[np.uint64], ks: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """`puzzle_key(seeds[i], ks[i])` for all i; the two broadcast against each other."""
    return _mix64_many(_mix64_many(seeds) ^ (ks * np.uint64(_GOLDEN)))


def _mix64_many(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = value + np.uint64(_GOLDEN)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@dataclass(frozen=True, eq=False)
class Puzzle:
    """One puzzle.

    Attributes:
        clues: (H, W) uint8 token ids as the solver sees them.
        solution: (H, W) uint8 token ids of the stored solution, clues included.
        puzzle_id: row of the HRM's puzzle embedding (0 for families with one shared row).
        name: where it came from, for messages and records, e.g. `train.csv:17`.
        rating: difficulty on the scale of its source, if known.
        demonstrations: (P, 2, H, W) uint8 solved examples, input and output, for families that show some; rows past
            `pairs` are padding.
        pairs: number of demonstrations.
    """

    clues: Grid
    solution: Grid
    puzzle_id: int = 0
    name: str = ""
    rating: float | None = None
    demonstrations: NDArray[np.uint8] | None = None
    pairs: int = 0

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
        demonstrations: (N, P, 2, H, W) uint8, None for families without.
        pairs: (N,) uint8, demonstrations of each puzzle; None for families without.
    """

    clues: NDArray[np.uint8]
    solutions: NDArray[np.uint8]
    puzzle_ids: NDArray[np.int32]
    demonstrations: NDArray[np.uint8] | None = None
    pairs: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.clues)

    def __getitem__(self, row: int) -> Puzzle:
        """One of the puzzles."""
        shown = None if self.demonstrations is None else self.demonstrations[row]
        pairs = 0 if self.pairs is None else int(self.pairs[row])
        return Puzzle(
            self.clues[row], self.solutions[row], int(self.puzzle_ids[row]), demonstrations=shown, pairs=pairs
        )


@dataclass(frozen=True, eq=False)
class Thought:
    """What an agent had in mind for one board when it acted; drawn as an overlay, kept in recordings.

    Attributes:
        answer: (H, W) uint8, the answer it holds.
        confidence: (H, W) float32 in [0, 1], the probability of the chosen token in every cell; None if unknown.
        q_halt: value of halting now, a probability in [0, 1]; None if the agent has none.
        q_continue: value of thinking on, a probability in [0, 1]; None if the agent has none.
        segment: segments computed so far for this puzzle.
        reason: why it halts now, or restarted, e.g. "Q(halt) 0.98 > Q(continue) 0.97"; None if there is nothing to say.
    """

    answer: Grid
    confidence: NDArray[np.float32] | None = None
    q_halt: float | None = None
    q_continue: float | None = None
    segment: int = 0
    reason: str | None = None


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

    `envs/family.py` has a base class with a default for all that can have one.

    Attributes:
        name: short name, e.g. `maze`; also the folder under `envs/` and the name in checkpoints.
        title: the name as people write it, e.g. `Maze`.
        vocab_size: number of token ids, the padding token 0 included.
        symbols: one printable character per token id, as the official CSV files write them.
        writable: token ids that cell mode may write.
        move_count: number of moves of move mode, 0 where the family has none.
        has_solver: whether `solve` can solve puzzles of this family; without one the stored answers stand in for it.
        attempts: halts an episode may have; a wrong one before the last starts the next attempt.
        max_pairs: most demonstrations that a puzzle of this family shows, 0 where there are none.
        board_size: (width, height) in pixels of the board in a picture.
        difficulty_unit: what `difficulty` counts, in words.
    """

    name: str
    title: str
    vocab_size: int
    symbols: str
    writable: tuple[int, ...]
    move_count: int
    has_solver: bool
    attempts: int
    max_pairs: int
    board_size: tuple[int, int]
    difficulty_unit: str

    # ---- reading ----

    def parse(self, puzzle: Any) -> Grid:
        """Clues from text or a token grid. Raises ValueError that names what was expected and what came."""
        ...

    def check(self, clues: Grid) -> None:
        """Raise ValueError unless `clues` is a puzzle that follows the rules and has a solution."""
        ...

    def read_row(self, question: str, answer: str) -> tuple[Grid, Grid]:
        """(clues, solution) of a row of an official CSV file; ValueError unless it is a puzzle and its answer."""
        ...

    def read_rows(
        self, questions: Sequence[str], answers: Sequence[str]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """(N, H, W) clues and solutions of N >= 1 such rows; ValueError if any is bad, `read_row` then tells why."""
        ...

    def make_puzzle(self, puzzle: Any) -> Puzzle:
        """A whole puzzle from what a person hands in (text, a token grid, a task, a Puzzle). Raises ValueError."""
        ...

    def to_text(self, grid: Grid) -> str:
        """The grid as lines that a person can read, and that `parse` reads."""
        ...

    def describe(self, puzzle: Puzzle, answer: Grid) -> str:
        """Puzzle and answer as lines that a person can read: what `render_mode="ansi"` shows."""
        ...

    # ---- rules, one board ----

    def solve(self, clues: Grid) -> Grid | None:
        """The family's exact solver: the canonical solution of `clues`, or None if there is none."""
        ...

    def blank(self, clues: Grid) -> Grid:
        """A fresh (H, W) answer before the first action; (N, H, W) for as many boards."""
        ...

    def free(self, clues: Grid) -> NDArray[np.bool_]:
        """(H, W) bool, the cells that are the solver's to fill; (N, H, W) for as many boards."""
        ...

    def counted(self, puzzle: Puzzle) -> NDArray[np.bool_]:
        """(H, W) bool, the cells that count in cell accuracy."""
        ...

    def is_solved(self, puzzle: Puzzle, answer: Grid) -> bool:
        """Whether `answer` is right by the rules (not merely equal to the stored solution)."""
        ...

    def is_exact(self, puzzle: Puzzle, answer: Grid) -> bool:
        """Whether `answer` equals the stored solution."""
        ...

    def violations(self, clues: Grid, answer: Grid) -> NDArray[np.bool_]:
        """(H, W) bool, cells of `answer` that break a rule, judged from the clues alone."""
        ...

    def count_violations(self, clues: Grid, answer: Grid) -> int:
        """Number of cells of `answer` that break a rule."""
        ...

    def cell_accuracy(self, puzzle: Puzzle, answer: Grid) -> float:
        """Share of the counted cells in which `answer` equals the stored solution; 1.0 if none counts."""
        ...

    def difficulty(self, puzzle: Puzzle) -> float:
        """How hard the puzzle is, on the family's own scale."""
        ...

    def write(self, clues: Grid, shown: Grid, cell: int, token: int) -> int:
        """Cell mode: write `token` into `cell` of `shown`; returns by how much the number of violations grows."""
        ...

    def may_write(self, clues: Grid, shown: Grid, cell: int, token: int) -> bool:
        """Cell mode: whether a writable `token` may be written into `cell` (a flat index, and free) of `shown`."""
        ...

    def legal_writes(self, clues: Grid, shown: Grid) -> NDArray[np.bool_]:
        """(H*W, len(writable)) bool: `may_write` for every cell and every writable token."""
        ...

    def next_move(self, clues: Grid, current: Grid, answer: Grid) -> int:
        """Move mode: the move that carries out `answer` from the state shown in `current`."""
        ...

    # ---- rules, many boards: the same, row by row ----

    def judge_many(
        self, clues: NDArray[np.uint8], solutions: NDArray[np.uint8], answers: NDArray[np.uint8]
    ) -> NDArray[np.bool_]:
        """(N,) bool: `is_solved` of (N, H, W) boards."""
        ...

    def verdict_many(
        self, clues: NDArray[np.uint8], solutions: NDArray[np.uint8], answers: NDArray[np.uint8]
    ) -> dict[str, NDArray[Any]]:
        """What info says of (N, H, W) answers at the end: (N,) `solved`, `exact`, `cell_accuracy`, maybe more."""
        ...

    def cell_accuracy_many(
        self, clues: NDArray[np.uint8], solutions: NDArray[np.uint8], answers: NDArray[np.uint8]
    ) -> NDArray[np.float64]:
        """(N,) float64: `cell_accuracy` of (N, H, W) boards."""
        ...

    def legal_writes_many(self, clues: NDArray[np.uint8], shown: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """(N, H*W, len(writable)) bool: `legal_writes` of (N, H, W) boards."""
        ...

    def legal_moves_many(self, clues: NDArray[np.uint8], shown: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """(N, move_count) bool: move mode's legal moves from the states that (N, H, W) boards show."""
        ...

    def candidates_many(self, clues: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """(N, H*W, len(writable)) bool: the tokens that a free cell may hold without breaking a rule at once."""
        ...

    def count_violations_many(self, clues: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.int32]:
        """(N,) int32: `count_violations` of (N, H, W) boards."""
        ...

    def cost_many(self, clues: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(N,) float64, what can be said against finished answers without solving the puzzle; less is better.

        Infinite for an answer that breaks a rule or is plainly incomplete. Finite costs rank the others: the cells of a
        walk in a maze, of which the shortest is wanted; 0 where one answer that keeps the rules is as good as another.
        """
        ...

    def write_many(self, boards: CellBoards, actions: NDArray[np.int64], active: NDArray[np.bool_]) -> None:
        """Cell mode: carry out one action on each active board; fills `ended`, keeps `shown` and `violations` right."""
        ...

    # ---- symmetries and looks ----

    def symmetry(self, shape: tuple[int, int], key: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """One symmetry of the family, drawn by a 64-bit key.

        Returns:
            (H*W,) int64 `cells` and (vocab_size,) uint8 `tokens`: the image of a grid is `tokens[grid.ravel()[cells]]`.
        """
        ...

    def image(self, grids: NDArray[np.uint8], key: int) -> NDArray[np.uint8]:
        """(N, H, W) puzzles or answers under one symmetry: that of `symmetry`, unless the family has a richer way."""
        ...

    def preimage(self, grids: NDArray[np.uint8], key: int) -> NDArray[np.uint8]:
        """The inverse of `image`: answers (N, H, W) to images of puzzles become answers to the puzzles."""
        ...

    def canonical(self, clues: Grid) -> Grid:
        """A grid that stands for `clues` and all its symmetric images: the same for all of them."""
        ...

    def draw(self, surface: pygame.Surface, puzzle: Puzzle, answer: Grid, thought: Thought | None) -> None:
        """Paint puzzle and answer so that they fill `surface` of `board_size`; needs pygame."""
        ...

    def cell_at(self, shape: tuple[int, int], place: tuple[int, int]) -> tuple[int, int] | None:
        """(row, column) of the answer's cell under the pixel `place` of the board's picture, None beside it."""
        ...


@dataclass(frozen=True, eq=False)
class CellBoards:
    """N boards in cell mode, as `PuzzleFamily.write_many` works on them in place. All arrays are C-contiguous.

    An action is `cell * len(writable) + place of the token in writable`; the one past the last halts.

    Attributes:
        clues: (N, H, W) uint8.
        solutions: (N, H, W) uint8.
        shown: (N, H, W) uint8, the answers so far.
        free: (N, H*W) bool, cells that may be written.
        violations: (N,) int32, number of violating cells of `shown`.
        ended: (N,) bool, set for boards that halted or became solved, cleared for the other active ones.
    """

    clues: NDArray[np.uint8]
    solutions: NDArray[np.uint8]
    shown: NDArray[np.uint8]
    free: NDArray[np.bool_]
    violations: NDArray[np.int32]
    ended: NDArray[np.bool_]
