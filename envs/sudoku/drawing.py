"""How a Sudoku looks: bold givens, slender blue digits of the player, red broken rules, small digits for thoughts.

Nothing is remembered from picture to picture. What a segment changed and how sure an agent is the screen marks, for
every family alike; here the thought is compared with the board: where the two differ, its digit is drawn small.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil

import numpy as np
import pygame
from numpy.typing import NDArray

from hrm_gym.envs.puzzle import Grid, Thought
from hrm_gym.envs.rendering.colours import BLUE, DIM, GROUND, PAPER, RED, ROSE, SLATE, WHITE
from hrm_gym.envs.rendering.lettering import glyph
from hrm_gym.envs.sudoku.rules import sudoku
from hrm_gym.envs.sudoku.tokens import BLANK, SYMBOLS

_LINE = (203, 213, 225)
_THICK = 3
"""Pixels of the lines around boxes; those between cells have one."""

Place = tuple[int, int]
Masks = tuple[int, ...]


def draw_sudoku(
    surface: pygame.Surface, clues: Grid, answer: Grid, thought: Thought | None, box: tuple[int, int]
) -> None:
    """Paint the board in the middle of `surface`.

    Args:
        surface: where to; the cells are as large as fit.
        clues: (n, n) uint8, the givens.
        answer: (n, n) uint8, any token ids; those that are no digit show as a question mark.
        thought: its answer is drawn small where the board shows something else. Without one, empty cells show their
            candidates: the digits that are nowhere yet in their row, column and box.
        box: (rows, columns) of a box.
    """
    size = len(clues)
    cell = min(surface.get_size()) // size
    left, top = ((length - cell * size) // 2 for length in surface.get_size())
    masks = surface.get_masks()[:3]
    surface.blit(_paper(size, cell, masks), (left, top))
    looks = zip(*(aspect.ravel().tolist() for aspect in _aspects(clues, answer, thought, box)), strict=True)
    blits = [
        (_tile(cell, masks, size, *look), (left + place % size * cell + 1, top + place // size * cell + 1))
        for place, look in enumerate(looks)
        if look != _EMPTY
    ]
    surface.blits(blits, doreturn=False)
    _draw_boxes(surface, (left, top), cell * size, (cell * box[1], cell * box[0]))


_EMPTY = (BLANK, BLANK, False, BLANK, 0)
"""The look of a cell of which there is nothing to show."""


def small_digits(answer: Grid, thought: Thought | None) -> str:
    """What the small digits of `draw_sudoku` mean; "" where there are none."""
    if not (answer == BLANK).any():
        return ""
    return "small digits: candidates" if thought is None else "small blue digits: not written yet"


def _aspects(
    clues: Grid, answer: Grid, thought: Thought | None, box: tuple[int, int]
) -> tuple[NDArray[np.generic], ...]:
    """Five (n, n) arrays: given token, shown token, whether it is wrong, the token thought of, candidates as bits."""
    family = sudoku(box)
    wrong = family.violations(clues[None], answer[None])[0]
    if thought is not None:
        small = np.where((thought.answer != answer) & (clues == BLANK), thought.answer, BLANK)
        return clues, answer, wrong, small, np.zeros(clues.shape, np.int64)
    bits = family.candidates(answer[None])[0] @ (1 << np.arange(len(clues)))
    return clues, answer, wrong, np.full(clues.shape, BLANK), np.where(clues == BLANK, bits.reshape(clues.shape), 0)


@lru_cache(maxsize=16)
def _paper(size: int, cell: int, masks: Masks) -> pygame.Surface:
    """White cells and the lines between them; pixels laid out as `masks` say, for a fast copy."""
    layer = pygame.Surface((size * cell, size * cell), 0, 24, (*masks, 0))
    layer.fill(_LINE)
    for place in range(size * size):
        layer.fill(WHITE, (place % size * cell + 1, place // size * cell + 1, cell - 1, cell - 1))
    return layer


@lru_cache(maxsize=8192)
def _tile(
    cell: int, masks: Masks, size: int, given: int, shown: int, wrong: bool, small: int, candidates: int
) -> pygame.Surface:
    """One cell without its lines."""
    tile = pygame.Surface((cell - 1, cell - 1), 0, 24, (*masks, 0))
    tile.fill(ROSE if wrong else PAPER if given != BLANK else WHITE)
    middle = tile.get_rect().center
    if shown != BLANK:
        own = given != shown
        digit = glyph(_symbol(shown, size), cell // 2, RED if wrong else BLUE if own else GROUND, light=own)
        tile.blit(digit, digit.get_rect(center=middle))
    if given not in (BLANK, shown):
        digit = glyph(_symbol(given, size), cell // 5, GROUND)
        tile.blit(digit, (cell // 10, cell // 10))
    if small != BLANK:
        alone = shown == BLANK
        digit = glyph(_symbol(small, size), cell * 3 // 10 if alone else cell // 5, BLUE)
        corner = digit.get_rect(topright=(cell - 1 - cell // 10, cell // 10))
        tile.blit(digit, digit.get_rect(center=middle) if alone else corner)
    across = ceil(size**0.5)
    height = max(5, 2 * cell // (3 * across)) if across < 4 else cell // across - 2
    for place in range(size) if candidates else ():
        if candidates >> place & 1:
            row, column = divmod(place, across)
            digit = glyph(_symbol(place + 1 + BLANK, size), height, DIM)
            x, y = ((2 * k + 1) * cell // (2 * across) for k in (column, row))
            tile.blit(digit, digit.get_rect(center=(x, y)))
    return tile


def _symbol(token: int, size: int) -> str:
    """The digit of a token, a question mark for a token that is none."""
    return SYMBOLS[token] if BLANK < token <= BLANK + size else "?"


def _draw_boxes(surface: pygame.Surface, corner: Place, side: int, step: Place) -> None:
    """Thick lines between boxes `step` pixels apart, and around the board, which lies inside its outline."""
    left, top = corner
    for x in range(0, side + 1, step[0]):
        surface.fill(SLATE, (left + _thick(x, side), top, _THICK, side))
    for y in range(0, side + 1, step[1]):
        surface.fill(SLATE, (left, top + _thick(y, side), side, _THICK))


def _thick(middle: int, side: int) -> int:
    """Where a thick line around `middle` begins, inside the board."""
    return min(max(middle - _THICK // 2, 0), side - _THICK)
