"""The picture of an environment: the family's board beside a panel that shows what the agent has in mind.

pygame is needed here and in each family's `drawing.py`, nowhere else. A picture without a window needs no display.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pygame
from numpy.typing import NDArray

from hrm_gym.envs.puzzle import Grid, PuzzleFamily, Thought

MARGIN, BOARD, PANEL = 20, 480, 240
SIZE = (MARGIN + BOARD + MARGIN + PANEL, MARGIN + BOARD + MARGIN)
"""(width, height) of every picture in pixels, whatever it shows."""

_GROUND = (15, 23, 42)
_CARD = (30, 41, 59)
_TRACK = (51, 65, 85)
_BRIGHT = (241, 245, 249)
_DIM = (148, 163, 184)
_BLUE = (96, 165, 250)
_GREEN = (52, 211, 153)
_AMBER = (251, 191, 36)
_RED = (248, 113, 113)

_FINE = 4
"""Text is rendered this many times larger and scaled down: even spacing at small sizes."""

_RGB = (0x0000FF, 0x00FF00, 0xFF0000, 0)
"""Masks that lay pixels out in memory as red, green, blue: then an array of them is a plain copy."""

Colour = tuple[int, int, int]


class Screen:
    """Paints frames; on request shows them in a window.

    Attributes:
        closed: whether the person watching has closed the window.
    """

    def __init__(self, family: PuzzleFamily, shape: tuple[int, int], fps: int) -> None:
        pygame.font.init()
        self._family, self._shape, self._fps = family, shape, fps
        self._frame = pygame.Surface(SIZE, 0, 24, _RGB)
        self._ground = self._empty_frame()
        self._fonts = {size: pygame.font.Font(None, _FINE * size) for size in (20, 24, 34)}
        self._words: dict[tuple[str, int, Colour, int], pygame.Surface] = {}
        self._window: pygame.Surface | None = None
        self._clock: Any = None
        self.closed = False

    def paint(self, clues: Grid, answer: Grid, thought: Thought | None, status: dict[str, Any]) -> pygame.Surface:
        """The frame for one state.

        Args:
            clues: (H, W) uint8.
            answer: (H, W) uint8, the answer as the observation shows it.
            thought: what the agent has in mind, if it told.
            status: title, name, caption, unit, used, budget, violations, solved, as `PuzzleEnv` has them.

        Returns:
            A surface of `SIZE`, valid until the next call.
        """
        self._frame.blit(self._ground, (0, 0))
        board = self._frame.subsurface((MARGIN, MARGIN, BOARD, BOARD))
        self._family.draw(board, clues, answer, thought)
        self._panel(thought, status)
        return self._frame

    def pixels(self, frame: pygame.Surface) -> NDArray[np.uint8]:
        """A fresh (height, width, 3) uint8 RGB array of `frame`."""
        memory: Any = frame.get_buffer()
        lines = np.frombuffer(memory, dtype=np.uint8).reshape(SIZE[1], frame.get_pitch())
        return lines[:, : 3 * SIZE[0]].reshape(SIZE[1], SIZE[0], 3).copy()

    def show(self, frame: pygame.Surface) -> None:
        """Put `frame` in the window, opened on first use; keeps time. Does nothing once the window was closed."""
        if self.closed:
            return
        if self._window is None:
            pygame.display.init()
            self._window = pygame.display.set_mode(SIZE)
            pygame.display.set_caption(f"hrm_gym: {self._family.name}")
            self._clock = pygame.time.Clock()
        self._window.blit(frame, (0, 0))
        pygame.display.flip()
        self._clock.tick(self._fps)
        if any(event.type == pygame.QUIT for event in pygame.event.get()):
            self.close()

    def close(self) -> None:
        """Close the window for good; pictures can still be painted."""
        if self._window is not None:
            self._window = None
            pygame.display.quit()
        self.closed = True

    def _empty_frame(self) -> pygame.Surface:
        ground = pygame.Surface(SIZE, 0, 24, _RGB)
        ground.fill(_GROUND)
        pygame.draw.rect(ground, _CARD, (SIZE[0] - PANEL, 0, PANEL, SIZE[1]))
        return ground

    def _panel(self, thought: Thought | None, status: dict[str, Any]) -> None:
        x = SIZE[0] - PANEL + 20
        self._write(status["title"].capitalize(), (x, 24), 34, _BRIGHT)
        self._write(status["name"], (x, 54), 20, _DIM)
        if status["caption"]:
            self._write("Agent", (x, 88), 20, _DIM)
            fits = self._fonts[24].size(status["caption"])[0] <= (PANEL - 40) * _FINE
            self._write(status["caption"], (x, 106), 24 if fits else 20, _BRIGHT)
        used, budget = status["used"], status["budget"]
        self._bar(148, status["unit"].capitalize(), f"{used} / {budget}", used / budget, _BLUE)
        q_halt, q_continue = (thought.q_halt, thought.q_continue) if thought else (None, None)
        self._bar(206, "Q(halt)", _figure(q_halt), q_halt, _GREEN)
        self._bar(264, "Q(continue)", _figure(q_continue), q_continue, _AMBER)
        wrong = status["violations"]
        self._write("Violations", (x, 322), 24, _DIM)
        self._write(str(wrong), (x, 322), 24, _RED if wrong else _BRIGHT, right=True)
        if status["solved"] is not None:
            self._verdict(status["solved"])

    def _bar(self, y: int, label: str, value: str, share: float | None, colour: Colour) -> None:
        x, width = SIZE[0] - PANEL + 20, PANEL - 40
        self._write(label, (x, y), 24, _DIM)
        self._write(value, (x, y), 24, _BRIGHT, right=True)
        pygame.draw.rect(self._frame, _TRACK, (x, y + 24, width, 10), border_radius=5)
        if share is not None:
            filled = round(width * min(max(share, 0.0), 1.0))
            pygame.draw.rect(self._frame, colour, (x, y + 24, filled, 10), border_radius=5)

    def _verdict(self, solved: bool) -> None:
        colour, text = (_GREEN, "Solved") if solved else (_RED, "Not solved")
        box = pygame.Rect(SIZE[0] - PANEL + 20, SIZE[1] - 76, PANEL - 40, 48)
        pygame.draw.rect(self._frame, colour, box, border_radius=12)
        words = self._render(text, 34, _GROUND, box.width - 16)
        self._frame.blit(words, words.get_rect(center=box.center))

    def _write(self, text: str, place: tuple[int, int], size: int, colour: Colour, right: bool = False) -> None:
        """Write one line in the panel at `place`, or ending at the panel's right margin in the same row."""
        words = self._render(text, size, colour, PANEL - 40)
        self._frame.blit(words, (SIZE[0] - 20 - words.get_width(), place[1]) if right else place)

    def _render(self, text: str, size: int, colour: Colour, width: int) -> pygame.Surface:
        key = (text, size, colour, width)
        if key not in self._words:
            if len(self._words) > 512:
                self._words.clear()
            font = self._fonts[size]
            kept = text
            while kept and font.size(kept if kept == text else kept + "...")[0] > width * _FINE:
                kept = kept[:-1]
            words = font.render(kept if kept == text else kept + "...", True, colour)
            area = (words.get_width() // _FINE, words.get_height() // _FINE)
            self._words[key] = pygame.transform.smoothscale(words, area)
        return self._words[key]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
