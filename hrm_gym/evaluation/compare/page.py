"""A comparison as one HTML page, as Markdown and as tables of a terminal; charts take the colours of the page."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from hrm_gym.evaluation.compare.rows import DEFINITIONS, Row, Run, band
from hrm_gym.evaluation.intervals import Figure, Paired
from hrm_gym.evaluation.pages import (
    data_url,
    markdown_code,
    markdown_row,
    markdown_text,
    plot_text,
    printable,
    render,
    table_text,
)
from hrm_gym.evaluation.scores import puzzle_count

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
    """The figures of a row by column: the figure, and what is written small next to it."""
    training = row.runs[0].training
    seen = count(training.puzzles if training.puzzles is not None else training.transitions)
    processor = "" if training.processor_seconds is None else f"({duration(training.processor_seconds)} of processor)"
    kind = "" if seen == NONE else "puzzles" if training.puzzles is not None else "transitions"
    return {
        "solved": _share(row.solved),
        "to the first": _gap(row.difference),
        "exact": _share(row.exact),
        "cells right": _share(row.cell_accuracy),
        "reached": (NONE if row.reached is None else f"{100 * row.reached:.1f} %", ""),
        "return": _number(row.total_return, 2),
        "actions": _number(row.actions, 1),
        "ms / puzzle": _number(row.milliseconds, 2),
        "tokens": _number(row.tokens, 0),
        "parameters": (count(row.parameters), ""),
        "training steps": (count(training.steps), _each(row)),
        "seen": (seen, " ".join(filter(None, (kind, _each(row))))),
        "training time": (duration(training.seconds), _each(row) or processor),
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


def by_world(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of every world."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.world, []).append(row)
    return found


def markdown(about: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The whole comparison as Markdown."""
    parts = [f"# {markdown_text(about['title'])}", "", markdown_code(about["command"]), "", CAVEAT, ""]
    parts += [f"- {markdown_text(name)}: {markdown_text(value)}" for name, value in about["facts"].items()]
    for world, here in by_world(rows).items():
        names = shown_columns(here)
        hashes = " and ".join(f"`{one}`" for one in _hashes([row for row in here if not row.absent]))
        puzzles = puzzle_count(max(row.puzzles for row in here))
        parts += ["", f"## {markdown_text(world)}", "", f"{puzzles}, the same for all agents (SHA-256 {hashes}).", ""]
        parts += [markdown_row(["agent", "mode", "halting", *names]), markdown_row(["---"] * (len(names) + 3))]
        for row in here:
            cells = [markdown_text(row.absent or row.halting_rules), *[""] * len(names)]
            if not row.absent:
                found = columns(row)
                cells[1:] = [" ".join(filter(None, found[name])) for name in names]
            parts.append(markdown_row([markdown_text(row.agent), markdown_text(row.mode) or NONE, *cells]))
        parts += [
            "",
            "In brackets: 95 % intervals, Wilson's for rates, the bootstrap for means.",
            "",
        ]
        parts += [markdown_row(["agent", "weights", "SHA-256", "trained with"]), markdown_row(["---"] * 4)]
        for row in here:
            for run in row.runs:
                command = markdown_code(run.training.command) if run.training.command else NONE
                named = [markdown_text(row.agent), markdown_text(origin(run))]
                parts.append(markdown_row([*named, markdown_text(run.fingerprint[:16]) or NONE, command]))
    parts += ["", "## What the columns mean", ""]
    parts += [f"- *{name}*: {meaning}" for name, meaning in DEFINITIONS.items()]
    return "\n".join(parts) + "\n"


