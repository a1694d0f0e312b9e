"""Action modes: the ways in which an agent may give its answer, for one board at a time.

A mode owns the action space, what an action does to the board, and when an episode ends by itself. `PuzzleEnv` owns the
rest: budget, reward, observation, info.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.puzzle import Grid, Puzzle, PuzzleFamily


class ActionMode(ABC):
    """One way of giving an answer.

    Attributes:
        space: the action space.
        shown: (H, W) uint8, the answer as the observation shows it.
        halt_is_forced: whether using up the budget ends the episode as a halt (terminated), not as a cut (truncated).
    """

    halt_is_forced: ClassVar[bool] = False
    space: gym.Space[Any]
    shown: Grid

    def __init__(self, family: PuzzleFamily, shape: tuple[int, int]) -> None:
        self.family, self.shape = family, shape
        self.puzzle: Puzzle

    @abstractmethod
    def default_budget(self) -> int:
        """Actions an episode may have if the user does not say."""

    def begin(self, puzzle: Puzzle) -> None:
        """Show `puzzle` with nothing done yet."""
        self.puzzle = puzzle
        self.shown = puzzle.clues.copy()

    @abstractmethod
    def act(self, action: Any) -> bool:
        """Carry out one action; True if the episode ends by it. ValueError if it is not in the action space."""

    def answer(self) -> Grid:
        """(H, W) uint8, the answer to judge (not to be written to)."""
        return self.shown

    def solved(self) -> bool:
        """Whether the answer is right by the rules."""
        return self.family.is_solved(self.puzzle, self.answer())

    def violations(self) -> int:
        """Number of cells that break a rule."""
        return int(np.count_nonzero(self.family.violations(self.puzzle.clues, self.shown)))

    def potential(self) -> float:
        """Phi of the board: the share of free cells that agree with the stored solution."""
        return cell_accuracy(self.family, self.puzzle, self.answer())

    @abstractmethod
    def mask(self) -> NDArray[np.bool_]:
        """A fresh bool array with an entry for every action (for MultiDiscrete, factor after factor)."""


class AnswerMode(ActionMode):
    """The whole grid and a halt bit in one action: one segment of an HRM."""

    halt_is_forced = True

    def __init__(self, family: PuzzleFamily, shape: tuple[int, int]) -> None:
        super().__init__(family, shape)
        self._cells = shape[0] * shape[1]
        self._sizes = np.array([family.vocab_size] * self._cells + [2], dtype=np.int64)
        self.space = gym.spaces.MultiDiscrete(self._sizes)

    def default_budget(self) -> int:
        """The paper's 16 segments."""
        return 16

    def act(self, action: Any) -> bool:
        """Take over the grid; True if the halt bit is set."""
        action = np.asarray(action)
        if action.shape != (self._cells + 1,):
            raise ValueError(f"expected an action of shape ({self._cells + 1},), got {action.shape}")
        if action.min() < 0 or (action >= self._sizes).any():
            raise ValueError(f"expected token ids 0..{self.family.vocab_size - 1} and a halt bit 0 or 1, got {action}")
        self.shown = action[:-1].astype(np.uint8).reshape(self.shape)
        return bool(action[-1])

    def mask(self) -> NDArray[np.bool_]:
        """(H*W*vocab + 2,) bool: given cells allow their own token only, free cells the writable ones."""
        allowed = np.zeros((self._cells, self.family.vocab_size), dtype=np.bool_)
        clues = self.puzzle.clues.ravel()
        allowed[np.arange(self._cells), clues] = True
        open_cells = np.flatnonzero(self.family.free(self.puzzle.clues))
        allowed[open_cells] = False
        allowed[np.ix_(open_cells, np.asarray(self.family.writable))] = True
        return np.append(allowed.ravel(), (True, True))


class CellMode(ActionMode):
    """Write one symbol into one free cell, or halt (the last action)."""

    def __init__(self, family: PuzzleFamily, shape: tuple[int, int]) -> None:
        super().__init__(family, shape)
        self._halt = shape[0] * shape[1] * len(family.writable)
        self.space = gym.spaces.Discrete(self._halt + 1)

    def default_budget(self) -> int:
        """Every cell can be written twice."""
        return 2 * self.shape[0] * self.shape[1]

    def begin(self, puzzle: Puzzle) -> None:
        """Show the clues alone."""
        super().begin(puzzle)
        self._free = self.family.free(puzzle.clues).ravel()

    def act(self, action: Any) -> bool:
        """Write action % symbols into cell action // symbols; True if halted or solved."""
        action = int(action)
        if not 0 <= action <= self._halt:
            raise ValueError(f"expected an action in 0..{self._halt}, got {action}")
        if action == self._halt:
            return True
        cell, symbol = divmod(action, len(self.family.writable))
        if not self._free[cell]:
            return False
        self.shown.flat[cell] = self.family.writable[symbol]
        return self.solved()

    def mask(self) -> NDArray[np.bool_]:
        """(H*W*symbols + 1,) bool: every symbol in every free cell, and halting."""
        return np.append(np.repeat(self._free, len(self.family.writable)), True)


def cell_accuracy(family: PuzzleFamily, puzzle: Puzzle, answer: Grid) -> float:
    """Share of the free cells in which `answer` (H, W) equals the stored solution; 1.0 if no cell is free."""
    free = family.free(puzzle.clues)
    count = int(np.count_nonzero(free))
    return int(np.count_nonzero((answer == puzzle.solution) & free)) / count if count else 1.0
