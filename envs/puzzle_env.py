"""The one Gymnasium environment behind every puzzle family."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from hrm_gym.envs.modes import ActionMode, AnswerMode, CellMode, cell_accuracy
from hrm_gym.envs.puzzle import Puzzle, PuzzleFamily, PuzzleSource, Thought, puzzle_key

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
        thought: what the agent has in mind, for the next picture.
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
        _at_least_one("max_segments", max_segments)
        if not step_cost >= 0.0:
            raise ValueError(f"expected step_cost >= 0, got {step_cost}")
        if not 0.0 <= shaping_gamma <= 1.0:
            raise ValueError(f"expected shaping_gamma in 0..1, got {shaping_gamma}")
        self.family, self.puzzle_source, self.shape = family, source, source.shape
        self.action_mode, self.max_segments, self.render_mode = action_mode, max_segments, render_mode
        self._mode = self.modes[action_mode](family, self.shape)
        self.max_steps = max_segments if action_mode == "answer" else (max_steps or self._mode.default_budget())
        _at_least_one("max_steps", self.max_steps if max_steps is None else max_steps)
        self._dense, self._step_cost, self._gamma = reward == "dense", step_cost, shaping_gamma
        self._mask_in_info = mask_in_info
        grid = gym.spaces.Box(0, family.vocab_size - 1, self.shape, np.uint8)
        share = gym.spaces.Box(0.0, 1.0, (1,), np.float32)
        self.observation_space: gym.spaces.Space[Any] = gym.spaces.Dict(
            {"puzzle": grid, "answer": grid, "segment": share}
        )
        self.action_space = self._mode.space
        self.puzzle: Puzzle
        self.thought: Thought | None = None
        self._caption = ""
        self._seed: int | None = None
        self._next_index = 0
        self._steps = 0
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
                an episode does not count: the next plain reset goes on where the seed was.

        Raises:
            ValueError: if an option is unknown or bad.
        """
        if seed is not None:
            super().reset(seed=seed)
            self._seed, self._next_index = seed, 0
        self.puzzle = self._chosen(options) if options else self._next_puzzle()
        self._mode.begin(self.puzzle)
        self._steps, self._running, self.thought = 0, True, None
        if self._dense:
            self._phi = self._mode.potential()
        info = self._info()
        if self.render_mode == "human":
            self.render()
        return self._observation(), info

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
        truncated = spent and not terminated
        info = self._info()
        reward = -self._step_cost
        if terminated or truncated:
            self._running = False
            info.update(self._verdict())
            if terminated and info["solved"]:
                reward += 1.0
        if self._dense:
            reward += self._shaping(terminated)
        if self.render_mode == "human":
            self.render()
        return self._observation(), reward, terminated, truncated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """A fresh bool array, True for every legal action; the name sb3-contrib's MaskablePPO looks for."""
        return self._mode.mask()

    def set_thought(self, thought: Thought | None) -> None:
        """What the agent has in mind; drawn from the next picture on, until the next puzzle."""
        self.thought = thought

    def set_caption(self, text: str) -> None:
        """A line for the side panel, such as the agent's name."""
        self._caption = text

    @property
    def closed_by_user(self) -> bool:
        """Whether the person watching has closed the window; stepping on is harmless and draws nothing."""
        return self._screen is not None and self._screen.closed

    def render(self) -> Any:
        """The picture that `render_mode` asks for: (H, W, 3) uint8, text, or None (human, or no mode)."""
        if self.render_mode is None:
            gym.logger.warn("render() without a render_mode: give one of human, rgb_array, ansi to gym.make")
            return None
        if self.render_mode == "ansi":
            return self._text()
        if self._screen is None:
            from hrm_gym.envs.screen import Screen

            self._screen = Screen(self.family, self.shape, self.metadata["render_fps"])
        frame = self._screen.paint(self.puzzle.clues, self._mode.shown, self.thought, self._status())
        return self._screen.pixels(frame) if self.render_mode == "rgb_array" else self._screen.show(frame)

    def close(self) -> None:
        """Close the window, if one is open."""
        if self._screen is not None:
            self._screen.close()
            self._screen = None

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the window, which is opened anew when needed."""
        return {**self.__dict__, "_screen": None}

    def _next_puzzle(self) -> Puzzle:
        if self._seed is None:
            self._seed = int.from_bytes(os.urandom(8), "little")
        key = puzzle_key(self._seed, self._next_index)
        self._next_index += 1
        return self.puzzle_source.puzzle(key)

    def _chosen(self, options: dict[str, Any]) -> Puzzle:
        if len(options) != 1 or not options.keys() <= {"puzzle", "index"}:
            raise ValueError(f"expected options with one key, 'puzzle' or 'index', got {sorted(map(str, options))}")
        if "index" in options:
            return self._indexed(options["index"])
        puzzle = options["puzzle"]
        clues = puzzle.clues if isinstance(puzzle, Puzzle) else self.family.parse(puzzle)
        if clues.shape != self.shape:
            raise ValueError(f"expected a puzzle of {_times(self.shape)} cells, got {_times(clues.shape)}")
        self.family.check(clues)
        if isinstance(puzzle, Puzzle):
            return puzzle
        solution = self.family.solve(clues)
        if solution is None:
            raise ValueError("expected a puzzle with a solution, got one without")
        return Puzzle(clues, solution, name="own puzzle")

    def _indexed(self, index: Any) -> Puzzle:
        source: Any = self.puzzle_source
        if not hasattr(source, "__getitem__"):
            raise ValueError(f"expected a source with numbered puzzles (a file, a bank), got {type(source).__name__}")
        try:
            puzzle: Puzzle = source[int(index)]
        except IndexError as error:
            raise ValueError(str(error)) from None
        return puzzle

    def _observation(self) -> Observation:
        share = np.empty(1, np.float32)
        share[0] = self._steps / self.max_steps
        return {"puzzle": self.puzzle.clues.copy(), "answer": self._mode.shown.copy(), "segment": share}

    def _info(self) -> dict[str, Any]:
        info: dict[str, Any] = {"segment": self._steps, "violations": self._mode.violations()}
        if self._mask_in_info:
            info["action_mask"] = self._mode.mask().astype(np.int8)
        return info

    def _verdict(self) -> dict[str, Any]:
        """What info says at the end, and only then."""
        answer = self._mode.answer()
        solved = self._mode.solved()
        exact = bool(np.array_equal(answer, self.puzzle.solution))
        accuracy = cell_accuracy(self.family, self.puzzle, answer)
        return {"is_success": solved, "solved": solved, "exact": exact, "cell_accuracy": accuracy}

    def _shaping(self, terminated: bool) -> float:
        """gamma * Phi(s') - Phi(s), with Phi = 0 in every terminal state."""
        before, self._phi = self._phi, 0.0 if terminated else self._mode.potential()
        return self._gamma * self._phi - before

    def _status(self) -> dict[str, Any]:
        """What the side panel tells."""
        unit = "segment" if self.action_mode == "answer" else "step"
        return {
            "title": f"{self.family.name} {_times(self.shape)}",
            "name": self.puzzle.name,
            "caption": self._caption,
            "unit": unit,
            "used": self._steps,
            "budget": self.max_steps,
            "violations": self._mode.violations(),
            "solved": None if self._running else self._mode.solved(),
        }

    def _text(self) -> str:
        rows = ["".join(self.family.symbols[token] for token in row) for row in self._mode.shown]
        status = self._status()
        line = f"{status['title']}  {status['unit']} {status['used']}/{status['budget']}"
        line += f"  violations {status['violations']}"
        if self.thought is not None and self.thought.q_halt is not None:
            line += f"  Q(halt) {self.thought.q_halt:.2f}"
        if self.thought is not None and self.thought.q_continue is not None:
            line += f"  Q(continue) {self.thought.q_continue:.2f}"
        if status["solved"] is not None:
            line += "  solved" if status["solved"] else "  not solved"
        return "\n".join([*rows, line]) + "\n"


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"expected {name} to be one of {', '.join(map(repr, allowed))}, got {value!r}")


def _at_least_one(name: str, value: int) -> None:
    if not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"expected {name} to be an integer of at least 1, got {value!r}")
