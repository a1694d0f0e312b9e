"""Halting rules against each other on held-out puzzles of a bank, at several costs of a segment.

The comparison of halting rules as a picture, drawn without a display.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.agents.halting.rules import (
    Confidence,
    FixedBudget,
    QHead,
    Rule,
    best_segments,
    halting_segments,
    returns_at_all,
    solved_at,
)
from hrm_gym.envs.halting.bank import SCALARS, HaltingBank
from hrm_gym.evaluation.intervals import Figure, wilson
from hrm_gym.evaluation.plots import BLUE, GREEN, ORANGE, PURPLE, RED, doubling, legend, level, new_figure, save

RESAMPLES = 4000
"""Of the bootstrap."""

_GRID = 60
"""Thresholds that are tried of a kind, at quantiles of what they are compared to."""

Kind = str
"""q, q_tuned, fixed, confidence, dqn, ppo or oracle."""


@dataclass(frozen=True)
class Entry:
    """How a rule did at one cost.

    Attributes:
        kind: which sort of rule.
        rule: its name; what was chosen on the training puzzles is in it.
        segments: mean segments.
        solved: share solved, Wilson interval.
        reward: mean return, bootstrap interval over puzzles.
        gain: mean return less that of the Q-head on the same puzzles, paired bootstrap interval.
        seeds: mean return of every seed of the training, for learned rules.
        train_reward: mean return on the training puzzles.
    """

    kind: Kind
    rule: str
    segments: float
    solved: Figure
    reward: Figure
    gain: Figure
    seeds: tuple[float, ...]
    train_reward: float


@dataclass(frozen=True)
class Lead:
    """The best rule at one cost, the oracle left out, and by how much it is better than others.

    Attributes:
        kind: of the best.
        next_kind: of the next best.
        gain: difference of their mean returns, paired bootstrap interval.
        plain_kind: the best of the rules that no policy was trained for.
        plain_gain: difference to its mean return, likewise.
    """

    kind: Kind
    next_kind: Kind
    gain: Figure
    plain_kind: Kind
    plain_gain: Figure


@dataclass(frozen=True)
class AtCost:
    """All rules at one cost of a segment."""

    cost: float
    entries: tuple[Entry, ...]
    lead: Lead


@dataclass(frozen=True)
class CurvePoint:
    """A rule without regard to a cost: mean segments and share solved."""

    rule: str
    segments: float
    solved: Figure


@dataclass(frozen=True)
class HaltingStudy:
    """The whole comparison.

    Attributes:
        bank: name of the bank.
        puzzles: held-out puzzles that all figures are of.
        train_puzzles: puzzles that rules were tuned and policies trained on.
        segments: the limit.
        ever: share of the held-out puzzles that were right after some segment.
        costs: one a cost.
        curves: by kind of rule (fixed, confidence, q_tuned), from few segments to many.
    """

    bank: str
    puzzles: int
    train_puzzles: int
    segments: int
    ever: float
    costs: tuple[AtCost, ...]
    curves: dict[Kind, tuple[CurvePoint, ...]]


Played = tuple[NDArray[np.float64], NDArray[np.float64]]
"""(M,) segments and (M,) share of seeds that solved the puzzle."""


def study(
    bank: HaltingBank,
    costs: Sequence[float],
    learned: Callable[[float], Mapping[Kind, Sequence[Rule]]],
    seed: int = 0,
) -> HaltingStudy:
    """Compare the rules on the test split of a bank; what can be tuned is tuned on its train split, for each cost.

    Args:
        bank: the whole bank.
        costs: costs of a segment.
        learned: gives the trained policies of a cost, by kind, one a seed.
        seed: of the bootstrap.
    """
    train, test = bank.only("train"), bank.only("test")
    picks = np.random.default_rng(seed).integers(len(test), size=(RESAMPLES, len(test)), dtype=np.int32)
    found = tuple(_at_cost(train, test, cost, learned(cost), picks) for cost in costs)
    curves = {kind: _curve(rules, test) for kind, rules in candidates(train).items()}
    ever = float(test.solved.any(axis=1).mean())
    return HaltingStudy(bank.name, len(test), len(train), test.segments, ever, found, curves)


def candidates(train: HaltingBank) -> dict[Kind, list[Rule]]:
    """The rules of every kind that can be tuned; thresholds lie at quantiles of the training puzzles."""
    flat = train.observations.reshape(-1, train.observations.shape[2])
    margins = flat[:, SCALARS.index("q_halt")] - flat[:, SCALARS.index("q_continue")]
    confidence: list[Rule] = [
        Confidence(float(logit), over)
        for over in ("mean", "lowest")
        for logit in _quantiles(flat[:, SCALARS.index(f"confidence_{over}")])
    ]
    return {
        "fixed": [FixedBudget(k, train.segments) for k in range(1, train.segments + 1)],
        "confidence": confidence,
        "q_tuned": [QHead(margin) for margin in (0.0, *_quantiles(margins).tolist())],
    }


def _quantiles(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """At most `_GRID` different values, those between whose neighbours equally many of `values` lie."""
    return np.unique(np.quantile(values.astype(np.float64), np.linspace(0, 1, _GRID)))


def _at_cost(
    train: HaltingBank,
    test: HaltingBank,
    cost: float,
    learned: Mapping[Kind, Sequence[Rule]],
    picks: NDArray[np.int32],
) -> AtCost:
    rules: dict[Kind, Sequence[Rule]] = {"q": [QHead()]}
    for kind, tried in candidates(train).items():
        rules[kind] = [max(tried, key=lambda rule: float(_returns(_played([rule], train), cost).mean()))]
    rules.update(learned)
    played = {kind: _played(some, test) for kind, some in rules.items()}
    best = best_segments(test, cost)
    played["oracle"] = best.astype(np.float64), solved_at(test, best).astype(np.float64)
    returns = {kind: _returns(one, cost) for kind, one in played.items()}
    entries = []
    for kind, one in played.items():
        some = rules.get(kind, ())
        seeds = tuple(float(_returns(_played([rule], test), cost).mean()) for rule in some) if kind in learned else ()
        on_train = _returns(_played(some, train), cost) if some else returns_at_all(train, cost).max(axis=1)
        entries.append(
            Entry(
                kind=kind,
                rule=some[0].name if some else "oracle",
                segments=float(one[0].mean()),
                solved=_share(one[1]),
                reward=_mean(returns[kind], picks),
                gain=_mean(returns[kind] - returns["q"], picks),
                seeds=seeds,
                train_reward=float(on_train.mean()),
            )
        )
    ranked = sorted((kind for kind in played if kind != "oracle"), key=lambda kind: -returns[kind].mean())
    return AtCost(cost, tuple(entries), _lead(ranked, [kind for kind in ranked if kind not in learned], returns, picks))


def _lead(
    ranked: Sequence[Kind], plain: Sequence[Kind], returns: Mapping[Kind, NDArray[np.float64]], picks: NDArray[np.int32]
) -> Lead:
    """The first of the ranked kinds against the second, and against the first of those without training."""
    best = returns[ranked[0]]
    gains = [_mean(best - returns[kind], picks) for kind in (ranked[1], plain[0])]
    return Lead(ranked[0], ranked[1], gains[0], plain[0], gains[1])


def _played(rules: Sequence[Rule], bank: HaltingBank) -> Played:
    """What rules of one kind do, on average over them."""
    segments = np.stack([halting_segments(rule, bank) for rule in rules])
    solved = np.stack([solved_at(bank, row) for row in segments])
    return segments.mean(axis=0), solved.mean(axis=0)


def _returns(played: Played, cost: float) -> NDArray[np.float64]:
    """(M,) return of every puzzle."""
    return played[1] - cost * played[0]


def _curve(rules: Sequence[Rule], bank: HaltingBank) -> tuple[CurvePoint, ...]:
    played = [(rule.name, _played([rule], bank)) for rule in rules]
    points = [CurvePoint(name, float(one[0].mean()), _share(one[1])) for name, one in played]
    return tuple(sorted(points, key=lambda point: point.segments))


def _share(solved: NDArray[np.float64]) -> Figure:
    """The share solved with its Wilson interval; over seeds the mean share, as if of one run."""
    return Figure(float(solved.mean()), *wilson(round(float(solved.sum())), len(solved)))


def _mean(values: NDArray[np.float64], picks: NDArray[np.int32]) -> Figure:
    """The mean of (M,) values with its bootstrap interval, from (R, M) resampled rows."""
    means = np.array([values[rows].mean() for rows in picks])
    low, high = np.quantile(means, [0.025, 0.975])
    return Figure(float(values.mean()), float(low), float(high))


LABELS: dict[Kind, str] = {
    "q": "Q-head, as trained",
    "q_tuned": "Q-head, margin tuned",
    "fixed": "fixed budget",
    "confidence": "confidence threshold",
    "dqn": "DQN",
    "ppo": "PPO",
    "oracle": "oracle",
}
"""What every kind of rule is called."""

_COLOURS: dict[Kind, str] = {
    "q": "#111827",
    "q_tuned": "#6b7280",
    "fixed": BLUE,
    "confidence": ORANGE,
    "dqn": GREEN,
    "ppo": PURPLE,
    "oracle": RED,
}
_MARKS: dict[Kind, str] = {"q": "*", "dqn": "o", "ppo": "s", "oracle": "^"}


def draw(study: HaltingStudy, title: str, path: Path) -> None:
    """Write a picture: accuracy against mean segments, and for each cost the gain over the Q-head.

    Raises:
        OSError: if it cannot be written.
    """
    figure, ((left, right),) = new_figure((10.5, 4.6), title, columns=2, width_ratios=(1.15, 1))
    _plane(left, study)
    _gains(right, study)
    legend(figure, 4)
    save(figure, path)


def _plane(axes: Any, study: HaltingStudy) -> None:
    """Accuracy against mean segments: curves of thresholds, points of the rules that know a cost."""
    for kind, points in study.curves.items():
        _curve_figures(axes, kind, points if kind == "fixed" else envelope(points))
    q = _entry(study, "q", 0)
    axes.plot(q.segments, q.solved.value, "*", color=_COLOURS["q"], markersize=15, label=LABELS["q"], zorder=5)
    for kind in ("dqn", "ppo", "oracle"):
        entries = [one for k in range(len(study.costs)) if (one := _found(study, kind, k)) is not None]
        if entries:
            _points(axes, kind, entries)
    level(axes, study.ever, "right after some segment")
    doubling(axes)
    shown = [one for at in study.costs for one in at.entries if one.kind != "fixed"]
    axes.set_xlim(left=0.85 * min(one.segments for one in shown), right=1.1 * study.segments)
    axes.set_ylim(min(one.solved.low for one in shown) - 0.06, study.ever + 0.03)
    axes.set(xlabel="mean segments", ylabel="solved")


def envelope(points: Sequence[CurvePoint]) -> list[CurvePoint]:
    """The points that no point with fewer segments beats, from few segments to many."""
    kept: list[CurvePoint] = []
    for point in sorted(points, key=lambda one: (one.segments, -one.solved.value)):
        if not kept or point.solved.value > kept[-1].solved.value:
            kept.append(point)
    return kept


def _curve_figures(axes: Any, kind: Kind, points: Sequence[CurvePoint]) -> None:
    x, y = [point.segments for point in points], [point.solved.value for point in points]
    colour, style = _COLOURS[kind], "o-" if kind == "fixed" else "-"
    axes.plot(x, y, style, color=colour, markersize=3, linewidth=1.3, label=LABELS[kind])
    axes.fill_between(
        x, [p.solved.low for p in points], [p.solved.high for p in points], color=colour, alpha=0.1, linewidth=0
    )


def _points(axes: Any, kind: Kind, entries: Sequence[Entry]) -> None:
    bars = _bars([entry.solved for entry in entries])
    x, y = [entry.segments for entry in entries], [entry.solved.value for entry in entries]
    options = {"color": _COLOURS[kind], "capsize": 2, "markersize": 5, "linewidth": 0.8, "zorder": 4}
    axes.errorbar(x, y, yerr=bars, fmt=_MARKS[kind], label=f"{LABELS[kind]}, a point a cost", **options)


def _gains(axes: Any, study: HaltingStudy) -> None:
    """Return less that of the Q-head, a group of points a cost."""
    kinds = [entry.kind for entry in study.costs[0].entries if entry.kind not in ("q", "oracle")]
    for place, kind in enumerate(kinds):
        shift = 0.12 * (place - (len(kinds) - 1) / 2)
        gains = [_entry(study, kind, k).gain for k in range(len(study.costs))]
        x = np.arange(len(gains)) + shift
        axes.errorbar(
            x, [gain.value for gain in gains], yerr=_bars(gains), fmt="o", color=_COLOURS[kind], capsize=3,
            markersize=5,
        )  # fmt: skip
    axes.axhline(0, color=_COLOURS["q"], linewidth=1)
    axes.set_xticks(range(len(study.costs)), [f"{at.cost:g}" for at in study.costs])
    axes.set(xlabel="cost of a segment", ylabel="mean return minus that of the Q-head")


def _found(study: HaltingStudy, kind: Kind, k: int) -> Entry | None:
    return next((entry for entry in study.costs[k].entries if entry.kind == kind), None)


def _entry(study: HaltingStudy, kind: Kind, k: int) -> Entry:
    found = _found(study, kind, k)
    assert found is not None
    return found


def _bars(values: Sequence[Figure]) -> Any:
    """(2, N) lengths of error bars."""
    return np.maximum(0, np.array([(one.value - one.low, one.high - one.value) for one in values]).T)
