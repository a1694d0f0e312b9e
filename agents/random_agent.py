"""The lower line in every table: an agent that plays at random."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from hrm_gym.agents.agent import Observation
from hrm_gym.envs.puzzle import Grid, PuzzleFamily, Thought


class RandomAgent:
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
        clues = observation["puzzle"]
        if clues.ndim == 2:
            return self._draw(clues), None
        return np.stack([self._draw(grid) for grid in clues]), None

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
