"""A person as the player: events of keyboard and mouse become actions of an action mode.

A hand knows no window: it is given events whose places are pixels of the environment's picture, and returns the actions
they mean. The rules stay the environment's: what a hand returns goes to `step` like the action of any agent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import pygame

from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.puzzle import Grid, Puzzle
from hrm_gym.envs.rendering.colours import BLUE, DIM, PAPER, SLATE, WHITE
from hrm_gym.envs.rendering.lettering import lettering
from hrm_gym.envs.rendering.screen import MARGIN, PANEL, Cells

_SIDE, _GAP, _ROW = 28, 6, 6
"""Pixels of a swatch and between two of them; swatches in a row."""

SPOKEN = {"e": "|"}
"""Letters that stand for a symbol which few keyboards have within reach: `|` ends a grid."""

_ABOVE_VERDICT = 84
"""Pixels from the bottom of the picture to the bottom of the palette."""


class Palette:
    """Swatches of the writable tokens, cut from a board that shows them; so a token looks here as it does there."""

    def __init__(self, family: PuzzleFamily, puzzle: Puzzle) -> None:
        """Draw every token once, on the board of `puzzle`."""
        letters = {symbol: letter.upper() for letter, symbol in SPOKEN.items()}
        self._keys = {token: letters.get(family.symbols[token], family.symbols[token]) for token in family.writable}
        width, height = family.board_size
        left = MARGIN + width + MARGIN + 20
        rows = -(-len(family.writable) // _ROW)
        top = MARGIN + height + MARGIN - _ABOVE_VERDICT - rows * (_SIDE + 18)
        self._swatches = {
            token: pygame.Rect(left + k % _ROW * (_SIDE + _GAP), top + k // _ROW * (_SIDE + 18), _SIDE, _SIDE)
            for k, token in enumerate(family.writable)
        }
        self._pictures = {token: _picture(family, puzzle, token) for token in family.writable}
        assert left + _ROW * (_SIDE + _GAP) - _GAP <= MARGIN + width + MARGIN + PANEL - 20

    def at(self, place: tuple[int, int]) -> int | None:
        """The token whose swatch is under a pixel of the picture."""
        return next((token for token, area in self._swatches.items() if area.collidepoint(place)), None)

    def paint(self, picture: pygame.Surface, chosen: int | None) -> None:
        """Draw the swatches with their keys; the chosen one is framed."""
        for token, area in self._swatches.items():
            picture.blit(self._pictures[token], area)
            if token == chosen:
                pygame.draw.rect(picture, PAPER, area.inflate(8, 8), 2, border_radius=4)
            else:
                pygame.draw.rect(picture, SLATE, area, 1)
            words = lettering(self._keys[token], 18, PAPER if token == chosen else DIM)
            picture.blit(words, words.get_rect(midtop=(area.centerx, area.bottom + 4)))


def _picture(family: PuzzleFamily, puzzle: Puzzle, token: int) -> pygame.Surface:
    """The first free cell of a board that shows `token` in all of them."""
    board = pygame.Surface(family.board_size, 0, 24)
    free = family.free(puzzle.clues)
    family.draw(board, puzzle, np.where(free, np.uint8(token), puzzle.clues), None)
    row, column = divmod(int(np.argmax(free)), puzzle.shape[1])
    cell = board.subsurface(pygame.Rect(Cells.of(family, puzzle.shape).rect(row, column)).inflate(-4, -4))
    return pygame.transform.smoothscale(cell, (_SIDE, _SIDE))


Place = tuple[int, int]
Notes = tuple[tuple[str, str], ...]

ARROWS = {pygame.K_UP: (-1, 0), pygame.K_RIGHT: (0, 1), pygame.K_DOWN: (1, 0), pygame.K_LEFT: (0, -1)}
WALKING = {
    **{key: move for move, key in enumerate(ARROWS)},
    **{pygame.K_w: 0, pygame.K_d: 1, pygame.K_s: 2, pygame.K_a: 3},
}
"""Key -> move of move mode."""

HANDING_IN = (pygame.K_RETURN, pygame.K_KP_ENTER, pygame.K_h)
_LEFT, _SMALL = 1, 24
"""The left button of the mouse; a cell of this many pixels gets a thinner frame."""


class Hand(ABC):
    """How a person gives actions in one mode.

    Attributes:
        puzzle: the puzzle on the board.
        notes: keys and what they do, a few words each.
    """

    puzzle: Puzzle
    notes: Notes

    def begin(self, puzzle: Puzzle) -> None:
        """A new puzzle, or the same one again, is on the board."""
        self.puzzle = puzzle

    @abstractmethod
    def actions(self, event: pygame.event.Event, shown: Grid) -> list[int]:
        """The actions that an event means, none for most.

        Args:
            event: of pygame; its place, if it has one, in pixels of the picture.
            shown: (H, W) uint8, the answer on the board.
        """

    @abstractmethod
    def paint(self, picture: pygame.Surface) -> None:
        """Draw on top of the environment's picture what the hand points at."""


