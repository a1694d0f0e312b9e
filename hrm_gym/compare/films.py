"""A short film of every agent on the same first puzzles; all films last equally long, so that they run in step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hrm_gym.compare.entrants import Entrant
from hrm_gym.compare.plan import World
from hrm_gym.compare.run import Comparison
from hrm_gym.recorder import FilmRecorder, Image
from hrm_gym.side_by_side import pictures_of, play_together

WIDTH = 480
"""Pixels across."""

SECONDS, LINGER = 5.0, 1.6
"""A puzzle on film, and how much of that shows its end."""

MOST_FRAMES = 40
"""Of a puzzle; a longer course is shown with gaps."""


def missing_films(comparison: Comparison) -> list[tuple[World, Entrant]]:
    """Who is not on film yet, of every agent its first run."""
    return [
        (world, entrant) for world, entrant in filmed(comparison) if not comparison.film_path(world, entrant).is_file()
    ]


def filmed(comparison: Comparison) -> Iterator[tuple[World, Entrant]]:
    """Who is to be on film."""
    for world in comparison.worlds if comparison.plan.films else ():
        for label in comparison.labels:
            entrants = comparison.entrants(world, label)
            if not isinstance(entrants, str):
                yield world, entrants[0]


def shoot(comparison: Comparison, world: World, entrant: Entrant) -> Path:
    """Play the first puzzles off screen and write the film, whole or not at all; returns its path."""
    path = comparison.film_path(world, entrant)
    env = world.make(entrant.agent.action_mode, "rgb_array")
    player = (env, entrant.agent)
    recorder = FilmRecorder()
    try:
        env.unwrapped.set_caption(entrant.label.text)  # type: ignore[attr-defined]
        for index in range(world.length(comparison.plan.films)):
            kept: list[Image] = []
            seed = world.seed(comparison.plan.seeds[0])
            play_together([player], index, seed, lambda _, kept=kept: kept.append(_small(pictures_of([player])[0])))  # type: ignore[misc]
            recorder.images += _timed(kept)
    finally:
        env.close()
    recorder.save(path)
    return path


def _timed(pictures: list[Image]) -> list[tuple[Image, float]]:
    """The pictures of a puzzle with the seconds that each is shown; together always `SECONDS`."""
    chosen = np.unique(np.linspace(0, len(pictures) - 1, min(MOST_FRAMES, len(pictures))).round().astype(int))
    each = round((SECONDS - LINGER) / max(1, len(chosen) - 1), 2)
    last = SECONDS - each * (len(chosen) - 1)
    return [(pictures[place], last if place == chosen[-1] else each) for place in chosen]


def _small(picture: Image) -> Image:
    from PIL import Image as Pillow

    height, width = picture.shape[:2]
    size = (WIDTH, round(height * WIDTH / width))
    return np.asarray(Pillow.fromarray(picture).resize(size, Pillow.Resampling.LANCZOS), dtype=np.uint8)
