"""What is compared: environments with arguments, agents by their labels, and which puzzles."""

from __future__ import annotations

import glob
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.agents.agent import Agent, Observation
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.puzzle import Puzzle, Thought
from hrm_gym.evaluation.rollout import Env, puzzle_for
from hrm_gym.files import file_sha256, finished_weights
from hrm_gym.registry import factory, make_agent, make_env, preferred_modes, read_puzzle_env

AUTO = "auto"
"""The source of new puzzles, or the bundled bank where an environment cannot make any."""

STREAMS = ("bank", "generate")
"""Sources of endless puzzles, by seed."""

DATA = "data"
"""The argument that plays the rows of a data file in order; all others go to the environment's constructor."""

_MEMORY = 20_000
"""Puzzles a world remembers, so that all agents get them without their being made again."""


@dataclass(frozen=True)
class Plan:
    """A comparison, as its folder keeps it.

    Attributes:
        envs: environments with their arguments, e.g. `HRMSudoku-v0:difficulty=extreme,source=bank`.
        agents: labels, see `Label`.
        episodes: puzzles of each seed, or rows of a data file.
        seeds: streams of puzzles.
        batch: boards in play at a time.
        chunk: puzzles that are played, and kept, at a time.
        films: puzzles on film.
        source: where puzzles come from unless an environment's own arguments say; as `parse_world` takes it.
        split: which part of the puzzles, likewise.
        arguments: of the environments' constructors, likewise.
        settings: factory and its options, where an agent's are not the defaults, by its name.
    """

    envs: tuple[str, ...]
    agents: tuple[str, ...]
    episodes: int = 500
    seeds: tuple[int, ...] = (0,)
    batch: int = 64
    chunk: int = 100
    films: int = 2
    source: str = "bank"
    split: str = "test"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)

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
        from_file: whether the puzzles are the rows of a data file.
    """

    label: str
    env_id: str
    options: Mapping[str, Any]
    from_file: bool
    _shared: dict[str, Any] = field(default_factory=dict, repr=False)

    def make(self, action_mode: str, render_mode: str | None = None) -> Env:
        """One environment in an action mode; its puzzles come from the one source of this world.

        Raises:
            ValueError, OSError, gymnasium.error.Error: if the id, an argument or a file is bad.
        """
        options = {**self.options, "source": self._opened()["source"]}
        return make_env(self.env_id, **options, action_mode=action_mode, render_mode=render_mode)

    @property
    def numbered(self) -> bool:
        """Whether the puzzles are played once each and in order, whatever the seed: the rows of a data file, and test
        grids of ARC as they are stored. Drawn by a seed, some would come twice and others not at all."""
        return self.from_file or bool(getattr(self._opened()["source"].source, "as_stored", False))

    @property
    def modes(self) -> tuple[str, ...]:
        """Its action modes."""
        found: tuple[str, ...] = self._opened()["modes"]
        return found

    @property
    def family(self) -> PuzzleFamily:
        """The rules of its puzzles."""
        found: PuzzleFamily = self.make(self.modes[0]).unwrapped.family  # type: ignore[attr-defined]
        return found

    def puzzles(self, count: int, seed: int) -> list[Puzzle]:
        """The first puzzles of a seed."""
        env = self.make(self.modes[0])
        return [puzzle_for(env, self.seed(seed), k) for k in range(count)]

    def seed(self, seed: int) -> int | None:
        """What a rollout takes as its seed."""
        return None if self.numbered else seed

    def length(self, wanted: int) -> int:
        """How many puzzles of a seed there are to play, if `wanted` are asked for."""
        return min(wanted, len(self._opened()["source"].source)) if self.numbered else wanted

    def _opened(self) -> dict[str, Any]:
        """The one source, and the action modes, from an environment that is made when they are first asked for."""
        if not self._shared:
            first: Any = make_env(self.env_id, **self.options).unwrapped
            source = first.puzzle_source
            kept = Numbered(source) if hasattr(source, "__getitem__") else Remembered(source)
            self._shared.update(source=kept, modes=tuple(first.modes))
        return self._shared


class Remembered:
    """A source that makes each puzzle once, however many agents ask for it.

    Attributes:
        source: where they come from.
        shape: (H, W) of the grid.
    """

    def __init__(self, source: Any) -> None:
        self.source, self.shape = source, source.shape
        self.puzzle = lru_cache(_MEMORY)(source.puzzle)
        self.batch = source.batch


class Numbered(Remembered):
    """The same of a source whose puzzles have numbers."""

    def __init__(self, source: Any) -> None:
        super().__init__(source)
        self._numbered = lru_cache(_MEMORY)(source.__getitem__)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Puzzle:
        """Number `index` of the source's puzzles."""
        return self._numbered(index)


