"""The window in which agents are watched: side by side and in step, forwards and back, at any speed.

A worker thread runs the agents, so the window answers while they think. Pictures are painted from recorded moments,
never from a running environment: so going back is free, and an agent that continues from an earlier moment starts from
its record. An agent's state is immutable, which makes that exact.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pygame

from hrm_gym.agents.agent import Agent, PrivilegedAgent
from hrm_gym.agents.baselines import AnswerKeeper
from hrm_gym.envs.puzzle import Grid, Moment, Puzzle
from hrm_gym.envs.rendering.colours import BLUE, WHITE
from hrm_gym.envs.rendering.deck import Button, Deck
from hrm_gym.envs.rendering.screen import MARGIN, Cells
from hrm_gym.envs.rendering.window import BACK, FASTER, PLAY, REPLAY, SLOWER, STEP, WATCHING, Window, other_speed
from hrm_gym.evaluation.films import Player, columns_for, tiled
from hrm_gym.evaluation.rollout import Env, caption, puzzle_for

NEXT, EDIT, MORE, ON, QUIT = pygame.K_n, pygame.K_e, pygame.K_PLUS, pygame.K_t, pygame.K_ESCAPE
FROM_HERE, RESTART, CLEAR = pygame.K_RETURN, pygame.K_f, pygame.K_c
BUTTONS = (
    *WATCHING,
    Button("Next puzzle", NEXT, "N"),
    Button("Edit the puzzle", EDIT, "E"),
    Button("8 segments more", MORE, "+"),
    Button("Continue", ON, "T"),
    Button("Quit", QUIT, "Esc"),
)
EDITING = (
    Button("Continue from here", FROM_HERE, "Enter"),
    Button("Solve from the start", RESTART, "F"),
    Button("Clear the board", CLEAR, "C"),
    Button("Discard changes", QUIT, "Esc"),
)
_ALIASES = {pygame.K_EQUALS: MORE, pygame.K_KP_PLUS: MORE, pygame.K_KP_ENTER: FROM_HERE, pygame.K_q: QUIT}
_ARROWS = {pygame.K_UP: (-1, 0), pygame.K_RIGHT: (0, 1), pygame.K_DOWN: (1, 0), pygame.K_LEFT: (0, -1)}
_NAMES = {"#": "wall", " ": "open", "S": "start", "G": "goal", ".": "empty"}
"""Words on the buttons of tokens."""

_TOKEN = 1 << 20
"""Key of the button of token 0: no real key has such a number."""

_PICTURES_A_SECOND, _NAP, _MORE = 2.5, 0.02, 8


class Step(NamedTuple):
    """A moment of one player, the observation and the agent's state there, and whether the episode has ended."""

    moment: Moment
    observation: dict[str, Any]
    state: Any
    last: bool


class Seat:
    """One agent with its environment, and all its steps on the present puzzle."""

    def __init__(self, env: Env, agent: Agent) -> None:
        world: Any = env.unwrapped
        self.env, self.agent, self.world = env, agent, world
        self.world.set_caption(caption(agent))
        self.env.reset()  # wrappers want one; the puzzles come through `begin`
        self.steps: list[Step] = []
        self.counts_segments = self.world.action_mode == "answer"

    def begin(self, puzzle: Puzzle) -> None:
        """Put a puzzle before the agent, unchecked."""
        observation = self.world.begin(puzzle)
        self.steps = [Step(self.world.moment(), observation, None, False)]

    def advance(self) -> None:
        """One action of the agent, unless its episode has ended."""
        now = self.steps[-1]
        if now.last:
            return
        if isinstance(self.agent, PrivilegedAgent) and now.state is None:
            self.agent.see([now.moment.puzzle])
        rows = {name: value[None] for name, value in now.observation.items()}
        starts = np.array([now.state is None])
        actions, state = self.agent.predict(rows, state=now.state, episode_start=starts, deterministic=True)
        thoughts = self.agent.thoughts()
        self.world.set_thought(thoughts[0] if thoughts else None)
        observation, _, terminated, truncated, _ = self.env.step(actions[0])
        self.steps.append(Step(self.world.moment(), observation, state, bool(terminated or truncated)))

    def resume(self, place: int, puzzle: Puzzle | None = None) -> None:
        """Go on from step `place`, with another puzzle if one is given; what came after it is forgotten.

        An agent that had ended before stays at its end until then, so that all show the same puzzle in every round. An
        answer that was found for another puzzle is looked for again.
        """
        if not self.counts_segments:
            if puzzle is not None:
                self.begin(puzzle)
            return
        self.steps += [self.steps[-1]] * (place + 1 - len(self.steps))
        step = self.steps[place]
        observation = self.world.resume(step.moment, puzzle)
        state = None if puzzle is not None and isinstance(self.agent, AnswerKeeper) else step.state
        self.steps[place:] = [Step(self.world.moment(), observation, state, False)]

    def raise_budget(self, by: int) -> bool:
        """Allow more segments; whether the last step had ended for want of them."""
        if not self.counts_segments:
            return False
        now = self.steps[-1]
        spent = now.last and now.moment.used >= self.world.max_steps
        self.world.max_steps += by
        self.world.max_segments = self.world.max_steps
        agent: Any = self.agent
        for one in (agent, getattr(agent, "member", None), *getattr(agent, "members", ())):
            if hasattr(one, "max_segments"):
                one.max_segments = max(one.max_segments, self.world.max_steps)
        return bool(spent)


