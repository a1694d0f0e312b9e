"""How trained networks do on the same new puzzles: for the commands that train several and set them side by side."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from hrm_gym.agents.agent import Agent
from hrm_gym.data.stream import PuzzleStream
from hrm_gym.evaluation import intervals
from hrm_gym.evaluation.plots import save
from hrm_gym.evaluation.rollout import Episode, rollout_batched
from hrm_gym.files import write_atomically
from hrm_gym.reading import convert, read_json
from hrm_gym.scripts.output import write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PUZZLE_SEED = 2026
"""Of the held-out puzzles."""


def played(env_id: str, env: Mapping[str, Any], agent: Agent, puzzles: int, split: str = "test") -> list[Episode]:
    """Play new puzzles of a split, the same for every agent.

    Args:
        env_id: the environment.
        env: its arguments.
        agent: plays in its own action mode.
        puzzles: how many, at least 1.
        split: which.
    """

    def make() -> gym.Env[Any, Any]:
        arguments = {**env, "action_mode": agent.action_mode, "source": "generate", "split": split}
        return gym.make(env_id, disable_env_checker=True, **arguments)

    return list(rollout_batched(make, agent, puzzles, batch=250, seed=PUZZLE_SEED))


def new_clues(env_id: str, env: Mapping[str, Any], puzzles: int) -> NDArray[np.uint8]:
    """(N, H, W) clues of new puzzles of the test split, the same at every call; arguments as `played`."""
    world: Any = gym.make(env_id, disable_env_checker=True, **env, source="generate", split="test")
    try:
        return PuzzleStream(world.unwrapped.puzzle_source, PUZZLE_SEED).take(0, puzzles).clues
    finally:
        world.close()


def judged(env_id: str, env: Mapping[str, Any], agent: Agent, puzzles: int, split: str = "test") -> dict[str, Any]:
    """How an agent does on them; arguments as `played`.

    Returns:
        `exact` and `solved`, shares in [0, 1]; `exact_interval` and `solved_interval`, their 95 % intervals;
        `cells`, the mean share of cells right.
    """
    episodes = played(env_id, env, agent, puzzles, split)
    found: dict[str, Any] = {"cells": float(np.mean([episode.cell_accuracy for episode in episodes]))}
    for name in ("exact", "solved"):
        right = [getattr(episode, name) for episode in episodes]
        found[name] = sum(right) / len(right)
        found[f"{name}_interval"] = intervals.rate(right, [episode.cluster for episode in episodes])
    return found


def rate(found: Mapping[str, Any], name: str) -> str:
    """A share with its interval in words.

    >>> rate({"exact": 0.5, "exact_interval": (0.4, 0.6)}, "exact")
    '50.0 % (40.0 to 60.0)'
    """
    low, high = found[f"{name}_interval"]
    return f"{100 * found[name]:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def spread(found: Mapping[str, Any], name: str, places: int = 2) -> str:
    """A number with its interval in words.

    >>> spread({"ratio": 1.234, "ratio_interval": (1.0, 1.5)}, "ratio")
    '1.23 (1.00 to 1.50)'
    """
    low, high = found[f"{name}_interval"]
    return f"{found[name]:.{places}f} ({low:.{places}f} to {high:.{places}f})"


@dataclass(frozen=True)
class Judged:
    """What a result says, as far as tables and pictures read it."""

    cells: float
    exact: float
    solved: float
    exact_interval: tuple[float, float]
    solved_interval: tuple[float, float]
    parameters: int
    puzzles_seen: int = 0
    seconds: float = 0.0
    curve: tuple[dict[str, float], ...] = ()


def result_of(
    path: Path, asked: Mapping[str, Any], work: Callable[[], dict[str, Any]], schema: type = Judged
) -> dict[str, Any]:
    """The result that stands at `path`, if it is of what is asked for; else `work`'s, which is then kept there.

    `schema` is a dataclass of what is read of it.
    """
    if path.exists():
        known = read_json(path)
        convert(known, schema, f"{path} (delete it, and it is worked out again)", whole=False)
        if all(known.get(name) == value for name, value in asked.items()):
            return known
    result = {**asked, **work()}
    write_json(result, path)
    return result


def about() -> dict[str, str]:
    """When and on what figures are taken."""
    return {"date": date.today().isoformat(), "machine": f"{platform.machine()}, PyTorch {version('torch')}"}


def publish(out: Path, name: str, content: Mapping[str, Any], page: str, picture: Figure) -> None:
    """Write figures, page and picture of an experiment to NAME.json, NAME.md and NAME.png in `out`; print the page."""
    write_json(content, out / f"{name}.json")
    write_atomically(out / f"{name}.md", page)
    save(picture, out / f"{name}.png")
    print(page)
