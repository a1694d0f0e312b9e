"""What is compared: worlds (environments with arguments), agents by their labels, and which puzzles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from hrm_gym.env_text import read_env
from hrm_gym.envs.puzzle import Puzzle
from hrm_gym.rollout import Env

AUTO = "auto"
"""The source of new puzzles, or the bundled bank where an environment cannot make any."""

DATA = "data"
"""The argument that plays the rows of a data file in order; all others go to the environment's constructor."""

_MEMORY = 20_000
"""Puzzles a world remembers, so that all agents get them without their being made again."""


@dataclass(frozen=True)
class Plan:
    """A comparison, as its folder keeps it.

    Attributes:
        envs: environments with their arguments, e.g. `HRMSudoku-v0:difficulty=extreme,source=bank`.
        agents: labels, see `entrants.Label`.
        episodes: puzzles of each seed, or rows of a data file.
        seeds: streams of puzzles.
        batch: boards in play at a time.
        chunk: puzzles that are played, and kept, at a time.
        films: puzzles on film.
        source: where puzzles come from unless an environment's own arguments say; `AUTO`, or what environments take.
        split: which part of the puzzles, likewise.
    """

    envs: tuple[str, ...]
    agents: tuple[str, ...]
    episodes: int = 500
    seeds: tuple[int, ...] = (0,)
    batch: int = 50
    chunk: int = 100
    films: int = 2
    source: str = AUTO
    split: str = "test"

    def __post_init__(self) -> None:
        for name in ("episodes", "batch", "chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected --{name} of at least 1, got {getattr(self, name)}")
        if self.films < 0:
            raise ValueError(f"expected --films of at least 0, got {self.films}")
        for name in ("envs", "agents", "seeds"):
            given = getattr(self, name)
            if not given:
                raise ValueError(f"expected at least one --{name[:-1]}, got none")
            twice = sorted({str(one) for one in given if given.count(one) > 1})
            if twice:
                raise ValueError(f"expected every --{name[:-1]} once, got {', '.join(twice)} twice")

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class World:
    """An environment with arguments; all agents get the same puzzles of it.

    Attributes:
        label: as it was written, e.g. `HRMSudoku-v0:difficulty=extreme`.
        env_id: a registered id.
        options: constructor arguments, `source` and `split` among them.
        numbered: whether the rows of a data file are played in order, whatever the seed.
    """

    label: str
    env_id: str
    options: Mapping[str, Any]
    numbered: bool
    _shared: dict[str, Any] = field(default_factory=dict, repr=False)

    def make(self, action_mode: str, render_mode: str | None = None) -> Env:
        """One environment in an action mode; its puzzles come from the one source of this world.

        Raises:
            ValueError, OSError, gymnasium.error.Error: if the id, an argument or a file is bad.
        """
        if "source" not in self._shared:
            first: Any = self._make({**self.options, "action_mode": action_mode}).unwrapped
            if not hasattr(first, "puzzle_source") or not hasattr(first, "modes"):
                raise ValueError(f"expected an environment of puzzles to compare on, got {self.env_id}")
            source = first.puzzle_source
            kept = Numbered(source) if hasattr(source, "__getitem__") else Remembered(source)
            self._shared.update(source=kept, modes=tuple(first.modes))
        options = {**self.options, "source": self._shared["source"]}
        return self._make({**options, "action_mode": action_mode, "render_mode": render_mode})

    @property
    def modes(self) -> tuple[str, ...]:
        """Its action modes."""
        if "modes" not in self._shared:
            self.make("answer").close()
        found: tuple[str, ...] = self._shared["modes"]
        return found

    def seed(self, seed: int) -> int | None:
        """What a rollout takes as its seed."""
        return None if self.numbered else seed

    def length(self, wanted: int) -> int:
        """How many puzzles of a seed there are to play, if so many are wanted."""
        self.make(self.modes[0]).close()
        return min(wanted, len(self._shared["source"].source)) if self.numbered else wanted

    def _make(self, options: dict[str, Any]) -> Env:
        try:
            return gym.make(self.env_id, disable_env_checker=True, **options)
        except TypeError as error:
            raise ValueError(f"{self.label}: {self.env_id} does not take these arguments: {error}") from error


class Remembered:
    """A source that makes each puzzle once, however many agents ask for it.

    Attributes:
        source: where they come from.
        shape: (H, W) of the grid.
    """

    def __init__(self, source: Any) -> None:
        self.source, self.shape = source, source.shape
        self._kept: dict[tuple[str, int], Puzzle] = {}

    def puzzle(self, key: int) -> Puzzle:
        """The puzzle of a key."""
        return self._get("key", key, self.source.puzzle)

    def batch(self, keys: Any) -> Any:
        """The puzzles of many keys."""
        return self.source.batch(np.asarray(keys))

    def _get(self, kind: str, number: int, make: Any) -> Puzzle:
        if (kind, number) not in self._kept:
            if len(self._kept) >= _MEMORY:
                self._kept.clear()
            self._kept[kind, number] = make(number)
        return self._kept[kind, number]


class Numbered(Remembered):
    """The same of a source whose puzzles have numbers."""

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Puzzle:
        """Number `index` of the source's puzzles."""
        return self._get("index", index, self.source.__getitem__)


def parse_world(label: str, plan: Plan) -> World:
    """The world of `ID` or `ID:argument=value,argument=value`.

    Values are Python literals, or text where they are none. `data=FILE` plays the rows of a file in order.

    Raises:
        ValueError: if the arguments cannot be read.

    >>> parse_world("HRMSudokuMini-v0:box=(2,3),max_segments=8", Plan(("x",), ("y",))).options["box"]
    (2, 3)
    """
    env_id, given = read_env(label)
    options: dict[str, Any] = {"source": plan.source, "split": plan.split, **given}
    numbered = DATA in options
    if numbered:
        options["source"] = Path(str(options.pop(DATA)))
    if options["source"] == AUTO:
        options["source"] = "generate" if _can_generate(env_id, options) else "bank"
    return World(label, env_id, options, numbered)


def _can_generate(env_id: str, options: Mapping[str, Any]) -> bool:
    """Whether an environment makes new puzzles: ARC's are made by people."""
    try:
        gym.make(env_id, disable_env_checker=True, **{**options, "source": "generate"}).close()
    except (ValueError, TypeError):
        return False  # what else may be wrong is said where the environment is made
    return True
