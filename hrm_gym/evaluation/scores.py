"""From episodes to figures: agents x environments with 95 % intervals, as a table and as JSON.

Intervals are Wilson's for rates, and the bootstrap's for means and for agents that were trained several times.
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

from hrm_gym.evaluation.pages import printable, table_text
from hrm_gym.evaluation.rollout import Episode
from hrm_gym.files import write_atomically

if TYPE_CHECKING:
    from rich.table import Table


Interval = tuple[float, float]
"""Lower and upper bound."""

RESAMPLES = 2000
"""Resamples of a bootstrap."""

_AT_ONCE = 250
"""Resamples that are in memory at a time."""

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
    rng = np.random.default_rng(seed)
    draws = (rng.integers(0, len(found), (_AT_ONCE, len(found))) for _ in range(RESAMPLES // _AT_ONCE))
    low, high = np.percentile([found[rows].mean(axis=1) for rows in draws], (2.5, 97.5))
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
    table, rng = np.stack(runs), np.random.default_rng(seed)
    count, puzzles = table.shape
    means = np.empty(RESAMPLES)
    for draw in range(RESAMPLES):
        weights = rng.multinomial(puzzles, np.full(puzzles, 1 / puzzles)) / puzzles
        means[draw] = (table @ weights)[rng.integers(count, size=count)].mean()
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


WIDE = 100
"""Columns that a table with intervals beside their rates needs, besides the agents' names."""

COLUMNS = {
    "solved": ("solved", ".1%"),
    "exact": ("exact", ".1%"),
    "reached": ("reached", ".1%"),
    "cells right": ("cell_accuracy", ".1%"),
    "segments": ("mean_segments", ".2f"),
    "steps": ("mean_steps", ".1f"),
    "ms / puzzle": ("ms_per_puzzle", ".2f"),
    "spent": ("mean_spent", ".2f"),
}
"""The columns of a table: the field of a Score, and how it is written; what no agent has is left out."""


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
        halting_rules: the halting rules in force, as the agent states them; "none" for agents that have none.
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
    halting_rules: str = "none"


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
        halting_rules=episodes[0].halting_rules,
    )


def to_table(scores: Sequence[Score], width: int = 140) -> Table:
    """A rich table, one row a score, titled with the environment if it is the same in all.

    Args:
        scores: at least one.
        width: columns of the terminal; where it has too few, intervals go under their rates, and 80 suffice.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    one_env = len({row.env for row in scores}) == 1
    many_networks = any(row.mean_spent not in (None, row.mean_segments) for row in scores)
    names = max(len(row.agent) for row in scores) + (0 if one_env else max(len(row.env) for row in scores))
    narrow = width < WIDE + names + (8 if many_networks else 0)
    caption = "in brackets: 95 % Wilson intervals"
    if many_networks:
        caption += "; spent: segments of all networks and images together"
    captions = [
        caption,
        *(printable(f"{row.agent}: {row.halting_rules}") for row in scores if row.halting_rules != "none"),
    ]
    slim = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0), "show_edge": False}
    look: dict[str, Any] = slim if narrow else {"box": box.HEAVY_HEAD}
    table = Table(caption=Text("\n".join(captions), style="table.caption"), **look)
    table.add_column("agent", overflow="fold", min_width=6)
    if one_env:
        table.title = table_text(f"{scores[0].env}, {puzzle_count(scores[0].episodes)}", "table.title")
    else:
        table.add_column("env", overflow="fold")
    columns = {name: [_cell(row, name, narrow) for row in scores] for name in COLUMNS}
    if not many_networks:
        del columns["spent"]
    elif narrow:
        del columns["steps"]
    columns = {name: cells for name, cells in columns.items() if set(cells) != {"-"}}
    for name in columns:
        table.add_column("\n".join(name.rsplit(" ", 1)) if narrow else name, justify="right", no_wrap=True)
    for place, row in enumerate(scores):
        named = [table_text(row.agent)] if one_env else [table_text(row.agent), table_text(row.env)]
        table.add_row(*named, *(cells[place] for cells in columns.values()))
    return table


def _cell(row: Score, column: str, narrow: bool) -> str:
    """A figure of a table, "-" where it means nothing; the interval of a rate goes below it if the table is narrow."""
    name, form = COLUMNS[column]
    value = getattr(row, name)
    if value is None:
        return "-"
    written = format(value, form)
    if hasattr(row, f"{name}_low"):
        low, high = getattr(row, f"{name}_low"), getattr(row, f"{name}_high")
        written += f"{chr(10) if narrow else ' '}({100 * low:.1f}-{100 * high:.1f})"
    return written


def to_json(scores: Sequence[Score], **about: str) -> str:
    """A JSON list of objects, one a score; figures that mean nothing for an agent are null.

    Args:
        scores: the scores.
        **about: what else each object says, such as the command.
    """
    return json.dumps([{**asdict(row), **about} for row in scores], indent=2) + "\n"


def write_json(scores: Sequence[Score], path: Path, **about: str) -> None:
    """Write `to_json(scores, **about)` to `path` atomically.

    Raises:
        OSError: if it cannot be written.
    """
    write_atomically(path, to_json(scores, **about))


def puzzle_count(count: int) -> str:
    """A number of puzzles in words.

    >>> puzzle_count(1), puzzle_count(1000)
    ('1 puzzle', '1,000 puzzles')
    """
    return f"{count:,} puzzle{'' if count == 1 else 's'}"
