"""Move mode: walk from the start to the goal, on one board and on N at once."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.compiled import compiled, plain
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.maze.rules import UNREACHED, distances_kernel
from hrm_gym.envs.maze.tokens import GOAL, PAD, PATH, START
from hrm_gym.envs.puzzle import Grid, Puzzle
from hrm_gym.envs.puzzle_env import ActionMode, one_integer
from hrm_gym.envs.vector_env import Boards, Rows, VectorMode

_WALKED, _SPOILT = 1, 2


def _drawn(clues: NDArray[np.uint8], shown: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The mazes with every cell of the walks that (..., H, W) boards show drawn as path."""
    walked = (shown == PATH) | (shown == PAD) | (shown == START)
    return np.where(walked & (clues != START) & (clues != GOAL), np.uint8(PATH), clues)


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
        # Walls and the border have no distance to the goal; cells cut off from it are never next to the walker.
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
        """Restore, and look at `shown` again."""
        self.__dict__.update(state)
        if "shown" in state:
            self._flat = self.shown.reshape(-1)

    def answer(self) -> Grid:
        """The maze with every walked cell drawn as path."""
        return _drawn(self.puzzle.clues, self.shown)

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


@compiled
def _place_kernel(clues, rows, distance, trail, at):
    """Put the walkers of the boards `rows` on the start: fills their (N, cells) `distance`, `trail` and (N,) `at`."""
    for row in rows:
        at[row] = distances_kernel(clues[row], distance[row])
        trail[row] = 0
        trail[row, at[row]] = _WALKED


@compiled
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
        return _drawn(self.boards.clues[rows], self.shown[rows])

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
        neighbours = self._at[:, None] + self._offsets
        return np.take_along_axis(self._distance, neighbours, axis=1) != UNREACHED

    def _reached(self, rows: Rows) -> NDArray[np.bool_]:
        """Whether the walkers stand on the goal."""
        return self._distance[rows, self._at[rows]] == 0
