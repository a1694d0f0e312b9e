"""What notebooks show: puzzles, agents and episodes as HTML, and an agent at work as a picture that changes."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.puzzle import Puzzle
from hrm_gym.extras import load_extra
from hrm_gym.registry import family_names, find_family, make_family

if TYPE_CHECKING:
    from hrm_gym.evaluation.rollout import Env, Episode

BOARDS = 6
"""Boards on the way to an answer that an episode shows."""

_LARGE, _SMALL = 260, 150
"""Heights of boards in pixels."""


def puzzle_html(puzzle: Puzzle) -> str | None:
    """The board of a puzzle, its solution folded away; None where its family is not known."""
    family = _family_of(puzzle)
    if family is None:
        return None
    about = [puzzle.name] if puzzle.name else []
    if puzzle.rating is not None:
        about.append(f"rating {puzzle.rating:g}")
    shown = _image(family.picture(puzzle, family.blank(puzzle.clues)), _LARGE, f"{family.title}: the puzzle")
    solved = _image(family.picture(puzzle, puzzle.solution), _LARGE, f"{family.title}: the stored solution")
    title = f"<b>{escape(family.title)} {_times(puzzle.shape)}</b> {escape(', '.join(about))}"
    return f"<div>{title}<br>{shown}<details><summary>Stored solution</summary>{solved}</details></div>"


def episode_html(episode: Episode) -> str:
    """How an episode went, and boards on the way to its answer, if its frames were kept."""
    counts = [f"{episode.steps} step{'' if episode.steps == 1 else 's'}"]
    if episode.segments is not None:
        counts = [f"{episode.segments} segment{'' if episode.segments == 1 else 's'}"]
    counts.append(f"{episode.cell_accuracy:.0%} of the free cells right")
    if episode.tokens is not None:
        counts.append(f"{episode.tokens:,} tokens")
    verdict = "solved" if episode.solved else "not solved"
    told = f"<b>{escape(episode.agent)}</b>, {escape(episode.env_id)}: {verdict}, {', '.join(counts)}"
    thought = episode.frames[-1].thought if episode.frames else None
    if thought is not None and thought.reason:
        told += f"<br>{escape(thought.reason)}"
    family = _family_of(episode.puzzle, episode.env_id)
    if family is None or not episode.frames:
        return f"<div>{told}</div>"
    places = np.unique(np.linspace(0, len(episode.frames) - 1, BOARDS).round().astype(int)).tolist()
    boards = []
    for place in places:
        frame = episode.frames[place]
        picture = _image(family.picture(episode.puzzle, frame.answer, frame.thought), _SMALL, f"after {place}")
        boards.append(f'<td style="text-align:center">{picture}<br>{"start" if place == 0 else place}</td>')
    return f"<div>{told}<table><tr>{''.join(boards)}</tr></table></div>"


def agent_html(agent: Any) -> str:
    """What is known of an agent, a line each."""
    from hrm_gym.evaluation.compare.rows import parameter_count
    from hrm_gym.evaluation.rollout import halting_rules

    parameters = parameter_count(agent, None)
    family, grid = getattr(agent, "family", None), getattr(agent, "grid", None)
    lines = {
        "plays": " ".join(filter(None, (getattr(family, "title", ""), _times(grid) if grid else ""))),
        "action mode": agent.action_mode,
        "parameters": "" if parameters is None else f"{parameters:,}",
        "halts by": "" if halting_rules(agent) == "none" else halting_rules(agent),
        "weights": str(getattr(agent, "weights", None) or "").replace("\\", "/").rpartition("/")[2],
    }
    rows = "".join(f"<tr><td>{word}</td><td>{escape(value)}</td></tr>" for word, value in lines.items() if value)
    return f"<div><b>{escape(agent.name)}</b> <code>{escape(type(agent).__name__)}</code><table>{rows}</table></div>"


def watch(env: Env, agent: Any, index: int = 0, seed: int | None = 0, pause: float = 0.3, width: int = 720) -> Episode:
    """Let an agent solve a puzzle while a notebook shows every segment in one picture.

    Args:
        env: a puzzle environment in the agent's action mode, made with `render_mode="rgb_array"`.
        agent: who plays.
        index: number of the puzzle.
        seed: which stream of puzzles; None takes row `index` of a data file.
        pause: seconds that each picture stays, at least 0.
        width: of the picture, in pixels.

    Returns:
        The episode, with its frames.

    Raises:
        ValueError: another render mode, or IPython is missing.
    """
    from hrm_gym.evaluation.rollout import Playthrough, caption

    if env.render_mode != "rgb_array":
        raise ValueError(f"expected an environment with render_mode 'rgb_array', got {env.render_mode!r}")
    display = load_extra("IPython.display")
    world: Any = env.unwrapped
    world.set_caption(caption(agent))
    handle: Any = None
    played = Playthrough(env, agent, index, seed, keep_frames=True)
    for _ in played:
        picture = display.Image(data=png(np.asarray(env.render()), width), width=width)
        if handle is None:
            handle = display.DisplayHandle()
            handle.display(picture)
        else:
            handle.update(picture)
        time.sleep(pause)
    return played.episode


def png(picture: NDArray[np.uint8], width: int) -> bytes:
    """A (height, width, 3) uint8 picture as a small PNG file, `width` pixels wide."""
    from PIL import Image

    from hrm_gym.evaluation.films import scaled

    content = io.BytesIO()
    Image.fromarray(scaled(picture, width)).quantize(64).save(content, "png", optimize=True)
    return content.getvalue()


def _image(picture: NDArray[np.uint8], height: int, words: str) -> str:
    from hrm_gym.evaluation.pages import data_url

    width = round(height * picture.shape[1] / picture.shape[0])
    return f'<img src="{data_url(png(picture, width), "image/png")}" width="{width}" alt="{escape(words)}">'


def _family_of(puzzle: Puzzle, env_id: str = "") -> PuzzleFamily | None:
    """The rules of a puzzle, by its own word or that of an environment; None if nobody knows."""
    names = family_names()
    named = [puzzle.family, *(name for name in names if env_id in find_family(name).ids)]
    name = next((one for one in named if one in names), None)
    return None if name is None else make_family(name, puzzle.shape)


def _times(numbers: Iterable[int]) -> str:
    return "x".join(map(str, numbers))
