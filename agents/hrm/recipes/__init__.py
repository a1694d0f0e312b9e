"""Recipes of training runs, by the name `hrm-gym train` takes; every setting can be overridden there."""

from __future__ import annotations

from hrm_gym.agents.hrm.recipes import arc, mazes, sudoku
from hrm_gym.agents.hrm.recipes.baselines import direct, recurrent, tiny_recursive
from hrm_gym.agents.hrm.recipes.recipe import Recipe

RECIPES: dict[str, Recipe] = {
    **mazes.RECIPES,
    "maze-hard-1k-direct": direct(mazes.MAZE_HARD_1K),
    "maze-hard-1k-trm-att": tiny_recursive(mazes.MAZE_HARD_1K, "attention", l_cycles=4),
    "maze-direct": direct(mazes.SMALL_MAZES),
    "maze-recurrent": recurrent(mazes.SMALL_MAZES),
    **sudoku.RECIPES,
    **arc.RECIPES,
}
"""All recipes."""

__all__ = ["RECIPES", "Recipe", "direct", "recurrent", "tiny_recursive"]
