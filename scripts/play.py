"""One sitting of a person before the window: an agent that waits for its actions, and the loop over puzzles.

`hrm-gym play`: a person solves puzzles with keyboard and mouse, under the rules that hold for every agent.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pygame
from numpy.typing import NDArray

from hrm_gym.agents.agent import Observation
from hrm_gym.envs.puzzle import Puzzle, PuzzleBatch
from hrm_gym.envs.rendering.deck import Button, Deck
from hrm_gym.envs.rendering.player import ARROWS, Hand, Notes, TypingHand, make_hand
from hrm_gym.envs.rendering.window import Window
from hrm_gym.evaluation.rollout import Env, Episode, play, puzzle_for
from hrm_gym.evaluation.scores import score, write_json
from hrm_gym.files import check_writable
from hrm_gym.reading import read_text
from hrm_gym.registry import make_env
from hrm_gym.scripts import viewer
from hrm_gym.scripts.options import DEFAULT_EPISODES, Json, PuzzleOptions, Switch, arg, parse
from hrm_gym.scripts.options import Env as EnvOption
from hrm_gym.scripts.output import say

NEXT, AGAIN, QUIT = "next", "again", "quit"
_COMMANDS = {pygame.K_n: NEXT, pygame.K_r: AGAIN, pygame.K_ESCAPE: QUIT}
_GOING_ON = {**_COMMANDS, pygame.K_SPACE: NEXT, pygame.K_RETURN: NEXT, pygame.K_KP_ENTER: NEXT}
_BUTTONS = (
    Button("Next puzzle", pygame.K_n, "N"),
    Button("Same again", pygame.K_r, "R"),
    Button("Keys", pygame.K_F1, "?"),
    Button("Quit", pygame.K_ESCAPE, "Esc"),
)
_WALK = zip(("Up", "Right", "Down", "Left"), ARROWS, strict=True)
_WALKING = tuple(Button(word, key, word) for word, key in _WALK)
_COMMAND_NOTES: Notes = (("N", "next puzzle"), ("R", "same again"), ("?", "hide or show this"), ("Escape", "quit"))
_NAP = 1 / 60
"""Most seconds between two looks at keyboard and mouse."""


class Left(Exception):
    """The person left a puzzle before its end; its argument is the command."""


class Person:
    """A person at keyboard and mouse, as an agent.

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
        own: tuple[Button, ...] = (Button("Hand in", pygame.K_RETURN, "Enter"),)
        if self.action_mode == "move":
            own = _WALKING
        elif isinstance(hand, TypingHand):
            digits = [world.family.symbols[token] for token in world.family.writable]
            own = (*(Button(digit, ord(digit.lower()), digit) for digit in digits), *own)
        self._deck, self._top = Deck((*own, *_BUTTONS), width), height
        self.window = Window((width, height + self._deck.height), f"hrm_gym: {world.family.title}")
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
        event = raw = self._events.popleft() if self._events else None
        if raw is not None:
            event = self._deck.keyed(raw, self._top)
        if event is not None and event is not raw:
            self._held.discard(event.key)  # a click has no key release
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
        whole = pygame.Surface(self.window.size)
        whole.blit(picture, (0, 0))
        self._deck.paint(whole, self._top, "Click, or use the keys")
        self.window.show(whole)


@dataclass
class Game:
    """A session: puzzle after puzzle until the person quits.

    Attributes:
        env: in a person's mode, made with `render_mode="rgb_array"`.
        seed: which stream of puzzles; None plays those of a file.
        most: puzzles after which it ends.
        episodes: the puzzles that were played to their end.
        lines: what is printed of each puzzle.
    """

    env: Env
    seed: int | None
    most: int = DEFAULT_EPISODES
    episodes: list[Episode] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        world: Any = self.env.unwrapped
        first = puzzle_for(self.env, self.seed, 0)
        world.reset(options={"puzzle": first})
        world.step(int(np.flatnonzero(world.action_masks())[0]))  # compiled rules are compiled before the window opens
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
        while command != QUIT and len(self.episodes) < self.most:
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


@dataclass(frozen=True)
class Play(PuzzleOptions):
    """Solve puzzles yourself: walk a maze, fill a Sudoku, paint an ARC grid. The window shows the keys.

    Attributes:
        env: An environment of puzzles: ID, ID:argument=value,… or module:ID.
        mode: How you give the answer: walking, or cell by cell.
        new: Puzzles of a seed drawn by chance, which is printed.
        puzzle: Play the puzzle in this text file.
        max_steps: Actions a puzzle may take.
        json: Write your figures to this file.
    """

    EXAMPLES = (
        ("hrm-gym play", "walk mazes"),
        "hrm-gym play HRMSudoku-v0 --difficulty hard",
        ("hrm-gym play HRMMaze-v0 --puzzle maze.txt", "a puzzle of your own, as text"),
    )
    env: EnvOption = "HRMMaze-v0"
    mode: Annotated[Literal["move", "cell"] | None, arg("{move,cell}", "move where there are moves")] = None
    new: Switch = False
    puzzle: Annotated[Path | None, arg("FILE")] = None
    max_steps: Annotated[int | None, arg("N", "the environment's own")] = None
    json: Json = None


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym play`; returns 0.

    Raises:
        ValueError: for bad input of any kind, and where no window can be opened; the message fits on one line.
    """
    config = parse(Play, "hrm-gym play", argv)
    if config.json is not None:
        check_writable(config.json)
    world = config.world(config.env)
    mode = config.mode or ("move" if "move" in world.modes else "cell")
    env = world.make(mode, "rgb_array")
    if config.puzzle is not None:
        source = OnePuzzle(_own_puzzle(env.unwrapped, config.puzzle))
        options = {**world.options, "source": source, "action_mode": mode, "render_mode": "rgb_array"}
        env = make_env(world.env_id, **options)
    if not viewer.has_display():
        raise ValueError("expected a display to play on, got none: hrm-gym play opens a window")
    drawn = int.from_bytes(os.urandom(4), "little") if config.new else config.seed
    seed = world.seed(drawn) if config.puzzle is None else None
    game = Game(env, seed, config.episodes or config.count(world))
    try:
        game.run()
    finally:
        game.close()
    if game.seed is not None:
        say(f"seed {game.seed}")
    for line in game.lines:
        print(line)
    if config.json is not None:
        write_json([score(game.episodes)] if game.episodes else [], config.json)
        say(f"figures: {config.json}")
    return 0


MOST_TEXT = 2**20
"""Bytes of a puzzle."""


def _own_puzzle(world: Any, path: Path) -> Puzzle:
    """The puzzle in a text file, checked."""
    try:
        puzzle: Puzzle = world.family.make_puzzle(read_text(path, MOST_TEXT))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return puzzle


@dataclass(frozen=True)
class OnePuzzle:
    """A source that has one puzzle."""

    only: Puzzle

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the grid."""
        return self.only.shape

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Puzzle:
        """The puzzle, whatever its number."""
        return self.only

    def puzzle(self, key: int) -> Puzzle:
        """The puzzle, whatever the key."""
        return self.only

    def batch(self, keys: NDArray[np.uint64]) -> PuzzleBatch:
        """The puzzle as often as there are keys."""
        return self.only.repeated(len(keys))
