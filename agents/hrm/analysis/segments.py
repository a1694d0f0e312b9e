"""System 1 and System 2: does an agent think longer about harder puzzles?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from hrm_gym.envs.puzzle import PuzzleFamily
from hrm_gym.episode import Episode
from hrm_gym.report import wilson

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Bin:
    """Puzzles of about one difficulty. `_low` and `_high` bound 95 % intervals (Wilson for shares, normal for means).

    Attributes:
        low: the least difficulty in it.
        high: the greatest.
        puzzles: how many, at least 1.
        solved: share solved.
        segments: mean segments used.
        spent: mean segments of all networks and images together.
    """

    low: float
    high: float
    puzzles: int
    solved: float
    solved_low: float
    solved_high: float
    segments: float
    segments_low: float
    segments_high: float
    spent: float


@dataclass(frozen=True)
class SegmentStudy:
    """Segments against difficulty.

    Attributes:
        env: id of the environment.
        agent: name of the agent.
        unit: what difficulty is counted in.
        puzzles: how many were played.
        solved: share solved.
        segments: mean segments used.
        correlation: Spearman's, between difficulty and segments; None if either is the same everywhere.
        correlation_low: its 95 % interval (Bonett and Wright's), None for fewer than five puzzles.
        correlation_high: the same.
        bins: from easy to hard.
    """

    env: str
    agent: str
    unit: str
    puzzles: int
    solved: float
    segments: float
    correlation: float | None
    correlation_low: float | None
    correlation_high: float | None
    bins: tuple[Bin, ...]


def difficulties(episodes: Sequence[Episode], family: PuzzleFamily) -> tuple[NDArray[np.float64], str]:
    """(N,) difficulty of every puzzle and its unit: the rating if all puzzles have one, else what the family counts."""
    ratings = [episode.puzzle.rating for episode in episodes]
    known = [rating for rating in ratings if rating is not None]
    if len(known) == len(ratings):
        return np.array(known, np.float64), "rating"
    return np.array([family.difficulty(episode.puzzle) for episode in episodes], np.float64), family.difficulty_unit


def study_segments(episodes: Sequence[Episode], family: PuzzleFamily, bins: int = 8) -> SegmentStudy:
    """Tabulate answer-mode episodes of one agent against difficulty.

    Args:
        episodes: at least one.
        family: says how hard a puzzle is where it has no rating.
        bins: at most so many bins, of about as many puzzles each.

    Raises:
        ValueError: no episodes, or some that were not played in answer mode.
    """
    if not episodes or any(episode.segments is None for episode in episodes):
        raise ValueError(f"expected episodes of answer mode, got {len(episodes)} of which some count no segments")
    hard, unit = difficulties(episodes, family)
    used = np.array([episode.segments for episode in episodes], np.float64)
    solved = np.array([episode.solved for episode in episodes], np.bool_)
    spent = np.array([e.segments if e.spent is None else e.spent for e in episodes], np.float64)
    places = split_evenly(hard, bins)
    found = tuple(_bin(hard[rows], solved[rows], used[rows], spent[rows]) for rows in places)
    first = episodes[0]
    share, mean = float(solved.mean()), float(used.mean())
    return SegmentStudy(first.env_id, first.agent, unit, len(used), share, mean, *spearman(hard, used), found)


def split_evenly(values: NDArray[np.float64], bins: int) -> list[NDArray[np.int64]]:
    """Rows of `values` (N,) in at most `bins` groups of rising values; equal values stay together.

    >>> [rows.tolist() for rows in split_evenly(np.array([5.0, 1.0, 1.0, 7.0]), 2)]
    [[1, 2], [0, 3]]
    """
    distinct = np.unique(values)
    if len(distinct) <= bins:
        edges = distinct
    else:
        edges = np.unique(np.quantile(values, np.arange(bins) / bins, method="higher"))
    group = np.searchsorted(edges, values, side="right")
    return [np.flatnonzero(group == number) for number in np.unique(group)]


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float | None, float | None, float | None]:
    """Spearman's rank correlation of (N,) values with its 95 % interval; None where there is none."""
    if len(np.unique(a)) < 2 or len(np.unique(b)) < 2:
        return None, None, None
    r = float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])
    if len(a) < 5 or abs(r) >= 1:
        return r, None, None
    half = Z95 * math.sqrt((1 + r * r / 2) / (len(a) - 3))
    return r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


def _bin(
    hard: NDArray[np.float64], solved: NDArray[np.bool_], used: NDArray[np.float64], spent: NDArray[np.float64]
) -> Bin:
    count, mean = len(hard), float(used.mean())
    half = Z95 * float(used.std(ddof=1)) / math.sqrt(count) if count > 1 else 0.0
    rates = (float(solved.mean()), *wilson(int(solved.sum()), count))
    return Bin(float(hard.min()), float(hard.max()), count, *rates, mean, mean - half, mean + half, float(spent.mean()))
