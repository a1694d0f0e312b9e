"""A comparison in words: how figures are written, the table of a terminal, and the Markdown file.

Figures and curves as SVG that takes the colours of the page it stands in, light or dark.

A short film of every agent on the same first puzzles; all films last equally long, so that they run in step.

A comparison as one HTML page that needs nothing beside itself.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hrm_gym.evaluation.compare.plan import Entrant, World
from hrm_gym.evaluation.compare.rows import DEFINITIONS, Figure, Row, Run, Training, band
from hrm_gym.evaluation.compare.run import Comparison
from hrm_gym.evaluation.films import FilmRecorder, Image, pictures_of, play_together
from hrm_gym.evaluation.replay import data_url, page, scrolling, slug, text

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


INK, LINE = "#010203", "#040506"
"""Colours that stand for the page's own until the picture is finished."""

COLOURS = ("blue", "amber", "green", "violet", "red", "teal", "pink", "grey")
"""Names of the page's colours, one an agent in the order of the plan."""

MARKERS = "osD^vP*X"


def colour_of(place: int) -> str:
    """The page's colour for agent number `place`."""
    return COLOURS[place % len(COLOURS)]


def solved_chart(rows: Sequence[Row], agents: Sequence[str]) -> str:
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
    axes.set_yticks(range(len(present)), [row.agent for row in reversed(present)])
    axes.set(xlim=(-2, 102), ylim=(-0.6, len(present) - 0.4), xlabel="puzzles solved, %")
    axes.grid(axis="x", color=LINE)
    return _svg(figure, f"Share of puzzles solved in {rows[0].world}")


def curves_chart(rows: Sequence[Row], agents: Sequence[str]) -> str | None:
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
        axes.plot(minutes, drawn, marker=dots, color=_stand_in(mark), markersize=4, label=f"{row.agent}{seeds}")
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


def _svg(figure: Any, label: str, width: str = "") -> str:
    """The picture as an element: text stays text, stand-ins become the page's colours, no two pictures share an id."""
    import matplotlib

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
    return drawn.replace("<svg ", f'<svg class="chart{width}" role="img" aria-label="{text(label)}" ', 1)


WIDTH = 480
"""Pixels across."""

SECONDS, LINGER = 5.0, 1.6
"""A puzzle on film, and how much of that shows its end."""

MOST_FRAMES = 40
"""Of a puzzle; a longer course is shown with gaps."""


def missing_films(comparison: Comparison) -> list[tuple[World, Entrant]]:
    """Who is not on film yet, of every agent its first run."""
    return [
        (world, entrant) for world, entrant in filmed(comparison) if not comparison.film_path(world, entrant).is_file()
    ]


def filmed(comparison: Comparison) -> Iterator[tuple[World, Entrant]]:
    """Who is to be on film."""
    for world in comparison.worlds if comparison.plan.films else ():
        for label in comparison.labels:
            entrants = comparison.entrants(world, label)
            if not isinstance(entrants, str):
                yield world, entrants[0]


def shoot(comparison: Comparison, world: World, entrant: Entrant) -> Path:
    """Play the first puzzles off screen and write the film, whole or not at all; returns its path."""
    path = comparison.film_path(world, entrant)
    env = world.make(entrant.agent.action_mode, "rgb_array")
    player = (env, entrant.agent)
    recorder = FilmRecorder()
    try:
        env.unwrapped.set_caption(entrant.label.text)  # type: ignore[attr-defined]
        for index in range(world.length(comparison.plan.films)):
            kept: list[Image] = []
            seed = world.seed(comparison.plan.seeds[0])
            play_together([player], index, seed, lambda _, kept=kept: kept.append(_small(pictures_of([player])[0])))  # type: ignore[misc]
            recorder.images += _timed(kept)
    finally:
        env.close()
    recorder.save(path)
    return path


def _timed(pictures: list[Image]) -> list[tuple[Image, float]]:
    """The pictures of a puzzle with the seconds that each is shown; together always `SECONDS`."""
    chosen = np.unique(np.linspace(0, len(pictures) - 1, min(MOST_FRAMES, len(pictures))).round().astype(int))
    each = round((SECONDS - LINGER) / max(1, len(chosen) - 1), 2)
    last = SECONDS - each * (len(chosen) - 1)
    return [(pictures[place], last if place == chosen[-1] else each) for place in chosen]


def _small(picture: Image) -> Image:
    from PIL import Image as Pillow

    height, width = picture.shape[:2]
    size = (WIDTH, round(height * WIDTH / width))
    return np.asarray(Pillow.fromarray(picture).resize(size, Pillow.Resampling.LANCZOS), dtype=np.uint8)


Films = Mapping[tuple[str, str], Path]
"""The film of (world, agent)."""


def compare_page(about: Mapping[str, Any], rows: Sequence[Row], films: Films, data: Any) -> str:
    """The page.

    Args:
        about: title, command, facts (words with what they mean).
        rows: all rows, world by world.
        films: GIFs on disk; they go into the page.
        data: what `compare.json` holds; it goes into the page too.
    """
    worlds = list(dict.fromkeys(row.world for row in rows))
    agents = list(dict.fromkeys(row.agent for row in rows))
    links = "".join(f'<a href="#{slug(world)}">{text(world)}</a>' for world in worlds)
    links += '<a href="#origin">Where the figures come from</a>'
    sections = [_world([row for row in rows if row.world == world], agents, films) for world in worlds]
    body = (
        f"<h1>{text(about['title'])}</h1>\n<p>{text(CAVEAT)}</p>\n<nav>{links}</nav>\n"
        + "\n".join(sections)
        + _origin(about, rows)
        + _definitions()
    )
    return page(about["title"], body, ["compare.css"], (), data)


