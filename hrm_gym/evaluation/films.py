"""Films of one agent, or of several side by side on the same puzzle, as GIF or MP4; and episodes as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.agents.agent import Agent
from hrm_gym.envs.puzzle import Thought
from hrm_gym.evaluation.rollout import Env, Episode, Frame, Playthrough
from hrm_gym.extras import load_extra
from hrm_gym.files import check_writable, written_atomically

Image = NDArray[np.uint8]
"""One picture, (height, width, 3) uint8."""

Colour = tuple[int, int, int]
"""Red, green, blue in 0..255."""

FILM_SUFFIXES = (".gif", ".mp4")
RECORD_SUFFIX = ".jsonl"
REPLAY_SUFFIX = ".html"
SUFFIXES = (*FILM_SUFFIXES, RECORD_SUFFIX, REPLAY_SUFFIX)


class FilmRecorder:
    """A watcher for `rollout` that renders every frame of the first episodes and writes them as one film.

    The environment must have been made with `render_mode="rgb_array"`.

    Attributes:
        images: the pictures so far, and how long each stays on the screen.
        colours: those that a GIF keeps exactly, whatever else is in its pictures, e.g. `PuzzleEnv.colours`.
    """

    def __init__(
        self,
        max_episodes: int = 5,
        seconds_a_frame: float = 0.4,
        seconds_at_end: float = 1.6,
        colours: Sequence[Colour] = (),
    ) -> None:
        self.max_episodes, self.colours = max_episodes, tuple(colours)
        self.images: list[tuple[Image, float]] = []
        self._seconds = (seconds_a_frame, seconds_at_end)
        self._ended = 0

    def __call__(self, env: Env, frame: Frame) -> None:
        """Keep the picture of the newest frame, unless enough episodes are on film."""
        if self._ended >= self.max_episodes:
            return
        picture: Any = env.render()
        self.add(np.asarray(picture, dtype=np.uint8), frame.last)

    def add(self, picture: Image, last: bool) -> None:
        """Keep a picture; `last` says that an episode ended with it, so that it stays longer."""
        self.images.append((picture, self._seconds[last]))
        self._ended += last

    def save(self, path: Path) -> None:
        """Write the film as GIF or MP4, by the suffix of `path`.

        Raises:
            ValueError: for another suffix, or if nothing was recorded.
            OSError: if the file cannot be written.
        """
        if not self.images:
            raise ValueError("expected at least one frame to save, got none")
        if path.suffix.lower() not in FILM_SUFFIXES:
            raise ValueError(f"expected a film to be named {' or '.join(FILM_SUFFIXES)}, got {path.name!r}")
        with written_atomically(path) as draft:
            if path.suffix.lower() == ".gif":
                _write_gif(draft, self.images, self.colours)
            else:
                _write_mp4(draft, self.images)


def write_jsonl(episodes: Sequence[Episode], path: Path) -> None:
    """Write one JSON object a line and an episode; grids are lists of rows of token ids.

    Raises:
        OSError: if it cannot be written.
    """
    with written_atomically(path) as draft, draft.open("w", encoding="utf-8") as lines:
        for episode in episodes:
            lines.write(json.dumps(_record(episode)) + "\n")


def check_save_path(path: Path) -> None:
    """Find out before the work whether a recording can be written to `path`; folders that are missing are made.

    Raises:
        ValueError: if the suffix is none that a recorder writes.
        OSError: if the folder cannot be made or written to, or `path` is a folder.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"expected a file named {', '.join(SUFFIXES)}, got {path.name!r}")
    if path.suffix.lower() == ".mp4":
        load_extra("imageio_ffmpeg")
    check_writable(path)


def _write_gif(path: Path, images: Sequence[tuple[Image, float]], kept: Sequence[Colour]) -> None:
    """Write a looping GIF, all frames in one palette; unchanged pixels cost nothing."""
    palette = palette_of([image for image, _ in images], kept)
    flat = [in_palette(image, palette) for image, _ in images]
    durations = [round(1000 * seconds) for _, seconds in images]
    flat[0].save(path, save_all=True, append_images=flat[1:], duration=durations, loop=0, optimize=True, disposal=1)


def in_palette(image: Image, palette: NDArray[np.uint8]) -> Any:
    """A Pillow picture of an (H, W, 3) uint8 image, every pixel in the nearest colour of the (N, 3) palette."""
    from PIL import Image as Pillow

    # Pillow's own search for the nearest entry confuses neighbours, so it is made here, once for every colour.
    colours, places = np.unique(_packed(image), return_inverse=True)
    parts = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1)
    nearest = np.square(parts[:, None] - palette.astype(np.int32)).sum(2).argmin(1).astype(np.uint8)
    picture = Pillow.fromarray(nearest[places].reshape(image.shape[:2]))
    picture.putpalette(palette.tobytes())
    return picture