class WalkingHand(Hand):
    """Arrows or W, A, S, D walk."""

    notes = (("Arrows / WASD", "walk"),)

    def actions(self, event: pygame.event.Event, shown: Grid) -> list[int]:
        """The move of a key; a key held down walks on."""
        known = event.type == pygame.KEYDOWN and event.key in WALKING
        return [WALKING[event.key]] if known else []

    def paint(self, picture: pygame.Surface) -> None:
        """Nothing: the board shows the walker."""


class CellHand(Hand):
    """What typing and painting share: a cursor, moved by arrows, and Enter that submits the answer.

    Attributes:
        cursor: (row, column) of the cell in hand.
    """

    def __init__(self, family: PuzzleFamily, puzzle: Puzzle) -> None:
        """Find the cells of the family's picture."""
        self._family, self._shape = family, puzzle.shape
        shape = puzzle.shape
        self._cells = Cells.of(family, shape)
        self._halt = shape[0] * shape[1] * len(family.writable)
        self._letters = {family.symbols[token].lower(): token for token in family.writable}
        self.cursor = (0, 0)

    def begin(self, puzzle: Puzzle) -> None:
        """Put the cursor on the first cell that may be written."""
        super().begin(puzzle)
        self._free = self._family.free(puzzle.clues)
        row, column = divmod(int(np.argmax(self._free)), self._shape[1])
        self.cursor = (row, column)

    def actions(self, event: pygame.event.Event, shown: Grid) -> list[int]:
        """Halt on Enter or H, nothing for arrows; everything else is for `use`."""
        if event.type == pygame.KEYDOWN and event.key in HANDING_IN and self._typed(event) is None:
            return [self._halt]
        if event.type == pygame.KEYDOWN and event.key in ARROWS:
            step = ARROWS[event.key]
            self.cursor = tuple((self.cursor[k] + step[k]) % self._shape[k] for k in (0, 1))  # type: ignore[assignment]
            return []
        return self.use(event, shown)

    @abstractmethod
    def use(self, event: pygame.event.Event, shown: Grid) -> list[int]:
        """The actions that any other event means."""

    def paint(self, picture: pygame.Surface) -> None:
        """A frame around the cell in hand."""
        left, top, width, height = self._cells.rect(*self.cursor)
        frame = pygame.Rect(MARGIN + left, MARGIN + top, width, height)
        thick = 3 if width > _SMALL else 2
        pygame.draw.rect(picture, WHITE, frame.inflate(2 * thick + 2, 2 * thick + 2), 2, border_radius=thick + 2)
        pygame.draw.rect(picture, BLUE, frame.inflate(2 * thick - 2, 2 * thick - 2), thick, border_radius=thick)

    def _under(self, place: Place) -> tuple[int, int] | None:
        """The cell under a pixel of the picture."""
        return self._family.cell_at(self._shape, (place[0] - MARGIN, place[1] - MARGIN))

    def _typed(self, event: pygame.event.Event) -> int | None:
        """The token that a key stands for."""
        letter = event.unicode.lower() if event.type == pygame.KEYDOWN else ""
        return self._letters.get(letter, self._letters.get(SPOKEN.get(letter, "")))

    def _write(self, cell: tuple[int, int], token: int, shown: Grid) -> list[int]:
        """The action that writes `token`; none where it stands already, or the puzzle gave the cell."""
        if not self._free[cell] or shown[cell] == token:
            return []
        flat = cell[0] * self._shape[1] + cell[1]
        return [flat * len(self._family.writable) + self._family.writable.index(token)]


