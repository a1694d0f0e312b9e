"""Environments of N boards at once, behind `gym.make_vec`: step by step equal to N single environments.

`BatchedEnv` has what every such environment shares (seeds, autoreset, ends, infos); `PuzzleVectorEnv` plays the puzzle
environments, through action modes that know the same rules as the single ones without a Python loop over boards.
"""

from __future__ import annotations

import os
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from hrm_gym.envs.family import CellBoards, PuzzleFamily
from hrm_gym.envs.puzzle import Moment, Puzzle, PuzzleBatch, puzzle_keys
from hrm_gym.envs.puzzle_env import Observation, PuzzleEnv

Info = dict[str, Any]
Rows = NDArray[np.int64]
"""Numbers of some of the boards."""


def tell(info: Info, found: Info, count: int, rows: Rows | None = None) -> None:
    """Add arrays to `info`, each `key` with a mask `_key` of the boards that it speaks of.

    Args:
        info: what is added to.
        found: arrays over all boards, or dictionaries that are infos themselves.
        count: number of boards.
        rows: the boards they speak of; None for all.
    """
    some = rows is not None and len(rows) < count
    said = np.zeros(count, dtype=np.bool_) if some else np.ones(count, dtype=np.bool_)
    if some:
        said[rows] = True
    for key, array in found.items():
        info[key], info[f"_{key}"] = array, said.copy()


def spread(found: Info, rows: Rows, count: int) -> Info:
    """Arrays with an entry for each of `rows` as arrays over all boards, zero elsewhere."""
    return {key: _spread_array(array, rows, count) for key, array in found.items()}


def only(found: Info, rows: Rows) -> Info:
    """Arrays over all boards with zeros outside `rows`."""
    return {key: _spread_array(array[rows], rows, len(array)) for key, array in found.items()}


def _spread_array(array: NDArray[Any], rows: Rows, count: int) -> NDArray[Any]:
    whole = np.zeros((count, *array.shape[1:]), dtype=array.dtype)
    whole[rows] = array
    return whole


