"""95 % intervals: Wilson's for rates, the bootstrap for means and for agents that were trained several times."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
"""Lower and upper bound."""

RESAMPLES = 2000
"""Resamples of a bootstrap."""

_Z95 = 1.959963984540054


def wilson(successes: int, trials: int) -> Interval:
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
    from scipy.stats import bootstrap

    drawn = bootstrap((found,), np.mean, n_resamples=RESAMPLES, method="percentile", batch=256, rng=_rng(seed))
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


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
    table, rng = np.stack(runs), _rng(seed)
    count, puzzles = table.shape
    means = np.empty(RESAMPLES)
    for draw in range(RESAMPLES):
        weights = rng.multinomial(puzzles, np.full(puzzles, 1 / puzzles)) / puzzles
        means[draw] = (table @ weights)[rng.integers(count, size=count)].mean()
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)
