"""Plays a comparison, a chunk of puzzles at a time. Every finished chunk is a file: a killed run continues from there.

A chunk's name is a hash of all that decides its figures: environment, agent, action mode, halting rules, weights, seed,
puzzles, batch and version. So the same folder can be given more agents, environments or puzzles later, and plays only
what is missing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import hrm_gym
from hrm_gym.evaluation.compare.plan import Entrant, Label, Plan, Unfit, World, enter, parse_world
from hrm_gym.evaluation.films import FilmRecorder, Image, scaled
from hrm_gym.evaluation.pages import slug
from hrm_gym.evaluation.rollout import Playthrough, caption, halting_rules, rollout_batched
from hrm_gym.files import file_sha256, sweep, write_atomically
from hrm_gym.reading import read_object

logger = logging.getLogger(__name__)

PACKAGES = ("gymnasium", "numpy", "torch", "stable-baselines3", "sb3-contrib")
"""Libraries whose versions may matter to a figure."""


@lru_cache(maxsize=1)
def machine() -> str:
    """Processor, cores, graphics card, system."""
    parts = [_processor(), f"{os.cpu_count()} cores", *_cards(), f"{platform.system()} {platform.machine()}"]
    return ", ".join(parts)


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """hrm-gym (with the commit where it runs from a repository), Python, and the libraries behind the agents."""
    found = {"hrm-gym": hrm_gym.__version__ + _commit(), "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def load() -> float | None:
    """How many processes wanted a core in the last minute, on average; None where the system does not say.

    Above the number of cores, milliseconds say more about the other processes than about the agent.
    """
    try:
        return round(os.getloadavg()[0], 1)
    except (AttributeError, OSError):
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cards() -> list[str]:
    """The CUDA device in use, if torch is there and has one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [str(torch.cuda.get_device_name())]


def _commit() -> str:
    """` (commit abc1234)`, with ` and changes` if files were edited since; "" outside a repository."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return ""
    try:
        ran = [
            subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True, check=True, timeout=10)
            for command in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.SubprocessError):
        return ""
    return f" (commit {ran[0].stdout.strip()}{' and changes' if ran[1].stdout.strip() else ''})"


PARTS, FILMS = "parts", "films"
FIELDS = ("index", "solved", "exact", "cell_accuracy", "total_return", "steps", "segments", "reached", "seconds")
"""What a chunk keeps of every Episode."""

Entrants = list[Entrant] | str
"""The runs of an agent in a world, or why it does not play there."""


@dataclass(frozen=True)
class Played:
    """What the file of a chunk says, as far as it is read."""

    machine: str
    puzzles_sha256: str
    episodes: dict[str, list[bool | int | float | None]]
    load: float | None = None


@dataclass(frozen=True, eq=False)
class Part:
    """One chunk: an agent on some puzzles of one seed.

    Attributes:
        world: where.
        entrant: who.
        seed: which stream; the same for all agents.
        puzzles: their numbers.
        path: the file it is kept in.
        key: all that decides its figures.
    """

    world: World
    entrant: Entrant
    seed: int
    puzzles: range
    path: Path
    key: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Whether it is on disk, undamaged."""
        try:
            return self.path.is_file() and bool(self.read())
        except ValueError as error:
            logger.warning("%s; it is played again", error)
            return False

    def play(self, batch: int) -> None:
        """Play it and write its file atomically."""
        reseed(self.entrant, self.path)
        agent, world = self.entrant.agent, self.world
        seed, count = world.seed(self.seed), len(self.puzzles)
        ended = rollout_batched(
            lambda: world.make(agent.action_mode), agent, count, batch, seed, first=self.puzzles.start
        )
        episodes = sorted(ended, key=lambda episode: episode.index)
        content: dict[str, Any] = {
            "key": self.key,
            "machine": machine(),
            "versions": versions(),
            "date": time.strftime("%Y-%m-%d"),
            "load": load(),
            "puzzles_sha256": hashlib.sha256(b"".join(one.puzzle.clues.tobytes() for one in episodes)).hexdigest(),
            "episodes": {name: [getattr(one, name) for one in episodes] for name in FIELDS}
            | {"cluster": [None if one.cluster is None else one.cluster % 2**53 for one in episodes]}
            | {"tokens": [one.tokens for one in episodes]},
        }
        write_atomically(self.path, json.dumps(content))

    def read(self) -> Played:
        """What its file holds.

        Raises:
            ValueError: if the file is damaged.
        """
        try:
            found = read_object(self.path, Played)
            lengths = {name: len(found.episodes.get(name, ())) for name in FIELDS}
            if wrong := [name for name, length in lengths.items() if length != len(self.puzzles)]:
                raise ValueError(f"{self.path}: expected {len(self.puzzles)} of {wrong[0]}, got {lengths[wrong[0]]}")
        except ValueError as error:
            raise ValueError(f"{error}; delete the file, and it is played again") from None
        return found


