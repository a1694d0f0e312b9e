"""`hrm-gym bench`: how fast environments and training are, as ratios taken in turns within one run on one core."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from hrm_gym.evaluation.pages import show
from hrm_gym.scripts.bench.timing import Contest, Result, race
from hrm_gym.scripts.options import parse

Group = Literal["single", "vector", "reset", "render", "generators", "training", "training-27m", "solving"]


@dataclass(frozen=True)
class BenchConfig:
    """Measure speed on one core of this machine, everything warmed up. Compared things take turns within one run, so
    that the ratios hold whatever else the machine is doing.

    Actions are legal ones, drawn at random beforehand along the very episodes that are then clocked, automatic resets
    included; drawing them is not clocked.

    Attributes:
        only: single (one environment, steps a second beside CartPole-v1), vector (1,024 at once, beside CartPole-v1's),
            reset (seconds until 1,024 environments are made and reset), render (steps with a picture a second),
            generators (new puzzles a second), training (updates of a small network), training-27m (of the paper's),
            solving (mazes a second with real halting, beside a fixed budget); all but training-27m if none is named.
            Also, alone and with options of its own (--only flops --help): flops (operations a second of a
            recipe's training) or memory (of a training step against its cycles).
        peers: Measure Jumanji, Minigrid and ARCLE beside ours instead, where they are installed.
        rounds: Turns of each contestant; the median counts.
        seconds: Length of a turn.
        json: Write the figures to this file.
    """

    only: tuple[Group, ...] = ()
    peers: bool = False
    rounds: int = 7
    seconds: float = 1.0
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE.json", help_behavior_hint="")] = None


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym bench`; returns 0. `--only flops` and `--only memory` have options of their own."""
    for name in ("flops", "memory"):
        if list(argv[:2]) == ["--only", name] or argv[:1] == [f"--only={name}"]:
            module = importlib.import_module(f"hrm_gym.scripts.bench.{name}")
            return int(module.main(argv[1 if "=" in argv[0] else 2 :]))
    config = parse(BenchConfig, "hrm-gym bench", argv)
    if config.rounds < 1 or not config.seconds > 0:
        raise ValueError(f"expected at least one round of more than 0 s, got {config.rounds} of {config.seconds} s")
    results: list[Result] = []
    with one_core():
        for contest in contests(config):
            result = race(contest, config.rounds, config.seconds)
            print_result(result)
            results.append(result)
    if config.json is not None:
        told = {"machine": machine(), "rounds": config.rounds, "seconds": config.seconds}
        text = json.dumps({**told, "contests": [asdict(result) for result in results]}, indent=2)
        config.json.write_text(text + "\n", encoding="utf-8")
    return 0


def contests(config: BenchConfig) -> Iterator[Contest]:
    """The contests that were asked for, each made when its turn comes."""
    from hrm_gym.scripts.bench import worlds

    if config.peers:
        from hrm_gym.scripts.bench import peers

        yield from peers.contests()
        return
    groups: dict[Group, Callable[[], Contest]] = {
        "single": worlds.single,
        "vector": worlds.vector,
        "reset": worlds.reset,
        "render": worlds.render,
        "generators": worlds.generators,
        "training": _training,
        "solving": _solving,
    }
    if "training-27m" in config.only:
        groups["training-27m"] = _training_large
    for name, make in groups.items():
        if name in config.only or not config.only:
            yield make()


def _training() -> Contest:
    from hrm_gym.scripts.bench import training

    return training.small()


def _training_large() -> Contest:
    from hrm_gym.scripts.bench import training

    return training.large()


def _solving() -> Contest:
    from hrm_gym.scripts.bench import solving

    return solving.solving()


def print_result(result: Result) -> None:
    """Print medians, their spread, and ratios to the base."""
    from rich.table import Table

    table = Table(title=result.title, title_justify="left")
    table.add_column("")
    for heading in ("median", "lowest", "highest", *([f"x {result.base}"] if result.base else [])):
        table.add_column(heading, justify="right")
    for row in result.rows:
        figures = [_figure(row.median), _figure(row.low), _figure(row.high)]
        ratio = [] if result.base is None else ["" if row.ratio is None else f"{row.ratio:.2f}"]
        table.add_row(row.name, *figures, *ratio)
    show(table)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


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


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    names = ("gymnasium", "numpy", "numba", "torch")
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def _processor() -> str:
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
