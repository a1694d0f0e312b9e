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

import gymnasium as gym
import numpy as np
import pygame
import tyro
from numpy.typing import NDArray

from hrm_gym.agents.agent import Observation
from hrm_gym.envs.puzzle import Puzzle, PuzzleBatch
from hrm_gym.envs.rendering.player import Hand, Notes, make_hand
from hrm_gym.envs.rendering.window import Window
from hrm_gym.evaluation.rollout import Env, Episode, play, puzzle_for
from hrm_gym.evaluation.scores import score, write_json
from hrm_gym.files import check_writable
from hrm_gym.scripts import viewer
from hrm_gym.scripts.options import parse, say

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


def _arg(metavar: str, default: str = "") -> Any:
    """How an option stands in the help: the name of its value, and what holds without it."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=f"(default: {default})" if default else "")


@dataclass(frozen=True)
class PlayConfig:
    """Solve puzzles yourself: walk a maze, fill a Sudoku, paint an ARC grid. The window shows the keys.

    Attributes:
        env_id: A registered environment.
        mode: How you give the answer: walking, or cell by cell.
        seed: Which stream of puzzles.
        source: Take puzzles from the bundled bank (under random symmetries), generate new ones, or play a file.
        data: Play the rows of this data file in order.
        puzzle: Play the puzzle in this text file.
        split: Which part of the puzzles.
        size: Side length of a maze.
        difficulty: Of a Sudoku: easy, medium, hard, extreme.
        box: Rows and columns of a Sudoku's boxes.
        max_steps: Actions a puzzle may take.
        json: Write your figures to this file.
    """

    env_id: Annotated[tyro.conf.Positional[str], _arg("[ENV_ID]", "HRMMaze-v0")] = "HRMMaze-v0"
    mode: Annotated[Literal["move", "cell"] | None, _arg("{move,cell}", "move where there are moves")] = None
    seed: Annotated[int | None, _arg("SEED", "a new one")] = None
    source: Annotated[str, tyro.conf.arg(metavar="bank|generate|FILE")] = "bank"
    data: Annotated[Path | None, _arg("FILE")] = None
    puzzle: Annotated[Path | None, _arg("FILE")] = None
    split: Literal["train", "test"] = "test"
    size: Annotated[int | None, _arg("N", "the environment's own")] = None
    difficulty: Annotated[str | None, _arg("LEVEL", "the environment's own")] = None
    box: Annotated[tuple[int, int] | None, _arg("ROWS COLUMNS", "the environment's own")] = None
    max_steps: Annotated[int | None, _arg("N", "the environment's own")] = None
    json: Annotated[Path | None, _arg("FILE.json")] = None


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym play`.

    Args:
        argv: the arguments after `play`.

    Returns:
        0.

    Raises:
        ValueError: for bad input of any kind, and where no window can be opened; the message fits on one line.
        OSError: for files that cannot be read or written.
    """
    config = parse(PlayConfig, "hrm-gym play", argv)
    if config.json is not None:
        check_writable(config.json)
    env = make_env(config)
    if not viewer.has_display():
        raise ValueError("expected a display to play on, got none: hrm-gym play opens a window")
    numbered = config.data is not None or config.puzzle is not None
    drawn = int.from_bytes(os.urandom(4), "little")
    game = Game(env, None if numbered else drawn if config.seed is None else config.seed)
    try:
        game.run()
    finally:
        game.close()
    _tell(game, config.json)
    return 0


def make_env(config: PlayConfig) -> Env:
    """The environment that a configuration asks for, in the person's mode.

    Raises:
        ValueError, OSError, gymnasium.error.Error: if the id, an option or a file is bad.
    """
    wanted: dict[str, Any] = {"source": config.data or config.source, "split": config.split, "size": config.size}
    wanted |= {"difficulty": config.difficulty, "box": config.box}
    options = {key: value for key, value in wanted.items() if value is not None}
    first = _make(config.env_id, options)
    world: Any = first.unwrapped
    if not hasattr(world, "modes"):
        raise ValueError(f"expected an environment with a board to play on, got {config.env_id}")
    mode = config.mode or ("move" if "move" in world.modes else "cell")
    source = world.puzzle_source if config.puzzle is None else OnePuzzle(_own_puzzle(world, config.puzzle))
    settings = {"action_mode": mode, "render_mode": "rgb_array", "max_steps": config.max_steps}
    return _make(config.env_id, {**options, "source": source, **settings})


def _make(env_id: str, options: dict[str, Any]) -> Env:
    try:
        return gym.make(env_id, disable_env_checker=True, **options)
    except TypeError as error:
        raise ValueError(f"{env_id} does not take these options: {error}") from error


def _own_puzzle(world: Any, path: Path) -> Puzzle:
    """The puzzle in a text file, checked."""
    try:
        puzzle: Puzzle = world.family.make_puzzle(path.read_text(encoding="utf-8"))
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


def _tell(game: Game, path: Path | None) -> None:
    """Print a line a puzzle; write the figures if that is asked for."""
    if game.seed is not None:
        say(f"seed {game.seed}")
    for line in game.lines:
        print(line)
    if path is not None:
        write_json([score(game.episodes)] if game.episodes else [], path)
        say(f"figures: {path}")
