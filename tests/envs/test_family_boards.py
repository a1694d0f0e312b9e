"""Arrays that are no boards are refused by every public function of a family that turns them into something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hrm_gym.envs.arc.rules import ArcFamily
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.maze.rules import MAZE
from hrm_gym.envs.puzzle import Puzzle
from hrm_gym.envs.sudoku.rules import SudokuFamily

FAMILIES: dict[str, tuple[PuzzleFamily, int]] = {
    "maze": (MAZE, 5),
    "sudoku": (SudokuFamily((2, 2)), 4),
    "arc": (ArcFamily(12), 12),
}
USES: dict[str, Callable[[PuzzleFamily, Any, Puzzle], object]] = {
    "to_text": lambda family, board, puzzle: family.to_text(board),
    "answer_text": lambda family, board, puzzle: family.answer_text(board),
    "describe": lambda family, board, puzzle: family.describe(puzzle, board),
    "image": lambda family, board, puzzle: family.image(board[None], 5),
    "preimage": lambda family, board, puzzle: family.preimage(board[None], 5),
}


def bad_boards(side: int) -> dict[str, Any]:
    good = np.ones((side, side), np.uint8)
    one = good.copy()
    one[1, 2] = 255
    return {
        "one token": one,
        "negative": -good.astype(np.int64),
        "large": good.astype(np.int64) * 2**40,
        "floats": good * 0.5,
        "a line": good[0],
        "several": good[None],
    }


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_no_board_is_refused(name: str, use: str) -> None:
    """They were IndexErrors, and negative tokens wrapped round."""
    family, side = FAMILIES[name]
    good = np.ones((side, side), np.uint8)
    extras = {"demonstrations": np.zeros((10, 2, side, side), np.uint8), "pairs": np.array([0], np.uint8)}
    puzzle = Puzzle(good, good, extras=extras if name == "arc" else {})
    USES[use](family, good, puzzle)
    for board in bad_boards(side).values():
        with pytest.raises(ValueError, match="expected"):
            USES[use](family, board, puzzle)


def test_arc_answers_of_another_number_of_boards_are_refused() -> None:
    """The compiled judge wrote past the end of its verdicts."""
    boards = np.ones((9, 12, 12), np.uint8)
    with pytest.raises(ValueError, match="expected boards of one shape"):
        ArcFamily(12).judge(boards, boards, boards[:2])
