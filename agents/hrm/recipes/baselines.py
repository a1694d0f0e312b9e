"""What an HRM is compared with, as settings of the same network: no recurrence, no hierarchy, or TRM."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.recipes.recipe import Recipe


def direct(recipe: Recipe) -> Recipe:
    """The direct-prediction Transformer of equal size: every layer runs once, and the answer is there (HRM paper).

    One cycle of each level and one segment: the L-level's layers, then the H-level's, all with gradient.
    """
    model = replace(recipe.model, h_cycles=1, l_cycles=1, max_segments=1, exploration=0.0, halting="bce")
    return replace(recipe, model=model)


def recurrent(recipe: Recipe) -> Recipe:
    """The recurrent Transformer of equal size: one module and one state, iterated as often, without hierarchy.

    The single module has the layers of both levels; it runs h_cycles * l_cycles times a segment, the last time with
    gradient.
    """
    layers = recipe.model.h_layers + recipe.model.l_layers
    return replace(recipe, model=replace(recipe.model, levels=1, shared=True, l_layers=layers, h_layers=0))


def tiny_recursive(recipe: Recipe, mixer: Literal["attention", "mlp"], l_cycles: int = 6) -> Recipe:
    """The Tiny Recursive Model in a recipe for an HRM: one module of two layers, gradient through the last H-cycle.

    Args:
        recipe: of the HRM.
        mixer: "attention" (TRM-att) or "mlp" over the sequence (TRM-mlp, small boards).
        l_cycles: of an H-cycle; the code has 6 for Sudoku and 4 for mazes and ARC.
    """
    model: HRMConfig = replace(
        recipe.model,
        shared=True,
        h_layers=0,
        l_layers=2,
        h_cycles=3,
        l_cycles=l_cycles,
        gradient="last_cycle",
        halting="bce",
        puzzle_positions=16,
        mixer=mixer,
        positions="none" if mixer == "mlp" else recipe.model.positions,
    )
    return replace(recipe, model=model, ema=0.999)
