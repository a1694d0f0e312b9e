"""Where Sudokus come from: new ones, the bundled banks, files; all are `PuzzleSource`s."""

from __future__ import annotations

import reprlib
from pathlib import Path

from hrm_gym.envs.files import can_be_opened, open_puzzles
from hrm_gym.envs.puzzle import PuzzleFamily, PuzzleSource
from hrm_gym.envs.sudoku.bank import BankedSudoku, build_bank, find_bank
from hrm_gym.envs.sudoku.boxes import Box, board
from hrm_gym.envs.sudoku.extreme import ExtremeSudoku
from hrm_gym.envs.sudoku.generator import GeneratedSudoku, check_difficulty, split_of
from hrm_gym.envs.sudoku.splits import SPLITS

__all__ = [
    "SPLITS",
    "BankedSudoku",
    "ExtremeSudoku",
    "GeneratedSudoku",
    "build_bank",
    "find_bank",
    "make_source",
    "split_of",
]

EXPECTED = "expected source 'bank', 'generate', a file or a PuzzleSource"


def make_source(
    source: str | Path | PuzzleSource = "bank",
    box: Box = (3, 3),
    difficulty: str = "easy",
    split: str = "train",
    family: PuzzleFamily | None = None,
) -> PuzzleSource:
    """The source that an environment's arguments ask for.

    Args:
        source: "bank" (a bundled bank; where none fits the other arguments, new puzzles), "generate" (new puzzles),
            what `open_puzzles` reads (a CSV file, a folder, a data set's name; `difficulty` then says nothing), or a
            source, taken as it is.
        box: (rows, columns) of a box.
        difficulty: "easy", "medium", "hard" or "extreme"; only "easy" on boards other than 9x9.
        split: "train", "test" or "all".
        family: the family that reads a file; by default the one of `box`.

    Raises:
        FileNotFoundError: if `source` names a file that does not exist.
        OSError: if it is the name of a data set that cannot be fetched.
        ValueError: if an argument or the file is bad.
    """
    if not isinstance(source, str | Path):
        if not isinstance(source, PuzzleSource):
            raise ValueError(f"{EXPECTED}, got {reprlib.repr(source)}")
        return source
    if source in ("bank", "generate"):
        check_difficulty(box, difficulty, split)
        bank = find_bank(board(box).box, difficulty) if source == "bank" else None
        if bank:
            return BankedSudoku(bank, split)
        return ExtremeSudoku(split) if difficulty == "extreme" else GeneratedSudoku(box, difficulty, split)
    if isinstance(source, str) and not can_be_opened(source):
        raise ValueError(f"{EXPECTED}, got {reprlib.repr(source)}")
    return open_puzzles(source, family or _family(box), split)


def _family(box: Box) -> PuzzleFamily:
    from hrm_gym.envs.sudoku.family import sudoku

    return sudoku(board(box).box)