def parse_world(label: str, source: str = "bank", split: str = "test", arguments: Mapping[str, Any] = {}) -> World:
    """The world of `ID`, `ID:argument=value,argument=value` or `module:ID`.

    Args:
        label: as a person types it; its own arguments come first. `data=FILE` plays the rows of a file in order.
        source: "bank", "generate", `AUTO`, or a file, a folder or a data set on the hub, played row by row.
        split: which part of the puzzles.
        arguments: of the environment's constructor.

    Raises:
        ValueError: no environment of puzzles is called so, its arguments cannot be read, or there is no such file.

    >>> parse_world("HRMSudokuMini-v0:box=(2,3),max_segments=8").options["box"]
    (2, 3)
    """
    env_id, given = read_puzzle_env(label)
    options: dict[str, Any] = {"source": source, "split": split, **arguments, **given}
    from_file = DATA in options or ("source" not in given and source not in (AUTO, *STREAMS))
    if from_file:
        options["source"] = Path(str(options.pop(DATA))) if DATA in options else _rows(source)
    if options["source"] == AUTO:
        options["source"] = "generate" if _can_generate(env_id, options) else "bank"
    return World(label, env_id, options, from_file)


def _rows(name: str) -> Path | str:
    """The file, folder or data set on the hub whose rows are played.

    Raises:
        ValueError: there is none.
    """
    if Path(name).exists():
        return Path(name)
    if re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?", name) and not name.endswith((".csv", ".json")):
        return name
    raise ValueError(f"expected --source {', '.join((*STREAMS, AUTO))}, or a file of puzzles, got {name!r}")


def _can_generate(env_id: str, options: Mapping[str, Any]) -> bool:
    """Whether an environment makes new puzzles: ARC's are made by people."""
    try:
        make_env(env_id, **{**options, "source": "generate"}).close()
    except ValueError:
        return False  # what else may be wrong is reported where the environment is made
    return True


@dataclass(frozen=True)
class Label:
    """An agent as it is named on the command line: `NAME`, `NAME@MODE`, `NAME=WEIGHTS` or `NAME@MODE=WEIGHTS`.

    NAME is one that `make_agent` knows, `module:factory` among them. WEIGHTS may have wildcards (`ppo=runs/ppo-*`):
    then each match is a run of the same agent, trained with another seed.

    Attributes:
        text: as it was written.
        name: for `make_agent`.
        mode: the action mode; None tries those that the agent prefers.
        weights: folders or hub names, one a run; empty for what is bundled.
    """

    text: str
    name: str
    mode: str | None
    weights: tuple[str, ...]

    @staticmethod
    def parse(text: str) -> Label:
        """Read a label, and see whether there is such an agent and are such weights.

        Raises:
            ValueError: if there is no such agent, or wildcards match nothing.
        """
        name, _, path = text.partition("=")
        name, _, mode = name.partition("@")
        factory(name)
        wild = glob.has_magic(path) and "://" not in path and not Path(path).exists()
        found = tuple(sorted(glob.glob(path))) if wild else (path,) if path else ()
        if path and not found:
            raise ValueError(f"expected weights at {path!r}, as {text!r} says, found none")
        return Label(
            text,
            name,
            mode or None,
            tuple(str(finished_weights(Path(folder))) if Path(folder).is_dir() else folder for folder in found),
        )


