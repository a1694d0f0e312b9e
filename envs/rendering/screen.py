"""The picture of an environment: the family's board, and a panel that shows what the agent has in mind.

A picture without a window needs no display.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
import pygame
from numpy.typing import NDArray

from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.puzzle import Moment
from hrm_gym.envs.rendering.colours import (
    CARD,
    CORAL,
    CYAN,
    DIM,
    GROUND,
    MINT,
    PAPER,
    RED,
    ROSE,
    SKY,
    SLATE,
    VIOLET,
    Colour,
)
from hrm_gym.envs.rendering.lettering import lettering, wrapped
from hrm_gym.envs.rendering.timeline import (
    EVENTS,
    PROBABILITY,
    RESIDUAL,
    paint_timeline,
    q_curves,
    residual_curves,
    slots_for,
)
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


MARGIN, PANEL = 20, 300
"""Pixels around the board, and of the panel to its right."""

_INDENT = 20
_INNER = PANEL - 2 * _INDENT
_RGB = (0x0000FF, 0x00FF00, 0xFF0000, 0)
"""Masks that lay pixels out in memory as red, green, blue: then an array of them is a plain copy."""

_VERDICT = 46
"""Pixels from the bottom of the picture to the top of the verdict."""

_DOUBT = 0.05
"""Doubt below which a cell has no bar: many short bars would hide the long ones."""


class Screen(LiveView):
    """Paints frames; on request shows them in a window.

    Attributes:
        size: (width, height) of every picture in pixels, the same for all puzzles of a family.
        legend_end: where the legend of the last picture ended, in pixels from the top.
    """

    legend_end = 0

    def __init__(self, family: PuzzleFamily, fps: int) -> None:
        pygame.font.init()
        self._family = family
        width, height = family.board_size
        self.size = (MARGIN + width + MARGIN + PANEL, MARGIN + height + MARGIN)
        super().__init__(self.size, f"hrm_gym: {family.title}", fps)
        self._frame = pygame.Surface(self.size, 0, 24, _RGB)
        self._ground = self._frame.copy()
        self._ground.fill(GROUND)
        pygame.draw.rect(self._ground, CARD, (self.size[0] - PANEL, 0, PANEL, self.size[1]))

    def paint(self, moment: Moment, unit: str, caption: str = "", notes: Notes = ()) -> pygame.Surface:
        """The frame for one moment: the board with its marks, and the panel. Nothing an agent does not have is drawn.

        Args:
            moment: what to show.
            unit: what is counted, "segment" or "step".
            caption: who plays, and after a line break by which halting rules.
            notes: (word, meaning), the last lines of the panel.

        Returns:
            A surface of `size`, valid until the next call.
        """
        self._frame.blit(self._ground, (0, 0))
        board = self._frame.subsurface((MARGIN, MARGIN, *self._family.board_size))
        self._family.draw(board, moment.puzzle, moment.answer, moment.thought)
        changed, doubt = marks_of(self._family, moment)
        cells = Cells.of(self._family, moment.puzzle.shape) if changed or doubt else None
        for row, column in changed:
            assert cells is not None
            area = pygame.Rect(cells.rect(row, column))
            pygame.draw.rect(board, VIOLET, area, 3 if area.width > _SMALL else 2, border_radius=area.width // 8)
        for row, column, share in doubt:
            assert cells is not None
            _bar(board, pygame.Rect(cells.rect(row, column)), share)
        self._panel(moment, unit, caption, notes, len(changed), doubt)
        return self._frame

    def pixels(self, frame: pygame.Surface) -> NDArray[np.uint8]:
        """A fresh (height, width, 3) uint8 RGB array of `frame`."""
        memory: Any = frame.get_buffer()
        lines = np.frombuffer(memory, dtype=np.uint8).reshape(frame.get_height(), frame.get_pitch())
        return lines[:, : 3 * self.size[0]].reshape(self.size[1], self.size[0], 3).copy()

    def _panel(
        self, moment: Moment, unit: str, caption: str, notes: Notes, changed: int, doubt: list[tuple[int, int, float]]
    ) -> None:
        left = self.size[0] - PANEL + _INDENT
        # what stands below the curves always has its place: the verdict, three kinds of marks, the facts and the notes
        facts = moment.thought.facts if moment.thought else ()
        below = _VERDICT + 18 * (3 + len(facts) + len(notes)) + 8
        y = self._course(moment, unit, self._heading(moment, unit, caption), below)
        for word, value in facts:
            self._write(word, y, 18, DIM)
            self._write(value, y, 18, PAPER, right=True)
            y += 18
        y = self.legend_end = self._legend(moment, changed, doubt, y + 2)
        for word, value in notes:
            self._write(word, y + 6, 20, PAPER)
            self._write(value, y + 6, 20, DIM, right=True)
            y += 20
        if moment.solved is not None:
            colour, text = (MINT, "Solved") if moment.solved else (CORAL, "Not solved")
            box = pygame.Rect(left, self.size[1] - _VERDICT, _INNER, 36)
            pygame.draw.rect(self._frame, colour, box, border_radius=10)
            words = lettering(text, 28, GROUND)
            self._frame.blit(words, words.get_rect(center=(box.centerx, box.centery + 1)))

    def _heading(self, moment: Moment, unit: str, caption: str) -> int:
        """Puzzle, agent, attempt, and a bar for the budget used; returns where the next line begins."""
        frame, left, family = self._frame, self.size[0] - PANEL + _INDENT, self._family
        shape = "x".join(map(str, moment.puzzle.shape))
        self._write(f"{family.title} {shape}", 22, 32, PAPER)
        self._write(moment.puzzle.name, 48, 18, DIM)
        y = 72
        if caption:
            name, _, rules = caption.partition("\n")
            self._write(name, y, 24, PAPER)
            y += 26
            for line in wrapped(rules, 18, _INNER)[:3] if rules else ():
                self._write(line, y - 4, 18, DIM)
                y += 17
        if family.attempts > 1:
            self._write(f"Attempt {moment.attempt + 1} of {family.attempts}", y, 20, PAPER)
            y += 22
        in_all = f" ({len(moment.thoughts)} in all)" if moment.attempt and moment.thoughts else ""
        self._write(f"{unit.capitalize()}s{in_all}", y, 20, DIM)
        self._write(f"{moment.used} of {moment.budget}", y, 20, PAPER, right=True)
        pygame.draw.rect(frame, SLATE, (left, y + 19, _INNER, 6), border_radius=3)
        filled = round(_INNER * min(max(moment.used / moment.budget, 0.0), 1.0))
        if filled:
            pygame.draw.rect(frame, SKY, (left, y + 19, filled, 6), border_radius=3)
        return y + 36

    def _course(self, moment: Moment, unit: str, y: int, below: int) -> int:
        """Curves over segments and the decision, above the last `below` pixels; returns where the next line begins."""
        left = self.size[0] - PANEL + _INDENT
        thoughts = moment.thoughts if unit == "segment" else ()  # else all was thought before the first step
        curves, residuals = q_curves(thoughts), residual_curves(thoughts)
        events = [one.event for one in thoughts]
        slots = slots_for(len(thoughts), moment.budget)
        if curves:
            area, threshold = pygame.Rect(left, y, _INNER, 124), thoughts[-1].threshold
            paint_timeline(self._frame, area, curves, slots, PROBABILITY, events, threshold)
            y += 130
        words, colour = decision(moment, unit)
        for line in wrapped(words, 22, _INNER)[:3]:
            self._write(line, y, 22, colour)
            y += 21
        y += 6
        room = self.size[1] - y - below
        if residuals and room >= 56:
            area = pygame.Rect(left, y, _INNER, min(88, room))
            paint_timeline(self._frame, area, residuals, slots, RESIDUAL, title="State moved by")
            y = area.bottom + 4
        return y

    def _legend(self, moment: Moment, changed: int, doubt: list[tuple[int, int, float]], y: int) -> int:
        """A line for every kind of mark that is on the board; returns where the next line begins."""
        left, frame = self.size[0] - PANEL + _INDENT, self._frame
        rows: list[tuple[Colour | None, str]] = [
            (None, line) for line in self._family.legend(moment.puzzle, moment.answer, moment.thought) if line
        ]
        if changed:
            rows.append((VIOLET, f"changed now: {_cells(changed)}"))
        if doubt:
            least = 1 - max(share for *_, share in doubt)
            rows.append((CYAN, f"doubt: {_cells(len(doubt))}, least sure {least:.0%}"))
        if moment.violations:
            rows.append((ROSE, f"breaks a rule: {_cells(moment.violations)}"))
        for colour, text in rows:
            sample = pygame.Rect(left, y + 1, 12, 12)
            if colour == VIOLET:
                pygame.draw.rect(frame, VIOLET, sample, 2, border_radius=2)
            elif colour == CYAN:
                pygame.draw.rect(frame, CYAN, (sample.left, sample.top + 4, sample.width, 5))
            elif colour is not None:
                pygame.draw.rect(frame, colour, sample)
                pygame.draw.rect(frame, RED, sample.inflate(-6, -6))
            words = lettering(text, 18, PAPER if colour else DIM, _INNER - 20 * bool(colour))
            frame.blit(words, (left + 20 * bool(colour), y))
            y += 18
        return y

    def _write(self, text: str, y: int, size: int, colour: Colour, right: bool = False) -> None:
        """Write one line in the panel, from its left margin or up to its right one."""
        words = lettering(text, size, colour, _INNER)
        x = self.size[0] - _INDENT - words.get_width() if right else self.size[0] - PANEL + _INDENT
        self._frame.blit(words, (x, y))


_SMALL = 24
"""A cell of at most this many pixels gets thinner marks."""

Notes = Sequence[tuple[str, str]]


def marks_of(family: PuzzleFamily, moment: Moment) -> tuple[list[list[int]], list[tuple[int, int, float]]]:
    """[row, column] of the cells that the last answer changed; (row, column, doubt in [0, 1]) of unsure free cells."""
    changed = [] if moment.before is None else np.argwhere(moment.answer != moment.before).tolist()
    thought = moment.thought
    if thought is None or thought.confidence is None:
        return changed, []
    doubt = np.where(family.free(moment.puzzle.clues), 1 - np.nan_to_num(thought.confidence, nan=1.0), 0.0)
    unsure = np.argwhere(doubt >= _DOUBT).tolist()
    return changed, [(row, column, min(float(doubt[row, column]), 1.0)) for row, column in unsure]


def decision(moment: Moment, unit: str) -> tuple[str, Colour]:
    """What the agent decided and why, in words, and the colour of the words; "" where there is nothing to say."""
    thought, ended = moment.thought, moment.solved is not None
    if thought is not None and thought.event and unit != "segment" and not ended:
        return f"thought for {thought.segment} segments first: {thought.reason}", PAPER
    if thought is not None and thought.event and unit == "segment":
        return thought.reason or thought.event, EVENTS[thought.event]
    if ended and moment.used >= moment.budget:
        return ("budget spent: halts" if unit == "segment" else "all steps used"), CORAL
    if ended:
        return ("halts" if unit == "segment" or not moment.solved else "the answer is right: ends"), MINT
    return (thought.reason or "" if thought is not None else ""), PAPER


def _bar(board: pygame.Surface, cell: pygame.Rect, share: float) -> None:
    """A bar of doubt along the bottom of a cell."""
    thick = max(2, cell.height // 9)
    inset = max(1, cell.width // 16)
    width = max(1, round((cell.width - 2 * inset) * share))
    pygame.draw.rect(board, CYAN, (cell.left + inset, cell.bottom - inset - thick, width, thick))


def _cells(count: int) -> str:
    return f"{count} cell{'' if count == 1 else 's'}"
