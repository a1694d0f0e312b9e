"""95 % intervals: Wilson's for rates, the bootstrap for means and for agents that were trained several times.

From episodes to figures: agents x environments, with intervals, as a table and as JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.evaluation.rollout import Episode
from hrm_gym.files import write_atomically

if TYPE_CHECKING:
    from rich.table import Table


Interval = tuple[float, float]
"""Lower and upper bound."""

RESAMPLES = 2000
_DRAWN_AT_ONCE = 256
"""Resamples of a bootstrap."""

_Z95 = 1.959963984540054


def wilson(successes: int, trials: int) -> Interval:
    """The 95 % Wilson interval of a success rate.

    Args:
        successes: 0 to `trials`.
        trials: at least 0; nothing is known of a rate that was never tried, so 0 gives (0, 1).

    Returns:
        Lower and upper bound, both in [0, 1].

    >>> [round(bound, 3) for bound in wilson(97, 100)]
    [0.915, 0.99]
    """
    if trials == 0:
        return 0.0, 1.0
    rate, z2 = successes / trials, _Z95**2
    centre = (rate + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _Z95 * math.sqrt(rate * (1 - rate) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return low, high


def bootstrap_mean(values: Sequence[float] | NDArray[np.float64], seed: int = 0) -> Interval:
    """The 95 % percentile-bootstrap interval of a mean (Efron 1979); of a single value, that value twice.

    Args:
        values: (N,) finite numbers, N >= 1.
        seed: of the resampling.

    >>> low, high = bootstrap_mean([0.0, 1.0] * 50)
    >>> 0.39 < low < 0.42 and 0.58 < high < 0.61
    True
    """
    found = np.asarray(values, dtype=np.float64)
    if len(found) == 1 or found.min() == found.max():
        return float(found[0]), float(found[0])
    rng, count = _rng(seed), len(found)
    sizes = [min(_DRAWN_AT_ONCE, RESAMPLES - first) for first in range(0, RESAMPLES, _DRAWN_AT_ONCE)]
    means = np.concatenate([found[rng.integers(0, count, (size, count))].mean(axis=1) for size in sizes])
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def bootstrap_runs(runs: Sequence[NDArray[np.float64]], seed: int = 0) -> Interval:
    """The 95 % interval of the mean over training runs that were judged on the same puzzles.

    A two-stage bootstrap: runs are drawn with replacement, and puzzles too, the same ones for every run. It covers both
    the luck of a training seed and that of the puzzles. With two or three runs it is a lower bound of the doubt.

    Args:
        runs: R arrays of N values, one value a puzzle.
        seed: of the resampling.
    """
    if len(runs) == 1:
        return bootstrap_mean(runs[0], seed)
    table, rng = np.stack(runs), _rng(seed)
    count, puzzles = table.shape
    means = np.empty(RESAMPLES)
    for draw in range(RESAMPLES):
        weights = rng.multinomial(puzzles, np.full(puzzles, 1 / puzzles)) / puzzles
        means[draw] = (table @ weights)[rng.integers(count, size=count)].mean()
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


WIDE = 100
"""Columns that a table with intervals beside their rates needs, besides the agents' names."""


@dataclass(frozen=True)
class Score:
    """How one agent did in one environment. Shares lie in [0, 1]; `_low` and `_high` bound the 95 % Wilson interval.

    Attributes:
        agent: name of the agent.
        env: id of the environment.
        episodes: puzzles played, at least 1.
        solved: share right by the rules.
        exact: share equal to the stored solution.
        reached: share of answers or walks that connect start and goal, by whatever way; None in puzzles without either.
        cell_accuracy: mean share of right cells among those not given.
        mean_segments: mean segments used, at least 1; None outside answer mode.
        mean_steps: mean actions taken.
        ms_per_puzzle: mean wall time of agent and environment, in milliseconds.
        mean_spent: mean segments that the agent ran on a puzzle, over all its networks and images; None without any.
    """

    agent: str
    env: str
    episodes: int
    solved: float
    solved_low: float
    solved_high: float
    exact: float
    exact_low: float
    exact_high: float
    reached: float | None
    cell_accuracy: float
    mean_segments: float | None
    mean_steps: float
    ms_per_puzzle: float
    mean_spent: float | None = None


