"""The learning curves of runs, read from their folders and drawn in one picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hrm_gym.agents.hrm.run_folder import CURVE
from hrm_gym.evaluation.plots import CYCLE, legend, line, new_figure, save, shares
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
    curves = {name: rows for name, run in runs.items() if (rows := curve_of(run, (*AXES, figure)))}
    picture, (both,) = new_figure((8.4, 3.4), f"held-out puzzles {figure}", columns=2)
    for axes, (axis, label) in zip(both, AXES.items(), strict=True):
        for number, (name, rows) in enumerate(curves.items()):
            colour = CYCLE[number % len(CYCLE)]
            line(axes, [row[axis] for row in rows], [row[figure] for row in rows], colour, name, ".-")
        if len(curves) > 1:
            axes.plot(*mean_curve(list(curves.values()), axis, figure), color="black", label="mean")
        axes.set(xlabel=label, ylabel=figure)
        shares(axes)
    if curves:
        legend(picture)
    return save(picture, path)


def mean_curve(curves: list[list[dict[str, Any]]], axis: str, figure: str) -> tuple[Any, Any]:
    """The mean of several curves where all of them have got to, each interpolated linearly between evaluations."""
    end = min(rows[-1][axis] for rows in curves)
    start = max(rows[0][axis] for rows in curves)
    at = np.linspace(start, max(start, end), 50)
    values = [np.interp(at, [row[axis] for row in rows], [row[figure] for row in rows]) for rows in curves]
    return at, np.mean(values, axis=0)