@dataclass(frozen=True, eq=False)
class Entrant:
    """An agent that is ready to play a world.

    Attributes:
        label: as it was written.
        run: 0, or which of several runs with different training seeds.
        agent: who plays.
        weights: the folder of its weights, if they lie in one.
        fingerprint: SHA-256 of its weights; without any, of the code that makes it if that is not ours; else "".
        settings: what its factory was given besides, in words.
    """

    label: Label
    run: int
    agent: Agent
    weights: Path | None
    fingerprint: str
    settings: str = ""


class Unfit(ValueError):
    """An agent cannot play a world; the message says why."""


def enter(label: Label, world: World, name: str = "", options: Mapping[str, Any] = {}) -> list[Entrant]:
    """The runs of an agent in a world.

    Args:
        label: the agent.
        world: where.
        name: for `make_agent`, if it is not the label's.
        options: for the agent's factory.

    Raises:
        Unfit: if it has no weights for this world, or does not play it.
        OSError: if there is nothing where the label says there are weights.
    """
    found = []
    for run, weights in enumerate(label.weights or (None,)):
        given: dict[str, Any] = {"weights": weights} if weights else {}
        agent = agent_for(name or label.name, world.make, world.modes, label.mode, **given, **options)
        if weights:
            text = label.text if len(label.weights) == 1 else f"{label.text.partition('=')[0]}={weights}"
            agent.name = text if name in ("", label.name) else f"{text} {agent.name}"
        elif label.mode:
            agent.name += f"@{label.mode}"
        if "halting" in options:
            agent.name += f" {options['halting']}"
        lies = weights or getattr(agent, "weights", None)
        folder = Path(lies) if lies is not None and Path(lies).is_dir() else None
        settings = ", ".join([name, *(f"{key}={value!r}" for key, value in sorted(options.items()))])
        found.append(Entrant(label, run, agent, folder, _fingerprint(label, folder), settings))
    return found


def agent_for(
    name: str,
    make: Callable[[str], Env],
    modes: Sequence[str],
    mode: str | None = None,
    **options: Any,
) -> Agent:
    """The agent `name` in the first of its modes that suits it and an environment.

    Args:
        name: for `make_agent`.
        make: gives the environment in an action mode.
        modes: those that the environment has.
        mode: the only one to try; None tries those that the agent prefers.
        **options: for the agent's factory.

    Raises:
        Unfit: if it has no weights for this environment, or does not play it.
        ValueError: if there is no such agent.
    """
    wanted = preferred_modes(name) if mode is None else (mode,)
    offered = [one for one in wanted if one in modes]
    if not offered:
        raise Unfit(f"no {' or '.join(wanted)} mode here: there are {', '.join(modes)}")
    refusals: list[str] = []
    for one in offered:
        try:
            return as_agent(make_agent(name, make(one), **options), name, one)
        except ValueError as error:
            refusals.append(" ".join(str(error).split()))
    raise Unfit(refusals[0])


def as_agent(found: Any, name: str, mode: str) -> Agent:
    """`found` if it is an Agent; else what has SB3's `predict`, such as an SB3 model, wrapped as one.

    Raises:
        ValueError: if it has no `predict`.
    """
    if isinstance(found, Agent):
        return found
    if not callable(getattr(found, "predict", None)):
        raise ValueError(f"expected agent {name!r} to have a method predict, got {type(found).__name__}")
    return PredictOnly(found, name, mode)


class PredictOnly:
    """An object with `predict` and nothing else, as an agent without thoughts."""

    def __init__(self, model: Any, name: str, action_mode: str) -> None:
        self.model = model
        self.name = str(getattr(model, "name", name))
        self.action_mode = str(getattr(model, "action_mode", action_mode))

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], Any]:
        """The model's own."""
        found: tuple[NDArray[Any], Any] = self.model.predict(observation, state, episode_start, deterministic)
        return found

    def thoughts(self) -> list[Thought] | None:
        """None."""
        return None


def _fingerprint(label: Label, folder: Path | None) -> str:
    weights = folder / "model.safetensors" if folder is not None else None
    if weights is not None and weights.is_file():
        return file_sha256(weights)
    maker: Any = factory(label.name)
    module = inspect.getmodule(maker)
    path = getattr(module, "__file__", None)
    if path is None or (module is not None and module.__name__.startswith("hrm_gym.")):
        return ""
    return file_sha256(Path(path))