def _world(rows: Sequence[Row], agents: Sequence[str], films: Films) -> str:
    world = rows[0].world
    count = max((row.puzzles for row in rows), default=0)
    puzzles = sorted({row.puzzles_sha256[:16] for row in rows if not row.absent})
    said = f"{count:,} puzzles, the same for all agents: the SHA-256 of what they were shown begins with"
    parts = [f'<section><h2 id="{slug(world)}">{text(world)}</h2>']
    parts.append(f'<p class="dim">{said} <code>{" and ".join(puzzles)}</code>.</p>' if puzzles else "")
    if any(not row.absent for row in rows):
        parts.append(scrolling(solved_chart(rows, agents), f"share solved in {world}"))
    parts.append(f"<h3>Figures</h3>{scrolling(_table(rows, agents), f'figures of {world}')}")
    curves = curves_chart(rows, agents)
    if curves is not None:
        parts.append(f"<h3>Learning curves</h3>{scrolling(curves, f'learning curves in {world}')}")
    lacking = [row.agent for row in rows for run in row.runs[:1] if run.weights is not None and run.curve is None]
    if lacking:
        parts.append(f'<p class="dim">No learning curve came with the weights of {text(", ".join(lacking))}.</p>')
    shown = [row for row in rows if (world, row.agent) in films]
    if shown:
        parts.append("<h3>The same puzzles, side by side</h3>" + _films(shown, films))
    return "\n".join(parts) + "</section>\n"


def _table(rows: Sequence[Row], agents: Sequence[str]) -> str:
    names = shown_columns(rows)
    head = "".join(f'<th scope="col" title="{text(DEFINITIONS[name])}">{text(name)}</th>' for name in names)
    lines = [_line_page(row, names, agents) for row in rows]
    return f'<table><thead><tr><th scope="col">agent</th>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'


def _line_page(row: Row, names: Sequence[str], agents: Sequence[str]) -> str:
    if row.absent:
        cells = f'<td class="words" colspan="{len(names)}"><span class="note">does not play here: '
        cells += f"{text(row.absent)}</span></td>"
    else:
        found = columns(row)
        cells = "".join(f"<td>{text(found[name][0])}{_small_page(found[name][1])}</td>" for name in names)
    mode = "" if row.absent else f"{row.mode} mode"
    return f'<tr><th scope="row">{_swatch(row, agents)}{text(row.agent)}{_small_page(mode)}</th>{cells}</tr>'


def _small_page(words: str) -> str:
    return f"<small>{text(words)}</small>" if words else ""


def _swatch(row: Row, agents: Sequence[str]) -> str:
    colour = colour_of(agents.index(row.agent))
    return f'<span class="swatch" style="background:var(--{colour})"></span>'


def _films(rows: Sequence[Row], films: Films) -> str:
    shown = []
    for row in rows:
        address = data_url(films[row.world, row.agent].read_bytes(), "image/gif")
        label = f"{row.agent} in {row.world}, {row.mode} mode"
        shown.append(
            f'<figure><img src="{address}" alt="Film: {text(label)}" loading="lazy">'
            f'<figcaption><strong>{text(row.agent)}</strong> <span class="dim">{text(row.mode)} mode</span>'
            "</figcaption></figure>"
        )
    return f'<div class="films">{"".join(shown)}</div>'


def _origin(about: Mapping[str, Any], rows: Sequence[Row]) -> str:
    facts = {"command": f"<code>{text(about['command'])}</code>"}
    facts |= {name: text(value) for name, value in about["facts"].items()}
    listed = "".join(f"<dt>{text(name)}</dt><dd>{value}</dd>" for name, value in facts.items())
    lines = [
        f'<tr><th scope="row">{text(row.agent)}{_small_page(row.world)}</th><td class="words">{text(origin(run))}</td>'
        f'<td class="hash mono" title="{text(run.fingerprint)}">{text(run.fingerprint[:16] or NONE)}</td>'
        f'<td class="words">{_command(run.training.command)}</td><td>{_seed(run.training.seed)}</td></tr>'
        for row in rows
        for run in row.runs
    ]
    kinds = {"weights": "words", "SHA-256": "", "trained with": "words", "training seed": ""}
    heads = "".join(f'<th scope="col" class="{kind}">{name}</th>' for name, kind in kinds.items())
    table = f'<table><thead><tr><th scope="col">agent</th>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    return (
        f'<section><h2 id="origin">Where the figures come from</h2><dl>{listed}</dl>'
        f"<p>The training columns are what the weights' own JSON and card say; the rest was measured by the command "
        f"above. The figures of every chunk of puzzles are in <code>parts/</code> beside this page, each with the "
        f"machine and the versions it was played on, all figures in <code>compare.json</code>.</p>"
        f"{scrolling(table, 'weights')}</section>\n"
    )


def _command(command: str | None) -> str:
    return f"<code>{text(command)}</code>" if command else NONE


def _seed(seed: int | None) -> str:
    return NONE if seed is None else str(seed)


def _definitions() -> str:
    listed = "".join(f"<dt>{text(name)}</dt><dd>{text(meaning)}</dd>" for name, meaning in DEFINITIONS.items())
    return (
        f"<section><h2>What the columns mean</h2><dl>{listed}</dl>"
        "<p>In brackets: 95 % intervals, Wilson's for rates and the bootstrap's for means; where an agent has several "
        "runs, a bootstrap over runs and puzzles.</p></section>"
    )
