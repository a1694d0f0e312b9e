"""Recipes of training runs, by the name `hrm-gym train` takes; every setting can be overridden there."""

from __future__ import annotations

from collections.abc import Callable

from hrm_gym.agents.hrm.recipes import arc, mazes, sudoku
from hrm_gym.agents.hrm.recipes.baselines import direct, recurrent, tiny_recursive
from hrm_gym.agents.hrm.recipes.recipe import Recipe
from hrm_gym.registry import unknown

VARIANTS: dict[str, Callable[[Recipe], Recipe]] = {
    "-direct": direct,
    "-recurrent": recurrent,
    "-trm-att": lambda recipe: tiny_recursive(recipe, "attention", 6 if "Sudoku" in recipe.env_id else 4),
    "-trm-mlp": lambda recipe: tiny_recursive(recipe, "mlp", 6 if "Sudoku" in recipe.env_id else 4),
}
"""What an HRM is compared with, by what stands behind the name of a recipe."""


class _Recipes(dict[str, Recipe]):
    """Recipes by name; `RECIPES["maze-direct"]` is the variant of "maze"."""

    def __missing__(self, name: str) -> Recipe:
        for ending, change in VARIANTS.items():
            if name.endswith(ending) and name.removesuffix(ending) in self:
                return change(self[name.removesuffix(ending)])
        raise KeyError(name)


RECIPES = _Recipes({**mazes.RECIPES, **sudoku.RECIPES, **arc.RECIPES})
"""All recipes."""


def find_recipe(name: str) -> Recipe:
    """The recipe, or the variant of one, of that name; ValueError, with the nearest name, if there is none.

    >>> find_recipe("maze-direct").model.max_segments
    1
    """
    try:
        return RECIPES[name]
    except KeyError:
        raise ValueError(unknown("recipe", name, RECIPES)) from None


__all__ = ["RECIPES", "VARIANTS", "Recipe", "direct", "find_recipe", "recurrent", "tiny_recursive"]