def terminal_table(rows: Sequence[Row]) -> Table:
    """The rows of one world for a terminal of 80 columns."""
    from rich import box
    from rich.table import Table

    title = table_text(rows[0].world, "table.title")
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("agent", overflow="fold")
    names = ("solved", "exact", "cells right", "ms / puzzle", "parameters", "training time")
    for name in names:
        table.add_column("\n".join(name.rsplit(" ", 1)), justify="right")
    for row in rows:
        agent = table_text(row.agent)
        if row.absent:
            table.add_row(agent, "does not play", *[""] * (len(names) - 1))
            continue
        if row.halting_rules != "none":
            agent = agent.append(f"\n{printable(row.halting_rules)}", style="dim")
        cells = columns(row)
        with_interval = ("solved", "exact")
        table.add_row(agent, *("\n".join(cells[name][: 1 + (name in with_interval)]) for name in names))
    return table


def _share(figure: Figure | None) -> tuple[str, str]:
    if figure is None:
        return NONE, ""
    return f"{100 * figure.value:.1f} %", f"({100 * figure.low:.1f}-{100 * figure.high:.1f})"


def _gap(gap: Paired | None) -> tuple[str, str]:
    if gap is None:
        return NONE, ""
    p = "" if gap.p is None else ", p < 0.001" if gap.p < 0.001 else f", p = {gap.p:.3f}"
    return f"{100 * gap.difference:+.1f}", f"({100 * gap.low:+.1f} to {100 * gap.high:+.1f}{p})"


def _number(figure: Figure | None, digits: int) -> tuple[str, str]:
    if figure is None:
        return NONE, ""
    return f"{figure.value:.{digits}f}", f"({figure.low:.{digits}f}-{figure.high:.{digits}f})"


def _each(row: Row) -> str:
    """A word that says when a figure is that of each of several runs."""
    return f"each of {len(row.runs)} runs" if len(row.runs) > 1 else ""


INK, LINE = "#010203", "#040506"
"""Colours that stand for the page's own until the picture is finished."""

COLOURS = ("blue", "amber", "green", "violet", "red", "teal", "pink", "grey")
"""Names of the page's colours, one an agent in the order of the plan."""

MARKERS = "osD^vP*X"


def colour_of(place: int) -> str:
    """The page's colour for agent number `place`."""
    return COLOURS[place % len(COLOURS)]


def solved_chart(rows: Sequence[Row], agents: Sequence[str]) -> Markup:
    """The share solved of every agent that plays a world, with its interval, as one SVG."""
    present = [row for row in rows if row.solved is not None]
    figure, axes = _figure(5.4, 0.6 + 0.3 * len(present))
    for place, row in enumerate(reversed(present)):
        assert row.solved is not None
        mark = agents.index(row.agent)
        share, low, high = (100 * value for value in (row.solved.value, row.solved.low, row.solved.high))
        axes.plot([low, high], [place, place], color=_stand_in(mark), linewidth=3, solid_capstyle="butt")
        axes.plot([share], [place], MARKERS[mark % len(MARKERS)], color=_stand_in(mark), markersize=8)
        for run in row.runs if len(row.runs) > 1 else ():
            axes.plot([100 * run.solved], [place], "|", color=_stand_in(mark), markersize=11)
    axes.set_yticks(range(len(present)), [plot_text(row.agent) for row in reversed(present)])
    axes.set(xlim=(-2, 102), ylim=(-0.6, len(present) - 0.4), xlabel="puzzles solved, %")
    axes.grid(axis="x", color=LINE)
    return _svg(figure, f"Share of puzzles solved in {rows[0].world}")


