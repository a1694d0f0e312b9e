"""What commands print and write: tables, JSON, progress; and what the figures were taken on."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tqdm import tqdm

from hrm_gym.evaluation.pages import printable, show
from hrm_gym.files import write_atomically

__all__ = ["machine", "new_table", "passing_bar", "progress_bar", "say", "share", "show", "with_progress", "write_json"]

if TYPE_CHECKING:
    from rich.table import Table

Item = TypeVar("Item")


def new_table(title: str, *headings: str, left: int = 1, caption: str | None = None) -> Table:
    """An empty table whose first `left` columns are text, and whose others are numbers."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if place < left else "right", overflow="fold")
    return table


def say(text: str, **where: Any) -> None:
    """`print`, with control characters in names and paths written out."""
    print("\n".join(map(printable, text.split("\n"))), **where)


def share(rate: float, low: float, high: float) -> str:
    """A rate with its interval.

    >>> share(0.5, 0.4, 0.6)
    '50.0% (40.0-60.0)'
    """
    return f"{rate:.1%} ({100 * low:.1f}-{100 * high:.1f})"


def write_json(value: Any, path: Path) -> None:
    """Write plain values atomically."""
    write_atomically(path, json.dumps(value, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "system": platform.platform(),
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("gymnasium", "numpy", "numba", "torch")},
    }


# ---- progress ----

ON_TERMINAL, IN_LOG = 0.5, 30.0
"""Seconds between two states of a bar."""

DELAY = 3.0
"""Seconds that a wait may take without a bar."""


def progress_bar(total: int | None, unit: str, **options: Any) -> tqdm[Any]:
    """A bar on stderr.

    Args:
        total: units to do, if known.
        unit: of what.
        **options: as `tqdm`, e.g. `initial`, units done in an earlier session.
    """
    interval = ON_TERMINAL if sys.stderr.isatty() else IN_LOG
    return tqdm(total=total, unit=unit, dynamic_ncols=True, mininterval=interval, **options)


def passing_bar(total: int | None, unit: str, label: str, **options: Any) -> tqdm[Any]:
    """A bar for what may be over in a moment: it comes after three seconds, and a terminal loses it at the end."""
    return progress_bar(total, unit, desc=label, delay=DELAY, leave=not sys.stderr.isatty(), **options)


def with_progress(items: Iterable[Item], total: int, label: str, unit: str = " puzzles") -> Iterator[Item]:
    """Pass on what takes time, such as episodes, with a `passing_bar`."""
    with passing_bar(total, unit, label) as bar:
        for item in items:
            yield item
            bar.update()
