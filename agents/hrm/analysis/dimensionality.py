"""How many dimensions the states of both levels use: the participation ratio (HRM paper, section 4).

PR = (sum of eigenvalues)^2 / (sum of squared eigenvalues) of the states' covariance: 1 if they lie on a line, D if they
fill all directions alike. In the brain, and in the paper's trained HRM, the higher level uses more dimensions than the
lower one; in an untrained network the two are alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hrm_gym.agents.hrm.agent import Boards
from hrm_gym.agents.hrm.analysis.states import steps_of
from hrm_gym.agents.hrm.network import HRM

LEVELS = ("H", "L")


def participation_ratio(second_moments: NDArray[np.float64], mean: NDArray[np.float64]) -> float:
    """The participation ratio of states with E[x x^T] (D, D) and E[x] (D,).

    >>> participation_ratio(np.eye(4), np.zeros(4))
    4.0
    """
    eigenvalues = np.clip(np.linalg.eigvalsh(second_moments - np.outer(mean, mean)), 0, None)
    total = float(np.square(eigenvalues).sum())
    return float(eigenvalues.sum() ** 2 / total) if total > 0 else 0.0


@dataclass(frozen=True)
class Dimensions:
    """The participation ratios of one network for a number of puzzles.

    Attributes:
        puzzles: how many.
        high: of the H-level.
        low: of the L-level.
        ratio: high / low.
    """

    puzzles: int
    high: float
    low: float
    ratio: float


@dataclass(frozen=True)
class DimensionalityStudy:
    """Participation ratios against the number of puzzles.

    Attributes:
        env: id of the environment.
        agent: name of the agent.
        segments: run on each puzzle.
        hidden: dimensions that a state has.
        trained: rising numbers of puzzles.
        untrained: the same of a network of this architecture with its initial weights.
    """

    env: str
    agent: str
    segments: int
    hidden: int
    trained: tuple[Dimensions, ...]
    untrained: tuple[Dimensions, ...]


def study_dimensionality(
    model: HRM, boards: Boards, segments: int, counts: Sequence[int], batch: int = 64, env: str = "", agent: str = ""
) -> DimensionalityStudy:
    """Measure participation ratios over all cells, updates and puzzles: every state is one sample.

    Args:
        model: a network of two levels.
        boards: the puzzles, (N, S).
        segments: to think for, at least 1.
        counts: rising numbers of puzzles, at most N.
        batch: boards at a time.
        env: id of the environment.
        agent: name of the agent.

    Raises:
        ValueError: a network without two levels that take turns, or counts out of order.
    """
    if model.config.levels != 2 or segments < 1:
        raise ValueError(
            f"expected a network of two levels and a segment or more, got {model.config.levels}, {segments}"
        )
    if not counts or list(counts) != sorted(set(counts)) or not 2 <= counts[0] <= counts[-1] <= len(boards.inputs):
        raise ValueError(f"expected rising numbers of puzzles in 2..{len(boards.inputs)}, got {list(counts)}")
    torch.manual_seed(0)
    control = HRM(model.config).to(boards.inputs.device).eval()
    found = [tuple(_dimensions(network, boards, segments, counts, batch)) for network in (model, control)]
    return DimensionalityStudy(env, agent, segments, model.config.hidden_size, *found)


def _dimensions(model: HRM, boards: Boards, segments: int, counts: Sequence[int], batch: int) -> list[Dimensions]:
    """The ratios after every count, from sums that grow."""
    hidden, prefix = model.config.hidden_size, model.config.prefix
    moments = {level: np.zeros((hidden, hidden)) for level in LEVELS}
    sums, samples = {level: np.zeros(hidden) for level in LEVELS}, dict.fromkeys(LEVELS, 0)
    found, done = [], 0
    for count in counts:
        while done < count:
            rows = torch.arange(done, min(done + batch, count), device=boards.inputs.device)
            for step in steps_of(model, boards.rows(rows), segments):
                flat = step.after[:, prefix:].double().flatten(0, 1).cpu().numpy()
                moments[step.level] += flat.T @ flat
                sums[step.level] += flat.sum(axis=0)
                samples[step.level] += len(flat)
            done = int(rows[-1]) + 1
        high, low = (participation_ratio(moments[a] / samples[a], sums[a] / samples[a]) for a in LEVELS)
        found.append(Dimensions(count, high, low, high / low if low else 0.0))
    return found
