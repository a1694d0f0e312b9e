"""`make soak`: random play over all environments for as long as is wished, with an eye on the memory."""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import gymnasium as gym
import tyro

import hrm_gym
from hrm_gym.scripts.main import run
from hrm_gym.scripts.options import parse

hrm_gym.register_environments()

BOARDS = 64
VISIT = 200
"""Steps of one visit to a single environment; a batch takes as many steps of a board."""

WARM_UP = 0.25
"""Share of the samples that is left out of the verdict: caches fill and code is compiled."""

ROW = "{:>8}  {:>9}  {:>9}  {:>12}  {:>10}"


@dataclass(frozen=True)
class SoakConfig:
    """Play all environments at random in one process, single ones and batches, and watch its memory.

    Environments are also made anew, put on puzzles of one's own and painted. The exit code is 1 if the
    memory, after a quarter of the time for warming up, grew by more than the limit.

    Attributes:
        minutes: How long.
        limit: Megabytes of growth that still count as flat.
        seed: Of the play.
        json: Write samples and verdict to this file.
    """

    minutes: float = 60.0
    limit: Annotated[float, tyro.conf.arg(metavar="MB")] = 16.0
    seed: int = 0
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE.json", help_behavior_hint="")] = None


class Sample(NamedTuple):
    """The process at one moment.

    Attributes:
        seconds: since the beginning.
        rss: resident memory, MB.
        objects: Python objects that the garbage collector knows.
        steps: steps of boards so far.
        episodes: ended so far.
    """

    seconds: float
    rss: float
    objects: int
    steps: int
    episodes: int


class Verdict(NamedTuple):
    """What the samples say.

    Attributes:
        slope: MB an hour, least squares after the warm-up.
        growth: MB between the first and the last third after the warm-up, medians.
        objects: the same for Python objects.
        flat: whether `growth` is within the limit.
    """

    slope: float
    growth: float
    objects: float
    flat: bool


def main(argv: Sequence[str]) -> int:
    """Run `make soak`; returns 0 if the memory is flat, else 1."""
    config = parse(SoakConfig, "python -m tests.fuzz.soak", argv)
    if not 0 < config.minutes < float("inf") or not config.limit >= 0:
        raise ValueError(f"expected minutes above 0 and a limit of at least 0, got {config.minutes}, {config.limit}")
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    print(ROW.format("minutes", "RSS MB", "objects", "steps", "episodes"), flush=True)
    samples = []
    for sample in soak(visits(config.seed), 60 * config.minutes):
        samples.append(sample)
        minutes = f"{sample.seconds / 60:.2f}"
        row = (minutes, f"{sample.rss:.1f}", f"{sample.objects:,}", f"{sample.steps:,}", f"{sample.episodes:,}")
        print(ROW.format(*row), flush=True)
    verdict = judge(samples, config.limit)
    said = "flat" if verdict.flat else "grows"
    print(
        f"\nafter the warm-up {verdict.growth:+.1f} MB ({verdict.slope:+.1f} an hour), {verdict.objects:+,.0f} objects"
    )
    print(f"verdict: {said} (up to {config.limit:g} MB are flat)")
    if config.json is not None:
        told = {"config": {**asdict(config), "json": str(config.json)}, "samples": [s._asdict() for s in samples]}
        config.json.write_text(json.dumps({**told, "verdict": verdict._asdict()}, indent=2) + "\n", encoding="utf-8")
    return 0 if verdict.flat else 1


Visit = Callable[[], tuple[int, int]]
"""Plays a little and returns how many steps and ended episodes that were."""


def soak(found: Iterator[Visit], seconds: float) -> Iterator[Sample]:
    """Make one visit after another; yields a sample every minute, or twelve in all if that is oftener."""
    interval = min(60.0, seconds / 12)
    begin = time.perf_counter()
    steps = episodes = taken = 0
    while True:
        played, ended = next(found)()
        steps, episodes = steps + played, episodes + ended
        passed = time.perf_counter() - begin
        if passed >= (taken + 1) * interval:
            taken = int(passed / interval)
            gc.collect()
            yield Sample(passed, resident_bytes() / 1e6, len(gc.get_objects()), steps, episodes)
        if passed >= seconds:
            return


