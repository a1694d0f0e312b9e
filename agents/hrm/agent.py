"""An HRM as an agent: one segment is one answer-mode action, and the halt bit is its own decision."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from hrm_gym.agents import pretrained
from hrm_gym.agents.agent import Observation, StatefulAgent
from hrm_gym.agents.answer_to_action import carry_out_rows
from hrm_gym.agents.devices import choose_device, has_fast_bfloat16
from hrm_gym.agents.hrm import thinking
from hrm_gym.agents.hrm.accelerate import accelerate
from hrm_gym.agents.hrm.halting import Halting, parse_halting
from hrm_gym.agents.hrm.hub import HubAgent, load_pretrained
from hrm_gym.agents.hrm.images import Turns
from hrm_gym.agents.hrm.model import HRM, Carry
from hrm_gym.agents.hrm.task_rows import NamedRows, TaskRows
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.puzzle import Thought

IMAGES = 8
"""Symmetric images of a board, itself included, on which a thought that does not halt is tried before other starts."""

STARTS = 4096
"""More than there are thoughts about one puzzle at a time: sets apart the starts of their restarts."""


class Boards(NamedTuple):
    """Puzzles of a batch: inputs (B, S) int32, puzzle_ids (B,) int32, free (B, S) bool cells."""

    inputs: torch.Tensor
    puzzle_ids: torch.Tensor
    free: torch.Tensor

    def rows(self, index: torch.Tensor) -> Boards:
        """Some of the boards: `index` is (K,) int64 or (B,) bool."""
        return Boards(*(part[index] for part in self))


@dataclass(frozen=True, eq=False)
class Mind:
    """What an HRM has in mind for B boards: its recurrent state. `mind[rows]` keeps some of the boards.

    Attributes:
        carry: the states of both levels.
        reading: the answers, their confidence, and for how long they have stayed the same.
        q_halt: (B,) float32 probability.
        q_continue: (B,) float32 probability.
        segments: (B,) int32, segments run.
    """

    carry: Carry
    reading: thinking.Reading
    q_halt: torch.Tensor
    q_continue: torch.Tensor
    segments: torch.Tensor

    def __getitem__(self, rows: NDArray[np.int64] | torch.Tensor) -> Mind:
        index = torch.as_tensor(rows, device=self.segments.device)
        rest = (self.q_halt[index], self.q_continue[index], self.segments[index])
        return Mind(self.carry.rows(index), self.reading.rows(index), *rest)

    @property
    def answers(self) -> torch.Tensor:
        """(B, S) uint8."""
        return self.reading.answers

    @property
    def confidence(self) -> torch.Tensor:
        """(B, S) float32, the probability of the chosen token of every cell."""
        return self.reading.confidence

    def merged(self, rows: torch.Tensor, other: Mind) -> Mind:
        """This mind with the boards `rows` replaced by the boards of `other`, in order."""

        def put(mine: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
            mine = mine.clone()
            mine[rows] = new
            return mine

        carry = Carry(*map(put, self.carry, other.carry))
        reading = thinking.Reading(*map(put, self.reading, other.reading))
        names = ("q_halt", "q_continue", "segments")
        return Mind(carry, reading, *(put(getattr(self, name), getattr(other, name)) for name in names))


class HRMAgent(HubAgent, StatefulAgent):
    """A Hierarchical Reasoning Model in an environment.

    In answer mode a `predict` runs one segment on every board and halts a board when its halting rule says so, by
    default when Q(halt) > Q(continue); a board that halted leaves the batch (or makes room for the next puzzle), so
    thinking less costs less. In cell and move mode it thinks to the end when a puzzle begins, boards that halt leaving
    the batch, and then carries out its answer.

    Attributes:
        name: what tables call it.
        action_mode: "answer", "cell" or "move".
        model: the network.
        max_segments: most segments of one puzzle; may exceed the number used in training. In answer mode the
            environment has a limit of its own.
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
            restart: segments after which a thought that has not halted begins anew; 0 never. Networks that treat all
                symmetric images alike, or know tasks by their colours and their turn, begin from another start
                (`HRM.start`); others first try the board turned, mirrored or renamed, and then other starts. Bundled
                weights say in their JSON what suits them.
            check: do not halt by the rule with an answer that breaks the rules of the puzzle (the environment tells
                everybody how many are broken, in `info["violations"]`). Bundled weights say in their JSON whether.

        Raises:
            ValueError: a bad rule, limit or device.
        """
        if max_segments < 1:
            raise ValueError(f"expected max_segments of at least 1, got {max_segments}")
        if restart < 0:
            raise ValueError(f"expected restart of at least 0 segments, got {restart}")
        self.name, self.family, self.action_mode = name, family, action_mode
        self.device = choose_device(device)
        if not has_fast_bfloat16(self.device):
            model = model.with_config(dtype="float32")
        self.model = model.to(self.device).eval().requires_grad_(False)
        self.max_segments, self.halting = max_segments, parse_halting(halting, model.config)
        self.restart, self.check = restart, check
        accelerate(self.model, compile)
        self._mind: Mind | None = None

    @classmethod
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

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], Any]:
        """Actions for one observation or a batch.

        Args:
            observation: `puzzle` and `answer` (H, W) uint8, or (B, H, W).
            state: the Mind that the last call returned; None starts every board anew.
            episode_start: (B,) bool, boards on which a new puzzle begins.
            deterministic: has no effect; an HRM does not sample.

        Returns:
            Actions in the form of the action mode, and the next Mind.
        """
        single = observation["puzzle"].ndim == 2
        rows = {key: np.asarray(value)[None] for key, value in observation.items()} if single else observation
        count = len(rows["puzzle"])
        starts = np.broadcast_to(state is None if episode_start is None else episode_start, count)
        boards = self.boards(rows["puzzle"], rows.get("task"))
        mind: Mind = self.begin(count) if state is None else state
        mind, halts = self._think(mind, boards, np.array(starts))
        self._mind = mind
        answers = mind.answers.cpu().numpy().reshape(rows["puzzle"].shape)
        actions = carry_out_rows(self.family, self.action_mode, rows, answers, halts)
        return (actions[0] if single else actions), mind

    def thoughts(self) -> list[Thought] | None:
        """What the agent had in mind at the last `predict`, one Thought a board."""
        mind = self._mind
        if mind is None:
            return None
        grid = self.model.config.grid
        learned = self.model.config.halting == "q_learning"
        return [
            Thought(
                answer=mind.answers[i].cpu().numpy().reshape(grid),
                confidence=mind.confidence[i].cpu().numpy().reshape(grid),
                q_halt=float(mind.q_halt[i]),
                q_continue=float(mind.q_continue[i]) if learned else None,
                segment=int(mind.segments[i]),
            )
            for i in range(len(mind.answers))
        ]

    def spent(self) -> NDArray[np.int64]:
        """(B,) segments run so far on each board of the last `predict`."""
        return np.zeros(0, np.int64) if self._mind is None else self._mind.segments.cpu().numpy().astype(np.int64)

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
                puzzle as it is, by default.
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

    def begin(self, count: int) -> Mind:
        """The mind at the start of `count` boards: initial states, nothing answered."""
        zeros = torch.zeros(count, device=self.device)
        reading = thinking.Reading.nothing(count, self.model.config.cells, self.device)
        return Mind(self.model.initial_carry(count), reading, zeros, zeros, zeros.to(torch.int32))

    @torch.inference_mode()
    def segment(
        self, mind: Mind, boards: Boards, starts: torch.Tensor, numbers: torch.Tensor | None = None
    ) -> tuple[Mind, torch.Tensor]:
        """One segment on every board.

        Args:
            mind: what was thought so far.
            boards: the puzzles.
            starts: (B,) bool, boards that begin anew.
            numbers: (B,) int64, from which start each board is thought about (`HRM.start`); 0 by default.

        Returns:
            The next mind, and (B,) bool: the boards that halt.
        """
        puzzles = self.model.puzzles[boards.puzzle_ids.long()]
        past = torch.where(starts, 0, mind.segments)
        carry = self._started(mind, starts, numbers)
        if self.restart and bool((past >= self.restart).any()):  # not all are at their first attempt
            image = past.long() // self.restart % self._turns.count
            result = self.model.run(carry, self._turns.images(boards.inputs, image), puzzles)
            logits = self._turns.back(result.logits, image)
        else:
            result = self.model.run(carry, boards.inputs, puzzles)
            logits = result.logits
        segments = past + 1
        before = mind.reading._replace(answers=torch.where(starts[:, None], 0, mind.answers))
        reading, q = before.after(logits), (result.q_halt, result.q_continue)
        halts = thinking.judge(self.halting, segments, q, reading, boards.free)
        if self.check:
            halts = self._keeping_rules(halts, boards.inputs, reading.answers)
        halts = halts | (segments >= self.max_segments)
        return Mind(result.carry, reading, torch.sigmoid(q[0]), torch.sigmoid(q[1]), segments), halts

    def _keeping_rules(self, halts: torch.Tensor, inputs: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """(B,) bool, the boards of `halts` whose answers are whole and break no rule."""
        rows, grid = halts.nonzero()[:, 0], self.model.config.grid
        clues, given = (part[rows].cpu().numpy().astype(np.uint8).reshape(-1, *grid) for part in (inputs, answers))
        broken = torch.from_numpy(np.isinf(self.family.cost(clues, given)))
        halts = halts.clone()
        halts[rows[broken.to(rows.device)]] = False
        return halts

    @cached_property
    def _turns(self) -> Turns:
        """The images on which a thought is tried: one where all are alike, or where the row of a task fits just one."""
        config = self.model.config
        alike = config.by_symbol or config.puzzle_count > 1
        return Turns(self.family, config.grid, 1 if alike else IMAGES, self.device)

    def _started(self, mind: Mind, starts: torch.Tensor, numbers: torch.Tensor | None) -> Carry:
        """The carry for the next segment: boards that begin, or begin anew, are put to their starts."""
        if self.restart == 0:
            return self.model.reset_rows(mind.carry, starts, numbers)
        past = torch.where(starts, 0, mind.segments).long()
        own = past // self.restart // self._turns.count
        begins = starts | ((past > 0) & (past % self.restart == 0))
        return self.model.reset_rows(mind.carry, begins, own if numbers is None else own * STARTS + numbers)

    def _think(self, mind: Mind, boards: Boards, starts: NDArray[np.bool_]) -> tuple[Mind, Any]:
        """The next mind and the halt bits: one segment in answer mode, else the whole thought of boards that begin."""
        if self.action_mode == "answer":
            mind, halts = self.segment(mind, boards, torch.from_numpy(starts).to(self.device))
            return mind, halts.cpu().numpy()
        if starts.any():
            mind = self._to_the_end(mind, boards, torch.from_numpy(np.flatnonzero(starts)).to(self.device))
        return mind, True

    def _to_the_end(self, mind: Mind, boards: Boards, rows: torch.Tensor) -> Mind:
        """Solve the boards `rows` by adaptive computation; their carry is not kept, since they are finished."""
        chosen, found = boards.rows(rows), self.begin(len(rows))
        live = torch.arange(len(rows), device=rows.device)
        starts = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        while len(live):
            after, halts = self.segment(found[live], chosen.rows(live), starts[live])
            found, live = found.merged(live, after), live[~halts]
            starts[:] = False
        return mind.merged(rows, found)


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
