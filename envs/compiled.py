"""Compiled functions: numba's `njit` with a cache on disk that nothing depends on; and chance inside of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Else a .numba_config.yaml in the current folder, whoever wrote it, names a cache, and numba unpickles what lies there.
for _name in ("NUMBA_CACHE_DIR", "NUMBA_CACHE_LOCATOR_CLASSES"):
    os.environ.setdefault(_name, "")

from numba import njit  # noqa: E402
from numba.core.caching import FunctionCache  # noqa: E402


class _Cache(FunctionCache):
    """numba's cache of one function, except that a damaged or read-only one means compiling again, not an error."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # whatever pickle makes of damaged bytes
            with contextlib.suppress(Exception):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with contextlib.suppress(Exception):
            super().save_overload(sig, data)


def compiled(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile a function on its first call, and keep the result on disk where there is a place for it.

    `njit(cache=True)` alone raises at import time where neither the package's folder nor the home can be written, and
    at the first call where a file of the cache is damaged.

    Args:
        function: with numpy arrays and numbers as arguments.
        options: those of `numba.njit`.
    """
    if function is None:
        return lambda later: compiled(later, **options)
    dispatcher = njit(**options)(function)
    if hasattr(dispatcher, "enable_caching"):  # a plain function where numba is switched off
        with contextlib.suppress(RuntimeError):  # no folder can be written
            dispatcher._cache = _Cache(function)
    return dispatcher


def plain(grids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same grids as compiled code knows them: uint8, contiguous, writable (else each kind compiles again)."""
    flags = grids.flags
    if grids.dtype.char == "B" and flags.c_contiguous and flags.writeable:  # comparing the dtypes takes twice as long
        return grids
    return np.array(grids, dtype=np.uint8, order="C")


# ---- chance: a SplitMix64 stream that starts from a puzzle's key ----

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)


@compiled
def mix_kernel(value):
    """`puzzle.mix64` for a uint64 in compiled code."""
    value += GOLDEN
    value = (value ^ (value >> np.uint64(30))) * _MIX_A
    value = (value ^ (value >> np.uint64(27))) * _MIX_B
    return value ^ (value >> np.uint64(31))


@compiled
def below_kernel(state, bound):
    """An int64 in 0..bound-1, as good as uniform; `state` (1,) uint64 moves on."""
    state[0] += GOLDEN
    return np.int64(mix_kernel(state[0]) % np.uint64(bound))


@compiled
def shuffle_kernel(state, items):
    """Put `items` (M,) in a random order."""
    for last in range(len(items) - 1, 0, -1):
        other = below_kernel(state, last + 1)
        items[last], items[other] = items[other], items[last]
