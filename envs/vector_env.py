"""Infos of many boards, as Gymnasium's vector environments have them: arrays over all boards, each beside a mask.

The action modes of `modes.py` for N boards at once: the same rules, without a Python loop over boards.

N boards of one puzzle environment at once, behind `gym.make_vec`: step by step equal to N single environments.
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
from hrm_gym.envs.puzzle import Puzzle, PuzzleBatch, puzzle_keys
from hrm_gym.envs.puzzle_env import Observation, PuzzleEnv, answer_masks

Info = dict[str, Any]
Rows = NDArray[np.int64]
"""Numbers of some of the boards."""


def tell(info: Info, told: Info, count: int, rows: Rows | None = None) -> None:
    """Add arrays to `info`, each `key` beside a mask `_key` of the boards that it speaks of.

    Args:
        info: what is added to.
        told: arrays over all boards, or dictionaries that are infos themselves.
        count: number of boards.
        rows: the boards they speak of; None for all.
    """
    some = rows is not None and len(rows) < count
    said = np.zeros(count, dtype=np.bool_) if some else np.ones(count, dtype=np.bool_)
    if some:
        said[rows] = True
    for key, array in told.items():
        info[key], info[f"_{key}"] = array, said.copy()


def spread(told: Info, rows: Rows, count: int) -> Info:
    """Arrays with an entry for each of `rows` as arrays over all boards, zero elsewhere."""
    return {key: _spread_array(array, rows, count) for key, array in told.items()}


def only(told: Info, rows: Rows) -> Info:
    """Arrays over all boards with zeros outside `rows`."""
    return {key: _spread_array(array[rows], rows, len(array)) for key, array in told.items()}


def _spread_array(array: NDArray[Any], rows: Rows, count: int) -> NDArray[Any]:
    whole = np.zeros((count, *array.shape[1:]), dtype=array.dtype)
    whole[rows] = array
    return whole


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

    def __getitem__(self, row: int) -> Puzzle:
        """The puzzle on one board."""
        return Puzzle(self.clues[row], self.solutions[row])


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
        """Carry out one action on each active board.

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
        return answer_masks(self.family, self.boards.clues)


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
        legal = self.family.legal_writes(self.boards.clues, self.shown)
        count = len(legal)
        return np.concatenate([legal.reshape(count, -1), np.ones((count, 1), dtype=np.bool_)], axis=1)


