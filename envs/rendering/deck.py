"""A strip of buttons below a picture; each stands for a key and is labelled with it: a click becomes that key."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import pygame

from hrm_gym.envs.rendering.colours import CARD, CORAL, DIM, GROUND, PAPER, SLATE, VIOLET
from hrm_gym.envs.rendering.lettering import lettering

_ROW, _GAP, _LINE = 30, 6, 24


class Button(NamedTuple):
    """What a button says, the key it stands for, and how that key is called ("" says no more than `words`)."""

    words: str
    key: int
    letter: str


class Deck:
    """Buttons in as many rows as they need, and a line of text above them.

    Attributes:
        height: pixels of the whole strip.
    """

    def __init__(self, buttons: Sequence[Button], width: int) -> None:
        """Lay the buttons out in `width` pixels."""
        self._width, self._places = width, list[tuple[Button, pygame.Rect]]()
        x, y = _GAP * 2, _LINE
        for button in buttons:
            need = lettering(button.words, 20, PAPER).get_width() + lettering(_told(button), 16, DIM).get_width() + 26
            if x + need > width - _GAP and x > _GAP * 2:
                x, y = _GAP * 2, y + _ROW + _GAP
            self._places.append((button, pygame.Rect(x, y, need, _ROW)))
            x += need + _GAP
        self.height = y + _ROW + _GAP + 2

    def place(self, key: int) -> tuple[int, int]:
        """The middle of a key's button, in pixels of the strip."""
        return next(area.center for button, area in self._places if button.key == key)

    def keyed(self, event: pygame.event.Event, top: int) -> pygame.event.Event:
        """The event; a click on a button as a press of its key. `top` is where the strip begins in the picture."""
        if event.type != pygame.MOUSEBUTTONDOWN or event.button != 1:
            return event
        for button, area in self._places:
            if area.move(0, top).collidepoint(event.pos):
                letter = button.letter.lower() if len(button.letter) == 1 else ""
                return pygame.event.Event(pygame.KEYDOWN, key=button.key, unicode=letter, mod=0)
        return event

    def paint(
        self,
        picture: pygame.Surface,
        top: int,
        line: str,
        lit: Collection[int] = (),
        dim: Collection[int] = (),
        alarm: bool = False,
    ) -> None:
        """Draw the strip.

        Args:
            picture: at least as wide as the strip.
            top: where it begins.
            line: the text above the buttons.
            lit: keys whose buttons are in force.
            dim: keys whose buttons do nothing now.
            alarm: whether the text is about something that went wrong.
        """
        picture.fill(GROUND, (0, top, picture.get_width(), self.height))
        picture.blit(lettering(line, 20, CORAL if alarm else PAPER, self._width - 4 * _GAP), (2 * _GAP, top + 4))
        for button, place in self._places:
            area = place.move(0, top)
            pygame.draw.rect(picture, VIOLET if button.key in lit else CARD, area, border_radius=7)
            pygame.draw.rect(picture, SLATE, area, 1, border_radius=7)
            words = lettering(button.words, 20, SLATE if button.key in dim else PAPER)
            letter = lettering(_told(button), 16, SLATE if button.key in dim else DIM)
            picture.blit(words, words.get_rect(midleft=(area.left + 9, area.centery)))
            picture.blit(letter, letter.get_rect(midright=(area.right - 8, area.centery + 1)))


def _told(button: Button) -> str:
    return "" if button.letter == button.words else button.letter
