"""Puzzles read from text files: CSV in the official layout `source,question,answer,rating` or Kaggle's, bare lines.

Answers that a file lacks are found by the family's solver. A file is read in chunks of rows: the family turns a whole
chunk into tokens at once (`read_rows`), and only where that fails are its rows read one by one, to name the line.
"""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.puzzle import Grid, Puzzle, PuzzleBatch

UNKNOWN = 255
"""Stands in a symbol table for every character that means nothing."""


def symbol_table(tokens: Mapping[str, int]) -> bytes:
    """The table that `encode_rows` reads by.

    Args:
        tokens: token id (0..254) of every character that may stand in a row; several may mean the same token.

    >>> symbol_table({".": 1, "0": 1})[ord("0")]
    1
    """
    table = bytearray([UNKNOWN]) * 256
    for character, token in tokens.items():
        table[ord(character)] = token
    return bytes(table)


def encode_rows(texts: Sequence[str], table: bytes) -> NDArray[np.uint8]:
    """Token ids of N texts of one length.

    Args:
        texts: at least one text.
        table: 256 token ids, see `symbol_table`.

    Returns:
        (N, L) uint8.

    Raises:
        ValueError: if the lengths differ or a character is unknown; it does not say where.
    """
    lengths = set(map(len, texts))
    if len(lengths) != 1:
        raise ValueError(f"expected texts of one length, got {len(lengths)} lengths")
    ids = "".join(texts).encode("latin-1").translate(table)
    if UNKNOWN in ids:
        raise ValueError("expected only known characters, got another")
    return np.frombuffer(ids, dtype=np.uint8).reshape(len(texts), lengths.pop())


COLUMNS = ("source", "question", "answer", "rating")
NAMES = (
    ("question", "quizzes", "quiz", "puzzles", "puzzle"),
    ("answer", "solutions", "solution"),
    ("rating", "difficulty"),
)
"""What files call the columns that are read, in capitals or not; the official files come first, Kaggle's after."""

_SHORTEST = 16
"""Characters of a first line from which on it is a puzzle, and no misspelt header."""

_MOST_LISTED = 10
"""Lines that a message lists."""
_CHUNK_CHARACTERS = 1 << 20
_LONGEST = 1 << 20
"""Characters of a line; a maze of 700x700 cells and its answer have as many."""

_BAR_AFTER_SECONDS = 3.0


class PuzzleFile:
    """The puzzles of one file, with the answers and ratings it stores.

    A key gives row `key % len`, an index gives that row, and nothing is turned; only where a file has no answers are
    its puzzles solved. All puzzles of a file must have one size.

    Attributes:
        file: name of the file.
        shape: (H, W) of the puzzles.
        clues: (N, H, W) uint8.
        solutions: (N, H, W) uint8.
        ratings: (N,) float64, NaN where the file has none.
    """

    def __init__(self, path: str | Path, family: PuzzleFamily) -> None:
        """Read and check the whole file; a progress bar shows up if that takes more than a few seconds.

        Args:
            path: a CSV file whose header names a column of puzzles, and where it has them those of answers and ratings
                (`NAMES`); or lines that are a puzzle each (.sdm, .txt), or a puzzle, a comma and its answer. Families
                whose puzzles have no space and no `#` skip spaces around them, and lines that begin with `#`.
            family: reads the rows, and solves those without an answer.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if a row is not a puzzle with its answer; the message begins with file and line. Of puzzles
                without an answer all that have no solution, or several, are listed.
        """
        path = Path(path)
        self.file = path.name
        self._family = family.name
        columns = _read(path, family)
        self.clues, self.solutions = columns.clues, columns.solutions
        self.ratings, self._lines = columns.ratings, columns.lines
        self.shape: tuple[int, int] = self.clues.shape[1:]

    def __len__(self) -> int:
        """Number of puzzles in the file."""
        return len(self.clues)

    def __getitem__(self, index: int) -> Puzzle:
        """Puzzle `index` (0 is the first line below the header); IndexError past the end."""
        if not 0 <= index < len(self):
            raise IndexError(f"expected a puzzle index in 0..{len(self) - 1} of {self.file}, got {index}")
        rating = None if math.isnan(self.ratings[index]) else float(self.ratings[index])
        name = f"{self.file}:{self._lines[index]}"
        return Puzzle(self.clues[index], self.solutions[index], name=name, rating=rating, family=self._family)

    def puzzle(self, key: int) -> Puzzle:
        """The puzzle of one 64-bit key."""
        return self[key % len(self)]

    def batch(self, keys: NDArray[np.uint64]) -> PuzzleBatch:
        """The puzzles of N uint64 keys."""
        rows = (keys % np.uint64(len(self))).astype(np.int64)
        return PuzzleBatch(self.clues[rows], self.solutions[rows], np.zeros(len(rows), dtype=np.int32))


