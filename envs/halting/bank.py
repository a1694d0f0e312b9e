"""A halting bank: what a trained HRM held after every segment on many puzzles, and whether it was right.

A bank is one npz file. For M puzzles and K segments it has

| array | shape, dtype | meaning |
|---|---|---|
| `solved`, `exact` | (M, K) bool | right by the rules; equal to the stored solution |
| `cell_accuracy` | (M, K) float16 | share of right cells among those not given |
| `q_halt`, `q_continue` | (M, K) float16 | logits of the Q-head; `q_continue` 0 where a network has none |
| `confidence_mean`, `confidence_lowest` | (M, K) float16 | logits: probability of the chosen tokens, free cells |
| `changed` | (M, K) float16 | share of the free cells that the segment has changed; 1 after the first |
| `state` | (M, K, D) float16 | principal components of the pooled H-level state, deviation 1 over train puzzles |
| `difficulty` | (M,) float32 | rating of the puzzle where it has one, else what its family counts |
| `world`, `index` | (M,) uint8, int32 | puzzle `index` of the seed in `about["worlds"][world]` |
| `test` | (M,) bool | the split, by a hash that is the same for all symmetric images of a puzzle |
| `basis`, `centre` | (D, P), (P,) float32 | state = `basis @ (pooled - centre)` |
| `about` | text | JSON: weights, their hash, configuration, command, seed, date, versions |

Column k of an array is segment k + 1. Logits are cut to -16..16, the state to -8..8. Pooled is the mean of the H-level
state over the cells, followed by its position 0, from which the Q-head reads.

Which puzzle of a bank an episode plays: a pure function of (seed, k), the same on one board and on many.
"""

from __future__ import annotations

import os
import reprlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.puzzle import puzzle_key, puzzle_keys
from hrm_gym.reading import check_arrays, convert, parse_json, read_npz

FORMAT_VERSION = 1
BUNDLED = Path(__file__).parent / "banks" / "hrm-maze.npz"
SPLITS = ("train", "test", "all")

LOGIT_LIMIT, STATE_LIMIT = 16.0, 8.0

SCALARS = ("segment", "q_halt", "q_continue", "confidence_mean", "confidence_lowest", "changed")
"""The entries of an observation before the state summary, in order."""

SCHEMA = {
    **dict.fromkeys(("solved", "exact"), (np.bool_, ("puzzles", "segments"))),
    **dict.fromkeys(("cell_accuracy", *SCALARS[1:]), (np.float16, ("puzzles", "segments"))),
    "state": (np.float16, ("puzzles", "segments", "numbers")),
    "difficulty": (np.float32, ("puzzles",)),
    "world": (np.uint8, ("puzzles",)),
    "index": (np.int32, ("puzzles",)),
    "test": (np.bool_, ("puzzles",)),
}
"""The arrays of a bank's file, as far as they are read."""


@dataclass(frozen=True)
class About:
    """What the JSON of a bank says, as far as it is read."""

    format_version: Literal[1]
    agent: str
    env: str
    worlds: tuple[str, ...]
    unit: str
    weights: str
    created: str
    command: str


@dataclass(frozen=True, eq=False)
class HaltingBank:
    """M puzzles after each of K segments. The arrays are read-only.

    Attributes:
        solved: (M, K) bool, whether the answer is right by the rules.
        exact: (M, K) bool, whether it equals the stored solution.
        cell_accuracy: (M, K) float64, share of right cells among those not given.
        observations: (M, K, F) float32, F = 6 + D: `SCALARS`, then the state summary.
        difficulty: (M,) float32, how hard the puzzle is; not part of an observation.
        world: (M,) uint8, which of `about["worlds"]` it comes from.
        test: (M,) bool, puzzles of the test split.
        about: where all this comes from.
        name: for messages and tables.
    """

    solved: NDArray[np.bool_]
    exact: NDArray[np.bool_]
    cell_accuracy: NDArray[np.float64]
    observations: NDArray[np.float32]
    difficulty: NDArray[np.float32]
    world: NDArray[np.uint8]
    test: NDArray[np.bool_]
    about: dict[str, Any]
    name: str = "bank"

    def __len__(self) -> int:
        """M, the number of puzzles."""
        return len(self.solved)

    @property
    def segments(self) -> int:
        """K, the recorded segments of every puzzle."""
        return self.solved.shape[1]

    def rows(self, split: str) -> NDArray[np.int64]:
        """The puzzles of a split, "train", "test" or "all".

        Raises:
            ValueError: no such split, or it is empty.
        """
        if not isinstance(split, str) or split not in SPLITS:
            raise ValueError(f"expected split to be one of {', '.join(map(repr, SPLITS))}, got {split!r}")
        rows = np.arange(len(self)) if split == "all" else np.flatnonzero(self.test == (split == "test"))
        if not len(rows):
            raise ValueError(f"expected a bank with puzzles of the split {split!r}, got none in {self.name}")
        return rows

    def only(self, split: str, max_segments: int | None = None) -> HaltingBank:
        """The puzzles of one split and their first `max_segments` segments; shares of the budget follow that number.

        Raises:
            ValueError: no such split, or more segments than were recorded.
        """
        limit = self.segments if max_segments is None else max_segments
        if not isinstance(limit, int | np.integer) or not 1 <= limit <= self.segments:
            raise ValueError(f"expected max_segments in 1..{self.segments}, as recorded in {self.name}, got {limit!r}")
        rows = self.rows(split)
        observations = self.observations[rows, :limit]
        observations[:, :, 0] = (np.arange(1, limit + 1) / limit).astype(np.float32)
        parts = (self.solved, self.exact, self.cell_accuracy)
        solved, exact, accuracy = (_frozen(part[rows, :limit]) for part in parts)
        hard, world, test = (_frozen(part[rows]) for part in (self.difficulty, self.world, self.test))
        return HaltingBank(
            solved, exact, accuracy, _frozen(observations), hard, world, test, about=self.about, name=self.name
        )