def curves_chart(rows: Sequence[Row], agents: Sequence[str]) -> Markup | None:
    """The learning curves of a world on one time axis; None if no run of it has kept any. Several seeds are a band."""
    known = [(row, [run.curve for run in row.runs if run.curve is not None]) for row in rows]
    known = [(row, curves) for row, curves in known if curves]
    if not known:
        return None
    figure, axes = _figure(7.4, 3.4)
    for row, curves in known:
        mark = agents.index(row.agent)
        minutes, mean, low, high = band(curves)
        seeds = f" ({len(curves)} seeds)" if len(curves) > 1 else ""
        drawn = [100 * share for share in mean]
        dots = "" if len(curves) > 1 else MARKERS[mark % len(MARKERS)]
        axes.plot(
            minutes, drawn, marker=dots, color=_stand_in(mark), markersize=4, label=plot_text(f"{row.agent}{seeds}")
        )
        if len(curves) > 1:
            bounds = [[100 * share for share in bound] for bound in (low, high)]
            axes.fill_between(minutes, *bounds, color=_stand_in(mark), alpha=0.2, linewidth=0)
    axes.set(xlabel="wall time of training, minutes", ylabel="held-out puzzles solved, %", ylim=(-2, 102))
    axes.set_xlim(left=0)
    axes.grid(color=LINE)
    axes.legend(frameon=False, labelcolor=INK, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _svg(figure, f"Learning curves in {rows[0].world}", " wide")


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(colors=INK, length=0, labelsize=10)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.set_axisbelow(True)
    return figure, axes


def _stand_in(place: int) -> str:
    """A colour that no picture has, for the agent's own."""
    return f"#0a0b{place % len(COLOURS):02x}"


def _svg(figure: Any, label: str, width: str = "") -> Markup:
    """The picture as an element: text stays text, stand-ins become the page's colours, no two pictures share an id."""
    import matplotlib

    label = printable(label)
    held = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": label, "font.family": "sans-serif"}):
        figure.savefig(held, format="svg", metadata={"Date": None, "Creator": None})
    drawn = held.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    mark = re.sub(r"\W", "", label)
    drawn = re.sub(r'(\bid="|url\(#|href="#)', lambda found: f"{found[1]}{mark}-", drawn)
    drawn = drawn.replace(INK, "var(--ink)").replace(LINE, "var(--line)")
    for place, name in enumerate(COLOURS):
        drawn = drawn.replace(_stand_in(place), f"var(--{name})")
    drawn = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font: \1px system-ui, sans-serif", drawn)
    element = f'<svg class="chart{width}" role="img" aria-label="{escape(label)}" '
    return Markup(drawn.replace("<svg ", element, 1))  # matplotlib has escaped the text in it


Films = Mapping[tuple[str, str], Path]
"""The film of (world, agent)."""


def compare_page(about: Mapping[str, Any], rows: Sequence[Row], films: Films, data: Any) -> str:
    """The page; it needs no other file.

    Args:
        about: title, command, facts (words with what they mean).
        rows: all rows, world by world.
        films: GIFs on disk; they go into the page.
        data: what `compare.json` holds; it goes into the page too.
    """
    agents = list(dict.fromkeys(row.agent for row in rows))
    worlds = [_world(here, agents, films) for here in by_world(rows).values()]
    return render(
        "compare.html",
        **about,
        caveat=CAVEAT,
        worlds=worlds,
        rows=rows,
        origin=origin,
        definitions=DEFINITIONS,
        data=data,
    )


def _world(rows: Sequence[Row], agents: Sequence[str], films: Films) -> dict[str, Any]:
    """What the page's template shows of a world."""
    playing = [row for row in rows if not row.absent]
    shown = [(row, films[row.world, row.agent]) for row in playing if (row.world, row.agent) in films]
    return {
        "label": rows[0].world,
        "puzzles": puzzle_count(max(row.puzzles for row in rows)),
        "hashes": _hashes(playing),
        "chart": solved_chart(rows, agents) if playing else "",
        "curves": curves_chart(rows, agents),
        "columns": shown_columns(rows),
        "lines": [(row, colour_of(agents.index(row.agent)), {} if row.absent else columns(row)) for row in rows],
        "lacking": [row.agent for row in playing if row.runs[0].weights is not None and row.runs[0].curve is None],
        "films": [(row, data_url(path.read_bytes(), "image/gif")) for row, path in shown],
    }


def _hashes(rows: Sequence[Row]) -> list[str]:
    return sorted({row.puzzles_sha256[:16] for row in rows})
