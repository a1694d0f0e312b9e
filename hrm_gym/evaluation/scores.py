"""From episodes to figures: agents x environments with 95 % intervals (`intervals`), as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hrm_gym.evaluation.intervals import rate
from hrm_gym.evaluation.pages import printable, table_text
from hrm_gym.evaluation.rollout import Episode
from hrm_gym.files import write_atomically

if TYPE_CHECKING:
    from rich.table import Table


WIDE = 100
"""Columns that a table with intervals next to their rates needs, besides the agents' names."""

COLUMNS = {
    "solved": ("solved", ".1%"),
    "exact": ("exact", ".1%"),
    "reached": ("reached", ".1%"),
    "cells right": ("cell_accuracy", ".1%"),
    "segments": ("mean_segments", ".2f"),
    "steps": ("mean_steps", ".1f"),
    "ms / puzzle": ("ms_per_puzzle", ".2f"),
    "spent": ("mean_spent", ".2f"),
    "tokens": ("mean_tokens", ",.0f"),
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
        mean_tokens: mean tokens that a language model read and wrote for a puzzle; None for other agents.
        halting_rules: the halting rules in force, as the agent states them; "none" for agents that have none.
        clusters: how many of the puzzles are independent: others share a solution or a task with one of them, and the
            intervals know it.
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
    mean_tokens: float | None = None
    halting_rules: str = "none"
    clusters: int | None = None


def score(episodes: Sequence[Episode]) -> Score:
    """The figures of one agent's episodes in one environment.

    Raises:
        ValueError: if there are no episodes.
    """
    if not episodes:
        raise ValueError("expected at least one episode to score, got none")
    count = len(episodes)
    clusters = [episode.cluster for episode in episodes]
    solved, exact = ([getattr(episode, name) for episode in episodes] for name in ("solved", "exact"))
    solved_interval, exact_interval = rate(solved, clusters), rate(exact, clusters)
    reached = [episode.reached for episode in episodes if episode.reached is not None]
    segments = [episode.segments for episode in episodes if episode.segments is not None]
    spent = [episode.spent for episode in episodes if episode.spent is not None]
    tokens = [one.tokens for one in episodes if one.tokens is not None]
    return Score(
        agent=episodes[0].agent,
        env=episodes[0].env_id,
        episodes=count,
        solved=sum(solved) / count,
        solved_low=solved_interval[0],
        solved_high=solved_interval[1],
        exact=sum(exact) / count,
        exact_low=exact_interval[0],
        exact_high=exact_interval[1],
        reached=sum(reached) / len(reached) if reached else None,
        cell_accuracy=sum(episode.cell_accuracy for episode in episodes) / count,
        mean_segments=sum(segments) / len(segments) if segments else None,
        mean_steps=sum(episode.steps for episode in episodes) / count,
        ms_per_puzzle=1000 * sum(episode.seconds for episode in episodes) / count,
        mean_spent=sum(spent) / len(spent) if spent else None,
        mean_tokens=sum(tokens) / len(tokens) if tokens else None,
        halting_rules=episodes[0].halting_rules,
        clusters=None if None in clusters else len(set(clusters)),
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
    fewer = sorted({row.clusters for row in scores if row.clusters is not None and row.clusters < row.episodes})
    if fewer:
        caption += f"; they know that the puzzles have {', '.join(map(str, fewer))} solutions or tasks"
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
