"""The studies as pictures, drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hrm_gym.agents.hrm.analysis.answers import Answers
from hrm_gym.agents.hrm.analysis.segments import Point, ScalingStudy, SegmentStudy
from hrm_gym.agents.hrm.analysis.states import ConvergenceStudy, DimensionalityStudy, Network
from hrm_gym.evaluation.pages import plot_text

BLUE, ORANGE, GREY = "#2563eb", "#d97706", "#6b7280"


def draw_segments(study: SegmentStudy, path: Path) -> None:
    """Write a picture of segments (above) and of the share solved (below) against difficulty.

    Raises:
        OSError: if it cannot be written.
    """
    figure, (above, below) = _figure(2, f"{study.agent} on {study.env}, {study.puzzles:,} puzzles")
    middle = [(one.low + one.high) / 2 for one in study.bins]
    width = [(one.high - one.low) / 2 for one in study.bins]
    bars = _bars([(b.segments, b.segments_low, b.segments_high) for b in study.bins])
    above.errorbar(middle, [b.segments for b in study.bins], yerr=bars, xerr=width, fmt="o-", color=BLUE, capsize=3)
    said = "" if study.correlation is None else f"Spearman {study.correlation:+.2f}"
    above.set(ylabel="segments used", title=said, ylim=(0, None))
    bars = _bars([(b.solved, b.solved_low, b.solved_high) for b in study.bins])
    below.errorbar(middle, [b.solved for b in study.bins], yerr=bars, xerr=width, fmt="o-", color=ORANGE, capsize=3)
    below.set(ylabel="solved", xlabel=plot_text(f"difficulty: {study.unit}"), ylim=(0, 1.02))
    save(figure, path)


def draw_scaling(study: ScalingStudy, path: Path) -> None:
    """Write a picture of the share solved against mean segments, on a logarithmic scale.

    Raises:
        OSError: if it cannot be written.
    """
    figure, (axes,) = _figure(1, f"{study.agent} on {study.env}, {study.puzzles:,} puzzles")
    _curve(axes, study.fixed, "o-", BLUE, "fixed budgets")
    _curve(axes, study.learned, "s--", ORANGE, "its own halting (Q-head), by limit")
    for one in study.rules:
        _curve(axes, (one,), "^", GREY, "")
        axes.annotate(
            plot_text(one.rule), (one.segments, one.solved), xytext=(5, -11), textcoords="offset points", fontsize=7
        )
    axes.axhline(study.ever, color=GREY, linewidth=0.8, linestyle=":", label="right after some segment")
    if study.trained:
        axes.axvline(study.trained, color=GREY, linewidth=0.8, label=f"limit in training: {study.trained}")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set(xlabel="mean segments", ylabel="solved")
    axes.legend(fontsize=8, frameon=False)
    save(figure, path)


def new_figure(size: tuple[float, float], title: str) -> Figure:
    """An empty figure of (width, height) inches."""
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(plot_text(title, 160))
    return figure


def plain(axes: Any) -> Any:
    """The same axes with a faint grid and no frame above and to the right."""
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _figure(rows: int, title: str) -> tuple[Figure, tuple[Any, ...]]:
    figure = new_figure((7, 3.4 * rows if rows > 1 else 4.6), title)
    return figure, tuple(plain(one) for one in figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0])


def _curve(axes: Any, points: tuple[Point, ...], style: str, colour: str, label: str) -> None:
    bars = _bars([(p.solved, p.solved_low, p.solved_high) for p in points])
    x, y = [p.segments for p in points], [p.solved for p in points]
    axes.errorbar(x, y, yerr=bars, fmt=style, color=colour, capsize=2, markersize=4, label=label or None)


def _bars(values: list[tuple[float, float, float]]) -> Any:
    """(2, N) lengths of error bars from (value, low, high)."""
    value, low, high = np.array(values, dtype=np.float64).T
    return np.maximum(0, np.stack([value - low, high - value]))


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG.

    Raises:
        OSError: if it cannot be written.
    """
    figure.savefig(path, dpi=130, format="png")


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
    axes.set(xlabel=what, ylabel="residual", ylim=(0, None), title=plot_text(f"{network.name}: {network.kind}"))
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


def draw_answers(
    courses: Sequence[Answers],
    pictures: Sequence[Sequence[NDArray[np.uint8]]],
    shown: Sequence[int],
    title: str,
    path: Path,
) -> None:
    """Write the (height, width, 3) pictures, a row a puzzle and a column for each segment of `shown`.

    Raises:
        OSError: if it cannot be written.
    """
    figure = new_figure((2.1 * len(shown), 2.55 * len(courses) + 0.5), title)
    axes: Any = figure.subplots(len(courses), len(shown), squeeze=False)
    for row, (course, some) in enumerate(zip(courses, pictures, strict=True)):
        for column, (segment, picture) in enumerate(zip(shown, some, strict=True)):
            one = axes[row, column]
            one.imshow(picture, interpolation="antialiased")
            one.set(xticks=[], yticks=[])
            state = "solved" if course.solved[segment - 1] else f"{course.wrong[segment - 1]} cells wrong"
            one.set_title(f"segment {segment}: {state}\nQ(halt) {course.q_halt[segment - 1]:.2f}", fontsize=7)
            halted = course.halts is not None and course.halts <= segment
            for spine in one.spines.values():
                spine.set(color=BLUE if halted else GREY, linewidth=2.5 if halted else 0.5)
    figure.supxlabel("blue frame: the agent has halted by then", fontsize=8)
    save(figure, path)


def draw_curve(rows: Sequence[Mapping[str, float]], name: str, path: Path) -> None:
    """Write a picture: shares of held-out and of training puzzles above, segments below, against updates.

    Raises:
        OSError: if it cannot be written.
    """
    figure = new_figure((7, 5.6), f"{name}: {rows[-1]['update']:,} updates, {rows[-1]['fed']:,} puzzles seen")
    above, below = (plain(one) for one in figure.subplots(2, 1, sharex=True, height_ratios=(2, 1)))
    updates = [row["update"] for row in rows]
    above.plot(updates, [row["eval_exact"] for row in rows], "o-", color=BLUE, label="held-out, exact")
    if any(row["eval_solved"] != row["eval_exact"] for row in rows):
        above.plot(updates, [row["eval_solved"] for row in rows], "o--", color=ORANGE, label="held-out, solved")
    above.plot(updates, [row["exact"] for row in rows], ".:", color=GREY, label="in training, exact when halted")
    above.set(ylabel="share", ylim=(0, 1.02))
    above.legend(fontsize=8, frameon=False, loc="lower right")
    below.plot(updates, [row["eval_segments"] for row in rows], "o-", color=BLUE)
    below.set(xlabel="update", ylabel="segments, held-out", ylim=(0, 1.1 * max(row["eval_segments"] for row in rows)))
    save(figure, path)
