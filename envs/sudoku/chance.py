"""Chance in compiled code: a SplitMix64 stream that starts from a puzzle's key."""

from __future__ import annotations

import numpy as np

from hrm_gym.envs.compiled import compiled

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)


@compiled
def mix_kernel(value):
    """`puzzle.mix64` for a uint64 in compiled code."""
    value += _GOLDEN
    value = (value ^ (value >> np.uint64(30))) * _MIX_A
    value = (value ^ (value >> np.uint64(27))) * _MIX_B
    return value ^ (value >> np.uint64(31))


@compiled
def below_kernel(state, bound):
    """An int64 in 0..bound-1, as good as uniform; `state` (1,) uint64 moves on."""
    state[0] += _GOLDEN
    return np.int64(mix_kernel(state[0]) % np.uint64(bound))


@compiled
def shuffle_kernel(state, items):
    """Put `items` (M,) in a random order."""
    for last in range(len(items) - 1, 0, -1):
        other = below_kernel(state, last + 1)
        items[last], items[other] = items[other], items[last]
