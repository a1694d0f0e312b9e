"""The one loop over segments: agents, evaluation in training, voting, search, analyses and banks all run it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hrm_gym.agents.hrm.halting import Evidence, Halting, Never, QHead, certainty, learned
from hrm_gym.agents.hrm.images import Turns
from hrm_gym.agents.hrm.model import HRM, Carry

STARTS = 4096
"""More than there are lanes on one puzzle at a time: sets apart the starts of their restarts."""

COMPACT_EVERY = 4
"""Segments between two times at which halted boards leave the batch, away from a CPU: to look who has halted, the host
waits for the device, and a batch of another size runs other kernels."""


class Boards(NamedTuple):
    """Puzzles of a batch: inputs (B, S) int32 tokens, puzzle_ids (B,) int32, free (B, S) bool cells."""

    inputs: Tensor
    puzzle_ids: Tensor
    free: Tensor

    def rows(self, index: Tensor) -> Boards:
        """Some of the boards: `index` is (K,) int64 or (B,) bool."""
        return Boards(*(part[index] for part in self))


class Outcome(IntEnum):
    """What became of a board after a segment. From LIMIT on it halts."""

    CONTINUES = 0
    RESTARTED = 1
    BREAKS_A_RULE = 2
    LIMIT = 3
    HALTED = 4
    CHECKED = 5


@dataclass(frozen=True, eq=False)
class AgentState:
    """What is known of B boards after a segment. `state[rows]` keeps some of the boards.

    Attributes:
        carry: the recurrent states.
        answers: (B, S) uint8 token ids; 0, which no answer has, before the first segment.
        confidence: (B, S) float32, probability of the chosen token.
        unchanged: (B,) int32, segments in a row that left the answer as it was.
        q_logits: (B, 2) float32, of Q(halt) and Q(continue).
        segments: (B,) int32, segments run.
        outcome: (B,) uint8, an `Outcome`.
    """

    carry: Carry
    answers: Tensor
    confidence: Tensor
    unchanged: Tensor
    q_logits: Tensor
    segments: Tensor
    outcome: Tensor

    @classmethod
    def before(cls, model: HRM, count: int) -> AgentState:
        """The state of `count` boards before their first segment."""
        cells, device = model.config.cells, model.h_init.device

        def zeros(*shape: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros((count, *shape), dtype=dtype, device=device)

        return cls(
            model.initial_carry(count),
            zeros(cells, dtype=torch.uint8),
            zeros(cells, dtype=torch.float32),
            zeros(dtype=torch.int32),
            zeros(2, dtype=torch.float32),
            zeros(dtype=torch.int32),
            zeros(dtype=torch.uint8),
        )

    def __len__(self) -> int:
        return len(self.segments)

    def __getitem__(self, rows: NDArray[np.int64] | Tensor) -> AgentState:
        index = torch.as_tensor(rows, device=self.segments.device)
        return self._mapped(lambda own: own[index])

    def put(self, rows: Tensor, other: AgentState) -> AgentState:
        """This state with the boards `rows` (K,) replaced by those of `other`, in order."""
        return self._mapped(lambda own, new: own.index_copy(0, rows, new), other)

    def starting(self, starts: Tensor) -> AgentState:
        """This state, where boards `starts` (B,) bool have run no segment; `think` puts their carry back."""
        answers, segments = torch.where(starts[:, None], 0, self.answers), torch.where(starts, 0, self.segments)
        return dataclasses.replace(self, answers=answers, segments=segments)

    def unless(self, rows: Tensor, other: AgentState) -> AgentState:
        """This state, but for the boards `rows` (B,) bool that of `other`."""
        return self._mapped(lambda own, new: torch.where(rows.view(-1, *[1] * (own.ndim - 1)), new, own), other)

    @staticmethod
    def joined(states: list[AgentState]) -> AgentState:
        """The boards of all, one after the other."""
        return states[0]._mapped(lambda *parts: torch.cat(parts), *states[1:])

    def _mapped(self, function: Callable[..., Tensor], *others: AgentState) -> AgentState:
        every = (self, *others)
        carry = Carry(*(function(*parts) for parts in zip(*(one.carry for one in every), strict=True)))
        names = [field.name for field in dataclasses.fields(self)][1:]
        return AgentState(carry, *(function(*(getattr(one, name) for one in every)) for name in names))

    @property
    def q_halt(self) -> Tensor:
        """(B,) float32 probability."""
        return torch.sigmoid(self.q_logits[:, 0])

    @property
    def q_continue(self) -> Tensor:
        """(B,) float32 probability; means nothing for networks trained with halting "bce"."""
        return torch.sigmoid(self.q_logits[:, 1])

    @property
    def halted(self) -> Tensor:
        """(B,) bool."""
        return self.outcome >= Outcome.LIMIT

    def evidence(self, free: Tensor | None) -> Evidence:
        """What halting rules judge by; the parts that come from the answers only with the (B, S) bool cells `free`."""
        q_halt, q_continue = self.q_logits.unbind(1)
        if free is None:
            return Evidence(self.segments, q_halt, q_continue)
        return Evidence(self.segments, q_halt, q_continue, *certainty(self.confidence, free), self.unchanged)


Check = Callable[[Tensor, Tensor], Tensor]
"""Of puzzles (K, S) and answers (K, S): (K,) bool, whether the answers are complete and break no rule."""


@dataclass(frozen=True)
class Rules:
    """The rules of halting in force.

    Attributes:
        rule: when a board halts.
        max_segments: when it halts at the latest.
        check: if given, a board does not halt by the rule with an answer that fails it.
        restart: segments after which a board that has not halted restarts; 0 never.
        turns: the symmetric images on which it restarts before other starts are tried; None for none.
    """

    rule: Halting
    max_segments: int
    check: Check | None = None
    restart: int = 0
    turns: Turns | None = None

    def __str__(self) -> str:
        help_given = (" + rule check" if self.check else "") + (
            f" + restarts every {self.restart}" if self.restart else ""
        )
        return self.rule.words + help_given

    def reason(self, outcome: int, q_halt: float, q_continue: float, segments: int = 0) -> str | None:
        """The decision in words of a board with this outcome after `segments`; None if there is nothing to say."""
        if self.event(outcome, segments) == "restarts":
            outcome = Outcome.RESTARTED
        halts = outcome in (Outcome.BREAKS_A_RULE, Outcome.HALTED, Outcome.CHECKED)
        own = self.rule.reason(q_halt, q_continue, halts)
        image = "image" if self.turns is not None and self.turns.count > 1 else "start"
        first = "" if own == self.rule.words else f"{own} and "
        return {
            Outcome.CONTINUES: f"{own}: continues" if own else None,
            Outcome.RESTARTED: f"restart {(segments - 1) // max(self.restart, 1)}, from another {image}",
            Outcome.BREAKS_A_RULE: f"{own}, but a rule is broken: continues"
            if first
            else "a rule is broken: continues",
            Outcome.LIMIT: "budget spent: halts",
            Outcome.HALTED: f"{own}: halts",
            Outcome.CHECKED: f"{first}no rule is broken: halts" if first else "first answer that breaks no rule: halts",
        }[Outcome(outcome)]

    def event(self, outcome: int, segments: int) -> str:
        """What became of a board, for a `Thought`: a restart counts whatever else was decided, unless it halts."""
        restarted = self.restart and segments > 1 and (segments - 1) % self.restart == 0
        return "halts" if outcome >= Outcome.LIMIT else "restarts" if restarted else ""

    @property
    def fixed(self) -> bool:
        """Whether every board runs all segments from its start to the limit."""
        return isinstance(self.rule, Never) and self.check is None and not self.restart

    @property
    def threshold(self) -> float | None:
        """What Q(halt) has to exceed as a probability; None where another value, or another rule, decides."""
        return 0.5 if isinstance(self.rule, QHead) and self.rule.alone else None


class Step(NamedTuple):
    """A segment of the boards in the batch: their numbers, rows (K,) int64, and their state after it.

    A board that has halted and waits to leave (`every` of `think`) keeps the state in which it halted.
    """

    rows: Tensor
    state: AgentState


@torch.inference_mode()
def think(
    model: HRM,
    boards: Boards,
    rules: Rules,
    state: AgentState | None = None,
    starts: Tensor | None = None,
    numbers: Tensor | None = None,
    vectors: Tensor | None = None,
    on_update: Callable[[str, Carry], Any] | None = None,
    every: int | None = None,
) -> Iterator[Step]:
    """Run segments; boards that have halted leave the batch, so that thinking less costs less.

    Args:
        model: the network.
        boards: B puzzles.
        rules: when they halt.
        state: where to continue; None starts all boards.
        starts: (B,) bool, boards that start although there is a state.
        numbers: (B,) int64, from which start each board begins (`HRM.start`); 0 by default.
        vectors: (B, embedding_dim) puzzle vectors; by default the network's own, of `puzzle_ids`.
        on_update: called with the name of a module and all states after each of its updates.
        every: segments between two times at which halted boards leave; by default 1 on a CPU, else `COMPACT_EVERY`. A
            board's results do not depend on it, but for the rounding of products in batches of another size.

    Yields:
        The boards in the batch after each segment, until all have halted.
    """
    rows = torch.arange(len(boards.inputs), device=boards.inputs.device)
    fixed = state is None and numbers is None and rules.fixed  # the host knows the course, and reads nothing
    every = every or (1 if fixed or rows.device.type == "cpu" else COMPACT_EVERY)
    state = AgentState.before(model, len(rows)) if state is None else state
    state = state if starts is None else state.starting(starts)
    vectors = model.puzzles[boards.puzzle_ids.long()] if vectors is None else vectors
    attempts, x, segment = rules.restart or sys.maxsize, None, 0
    halted = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    while len(rows) and (not fixed or segment < rules.max_segments):
        carry, waiting = state.carry, state
        attempt, begins = state.segments.long() // attempts, (state.segments.long() % attempts == 0) & ~halted
        if fixed:
            image, turned = attempt, None
            x = model.embed(boards.inputs, vectors) if x is None else x
        elif x is None or (rules.restart and begins.any()):
            carry, x, image, turned = _begin(model, boards, rules, carry, attempt, begins, numbers, vectors)
        before = carry.z_h
        for name, carry in model.updates(carry, x):  # noqa: B020  (the states that came out go in again)
            if on_update is not None:
                on_update(name, carry)
        logits = model.answer_logits(carry.z_h)
        state = _after(model, state, carry, before, logits if turned is None else turned.back(logits, image))
        state = dataclasses.replace(state, outcome=_outcome(state, boards, rules, begins & (attempt > 0)))
        if segment % every:  # some may have halted before this segment
            state = state.unless(halted, waiting)
        halted, segment = state.halted, segment + 1
        yield Step(rows, state)
        stay = ~halted
        if not fixed and (segment % every == 0 or segment >= rules.max_segments) and not stay.all():
            rows, boards, state, halted = rows[stay], boards.rows(stay), state[stay], halted[stay]
            x, vectors, image = x[stay], vectors[stay], image[stay]
            numbers = None if numbers is None else numbers[stay]


def _begin(
    model: HRM,
    boards: Boards,
    rules: Rules,
    carry: Carry,
    attempt: Tensor,
    begins: Tensor,
    numbers: Tensor | None,
    vectors: Tensor,
) -> tuple[Carry, Tensor, Tensor, Turns | None]:
    """The carry with boards that begin their (B,) attempt at its start, the embedded boards (B, T, D), the number of
    each one's image (B,), and the turns if one of them is turned.
    """
    images = 1 if rules.turns is None else rules.turns.count
    image, start = attempt % images, attempt // images  # every image is tried before another start
    carry = model.reset_rows(carry, begins, start if numbers is None else start * STARTS + numbers)
    turned = rules.turns if image.any() else None
    x = model.embed(boards.inputs if turned is None else turned.images(boards.inputs, image), vectors)
    return carry, x, image, turned


def _after(model: HRM, state: AgentState, carry: Carry, before: Tensor, logits: Tensor) -> AgentState:
    """`state` after a segment that led from the H-level state `before` (B, T, D) to `carry` and logits (B, S, V)."""
    answers, confidence = read_answer(logits)
    unchanged = torch.where((answers == state.answers).all(dim=1), state.unchanged + 1, 0)
    q_logits = torch.stack(model.q_values(carry.z_h, before), dim=1)
    return AgentState(carry, answers, confidence, unchanged, q_logits, state.segments + 1, state.outcome)


def _outcome(state: AgentState, boards: Boards, rules: Rules, restarted: Tensor) -> Tensor:
    """(B,) uint8, the `Outcome` of a segment for boards that `restarted` (B,) bool with it, or did not."""
    wants = rules.rule.halts(state.evidence(boards.free if rules.rule.reads_answers else None))
    keeps = wants
    if rules.check is not None and wants.any():
        places = wants.nonzero()[:, 0]
        keeps = wants.clone()
        keeps[places] = rules.check(boards.inputs[places], state.answers[places])
    outcome = torch.where(restarted, int(Outcome.RESTARTED), int(Outcome.CONTINUES))
    outcome = torch.where(wants, int(Outcome.BREAKS_A_RULE), outcome)
    outcome = torch.where(state.segments >= rules.max_segments, int(Outcome.LIMIT), outcome)
    outcome = torch.where(keeps, int(Outcome.HALTED if rules.check is None else Outcome.CHECKED), outcome)
    return outcome.to(torch.uint8)


def finish(steps: Iterable[Step]) -> AgentState:
    """The state of every board when it halted, in their order."""
    rows, states = [], []

    def leave(step: Step) -> None:
        halted = step.state.halted
        rows.append(step.rows[halted])
        states.append(step.state[halted])

    last: Step | None = None
    for step in steps:
        if last is not None and len(step.rows) < len(last.rows):  # to ask for the halted ones would make the host wait
            leave(last)
        last = step
    assert last is not None
    leave(last)
    return AgentState.joined(states)[torch.cat(rows).argsort()]


def solve(
    model: HRM,
    inputs: Tensor,
    puzzle_ids: Tensor,
    max_segments: int,
    rule: Halting | None = None,
    free: Tensor | None = None,
    every: int | None = None,
) -> AgentState:
    """Run N boards until they halt.

    Args:
        model: the network.
        inputs: (N, S) integer token ids.
        puzzle_ids: (N,) integer rows of the puzzle embedding.
        max_segments: segments at most; may exceed the number used in training.
        rule: when to halt; the learned rule by default.
        free: (N, S) bool, the cells that count in a confidence; all by default.
        every: as in `think`.
    """
    free = torch.ones_like(inputs, dtype=torch.bool) if free is None else free
    rules = Rules(rule or learned(model.config), max_segments)
    return finish(think(model, Boards(inputs, puzzle_ids, free), rules, every=every))


class OwnAndFixed(NamedTuple):
    """What B boards come to: `own` answers (B, S) uint8, those of the segment in which the network's own decision would
    have halted them, `segments` (B,) int32; `fixed` answers (B, S) uint8, those after a fixed number of segments."""

    own: Tensor
    segments: Tensor
    fixed: Tensor


def own_and_fixed(
    model: HRM,
    boards: Boards,
    limit: int,
    fixed: int | None = None,
    every: int | None = None,
    batch: int | None = None,
) -> OwnAndFixed:
    """Both figures of an evaluation from the same segments.

    Args:
        model: the network.
        boards: B puzzles.
        limit: segments within which the own decision has to halt; then it is forced.
        fixed: segments that every board runs, as the official evaluation counts; 1 to `limit`, which is the default.
            After them, boards that have halted leave the batch.
        every: as in `think`.
        batch: boards to run at a time; all of them by default.

    Raises:
        ValueError: `fixed` is not in 1..limit.
    """
    fixed = limit if fixed is None else fixed
    if not 1 <= fixed <= limit:
        raise ValueError(f"expected fixed segments in 1..{limit}, got {fixed}")
    if batch is not None and batch < len(boards.inputs):
        parts = zip(*(part.split(batch) for part in boards), strict=True)
        every_part = [own_and_fixed(model, Boards(*part), limit, fixed, every) for part in parts]
        return OwnAndFixed(*(torch.cat(part) for part in zip(*every_part, strict=True)))
    rule = learned(model.config)
    own = torch.zeros_like(boards.inputs, dtype=torch.uint8)
    segments = torch.zeros(len(own), dtype=torch.int32, device=own.device)
    for _, state in think(model, boards, Rules(Never(), fixed)):
        halts = (rule.halts(state.evidence(None)) | (state.segments >= limit)) & (segments == 0)
        own = torch.where(halts[:, None], state.answers, own)
        segments = torch.where(halts, state.segments, segments)
    left = (segments == 0).nonzero()[:, 0] if fixed < limit else segments.new_empty(0)
    if len(left):
        found = finish(think(model, boards.rows(left), Rules(rule, limit), state[left], every=every))
        own, segments = own.index_copy(0, left, found.answers), segments.index_copy(0, left, found.segments)
    return OwnAndFixed(own, segments, state.answers)


def read_answer(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Answer tokens (…, S) uint8 and their probabilities (…, S) from logits (…, S, V); padding is never chosen."""
    probabilities = torch.softmax(logits.float(), dim=-1)
    confidence, answer = probabilities[..., 1:].max(dim=-1)
    return (answer + 1).to(torch.uint8), confidence
