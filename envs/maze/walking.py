"""Move mode: walk from the start to the goal."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.maze.kernels import UNREACHED, distances_kernel
from hrm_gym.envs.maze.tokens import GOAL, PAD, PATH, START
from hrm_gym.envs.modes import ActionMode, one_integer
from hrm_gym.envs.puzzle import Grid, Puzzle, PuzzleFamily, plain

_WALKED, _SPOILT = 1, 2


class WalkMode(ActionMode):
    """Moves 0 up, 1 right, 2 down, 3 left; the episode ends at the goal.

    The shown answer has the walker as start token and the cells it came through as path. A cell left by stepping back
    onto the walk's own trail shows as pad (0) and stays so: from then on the walk cannot be a shortest one, and without
    that mark the observation would not tell. Such cells are the violations of this mode.
    """

    def __init__(self, family: PuzzleFamily, shape: tuple[int, int]) -> None:
        super().__init__(family, shape)
        height, width = shape
        stride = width + 2
        self.space = gym.spaces.Discrete(4)
        self._offsets = (-stride, 1, stride, -1)
        bordered = range((height + 2) * stride)
        self._cell = [(i // stride - 1) * width + i % stride - 1 for i in bordered]

    def default_budget(self) -> int:
        """Every cell can be entered four times."""
        return 4 * self.shape[0] * self.shape[1]

    def begin(self, puzzle: Puzzle) -> None:
        """Put the walker on the start."""
        super().begin(puzzle)
        self._flat = self.shown.reshape(-1)
        distance = np.empty(len(self._cell), dtype=np.int32)
        start = distances_kernel(plain(puzzle.clues), distance)
        self._distance: list[int] = distance.tolist()
        self._at, self._shortest = start, self._distance[start]
        self._trail = bytearray(len(self._distance))
        self._trail[start] = _WALKED
        self._moves = 0

    def act(self, action: Any) -> bool:
        """Walk one cell if no wall is in the way; True at the goal."""
        move = one_integer(action, 3)
        here = self._at
        there = here + self._offsets[move]
        # Walls and the border have no distance to the goal; cells cut off from it are never beside the walker.
        if self._distance[there] == UNREACHED:
            return False
        trail = self._trail
        if trail[there] and trail[here] != _SPOILT:
            trail[here] = _SPOILT
            self.violations += 1
        trail[there] = trail[there] or _WALKED
        self._flat[self._cell[here]] = PAD if trail[here] == _SPOILT else PATH
        self._flat[self._cell[there]] = START
        self._at = there
        self._moves += 1
        return self._distance[there] == 0

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the flat view of `shown`, which a copy would cut loose from it."""
        return {name: value for name, value in self.__dict__.items() if name != "_flat"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore, and look at `shown` anew."""
        self.__dict__.update(state)
        if "shown" in state:
            self._flat = self.shown.reshape(-1)

    def answer(self) -> Grid:
        """The maze with every walked cell drawn as path."""
        clues = self.puzzle.clues
        walked = (self.shown == PATH) | (self.shown == PAD) | (self.shown == START)
        return np.where(walked & (clues != START) & (clues != GOAL), np.uint8(PATH), clues)

    def solved(self) -> bool:
        """Whether the walk reached the goal and was a shortest one."""
        return self.reached() and self._moves == self._shortest

    def reached(self) -> bool:
        """Whether the walker stands on the goal."""
        return self._distance[self._at] == 0

    def verdict(self) -> dict[str, Any]:
        """As for a drawing, but judged by the walk itself."""
        return {**super().verdict(), "solved": self.solved(), "reached": self.reached()}

    def potential(self) -> float:
        """Minus the walker's distance to the goal, in units of the start's distance."""
        return -self._distance[self._at] / self._shortest

    def mask(self) -> NDArray[np.bool_]:
        """(4,) bool: moves that no wall stops."""
        return np.array([self._distance[self._at + offset] != UNREACHED for offset in self._offsets])
