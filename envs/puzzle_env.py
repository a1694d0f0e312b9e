"""The one Gymnasium environment behind every puzzle family, and its action modes.

A mode owns the action space, what an action does to the board, and when an episode ends by itself. `PuzzleEnv` owns
budget, reward, observation and info.
"""

from __future__ import annotations

import os
import reprlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from hrm_gym.envs.family import Grids, PuzzleFamily
from hrm_gym.envs.puzzle import Grid, Moment, Puzzle, PuzzleSource, Thought, puzzle_key


class ActionMode(ABC):
    """One way of giving an answer.

    Attributes:
        space: the action space.
        shown: (H, W) uint8, the answer as the observation shows it.
        violations: number of cells of `shown` that break a rule.
        before: (H, W) uint8, the answer that was shown before it, where actions are whole answers; else None.
        halt_is_forced: whether using up the budget ends the episode as a halt (terminated), not as a cut (truncated).
    """

    halt_is_forced: ClassVar[bool] = False
    space: gym.Space[Any]
    shown: Grid
    violations: int
    before: Grid | None = None

    def __init__(self, family: PuzzleFamily, shape: tuple[int, int]) -> None:
        self.family, self.shape = family, shape
        self.puzzle: Puzzle

    @abstractmethod
    def default_budget(self) -> int:
        """Actions an episode may have if the user does not say."""

    def begin(self, puzzle: Puzzle) -> None:
        """Show `puzzle` with nothing done yet."""
        self.puzzle = puzzle
        self.shown = self.family.blank(puzzle.clues)
        self.violations, self.before = 0, None

    @abstractmethod
    def act(self, action: Any) -> bool:
        """Execute one action; True if the episode ends by it. ValueError if it is not in the action space."""

    def answer(self) -> Grid:
        """(H, W) uint8, the answer to judge (not to be written to)."""
        return self.shown

    def solved(self) -> bool:
        """Whether the answer is right by the rules."""
        return bool(self.family.judge(*self._boards())[0])

    def verdict(self) -> dict[str, Any]:
        """What info says of the answer at the end, in plain Python numbers; at least solved, exact, cell_accuracy."""
        return {name: values[0].item() for name, values in self.family.verdict(*self._boards()).items()}

    def potential(self) -> float:
        """Phi of the board: the share of counted cells that agree with the stored solution."""
        return float(self.family.cell_accuracy(*self._boards())[0])

    def _boards(self) -> tuple[Grids, Grids, Grids]:
        """Clues, solution and answer, (1, H, W) each: rules are written for a batch."""
        return self.puzzle.clues[None], self.puzzle.solution[None], self.answer()[None]

    @abstractmethod
    def mask(self) -> NDArray[np.bool_]:
        """A fresh bool array with an entry for every action (for MultiDiscrete, factor after factor)."""


class AnswerMode(ActionMode):
    """The whole grid and a halt bit in one action: one segment of an HRM."""

    halt_is_forced = True

    def __init__(self, family: PuzzleFamily, shape: tuple[int, int]) -> None:
        super().__init__(family, shape)
        self._cells = shape[0] * shape[1]
        self._sizes = np.array([family.vocab_size] * self._cells + [2], dtype=np.int64)
        self.space = gym.spaces.MultiDiscrete(self._sizes)

    def default_budget(self) -> int:
        """The paper's 16 segments."""
        return 16

    def act(self, action: Any) -> bool:
        """Take over the grid; True if the halt bit is set."""
        action = _as_array(action)
        if action.shape != (self._cells + 1,):
            raise ValueError(f"expected an action of shape ({self._cells + 1},), got {action.shape}")
        if not np.issubdtype(action.dtype, np.integer):
            raise ValueError(f"expected an action of integers, got dtype {action.dtype}")
        if action.min() < 0 or (action >= self._sizes).any():
            place = int(np.argmax((action < 0) | (action >= self._sizes)))
            last = self._sizes[place] - 1
            raise ValueError(f"expected 0..{last} at place {place} of the action, got {action[place]}")
        self.before = self.shown
        self.shown = action[:-1].astype(np.uint8).reshape(self.shape)
        self.violations = int(self.family.count_violations(self.puzzle.clues[None], self.shown[None])[0])
        return bool(action[-1])

    def mask(self) -> NDArray[np.bool_]:
        """(H*W*vocab + 2,) bool: given cells allow their own token only, free cells the writable ones."""
        return self.family.answer_masks(self.puzzle.clues[None])[0]


