"""A comparison in words: how figures are written, the table of a terminal, and the Markdown file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hrm_gym.compare.rows import DEFINITIONS, Figure, Row, Run
from hrm_gym.compare.training import Training

if TYPE_CHECKING:
    from rich.table import Table

NONE = "–"
"""Where a figure means nothing or nobody wrote it down."""

CAVEAT = (
    "All agents play the same puzzles, each in its own action mode. They were not given the same things to learn from: "
    "an HRM is shown stored solutions, the RL agents are paid rewards and see none. So the table compares agents, not "
    "principles."
)


def columns(row: Row) -> dict[str, tuple[str, str]]:
    """The figures of a row by column: the figure, and what is written small beside it."""
    training = row.runs[0].training
    seen = count(training.puzzles if training.puzzles is not None else training.transitions)
    kind = "" if seen == NONE else "puzzles" if training.puzzles is not None else "transitions"
    return {
        "solved": _share(row.solved),
        "exact": _share(row.exact),
        "cells right": _share(row.cell_accuracy),
        "reached": (NONE if row.reached is None else f"{100 * row.reached:.1f} %", ""),
        "return": _number(row.total_return, 2),
        "actions": _number(row.actions, 1),
        "ms / puzzle": _number(row.milliseconds, 2),
        "parameters": (count(row.parameters), ""),
        "training steps": (count(training.steps), _each(row)),
        "seen": (seen, " ".join(filter(None, (kind, _each(row))))),
        "training time": (duration(training.seconds), _each(row) or _on_processor(training)),
    }


def shown_columns(rows: Sequence[Row]) -> list[str]:
    """The columns in which some agent has a figure."""
    present = [columns(row) for row in rows if not row.absent]
    return [name for name in DEFINITIONS if any(cells[name][0] != NONE for cells in present)]


def count(number: int | None) -> str:
    """A number of things, rounded where it is large.

    >>> count(443_714), count(2_007_040), count(812), count(None)
    ('444 k', '2.01 M', '812', '–')
    """
    if number is None:
        return NONE
    for least, unit in ((999_500_000, "G"), (999_500, "M"), (10_000, "k")):
        if number >= least:
            scaled = number / {"G": 1e9, "M": 1e6, "k": 1e3}[unit]
            return f"{scaled:.{max(0, 2 - (scaled >= 9.995) - (scaled >= 99.95))}f} {unit}"
    return f"{number:,}"


def duration(seconds: float | None) -> str:
    """Wall time in words.

    >>> duration(42), duration(752), duration(9000), duration(None)
    ('42 s', '12.5 min', '2.5 h', '–')
    """
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def origin(run: Run) -> str:
    """Which weights, in a few words."""
    if run.weights is not None:
        return run.weights
    return "no weights" if not run.fingerprint else "no weights; the hash is that of its code"


def markdown(about: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The whole comparison as Markdown."""
    parts = [f"# {about['title']}", "", f"`{about['command']}`", "", CAVEAT, ""]
    parts += [f"- {name}: {value}" for name, value in about["facts"].items()]
    for world in dict.fromkeys(row.world for row in rows):
        here = [row for row in rows if row.world == world]
        names = shown_columns(here)
        puzzles = " and ".join(sorted({f"`{row.puzzles_sha256[:16]}`" for row in here if not row.absent}))
        shown = f"{max(row.puzzles for row in here):,} puzzles, the same for all agents (SHA-256 {puzzles})."
        parts += ["", f"## {world}", "", shown, "", _line(["agent", "mode", *names]), _line(["---"] * (len(names) + 2))]
        for row in here:
            parts.append(_line([row.agent, *_markdown_cells(row, names)]))
        parts += ["", "In brackets: 95 % intervals, Wilson's for rates, the bootstrap for means.", ""]
        parts += ["", _line(["agent", "weights", "SHA-256", "trained with"]), _line(["---"] * 4)]
        for row in here:
            for run in row.runs:
                hashed, command = run.fingerprint[:16] or NONE, run.training.command
                parts.append(_line([row.agent, origin(run), hashed, f"`{command}`" if command else NONE]))
    parts += ["", "## What the columns mean", ""]
    parts += [f"- *{name}*: {meaning}" for name, meaning in DEFINITIONS.items()]
    return "\n".join(parts) + "\n"


def terminal_table(rows: Sequence[Row]) -> Table:
    """The rows of one world for a terminal of 80 columns."""
    from rich import box
    from rich.table import Table

    table = Table(title=rows[0].world, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("agent", overflow="fold")
    names = ("solved", "exact", "cells right", "ms / puzzle", "parameters", "training time")
    for name in names:
        table.add_column("\n".join(name.rsplit(" ", 1)), justify="right")
    for row in rows:
        if row.absent:
            table.add_row(row.agent, "does not play", *[""] * (len(names) - 1))
            continue
        cells = columns(row)
        small = {"solved", "exact"}
        table.add_row(row.agent, *("\n".join(cells[name][: 1 + (name in small)]) for name in names))
    return table


def _markdown_cells(row: Row, names: Sequence[str]) -> list[str]:
    if row.absent:
        return [NONE, row.absent.replace("|", "\\|"), *[""] * (len(names) - 1)]
    cells = columns(row)
    return [row.mode, *(" ".join(filter(None, cells[name])) for name in names)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _share(figure: Figure | None) -> tuple[str, str]:
    if figure is None:
        return NONE, ""
    return f"{100 * figure.value:.1f} %", f"({100 * figure.low:.1f}-{100 * figure.high:.1f})"


def _number(figure: Figure | None, digits: int) -> tuple[str, str]:
    if figure is None:
        return NONE, ""
    return f"{figure.value:.{digits}f}", f"({figure.low:.{digits}f}-{figure.high:.{digits}f})"


def _on_processor(training: Training) -> str:
    """Processor time, where it was written down."""
    return "" if training.processor_seconds is None else f"({duration(training.processor_seconds)} of processor)"


def _each(row: Row) -> str:
    """A word that says when a figure is that of each of several runs."""
    return f"each of {len(row.runs)} runs" if len(row.runs) > 1 else ""
