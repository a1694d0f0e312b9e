"""The states of both levels after every update: how they converge (HRM paper, figure 3), how many dimensions they use.

In an HRM the L-level settles within a cycle and is set in motion again by each update of the H-level, which itself
settles slowly. A recurrent network settles once and then hardly computes; a deep one moves in its first and last
layers. The participation ratio PR = (sum of eigenvalues)^2 / (sum of squared eigenvalues) of the states' covariance is
1 if they lie on a line, D if they fill all directions equally. In the brain, and in the paper's trained HRM, the higher
level uses more dimensions than the lower one; in an untrained network the two are about equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.halting import Never
from hrm_gym.agents.hrm.model import HRM, Carry
from hrm_gym.agents.hrm.thinking import Boards, Rules, think


class Step(NamedTuple):
    """One update of a state.

    Attributes:
        level: "L", "H", or "R" for the state of a recurrent network without hierarchy, "D" for a layer of a network
            that runs once.
        before: (B, T, D), the state that was updated.
        after: (B, T, D).
    """

    level: str
    before: Tensor
    after: Tensor


def is_deep(model: HRM) -> bool:
    """Whether every layer of the network runs just once: direct prediction."""
    return model.config.max_segments == 1 and model.config.steps == 1


def steps_of(model: HRM, boards: Boards, segments: int) -> Iterator[Step]:
    """Every update of a state over N segments; of a feed-forward network, every layer's."""
    if is_deep(model):
        yield from _layers(model, lambda: next(think(model, boards, Rules(Never(), 1))))
        return
    names = [spec.name for spec in reversed(model.config.modules)]  # in the order of a carry
    steps: list[Step] = []
    carry = model.initial_carry(len(boards.inputs))

    def saw(name: str, after: Carry) -> None:
        nonlocal carry
        place = names.index(name)
        steps.append(Step("R" if len(names) == 1 else name.upper(), carry[place], after[place]))
        carry = after

    for _ in think(model, boards, Rules(Never(), segments), on_update=saw):
        yield from steps
        steps.clear()  # a segment at a time: the states of large boards fill a memory


def calls_of(config: HRMConfig) -> int:
    """Updates of states in a segment."""
    return sum(config.steps // spec.period for spec in config.modules)


def _layers(model: HRM, run: Callable[[], Any]) -> list[Step]:
    """What goes into and comes out of every block while `run` runs the network."""
    seen: list[Step] = []
    with _watched(model, lambda before, after: seen.append(Step("D", before, after))):
        run()
    return seen


@contextmanager
def _watched(model: HRM, saw: Callable[[Tensor, Tensor], None]) -> Iterator[None]:
    """Call `saw` with the state before and after every block."""
    blocks = [block for level in dict.fromkeys((model.l_level, model.h_level)) for block in level.blocks]
    hooks = [block.register_forward_hook(lambda _, inputs, output: saw(inputs[0], output)) for block in blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


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
        moved = [
            (step.level, float((step.after.float() - step.before.float()).square().mean(-1).sqrt().mean()))
            for step in steps_of(model, part, segments)
        ]
        levels = [level for level, _ in moved]
        values = np.array([value for _, value in moved]) * len(part.inputs)
        sums = values if first == 0 else sums + values
    traces = []
    for level in dict.fromkeys(levels):
        at = [number for number, other in enumerate(levels) if other == level]
        traces.append(Trace(LEVELS[level], tuple(n + 1 for n in at), tuple(float(sums[n] / count) for n in at)))
    kind = {"L": "hierarchical", "H": "hierarchical", "R": "recurrent", "D": "deep"}[levels[0]]
    calls = len(levels) if is_deep(model) else calls_of(model.config)
    return Network(name, kind, calls, tuple(traces))


LEVELS_DIMENSIONALITY = ("H", "L")


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
    control = HRM.from_state(model.config).to(boards.inputs.device).eval()
    found = [tuple(_dimensions(network, boards, segments, counts, batch)) for network in (model, control)]
    return DimensionalityStudy(env, agent, segments, model.config.hidden_size, *found)


def _dimensions(model: HRM, boards: Boards, segments: int, counts: Sequence[int], batch: int) -> list[Dimensions]:
    """The ratios after every count, from sums that grow."""
    hidden, prefix = model.config.hidden_size, model.config.prefix
    moments = {level: np.zeros((hidden, hidden)) for level in LEVELS_DIMENSIONALITY}
    sums, samples = (
        {level: np.zeros(hidden) for level in LEVELS_DIMENSIONALITY},
        dict.fromkeys(LEVELS_DIMENSIONALITY, 0),
    )
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
        high, low = (participation_ratio(moments[a] / samples[a], sums[a] / samples[a]) for a in LEVELS_DIMENSIONALITY)
        found.append(Dimensions(count, high, low, high / low if low else 0.0))
    return found
