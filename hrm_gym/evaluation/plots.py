"""The one style of all plots: colours, axes, legends outside of the data, small files. Drawn without a display."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.evaluation.films import in_palette, palette_of
from hrm_gym.evaluation.pages import plot_text
from hrm_gym.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#2563eb", "#d97706", "#059669", "#dc2626", "#a21caf", "#6b7280"
"""The first two are the L-level and the H-level, or a fixed rule and the network's own decision."""

CYCLE = (BLUE, ORANGE, GREEN, PURPLE, RED, GREY)
DPI = 110
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def new_figure(
    size: tuple[float, float], title: str, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, NDArray[Any]]:
    """A figure of (width, height) inches and its (rows, columns) axes.

    Args:
        size: inches.
        title: above all axes.
        rows: of axes.
        columns: of axes.
        **options: of `Figure.subplots`, such as sharex.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.rcsetup import cycler

    with matplotlib.rc_context({**_STYLE, "axes.prop_cycle": cycler(color=CYCLE)}):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(plot_text(title, 160), fontsize=10, x=0.01, ha="left")
        axes: NDArray[Any] = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, axes


def line(
    axes: Any,
    x: Sequence[float],
    y: Sequence[float],
    colour: str,
    label: str | None = None,
    form: str = "o-",
    bounds: Sequence[tuple[float, float]] | None = None,
) -> None:
    """A curve with its points.

    Args:
        axes: to draw on.
        x: places.
        y: values.
        colour: of curve and points.
        label: in the legend; None leaves it out.
        form: of points and line, as matplotlib writes it.
        bounds: (low, high) of every value, drawn as error bars.
    """
    spread = None if bounds is None else bars([(value, *both) for value, both in zip(y, bounds, strict=True)])
    name = None if label is None else plot_text(label)
    options: dict[str, Any] = {"color": colour, "label": name, "markersize": 4, "linewidth": 1.4}
    axes.errorbar(x, y, yerr=spread, fmt=form, capsize=2, elinewidth=0.9, **options)


def level(axes: Any, value: float, label: str, colour: str = GREY, upright: bool = False) -> None:
    """A thin dotted line across, or upright, at a value."""
    draw = axes.axvline if upright else axes.axhline
    draw(value, color=colour, linewidth=1, linestyle="--" if upright else ":", label=plot_text(label))


def legend(figure: Figure, columns: int = 3) -> None:
    """One legend below all axes, where no line is; a label that several axes share stands there once."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.legend(found.values(), found.keys(), loc="outside lower left", ncols=columns, fontsize=8, frameon=False)


def heading(axes: Any, text: str) -> None:
    """A title above one of several axes."""
    axes.set_title(plot_text(text), fontsize=9)


def doubling(axes: Any, marks: Sequence[float] = ()) -> None:
    """A logarithmic x-axis of base 2 with plain numbers; `marks` are the ones shown."""
    axes.set_xscale("log", base=2)
    if marks:
        axes.set_xticks(list(marks), [f"{mark:g}" for mark in marks])
    else:
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def shares(axes: Any) -> None:
    """A y-axis of shares, 0 to 100 %."""
    axes.set_ylim(-0.02, 1.04)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")


def bars(values: Sequence[tuple[float, float, float]]) -> NDArray[np.float64]:
    """(2, N) lengths of error bars from (value, low, high)."""
    value, low, high = np.array(values, dtype=np.float64).reshape(-1, 3).T
    return np.maximum(0, np.stack([value - low, high - value]))


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as a PNG of few colours, atomically; returns `path`.

    Raises:
        OSError: if it cannot be written.
    """
    from PIL import Image

    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI, format="png")
    image = np.asarray(Image.open(drawn).convert("RGB"))
    packed = io.BytesIO()
    in_palette(image, palette_of([image])).save(packed, format="png", optimize=True)
    write_atomically(path, packed.getvalue())
    return path