def palette_of(images: Sequence[Image], kept: Sequence[Colour] = ()) -> NDArray[np.uint8]:
    """(at most 256, 3) uint8: the colours to keep, those that cover most of up to eight frames, and some in between."""
    from PIL import Image as Pillow

    chosen = [_packed(images[index]) for index in np.linspace(0, len(images) - 1, min(8, len(images))).astype(int)]
    colours, counts = np.unique(np.concatenate(chosen, axis=None), return_counts=True)
    often = colours[np.argsort(-counts, kind="stable")[:_EXACT]]
    # of the others, mostly edges of letters, every colour counts as the root of its pixels
    rows = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1).astype(np.uint8)
    weighted = np.repeat(rows, np.ceil(np.sqrt(counts)).astype(int), axis=0)[None]
    between = Pillow.fromarray(weighted).quantize(_BETWEEN).getpalette() or []
    exact = np.stack([often >> 16, often >> 8 & 255, often & 255], axis=1).tolist()
    rest = np.reshape(between[: 3 * _BETWEEN], (-1, 3)).tolist()
    return np.array(list(dict.fromkeys(map(tuple, [*kept, *exact, *rest])))[:256], np.uint8)


_EXACT, _BETWEEN = 96, 64
"""Colours of a palette that are taken as they are, because they cover most, and that stand for the others."""


def _packed(image: Image) -> NDArray[np.int32]:
    """(height, width) colours as one number each."""
    red, green, blue = (image[..., k].astype(np.int32) for k in range(3))
    return red << 16 | green << 8 | blue


def _write_mp4(path: Path, images: Sequence[tuple[Image, float]], fps: int = 10) -> None:
    """Write an H.264 film; a frame that stays longer is repeated, and sizes are cut to even ones for the codec."""
    imageio = load_extra("imageio")
    height, width = (2 * (length // 2) for length in images[0][0].shape[:2])
    writer: Any = imageio.get_writer(path, fps=fps, macro_block_size=2)
    with writer as film:
        for image, seconds in images:
            for _ in range(max(1, round(seconds * fps))):
                film.append_data(image[:height, :width])
    try:
        load_extra("imageio_ffmpeg").count_frames_and_secs(str(path))
    except RuntimeError:  # imageio does not ask how ffmpeg ended
        raise OSError(f"{path}: the film was not written whole; is the disk full?") from None


def _record(episode: Episode) -> dict[str, Any]:
    """An episode as plain JSON values."""
    names = ("solved", "exact", "cell_accuracy", "segments", "reached")
    return {
        "env": episode.env_id,
        "agent": episode.agent,
        "halting_rules": episode.halting_rules,
        "index": episode.index,
        "name": episode.puzzle.name,
        **{name: getattr(episode, name) for name in names},
        "return": episode.total_return,
        "steps": episode.steps,
        "seconds": episode.seconds,
        "usage": dict(episode.usage),
        "puzzle": episode.puzzle.clues.tolist(),
        "solution": episode.puzzle.solution.tolist(),
        "frames": [
            {"answer": frame.answer.tolist(), "reward": frame.reward, "thought": _thought_record(frame.thought)}
            for frame in episode.frames
        ],
    }


def _thought_record(thought: Thought | None) -> dict[str, Any] | None:
    """A thought as plain JSON values; the answer it holds stands in its frame, shares are rounded to 1/1000."""
    if thought is None:
        return None
    sure = thought.confidence
    return {
        "segment": thought.segment,
        "q_halt": thought.q_halt,
        "q_continue": thought.q_continue,
        "reason": thought.reason,
        "event": thought.event,
        "residuals": {name: round(value, 3) for name, value in thought.residuals},
        "confidence": None if sure is None else np.round(sure.astype(float), 3).tolist(),
    }


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
    played = [Playthrough(env, agent, index, seed) for env, agent in players]
    courses = [iter(one) for one in played]
    frames = [next(course) for course in courses]
    while True:
        if on_round is not None:
            on_round(frames)
        if all(frame.last for frame in frames):
            return [one.episode for one in played]
        frames = [next(course, frame) for course, frame in zip(courses, frames, strict=True)]


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


def scaled(picture: Image, width: int) -> Image:
    """The picture, `width` pixels wide."""
    from PIL import Image as Pillow

    size = (width, round(picture.shape[0] * width / picture.shape[1]))
    return np.asarray(Pillow.fromarray(picture).resize(size, Pillow.Resampling.LANCZOS), dtype=np.uint8)


def pictures_of(players: Sequence[Player]) -> list[Image]:
    """What every environment (made with `render_mode="rgb_array"`) shows now."""
    shown: list[Any] = [env.render() for env, _ in players]
    return [np.asarray(picture, dtype=np.uint8) for picture in shown]
