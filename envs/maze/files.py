"""Mazes read from CSV files in the official layout `source,question,answer,rating`."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.maze import rules, tokens
from hrm_gym.envs.puzzle import Grid, Puzzle, PuzzleBatch

COLUMNS = ("source", "question", "answer", "rating")


class MazeFile:
    """The mazes of one file, with the answers and ratings it stores.

    A key gives row `key % len`, an index gives that row, and nothing is turned or solved anew. Any maze with a way
    through is accepted, however short its path; all must have one size.

    Attributes:
        shape: (size, size) of the mazes.
        clues: (N, size, size) uint8.
        solutions: (N, size, size) uint8.
        ratings: N ratings, None where the file has none.
    """

    def __init__(self, path: str | Path) -> None:
        """Read and check the whole file.

        Args:
            path: a CSV file with a header line and the columns `source,question,answer,rating`; mazes are written row
                after row as size*size characters out of `# SGo`.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if a row is not a maze with its answer; the message begins with file and line.
        """
        path = Path(path)
        self.file = path.name
        clues: list[Grid] = []
        solutions: list[Grid] = []
        self.ratings: list[float | None] = []
        self._lines: list[int] = []
        for line, row in _rows(path):
            try:
                maze, answer = _read_row(row, clues[0].size if clues else None)
                rating = _rating(row["rating"])
            except ValueError as error:
                raise ValueError(f"{self.file}:{line}: {error}") from None
            clues.append(maze)
            solutions.append(answer)
            self.ratings.append(rating)
            self._lines.append(line)
        if not clues:
            raise ValueError(f"{self.file}: expected at least one maze below the header, got none")
        self.clues, self.solutions = np.stack(clues), np.stack(solutions)
        self.shape: tuple[int, int] = self.clues.shape[1:]

    def __len__(self) -> int:
        """Number of mazes in the file."""
        return len(self.clues)

    def __getitem__(self, index: int) -> Puzzle:
        """Maze `index` (0 is the first line below the header); IndexError past the end."""
        if not 0 <= index < len(self):
            raise IndexError(f"expected a maze index in 0..{len(self) - 1} of {self.file}, got {index}")
        name = f"{self.file}:{self._lines[index]}"
        return Puzzle(self.clues[index], self.solutions[index], name=name, rating=self.ratings[index])

    def puzzle(self, key: int) -> Puzzle:
        """The maze of one 64-bit key."""
        return self[key % len(self)]

    def batch(self, keys: NDArray[np.uint64]) -> PuzzleBatch:
        """The mazes of N uint64 keys."""
        rows = (keys % np.uint64(len(self))).astype(np.int64)
        return PuzzleBatch(self.clues[rows], self.solutions[rows], np.zeros(len(rows), dtype=np.int32))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, fields) of every data row; the header is checked first."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected a CSV file of mazes, found no such file")
    if not path.is_file():
        raise ValueError(f"{path}: expected a CSV file of mazes, got a folder")
    expected = ",".join(COLUMNS)
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.reader(stream)
        try:
            header = next(reader, None)
            if header is None:
                raise ValueError(f"{path.name}:1: expected the columns {expected}, got an empty file")
            missing = [column for column in COLUMNS if column not in header]
            if missing:
                found = ",".join(header)[:80]
                raise ValueError(f"{path.name}:1: expected the columns {expected}, got {found!r}")
            for fields in reader:
                if not fields:
                    continue
                line = reader.line_num
                if len(fields) != len(header):
                    raise ValueError(f"{path.name}:{line}: expected {len(header)} fields, got {len(fields)}")
                yield line, dict(zip(header, fields, strict=True))
        except UnicodeDecodeError:
            raise ValueError(f"{path.name}: expected a text file in UTF-8, got other bytes") from None
        except csv.Error as error:
            raise ValueError(f"{path.name}:{reader.line_num}: expected a CSV row, got {error}") from None


def _read_row(row: dict[str, str], cells: int | None) -> tuple[Grid, Grid]:
    """The checked (maze, answer) grids of one row; `cells` is the number of cells of the rows before."""
    grids = []
    for column in ("question", "answer"):
        text = row[column]
        if cells is not None and len(text) != cells:
            raise ValueError(f"expected {cells} characters in {column}, as in the rows before, got {len(text)}")
        try:
            grids.append(tokens.as_square(tokens.encode(text)))
        except ValueError as error:
            raise ValueError(f"{error} in {column}") from None
        cells = grids[0].size
    maze, answer = grids
    if (maze == tokens.PATH).any():
        raise ValueError("expected a question without path cells 'o', got one that shows a path already")
    rules.check(maze)
    altered = (answer != maze) & ~((maze == tokens.OPEN) & (answer == tokens.PATH))
    if altered.any():
        r, c = (int(place[0]) for place in np.nonzero(altered))
        was, now = tokens.decode(maze[r, c : c + 1]), tokens.decode(answer[r, c : c + 1])
        raise ValueError(f"expected an answer that keeps the maze, got {now!r} for {was!r} at row {r}, column {c}")
    return maze, answer


def _rating(text: str) -> float | None:
    if not text.strip():
        return None
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"expected a number as rating, got {text!r}") from None
