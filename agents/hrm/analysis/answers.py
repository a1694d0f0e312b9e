"""What an HRM would answer after each segment: how it gets to an answer (HRM paper, figure 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.analysis.segments import segments_of
from hrm_gym.envs.puzzle import Puzzle


@dataclass(frozen=True)
class Answers:
    """One puzzle's course.

    Attributes:
        puzzle: its name, or its number in the study.
        q_halt: after every segment, a probability.
        wrong: after every segment, counted cells that differ from the stored solution.
        changed: after every segment, cells that it changed; all that are filled, after the first.
        solved: after every segment, whether the answer is right by the rules.
        halts: the segment after which the agent's halting rule stops, None if it does not.
        grids: after every segment, the answer as lines of text.
    """

    puzzle: str
    q_halt: tuple[float, ...]
    wrong: tuple[int, ...]
    changed: tuple[int, ...]
    solved: tuple[bool, ...]
    halts: int | None
    grids: tuple[str, ...]


def study_answers(
    agent: HRMAgent, puzzles: Sequence[Puzzle], segments: int
) -> tuple[list[Answers], list[NDArray[np.uint8]]]:
    """Run N segments on each puzzle, whatever the halting rule would say.

    Returns:
        The course of every puzzle, and for every puzzle its (segments, H, W) answers.

    Raises:
        ValueError: no puzzles, or fewer than one segment.
    """
    if not puzzles or segments < 1:
        raise ValueError(f"expected at least one puzzle and one segment, got {len(puzzles)} and {segments}")
    seen = list(segments_of(agent, puzzles, segments))
    answers = np.stack([found for found, _ in seen], axis=1)
    q_halt = torch.sigmoid(torch.stack([evidence.q_halt for _, evidence in seen], dim=1)).cpu().numpy()
    halts = torch.stack([agent.halting.halts(evidence) for _, evidence in seen], dim=1).cpu().numpy()
    rows = range(len(puzzles))
    return [_course(agent, puzzles[i], i, answers[i], q_halt[i], halts[i]) for i in rows], list(answers)


def _course(
    agent: HRMAgent,
    puzzle: Puzzle,
    number: int,
    answers: NDArray[np.uint8],
    q_halt: NDArray[np.float32],
    halts: NDArray[np.bool_],
) -> Answers:
    counted = agent.family.counted(puzzle.clues, puzzle.solution)
    boards = puzzle.clues[None], puzzle.solution[None]
    before = np.concatenate([agent.family.blank(puzzle.clues)[None], answers[:-1]])
    return Answers(
        puzzle.name or f"puzzle {number}",
        tuple(round(float(value), 4) for value in q_halt),
        tuple(int(((answer != puzzle.solution) & counted).sum()) for answer in answers),
        tuple(int((answer != last).sum()) for answer, last in zip(answers, before, strict=True)),
        tuple(bool(agent.family.judge(*boards, answer[None])[0]) for answer in answers),
        int(halts.argmax()) + 1 if halts.any() else None,
        tuple(agent.family.to_text(answer) for answer in answers),
    )
