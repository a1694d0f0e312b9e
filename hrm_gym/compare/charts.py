"""Figures and curves as SVG that takes the colours of the page it stands in, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

from hrm_gym.compare.rows import Row
from hrm_gym.compare.training import band
from hrm_gym.webpage import text

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
