"""The tokens that a person may paint with, as a row of small pictures in the panel."""

from __future__ import annotations

import numpy as np
import pygame

from hrm_gym.envs.cells import Cells
from hrm_gym.envs.colours import DIM, PAPER, SLATE
from hrm_gym.envs.lettering import lettering
from hrm_gym.envs.puzzle import Puzzle, PuzzleFamily
from hrm_gym.envs.screen import MARGIN, PANEL

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
