"""The Agent protocol: stable-baselines3's `predict`, plus what a viewer wants to see."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.puzzle import Thought

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

    # An agent may also have `spent() -> (B,) integers`, segments run so far on each row of the last `predict`.

    def thoughts(self) -> list[Thought] | None:
        """One Thought a row of the last `predict`, or None for agents without any."""
        ...
