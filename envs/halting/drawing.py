"""The picture of a halting decision: what the network held after every segment so far, as curves, and the verdict."""

from __future__ import annotations

import numpy as np
import pygame
from numpy.typing import NDArray

from hrm_gym.envs.rendering.colours import AMBER, CARD, CORAL, DIM, GROUND, MINT, PAPER, SKY, SLATE, Colour
from hrm_gym.envs.rendering.lettering import lettering
from hrm_gym.envs.rendering.window import LiveView

SIZE = (640, 400)
"""Width and height of every picture in pixels."""

_PLOT = pygame.Rect(52, 76, 560, 232)
_CURVES: tuple[tuple[str, int, Colour], ...] = (
    ("Q(halt)", 1, MINT),
    ("Q(continue)", 2, AMBER),
    ("mean confidence", 3, SKY),
    ("lowest confidence", 4, DIM),
)
"""Word, entry of the observation, and colour of every curve."""


class HaltingScreen(LiveView):
    """Paints frames; on request shows them in a window."""

    def __init__(self, bank: str, fps: int) -> None:
        pygame.font.init()
        super().__init__(SIZE, "hrm_gym: halting", fps)
        self._bank = bank
        self._frame = pygame.Surface(SIZE)

    def paint(self, shown: NDArray[np.float32], budget: int, cost: float, solved: bool | None) -> pygame.Surface:
        """The frame after some segments.

        Args:
            shown: (k, F) float32, the observations of the segments run so far.
            budget: the most segments.
            cost: of a segment.
            solved: the verdict, None while the episode runs.

        Returns:
            A surface of `SIZE`, valid until the next call.
        """
        self._frame.fill(GROUND)
        self._write("Halt, or think on?", (20, 18), 34, PAPER)
        self._write(self._bank, (SIZE[0] - 20, 24), 20, DIM, right=True)
        self._write(f"segment {len(shown)} / {budget}, {cost:g} each", (20, 48), 22, DIM)
        self._grid(budget)
        for _, entry, colour in reversed(_CURVES):
            self._curve(1 / (1 + np.exp(-shown[:, entry].astype(np.float64))), budget, colour)
        self._legend()
        if solved is not None:
            paid = float(solved) - cost * len(shown)
            word = "halted: solved" if solved else "halted: not solved"
            self._write(f"{word}, return {paid:.3f}", (SIZE[0] - 20, 47), 24, MINT if solved else CORAL, right=True)
        return self._frame

    def pixels(self, frame: pygame.Surface) -> NDArray[np.uint8]:
        """A fresh (height, width, 3) uint8 RGB array of `frame`."""
        return np.ascontiguousarray(pygame.surfarray.array3d(frame).swapaxes(0, 1))

    def _grid(self, budget: int) -> None:
        pygame.draw.rect(self._frame, CARD, _PLOT, border_radius=6)
        for share in (0.0, 0.5, 1.0):
            y = _height(share)
            pygame.draw.line(self._frame, SLATE, (_PLOT.left, y), (_PLOT.right, y))
            self._write(f"{share:g}", (_PLOT.left - 10, y - 7), 20, DIM, right=True)
        every = max(1, budget // 8)
        for segment in range(every, budget + 1, every):
            x = _place(segment, budget)
            self._write(str(segment), (x + 4, _PLOT.bottom + 8), 20, DIM, right=True)

    def _curve(self, values: NDArray[np.float64], budget: int, colour: Colour) -> None:
        points = [(_place(k, budget), _height(float(value))) for k, value in enumerate(values, start=1)]
        if len(points) > 1:
            pygame.draw.lines(self._frame, colour, False, points, 3)
        for point in points:
            pygame.draw.circle(self._frame, colour, point, 5)

    def _legend(self) -> None:
        x = 20
        for word, _, colour in _CURVES:
            pygame.draw.circle(self._frame, colour, (x + 6, SIZE[1] - 30), 6)
            words = lettering(word, 22, PAPER)
            self._frame.blit(words, (x + 20, SIZE[1] - 38))
            x += 20 + words.get_width() + 22

    def _write(self, text: str, place: tuple[int, int], size: int, colour: Colour, right: bool = False) -> None:
        words = lettering(text, size, colour, SIZE[0] - 40)
        self._frame.blit(words, (place[0] - words.get_width() if right else place[0], place[1]))


def _place(segment: int, budget: int) -> int:
    return round(_PLOT.left + _PLOT.width * (segment - 0.5) / budget)


def _height(value: float) -> int:
    return round(_PLOT.bottom - 12 - (_PLOT.height - 24) * value)
