"""Replays: an HTML page on which a slider goes through the segments of every agent, side by side on the same puzzle.

The page shows the board of every segment, Q(halt) and Q(continue), the confidence of every cell, and which cells the
last segment has changed. Arrow keys go through segments and puzzles.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hrm_gym.evaluation.films import Image, Player
from hrm_gym.evaluation.pages import data_url, render
from hrm_gym.evaluation.rollout import Episode, Frame, Playthrough, caption
from hrm_gym.evaluation.scores import puzzle_count
from hrm_gym.files import write_atomically


@dataclass(frozen=True, eq=False)
class Course:
    """One puzzle as one agent played it.

    Attributes:
        episode: the record.
        moments: from the start to the end, at least two: each frame and the (height, width, 3) uint8 picture of its
            board.
    """

    episode: Episode
    moments: tuple[tuple[Frame, Image], ...]


def follow(player: Player, index: int, seed: int | None) -> Course:
    """Play one puzzle and keep every moment; the environment was made with `render_mode="rgb_array"`."""
    env, agent = player
    world: Any = env.unwrapped
    played = Playthrough(env, agent, index, seed)
    moments = tuple((frame, world.board_picture()) for frame in played)
    return Course(played.episode, moments)


def write_replay(
    players: Sequence[Player], puzzles: Sequence[Sequence[Course]], path: Path, command: str, seed: int | None
) -> None:
    """Write the page.

    Args:
        players: who played.
        puzzles: for every puzzle, the courses of all players in order.
        path: where to.
        command: the command line that made it, for the page.
        seed: the stream of the puzzles, for the page; None for the rows of a file.

    Raises:
        OSError: if it cannot be written.
    """
    world: Any = players[0][0].unwrapped
    name = world.spec.id if world.spec is not None else world.family.title
    page = render(
        "replay.html",
        title=f"{name} replay",
        heading=f"{name}: {', '.join(agent.name for _, agent in players)}",
        origin=f"{puzzle_count(len(puzzles))}, {'rows of a data file' if seed is None else f'seed {seed}'}",
        command=command,
        data=replay_data(players, puzzles),
    )
    write_atomically(path, page)


def replay_data(players: Sequence[Player], puzzles: Sequence[Sequence[Course]]) -> dict[str, Any]:
    """What the page's script reads, as plain JSON values.

    `columns` and `rows` are [first pixel, pixels] of the answer's cells in the board's picture; a frame has `board` (an
    address with the picture in it), `q_halt`, `q_continue`, `confidence` (per cell, in per cent) and `changed` (cells).
    """
    world: Any = players[0][0].unwrapped
    columns, rows = world.cell_places()
    return {
        "board": list(world.family.board_size),
        "columns": columns,
        "rows": rows,
        "agents": [
            {"name": agent.name, "mode": agent.action_mode, "halting": caption(agent).partition("\n")[2]}
            for _, agent in players
        ],
        "puzzles": [
            {
                "index": courses[0].episode.index,
                "name": courses[0].episode.puzzle.name,
                "players": [_course_data(course) for course in courses],
            }
            for courses in puzzles
        ],
    }


def _course_data(course: Course) -> dict[str, Any]:
    frames = []
    before = course.moments[0][0].answer
    for frame, board in course.moments:
        thought = frame.thought
        sure = None if thought is None else thought.confidence
        values = (None, None) if thought is None else (thought.q_halt, thought.q_continue)
        q_halt, q_continue = (None if value is None else round(float(value), 3) for value in values)
        frames.append(
            {
                "board": data_url(_png(board), "image/png"),
                "q_halt": q_halt,
                "q_continue": q_continue,
                "confidence": None if sure is None else np.round(100 * sure.ravel()).astype(int).tolist(),
                "changed": np.flatnonzero(frame.answer != before).tolist(),
            }
        )
        before = frame.answer
    return {"solved": course.episode.solved, "exact": course.episode.exact, "frames": frames}


def _png(picture: Image) -> bytes:
    """A PNG of at most 64 colours."""
    from PIL import Image as Pillow

    held = io.BytesIO()
    Pillow.fromarray(picture).quantize(64, dither=Pillow.Dither.NONE).save(held, "PNG", optimize=True)
    return held.getvalue()