def find_bank(bank: str | Path | HaltingBank | None) -> HaltingBank:
    """The bank that an argument means: a file, the name of a bundled one, one that is loaded already, or None.

    Bundled are "hrm-maze", which None means too, "hrm-sudoku" and "hrm-arc".

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no bank, or is damaged.
    """
    if isinstance(bank, HaltingBank):
        return bank
    if bank is not None and not isinstance(bank, str | Path):
        raise ValueError(f"expected bank as a file, a HaltingBank or None, got {bank!r}")
    path = BUNDLED if bank is None else Path(bank).expanduser()
    if "\0" in str(path):
        raise ValueError(f"expected bank as the name of a file, got {str(path)!r}")
    if str(bank) in {file.stem for file in BUNDLED.parent.glob("*.npz")}:
        path = BUNDLED.parent / f"{bank}.npz"
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no halting bank at {path}; `hrm-gym halting bank build` makes one")
    about = path.stat()
    return _read(path, about.st_mtime_ns, about.st_ino, about.st_size)


@lru_cache(maxsize=8)
def _read(path: Path, *version: int) -> HaltingBank:
    """Read a file; `version` only tells files of one name apart, also where a clock was set back between them."""
    return from_arrays(read_npz(path, [*SCHEMA, "about"]), path.stem, path)


def from_arrays(arrays: dict[str, NDArray[Any]], name: str = "bank", origin: object = "bank") -> HaltingBank:
    """A bank from the arrays of its file; `origin` is named in errors.

    Raises:
        ValueError: an array is missing, or has another shape or dtype than it should; the JSON or a number is bad.
    """
    about: dict[str, Any] = parse_json(str(arrays["about"]), f"{origin}: about")
    worlds = convert(about, About, f"{origin}: about", whole=False).worlds
    check_arrays(arrays, SCHEMA, origin)
    if not arrays["solved"].size:
        raise ValueError(f"{origin}: expected solved of (puzzles, segments), got {arrays['solved'].shape}")
    if (last := int(arrays["world"].max())) >= len(worlds):
        raise ValueError(f"{origin}: expected world in 0..{len(worlds) - 1}, as about says, got {last}")
    count, segments = arrays["solved"].shape
    share = np.broadcast_to(np.arange(1, segments + 1) / segments, (count, segments))
    columns = [share, *(arrays[part] for part in SCALARS[1:])]
    scalars = np.stack([column.astype(np.float32) for column in columns], axis=2)
    observations = np.concatenate([scalars, arrays["state"].astype(np.float32)], axis=2)
    if not (np.abs(observations) <= high_of(observations.shape[2])).all():
        raise ValueError(f"{origin}: expected features within their limits ({LOGIT_LIMIT:g}, state {STATE_LIMIT:g})")
    return HaltingBank(
        _frozen(arrays["solved"]),
        _frozen(arrays["exact"]),
        _frozen(arrays["cell_accuracy"].astype(np.float64)),
        _frozen(np.ascontiguousarray(observations)),
        _frozen(arrays["difficulty"]),
        _frozen(arrays["world"]),
        _frozen(arrays["test"]),
        about,
        name,
    )


def high_of(features: int) -> NDArray[np.float32]:
    """(F,) float32, the greatest value of each entry of an observation."""
    scalars = [1.0 if name in ("segment", "changed") else LOGIT_LIMIT for name in SCALARS]
    return np.array(scalars + [STATE_LIMIT] * (features - len(SCALARS)), dtype=np.float32)


def low_of(features: int) -> NDArray[np.float32]:
    """(F,) float32, the least value of each."""
    low = -high_of(features)
    low[[SCALARS.index("segment"), SCALARS.index("changed")]] = 0.0
    return low


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.setflags(write=False)
    return array


ORDERS = ("random", "sequential")
_MASK64 = (1 << 64) - 1


def row_of(order: str, seed: int, k: int, count: int) -> int:
    """The puzzle of episode k of a seed, in 0..count - 1."""
    if order == "sequential":
        return ((seed & _MASK64) % count + k) % count
    return puzzle_key(seed, k) % count


def rows_of(order: str, seeds: NDArray[np.uint64], ks: NDArray[np.uint64], count: int) -> NDArray[np.int64]:
    """`row_of(order, seeds[i], ks[i], count)` for all i."""
    size = np.uint64(count)
    if order == "sequential":
        return ((seeds % size + ks) % size).astype(np.int64)
    return (puzzle_keys(seeds, ks) % size).astype(np.int64)


def row_options(options: dict[str, Any] | None, count: int) -> int | None:
    """The puzzle that reset options ask for, None if they ask for none.

    Raises:
        ValueError: an option is unknown, or no puzzle has that number.
    """
    if options is None:
        return None
    if not isinstance(options, dict):
        raise ValueError(f"expected options as a dictionary, got {reprlib.repr(options)}")
    if unknown := [name for name in options if name != "index"]:
        raise ValueError(f"expected the reset option 'index', got {reprlib.repr(unknown[0])}")
    if "index" not in options:
        return None
    index = options["index"]
    whole = isinstance(index, int | np.integer) and not isinstance(index, bool)
    if not whole or not 0 <= index < count:
        raise ValueError(f"expected index to be an integer in 0..{count - 1}, got {reprlib.repr(index)}")
    return int(index)
