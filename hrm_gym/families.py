"""The bundled puzzle families by name, for who has weights and no environment; each is imported on first use."""

from __future__ import annotations

from hrm_gym.envs.puzzle import PuzzleFamily


def make_family(name: str, grid: tuple[int, int]) -> PuzzleFamily:
    """The rules of a bundled family for boards of `grid`.

    Raises:
        ValueError: the family is not one of the bundled ones, or knows no such board.
    """
    if name not in _FAMILIES:
        raise ValueError(f"expected weights for one of {', '.join(_FAMILIES)}, got {name!r}; use HRMAgent.for_env")
    return _FAMILIES[name](grid)


def _maze(grid: tuple[int, int]) -> PuzzleFamily:
    from hrm_gym.envs.maze.family import MazeFamily

    return MazeFamily()


def _sudoku(grid: tuple[int, int]) -> PuzzleFamily:
    from hrm_gym.envs.sudoku.boxes import usual_box
    from hrm_gym.envs.sudoku.family import SudokuFamily

    return SudokuFamily(usual_box(grid[0]))


def _arc(grid: tuple[int, int]) -> PuzzleFamily:
    from hrm_gym.envs.arc.family import ArcFamily

    return ArcFamily(canvas=grid[0])


_FAMILIES = {"maze": _maze, "sudoku": _sudoku, "arc": _arc}
