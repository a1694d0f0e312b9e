"""`hrm-gym train`: train an HRM by deep supervision, from a recipe whose every setting can be overridden."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch

from hrm_gym.agents import checkpoint
from hrm_gym.agents.checkpoint import checkpoints, read_config
from hrm_gym.agents.devices import choose_device
from hrm_gym.agents.hrm.distributed import Processes, is_lost, join, leave, process_count
from hrm_gym.agents.hrm.feed import Feed
from hrm_gym.agents.hrm.memory import check_fits, largest_batch
from hrm_gym.agents.hrm.recipes import RECIPES, VARIANTS, Recipe
from hrm_gym.agents.hrm.trainer import Trainer, setting_defaults
from hrm_gym.agents.scalars import scalar_writer
from hrm_gym.evaluation.pages import slug
from hrm_gym.files import run_lock
from hrm_gym.registry import make_puzzle_env, read_puzzle_env
from hrm_gym.scripts.launch import Launcher, Training, launch
from hrm_gym.scripts.main import signals_noted
from hrm_gym.scripts.options import RunOptions, Switch, arg, at_least, parse_recipe
from hrm_gym.scripts.output import progress_bar, say

OWN = "sudoku-4x4"
"""The recipe whose settings an environment without one takes."""

LOOKED_AT = 100_000
"""Puzzles of a file that are compared with the held-out ones."""

ABOUT = f"""Train an HRM by deep supervision. The run's folder holds checkpoints, curve.jsonl, TensorBoard scalars and,
at the end, model/. Started again with the same settings, a run continues from its newest checkpoint as if it had never
stopped; so does one that Ctrl-C stopped. A finished run continues with more --updates.

recipes: {", ".join(RECIPES)}

What an HRM is compared with is the same recipe with {", ".join(VARIANTS)} behind its name. An environment (ID,
ID:argument=value,… or module:ID) takes the settings of {OWN}, on its own boards.

Several recipes with commas between, or --seeds N, are that many trainings, RECIPE/seed-K in the folder --out. Given
again, the command skips those that are finished and continues the others. Where they run is what --launcher says."""


@dataclass(frozen=True, kw_only=True)
class Train(RunOptions):
    """Train an HRM by this recipe.

    Attributes:
        recipe: What is trained, and how.
        out: Folder of the run. A run found there is continued.
        size: Side length of the grid.
        workers: Processes that make new puzzles ahead: the same puzzles whatever their number.
        compile_step: Compile forward and backward of a whole step as one graph, instead of the levels alone.
        no_compile: Do not compile the network: it starts half a minute earlier, at about half the speed.
        seeds: Train N times, with the seeds --seed, the next one, and so on.
        launcher: Where several trainings run: local (processes here), ray (a Ray cluster, or one on this machine) or
            slurm (jobs through submitit); the folder --out has to be seen from there.
        jobs: Local trainings at a time.
        slurm: Parameters of submitit's executor, e.g. timeout_min=600 slurm_partition=gpu gpus_per_node=1.
    """

    EXAMPLES = (
        ("hrm-gym train maze --size 6 --updates 2000", "6x6 mazes, a few minutes of one CPU core"),
        "hrm-gym train sudoku-4x4 --source train.csv --test-source test.csv",
        ("hrm-gym train takuzu:Takuzu-v0", "a puzzle of your own, see docs/own_puzzle.md"),
        ("hrm-gym train sudoku-4x4,sudoku-4x4-direct --seeds 5 --jobs 2", "ten trainings, two at a time"),
    )
    recipe: Annotated[Recipe, arg(name="")]
    out: Annotated[Path | None, arg("FOLDER", "runs/RECIPE")] = None
    size: Annotated[int | None, arg("N", "the environment's own")] = None
    workers: Annotated[int | None, arg("N", "one where there is a core for it")] = None
    compile_step: Switch = False
    no_compile: Switch = False
    seeds: Annotated[int | None, arg("N", "one training")] = None
    launcher: Launcher = "local"
    jobs: Annotated[int, arg("N", "1")] = 1
    slurm: Annotated[tuple[str, ...], arg("NAME=VALUE")] = ()

    def __post_init__(self) -> None:
        """Refuse numbers out of range, before any work."""
        at_least(1, self, "seeds", "jobs")


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym train RECIPE [options]`; returns 0, or 1 if one of several trainings failed."""
    names = argv[0].split(",") if argv and ":" not in argv[0] else list(argv[:1])
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"expected every recipe once, got {', '.join(twice)} twice")
    if len(names) > 1:
        return train_many([_read([name, *argv[1:]]) for name in names], argv[1:])
    read = _read(argv)
    if read.config.seeds is not None or read.config.launcher != "local":
        return train_many([read], argv[1:])
    out = read.config.out or Path("runs") / slug(read.name)
    recipe = read.config.recipe
    if read.auto:
        recipe = dataclasses.replace(recipe, batch_size=fitting_batch(recipe, out, choose_device(read.config.device)))
    train(dataclasses.replace(read.config, recipe=recipe), out)
    return 0