class Comparison:
    """A plan and the folder that its results go to.

    Attributes:
        plan: what is compared.
        folder: where chunks, films and pages go.
        worlds: in the order of the plan.
        labels: likewise.
    """

    def __init__(self, plan: Plan, folder: Path) -> None:
        """Read the labels and find the worlds, before any work.

        Raises:
            ValueError, OSError, gymnasium.error.Error: if a label, an argument or a file is bad.
        """
        self.plan, self.folder = plan, folder
        self.labels = tuple(Label.parse(text) for text in plan.agents)
        self.worlds = tuple(parse_world(text, plan.source, plan.split, plan.arguments) for text in plan.envs)
        self._entered: dict[tuple[str, str], Entrants] = {}
        offered = {mode for world in self.worlds for mode in world.modes}
        for label in self.labels:
            if label.mode is not None and label.mode not in offered:
                raise ValueError(f"expected a mode among {', '.join(sorted(offered))} in {label.text!r}")

    def enter(self) -> None:
        """Make every agent in every world.

        Raises:
            ValueError: if an agent whose weights or mode were named plays none of the worlds, or if none plays at all.
            OSError: if weights that were named are not there.
        """
        for world in self.worlds:
            for label in self.labels:
                try:
                    self._entered[world.label, label.text] = enter(
                        label, world, *self.plan.settings.get(label.name, ())
                    )
                except Unfit as error:
                    self._entered[world.label, label.text] = str(error)
        for label in self.labels:
            refusals = [found for world in self.worlds if isinstance(found := self.entrants(world, label), str)]
            if len(refusals) == len(self.worlds) and (label.weights or label.mode):
                raise ValueError(f"{label.text}: {refusals[0]}")
        if all(isinstance(found, str) for found in self._entered.values()):
            raise ValueError(f"no agent plays any of these environments: {next(iter(self._entered.values()))}")

    def entrants(self, world: World, label: Label) -> Entrants:
        """The runs of an agent in a world, or why it does not play there."""
        return self._entered[world.label, label.text]

    def parts(self) -> list[Part]:
        """All chunks, in the order in which they are played: every agent on the same puzzles, then the next ones."""
        found = []
        for world in self.worlds:
            length = world.length(self.plan.episodes)
            for seed in self.plan.seeds[:1] if world.numbered else self.plan.seeds:
                for first in range(0, length, self.plan.chunk):
                    puzzles = range(first, min(first + self.plan.chunk, length))
                    found += [self._part(world, entrant, seed, puzzles) for entrant in self._all(world)]
        return found

    def run(self) -> Iterator[Part]:
        """Play what is missing; yields every part when it is on disk, finished ones at once."""
        for part in self.parts():
            if not part.finished:
                part.play(min(self.plan.batch, len(part.puzzles)))
            yield part

    def film_path(self, world: World, entrant: Entrant) -> Path:
        """Where the film of an agent in a world is kept."""
        key = {**agent_key(world, entrant), "films": self.plan.films, "seed": self.plan.seeds[0]}
        return self.folder / FILMS / f"{_name(world, entrant)}-{digest(key)}.gif"

    def clear(self) -> None:
        """Remove drafts that a killed run has left behind."""
        for place in (self.folder, self.folder / PARTS, self.folder / FILMS):
            sweep(place)

    def _all(self, world: World) -> Sequence[Entrant]:
        everyone = (self.entrants(world, label) for label in self.labels)
        return [entrant for runs in everyone if not isinstance(runs, str) for entrant in runs]

    def _part(self, world: World, entrant: Entrant, seed: int, puzzles: range) -> Part:
        batch = min(self.plan.batch, len(puzzles))
        here = {"seed": world.seed(seed), "first": puzzles.start, "count": len(puzzles), "batch": batch}
        key = {**agent_key(world, entrant), **here}
        name = f"{_name(world, entrant)}-{seed}-{puzzles.start:06d}-{digest(key)}.json"
        return Part(world, entrant, seed, puzzles, self.folder / PARTS / name, key)


