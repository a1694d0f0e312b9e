"""`HRMHalting-v0`: the manual page, the single environment and the batched one."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from hrm_gym.envs.halting.bank import (
    ORDERS,
    SCALARS,
    HaltingBank,
    find_bank,
    high_of,
    low_of,
    row_of,
    row_options,
    rows_of,
)
from hrm_gym.envs.vector_env import BatchedEnv, Info, Rows

CONTINUE, HALT = 0, 1
"""The actions."""


class HaltingEnv(gym.Env[NDArray[np.float32], int]):
    """Decide after every segment whether an HRM should halt or continue.

    ## Description

    A trained HRM was run once over many puzzles, for `max_segments` segments each, whatever its own halting rule said.
    A *bank* keeps what it held after every segment, and whether the answer was right. An episode replays one puzzle:
    the first segment has been run, the agent sees what the network held after it, and decides. Nothing is computed but
    the decision, so that a policy is learnt in seconds. This is the decision process on which the HRM paper (arXiv
    2506.21734, section 2, "Adaptive computation time") trains its Q-head, with a cost on segments.

    Episode k is a pure function of (seed, k): `reset(seed=s)` plays puzzle 0 of seed s, every `reset()` after it the
    next one.

    ## Action space

    `Discrete(2)`: 0 continue (run the next segment), 1 halt.

    ## Observation space

    `Box(F,)` float32, F = 6 + D, where D is how many numbers of the state summary the bank has (8 in the bundled one):

    | entry | name | range | meaning |
    |---|---|---|---|
    | 0 | `segment` | 0..1 | segments run, as a share of `max_segments` |
    | 1 | `q_halt` | -16..16 | logit of Q(halt) |
    | 2 | `q_continue` | -16..16 | logit of Q(continue); 0 for a network that learnt Q(halt) alone |
    | 3 | `confidence_mean` | -16..16 | logit of the mean probability of the chosen tokens, over the free cells |
    | 4 | `confidence_lowest` | -16..16 | logit of the least of those probabilities |
    | 5 | `changed` | 0..1 | share of the free cells that this segment changed; 1 after the first segment |
    | 6.. | `state_0`, ... | -8..8 | the H-level state in short: its principal components, scaled to deviation 1 |

    `env.unwrapped.features` has the names. The network's own rule is `q_halt > q_continue`. Every observation is a
    fresh copy.

    ## End of an episode

    `terminated` by halting; at `max_segments` the halt is forced: the network cannot continue, and either action ends
    the episode there. Never `truncated`.

    ## Reward

    Every step pays `-cost`, for the segment that it was decided on; the step that ends the episode pays 1 more if the
    answer is right by the rules of the puzzle. An episode of n segments has n steps, so the undiscounted return is
    `1[solved] - cost * segments`.

    ## Info

    Every step: `segment`, the segments run so far (1 after `reset`). At the end, and only then: `solved` =
    `is_success`, `exact` (equal to the stored solution), `cell_accuracy` (over cells that were not given), `row` (of
    the puzzle in the bank).

    ## Arguments

    - `bank` = None: the bundled bank; or a file that `hrm-gym halting bank build` wrote, or a `HaltingBank`.
    - `cost` = 0.01: what a segment costs, 0..1.
    - `split` = `"train"`: or `"test"`, `"all"`. A puzzle and its symmetric images are in one split.
    - `order` = `"random"`: each episode draws a puzzle; or `"sequential"`: puzzle s + k in episode k of seed s, all
      around, beginning at the first if there is no seed.
    - `max_segments` = None: those of the bank; at most that number.
    - `render_mode` = None, `"human"`, `"rgb_array"` or `"ansi"`.

    `reset(options={"index": i})` plays puzzle i of the split; it does not count as an episode of the seed.

    ## Registered

    - `HRMHalting-v0`: the defaults above.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["human", "rgb_array", "ansi"], "render_fps": 4}  # type: ignore[misc]

    def __init__(
        self,
        bank: str | Path | HaltingBank | None = None,
        cost: float = 0.01,
        split: str = "train",
        order: str = "random",
        max_segments: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Open the bank.

        Raises:
            FileNotFoundError: if `bank` names a file that does not exist.
            ValueError: if an argument, or the file, is bad.
        """
        if isinstance(cost, bool) or not isinstance(cost, int | float | np.integer | np.floating) or not 0 <= cost <= 1:
            raise ValueError(f"expected cost to be a number in 0..1, got {reprlib.repr(cost)}")
        for name, value, allowed in (
            ("order", order, ORDERS),
            ("render_mode", render_mode, (None, *self.metadata["render_modes"])),
        ):
            if not isinstance(value, str | None) or value not in allowed:
                raise ValueError(f"expected {name} to be one of {', '.join(map(repr, allowed))}, got {value!r}")
        whole = find_bank(bank)
        self.bank_rows = whole.rows(split)
        self.bank = whole.only(split, max_segments)
        self.cost, self.order, self.render_mode = float(cost), order, render_mode
        self.max_segments = self.bank.segments
        size = self.bank.observations.shape[2]
        self.features = (*SCALARS, *(f"state_{k}" for k in range(size - len(SCALARS))))
        self.observation_space = gym.spaces.Box(low_of(size), high_of(size), dtype=np.float32)
        self.action_space: Any = gym.spaces.Discrete(2)
        self._seed: int | None = None
        self._next_index = 0
        self._row, self._segment, self._running = -1, 0, False
        self._screen: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin the next puzzle: its first segment has been run.

        Args:
            seed: puzzle 0 of this seed; without one, the next puzzle of the seed in use (at first a random one).
            options: `{"index": i}` plays puzzle i of the split.

        Raises:
            ValueError: if an option is unknown or bad.
        """
        chosen = row_options(options, len(self.bank))
        if seed is not None:
            super().reset(seed=seed)
            self._seed, self._next_index = int(seed), 0
        if chosen is None:
            if self._seed is None:
                self._seed = 0 if self.order == "sequential" else int(np.random.SeedSequence().generate_state(1)[0])
            self._row = int(row_of(self.order, self._seed, self._next_index, len(self.bank)))
            self._next_index += 1
        else:
            self._row = chosen
        self._segment, self._running = 1, True
        if self.render_mode == "human":
            self.render()
        return self._observation(), {"segment": 1}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Halt, or run the next segment; see the manual page.

        Raises:
            ResetNeeded: if the episode has ended.
            ValueError: if `action` is not in the action space.
        """
        if not self._running:
            raise ResetNeeded("expected reset() before step(): no episode is running")
        halts = _checked(action) == HALT or self._segment >= self.max_segments
        reward = -self.cost
        info: dict[str, Any] = {}
        if halts:
            self._running = False
            info = self._verdict()
            reward += float(info["solved"])
        else:
            self._segment += 1
        if self.render_mode == "human":
            self.render()
        return self._observation(), reward, halts, False, {"segment": self._segment, **info}

    def render(self) -> Any:
        """The picture that `render_mode` asks for: (H, W, 3) uint8, text, or None (human, or no mode)."""
        if self.render_mode is None:
            gym.logger.warn("render() without a render_mode: give one of human, rgb_array, ansi to gym.make")
            return None
        if self._row < 0:
            raise ResetNeeded("expected reset() before render(): there is no puzzle yet")
        solved = None if self._running else bool(self.bank.solved[self._row, self._segment - 1])
        return self.picture(self._row, self._segment, solved)

    def picture(self, row: int, segment: int, solved: bool | None) -> Any:
        """What `render` gives for a puzzle of the split after N segments; `solved` is the verdict, if known."""
        shown = self.bank.observations[row, :segment]
        if self.render_mode == "ansi":
            return _as_text(shown, self.max_segments, solved)
        if self._screen is None:
            from hrm_gym.envs.halting.drawing import HaltingScreen

            self._screen = HaltingScreen(self.bank.name, self.metadata["render_fps"])
        frame = self._screen.paint(shown, self.max_segments, self.cost, solved)
        return self._screen.pixels(frame) if self.render_mode == "rgb_array" else self._screen.show(frame)

    @property
    def closed_by_user(self) -> bool:
        """Whether the person watching has closed the window; stepping on is harmless and draws nothing."""
        return self._screen is not None and self._screen.closed

    def close(self) -> None:
        """Close the window, if one is open."""
        if self._screen is not None:
            self._screen.close()
            self._screen = None

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the window, which is reopened when needed."""
        return {**self.__dict__, "_screen": None}

    def _observation(self) -> NDArray[np.float32]:
        return self.bank.observations[self._row, self._segment - 1].copy()

    def _verdict(self) -> dict[str, Any]:
        """What the info says at the end."""
        at = self._row, self._segment - 1
        solved = bool(self.bank.solved[at])
        exact, accuracy = bool(self.bank.exact[at]), float(self.bank.cell_accuracy[at])
        row = int(self.bank_rows[self._row])
        return {"is_success": solved, "solved": solved, "exact": exact, "cell_accuracy": accuracy, "row": row}


class HaltingVectorEnv(BatchedEnv):
    """N decisions at once: the vector environment behind `gym.make_vec("HRMHalting-v0", num_envs=N)`."""

    single = HaltingEnv
    world: HaltingEnv

    def __init__(
        self, num_envs: int = 1, autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP, **arguments: Any
    ) -> None:
        """Make N boards; arguments as of `BatchedEnv` and of the single environment."""
        super().__init__(num_envs, autoreset_mode, **arguments)
        self._rows = np.zeros(self.num_envs, dtype=np.int64)
        self._segments = np.ones(self.num_envs, dtype=np.int64)

    def _chosen(self, options: dict[str, Any]) -> int | None:
        return row_options(options, len(self.world.bank))

    def _begin_chosen(self, rows: Rows, chosen: int) -> None:
        self._rows[rows] = chosen
        self._segments[rows] = 1

    def _begin_numbered(self, rows: Rows) -> None:
        count = len(self.world.bank)
        self._rows[rows] = rows_of(self.world.order, self._seeds[rows], self._next[rows], count)
        self._segments[rows] = 1

    def _advance(
        self, actions: NDArray[Any], active: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        ended = ((actions == HALT) | (self._segments >= self.world.max_segments)) & active
        self._segments += active & ~ended
        return np.where(active, -self.world.cost, 0.0), ended, np.zeros(self.num_envs, dtype=np.bool_)

    def _verdict(self, over: Rows) -> Info:
        bank, at = self.world.bank, (self._rows[over], self._segments[over] - 1)
        verdict = {"solved": bank.solved[at], "exact": bank.exact[at], "cell_accuracy": bank.cell_accuracy[at]}
        return {"is_success": bank.solved[at], **verdict, "row": self.world.bank_rows[at[0]]}

    def _running_info(self) -> Info:
        return {"segment": self._segments.copy()}

    def _observation(self, rows: Rows | slice = slice(None)) -> NDArray[np.float32]:
        return self.world.bank.observations[self._rows[rows], self._segments[rows] - 1]

    def _picture(self, row: int) -> Any:
        puzzle, segment = int(self._rows[row]), int(self._segments[row])
        solved = bool(self.world.bank.solved[puzzle, segment - 1]) if self._waiting[row] else None
        return self.world.picture(puzzle, segment, solved)

    def _any_seed(self, row: int) -> int:
        """The number of the board where puzzles come in order, so that N boards play different ones."""
        return row if self.world.order == "sequential" else super()._any_seed(row)


def _checked(action: Any) -> int:
    """An action as a number; ValueError unless it is one."""
    whole = isinstance(action, int | np.integer) or (
        isinstance(action, np.ndarray) and action.shape == () and np.issubdtype(action.dtype, np.integer)
    )
    if not whole or isinstance(action, bool) or not 0 <= int(action) <= 1:
        raise ValueError(f"expected an action in Discrete(2), 0 continue or 1 halt, got {reprlib.repr(action)}")
    return int(action)


def _as_text(shown: NDArray[np.float32], budget: int, solved: bool | None) -> str:
    """A line a segment with what the network held, and the verdict."""
    lines = [f"Halting  segment {len(shown)}/{budget}"]
    for k, row in enumerate(shown, start=1):
        q_halt, q_continue, mean, lowest = 1 / (1 + np.exp(-row[1:5].astype(np.float64)))
        lines.append(
            f"{k:>3}  Q(halt) {q_halt:.3f}  Q(continue) {q_continue:.3f}  confidence {mean:.3f}, lowest {lowest:.3f}"
            f"  changed {row[5]:.3f}"
        )
    if solved is not None:
        lines.append("solved" if solved else "not solved")
    return "\n".join(lines) + "\n"
