"""`hrm-gym train-rl`: train a stable-baselines3 opponent, or a control, from a recipe."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from hrm_gym.agents.devices import choose_device
from hrm_gym.agents.sb3.curves import draw_curves
from hrm_gym.agents.sb3.recipes import RECIPES, RLRecipe
from hrm_gym.agents.sb3.run import Run
from hrm_gym.agents.sb3.training import start_run
from hrm_gym.files import run_lock
from hrm_gym.scripts.main import signals_noted
from hrm_gym.scripts.options import parse_recipe, progress_bar, say

HELP = f"""usage: hrm-gym train-rl RECIPE [options]

Train PPO, A2C, DQN (stable-baselines3) or MaskablePPO (sb3-contrib) from reward alone; the -supervised recipes train
the same network on the stored solutions instead. The run's folder holds checkpoints, curve.jsonl, TensorBoard scalars
and, at the end, model/. Started again with the same settings, a run goes on from its newest checkpoint.

recipes: {", ".join(RECIPES)}

examples:
  hrm-gym train-rl maze                                the 10x10 walker that is bundled
  hrm-gym train-rl sudoku-4x4-maskableppo --seeds 3    three seeds, a folder each, and one picture of their curves
  hrm-gym train-rl maze --size 6 --timesteps 300000    a short run: 6x6 mazes
  hrm-gym train-rl maze --out runs/sparse --reward sparse --gamma 0.99
  hrm-gym train-rl sudoku-4x4-hrm-maskableppo          an HRM as the policy, by reward alone
  hrm-gym train-rl RECIPE --help                       every setting with its default
  hrm-gym solve --agent sb3=runs/maze/model            own weights
  tensorboard --logdir runs                            the curves
"""

JUDGED = ("solved", "reached", "cells")
"""Shares of an evaluation that its line tells."""


@dataclass(frozen=True)
class TrainRLConfig:
    """One training run, or several that differ in their seed.

    Attributes:
        recipe: What is trained, and how.
        out: Folder of the run; runs/rl-RECIPE by default. A run found there is continued.
        size: Side length of the puzzles, where the environment has one.
        seeds: Runs with the recipe's seed, the next one, …; of several, each has a folder seed-N in the run's folder.
        device: auto, cpu, cuda or mps.
        threads: CPU threads; 0 leaves torch's own choice.
    """

    recipe: Annotated[RLRecipe, tyro.conf.arg(name="")]
    out: Path | None = None
    size: int | None = None
    seeds: int = 1
    device: str = "auto"
    threads: int = 1


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym train-rl RECIPE [options]`.

    Returns:
        0.

    Raises:
        ValueError: no or an unknown recipe, a bad setting, or a folder that holds another run.
    """
    found = parse_recipe(TrainRLConfig, RECIPES, "hrm-gym train-rl", argv, HELP)
    if found is not None:
        name, config = found
        if config.seeds < 1:
            raise ValueError(f"expected --seeds of at least 1, got {config.seeds}")
        train_all(config, config.out or Path("runs") / f"rl-{name}")
    return 0


def sized(config: TrainRLConfig) -> RLRecipe:
    """The recipe with `size` written into the environment's arguments."""
    if config.size is None:
        return config.recipe
    return dataclasses.replace(config.recipe, env={**config.recipe.env, "size": config.size})


def seeded(config: TrainRLConfig, out: Path) -> Iterator[tuple[RLRecipe, Path]]:
    """The recipe and the folder of every run."""
    recipe = sized(config)
    for seed in range(recipe.seed, recipe.seed + config.seeds):
        yield dataclasses.replace(recipe, seed=seed), out / f"seed-{seed}" if config.seeds > 1 else out


def train_all(config: TrainRLConfig, out: Path) -> None:
    """Carry every run to its end, then draw their curves into `out`."""
    if config.threads:
        torch.set_num_threads(config.threads)
    runs = list(seeded(config, out))
    for recipe, folder in runs:
        train(recipe, folder, str(choose_device(config.device)))
    picture = draw_curves({folder.name: folder for _, folder in runs}, out / "curves.png")
    say(f"curves: {picture}", file=sys.stderr)


def train(recipe: RLRecipe, out: Path, device: str) -> None:
    """Train to the end of the recipe, with a progress bar on stderr and scalars for TensorBoard in `out`."""
    with run_lock(out):
        _train(start_run(recipe, out, device), out, device)


def _train(run: Run, out: Path, device: str) -> None:
    recipe, taken = run.recipe, run.timesteps
    if taken:
        say(f"continuing {out} at timestep {taken:,} of {recipe.timesteps:,}", file=sys.stderr)
    parameters = sum(parameter.numel() for parameter in run.policy.parameters())
    say(f"{recipe.algorithm}, {parameters:,} parameters, {recipe.env_id} on {device}", file=sys.stderr)
    with progress_bar(recipe.timesteps, "step", initial=taken) as bar, signals_noted(run, out):
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
        found = ", ".join(f"{name} {row[f'eval_{name}']:.3f}" for name in JUDGED if f"eval_{name}" in row)
        actions = f"actions {row['eval_actions']:.1f}"
        bar.write(
            f"timestep {timesteps:,}: held-out {found}, {actions}, {row['seconds'] / 60:.1f} min", file=sys.stderr
        )
