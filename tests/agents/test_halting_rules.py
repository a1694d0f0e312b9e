"""Halting rules over a bank: as agents in the environment, against their definition, against the HRM itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from hrm_gym.agents.halting import learning
from hrm_gym.agents.halting.comparison import candidates, envelope, study
from hrm_gym.agents.halting.learning import Learned, bank_digest, recipe_for, train
from hrm_gym.agents.halting.rules import (
    Confidence,
    FixedBudget,
    Oracle,
    QHead,
    Rule,
    RuleAgent,
    best_segments,
    halting_segments,
    returns_at_all,
    solved_at,
)
from hrm_gym.envs.halting.bank import SCALARS, HaltingBank, from_arrays

COST = 0.03
QUICK = {"envs": 8, "n_steps": 4, "batch_size": 32}
RULES: list[Rule] = [
    QHead(), QHead(1.5), FixedBudget(1, 5), FixedBudget(3, 5), FixedBudget(5, 5),
    Confidence(0.5), Confidence(0.5, "mean"),
]  # fmt: skip


def mean_return(rule: Rule, bank: HaltingBank, cost: float = COST) -> float:
    segments = halting_segments(rule, bank)
    return float((solved_at(bank, segments) - cost * segments).mean())


@pytest.mark.parametrize("split", ["train", "test"])
def test_rules_do_in_the_environment_what_is_computed_over_the_bank(halting_bank: HaltingBank, split: str) -> None:
    bank = halting_bank.only(split)
    env = gym.make("HRMHalting-v0", bank=halting_bank, split=split, cost=COST).unwrapped
    for rule in [*RULES, Oracle(bank, COST)]:
        agent, segments = RuleAgent(rule), halting_segments(rule, bank)
        for row in range(len(bank)):
            observation, _ = env.reset(options={"index": row})
            total, over, info = 0.0, False, {}
            while not over:
                action, _ = agent.predict(observation)
                observation, reward, over, _, info = env.step(action)
                total += float(reward)
            assert info["segment"] == segments[row]
            assert total == pytest.approx(returns_at_all(bank, COST)[row, segments[row] - 1])


def test_rules_follow_their_definition(halting_bank: HaltingBank) -> None:
    rows = halting_bank.observations
    q_halt, q_continue = (rows[..., SCALARS.index(name)] for name in ("q_halt", "q_continue"))
    assert np.array_equal(QHead().halts(rows), q_halt > q_continue)
    assert np.array_equal(halting_segments(FixedBudget(4, 5), halting_bank), np.full(len(halting_bank), 4))
    for limit in range(1, 6):
        short = halting_bank.only("all", limit)
        for budget in range(1, limit + 1):
            assert (halting_segments(FixedBudget(budget, limit), short) == budget).all()
    sure = rows[..., SCALARS.index("confidence_lowest")] >= 0.5
    assert np.array_equal(Confidence(0.5).halts(rows), sure)


def test_nothing_beats_the_oracle(halting_bank: HaltingBank) -> None:
    best = best_segments(halting_bank, COST)
    assert np.array_equal(best, halting_segments(Oracle(halting_bank, COST), halting_bank))
    bound = mean_return(Oracle(halting_bank, COST), halting_bank)
    assert bound == pytest.approx(returns_at_all(halting_bank, COST).max(axis=1).mean())
    for some in candidates(halting_bank).values():
        assert max(mean_return(rule, halting_bank) for rule in some) <= bound
    with pytest.raises(ValueError, match="own bank"):
        Oracle(halting_bank, COST).halts(halting_bank.observations + 1)


def test_agents_take_one_observation_or_a_batch(halting_bank: HaltingBank) -> None:
    agent = RuleAgent(QHead())
    batch, state = agent.predict(halting_bank.observations[:, 0])
    assert state is None
    assert batch.shape == (60,)
    assert [int(agent.predict(row)[0]) for row in halting_bank.observations[:, 0]] == batch.tolist()


# ---- learning ----


@pytest.fixture(scope="module")
def telling(halting_arrays: Any) -> HaltingBank:
    """A bank in which Q(halt) says without doubt whether the answer is right."""
    return from_arrays(halting_arrays(puzzles=400, segments=4, noise=0.2), "telling")


@pytest.mark.parametrize("agent", ["dqn", "ppo"])
def test_policies_learn_what_can_be_told(telling: HaltingBank, agent: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    small = {"steps": 20_000, "envs": 64, "batch_size": 256} if agent == "dqn" else {"steps": 50_000}
    steps: list[int] = []
    policy = train(recipe_for(agent, cost=0.1, **small), telling, steps.append)
    assert steps == sorted(steps)
    assert steps[-1] >= small["steps"]
    test = telling.only("test")
    fixed = max(mean_return(FixedBudget(k, 4), test, 0.1) for k in range(1, 5))
    q, bound = mean_return(QHead(), test, 0.1), mean_return(Oracle(test, 0.1), test, 0.1)
    mine = mean_return(policy, test, 0.1)
    assert mine > fixed + 0.05, "a learnt policy beats every fixed budget"
    assert mine > q - 0.02, "and is not behind the rule that is right here"
    assert mine <= bound
    policy.save(tmp_path / "policy")
    assert {path.name for path in (tmp_path / "policy").iterdir()} == {
        ".hrm-gym",
        "SHA256SUMS",
        "config.json",
        "model.safetensors",
    }
    again = Learned.load(tmp_path / "policy")
    assert np.array_equal(again.halts(telling.observations), policy.halts(telling.observations))
    assert again.about["recipe"] == policy.about["recipe"]
    assert again.name == agent.upper()


def test_same_seed_same_policy(telling: HaltingBank) -> None:
    nets = [train(recipe_for("ppo", steps=100, seed=seed, **QUICK), telling).net.state_dict() for seed in (1, 1, 2)]
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])
    assert any(not torch.equal(nets[0][name], nets[2][name]) for name in nets[0])


def test_training_sees_no_test_puzzle(telling: HaltingBank, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = []
    made = learning.make_sb3_vec

    def spy(*args: Any, **kwargs: Any) -> Any:
        envs = made(*args, **kwargs)
        splits.append(envs.venv.unwrapped.world.bank.test.any())
        return envs

    monkeypatch.setattr(learning, "make_sb3_vec", spy)
    train(recipe_for("ppo", steps=100, **QUICK), telling)
    assert splits == [False]


def test_bad_recipes_and_folders_are_named(telling: HaltingBank, tmp_path: Path) -> None:
    for changes in ({"cost": 2.0}, {"steps": 0}, {"lr": 0.0}):
        with pytest.raises(ValueError, match=r"expected .*, got"):
            recipe_for("dqn", **changes)
    with pytest.raises(ValueError, match="dqn, ppo"):
        recipe_for("a2c")
    with pytest.raises(FileNotFoundError):
        Learned.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"format_version": 1, "kind": "hrm", "model": {}}))
    with pytest.raises(ValueError, match="kind 'halting'"):
        Learned.load(tmp_path)
    net = learning.DecisionNet(3, 4)
    with pytest.raises(ValueError, match="3 numbers"):
        Learned(net, {"recipe": {"agent": "dqn"}}).halts(telling.observations)


def test_the_digest_of_a_bank_knows_every_part(halting_arrays: Any) -> None:
    def digest(**changed: Any) -> str:
        return bank_digest(from_arrays({**halting_arrays(), **changed}))

    arrays = halting_arrays()
    assert digest() == digest()
    assert (
        len({digest(), digest(solved=~arrays["solved"]), digest(test=~arrays["test"]), digest(state=-arrays["state"])})
        == 4
    )


# ---- comparing ----


def test_a_study_says_what_the_rules_return(telling: HaltingBank) -> None:
    cheat = Oracle(telling.only("all"), 0.1)
    found = study(telling, [0.0, 0.1], lambda cost: {"dqn": [cheat, FixedBudget(1, 4)], "ppo": [QHead()]})
    test, train_part = telling.only("test"), telling.only("train")
    assert (found.puzzles, found.train_puzzles) == (len(test), len(train_part))
    at = found.costs[1]
    entries = {entry.kind: entry for entry in at.entries}
    assert list(entries) == ["q", "fixed", "confidence", "q_tuned", "dqn", "ppo", "oracle"]
    assert entries["q"].reward.value == pytest.approx(mean_return(QHead(), test, 0.1))
    assert entries["q"].gain.value == entries["ppo"].gain.low == entries["ppo"].gain.high == 0
    two = (mean_return(cheat, test, 0.1), mean_return(FixedBudget(1, 4), test, 0.1))
    assert entries["dqn"].seeds == pytest.approx(two)
    assert entries["dqn"].reward.value == pytest.approx(sum(two) / 2)
    best = max(range(1, 5), key=lambda k: mean_return(FixedBudget(k, 4), train_part, 0.1))
    assert entries["fixed"].rule == f"fixed, {best} segments"
    for entry in at.entries:
        assert entry.reward.low <= entry.reward.value <= entry.reward.high
        assert entry.solved.low <= entry.solved.value <= entry.solved.high
        assert entry.reward.value <= entries["oracle"].reward.value
    assert at.lead.gain.value >= 0
    assert at.lead.kind != "oracle"
    assert [point.segments for point in found.curves["fixed"]] == [1, 2, 3, 4]
    shares = [point.solved.value for point in envelope(found.curves["confidence"])]
    assert shares == sorted(shares)