class TypingHand(CellHand):
    """A click or the arrows choose a cell, a key writes into it."""

    notes = (("Click / arrows", "choose a cell"), ("Digit", "write (over)"), ("Enter / H", "hand in"))

    def use(self, event: pygame.event.Event, shown: Grid) -> list[int]:
        """Move the cursor, or write what was typed."""
        if event.type == pygame.MOUSEBUTTONDOWN and event.button == _LEFT:
            self.cursor = self._under(event.pos) or self.cursor
        token = self._typed(event)
        return [] if token is None else self._write(self.cursor, token, shown)


class PaintingHand(CellHand):
    """A click paints a cell, dragging a line of them; Space paints the cell in hand.

    Where there are two things to paint, a click turns one into the other, and a drag continues it. Otherwise the
    colour is chosen by its key or from a palette, which shows the tokens as the board does.

    Attributes:
        token: what is painted, None where every click finds out.
    """

    def __init__(self, family: PuzzleFamily, puzzle: Puzzle) -> None:
        """Lay the palette out if there is something to choose."""
        super().__init__(family, puzzle)
        self._palette = Palette(family, puzzle) if len(family.writable) > 2 else None
        self.token = family.writable[-1] if self._palette else None
        self._dragging: tuple[Place, int] | None = None
        choice: Notes = (("Key / palette", "choose"), ("Click, drag, Space", "paint"))
        toggle: Notes = (("Click / Space", "draw or clear"), ("Drag", "draw a line"))
        self.notes = (*(choice if self._palette else toggle), ("Enter", "hand in"))

    def begin(self, puzzle: Puzzle) -> None:
        """Lift the brush."""
        super().begin(puzzle)
        self._dragging = None

    def use(self, event: pygame.event.Event, shown: Grid) -> list[int]:
        """Choose, or paint."""
        if event.type == pygame.MOUSEBUTTONUP:
            self._dragging = None
        elif event.type == pygame.MOUSEBUTTONDOWN and event.button == _LEFT:
            return self._press(event.pos, shown)
        elif event.type == pygame.MOUSEMOTION and self._dragging is not None:
            return self._drag(event.pos, shown)
        elif event.type == pygame.KEYDOWN and event.key == pygame.K_SPACE:
            return self._write(self.cursor, self._brush(shown), shown)
        elif self._palette is not None:
            self.token = self._typed(event) or self.token
        return []

    def paint(self, picture: pygame.Surface) -> None:
        """The cursor, and the palette with the chosen token framed."""
        super().paint(picture)
        if self._palette is not None:
            self._palette.paint(picture, self.token)

    def _press(self, place: Place, shown: Grid) -> list[int]:
        """Choose from the palette, or begin to paint."""
        chosen = self._palette.at(place) if self._palette is not None else None
        self.token = self.token if chosen is None else chosen
        cell = self._under(place)
        if cell is None:
            return []
        self.cursor = cell
        self._dragging = (place, self._brush(shown))
        return self._write(cell, self._dragging[1], shown)

    def _drag(self, place: Place, shown: Grid) -> list[int]:
        """Paint every cell between the last place of the mouse and this one."""
        assert self._dragging is not None
        (x, y), token = self._dragging
        count = max(1, abs(place[0] - x) // 4, abs(place[1] - y) // 4)
        line = [(x + (place[0] - x) * k // count, y + (place[1] - y) * k // count) for k in range(1, count + 1)]
        cells = [cell for cell in dict.fromkeys(map(self._under, line)) if cell is not None]
        self._dragging = (place, token)
        self.cursor = cells[-1] if cells else self.cursor
        return [action for cell in cells for action in self._write(cell, token, shown)]

    def _brush(self, shown: Grid) -> int:
        """The token to paint at the cursor with."""
        if self.token is not None:
            return self.token
        first, second = self._family.writable
        return first if shown[self.cursor] == second else second


def make_hand(family: PuzzleFamily, action_mode: str, puzzle: Puzzle) -> Hand:
    """The hand for puzzles like `puzzle`, given in a mode: walking in move mode, in cell mode painting or typing.

    A board is painted where a cell may be cleared again, or nothing on it is given; else what is written stays until it
    is written over, and typing is the safer way.

    Raises:
        ValueError: for a mode in which a person cannot play.
    """
    if action_mode == "move":
        return WalkingHand()
    if action_mode != "cell":
        raise ValueError(f"expected action mode 'move' or 'cell' for a person, got {action_mode!r}")
    free = family.free(puzzle.clues)
    painted = bool(free.all()) or bool(np.isin(family.blank(puzzle.clues)[free], family.writable).all())
    return PaintingHand(family, puzzle) if painted else TypingHand(family, puzzle)
