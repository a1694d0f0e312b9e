"""`hrm-gym train`: train an HRM by deep supervision, from a recipe whose every setting can be overridden."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from hrm_gym.agents.devices import choose_device
from hrm_gym.agents.hrm.distributed import Processes, join, leave
from hrm_gym.agents.hrm.recipes import RECIPES, Recipe
from hrm_gym.agents.hrm.trainer import Trainer
from hrm_gym.agents.scalars import scalar_writer
from hrm_gym.files import run_lock
from hrm_gym.registry import environment_ids, make_env, read_env
from hrm_gym.scripts.main import signals_noted
from hrm_gym.scripts.options import parse_recipe, progress_bar, say

OWN = "sudoku-4x4"
"""The recipe whose settings an environment without one takes."""

HELP = f"""usage: hrm-gym train RECIPE|ENV [options]

Train an HRM by deep supervision. The run's folder holds checkpoints, curve.jsonl, TensorBoard scalars and, at the end,
model/. Started again with the same settings, a run goes on from its newest checkpoint as if it had never stopped;
so does one that Ctrl-C stopped. A finished run continues with more --updates.

recipes: {", ".join(RECIPES)}
An environment (ID, ID:argument=value,… or module:ID) takes the settings of {OWN}, on its own boards.

examples:
  hrm-gym train maze                                   8x8 mazes from nothing, a quarter of an hour of one CPU core
  hrm-gym train maze-10x10                             from there to the weights that are bundled
  hrm-gym train maze --size 6 --updates 2000           a few minutes: 6x6 mazes
  hrm-gym train maze --out runs/wide --model.hidden-size 128 --model.heads 4
  hrm-gym train takuzu:Takuzu-v0                       a puzzle of your own, see docs/own_puzzle.md
  hrm-gym train RECIPE --help                          every setting with its default
  hrm-gym train sudoku-4x4                             a Sudoku solver in a few minutes of one CPU core
  torchrun --nproc-per-node 8 -m hrm_gym.scripts.main train sudoku-extreme-1k     the paper's 27M network on 8 GPUs
  tensorboard --logdir runs                            the curves
"""


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        recipe: What is trained, and how.
        out: Folder of the run; runs/RECIPE by default. A run found there is continued.
        size: Side length of the puzzles, where the environment has one.
        device: auto, cpu, cuda or mps.
        threads: CPU threads; 0 leaves torch's own choice.
        workers: Processes that make new puzzles ahead: the same puzzles whatever their number. By default one where
            there is a core for it.
        compile: Compile the network: about twice the speed, for half a minute at the start (attention on a CPU: once).
    """

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    out: Path | None = None
    size: int | None = None
    device: str = "auto"
    threads: int = 1
    workers: int | None = None
    compile: bool = True


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym train RECIPE [options]`.

    Returns:
        0.

    Raises:
        ValueError: no or an unknown recipe, a bad setting, or a folder that holds another run.
    """
    recipes = dict(RECIPES)
    if argv and argv[0] not in recipes and (":" in argv[0] or argv[0] in environment_ids()):
        recipes[argv[0]] = recipe_for(argv[0])
    found = parse_recipe(TrainConfig, recipes, "hrm-gym train", argv, HELP)
    if found is not None:
        name, config = found
        train(_sized(config), config.out or Path("runs") / re.sub(r"[^\w.-]+", "-", name))
    return 0


def recipe_for(text: str) -> Recipe:
    """A recipe for an environment as a person names it: the settings of `OWN`, on the environment's boards.

    Raises:
        ValueError: there is no such environment, or it has no puzzles.
    """
    env_id, arguments = read_env(text)
    world: Any = make_env(text).unwrapped
    if not hasattr(world, "puzzle_source"):
        raise ValueError(f"expected an environment of puzzles to train on, got {env_id}")
    model = dataclasses.replace(RECIPES[OWN].model, vocab_size=world.family.vocab_size, grid=tuple(world.shape))
    source = str(arguments.pop("source", RECIPES[OWN].source))
    return dataclasses.replace(RECIPES[OWN], env_id=env_id, env=arguments, source=source, model=model)


def _sized(config: TrainConfig) -> TrainConfig:
    """The configuration with `size` written into the environment's arguments and the network's grid."""
    if config.size is None:
        return config
    recipe = config.recipe
    model = dataclasses.replace(recipe.model, grid=(config.size, config.size))
    sized = dataclasses.replace(recipe, env={**recipe.env, "size": config.size}, model=model)
    return dataclasses.replace(config, recipe=sized)


def train(config: TrainConfig, out: Path) -> None:
    """Train to the end of the recipe, with a progress bar on stderr and scalars for TensorBoard in `out`.

    Started by torchrun, all its processes train together and the first one speaks and writes.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    processes, device = join(choose_device(config.device))
    try:
        spare = (os.cpu_count() or 1) > (config.threads or torch.get_num_threads()) * processes.count
        workers = int(spare) if config.workers is None else config.workers
        trainer = Trainer(config.recipe, out, str(device), config.compile, processes, workers)
        with run_lock(out) if processes.rank == 0 else nullcontext(), signals_noted(trainer, out):
            if processes.rank == 0:
                _follow(trainer)
            else:
                for _ in trainer.fit():
                    pass
    finally:
        leave()


def _follow(trainer: Trainer) -> None:
    """Carry the run to its end and show how it goes."""
    recipe, out = trainer.recipe, trainer.run
    print(_introduction(trainer), file=sys.stderr)
    writer = scalar_writer(out, trainer.update + 1)
    bar = progress_bar(recipe.updates, "update", initial=trainer.update)
    before = trainer.seconds
    with writer, bar:
        for row in trainer.fit():
            update = int(row.pop("update"))
            boards = (update - bar.n) * recipe.batch_size
            row["samples_per_second"] = boards / max(trainer.seconds - before, 1e-9)
            before = trainer.seconds
            _show(bar, writer, row, update, trainer.seconds)
    if not trainer.stopping:
        say(f"finished weights: {out / 'model'}", file=sys.stderr)


def _introduction(trainer: Trainer) -> str:
    """What is trained, where, and from which update on."""
    recipe, processes = trainer.recipe, trainer.processes
    together = f", {processes.count} processes" if processes != Processes() else ""
    parameters = f"{trainer.model.parameter_count():,} parameters"
    line = f"{parameters}, {recipe.env_id} {recipe.model.grid} on {trainer.device}{together}"
    if trainer.update:
        line = f"continuing {trainer.run} at update {trainer.update} of {recipe.updates}\n{line}"
    return line


def _show(bar: Any, writer: Any, row: dict[str, float], update: int, seconds: float) -> None:
    """One line of progress: the bar's figures, the scalars, and a printed line for an evaluation."""
    bar.update(update - bar.n)
    for name, value in row.items():
        section = "eval" if name.startswith("eval_") else "train"
        writer.add_scalar(f"{section}/{name.removeprefix('eval_')}", value, update)
    short = {
        "loss": row["loss"],
        "exact": row["exact"],
        "segments": row["segments"],
        "samples/s": row["samples_per_second"],
    }
    bar.set_postfix({name: f"{value:.3g}" for name, value in short.items()}, refresh=False)
    if "eval_solved" in row:
        bar.write(
            f"update {update}: held-out solved {row['eval_solved']:.3f}, exact {row['eval_exact']:.3f}, "
            f"segments {row['eval_segments']:.2f}, {seconds / 60:.1f} min",
            file=sys.stderr,
        )
