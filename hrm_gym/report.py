"""From episodes to figures: agents x environments, with intervals, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hrm_gym.episode import Episode
from hrm_gym.intervals import wilson
from hrm_gym.recorder import written_whole

if TYPE_CHECKING:
    from rich.table import Table

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
    with written_whole(path) as draft:
        draft.write_text(to_json(scores), encoding="utf-8")


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
