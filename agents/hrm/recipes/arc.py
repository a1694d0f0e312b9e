"""Recipes for ARC-AGI."""

from __future__ import annotations

from dataclasses import replace

from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.recipes.recipe import ON_ONE_CORE, Recipe

VARIANTS = 1000
"""Fixed augmentations of every task, each with a row of the puzzle embedding."""


def _recipe(env_id: str, tasks: int, evaluation_grids: int) -> Recipe:
    """The paper's recipe for a data set of up to N tasks; ids count from 1, and row 0 is for unknown tasks."""
    model = HRMConfig(vocab_size=12, grid=(30, 30), puzzle_count=(tasks + 1) * (VARIANTS + 1))
    return Recipe(
        env_id=env_id,
        env={"augment": False},
        source="bank",
        demonstrations=True,
        model=model,
        updates=500_000,
        weight_decay=0.1,
        puzzle_lr=1e-2,
        puzzle_weight_decay=0.1,
        augment=True,
        variants=VARIANTS,
        embed_variants=True,
        place_grids=True,
        eval_puzzles=128,
        test_puzzles=evaluation_grids,
        eval_every=10_000,
        checkpoint_every=10_000,
    )


ARC_1, ARC_2 = _recipe("HRMARC-v0", 960, 419), _recipe("HRMARC2-v0", 1120, 167)

COLOURS = replace(
    ARC_1,
    env_id="HRMARCMini-v0",
    model=HRMConfig(
        vocab_size=12,
        grid=(12, 12),
        puzzle_count=801 * 4,
        hidden_size=24,
        heads=3,
        h_layers=1,
        l_layers=1,
        h_cycles=1,
        l_cycles=3,
        mixer="colours",
        symbols=10,
        mlp_width=48,
        positions="learned_rope2d",
        rope_theta=100.0,
        max_segments=8,
        gradient="last_cycle",
        halting="bce",
    ),
    **ON_ONE_CORE,
    variants=3,
    shift_grids=False,
    updates=24_000,
    lr=5e-3,
    eval_puzzles=114,
    test_puzzles=0,
    eval_every=2000,
    checkpoint_every=500,
)
"""A colour-equivariant network for small grids: what it learns of one colour it knows of all.

Every task has four rows, one for itself and three for turned images; with seed 0 they are turned in three ways.
"""

COLOURS_LONGER = replace(
    COLOURS,
    model=replace(COLOURS.model, dtype="float32"),
    init="runs/arc-colours/model",
    updates=36_000,
    lr=3e-3,
    eval_every=3000,
)

RECIPES = {
    "arc-1": ARC_1,
    "arc-2": ARC_2,
    "arc-colours": COLOURS,
    "arc-colours-longer": COLOURS_LONGER,
}
"""Recipes by the name `hrm-gym train` takes.

"arc-1" has room for the 960 tasks of the official set: the 800 public ones of ARC-AGI-1, which it takes by itself, and
160 of ConceptARC, which no package brings. To learn from those too, put them as JSON files next to the 400 to train:
`--source FOLDER`, with FOLDER/training and FOLDER/evaluation. "arc-2" has all 1,120 of ARC-AGI-2. "arc-colours" is
for a CPU; "arc-colours-longer" continues from it to the bundled weights for 12x12.
"""
