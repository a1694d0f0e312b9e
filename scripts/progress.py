"""Progress bars of the commands: twice a second on a terminal, twice a minute in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

_ON_TERMINAL, _IN_LOG = 0.5, 30.0
"""Seconds between two states of a bar."""

_DELAY = 3.0
"""Seconds that a wait may take without a bar."""


def progress_bar(total: int | None, unit: str, **options: Any) -> tqdm[Any]:
    """A bar on stderr.

    Args:
        total: units to do, if known.
        unit: of what.
        **options: as `tqdm`, e.g. `initial`, units done in an earlier session.
    """
    interval = _ON_TERMINAL if sys.stderr.isatty() else _IN_LOG
    return tqdm(total=total, unit=unit, dynamic_ncols=True, mininterval=interval, **options)


def passing_bar(total: int | None, unit: str, label: str, **options: Any) -> tqdm[Any]:
    """A bar for what may be over in a moment: it comes after three seconds, and a terminal loses it at the end."""
    return progress_bar(total, unit, desc=label, delay=_DELAY, leave=not sys.stderr.isatty(), **options)


def with_progress(items: Iterable[Item], total: int, label: str, unit: str = " puzzles") -> Iterator[Item]:
    """Pass on what takes time, such as episodes, with a `passing_bar`."""
    with passing_bar(total, unit, label) as bar:
        for item in items:
            yield item
            bar.update()
