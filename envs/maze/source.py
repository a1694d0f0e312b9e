"""Where mazes come from: the bundled banks, new ones, files; all are `PuzzleSource`s.

A bank is one npz in `banks/` with, for each split, the walls as packed bits and the cells of start and goal, next to
the arguments and the seed that made it. Solutions are not stored: the canonical one is drawn when a maze is turned.
"""

from __future__ import annotations

import reprlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.compiled import compiled
from hrm_gym.envs.files import can_be_opened, open_puzzles
from hrm_gym.envs.maze.generator import GeneratedMazes, Size, split_of
from hrm_gym.envs.maze.rules import MAZE, dihedral, solve_kernel
from hrm_gym.envs.maze.tokens import GOAL, OPEN, START, WALL
from hrm_gym.envs.puzzle import BANK_SEED, SPLITS, Puzzle, PuzzleBatch, PuzzleSource, puzzle_key
from hrm_gym.files import write_npz
from hrm_gym.reading import read_npz

FOLDER = Path(__file__).parent / "banks"

PARTS = ("train", "test", "validation", "held-out")
"""The splits that a bank holds; held-out is as large as test, and what test was before validation was cut out of it."""

BUNDLED = (
    {"size": 8, "min_path": 8, "wall_share": 0.35, "train": 4000, "test": 1000, "validation": 1000},
    {"size": 10, "min_path": 10, "wall_share": 0.35, "train": 4000, "test": 1000, "validation": 1000},
    {"size": 30, "min_path": 110, "wall_share": 0.37, "train": 1000, "test": 250, "validation": 100},
)
"""The arguments of `build_bank` for every bundled bank."""


