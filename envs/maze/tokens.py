"""Maze tokens: the ids and characters of the official Maze data sets, and text <-> grid."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.puzzle import Grid

PAD, WALL, OPEN, START, GOAL, PATH = range(6)
VOCAB_SIZE = 6
SYMBOLS = "?# SGo"
"""The character of every token id; the official files know the last five."""

_UNKNOWN = 255


def _id_table() -> NDArray[np.uint8]:
    table = np.full(256, _UNKNOWN, dtype=np.uint8)
    for token in (WALL, OPEN, START, GOAL, PATH):
        table[ord(SYMBOLS[token])] = token
    return table


_IDS = _id_table()
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
    if _UNKNOWN in ids:
        place = int(np.argmax(ids == _UNKNOWN))
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
