"""Action modes: the ways in which an agent may give its answer, for one board at a time.

A mode owns the action space, what an action does to the board, and when an episode ends by itself. `PuzzleEnv` owns the
rest: budget, reward, observation, info.
"""

from __future__ import annotations

import reprlib
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
        violations: number of cells of `shown` that break a rule.
        halt_is_forced: whether using up the budget ends the episode as a halt (terminated), not as a cut (truncated).
    """

    halt_is_forced: ClassVar[bool] = False
    space: gym.Space[Any]
    shown: Grid
    violations: int

    def __init__(self, family: PuzzleFamily, shape: tuple[int, int]) -> None:
        self.family, self.shape = family, shape
        self.puzzle: Puzzle

    @abstractmethod
    def default_budget(self) -> int:
        """Actions an episode may have if the user does not say."""

    def begin(self, puzzle: Puzzle) -> None:
        """Show `puzzle` with nothing done yet."""
        self.puzzle = puzzle
        self.shown = self.family.blank(puzzle.clues)
        self.violations = 0

    @abstractmethod
    def act(self, action: Any) -> bool:
        """Carry out one action; True if the episode ends by it. ValueError if it is not in the action space."""

    def answer(self) -> Grid:
        """(H, W) uint8, the answer to judge (not to be written to)."""
        return self.shown

    def solved(self) -> bool:
        """Whether the answer is right by the rules."""
        return self.family.is_solved(self.puzzle, self.answer())

    def verdict(self) -> dict[str, Any]:
        """What info says of the answer at the end, in plain Python numbers; at least solved, exact, cell_accuracy."""
        puzzle, answer = self.puzzle, self.answer()
        said = self.family.verdict_many(puzzle.clues[None], puzzle.solution[None], answer[None])
        return {name: values[0].item() for name, values in said.items()}

    def potential(self) -> float:
        """Phi of the board: the share of counted cells that agree with the stored solution."""
        return self.family.cell_accuracy(self.puzzle, self.answer())

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
        action = _as_array(action)
        if action.shape != (self._cells + 1,):
            raise ValueError(f"expected an action of shape ({self._cells + 1},), got {action.shape}")
        if not np.issubdtype(action.dtype, np.integer):
            raise ValueError(f"expected an action of integers, got dtype {action.dtype}")
        if action.min() < 0 or (action >= self._sizes).any():
            place = int(np.argmax((action < 0) | (action >= self._sizes)))
            last = self._sizes[place] - 1
            raise ValueError(f"expected 0..{last} at place {place} of the action, got {action[place]}")
        self.shown = action[:-1].astype(np.uint8).reshape(self.shape)
        self.violations = self.family.count_violations(self.puzzle.clues, self.shown)
        return bool(action[-1])

    def mask(self) -> NDArray[np.bool_]:
        """(H*W*vocab + 2,) bool: given cells allow their own token only, free cells the writable ones."""
        return answer_masks(self.family, self.puzzle.clues[None])[0]


class CellMode(ActionMode):
    """Write one symbol into one free cell, or halt (the last action)."""

    def __init__(self, family: PuzzleFamily, shape: tuple[int, int]) -> None:
        super().__init__(family, shape)
        self._halt = shape[0] * shape[1] * len(family.writable)
        self._symbols = len(family.writable)
        self.space = gym.spaces.Discrete(self._halt + 1)

    def default_budget(self) -> int:
        """Every cell can be written twice."""
        return 2 * self.shape[0] * self.shape[1]

    def begin(self, puzzle: Puzzle) -> None:
        """Show the clues alone."""
        super().begin(puzzle)
        self._clues = puzzle.clues.copy()  # compiled rules want an array of their usual kind, whatever the source gave
        self._free: list[bool] = self.family.free(puzzle.clues).ravel().tolist()

    def act(self, action: Any) -> bool:
        """Write action % symbols into cell action // symbols; True if halted or solved."""
        number = one_integer(action, self._halt)
        if number == self._halt:
            return True
        cell, symbol = divmod(number, self._symbols)
        clues, token = self._clues, self.family.writable[symbol]
        if not self._free[cell] or not self.family.may_write(clues, self.shown, cell, token):
            return False
        self.violations += self.family.write(clues, self.shown, cell, token)
        return self.violations == 0 and self.solved()

    def mask(self) -> NDArray[np.bool_]:
        """(H*W*symbols + 1,) bool: every legal symbol in every free cell, and halting."""
        return np.append(self.family.legal_writes(self.puzzle.clues, self.shown).ravel(), True)


def one_integer(action: Any, last: int) -> int:
    """A Discrete action as a plain integer.

    Raises:
        ValueError: if it is not one integer in 0..last.
    """
    if not isinstance(action, int | np.integer):
        action = _as_array(action)
        if action.size != 1 or not np.issubdtype(action.dtype, np.integer):
            came = repr(action.item()) if action.size == 1 else f"shape {action.shape}"
            raise ValueError(f"expected an action in 0..{last}, one integer, got {came} of dtype {action.dtype}")
        action = action.item()
    if not 0 <= action <= last:
        raise ValueError(f"expected an action in 0..{last}, got {action}")
    return int(action)


def _as_array(action: Any) -> NDArray[Any]:
    try:
        return np.asarray(action)
    except ValueError:
        raise ValueError(f"expected an action of integers in one array, got {reprlib.repr(action)}") from None


def answer_masks(family: PuzzleFamily, clues: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(N, H*W*vocab + 2) bool for (N, H, W) puzzles: the tokens that alter no clue, and both halt bits."""
    count, cells = len(clues), clues[0].size
    free = family.free(clues).reshape(count, cells)
    tokens = np.arange(family.vocab_size)
    allowed = np.where(free[..., None], np.isin(tokens, family.writable), clues.reshape(count, cells, 1) == tokens)
    return np.concatenate([allowed.reshape(count, -1), np.ones((count, 2), dtype=np.bool_)], axis=1)
