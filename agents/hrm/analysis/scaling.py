"""Accuracy against segments: fixed budgets, beyond the number used in training too, and halting rules beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hrm_gym.agents.hrm.analysis.trajectories import Trajectories, halting_segments, right_at
from hrm_gym.agents.hrm.halting import Fixed, Halting
from hrm_gym.report import wilson


@dataclass(frozen=True)
class Point:
    """One way of spending segments.

    Attributes:
        rule: the halting rule, as text.
        limit: segments at most.
        segments: mean segments used.
        solved: share solved, with its 95 % Wilson interval.
        solved_low: its lower bound.
        solved_high: its upper bound.
    """

    rule: str
    limit: int
    segments: float
    solved: float
    solved_low: float
    solved_high: float


@dataclass(frozen=True)
class ScalingStudy:
    """Accuracy against segments.

    Attributes:
        env: id of the environment.
        agent: name of the agent.
        puzzles: how many.
        trained: segments after which training forced a halt.
        fixed: the same number of segments for every puzzle, rising.
        learned: the network's own halting with each of these numbers as the limit.
        rules: other halting rules, with the greatest number as the limit.
        ever: share of the puzzles that were right after some segment: what a perfect rule would reach.
    """

    env: str
    agent: str
    puzzles: int
    trained: int
    fixed: tuple[Point, ...]
    learned: tuple[Point, ...]
    rules: tuple[Point, ...]
    ever: float


def point(rule: Halting, trajectories: Trajectories, limit: int) -> Point:
    """What a rule would have done."""
    used = halting_segments(rule, trajectories, limit)
    right = int(right_at(trajectories, used).sum())
    low, high = wilson(right, len(used))
    return Point(str(rule), limit, float(used.mean()), right / len(used), low, high)


def study_scaling(
    trajectories: Trajectories,
    learned: Halting,
    budgets: Sequence[int],
    rules: Sequence[Halting] = (),
    env: str = "",
    agent: str = "",
    trained: int = 0,
) -> ScalingStudy:
    """Tabulate trajectories.

    Args:
        trajectories: at least as long as the greatest budget.
        learned: the rule that the network was trained with.
        budgets: rising numbers of segments, at least one.
        rules: others to compare.
        env: id of the environment.
        agent: name of the agent.
        trained: segments after which training forced a halt.

    Raises:
        ValueError: budgets that are none, do not rise, or exceed the trajectories.
    """
    if not budgets or list(budgets) != sorted(set(budgets)) or not 1 <= budgets[0] <= budgets[-1]:
        raise ValueError(f"expected rising budgets of at least 1 segment, got {list(budgets)}")
    if budgets[-1] > trajectories.segments:
        raise ValueError(f"expected budgets of at most {trajectories.segments} segments, got {budgets[-1]}")
    fixed = tuple(point(Fixed(budget), trajectories, budget) for budget in budgets)
    own = tuple(point(learned, trajectories, budget) for budget in budgets)
    others = tuple(point(rule, trajectories, budgets[-1]) for rule in rules)
    ever = float(np.mean(trajectories.right[:, : budgets[-1]].any(axis=1)))
    return ScalingStudy(env, agent, len(trajectories.right), trained, fixed, own, others, ever)
