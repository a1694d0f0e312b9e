"""Ensembles: some networks, each on some symmetric images of every puzzle, run together.

Voting lets them all halt and counts their answers: an HRM can fall into a wrong fixed point, and under another symmetry
it rarely falls into the same one (arXiv 2601.10679). First-to-halt takes the answer of the first that halts, which does
as well there at about a tenth of the segments.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from hrm_gym.agents.agent import Observation, StatefulAgent
from hrm_gym.agents.answer_to_action import answers_to_actions
from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.images import answers_back_from_each, distinct_keys, images_of_each, known_keys
from hrm_gym.agents.hrm.task_rows import Keys, NamedRows, TaskRows
from hrm_gym.agents.hrm.thinking import AgentState
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.puzzle import Thought


def members_for(
    env: gym.Env[Any, Any], weights: Path | str | Sequence[Path | str] | None = None, **kwargs: Any
) -> list[HRMAgent]:
    """The networks of an ensemble for an environment.

    Args:
        env: a puzzle environment; wrappers do not matter.
        weights: one or more checkpoint folders (several in one text are separated by `+`); by default bundled weights
            of the same family and grid.
        **kwargs: as the constructor of `HRMAgent`.

    Raises:
        ValueError: as `HRMAgent.for_env`.
        FileNotFoundError: there is no checkpoint.
    """
    if isinstance(weights, Path | str):
        weights = [weights] if Path(weights).exists() else str(weights).split("+")
    return [HRMAgent.for_env(env, folder, **kwargs) for folder in weights or (None,)]


class Votes(NamedTuple):
    """The answers of K lanes (a network on an image) to each of B boards, mapped back to the board itself.

    Attributes:
        answers: (B, K, H, W) uint8.
        q_halt: (B, K) float32 probability.
        confidence: (B, K) float32, mean probability of the chosen tokens in the free cells.
        segments: (B, K) int64, segments run.
        halted: (B, K) bool.
    """

    answers: NDArray[np.uint8]
    q_halt: NDArray[np.float32]
    confidence: NDArray[np.float32]
    segments: NDArray[np.int64]
    halted: NDArray[np.bool_]


def joined(votes: Sequence[Votes]) -> Votes:
    """The lanes of all, on the same boards."""
    return Votes(*(np.concatenate(parts, axis=1) for parts in zip(*votes, strict=True)))


class Decision(NamedTuple):
    """What an ensemble answers.

    Attributes:
        answers: (B, A, H, W) uint8, the best answer first, one for each attempt of the family.
        confidence: (B, H, W) float32, the share of the lanes that agree with every cell of the first.
        q_halt: (B,) float32 probability.
    """

    answers: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    q_halt: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class EnsembleState:
    """The state of an ensemble for B boards. `state[rows]` keeps some of the boards.

    Attributes:
        lanes: for every network a state of B * images rows, the images of a board one after another.
        finished: (B,) bool, boards on which nothing is thought any more.
    """

    lanes: tuple[AgentState, ...]
    finished: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.finished)

    def __getitem__(self, rows: NDArray[np.int64]) -> EnsembleState:
        rows = np.asarray(rows)
        images = len(self.lanes[0]) // len(self)
        places = (rows[:, None] * images + np.arange(images)).ravel()
        return EnsembleState(tuple(own[places] for own in self.lanes), self.finished[rows])


class EnsembleAgent(StatefulAgent):
    """Some HRMs, each on some images of every puzzle; a subclass says when they stop and what they answer.

    An equivariant network would think the same about every image; its lanes differ by their start (`HRM.start`) too.

    In answer mode a `predict` is one segment of every lane that has not halted; the others have left the batch.
    In cell and move mode everything is thought when a puzzle begins, and then executed.

    Attributes:
        name: what tables call it.
        action_mode: "answer", "cell" or "move".
        members: the networks.
        keys: of the symmetries; the first image is the puzzle itself and has none. Where images had rows of the puzzle
            embedding to themselves in training, they are those of training. Tasks with official rows of their own have
            keys of their own.
    """

    kind = "ensemble"

    def __init__(self, members: Sequence[HRMAgent], images: int = 1, name: str = "") -> None:
        """Put an ensemble together.

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
        grids = {(m.family.name, m.grid, m.action_mode) for m in members}
        if len(grids) > 1:
            raise ValueError(f"expected networks for the same boards, got {sorted(grids)}")
        self.members, self.images = tuple(members), images
        self.family, self.action_mode = members[0].family, members[0].action_mode
        self.grid, self.vocab_size = members[0].grid, members[0].vocab_size
        self.weights = members[0].weights
        self.keys = self._keys(images - 1)
        self.lane_count = len(self.members) * images
        self.name = name or f"hrm-{self.kind}-{self.lane_count}"
        self._thoughts: list[Thought] | None = None
        self._spent: NDArray[np.int64] = np.zeros(0, np.int64)

    def _keys(self, count: int) -> Keys:
        """Of `count` images; equivariant networks, for which starts differ too, take known images again if need be."""
        layouts = {member.task_rows for member in self.members}
        if len(layouts) > 1 and any(isinstance(layout, NamedRows) or layout.variants for layout in layouts):
            raise ValueError(f"expected networks that know the same images, got {sorted(map(str, layouts))}")
        layout = layouts.pop()
        again = all(member.model.config.equivariant for member in self.members)
        if isinstance(layout, TaskRows) and layout.variants:
            known = layout.keys(min(count, layout.variants) if again else count)
        else:
            known = (known_keys if again else distinct_keys)(self.family, self.members[0].model.config.grid, count)
        images = (None, *known)
        return tuple(images[image % len(images)] for image in range(1, count + 1))

    # ---- what a subclass says ----

    @abstractmethod
    def finished(self, clues: NDArray[np.uint8], votes: Votes) -> NDArray[np.bool_]:
        """(B,) bool, boards on which nothing more need be thought, given (B, H, W) puzzles and the votes so far."""

    @abstractmethod
    def conclude(self, clues: NDArray[np.uint8], votes: Votes) -> Decision:
        """The answers to give, given (B, H, W) puzzles and the votes on them."""

    # ---- the agent ----

    def decide(
        self, observation: Observation, state: EnsembleState | None, starts: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], EnsembleState]:
        """Answer mode: one segment of every lane. Other modes: all of them, until every board is finished."""
        clues, tasks, count = observation["puzzle"], observation.get("task"), len(starts)
        numbers = np.zeros(count, np.int64) if tasks is None else tasks.reshape(count)
        layout = self.members[0].task_rows
        keys = [layout.keys_of(self.family, int(task), self.images - 1) or self.keys for task in numbers]
        images = images_of_each(self.family, clues, keys)
        if state is None:
            lanes = tuple(AgentState.before(member.model, count * self.images) for member in self.members)
            state = EnsembleState(lanes, np.zeros(count, np.bool_))
        while True:
            state, votes = self._segment(state, images, observation, keys, starts)
            if self.action_mode == "answer" or state.finished.all():
                break
            starts = np.zeros(count, np.bool_)
        decision = self.conclude(clues, votes)
        attempts = observation.get("attempt")
        answers = decision.answers[np.arange(count), 0 if attempts is None else attempts.reshape(count)]
        self._spent = votes.segments.sum(axis=1)
        told = [f"{int(halted.sum())} of {len(halted)}" for halted in votes.halted]
        self._thoughts = [
            Thought(
                answers[i],
                decision.confidence[i],
                float(decision.q_halt[i]),
                segment=int(self._spent[i]),
                reason=f"{told[i]} lanes have halted: halts" if state.finished[i] else None,
                event="halts" if state.finished[i] else "",
                facts=(("Lanes halted", told[i]), ("Segments of all lanes", str(self._spent[i]))),
            )
            for i in range(count)
        ]
        return answers_to_actions(self.family, self.action_mode, observation, answers, state.finished), state

    def thoughts(self) -> list[Thought] | None:
        """What the ensemble had in mind at the last `predict`; `segment` counts those of all lanes together."""
        return self._thoughts

    def spent(self) -> NDArray[np.int64]:
        """(B,) segments run so far on each board of the last `predict`, summed over lanes."""
        return self._spent

    @property
    def halting_rules(self) -> str:
        """Those of the networks, and how many lanes vote, or race."""
        own = dict.fromkeys(member.halting_rules for member in self.members)
        return f"{' / '.join(own)} + {self._lanes_in_words()}"

    @abstractmethod
    def _lanes_in_words(self) -> str:
        """What is done with the lanes, for tables."""

    def _segment(
        self,
        state: EnsembleState,
        images: NDArray[np.uint8],
        observation: Observation,
        keys: Sequence[Keys],
        starts: NDArray[np.bool_],
    ) -> tuple[EnsembleState, Votes]:
        """One segment of every active lane, and the votes after it."""
        tasks, lanes = observation.get("task"), list(state.lanes)
        shape = (len(starts), self.images)
        for number, member in enumerate(self.members):
            halted = lanes[number].halted.cpu().numpy().reshape(shape) | state.finished[:, None]
            board, image = np.nonzero(~halted | starts[:, None])
            if len(board) == 0:
                continue
            places, fresh, numbers = (
                torch.from_numpy(part).to(member.device) for part in (board * self.images + image, starts[board], image)
            )
            boards = member.boards(images[board, image], None if tasks is None else tasks[board], image)
            equivariant = member.model.config.equivariant
            step = next(member.think(boards, lanes[number][places], fresh, numbers if equivariant else None))
            lanes[number] = lanes[number].put(places, step.state)
        votes = self._votes(lanes, images, keys)
        return EnsembleState(tuple(lanes), self.finished(observation["puzzle"], votes)), votes

    def _votes(self, lanes: Sequence[AgentState], images: NDArray[np.uint8], keys: Sequence[Keys]) -> Votes:
        """The states in numpy, the answers mapped back."""
        shape = images.shape[:2]
        free = self.family.free(images.reshape(-1, *self.grid)).reshape(*shape, -1)
        columns = []
        for own in lanes:
            answers = own.answers.cpu().numpy().reshape(images.shape)
            sure = own.confidence.cpu().numpy().reshape(*shape, -1)
            columns.append(
                Votes(
                    answers_back_from_each(self.family, answers, keys),
                    own.q_halt.cpu().numpy().reshape(shape),
                    (sure.sum(axis=2, where=free) / np.maximum(free.sum(axis=2), 1)).astype(np.float32),
                    own.segments.cpu().numpy().astype(np.int64).reshape(shape),
                    own.halted.cpu().numpy().reshape(shape),
                )
            )
        return joined(columns)