@dataclass
class _Columns:
    """What a file holds, N rows: (N, H, W) clues and solutions, (N,) ratings and line numbers."""

    clues: NDArray[np.uint8]
    solutions: NDArray[np.uint8]
    ratings: NDArray[np.float64]
    lines: NDArray[np.int64]

    @classmethod
    def room_for(cls, count: int, shape: tuple[int, ...]) -> _Columns:
        clues, solutions = (np.empty((count, *shape), dtype=np.uint8) for _ in range(2))
        return cls(clues, solutions, np.empty(count, dtype=np.float64), np.empty(count, dtype=np.int64))

    def put(self, first: int, part: _Columns) -> int:
        """Write the rows of `part` from row `first` on; returns the row behind them."""
        last = first + len(part.clues)
        for name, values in vars(part).items():
            getattr(self, name)[first:last] = values
        return last

    def first(self, count: int) -> _Columns:
        return _Columns(self.clues[:count], self.solutions[:count], self.ratings[:count], self.lines[:count])


@dataclass(frozen=True)
class _Chunk:
    """Rows of a file as they stand there."""

    file: str
    lines: list[int]
    questions: list[str]
    answers: list[str] | None
    ratings: list[str]


def _expect_file(path: Path) -> None:
    """Raise unless there is a file: a pipe would keep its reader waiting for ever."""
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: expected a CSV file of puzzles, found no such file")
    if not path.is_file():
        kind = "folder" if path.is_dir() else "device or pipe"
        raise ValueError(f"{path}: expected a CSV file of puzzles, got a {kind}")


def _read(path: Path, family: PuzzleFamily) -> _Columns:
    """All rows of a file, checked."""
    _expect_file(path)
    columns, count, cells = None, 0, None
    unsolved: list[tuple[int, str]] = []
    with _bar(path) as bar:
        for chunk in _chunks(path, family):
            part = _read_chunk(family, chunk, cells, unsolved)
            if columns is None:
                cells = len(chunk.questions[0])
                columns = _Columns.room_for(_most_rows(path, cells), part.clues.shape[1:])
            count = columns.put(count, part)
            bar.update(len(part.clues))
    if unsolved:
        (line, reason), others = unsolved[0], [str(line) for line, _ in unsolved[1:]]
        more = ", …" if len(others) > _MOST_LISTED else ""
        listed = f"; bad lines besides: {len(others)} ({', '.join(others[:_MOST_LISTED])}{more})" if others else ""
        raise ValueError(f"{path.name}:{line}: {reason}{listed}")
    if columns is None:
        raise ValueError(f"{path.name}: expected at least one puzzle below the header, got none")
    return columns.first(count)


def _bar(path: Path) -> Any:
    """A progress bar in rows, for terminals and for files that take their time."""
    from tqdm import tqdm

    return tqdm(desc=path.name, unit=" rows", unit_scale=True, delay=_BAR_AFTER_SECONDS, disable=None, leave=False)


