"""Counted operations agree with a count by hand."""

from __future__ import annotations

import dataclasses

import pytest

from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.layers import swiglu_width
from hrm_gym.agents.hrm.recipes import RECIPES
from hrm_gym.scripts.bench.flops import segment_flops


def block(config: HRMConfig) -> int:
    """One block on one board, forward."""
    length, hidden = config.prefix + config.cells, config.hidden_size
    mlp = 6 * length * hidden * swiglu_width(hidden, config.expansion)
    if config.mixer == "mlp":
        return mlp + 6 * length * hidden * swiglu_width(length, config.expansion)
    return mlp + 8 * length * hidden**2 + 4 * length**2 * hidden


@pytest.mark.parametrize(
    ("recipe", "calls", "with_gradient", "target", "training", "solving"),
    [
        ("sudoku-extreme-1k", 6, 2, 6, 36.7, 13.7),
        ("maze-hard-1k", 6, 2, 6, 499, 187),
        ("sudoku-extreme-1k-trm-mlp", 21, 7, 0, 42.7, 25.6),
    ],
)
def test_by_hand(recipe: str, calls: int, with_gradient: int, target: int, training: float, solving: float) -> None:
    """The backward pass costs two forward passes of the calls that keep gradient; the heads next to nothing."""
    config = RECIPES[recipe].model
    one = config.l_layers * block(config)
    assert segment_flops(config) == pytest.approx(calls * one, rel=2e-3)
    assert segment_flops(config, training=True) == pytest.approx((calls + 2 * with_gradient + target) * one, rel=4e-3)
    assert segment_flops(config) / 1e9 == pytest.approx(solving, rel=4e-3)
    assert segment_flops(config, training=True) / 1e9 == pytest.approx(training, rel=4e-3)


def test_what_the_target_costs() -> None:
    config = HRMConfig(vocab_size=6, grid=(4, 4), hidden_size=32, heads=2, h_layers=1, l_layers=1)
    forward = segment_flops(config)
    assert segment_flops(config, True) - segment_flops(config, True, target=False) == forward
    alone = dataclasses.replace(config, halting="bce")
    assert segment_flops(alone, True) == segment_flops(config, True, target=False)
