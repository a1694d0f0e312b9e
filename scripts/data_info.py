"""`hrm-gym data info`: what files of puzzles hold; everything in them is checked."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from hrm_gym.dataset_folder import MANIFEST
from hrm_gym.envs.files import NpyPuzzles, PuzzleFile, is_npy_folder
from hrm_gym.envs.files.npy_folder import DESCRIPTION, splits_of
from hrm_gym.envs.files.npy_set import read_metadata
from hrm_gym.envs.puzzle import PuzzleFamily
from hrm_gym.scripts.arguments import parse
from hrm_gym.scripts.data_kinds import maze_family, sudoku_family

MAZE_CHARACTERS = set("# SGo")
BOXES = {4: (2, 2), 6: (2, 3), 8: (2, 4), 9: (3, 3)}
"""The usual box of a Sudoku of so many digits."""


@dataclass(frozen=True)
class InfoConfig:
    """What a CSV file, a folder of CSV files, an npy folder or ARC tasks (JSON) hold; everything is checked.

    Attributes:
        path: The file or folder.
        family: Whose puzzles they are, where that cannot be told from the files.
        box: Rows and columns of a Sudoku's box, where it is not the usual one.
    """

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PATH")]
    family: Annotated[
        Literal["maze", "sudoku", "arc"] | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="(default: seen)")
    ] = None
    box: Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="R C", help_behavior_hint="(default: usual)")] = None


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym data info PATH`; returns 0, and raises ValueError or OSError for what is bad."""
    config = parse(InfoConfig, "hrm-gym data info", argv)
    path = config.path
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected a file or folder of puzzles, found neither")
    if path.is_dir() and is_npy_folder(path):
        _show_npy(path, config)
    elif path.is_dir() and (files := sorted(path.glob("*.csv"))):
        for file in files:
            _show_csv(file, config)
    elif path.is_dir() or path.suffix.lower() == ".json":
        _show_arc(path)
    else:
        _show_csv(path, config)
    return 0


def _show_csv(path: Path, config: InfoConfig) -> None:
    family = _csv_family(path, config)
    puzzles = PuzzleFile(path, family)
    print(f"{path}: CSV, {family.name} {_size(puzzles.shape)}, {len(puzzles):,} puzzles, all valid")
    rated = puzzles.ratings[~np.isnan(puzzles.ratings)]
    if len(rated):
        print(f"  ratings: {len(rated):,}, from {rated.min():g} to {rated.max():g}, mean {rated.mean():.2f}")
    else:
        print("  ratings: none")
    _show_first(family, puzzles)


def _csv_family(path: Path, config: InfoConfig) -> PuzzleFamily:
    """The family of a CSV file, by its first question."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            question = next(csv.DictReader(stream), {}).get("question") or ""
    except (UnicodeDecodeError, csv.Error):
        question = ""
    if (config.family or "maze") == "maze" and set(question) <= MAZE_CHARACTERS:
        return maze_family(None)
    return _sudoku(path, len(question), config.box)


def _sudoku(path: Path, cells: int, box: tuple[int, int] | None) -> PuzzleFamily:
    """The Sudokus with so many cells."""
    side = isqrt(cells)
    if side * side != cells or (box is None and side not in BOXES):
        expected = ", ".join(f"{n}x{n}" for n in BOXES)
        raise ValueError(f"{path}: expected mazes, ARC grids or Sudokus of {expected}, got puzzles of {cells} cells")
    return sudoku_family(SimpleNamespace(box=box or BOXES[side]))


def _show_npy(path: Path, config: InfoConfig) -> None:
    manifest = _manifest(path)
    folders = [path] if (path / DESCRIPTION).is_file() else [path / split for split in splits_of(path)]
    for folder in folders:
        family, has_rules = _npy_family(folder, config.family or manifest.get("family"), config.box)
        puzzles = NpyPuzzles(folder, family)
        valid = "all valid" if has_rules else "all tokens valid"
        counts = f"{len(puzzles.puzzle_indices) - 1:,} puzzles in {len(puzzles.group_indices) - 1:,} groups"
        print(
            f"{folder}: npy, {family.name} {_size(puzzles.shape)}, {len(puzzles):,} examples of {counts}, "
            f"{len(np.unique(puzzles.puzzle_ids)):,} identifiers, {valid}"
        )
        _show_first(family, puzzles)
    if "command" in manifest:
        print(f"made by: {manifest['command']}")


def _manifest(path: Path) -> dict[str, Any]:
    """How a data set, or that of a split, says it was made; empty if it does not."""
    for folder in (path, path.parent):
        if (folder / MANIFEST).is_file():
            try:
                found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            except ValueError as error:
                raise ValueError(f"{folder / MANIFEST}: expected a JSON file, got {error}") from None
            return found if isinstance(found, dict) else {}
    return {}


def _npy_family(folder: Path, name: str | None, box: tuple[int, int] | None) -> tuple[PuzzleFamily, bool]:
    """The family of a split, by its name or its vocabulary, and whether its rules can judge an example."""
    about = read_metadata(folder / DESCRIPTION)
    name = name or {6: "maze", 12: "arc"}.get(about.vocab_size, "sudoku")
    if name == "maze":
        return maze_family(None), True
    if name == "arc":
        family: Any = SimpleNamespace(name="arc", vocab_size=12, has_solver=False, to_text=_arc_text)
        return family, False
    return _sudoku(folder, about.seq_len, box), True


def _arc_text(grid: Any) -> str:
    """Colours as digits, the grid's end as a line, padding as dots."""
    return "\n".join("".join("·|0123456789"[token] for token in row) for row in grid)


def _show_arc(path: Path) -> None:
    from hrm_gym.envs.arc.files import read_tasks

    tasks = read_tasks(path)
    for split, found in tasks.splits.items():
        pairs = [pair for task in found for pair in (*task.train, *task.test)]
        sides = [side for pair in pairs for grid in pair for side in grid.shape]
        print(
            f"{path}: ARC tasks, {split}: {len(found):,} tasks, {sum(len(task.train) for task in found):,} "
            f"demonstrations, {sum(len(task.test) for task in found):,} test grids with outputs, "
            f"sides {min(sides)} to {max(sides)}, all valid"
        )
    task = next(task for found in tasks.splits.values() for task in found)
    print(f"task {task.name}, first demonstration:")
    for grid in task.train[0]:
        print("\n".join("  " + "".join(map(str, row)) for row in grid), end="\n\n")


def _show_first(family: PuzzleFamily, puzzles: PuzzleFile | NpyPuzzles) -> None:
    """The first puzzle and its solution as text."""
    puzzle = puzzles[0]
    rating = "" if puzzle.rating is None else f", rated {puzzle.rating:g}"
    for title, grid in ((f"{puzzle.name}{rating}", puzzle.clues), ("solution", puzzle.solution)):
        print(f"  {title}:")
        print("\n".join("    " + line for line in family.to_text(grid).splitlines()))


def _size(shape: tuple[int, int]) -> str:
    return "x".join(map(str, shape))
