"""Where the cells of a board lie in its picture, for any family: found by asking the family's `cell_at`."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

from hrm_gym.envs.puzzle import PuzzleFamily

_STRIDE = 6
"""A cell is at least as large as this many pixels, or it may not be found."""


class Cells:
    """The rectangles of a board's cells, in pixels of the board's picture; cells form columns and rows.

    Attributes:
        columns: (left, width) of every column.
        rows: (top, height) of every row.
    """

    def __init__(self, family: PuzzleFamily, shape: tuple[int, int]) -> None:
        """Look for the cells.

        Raises:
            ValueError: if `family` shows some column or row nowhere.
        """
        (width, height), at = family.board_size, family.cell_at
        found = (
            (x, y) for y in range(0, height, _STRIDE) for x in range(0, width, _STRIDE) if at(shape, (x, y)) is not None
        )
        place = next(found, None)
        if place is None:
            raise ValueError(f"expected {family.name} to show its cells somewhere, got none")
        across = [at(shape, (x, place[1])) for x in range(width)]
        down = [at(shape, (place[0], y)) for y in range(height)]
        self.columns = _spans([None if cell is None else cell[1] for cell in across], shape[1])
        self.rows = _spans([None if cell is None else cell[0] for cell in down], shape[0])

    @staticmethod
    def of(family: PuzzleFamily, shape: tuple[int, int]) -> Cells:
        """The cells of a board of `shape`, found once."""
        return _found(cast(Any, family), shape)

    def rect(self, row: int, column: int) -> tuple[int, int, int, int]:
        """(left, top, width, height) of one cell."""
        (left, width), (top, height) = self.columns[column], self.rows[row]
        return left, top, width, height


@lru_cache(maxsize=32)
def _found(family: PuzzleFamily, shape: tuple[int, int]) -> Cells:
    return Cells(family, shape)


def _spans(line: list[int | None], count: int) -> list[tuple[int, int]]:
    """(first place, number of places) of each of the numbers 0..count-1 in `line`."""
    missing = set(range(count)) - {number for number in line if number is not None}
    if missing:
        raise ValueError(
            f"expected {count} columns or rows of cells in the picture, got none with number {min(missing)}"
        )
    return [(line.index(number), line.count(number)) for number in range(count)]
