"""`hrm-gym bench`: how fast environments and training are, as ratios taken in turns within one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import gymnasium as gym
import numpy as np
import tyro

import hrm_gym
from hrm_gym.scripts import bench_training
from hrm_gym.scripts.arguments import parse

gym.register_envs(hrm_gym)


@dataclass(frozen=True)
class BenchConfig:
    """Measure speed on this machine. Compared things take turns, so that the ratios hold whatever else is running.

    Attributes:
        what: env (steps a second beside CartPole-v1), train (samples a second of one training update), or all.
        rounds: Turns of each contestant; the median counts.
        seconds: Length of a turn.
    """

    what: Annotated[tyro.conf.Positional[Literal["env", "train", "all"]], tyro.conf.arg(metavar="[WHAT]")] = "all"
    rounds: int = 7
    seconds: float = 1.0


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym bench`; returns 0."""
    config = parse(BenchConfig, "hrm-gym bench", argv)
    if config.rounds < 1 or config.seconds <= 0:
        raise ValueError(f"expected at least one round of more than 0 s, got {config.rounds} of {config.seconds} s")
    if config.what in ("env", "all"):
        report("environment steps a second", race(environments(), config), "CartPole-v1")
        report("mazes generated a second", race(generators(), config), None)
    if config.what in ("train", "all"):
        title = f"training samples (boards x segments) a second: {bench_training.SETTING}"
        report(title, race(bench_training.contestants(), config), bench_training.BASE)
    return 0


Turn = Callable[[float], float]
"""Works for about so many seconds and returns units a second."""


def race(contestants: dict[str, Turn], config: BenchConfig) -> dict[str, list[float]]:
    """Rates of every contestant, one a round, taken in turns after a warm-up turn each."""
    for turn in contestants.values():
        turn(0.2 * config.seconds)
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(config.rounds):
        for name, turn in contestants.items():
            rates[name].append(turn(config.seconds))
    return rates


def report(title: str, rates: dict[str, list[float]], base: str | None) -> None:
    """Print medians, the spread, and ratios to the contestant `base`."""
    print(f"\n{title}")
    for name, found in rates.items():
        line = f"  {name:<44} {statistics.median(found):>12,.0f}   ({min(found):,.0f} to {max(found):,.0f})"
        if base is not None and name != base:
            ratio = statistics.median(a / b for a, b in zip(found, rates[base], strict=True))
            line += f"   {ratio:.2f}x {base}"
        print(line)


def environments() -> dict[str, Turn]:
    """Single environments through `gym.make`, random actions, automatic reset, puzzles from the default source."""
    found = {
        "CartPole-v1": gym.make("CartPole-v1"),
        "HRMMaze-v0, move": gym.make("HRMMaze-v0", action_mode="move"),
        "HRMMaze-v0, cell": gym.make("HRMMaze-v0", action_mode="cell"),
        "HRMMazeHard-v0, move": gym.make("HRMMazeHard-v0", action_mode="move"),
    }
    return {name: stepping(env) for name, env in found.items()}


def stepping(env: gym.Env[Any, Any]) -> Turn:
    """A turn of random steps; the actions are drawn beforehand, since it is not the drawing that is measured."""
    space: Any = env.action_space
    actions = np.random.default_rng(0).integers(0, space.n, 1000).tolist()
    env.reset(seed=0)

    def turn(seconds: float) -> float:
        steps, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < seconds:
            for action in actions:
                _, _, terminated, truncated, _ = env.step(action)
                if terminated or truncated:
                    env.reset()
            steps += len(actions)
        return steps / (time.perf_counter() - begin)

    return turn


def generators() -> dict[str, Turn]:
    """New mazes from keys, in batches."""
    worlds: dict[str, Any] = {
        "HRMMaze-v0": gym.make("HRMMaze-v0", source="generate"),
        "HRMMazeHard-v0": gym.make("HRMMazeHard-v0", source="generate"),
    }
    return {name: generating(env.unwrapped.puzzle_source) for name, env in worlds.items()}


def generating(source: Any) -> Turn:
    """A turn of batches of 20 mazes."""

    def turn(seconds: float) -> float:
        count, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < seconds:
            source.batch(np.arange(count, count + 20, dtype=np.uint64))
            count += 20
        return count / (time.perf_counter() - begin)

    return turn
