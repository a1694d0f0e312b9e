"""Every interval and test in this project: rates, means, several trainings, and agents on the same puzzles.

All intervals are of 95 %. A rate of one network has Wilson's interval; where puzzles are not independent (extreme
Sudokus that share a solution, test grids of one ARC task) with the number of puzzles that they are worth. A claim about
a method needs several trainings, at least five: `method` gives the interquartile mean with a bootstrap that is
stratified by task (Agarwal et al. 2021, arXiv 2108.13264), `profile` the performance profile. On the same puzzles
`paired` says by how much two agents differ, and how likely that is by chance (exact test of McNemar).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
"""Lower and upper bound."""

RESAMPLES = 2000
"""Resamples of a bootstrap."""

_AT_ONCE = 250
"""Resamples that are in memory at a time."""

_Z95 = 1.959963984540054


def wilson(successes: float, trials: float) -> Interval:
    """The 95 % Wilson interval of a success rate.

    Args:
        successes: 0 to `trials`.
        trials: at least 0; nothing is known of a rate that was never tried, so 0 gives (0, 1).

    Returns:
        Lower and upper bound, both in [0, 1].

    >>> [round(bound, 3) for bound in wilson(97, 100)]
    [0.915, 0.99]
    """
    if trials == 0:
        return 0.0, 1.0
    rate, z2 = successes / trials, _Z95**2
    centre = (rate + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _Z95 * math.sqrt(rate * (1 - rate) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return low, high


def rate(values: Sequence[Any] | NDArray[Any], clusters: Sequence[int | None] | None = None) -> Interval:
    """Wilson's interval of a share of True, for as many puzzles as the ones given are worth.

    Puzzles of one cluster (`PuzzleFamily.cluster`) are solved or missed together, more or less. Their number is divided
    by the design effect: the variance of the share between clusters over that of as many independent puzzles, 1 at
    least. Where all are solved, or none, clusters count.

    Args:
        values: (N,) booleans.
        clusters: (N,) hashes; None if the puzzles are independent.

    >>> rate([True] * 9 + [False]) == wilson(9, 10)
    True
    >>> pairs_alike = rate([True, True, False, False] * 10, [k // 2 for k in range(40)])
    >>> [round(bound, 2) for bound in (*pairs_alike, *wilson(10, 20))]
    [0.3, 0.7, 0.3, 0.7]
    """
    found = np.asarray(values, dtype=np.float64)
    count, share = len(found), float(found.mean()) if len(found) else 0.0
    known = clusters is not None and len(clusters) == count and None not in clusters
    names, place = np.unique(np.asarray(clusters, dtype=object), return_inverse=True) if known else (found, None)
    if place is None or len(names) in (0, 1, count):
        return wilson(float(found.sum()), count)
    if share in (0.0, 1.0):
        return wilson(share * len(names), len(names))
    surplus = np.bincount(place, found - share)
    variance = float((surplus**2).sum()) / count**2
    worth = min(count, share * (1 - share) / variance) if variance > 0 else count
    return wilson(share * worth, worth)


def bootstrap_mean(values: Sequence[float] | NDArray[np.float64], seed: int = 0) -> Interval:
    """The 95 % percentile-bootstrap interval of a mean (Efron 1979); of a single value, that value twice.

    Args:
        values: (N,) finite numbers, N >= 1.
        seed: of the resampling.

    >>> low, high = bootstrap_mean([0.0, 1.0] * 50)
    >>> 0.39 < low < 0.42 and 0.58 < high < 0.61
    True
    """
    found = np.asarray(values, dtype=np.float64)
    if len(found) == 1 or found.min() == found.max():
        return float(found[0]), float(found[0])
    rng = np.random.default_rng(seed)
    draws = (rng.integers(0, len(found), (_AT_ONCE, len(found))) for _ in range(RESAMPLES // _AT_ONCE))
    return _middle([found[rows].mean(axis=1) for rows in draws])


def bootstrap_runs(runs: Sequence[NDArray[np.float64]], seed: int = 0) -> Interval:
    """The 95 % interval of the mean over training runs that were judged on the same puzzles.

    A two-stage bootstrap: runs are drawn with replacement, and puzzles too, the same ones for every run. It covers both
    the luck of a training seed and that of the puzzles. With two or three runs it is a lower bound of the doubt.

    Args:
        runs: R arrays of N values, one value a puzzle.
        seed: of the resampling.
    """
    if len(runs) == 1:
        return bootstrap_mean(runs[0], seed)
    table, rng = np.stack(runs), np.random.default_rng(seed)
    count, puzzles = table.shape
    means = np.empty(RESAMPLES)
    for draw in range(RESAMPLES):
        weights = rng.multinomial(puzzles, np.full(puzzles, 1 / puzzles)) / puzzles
        means[draw] = (table @ weights)[rng.integers(count, size=count)].mean()
    return _middle(means)


def interquartile_mean(scores: NDArray[np.float64]) -> float:
    """The mean of the middle half of all scores; a score on the border counts in part.

    >>> interquartile_mean(np.array([0.0, 0.5, 0.7, 1.0])), round(interquartile_mean(np.array([0.0, 0.6, 0.9])), 6)
    (0.6, 0.55)
    """
    found = np.sort(scores, axis=None)
    edges = np.arange(len(found) + 1) / len(found)
    weights = np.diff(np.clip(edges, 0.25, 0.75))
    return float(found @ weights / weights.sum())


def method(scores: NDArray[np.float64], seed: int = 0) -> tuple[float, Interval]:
    """The interquartile mean of several trainings, and its interval by a bootstrap of trainings within each task.

    Args:
        scores: (R, T) the score of each of R trainings on each of T tasks; (R,) for one task.
        seed: of the resampling.

    Raises:
        ValueError: fewer than two trainings: nothing is known of the method then.
    """
    table = scores.reshape(len(scores), -1)
    if len(table) < 2:
        raise ValueError(f"expected the scores of at least two trainings, got {len(table)}")
    draws = [interquartile_mean(drawn) for drawn in _stratified(table, seed)]
    return interquartile_mean(table), _middle(draws)


def profile(
    scores: NDArray[np.float64], levels: NDArray[np.float64], seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The performance profile of a method: the share of its trainings' scores above each level, with its interval.

    Args:
        scores: (R, T) as for `method`.
        levels: (L,) scores.
        seed: of the resampling.

    Returns:
        (L,) each: shares, lower bounds, upper bounds.
    """
    table = scores.reshape(len(scores), -1)
    drawn = np.array([(one[..., None] > levels).mean(axis=(0, 1)) for one in _stratified(table, seed)])
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    return (table[..., None] > levels).mean(axis=(0, 1)), low, high


def _stratified(table: NDArray[np.float64], seed: int) -> Any:
    """Resamples of (R, T) scores: within each task, trainings are drawn with replacement."""
    rng = np.random.default_rng(seed)
    return (np.take_along_axis(table, rng.integers(len(table), size=table.shape), axis=0) for _ in range(RESAMPLES))


def mcnemar(first: NDArray[Any], second: NDArray[Any]) -> float:
    """The two-sided p-value of McNemar's exact test: how likely two equally good agents differ on as many puzzles so
    unevenly.

    Args:
        first: (N,) booleans, which puzzles one agent solved.
        second: (N,) booleans, which of the same puzzles the other did.

    >>> mcnemar(np.array([True] * 10), np.array([False] * 10)), mcnemar(np.eye(2)[0], np.eye(2)[1])
    (0.001953125, 1.0)
    """
    one, other = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    fewer, count = min(int((one & ~other).sum()), int((other & ~one).sum())), int((one != other).sum())
    return min(1.0, 2 * sum(math.comb(count, k) for k in range(fewer + 1)) / 2**count)


@dataclass(frozen=True)
class Figure:
    """A mean or a rate with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """How much better one agent is than another on the same puzzles.

    Attributes:
        difference: of their means.
        low: its 95 % interval, by a bootstrap of puzzles (and of trainings, where there are several).
        high: the upper bound.
        p: of McNemar's exact test, for shares of one network each; else None.
    """

    difference: float
    low: float
    high: float
    p: float | None = None


def paired(first: Sequence[NDArray[Any]], second: Sequence[NDArray[Any]], seed: int = 0) -> Paired:
    """`first` less `second`, each some trainings' (N,) values on the same N puzzles."""
    one, other = (np.stack([np.asarray(run, dtype=np.float64) for run in runs]) for runs in (first, second))
    if len(one) == len(other) == 1:
        gap = one[0] - other[0]
        whole = bool(np.isin(np.concatenate([one, other]), (0, 1)).all())
        return Paired(float(gap.mean()), *bootstrap_mean(gap, seed), mcnemar(one[0], other[0]) if whole else None)
    rng, puzzles = np.random.default_rng(seed), one.shape[1]
    gaps = np.empty(RESAMPLES)
    for draw in range(RESAMPLES):
        weights = rng.multinomial(puzzles, np.full(puzzles, 1 / puzzles)) / puzzles
        means = [(table @ weights)[rng.integers(len(table), size=len(table))].mean() for table in (one, other)]
        gaps[draw] = means[0] - means[1]
    return Paired(float(one.mean() - other.mean()), *_middle(gaps))


def _middle(draws: Any) -> Interval:
    """The 2.5 % and 97.5 % quantiles."""
    low, high = np.percentile(draws, (2.5, 97.5))
    return float(low), float(high)
