"""Ways to watch an agent: in a window where there is a display, else on film."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from hrm_gym.agents.agent import Agent
from hrm_gym.episode import Frame
from hrm_gym.recorder import FilmRecorder
from hrm_gym.rollout import Env, rollout

MAX_EPISODES = 5
"""As many puzzles are shown; a film of more would be long and large."""

_HEADLESS_DRIVERS = ("dummy", "offscreen")


def has_display() -> bool:
    """Whether a window could be seen: not under SDL's dummy driver, nor on Linux without X or Wayland."""
    if os.environ.get("SDL_VIDEODRIVER", "").lower() in _HEADLESS_DRIVERS:
        return False
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def watch_live(env: Env, agent: Agent, episodes: int, seed: int | None) -> bool:
    """Play in a window until the puzzles are played or the user closes it; a finished puzzle stays for a moment.

    Args:
        env: made with `render_mode="human"`; it is closed at the end.
        agent: who plays.
        episodes: how many puzzles.
        seed: which stream of puzzles; None plays a data file row by row.

    Returns:
        Whether a window could be opened at all.
    """
    import pygame

    world: Any = env.unwrapped
    world.set_caption(agent.name)
    try:
        for _ in rollout(env, agent, episodes, seed, on_step=_linger, keep_frames=False):
            if world.closed_by_user:
                break
    except pygame.error as error:
        print(f"no window: {error}", file=sys.stderr)
        return False
    finally:
        env.close()
    return True


def film(env: Env, agent: Agent, episodes: int, seed: int | None, path: Path) -> None:
    """Play off screen and write what would have been seen.

    Args:
        env: made with `render_mode="rgb_array"`; it is closed at the end.
        agent: who plays.
        episodes: how many puzzles.
        seed: which stream of puzzles; None plays a data file row by row.
        path: a .gif or .mp4 file.

    Raises:
        OSError: if it cannot be written.
    """
    world: Any = env.unwrapped
    world.set_caption(agent.name)
    recorder = FilmRecorder(max_episodes=episodes)
    try:
        for _ in rollout(env, agent, episodes, seed, on_step=recorder, keep_frames=False):
            pass
    finally:
        env.close()
    recorder.save(path)


def _linger(env: Env, frame: Frame, seconds: float = 1.0) -> None:
    """Leave a finished puzzle on the screen for a moment."""
    world: Any = env.unwrapped
    if frame.last and not world.closed_by_user:
        world.wait(seconds)