class PuzzleVectorEnv(gym.vector.VectorEnv[Observation, NDArray[Any], NDArray[Any]]):
    """N boards under the rules of one puzzle environment.

    Board i plays puzzle k of seed + i as its k-th episode, like N single environments seeded in turn; observations,
    rewards, ends and infos are those of Gymnasium's `SyncVectorEnv` over them. Every array returned is fresh.

    Autoreset modes, as in Gymnasium: NEXT_STEP (the default; the step after an end ignores the action and returns the
    next puzzle with reward 0), SAME_STEP (the last state goes into `infos["final_obs"]` and `infos["final_info"]`),
    DISABLED (`reset(options={"reset_mask": (N,) bool})`).

    The families' classes (`MazeVectorEnv`, ...) say which single environment it is; arguments are those of that one.

    Attributes:
        world: the single environment whose rules these are; it plays no puzzle itself.
    """

    modes: ClassVar[dict[str, type[VectorMode]]] = {"answer": VectorAnswerMode, "cell": VectorCellMode}
    single: ClassVar[type[PuzzleEnv]]

    def __init__(
        self, num_envs: int = 1, autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP, **arguments: Any
    ) -> None:
        """Make N boards; the first `reset` takes the first puzzles.

        Args:
            num_envs: how many boards, at least 1.
            autoreset_mode: what happens after an episode has ended.
            arguments: those of the single environment.

        Raises:
            ValueError: if an argument is out of its range.
        """
        if not isinstance(num_envs, int | np.integer) or num_envs < 1:
            raise ValueError(f"expected num_envs to be an integer of at least 1, got {num_envs!r}")
        self.world = world = self.single(**arguments)
        self.num_envs = int(num_envs)
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
        self.observation_space = batch_space(world.observation_space, self.num_envs)
        self.action_space = batch_space(world.action_space, self.num_envs)
        space: Any = world.action_space
        self._sizes = np.asarray(space.nvec if hasattr(space, "nvec") else space.n).astype(np.uint64)
        self._boards = Boards.empty(self.num_envs, world.shape)
        self._mode = self.modes[world.action_mode](world.family, self._boards)
        self._make_state()

    def _make_state(self) -> None:
        count, family = self.num_envs, self.world.family
        self._seeds = np.zeros(count, dtype=np.uint64)
        self._seeded = np.zeros(count, dtype=np.bool_)
        self._next = np.zeros(count, dtype=np.uint64)
        self._steps = np.zeros(count, dtype=np.int64)
        self._attempts = np.zeros(count, dtype=np.uint8)
        self._phi = np.zeros(count)
        self._waiting = np.zeros(count, dtype=np.bool_)
        self._begun = np.zeros(count, dtype=np.bool_)
        self._tasks = np.zeros(count, dtype=np.int32)
        self._pairs = np.zeros(count, dtype=np.uint8)
        shown = (count, family.max_pairs, 2, *self.world.shape)
        self._demonstrations = np.zeros(shown if family.max_pairs else (count, 0), dtype=np.uint8)

    # ---- Gymnasium ----

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Info]:
        """Begin the next puzzle on every board, or on those of `options["reset_mask"]`.

        Args:
            seed: board i plays puzzle 0 of seed + i; or one seed (or None) a board.
            options: `reset_mask`, and those of the single environment, the same for every board.

        Raises:
            ValueError: if an option or the number of seeds is bad.
        """
        if options is not None and not isinstance(options, dict):
            raise ValueError(f"expected options as a dictionary, got {reprlib.repr(options)}")
        left = dict(options or {})
        mask = self._checked_mask(left.pop("reset_mask")) if "reset_mask" in left else None
        rows = np.arange(self.num_envs) if mask is None else np.flatnonzero(mask)
        chosen = self.world._chosen(left) if left else None
        self._seed(seed, rows)
        if chosen is not None:
            self._put(rows, _repeated(chosen, len(rows)))
        else:
            self._begin_next(rows)
        info: Info = {}
        tell(info, only(self._running_info(), rows), self.num_envs, rows)
        return self._observation(), info

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], Info]:
        """One action on every board.

        Args:
            actions: a batch of the action space: (N,) integers, in answer mode (N, H*W + 1).

        Raises:
            ResetNeeded: if a board has no puzzle, or its episode has ended and the autoreset mode is DISABLED.
            ValueError: if an action is not in the action space.
        """
        if not self._begun.all():
            raise ResetNeeded("expected reset() before step(): no episode is running")
        if self.autoreset_mode == AutoresetMode.DISABLED and self._waiting.any():
            rows = np.flatnonzero(self._waiting).tolist()
            raise ResetNeeded(f"expected reset() of boards {rows} before step(): their episodes have ended")
        actions = self._checked_actions(actions)
        waiting = self._waiting.copy()
        rewards, terminated, truncated = self._advance(actions, ~waiting)
        if waiting.any():
            self._begin_next(waiting.nonzero()[0])
        ended = terminated | truncated
        over = ended.nonzero()[0]
        verdict = self._verdict(over) if len(over) else None
        if verdict is not None:
            rewards[over] += terminated[over] & verdict["solved"]
        if self.world.dense:
            rewards += self._shaping(terminated, waiting)
        self._waiting = ended
        info: Info = {}
        if self.autoreset_mode == AutoresetMode.SAME_STEP and verdict is not None:
            self._finish(info, over, verdict)
            verdict = None
        tell(info, self._running_info(), self.num_envs)
        if verdict is not None:
            tell(info, spread(verdict, over, self.num_envs), self.num_envs, over)
        return self._observation(), rewards, terminated, truncated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """(N, A) bool, True for every legal action (for MultiDiscrete, factor after factor)."""
        if not self._begun.all():
            raise ResetNeeded("expected reset() before action_masks(): there is no puzzle yet")
        return self._mode.masks()

    def render(self) -> tuple[Any, ...] | None:
        """A picture (or text) of every board, as `render_mode` asks."""
        if self.render_mode is None:
            return None
        return tuple(self.world.picture(self._puzzle(row), **self._moment(row)) for row in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Close what the rendering opened."""
        self.world.close()

    # ---- an episode ----

    def _advance(
        self, actions: NDArray[Any], active: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Act on the active boards; returns rewards without their share for solving, terminated and truncated."""
        terminated = self._mode.act(actions, active)
        self._steps += active
        spent = (self._steps >= self.world.max_steps) & active
        if self._mode.halt_is_forced:
            terminated |= spent
        if self.world.family.attempts > 1 and terminated.any():
            self._try_again(terminated, spent)
        return np.where(active, 0.0 - self.world.step_cost, 0.0), terminated, spent & ~terminated

    def _try_again(self, terminated: NDArray[np.bool_], spent: NDArray[np.bool_]) -> None:
        """Start the next attempt where one is left and this one's answer is wrong; clears both marks there."""
        rows = np.flatnonzero(terminated & (self._attempts < self.world.family.attempts - 1))
        rows = rows[~self._mode.solved(rows)]
        self._attempts[rows] += 1
        self._steps[rows] = 0
        terminated[rows] = spent[rows] = False

    def _verdict(self, over: Rows) -> Info:
        verdict = self._mode.verdict(over)
        return {"is_success": verdict["solved"], **verdict}

    def _shaping(self, terminated: NDArray[np.bool_], waiting: NDArray[np.bool_]) -> NDArray[np.float64]:
        """gamma * Phi(s') - Phi(s), with Phi = 0 in every terminal state; nothing for boards that began anew."""
        potential = np.where(terminated, 0.0, self._mode.potential(np.arange(self.num_envs)))
        shaping = np.where(waiting, 0.0, self.world.gamma * potential - self._phi)
        self._phi = potential
        return shaping

    def _finish(self, info: Info, over: Rows, verdict: Info) -> None:
        """SAME_STEP: put the last states of the boards `over` aside and begin their next puzzles."""
        last = self._observation(over)
        boards = np.full(self.num_envs, None, dtype=object)
        for place, row in enumerate(over):
            boards[row] = {key: array[place].copy() for key, array in last.items()}
        told: Info = {}
        tell(told, only(self._running_info(), over), self.num_envs, over)
        tell(told, spread(verdict, over, self.num_envs), self.num_envs, over)
        tell(info, {"final_obs": boards, "final_info": told}, self.num_envs, over)
        self._begin_next(over)

    # ---- puzzles ----

    def _seed(self, seed: int | Sequence[int | None] | None, rows: Rows) -> None:
        """Note the seeds of the boards `rows`; a board that never had one gets a random one."""
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
        for row in rows:
            given = seeds[row]
            if given is None and self._seeded[row]:
                continue
            if given is not None and (not isinstance(given, int | np.integer) or given < 0):
                raise ValueError(f"expected a seed of at least 0, got {given!r}")
            value = int.from_bytes(os.urandom(8), "little") if given is None else int(given)
            self._seeds[row], self._next[row], self._seeded[row] = value & 0xFFFFFFFFFFFFFFFF, 0, True

    def _begin_next(self, rows: Rows) -> None:
        """Put the next puzzles of their seeds on the boards `rows`."""
        keys = puzzle_keys(self._seeds[rows], self._next[rows])
        self._next[rows] += np.uint64(1)
        self._put(rows, self.world.puzzle_source.batch(keys))

    def _put(self, rows: Rows, batch: PuzzleBatch) -> None:
        """Put puzzles on the boards `rows` and begin their episodes."""
        self._boards.clues[rows], self._boards.solutions[rows] = batch.clues, batch.solutions
        self._tasks[rows] = batch.puzzle_ids
        if batch.demonstrations is not None and batch.pairs is not None:
            self._demonstrations[rows], self._pairs[rows] = batch.demonstrations, batch.pairs
        self._mode.begin(rows)
        self._steps[rows] = self._attempts[rows] = 0
        self._begun[rows], self._waiting[rows] = True, False
        if self.world.dense:
            self._phi[rows] = self._mode.potential(rows)

    def _puzzle(self, row: int) -> Puzzle:
        """The puzzle on one board."""
        grids = self._boards[row]
        if not self.world.family.max_pairs:
            return grids
        task, shown, pairs = int(self._tasks[row]), self._demonstrations[row], int(self._pairs[row])
        return Puzzle(grids.clues, grids.solution, task, demonstrations=shown, pairs=pairs)

    # ---- what is told ----

    def _observation(self, rows: Rows | slice = slice(None)) -> Observation:
        """A fresh observation of all boards, or of some."""
        share = (self._steps[rows] / self.world.max_steps).astype(np.float32)[:, None]
        observation: Observation = {
            "puzzle": self._boards.clues[rows].copy(),
            "answer": self._mode.shown[rows].copy(),
            "segment": share,
        }
        if self.world.family.max_pairs:
            observation["demonstrations"] = self._demonstrations[rows].copy()
            observation["pairs"] = self._pairs[rows][:, None].copy()
            observation["task"] = self._tasks[rows][:, None].copy()
        if self.world.family.attempts > 1:
            observation["attempt"] = self._attempts[rows][:, None].copy()
        return observation

    def _running_info(self) -> Info:
        """What is told of every board at every step."""
        told: Info = {"segment": self._steps.copy(), "violations": self._mode.violations.astype(np.int64)}
        if self.world.mask_in_info:
            told["action_mask"] = self._mode.masks().astype(np.int8)
        return told

    def _moment(self, row: int) -> Info:
        """What a picture of one board shows beside its puzzle."""
        return {
            "answer": self._mode.shown[row],
            "used": int(self._steps[row]),
            "attempt": int(self._attempts[row]),
            "violations": int(self._mode.violations[row]),
        }

    # ---- checks ----

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


def _repeated(puzzle: Puzzle, count: int) -> PuzzleBatch:
    """The same puzzle `count` times."""

    def times(array: NDArray[Any]) -> NDArray[Any]:
        return np.broadcast_to(array, (count, *array.shape))

    demonstrations = None if puzzle.demonstrations is None else times(puzzle.demonstrations)
    ids, pairs = np.full(count, puzzle.puzzle_id, np.int32), np.full(count, puzzle.pairs, np.uint8)
    return PuzzleBatch(times(puzzle.clues), times(puzzle.solution), ids, demonstrations, pairs)
