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
    """Anything that acts in our environments. A trained stable-baselines3 model satisfies `predict` unchanged.

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
    # `weights: Path | str`, the folder or hub name that its weights came from; `usage() -> list[dict[str, int]]`, what
    # else it spent on each row so far; `warm_up = False`, if a batch's first puzzle need not be played twice.

    def thoughts(self) -> list[Thought] | None:
        """One Thought a row of the last `predict`, or None for agents without any."""
        ...


class PrivilegedAgent(ABC):
    """An agent that is shown puzzles with their stored solutions; every table says so.

    Only the package's own may be: a rollout refuses to show them to an agent from outside.
    """

    halting_rules = "is shown the stored solution"

    @abstractmethod
    def see(self, puzzles: Sequence[Puzzle]) -> None:
        """Be shown the puzzles of the next `predict`, one a row; called before each one that begins a puzzle."""


def episode_starts(observation: Observation, state: Any, episode_start: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """(B,) bool, the rows of a batch on which a puzzle begins.

    All of them without a state; else those with a flag, and those whose observation shows that none of the budget was
    used. So a vector environment in which the step after an end is a reset (`NEXT_STEP`) needs no flags.
    """
    count = len(observation["puzzle"])
    starts = np.array(np.broadcast_to(state is None if episode_start is None else episode_start, count))
    if "segment" in observation:
        fresh = np.reshape(observation["segment"], count) == 0
        if "attempt" in observation:  # a second attempt has its own budget, and is no new puzzle
            fresh &= np.reshape(observation["attempt"], count) == 0
        starts |= fresh
    return starts


def check_puzzles(puzzles: NDArray[Any], grid: tuple[int, ...], vocab_size: int) -> None:
    """Raise ValueError unless `puzzles` are (B, H, W) token ids of boards of this grid."""
    if puzzles.ndim != 3 or puzzles.shape[1:] != tuple(grid):
        raise ValueError(f"expected puzzles of {grid}, or a batch of them, got an array of {puzzles.shape}")
    if puzzles.dtype.kind not in "iu":
        raise ValueError(f"expected puzzles of integer token ids, got {puzzles.dtype}")
    if puzzles.size and not 0 <= int(puzzles.min()) <= int(puzzles.max()) < vocab_size:
        raise ValueError(f"expected token ids in 0..{vocab_size - 1}, got {puzzles.min()}..{puzzles.max()}")


class StatefulAgent(ABC):
    """An agent with a state. A subclass decides for batches; single observations, starts and checks are here.

    Attributes:
        grid: (H, W) of the boards that it plays.
        vocab_size: tokens that they have.
    """

    grid: tuple[int, ...]
    vocab_size: int
    _state: Any = None

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], Any]:
        """Actions for one observation or a batch, and the next state.

        Args:
            observation: what the environment shows: `puzzle` and `answer` (H, W) or (B, H, W) uint8, and other entries.
            state: what the last call returned; None starts every board.
            episode_start: (B,) bool, boards on which a new puzzle begins; those whose `segment` is 0 begin in any case.
            deterministic: has no effect; nothing is sampled.

        Raises:
            ValueError: boards of another size, tokens that do not exist, or the state of another batch.
        """
        single = np.ndim(observation["puzzle"]) == 2
        rows = {key: np.asarray(value)[None] if single else np.asarray(value) for key, value in observation.items()}
        check_puzzles(rows["puzzle"], self.grid, self.vocab_size)
        starts = episode_starts(rows, state, episode_start)
        if starts.all():
            state = None
        elif len(state) != len(starts):
            raise ValueError(f"expected the state of {len(starts)} boards, got that of {len(state)}")
        actions, state = self.decide(rows, state, starts)
        return (actions[0] if single else actions), state

    @abstractmethod
    def decide(self, observation: Observation, state: Any, starts: NDArray[np.bool_]) -> tuple[NDArray[Any], Any]:
        """Actions for a batch of B boards, and the next state, which has a length of B.

        Args:
            observation: every array with a leading axis of B.
            state: of the last call; None if all boards begin.
            starts: (B,) bool, boards on which a puzzle begins.
        """

    @abstractmethod
    def thoughts(self) -> list[Thought] | None:
        """What the agent had in mind at the last `predict`, one Thought a board."""

    def act(self, observation: Observation) -> NDArray[Any]:
        """The action for one environment; the state is kept inside, until a puzzle begins."""
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