def score(episodes: Sequence[Episode]) -> Score:
    """The figures of one agent's episodes in one environment.

    Raises:
        ValueError: if there are no episodes.
    """
    if not episodes:
        raise ValueError("expected at least one episode to score, got none")
    count = len(episodes)
    solved = sum(episode.solved for episode in episodes)
    exact = sum(episode.exact for episode in episodes)
    reached = [episode.reached for episode in episodes if episode.reached is not None]
    segments = [episode.segments for episode in episodes if episode.segments is not None]
    spent = [episode.spent for episode in episodes if episode.spent is not None]
    return Score(
        agent=episodes[0].agent,
        env=episodes[0].env_id,
        episodes=count,
        solved=solved / count,
        solved_low=wilson(solved, count)[0],
        solved_high=wilson(solved, count)[1],
        exact=exact / count,
        exact_low=wilson(exact, count)[0],
        exact_high=wilson(exact, count)[1],
        reached=sum(reached) / len(reached) if reached else None,
        cell_accuracy=sum(episode.cell_accuracy for episode in episodes) / count,
        mean_segments=sum(segments) / len(segments) if segments else None,
        mean_steps=sum(episode.steps for episode in episodes) / count,
        ms_per_puzzle=1000 * sum(episode.seconds for episode in episodes) / count,
        mean_spent=sum(spent) / len(spent) if spent else None,
    )


def to_table(scores: Sequence[Score], width: int = 140) -> Table:
    """A rich table, one row a score, titled with the environment if it is the same in all.

    Args:
        scores: at least one.
        width: columns of the terminal; where it has too few, intervals go under their rates, and 80 suffice.
    """
    from rich import box
    from rich.table import Table

    envs = {row.env for row in scores}
    names = max(len(row.agent) for row in scores) + (0 if len(envs) == 1 else max(map(len, envs)))
    narrow = width < WIDE + names + (8 if _is_dear(scores) else 0)
    title = f"{envs.pop()}, {puzzles_said(scores[0].episodes)}" if len(envs) == 1 else None
    caption = "in brackets: 95 % Wilson intervals"
    if _is_dear(scores):
        caption += "; spent: segments of all networks and images together"
    columns = _columns(scores, narrow)
    slim = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0), "show_edge": False}
    look: dict[str, Any] = slim if narrow else {"box": box.HEAVY_HEAD}
    table = Table(title=title, caption=caption, **look)
    table.add_column("agent", overflow="fold", min_width=6)
    if title is None:
        table.add_column("env", overflow="fold")
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for place, row in enumerate(scores):
        table.add_row(row.agent, *([] if title else [row.env]), *(cells[place] for cells in columns.values()))
    return table


def to_json(scores: Sequence[Score]) -> str:
    """A JSON list of objects, one a score; figures that mean nothing for an agent are null."""
    return json.dumps([asdict(row) for row in scores], indent=2) + "\n"


def write_json(scores: Sequence[Score], path: Path) -> None:
    """Write `to_json(scores)` to `path`, whole or not at all.

    Raises:
        OSError: if it cannot be written.
    """
    write_atomically(path, to_json(scores))


def _is_dear(scores: Sequence[Score]) -> bool:
    """Whether some agent ran more segments than it used actions for: several networks, or images of the puzzle."""
    return any(row.mean_spent not in (None, row.mean_segments) for row in scores)


def _columns(scores: Sequence[Score], narrow: bool) -> dict[str, list[str]]:
    """The columns of figures, by heading; what means nothing for any of the agents has no column."""
    rates = {
        "solved": [_rate(row.solved, row.solved_low, row.solved_high, narrow) for row in scores],
        "exact": [_rate(row.exact, row.exact_low, row.exact_high, narrow) for row in scores],
    }
    rest = {
        "reached": ["-" if row.reached is None else f"{row.reached:.1%}" for row in scores],
        "cells right": [f"{row.cell_accuracy:.1%}" for row in scores],
        "segments": ["-" if row.mean_segments is None else f"{row.mean_segments:.2f}" for row in scores],
        "steps": [f"{row.mean_steps:.1f}" for row in scores],
        "ms / puzzle": [f"{row.ms_per_puzzle:.2f}" for row in scores],
        "spent": ["-" if row.mean_spent is None else f"{row.mean_spent:.2f}" for row in scores],
    }
    if not _is_dear(scores):
        del rest["spent"]
    elif narrow:
        del rest["steps"]
    told = {heading: cells for heading, cells in rest.items() if set(cells) != {"-"}}
    return rates | ({"\n".join(heading.rsplit(" ", 1)): cells for heading, cells in told.items()} if narrow else told)


def _rate(rate: float, low: float, high: float, narrow: bool = False) -> str:
    """A rate with its interval, in per cent."""
    return f"{rate:.1%}{chr(10) if narrow else ' '}({100 * low:.1f}-{100 * high:.1f})"


def puzzles_said(count: int) -> str:
    """So many puzzles, in words.

    >>> puzzles_said(1), puzzles_said(1000)
    ('1 puzzle', '1,000 puzzles')
    """
    return f"{count:,} puzzle{'' if count == 1 else 's'}"
