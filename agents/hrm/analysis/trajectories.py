"""Trajectories: everything a halting rule could go by, and whether the answer was right, after every segment.

One run of the network over many puzzles, no board ever halting, tells what any rule would have done at any budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hrm_gym.agents.hrm import act
from hrm_gym.agents.hrm.agent import Boards, HRMAgent
from hrm_gym.agents.hrm.halting import Evidence, Halting, certainty
from hrm_gym.envs.puzzle import Puzzle


class Trajectories(NamedTuple):
    """N puzzles after each of K segments; column k is segment k + 1.

    Attributes:
        right: (N, K) bool, whether the answer is right by the rules.
        evidence: what rules judge by, every part (N, K).
    """

    right: NDArray[np.bool_]
    evidence: Evidence

    @property
    def segments(self) -> int:
        """K, the segments run."""
        return self.right.shape[1]


def think_through(agent: HRMAgent, puzzles: Sequence[Puzzle], segments: int, batch: int = 64) -> Iterator[Trajectories]:
    """Let an HRM think about puzzles for so many segments, whatever its halting rule; yields one part a batch.

    Args:
        agent: whose network and family.
        puzzles: of its grid.
        segments: at least 1; may exceed the number used in training.
        batch: boards at a time, at least 1.

    Raises:
        ValueError: `segments` or `batch` below 1.
    """
    if segments < 1 or batch < 1:
        raise ValueError(f"expected at least one segment and a batch of at least 1, got {segments} and {batch}")
    for first in range(0, len(puzzles), batch):
        yield _think_through(agent, puzzles[first : first + batch], segments)


def joined(parts: Sequence[Trajectories]) -> Trajectories:
    """Parts of one study as one."""
    evidence = Evidence(*(torch.cat(columns) for columns in zip(*(part.evidence for part in parts), strict=True)))
    return Trajectories(np.concatenate([part.right for part in parts]), evidence)


def halting_segments(rule: Halting, trajectories: Trajectories, limit: int) -> NDArray[np.int64]:
    """(N,) the segment, from 1, after which every board halts by `rule` or, at the latest, by `limit`."""
    halts = rule.halts(trajectories.evidence)[:, :limit].numpy().copy()
    halts[:, -1] = True
    return halts.argmax(axis=1) + 1


def right_at(trajectories: Trajectories, segments: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N,) bool, whether the answer is right after each board's number of segments, counted from 1."""
    return trajectories.right[np.arange(len(segments)), segments - 1]


@torch.inference_mode()
def _think_through(agent: HRMAgent, puzzles: Sequence[Puzzle], segments: int) -> Trajectories:
    clues, solutions = (np.stack([getattr(p, name) for p in puzzles]) for name in ("clues", "solution"))
    boards = agent.boards(clues, np.array([[puzzle.puzzle_id] for puzzle in puzzles], np.int32))
    right, evidence = np.empty((len(puzzles), segments), np.bool_), []
    for k, (answers, seen) in enumerate(segments_of(agent, boards, segments)):
        right[:, k] = agent.family.judge_many(clues, solutions, answers.reshape(clues.shape))
        evidence.append(seen)
    columns = zip(*evidence, strict=True)
    return Trajectories(right, Evidence(*(torch.stack(column, dim=1).cpu() for column in columns)))


def segments_of(agent: HRMAgent, boards: Boards, segments: int) -> Iterator[tuple[NDArray[np.uint8], Evidence]]:
    """The (B, S) answers and the evidence after each segment, no board ever halting."""
    model, count = agent.model, len(boards.inputs)
    carry, x = model.initial_carry(count), model.embed(boards.inputs, model.puzzles[boards.puzzle_ids.long()])
    reading = act.Reading.nothing(count, boards.inputs.shape[1], agent.device)
    for segment in range(1, segments + 1):
        carry = act.advance(model, carry, x)
        reading = reading.after(model.answer_logits(carry.z_h))
        number = torch.full((count,), segment, dtype=torch.int32)
        sure = certainty(reading.confidence, boards.free)
        yield reading.answers.cpu().numpy(), Evidence(number, *model.q_values(carry.z_h), *sure, reading.unchanged)
