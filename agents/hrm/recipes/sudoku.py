"""Recipes for Sudoku."""

from __future__ import annotations

from dataclasses import replace

from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.recipes.recipe import ON_ONE_CORE, Recipe

SMALL_NETWORK = HRMConfig(
    vocab_size=6,
    grid=(4, 4),
    hidden_size=64,
    heads=2,
    h_layers=2,
    l_layers=2,
    positions="learned_rope2d",
    rope_theta=10.0,
    max_segments=4,
)
"""0.26M parameters. The learned positions tell the boxes apart, which no distance between cells does."""

MINI = Recipe(
    env_id="HRMSudokuMini-v0",
    model=SMALL_NETWORK,
    loss="softmax",
    batch_size=64,
    updates=1500,
    optimizer="adamw",
    lr=2e-3,
    lr_min_ratio=0.0,
    lr_decay="linear",
    warmup=100,
    weight_decay=0.1,
    ema=0.99,
    continue_every=4,
    eval_puzzles=512,
    eval_every=250,
    checkpoint_every=250,
)

EQUIVARIANT_NETWORK = HRMConfig(
    vocab_size=11,
    grid=(9, 9),
    hidden_size=32,
    h_layers=2,
    l_layers=2,
    h_cycles=1,
    mixer="symbols",
    symbols=9,
    box=(3, 3),
    mlp_width=64,
    positions="none",
    gradient="last_cycle",
    halting="bce",
)
"""0.11M parameters, equivariant under all symmetries of Sudoku, which need not be learnt."""

EQUIVARIANT = Recipe(
    env_id="HRMSudoku-v0",
    env={"difficulty": "extreme"},
    mixture=tuple({"difficulty": name} for name in ("easy", "medium", "hard")),
    model=EQUIVARIANT_NETWORK,
    **ON_ONE_CORE,
    updates=15_000,
    lr=6e-3,
    shown=0.1,
    eval_puzzles=128,
    test_puzzles=512,
    eval_every=3000,
    checkpoint_every=500,
)

SIX = replace(
    EQUIVARIANT,
    env_id="HRMSudokuMini-v0",
    env={"box": (2, 3)},
    mixture=(),
    model=replace(EQUIVARIANT_NETWORK, vocab_size=8, grid=(6, 6), symbols=6, box=(2, 3)),
    batch_size=32,
    updates=4000,
    eval_puzzles=256,
    eval_every=1000,
)
"""The same network for 6x6 boards."""

FOUR = replace(
    SIX,
    env={"box": (2, 2)},
    model=replace(EQUIVARIANT_NETWORK, vocab_size=6, grid=(4, 4), symbols=4, box=(2, 2)),
    updates=2000,
    eval_every=500,
)
"""The same network for 4x4 boards."""

HARDER = replace(
    EQUIVARIANT,
    mixture=tuple({"difficulty": name} for name in ("easy", "medium", "hard", "hard", "extreme", "extreme")),
    init="runs/sudoku/model",
    updates=40_000,
    lr=5e-3,
    seed=1,
    eval_every=4000,
)
"""Continues from `EQUIVARIANT` with more of what is hard."""

LONGER = replace(
    HARDER,
    init="runs/sudoku-harder/model",
    model=replace(EQUIVARIANT_NETWORK, max_segments=32),
    gradient_segments=4,
    updates=7_500,
    lr=4e-3,
    seed=6,
    eval_every=1000,
    checkpoint_every=250,
)
"""From there on with gradient through four segments, up to 32 segments a puzzle."""

LONGEST = replace(
    LONGER,
    init="runs/sudoku-longer/model",
    model=replace(EQUIVARIANT_NETWORK, max_segments=48),
    updates=24_000,
    seed=8,
    eval_every=2000,
    checkpoint_every=500,
)
"""From there on three times as long, up to 48 segments a puzzle."""

GENTLE = replace(
    LONGEST,
    init="runs/sudoku-longest/model",
    mixture=tuple({"difficulty": name} for name in ("easy", "medium", "hard", *["extreme"] * 4)),
    model=replace(EQUIVARIANT_NETWORK, max_segments=64),
    lr=1e-3,
    warmup=100,
    updates=18_000,
    seed=12,
)
"""From there to the bundled weights, at a quarter of the learning rate: from a peak of 3e-3 accuracy fell
(docs/experiments.md)."""

OWN_DECISION = replace(
    EQUIVARIANT,
    mixture=tuple({"difficulty": name} for name in ("easy", "medium", "hard", "hard", "extreme", "extreme")),
    model=replace(EQUIVARIANT_NETWORK, q_features="worst"),
    gradient_segments=4,
    random_starts=1.0,
    updates=200_000,
    lr=5e-3,
    lr_min_ratio=1.0,
    seed=3,
    eval_puzzles=128,
    eval_every=1500,
    checkpoint_every=250,
)
"""Gradient through four segments, random starts, a Q-head that sees the worst cell; at a constant learning rate."""

OWN_DECISION_END = replace(
    OWN_DECISION,
    init="runs/sudoku-own/model",
    updates=4000,
    warmup=50,
    lr_min_ratio=0.0,
    seed=4,
    test_puzzles=512,
)
"""From there to zero: the weights worth using."""

PAPER = Recipe(
    env_id="HRMSudokuExtreme-v0",
    model=HRMConfig(vocab_size=11, grid=(9, 9)),
    augment=True,
    puzzles=1000,
    variants=1000,
    test_puzzles=10_000,
)
"""The paper's 27M network, 1,000 puzzles and 1,000 symmetries of each: 20M boards x segments."""

RECIPES = {
    "sudoku-4x4": MINI,
    "sudoku": EQUIVARIANT,
    "sudoku-harder": HARDER,
    "sudoku-longer": LONGER,
    "sudoku-longest": LONGEST,
    "sudoku-gentle": GENTLE,
    "sudoku-own": OWN_DECISION,
    "sudoku-own-end": OWN_DECISION_END,
    "sudoku-4x4-equivariant": FOUR,
    "sudoku-6x6": SIX,
    "sudoku-extreme-1k": PAPER,
}
"""Recipes by the name `hrm-gym train` takes.

"sudoku-4x4", which learns the boxes, and "sudoku-4x4-equivariant" and "sudoku-6x6", which know them, take minutes of
one CPU core. "sudoku", "sudoku-harder", "sudoku-longer", "sudoku-longest" and "sudoku-gentle" continue one another; the
last made the bundled weights for 9x9. "sudoku-extreme-1k" is the paper's; its puzzles are our own, by seed, unless
`--source sapientinc/sudoku-extreme` fetches the official ones.
"""
