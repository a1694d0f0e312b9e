"""The kinds of data sets that can be built: what a kind is called, which options it has, where its puzzles come from.

A new kind is a config, two functions and a line in `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from hrm_gym.envs.puzzle import PuzzleFamily, PuzzleSource


def _arg(metavar: str, default: str = "", name: str | None = None) -> Any:
    """How an option stands in the help: the name of its value, what holds without it, its own name."""
    hint = f"(default: {default})" if default else ""
    return tyro.conf.arg(name=name, metavar=metavar, help_behavior_hint=hint)


@dataclass(frozen=True)
class BuildConfig:
    """A data set of one kind, new or from CSV files, in the layout of the official HRM and TRM code.

    Attributes:
        out: Folder of the data set; a build goes on in FOLDER.partial where an earlier one stopped.
        train: Puzzles to train on, not counting images.
        test: Puzzles to test on; none of them is among the others, turned or not.
        aug: Symmetric images of every training puzzle, in one group with it.
        seed: Which stream of puzzles, of images, and which sample.
        processes: How many compute new puzzles; the data set does not depend on it.
        overwrite: Replace a finished data set.
        from_: Take the puzzles of this CSV file, folder or data set on the hub instead of new ones.
        test_from: Where the test puzzles come from, if --from is a single file.
        subsample: With --from, a random sample of the training puzzles.
        min_rating: With --from, only puzzles rated so or harder.
    """

    out: Annotated[Path, _arg("FOLDER")]
    train: Annotated[int | None, _arg("N", "1000")] = None
    test: Annotated[int | None, _arg("N", "200")] = None
    aug: Annotated[int, _arg("N", "0")] = 0
    seed: int = 0
    processes: Annotated[int, _arg("P", "1")] = 1
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    from_: Annotated[str | None, _arg("FILE|NAME", "new puzzles", name="from")] = None
    test_from: Annotated[str | None, _arg("FILE", "none")] = None
    subsample: Annotated[int | None, _arg("N", "all")] = None
    min_rating: Annotated[float | None, _arg("R", "any")] = None


@dataclass(frozen=True)
class MazeBuild(BuildConfig):
    """Mazes with random walls, in the layout of the official HRM and TRM code.

    Attributes:
        size: Side length.
        min_path: Least cells of a shortest path, start and goal counted.
        wall_share: Probability of a wall.
    """

    size: int = 10
    min_path: Annotated[int | None, _arg("N", "the size")] = None
    wall_share: float = 0.35


@dataclass(frozen=True)
class HardMazeBuild(MazeBuild):
    """Mazes like those of Maze-Hard, in the layout of the official HRM and TRM code."""

    size: int = 30
    min_path: Annotated[int | None, _arg("N", "110")] = 110
    wall_share: float = 0.37


@dataclass(frozen=True)
class SudokuBuild(BuildConfig):
    """Sudokus with one solution, in the layout of the official HRM and TRM code.

    Attributes:
        difficulty: By guesses that a solver needs, none, 1 to 4, 5 to 14, 15 or more; only 9x9 has the last.
        box: Rows and columns of a box; 3 3 is 9x9.
    """

    difficulty: Literal["easy", "medium", "hard", "extreme"] = "easy"
    box: Annotated[tuple[int, int], _arg("R C", "3 3")] = (3, 3)


@dataclass(frozen=True)
class Kind:
    """A kind of data set.

    Attributes:
        config: its options.
        family: the family that options ask for.
        source: options -> a picklable function that gives the source of new puzzles of a split.
        block: puzzles that are computed at a time.
    """

    config: type[BuildConfig]
    family: Callable[[Any], PuzzleFamily]
    source: Callable[[Any], Callable[[str], PuzzleSource]]
    block: int


def generated_mazes(split: str, size: int, min_path: int | None, wall_share: float) -> PuzzleSource:
    """New mazes."""
    from hrm_gym.envs.maze.source import make_source

    return make_source("generate", size, split, min_path, wall_share)


def generated_sudokus(split: str, box: tuple[int, int], difficulty: str) -> PuzzleSource:
    """New Sudokus."""
    from hrm_gym.envs.sudoku.source import make_source

    return make_source("generate", box, difficulty, split)


def maze_family(config: Any) -> PuzzleFamily:
    """The mazes' family."""
    from hrm_gym.envs.maze.family import MAZE

    return MAZE


def sudoku_family(config: Any) -> PuzzleFamily:
    """The family of Sudokus with boxes of `config.box`."""
    from hrm_gym.envs.sudoku.family import sudoku

    return sudoku(config.box)


def _maze_source(config: MazeBuild) -> Callable[[str], PuzzleSource]:
    return partial(generated_mazes, size=config.size, min_path=config.min_path, wall_share=config.wall_share)


def _sudoku_source(config: SudokuBuild) -> Callable[[str], PuzzleSource]:
    return partial(generated_sudokus, box=config.box, difficulty=config.difficulty)


KINDS = {
    "maze": Kind(MazeBuild, maze_family, _maze_source, 1000),
    "maze-hard": Kind(HardMazeBuild, maze_family, _maze_source, 50),
    "sudoku": Kind(SudokuBuild, sudoku_family, _sudoku_source, 25),
}