class Command(NamedTuple):
    """What one command line asks for: the recipe's name, the settings, and whether the batch is what fits."""

    name: str
    config: Train
    auto: bool


def _read(argv: Sequence[str]) -> Command:
    """A command line of one recipe.

    Raises:
        ValueError: no such recipe, or bad settings.
    """
    rest, auto = _without_auto(list(argv))
    name, config = parse_recipe(Train, RECIPES, "hrm-gym train", rest, ABOUT, recipe_for)
    recipe = config.recipe
    if config.size is not None:
        model = dataclasses.replace(recipe.model, grid=(config.size, config.size))
        recipe = dataclasses.replace(recipe, env={**recipe.env, "size": config.size}, model=model)
    return Command(name, dataclasses.replace(config, recipe=recipe), auto)


def train_many(commands: Sequence[Command], options: Sequence[str]) -> int:
    """Train every recipe with every seed through a launcher; returns 0, or 1 if one failed.

    Args:
        commands: one a recipe, with the same options.
        options: as they were given, after the recipe's name.

    Raises:
        ValueError: the launcher is not to be had, or a folder holds a run of other settings.
    """
    first = commands[0].config
    own = _without(options, {"--seeds": 1, "--launcher": 1, "--jobs": 1, "--slurm": len(options)})
    trainings = []
    for name, config, auto in commands:
        for seed in range(config.recipe.seed, config.recipe.seed + (config.seeds or 1)):
            out = ((config.out or Path("runs")) / slug(name) / f"seed-{seed}").resolve()
            recipe = dataclasses.replace(config.recipe, seed=seed)
            if not auto and finished(recipe, out):
                say(f"{out}: finished, skipped", file=sys.stderr)
                continue
            arguments = (name, *own, "--seed", str(seed), "--out", str(out))
            trainings.append(Training(arguments, out, max(1, config.threads), config.device in ("auto", "cuda")))
    return launch(trainings, first.launcher, first.jobs, first.slurm)


def finished(recipe: Recipe, out: Path) -> bool:
    """Whether the folder holds the finished weights of this recipe.

    Raises:
        ValueError: it holds a run of another one.
    """
    found = checkpoint.newest(out, recipe.to_json(), setting_defaults())
    at_end = found is not None and checkpoint.counter(found[1], "update", found[0]) >= recipe.updates
    return at_end and (checkpoint.model_path(out) / checkpoint.CONFIG).is_file()


def _without(options: Sequence[str], values: Mapping[str, int]) -> list[str]:
    """The options without some of them, whose values are at most so many."""
    rest: list[str] = []
    skipped = 0
    for word in options:
        name, equals, _ = word.partition("=")
        if word.startswith("--"):
            skipped = 0 if name not in values or equals else values[name]
            if name in values:
                continue
        elif skipped:
            skipped -= 1
            continue
        rest.append(word)
    return rest


def _without_auto(argv: list[str]) -> tuple[list[str], bool]:
    """The arguments without `--batch-size auto`, and whether it was among them."""
    for at, word in enumerate(argv):
        width = 1 if word == "--batch-size=auto" else 2
        if width == 1 or argv[at : at + 2] == ["--batch-size", "auto"]:
            return argv[:at] + argv[at + width :], True
    return argv, False


def fitting_batch(recipe: Recipe, out: Path, device: torch.device) -> int:
    """The batch that `--batch-size auto` means: that of the run in `out`, else the largest power of two that fits.

    Raises:
        ValueError: nothing fits, or there are several processes, whose free memory may differ.
    """
    if process_count() > 1:
        raise ValueError("expected a number for --batch-size with several processes, got auto")
    begun = checkpoints(out)
    if begun:
        own = read_config(begun[-1]).get("recipe", {})
        return int(own.get("batch_size", recipe.batch_size))
    batch = largest_batch(recipe, device)
    if not batch:
        raise ValueError(f"not even a batch of 1 fits the memory of {device} that is free: take a smaller network")
    say(f"batch size {batch}", file=sys.stderr)
    return batch


def recipe_for(text: str) -> Recipe:
    """A recipe for an environment as a person names it: the settings of `OWN`, on the environment's boards.

    Raises:
        ValueError: there is no such environment, or it has no puzzles.
    """
    env_id, arguments = read_puzzle_env(text)
    world = make_puzzle_env(env_id, **arguments)
    model = dataclasses.replace(RECIPES[OWN].model, vocab_size=world.family.vocab_size, grid=tuple(world.shape))
    source = str(arguments.pop("source", RECIPES[OWN].source))
    return dataclasses.replace(RECIPES[OWN], env_id=env_id, env=arguments, source=source, model=model)


