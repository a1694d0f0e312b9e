"""The random baseline.

Agents that know an answer and execute it: the exact solver, the upper bound in every table.

The agent that looks the answer up: it shows whether stored solutions are judged right, and nothing about solving.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from hrm_gym.agents.agent import Observation, PrivilegedAgent, ShownAgent, as_batch, check_puzzles, episode_starts
from hrm_gym.agents.answer_to_action import answers_to_actions
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.puzzle import Grid, Puzzle, Thought


class RandomAgent(ShownAgent):
    """Draws uniformly; it knows the rules only as far as which cells are its to fill.

    Answer mode: every free cell gets a random writable token, and the halt bit is a fair coin. Cell mode: one of the
    writings allowed in free cells, or the halt. Move mode: any of the moves, those into a wall among them.
    """

    def __init__(self, family: PuzzleFamily, action_mode: str = "answer", seed: int = 0, name: str = "random") -> None:
        self.name = name
        self.family = family
        self.action_mode = action_mode
        self._rng = np.random.default_rng(seed)

    @classmethod
    def for_env(cls, env: gym.Env[Any, Any], **kwargs: Any) -> RandomAgent:
        """A random agent for the family and the action mode of `env`; `seed` may be given."""
        world: Any = env.unwrapped
        return cls(world.family, world.action_mode, **kwargs)

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], Any]:
        """Random actions for one observation or a batch; there is no state, and `deterministic` changes nothing."""
        rows, single = as_batch(observation, ("puzzle",))
        check_puzzles(rows, None, self.family.vocab_size)
        actions = [self._draw(grid) for grid in rows["puzzle"]]
        return (actions[0] if single else np.stack(actions)), None

    def reseed(self, seed: int) -> None:
        """Draw from here on as an agent made with this seed does."""
        self._rng = np.random.default_rng(seed)

    def thoughts(self) -> list[Thought] | None:
        """None: it has no thoughts."""
        return None

    def _draw(self, clues: Grid) -> NDArray[np.int64]:
        """One random action for the puzzle `clues`."""
        if self.action_mode == "move":
            return np.array(self._rng.integers(self.family.move_count), dtype=np.int64)
        if self.action_mode == "cell":
            return self._draw_writing(clues)
        tokens = self._rng.choice(np.asarray(self.family.writable, dtype=np.int64), size=clues.shape)
        answer = np.where(self.family.free(clues), tokens, clues)
        return np.append(answer.ravel(), self._rng.integers(2))

    def _draw_writing(self, clues: Grid) -> NDArray[np.int64]:
        """Cell mode: one of the writings of free cells or the halt, all equally likely."""
        symbols = len(self.family.writable)
        cells = np.flatnonzero(self.family.free(clues))
        choice = self._rng.integers(len(cells) * symbols + 1)
        if choice == len(cells) * symbols:
            return np.array(clues.size * symbols, dtype=np.int64)
        return np.array(cells[choice // symbols] * symbols + choice % symbols, dtype=np.int64)


class AnswerKeeper(ShownAgent, ABC):
    """Finds one answer grid at the start of a puzzle and executes it, in any action mode; it halts at once.

    The state is the answers themselves, (B, H, W) uint8, so `state[rows]` keeps those of some boards. A subclass says
    in `find` where an answer comes from.
    """

    def __init__(self, name: str, family: PuzzleFamily, action_mode: str = "answer") -> None:
        self.name = name
        self.family = family
        self.action_mode = action_mode
        self._thoughts: list[Thought] = []

    @abstractmethod
    def find(self, row: int, clues: Grid) -> Grid:
        """The (H, W) uint8 answer for the puzzle `clues` in row `row` of the batch."""

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], Any]:
        """Actions for one observation or a batch; a new answer is found where `episode_start` or without `state`."""
        rows, single = as_batch(observation)
        check_puzzles(rows, None, self.family.vocab_size)
        answers = self._answers(rows["puzzle"], state, episode_starts(rows, state, episode_start))
        self._thoughts = [Thought(answer=answer, segment=1) for answer in answers]
        actions = answers_to_actions(self.family, self.action_mode, rows, answers)
        return (actions[0] if single else actions), answers

    def thoughts(self) -> list[Thought] | None:
        """The answers held at the last `predict`, one a row."""
        return self._thoughts

    def _answers(
        self, clues: NDArray[np.uint8], state: NDArray[np.uint8] | None, starts: NDArray[np.bool_]
    ) -> NDArray[np.uint8]:
        """(B, H, W) uint8: the answers of `state`, with new ones where a puzzle begins."""
        if state is None:
            return np.stack([self.find(row, grid) for row, grid in enumerate(clues)])
        if not starts.any():
            return state
        return np.stack([self.find(row, clues[row]) if starts[row] else state[row] for row in range(len(clues))])


class OracleAgent(AnswerKeeper):
    """Solves a puzzle exactly with its family's own solver; it sees only the observation.

    Where the solver finds no solution it answers with the clues as they are.
    """

    def __init__(self, family: PuzzleFamily, action_mode: str = "answer", name: str = "oracle") -> None:
        super().__init__(name, family, action_mode)

    @classmethod
    def for_env(cls, env: gym.Env[Any, Any], **kwargs: Any) -> AnswerKeeper:
        """An oracle for `env`; where its family has no solver, the agent of the stored answers, by its own name."""
        world: Any = env.unwrapped
        if not world.family.has_solver:
            return StoredAnswerAgent.for_env(env, **kwargs)
        return cls(world.family, world.action_mode, **kwargs)

    def find(self, row: int, clues: Grid) -> Grid:
        """The canonical solution of `clues`."""
        solution = self.family.solve(clues)
        return clues.copy() if solution is None else solution


class StoredAnswerAgent(AnswerKeeper, PrivilegedAgent):
    """Answers with the stored solution of the puzzle, which no observation shows.

    It is shown the puzzles: by a rollout through `see`; outside one it looks at its environment's board.
    """

    def __init__(
        self,
        family: PuzzleFamily,
        action_mode: str = "answer",
        env: gym.Env[Any, Any] | None = None,
        name: str = "stored",
    ) -> None:
        super().__init__(name, family, action_mode)
        self._env = env
        self._seen: list[Puzzle] = []

    @classmethod
    def for_env(cls, env: gym.Env[Any, Any], **kwargs: Any) -> StoredAnswerAgent:
        """An agent that reads the stored solutions of `env`."""
        world: Any = env.unwrapped
        return cls(world.family, world.action_mode, env=env, **kwargs)

    def see(self, puzzles: Sequence[Puzzle]) -> None:
        """Keep the puzzles of the next `predict`, one a row."""
        self._seen = list(puzzles)

    def find(self, row: int, clues: Grid) -> Grid:
        """The stored solution of the puzzle in row `row`.

        Raises:
            ValueError: if the puzzle with these clues was never shown.
        """
        for puzzle in self._candidates(row):
            if np.array_equal(puzzle.clues, clues):
                return puzzle.solution
        raise ValueError(f"agent {self.name!r} was not shown the puzzle in row {row}: call see(puzzles) before predict")

    def _candidates(self, row: int) -> list[Puzzle]:
        """The puzzles that row `row` may hold: the one shown for it, then the one on the environment's board."""
        shown = self._seen[row : row + 1]
        on_board = getattr(self._env.unwrapped, "puzzle", None) if self._env is not None else None
        return shown if on_board is None else [*shown, on_board]
