"""N halting decisions at once, behind `gym.make_vec`: step by step equal to N single environments."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from hrm_gym.envs.halting.bank import row_options, rows_of
from hrm_gym.envs.vector_env import Info, Rows, only, spread, tell

if TYPE_CHECKING:
    from hrm_gym.envs.halting.env import HaltingEnv

Observation = NDArray[np.float32]


class BatchedHalting(gym.vector.VectorEnv[Observation, NDArray[Any], NDArray[Any]]):
    """N boards of one bank. Board i plays episode k of seed + i, like N single environments seeded in turn.

    Every autoreset mode, as in Gymnasium: NEXT_STEP (the default), SAME_STEP, DISABLED. Every array returned is fresh.

    Attributes:
        world: the single environment whose bank and settings these are; it plays no puzzle itself.
    """

    single: ClassVar[type[HaltingEnv]]

    def __init__(
        self, num_envs: int = 1, autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP, **arguments: Any
    ) -> None:
        """Make N boards.

        Args:
            num_envs: how many, at least 1.
            autoreset_mode: what happens after an episode has ended.
            arguments: those of the single environment.

        Raises:
            FileNotFoundError: if `bank` names a file that does not exist.
            ValueError: if an argument is out of its range.
        """
        if isinstance(num_envs, bool) or not isinstance(num_envs, int | np.integer) or num_envs < 1:
            raise ValueError(f"expected num_envs to be an integer of at least 1, got {num_envs!r}")
        self.world = world = self.single(**arguments)
        self.num_envs, self.render_mode = int(num_envs), world.render_mode
        if self.render_mode == "human":
            raise ValueError("expected render_mode None, 'rgb_array' or 'ansi' for many boards at once, got 'human'")
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**world.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space: Any = world.observation_space
        self.single_action_space: Any = world.action_space
        self.observation_space = batch_space(world.observation_space, self.num_envs)
        self.action_space = batch_space(world.action_space, self.num_envs)
        count = self.num_envs
        self._seeds, self._next = np.zeros(count, np.uint64), np.zeros(count, np.uint64)
        self._seeded, self._begun, self._waiting = (np.zeros(count, np.bool_) for _ in range(3))
        self._rows, self._segments = np.zeros(count, np.int64), np.zeros(count, np.int64)

    # ---- Gymnasium ----

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Info]:
        """Begin the next puzzle on every board, or on those of `options["reset_mask"]`.

        Args:
            seed: board i plays episode 0 of seed + i; or one seed (or None) a board.
            options: `reset_mask`, and those of the single environment, the same for every board.

        Raises:
            ValueError: if an option or the number of seeds is bad.
        """
        if options is not None and not isinstance(options, dict):
            raise ValueError(f"expected options as a dictionary, got {reprlib.repr(options)}")
        left = dict(options or {})
        boards = self._masked(left.pop("reset_mask")) if "reset_mask" in left else np.arange(self.num_envs)
        chosen = row_options(left, len(self.world.bank))
        self._seed(seed, boards)
        if chosen is None:
            self._begin_next(boards)
        else:
            self._put(boards, np.full(len(boards), chosen))
        info: Info = {}
        tell(info, only({"segment": self._segments}, boards), self.num_envs, boards)
        return self._observation(), info

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], Info]:
        """One decision on every board.

        Args:
            actions: (N,) integers, 0 continue or 1 halt.

        Raises:
            ResetNeeded: if a board has no puzzle, or its episode has ended and the autoreset mode is DISABLED.
            ValueError: if an action is not in the action space.
        """
        actions = self._checked(actions)
        if not self._begun.all():
            raise ResetNeeded("expected reset() before step(): no episode is running")
        waiting = self._waiting
        if self.autoreset_mode == AutoresetMode.DISABLED and waiting.any():
            boards = np.flatnonzero(waiting).tolist()
            raise ResetNeeded(f"expected reset() of boards {boards} before step(): their episodes have ended")
        ended = ((actions == 1) | (self._segments >= self.world.max_segments)) & ~waiting
        rewards = np.where(waiting, 0.0, -self.world.cost)
        self._segments += ~(ended | waiting)
        if waiting.any():
            self._begin_next(np.flatnonzero(waiting))
        over = np.flatnonzero(ended)
        info: Info = {}
        verdict = self._verdict(over) if len(over) else {}
        if verdict:
            rewards[over] += verdict["solved"]
        self._waiting = ended.copy()
        if verdict and self.autoreset_mode == AutoresetMode.SAME_STEP:
            self._finish(info, over, verdict)
            verdict = {}
        tell(info, {"segment": self._segments.copy()}, self.num_envs)
        if verdict:
            tell(info, spread(verdict, over, self.num_envs), self.num_envs, over)
        return self._observation(), rewards, ended, np.zeros(self.num_envs, np.bool_), info

    def render(self) -> tuple[Any, ...] | None:
        """A picture (or text) of every board, as `render_mode` asks."""
        if self.render_mode is None:
            return None
        return tuple(self._picture(board) for board in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Close what the rendering opened."""
        self.world.close()

    # ---- episodes ----

    def _finish(self, info: Info, over: Rows, verdict: Info) -> None:
        """SAME_STEP: put the last states of the boards `over` aside and begin their next puzzles."""
        last = self._observation()[over]
        boards = np.full(self.num_envs, None, dtype=object)
        for place, board in enumerate(over):
            boards[board] = last[place].copy()
        told: Info = {}
        tell(told, only({"segment": self._segments}, over), self.num_envs, over)
        tell(told, spread(verdict, over, self.num_envs), self.num_envs, over)
        tell(info, {"final_obs": boards, "final_info": told}, self.num_envs, over)
        self._begin_next(over)

    def _begin_next(self, boards: Rows) -> None:
        """Put the next puzzles of their seeds on boards."""
        count = len(self.world.bank)
        rows = rows_of(self.world.order, self._seeds[boards], self._next[boards], count)
        self._next[boards] += np.uint64(1)
        self._put(boards, rows)

    def _put(self, boards: Rows, rows: NDArray[np.int64]) -> None:
        self._rows[boards], self._segments[boards] = rows, 1
        self._begun[boards], self._waiting[boards] = True, False

    def _verdict(self, boards: Rows) -> Info:
        """What is told of boards that ended."""
        bank, at = self.world.bank, (self._rows[boards], self._segments[boards] - 1)
        told = {"solved": bank.solved[at], "exact": bank.exact[at], "cell_accuracy": bank.cell_accuracy[at]}
        return {"is_success": bank.solved[at], **told, "row": self.world.bank_rows[at[0]]}

    def _observation(self) -> Observation:
        return self.world.bank.observations[self._rows, self._segments - 1]

    def _picture(self, board: int) -> Any:
        row, segment = int(self._rows[board]), int(self._segments[board])
        solved = bool(self.world.bank.solved[row, segment - 1]) if self._waiting[board] else None
        return self.world.picture(row, segment, solved)

    # ---- checks ----

    def _seed(self, seed: int | Sequence[int | None] | None, boards: Rows) -> None:
        """Note the seeds of boards; one that never had any gets a random one, or its number if the order has none."""
        if seed is None:
            seeds: Sequence[int | None] = [None] * self.num_envs
        elif isinstance(seed, int | np.integer):
            seeds = [int(seed) + i for i in range(self.num_envs)]
        elif isinstance(seed, list | tuple) or (isinstance(seed, np.ndarray) and seed.ndim):
            seeds = list(seed)
        else:
            raise ValueError(f"expected a seed, or one a board, got {reprlib.repr(seed)}")
        if len(seeds) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} seeds, one a board, got {len(seeds)}")
        for board in boards.tolist():
            given = seeds[board]
            if given is None and self._seeded[board]:
                continue
            if given is None:
                given = board if self.world.order == "sequential" else np.random.SeedSequence().generate_state(1)[0]
            elif isinstance(given, bool) or not isinstance(given, int | np.integer) or given < 0:
                raise ValueError(f"expected a seed of at least 0, got {given!r}")
            self._seeds[board], self._next[board] = int(given) & 0xFFFFFFFFFFFFFFFF, 0
            self._seeded[board] = True

    def _masked(self, mask: Any) -> Rows:
        mask = np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_:
            raise ValueError(f"expected reset_mask of ({self.num_envs},) bool, got {mask.shape} {mask.dtype}")
        if not mask.any():
            raise ValueError("expected a reset_mask with at least one True, got none")
        return np.flatnonzero(mask)

    def _checked(self, actions: Any) -> NDArray[Any]:
        try:
            actions = np.asarray(actions)
        except ValueError:
            raise ValueError("expected an array of actions, got rows of several lengths") from None
        if actions.shape != (self.num_envs,) or not np.issubdtype(actions.dtype, np.integer):
            expected = f"({self.num_envs},)"
            raise ValueError(f"expected actions of shape {expected}, integers, got {actions.shape} {actions.dtype}")
        if actions.min() < 0 or actions.max() > 1:
            board = int(np.argmax((actions < 0) | (actions > 1)))
            raise ValueError(f"expected actions in {self.single_action_space}, got {actions[board]} on board {board}")
        return actions
