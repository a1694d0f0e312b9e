"""Intervals hold what they promise: they cover the truth about 95 times in 100."""

from __future__ import annotations

import numpy as np
import pytest

from hrm_gym.evaluation.scores import bootstrap_mean, bootstrap_runs, wilson


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
