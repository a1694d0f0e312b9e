"""Rules that decide from an observation of HRMHalting-v0 whether to halt, as agents and over whole banks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.halting.bank import SCALARS, HaltingBank

SEGMENT, Q_HALT, Q_CONTINUE = (SCALARS.index(name) for name in ("segment", "q_halt", "q_continue"))

_ROUNDING = 1e-4
"""Slack for shares of a budget, which are float32."""


class Rule(Protocol):
    """Says of observations (..., F) float32 whether to halt there, as (...) bool. The limit of segments is not its job.

    Attributes:
        name: what tables call it.
    """

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    def halts(self, observations: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(...) bool."""
        ...


@dataclass(frozen=True)
class QHead:
    """The network's own rule: Q(halt) exceeds Q(continue).

    Attributes:
        margin: by how much it must, in logits; 0 is the rule of the training.
    """

    margin: float = 0.0

    @property
    def name(self) -> str:
        """What tables call it."""
        return "Q-head" if self.margin == 0 else f"Q-head, margin {self.margin:+.3g}"

    def halts(self, observations: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(...) bool."""
        return observations[..., Q_HALT] - observations[..., Q_CONTINUE] > self.margin


@dataclass(frozen=True)
class FixedBudget:
    """The same number of segments for every puzzle.

    Attributes:
        segments: that number.
        budget: `max_segments` of the environment, which the observed share is a share of.
    """

    segments: int
    budget: int

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"fixed, {self.segments} segments"

    def halts(self, observations: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(...) bool."""
        return observations[..., SEGMENT] * self.budget >= self.segments - _ROUNDING * self.budget


@dataclass(frozen=True)
class Confidence:
    """Halt once the answer is sure enough of itself.

    Attributes:
        logit: that the probability of the chosen tokens must reach; 2.2 is 90 %.
        over: "mean" or "lowest", over the free cells.
    """

    logit: float
    over: Literal["mean", "lowest"] = "lowest"

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"confidence, {self.over} of {1 / (1 + np.exp(-self.logit)):.4g}"

    def halts(self, observations: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(...) bool."""
        return observations[..., SCALARS.index(f"confidence_{self.over}")] >= self.logit


class Oracle:
    """The best decision in hindsight: it looks up in the bank what will become of each puzzle. No rule can do better.

    It knows a puzzle by the observation itself, which hardly ever occurs twice in a bank.
    """

    name = "oracle"

    def __init__(self, bank: HaltingBank, cost: float) -> None:
        """Look up the best segment of every puzzle of `bank` at this cost of a segment."""
        best = best_segments(bank, cost)
        self._halts = {
            row.tobytes(): bool(k + 1 >= best[puzzle])
            for puzzle, rows in enumerate(bank.observations)
            for k, row in enumerate(rows)
        }

    def halts(self, observations: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(...) bool.

        Raises:
            ValueError: an observation is not one of the bank.
        """
        rows = np.ascontiguousarray(observations, np.float32).reshape(-1, observations.shape[-1])
        try:
            found = [self._halts[row.tobytes()] for row in rows]
        except KeyError:
            raise ValueError("expected observations of the oracle's own bank, got another") from None
        return np.array(found, np.bool_).reshape(observations.shape[:-1])


class RuleAgent:
    """A rule as an agent of HRMHalting-v0, with stable-baselines3's `predict`.

    Attributes:
        name: what tables call it.
        rule: the rule.
    """

    def __init__(self, rule: Rule) -> None:
        self.rule, self.name = rule, rule.name

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.int64], None]:
        """() or (B,) int64 actions for (F,) or (B, F) observations, 1 to halt; and None, since a rule has no memory."""
        return np.asarray(self.rule.halts(np.asarray(observation)), np.int64), None


def best_segments(bank: HaltingBank, cost: float) -> NDArray[np.int64]:
    """(M,) the segment, from 1, at which halting would have returned most; the earliest of equals."""
    return returns_at_all(bank, cost).argmax(axis=1) + 1


def returns_at_all(bank: HaltingBank, cost: float) -> NDArray[np.float64]:
    """(M, K) return of halting after every segment: 1[solved] - cost * segments."""
    return bank.solved - cost * np.arange(1, bank.segments + 1)


def halting_segments(rule: Rule, bank: HaltingBank) -> NDArray[np.int64]:
    """(M,) the segment, from 1, after which every puzzle halts by `rule` or, at the latest, by the limit."""
    halts = np.array(rule.halts(bank.observations))
    halts[:, -1] = True
    return halts.argmax(axis=1) + 1


def solved_at(bank: HaltingBank, segments: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(M,) bool, whether each answer is right after its number of segments, counted from 1."""
    return bank.solved[np.arange(len(bank)), segments - 1]
