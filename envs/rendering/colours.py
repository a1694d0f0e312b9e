"""The colours that the panel, the boards and the windows share; what only one board has stands in its `drawing.py`."""

from __future__ import annotations

Colour = tuple[int, int, int]
"""Red, green, blue in 0..255."""

GROUND = (15, 23, 42)
"""Behind everything."""

CARD = (30, 41, 59)
"""What lies on the ground: the panel."""

SLATE = (51, 65, 85)
"""Walls, frames, and the empty part of a bar."""

DIM = (148, 163, 184)
"""Text of less weight on the dark panel."""

PAPER = (241, 245, 249)
"""Light cells, and text on the dark panel."""

WHITE = (255, 255, 255)

BLUE = (37, 99, 235)
"""On paper: what the player wrote or walked."""

VIOLET = (124, 58, 237)
"""The frame of a cell that the last segment changed."""

CYAN = (6, 182, 212)
"""The bar of a cell of which the agent is not sure: the longer, the less sure."""

GREEN = (16, 185, 129)
ORANGE = (245, 158, 11)
RED = (220, 38, 38)
"""On paper: what breaks a rule."""

ROSE = (254, 202, 202)
"""A cell in which a rule is broken."""

SKY = (96, 165, 250)
MINT = (52, 211, 153)
AMBER = (251, 191, 36)
CORAL = (248, 113, 113)
"""Blue, green, orange and red as they are read on the dark panel: budget, Q(halt), Q(continue), what is wrong."""

NAMED = tuple(value for name, value in list(globals().items()) if name.isupper())
"""All of them: colours with a meaning, which films keep exactly."""
