"""An HRM as an agent: one segment is one answer-mode action, and the halt bit is its own decision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from hrm_gym.agents import pretrained
from hrm_gym.agents.agent import Observation
from hrm_gym.agents.carry_out import carry_out_rows
from hrm_gym.agents.devices import choose_device, has_fast_bfloat16
from hrm_gym.agents.hrm import act
from hrm_gym.agents.hrm.checkpoint import load_model
from hrm_gym.agents.hrm.network import HRM, Carry
from hrm_gym.envs.puzzle import PuzzleFamily, Thought


@dataclass(frozen=True, eq=False)
class Mind:
    """What an HRM has in mind for B boards: its recurrent state. `mind[rows]` keeps some of the boards.

    Attributes:
        carry: the states of both levels.
        answers: (B, S) uint8.
        confidence: (B, S) float32.
        q_halt: (B,) float32 probability.
        q_continue: (B,) float32 probability.
        segments: (B,) int32, segments run.
    """

    carry: Carry
    answers: torch.Tensor
    confidence: torch.Tensor
    q_halt: torch.Tensor
    q_continue: torch.Tensor
    segments: torch.Tensor

    def __getitem__(self, rows: NDArray[np.int64]) -> Mind:
        index = torch.as_tensor(rows, device=self.answers.device)
        rest = (self.answers, self.confidence, self.q_halt, self.q_continue, self.segments)
        return Mind(self.carry.rows(index), *(part[index] for part in rest))

    def merged(self, rows: torch.Tensor, other: Mind) -> Mind:
        """This mind with the boards `rows` replaced by the boards of `other`, in order."""

        def put(mine: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
            mine = mine.clone()
            mine[rows] = new
            return mine

        carry = Carry(put(self.carry.z_h, other.carry.z_h), put(self.carry.z_l, other.carry.z_l))
        names = ("answers", "confidence", "q_halt", "q_continue", "segments")
        return Mind(carry, *(put(getattr(self, name), getattr(other, name)) for name in names))


class HRMAgent:
    """A Hierarchical Reasoning Model in an environment.

    In answer mode a `predict` runs one segment on every board and halts a board when Q(halt) > Q(continue); a board
    that halted leaves the batch (or makes room for the next puzzle), so thinking less costs less. In cell and move
    mode it thinks to the end when a puzzle begins, boards that halt leaving the batch, and then carries out its answer.

    Attributes:
        name: what tables call it.
        action_mode: "answer", "cell" or "move".
        model: the network.
        max_segments: most segments of one puzzle in cell and move mode; in answer mode the environment forces the halt.
        halting: True for the learned rule, False to use the whole budget.
    """

    def __init__(
        self,
        model: HRM,
        family: PuzzleFamily,
        action_mode: str = "answer",
        max_segments: int = 16,
        device: str = "auto",
        halting: bool = True,
        name: str = "hrm",
    ) -> None:
        self.name, self.family, self.action_mode = name, family, action_mode
        self.device = choose_device(device)
        if not has_fast_bfloat16(self.device):
            model = model.in_float32()
        self.model = model.to(self.device).eval().requires_grad_(False)
        self.max_segments, self.halting = max_segments, halting
        self._mind: Mind | None = None
        self._state: Any = None

    @classmethod
    def for_env(cls, env: gym.Env[Any, Any], weights: Path | str | None = None, **kwargs: Any) -> HRMAgent:
        """The agent for an environment.

        Args:
            env: a puzzle environment; wrappers do not matter.
            weights: a checkpoint folder; by default bundled weights of the same family and grid.
            **kwargs: as the constructor.

        Raises:
            ValueError: no bundled weights fit, or the given ones are damaged or do not fit.
            FileNotFoundError: there is no checkpoint at `weights`.
        """
        world: Any = env.unwrapped
        family, grid = world.family, tuple(world.shape)
        folder = Path(weights) if weights else _bundled_for(family.name, grid)
        model, about = load_model(folder)
        if about.get("family") != family.name or model.config.grid != grid:
            raise ValueError(
                f"weights {folder} are for {about.get('family')} {_times(model.config.grid)}, "
                f"the environment is {family.name} {_times(grid)}"
            )
        return cls(model, family, **{"action_mode": world.action_mode, "max_segments": world.max_segments, **kwargs})

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
        tokens = torch.from_numpy(rows["puzzle"].reshape(count, -1)).to(self.device, torch.int32)
        mind: Mind = self._begin(tokens) if state is None else state
        mind, halts = self._think(mind, tokens, np.array(starts))
        self._mind = mind
        answers = mind.answers.cpu().numpy().reshape(rows["puzzle"].shape)
        actions = carry_out_rows(self.family, self.action_mode, rows, answers, halts)
        return (actions[0] if single else actions), mind

    def act(self, observation: Observation) -> NDArray[Any]:
        """The action for one environment, with the recurrent state kept inside; call `reset` before each episode."""
        action, self._state = self.predict(observation, self._state)
        return action

    def reset(self) -> None:
        """Forget the state that `act` keeps."""
        self._state = None

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

    @property
    def thought(self) -> Thought | None:
        """The first board's Thought at the last `predict`."""
        found = self.thoughts()
        return found[0] if found else None

    # ---- thinking ----

    def _begin(self, tokens: torch.Tensor) -> Mind:
        """The mind at the start of every board: initial states, nothing answered."""
        count = len(tokens)
        zeros = torch.zeros(count, device=self.device)
        blank = torch.zeros(tokens.shape, dtype=torch.uint8, device=self.device)
        carry = self.model.initial_carry(count)
        return Mind(carry, blank, torch.zeros(tokens.shape, device=self.device), zeros, zeros, zeros.to(torch.int32))

    def _think(self, mind: Mind, tokens: torch.Tensor, starts: NDArray[np.bool_]) -> tuple[Mind, Any]:
        """The next mind and the halt bits: one segment in answer mode, else the whole thought of boards that begin."""
        if self.action_mode == "answer":
            return self._segment(mind, tokens, torch.from_numpy(starts).to(self.device))
        if starts.any():
            mind = self._to_the_end(mind, tokens, torch.from_numpy(np.flatnonzero(starts)).to(self.device))
        return mind, True

    @torch.inference_mode()
    def _segment(self, mind: Mind, tokens: torch.Tensor, starts: torch.Tensor) -> tuple[Mind, NDArray[np.bool_]]:
        carry = self.model.reset_rows(mind.carry, starts)
        ids = torch.zeros(len(tokens), dtype=torch.int32, device=self.device)
        result = self.model.segment(carry, tokens, ids)
        answers, confidence = act.read_answer(result.logits)
        segments = torch.where(starts, 0, mind.segments) + 1
        q_halt, q_continue = torch.sigmoid(result.q_halt), torch.sigmoid(result.q_continue)
        halts = act.wants_halt(self.model.config, result.q_halt, result.q_continue) & self.halting
        return Mind(result.carry, answers, confidence, q_halt, q_continue, segments), halts.cpu().numpy()

    def _to_the_end(self, mind: Mind, tokens: torch.Tensor, rows: torch.Tensor) -> Mind:
        """Solve the boards `rows` by adaptive computation; their carry is not kept, since they are finished."""
        ids = torch.zeros(len(rows), dtype=torch.int32, device=self.device)
        solved = act.solve(self.model, tokens[rows], ids, self.max_segments, self.halting)
        carry = self.model.initial_carry(len(rows))
        return mind.merged(
            rows, Mind(carry, solved.answers, solved.confidence, solved.q_halt, solved.q_continue, solved.segments)
        )


def _bundled_for(family: str, grid: tuple[int, ...]) -> Path:
    for folder, about in pretrained.bundled("hrm"):
        if about["family"] == family and tuple(about["model"]["grid"]) == grid:
            return folder
    raise ValueError(f"no bundled HRM weights fit {family} {_times(grid)}; bundled: {pretrained.describe('hrm')}")


def _times(grid: tuple[int, ...]) -> str:
    return "x".join(map(str, grid))
