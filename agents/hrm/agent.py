"""An HRM as an agent: one segment is one answer-mode action, and the halt bit is its own decision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from hrm_gym.agents import pretrained
from hrm_gym.agents.agent import Observation, StatefulAgent
from hrm_gym.agents.answer_to_action import answers_to_actions
from hrm_gym.agents.devices import choose_device, has_fast_bfloat16
from hrm_gym.agents.hrm.accelerate import accelerate
from hrm_gym.agents.hrm.halting import Halting, parse_halting
from hrm_gym.agents.hrm.hub import HubAgent, load_pretrained
from hrm_gym.agents.hrm.images import Turns
from hrm_gym.agents.hrm.model import HRM, Carry
from hrm_gym.agents.hrm.task_rows import NamedRows, TaskRows
from hrm_gym.agents.hrm.thinking import AgentState, Boards, Rules, Step, finish, think
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.puzzle import Puzzle, Thought

IMAGES = 8
"""Symmetric images of a board, itself included, on which a thought that does not halt is tried before other starts."""


class HRMAgent(HubAgent, StatefulAgent):
    """A Hierarchical Reasoning Model in an environment.

    In answer mode a `predict` runs one segment on every board and halts a board when its halting rule says so, by
    default when Q(halt) > Q(continue); a board that halted leaves the batch (or makes room for the next puzzle), so
    thinking less costs less. In cell and move mode it thinks to the end when a puzzle begins, boards that halt leaving
    the batch, and then executes its answer.

    Attributes:
        name: what tables call it.
        action_mode: "answer", "cell" or "move".
        model: the network.
        max_segments: most segments of one puzzle; may exceed the number used in training. In answer mode the
            environment has its own limit.
        halting: when it halts before that.
        task_rows: which row of the puzzle embedding belongs to a task.
        weights: where `for_env` found them.
    """

    task_rows: TaskRows | NamedRows = TaskRows()
    weights: Path | str | None = None

    def __init__(
        self,
        model: HRM,
        family: PuzzleFamily,
        action_mode: str = "answer",
        max_segments: int = 16,
        device: str = "auto",
        halting: Halting | str = "q",
        name: str = "hrm",
        compile: bool = False,
        restart: int = 0,
        check: bool = False,
    ) -> None:
        """Make the agent of a network.

        Args:
            model: the network; it is put in evaluation mode.
            family: the rules of the puzzle.
            action_mode: "answer", "cell" or "move".
            max_segments: most segments of one puzzle, at least 1.
            device: where to think; "auto" takes cuda, else mps, else cpu.
            halting: a halting rule or its text, see `halting.parse_halting`.
            name: what tables call it.
            compile: compile the network; pays after a minute of thinking or so.
            restart: segments after which a board that has not halted restarts; 0 never. Networks that treat all
                symmetric images equally, or know tasks by their colours and their turn, take another start
                (`HRM.start`); others first try the board turned, mirrored or renamed, and then other starts. Bundled
                weights say in their JSON what suits them.
            check: do not halt by the rule with an answer that breaks the rules of the puzzle (the environment tells
                everybody how many are broken, in `info["violations"]`). Bundled weights say in their JSON whether.

        Raises:
            ValueError: a bad rule, limit or device.
        """
        if max_segments < 1:
            raise ValueError(f"expected max_segments of at least 1, got {max_segments}")
        if not 0 <= restart < 2**31:
            raise ValueError(f"expected restart of at least 0 segments, below 2**31, got {restart}")
        self.name, self.family, self.action_mode = name, family, action_mode
        self.device = choose_device(device)
        if not has_fast_bfloat16(self.device):
            model = model.with_config(dtype="float32")
        self.model = model.to(self.device).eval().requires_grad_(False)
        self.max_segments, self.halting = max_segments, parse_halting(halting, model.config)
        self.restart, self.check = restart, check
        self.grid, self.vocab_size = model.config.grid, model.config.vocab_size
        accelerate(self.model, compile)
        self._seen: AgentState | None = None
        self._moved: tuple[Carry | None, NDArray[np.bool_]] = None, np.zeros(0, np.bool_)

    @classmethod
    @torch.inference_mode(False)  # else the weights could not take part in learning later
    def for_env(cls, env: gym.Env[Any, Any], weights: Path | str | None = None, **kwargs: Any) -> HRMAgent:
        """The agent for an environment.

        Args:
            env: a puzzle environment; wrappers do not matter.
            weights: a folder or `owner/name` on the Hugging Face hub, ours or official, see `hub.load_pretrained`; by
                default bundled weights of the same family and grid.
            **kwargs: as the constructor.

        Raises:
            ValueError: no bundled weights fit, or the given ones are damaged or do not fit.
            OSError: there is nothing at `weights`, and nothing came from the hub.
        """
        world: Any = env.unwrapped
        family, grid = world.family, tuple(world.shape)
        weights = weights or _bundled_for(family.name, grid)
        found = load_pretrained(weights)
        kind, learnt = found.about.get("family"), found.model.config.grid
        if kind != family.name or (learnt != grid and not found.model.config.any_grid):
            raise ValueError(
                f"weights {weights} are for {kind} {_times(learnt)}, the environment is {family.name} {_times(grid)}"
            )
        found = found._replace(model=found.model.on_grid(grid))
        settings = {"action_mode": world.action_mode, "max_segments": world.max_segments, **kwargs}
        agent = cls.of(found, family, **settings)
        agent.task_rows = agent.task_rows.numbered(getattr(world.puzzle_source, "task_names", ()))
        agent.weights = weights
        return agent

    # ---- the agent ----

    def decide(
        self, observation: Observation, state: AgentState | None, starts: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], AgentState]:
        """Answer mode: one segment of every board. Other modes: everything is thought when a puzzle begins."""
        puzzles = observation["puzzle"]
        boards = self.boards(puzzles, observation.get("task"))
        if self.action_mode == "answer":
            carry = None if state is None else state.carry
            state = next(self.think(boards, state, torch.from_numpy(starts).to(self.device))).state
            halts = state.halted.cpu().numpy()
            self._moved = carry, starts
        else:
            if starts.any():
                rows = torch.from_numpy(np.flatnonzero(starts)).to(self.device)
                found = finish(self.think(boards.rows(rows)))
                state = found if state is None else state.put(rows, found)
            self._moved = None, starts
            halts = np.ones(len(starts), np.bool_)
        assert state is not None
        self._seen = state
        answers = state.answers.cpu().numpy().reshape(puzzles.shape)
        return answers_to_actions(self.family, self.action_mode, observation, answers, halts), state

    def thoughts(self) -> list[Thought] | None:
        """What the agent had in mind at the last `predict`, one Thought a board."""
        state = self._seen
        if state is None:
            return None
        shape = (len(state), *self.grid)
        answers, confidence = (part.cpu().numpy().reshape(shape) for part in (state.answers, state.confidence))
        q_halt, q_continue = state.q_halt.tolist(), state.q_continue.tolist()
        has_continue, rules, moved = self.model.config.halting == "q_learning", self.rules, self._residuals(state)
        return [
            Thought(
                answer=answers[i],
                confidence=confidence[i],
                q_halt=q_halt[i],
                q_continue=q_continue[i] if has_continue else None,
                segment=int(state.segments[i]),
                reason=rules.reason(int(state.outcome[i]), q_halt[i], q_continue[i], int(state.segments[i])),
                event=rules.event(int(state.outcome[i]), int(state.segments[i])),
                threshold=rules.threshold,
                residuals=moved[i],
            )
            for i in range(len(state))
        ]

    def _residuals(self, state: AgentState) -> list[tuple[tuple[str, float], ...]]:
        """Of every board |z' - z| / |z'| of each module's state in the last segment; none for a first segment."""
        before, starts = self._moved
        if before is None:
            return [()] * len(state)
        names = list(dict.fromkeys(name.upper() for name, *_ in reversed(self.model.modules_by_speed)))
        moved = [
            ((new - old).float().flatten(1).norm(dim=1) / new.float().flatten(1).norm(dim=1)).tolist()
            for new, old in zip(state.carry, before, strict=True)
        ]
        return [
            () if starts[i] else tuple(zip(names, (one[i] for one in moved), strict=True)) for i in range(len(state))
        ]

    def spent(self) -> NDArray[np.int64]:
        """(B,) segments run so far on each board of the last `predict`."""
        return np.zeros(0, np.int64) if self._seen is None else self._seen.segments.cpu().numpy().astype(np.int64)

    @property
    def rules(self) -> Rules:
        """The rules of halting in force."""
        check = self._keeps_rules if self.check else None
        return Rules(self.halting, self.max_segments, check, self.restart, self._turns if self.restart else None)

    @property
    def halting_rules(self) -> str:
        """The same as tables show them."""
        return str(self.rules)

    # ---- thinking ----

    def boards(
        self,
        puzzles: NDArray[np.uint8],
        tasks: NDArray[np.int32] | None = None,
        images: NDArray[np.int64] | None = None,
    ) -> Boards:
        """Puzzles as the network takes them.

        Args:
            puzzles: (B, H, W) token ids.
            tasks: (B, 1) ids of tasks, for families that show them; a task without a row of the puzzle embedding gets
                row 0, that of no task in particular.
            images: (B,) number of the symmetric image that each board is, where images have rows of their own; 0, the
                unchanged puzzle, by default.
        """
        count = len(puzzles)
        none = np.zeros(count, np.int64)
        known = none if tasks is None else tasks.reshape(count).astype(np.int64)
        ids = self.task_rows.rows(known, none if images is None else images, self.model.config.puzzle_count)
        free = self.family.free(puzzles).reshape(count, -1)
        return Boards(
            torch.from_numpy(puzzles.reshape(count, -1)).to(self.device, torch.int32),
            torch.from_numpy(ids).to(self.device),
            torch.from_numpy(np.ascontiguousarray(free)).to(self.device),
        )

    def boards_of(self, puzzles: Sequence[Puzzle]) -> Boards:
        """`boards` of puzzles."""
        tasks = np.array([[puzzle.puzzle_id] for puzzle in puzzles], np.int32)
        return self.boards(np.stack([puzzle.clues for puzzle in puzzles]), tasks)

    def think(
        self,
        boards: Boards,
        state: AgentState | None = None,
        starts: torch.Tensor | None = None,
        numbers: torch.Tensor | None = None,
        rules: Rules | None = None,
    ) -> Iterator[Step]:
        """`thinking.think` with this network, and by the agent's own rules unless others are given.

        Raises:
            ValueError: the state is of another number of boards, or of another network.
        """
        if state is not None:
            config = self.model.config
            expected = (len(boards.inputs), config.length, config.hidden_size)
            if (got := tuple(state.carry.z_h.shape)) != expected:
                raise ValueError(f"expected a state of shape {expected} (boards, positions, width), got {got}")
        return think(self.model, boards, rules or self.rules, state, starts, numbers)

    def _keeps_rules(self, inputs: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """(K,) bool, answers (K, S) to puzzles (K, S) that are complete and break no rule."""
        clues, given = (part.cpu().numpy().astype(np.uint8).reshape(-1, *self.grid) for part in (inputs, answers))
        return torch.from_numpy(np.isfinite(self.family.cost(clues, given))).to(inputs.device)

    @cached_property
    def _turns(self) -> Turns:
        """The images that restarts go through: one where all are equivalent, or a task row fits just one."""
        config = self.model.config
        equivalent = config.by_symbol or config.puzzle_count > 1
        return Turns(self.family, config.grid, 1 if equivalent else IMAGES, self.device)


def _bundled_for(family: str, grid: tuple[int, ...]) -> Path:
    """Bundled weights for exactly this board, or else those for boards of any size."""
    fitting = [(folder, about["model"]) for folder, about in pretrained.bundled("hrm") if about["family"] == family]
    exact = [folder for folder, model in fitting if tuple(model["grid"]) == grid]
    of_any_size = [folder for folder, model in fitting if model.get("mixer") == "convolution"]
    for folder in (*exact, *of_any_size):
        return folder
    raise ValueError(f"no bundled HRM weights fit {family} {_times(grid)}; bundled: {pretrained.describe('hrm')}")


def _times(grid: tuple[int, ...]) -> str:
    return "x".join(map(str, grid))
