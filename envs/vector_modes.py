"""The action modes of `modes.py` for N boards at once: the same rules, without a Python loop over boards."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.modes import answer_masks
from hrm_gym.envs.puzzle import CellBoards, Puzzle, PuzzleFamily
from hrm_gym.envs.vector_info import Rows


@dataclass(frozen=True, eq=False)
class Boards:
    """The puzzles on N boards.

    Attributes:
        clues: (N, H, W) uint8.
        solutions: (N, H, W) uint8.
    """

    clues: NDArray[np.uint8]
    solutions: NDArray[np.uint8]

    @classmethod
    def empty(cls, count: int, shape: tuple[int, int]) -> Boards:
        """N boards without puzzles."""
        return cls(np.zeros((count, *shape), np.uint8), np.zeros((count, *shape), np.uint8))

    def __getitem__(self, row: int) -> Puzzle:
        """The puzzle on one board."""
        return Puzzle(self.clues[row], self.solutions[row])


class VectorMode(ABC):
    """One way of giving an answer, on N boards.

    Attributes:
        family: the rules of the puzzles.
        boards: the puzzles; written by the environment, read here.
        shown: (N, H, W) uint8, the answers as the observations show them.
        violations: (N,) int32, number of cells of `shown` that break a rule.
        halt_is_forced: whether using up the budget ends the episode as a halt (terminated), not as a cut (truncated).
    """

    halt_is_forced: ClassVar[bool] = False

    def __init__(self, family: PuzzleFamily, boards: Boards) -> None:
        self.family, self.boards = family, boards
        self.shown = np.zeros_like(boards.clues)
        self.violations = np.zeros(len(boards.clues), dtype=np.int32)

    def begin(self, rows: Rows) -> None:
        """Show the new puzzles of the boards `rows` with nothing done yet."""
        self.shown[rows] = self.family.blank(self.boards.clues[rows])
        self.violations[rows] = 0

    @abstractmethod
    def act(self, actions: NDArray[Any], active: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Carry out one action on each active board.

        Args:
            actions: one action a board, already known to lie in the action space.
            active: (N,) bool; the other boards are left alone.

        Returns:
            (N,) bool, the active boards whose episode ends by it.
        """

    def answers(self, rows: Rows) -> NDArray[np.uint8]:
        """(n, H, W) uint8, the answers to judge."""
        return self.shown[rows]

    def solved(self, rows: Rows) -> NDArray[np.bool_]:
        """(n,) bool, whether the answers are right by the rules."""
        return self.family.judge_many(self.boards.clues[rows], self.boards.solutions[rows], self.answers(rows))

    def verdict(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """What info says of the answers at the end, an array a key with an entry for each of `rows`."""
        return self.family.verdict_many(self.boards.clues[rows], self.boards.solutions[rows], self.answers(rows))

    def potential(self, rows: Rows) -> NDArray[np.float64]:
        """(n,) Phi of the boards."""
        return self.family.cell_accuracy_many(self.boards.clues[rows], self.boards.solutions[rows], self.answers(rows))

    @abstractmethod
    def masks(self) -> NDArray[np.bool_]:
        """(N, A) bool, True for every legal action."""


class VectorAnswerMode(VectorMode):
    """The whole grid and a halt bit in one action."""

    halt_is_forced = True

    def act(self, actions: NDArray[Any], active: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Take over the grids; a board ends if its halt bit is set."""
        shape = self.shown.shape
        if active.all():
            self.shown[:] = actions[:, :-1].reshape(shape)
            self.violations[:] = self.family.count_violations_many(self.boards.clues, self.shown)
        else:
            self.shown[active] = actions[active, :-1].reshape(-1, *shape[1:])
            counted = self.family.count_violations_many(self.boards.clues[active], self.shown[active])
            self.violations[active] = counted
        return (actions[:, -1] == 1) & active

    def masks(self) -> NDArray[np.bool_]:
        """(N, H*W*vocab + 2) bool."""
        return answer_masks(self.family, self.boards.clues)


class VectorCellMode(VectorMode):
    """Write one symbol into one free cell, or halt (the last action)."""

    def __init__(self, family: PuzzleFamily, boards: Boards) -> None:
        super().__init__(family, boards)
        count, cells = len(boards.clues), boards.clues[0].size
        self._free = np.zeros((count, cells), dtype=np.bool_)
        ended = np.zeros(count, dtype=np.bool_)
        self._cells = CellBoards(boards.clues, boards.solutions, self.shown, self._free, self.violations, ended)

    def begin(self, rows: Rows) -> None:
        """Show the clues alone."""
        super().begin(rows)
        self._free[rows] = self.family.free(self.boards.clues[rows]).reshape(len(rows), -1)

    def act(self, actions: NDArray[Any], active: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Write; a board ends if it halts or becomes solved."""
        self.family.write_many(self._cells, actions.astype(np.int64, copy=False), active)
        return self._cells.ended & active

    def masks(self) -> NDArray[np.bool_]:
        """(N, H*W*symbols + 1) bool."""
        legal = self.family.legal_writes_many(self.boards.clues, self.shown)
        count = len(legal)
        return np.concatenate([legal.reshape(count, -1), np.ones((count, 1), dtype=np.bool_)], axis=1)
