"""The picture of a halting decision: what the network held after every segment so far, as curves, and the verdict."""

from __future__ import annotations

import numpy as np
import pygame
from numpy.typing import NDArray

from hrm_gym.envs.rendering.colours import AMBER, CORAL, DIM, GROUND, MINT, PAPER, SKY, Colour
from hrm_gym.envs.rendering.lettering import lettering
from hrm_gym.envs.rendering.timeline import Curve, paint_timeline
from hrm_gym.envs.rendering.window import LiveView

SIZE = (640, 400)
"""Width and height of every picture in pixels."""

_PLOT = pygame.Rect(20, 84, 600, 296)
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
        self._write("Halt, or continue?", (20, 18), 34, PAPER)
        self._write(self._bank, (SIZE[0] - 20, 24), 20, DIM, right=True)
        self._write(f"segment {len(shown)} / {budget}, {cost:g} each", (20, 48), 22, DIM)
        values = 1 / (1 + np.exp(-shown.astype(np.float64)))
        curves = [Curve(word, colour, values[:, entry].tolist()) for word, entry, colour in _CURVES]
        events = [""] * (len(shown) - 1) + ["" if solved is None else "halts"]
        paint_timeline(self._frame, _PLOT, curves, budget, events=events)
        if solved is not None:
            paid = float(solved) - cost * len(shown)
            word = "halted: solved" if solved else "halted: not solved"
            self._write(f"{word}, return {paid:.3f}", (SIZE[0] - 20, 47), 24, MINT if solved else CORAL, right=True)
        return self._frame

    def pixels(self, frame: pygame.Surface) -> NDArray[np.uint8]:
        """A fresh (height, width, 3) uint8 RGB array of `frame`."""
        return np.ascontiguousarray(pygame.surfarray.array3d(frame).swapaxes(0, 1))

    def _write(self, text: str, place: tuple[int, int], size: int, colour: Colour, right: bool = False) -> None:
        words = lettering(text, size, colour, SIZE[0] - 40)
        self._frame.blit(words, (place[0] - words.get_width() if right else place[0], place[1]))
