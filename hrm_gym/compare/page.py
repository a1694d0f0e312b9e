"""A comparison as one HTML page that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hrm_gym.compare.charts import colour_of, curves_chart, solved_chart
from hrm_gym.compare.rows import DEFINITIONS, Row
from hrm_gym.compare.text import CAVEAT, NONE, columns, origin, shown_columns
from hrm_gym.webpage import data_url, page, scrolling, slug, text

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
    lines = [_line(row, names, agents) for row in rows]
    return f'<table><thead><tr><th scope="col">agent</th>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'


def _line(row: Row, names: Sequence[str], agents: Sequence[str]) -> str:
    if row.absent:
        cells = f'<td class="words" colspan="{len(names)}"><span class="note">does not play here: '
        cells += f"{text(row.absent)}</span></td>"
    else:
        found = columns(row)
        cells = "".join(f"<td>{text(found[name][0])}{_small(found[name][1])}</td>" for name in names)
    mode = "" if row.absent else f"{row.mode} mode"
    return f'<tr><th scope="row">{_swatch(row, agents)}{text(row.agent)}{_small(mode)}</th>{cells}</tr>'


def _small(words: str) -> str:
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
        f'<tr><th scope="row">{text(row.agent)}{_small(row.world)}</th><td class="words">{text(origin(run))}</td>'
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
