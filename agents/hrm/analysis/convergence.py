"""Hierarchical convergence: how far each update still moves a state (HRM paper, section 2 and figure 3).

In an HRM the L-level settles within a cycle and is set in motion again by each update of the H-level, which itself
settles slowly. A recurrent network settles once and then hardly computes; a deep one moves in its first and last
layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hrm_gym.agents.hrm.agent import Boards
from hrm_gym.agents.hrm.analysis.states import is_deep, steps_of
from hrm_gym.agents.hrm.network import HRM, schedule

LEVELS = {"L": "L-level", "H": "H-level", "R": "recurrent state", "D": "layers"}


@dataclass(frozen=True)
class Trace:
    """The forward residuals of one state.

    Attributes:
        level: which state.
        calls: numbers of the updates of this state among all updates, from 1.
        residuals: the root mean square of the change of each entry, averaged over boards and positions.
    """

    level: str
    calls: tuple[int, ...]
    residuals: tuple[float, ...]


@dataclass(frozen=True)
class Network:
    """One network.

    Attributes:
        name: of its weights.
        kind: "hierarchical", "recurrent" or "deep".
        calls: updates in a segment; of a deep network, its layers.
        traces: one a state.
    """

    name: str
    kind: str
    calls: int
    traces: tuple[Trace, ...]


@dataclass(frozen=True)
class ConvergenceStudy:
    """Forward residuals of networks on the same puzzles.

    Attributes:
        env: id of the environment.
        puzzles: how many.
        segments: of the networks that have any.
        networks: the one in question first.
    """

    env: str
    puzzles: int
    segments: int
    networks: tuple[Network, ...]


def study_convergence(
    networks: Sequence[tuple[str, HRM, Boards]], segments: int, batch: int = 64, env: str = ""
) -> ConvergenceStudy:
    """Measure forward residuals.

    Args:
        networks: name, network and the puzzles as it takes them, (N, S).
        segments: to think for, at least 1, whatever a halting rule would say.
        batch: boards at a time.
        env: id of the environment.

    Raises:
        ValueError: no networks, or fewer than one segment.
    """
    if not networks or segments < 1:
        raise ValueError(f"expected at least one network and one segment, got {len(networks)} and {segments}")
    found = tuple(_network(name, model, boards, segments, batch) for name, model, boards in networks)
    return ConvergenceStudy(env, len(networks[0][2].inputs), segments, found)


def _network(name: str, model: HRM, boards: Boards, segments: int, batch: int) -> Network:
    sums, levels, count = np.zeros(0), list[str](), len(boards.inputs)
    for first in range(0, count, batch):
        part = boards.rows(torch.arange(first, min(first + batch, count), device=boards.inputs.device))
        moved = [(step.level, _residual(step.before, step.after)) for step in steps_of(model, part, segments)]
        levels = [level for level, _ in moved]
        values = np.array([value for _, value in moved]) * len(part.inputs)
        sums = values if first == 0 else sums + values
    traces = []
    for level in dict.fromkeys(levels):
        at = [number for number, other in enumerate(levels) if other == level]
        traces.append(Trace(LEVELS[level], tuple(n + 1 for n in at), tuple(float(sums[n] / count) for n in at)))
    kind = {"L": "hierarchical", "H": "hierarchical", "R": "recurrent", "D": "deep"}[levels[0]]
    calls = len(levels) if is_deep(model) else len(schedule(model.config)[0])
    return Network(name, kind, calls, tuple(traces))


def _residual(before: torch.Tensor, after: torch.Tensor) -> float:
    """Root mean square change of an entry, averaged over the boards' positions."""
    return float((after.float() - before.float()).square().mean(-1).sqrt().mean())
