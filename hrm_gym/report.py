"""From episodes to figures: agents x environments, with intervals, as a table and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hrm_gym.episode import Episode
from hrm_gym.recorder import written_whole

if TYPE_CHECKING:
    from rich.table import Table

_Z95 = 1.959963984540054


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


def wilson(successes: int, trials: int) -> tuple[float, float]:
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


def to_table(scores: Sequence[Score]) -> Table:
    """A rich table, one row a score, titled with the environment if it is the same in all."""
    from rich.table import Table

    envs = {row.env for row in scores}
    title = f"{envs.pop()}, {_puzzles(scores[0].episodes)}" if len(envs) == 1 else None
    table = Table(title=title, caption="in brackets: 95 % Wilson intervals")
    table.add_column("agent")
    if title is None:
        table.add_column("env")
    dear = any(row.mean_spent not in (None, row.mean_segments) for row in scores)
    for heading in ("solved", "exact", "reached", "cells right", "segments", "steps", "ms / puzzle"):
        table.add_column(heading, justify="right")
    if dear:
        table.add_column("spent", justify="right")
        table.caption = f"{table.caption}; spent: segments of all networks and images together"
    for row in scores:
        spent = ["-" if row.mean_spent is None else f"{row.mean_spent:.2f}"] if dear else []
        table.add_row(row.agent, *([] if title else [row.env]), *_figures(row), *spent)
    return table


def to_json(scores: Sequence[Score]) -> str:
    """A JSON list of objects, one a score; figures that mean nothing for an agent are null."""
    return json.dumps([asdict(row) for row in scores], indent=2) + "\n"


def write_json(scores: Sequence[Score], path: Path) -> None:
    """Write `to_json(scores)` to `path`, whole or not at all.

    Raises:
        OSError: if it cannot be written.
    """
    with written_whole(path) as draft:
        draft.write_text(to_json(scores), encoding="utf-8")


def _figures(row: Score) -> list[str]:
    """The numeric columns of one row, as text."""
    return [
        _rate(row.solved, row.solved_low, row.solved_high),
        _rate(row.exact, row.exact_low, row.exact_high),
        "-" if row.reached is None else f"{row.reached:.1%}",
        f"{row.cell_accuracy:.1%}",
        "-" if row.mean_segments is None else f"{row.mean_segments:.2f}",
        f"{row.mean_steps:.1f}",
        f"{row.ms_per_puzzle:.2f}",
    ]


def _rate(rate: float, low: float, high: float) -> str:
    """A rate with its interval, in per cent."""
    return f"{rate:.1%} ({100 * low:.1f}-{100 * high:.1f})"


def _puzzles(count: int) -> str:
    """So and so many puzzles, in words."""
    return f"{count:,} puzzle{'' if count == 1 else 's'}"
