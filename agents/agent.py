"""The Agent protocol: stable-baselines3's `predict`, plus what a viewer wants to see."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
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
    # else it spent on each row so far; `warm_up = False`, if a batch's first puzzle need not be played twice;
    # `most_boards: int`, if a larger batch gains nothing: rollouts then give it no more boards at a time.

    def thoughts(self) -> list[Thought] | None:
        """One Thought a row of the last `predict`, or None for agents without any."""
        ...


class ShownAgent:
    """What a notebook shows of an agent."""

    def _repr_html_(self) -> str:
        from hrm_gym.notebook import agent_html

        return agent_html(self)


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


def as_batch(observation: Any, needed: Sequence[str] = ("puzzle", "answer")) -> tuple[dict[str, NDArray[Any]], bool]:
    """An observation of one environment or of a batch, as one of a batch.

    Args:
        observation: array by name; of one environment if `puzzle` is (H, W).
        needed: names without which the agent cannot act.

    Returns:
        Arrays with a leading axis of B boards, and whether there was none before.

    Raises:
        ValueError: it is no such dict, lacks an array, or its arrays are of different numbers of boards.
    """
    names = " and ".join(map(repr, needed))
    if not isinstance(observation, Mapping):
        raise ValueError(f"expected an observation as a dict with {names}, got {type(observation).__name__}")
    if any(name not in observation for name in needed):
        found = ", ".join(map(repr, observation)) or "nothing"
        raise ValueError(f"expected an observation with {names}, as the environment gives it, got one with {found}")
    single = np.ndim(observation["puzzle"]) == 2
    rows = {name: np.asarray(value)[None] if single else np.asarray(value) for name, value in observation.items()}
    counts = {name: value.shape[:1] for name, value in rows.items()}
    if len(set(counts.values())) > 1 or () in counts.values():
        raise ValueError(f"expected arrays of the same number of boards, got shapes beginning with {counts}")
    return rows, single


def check_puzzles(rows: Observation, grid: tuple[int, ...] | None, vocab_size: int) -> None:
    """Raise ValueError unless `puzzle`, and `answer` if it is there, are (B, H, W) token ids of boards of one grid.

    Args:
        rows: what `as_batch` returns.
        grid: (H, W); None for any.
        vocab_size: tokens that there are.
    """
    wanted = tuple(grid or rows["puzzle"].shape[1:])
    for name in ("puzzle", "answer") if "answer" in rows else ("puzzle",):
        board = rows[name]
        if board.ndim != 3 or board.shape[1:] != wanted:
            raise ValueError(f"expected {name}s of {wanted}, or a batch of them, got an array of {board.shape}")
        if board.dtype.kind not in "iu":
            raise ValueError(f"expected {name}s of integer token ids, got {board.dtype}")
        if board.size and not 0 <= int(board.min()) <= int(board.max()) < vocab_size:
            raise ValueError(f"expected token ids in 0..{vocab_size - 1}, got {board.min()}..{board.max()} as {name}")


class StatefulAgent(ShownAgent, ABC):
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
            ValueError: an observation without `puzzle` or `answer`, boards of another size, tokens that do not exist,
                or the state of another batch.
        """
        rows, single = as_batch(observation)
        check_puzzles(rows, self.grid, self.vocab_size)
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
