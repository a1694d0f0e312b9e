"""Segments against difficulty, accuracy against segments, and the trajectories from which any halting rule is judged.

One run of the network over many puzzles, no board ever halting, tells what any rule would have done at any budget.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.halting import Evidence, Fixed, Halting, Never
from hrm_gym.agents.hrm.thinking import Rules
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.puzzle import Puzzle
from hrm_gym.evaluation.intervals import wilson
from hrm_gym.evaluation.rollout import Episode


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
    """Run N segments of an HRM on puzzles, whatever its halting rule; yields one part a batch.

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


def _think_through(agent: HRMAgent, puzzles: Sequence[Puzzle], segments: int) -> Trajectories:
    clues, solutions = (np.stack([getattr(p, name) for p in puzzles]) for name in ("clues", "solution"))
    right, evidence = np.empty((len(puzzles), segments), np.bool_), []
    for k, (answers, seen) in enumerate(segments_of(agent, puzzles, segments)):
        right[:, k] = agent.family.judge(clues, solutions, answers)
        evidence.append(seen)
    columns = zip(*evidence, strict=True)
    return Trajectories(right, Evidence(*(torch.stack(column, dim=1).cpu() for column in columns)))


def segments_of(
    agent: HRMAgent, puzzles: Sequence[Puzzle], segments: int
) -> Iterator[tuple[NDArray[np.uint8], Evidence]]:
    """The (B, H, W) answers and the evidence after each segment, no board ever halting."""
    boards = agent.boards_of(puzzles)
    for _, state in agent.think(boards, rules=Rules(Never(), segments)):
        yield state.answers.cpu().numpy().reshape(-1, *agent.grid), state.evidence(boards.free)


Z95 = 1.959963984540054


@dataclass(frozen=True)
class Bin:
    """Puzzles of about one difficulty. `_low` and `_high` bound 95 % intervals (Wilson for shares, normal for means).

    Attributes:
        low: the least difficulty in it.
        high: the greatest.
        puzzles: how many, at least 1.
        solved: share solved.
        segments: mean segments used.
        spent: mean segments of all networks and images together.
    """

    low: float
    high: float
    puzzles: int
    solved: float
    solved_low: float
    solved_high: float
    segments: float
    segments_low: float
    segments_high: float
    spent: float


@dataclass(frozen=True)
class SegmentStudy:
    """Segments against difficulty.

    Attributes:
        env: id of the environment.
        agent: name of the agent.
        unit: what difficulty is counted in.
        puzzles: how many were played.
        solved: share solved.
        segments: mean segments used.
        correlation: Spearman's, between difficulty and segments; None if either is the same everywhere.
        correlation_low: its 95 % interval (Bonett and Wright's), None for fewer than five puzzles.
        correlation_high: the same.
        bins: from easy to hard.
    """

    env: str
    agent: str
    unit: str
    puzzles: int
    solved: float
    segments: float
    correlation: float | None
    correlation_low: float | None
    correlation_high: float | None
    bins: tuple[Bin, ...]


def difficulties(episodes: Sequence[Episode], family: PuzzleFamily) -> tuple[NDArray[np.float64], str]:
    """(N,) difficulty of every puzzle and its unit: the rating if all puzzles have one, else what the family counts."""
    ratings = [episode.puzzle.rating for episode in episodes]
    known = [rating for rating in ratings if rating is not None]
    if len(known) == len(ratings):
        return np.array(known, np.float64), "rating"
    return np.array([family.difficulty(episode.puzzle) for episode in episodes], np.float64), family.difficulty_unit


def study_segments(episodes: Sequence[Episode], family: PuzzleFamily, bins: int = 8) -> SegmentStudy:
    """Tabulate answer-mode episodes of one agent against difficulty.

    Args:
        episodes: at least one.
        family: says how hard a puzzle is where it has no rating.
        bins: maximum number of bins, with about equal numbers of puzzles.

    Raises:
        ValueError: no episodes, or some that were not played in answer mode.
    """
    if not episodes or any(episode.segments is None for episode in episodes):
        raise ValueError(f"expected episodes of answer mode, got {len(episodes)} of which some count no segments")
    hard, unit = difficulties(episodes, family)
    used = np.array([episode.segments for episode in episodes], np.float64)
    solved = np.array([episode.solved for episode in episodes], np.bool_)
    spent = np.array([e.segments if e.spent is None else e.spent for e in episodes], np.float64)
    places = split_evenly(hard, bins)
    found = tuple(_bin(hard[rows], solved[rows], used[rows], spent[rows]) for rows in places)
    first = episodes[0]
    share, mean = float(solved.mean()), float(used.mean())
    return SegmentStudy(first.env_id, first.agent, unit, len(used), share, mean, *spearman(hard, used), found)


def split_evenly(values: NDArray[np.float64], bins: int) -> list[NDArray[np.int64]]:
    """Rows of `values` (N,) in at most `bins` groups of rising values; equal values stay together.

    >>> [rows.tolist() for rows in split_evenly(np.array([5.0, 1.0, 1.0, 7.0]), 2)]
    [[1, 2], [0, 3]]
    """
    distinct = np.unique(values)
    if len(distinct) <= bins:
        edges = distinct
    else:
        edges = np.unique(np.quantile(values, np.arange(bins) / bins, method="higher"))
    group = np.searchsorted(edges, values, side="right")
    return [np.flatnonzero(group == number) for number in np.unique(group)]


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float | None, float | None, float | None]:
    """Spearman's rank correlation of (N,) values with its 95 % interval; None where there is none."""
    if len(np.unique(a)) < 2 or len(np.unique(b)) < 2:
        return None, None, None
    r = float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])
    if len(a) < 5 or abs(r) >= 1:
        return r, None, None
    half = Z95 * math.sqrt((1 + r * r / 2) / (len(a) - 3))
    return r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


def _ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """(N,) float64 ranks from 1; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (counts.cumsum() - (counts - 1) / 2)[places]
    return ranks


def _bin(
    hard: NDArray[np.float64], solved: NDArray[np.bool_], used: NDArray[np.float64], spent: NDArray[np.float64]
) -> Bin:
    count, mean = len(hard), float(used.mean())
    half = Z95 * float(used.std(ddof=1)) / math.sqrt(count) if count > 1 else 0.0
    rates = (float(solved.mean()), *wilson(int(solved.sum()), count))
    return Bin(float(hard.min()), float(hard.max()), count, *rates, mean, mean - half, mean + half, float(spent.mean()))


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
