"""A window for pictures of one size: it scales them to fit, answers the desktop, and hands events on."""

from __future__ import annotations

import time
from typing import Any

import pygame

from hrm_gym.envs.rendering.colours import GROUND

_NAP = 0.02
"""Most seconds that a waiting window leaves the desktop without an answer."""

_REPAINT = (pygame.VIDEORESIZE, pygame.VIDEOEXPOSE, pygame.WINDOWEXPOSED)


class Window:
    """Shows pictures, letterboxed when the window has another shape; opened at once.

    pygame has one window a process: opening a second one takes over the first.

    Attributes:
        size: (width, height) of the pictures.
        closed: whether the window is gone, closed by the person or by `close`.
    """

    def __init__(self, size: tuple[int, int], title: str) -> None:
        """Open the window as large as the picture, or as large as the desktop lets it.

        Raises:
            pygame.error: if there is no display to open it on.
        """
        pygame.display.init()
        self.size, self.closed = size, False
        self._surface = pygame.display.set_mode(_fitting(size), pygame.RESIZABLE)
        self._picture: pygame.Surface | None = None
        pygame.display.set_caption(title)
        pygame.event.clear(pygame.QUIT)  # what a window before this one has left behind

    def show(self, picture: pygame.Surface) -> None:
        """Put a picture of `size` in the window; does nothing once that is closed."""
        if not self.closed:
            self._picture = picture.copy()
            self._paint()

    def events(self, timeout: float = 0.0) -> list[pygame.event.Event]:
        """What happened since the last call; places of the mouse are given in pixels of the picture.

        Closing and resizing are dealt with here and do not appear.

        Args:
            timeout: seconds to wait for a first event; 0 does not wait.
        """
        if self.closed:
            return []
        first = pygame.event.wait(max(1, round(1000 * timeout))) if timeout > 0 else None
        found = [event for event in (first, *pygame.event.get()) if event is not None and event.type]
        if any(event.type == pygame.QUIT for event in found):
            self.close()
            return []
        if any(event.type in _REPAINT for event in found):
            self._paint()
        return [self._placed(event) for event in found if event.type not in _REPAINT]

    def wait(self, seconds: float) -> None:
        """Let time pass, or less once the person closes the window; it goes on answering, what is typed is lost."""
        end = time.monotonic() + seconds
        self.events()
        while not self.closed and (left := end - time.monotonic()) > 0:
            self.events(min(left, _NAP))

    def close(self) -> None:
        """Close the window for good."""
        if not self.closed:
            self.closed = True
            pygame.display.quit()

    def _paint(self) -> None:
        if self._picture is None:
            return
        self._surface = pygame.display.get_surface() or self._surface
        area = self._area()
        self._surface.fill(GROUND)
        fits = area.size == self.size
        self._surface.blit(self._picture if fits else pygame.transform.smoothscale(self._picture, area.size), area)
        pygame.display.flip()

    def _area(self) -> pygame.Rect:
        """Where in the window the picture lies."""
        width, height = self._surface.get_size()
        scale = min(width / self.size[0], height / self.size[1])
        area = pygame.Rect(0, 0, max(1, round(self.size[0] * scale)), max(1, round(self.size[1] * scale)))
        area.center = (width // 2, height // 2)
        return area

    def _placed(self, event: pygame.event.Event) -> pygame.event.Event:
        """The event, with its place in the picture."""
        if "pos" not in event.dict:
            return event
        area, fields = self._area(), dict[str, Any](event.dict)
        corner = (area.left, area.top)
        fields["pos"] = tuple((event.pos[k] - corner[k]) * self.size[k] // area.size[k] for k in (0, 1))
        return pygame.event.Event(event.type, fields)


def _fitting(size: tuple[int, int]) -> tuple[int, int]:
    """`size`, made smaller where the desktop has no room for it and a title bar."""
    desktops = pygame.display.get_desktop_sizes()
    scale = (
        min([1.0, *(0.92 * room / length for room, length in zip(desktops[0], size, strict=True))]) if desktops else 1.0
    )
    return round(size[0] * scale), round(size[1] * scale)
