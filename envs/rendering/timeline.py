"""Curves over segments, with axes, legend and marked events: one painter for panel, window, film and halting bank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import pygame

from hrm_gym.envs.puzzle import Thought
from hrm_gym.envs.rendering.colours import AMBER, CORAL, DIM, GROUND, MINT, PAPER, SLATE, Colour
from hrm_gym.envs.rendering.lettering import lettering

EVENTS = {"halts": MINT, "restarts": CORAL}
"""Colour of the line that marks an event of a thought."""

_SLOTS = 16
"""Segments that the axis has room for at first."""


class Curve(NamedTuple):
    """One line: its name, its colour, and its value after every segment (None where there is none)."""

    name: str
    colour: Colour
    values: Sequence[float | None]


class Scale(NamedTuple):
    """A vertical axis from `low` to `high`: the values that are marked, and whether steps are factors."""

    low: float
    high: float
    marks: tuple[float, ...]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """How far up a value lies, in [0, 1]."""
        if self.logarithmic:
            return self._share(math.log(max(value, self.low)), math.log(self.low), math.log(self.high))
        return self._share(value, self.low, self.high)

    @staticmethod
    def _share(value: float, low: float, high: float) -> float:
        return min(max((value - low) / (high - low), 0.0), 1.0)


PROBABILITY = Scale(0.0, 1.0, (0.0, 0.5, 1.0))
RESIDUAL = Scale(0.001, 1.0, (0.001, 0.03, 1.0), logarithmic=True)


def q_curves(thoughts: Sequence[Thought]) -> list[Curve]:
    """Q(halt) and Q(continue) of the thoughts; only those that the agent has."""
    curves = [
        Curve("Q(halt)", MINT, [one.q_halt for one in thoughts]),
        Curve("Q(continue)", AMBER, [one.q_continue for one in thoughts]),
    ]
    return [curve for curve in curves if any(value is not None for value in curve.values)]


def residual_curves(thoughts: Sequence[Thought]) -> list[Curve]:
    """How far the state of every module moved in each segment, of the thoughts that say so."""
    names = dict.fromkeys(name for one in thoughts for name, _ in one.residuals)
    return [
        Curve(name, colour, [dict(one.residuals).get(name) for one in thoughts])
        for name, colour in zip(names, (PAPER, DIM, SLATE), strict=False)
    ]


def slots_for(count: int, budget: int) -> int:
    """Segments that the axis has room for, when `count` were run of `budget`: 16, 32, 64, … or the budget.

    >>> [slots_for(*one) for one in ((3, 8), (3, 64), (17, 64), (40, 48), (20, 16))]
    [8, 16, 32, 48, 32]
    """
    slots = _SLOTS
    while slots < count:
        slots *= 2
    return min(slots, budget) if count <= budget else slots


def paint_timeline(
    frame: pygame.Surface,
    area: pygame.Rect,
    curves: Sequence[Curve],
    slots: int,
    scale: Scale = PROBABILITY,
    events: Sequence[str] = (),
    threshold: float | None = None,
    title: str = "",
) -> None:
    """Paint curves into `area` of `frame`: a legend with the newest values, the plot, and the numbers of segments.

    Args:
        frame: where to.
        area: at least 180 x 60 pixels.
        curves: at least one; segment k is value k - 1.
        slots: segments that the axis has room for.
        scale: of the vertical axis.
        events: after every segment "halts", "restarts" or "".
        threshold: a level that is marked.
        title: a word before the legend.
    """
    _paint_legend(frame, area, curves, scale, title)
    plot = pygame.Rect(area.left + 30, area.top + 22, area.width - 30, area.height - 22 - 18)
    pygame.draw.rect(frame, GROUND, plot)

    def height(value: float) -> int:
        return round(plot.bottom - 4 - (plot.height - 8) * scale.share(value))

    def place(segment: int) -> int:
        return round(plot.left + plot.width * (segment - 0.5) / slots)

    for value in scale.marks:
        pygame.draw.line(frame, SLATE, (plot.left, height(value)), (plot.right - 1, height(value)))
        words = lettering(f"{value:g}", 16, DIM)
        frame.blit(words, (plot.left - 5 - words.get_width(), height(value) - words.get_height() // 2))
    every = next(step for step in (1, 2, 4, 8, 16, 32, 64, 128, 256, 10**9) if slots / step <= 8)
    for segment in range(every, slots + 1, every):
        words = lettering(str(segment), 16, DIM)
        frame.blit(words, words.get_rect(midtop=(place(segment), plot.bottom + 3)))
    if threshold is not None:
        for x in range(plot.left, plot.right - 3, 8):
            pygame.draw.line(frame, DIM, (x, height(threshold)), (x + 3, height(threshold)))
    _paint_events(frame, plot, [(place(segment), event) for segment, event in enumerate(events, 1) if event])
    for curve in reversed(curves):
        points = [(place(k), height(value)) for k, value in enumerate(curve.values, 1) if value is not None]
        if len(points) > 1:
            pygame.draw.lines(frame, curve.colour, False, points, 2)
        for point in points if slots <= 2 * _SLOTS else points[-1:]:
            pygame.draw.circle(frame, curve.colour, point, 3)


def _paint_legend(frame: pygame.Surface, area: pygame.Rect, curves: Sequence[Curve], scale: Scale, title: str) -> None:
    """The title, then the name of every curve with its newest value, along the top of `area`."""
    x = area.left
    if title:
        words = lettering(title, 18, DIM)
        frame.blit(words, (x, area.top))
        x += words.get_width() + 10
    for curve in curves:
        now = next((value for value in reversed(curve.values) if value is not None), None)
        shown = "" if now is None else f" {now:.2g}" if scale.logarithmic else f" {now:.2f}"
        words = lettering(curve.name + shown, 18, PAPER)
        pygame.draw.circle(frame, curve.colour, (x + 4, area.top + 7), 4)
        frame.blit(words, (x + 12, area.top))
        x += 12 + words.get_width() + 12


def _paint_events(frame: pygame.Surface, plot: pygame.Rect, happened: Sequence[tuple[int, str]]) -> None:
    """A line at every event (its x, its name), and the name next to it where there is room."""
    for x, event in happened:
        pygame.draw.line(frame, EVENTS[event], (x, plot.top), (x, plot.bottom - 1), 2)
    free = plot.left
    for (x, event), (following, _) in zip(happened, [*happened[1:], (plot.right + 99, "")], strict=False):
        words = lettering(event, 16, EVENTS[event])
        right = x + 5 + words.get_width()
        left = x + 5 if right < min(plot.right, following) else x - 4 - words.get_width()
        if left >= free:  # no word over another, or over a line
            pygame.draw.rect(frame, GROUND, (left, plot.top + 7, words.get_width(), words.get_height()))
            frame.blit(words, (left, plot.top + 7))
        free = max(x, left + words.get_width()) + 2
