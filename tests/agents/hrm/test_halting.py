"""Halting rules on hand-made evidence, their text form, and what they do to an agent."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from test_hrm_agent import make, mazes, model_that_halts_at_random
from tiny import TINY_MODEL

from hrm_gym.agents.hrm import thinking
from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.halting import (
    Confidence,
    Evidence,
    FirstOf,
    Fixed,
    Halting,
    Never,
    QHead,
    Stable,
    certainty,
    parse_halting,
)
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.evaluation.rollout import rollout, rollout_batched

EVIDENCE = Evidence(
    segments=torch.tensor([1, 2, 3, 4]),
    q_halt=torch.tensor([1.0, -1.0, -3.0, 2.0]),
    q_continue=torch.tensor([2.0, -2.0, -3.0, 1.0]),
    lowest=torch.tensor([0.2, 0.9, 0.95, 1.0]),
    mean=torch.tensor([0.95, 0.96, 0.97, 1.0]),
    unchanged=torch.tensor([0, 1, 2, 0]),
)


@pytest.mark.parametrize(
    ("text", "rule", "halts"),
    [
        ("q", QHead(), [False, True, False, True]),
        ("fixed:3", Fixed(3), [False, False, True, True]),
        ("confidence:0.95", Confidence(0.95), [False, False, True, True]),
        ("confidence:0.95:mean", Confidence(0.95, "mean"), [True, True, True, True]),
        ("stable:1", Stable(1), [False, True, True, False]),
        ("never", Never(), [False] * 4),
        ("q,stable:1", FirstOf((QHead(), Stable(1))), [False, True, True, True]),
    ],
)
def test_rules(text: str, rule: Halting, halts: list[bool]) -> None:
    assert parse_halting(text, TINY_MODEL) == rule
    assert str(rule) == text
    assert rule.halts(EVIDENCE).tolist() == halts
    assert parse_halting(rule, TINY_MODEL) is rule


def test_a_q_head_trained_alone_halts_above_one_half() -> None:
    rule = parse_halting("q", dataclasses.replace(TINY_MODEL, halting="bce"))
    assert rule.halts(EVIDENCE).tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Q",
        "q:1",
        "fixed",
        "fixed:0",
        "fixed:x",
        "fixed:1:2",
        "confidence",
        "confidence:0",
        "confidence:1.1",
        "confidence:nan",
        "confidence:0.9:median",
        "stable:0",
        "never:1",
        "none",
        "q,",
        "q,stable:0",
    ],
)
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected a halting rule \(q, fixed:N.*got '"):
        parse_halting(text, TINY_MODEL)


def test_only_free_cells_count_in_a_confidence() -> None:
    confidence = torch.tensor([[0.1, 0.8, 0.6], [0.1, 0.2, 0.3]])
    free = torch.tensor([[False, True, True], [False, False, False]])
    lowest, mean = certainty(confidence, free)
    assert lowest.tolist() == pytest.approx([0.6, 1.0])
    assert mean.tolist() == pytest.approx([0.7, 1.0])


def test_unchanged_counts_segments_in_a_row() -> None:
    def logits(token: int) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.full((1, 4), token), 6).float()

    model, counts = HRM(dataclasses.replace(TINY_MODEL, grid=(2, 2))), []
    answers = iter((2, 2, 2, 5, 5))
    model.answer_logits = lambda z_h: logits(next(answers))  # type: ignore[method-assign]
    tokens, free = torch.ones((1, 4), dtype=torch.int32), torch.ones((1, 4), dtype=torch.bool)
    boards = thinking.Boards(tokens, torch.zeros(1, dtype=torch.int32), free)
    for _, state in thinking.think(model, boards, thinking.Rules(Never(), 5)):
        counts.append(int(state.unchanged))
    assert counts == [0, 1, 2, 0, 1]


RULES = ("q", "fixed:3", "never", "stable:1", "confidence:0.3", "confidence:0.4:mean", "q,stable:2")


@pytest.mark.parametrize("text", RULES)
def test_solving_halts_where_the_rule_first_says_so(text: str) -> None:
    """`thinking.solve`, which drops boards, against a run of all boards to the end."""
    model, limit = model_that_halts_at_random(), 6
    rule = parse_halting(text, model.config)
    inputs, ids = mazes(20), torch.zeros(20, dtype=torch.int32)
    free = inputs == 2
    carry, unchanged = model.initial_carry(20), torch.zeros(20)
    found = torch.zeros((20, 25), dtype=torch.uint8)
    expected, answers = torch.full((20,), limit), torch.zeros((20, 25), dtype=torch.uint8)
    under_way = torch.ones(20, dtype=torch.bool)
    with torch.inference_mode():
        for segment in range(1, limit + 1):
            result = model.segment(carry, inputs, ids)
            carry, before = result.carry, found
            found, confidence = thinking.read_answer(result.logits)
            unchanged = torch.where((found == before).all(1), unchanged + 1, 0)
            sure = certainty(confidence, free)
            evidence = Evidence(torch.full((20,), segment), result.q_halt, result.q_continue, *sure, unchanged)
            halts = rule.halts(evidence) | (segment == limit)
            expected[under_way & halts], answers[under_way & halts] = segment, found[under_way & halts]
            under_way &= ~halts
    solved = thinking.solve(model, inputs, ids, limit, rule, free)
    assert solved.segments.tolist() == expected.tolist()
    assert torch.equal(solved.answers, answers)


def agent(mode: str, halting: str, limit: int = 16) -> HRMAgent:
    world = make(mode).unwrapped
    return HRMAgent(model_that_halts_at_random(), world.family, mode, limit, "cpu", halting)


@pytest.mark.parametrize("mode", ["answer", "move"])
@pytest.mark.parametrize("text", RULES)
def test_batches_change_nothing(mode: str, text: str) -> None:
    env = make(mode, max_segments=20)
    alone = [agent(mode, text, 20), agent(mode, text, 20)]
    single = list(rollout(env, alone[0], 6, seed=3))
    batched = rollout_batched(lambda: make(mode, max_segments=20), alone[1], 6, 4, seed=3)
    for a, b in zip(single, sorted(batched, key=lambda episode: episode.index), strict=True):
        assert (a.segments, a.spent, a.solved, a.steps) == (b.segments, b.spent, b.solved, b.steps)


@pytest.mark.parametrize("mode", ["answer", "cell"])
def test_more_segments_than_in_training(mode: str) -> None:
    assert TINY_MODEL.max_segments < 40
    (episode,) = rollout(make(mode, max_segments=40), agent(mode, "never", 40), 1, seed=0)
    assert episode.spent == 40


def test_the_agents_own_limit_holds_in_answer_mode() -> None:
    (episode,) = rollout(make(max_segments=40), agent("answer", "never", 7), 1, seed=0)
    assert episode.segments == 7
    with pytest.raises(ValueError, match="max_segments of at least 1, got 0"):
        agent("answer", "q", 0)