FILM_WIDTH = 560
"""Pixels across."""

SECONDS, LINGER = 5.0, 1.6
"""A puzzle on film, and how much of that shows its end."""

MOST_FRAMES = 24
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
    """Play the first puzzles off screen and write the film atomically; returns its path."""
    path = comparison.film_path(world, entrant)
    reseed(entrant, path)
    env = world.make(entrant.agent.action_mode, "rgb_array")
    recorder = FilmRecorder()
    try:
        shown: Any = env.unwrapped
        shown.set_caption("\n".join([entrant.label.text, *caption(entrant.agent).splitlines()[1:]]))
        recorder.colours = shown.colours
        seed = world.seed(comparison.plan.seeds[0])
        for index in range(world.length(comparison.plan.films)):
            kept: list[Image] = []
            for _ in Playthrough(env, entrant.agent, index, seed):
                kept.append(scaled(env.render(), FILM_WIDTH))  # type: ignore[arg-type]
            recorder.images += _timed(kept)
    finally:
        env.close()
    recorder.save(path)
    return path


def reseed(entrant: Entrant, path: Path) -> None:
    """What an agent draws for a file does not depend on what was played before."""
    draw = getattr(entrant.agent, "reseed", None)
    if draw is not None:
        draw(int(path.stem[-8:], 16))


def _timed(pictures: list[Image]) -> list[tuple[Image, float]]:
    """The pictures of a puzzle with the seconds that each is shown; together always `SECONDS`."""
    chosen = np.unique(np.linspace(0, len(pictures) - 1, min(MOST_FRAMES, len(pictures))).round().astype(int))
    each = round((SECONDS - LINGER) / max(1, len(chosen) - 1), 2)
    last = SECONDS - each * (len(chosen) - 1)
    return [(pictures[place], last if place == chosen[-1] else each) for place in chosen]


def agent_key(world: World, entrant: Entrant) -> dict[str, Any]:
    """What decides figures, whichever the puzzles."""
    options = {name: str(value) for name, value in sorted(world.options.items())}
    return {
        "env": world.env_id,
        "options": options,
        "data": _file_hash(world),
        "agent": entrant.label.name,
        "mode": entrant.agent.action_mode,
        "halting_rules": halting_rules(entrant.agent),
        "settings": entrant.settings,
        "fingerprint": entrant.fingerprint,
        "version": hrm_gym.__version__,
    }


def _file_hash(world: World) -> str:
    """SHA-256 of a data file that is played, "" if there is none."""
    path = world.options["source"]
    is_file = isinstance(path, Path) and path.is_file()
    return file_sha256(path) if is_file else ""


def _name(world: World, entrant: Entrant) -> str:
    return slug(f"{world.label}-{entrant.label.text}-{entrant.run}")[:100]


def digest(key: dict[str, Any]) -> str:
    """A name for all that decides a figure: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
