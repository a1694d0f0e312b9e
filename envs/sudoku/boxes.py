"""The geometry of a board: its box, and the tables by which the compiled solver sees it.

A box of (rows, columns) cells makes an n x n board with n = rows * columns: `columns` bands of `rows` rows, and `rows`
stacks of `columns` columns.
"""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int]
"""(rows, columns) of a box."""

BOXES: tuple[Box, ...] = ((2, 2), (2, 3), (3, 2), (2, 4), (4, 2), (3, 3), (4, 4))
"""The boxes that are known. Where only a board's side is given, its first box in this order is meant."""


STACKS, LONE, SPREAD, LINE_CELLS, COLUMN_CELLS, LINE_LONE, COLUMN_LONE = range(7)
"""Rows of `Layout.tables`.

A pattern is square: which of k stacks each of k lines of a band uses (line after line, k = box rows), or which of k
bands each of k columns of a stack uses (column after column, k = box columns).

- STACKS: the columns of a line as bits -> the stacks they touch as bits.
- LONE: a line with one bit -> itself, any other -> 0.
- SPREAD: the columns of a band as bits -> bit column * bands.
- LINE_CELLS: pattern of lines -> the cells, as a word, that are left once each line takes a different stack; 0 if
  that cannot be.
- COLUMN_CELLS: pattern of columns -> bit band * n + column for those left once each column takes a different band; 0
  if that cannot be.
- LINE_LONE, COLUMN_LONE: pattern -> its bits that are alone in their line or column.
"""


class Layout(NamedTuple):
    """What compiled code knows of a board; see `solver.py` for the words that the tables speak of.

    Attributes:
        box_rows: rows of a box; also the number of stacks.
        box_cols: columns of a box; also the number of bands.
        tables: (7, K) int64, see STACKS; rows are filled up with zeros.
    """

    box_rows: int
    box_cols: int
    tables: NDArray[np.int64]


@dataclass(frozen=True)
class Board:
    """A board with boxes of (rows, columns) cells; get it from `board`."""

    box: Box

    @property
    def size(self) -> int:
        """Side length n, which is also the number of digits."""
        return self.box[0] * self.box[1]

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n)."""
        return self.size, self.size

    @property
    def vocab_size(self) -> int:
        """Number of token ids: pad, blank, n digits."""
        return self.size + 2

    @property
    def name(self) -> str:
        """E.g. `9x9`; the box is named where it is not the usual one, as in `6x6-3x2`."""
        side = f"{self.size}x{self.size}"
        return side if usual_box(self.size) == self.box else f"{side}-{self.box[0]}x{self.box[1]}"

    @cached_property
    def layout(self) -> Layout:
        """The tables of the compiled solver."""
        size, (rows, columns) = self.size, self.box
        lines = np.arange(1 << size)
        stack, of_stack = (1 << columns) - 1, [(i, j) for i in range(rows) for j in range(rows)]
        of_column = [(i, j) for i in range(columns) for j in range(columns)]
        crossings, closed = _closure(rows), _closure(columns)
        made: dict[int, Any] = {
            STACKS: _gather(lines, {j: stack << (j * columns) for j in range(rows)}),
            LONE: np.where((lines & (lines - 1)) == 0, lines, 0),
            SPREAD: _gather(lines, {j * columns: 1 << j for j in range(size)}),
            LINE_CELLS: sum(
                _bit(crossings, i * rows + j) * _word(stack << (i * size + j * columns)) for i, j in of_stack
            ),
            COLUMN_CELLS: sum(_bit(closed, j * columns + i) << (i * size + j) for i, j in of_column),
            LINE_LONE: _alone(rows),
            COLUMN_LONE: _alone(columns),
        }
        tables = np.zeros((len(made), max(map(len, made.values()))), dtype=np.int64)
        for row, values in made.items():
            tables[row, : len(values)] = values
        return Layout(rows, columns, tables)


def _bit(values: NDArray[np.int64], place: int) -> NDArray[np.int64]:
    return (values >> place) & 1


def _word(bits: int) -> np.int64:
    """64 bits as a signed number: at 16x16 a word has the sign bit too."""
    return np.uint64(bits).astype(np.int64)


def _gather(values: NDArray[np.int64], masks: dict[int, int]) -> NDArray[np.int64]:
    """Bit `place` of a result is set where the value has a bit of `masks[place]`."""
    return sum(
        (((values & mask) != 0).astype(np.int64) << place for place, mask in masks.items()), np.zeros_like(values)
    )


def _closure(side: int) -> NDArray[np.int64]:
    """For every side x side bit pattern, the union of the permutation matrices in it; (2**(side*side),) int64."""
    patterns = np.arange(1 << (side * side))
    closed = np.zeros_like(patterns)
    for order in permutations(range(side)):
        matrix = sum(1 << (line * side + place) for line, place in enumerate(order))
        closed |= np.where((patterns & matrix) == matrix, matrix, 0)
    return closed


def _alone(side: int) -> NDArray[np.int64]:
    """For every side x side bit pattern, the bits that are alone in their line; (2**(side*side),) int64."""
    patterns = np.arange(1 << (side * side))
    alone = np.zeros_like(patterns)
    for line in range(side):
        bits = (patterns >> (line * side)) & ((1 << side) - 1)
        alone |= np.where((bits & (bits - 1)) == 0, bits, 0) << (line * side)
    return alone


def board(box: Box) -> Board:
    """The board with this box.

    Args:
        box: (rows, columns), one of BOXES.

    Raises:
        ValueError: for any other box.
    """
    known = [known for known in BOXES if isinstance(box, tuple | list) and known == tuple(box)]
    if not known:
        raise ValueError(f"expected a box out of {', '.join(map(str, BOXES))}, got {reprlib.repr(box)}")
    return _board(known[0])


@cache
def _board(box: Box) -> Board:
    return Board(box)


def usual_box(size: int) -> Box:
    """The box that is meant where only the side length of a board is known.

    Args:
        size: 4, 6, 8, 9 or 16.

    Raises:
        ValueError: for a side length that no known box makes.
    """
    for rows, columns in BOXES:
        if rows * columns == size:
            return rows, columns
    raise ValueError(f"expected a board of side 4, 6, 8, 9 or 16, got {size}")
