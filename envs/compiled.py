"""Compiled functions: numba's `njit` with a cache on disk that nothing depends on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numba.core.caching import FunctionCache
from numpy.typing import NDArray


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
    """The same grids as compiled code knows them: uint8, contiguous, writable (else each kind compiles anew)."""
    if grids.dtype == np.uint8 and grids.flags.c_contiguous and grids.flags.writeable:
        return grids
    return np.array(grids, dtype=np.uint8, order="C")