class Candidate(NamedTuple):
    """One of the answers that were voted for.

    Attributes:
        answer: (H, W) uint8.
        value: less its cost (`PuzzleFamily.cost`): 0 at best, minus infinity if it breaks a rule.
        votes: lanes that came to it.
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
) -> list[Candidate]:
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
    candidates = [
        Candidate(
            answers[one[0]],
            -float(cost[one[0]]),
            len(one),
            float(q_halt[one].sum(dtype=np.float64)),
            float(confidence[one].sum(dtype=np.float64)),
        )
        for one in voters.values()
    ]
    return sorted(candidates, key=lambda one: one[1:], reverse=True)


def costs(family: PuzzleFamily, clues: NDArray[np.uint8], votes: Votes) -> NDArray[np.float64]:
    """(B, K) float64: `PuzzleFamily.cost` of each of K answers to each of (B, H, W) puzzles."""
    count, voters = votes.answers.shape[:2]
    flat = votes.answers.reshape(count * voters, *clues.shape[1:])
    return family.cost(np.repeat(clues, voters, axis=0), flat).reshape(count, voters)


def decide(family: PuzzleFamily, clues: NDArray[np.uint8], votes: Votes) -> Decision:
    """The outcome of a vote on each of (B, H, W) puzzles: the best answers, one for each attempt of the family."""
    answers, cost = votes.answers, costs(family, clues, votes)
    ranked = [count_votes(*board) for board in zip(answers, cost, votes.q_halt, votes.confidence, strict=True)]
    best = np.stack([[board[min(n, len(board) - 1)].answer for n in range(family.attempts)] for board in ranked])
    shares = (answers == best[:, :1]).mean(axis=1, dtype=np.float64).astype(np.float32)
    q_halt = np.array([board[0].q_halt / board[0].votes for board in ranked], np.float32)
    return Decision(best, shares, q_halt)


def first_different(answers: Iterable[NDArray[np.uint8]], count: int) -> NDArray[np.uint8]:
    """(count, H, W): the first of (H, W) answers that differ, in order, the last repeated if there are too few."""
    named: dict[bytes, NDArray[np.uint8]] = {}
    for answer in answers:
        named.setdefault(answer.tobytes(), answer)
    different = list(named.values())
    return np.stack([different[min(n, len(different) - 1)] for n in range(count)])


def of_usual_outline(answers: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(K,) bool: which of (K, H, W) answers leave the same cells blank, token 0, as most do.

    Of ARC's grids these are the answers of the most voted size. Of equally many those first named count.
    """
    outlines = [np.packbits(answer == 0).tobytes() for answer in answers]
    usual = max(dict.fromkeys(outlines), key=outlines.count)
    return np.array([outline == usual for outline in outlines])


