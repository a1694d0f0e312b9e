"""Several trains of thought on one puzzle: some networks, each on some symmetric images of it, run together.

Voting (`voting.py`) lets them all finish and counts; an ensemble (`ensemble.py`) takes the first that halts. Here is
what both share: the images, the batch that only thoughts under way are part of, and the count of the segments spent.

Voting at test time: the same puzzle in several symmetric disguises, and the answer that most of them come to.

An HRM can fall into a wrong fixed point; under another symmetry it rarely falls into the same one (arXiv 2601.10679).

First to halt: several thoughts on one puzzle race, and the first that wants to halt gives the answer.

In arXiv 2601.10679 this does as well as voting over the same thoughts, at about a tenth of the segments.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from hrm_gym.agents.agent import Observation, StatefulAgent
from hrm_gym.agents.answer_to_action import carry_out_rows
from hrm_gym.agents.hrm.agent import HRMAgent, Mind
from hrm_gym.agents.hrm.images import answers_back_from_each, distinct_keys, images_of_each, known_keys
from hrm_gym.agents.hrm.task_rows import Keys, NamedRows, TaskRows
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.puzzle import Thought


def members_for(
    env: gym.Env[Any, Any], weights: Path | str | Sequence[Path | str] | None = None, **kwargs: Any
) -> list[HRMAgent]:
    """The networks of a panel for an environment.

    Args:
        env: a puzzle environment; wrappers do not matter.
        weights: one or more checkpoint folders (several in one text are separated by `+`); by default bundled weights
            of the same family and grid.
        **kwargs: as the constructor of `HRMAgent`.

    Raises:
        ValueError: as `HRMAgent.for_env`.
        FileNotFoundError: there is no checkpoint.
    """
    folders = str(weights).split("+") if isinstance(weights, Path | str) else weights or (None,)
    return [HRMAgent.for_env(env, folder, **kwargs) for folder in folders]


class Opinions(NamedTuple):
    """What K trains of thought hold of each of B boards; the answers are mapped back to the board as it is.

    Attributes:
        answers: (B, K, H, W) uint8.
        q_halt: (B, K) float32 probability.
        confidence: (B, K) float32, mean probability of the chosen tokens in the free cells.
        segments: (B, K) int64, segments run.
        halted: (B, K) bool, whether the thought has come to its end.
    """

    answers: NDArray[np.uint8]
    q_halt: NDArray[np.float32]
    confidence: NDArray[np.float32]
    segments: NDArray[np.int64]
    halted: NDArray[np.bool_]


class Conclusion(NamedTuple):
    """What a panel makes of its opinions.

    Attributes:
        answers: (B, A, H, W) uint8, the best answer first, one for each attempt of the family.
        confidence: (B, H, W) float32, how sure the panel is of every cell of the first.
        q_halt: (B,) float32 probability.
    """

    answers: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    q_halt: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PanelMind:
    """The state of a panel for B boards. `mind[rows]` keeps some of the boards.

    Attributes:
        minds: for every network a Mind of B * images rows, the images of a board one after another.
        halted: (B, networks * images) bool, network by network.
        finished: (B,) bool, boards on which nothing is thought any more.
    """

    minds: tuple[Mind, ...]
    halted: NDArray[np.bool_]
    finished: NDArray[np.bool_]

    def __getitem__(self, rows: NDArray[np.int64]) -> PanelMind:
        rows = np.asarray(rows)
        images = self.halted.shape[1] // len(self.minds)
        places = (rows[:, None] * images + np.arange(images)).ravel()
        return PanelMind(tuple(mind[places] for mind in self.minds), self.halted[rows], self.finished[rows])


class PanelAgent(StatefulAgent):
    """Some HRMs, each on some images of every puzzle; a subclass says when they stop and what comes of it.

    A network that is itself equivariant would think the same about every image; its images differ by their start
    (`HRM.start`) as well.

    In answer mode a `predict` is one segment of every thought that has not halted; the others have left the batch.
    In cell and move mode everything is thought when a puzzle begins, and then carried out.

    Attributes:
        name: what tables call it.
        action_mode: "answer", "cell" or "move".
        members: the networks.
        keys: of the symmetries; the first image is the puzzle itself and has none. Where images had rows of the puzzle
            embedding to themselves in training, they are those of training. Tasks with official rows of their own have
            keys of their own.
    """

    kind = "panel"

    def __init__(self, members: Sequence[HRMAgent], images: int = 1, name: str = "") -> None:
        """Put a panel together.

        Args:
            members: at least one HRM, all for the same boards.
            images: symmetric images of every puzzle, the puzzle itself included, at least 1.
            name: what tables call it.

        Raises:
            ValueError: no members, members for different boards, or more images than there are symmetries, or rows of
                the puzzle embedding for them.
        """
        if not members or images < 1:
            raise ValueError(f"expected at least one network and one image, got {len(members)} and {images}")
        grids = {(m.family.name, m.model.config.grid, m.action_mode) for m in members}
        if len(grids) > 1:
            raise ValueError(f"expected networks for the same boards, got {sorted(grids)}")
        self.members, self.images = tuple(members), images
        self.family, self.action_mode = members[0].family, members[0].action_mode
        self.weights = members[0].weights
        self.keys = self._keys(images - 1)
        self.name = name or f"hrm-{self.kind}-{len(self.members) * images}"
        self._thoughts: list[Thought] | None = None
        self._spent: NDArray[np.int64] = np.zeros(0, np.int64)

    def _keys(self, count: int) -> Keys:
        """Of `count` images; equivariant networks, for which starts differ too, take known images again if need be."""
        layouts = {member.task_rows for member in self.members}
        if len(layouts) > 1 and any(isinstance(layout, NamedRows) or layout.variants for layout in layouts):
            raise ValueError(f"expected networks that know the same images, got {sorted(map(str, layouts))}")
        layout, grid = layouts.pop(), self.members[0].model.config.grid
        again = all(member.model.config.equivariant for member in self.members)
        if isinstance(layout, TaskRows) and layout.variants:
            known = layout.keys(min(count, layout.variants) if again else count)
        else:
            known = (known_keys if again else distinct_keys)(self.family, grid, count)
        images = (None, *known)
        return tuple(images[image % len(images)] for image in range(1, count + 1))

    def _keys_of_boards(self, tasks: NDArray[np.int32] | None, count: int) -> list[Keys]:
        """The keys of the images of each of `count` boards, which belong to (count, 1) tasks."""
        layout = self.members[0].task_rows
        numbers = np.zeros(count, np.int64) if tasks is None else tasks.reshape(count)
        return [layout.keys_of(self.family, int(task), self.images - 1) or self.keys for task in numbers]

    # ---- what a subclass says ----

    @abstractmethod
    def finished(self, clues: NDArray[np.uint8], opinions: Opinions) -> NDArray[np.bool_]:
        """(B,) bool, boards on which nothing more need be thought, given (B, H, W) puzzles and what is thought."""

    @abstractmethod
    def conclude(self, clues: NDArray[np.uint8], opinions: Opinions) -> Conclusion:
        """The answers to give, given (B, H, W) puzzles and what is thought of them."""

    # ---- the agent ----

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], Any]:
        """Actions for one observation or a batch; arguments and result are those of `HRMAgent.predict`."""
        single = observation["puzzle"].ndim == 2
        rows = {key: np.asarray(value)[None] for key, value in observation.items()} if single else observation
        count = len(rows["puzzle"])
        starts = np.array(np.broadcast_to(state is None if episode_start is None else episode_start, count))
        keys = self._keys_of_boards(rows.get("task"), count)
        images = images_of_each(self.family, rows["puzzle"], keys)
        mind: PanelMind = self._begin(count) if state is None else state
        mind, opinions = self._segment(mind, images, rows, keys, starts)
        while self.action_mode != "answer" and not mind.finished.all():
            mind, opinions = self._segment(mind, images, rows, keys, np.zeros(count, np.bool_))
        answers = self._remember(self.conclude(rows["puzzle"], opinions), opinions, rows.get("attempt"))
        actions = carry_out_rows(self.family, self.action_mode, rows, answers, mind.finished)
        return (actions[0] if single else actions), mind

    def thoughts(self) -> list[Thought] | None:
        """What the panel had in mind at the last `predict`; `segment` counts those of all thoughts together."""
        return self._thoughts

    def spent(self) -> NDArray[np.int64]:
        """(B,) segments run so far on each board of the last `predict`, summed over networks and images."""
        return self._spent

    # ---- thinking ----

    def _begin(self, count: int) -> PanelMind:
        """The state before the first segment of `count` boards."""
        halted = np.zeros((count, len(self.members) * self.images), np.bool_)
        minds = tuple(member.begin(count * self.images) for member in self.members)
        return PanelMind(minds, halted, np.zeros(count, np.bool_))

    def _segment(
        self,
        mind: PanelMind,
        images: NDArray[np.uint8],
        rows: Observation,
        keys: Sequence[Keys],
        starts: NDArray[np.bool_],
    ) -> tuple[PanelMind, Opinions]:
        """One segment of every thought that is under way, and what is thought after it."""
        halted = mind.halted & ~starts[:, None]
        live = ~halted & ~(mind.finished & ~starts)[:, None]
        minds, tasks = list(mind.minds), rows.get("task")
        for number, member in enumerate(self.members):
            columns = slice(number * self.images, (number + 1) * self.images)
            board, image = np.nonzero(live[:, columns])
            if len(board) == 0:
                continue
            places = torch.from_numpy(board * self.images + image).to(member.device)
            boards = member.boards(images[board, image], None if tasks is None else tasks[board], image)
            fresh = torch.from_numpy(starts[board]).to(member.device)
            from_start = torch.from_numpy(image).to(member.device) if member.model.config.equivariant else None
            after, halts = member.segment(minds[number][places], boards, fresh, from_start)
            minds[number] = minds[number].merged(places, after)
            halted[:, columns][board, image] = halts.cpu().numpy()
        opinions = self._opinions(minds, halted, images, keys)
        return PanelMind(tuple(minds), halted, self.finished(rows["puzzle"], opinions)), opinions

    def _opinions(
        self, minds: Sequence[Mind], halted: NDArray[np.bool_], images: NDArray[np.uint8], keys: Sequence[Keys]
    ) -> Opinions:
        """The state in numpy, the answers mapped back."""
        count, height, width = len(images), *images.shape[2:]
        shape = (count, self.images)
        free = self.family.free(images.reshape(-1, height, width)).reshape(*shape, -1)
        answers, q_halt, confidence, segments = [], [], [], []
        for one in minds:
            given = one.answers.cpu().numpy().reshape(*shape, height, width)
            answers.append(answers_back_from_each(self.family, given, keys))
            q_halt.append(one.q_halt.cpu().numpy().reshape(shape))
            sure = one.confidence.cpu().numpy().reshape(*shape, -1)
            confidence.append((sure.sum(axis=2, where=free) / np.maximum(free.sum(axis=2), 1)).astype(np.float32))
            segments.append(one.segments.cpu().numpy().astype(np.int64).reshape(shape))
        return Opinions(
            np.concatenate(answers, axis=1),
            np.concatenate(q_halt, axis=1),
            np.concatenate(confidence, axis=1),
            np.concatenate(segments, axis=1),
            halted,
        )

    def _remember(
        self, conclusion: Conclusion, opinions: Opinions, attempts: NDArray[np.uint8] | None
    ) -> NDArray[np.uint8]:
        """Keep the thoughts for drawing; returns the (B, H, W) answers of the attempts that are being made."""
        rows = np.arange(len(conclusion.answers))
        answers = conclusion.answers[rows, 0 if attempts is None else attempts.reshape(-1)]
        self._spent = opinions.segments.sum(axis=1)
        self._thoughts = [
            Thought(answers[i], conclusion.confidence[i], float(conclusion.q_halt[i]), None, int(self._spent[i]))
            for i in rows
        ]
        return answers


class Ballot(NamedTuple):
    """One of the answers that were voted for.

    Attributes:
        answer: (H, W) uint8.
        value: less its cost (`PuzzleFamily.cost`): 0 at best, minus infinity if it breaks a rule.
        votes: thoughts that came to it.
        q_halt: their summed Q(halt).
        confidence: their summed confidence.
    """

    answer: NDArray[np.uint8]
    value: float
    votes: int
    q_halt: float
    confidence: float


def count_votes(
    answers: NDArray[np.uint8],
    cost: NDArray[np.float64],
    q_halt: NDArray[np.float32],
    confidence: NDArray[np.float32],
) -> list[Ballot]:
    """The different answers to one puzzle, the best first.

    Those of the least cost come first; then votes count, then the summed Q(halt), then the summed confidence, and at
    last who was named first.

    Args:
        answers: (K, H, W) uint8.
        cost: (K,) float64, of `PuzzleFamily.cost`.
        q_halt: (K,) float32 in [0, 1].
        confidence: (K,) float32 in [0, 1].
    """
    voters: dict[bytes, list[int]] = {}
    for voter, answer in enumerate(answers):
        voters.setdefault(answer.tobytes(), []).append(voter)
    ballots = [
        Ballot(
            answers[one[0]],
            -float(cost[one[0]]),
            len(one),
            float(q_halt[one].sum(dtype=np.float64)),
            float(confidence[one].sum(dtype=np.float64)),
        )
        for one in voters.values()
    ]
    return sorted(ballots, key=lambda ballot: ballot[1:], reverse=True)


def costs(family: PuzzleFamily, clues: NDArray[np.uint8], opinions: Opinions) -> NDArray[np.float64]:
    """(B, K) float64: `PuzzleFamily.cost` of each of K answers to each of (B, H, W) puzzles."""
    count, voters = opinions.answers.shape[:2]
    flat = opinions.answers.reshape(count * voters, *clues.shape[1:])
    return family.cost(np.repeat(clues, voters, axis=0), flat).reshape(count, voters)


def decide(family: PuzzleFamily, clues: NDArray[np.uint8], opinions: Opinions) -> Conclusion:
    """What a vote on each of (B, H, W) puzzles comes to: the best answers, one for each attempt of the family."""
    answers, cost = opinions.answers, costs(family, clues, opinions)
    ranked = [count_votes(*board) for board in zip(answers, cost, opinions.q_halt, opinions.confidence, strict=True)]
    best = np.stack([[board[min(n, len(board) - 1)].answer for n in range(family.attempts)] for board in ranked])
    shares = (answers == best[:, :1]).mean(axis=1, dtype=np.float64).astype(np.float32)
    q_halt = np.array([board[0].q_halt / board[0].votes for board in ranked], np.float32)
    return Conclusion(best, shares, q_halt)


class VotingAgent(PanelAgent):
    """HRMs on symmetric images of every puzzle, which vote on the whole answer.

    Every image is thought about until its own halt; the board halts when all of them have, or when enough of those that
    have agree. Meanwhile it shows the answer that leads, and the share of votes that agree with it cell by cell. A
    second attempt, where the puzzle allows one, gives the answer that came second.

    Attributes:
        agree: thoughts at their end with equally good answers, none better (`PuzzleFamily.cost`), that suffice; 0
            waits for all. Puzzles with a second attempt wait for all in any case.
    """

    kind = "vote"

    def __init__(self, members: Sequence[HRMAgent], images: int = 1, name: str = "", agree: int = 0) -> None:
        """Put a panel together.

        Args:
            members: at least one HRM, all for the same boards.
            images: symmetric images of every puzzle, the puzzle itself included, at least 1.
            name: what tables call it.
            agree: see the attributes.

        Raises:
            ValueError: as `PanelAgent`, or `agree` is negative or more than there are thoughts.
        """
        super().__init__(members, images, name)
        if not 0 <= agree <= len(self.members) * images:
            raise ValueError(
                f"expected agree of 0 to {len(self.members) * images}, the thoughts there are, got {agree}"
            )
        self.agree = agree

    @classmethod
    def for_env(cls, env: gym.Env[Any, Any], votes: int = 8, agree: int = 0, **kwargs: Any) -> VotingAgent:
        """The agent for an environment; `votes` images of every puzzle, the rest as `members_for`."""
        return cls(members_for(env, **kwargs), votes, agree=agree)

    def finished(self, clues: NDArray[np.uint8], opinions: Opinions) -> NDArray[np.bool_]:
        """(B,) bool: all have halted, or enough that agree."""
        halted = opinions.halted
        done = halted.all(axis=1)
        if self.agree and self.family.attempts == 1:
            cost = np.where(halted, costs(self.family, clues, opinions), np.inf)
            best = cost.min(axis=1, keepdims=True)
            done |= ((cost == best) & np.isfinite(cost)).sum(axis=1) >= self.agree
        return np.asarray(done)

    def conclude(self, clues: NDArray[np.uint8], opinions: Opinions) -> Conclusion:
        """Count the votes of every board."""
        return decide(self.family, clues, opinions)


class EnsembleAgent(PanelAgent):
    """HRMs (several checkpoints, or one on symmetric images of the puzzle), of which the first to halt answers.

    Of several that halt after the same segment the one with the highest Q(halt) answers, and the first of those that
    are equal. While none has halted the board shows the answer of the one with the highest Q(halt). A second attempt,
    where the puzzle allows one, gives the best different answer.
    """

    kind = "first"

    @classmethod
    def for_env(cls, env: gym.Env[Any, Any], images: int = 8, **kwargs: Any) -> EnsembleAgent:
        """The agent for an environment; `images` of every puzzle, the rest as `members_for`."""
        return cls(members_for(env, **kwargs), images)

    def finished(self, clues: NDArray[np.uint8], opinions: Opinions) -> NDArray[np.bool_]:
        """(B,) bool: one has halted."""
        return np.asarray(opinions.halted.any(axis=1))

    def conclude(self, clues: NDArray[np.uint8], opinions: Opinions) -> Conclusion:
        """Take the answer of the first to halt, or of the one that is nearest to it."""
        rows = np.arange(len(clues))
        order = np.lexsort((-opinions.q_halt, ~opinions.halted), axis=1)
        first = order[:, 0]
        answers = np.stack([self._attempts(opinions.answers[row], order[row]) for row in rows])
        alike = (opinions.answers == answers[:, :1]).mean(axis=1, dtype=np.float64).astype(np.float32)
        return Conclusion(answers, alike, opinions.q_halt[rows, first])

    def _attempts(self, answers: NDArray[np.uint8], order: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(A, H, W): the different ones of (K, H, W) answers in order, the last repeated if there are too few."""
        named: dict[bytes, NDArray[np.uint8]] = {}
        for place in order:
            named.setdefault(answers[place].tobytes(), answers[place])
        different = list(named.values())
        return np.stack([different[min(n, len(different) - 1)] for n in range(self.family.attempts)])
