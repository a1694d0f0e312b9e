"""`hrm-gym train-rl`: train a stable-baselines3 opponent from reward alone."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from tqdm import tqdm

from hrm_gym.agents.devices import choose_device
from hrm_gym.agents.sb3.recipes import RECIPES, PPORecipe
from hrm_gym.agents.sb3.training import PPORun
from hrm_gym.agents.sb3.watch import Watch
from hrm_gym.scripts.arguments import parse_recipe

HELP = f"""usage: hrm-gym train-rl RECIPE [options]

Train PPO (stable-baselines3) in move mode, from reward alone. The run's folder holds checkpoints, TensorBoard scalars
and, at the end, model/. Started again with the same settings, a run goes on from its newest checkpoint.

recipes: {", ".join(RECIPES)}

examples:
  hrm-gym train-rl maze                                the weights that are bundled
  hrm-gym train-rl maze --size 6 --timesteps 300000    a short run: 6x6 mazes
  hrm-gym train-rl maze --out runs/sparse --reward sparse --gamma 0.99
  hrm-gym train-rl RECIPE --help                       every setting with its default
  tensorboard --logdir runs                            the curves
"""


@dataclass(frozen=True)
class TrainRLConfig:
    """One training run.

    Attributes:
        recipe: What is trained, and how.
        out: Folder of the run; runs/ppo-RECIPE by default. A run found there is continued.
        size: Side length of the puzzles, where the environment has one.
        device: auto, cpu, cuda or mps.
        threads: CPU threads; 0 leaves torch's own choice.
    """

    recipe: Annotated[PPORecipe, tyro.conf.arg(name="")]
    out: Path | None = None
    size: int | None = None
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
        train(config, config.out or Path("runs") / f"ppo-{name}")
    return 0


def sized(config: TrainRLConfig) -> PPORecipe:
    """The recipe with `size` written into the environment's arguments."""
    if config.size is None:
        return config.recipe
    return dataclasses.replace(config.recipe, env={**config.recipe.env, "size": config.size})


def train(config: TrainRLConfig, out: Path) -> None:
    """Train to the end of the recipe, with a progress bar on stderr and scalars for TensorBoard in `out`."""
    if config.threads:
        torch.set_num_threads(config.threads)
    recipe = sized(config)
    run = PPORun(recipe, out, str(choose_device(config.device)))
    taken = run.model.num_timesteps
    if taken:
        print(f"continuing {out} at timestep {taken:,} of {recipe.timesteps:,}", file=sys.stderr)
    parameters = sum(parameter.numel() for parameter in run.model.policy.parameters())
    print(f"{parameters:,} parameters, {recipe.env_id} on {run.model.device}", file=sys.stderr)
    interval = 0.5 if sys.stderr.isatty() else 30
    with tqdm(total=recipe.timesteps, initial=taken, unit="step", dynamic_ncols=True, mininterval=interval) as bar:
        run.learn(Watch(run, lambda row: _show(bar, row)))
    print(f"finished weights: {out / 'model'}", file=sys.stderr)


def _show(bar: Any, row: dict[str, float]) -> None:
    """One line of progress: the bar's figures, and a printed line for an evaluation."""
    timesteps = int(row["timesteps"])
    bar.update(timesteps - bar.n)
    bar.set_postfix({name: f"{row[name]:.3g}" for name in ("solved", "reached", "moves") if name in row}, refresh=False)
    if "eval_solved" in row:
        bar.write(
            f"timestep {timesteps:,}: held-out solved {row['eval_solved']:.3f}, reached {row['eval_reached']:.3f}, "
            f"moves {row['eval_moves']:.1f}, {row['seconds'] / 60:.1f} min",
            file=sys.stderr,
        )
