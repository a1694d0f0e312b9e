"""What an HRM would answer at each moment: how it gets to an answer (HRM paper, figure 7)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.halting import Never
from hrm_gym.agents.hrm.model import Carry
from hrm_gym.agents.hrm.thinking import Rules, read_answer, think
from hrm_gym.envs.puzzle import Puzzle


class Moment(NamedTuple):
    """When an answer was read: after a segment, or after one of its L-level updates, numbered from 1."""

    segment: int
    update: int | None = None

    def __str__(self) -> str:
        return f"segment {self.segment}" if self.update is None else f"{self.segment}, update {self.update}"


@dataclass(frozen=True)
class Answers:
    """One puzzle's course.

    Attributes:
        puzzle: its name, or its number in the study.
        moments: when the answers were read.
        q_halt: at every moment, a probability.
        wrong: at every moment, counted cells that differ from the stored solution.
        changed: at every moment, cells that differ from the moment before; all that are filled, at the first.
        solved: at every moment, whether the answer is right by the rules.
        halts: the segment after which the agent's halting rule stops, None if it does not.
        grids: at every moment, the answer as lines of text.
    """

    puzzle: str
    moments: tuple[Moment, ...]
    q_halt: tuple[float, ...]
    wrong: tuple[int, ...]
    changed: tuple[int, ...]
    solved: tuple[bool, ...]
    halts: int | None
    grids: tuple[str, ...]


def study_answers(
    agent: HRMAgent, puzzles: Sequence[Puzzle], segments: int, inner: bool = False
) -> tuple[list[Answers], list[NDArray[np.uint8]]]:
    """Run N segments on each puzzle, whatever the halting rule would say.

    Args:
        agent: whose network and family.
        puzzles: at least one.
        segments: N, at least 1.
        inner: read an answer after every update of the L-level, from the state that the H-level would take if it moved
            then (the paper's preliminary H-state), in place of one after every segment.

    Returns:
        The course of every puzzle, and for every puzzle its (moments, H, W) answers.

    Raises:
        ValueError: no puzzles, fewer than one segment, or `inner` for a network without two levels.
    """
    if not puzzles or segments < 1:
        raise ValueError(f"expected at least one puzzle and one segment, got {len(puzzles)} and {segments}")
    if inner and agent.model.config.levels != 2:
        raise ValueError(f"expected a network of two levels for inner answers, got {agent.model.config.levels}")
    boards = agent.boards_of(puzzles)
    seen, moments, halts, now = [], list[Moment](), list[Tensor](), list[Carry]()

    def saw(name: str, carry: Carry) -> None:
        if name == "l":
            now.append(carry)

    watch = saw if inner else None
    for number, (_, state) in enumerate(think(agent.model, boards, Rules(Never(), segments), on_update=watch), 1):
        halts.append(agent.halting.halts(state.evidence(boards.free)))
        if inner:
            moments += [Moment(number, update) for update in range(1, len(now) + 1)]
            seen += list(_preliminary(agent, now))
            now.clear()
        else:
            moments.append(Moment(number))
            seen.append((state.answers, state.q_halt))
    answers = torch.stack([found for found, _ in seen], dim=1).cpu().numpy().reshape(len(puzzles), -1, *agent.grid)
    q_halt = torch.stack([value for _, value in seen], dim=1).cpu().numpy()
    stops = torch.stack(halts, dim=1).cpu().numpy()
    rows = range(len(puzzles))
    return [_course(agent, puzzles[i], i, moments, answers[i], q_halt[i], stops[i]) for i in rows], list(answers)


@torch.inference_mode()
def _preliminary(agent: HRMAgent, carries: Sequence[Carry]) -> Iterator[tuple[Tensor, Tensor]]:
    """(B, S) answers and (B,) probabilities of Q(halt), if the H-level moved after each of these L-level updates."""
    model, before = agent.model, carries[0].z_h  # the H-level state at the start of the segment
    for carry in carries:
        z_h = model.h_level(carry.z_h, carry.z_l, model.rotary)
        yield read_answer(model.answer_logits(z_h))[0], torch.sigmoid(model.q_values(z_h, before)[0])


def _course(
    agent: HRMAgent,
    puzzle: Puzzle,
    number: int,
    moments: Sequence[Moment],
    answers: NDArray[np.uint8],
    q_halt: NDArray[np.float32],
    halts: NDArray[np.bool_],
) -> Answers:
    counted = agent.family.counted(puzzle.clues, puzzle.solution)
    boards = puzzle.clues[None], puzzle.solution[None]
    before = np.concatenate([agent.family.blank(puzzle.clues)[None], answers[:-1]])
    return Answers(
        puzzle.name or f"puzzle {number}",
        tuple(moments),
        tuple(round(float(value), 4) for value in q_halt),
        tuple(int(((answer != puzzle.solution) & counted).sum()) for answer in answers),
        tuple(int((answer != last).sum()) for answer, last in zip(answers, before, strict=True)),
        tuple(bool(agent.family.judge(*boards, answer[None])[0]) for answer in answers),
        int(halts.argmax()) + 1 if halts.any() else None,
        tuple(agent.family.to_text(answer) for answer in answers),
    )