@compiled
def _turn_kernel(mazes, keys, table, clues, solutions):
    """Row key // 8 of (M, S*S) `mazes`, under symmetry key % 8, with its canonical solution, for N keys."""
    size = clues.shape[1]
    for i in range(len(keys)):
        maze = mazes[(keys[i] >> np.uint64(3)) % np.uint64(len(mazes))]
        order = table[keys[i] & np.uint64(7)]
        for cell in range(size * size):
            clues[i, cell // size, cell % size] = maze[order[cell]]
        solve_kernel(clues[i], solutions[i])


class BankedMazes:
    """The mazes of a bundled bank, each under one of eight symmetries drawn from the key.

    Attributes:
        shape: (size, size).
        clues: (M, size, size) uint8, the mazes as stored.
    """

    def __init__(self, path: Path, split: str = "train") -> None:
        """Open the bank at `path` for `split`, one of `SPLITS`."""
        self._path, self.split = path, split
        names = ("train", "held-out") if split == "all" else (split,)
        walls = {f"{name}_walls": (np.uint8, (name, "bytes")) for name in names}
        ends = {f"{name}_ends": (np.uint16, (name, 2)) for name in names}
        stored = read_npz(path, {"size": (np.int64, ()), **walls, **ends})
        size = int(stored["size"])
        mazes = [_unpack(stored[f"{name}_walls"], stored[f"{name}_ends"], size) for name in names]
        self.name = path.stem
        self.shape = (size, size)
        self.clues = np.concatenate(mazes)
        self._flat = self.clues.reshape(len(self.clues), -1)
        self._table = dihedral(size, size)

    def __reduce__(self) -> tuple[type, tuple[Path, str]]:
        """Pickle the name of the bank, not its mazes."""
        return BankedMazes, (self._path, self.split)

    def __len__(self) -> int:
        """Number of stored mazes."""
        return len(self.clues)

    def __getitem__(self, index: int) -> Puzzle:
        """Maze `index` as stored, not turned; IndexError past the end."""
        if not 0 <= index < len(self):
            raise IndexError(f"expected a maze index in 0..{len(self) - 1} of bank {self.name}, got {index}")
        clues = self.clues[index].copy()
        solution = MAZE.solve(clues)
        assert solution is not None
        return Puzzle(clues, solution, name=f"{self.name}/{self.split}:{index}", family="maze")

    def puzzle(self, key: int) -> Puzzle:
        """The maze of one 64-bit key."""
        batch = self.batch(np.array([key], dtype=np.uint64))
        row, turn = (key >> 3) % len(self), key & 7
        name = f"{self.name}/{self.split}:{row} turned {turn}"
        return Puzzle(batch.clues[0], batch.solutions[0], name=name, family="maze")

    def batch(self, keys: NDArray[np.uint64]) -> PuzzleBatch:
        """The mazes of N uint64 keys."""
        clues = np.empty((len(keys), *self.shape), dtype=np.uint8)
        solutions = np.empty_like(clues)
        _turn_kernel(self._flat, keys, self._table, clues, solutions)
        return PuzzleBatch(clues, solutions, np.zeros(len(keys), dtype=np.int32))


def _unpack(walls: NDArray[np.uint8], ends: NDArray[np.integer], size: int) -> NDArray[np.uint8]:
    """(M, size, size) uint8 mazes from (M, ceil(size*size/8)) packed walls and (M, 2) start and goal cells."""
    bits = np.unpackbits(walls, axis=1, count=size * size)
    flat = np.where(bits == 1, WALL, OPEN).astype(np.uint8)
    rows = np.arange(len(flat))
    flat[rows, ends[:, 0]] = START
    flat[rows, ends[:, 1]] = GOAL
    return flat.reshape(-1, size, size)


@cache
def find_bank(size: int, min_path: int, wall_share: float) -> Path | None:
    """The bundled bank made with exactly these arguments, or None."""
    for path in sorted(FOLDER.glob(f"maze-{size}-*.npz")):
        stored = read_npz(path, {"min_path": (np.int64, ()), "wall_share": (np.float64, ())})
        if int(stored["min_path"]) == min_path and abs(float(stored["wall_share"]) - wall_share) < 1e-9:
            return path
    return None


def build_bank(
    size: int,
    min_path: int,
    wall_share: float,
    train: int,
    test: int,
    validation: int,
    seed: int = BANK_SEED,
    folder: Path = FOLDER,
) -> Path:
    """Generate and write a bank; the same arguments give the same mazes everywhere.

    Args:
        size: side length of the mazes.
        min_path: least cells of a shortest path, start and goal counted.
        wall_share: probability of a wall.
        train: number of mazes of the train split.
        test: number of mazes of the test split, and of held-out.
        validation: the same for the validation split.
        seed: recorded in the file.
        folder: where to write `maze-{size}-{min_path}.npz`.

    Returns:
        The file written.
    """
    arrays: dict[str, Any] = {"size": size, "min_path": min_path, "wall_share": wall_share, "seed": seed}
    for split, count in zip(PARTS, (train, test, validation, test), strict=True):
        keys = np.array([puzzle_key(seed, k) for k in range(count)], dtype=np.uint64)
        flat = GeneratedMazes(size, split, min_path, wall_share).exactly(keys).clues.reshape(count, size * size)
        arrays[f"{split}_walls"] = np.packbits(flat == WALL, axis=1)
        ends = [np.argmax(flat == token, axis=1) for token in (START, GOAL)]
        arrays[f"{split}_ends"] = np.stack(ends, axis=1).astype(np.uint16)
    path = folder / f"maze-{size}-{min_path}.npz"
    write_npz(path, arrays)
    find_bank.cache_clear()
    return path


__all__ = ["SPLITS", "BankedMazes", "GeneratedMazes", "build_bank", "find_bank", "make_source", "split_of"]

EXPECTED = "expected source 'bank', 'generate', a file or a PuzzleSource"


def make_source(
    source: str | Path | PuzzleSource = "bank",
    size: Size = 10,
    split: str = "train",
    min_path: int | None = None,
    wall_share: float = 0.35,
) -> PuzzleSource:
    """The source that an environment's arguments ask for.

    Args:
        source: "bank" (a bundled bank; where none fits the other arguments, new mazes), "generate" (new mazes),
            what `open_puzzles` reads (a CSV file, a folder, a data set's name; the other arguments but `split` then
            say nothing), or a source, taken as it is.
        size: side length, or (rows, columns).
        split: "train", "validation", "test" or "all".
        min_path: least cells of a shortest path, start and goal counted; default the longer side.
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
    height, width = generated.shape
    bank = find_bank(height, generated.min_path, wall_share) if source == "bank" and height == width else None
    return BankedMazes(bank, split) if bank else generated
