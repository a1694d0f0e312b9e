"""The learning curves of runs, read from their folders and drawn in one picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hrm_gym.agents.hrm.run_folder import CURVE
from hrm_gym.evaluation.pages import plot_text
from hrm_gym.files import written_atomically
from hrm_gym.reading import read_curve

AXES = {"timesteps": "environment steps", "processor_seconds": "seconds of one processor core"}


def curve_of(run: Path, needed: Iterable[str] = ()) -> list[dict[str, float]]:
    """The evaluations of a run, oldest first; none if it has not got that far."""
    return read_curve(run / CURVE, needed) if (run / CURVE).exists() else []


def draw_curves(runs: Mapping[str, Path], path: Path, figure: str = "solved") -> Path:
    """Draw the share of held-out puzzles `figure` ("solved", "exact", "reached") of every run, and their mean.

    Args:
        runs: folders of runs by the name that the legend gives them; those of one recipe with several seeds.
        path: of the picture.
        figure: what is drawn.

    Returns:
        `path`.
    """
    from matplotlib.figure import Figure

    curves = {name: rows for name, run in runs.items() if (rows := curve_of(run, (*AXES, figure)))}
    picture = Figure(figsize=(10, 4), layout="constrained")
    for place, (axis, label) in enumerate(AXES.items()):
        axes = picture.add_subplot(1, 2, place + 1)
        for name, rows in curves.items():
            axes.plot([row[axis] for row in rows], [row[figure] for row in rows], alpha=0.6, label=plot_text(name))
        if len(curves) > 1:
            axes.plot(*mean_curve(list(curves.values()), axis, figure), color="black", label="mean")
        axes.set(xlabel=label, ylabel=f"held-out puzzles {figure}", ylim=(-0.02, 1.02))
        axes.grid(alpha=0.3)
    if curves:
        axes.legend()
    with written_atomically(path) as draft:
        picture.savefig(draft, dpi=120)
    return path


def mean_curve(curves: list[list[dict[str, Any]]], axis: str, figure: str) -> tuple[Any, Any]:
    """The mean of several curves where all of them have got to, each interpolated linearly between evaluations."""
    end = min(rows[-1][axis] for rows in curves)
    start = max(rows[0][axis] for rows in curves)
    at = np.linspace(start, max(start, end), 50)
    values = [np.interp(at, [row[axis] for row in rows], [row[figure] for row in rows]) for rows in curves]
    return at, np.mean(values, axis=0)
