"""`hrm-gym bench`: how fast environments and training are, as ratios taken in turns within one run on one core."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from hrm_gym.scripts.bench.timing import Contest, Result, race
from hrm_gym.scripts.options import Json, Switch, parse
from hrm_gym.scripts.output import machine, new_table, show, write_json

Group = Literal[
    "single", "vector", "reset", "render", "generators", "training", "training-27m", "solving", "evaluation"
]
GROUPS: dict[Group, str] = {
    "single": "worlds:single",
    "vector": "worlds:vector",
    "reset": "worlds:reset",
    "render": "worlds:render",
    "generators": "worlds:generators",
    "training": "training:small",
    "solving": "solving:solving",
    "training-27m": "training:large",
    "evaluation": "solving:evaluation",
}
"""module:function that makes the contest."""

ONLY_NAMED = ("training-27m", "evaluation")
"""Contests of minutes, held if they are asked for."""


@dataclass(frozen=True)
class Bench:
    """Measure speed on one core of this machine, everything warmed up. Compared things take turns within one run, so
    that the ratios hold whatever else the machine is doing.

    Actions are legal ones, drawn at random beforehand along the very episodes that are then clocked, automatic resets
    included; drawing them is not clocked.

    Attributes:
        only: single (one environment, steps a second next to CartPole-v1), vector (1,024 at once, next to
            CartPole-v1's), reset (seconds until 1,024 environments are made and reset), render (steps with a picture a
            second), generators (new puzzles a second), training (updates of a small network), training-27m (of the
            paper's), solving (mazes a second with real halting, next to a fixed budget), evaluation (Sudokus a second,
            next to an evaluation in which nothing halts); all but training-27m and evaluation if none is named. Also,
            alone and with options of its own (--only flops --help): flops (operations a second of a recipe's training),
            memory (of a training step against its cycles), scaling (computed: a training on 8 to 512 GPUs), reads (by
            the host in a training step), feeding (puzzles a second against what a GPU takes) or steps (updates of an
            older version of this package against those of this one).
        peers: Measure Jumanji, Minigrid and ARCLE next to ours instead, where they are installed.
        rounds: Turns of each contestant; the median counts.
        seconds: Length of a turn.
        json: Write the figures to this file.
    """

    EXAMPLES = (
        "hrm-gym bench --only single vector --rounds 3 --seconds 0.4",
        "hrm-gym bench --only flops sudoku-extreme-1k",
        "hrm-gym bench --only memory --cycles 1 2 4",
    )
    only: tuple[Group, ...] = ()
    peers: Switch = False
    rounds: int = 7
    seconds: float = 1.0
    json: Json = None


def main(argv: Sequence[str]) -> int | None:
    """Run `hrm-gym bench`; `--only flops` and its like have options of their own."""
    for name in ("flops", "memory", "scaling", "reads", "feeding", "steps"):
        if list(argv[:2]) == ["--only", name] or argv[:1] == [f"--only={name}"]:
            importlib.import_module(f"hrm_gym.scripts.bench.{name}").main(argv[1 if "=" in argv[0] else 2 :])
            return 0
    config = parse(Bench, "hrm-gym bench", argv)
    if config.rounds < 1 or not config.seconds > 0:
        raise ValueError(f"expected at least one round of more than 0 s, got {config.rounds} of {config.seconds} s")
    results: list[Result] = []
    with one_core():
        for contest in contests(config):
            results.append(race(contest, config.rounds, config.seconds))
            print_result(results[-1])
    if config.json is not None:
        about = {"machine": machine(), "rounds": config.rounds, "seconds": config.seconds}
        write_json({**about, "contests": [asdict(result) for result in results]}, config.json)
    return 0


def contests(config: Bench) -> Iterator[Contest]:
    """The contests that were asked for, each made when its turn comes."""
    if config.peers:
        from hrm_gym.scripts.bench import peers

        yield from peers.contests()
        return
    for name, place in GROUPS.items():
        if name in config.only or (not config.only and name not in ONLY_NAMED):
            module, _, function = place.partition(":")
            yield getattr(importlib.import_module(f"hrm_gym.scripts.bench.{module}"), function)()


def print_result(result: Result) -> None:
    """Print medians, their spread, and ratios to the base."""
    ratios = [f"x {result.base}"] if result.base else []
    table = new_table(result.title, "", "median", "lowest", "highest", *ratios)
    for row in result.rows:
        figures = [f"{one:,.0f}" if one >= 100 else f"{one:.3g}" for one in (row.median, row.low, row.high)]
        table.add_row(row.name, *figures, *(["" if row.ratio is None else f"{row.ratio:.2f}"] if ratios else []))
    show(table)


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Keep this process on one core, where the system lets it."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
