"""Where mazes come from: new ones, the bundled banks, files; all are `PuzzleSource`s."""

from __future__ import annotations

import reprlib
from pathlib import Path

from hrm_gym.envs.files import can_be_opened, open_puzzles
from hrm_gym.envs.maze.bank import BankedMazes, build_bank, find_bank
from hrm_gym.envs.maze.family import MAZE
from hrm_gym.envs.maze.generator import SPLITS, GeneratedMazes, split_of
from hrm_gym.envs.puzzle import PuzzleSource

__all__ = ["SPLITS", "BankedMazes", "GeneratedMazes", "build_bank", "find_bank", "make_source", "split_of"]

EXPECTED = "expected source 'bank', 'generate', a file or a PuzzleSource"


def make_source(
    source: str | Path | PuzzleSource = "bank",
    size: int = 10,
    split: str = "train",
    min_path: int | None = None,
    wall_share: float = 0.35,
) -> PuzzleSource:
    """The source that an environment's arguments ask for.

    Args:
        source: "bank" (a bundled bank; where none fits the other arguments, new mazes), "generate" (new mazes),
            what `open_puzzles` reads (a CSV file, a folder, a data set's name; the other arguments but `split` then
            say nothing), or a source, taken as it is.
        size: side length.
        split: "train", "test" or "all".
        min_path: least cells of a shortest path, start and goal counted; default `size`.
        wall_share: probability of a wall.

    Raises:
        FileNotFoundError: if `source` names a file that does not exist.
        OSError: if it is the name of a data set that cannot be fetched.
        ValueError: if an argument or the file is bad.
    """
    if not isinstance(source, str | Path):
        if not isinstance(source, PuzzleSource):
            raise ValueError(f"{EXPECTED}, got {reprlib.repr(source)}")
        return source
    if source not in ("bank", "generate"):
        if isinstance(source, str) and not can_be_opened(source):
            raise ValueError(f"{EXPECTED}, got {reprlib.repr(source)}")
        return open_puzzles(source, MAZE, split)
    generated = GeneratedMazes(size, split, min_path, wall_share)
    bank = find_bank(size, generated.min_path, wall_share) if source == "bank" else None
    return BankedMazes(bank, split) if bank else generated