class CellMode(ActionMode):
    """Write one symbol into one free cell, or halt (the last action)."""

    def __init__(self, family: PuzzleFamily, shape: tuple[int, int]) -> None:
        super().__init__(family, shape)
        self._halt = shape[0] * shape[1] * len(family.writable)
        self._symbols = len(family.writable)
        self.space = gym.spaces.Discrete(self._halt + 1)

    def default_budget(self) -> int:
        """Every cell can be written twice."""
        return 2 * self.shape[0] * self.shape[1]

    def begin(self, puzzle: Puzzle) -> None:
        """Show the clues alone."""
        super().begin(puzzle)
        self._clues = puzzle.clues.copy()  # compiled rules want an array of their usual kind, whatever the source gave
        self._judged = self._clues[None], puzzle.solution.copy()[None]
        self._free: list[bool] = self.family.free(puzzle.clues).ravel().tolist()

    def act(self, action: Any) -> bool:
        """Write action % symbols into cell action // symbols; True if halted or solved."""
        number = one_integer(action, self._halt)
        if number == self._halt:
            return True
        cell, symbol = divmod(number, self._symbols)
        clues, token = self._clues, self.family.writable[symbol]
        if not self._free[cell] or not self.family.may_write(clues, self.shown, cell, token):
            return False
        self.violations += self.family.write(clues, self.shown, cell, token)
        return self.violations == 0 and bool(self.family.judge(*self._judged, self.shown[None])[0])

    def mask(self) -> NDArray[np.bool_]:
        """(H*W*symbols + 1,) bool: every legal symbol in every free cell, and halting."""
        return self.family.cell_masks(self._clues[None], self.shown[None])[0]


def one_integer(action: Any, last: int) -> int:
    """A Discrete action as a plain integer.

    Raises:
        ValueError: if it is not one integer in 0..last.
    """
    if not isinstance(action, int | np.integer):
        action = _as_array(action)
        if action.size != 1 or not np.issubdtype(action.dtype, np.integer):
            came = repr(action.item()) if action.size == 1 else f"shape {action.shape}"
            raise ValueError(f"expected an action in 0..{last}, one integer, got {came} of dtype {action.dtype}")
        action = action.item()
    if not 0 <= action <= last:
        raise ValueError(f"expected an action in 0..{last}, got {action}")
    return int(action)


def _as_array(action: Any) -> NDArray[Any]:
    try:
        return np.asarray(action)
    except ValueError:
        raise ValueError(f"expected an action of integers in one array, got {reprlib.repr(action)}") from None


Observation = dict[str, NDArray[Any]]
REWARDS = ("sparse", "dense")


