"""The Agent protocol: stable-baselines3's `predict`, plus what a viewer wants to see."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.puzzle import Puzzle, Thought

Observation = dict[str, NDArray[Any]]


@runtime_checkable
class Agent(Protocol):
    """Anything that acts in our environments. A trained stable-baselines3 model satisfies `predict` as it is.

    `predict` takes the observation of one environment or a batch of them (every array with a leading batch axis) and
    returns actions of the same form. `state` is opaque: pass back what came last, None to start. If it is not None it
    must allow `state[rows]` with an integer array, which keeps those rows of the batch; so a rollout can drop boards
    that are finished.

    Attributes:
        name: what tables call it.
        action_mode: the mode it was built for: "answer", "cell" or "move".
    """

    name: str
    action_mode: str

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], Any]:
        """Actions for `observation`; rows with `episode_start` True begin a new puzzle (their state is reset)."""
        ...

    # An agent may also have `spent() -> (B,) integers`, segments run so far on each row of the last `predict`,
    # and `halting_rules: str`, which halting rules are in force, as tables show them ("none" without it); and
    # `weights: Path | str`, the folder or hub name that its weights came from.

    def thoughts(self) -> list[Thought] | None:
        """One Thought a row of the last `predict`, or None for agents without any."""
        ...


class PrivilegedAgent(ABC):
    """An agent that is shown puzzles with their stored solutions; no other agent is, and every table says so."""

    halting_rules = "is shown the stored solution"

    @abstractmethod
    def see(self, puzzles: Sequence[Puzzle]) -> None:
        """Be shown the puzzles of the next `predict`, one a row; called before each one that begins a puzzle."""


class StatefulAgent(ABC):
    """An agent with a state, and what is convenient in a single environment: `act` keeps the state inside."""

    _state: Any = None

    @abstractmethod
    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], Any]:
        """Actions for one observation or a batch, and the next state; see `Agent`."""

    @abstractmethod
    def thoughts(self) -> list[Thought] | None:
        """What the agent had in mind at the last `predict`, one Thought a board."""

    def act(self, observation: Observation) -> NDArray[Any]:
        """The action for one environment; call `reset` before each episode."""
        action, self._state = self.predict(observation, self._state)
        return action

    def reset(self) -> None:
        """Forget the state that `act` keeps."""
        self._state = None

    @property
    def thought(self) -> Thought | None:
        """The first board's Thought at the last `predict`."""
        found = self.thoughts()
        return found[0] if found else None