class BatchedEnv(gym.vector.VectorEnv[Any, Any, Any], ABC):
    """N boards under the rules of one single environment; what a board shows and does is the subclass's.

    Board i plays episode k of seed + i as its k-th, like N single environments seeded in turn; observations, rewards,
    ends and infos are those of Gymnasium's `SyncVectorEnv` over them. Every array returned is fresh.

    Autoreset modes, as in Gymnasium: NEXT_STEP (the default; the step after an end ignores the action and returns the
    next puzzle with reward 0), SAME_STEP (the last state goes into `infos["final_obs"]` and `infos["final_info"]`),
    DISABLED (`reset(options={"reset_mask": (N,) bool})`).

    Attributes:
        world: the single environment whose rules these are; it plays no puzzle itself.
    """

    single: ClassVar[type[gym.Env[Any, Any]]]
    world: Any

    def __init__(
        self,
        num_envs: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        **arguments: Any,
    ) -> None:
        """Make N boards; the first `reset` takes the first puzzles.

        Args:
            num_envs: how many boards, at least 1.
            autoreset_mode: what happens after an episode has ended.
            max_episode_steps: steps after which an episode is truncated, as of Gymnasium's `TimeLimit`; -1 for never;
                the environment's own budgets hold next to it.
            arguments: those of the single environment.

        Raises:
            FileNotFoundError: if an argument names a file that does not exist.
            ValueError: if an argument is out of its range.
        """
        _positive("num_envs", num_envs)
        if max_episode_steps == -1:  # `gym.make`'s way of asking for no limit
            max_episode_steps = None
        if max_episode_steps is not None:
            _positive("max_episode_steps", max_episode_steps)
        self.world = world = self.single(**arguments)
        self.num_envs = count = int(num_envs)
        self.render_mode = world.render_mode
        if self.render_mode == "human":
            raise ValueError("expected render_mode None, 'rgb_array' or 'ansi' for many boards at once, got 'human'")
        modes = {mode.value: mode for mode in AutoresetMode}
        if autoreset_mode not in modes.values() and autoreset_mode not in modes:
            raise ValueError(f"expected autoreset_mode to be one of {', '.join(modes)}, got {autoreset_mode!r}")
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**world.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = world.observation_space
        self.single_action_space = world.action_space
        self.observation_space = batch_space(world.observation_space, count)
        self.action_space = batch_space(world.action_space, count)
        space: Any = world.action_space
        self._sizes = np.asarray(space.nvec if hasattr(space, "nvec") else space.n).astype(np.uint64)
        self._limit = np.iinfo(np.int64).max if max_episode_steps is None else max_episode_steps
        self._elapsed = np.zeros(count, dtype=np.int64)
        self._seeds = np.zeros(count, dtype=np.uint64)
        self._seeded = np.zeros(count, dtype=np.bool_)
        self._next = np.zeros(count, dtype=np.uint64)
        self._waiting = np.zeros(count, dtype=np.bool_)
        self._begun = np.zeros(count, dtype=np.bool_)

    # ---- what a subclass says; `rows` are numbers of boards ----

    @abstractmethod
    def _chosen(self, options: dict[str, Any]) -> Any:
        """What reset options other than `reset_mask` ask for, None for the next puzzle; ValueError if they are bad."""

    @abstractmethod
    def _begin_chosen(self, rows: Rows, chosen: Any) -> None:
        """Begin an episode of what `_chosen` returned."""

    @abstractmethod
    def _begin_numbered(self, rows: Rows) -> None:
        """Begin episode `_next[row]` of seed `_seeds[row]`."""

    @abstractmethod
    def _advance(
        self, actions: NDArray[Any], active: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Act on the active boards; returns rewards without their share for solving, terminated and truncated."""

    @abstractmethod
    def _verdict(self, over: Rows) -> Info:
        """What infos say at the end of an episode, one row per board of `over`; with `solved`."""

    @abstractmethod
    def _running_info(self) -> Info:
        """What infos say of every board at every step."""

    @abstractmethod
    def _observation(self, rows: Rows | slice = slice(None)) -> Any:
        """A fresh observation of all boards, or of some."""

    @abstractmethod
    def _picture(self, row: int) -> Any:
        """A picture (or text) of one board."""

    def _shaping(self, terminated: NDArray[np.bool_], waiting: NDArray[np.bool_]) -> NDArray[np.float64] | None:
        """Added to the rewards of a step, if anything is."""
        return None

    def _any_seed(self, row: int) -> int:
        """The seed of a board that was never given one."""
        return int.from_bytes(os.urandom(8), "little")

    # ---- Gymnasium ----

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, Info]:
        """Begin the next puzzle on every board, or on those of `options["reset_mask"]`.

        Args:
            seed: board i plays puzzle 0 of seed + i; or one seed (or None) a board.
            options: `reset_mask`, and those of the single environment, the same for every board.

        Raises:
            ValueError: if an option or a seed is bad; boards and seeds are then as they were.
        """
        if options is not None and not isinstance(options, dict):
            raise ValueError(f"expected options as a dictionary, got {reprlib.repr(options)}")
        left = dict(options or {})
        mask = self._checked_mask(left.pop("reset_mask")) if "reset_mask" in left else None
        rows = np.arange(self.num_envs) if mask is None else np.flatnonzero(mask)
        chosen = self._chosen(left) if left else None
        self._seed(seed, rows)
        if chosen is not None:
            self._begin_chosen(rows, chosen)
            self._mark_begun(rows)
        else:
            self._begin_next(rows)
        info: Info = {}
        tell(info, only(self._running_info(), rows), self.num_envs, rows)
        return self._observation(), info

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], Info]:
        """One action on every board.

        Args:
            actions: a batch of the action space: (N,) integers, in answer mode (N, H*W + 1).

        Raises:
            ResetNeeded: if a board has no puzzle, or its episode has ended and the autoreset mode is DISABLED.
            ValueError: if an action is not in the action space.
        """
        self._expect_puzzles("step")
        if self.autoreset_mode == AutoresetMode.DISABLED and self._waiting.any():
            rows = np.flatnonzero(self._waiting).tolist()
            raise ResetNeeded(f"expected reset() of boards {rows} before step(): their episodes have ended")
        actions = self._checked_actions(actions)
        waiting = self._waiting.copy()
        rewards, terminated, truncated = self._advance(actions, ~waiting)
        self._elapsed += 1
        if waiting.any():
            self._begin_next(waiting.nonzero()[0])
        over = (terminated | truncated).nonzero()[0]
        verdict = self._verdict(over) if len(over) else None
        if verdict is not None:
            rewards[over] += terminated[over] & verdict["solved"]
        shaping = self._shaping(terminated, waiting)
        if shaping is not None:
            rewards += shaping
        truncated |= self._elapsed >= self._limit
        ended = terminated | truncated
        self._waiting = ended.copy()
        info: Info = {}
        if self.autoreset_mode == AutoresetMode.SAME_STEP and ended.any():
            self._finish(info, ended.nonzero()[0], over, verdict)
            verdict = None
        tell(info, self._running_info(), self.num_envs)
        if verdict is not None:
            tell(info, spread(verdict, over, self.num_envs), self.num_envs, over)
        return self._observation(), rewards, terminated, truncated, info

    def render(self) -> tuple[Any, ...] | None:
        """A picture (or text) of every board, as `render_mode` asks."""
        if self.render_mode is None:
            return None
        self._expect_puzzles("render")
        return tuple(self._picture(row) for row in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Close what the rendering opened."""
        self.world.close()

    # ---- episodes ----

    def _begin_next(self, rows: Rows) -> None:
        """Begin the next episodes of their seeds on the boards `rows`."""
        self._begin_numbered(rows)
        self._next[rows] += np.uint64(1)
        self._mark_begun(rows)

    def _mark_begun(self, rows: Rows) -> None:
        self._begun[rows], self._waiting[rows], self._elapsed[rows] = True, False, 0

    def _finish(self, info: Info, ended: Rows, over: Rows, verdict: Info | None) -> None:
        """SAME_STEP: put the last states of the boards `ended` into `info` and begin their next puzzles.

        Of the boards `over`, which did not end by `max_episode_steps` alone, there is a verdict.
        """
        last = self._observation(ended)
        boards = np.full(self.num_envs, None, dtype=object)
        for place, row in enumerate(ended):
            if isinstance(last, dict):
                boards[row] = {key: array[place].copy() for key, array in last.items()}
            else:
                boards[row] = last[place].copy()
        found: Info = {}
        tell(found, only(self._running_info(), ended), self.num_envs, ended)
        if verdict is not None:
            tell(found, spread(verdict, over, self.num_envs), self.num_envs, over)
        tell(info, {"final_obs": boards, "final_info": found}, self.num_envs, ended)
        self._begin_next(ended)

    def _seed(self, seed: int | Sequence[int | None] | None, rows: Rows) -> None:
        """Note the seeds of the boards `rows`; a board that never had one gets a new one."""
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
        for given in (seeds[row] for row in rows):
            if given is not None and (isinstance(given, bool) or not isinstance(given, int | np.integer) or given < 0):
                raise ValueError(f"expected a seed of at least 0, got {given!r}")
        for row in rows.tolist():
            given = seeds[row]
            if given is not None or not self._seeded[row]:
                value = self._any_seed(row) if given is None else int(given)
                self._seeds[row] = value & 0xFFFFFFFFFFFFFFFF
                self._next[row] = 0
                self._seeded[row] = True

    # ---- checks ----

    def _expect_puzzles(self, call: str) -> None:
        if not self._begun.all():
            raise ResetNeeded(f"expected reset() before {call}(): there is no puzzle yet")

    def _checked_mask(self, mask: Any) -> NDArray[np.bool_]:
        mask = np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_:
            raise ValueError(f"expected reset_mask of ({self.num_envs},) bool, got {mask.shape} {mask.dtype}")
        if not mask.any():
            raise ValueError("expected a reset_mask with at least one True, got none")
        return mask

    def _checked_actions(self, actions: Any) -> NDArray[Any]:
        try:
            actions = np.asarray(actions)
        except ValueError:
            raise ValueError("expected an array of actions, got rows of several lengths") from None
        expected = (self.num_envs, *(self.single_action_space.shape or ()))
        if actions.shape != expected or actions.dtype.kind not in "iu":
            raise ValueError(f"expected actions of shape {expected}, integers, got {actions.shape} {actions.dtype}")
        outside = actions.astype(np.uint64) >= self._sizes  # as unsigned numbers, negative ones are too large as well
        if outside.any():
            row = int(np.argmax(outside.reshape(self.num_envs, -1).any(axis=1)))
            raise ValueError(f"expected actions in {self.single_action_space}, got {actions[row]} on board {row}")
        return actions


def _positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"expected {name} to be an integer of at least 1, got {value!r}")


