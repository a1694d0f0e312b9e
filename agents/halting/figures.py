"""The comparison of halting rules as a picture, drawn without a display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hrm_gym.agents.halting.comparison import CurvePoint, Entry, HaltingStudy, Interval, Kind

LABELS: dict[Kind, str] = {
    "q": "Q-head, as trained",
    "q_tuned": "Q-head, margin tuned",
    "fixed": "fixed budget",
    "confidence": "confidence threshold",
    "dqn": "DQN",
    "ppo": "PPO",
    "oracle": "oracle",
}
"""What every kind of rule is called."""

_COLOURS: dict[Kind, str] = {
    "q": "#111827",
    "q_tuned": "#6b7280",
    "fixed": "#2563eb",
    "confidence": "#d97706",
    "dqn": "#059669",
    "ppo": "#c026d3",
    "oracle": "#dc2626",
}
_MARKS: dict[Kind, str] = {"q": "*", "dqn": "o", "ppo": "s", "oracle": "^"}


def draw(study: HaltingStudy, title: str, path: Path) -> None:
    """Write a picture: accuracy against mean segments, and for each cost the gain over the Q-head.

    Raises:
        OSError: if it cannot be written.
    """
    figure = Figure(figsize=(12.5, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    for one in (left, right):
        one.grid(alpha=0.25)
        one.spines[["top", "right"]].set_visible(False)
    _plane(left, study)
    _gains(right, study)
    figure.savefig(path, dpi=130, format="png")


def _plane(axes: Any, study: HaltingStudy) -> None:
    """Accuracy against mean segments: curves of thresholds, points of the rules that know a cost."""
    for kind, points in study.curves.items():
        _curve(axes, kind, points if kind == "fixed" else envelope(points))
    q = _entry(study, "q", 0)
    axes.plot(q.segments, q.solved.value, "*", color=_COLOURS["q"], markersize=15, label=LABELS["q"], zorder=5)
    for kind in ("dqn", "ppo", "oracle"):
        entries = [one for k in range(len(study.costs)) if (one := _found(study, kind, k)) is not None]
        if entries:
            _points(axes, kind, entries)
    axes.axhline(study.ever, color="#9ca3af", linewidth=0.8, linestyle=":", label="right after some segment")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    shown = [one for at in study.costs for one in at.entries if one.kind != "fixed"]
    axes.set_xlim(left=0.85 * min(one.segments for one in shown), right=1.1 * study.segments)
    axes.set_ylim(min(one.solved.low for one in shown) - 0.06, study.ever + 0.03)
    axes.set(xlabel="mean segments", ylabel="solved")
    axes.legend(fontsize=8, frameon=False, loc="lower right")


def envelope(points: Sequence[CurvePoint]) -> list[CurvePoint]:
    """The points that no point with fewer segments beats, from few segments to many."""
    kept: list[CurvePoint] = []
    for point in sorted(points, key=lambda one: (one.segments, -one.solved.value)):
        if not kept or point.solved.value > kept[-1].solved.value:
            kept.append(point)
    return kept


def _curve(axes: Any, kind: Kind, points: Sequence[CurvePoint]) -> None:
    x, y = [point.segments for point in points], [point.solved.value for point in points]
    colour, style = _COLOURS[kind], "o-" if kind == "fixed" else "-"
    axes.plot(x, y, style, color=colour, markersize=3, linewidth=1.3, label=LABELS[kind])
    axes.fill_between(
        x, [p.solved.low for p in points], [p.solved.high for p in points], color=colour, alpha=0.1, linewidth=0
    )


def _points(axes: Any, kind: Kind, entries: Sequence[Entry]) -> None:
    bars = _bars([entry.solved for entry in entries])
    x, y = [entry.segments for entry in entries], [entry.solved.value for entry in entries]
    options = {"color": _COLOURS[kind], "capsize": 2, "markersize": 5, "linewidth": 0.8, "zorder": 4}
    axes.errorbar(x, y, yerr=bars, fmt=_MARKS[kind], label=f"{LABELS[kind]}, a point a cost", **options)


def _gains(axes: Any, study: HaltingStudy) -> None:
    """Return less that of the Q-head, a group of points a cost."""
    kinds = [entry.kind for entry in study.costs[0].entries if entry.kind not in ("q", "oracle")]
    for place, kind in enumerate(kinds):
        shift = 0.12 * (place - (len(kinds) - 1) / 2)
        gains = [_entry(study, kind, k).gain for k in range(len(study.costs))]
        x = np.arange(len(gains)) + shift
        axes.errorbar(
            x, [gain.value for gain in gains], yerr=_bars(gains), fmt="o", color=_COLOURS[kind], capsize=3,
            markersize=5, label=LABELS[kind],
        )  # fmt: skip
    axes.axhline(0, color=_COLOURS["q"], linewidth=1)
    axes.set_xticks(range(len(study.costs)), [f"{at.cost:g}" for at in study.costs])
    axes.set(xlabel="cost of a segment", ylabel="mean return minus that of the Q-head")
    axes.legend(fontsize=8, frameon=False, loc="best")


def _found(study: HaltingStudy, kind: Kind, k: int) -> Entry | None:
    return next((entry for entry in study.costs[k].entries if entry.kind == kind), None)


def _entry(study: HaltingStudy, kind: Kind, k: int) -> Entry:
    found = _found(study, kind, k)
    assert found is not None
    return found


def _bars(values: Sequence[Interval]) -> Any:
    """(2, N) lengths of error bars."""
    return np.maximum(0, np.array([(one.value - one.low, one.high - one.value) for one in values]).T)