class PuzzleEnv(gym.Env[Observation, Any]):
    """A puzzle from `source` in each episode, answered in one of several action modes.

    The classes of the families (`MazeEnv`, ...) are thin: they choose a source, add modes, and are the manual pages.

    Attributes:
        family: the rules of the puzzles.
        puzzle_source: where the puzzles come from.
        puzzle: the present puzzle (its solution is here, never in an observation or an info before the end).
        shape: (H, W) of the grids.
        action_mode: "answer", "cell", ...
        max_segments: segments an episode may have in answer mode.
        max_steps: actions an episode may have in the present mode.
        thoughts: what the agent thought about this puzzle, one Thought an action, for pictures.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["human", "rgb_array", "ansi"], "render_fps": 8}  # type: ignore[misc]
    modes: ClassVar[dict[str, type[ActionMode]]] = {"answer": AnswerMode, "cell": CellMode}

    def __init__(
        self,
        family: PuzzleFamily,
        source: PuzzleSource,
        *,
        action_mode: str = "answer",
        max_segments: int = 16,
        max_steps: int | None = None,
        reward: str = "sparse",
        step_cost: float = 0.0,
        shaping_gamma: float = 1.0,
        mask_in_info: bool = False,
        render_mode: str | None = None,
    ) -> None:
        """Make the spaces; the first `reset` takes the first puzzle. Arguments as on the family's manual page.

        Raises:
            ValueError: if an argument is out of its range; says what was expected and what came.
        """
        _one_of("action_mode", action_mode, tuple(self.modes))
        _one_of("reward", reward, REWARDS)
        _one_of("render_mode", render_mode, (None, *self.metadata["render_modes"]))
        yes_or_no("mask_in_info", mask_in_info)
        _at_least_one("max_segments", max_segments)
        _within("step_cost", step_cost, 0.0, sys.float_info.max)
        _within("shaping_gamma", shaping_gamma, 0.0, 1.0)
        self.family, self.puzzle_source, self.shape = family, source, source.shape
        self.action_mode, self.max_segments, self.render_mode = action_mode, max_segments, render_mode
        self._mode = self.modes[action_mode](family, self.shape)
        if max_steps is not None:
            _at_least_one("max_steps", max_steps)
        budget = max_segments if action_mode == "answer" else max_steps or self._mode.default_budget()
        self.max_steps = int(budget)
        self.dense, self.step_cost, self.gamma = reward == "dense", float(step_cost), float(shaping_gamma)
        self.mask_in_info = mask_in_info
        self.observation_space: gym.spaces.Space[Any] = observation_space(family, self.shape)
        self.action_space = self._mode.space
        self._extras = tuple(family.extra_arrays(self.shape))
        self.puzzle: Puzzle
        self.thoughts: list[Thought] = []
        self._caption = ""
        self._notes: tuple[tuple[str, str], ...] = ()
        self._seed: int | None = None
        self._next_index = 0
        self._steps = 0
        self._attempt = 0
        self._phi = 0.0
        self._running = False
        self._screen: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin the next puzzle.

        Args:
            seed: puzzle 0 of this seed; without one, the next puzzle of the seed in use (at first a random one).
            options: `{"puzzle": text | token grid | Puzzle}` plays that puzzle, `{"index": i}` the source's i-th. Such
                an episode does not count: the next plain reset continues where the seed was.

        Raises:
            ValueError: if an option is unknown or bad; puzzle and seed are then as they were.
        """
        if options is not None and not isinstance(options, dict):
            raise ValueError(f"expected options as a dictionary, got {reprlib.repr(options)}")
        chosen = self.chosen(options) if options else None
        if seed is not None:
            super().reset(seed=seed)
            self._seed = seed
            self._next_index = 0
        observation = self.begin(self._next_puzzle() if chosen is None else chosen)
        info = self._info()
        if self.render_mode == "human":
            self.render()
        return observation, info

    def begin(self, puzzle: Puzzle) -> Observation:
        """Put a puzzle on the board as `reset` does, but unchecked: it may have several solutions, or none."""
        self.puzzle = puzzle
        self._mode.begin(puzzle)
        self._steps, self._attempt, self._running, self.thoughts = 0, 0, True, []
        if self.dense:
            self._phi = self._mode.potential()
        return self._observation()

    def resume(self, moment: Moment, puzzle: Puzzle | None = None) -> Observation:
        """Answer mode: continue from a moment, even one at which the episode had ended; returns the observation there.

        Args:
            moment: of this environment.
            puzzle: what takes the place of its puzzle from here on, unchecked; None leaves it.

        Raises:
            ValueError: in another action mode, whose boards hold more than a moment does.
        """
        if self.action_mode != "answer":
            raise ValueError(f"expected action mode 'answer' to resume from a moment, got {self.action_mode!r}")
        self.begin(puzzle or moment.puzzle)
        mode = self._mode
        mode.shown, mode.before, self.thoughts = moment.answer, moment.before, list(moment.thoughts)
        mode.violations = int(self.family.count_violations(self.puzzle.clues[None], mode.shown[None])[0])
        self._steps, self._attempt = moment.used, moment.attempt
        return self._observation()

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One action; see the family's manual page.

        Raises:
            ResetNeeded: if the episode has ended.
            ValueError: if `action` is not in the action space.
        """
        if not self._running:
            raise ResetNeeded("expected reset() before step(): no episode is running")
        terminated = self._mode.act(action)
        self._steps += 1
        spent = self._steps >= self.max_steps
        if spent and self._mode.halt_is_forced:
            terminated = True
        if terminated and self._attempt < self.family.attempts - 1 and not self._mode.solved():
            self._attempt, self._steps, terminated, spent = self._attempt + 1, 0, False, False
        truncated = spent and not terminated
        info = self._info()
        reward = 0.0 - self.step_cost
        if terminated or truncated:
            self._running = False
            verdict = self._mode.verdict()
            info["is_success"] = verdict["solved"]
            info.update(verdict)
            if terminated and verdict["solved"]:
                reward += 1.0
        if self.dense:
            reward += self._shaping(terminated)
        if self.render_mode == "human":
            self.render()
        return self._observation(), reward, terminated, truncated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """A fresh bool array, True for every legal action; the name sb3-contrib's MaskablePPO looks for."""
        self._expect_puzzle("action_masks")
        return self._mode.mask()

    def set_thought(self, thought: Thought | None) -> None:
        """What the agent has in mind with its next action; drawn from the next picture on, until the next puzzle."""
        if thought is not None:
            self.thoughts.append(thought)

    def set_caption(self, text: str, notes: Sequence[tuple[str, str]] = ()) -> None:
        """A line for the side panel, such as the agent's name, and below it notes: words with what they mean."""
        self._caption, self._notes = text, tuple(notes)

    @property
    def closed_by_user(self) -> bool:
        """Whether the person watching has closed the window; stepping on is harmless and draws nothing."""
        return self._screen is not None and self._screen.closed

    def render(self) -> Any:
        """The picture that `render_mode` asks for: (H, W, 3) uint8, text, or None (human, or no mode)."""
        if self.render_mode is None:
            gym.logger.warn("render() without a render_mode: give one of human, rgb_array, ansi to gym.make")
            return None
        return self.picture(self.moment())

    def moment(self) -> Moment:
        """All that a picture shows of the board as it is now; it does not change when the episode continues."""
        self._expect_puzzle("render")
        mode, solved = self._mode, None if self._running else self._mode.solved()
        before = mode.before if self._steps > 1 else None  # the first answer changes nothing that the agent wrote
        return Moment(
            self.puzzle, mode.shown.copy(), self._steps, self.max_steps, mode.violations, before, self._attempt, solved,
            tuple(self.thoughts),
        )  # fmt: skip

    def picture(self, moment: Moment) -> Any:
        """What `render` gives for a board in this state, which need not be the environment's own."""
        unit = "segment" if self.action_mode == "answer" else "step"
        if self.render_mode == "ansi":
            status = _status_line(f"{self.family.title} {_times(self.shape)}", unit, moment, self.family.attempts)
            return f"{self.family.describe(moment.puzzle, moment.answer)}\n{status}\n"
        if self._screen is None:
            from hrm_gym.envs.rendering.screen import Screen

            self._screen = Screen(self.family, self.metadata["render_fps"])
        frame = self._screen.paint(moment, unit, self._caption, self._notes)
        return self._screen.pixels(frame) if self.render_mode == "rgb_array" else self._screen.show(frame)

    @property
    def colours(self) -> tuple[tuple[int, int, int], ...]:
        """The colours with a meaning in pictures, for films to keep exactly."""
        from hrm_gym.envs.rendering.colours import NAMED

        return NAMED

    def board_picture(self) -> NDArray[np.uint8]:
        """(height, width, 3) uint8: the board as it is now, without margin, panel and marks on cells."""
        moment = self.moment()
        return self.family.picture(moment.puzzle, moment.answer, moment.thought)

    def decision(self, moment: Moment) -> str:
        """What the agent decided at a moment and why, in words; "" where there is nothing to say."""
        from hrm_gym.envs.rendering.screen import decision

        return decision(moment, "segment" if self.action_mode == "answer" else "step")[0]

    def cell_places(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """(first pixel, pixels) of every column, and of every row, of the answer's cells in `board_picture`."""
        from hrm_gym.envs.rendering.screen import Cells

        cells = Cells.of(self.family, self.shape)
        return cells.columns, cells.rows

    def wait(self, seconds: float) -> None:
        """Let time pass while the window, if one is open, answers the desktop; less if the person closes it."""
        if self._screen is not None:
            self._screen.wait(seconds)

    def close(self) -> None:
        """Close the window, if one is open."""
        if self._screen is not None:
            self._screen.close()
            self._screen = None

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the window, which is reopened when needed."""
        return {**self.__dict__, "_screen": None}

    def _expect_puzzle(self, call: str) -> None:
        if not hasattr(self, "puzzle"):
            raise ResetNeeded(f"expected reset() before {call}(): there is no puzzle yet")

    def _next_puzzle(self) -> Puzzle:
        if self._seed is None:
            self._seed = int.from_bytes(os.urandom(8), "little")
        key = puzzle_key(self._seed, self._next_index)
        self._next_index += 1
        return self.puzzle_source.puzzle(key)

    def chosen(self, options: dict[str, Any]) -> Puzzle:
        """The puzzle that reset options ask for; ValueError if they are bad."""
        if len(options) != 1 or not options.keys() <= {"puzzle", "index"}:
            found = reprlib.repr(sorted(map(str, options)))
            raise ValueError(f"expected options with one key, 'puzzle' or 'index', got {found}")
        if "index" in options:
            return self._indexed(options["index"])
        if isinstance(options["puzzle"], Puzzle):
            _check_grids(options["puzzle"], self.family.vocab_size)
        puzzle = self.family.make_puzzle(options["puzzle"])
        if puzzle.shape != self.shape:
            raise ValueError(f"expected a puzzle of {_times(self.shape)} cells, got {_times(puzzle.shape)}")
        return puzzle

    def _indexed(self, index: Any) -> Puzzle:
        source: Any = self.puzzle_source
        if not hasattr(source, "__getitem__"):
            raise ValueError(f"expected a source with numbered puzzles (a file, a bank), got {type(source).__name__}")
        if isinstance(index, bool) or not isinstance(index, int | np.integer):
            raise ValueError(f"expected the number of a puzzle, an integer, got {reprlib.repr(index)}")
        try:
            puzzle: Puzzle = source[int(index)]
        except IndexError as error:
            raise ValueError(str(error)) from None
        return puzzle

    def _observation(self) -> Observation:
        puzzle, share = self.puzzle, np.empty(1, np.float32)
        share[0] = self._steps / self.max_steps
        observation: Observation = {"puzzle": puzzle.clues.copy(), "answer": self._mode.shown.copy(), "segment": share}
        for name in self._extras:
            observation[name] = puzzle.extras[name].copy()
        if self.family.attempts > 1:
            observation["attempt"] = attempt = np.empty(1, np.uint8)
            attempt[0] = self._attempt
        return observation

    def _info(self) -> dict[str, Any]:
        info: dict[str, Any] = {"segment": self._steps, "violations": self._mode.violations}
        if self.mask_in_info:
            info["action_mask"] = self._mode.mask().astype(np.int8)
        return info

    def _shaping(self, terminated: bool) -> float:
        """gamma * Phi(s') - Phi(s), with Phi = 0 in every terminal state."""
        before, self._phi = self._phi, 0.0 if terminated else self._mode.potential()
        return self.gamma * self._phi - before


def _status_line(title: str, unit: str, moment: Moment, attempts: int) -> str:
    """The status as one line of text."""
    line, thought = f"{title}  {unit} {moment.used}/{moment.budget}", moment.thought
    if attempts > 1:
        line += f"  attempt {moment.attempt + 1}/{attempts}"
    line += f"  violations {moment.violations}"
    if thought is not None and thought.q_halt is not None:
        line += f"  Q(halt) {thought.q_halt:.2f}"
    if thought is not None and thought.q_continue is not None:
        line += f"  Q(continue) {thought.q_continue:.2f}"
    if thought is not None and thought.event:
        line += f"  [{thought.reason}]"
    if moment.solved is not None:
        line += "  solved" if moment.solved else "  not solved"
    return line


def observation_space(family: PuzzleFamily, shape: tuple[int, int]) -> gym.spaces.Dict:
    """The space of one observation; some families show more, or have several attempts."""
    tokens = family.vocab_size - 1
    spaces: dict[str, gym.spaces.Space[Any]] = {
        "puzzle": gym.spaces.Box(0, tokens, shape, np.uint8),
        "answer": gym.spaces.Box(0, tokens, shape, np.uint8),
        "segment": gym.spaces.Box(0.0, 1.0, (1,), np.float32),
    }
    for name, kind in family.extra_arrays(shape).items():
        spaces[name] = gym.spaces.Box(0, kind.highest, kind.shape, kind.dtype)
    if family.attempts > 1:
        spaces["attempt"] = gym.spaces.Box(0, family.attempts - 1, (1,), np.uint8)
    return gym.spaces.Dict(spaces)


def yes_or_no(name: str, value: Any) -> None:
    """Raise ValueError unless an argument is True or False (1 and 0 will do)."""
    if not isinstance(value, int | np.bool_) or value not in (0, 1):
        raise ValueError(f"expected {name} to be True or False, got {value!r}")


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if not isinstance(value, str | None) or value not in allowed:
        raise ValueError(f"expected {name} to be one of {', '.join(map(repr, allowed))}, got {value!r}")


def _within(name: str, value: float, low: float, high: float) -> None:
    if not isinstance(value, int | float | np.integer | np.floating) or not low <= value <= high:
        raise ValueError(f"expected {name} to be a number in {low:g}..{high:g}, got {value!r}")


def _check_grids(puzzle: Puzzle, vocab_size: int) -> None:
    """Refuse a Puzzle whose grids are no token grids of one shape."""
    for name, grid in (("clues", puzzle.clues), ("solution", puzzle.solution)):
        if not isinstance(grid, np.ndarray) or grid.dtype != np.uint8 or grid.ndim != 2 or not grid.size:
            raise ValueError(f"expected {name} as an (H, W) array of uint8, got {reprlib.repr(grid)}")
        if grid.shape != puzzle.clues.shape or grid.max() >= vocab_size:
            raise ValueError(
                f"expected {name} of {_times(puzzle.clues.shape)} tokens 0..{vocab_size - 1}, "
                f"got {_times(grid.shape)} tokens up to {grid.max()}"
            )


def _at_least_one(name: str, value: int) -> None:
    if not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"expected {name} to be an integer of at least 1, got {value!r}")
