"""Text as pictures: rendered large and scaled down, so that small letters are evenly spaced; no display is needed."""

from __future__ import annotations

from functools import lru_cache

import pygame

from hrm_gym.envs.rendering.colours import Colour

_FINE = 4
"""Text is rendered this many times larger and scaled down."""


def lettering(text: str, size: int, colour: Colour, width: int | None = None) -> pygame.Surface:
    """One line of text on a transparent ground; not to be painted on, it is kept for the next call.

    Args:
        text: what to write.
        size: height of the font in pixels.
        colour: of the letters.
        width: most pixels that the line may take; letters in the middle give way to dots.
    """
    shown = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
    pygame.font.init()
    try:
        return _line(shown, size, colour, width)
    except pygame.error:  # fonts do not outlive a `pygame.quit()` by another library
        _font.cache_clear()
        return _line(shown, size, colour, width)


def wrapped(text: str, size: int, width: int) -> list[str]:
    """`text` broken between words into lines of at most `width` pixels."""
    lines: list[str] = []
    for word in text.split():
        if lines and lettering(f"{lines[-1]} {word}", size, (0, 0, 0)).get_width() <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def glyph(symbol: str, height: int, colour: Colour, light: bool = False) -> pygame.Surface:
    """One character, cut to its outline; a fresh surface.

    Args:
        symbol: what to write.
        height: of a digit, in pixels.
        colour: of the character.
        light: whether its strokes are drawn thinner than the font has them.
    """
    pygame.font.init()
    words = pygame.font.Font(None, round(1.5 * _FINE * height)).render(symbol, True, colour)
    box = words.get_bounding_rect()
    cut = words.subsurface(box) if box.width and box.height else words
    drawn = _thinned(cut, max(1, round(_FINE * height / 60)), colour) if light else cut
    area = (max(1, round(drawn.get_width() / _FINE)), max(1, round(drawn.get_height() / _FINE)))
    return pygame.transform.smoothscale(drawn, area)


@lru_cache(maxsize=1024)
def _line(text: str, size: int, colour: Colour, width: int | None) -> pygame.Surface:
    font = _font(size)
    words = font.render(_fitting(text, font, width), True, colour)
    return pygame.transform.smoothscale(words, (words.get_width() // _FINE, words.get_height() // _FINE))


def _fitting(text: str, font: pygame.font.Font, width: int | None) -> str:
    """`text` if it fits, else its beginning and its end with dots in between."""
    shown, kept = text, len(text)
    while width is not None and kept > 1 and font.size(shown)[0] > width * _FINE:
        kept -= 1
        shown = f"{text[: (kept + 1) // 2]}...{text[len(text) - kept // 2 :]}"
    return shown


@lru_cache(maxsize=16)
def _font(size: int) -> pygame.font.Font:
    return pygame.font.Font(None, _FINE * size)


def _thinned(words: pygame.Surface, strokes: int, colour: Colour) -> pygame.Surface:
    """The same shape with `strokes` pixels taken off all around."""
    mask = whole = pygame.mask.from_surface(words)
    for right in (-strokes, 0, strokes):
        for down in (-strokes, 0, strokes):
            mask = mask.overlap_mask(whole, (right, down))
    thin = mask.to_surface(setcolor=colour, unsetcolor=(*colour, 0))
    box = thin.get_bounding_rect()
    return thin.subsurface(box) if box.width and box.height else words
