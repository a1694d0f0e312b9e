"""Which puzzle of a bank an episode plays: a pure function of (seed, k), the same on one board and on many."""

from __future__ import annotations

import reprlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.puzzle import puzzle_key, puzzle_keys

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
