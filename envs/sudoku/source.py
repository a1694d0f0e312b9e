"""Where Sudokus come from: the bundled banks, new ones, files; all are `PuzzleSource`s.

A bank is one npz in `banks/` with, for each split, packed puzzles, their solutions and ratings, next to the arguments
and the seed that made it. Every key gives one of them under a random symmetry.
"""

from __future__ import annotations

import reprlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.files import can_be_opened, open_puzzles
from hrm_gym.envs.puzzle import BANK_SEED, SPLITS, Puzzle, PuzzleBatch, PuzzleSource, puzzle_key
from hrm_gym.envs.sudoku.boxes import Box, board
from hrm_gym.envs.sudoku.extreme import ExtremeSudoku
from hrm_gym.envs.sudoku.generator import GeneratedSudoku, check_difficulty, split_of
from hrm_gym.envs.sudoku.symmetry import turn_kernel
from hrm_gym.envs.sudoku.tokens import pack, unpack
from hrm_gym.files import write_npz
from hrm_gym.reading import read_npz

FOLDER = Path(__file__).parent / "banks"

PARTS = ("train", "test", "validation", "held-out")
"""The splits that a bank holds; held-out is as large as test, and what test was before validation was cut out of it."""

BUNDLED = (
    {"box": (2, 2), "difficulty": "easy", "train": 4000, "test": 1000, "validation": 1000},
    {"box": (2, 3), "difficulty": "easy", "train": 4000, "test": 1000, "validation": 1000},
    {"box": (3, 3), "difficulty": "easy", "train": 4000, "test": 1000, "validation": 1000},
    {"box": (3, 3), "difficulty": "medium", "train": 4000, "test": 1000, "validation": 1000},
    {"box": (3, 3), "difficulty": "hard", "train": 4000, "test": 1000, "validation": 500},
    {"box": (3, 3), "difficulty": "extreme", "train": 4000, "test": 1000, "validation": 300},
)
"""The arguments of `build_bank` for every bundled bank."""


class BankedSudoku:
    """The puzzles of a bundled bank, each under a symmetry drawn from the key.

    Attributes:
        shape: (n, n).
        box: (rows, columns) of a box.
        clues: (M, n, n) uint8, the puzzles as stored.
        solutions: (M, n, n) uint8, their solutions.
        ratings: (M,) int64, their guesses; a symmetric image has the same but for one in two hundred.
    """

    def __init__(self, path: Path, split: str = "train") -> None:
        """Open the bank at `path` for `split`, one of `SPLITS`."""
        self._path, self.split = path, split
        names = ("train", "held-out") if split == "all" else (split,)
        packed = {f"{name}_{part}": (np.uint8, (name, part)) for name in names for part in ("given", "digits")}
        ratings = {f"{name}_ratings": (np.uint16, (name,)) for name in names}
        stored = read_npz(path, {"box": (np.int64, (2,)), **packed, **ratings})
        rows, columns = (int(side) for side in stored["box"])
        puzzles = [unpack(stored[f"{name}_given"], stored[f"{name}_digits"], rows * columns) for name in names]
        self.ratings = np.concatenate([stored[f"{name}_ratings"] for name in names]).astype(np.int64)
        self.name, self.box = path.stem, (rows, columns)
        self.shape = board(self.box).shape
        self._puzzles = np.concatenate(puzzles)
        self.clues = self._puzzles[:, 0].reshape(-1, *self.shape)
        self.solutions = self._puzzles[:, 1].reshape(-1, *self.shape)

    def __reduce__(self) -> tuple[type, tuple[Path, str]]:
        """Pickle the name of the bank, not its puzzles."""
        return BankedSudoku, (self._path, self.split)

    def __len__(self) -> int:
        """Number of stored puzzles."""
        return len(self.ratings)

    def __getitem__(self, index: int) -> Puzzle:
        """Puzzle `index` as stored, not turned; IndexError past the end."""
        if not 0 <= index < len(self):
            raise IndexError(f"expected a puzzle index in 0..{len(self) - 1} of bank {self.name}, got {index}")
        name = f"{self.name}/{self.split}:{index}"
        clues, solution = self.clues[index].copy(), self.solutions[index].copy()
        return Puzzle(clues, solution, name=name, rating=float(self.ratings[index]), family="sudoku")

    def puzzle(self, key: int) -> Puzzle:
        """The puzzle of one 64-bit key, with the rating it has as stored."""
        batch, row = self.batch(np.array([key], dtype=np.uint64)), key % len(self)
        name = f"{self.name}/{self.split}:{row} under symmetry {key}"
        return Puzzle(batch.clues[0], batch.solutions[0], name=name, rating=float(self.ratings[row]), family="sudoku")

    def batch(self, keys: NDArray[np.uint64]) -> PuzzleBatch:
        """The puzzles of N uint64 keys."""
        rows = (keys % np.uint64(len(self))).astype(np.int64)
        images = np.empty((len(keys), *self._puzzles.shape[1:]), dtype=np.uint8)
        turn_kernel(self._puzzles, rows, np.asarray(keys), *self.box, images)
        clues, solutions = (np.ascontiguousarray(images[:, k]).reshape(-1, *self.shape) for k in (0, 1))
        return PuzzleBatch(clues, solutions, np.zeros(len(keys), dtype=np.int32))


@cache
def find_bank(box: Box, difficulty: str) -> Path | None:
    """The bundled bank of this box and difficulty, or None."""
    path = FOLDER / _file_name(box, difficulty)
    return path if path.exists() else None


def _file_name(box: Box, difficulty: str) -> str:
    return f"sudoku-{board(box).name}-{difficulty}.npz"


def build_bank(
    box: Box, difficulty: str, train: int, test: int, validation: int, seed: int = BANK_SEED, folder: Path = FOLDER
) -> Path:
    """Generate and write a bank; the same arguments give the same puzzles everywhere.

    Args:
        box: (rows, columns) of a box.
        difficulty: "easy", "medium", "hard" or "extreme".
        train: number of puzzles of the train split.
        test: number of puzzles of the test split, and of held-out.
        validation: the same for the validation split.
        seed: recorded in the file.
        folder: where to write `sudoku-{n}x{n}-{difficulty}.npz`.

    Returns:
        The file written.
    """
    arrays: dict[str, Any] = {"box": box, "difficulty": difficulty, "seed": seed}
    for split, count in zip(PARTS, (train, test, validation, test), strict=True):
        extreme = difficulty == "extreme"
        source = ExtremeSudoku(split) if extreme else GeneratedSudoku(box, difficulty, split)
        keys = np.array([puzzle_key(seed, k) for k in range(count)], dtype=np.uint64)
        batch, ratings = source.rated_batch(keys)
        arrays[f"{split}_given"], arrays[f"{split}_digits"] = pack(batch.clues, batch.solutions)
        arrays[f"{split}_ratings"] = ratings.astype(np.uint16)
    path = folder / _file_name(box, difficulty)
    write_npz(path, arrays)
    find_bank.cache_clear()
    return path


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
        split: "train", "validation", "test" or "all".
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
    from hrm_gym.envs.sudoku.rules import sudoku

    return sudoku(board(box).box)
