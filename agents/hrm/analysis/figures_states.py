"""The studies of the levels' states as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hrm_gym.agents.hrm.analysis.convergence import ConvergenceStudy, Network
from hrm_gym.agents.hrm.analysis.dimensionality import DimensionalityStudy
from hrm_gym.agents.hrm.analysis.figures import BLUE, GREY, ORANGE, new_figure, plain, save

_COLOURS = {"L-level": BLUE, "H-level": ORANGE}


def draw_convergence(study: ConvergenceStudy, path: Path) -> None:
    """Write a picture of the forward residuals, a row a network.

    Raises:
        OSError: if it cannot be written.
    """
    rows = len(study.networks)
    figure = new_figure((8, 2.6 * rows + 0.6), f"forward residuals on {study.env}, {study.puzzles:,} puzzles")
    for one, network in zip(figure.subplots(rows, 1, squeeze=False)[:, 0], study.networks, strict=True):
        _residuals(plain(one), network)
    save(figure, path)


def _residuals(axes: Any, network: Network) -> None:
    for trace in network.traces:
        colour = _COLOURS.get(trace.level, GREY)
        axes.plot(trace.calls, trace.residuals, ".-", color=colour, label=trace.level, linewidth=1, markersize=5)
    last = max(trace.calls[-1] for trace in network.traces)
    if network.kind != "deep":
        for boundary in range(network.calls, last, network.calls):
            axes.axvline(boundary + 0.5, color=GREY, linewidth=0.4, alpha=0.6)
    what = "layer" if network.kind == "deep" else "update (thin lines: ends of segments)"
    axes.set(xlabel=what, ylabel="residual", ylim=(0, None), title=f"{network.name}: {network.kind}")
    axes.legend(fontsize=8, frameon=False)


def draw_dimensionality(study: DimensionalityStudy, path: Path) -> None:
    """Write a picture of the participation ratios against the number of puzzles.

    Raises:
        OSError: if it cannot be written.
    """
    title = f"{study.agent} on {study.env}: participation ratio, of {study.hidden} dimensions"
    figure = new_figure((7, 4.4), title)
    axes = plain(figure.subplots())
    for rows, style, name in ((study.trained, "o-", "trained"), (study.untrained, "s--", "untrained")):
        counts = [row.puzzles for row in rows]
        axes.plot(counts, [row.high for row in rows], style, color=ORANGE, label=f"H-level, {name}")
        axes.plot(counts, [row.low for row in rows], style, color=BLUE, label=f"L-level, {name}")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set(xlabel="puzzles", ylabel="participation ratio", ylim=(0, None))
    axes.legend(fontsize=8, frameon=False)
    save(figure, path)
