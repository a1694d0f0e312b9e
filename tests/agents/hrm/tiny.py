"""A training run small enough for a test: 5x5 mazes, a few thousand parameters, float32 without compilation."""

from __future__ import annotations

from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.recipes import Recipe

TINY_MODEL = HRMConfig(
    vocab_size=6,
    grid=(5, 5),
    hidden_size=32,
    heads=2,
    h_layers=1,
    l_layers=1,
    positions="rope2d",
    max_segments=4,
    dtype="float32",
)

TINY = Recipe(
    env_id="HRMMaze-v0",
    env={"size": 5},
    model=TINY_MODEL,
    batch_size=8,
    updates=30,
    lr=1e-3,
    warmup=5,
    ema=0.9,
    continue_every=2,
    eval_puzzles=8,
    eval_every=10,
    checkpoint_every=5,
)

MAZES = HRMConfig(
    vocab_size=6,
    grid=(7, 7),
    hidden_size=16,
    h_layers=1,
    l_layers=1,
    h_cycles=1,
    mixer="convolution",
    mlp_width=16,
    positions="none",
    gradient="last_cycle",
    halting="bce",
    q_features="drift",
    dtype="float32",
)
"""For mazes of any size."""
