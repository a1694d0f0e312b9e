"""Windows for pictures of one size: they scale them to fit, answer the desktop, and return events.

pygame has one queue of events for the whole process. Each window keeps those of the others for them, and leaves alone
what belongs to a window that another library opened; when that library quits pygame, ours are opened again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import pygame

from hrm_gym.envs.rendering.colours import GROUND
from hrm_gym.envs.rendering.deck import Button, Deck

_NAP = 0.02
"""Most seconds that a waiting window leaves the desktop without an answer."""

_REPAINT = (pygame.WINDOWRESIZED, pygame.WINDOWSIZECHANGED, pygame.WINDOWEXPOSED, pygame.VIDEOEXPOSE)

OPEN_WINDOWS: list[Window] = []
"""The windows that are open."""


class Window:
    """Shows pictures, letterboxed when the window has another shape; opened at once, in any number.

    Attributes:
        size: (width, height) of the pictures.
        closed: whether the window is gone, closed by the person or by `close`.
    """

    def __init__(self, size: tuple[int, int], title: str) -> None:
        """Open the window as large as the picture, or as large as the desktop lets it.

        Raises:
            pygame.error: if there is no display to open it on.
        """
        self.size, self.closed = size, False
        self._title = title
        self._picture: pygame.Surface | None = None
        self._events: list[pygame.event.Event] = []
        self._window: Any = None
        self._open()
        if not OPEN_WINDOWS and not _foreign_display():
            pygame.event.clear(pygame.QUIT)  # what a window before this one has left behind
        OPEN_WINDOWS.append(self)

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
        self._surface()  # opened again if need be
        self._take(timeout)
        found, self._events = self._events, []
        if any(event.type in (pygame.QUIT, pygame.WINDOWCLOSE) for event in found):
            self.close()
            return []
        if any(event.type in _REPAINT for event in found):
            self._paint()
        return [self._placed(event) for event in found if event.type not in _REPAINT]

    def wait(self, seconds: float) -> None:
        """Let time pass, or less once the person closes the window; it keeps responding, and what is typed is lost."""
        end = time.monotonic() + seconds
        self.events()
        while not self.closed and (left := end - time.monotonic()) > 0:
            self.events(min(left, _NAP))

    def close(self) -> None:
        """Close the window for good; the display stays as it is, for whoever else uses it."""
        if not self.closed:
            self.closed = True
            OPEN_WINDOWS.remove(self)
            if self._is_alive():
                self._window.destroy()
            self._window = None

    def _open(self) -> None:
        # The object of a window that pygame.quit() destroyed still has its address, which a new window may get; were it
        # collected after that, it would destroy the new one. So all such objects go before a window is opened.
        for window in (self, *OPEN_WINDOWS):
            if not window._is_alive():
                window._window = None
        pygame.display.init()
        self._window = pygame.Window(self._title, _fitting(self.size), resizable=True)
        self._window.get_surface()

    def _is_alive(self) -> bool:
        try:
            return self._window is not None and self._window.get_surface() is not None
        except pygame.error:
            return False

    def _surface(self) -> pygame.Surface:
        """What is painted on; the window is opened again if another library has quit pygame since."""
        if not self._is_alive():
            self._open()
            self._paint()
        return self._window.get_surface()

    def _take(self, timeout: float) -> None:
        """Give every event of the queue to the window it belongs to; one without a window is the caller's."""
        foreign = _foreign_display()
        found = []
        if timeout > 0 and not self._events:
            if foreign:  # their events stay in the queue, and would end a wait at once
                time.sleep(timeout)
            else:
                found.append(pygame.event.wait(max(1, round(1000 * timeout))))
        others = []
        for event in (*found, *pygame.event.get()):
            owner = event.dict.get("window")
            for window in list(OPEN_WINDOWS):
                if window._window is owner or (event.type == pygame.QUIT and not foreign):
                    window._events.append(event)
            if owner is None and not foreign and event.type not in (pygame.QUIT, pygame.NOEVENT):
                self._events.append(event)
            elif foreign and not any(window._window is owner for window in OPEN_WINDOWS):
                others.append(event)
        for event in others:
            pygame.event.post(event)

    def _paint(self) -> None:
        if self._picture is None:
            return
        surface = self._surface()
        area = self._area()
        surface.fill(GROUND)
        fits = area.size == self.size
        surface.blit(self._picture if fits else pygame.transform.smoothscale(self._picture, area.size), area)
        self._window.flip()

    def _area(self) -> pygame.Rect:
        """Where in the window the picture lies."""
        width, height = self._surface().get_size()
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


