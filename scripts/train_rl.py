"""`hrm-gym train-rl`: train a stable-baselines3 opponent, or a control, from a recipe."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from hrm_gym.agents.devices import choose_device
from hrm_gym.agents.sb3.curves import draw_curves
from hrm_gym.agents.sb3.recipes import RECIPES, RLRecipe
from hrm_gym.agents.sb3.training import start_run
from hrm_gym.evaluation.pages import slug
from hrm_gym.files import run_lock
from hrm_gym.registry import read_puzzle_env
from hrm_gym.scripts.main import signals_noted
from hrm_gym.scripts.options import RunOptions, arg, at_least, parse_recipe
from hrm_gym.scripts.output import progress_bar, say

OWN = "sudoku-4x4-hrm-maskableppo"
"""The recipe whose settings an environment without one takes: its network serves boards of any size."""

ABOUT = f"""Train PPO, A2C, DQN (stable-baselines3) or MaskablePPO (sb3-contrib) from reward alone; the -supervised
recipe trains the same network on the stored solutions instead. The run's folder holds checkpoints, curve.jsonl,
TensorBoard scalars and, at the end, model/. Started again with the same settings, a run continues from its newest
checkpoint.

recipes: {", ".join(RECIPES)}

An environment (ID, ID:argument=value,… or module:ID) takes the settings of {OWN}, on its own boards."""


@dataclass(frozen=True, kw_only=True)
class TrainRL(RunOptions):
    """Train an opponent by this recipe.

    Attributes:
        recipe: What is trained, and how.
        out: Folder of the run. A run found there is continued.
        size: Side length of the grid.
        seeds: Runs with the recipe's seed, the next one, …; of several, each has a folder seed-N in the run's folder.
    """

    EXAMPLES = (
        ("hrm-gym train-rl maze --size 6 --timesteps 300000", "a short run: 6x6 mazes"),
        ("hrm-gym train-rl sudoku-4x4-maskableppo --seeds 3", "three seeds, and one picture of their curves"),
        ("hrm-gym train-rl takuzu:Takuzu-v0", "a puzzle of your own, see docs/own_puzzle.md"),
    )
    recipe: Annotated[RLRecipe, arg(name="")]
    out: Annotated[Path | None, arg("FOLDER", "runs/rl-RECIPE")] = None
    size: Annotated[int | None, arg("N", "the environment's own")] = None
    seeds: int = 1


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym train-rl RECIPE [options]`; returns 0."""
    name, config = parse_recipe(TrainRL, RECIPES, "hrm-gym train-rl", argv, ABOUT, recipe_for)
    at_least(1, config, "seeds")
    config.use_threads()
    out = config.out or Path("runs") / f"rl-{slug(name)}"
    env = {**config.recipe.env, **({} if config.size is None else {"size": config.size})}
    device, folders = str(choose_device(config.device)), {}
    for seed in range(config.recipe.seed, config.recipe.seed + config.seeds):
        folder = out / f"seed-{seed}" if config.seeds > 1 else out
        folders[folder.name] = folder
        with run_lock(folder):
            train(dataclasses.replace(config.recipe, env=env, seed=seed), folder, device)
    say(f"curves: {draw_curves(folders, out / 'curves.png')}", file=sys.stderr)
    return 0


def recipe_for(text: str) -> RLRecipe:
    """A recipe for an environment as a person names it: the settings of `OWN`, on the environment's boards.

    Raises:
        ValueError: there is no such environment, or it has no puzzles.
    """
    env_id, arguments = read_puzzle_env(text)
    own = RECIPES[OWN]
    source = str(arguments.pop("source", own.source))
    return dataclasses.replace(own, env_id=env_id, env=arguments, source=source, max_steps=0)


def train(recipe: RLRecipe, out: Path, device: str) -> None:
    """Train to the end of the recipe, with a progress bar on stderr and scalars for TensorBoard in `out`."""
    run = start_run(recipe, out, device)
    if run.timesteps:
        say(f"continuing {out} at timestep {run.timesteps:,} of {recipe.timesteps:,}", file=sys.stderr)
    parameters = sum(parameter.numel() for parameter in run.policy.parameters())
    say(f"{recipe.algorithm}, {parameters:,} parameters, {recipe.env_id} on {device}", file=sys.stderr)
    with progress_bar(recipe.timesteps, "step", initial=run.timesteps) as bar, signals_noted(run, out):
        run.learn(lambda row: _show(bar, row))
    say(f"finished weights: {out / 'model'}", file=sys.stderr)


def _show(bar: Any, row: dict[str, float]) -> None:
    """One line of progress: the bar's figures, and a printed line for an evaluation."""
    timesteps = int(row["timesteps"])
    bar.update(timesteps - bar.n)
    shown = {name: f"{row[name]:.3g}" for name in ("loss", "solved", "reached", "actions") if name in row}
    if shown:
        bar.set_postfix(shown, refresh=False)
    if "eval_solved" in row:
        names = ("solved", "reached", "cells")
        found = ", ".join(f"{name} {row[f'eval_{name}']:.3f}" for name in names if f"eval_{name}" in row)
        actions = f"actions {row['eval_actions']:.1f}"
        bar.write(
            f"timestep {timesteps:,}: held-out {found}, {actions}, {row['seconds'] / 60:.1f} min", file=sys.stderr
        )