def _most_rows(path: Path, cells: int) -> int:
    """At least as many rows as the file can hold, by its line ends and by its size; memory that is not used is free."""
    ends = 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            ends += block.count(b"\n") + block.count(b"\r")
    return min(ends + 1, path.stat().st_size // cells + 1)


class _Layout(NamedTuple):
    """How many fields a row has, and which of them are read; None for what a file does not have."""

    width: int
    question: int
    answer: int | None
    rating: int | None


def _chunks(path: Path, family: PuzzleFamily) -> Iterator[_Chunk]:
    """The data rows, some at a time; the header is checked first."""
    with path.open(newline="", encoding="utf-8-sig") as stream:
        try:
            rows, count = _rows(path.name, stream), 1
            if not set(" #") & set(family.symbols):
                rows = _without_remarks(rows)
            first = next(rows, None)
            layout = _header(path, first)
            if layout is None:
                assert first is not None
                layout, rows = _Layout(len(first[1]), 0, 1 if len(first[1]) == 2 else None, None), chain([first], rows)
            while chunk := _take(path.name, rows, layout, count):
                count = _CHUNK_CHARACTERS // max(1, len(chunk.questions[0])) + 1
                yield chunk
        except UnicodeDecodeError:
            raise ValueError(f"{path.name}: expected a text file in UTF-8, got other bytes") from None


def first_question(path: Path) -> str:
    """The first puzzle of a file as it is written there, "" if there is none; so its family can be guessed."""
    _expect_file(path)
    with contextlib.suppress(UnicodeDecodeError, ValueError), path.open(newline="", encoding="utf-8-sig") as stream:
        # A wall of a maze is a # too, but words have letters that no maze has.
        rows = (row for row in _rows(path.name, stream) if not re.match("#.*[a-np-z0-9]", row[1][0]))
        first = next(rows, None)
        layout = _header(path, first)
        fields = first if layout is None else next(rows, None)
        found = "" if fields is None else fields[1][layout.question if layout else 0]
        return found.strip() if set(found) & set("0123456789") else found
    return ""


def _without_remarks(rows: Iterable[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    """The rows without spaces around fields, blank lines, and lines that begin with `#`."""
    for line, fields in rows:
        bare = [field.strip() for field in fields]
        if any(bare) and not bare[0].startswith("#"):
            yield line, bare


def _rows(name: str, stream: TextIO) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of every row that is not blank.

    Up to the first block with a quotation mark in it the lines are merely split, which is six times as fast as `csv`.
    """
    number = 0
    blocks = _blocks(name, stream)
    for lines in blocks:
        if '"' in "".join(lines):
            yield from _quoted_rows(name, chain(lines, chain.from_iterable(blocks)), number)
            return
        for line in lines:
            number += 1
            if fields := line.rstrip("\r\n"):
                yield number, fields.split(",")


def _blocks(name: str, stream: TextIO) -> Iterator[list[str]]:
    """Some whole lines at a time; ValueError at one that would fill the memory."""
    number = 0
    while block := stream.read(_CHUNK_CHARACTERS):
        last = stream.readline(_LONGEST)
        lines = io.StringIO(block + last, newline="").readlines()
        number += len(lines)
        if len(lines[-1]) >= _LONGEST:
            raise ValueError(f"{name}:{number}: expected lines of less than {_LONGEST:,} characters, got a longer one")
        yield lines


def _quoted_rows(name: str, lines: Iterable[str], number: int) -> Iterator[tuple[int, list[str]]]:
    """The same by the rules of `csv`; `number` lines have gone before."""
    reader = csv.reader(lines)
    try:
        for fields in reader:
            if fields:
                yield number + reader.line_num, fields
    except csv.Error as error:
        raise ValueError(f"{name}:{number + reader.line_num}: expected a CSV row, got {error}") from None


def _header(path: Path, row: tuple[int, list[str]] | None) -> _Layout | None:
    """Which columns the first row names; None if it is a puzzle itself.

    Raises:
        ValueError: it is neither.
    """
    expected = f"expected the columns {','.join(COLUMNS)}, or Kaggle's quizzes,solutions or puzzle,solution, or puzzles"
    if row is None:
        raise ValueError(f"{path.name}:1: {expected}, got an empty file")
    fields = [field.strip().lower() for field in row[1]]
    question, answer, rating = (next((fields.index(name) for name in names if name in fields), None) for names in NAMES)
    if question is not None:
        return _Layout(len(fields), question, answer, rating)
    bare = len(row[1][0]) >= _SHORTEST or (path.suffix.lower() != ".csv" and not row[1][0].isalpha())
    if len(fields) <= 2 and bare:
        return None
    raise ValueError(f"{path.name}:{row[0]}: {expected}, got {','.join(row[1])[:80]!r}")


def _take(name: str, rows: Iterator[tuple[int, list[str]]], layout: _Layout, count: int) -> _Chunk | None:
    """The next rows, at most `count`; None at the end. Columns, not rows, are kept: that is fast."""
    width, question, answer, rating = layout
    chunk = _Chunk(name, [], [], None if answer is None else [], [])
    for line, fields in rows:
        if len(fields) != width:
            raise ValueError(f"{name}:{line}: expected {width} field{'s' * (width > 1)}, got {len(fields)}")
        chunk.questions.append(fields[question])
        if answer is not None and chunk.answers is not None:
            chunk.answers.append(fields[answer])
        chunk.ratings.append("" if rating is None else fields[rating])
        chunk.lines.append(line)
        if len(chunk.lines) == count:
            break
    return chunk if chunk.lines else None


def _read_chunk(family: PuzzleFamily, chunk: _Chunk, cells: int | None, unsolved: list[tuple[int, str]]) -> _Columns:
    """The rows of a chunk, all at once if they are good; `cells` is the length of the questions before them.

    Of puzzles without an answer, lines and faults of those that cannot be solved are added to `unsolved`.
    """
    if chunk.answers is None:
        return _solve_chunk(family, chunk, cells, unsolved)
    try:
        if len(chunk.questions[0]) != (cells or len(chunk.questions[0])):
            raise ValueError("expected rows as long as those before, got others")
        clues, solutions = family.read_rows(chunk.questions, chunk.answers)
        ratings = [_rating(text) for text in chunk.ratings]
    except ValueError:
        return _read_one_by_one(family, chunk, cells)
    return _Columns(clues, solutions, np.array(ratings), np.array(chunk.lines))


def _solve_chunk(family: PuzzleFamily, chunk: _Chunk, cells: int | None, unsolved: list[tuple[int, str]]) -> _Columns:
    """The puzzles of a chunk, solved; those that have no one solution get none, and a place in `unsolved`."""
    if not family.has_solver:
        raise ValueError(f"{chunk.file}:{chunk.lines[0]}: expected answers: nothing solves {family.title} puzzles")
    grids: list[tuple[Grid, Grid]] = []
    ratings = []
    for line, question, rating in zip(chunk.lines, chunk.questions, chunk.ratings, strict=True):
        try:
            _check_lengths(question, question, cells)
            clues = family.parse(question)
            ratings.append(_rating(rating))
        except ValueError as error:
            raise ValueError(f"{chunk.file}:{line}: {error}") from None
        cells = len(question)
        try:
            solution = family.solve(clues)
            if solution is None:
                family.check(clues)  # says why
                raise ValueError("expected a puzzle with a solution, got one without")
        except ValueError as error:
            unsolved.append((line, str(error)))
            solution = clues
        grids.append((clues, solution))
    clues_of, solutions = (np.stack(column) for column in zip(*grids, strict=True))
    return _Columns(clues_of, solutions, np.array(ratings), np.array(chunk.lines))


def _read_one_by_one(family: PuzzleFamily, chunk: _Chunk, cells: int | None) -> _Columns:
    """The rows of a chunk with answers; ValueError with the line of the first that is bad."""
    assert chunk.answers is not None
    grids: list[tuple[Grid, Grid]] = []
    ratings = []
    for line, question, answer, rating in zip(chunk.lines, chunk.questions, chunk.answers, chunk.ratings, strict=True):
        try:
            _check_lengths(question, answer, cells)
            grids.append(family.read_solved(question, answer))
            ratings.append(_rating(rating))
        except ValueError as error:
            raise ValueError(f"{chunk.file}:{line}: {error}") from None
        cells = len(question)
    clues, solutions = (np.stack(column) for column in zip(*grids, strict=True))
    return _Columns(clues, solutions, np.array(ratings), np.array(chunk.lines))


def _check_lengths(question: str, answer: str, cells: int | None) -> None:
    for name, text in (("question", question), ("answer", answer)):
        if cells is not None and len(text) != cells:
            raise ValueError(f"expected {cells} characters in {name}, as in the rows before, got {len(text)}")


def _rating(text: str) -> float:
    """The number, NaN for none."""
    if not text or text.isspace():
        return math.nan
    try:
        rating = float(text)
    except ValueError:
        rating = math.inf
    if not math.isfinite(rating):
        raise ValueError(f"expected a number as rating, got {text[:80]!r}")
    return rating