BACK, PLAY, STEP = pygame.K_LEFT, pygame.K_SPACE, pygame.K_RIGHT
SLOWER, FASTER, REPLAY = pygame.K_DOWN, pygame.K_UP, pygame.K_r
WATCHING = (
    Button("Back", BACK, "Left"),
    Button("Pause / play", PLAY, "Space"),
    Button("Step", STEP, "Right"),
    Button("Slower", SLOWER, "Down"),
    Button("Faster", FASTER, "Up"),
    Button("Replay", REPLAY, "R"),
)
"""Buttons of whatever is watched."""

SPEEDS = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0, 16.0)
_KEPT = 64
"""Pictures that one can go back to."""


def other_speed(speed: float, key: int) -> float:
    """The next speed after SLOWER or FASTER."""
    allowed = [one for one in SPEEDS if (one < speed if key == SLOWER else one > speed)]
    return speed if not allowed else max(allowed) if key == SLOWER else min(allowed)


class LiveView:
    """A window that the first picture opens, and in which every picture stays for its time; it can be paused there.

    Attributes:
        closed: whether the window was closed, by the person or by `close`; then pictures are not shown.
        speed: how many times as fast as usual pictures follow each other.
        paused: whether the newest picture stays until the person continues.
    """

    def __init__(self, size: tuple[int, int], title: str, fps: int) -> None:
        self._size, self._title, self._fps = size, title, fps
        self._window: Window | None = None
        self._deck: Deck | None = None
        self._next = 0.0
        self._pictures: deque[pygame.Surface] = deque(maxlen=_KEPT)
        self._place = 0  # pictures before the newest one that the window shows
        self.closed, self.paused, self.speed = False, False, 1.0

    def show(self, picture: pygame.Surface) -> None:
        """Put a picture in the window, once the one before it was seen for its time, or the person wants to continue.

        Raises:
            pygame.error: if there is no display to open the window on.
        """
        if self.closed:
            return
        if self._window is None:
            self._deck = Deck(WATCHING, self._size[0])
            self._window = Window((self._size[0], self._size[1] + self._deck.height), self._title)
        self._until(lambda: not self.paused and self._place == 0 and time.monotonic() >= self._next)
        self._pictures.append(picture.copy())
        self._paint()
        self._next = time.monotonic() + 1 / (self._fps * self.speed)

    def wait(self, seconds: float) -> None:
        """Let time pass while the window, if there is one, answers the person; less if it is closed, more if paused."""
        end = time.monotonic() + seconds
        self._until(lambda: not self.paused and self._place == 0 and time.monotonic() >= end)

    def close(self) -> None:
        """Close the window for good."""
        if self._window is not None:
            self._window.close()
        self.closed = True

    def _until(self, over: Callable[[], bool]) -> None:
        """Answer the person until it is `over`, a step is asked for, or the window is closed."""
        stepped = False
        if self._window is not None:
            for event in self._window.events():
                stepped |= self._answer(event)
        while self._window is not None and not self._window.closed and not stepped and not over():
            for event in self._window.events(_NAP):
                stepped |= self._answer(event)
        self.closed |= self._window is not None and self._window.closed

    def _answer(self, event: pygame.event.Event) -> bool:
        """Do what a key means; True if it asks for the next picture."""
        assert self._deck is not None
        event = self._deck.keyed(event, self._size[1])
        key, wanted = (event.key if event.type == pygame.KEYDOWN else None), False
        if key == PLAY:
            self.paused, self._place = not (self.paused or self._place), 0
        elif key == BACK:
            self.paused, self._place = True, min(self._place + 1, len(self._pictures) - 1)
        elif key == STEP:
            self.paused, wanted, self._place = True, self._place == 0, max(self._place - 1, 0)
        elif key in (SLOWER, FASTER):
            self.speed = other_speed(self.speed, key)
        elif key == REPLAY:
            self.paused, self._place = True, len(self._pictures) - 1
        else:
            return False
        self._paint()
        return wanted

    def _paint(self) -> None:
        if self._window is None or self._deck is None or not self._pictures:
            return
        whole = pygame.Surface(self._window.size)
        whole.blit(self._pictures[-1 - self._place], (0, 0))
        ago = f", {self._place} before the newest" if self._place else ""
        line = f"{'paused' if self.paused else 'running'}{ago}; speed {self.speed:g}"
        self._deck.paint(whole, self._size[1], line, {PLAY} if self.paused else ())
        self._window.show(whole)


def _foreign_display() -> bool:
    """Whether another library has opened pygame's main window, which ours never are."""
    return pygame.display.get_surface() is not None


def _fitting(size: tuple[int, int]) -> tuple[int, int]:
    """`size`, made smaller where the desktop has no room for it and a title bar."""
    desktops = pygame.display.get_desktop_sizes()
    scale = (
        min([1.0, *(0.92 * room / length for room, length in zip(desktops[0], size, strict=True))]) if desktops else 1.0
    )
    return round(size[0] * scale), round(size[1] * scale)
