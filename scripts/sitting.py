"""One sitting of a person before the window: an agent that waits for its actions, and the loop over puzzles."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pygame
from numpy.typing import NDArray

from hrm_gym.agents.agent import Observation
from hrm_gym.envs.player import Hand, Notes, make_hand
from hrm_gym.envs.window import Window
from hrm_gym.episode import Episode
from hrm_gym.rollout import Env, play, puzzle_for

NEXT, AGAIN, QUIT = "next", "again", "quit"
_COMMANDS = {pygame.K_n: NEXT, pygame.K_r: AGAIN, pygame.K_ESCAPE: QUIT}
_GOING_ON = {**_COMMANDS, pygame.K_SPACE: NEXT, pygame.K_RETURN: NEXT, pygame.K_KP_ENTER: NEXT}
_COMMAND_NOTES: Notes = (("N", "next puzzle"), ("R", "same again"), ("?", "hide or show this"), ("Escape", "quit"))
_NAP = 1 / 60
"""Most seconds between two looks at keyboard and mouse."""


class Left(Exception):
    """The person left a puzzle before its end; its argument is the command."""


class Person:
    """An agent whose policy sits in front of the window.

    Attributes:
        name: for the records.
        action_mode: the mode of the environment.
        steps: actions taken on the present puzzle.
    """

    name = "person"

    def __init__(self, env: Env, hand: Hand) -> None:
        """Open the window.

        Raises:
            pygame.error: if that cannot be done.
        """
        world: Any = env.unwrapped
        self._world, self.action_mode = world, str(world.action_mode)
        self._hand, self._helping, self.steps = hand, True, 0
        self._events: deque[pygame.event.Event] = deque()
        self._actions: deque[int] = deque()
        self._held: set[int] = set()
        height, width = world.render().shape[:2]
        self.window = Window((width, height), f"hrm_gym: {world.family.title}")
        if self.action_mode == "move":
            pygame.key.set_repeat(250, 70)

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.int64], Any]:
        """The next action, waited for.

        Raises:
            Left: if the person wants another puzzle, this one again, or to quit.
        """
        if episode_start is not None and episode_start.any():
            self._actions.clear()
            self._hand.begin(self._world.puzzle)
            self.steps = 0
        while not self._actions:
            event = self._next_event(_COMMANDS)
            if event is not None:
                self._actions.extend(self._hand.actions(event, observation["answer"][0]))
        self.steps += 1
        return np.array([self._actions.popleft()]), None

    def thoughts(self) -> None:
        """What a person thinks is not known."""
        return None

    def go_on(self, episode: Episode) -> str:
        """Show how a puzzle ended, and wait for the command what to do now."""
        self._events.clear()
        figures = (f"{episode.total_return:.2f}", str(episode.steps), f"{episode.seconds:.0f} s")
        told = tuple(zip(("Reward", "Steps", "Time"), figures, strict=True))
        self._world.set_caption("You", (*told, ("", ""), ("Space / N", "next puzzle"), *_COMMAND_NOTES[1::2]))
        self._show()
        try:
            while True:
                self._next_event(_GOING_ON, repaint=False)
        except Left as left:
            return str(left)

    def _next_event(self, commands: dict[int, str], repaint: bool = True) -> pygame.event.Event | None:
        """One event, None if nothing happens for a moment; the picture is brought up to date before a wait."""
        if not self._events:
            if repaint:
                self._world.set_caption("You", (*self._hand.notes, *_COMMAND_NOTES) if self._helping else ())
                self._show()
            self._events.extend(self._wait())
        if self.window.closed:
            raise Left(QUIT)
        event = self._events.popleft() if self._events else None
        if event is not None and event.type == pygame.KEYUP:
            self._held.discard(event.key)
        if event is not None and event.type == pygame.KEYDOWN and event.key not in self._held:
            self._held.add(event.key)
            self._helping ^= event.unicode == "?" or event.key == pygame.K_F1
            if event.key in commands:
                raise Left(commands[event.key])
        return event

    def _wait(self) -> list[pygame.event.Event]:
        """The next events, once there are any, or none if the window was closed."""
        found: list[pygame.event.Event] = []
        while not found and not self.window.closed:
            found = self.window.events(_NAP)
        return found

    def _show(self) -> None:
        """The environment's picture, with what the hand points at on top of it."""
        pixels = np.ascontiguousarray(self._world.render())
        picture = pygame.image.frombuffer(pixels.tobytes(), pixels.shape[1::-1], "RGB")
        self._hand.paint(picture)
        self.window.show(picture)


@dataclass
class Game:
    """One sitting: puzzle after puzzle until the person quits.

    Attributes:
        env: in a person's mode, made with `render_mode="rgb_array"`.
        seed: which stream of puzzles; None plays those of a file.
        episodes: the puzzles that were played to their end.
        lines: what to tell of each puzzle.
    """

    env: Env
    seed: int | None
    episodes: list[Episode] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        world: Any = self.env.unwrapped
        first = puzzle_for(self.env, self.seed, 0)
        world.reset(options={"puzzle": first})
        hand = make_hand(world.family, world.action_mode, first)
        try:
            self.person = Person(self.env, hand)
        except pygame.error as error:
            raise ValueError(f"expected a display to play on, got none: {error}") from error

    def run(self) -> None:
        """Play until the person quits or closes the window."""
        count = None if self.seed is not None else len(self.env.unwrapped.puzzle_source)  # type: ignore[attr-defined]
        index, command = 0, AGAIN
        while command != QUIT:
            index += command == NEXT
            command = self._play(index if count is None else index % count)

    def close(self) -> None:
        """Close window and environment."""
        self.person.window.close()
        self.env.close()

    def _play(self, index: int) -> str:
        """Play one puzzle; returns what to do next."""
        try:
            episode = play(self.env, self.person, index, self.seed)
        except Left as left:
            if self.person.steps:
                name = puzzle_for(self.env, self.seed, index).name
                self.lines.append(f"{index}: {name}: left after {_steps(self.person.steps)}")
            return str(left)
        self.episodes.append(episode)
        verdict = "solved" if episode.solved else "not solved"
        self.lines.append(
            f"{index}: {episode.puzzle.name}: {verdict}, {_steps(episode.steps)},"
            f" reward {episode.total_return:.2f}, {episode.seconds:.1f} s"
        )
        return self.person.go_on(episode)


def _steps(count: int) -> str:
    return f"{count} step{'' if count == 1 else 's'}"
