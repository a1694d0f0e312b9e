"""Intervals hold what they promise: they cover the truth about 95 times in 100."""

from __future__ import annotations

import numpy as np
import pytest

from hrm_gym.evaluation.intervals import bootstrap_mean, bootstrap_runs, method, paired, profile, rate, wilson


def test_one_value_and_equal_values_leave_no_doubt() -> None:
    assert bootstrap_mean([0.3]) == (0.3, 0.3)
    assert bootstrap_mean([0.5] * 9) == (0.5, 0.5)


def test_the_bootstrap_covers_the_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        low, high = bootstrap_mean(rng.exponential(1.0, size=80), seed)
        covered += low <= 1.0 <= high
    assert 178 <= covered <= 199


def test_on_rates_bootstrap_and_wilson_agree() -> None:
    values = np.array([1.0] * 380 + [0.0] * 120)
    assert bootstrap_mean(values) == pytest.approx(wilson(380, 500), abs=0.01)


def test_runs_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    good, bad = (rng.random(500) < 0.9).astype(float), (rng.random(500) < 0.5).astype(float)
    alike = bootstrap_runs([good, good])
    apart = bootstrap_runs([good, bad])
    assert alike == pytest.approx(bootstrap_mean(good), abs=0.01)
    assert apart[1] - apart[0] > 3 * (alike[1] - alike[0])
    assert apart[0] < 0.6 < 0.8 < apart[1]


def test_a_bootstrap_can_be_repeated() -> None:
    values = np.random.default_rng(2).random(50)
    assert bootstrap_mean(values) == bootstrap_mean(values) != bootstrap_mean(values, seed=1)


def test_puzzles_that_stand_and_fall_together_count_less() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(300):
        solved = np.repeat(rng.random(50) < 0.7, 8)
        low, high = rate(solved, list(np.repeat(np.arange(50), 8)))
        covered += low <= 0.7 <= high
        assert high - low > 2 * (wilson(solved.sum(), 400)[1] - wilson(solved.sum(), 400)[0])
    assert covered >= 276
    alone = rng.random(400) < 0.7
    assert rate(alone, list(range(400))) == rate(alone) == rate(alone, [None] * 400)
    assert rate([True] * 40, [k // 4 for k in range(40)]) == wilson(10, 10)
    assert rate([True, False], [1, 1]) == wilson(1, 2)


def test_interquartile_mean_and_profile_of_a_method() -> None:
    scores = np.array([[0.9, 0.5], [0.8, 0.4], [0.85, 0.6], [0.1, 0.55], [0.95, 0.45]])
    mean, (low, high) = method(scores)
    assert mean == pytest.approx(np.sort(scores, axis=None)[[3, 4, 5, 6]].sum() / 5 + 0.5 * (0.45 + 0.85) / 5)
    assert low < mean < high
    levels = np.linspace(0, 1, 11)
    share, lower, upper = profile(scores, levels)
    assert (lower <= share).all() and (share <= upper).all()  # noqa: PT018
    assert (share[0], share[-1]) == (1.0, 0.0)
    assert (np.diff(share) <= 0).all()
    with pytest.raises(ValueError, match="at least two trainings"):
        method(np.array([0.5]))


def test_paired_differences() -> None:
    rng = np.random.default_rng(4)
    hard = rng.random(400)
    one, other = hard < 0.8, hard < 0.75
    gap = paired([one], [other])
    assert gap.difference == pytest.approx(one.mean() - other.mean())
    assert 0 < gap.low < gap.difference < gap.high < 0.1
    assert gap.p is not None
    assert gap.p < 0.001  # though the two Wilson intervals overlap
    assert wilson(other.sum(), 400)[1] > wilson(one.sum(), 400)[0]
    assert paired([one], [one]).p == 1.0
    several = paired([one, rng.random(400) < 0.2], [other, other])
    assert several.p is None
    assert several.high - several.low > 4 * (gap.high - gap.low)
    assert paired([np.array([0.5, 0.7])], [np.array([0.1, 0.9])]).p is None
