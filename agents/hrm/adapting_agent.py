"""An HRM that learns every task from its demonstrations before it answers: test-time adaptation as an agent (ARC)."""

from __future__ import annotations

import dataclasses
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hrm_gym.agents.agent import Observation, StatefulAgent
from hrm_gym.agents.carry_out import carry_out_rows
from hrm_gym.agents.hrm import act
from hrm_gym.agents.hrm.adaptation import Adaptation, Adapted, adapt, examples_of
from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.halting import certainty
from hrm_gym.agents.hrm.images import answers_back, distinct_keys, images_of
from hrm_gym.agents.hrm.panel import Opinions
from hrm_gym.agents.hrm.task_rows import Keys, TaskRows
from hrm_gym.agents.hrm.voting import decide
from hrm_gym.envs.puzzle import Thought


@dataclass(frozen=True, eq=False)
class Answered:
    """The answers to B puzzles that were thought of before the first action. `answered[rows]` keeps some of the boards.

    Attributes:
        answers: (B, A, H, W) uint8, one for each attempt.
        confidence: (B, H, W) float32, the share of the votes that agree with the first.
        q_halt: (B,) float32.
        spent: (B,) int64, segments of single boards, those of learning included.
    """

    answers: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    q_halt: NDArray[np.float32]
    spent: NDArray[np.int64]

    def __getitem__(self, rows: NDArray[np.int64]) -> Answered:
        return Answered(self.answers[rows], self.confidence[rows], self.q_halt[rows], self.spent[rows])


