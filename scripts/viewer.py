"""Ways to watch an agent: in a window where there is a display, else on film."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hrm_gym.evaluation.films import FilmRecorder, Player, columns_for, pictures_of, play_together, scaled, tiled
from hrm_gym.evaluation.replay import follow, write_replay
from hrm_gym.evaluation.rollout import Env, Frame, caption

MAX_EPISODES = 5
"""As many puzzles are shown; a film of more would be long and large."""

HOLD = 3.0
"""Seconds that the end of a puzzle stays on film: time to read why everybody stopped."""

FILM_WIDTH = 1280
"""Pixels to which a film of several boards is scaled down."""

_HEADLESS_DRIVERS = ("dummy", "offscreen")


def has_display() -> bool:
    """Whether a window could be seen: not under SDL's dummy driver, nor on Linux without X or Wayland."""
    if os.environ.get("SDL_VIDEODRIVER", "").lower() in _HEADLESS_DRIVERS:
        return False
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def watch(
    players: Sequence[Player], episodes: int, seed: int | None, speed: float = 1.0, hold: float | None = None
) -> bool:
    """`show.watch`, with the environments closed at the end; whether a window could be opened at all."""
    import pygame

    from hrm_gym.scripts import show

    try:
        show.watch(players, episodes, seed, speed, hold)
    except pygame.error as error:
        print(f"no window: {error}", file=sys.stderr)
        return False
    finally:
        _close(env for env, _ in players)
    return True


def film_together(
    players: Sequence[Player], episodes: int, seed: int | None, path: Path, speed: float = 1.0, hold: float = HOLD
) -> None:
    """Play several agents on the same puzzles off screen and write what would have been seen.

    Args:
        players: each with an environment of its own, made with `render_mode="rgb_array"`; they are closed at the end.
        episodes: how many puzzles.
        seed: which stream of puzzles; None plays a data file row by row.
        path: a .gif or .mp4 file.
        speed: how many times as fast as usual.
        hold: seconds that the end of a puzzle stays.

    Raises:
        OSError: if it cannot be written.
    """
    recorder = FilmRecorder(episodes, 0.4 / speed, hold, _worlds(players)[0].colours)

    def keep(frames: Sequence[Frame]) -> None:
        pictures = pictures_of(players)
        height, width = pictures[0].shape[:2]
        # no more columns than leave the letters legible
        columns = min(columns_for(len(pictures), (width, height)), max(1, round(FILM_WIDTH / width)))
        whole = tiled(pictures, columns)
        whole = whole if whole.shape[1] <= FILM_WIDTH else scaled(whole, FILM_WIDTH)
        recorder.add(whole, all(frame.last for frame in frames))

    try:
        for world, (_, agent) in zip(_worlds(players), players, strict=True):
            world.set_caption(caption(agent))
        for index in range(episodes):
            play_together(players, index, seed, keep)
    finally:
        _close(env for env, _ in players)
    recorder.save(path)


def _worlds(players: Sequence[Player]) -> list[Any]:
    return [env.unwrapped for env, _ in players]


def _close(envs: Iterable[Env]) -> None:
    for env in envs:
        env.close()


def replay_together(players: Sequence[Player], episodes: int, seed: int | None, path: Path, command: str) -> None:
    """Play several agents on the same puzzles off screen and write an HTML page that goes through every segment.

    Args:
        players: each with an environment of its own, made with `render_mode="rgb_array"`; they are closed at the end.
        episodes: how many puzzles.
        seed: which stream of puzzles; None plays a data file row by row.
        path: an .html file.
        command: the command line, for the page.

    Raises:
        OSError: if it cannot be written.
    """
    try:
        puzzles = [[follow(player, index, seed) for player in players] for index in range(episodes)]
        write_replay(players, puzzles, path, command, seed)
    finally:
        _close(env for env, _ in players)
