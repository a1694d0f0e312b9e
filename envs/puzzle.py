"""What every package agrees on: a puzzle, a source of puzzles and its keys, and an agent's thought.

What a split is, too. Nothing here knows Gymnasium, torch or pygame. The rules of a kind of puzzle are in `family.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.compiled import compiled

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


def puzzle_keys(seeds: NDArray[np.uint64], ks: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """`puzzle_key(seeds[i], ks[i])` for all i; the two broadcast against each other."""
    return mix_many(mix_many(seeds) ^ (ks * np.uint64(_GOLDEN)))


def mix_many(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """`mix64` of every entry."""
    value = value + np.uint64(_GOLDEN)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


SPLITS = ("train", "test", "all", "validation", "held-out")
"""Splits of generated puzzles; kernels know them by their places here. Every class of symmetric puzzles is in train,
validation or test; held-out is the last two together, as "test" was before validation was cut out of it.
"""

HELD_OUT = SPLITS.index("held-out")

TEST_SHARE = 8
"""One class of puzzles in this many is held out of the train split, for validation and test."""

VALIDATION_SHARE = 4
"""One class of held-out puzzles in this many is for validation, the others are for test."""

BANK_SEED = 2026
"""The seed of all bundled banks of generated puzzles."""

_BANK_KEYS, _APART = 8192, 0x6A09E667F3BCC908
"""More keys than a split of a bank has; a salt."""


@compiled
def hash_in_split(value, split):
    """Whether a class of puzzles with this uint64 hash belongs to SPLITS[split]."""
    if split == 2:
        return True
    if split == 0 or split == HELD_OUT:
        return (value % np.uint64(TEST_SHARE) == 0) == (split == HELD_OUT)
    if value % np.uint64(TEST_SHARE) != 0:
        return False
    return (value // np.uint64(TEST_SHARE) % np.uint64(VALIDATION_SHARE) == 0) == (split == 3)


def split_of_hash(value: int) -> str:
    """The split, "train", "validation" or "test", of a class of puzzles with this hash."""
    return next(SPLITS[split] for split in (0, 1, 3) if hash_in_split(np.uint64(value), split))


@cache
def _bank_keys() -> NDArray[np.uint64]:
    return np.sort(puzzle_keys(np.array([BANK_SEED], np.uint64), np.arange(_BANK_KEYS, dtype=np.uint64)))


def apart_from_banks(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The (N,) keys, others in place of those that bundled banks were made of: new puzzles are not those of a bank."""
    known = _bank_keys()
    found = known[np.searchsorted(known, keys) % len(known)] == keys
    return np.where(found, mix_many(keys ^ np.uint64(_APART)), keys) if found.any() else keys


