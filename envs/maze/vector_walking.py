"""Move mode on N boards at once; see `walking.py` for the rules."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from hrm_gym.envs.maze.kernels import UNREACHED, distances_kernel
from hrm_gym.envs.maze.tokens import GOAL, PAD, PATH, START
from hrm_gym.envs.puzzle import PuzzleFamily
from hrm_gym.envs.vector_info import Rows
from hrm_gym.envs.vector_modes import Boards, VectorMode

_WALKED, _SPOILT = 1, 2


@njit(cache=True)
def _place_kernel(clues, rows, distance, trail, at):
    """Put the walkers of the boards `rows` on the start: fills their (N, cells) `distance`, `trail` and (N,) `at`."""
    for row in rows:
        at[row] = distances_kernel(clues[row], distance[row])
        trail[row] = 0
        trail[row, at[row]] = _WALKED


@njit(cache=True)
def _walk_kernel(actions, active, distance, trail, at, moves, shown, violations, ended):
    """One move on each active board of (N, H, W) `shown`."""
    width = shown.shape[2]
    stride = width + 2
    offsets = (-stride, 1, stride, -1)
    for i in range(len(shown)):
        if not active[i]:
            continue
        ended[i] = False
        here = at[i]
        there = here + offsets[actions[i]]
        if distance[i, there] == UNREACHED:
            continue
        if trail[i, there] != 0 and trail[i, here] != _SPOILT:
            trail[i, here] = _SPOILT
            violations[i] += 1
        if trail[i, there] == 0:
            trail[i, there] = _WALKED
        shown[i, here // stride - 1, here % stride - 1] = PAD if trail[i, here] == _SPOILT else PATH
        shown[i, there // stride - 1, there % stride - 1] = START
        at[i] = there
        moves[i] += 1
        ended[i] = distance[i, there] == 0


class VectorWalkMode(VectorMode):
    """Moves 0 up, 1 right, 2 down, 3 left on N boards; an episode ends at the goal."""

    def __init__(self, family: PuzzleFamily, boards: Boards) -> None:
        super().__init__(family, boards)
        count, height, width = boards.clues.shape
        bordered = (height + 2) * (width + 2)
        stride = width + 2
        self._offsets = np.array((-stride, 1, stride, -1))
        self._distance = np.full((count, bordered), UNREACHED, dtype=np.int32)
        self._trail = np.zeros((count, bordered), dtype=np.uint8)
        self._at = np.zeros(count, dtype=np.int64)
        self._shortest = np.ones(count, dtype=np.int32)
        self._moves = np.zeros(count, dtype=np.int32)
        self._ended = np.zeros(count, dtype=np.bool_)

    def begin(self, rows: Rows) -> None:
        """Put the walkers on the start."""
        super().begin(rows)
        _place_kernel(self.boards.clues, rows, self._distance, self._trail, self._at)
        self._shortest[rows] = self._distance[rows, self._at[rows]]
        self._moves[rows] = 0

    def act(self, actions: NDArray[Any], active: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Walk one cell where no wall is in the way; a board ends at the goal."""
        moves = actions.astype(np.int64, copy=False)
        state = (self._distance, self._trail, self._at, self._moves, self.shown, self.violations, self._ended)
        _walk_kernel(moves, active, *state)
        return self._ended & active

    def answers(self, rows: Rows) -> NDArray[np.uint8]:
        """The mazes with every walked cell drawn as path."""
        clues, shown = self.boards.clues[rows], self.shown[rows]
        walked = (shown == PATH) | (shown == PAD) | (shown == START)
        return np.where(walked & (clues != START) & (clues != GOAL), np.uint8(PATH), clues)

    def solved(self, rows: Rows) -> NDArray[np.bool_]:
        """Whether the walks reached the goal and were shortest ones."""
        return self._reached(rows) & (self._moves[rows] == self._shortest[rows])

    def verdict(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """As for drawings, but judged by the walks themselves."""
        return {**super().verdict(rows), "solved": self.solved(rows), "reached": self._reached(rows)}

    def potential(self, rows: Rows) -> NDArray[np.float64]:
        """Minus the walkers' distances to the goal, in units of the starts' distances."""
        return -self._distance[rows, self._at[rows]] / self._shortest[rows]

    def masks(self) -> NDArray[np.bool_]:
        """(N, 4) bool: moves that no wall stops."""
        beside = self._at[:, None] + self._offsets
        return np.take_along_axis(self._distance, beside, axis=1) != UNREACHED

    def _reached(self, rows: Rows) -> NDArray[np.bool_]:
        """Whether the walkers stand on the goal."""
        return self._distance[rows, self._at[rows]] == 0