class AdaptingAgent(StatefulAgent):
    """An HRM that learns every task from its demonstrations before it answers, and lets symmetric images vote.

    It needs observations with demonstrations (ARC). All is thought when a puzzle begins; then the best answer is given
    at once, and the second best in the second attempt. What was learnt is a function of the observation and the
    settings alone, and it is forgotten afterwards.

    Attributes:
        name: what tables call it.
        action_mode: "answer", "cell" or "move".
        member: the network.
        settings: how a task is learnt.
        keys: of the symmetries; the first image is the task itself. With `known`, tasks with official rows of their
            own have keys of their own.
        losses: of the last adaptation, one an update.
    """

    def __init__(self, member: HRMAgent, votes: int = 8, settings: Adaptation | None = None, name: str = "") -> None:
        """Make the agent of a network.

        Args:
            member: the network, its halting rule and its limit of segments.
            votes: symmetric images of every task, the task itself included, at least 1.
            settings: how a task is learnt.
            name: what tables call it.

        Raises:
            ValueError: fewer than one image, or more than there are symmetries (with `known`: than have rows).
        """
        if votes < 1:
            raise ValueError(f"expected votes of at least 1, got {votes}")
        self.member, self.settings = member, settings or Adaptation()
        if self.settings.compile:
            member.model.compile_levels(dynamic=True)
        self.family, self.action_mode = member.family, member.action_mode
        self.keys: Keys = (
            member.task_rows.keys(votes - 1)
            if self.settings.known and isinstance(member.task_rows, TaskRows)
            else distinct_keys(self.family, member.model.config.grid, votes - 1)
        )
        self.name = name or f"hrm-adapt-{votes}"
        self.losses: list[float] = []
        self._answered: Answered | None = None
        self._shown: NDArray[np.uint8] | None = None

    @classmethod
    def for_env(
        cls, env: gym.Env[Any, Any], weights: Path | str | None = None, votes: int = 8, **kwargs: Any
    ) -> AdaptingAgent:
        """The agent for an environment; fields of `Adaptation` by name, the rest as `HRMAgent.for_env`.

        Raises:
            ValueError: as `HRMAgent.for_env`, or the environment shows no demonstrations.
        """
        if "demonstrations" not in getattr(env.observation_space, "spaces", {}):
            raise ValueError(f"expected an environment that shows demonstrations (ARC), got {env.unwrapped}")
        fields = {field.name for field in dataclasses.fields(Adaptation)} & kwargs.keys()
        settings = Adaptation(**{name: kwargs.pop(name) for name in fields})
        return cls(HRMAgent.for_env(env, weights, **kwargs), votes, settings)

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], Any]:
        """Actions for one observation or a batch; arguments and result are those of `HRMAgent.predict`.

        Raises:
            ValueError: the observation has no demonstrations.
        """
        if "demonstrations" not in observation:
            raise ValueError(f"expected observations with demonstrations, got {sorted(observation)}")
        single = observation["puzzle"].ndim == 2
        rows = {key: np.asarray(value)[None] for key, value in observation.items()} if single else observation
        count = len(rows["puzzle"])
        starts = np.broadcast_to(state is None if episode_start is None else episode_start, count)
        parts = [
            self._answer({key: value[i] for key, value in rows.items()}) if starts[i] else state[np.array([i])]
            for i in range(count)
        ]
        names = [field.name for field in dataclasses.fields(Answered)]
        self._answered = Answered(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
        attempt = rows["attempt"].reshape(-1) if "attempt" in rows else np.zeros(count, np.int64)
        self._shown = self._answered.answers[np.arange(count), attempt]
        actions = carry_out_rows(self.family, self.action_mode, rows, self._shown, True)
        return (actions[0] if single else actions), self._answered

    def thoughts(self) -> list[Thought] | None:
        """What the agent had in mind at the last `predict`, one Thought a board."""
        found, shown = self._answered, self._shown
        if found is None or shown is None:
            return None
        return [
            Thought(shown[i], found.confidence[i], float(found.q_halt[i]), None, int(found.spent[i]))
            for i in range(len(shown))
        ]

    def spent(self) -> NDArray[np.int64]:
        """(B,) segments of single boards run for each board of the last `predict`, those of learning included."""
        return np.zeros(0, np.int64) if self._answered is None else self._answered.spent

    # ---- thinking ----

    def _answer(self, observation: Observation) -> Answered:
        """Learn the task of one observation and answer it."""
        pairs = observation["demonstrations"][: int(observation["pairs"].item())]
        settings = dataclasses.replace(self.settings, seed=self.settings.seed ^ zlib.crc32(pairs.tobytes()))
        if len(pairs) == 0:
            settings = dataclasses.replace(settings, updates=0)
        keys = self._keys_of(observation)
        examples = examples_of(self.family, pairs, keys, self.member.device)
        learnt = adapt(self.member.model, examples, self._start(observation), settings)
        self.losses = learnt.losses
        return self._vote(observation["puzzle"][None], keys, learnt, settings.updates * settings.batch)

    def _keys_of(self, observation: Observation) -> Keys:
        """The keys of the images of a task."""
        own = None
        if self.settings.known:
            own = self.member.task_rows.keys_of(self.family, int(observation["task"].item()), len(self.keys))
        return own or self.keys

    def _start(self, observation: Observation) -> Tensor:
        """(1 + K, embedding_dim) vectors of the task's images before it is learnt."""
        model, images = self.member.model, np.arange(1 + len(self.keys))
        if not self.settings.known:
            return torch.zeros(len(images), model.config.embedding_dim)
        task = np.full(len(images), int(observation["task"].item()))
        rows = self.member.task_rows.rows(task, images, model.config.puzzle_count)
        return model.puzzles[torch.from_numpy(rows).long()]

    def _vote(self, clues: NDArray[np.uint8], keys: Keys, learnt: Adapted, spent: int) -> Answered:
        """Solve the images of one puzzle, (1, H, W), each with its vector, and count."""
        images = images_of(self.family, clues, keys)
        member, shape = self.member, images.shape
        boards = member.boards(images[0])
        found = act.solve_with(
            learnt.model, boards.inputs, learnt.vectors, member.max_segments, member.halting, boards.free
        )
        opinions = Opinions(
            answers_back(self.family, found.answers.cpu().numpy().reshape(shape), keys),
            found.q_halt.cpu().numpy()[None],
            certainty(found.confidence, boards.free)[1].cpu().numpy()[None],
            found.segments.cpu().numpy().astype(np.int64)[None],
            np.ones(shape[:2], np.bool_),
        )
        best = decide(self.family, clues, opinions)
        return Answered(best.answers, best.confidence, best.q_halt, opinions.segments.sum(axis=1) + spent)
