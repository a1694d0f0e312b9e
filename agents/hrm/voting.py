"""Voting at test time: the same puzzle in several symmetric disguises, and the answer that most of them come to.

An HRM can fall into a wrong fixed point; under another symmetry it rarely falls into the same one (arXiv 2601.10679).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.panel import Conclusion, Opinions, PanelAgent, members_for
from hrm_gym.envs.puzzle import PuzzleFamily


class Ballot(NamedTuple):
    """One of the answers that were voted for.

    Attributes:
        answer: (H, W) uint8.
        value: less its cost (`PuzzleFamily.cost_many`): 0 at best, minus infinity if it breaks a rule.
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
        cost: (K,) float64, of `PuzzleFamily.cost_many`.
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
    """(B, K) float64: `PuzzleFamily.cost_many` of each of K answers to each of (B, H, W) puzzles."""
    count, voters = opinions.answers.shape[:2]
    flat = opinions.answers.reshape(count * voters, *clues.shape[1:])
    return family.cost_many(np.repeat(clues, voters, axis=0), flat).reshape(count, voters)


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
        agree: thoughts at their end with equally good answers, none better (`PuzzleFamily.cost_many`), that suffice; 0
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
