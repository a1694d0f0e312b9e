"""Interleaved benchmarks: contestants run in turns, and the median of a contestant's turns is reported."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

Turn = Callable[[float], float]
"""Works for about that number of seconds and returns its rate (or, for things that are done once, how long it took)."""


@dataclass(frozen=True)
class Contest:
    """What is to be compared.

    Attributes:
        title: what the figures are.
        turns: contestants by name.
        base: the contestant that ratios are taken to, None for no ratios.
    """

    title: str
    turns: dict[str, Turn]
    base: str | None = None


@dataclass(frozen=True)
class Row:
    """One contestant's figures.

    Attributes:
        name: the contestant.
        median: of its turns.
        low: its lowest turn.
        high: its highest turn.
        ratio: median of its turns over the base's turns of the same rounds; None for the base and without one.
    """

    name: str
    median: float
    low: float
    high: float
    ratio: float | None


@dataclass(frozen=True)
class Result:
    """The figures of a contest.

    Attributes:
        title: what they are.
        base: the contestant that ratios are taken to.
        rows: one a contestant.
    """

    title: str
    base: str | None
    rows: list[Row]


def race(contest: Contest, rounds: int, seconds: float) -> Result:
    """Let the contestants take turns, after a short turn each to warm up.

    Args:
        contest: who takes part.
        rounds: turns of each.
        seconds: length of a turn.
    """
    for turn in contest.turns.values():
        turn(0.2 * seconds)
    rates: dict[str, list[float]] = {name: [] for name in contest.turns}
    for _ in range(rounds):
        for name, turn in contest.turns.items():
            rates[name].append(turn(seconds))
    base = rates.get(contest.base or "")
    rows = []
    for name, found in rates.items():
        others = base if base is not None and name != contest.base else None
        ratio = None if others is None else statistics.median(a / b for a, b in zip(found, others, strict=True))
        rows.append(Row(name, statistics.median(found), min(found), max(found), ratio))
    return Result(contest.title, contest.base, rows)
