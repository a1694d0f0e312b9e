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
    max_segments=24,
    exploration=1.0,
    q_features="drift",
    auxiliary=4,
)
"""0.1M parameters, translation-equivariant: weights learnt on boards of one size play boards of all sizes.

What makes its own decision good: the direction to the goal as an auxiliary label of every cell, a Q-head that reads how
far the states still move, and training that goes on after the answer is right, so that it stays right.
"""

ANY_SIZE_8 = Recipe(
    env_id="HRMMaze-v0",
    env={"size": 8},
    model=replace(ANY_SIZE_NETWORK, grid=(8, 8), q_features="mean"),
    **ON_ONE_CORE | {"batch_size": 32},
    gradient_segments=4,
    updates=3500,
    lr=4e-3,
    eval_puzzles=128,
    test_puzzles=128,
    eval_every=5000,
    checkpoint_every=1000,
)

ANY_SIZE_16 = replace(
    ANY_SIZE_8,
    env={"size": 16},
    mixture=({"min_path": 30}, {"min_path": 40, "wall_share": 0.37}),
    model=ANY_SIZE_NETWORK,
    init="runs/maze-any-size-8/model",
    batch_size=16,
    updates=1200,
)
"""Ordinary 16x16 mazes, such with long shortest paths, and winding ones, equally often."""

ANY_SIZE_24 = replace(
    ANY_SIZE_16,
    env={"size": 24},
    mixture=(
        {"min_path": 6},
        {"min_path": 48},
        {"min_path": 40, "wall_share": 0.37},
        {"min_path": 70, "wall_share": 0.37},
    ),
    model=replace(ANY_SIZE_NETWORK, grid=(24, 24), max_segments=32),
    init="runs/maze-any-size-16/model",
    halt_target="solved",
    updates=12_500,
    lr=2e-3,
    seed=2,
    test_puzzles=512,
    eval_every=1000,
    checkpoint_every=250,
)
"""24x24 mazes of five kinds, equally often."""

ANY_SIZE_WALLS = replace(
    ANY_SIZE_24,
    mixture=(
        {"min_path": 48},
        {"min_path": 40, "wall_share": 0.37},
        {"min_path": 70, "wall_share": 0.37},
        {"min_path": 24, "wall_share": 0.28},
        {"min_path": 12, "wall_share": 0.2},
        {"min_path": 6, "wall_share": 0.45},
    ),
    init="runs/maze-any-size-24/model",
    updates=10_000,
    seed=3,
)
"""With fewer and more walls too: what blocks read of the board's mean depends on their share, which varies widely on
small boards."""

ANY_SIZE = replace(
    ANY_SIZE_WALLS,
    model=replace(ANY_SIZE_NETWORK, grid=(24, 24), max_segments=48, exploration_least=24),
    init="runs/maze-any-size-walls/model",
    updates=2500,
    lr=1e-3,
    seed=4,
    test_puzzles=128,
    eval_every=500,
)
"""Every board for 24 to 48 segments, solved or not: what was found has to stay. These are the bundled weights."""

ANY_SIZE_TOGETHER = replace(
    ANY_SIZE,
    model=replace(ANY_SIZE_NETWORK, grid=(24, 24), max_segments=48, exploration_least=16),
    other_sizes=(
        {"env": {"size": 8}, "batch_size": 64, "mixture": ({"wall_share": 0.2}, {"wall_share": 0.4})},
        {"env": {"size": 16}, "batch_size": 32, "mixture": ({"min_path": 30}, {"min_path": 40, "wall_share": 0.37})},
        {"env": {"size": 30}, "batch_size": 12, "mixture": ({"min_path": 60}, {"min_path": 80, "wall_share": 0.37})},
    ),
    init="hrm-maze-any-size",
    updates=12_000,
    lr=2e-3,
    seed=5,
    eval_every=2000,
    checkpoint_every=500,
)
"""Boards of four sizes in turn."""

MAZE_HARD_1K = Recipe(
    env_id="HRMMazeHard-v0", model=HRMConfig(vocab_size=6, grid=(30, 30)), puzzles=1000, test_puzzles=1000
)
"""The paper's: 1,000 puzzles, as they are."""

RECIPES = {
    "maze": SMALL_MAZES,
    "maze-10x10": MAZES,
    "maze-any-size-8": ANY_SIZE_8,
    "maze-any-size-16": ANY_SIZE_16,
    "maze-any-size-24": ANY_SIZE_24,
    "maze-any-size-walls": ANY_SIZE_WALLS,
    "maze-any-size": ANY_SIZE,
    "maze-any-size-together": ANY_SIZE_TOGETHER,
    "maze-hard-1k": MAZE_HARD_1K,
}
"""Recipes by the name `hrm-gym train` takes.

"maze" learns 8x8 mazes from nothing; "maze-10x10" continues from it, and the two made the bundled weights for 10x10 on
one CPU core. "maze-any-size-8", "maze-any-size-16" and "maze-any-size" continue one another; the last is bundled for
boards of all sizes.
"maze-hard-1k" has the paper's 27M network.
"""
