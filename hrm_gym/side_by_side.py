"""Several agents on the same puzzle at once, an action each at a time, and their pictures in one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hrm_gym.agents.agent import Agent
from hrm_gym.episode import Episode, Frame
from hrm_gym.recorder import Image
from hrm_gym.rollout import Env, moments

Player = tuple[Env, Agent]
"""An environment in the agent's action mode, and the agent."""

Onlooker = Callable[[Sequence[Frame]], None]
"""Called after every round with the newest frame of each player; a player that is done keeps its last one."""

_GROUND = (15, 23, 42)
"""What shows where there is no board: the ground of every picture."""


def play_together(
    players: Sequence[Player], index: int, seed: int | None = 0, on_round: Onlooker | None = None
) -> list[Episode]:
    """Play puzzle `index` of a run with every agent, until the last of them is done.

    Args:
        players: who plays; each on an environment of its own.
        index: which puzzle.
        seed: which stream of puzzles; None takes row `index` of a data file.
        on_round: called after the resets and after every round of actions.

    Returns:
        An Episode a player, in their order.
    """
    courses = [moments(env, agent, index, seed) for env, agent in players]
    frames: list[Frame] = [next(course) for course in courses]
    episodes: dict[int, Episode] = {}
    while True:
        if on_round is not None:
            on_round(frames)
        for place, course in enumerate(courses):
            if place not in episodes:
                try:
                    frames[place] = next(course)
                except StopIteration as end:
                    episodes[place] = end.value
        if len(episodes) == len(players):
            return [episodes[place] for place in range(len(players))]


def tiled(pictures: Sequence[Image], columns: int) -> Image:
    """Pictures of one size as one, `columns` in a row; the last row may have room left.

    Args:
        pictures: (H, W, 3) uint8 each.
        columns: at least 1.
    """
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    whole = np.full((rows * height, columns * width, 3), _GROUND, dtype=np.uint8)
    for place, picture in enumerate(pictures):
        top, left = place // columns * height, place % columns * width
        whole[top : top + height, left : left + width] = picture
    return whole


def columns_for(count: int, size: tuple[int, int], shape: float = 1.6) -> int:
    """How many pictures of `size` (width, height) go in a row, so that the whole comes nearest to width/height `shape`.

    >>> [columns_for(count, (760, 520)) for count in (1, 2, 3, 4, 6)]
    [1, 2, 2, 2, 3]
    """
    width, height = size

    def miss(columns: int) -> float:
        rows = -(-count // columns)
        empty = rows * columns - count
        return abs(float(np.log(columns * width / (rows * height) / shape))) + 0.1 * empty

    return min(range(1, count + 1), key=miss)


def pictures_of(players: Sequence[Player]) -> list[Image]:
    """What every environment (made with `render_mode="rgb_array"`) shows now."""
    shown: list[Any] = [env.render() for env, _ in players]
    return [np.asarray(picture, dtype=np.uint8) for picture in shown]
