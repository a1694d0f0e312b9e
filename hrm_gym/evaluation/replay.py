"""Self-contained HTML pages: style, script, data and pictures in one file; a browser asks no network for anything.

Replays: an HTML page on which a slider goes through the segments of every agent, side by side on the same puzzle.

The page shows the board of every segment, Q(halt) and Q(continue), the confidence of every cell, and which cells the
last segment has changed. Arrow keys go through segments and puzzles.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hrm_gym.evaluation.films import Image, Player
from hrm_gym.evaluation.rollout import Episode, Frame, moments
from hrm_gym.files import write_atomically

WEB = Path(__file__).parent / "web"
"""Style sheets and scripts that pages are made with."""


def page(title: str, body: str, styles: Sequence[str] = (), scripts: Sequence[str] = (), data: Any = None) -> str:
    """A whole page.

    Args:
        title: plain text.
        body: HTML.
        styles: names of files in `web/`, after `page.css`.
        scripts: names of files in `web/`; they run when the page is there.
        data: what the scripts find as JSON in the element `data`.
    """
    style = "\n".join((WEB / name).read_text(encoding="utf-8") for name in ("page.css", *styles))
    script = "\n".join((WEB / name).read_text(encoding="utf-8") for name in scripts)
    held = "" if data is None else f'<script type="application/json" id="data">{safe_json(data)}</script>\n'
    run = f"<script>\n{script}</script>\n" if scripts else ""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n{held}{run}</body>\n</html>\n"
    )


def text(value: object) -> str:
    """Plain text as HTML."""
    return html.escape(str(value))


def safe_json(data: Any) -> str:
    """JSON that may stand inside a script element, whatever is in it."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def data_url(content: bytes, kind: str) -> str:
    """A picture as an address, e.g. of kind `image/png`."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def scrolling(inner: str, label: str) -> str:
    """A box around something wide that scrolls by itself; it can be reached by keyboard."""
    return f'<div class="box" tabindex="0" role="region" aria-label="{text(label)}">{inner}</div>'


def slug(value: str) -> str:
    """Text as part of a file's name or an anchor.

    >>> slug("HRMSudoku-v0:box=(2, 3)")
    'HRMSudoku-v0-box-2-3'
    """
    return re.sub(r"[^\w.-]+", "-", value).strip("-")


@dataclass(frozen=True, eq=False)
class Moment:
    """A frame and the picture of its board.

    Attributes:
        frame: what happened.
        board: (height, width, 3) uint8, without the panel.
    """

    frame: Frame
    board: Image


@dataclass(frozen=True, eq=False)
class Course:
    """One puzzle as one agent played it.

    Attributes:
        episode: the record.
        moments: from the start to the end, at least two.
    """

    episode: Episode
    moments: tuple[Moment, ...]


def follow(player: Player, index: int, seed: int | None) -> Course:
    """Play one puzzle and keep every moment; the environment was made with `render_mode="rgb_array"`."""
    env, agent = player
    kept: list[Moment] = []
    course = moments(env, agent, index, seed)
    while True:
        try:
            frame = next(course)
        except StopIteration as end:
            return Course(end.value, tuple(kept))
        kept.append(Moment(frame, board_picture(env)))


def board_picture(env: Any) -> Image:
    """(height, width, 3) uint8: what the environment shows, without margin and panel."""
    from hrm_gym.envs.rendering.screen import MARGIN

    width, height = env.unwrapped.family.board_size
    picture = np.asarray(env.render(), dtype=np.uint8)
    return picture[MARGIN : MARGIN + height, MARGIN : MARGIN + width]


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
    data = replay_data(players, puzzles)
    origin = "rows of a data file" if seed is None else f"seed {seed}"
    body = _BODY.format(
        title=text(f"{name}: {', '.join(agent.name for _, agent in players)}"),
        command=text(command),
        origin=text(f"{len(puzzles)} puzzle{'' if len(puzzles) == 1 else 's'}, {origin}"),
    )
    write_atomically(path, page(f"{name} replay", body, ["replay.css"], ["replay.js"], data))


def replay_data(players: Sequence[Player], puzzles: Sequence[Sequence[Course]]) -> dict[str, Any]:
    """What the page's script reads, as plain JSON values.

    `columns` and `rows` are [first pixel, pixels] of the answer's cells in the board's picture; a frame has `board` (an
    address with the picture in it), `q_halt`, `q_continue`, `confidence` (per cell, in per cent) and `changed` (cells).
    """
    from hrm_gym.envs.rendering.screen import Cells

    world: Any = players[0][0].unwrapped
    cells = Cells.of(world.family, world.shape)
    return {
        "board": list(world.family.board_size),
        "columns": [list(span) for span in cells.columns],
        "rows": [list(span) for span in cells.rows],
        "agents": [{"name": agent.name, "mode": agent.action_mode} for _, agent in players],
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
    frames, before = [], course.moments[0].frame.answer
    for moment in course.moments:
        frames.append(_moment_data(moment, before))
        before = moment.frame.answer
    return {"solved": course.episode.solved, "exact": course.episode.exact, "frames": frames}


def _moment_data(moment: Moment, before: Any) -> dict[str, Any]:
    thought, answer = moment.frame.thought, moment.frame.answer
    sure = None if thought is None or thought.confidence is None else thought.confidence
    return {
        "board": data_url(_png(moment.board), "image/png"),
        "q_halt": None if thought is None or thought.q_halt is None else round(float(thought.q_halt), 3),
        "q_continue": None if thought is None or thought.q_continue is None else round(float(thought.q_continue), 3),
        "confidence": None if sure is None else np.round(100 * sure.ravel()).astype(int).tolist(),
        "changed": np.flatnonzero(answer != before).tolist(),
    }


def _png(picture: Image) -> bytes:
    """A PNG of at most 64 colours."""
    from PIL import Image as Pillow

    held = io.BytesIO()
    Pillow.fromarray(picture).quantize(64, dither=Pillow.Dither.NONE).save(held, "PNG", optimize=True)
    return held.getvalue()


_BODY = """<h1>{title}</h1>
<p class="dim">{origin}. Made by <code>{command}</code></p>
<p class="keys dim"><kbd>←</kbd> <kbd>→</kbd> segments, <kbd>↑</kbd> <kbd>↓</kbd> puzzles,
<kbd>Home</kbd> <kbd>End</kbd>, <kbd>space</kbd> plays. Grey cells and pink frames: what the last segment changed.
Amber: the less sure, the stronger.</p>
<p class="mono dim" id="name"></p>
<main id="players" class="players" aria-live="polite"></main>
<div class="controls"><div>
<input type="range" id="moment" min="0" value="0" step="1" aria-label="segment or step">
<button id="play">Play</button> <output id="where"></output>
<span class="turn"><button id="before" aria-label="previous puzzle">‹</button> <output id="which"></output>
<button id="after" aria-label="next puzzle">›</button></span>
<label><input type="checkbox" id="changes" checked> changed cells</label>
<label><input type="checkbox" id="unsure" checked> confidence</label>
</div></div>
<noscript>The boards are drawn by a script, which this browser does not run.</noscript>"""