def train(config: Train, out: Path) -> None:
    """Train to the end of the recipe, with a progress bar on stderr and scalars for TensorBoard in `out`.

    Started by torchrun, all its processes train together and the first one speaks and writes.
    """
    config.use_threads()
    processes, device = join(choose_device(config.device))
    try:
        spare = (os.cpu_count() or 1) > (config.threads or torch.get_num_threads()) * processes.count
        workers = int(spare) if config.workers is None else config.workers
        check_fits(config.recipe, device, processes.count)
        compiles: bool | Literal["step"] = "step" if config.compile_step else not config.no_compile
        with run_lock(out) if processes.rank == 0 else nullcontext():
            trainer = Trainer(config.recipe, out, str(device), compiles, processes, workers)
            with closing(trainer), signals_noted(trainer, out):
                check_held_out(config.recipe, trainer.feed)
                if processes.rank == 0:
                    _follow(trainer)
                else:
                    for _ in trainer.fit():
                        pass
    except RuntimeError as error:
        if processes.count > 1 and is_lost(error):
            said = " ".join(str(error).split())[:200]
            raise OSError(f"another process of this training is gone: the same command continues ({said})") from None
        raise
    finally:
        leave()


def check_held_out(recipe: Recipe, feed: Feed) -> None:
    """Say if puzzles of the recipe's `test_source` are trained on, up to symmetry.

    Raises:
        ValueError: all of them are.
    """
    sources: Any = (feed.stream.source, feed.held_out.source)
    # of ARC a task is trained on by its demonstrations, and judged by its test grids
    if not recipe.test_source or not feed.family.has_solver or not all(hasattr(one, "__getitem__") for one in sources):
        return
    trained, held_out = ([feed.family.cluster(one[k]) for k in range(min(len(one), LOOKED_AT))] for one in sources)
    known = set(trained)
    shared = sum(cluster in known for cluster in held_out)
    if shared == len(held_out):
        raise ValueError(f"expected --test-source of puzzles that are not trained on, got {recipe.test_source}")
    if shared:
        say(f"{shared:,} of {len(held_out):,} held-out puzzles are trained on too, up to symmetry", file=sys.stderr)


def _follow(trainer: Trainer) -> None:
    """Carry the run to its end and show how it goes."""
    recipe, out, processes = trainer.recipe, trainer.run, trainer.processes
    if trainer.update:
        say(f"continuing {out} at update {trainer.update} of {recipe.updates}", file=sys.stderr)
    together = f", {processes.count} processes" if processes != Processes() else ""
    held_out = recipe.test_source or f"bundled validation puzzles, or new ones, for {recipe.source} is all trained on"
    if not recipe.test_source and not Path(recipe.source).suffix:
        held_out = "validation split, or test split where there is no other"
    about = f"{recipe.env_id} {recipe.model.grid} on {trainer.device}{together}, held out: {held_out}"
    say(f"{trainer.model.parameter_count():,} parameters, {about}", file=sys.stderr)
    before = trainer.seconds
    bar = progress_bar(recipe.updates, "update", initial=trainer.update)
    with scalar_writer(out, trainer.update + 1) as writer, bar:
        for row in trainer.fit():
            update = int(row.pop("update"))
            boards = (update - bar.n) * recipe.batch_size
            row["samples_per_second"] = boards / max(trainer.seconds - before, 1e-9)
            before = trainer.seconds
            _show(bar, writer, row, update, trainer.seconds)
    if not trainer.stopping:
        say(f"finished weights: {out / 'model'}", file=sys.stderr)


def _show(bar: Any, writer: Any, row: dict[str, float], update: int, seconds: float) -> None:
    """One line of progress: the bar's figures, the scalars, and a printed line for an evaluation."""
    bar.update(update - bar.n)
    for name, value in row.items():
        section = "eval" if name.startswith("eval_") else "train"
        writer.add_scalar(f"{section}/{name.removeprefix('eval_')}", value, update)
    shown = {"loss": "loss", "exact": "exact", "segments": "segments", "samples/s": "samples_per_second"}
    bar.set_postfix({name: f"{row[key]:.3g}" for name, key in shown.items()}, refresh=False)
    if "eval_solved" in row:
        bar.write(
            f"update {update}: held-out solved {row['eval_solved']:.3f}, exact {row['eval_exact']:.3f}, "
            f"segments {row['eval_segments']:.2f}, {seconds / 60:.1f} min",
            file=sys.stderr,
        )