def cell_by_cell(answers: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W): in every cell the token that most of (K, H, W) answers have there, the lowest of equally many."""
    counts = np.stack([(answers == token).sum(axis=0) for token in range(int(answers.max()) + 1)])
    return counts.argmax(axis=0).astype(np.uint8)


def decide_by_outline(family: PuzzleFamily, clues: NDArray[np.uint8], votes: Votes) -> Decision:
    """As `decide`, for lanes that differ in many answers, and in the size of a grid: its size is voted on first.

    Of the answers of the usual size the most voted comes first. The second attempt is what most of them say cell by
    cell, which may be an answer that no lane gave; then come the others by votes.
    """
    decisions = []
    for board in range(len(clues)):
        lanes, puzzle = Votes._make(part[board : board + 1] for part in votes), clues[board : board + 1]
        usual = Votes._make(part[:, of_usual_outline(lanes.answers[0])] for part in lanes)
        best, rest = decide(family, puzzle, usual), decide(family, puzzle, lanes)
        ranked, between = best.answers[0], cell_by_cell(usual.answers[0])
        keeps = np.isfinite(family.cost(puzzle, between[None]))[0]
        order = [ranked[0], *([between] if keeps else []), *ranked[1:], *rest.answers[0]]
        answers = first_different(order, family.attempts)[None]
        shares = (lanes.answers == answers[:, :1]).mean(axis=1, dtype=np.float64).astype(np.float32)
        decisions.append(Decision(answers, shares, best.q_halt))
    return Decision(*(np.concatenate(parts) for parts in zip(*decisions, strict=True)))


class VotingAgent(EnsembleAgent):
    """HRMs on symmetric images of every puzzle, which vote on the whole answer.

    Every image runs until its own halt; the board halts when all of them have, or when enough of those that
    have agree. Meanwhile it shows the answer that leads, and the share of votes that agree with it cell by cell. A
    second attempt, where the puzzle allows one, gives the answer that came second.

    Attributes:
        agree: halted lanes with equally good answers, none better (`PuzzleFamily.cost`), that suffice; 0
            waits for all. Puzzles with a second attempt wait for all in any case.
    """

    kind = "vote"

    def __init__(self, members: Sequence[HRMAgent], images: int = 1, name: str = "", agree: int = 0) -> None:
        """Put an ensemble together.

        Args:
            members: at least one HRM, all for the same boards.
            images: symmetric images of every puzzle, the puzzle itself included, at least 1.
            name: what tables call it.
            agree: see the attributes.

        Raises:
            ValueError: as `EnsembleAgent`, or `agree` is negative or more than there are lanes.
        """
        super().__init__(members, images, name)
        if not 0 <= agree <= self.lane_count:
            raise ValueError(f"expected agree of 0 to {self.lane_count}, the lanes there are, got {agree}")
        self.agree = agree

    @classmethod
    def for_env(cls, env: gym.Env[Any, Any], votes: int = 8, agree: int = 0, **kwargs: Any) -> VotingAgent:
        """The agent for an environment; `votes` images of every puzzle, the others as `members_for`."""
        return cls(members_for(env, **kwargs), votes, agree=agree)

    def _lanes_in_words(self) -> str:
        return f"votes {self.lane_count}" + (f" until {self.agree} agree" if self.agree else "")

    def finished(self, clues: NDArray[np.uint8], votes: Votes) -> NDArray[np.bool_]:
        """(B,) bool: all have halted, or enough that agree."""
        halted = votes.halted
        done = halted.all(axis=1)
        if self.agree and self.family.attempts == 1:
            cost = np.where(halted, costs(self.family, clues, votes), np.inf)
            best = cost.min(axis=1, keepdims=True)
            done |= ((cost == best) & np.isfinite(cost)).sum(axis=1) >= self.agree
        return np.asarray(done)

    def conclude(self, clues: NDArray[np.uint8], votes: Votes) -> Decision:
        """Count the votes of every board."""
        return decide(self.family, clues, votes)


class FirstToHaltAgent(EnsembleAgent):
    """HRMs (several checkpoints, or one on symmetric images of the puzzle), of which the first to halt answers.

    Of several that halt after the same segment the one with the highest Q(halt) answers, and the first of those that
    are equal. While none has halted the board shows the answer of the one with the highest Q(halt). A second attempt,
    where the puzzle allows one, gives the best different answer.
    """

    kind = "first"

    @classmethod
    def for_env(cls, env: gym.Env[Any, Any], images: int = 8, **kwargs: Any) -> FirstToHaltAgent:
        """The agent for an environment; `images` of every puzzle, the others as `members_for`."""
        return cls(members_for(env, **kwargs), images)

    def _lanes_in_words(self) -> str:
        return f"first of {self.lane_count}"

    def finished(self, clues: NDArray[np.uint8], votes: Votes) -> NDArray[np.bool_]:
        """(B,) bool: one has halted."""
        return np.asarray(votes.halted.any(axis=1))

    def conclude(self, clues: NDArray[np.uint8], votes: Votes) -> Decision:
        """Take the answer of the first to halt, or of the one that is nearest to it."""
        rows = np.arange(len(clues))
        order = np.lexsort((-votes.q_halt, ~votes.halted), axis=1)
        first = order[:, 0]
        answers = np.stack([first_different(votes.answers[row][order[row]], self.family.attempts) for row in rows])
        agreement = (votes.answers == answers[:, :1]).mean(axis=1, dtype=np.float64).astype(np.float32)
        return Decision(answers, agreement, votes.q_halt[rows, first])
