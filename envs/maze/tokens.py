"""Maze tokens: the ids and characters of the official Maze data sets, and text <-> grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.files.csv_file import UNKNOWN, encode_rows, symbol_table
from hrm_gym.envs.puzzle import Grid

PAD, WALL, OPEN, START, GOAL, PATH = range(6)
VOCAB_SIZE = 6
SYMBOLS = "?# SGo"
"""The character of every token id; the official files know the last five."""

_TABLE = symbol_table({SYMBOLS[token]: token for token in (WALL, OPEN, START, GOAL, PATH)})
_IDS = np.frombuffer(_TABLE, dtype=np.uint8)
_BYTES = np.frombuffer(SYMBOLS.encode("ascii"), dtype=np.uint8)


def encode(text: str) -> NDArray[np.uint8]:
    """Token ids of a line of maze characters.

    Args:
        text: characters out of `# SGo`.

    Returns:
        (len(text),) uint8, ids 1..5.

    Raises:
        ValueError: for any other character; names it and its place.
    """
    codes = np.frombuffer(text.encode("latin-1", errors="replace"), dtype=np.uint8)
    ids = _IDS[codes]
    if UNKNOWN in ids:
        place = int(np.argmax(ids == UNKNOWN))
        raise ValueError(f"expected only the characters '# SGo', got {text[place]!r} at position {place}")
    return ids


def decode(grid: NDArray[np.uint8]) -> str:
    """The characters of a token grid, row after row without separators.

    Args:
        grid: uint8 token ids 0..5, any shape.
    """
    return _BYTES[np.ascontiguousarray(grid, dtype=np.uint8)].tobytes().decode("ascii")


def to_text(grid: Grid) -> str:
    """The (H, W) token grid as H lines of W characters."""
    return "\n".join(decode(row) for row in grid)


def describe(clues: Grid, answer: Grid) -> str:
    """The answer (H, W) as H lines of W characters that tell a walker, `@`, from the start.

    Move mode shows the walker as the start token, and as pad the cells from which it stepped back onto its own trail:
    these are `x`.

    >>> print(describe(parse("S  \\n##G"), np.array([[5, 0, 3], [1, 1, 4]], np.uint8)))
    Sx@
    ##G
    """
    text = to_text(answer)
    if np.count_nonzero(answer == START) != 1 or (answer == clues)[clues == START].any():
        return text
    symbols = np.array([list(line) for line in text.replace("S", "@").replace("?", "x").split("\n")])
    symbols[clues == START] = "S"
    return "\n".join("".join(row) for row in symbols.tolist())


def parse(puzzle: Any) -> Grid:
    """Maze clues from what a person may hand in.

    Args:
        puzzle: H lines of W characters out of `# SG`, or one line of H*H of them (as the official files have it), or
            an (H, W) array or nested list of token ids 1..4.

    Returns:
        A fresh (H, W) uint8 grid of token ids.

    Raises:
        ValueError: if the characters, ids or shape are not those of a maze.
    """
    grid = _parse_text(puzzle) if isinstance(puzzle, str) else _parse_tokens(puzzle)
    if (grid == PATH).any():
        raise ValueError("expected a maze without path cells ('o', token 5), got one that shows a path already")
    return grid


def _parse_text(text: str) -> Grid:
    rows = text.strip("\r\n").splitlines()
    if len(rows) == 1:
        ids = encode(rows[0])
        return as_square(ids).copy()
    widths = [len(row) for row in rows]
    for line, width in enumerate(widths, 1):
        if width != widths[0]:
            raise ValueError(
                f"expected {widths[0]} characters in every line, as in the first, got {width} in line {line}"
            )
    if not rows:
        raise ValueError("expected the lines of a maze, got an empty text")
    return np.stack([encode(row) for row in rows])


def _parse_tokens(puzzle: Any) -> Grid:
    try:
        grid = np.asarray(puzzle)
    except ValueError:
        raise ValueError("expected a grid with rows of one length, got rows of several lengths") from None
    if grid.ndim != 2 or grid.size == 0 or not np.issubdtype(grid.dtype, np.integer):
        raise ValueError(f"expected an (H, W) grid of integer token ids, got shape {grid.shape}, dtype {grid.dtype}")
    if grid.min() < WALL or grid.max() > PATH:
        raise ValueError(f"expected maze tokens 1..4, got {int(grid.min())}..{int(grid.max())}")
    return grid.astype(np.uint8)


def as_square(ids: NDArray[np.uint8]) -> Grid:
    """Reshape (H*H,) ids to (H, H); ValueError if the length is no square."""
    size = round(len(ids) ** 0.5)
    if size * size != len(ids) or size == 0:
        raise ValueError(f"expected a square maze (a square number of characters), got {len(ids)} characters")
    return ids.reshape(size, size)


def read_row(question: str, answer: str) -> tuple[Grid, Grid]:
    """The maze and the answer of a row of an official CSV file.

    Args:
        question: size*size characters out of `# SG`.
        answer: the same with path cells `o`.

    Returns:
        Two (size, size) uint8 grids.

    Raises:
        ValueError: if the texts are not a square maze and the same maze with a path drawn in.
    """
    grids = []
    for name, text in (("question", question), ("answer", answer)):
        try:
            grids.append(as_square(encode(text)))
        except ValueError as error:
            raise ValueError(f"{error} in {name}") from None
    maze, solved = grids
    if maze.shape != solved.shape:
        raise ValueError(f"expected {maze.size} characters in answer, as in question, got {solved.size}")
    if (maze == PATH).any():
        raise ValueError("expected a question without path cells 'o', got one that shows a path already")
    altered = (solved != maze) & ~((maze == OPEN) & (solved == PATH))
    if altered.any():
        r, c = (int(place[0]) for place in np.nonzero(altered))
        was, now = decode(maze[r, c : c + 1]), decode(solved[r, c : c + 1])
        raise ValueError(f"expected an answer that keeps the maze, got {now!r} for {was!r} at row {r}, column {c}")
    return maze, solved


def read_rows(questions: Sequence[str], answers: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """`read_row` for N >= 1 rows of one size.

    Returns:
        Two (N, size, size) uint8 arrays.

    Raises:
        ValueError: if any row is bad; it does not say which.
    """
    mazes, solved = encode_rows(questions, _TABLE), encode_rows(answers, _TABLE)
    if mazes.shape != solved.shape or (mazes == PATH).any():
        raise ValueError("expected questions without a path and answers of the same size, got others")
    if not ((solved == mazes) | ((mazes == OPEN) & (solved == PATH))).all():
        raise ValueError("expected answers that keep their mazes, got another")
    grids = (len(mazes), *as_square(mazes[0]).shape)
    return mazes.reshape(grids), solved.reshape(grids)