def judge(samples: Sequence[Sample], limit: float) -> Verdict:
    """Slope and growth of the memory after the warm-up.

    Raises:
        ValueError: if there are too few samples.
    """
    kept = samples[int(WARM_UP * len(samples)) :]
    if len(kept) < 3:
        raise ValueError(f"expected at least 3 samples after the warm-up, got {len(kept)}")
    third = len(kept) // 3
    first, last = kept[:third], kept[-third:]
    growth, objects = (
        statistics.median(getattr(s, name) for s in last) - statistics.median(getattr(s, name) for s in first)
        for name in ("rss", "objects")
    )
    slope = statistics.linear_regression([s.seconds / 3600 for s in kept], [s.rss for s in kept]).slope
    return Verdict(slope, growth, objects, growth <= limit)


def visits(seed: int) -> Iterator[Visit]:
    """Visits to every id in every mode, alone and in batches, round after round."""
    worlds = [world for name in sorted(gym.registry) if name.startswith("HRM") for world in worlds_of(name, seed)]
    for turn in cycle(range(1000)):
        for world in worlds:
            yield lambda world=world, turn=turn: world(turn)  # type: ignore[misc]


def worlds_of(env_id: str, seed: int) -> Iterator[Callable[[int], tuple[int, int]]]:
    """For each mode of an id: play on one board, and play on many where it has a vector environment of its own."""
    with gym.make(env_id) as env:
        modes = list(getattr(env.unwrapped, "modes", {})) or [None]
    for mode in modes:
        arguments = {} if mode is None else {"action_mode": mode}
        yield single(env_id, arguments, seed)
        if gym.spec(env_id).vector_entry_point:
            yield batch(env_id, arguments, seed)


def single(env_id: str, arguments: dict[str, Any], seed: int) -> Callable[[int], tuple[int, int]]:
    """Play on one environment, painted once a visit; after ten visits it is closed and made anew."""
    env = gym.make(env_id, render_mode="rgb_array", **arguments)
    env.reset(seed=seed)

    def visit(turn: int) -> tuple[int, int]:
        nonlocal env
        ended = play(env, turn)
        env.render()
        if turn % 10 == 9:
            env.close()
            env = gym.make(env_id, render_mode="rgb_array", **arguments)
            env.reset(seed=seed + turn)
        return VISIT, ended

    return visit


def play(env: gym.Env[Any, Any], turn: int) -> int:
    """Random steps with resets in between, first of them onto a puzzle of one's own; returns ended episodes."""
    world: Any = env.unwrapped
    ended = 0
    if turn % 3 == 0 and hasattr(world, "puzzle"):
        env.reset(options={"puzzle": world.puzzle})
    for _ in range(VISIT):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()
            ended += 1
    return ended


def batch(env_id: str, arguments: dict[str, Any], seed: int) -> Callable[[int], tuple[int, int]]:
    """Play on many boards at once; made anew after ten visits."""
    envs = gym.make_vec(env_id, num_envs=BOARDS, **arguments)
    envs.reset(seed=seed)

    def visit(turn: int) -> tuple[int, int]:
        nonlocal envs
        ended = 0
        for _ in range(VISIT // BOARDS + 1):
            _, _, terminated, truncated, _ = envs.step(envs.action_space.sample())
            ended += int((terminated | truncated).sum())
        if turn % 10 == 9:
            envs.close()
            envs = gym.make_vec(env_id, num_envs=BOARDS, **arguments)
            envs.reset(seed=seed + turn)
        return BOARDS * (VISIT // BOARDS + 1), ended

    return visit


def resident_bytes() -> int:
    """Resident memory of this process; its peak, where the system has no /proc to tell."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    sys.exit(run(main))
