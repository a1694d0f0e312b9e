"""Infos of many boards, as Gymnasium's vector environments have them: arrays over all boards, each beside a mask."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Info = dict[str, Any]
Rows = NDArray[np.int64]
"""Numbers of some of the boards."""


def tell(info: Info, told: Info, count: int, rows: Rows | None = None) -> None:
    """Add arrays to `info`, each `key` beside a mask `_key` of the boards that it speaks of.

    Args:
        info: what is added to.
        told: arrays over all boards, or dictionaries that are infos themselves.
        count: number of boards.
        rows: the boards they speak of; None for all.
    """
    some = rows is not None and len(rows) < count
    said = np.zeros(count, dtype=np.bool_) if some else np.ones(count, dtype=np.bool_)
    if some:
        said[rows] = True
    for key, array in told.items():
        info[key], info[f"_{key}"] = array, said.copy()


def spread(told: Info, rows: Rows, count: int) -> Info:
    """Arrays with an entry for each of `rows` as arrays over all boards, zero elsewhere."""
    return {key: _spread_array(array, rows, count) for key, array in told.items()}


def only(told: Info, rows: Rows) -> Info:
    """Arrays over all boards with zeros outside `rows`."""
    return {key: _spread_array(array[rows], rows, len(array)) for key, array in told.items()}


def _spread_array(array: NDArray[Any], rows: Rows, count: int) -> NDArray[Any]:
    whole = np.zeros((count, *array.shape[1:]), dtype=array.dtype)
    whole[rows] = array
    return whole
