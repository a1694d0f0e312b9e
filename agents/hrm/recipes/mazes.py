"""Recipes for mazes."""

from __future__ import annotations

from dataclasses import replace

from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.recipes.recipe import ON_ONE_CORE, Recipe

MAZE_NETWORK = HRMConfig(
    vocab_size=6,
    grid=(8, 8),
    hidden_size=96,
    heads=3,
    h_layers=2,
    l_layers=2,
    positions="rope2d",
    rope_theta=100.0,
    max_segments=8,
)
"""0.44M parameters. Rotary positions over rows and columns do not depend on the size of the board."""

SMALL_MAZES = Recipe(
    env_id="HRMMaze-v0",
    env={"size": 8},
    model=MAZE_NETWORK,
    loss="softmax",
    batch_size=64,
    updates=5000,
    optimizer="adamw",
    lr=1e-3,
    lr_min_ratio=0.0,
    lr_decay="linear",
    warmup=200,
    weight_decay=0.1,
    ema=0.999,
    continue_every=4,
    eval_puzzles=512,
    eval_every=500,
    checkpoint_every=500,
)

MAZES = replace(
    SMALL_MAZES,
    env={"size": 10},
    model=replace(MAZE_NETWORK, grid=(10, 10)),
    init="runs/maze/model",
    updates=10_000,
)

ANY_SIZE_NETWORK = HRMConfig(
    vocab_size=6,
    grid=(16, 16),
    hidden_size=64,
    h_layers=3,
    l_layers=3,
    h_cycles=1,
    mixer="convolution",
    mlp_width=64,
    positions="none",
    gradient="last_cycle",
    halting="bce",
)
"""0.1M parameters, translation-equivariant: weights learnt on boards of one size play boards of all sizes."""

ANY_SIZE = Recipe(
    env_id="HRMMaze-v0",
    env={"size": 16},
    model=ANY_SIZE_NETWORK,
    **ON_ONE_CORE,
    updates=16_000,
    lr=4e-3,
    eval_puzzles=256,
    test_puzzles=1024,
    eval_every=2000,
    checkpoint_every=1000,
)

ANY_SIZE_8 = replace(
    ANY_SIZE,
    env={"size": 8},
    model=replace(ANY_SIZE_NETWORK, grid=(8, 8)),
    batch_size=32,
    updates=10_000,
)
ANY_SIZE_16 = replace(ANY_SIZE, init="runs/maze-any-size-8/model", updates=14_000)
ANY_SIZE_LONG = replace(
    ANY_SIZE,
    mixture=({"min_path": 30}, {"min_path": 40, "wall_share": 0.37}),
    init="runs/maze-any-size-16/model",
    updates=24_000,
    seed=1,
    eval_every=3000,
)
"""16x16 mazes with shortest paths of 16, 30 and 40 cells at least: more puzzles a minute than larger boards give."""

ANY_SIZE_24 = replace(
    ANY_SIZE,
    env={"size": 24},
    mixture=({"min_path": 48},),
    model=replace(ANY_SIZE_NETWORK, grid=(24, 24)),
    init="runs/maze-any-size/model",
    updates=8000,
    lr=5e-4,
    seed=2,
    eval_puzzles=128,
    test_puzzles=256,
    checkpoint_every=500,
)
"""24x24 mazes with shortest paths of 24 and 48 cells at least; the rate of learning is an eighth of before.

For ordinary large mazes: what it learns there it loses on winding ones, as Maze-Hard has them. The mean of its weights
and those it starts from keeps most of both (`hrm-gym weights average`).
"""

MAZE_HARD_1K = Recipe(
    env_id="HRMMazeHard-v0", model=HRMConfig(vocab_size=6, grid=(30, 30)), puzzles=1000, test_puzzles=1000
)
"""The paper's: 1,000 puzzles, as they are."""

RECIPES = {
    "maze": SMALL_MAZES,
    "maze-10x10": MAZES,
    "maze-any-size-8": ANY_SIZE_8,
    "maze-any-size-16": ANY_SIZE_16,
    "maze-any-size": ANY_SIZE_LONG,
    "maze-any-size-24": ANY_SIZE_24,
    "maze-hard-1k": MAZE_HARD_1K,
}
"""Recipes by the name `hrm-gym train` takes.

"maze" learns 8x8 mazes from nothing; "maze-10x10" continues from it, and both made the bundled weights for 10x10 on
one CPU core. "maze-any-size-8", "-16", "maze-any-size" and "maze-any-size-24" continue one another; the mean of the
last two is bundled for boards of all sizes.
"maze-hard-1k" has the paper's 27M network.
"""
