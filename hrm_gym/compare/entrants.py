"""From an agent's label to an agent that plays a world in its own action mode, or to the reason why there is none."""

from __future__ import annotations

import glob
import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.agent_registry import factory, make_agent, preferred_modes
from hrm_gym.agents.agent import Agent, Observation
from hrm_gym.compare.plan import World
from hrm_gym.envs.puzzle import Thought
from hrm_gym.rollout import Env


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
        found = tuple(sorted(glob.glob(path))) if glob.has_magic(path) else (path,) if path else ()
        if path and not found:
            raise ValueError(f"expected weights at {path!r}, as {text!r} says, found none")
        return Label(text, name, mode or None, tuple(_weights_in(folder) for folder in found))


@dataclass(frozen=True, eq=False)
class Entrant:
    """An agent that is ready to play a world.

    Attributes:
        label: as it was written.
        run: 0, or which of several runs with different training seeds.
        agent: who plays.
        weights: the folder of its weights, if they lie in one.
        fingerprint: SHA-256 of its weights; without any, of the code that makes it if that is not ours; else "".
    """

    label: Label
    run: int
    agent: Agent
    weights: Path | None
    fingerprint: str


class Unfit(ValueError):
    """An agent cannot play a world; the message says why."""


def enter(label: Label, world: World) -> list[Entrant]:
    """The runs of an agent in a world.

    Raises:
        Unfit: if it has no weights for this world, or does not play it.
        OSError: if there is nothing where the label says there are weights.
    """
    runs: tuple[str | None, ...] = label.weights or (None,)
    return [_entrant(label, run, weights, world) for run, weights in enumerate(runs)]


def _entrant(label: Label, run: int, weights: str | None, world: World) -> Entrant:
    given: dict[str, Any] = {"weights": weights} if weights else {}
    agent = seated(label.name, world.make, world.modes, label.mode, **given)
    folder = Path(weights) if weights else _own_weights(agent, label, world)
    if folder is not None and not folder.is_dir():
        folder = None
    return Entrant(label, run, agent, folder, _fingerprint(label, folder))


def seated(
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
            return whole(make_agent(name, make(one), **options), name, one)
        except ValueError as error:
            refusals.append(" ".join(str(error).split()))
    raise Unfit(refusals[0])


def whole(found: Any, name: str, mode: str) -> Agent:
    """`found` if it is an Agent; else what has SB3's `predict` (an SB3 model, say) with the rest put around it.

    Raises:
        ValueError: if it has no `predict`.
    """
    if isinstance(found, Agent):
        return found
    if not callable(getattr(found, "predict", None)):
        raise ValueError(f"expected agent {name!r} to have a method predict, got {type(found).__name__}")
    return Plain(found, name, mode)


class Plain:
    """A thing with `predict` and nothing else, as an agent without thoughts."""

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


def _weights_in(path: str) -> str:
    """The folder of finished weights of a run, if `path` is a run's folder; else `path`."""
    inner = Path(path) / "model"
    return str(inner) if (inner / "config.json").is_file() and not (Path(path) / "config.json").is_file() else path


def _own_weights(agent: Any, label: Label, world: World) -> Path | None:
    """Where the weights of an agent lie that found them itself: where it says, or among the bundled ones."""
    told = getattr(agent, "weights", None)
    if told is not None:
        return Path(told)
    from hrm_gym.agents import pretrained

    env: Any = world.make(agent.action_mode).unwrapped
    wanted = (env.family.name, tuple(env.shape), agent.action_mode)
    for kind in dict.fromkeys((label.name, label.name.partition("-")[0], agent.name)):
        for folder, about in pretrained.bundled(kind):
            grid, mode = tuple(about.get("model", {}).get("grid", ())), about.get("action_mode", agent.action_mode)
            if (about.get("family"), grid, mode) == wanted:
                return folder
    return None


def _fingerprint(label: Label, folder: Path | None) -> str:
    weights = folder / "model.safetensors" if folder is not None else None
    if weights is not None and weights.is_file():
        return hashlib.sha256(weights.read_bytes()).hexdigest()
    maker: Any = factory(label.name)
    module = inspect.getmodule(maker)
    path = getattr(module, "__file__", None)
    if path is None or (module is not None and module.__name__.startswith("hrm_gym.")):
        return ""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
