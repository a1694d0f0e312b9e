"""Where things lie in the picture of an ARC puzzle: demonstrations above, the test input and the answer below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

Rect = tuple[int, int, int, int]
"""Left, top, width, height in pixels."""

BOARD = (960, 620)
"""Width and height of the picture."""

EXAMPLES: Rect = (0, 0, 960, 282)
INPUT: Rect = (0, 294, 474, 326)
ANSWER: Rect = (486, 294, 474, 326)
"""The three cards."""

HEAD = 32
"""Height of a card's heading."""

PANEL = 284
"""Most pixels that a grid on one of the lower cards is wide or high."""

ARROW = 34
"""Width of an arrow between two grids, with the room around it."""

CAPTION = 17
"""Height of the line below a demonstration."""

_PADDING = 12
"""Room left and right of a demonstration."""

Size = tuple[int, int]
"""Height and width of a grid in cells."""


@dataclass(frozen=True)
class Slots:
    """How demonstrations share their card: row after row, each in the middle of its slot.

    Attributes:
        columns: slots side by side.
        rows: slots one above the other.
        cell: pixels of a cell, the same for all grids.
    """

    columns: int
    rows: int
    cell: float

    def slot(self, index: int, count: int) -> Rect:
        """The slot of demonstration `index` of `count`; a last row that is not full lies in the middle."""
        row, column = divmod(index, self.columns)
        width, height = EXAMPLES[2] / self.columns, _height() / self.rows
        missing = self.columns * (row + 1) - count if row == self.rows - 1 else 0
        left, top = (column + missing / 2) * width, EXAMPLES[1] + HEAD + row * height
        return round(EXAMPLES[0] + left), round(top), int(width), int(height)


def arrange(pairs: Sequence[tuple[Size, Size]], canvas: int) -> Slots:
    """The slots in which the grids of demonstrations, (input, output), are at the answer's scale, or nearest to it."""
    across = max(first[1] + second[1] for first, second in pairs)
    down = max(max(first[0], second[0]) for first, second in pairs)
    best = Slots(1, len(pairs), 0.0)
    for columns in range(1, len(pairs) + 1):
        rows = ceil(len(pairs) / columns)
        width = EXAMPLES[2] / columns - ARROW - 2 * _PADDING
        cell = cell_size(min(width / across, (_height() / rows - CAPTION - 4) / down), canvas)
        if cell > best.cell:
            best = Slots(columns, rows, cell)
    return best


def cell_size(room: float, canvas: int) -> float:
    """Pixels of a cell for which there is `room`, at most the answer's; a whole number unless they are very small."""
    return float(min(int(room), PANEL // canvas)) if room >= 4 else room


def in_panel(size: Size, canvas: int) -> tuple[int, int, int]:
    """(left, top, pixels of a cell) of the test input in the picture."""
    height, width = size
    cell = int(cell_size(PANEL / max(height, width), canvas))
    left = INPUT[0] + (INPUT[2] - width * cell) // 2
    return left, INPUT[1] + HEAD + (PANEL - height * cell) // 2, cell


def answer_panel(canvas: int) -> tuple[int, int, int]:
    """(left, top, pixels of a cell) of the answer's board in the picture, the same for all puzzles."""
    cell = PANEL // canvas
    left = ANSWER[0] + (ANSWER[2] - canvas * cell) // 2
    return left, ANSWER[1] + HEAD + (PANEL - canvas * cell) // 2, cell


def answer_cell(canvas: int, place: tuple[int, int]) -> tuple[int, int] | None:
    """(row, column) of the answer's board under the pixel `place` of the picture, None outside it."""
    left, top, cell = answer_panel(canvas)
    row, column = (place[1] - top) // cell, (place[0] - left) // cell
    return (row, column) if 0 <= row < canvas and 0 <= column < canvas else None


def _height() -> int:
    """Height of the room for demonstrations."""
    return EXAMPLES[3] - HEAD - 6