class Show:
    """The window, its players, and what the person asks for.

    Attributes:
        window: where all is shown.
        place: number of the round that is shown.
        playing: whether rounds follow each other by themselves.
        speed: how many times as fast as usual.
        draft: (H, W) uint8, the puzzle that is being edited; None while nothing is.
    """

    def __init__(
        self, players: Sequence[Player], episodes: int, seed: int | None, speed: float = 1.0, hold: float | None = None
    ) -> None:
        """Open the window; the arguments are those of `watch`."""
        self.seats = [Seat(env, agent) for env, agent in players]
        self.family, self._shape = self.seats[0].world.family, tuple(self.seats[0].world.shape)
        self._episodes, self._seed, self._hold = episodes, seed, hold
        source = self.seats[0].world.puzzle_source
        self._count = None if seed is not None else len(source)
        self._pool = ThreadPoolExecutor(1)
        self._work: Future[None] | None = None
        self._waiting: list[Any] = []  # what is done once the worker is idle
        self.index, self.place, self.playing, self.speed = 0, 0, True, speed
        self.draft: Grid | None = None
        self._brush, self._cursor, self._said = 0, (0, 0), ""
        self._begin(puzzle_for(self.seats[0].env, seed, 0))
        self._tile = self._pictures()[0].shape[1::-1]
        self._columns = columns_for(len(self.seats), self._tile)
        width = self._columns * self._tile[0]
        self._height = -(-len(self.seats) // self._columns) * self._tile[1]
        editable = bool(self.family.clue_tokens) and any(seat.counts_segments for seat in self.seats)
        self._deck = Deck([button for button in BUTTONS if editable or button.key != EDIT], width)
        symbols = {token: self.family.symbols[token] for token in self.family.clue_tokens}
        tokens = [Button(_NAMES.get(symbol, symbol), _TOKEN + token, symbol) for token, symbol in symbols.items()]
        self._letters = {symbol.lower(): token for token, symbol in symbols.items()}
        self._editing = Deck([*tokens, *EDITING], width)
        size = (width, self._height + max(self._deck.height, self._editing.height))
        self.window = Window(size, f"hrm_gym: {', '.join(seat.agent.name for seat in self.seats)}")

    @property
    def rounds(self) -> int:
        """How many rounds have been thought."""
        return max(len(seat.steps) for seat in self.seats)

    @property
    def over(self) -> bool:
        """Whether every episode has ended."""
        return all(seat.steps[-1].last for seat in self.seats)

    @property
    def thinking(self) -> bool:
        """Whether the worker is busy."""
        return self._work is not None

    def run(self) -> None:
        """Answer the person until the window is closed."""
        due, painted, state = time.monotonic(), (), ()  # type: float, tuple[Any, ...], tuple[Any, ...]
        try:
            while not self.window.closed:
                for event in self.window.events(_NAP):
                    self.answer(event)
                self.work()
                now = time.monotonic()
                if self.playing and now >= due and self.draft is None:
                    if self.place + 1 < self.rounds:
                        self.place += 1
                        ended = self.over and self.place + 1 == self.rounds
                        due = now + (
                            self._hold if ended and self._hold is not None else 1 / (_PICTURES_A_SECOND * self.speed)
                        )
                    elif not self.over:
                        self.think()
                    elif self._hold is None:
                        self.playing = False  # the end stays until the person continues
                    elif self.index + 1 < self._episodes:
                        self._next()
                        due = now + 1 / (_PICTURES_A_SECOND * self.speed)
                    else:
                        break
                state = (self.place, self.rounds, self.playing, self.speed, self.thinking, self.index, self._said)
                draft = None if self.draft is None else (self.draft.tobytes(), self._cursor, self._brush)
                state = (*state, draft, id(self.seats[0].steps[0]))
                if state != painted and not self.window.closed:
                    self.paint()
                    painted = state
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self.window.close()

    # ---- thinking ----

    def think(self) -> None:
        """Let the worker run one more round, unless it is busy."""
        if self._work is None:
            self._work = self._pool.submit(self._round)

    def _round(self) -> None:
        for seat in self.seats:
            seat.advance()

    def work(self) -> None:
        """See what has become of the worker; errors of agents come out here. Then do what had to wait for it."""
        if self._work is not None and self._work.done():
            work, self._work = self._work, None
            work.result()
        while self._work is None and self._waiting:
            self._waiting.pop(0)()

    def _begin(self, puzzle: Puzzle) -> None:
        for seat in self.seats:
            seat.begin(puzzle)
        self.place, self.draft, self._said = 0, None, ""

    def _next(self) -> None:
        self.index += 1
        number = self.index if self._count is None else self.index % self._count
        self._begin(puzzle_for(self.seats[0].env, self._seed, number))
        self.playing = True

    def _raise(self) -> None:
        for seat in self.seats:
            if seat.raise_budget(_MORE):
                seat.resume(len(seat.steps) - 1)
        budgets = {seat.world.max_steps for seat in self.seats if seat.counts_segments}
        self._said = (
            f"up to {', '.join(map(str, sorted(budgets)))} segments" if budgets else "nobody here counts segments"
        )
        self.playing = True

    def _continue(self) -> None:
        for seat in self.seats:
            if seat.counts_segments and min(self.place, len(seat.steps) - 1) == len(seat.steps) - 1:
                if seat.steps[-1].moment.used >= seat.world.max_steps:
                    seat.raise_budget(_MORE)
                if seat.steps[-1].last:
                    seat.resume(len(seat.steps) - 1)
        self.playing = True

    def _use_draft(self, restart: bool) -> None:
        assert self.draft is not None
        draft, self.draft, self._said = self.draft, None, ""
        try:
            puzzle = self.family.make_puzzle(self.family.to_text(draft))
        except ValueError as error:  # teaching: what does it do with a puzzle that cannot be solved?
            puzzle, self._said = Puzzle(draft, draft, name="own puzzle"), f"{error}; they think nevertheless"
        if restart:
            said = self._said
            self._begin(puzzle)
            self._said = said
        else:
            for seat in self.seats:
                seat.resume(self.place, puzzle)
            self.place = min(self.place, self.rounds - 1)
        self.playing = True

    # ---- the person ----

    def answer(self, event: pygame.event.Event) -> None:
        """Do what a key or a click means."""
        if self.draft is not None:
            pressed = self._editing.keyed(event, self._height)
            self._edit(pressed, typed=pressed is event)
            return
        event = self._deck.keyed(event, self._height)
        if event.type != pygame.KEYDOWN:
            return
        key = MORE if event.unicode == "+" else _ALIASES.get(event.key, event.key)
        later = {NEXT: self._next, MORE: self._raise, ON: self._continue, EDIT: self._open_draft}
        if key == QUIT:
            self.window.close()
        elif key in later and (key != EDIT or self.family.clue_tokens):
            self._said = ""
            self._waiting.append(later[key])
        elif key == PLAY:
            self.playing = not self.playing
            if self.playing and self.over and self.place + 1 == self.rounds:
                self.place = 0
        elif key == STEP:
            self.playing = False
            if self.place + 1 < self.rounds:
                self.place += 1
            elif not self.over:
                self.think()
                self._waiting.append(lambda: setattr(self, "place", min(self.place + 1, self.rounds - 1)))
        elif key == BACK:
            self.playing, self.place = False, max(self.place - 1, 0)
        elif key == REPLAY:
            self.playing, self.place = True, 0
        elif key in (SLOWER, FASTER):
            self.speed = other_speed(self.speed, key)

    def _open_draft(self) -> None:
        self.playing, self.draft = False, self._shown(self.seats[0]).moment.puzzle.clues.copy()
        self._brush = self.family.clue_tokens[1]
        self._said = ""

    def _edit(self, event: pygame.event.Event, typed: bool) -> None:
        assert self.draft is not None
        if event.type == pygame.MOUSEBUTTONDOWN and event.button == 1:
            x, y = event.pos
            place = (x % self._tile[0] - MARGIN, y % self._tile[1] - MARGIN)
            cell = self.family.cell_at(self._shape, place) if y < self._height else None
            if cell is not None:
                self._cursor, self.draft = cell, self.family.edited(self.draft, cell, self._brush)
        if event.type != pygame.KEYDOWN:
            return
        key = _ALIASES.get(event.key, event.key)
        # the letters of buttons are commands, though 16x16 Sudokus have an F and a C too
        token = self._letters.get(event.unicode.lower()) if typed and event.unicode else None
        if key >= _TOKEN and key - _TOKEN in self.family.clue_tokens:
            self._brush = key - _TOKEN
        elif key in (pygame.K_BACKSPACE, pygame.K_DELETE, pygame.K_0):
            self.draft = self.family.edited(self.draft, self._cursor, self.family.clue_tokens[0])
        elif token is not None:
            self._brush, self.draft = token, self.family.edited(self.draft, self._cursor, token)
        elif key in _ARROWS:
            row, column = (
                (here + by) % length for here, by, length in zip(self._cursor, _ARROWS[key], self._shape, strict=True)
            )
            self._cursor = (row, column)
        elif key in (FROM_HERE, RESTART):
            self._use_draft(restart=key == RESTART)
        elif key == CLEAR:
            self.draft = self.family.cleared(self.draft)
        elif key == QUIT:
            self.draft = None

    # ---- pictures ----

    def _shown(self, seat: Seat) -> Step:
        return seat.steps[min(self.place, len(seat.steps) - 1)]

    def _pictures(self) -> list[Any]:
        found = []
        for seat in self.seats:
            moment = self._shown(seat).moment
            if self.draft is not None:
                old = moment.puzzle.clues
                answer = np.where(self.draft == old, moment.answer, self.draft)
                puzzle = dataclasses.replace(moment.puzzle, clues=self.draft, name="being edited")
                wrong = int(self.family.count_violations(self.draft[None], answer[None])[0])
                moment = Moment(puzzle, answer, moment.used, moment.budget, wrong, thoughts=moment.thoughts)
            found.append(seat.world.picture(moment))
        return found

    def paint(self) -> None:
        """Show everything as it is now."""
        picture = tiled(self._pictures(), self._columns)
        whole = pygame.Surface(self.window.size)
        whole.blit(pygame.image.frombuffer(picture.tobytes(), picture.shape[1::-1], "RGB"), (0, 0))
        if self.draft is not None:
            left, top, width, height = Cells.of(self.family, self._shape).rect(*self._cursor)
            for number in range(len(self.seats)):
                x, y = number % self._columns * self._tile[0], number // self._columns * self._tile[1]
                frame = pygame.Rect(x + MARGIN + left, y + MARGIN + top, width, height)
                pygame.draw.rect(whole, WHITE, frame.inflate(6, 6), 2, border_radius=5)
                pygame.draw.rect(whole, BLUE, frame.inflate(2, 2), 3, border_radius=4)
            line = "Choose a symbol and click a cell, or use arrows and keys."
            if not all(seat.counts_segments for seat in self.seats):
                line += " Agents that act step by step restart."
            self._editing.paint(whole, self._height, self._said or line, {_TOKEN + self._brush})
        else:
            doing = "thinking" if self.thinking else "paused" if not self.playing else "playing"
            ended = "; all have ended" if self.over and self.place + 1 == self.rounds else ""
            line = f"Puzzle {self.index + 1}, round {self.place} of {self.rounds - 1} so far; {doing}{ended}"
            line += f"; speed {self.speed:g}" + (f"; {self._said}" if self._said else "")
            self._deck.paint(
                whole, self._height, line, {PLAY} if not self.playing else (), alarm="expected" in self._said
            )
        self.window.show(whole)


def watch(
    players: Sequence[Player], episodes: int, seed: int | None, speed: float = 1.0, hold: float | None = None
) -> None:
    """Show agents on the same puzzles in one window until it is closed.

    Args:
        players: each with an environment of its own, made with `render_mode="rgb_array"`.
        episodes: how many puzzles follow each other by themselves, if they do.
        seed: which stream of puzzles; None plays a data file row by row.
        speed: how many times as fast as usual.
        hold: seconds that the end of a puzzle stays; None waits there for the person.

    Raises:
        pygame.error: if there is no display to open the window on.
    """
    Show(players, episodes, seed, speed, hold).run()
