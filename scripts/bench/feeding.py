"""Do puzzles keep up with a GPU? `hrm-gym bench --only feeding`: puzzles that one core prepares a second, recipe by
recipe, against what a GPU would take, and how many processes that needs."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import tyro

from hrm_gym.agents.hrm.distributed import ALONE
from hrm_gym.agents.hrm.feed import Feed
from hrm_gym.agents.hrm.queue import PuzzleQueue
from hrm_gym.agents.hrm.recipes import RECIPES, Recipe, find_recipe
from hrm_gym.scripts.bench.command import one_core
from hrm_gym.scripts.bench.flops import TERA, flops_of_an_update
from hrm_gym.scripts.options import Json, arg, parse
from hrm_gym.scripts.output import machine, new_table, show, write_json

SET = 64
"""Puzzles of a fixed set that are made for the measurement: they are read at the same speed, however many there are."""


@dataclass(frozen=True)
class Feeding:
    """Prepare puzzles as training does, augmentation included, and compare with what a GPU would take.

    A GPU at `share` of `peak` TFLOP/s runs so many boards x segments a second as operations are counted for the recipe
    (--only flops); a puzzle stays for `segments` segments, and at most for the recipe's limit.

    Attributes:
        recipes: Whose puzzles.
        peak: TFLOP/s of the GPU in bfloat16; an H100's are 989.
        share: Of the peak that training reaches.
        segments: Segments that a puzzle takes in the mean.
        seconds: Length of a measurement.
        json: Write the figures to this file.
    """

    EXAMPLES = ("hrm-gym bench --only feeding", "hrm-gym bench --only feeding sudoku maze --segments 2")
    recipes: Annotated[tyro.conf.Positional[tuple[str, ...]], arg("[RECIPE …]", "all")] = ()
    peak: float = 989.0
    share: float = 0.4
    segments: float = 4.0
    seconds: float = 2.0
    json: Json = None


def main(argv: Sequence[str]) -> None:
    """Run `hrm-gym bench --only feeding`."""
    config = parse(Feeding, "hrm-gym bench --only feeding", argv)
    if not (config.peak > 0 and 0 < config.share <= 1 and config.segments >= 1 and config.seconds > 0):
        raise ValueError("expected --peak and --seconds above 0, --share in (0, 1] and --segments of at least 1")
    recipes = {name: find_recipe(name) for name in config.recipes or RECIPES}
    table = new_table(
        f"puzzles a second; GPU: {config.share:.0%} of {config.peak:g} TFLOP/s, {config.segments:g} segments a puzzle",
        *("", "one core prepares", "the GPU takes", "processes"),
    )
    figures: dict[str, Any] = {}
    with one_core():
        for name, recipe in recipes.items():
            figures[name] = found = measure(recipe, config)
            own = "no new puzzles" if found["fixed"] else str(found["processes"])
            table.add_row(name, f"{found['prepared']:,.0f}", f"{found['taken']:,.0f}", own)
    show(table)
    if config.json is not None:
        asked = {key: getattr(config, key) for key in ("peak", "share", "segments", "seconds")}
        write_json({"machine": machine(), **asked, "recipes": figures}, config.json)


def measure(recipe: Recipe, config: Feeding) -> dict[str, float]:
    """The figures of one recipe."""
    torch.set_num_threads(1)
    recipe = dataclasses.replace(recipe, puzzles=min(recipe.puzzles, SET))
    feed = Feed(recipe, torch.device("cpu"))
    queue = PuzzleQueue(recipe, feed, ALONE, torch.device("cpu"), 1)
    few = min(recipe.batch_size, SET)
    queue.prepare(0, few)  # compiles, and makes the set
    count, begin = 0, time.perf_counter()
    while count == 0 or time.perf_counter() - begin < config.seconds:
        queue.prepare(few + count, few)
        count += few
    prepared = count / (time.perf_counter() - begin)
    stay = min(config.segments, recipe.model.max_segments)
    taken = config.share * config.peak * TERA / flops_of_an_update(recipe) / stay
    fixed = isinstance(feed.stream.source, Sized)
    return {"prepared": prepared, "taken": taken, "fixed": fixed, "processes": math.ceil(taken / prepared)}
