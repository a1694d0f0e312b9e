"""When to stop thinking: halting rules, each a small frozen object that looks at a batch and says which boards halt.

`thinking.think` applies them; training has its own rule, `slots.training_halt`. A rule has a text form for commands
and `make_agent`: see `parse_halting`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hrm_gym.agents.hrm.config import HRMConfig

FORMS = "q, fixed:N, confidence:P, confidence:P:mean, stable:N, never, or several with commas between"


class Evidence(NamedTuple):
    """What rules judge by, for B boards after a segment.

    Attributes:
        segments: (B,) int32, segments run, this one included.
        q_halt: (B,) float32 logit.
        q_continue: (B,) float32 logit; means nothing for networks trained with halting "bce".
        lowest: (B,) float32, the least probability of a chosen token among the free cells; None unless a rule
            `reads_answers`.
        mean: (B,) float32, the mean of those probabilities; None likewise.
        unchanged: (B,) int32, segments in a row that left the answer as it was; None likewise.
    """

    segments: Tensor
    q_halt: Tensor
    q_continue: Tensor
    lowest: Tensor | None = None
    mean: Tensor | None = None
    unchanged: Tensor | None = None


class Halting(ABC):
    """A halting rule. `thinking.think` applies it, with the segment limit, the rule check and restarts."""

    reads_answers = False
    """Whether the rule needs the parts of the evidence that come from the answers."""

    @property
    def words(self) -> str:
        """What tables call it; `str` is the form that `parse_halting` reads."""
        return self._words()

    def _words(self) -> str:
        return str(self)

    @abstractmethod
    def halts(self, evidence: Evidence) -> Tensor:
        """(B,) bool, the boards that halt now."""

    def reason(self, q_halt: float, q_continue: float, halts: bool = True) -> str:
        """Why a board halts, or "" if it does not and there is nothing to say, given its Q-values as probabilities."""
        return self.words if halts else ""


@dataclass(frozen=True)
class QHead(Halting):
    """The learned rule: Q(halt) > Q(continue), or Q(halt) above one half for networks that learnt it alone.

    Attributes:
        alone: whether Q(continue) was not trained (halting "bce" of the config).
    """

    alone: bool = False

    def _words(self) -> str:
        return "own decision (Q)"

    def reason(self, q_halt: float, q_continue: float, halts: bool = True) -> str:
        """The two values, to the digit in which they differ."""
        other = 0.5 if self.alone else q_continue
        digits = next((n for n in (2, 3, 4) if f"{q_halt:.{n}f}" != f"{other:.{n}f}"), 5)
        name = "" if self.alone else "Q(continue) "
        sign = ">" if halts else "<" if q_halt < other else "="
        return f"Q(halt) {q_halt:.{digits}f} {sign} {name}{other:.{digits}f}"

    def halts(self, evidence: Evidence) -> Tensor:
        """(B,) bool."""
        return evidence.q_halt > (0 if self.alone else evidence.q_continue)

    def __str__(self) -> str:
        return "q"


@dataclass(frozen=True)
class Fixed(Halting):
    """The same number of segments for every board.

    Attributes:
        segments: that number, at least 1.
    """

    segments: int

    def __post_init__(self) -> None:
        _at_least_one("fixed", self.segments)

    def halts(self, evidence: Evidence) -> Tensor:
        """(B,) bool."""
        return evidence.segments >= self.segments

    def __str__(self) -> str:
        return f"fixed:{self.segments}"

    def _words(self) -> str:
        return f"fixed {self.segments}"


@dataclass(frozen=True)
class Confidence(Halting):
    """Halt once the answer is sure enough of itself; needs no Q-head.

    Attributes:
        threshold: a probability in (0, 1].
        over: "lowest" looks at the least sure of the free cells, "mean" at all of them.
    """

    threshold: float
    over: Literal["lowest", "mean"] = "lowest"
    reads_answers = True

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"expected a confidence in (0, 1], got {self.threshold}")
        if self.over not in ("lowest", "mean"):
            raise ValueError(f"expected a confidence over 'lowest' or 'mean', got {self.over!r}")

    def halts(self, evidence: Evidence) -> Tensor:
        """(B,) bool."""
        found = evidence.lowest if self.over == "lowest" else evidence.mean
        assert found is not None
        return found >= self.threshold

    def __str__(self) -> str:
        return f"confidence:{self.threshold:g}" + (":mean" if self.over == "mean" else "")

    def _words(self) -> str:
        return f"{self.over} confidence {self.threshold:g}"


@dataclass(frozen=True)
class Stable(Halting):
    """Halt once the answer has stayed the same; needs no Q-head.

    Attributes:
        segments: segments in a row that must leave it unchanged, at least 1.
    """

    segments: int
    reads_answers = True

    def __post_init__(self) -> None:
        _at_least_one("stable", self.segments)

    def halts(self, evidence: Evidence) -> Tensor:
        """(B,) bool."""
        assert evidence.unchanged is not None
        return evidence.unchanged >= self.segments

    def __str__(self) -> str:
        return f"stable:{self.segments}"

    def _words(self) -> str:
        return f"answer unchanged for {self.segments}"


@dataclass(frozen=True)
class Never(Halting):
    """Think until the limit."""

    def halts(self, evidence: Evidence) -> Tensor:
        """(B,) bool, all False."""
        return torch.zeros_like(evidence.segments, dtype=torch.bool)

    def __str__(self) -> str:
        return "never"

    def _words(self) -> str:
        return "limit alone"


@dataclass(frozen=True)
class FirstOf(Halting):
    """Halt as soon as one of several rules does.

    Attributes:
        rules: at least two.
    """

    rules: tuple[Halting, ...]

    @property
    def reads_answers(self) -> bool:  # type: ignore[override]
        """Whether one of them does."""
        return any(rule.reads_answers for rule in self.rules)

    def halts(self, evidence: Evidence) -> Tensor:
        """(B,) bool."""
        return torch.stack([rule.halts(evidence) for rule in self.rules]).any(dim=0)

    def __str__(self) -> str:
        return ",".join(map(str, self.rules))

    def _words(self) -> str:
        return " or ".join(rule.words for rule in self.rules)

    def reason(self, q_halt: float, q_continue: float, halts: bool = True) -> str:
        """What the rules say: of a board that does not halt those that look at its Q-values."""
        if halts:
            return self.words
        return next(filter(None, (rule.reason(q_halt, q_continue, False) for rule in self.rules)), "")


def learned(config: HRMConfig) -> QHead:
    """The rule that a network was trained with."""
    return QHead(alone=config.halting == "bce")


LONGEST = 200
"""Characters of a halting rule as text."""


def parse_halting(rule: Halting | str, config: HRMConfig) -> Halting:
    """A rule from its text; a rule is returned unchanged.

    Args:
        rule: `q` (the network's own decision), `fixed:8`, `confidence:0.99` (every free cell is that sure),
            `confidence:0.99:mean` (they are on average), `stable:2` (two segments did not change the answer), `never`;
            with commas between, as `q,stable:2`, whichever halts first.
        config: of the network, for what its Q-head means.

    Raises:
        ValueError: the text is no rule.
    """
    if isinstance(rule, Halting):
        return rule
    if len(str(rule)) > LONGEST:
        raise ValueError(f"expected a halting rule of at most {LONGEST} characters, got {len(str(rule)):,}")
    if "," in str(rule):
        try:
            return FirstOf(tuple(parse_halting(part, config) for part in str(rule).split(",")))
        except ValueError as error:
            raise ValueError(f"{error} in {rule!r}") from None
    name, *values = str(rule).split(":")
    try:
        if name == "q" and not values:
            return learned(config)
        if name == "never" and not values:
            return Never()
        if name in ("fixed", "stable") and len(values) == 1:
            return {"fixed": Fixed, "stable": Stable}[name](int(values[0]))
        if name == "confidence" and values and values[1:] in ([], ["mean"]):
            return Confidence(float(values[0]), "mean" if values[1:] else "lowest")
    except ValueError as error:
        raise ValueError(f"expected a halting rule ({FORMS}), got {rule!r}: {error}") from None
    raise ValueError(f"expected a halting rule ({FORMS}), got {rule!r}")


def certainty(confidence: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """How sure an answer is.

    Args:
        confidence: (B, S) float32, the probability of the chosen token of every cell.
        free: (B, S) bool, the cells that count.

    Returns:
        (B,) float32 each: the lowest and the mean over the free cells; 1 where there is none.
    """
    lowest = torch.where(free, confidence, 1.0).amin(dim=1)
    count = free.sum(dim=1)
    mean = torch.where(free, confidence, 0.0).sum(dim=1) / count.clamp(min=1)
    return lowest, torch.where(count > 0, mean, 1.0)


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"expected {name} with at least 1 segment, got {value}")
