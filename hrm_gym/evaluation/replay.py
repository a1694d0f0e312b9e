"""Replays: an HTML page on which a slider goes through the segments of every agent, side by side on the same puzzle.

The page shows the board of every segment, the timeline of Q(halt) and Q(continue), when and why each agent stopped, how
far its states moved, the doubt about every cell, and which cells the last segment has changed.
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
        moments: from the start to the end, at least two: each frame, the (height, width, 3) uint8 picture of its board,
            and the decision in words.
        budget: segments or steps that it had.
    """

    episode: Episode
    moments: tuple[tuple[Frame, Image, str], ...]
    budget: int


def follow(player: Player, index: int, seed: int | None) -> Course:
    """Play one puzzle and keep every moment; the environment was made with `render_mode="rgb_array"`."""
    env, agent = player
    world: Any = env.unwrapped
    played = Playthrough(env, agent, index, seed)
    moments = tuple((frame, world.board_picture(), world.decision(world.moment())) for frame in played)
    return Course(played.episode, moments, world.max_steps)


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
        origin="; ".join(
            [
                f"{puzzle_count(len(puzzles))}, {'rows of a data file' if seed is None else f'seed {seed}'}",
                *(caption(agent).replace("\n", ": ") for _, agent in players if "\n" in caption(agent)),
            ]
        ),
        command=command,
        data=replay_data(players, puzzles),
    )
    write_atomically(path, page)


def replay_data(players: Sequence[Player], puzzles: Sequence[Sequence[Course]]) -> dict[str, Any]:
    """What the page's script reads, as plain JSON values.

    `columns` and `rows` are [first pixel, pixels] of the answer's cells in the board's picture; a frame has `board` (an
    address with the picture in it), `q_halt`, `q_continue`, `confidence` (per cell, in per cent), `changed`
    (cells), and `words`, `event`, `threshold` and `residuals` as a `Thought` has them.
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
                "free": np.flatnonzero(world.family.free(courses[0].episode.puzzle.clues)).tolist(),
                "players": [_course_data(course) for course in courses],
            }
            for courses in puzzles
        ],
    }


def _course_data(course: Course) -> dict[str, Any]:
    frames: list[dict[str, Any]] = []
    before = course.moments[0][0].answer
    for frame, board, words in course.moments:
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
                "changed": np.flatnonzero(frame.answer != before).tolist() if len(frames) > 1 else [],
                "words": words,
                "event": "" if thought is None else thought.event,
                "threshold": None if thought is None else thought.threshold,
                "residuals": {} if thought is None else {name: round(value, 4) for name, value in thought.residuals},
            }
        )
        before = frame.answer
    verdict = {"solved": course.episode.solved, "exact": course.episode.exact}
    return {**verdict, "budget": course.budget, "frames": frames}


def _png(picture: Image) -> bytes:
    """A PNG of at most 64 colours."""
    from PIL import Image as Pillow

    held = io.BytesIO()
    Pillow.fromarray(picture).quantize(64, dither=Pillow.Dither.NONE).save(held, "PNG", optimize=True)
    return held.getvalue()
