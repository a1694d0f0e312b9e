"""Agents that hold a right answer and carry it out: the exact solver, the upper line in every table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from hrm_gym.agents.agent import Observation
from hrm_gym.agents.carry_out import carry_out_rows
from hrm_gym.envs.puzzle import Grid, PuzzleFamily, Thought


class AnswerKeeper(ABC):
    """Finds one answer grid at the start of a puzzle and carries it out, in any action mode; it halts at once.

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
        single = observation["puzzle"].ndim == 2
        rows = {key: value[None] for key, value in observation.items()} if single else observation
        answers = self._answers(rows["puzzle"], state, episode_start)
        self._thoughts = [Thought(answer=answer, segment=1) for answer in answers]
        actions = carry_out_rows(self.family, self.action_mode, rows, answers)
        return (actions[0] if single else actions), answers

    def thoughts(self) -> list[Thought] | None:
        """The answers held at the last `predict`, one a row."""
        return self._thoughts

    def _answers(
        self, clues: NDArray[np.uint8], state: NDArray[np.uint8] | None, episode_start: NDArray[np.bool_] | None
    ) -> NDArray[np.uint8]:
        """(B, H, W) uint8: the answers of `state`, with new ones where a puzzle begins."""
        if state is None:
            return np.stack([self.find(row, grid) for row, grid in enumerate(clues)])
        starts = np.broadcast_to(False if episode_start is None else episode_start, len(clues))
        if not starts.any():
            return state
        return np.stack([self.find(row, clues[row]) if starts[row] else state[row] for row in range(len(clues))])


class OracleAgent(AnswerKeeper):
    """Solves a puzzle exactly with its family's own solver; it sees nothing but the observation.

    Where the solver finds no solution it answers with the clues as they are.
    """

    def __init__(self, family: PuzzleFamily, action_mode: str = "answer", name: str = "oracle") -> None:
        super().__init__(name, family, action_mode)

    @classmethod
    def for_env(cls, env: gym.Env[Any, Any], **kwargs: Any) -> AnswerKeeper:
        """An oracle for `env`; where its family has no solver, the agent of the stored answers, by its own name."""
        world: Any = env.unwrapped
        if not world.family.has_solver:
            from hrm_gym.agents.stored import StoredAnswerAgent

            return StoredAnswerAgent.for_env(env, **kwargs)
        return cls(world.family, world.action_mode, **kwargs)

    def find(self, row: int, clues: Grid) -> Grid:
        """The canonical solution of `clues`."""
        solution = self.family.solve(clues)
        return clues.copy() if solution is None else solution
