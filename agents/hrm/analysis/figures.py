"""The studies as pictures, in the one style of all plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.agents.hrm.analysis.answers import Answers
from hrm_gym.agents.hrm.analysis.segments import Point, ScalingStudy, SegmentStudy
from hrm_gym.agents.hrm.analysis.states import ConvergenceStudy, DimensionalityStudy, Network
from hrm_gym.evaluation.pages import plot_text
from hrm_gym.evaluation.plots import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    doubling,
    heading,
    legend,
    level,
    line,
    new_figure,
    save,
    shares,
)


def draw_segments(study: SegmentStudy, path: Path) -> None:
    """Write a picture of segments (left) and of the share solved (right) against difficulty.

    Raises:
        OSError: if it cannot be written.
    """
    correlation = "" if study.correlation is None else f"; Spearman correlation {study.correlation:+.2f}"
    title = f"{study.agent} on {study.env}, {study.puzzles:,} puzzles{correlation}"
    figure, ((left, right),) = new_figure((8.4, 3.2), title, columns=2)
    middle = [(one.low + one.high) / 2 for one in study.bins]
    for axes, name, colour in ((left, "segments", BLUE), (right, "solved", ORANGE)):
        values, low, high = ([getattr(one, name + end) for one in study.bins] for end in ("", "_low", "_high"))
        line(axes, middle, values, colour, bounds=list(zip(low, high, strict=True)))
    left.set(ylabel="segments used", ylim=(0, None))
    right.set(ylabel="solved")
    shares(right)
    for axes in (left, right):
        axes.set_xlabel(plot_text(f"difficulty: {study.unit}"))
    save(figure, path)


def draw_scaling(study: ScalingStudy, path: Path) -> None:
    """Write a picture of three axes: segments spent, and share solved, against the limit; and one against the other.

    Raises:
        OSError: if it cannot be written.
    """
    title = f"{study.agent} on {study.env}, {study.puzzles:,} puzzles"
    figure, ((spent, solved, plane),) = new_figure((10.5, 3.8), title, columns=3)
    limits = [point.limit for point in study.fixed]
    for points, colour, form, label in (
        (study.fixed, BLUE, "o-", "always that many segments"),
        (study.learned, ORANGE, "s--", "halts by its own decision"),
    ):
        line(spent, limits, [point.segments for point in points], colour, label, form)
        for axes, x in ((solved, limits), (plane, [point.segments for point in points])):
            _shares(axes, x, points, colour, label, form)
    for point, mark, colour in zip(
        study.rules, "^vDPX*" * len(study.rules), (GREEN, PURPLE, RED, GREY) * 9, strict=False
    ):
        line(plane, [point.segments], [point.solved], colour, point.rule, mark)
    if study.trained:
        for axes in (spent, solved):
            level(axes, study.trained, f"limit in training: {study.trained}", upright=True)
    for axes in (solved, plane):
        level(axes, study.ever, "right after some segment")
        shares(axes)
    for axes in (spent, solved):
        doubling(axes, limits)
        axes.set_xlabel("segments at most")
    spent.set(ylabel="mean segments spent", ylim=(0, None))
    solved.set_ylabel("solved")
    doubling(plane)
    plane.set(xlabel="mean segments spent", ylabel="solved")
    legend(figure, 4)
    save(figure, path)


def _shares(axes: Any, x: Sequence[float], points: Sequence[Point], colour: str, label: str, form: str) -> None:
    bounds = [(point.solved_low, point.solved_high) for point in points]
    line(axes, x, [point.solved for point in points], colour, label, form, bounds)


_COLOURS = {"L-level": BLUE, "H-level": ORANGE, "recurrent state": GREEN, "layers": PURPLE}


def draw_convergence(study: ConvergenceStudy, path: Path) -> None:
    """Write a picture of the forward residuals, a row a network.

    Raises:
        OSError: if it cannot be written.
    """
    rows = len(study.networks)
    title = f"how far each update still moves a state: {study.env}, {study.puzzles:,} puzzles"
    figure, axes = new_figure((8.4, 2.3 * rows + 1.0), title, rows=rows)
    for one, network in zip(axes[:, 0], study.networks, strict=True):
        _residuals(one, network)
    legend(figure, 5)
    save(figure, path)


def _residuals(axes: Any, network: Network) -> None:
    for trace in network.traces:
        line(axes, trace.calls, trace.residuals, _COLOURS.get(trace.level, GREY), trace.level, ".-")
    last = max(trace.calls[-1] for trace in network.traces)
    if network.kind != "deep":
        for boundary in range(network.calls, last, network.calls):
            axes.axvline(boundary + 0.5, color=GREY, linewidth=0.4, alpha=0.6)
    what = "layer" if network.kind == "deep" else "update (thin lines: ends of segments)"
    axes.set(xlabel=what, ylabel="residual", ylim=(0, None))
    heading(axes, ": ".join(part for part in (network.name, network.kind) if part))


def draw_dimensionality(study: DimensionalityStudy, path: Path) -> None:
    """Write a picture of the participation ratios (left) and of their quotient (right) against the number of puzzles.

    Raises:
        OSError: if it cannot be written.
    """
    title = f"{study.agent} on {study.env}: participation ratio, of {study.hidden} dimensions"
    figure, ((left, right),) = new_figure((8.4, 3.6), title, columns=2)
    counts = [row.puzzles for row in study.trained]
    for rows, form, name in ((study.trained, "o-", "trained"), (study.untrained, "s--", "untrained")):
        line(left, counts, [row.high for row in rows], ORANGE, f"H-level, {name}", form)
        line(left, counts, [row.low for row in rows], BLUE, f"L-level, {name}", form)
        line(right, counts, [row.ratio for row in rows], GREEN, f"H / L, {name}", form)
    level(right, 1, "both levels equal")
    for axes, what in ((left, "participation ratio"), (right, "H-level / L-level")):
        doubling(axes, counts)
        axes.set(xlabel="puzzles", ylabel=what, ylim=(0, None))
    legend(figure, 4)
    save(figure, path)


def draw_answers(
    courses: Sequence[Answers],
    pictures: Sequence[Sequence[NDArray[np.uint8]]],
    shown: Sequence[int],
    title: str,
    path: Path,
) -> None:
    """Write the (height, width, 3) pictures, a row a puzzle and a column for each moment of `shown`.

    Args:
        courses: one a puzzle.
        pictures: of each, one a moment shown.
        shown: places in the course, from 0.
        title: above all.
        path: of the picture.

    Raises:
        OSError: if it cannot be written.
    """
    height, width = pictures[0][0].shape[:2]
    across = (1.75 if len(shown) < 7 else 1.4) if height > 0.8 * width else 2.6  # wide boards are more than a grid
    size = (across * len(shown) + 0.4, (across * height / width + 0.5) * len(courses) + 0.4)
    figure, axes = new_figure(size, title, len(courses), len(shown))
    for row, (course, some) in enumerate(zip(courses, pictures, strict=True)):
        last = course.moments[-1].segment
        end = f"halts after {course.halts}" if course.halts else f"no halt within {last}"
        axes[row, 0].set_ylabel(plot_text(f"{course.puzzle}: {end}", 40), fontsize=7)
        for column, (place, picture) in enumerate(zip(shown, some, strict=True)):
            one = axes[row, column]
            one.imshow(picture, interpolation="antialiased")
            one.set(xticks=[], yticks=[])
            one.grid(False)
            moment = course.moments[place]
            state = "solved" if course.solved[place] else f"{course.wrong[place]} wrong"
            one.set_title(f"{moment}: {state}\nQ(halt) {course.q_halt[place]:.2f}", fontsize=7)
            halted = course.halts is not None and course.halts <= moment.segment
            one.spines[:].set(visible=True, color=ORANGE if halted else GREY, linewidth=2.2 if halted else 0.5)
    save(figure, path)


def draw_curve(rows: Sequence[Mapping[str, float]], name: str, path: Path) -> None:
    """Write a picture: shares of held-out and of training puzzles above, segments below, against updates.

    Raises:
        OSError: if it cannot be written.
    """
    title = f"{name}: {rows[-1]['update']:,} updates, {rows[-1]['fed']:,} puzzles seen"
    figure, ((above,), (below,)) = new_figure((7, 4.8), title, rows=2, sharex=True, height_ratios=(2, 1))
    updates = [row["update"] for row in rows]
    line(above, updates, [row["eval_exact"] for row in rows], BLUE, "held-out, exact")
    if any(row["eval_solved"] != row["eval_exact"] for row in rows):
        line(above, updates, [row["eval_solved"] for row in rows], ORANGE, "held-out, solved", "o--")
    line(above, updates, [row["exact"] for row in rows], GREY, "in training, exact when halted", ".:")
    shares(above)
    line(below, updates, [row["eval_segments"] for row in rows], BLUE)
    below.set(xlabel="update", ylabel="segments, held-out", ylim=(0, 1.1 * max(row["eval_segments"] for row in rows)))
    legend(figure)
    save(figure, path)
