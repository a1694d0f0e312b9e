"""The agent that looks the answer up: it shows whether stored solutions are judged right, and nothing about solving."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from hrm_gym.agents.oracle import AnswerKeeper
from hrm_gym.envs.puzzle import Grid, Puzzle, PuzzleFamily


class StoredAnswerAgent(AnswerKeeper):
    """Answers with the stored solution of the puzzle, which no observation shows.

    It has to be shown the puzzles: a rollout calls `see` with one puzzle a row before each `predict` that begins a
    puzzle. Outside a rollout it looks at the puzzle that its environment has on the board.
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
        """Be shown the puzzles of the next `predict`, one a row."""
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