@dataclass(frozen=True, eq=False)
class Boards:
    """The puzzles on N boards.

    Attributes:
        clues: (N, H, W) uint8.
        solutions: (N, H, W) uint8.
    """

    clues: NDArray[np.uint8]
    solutions: NDArray[np.uint8]

    @classmethod
    def empty(cls, count: int, shape: tuple[int, int]) -> Boards:
        """N boards without puzzles."""
        return cls(np.zeros((count, *shape), np.uint8), np.zeros((count, *shape), np.uint8))


class VectorMode(ABC):
    """One way of giving an answer, on N boards.

    Attributes:
        family: the rules of the puzzles.
        boards: the puzzles; written by the environment, read here.
        shown: (N, H, W) uint8, the answers as the observations show them.
        violations: (N,) int32, number of cells of `shown` that break a rule.
        halt_is_forced: whether using up the budget ends the episode as a halt (terminated), not as a cut (truncated).
    """

    halt_is_forced: ClassVar[bool] = False

    def __init__(self, family: PuzzleFamily, boards: Boards) -> None:
        self.family, self.boards = family, boards
        self.shown = np.zeros_like(boards.clues)
        self.violations = np.zeros(len(boards.clues), dtype=np.int32)

    def begin(self, rows: Rows) -> None:
        """Show the new puzzles of the boards `rows` with nothing done yet."""
        self.shown[rows] = self.family.blank(self.boards.clues[rows])
        self.violations[rows] = 0

    @abstractmethod
    def act(self, actions: NDArray[Any], active: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Run one action on each active board.

        Args:
            actions: one action a board, already known to lie in the action space.
            active: (N,) bool; the other boards are left alone.

        Returns:
            (N,) bool, the active boards whose episode ends by it.
        """

    def answers(self, rows: Rows) -> NDArray[np.uint8]:
        """(n, H, W) uint8, the answers to judge."""
        return self.shown[rows]

    def solved(self, rows: Rows) -> NDArray[np.bool_]:
        """(n,) bool, whether the answers are right by the rules."""
        return self.family.judge(self.boards.clues[rows], self.boards.solutions[rows], self.answers(rows))

    def verdict(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """What info says of the answers at the end, an array a key with an entry for each of `rows`."""
        return self.family.verdict(self.boards.clues[rows], self.boards.solutions[rows], self.answers(rows))

    def potential(self, rows: Rows) -> NDArray[np.float64]:
        """(n,) Phi of the boards."""
        return self.family.cell_accuracy(self.boards.clues[rows], self.boards.solutions[rows], self.answers(rows))

    @abstractmethod
    def masks(self) -> NDArray[np.bool_]:
        """(N, A) bool, True for every legal action."""


class VectorAnswerMode(VectorMode):
    """The whole grid and a halt bit in one action."""

    halt_is_forced = True

    def act(self, actions: NDArray[Any], active: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Take over the grids; a board ends if its halt bit is set."""
        shape = self.shown.shape
        if active.all():
            self.shown[:] = actions[:, :-1].reshape(shape)
            self.violations[:] = self.family.count_violations(self.boards.clues, self.shown)
        else:
            self.shown[active] = actions[active, :-1].reshape(-1, *shape[1:])
            counted = self.family.count_violations(self.boards.clues[active], self.shown[active])
            self.violations[active] = counted
        return (actions[:, -1] == 1) & active

    def masks(self) -> NDArray[np.bool_]:
        """(N, H*W*vocab + 2) bool."""
        return self.family.answer_masks(self.boards.clues)


class VectorCellMode(VectorMode):
    """Write one symbol into one free cell, or halt (the last action)."""

    def __init__(self, family: PuzzleFamily, boards: Boards) -> None:
        super().__init__(family, boards)
        count, cells = len(boards.clues), boards.clues[0].size
        self._free = np.zeros((count, cells), dtype=np.bool_)
        ended = np.zeros(count, dtype=np.bool_)
        self._cells = CellBoards(boards.clues, boards.solutions, self.shown, self._free, self.violations, ended)

    def begin(self, rows: Rows) -> None:
        """Show the clues alone."""
        super().begin(rows)
        self._free[rows] = self.family.free(self.boards.clues[rows]).reshape(len(rows), -1)

    def act(self, actions: NDArray[Any], active: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Write; a board ends if it halts or becomes solved."""
        self.family.write_many(self._cells, actions.astype(np.int64, copy=False), active)
        return self._cells.ended & active

    def masks(self) -> NDArray[np.bool_]:
        """(N, H*W*symbols + 1) bool."""
        return self.family.cell_masks(self.boards.clues, self.shown)


class PuzzleVectorEnv(BatchedEnv):
    """N boards under the rules of one puzzle environment; `BatchedEnv` says how they begin and end.

    The families' classes (`MazeVectorEnv`, ...) say which single environment it is; arguments are those of that one.
    """

    modes: ClassVar[dict[str, type[VectorMode]]] = {"answer": VectorAnswerMode, "cell": VectorCellMode}
    single: ClassVar[type[PuzzleEnv]]
    world: PuzzleEnv

    def __init__(
        self, num_envs: int = 1, autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP, **arguments: Any
    ) -> None:
        """Make N boards; arguments as of `BatchedEnv` and of the single environment."""
        super().__init__(num_envs, autoreset_mode, **arguments)
        world, count = self.world, self.num_envs
        self._boards = Boards.empty(count, world.shape)
        self._mode = self.modes[world.action_mode](world.family, self._boards)
        self._steps = np.zeros(count, dtype=np.int64)
        self._attempts = np.zeros(count, dtype=np.uint8)
        self._phi = np.zeros(count)
        kinds = world.family.extra_arrays(world.shape)
        self._extras = {name: np.zeros((count, *kind.shape), kind.dtype) for name, kind in kinds.items()}

    def action_masks(self) -> NDArray[np.bool_]:
        """(N, A) bool, True for every legal action (for MultiDiscrete, factor after factor)."""
        self._expect_puzzles("action_masks")
        return self._mode.masks()

    # ---- an episode ----

    def _chosen(self, options: dict[str, Any]) -> Puzzle:
        return self.world.chosen(options)

    def _begin_chosen(self, rows: Rows, chosen: Puzzle) -> None:
        self._put(rows, chosen.repeated(len(rows)))

    def _begin_numbered(self, rows: Rows) -> None:
        self._put(rows, self.world.puzzle_source.batch(puzzle_keys(self._seeds[rows], self._next[rows])))

    def _put(self, rows: Rows, batch: PuzzleBatch) -> None:
        """Put puzzles on the boards `rows` and begin their episodes."""
        self._boards.clues[rows] = batch.clues
        self._boards.solutions[rows] = batch.solutions
        for name, arrays in self._extras.items():
            arrays[rows] = batch.extras[name]
        self._mode.begin(rows)
        self._steps[rows] = 0
        self._attempts[rows] = 0
        if self.world.dense:
            self._phi[rows] = self._mode.potential(rows)

    def _advance(
        self, actions: NDArray[Any], active: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        terminated = self._mode.act(actions, active)
        self._steps += active
        spent = (self._steps >= self.world.max_steps) & active
        if self._mode.halt_is_forced:
            terminated |= spent
        if self.world.family.attempts > 1 and terminated.any():
            # Start the next attempt where one is left and this one's answer is wrong; clears both marks there
            rows = np.flatnonzero(terminated & (self._attempts < self.world.family.attempts - 1))
            rows = rows[~self._mode.solved(rows)]
            self._attempts[rows] += 1
            self._steps[rows] = 0
            terminated[rows] = spent[rows] = False
        return np.where(active, 0.0 - self.world.step_cost, 0.0), terminated, spent & ~terminated

    def _verdict(self, over: Rows) -> Info:
        verdict = self._mode.verdict(over)
        return {"is_success": verdict["solved"], **verdict}

    def _shaping(self, terminated: NDArray[np.bool_], waiting: NDArray[np.bool_]) -> NDArray[np.float64] | None:
        """gamma * Phi(s') - Phi(s), with Phi = 0 in every terminal state; nothing for boards that have just begun."""
        if not self.world.dense:
            return None
        potential = np.where(terminated, 0.0, self._mode.potential(np.arange(self.num_envs)))
        shaping = np.where(waiting, 0.0, self.world.gamma * potential - self._phi)
        self._phi = potential
        return shaping

    # ---- what is shown ----

    def _observation(self, rows: Rows | slice = slice(None)) -> Observation:
        observation: Observation = {
            "puzzle": self._boards.clues[rows].copy(),
            "answer": self._mode.shown[rows].copy(),
            "segment": (self._steps[rows] / self.world.max_steps).astype(np.float32)[:, None],
        }
        for name, arrays in self._extras.items():
            observation[name] = arrays[rows].copy()
        if self.world.family.attempts > 1:
            observation["attempt"] = self._attempts[rows][:, None].copy()
        return observation

    def _running_info(self) -> Info:
        found: Info = {"segment": self._steps.copy(), "violations": self._mode.violations.astype(np.int64)}
        if self.world.mask_in_info:
            found["action_mask"] = self._mode.masks().astype(np.int8)
        return found

    def _picture(self, row: int) -> Any:
        extras = {name: arrays[row] for name, arrays in self._extras.items()}
        puzzle = Puzzle(self._boards.clues[row], self._boards.solutions[row], extras=extras)
        used, attempt, violations = (
            int(values[row]) for values in (self._steps, self._attempts, self._mode.violations)
        )
        return self.world.picture(
            Moment(puzzle, self._mode.shown[row], used, self.world.max_steps, violations, attempt=attempt)
        )
