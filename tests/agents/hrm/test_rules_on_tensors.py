"""Rules judge tensors as they judge arrays: right answers, others, and whatever a network may write."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hrm_gym.envs.arc.rules import ArcFamily
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.maze.rules import MazeFamily
from hrm_gym.envs.maze.tokens import GOAL, OPEN, PATH, START, WALL
from hrm_gym.envs.puzzle import PuzzleBatch
from hrm_gym.envs.sudoku.rules import SudokuFamily
from hrm_gym.registry import make_puzzle_env

BOARDS = {
    "maze": ("HRMMaze-v0", {"size": 6}),
    "open maze": ("HRMMaze-v0", {"size": 5, "wall_share": 0.1}),
    "sudoku 4x4": ("HRMSudokuMini-v0", {}),
    "sudoku 6x6": ("HRMSudoku-v0", {"box": (2, 3)}),
    "sudoku 9x9": ("HRMSudoku-v0", {"difficulty": "easy"}),
    "sudoku 16x16": ("HRMSudoku-v0", {"box": (4, 4)}),
}
Grids = NDArray[np.uint8]


def both(family: PuzzleFamily, clues: Grids, solutions: Grids, answers: Grids) -> list[bool]:
    """What the rules say, which must be the same of arrays and of tensors."""
    tensors = (torch.from_numpy(part.astype(np.int64)) for part in (clues, solutions, answers))
    found: list[bool] = family.judge_tensors(*tensors).tolist()
    assert found == family.judge(clues, solutions, answers).tolist()
    return found


def puzzles(kind: str, count: int, seed: int) -> tuple[PuzzleFamily, PuzzleBatch]:
    env_id, arguments = BOARDS[kind]
    world = make_puzzle_env(env_id, source="generate", **arguments)
    return world.family, world.puzzle_source.batch(np.arange(count, dtype=np.uint64) + np.uint64(1000 * seed))


def altered(rng: np.random.Generator, grids: Grids, vocab_size: int, cells: int) -> Grids:
    """Some cells of each board hold any token, padding included."""
    grids = grids.copy()
    for board in grids:
        board.flat[rng.integers(0, board.size, cells)] = rng.integers(0, vocab_size, cells)
    return grids


@pytest.mark.parametrize("kind", BOARDS)
@pytest.mark.parametrize("seed", range(3))
def test_tensors_are_judged_as_arrays_are(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    family, batch = puzzles(kind, 60, seed)
    clues, solutions = batch.clues, batch.solutions
    assert all(both(family, clues, solutions, solutions))
    assert not any(both(family, clues, solutions, clues))
    shown = np.where(rng.random(clues.shape) < 0.5, solutions, clues)
    assert all(both(family, shown, solutions, solutions)), "partly filled puzzles have the same answers"
    for cells in (1, 2, 5):
        both(family, shown, solutions, altered(rng, solutions, family.vocab_size, cells))
        both(family, clues, solutions, altered(rng, solutions, family.vocab_size, cells))
    swapped = solutions.copy()
    swapped[:, [0, 1]] = swapped[:, [1, 0]]  # in a Sudoku only the clues are against it
    both(family, clues, solutions, swapped)
    both(family, np.where(clues == solutions, clues, 1), solutions, solutions[:, :, ::-1].copy())
    blank = np.ones_like(clues)
    if kind.startswith("sudoku"):
        assert all(both(family, blank, solutions, swapped))
        across = solutions.copy()
        across[:, [0, -1]] = across[:, [-1, 0]]  # lines are right, boxes mostly not
        assert not all(both(family, blank, solutions, across))


@pytest.mark.parametrize("seed", range(5))
def test_every_small_drawing_in_a_maze(seed: int) -> None:
    """All 512 drawings in a 3x3 maze, and a stored solution: loops, branches and detours among them."""
    rng = np.random.default_rng(seed)
    family, right = MazeFamily(), 0
    for _ in range(20):
        clues = np.where(rng.random((3, 3)) < 0.2, WALL, OPEN).astype(np.uint8)
        clues.flat[rng.permutation(9)[:2]] = START, GOAL
        solution = family.solve(clues)
        if solution is None:
            continue
        drawn = (np.arange(512)[:, None] >> np.arange(9) & 1).reshape(-1, 3, 3).astype(bool)
        answers = np.where(drawn & (clues == OPEN), PATH, clues).astype(np.uint8)
        many = [np.broadcast_to(one, answers.shape).copy() for one in (clues, solution)]
        right += any(both(family, *many, answers))
    assert right > 5


def test_a_loop_beside_the_path_is_no_part_of_it() -> None:
    clues, solution = (np.full((1, 3, 9), token, np.uint8) for token in (OPEN, OPEN))
    clues[0, 1, 0], clues[0, 1, 8] = START, GOAL
    solution[:] = clues
    solution[0, 1, 1:8] = PATH
    loop = clues.copy()
    loop[0, 1, 1] = loop[0, 1, 7] = PATH
    loop[0, [0, 0, 2, 2, 0], [3, 4, 3, 4, 5]] = PATH
    assert both(MazeFamily(), clues, solution, solution) == [True]
    assert both(MazeFamily(), clues, solution, loop) == [False]


def test_who_has_rules_for_tensors() -> None:
    """ARC has none; a family that judges otherwise than the one it is made from does not take over its tensors."""

    class Lenient(SudokuFamily):
        def judge(self, clues: Grids, solutions: Grids, answers: Grids) -> NDArray[np.bool_]:
            return np.ones(len(clues), dtype=np.bool_)

    class Slow(SudokuFamily):
        pass

    assert MazeFamily().judges_tensors
    assert Slow().judges_tensors
    assert not Lenient().judges_tensors
    assert not ArcFamily().judges_tensors
    with pytest.raises(NotImplementedError, match="the rules of arc judge on the host alone"):
        ArcFamily().judge_tensors(None, None, None)
