"""The picture of an environment: the family's board, and a panel that shows what the agent has in mind.

A picture without a window needs no display.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

import numpy as np
import pygame
from numpy.typing import NDArray

from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.puzzle import Grid, Puzzle, Thought
from hrm_gym.envs.rendering.colours import AMBER, CARD, CORAL, DIM, GROUND, MINT, PAPER, SKY, SLATE, Colour
from hrm_gym.envs.rendering.lettering import lettering
from hrm_gym.envs.rendering.window import LiveView

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


MARGIN, PANEL = 20, 240
"""Pixels around the board, and of the panel to its right."""

_INDENT = 20
_RGB = (0x0000FF, 0x00FF00, 0xFF0000, 0)
"""Masks that lay pixels out in memory as red, green, blue: then an array of them is a plain copy."""


class Screen(LiveView):
    """Paints frames; on request shows them in a window.

    Attributes:
        size: (width, height) of every picture in pixels, the same for all puzzles of a family.
    """

    def __init__(self, family: PuzzleFamily, fps: int) -> None:
        pygame.font.init()
        self._family = family
        width, height = family.board_size
        self.size = (MARGIN + width + MARGIN + PANEL, MARGIN + height + MARGIN)
        super().__init__(self.size, f"hrm_gym: {family.title}", fps)
        self._frame = pygame.Surface(self.size, 0, 24, _RGB)
        self._ground = self._empty_frame()
        self._changes = _Changes()

    def paint(self, puzzle: Puzzle, answer: Grid, thought: Thought | None, status: dict[str, Any]) -> pygame.Surface:
        """The frame for one state.

        Where whole answers are given, the cells that differ from the answer painted before are grey: what the last
        segment has changed. The first answer marks nothing.

        Args:
            puzzle: the puzzle; its solution is not shown.
            answer: (H, W) uint8, the answer as the observation shows it.
            thought: what the agent has in mind, if it told.
            status: title, name, caption, notes, unit, used, budget, violations, attempt, attempts, solved, as
                `PuzzleEnv` has them.

        Returns:
            A surface of `size`, valid until the next call.
        """
        self._frame.blit(self._ground, (0, 0))
        board = self._frame.subsurface((MARGIN, MARGIN, *self._family.board_size))
        self._family.draw(board, puzzle, answer, thought)
        if status["unit"] == "segment":
            self._grey(puzzle.shape, self._changes.seen(puzzle, answer, status["used"]))
        self._panel(thought, status)
        return self._frame

    def pixels(self, frame: pygame.Surface) -> NDArray[np.uint8]:
        """A fresh (height, width, 3) uint8 RGB array of `frame`."""
        return _memory(frame)[:, : 3 * self.size[0]].reshape(self.size[1], self.size[0], 3).copy()

    def _empty_frame(self) -> pygame.Surface:
        ground = pygame.Surface(self.size, 0, 24, _RGB)
        ground.fill(GROUND)
        pygame.draw.rect(ground, CARD, (self.size[0] - PANEL, 0, PANEL, self.size[1]))
        return ground

    def _grey(self, shape: tuple[int, int], changed: list[list[int]]) -> None:
        """Darken the picture of some cells by an eighth: paper becomes light grey."""
        if not changed:
            return
        cells, lines = Cells.of(self._family, shape), _memory(self._frame)
        for row, column in changed:
            left, top, width, height = cells.rect(row, column)
            begin = 3 * (MARGIN + left)
            part = lines[MARGIN + top : MARGIN + top + height, begin : begin + 3 * width]
            part -= part >> 3

    def _panel(self, thought: Thought | None, status: dict[str, Any]) -> None:
        self._write(status["title"], 24, 34, PAPER)
        self._write(status["name"], 54, 20, DIM)
        if status["caption"]:
            self._write("Player", 88, 20, DIM)
            self._write(status["caption"], 106, 24, PAPER)
        used, budget = status["used"], status["budget"]
        self._bar(148, f"{status['unit'].capitalize()}s", f"{used} / {budget}", used / budget, SKY)
        y = 206
        q_halt, q_continue = (thought.q_halt, thought.q_continue) if thought else (None, None)
        if q_halt is not None or q_continue is not None or status["unit"] == "segment":
            self._bar(y, "Q(halt)", _figure(q_halt), q_halt, MINT)
            self._bar(y + 58, "Q(continue)", _figure(q_continue), q_continue, AMBER)
            y += 116
        self._rows(y, status)
        if status["solved"] is not None:
            self._verdict(status["solved"])

    def _rows(self, y: int, status: dict[str, Any]) -> None:
        """Lines of a word and its value: violations, attempt if there are several, then the notes."""
        wrong, attempts = status["violations"], status["attempts"]
        rows = [("Violations", str(wrong), CORAL if wrong else PAPER)]
        rows += [("Attempt", f"{status['attempt'] + 1} / {attempts}", PAPER)] if attempts > 1 else []
        for word, value, colour in rows:
            self._write(word, y, 24, DIM)
            self._write(value, y, 24, colour, right=True)
            y += 28
        for word, value in status["notes"]:
            self._write(word, y + 10, 20, PAPER)
            self._write(value, y + 10, 20, DIM, right=True)
            y += 20

    def _bar(self, y: int, label: str, value: str, share: float | None, colour: Colour) -> None:
        x, width = self.size[0] - PANEL + _INDENT, PANEL - 2 * _INDENT
        self._write(label, y, 24, DIM)
        self._write(value, y, 24, PAPER, right=True)
        pygame.draw.rect(self._frame, SLATE, (x, y + 24, width, 10), border_radius=5)
        filled = round(width * min(max(share or 0.0, 0.0), 1.0))
        if filled:
            pygame.draw.rect(self._frame, colour, (x, y + 24, filled, 10), border_radius=5)

    def _verdict(self, solved: bool) -> None:
        colour, text = (MINT, "Solved") if solved else (CORAL, "Not solved")
        box = pygame.Rect(self.size[0] - PANEL + _INDENT, self.size[1] - 68, PANEL - 2 * _INDENT, 48)
        pygame.draw.rect(self._frame, colour, box, border_radius=12)
        words = lettering(text, 34, GROUND)
        self._frame.blit(words, words.get_rect(center=(box.centerx, box.centery + 1)))

    def _write(self, text: str, y: int, size: int, colour: Colour, right: bool = False) -> None:
        """Write one line in the panel, from its left margin or up to its right one."""
        words = lettering(text, size, colour, PANEL - 2 * _INDENT)
        x = self.size[0] - _INDENT - words.get_width() if right else self.size[0] - PANEL + _INDENT
        self._frame.blit(words, (x, y))


def _memory(frame: pygame.Surface) -> NDArray[np.uint8]:
    """(height, bytes a line) uint8, the pixels of `frame` themselves; while this lives nothing can be blitted there."""
    memory: Any = frame.get_buffer()
    return np.frombuffer(memory, dtype=np.uint8).reshape(frame.get_height(), frame.get_pitch())


class _Changes:
    """Remembers the answer that was painted last, and which cells it changed."""

    def __init__(self) -> None:
        self._puzzle: Puzzle | None = None
        self._answer = np.empty((0, 0), np.uint8)
        self._used = 0
        self._cells: list[list[int]] = []

    def seen(self, puzzle: Puzzle, answer: Grid, used: int) -> list[list[int]]:
        """[row, column] of the cells to mark in the picture of `answer`, given after `used` segments."""
        if puzzle is not self._puzzle or used <= 1:
            self._cells = []
        elif used != self._used:
            self._cells = np.argwhere(answer != self._answer).tolist()
        self._puzzle, self._answer, self._used = puzzle, answer.copy(), used
        return self._cells


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