@dataclass(frozen=True, eq=False)
class Puzzle:
    """One puzzle.

    Attributes:
        clues: (H, W) uint8 token ids as the solver sees them.
        solution: (H, W) uint8 token ids of the stored solution, clues included.
        puzzle_id: row of the HRM's puzzle embedding (0 for families with one shared row).
        name: where it came from, for messages and records, e.g. `train.csv:17`.
        rating: difficulty on the scale of its source, if known.
        extras: what observations show of it besides the clues, by name; as the family's `extra_arrays` say.
        family: name of its family, by which a notebook draws it; "" if nobody said.
    """

    clues: Grid
    solution: Grid
    puzzle_id: int = 0
    name: str = ""
    rating: float | None = None
    extras: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    family: str = ""

    def _repr_html_(self) -> str | None:
        """The board, in a notebook."""
        from hrm_gym.notebook import puzzle_html

        return puzzle_html(self)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the grid."""
        return self.clues.shape

    def repeated(self, count: int) -> PuzzleBatch:
        """The puzzle `count` times."""

        def times(array: NDArray[Any]) -> NDArray[Any]:
            return np.broadcast_to(array, (count, *array.shape))

        extras = {name: times(array) for name, array in self.extras.items()}
        return PuzzleBatch(times(self.clues), times(self.solution), np.full(count, self.puzzle_id, np.int32), extras)


@dataclass(frozen=True, eq=False)
class PuzzleBatch:
    """N puzzles of one shape as arrays.

    Attributes:
        clues: (N, H, W) uint8.
        solutions: (N, H, W) uint8.
        puzzle_ids: (N,) int32.
        extras: arrays of N rows, by name; see `Puzzle`.
    """

    clues: NDArray[np.uint8]
    solutions: NDArray[np.uint8]
    puzzle_ids: NDArray[np.int32]
    extras: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.clues)

    def __getitem__(self, row: int) -> Puzzle:
        """One of the puzzles."""
        extras = {name: arrays[row] for name, arrays in self.extras.items()}
        return Puzzle(self.clues[row], self.solutions[row], int(self.puzzle_ids[row]), extras=extras)

    def rows(self, index: slice | NDArray[np.int64]) -> PuzzleBatch:
        """Some of the puzzles."""
        extras = {name: arrays[index] for name, arrays in self.extras.items()}
        return PuzzleBatch(self.clues[index], self.solutions[index], self.puzzle_ids[index], extras)

    @staticmethod
    def joined(batches: Sequence[PuzzleBatch]) -> PuzzleBatch:
        """The puzzles of all, one after the other."""
        clues, solutions, ids = (
            np.concatenate([getattr(batch, name) for batch in batches]) for name in ("clues", "solutions", "puzzle_ids")
        )
        extras = {name: np.concatenate([batch.extras[name] for batch in batches]) for name in batches[0].extras}
        return PuzzleBatch(clues, solutions, ids, extras)


@dataclass(frozen=True, eq=False)
class Thought:
    """What an agent had in mind for one board when it acted; drawn as an overlay, kept in recordings.

    Attributes:
        answer: (H, W) uint8, the answer it holds.
        confidence: (H, W) float32 in [0, 1], the probability of the chosen token in every cell; None if unknown.
        q_halt: value of halting now, a probability in [0, 1]; None if the agent has none.
        q_continue: value of thinking on, a probability in [0, 1]; None if the agent has none.
        segment: segments computed so far for this puzzle.
        reason: its decision in words, e.g. "Q(halt) 0.98 > Q(continue) 0.97: halts"; None if there is nothing to say.
        event: "halts" or "restarts" where it does; "" else.
        threshold: what Q(halt) has to exceed, in [0, 1]; None if it is Q(continue), or if Q(halt) does not decide.
        residuals: (module, share of its length that its state moved in this segment), e.g. (("H", 0.03), ("L", 0.1)).
        facts: further figures, as (word, value), e.g. (("Lanes", "12"),).
    """

    answer: Grid
    confidence: NDArray[np.float32] | None = None
    q_halt: float | None = None
    q_continue: float | None = None
    segment: int = 0
    reason: str | None = None
    event: str = ""
    threshold: float | None = None
    residuals: tuple[tuple[str, float], ...] = ()
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, eq=False)
class Moment:
    """A board at one moment of an episode: all that a picture of it shows.

    Attributes:
        puzzle: the puzzle; its solution is not shown.
        answer: (H, W) uint8, the answer as the observation shows it.
        used: segments (in answer mode) or steps of the present attempt.
        budget: how many there may be.
        violations: number of cells of `answer` that break a rule.
        before: (H, W) uint8, the whole answer given before this one; None if there is none.
        attempt: number of the attempt, from 0.
        solved: the verdict, None while the episode runs.
        thoughts: the agent's, one an action since the puzzle began, of all attempts; () if it gave none.
    """

    puzzle: Puzzle
    answer: Grid
    used: int
    budget: int
    violations: int
    before: Grid | None = None
    attempt: int = 0
    solved: bool | None = None
    thoughts: tuple[Thought, ...] = ()

    @property
    def thought(self) -> Thought | None:
        """The newest one."""
        return self.thoughts[-1] if self.thoughts else None


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
