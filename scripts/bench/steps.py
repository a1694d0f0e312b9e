"""Training steps of an older version of this package against those of this one, recipe by recipe, in one run.

`hrm-gym bench --only steps --old REVISION`: each version trains in a process of its own, and they take turns, so that
the ratios hold whatever else the machine is doing.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

import hrm_gym
from hrm_gym.agents.hrm.recipes import RECIPES
from hrm_gym.registry import unknown
from hrm_gym.scripts.bench.command import one_core, print_result
from hrm_gym.scripts.bench.timing import Contest, Result, race
from hrm_gym.scripts.options import Json, arg, at_least, parse
from hrm_gym.scripts.output import machine, write_json

OURS = Path(hrm_gym.__file__).resolve().parents[1]
"""The folder that this package is imported from."""

ROOMS = ("envs", "agents", "scripts")
"""Folders of a checkout that are packages of `hrm_gym`; `make links` sets links to them."""

ENDS_WITHIN = 20.0
"""Seconds that a training may take to end before it is killed."""

WORKER = """
import dataclasses, sys, time
from pathlib import Path
import torch
import hrm_gym
torch.set_num_threads(1)
from hrm_gym.agents.hrm.recipes import RECIPES
from hrm_gym.agents.hrm.trainer import Trainer
recipe = dataclasses.replace(RECIPES[sys.argv[1]], init="")
workers = {"workers": int(sys.argv[3])} if int(sys.argv[3]) else {}
trainer = Trainer(recipe, Path(sys.argv[2]), compile=True, **workers)
print(Path(hrm_gym.__file__).resolve().parents[1], flush=True)
for line in sys.stdin:
    steps, begin = 0, time.perf_counter()
    while steps == 0 or time.perf_counter() - begin < float(line):
        trainer.step()
        steps += 1
    print(steps / (time.perf_counter() - begin), flush=True)
getattr(trainer, "close", int)()
"""
"""Makes as many updates as a number of seconds on its input allows, and writes updates a second. It uses only what
versions have in common."""


@dataclass(frozen=True)
class Steps:
    """Compare updates a second of an older version with those of this one: whole updates as `hrm-gym train` makes them,
    puzzles and optimiser included, on one core; with workers, on any.

    Attributes:
        recipes: Whose training; both versions need to have them.
        workers: Processes that prefetch puzzles for this version; the old one generates them within the step.
        old: A git revision of the checkout that this package lies in, or a folder that another version is installed in.
        rounds: Turns of each version; the median of the ratios counts.
        seconds: Length of a turn.
        json: Write the figures to this file.
    """

    EXAMPLES = (
        "hrm-gym bench --only steps --old HEAD~1",
        "hrm-gym bench --only steps sudoku-4x4 --old v0.1.0 --rounds 9",
        "hrm-gym bench --only steps sudoku --workers 1 --old v0.1.0",
    )
    recipes: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        arg("[RECIPE …]", "a Sudoku, a maze and an ARC recipe, one of many sizes"),
    ] = ("sudoku-4x4", "maze", "maze-any-size-8", "arc-colours")
    workers: int = 0
    old: Annotated[str, arg("REVISION", "HEAD")] = "HEAD"
    rounds: int = 7
    seconds: float = 2.0
    json: Json = None


def main(argv: Sequence[str]) -> None:
    """Run `hrm-gym bench --only steps`."""
    config = parse(Steps, "hrm-gym bench --only steps", argv)
    at_least(1, config, "rounds")
    at_least(0, config, "workers")
    missing = [name for name in config.recipes if name not in RECIPES]
    if missing:
        raise ValueError(unknown("recipe", missing[0], RECIPES))
    results: list[Result] = []
    cores = contextlib.nullcontext() if config.workers else one_core()  # workers need a core of their own
    with cores, older(config.old) as there:
        for name in config.recipes:
            with training(name, there) as before, training(name, OURS, config.workers) as now:
                turns = {config.old: before, "this version": now}
                contest = Contest(f"{name}: updates a second", turns, config.old)
                results.append(race(contest, config.rounds, config.seconds))
            print_result(results[-1])
    if config.json is not None:
        settings = {name: getattr(config, name) for name in ("old", "rounds", "seconds", "workers")}
        about = {"machine": machine(), **settings}
        write_json({**about, "contests": [asdict(result) for result in results]}, config.json)


@contextlib.contextmanager
def older(old: str) -> Iterator[Path]:
    """The folder in which an older version can be imported: `old` itself, or a copy of that git revision.

    Raises:
        ValueError: it is neither.
    """
    if (Path(old) / "hrm_gym").is_dir():
        yield Path(old).resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        command = ["git", "-C", str(OURS), "archive", "--format=tar", "--end-of-options", old]
        found = subprocess.run([*command, "hrm_gym", *ROOMS], capture_output=True)
        if found.returncode:
            raise ValueError(f"expected a git revision or a folder of an installed version, got {old!r}")
        there = Path(folder).resolve()
        with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
            archive.extractall(there, filter="data")
        for room in ROOMS:
            (there / "hrm_gym" / room).symlink_to(there / room)
        yield there


@contextlib.contextmanager
def training(name: str, there: Path, workers: int = 0) -> Iterator[Callable[[float], float]]:
    """A training of the version in the folder `there`; its turns return updates a second. `workers` processes
    prefetch its puzzles.

    Raises:
        RuntimeError: it ended, or another version was imported; its messages stand on stderr.
    """
    with tempfile.TemporaryDirectory() as run:
        command = [sys.executable, "-c", WORKER, name, str(Path(run) / "run"), str(workers)]
        env = {**os.environ, "PYTHONPATH": str(there)}
        process = subprocess.Popen(command, env=env, cwd=run, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            place = process.stdout.readline().strip()
            if place != str(there):
                raise RuntimeError(f"expected a training of {name} by the version in {there}, got {place or 'none'}")

            def turn(seconds: float) -> float:
                print(seconds, file=process.stdin, flush=True)
                told = process.stdout.readline()  # type: ignore[union-attr]
                if not told:
                    raise RuntimeError(f"the training of {name} by the version in {there} ended")
                return float(told)

            yield turn
        finally:
            with contextlib.suppress(OSError):
                process.stdin.close()  # the training ends, and its workers with it
            try:
                process.wait(ENDS_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
