"""One loop over segments: the same rows in training's evaluation and in play, in every mode of vector environments."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st
from test_grid_blocks import FOUR, agent_for
from test_hrm_agent import make, mazes, model_that_halts_at_random
from test_search import always_sure
from tiny import TINY

import hrm_gym
from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.halting import Fixed, Never, QHead, learned
from hrm_gym.agents.hrm.inference.search import SearchAgent
from hrm_gym.agents.hrm.inference.vote import FirstToHaltAgent, VotingAgent
from hrm_gym.agents.hrm.thinking import Boards, Outcome, Rules, finish, own_and_fixed, think
from hrm_gym.agents.hrm.trainer import Trainer


def test_the_last_evaluation_of_a_curve_and_the_agent_give_the_same_rows(tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, updates=2, eval_every=2, checkpoint_every=2, eval_puzzles=40, ema=0.0)
    trainer = Trainer(recipe, tmp_path)
    trainer.model.load_state_dict(model_that_halts_at_random().state_dict())
    list(trainer.fit())
    last = json.loads((tmp_path / "curve.jsonl").read_text().splitlines()[-1])
    rows = trainer.group.held_out_rows(trainer.model, 0, 40)
    assert [last[f"eval_{name}"] for name in ("solved", "exact", "segments", "fixed_exact")] == pytest.approx(
        rows.mean(axis=0)
    )
    assert len(np.unique(rows[:, 2])) > 1, "every board halted at once: the test shows nothing"

    agent = HRMAgent.from_pretrained(tmp_path / "model", device="cpu")
    env, played = gym.make(recipe.env_id, **recipe.env, max_segments=recipe.model.max_segments), []
    batch = trainer.feed.held_out.take(0, 40)
    for number in range(40):
        observation, _ = env.reset(options={"puzzle": batch[number]})
        ended = False
        while not ended:
            observation, _, ended, _, info = env.step(agent.act(observation))
        played.append([info["solved"], info["exact"], info["segment"]])
    np.testing.assert_array_equal(np.array(played, np.float32), rows[:, :3])
    batched = [batch[number] for number in range(40)]
    rule = Rules(Fixed(recipe.model.max_segments), recipe.model.max_segments)
    found = finish(agent.think(agent.boards_of(batched), rules=rule)).answers.numpy().reshape(batch.solutions.shape)
    np.testing.assert_array_equal((found == batch.solutions).all(axis=(1, 2)), rows[:, 3])
    assert agent.halting_rules == "own decision (Q)"


def lists_of_rewards(agent: Any, mode: AutoresetMode, make_vec: Any, wanted: int = 6) -> list[list[float]]:
    """The rewards of the first episodes of each of four boards; no flags are passed on."""
    envs = make_vec(mode)
    seen, _ = envs.reset(seed=1000)
    state, resetting = None, np.zeros(4, np.bool_)
    found: list[list[float]] = [[] for _ in range(4)]
    while min(map(len, found)) < wanted:
        actions, state = agent.predict(seen, state)
        seen, rewards, ended, cut, _ = envs.step(actions)
        for row in np.flatnonzero((ended | cut) & ~resetting):
            found[row].append(float(rewards[row]))
        resetting = (ended | cut) if mode == AutoresetMode.NEXT_STEP else resetting
    return [own[:wanted] for own in found]


def agents() -> dict[str, tuple[str, Any]]:
    world = make().unwrapped
    member = HRMAgent(model_that_halts_at_random(), world.family, max_segments=6, device="cpu")
    mini = gym.make("HRMSudokuMini-v0")
    return {
        "hrm": ("HRMSudokuMini-v0", hrm_gym.make_agent("hrm", mini, device="cpu")),
        "hrm-vote": ("HRMSudokuMini-v0", hrm_gym.make_agent("hrm-vote", mini, device="cpu", votes=3)),
        "hrm-first": ("HRMMaze-v0", FirstToHaltAgent([member], 3)),
        "hrm-search": ("HRMSudokuMini-v0", always_sure("answer")),
        "oracle": ("HRMSudokuMini-v0", hrm_gym.make_agent("oracle", mini)),
    }


@pytest.mark.parametrize("kind", ["hrm", "hrm-vote", "hrm-first", "hrm-search", "oracle"])
def test_agents_need_no_flags_in_vector_environments(kind: str) -> None:
    env_id, agent = agents()[kind]
    arguments = {"size": 5} if env_id == "HRMMaze-v0" else {}

    def make_vec(mode: AutoresetMode) -> Any:
        return gym.make_vec(env_id, num_envs=4, autoreset_mode=mode, split="test", **arguments)

    modes = (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP)
    same, following = (lists_of_rewards(agent, mode, make_vec) for mode in modes)
    assert same == following
    if kind != "hrm-first":
        assert np.mean(same) > 0.5


def test_what_is_no_batch_of_boards_is_refused() -> None:
    env = make()
    agent = HRMAgent(model_that_halts_at_random(), env.unwrapped.family, device="cpu")
    observation, _ = env.reset(seed=0)
    action, state = agent.predict(observation)
    observation = env.step(action)[0]
    two = {key: np.stack([value] * 2) for key, value in observation.items()}
    with pytest.raises(ValueError, match="expected the state of 2 boards, got that of 1"):
        agent.predict(two, state)
    with pytest.raises(ValueError, match=r"expected puzzles of \(5, 5\).* got an array of \(1, 4, 5\)"):
        agent.predict({**observation, "puzzle": observation["puzzle"][:4]})
    with pytest.raises(ValueError, match=r"expected token ids in 0..5, got 1..9"):
        agent.predict({**observation, "puzzle": np.where(observation["puzzle"] == 3, 9, observation["puzzle"])})
    with pytest.raises(ValueError, match="integer token ids, got float"):
        agent.predict({**observation, "puzzle": observation["puzzle"].astype(np.float32)})
    other = HRMAgent(agent_for(FOUR).model, gym.make("HRMSudokuMini-v0").unwrapped.family, device="cpu")
    _, foreign = other.predict(gym.make("HRMSudokuMini-v0").reset(seed=0)[0])
    with pytest.raises(ValueError, match="expected a state of shape"):
        agent.predict(observation, foreign)


@pytest.mark.parametrize("kind", ["hrm", "hrm-vote", "hrm-adapt"])
def test_modes_and_defaults_of_torch_outside_do_not_matter(kind: str) -> None:
    env = gym.make("HRMARCMini-v0", split="evaluation", disable_env_checker=True)
    observation, _ = env.reset(seed=0)
    options = {"hrm-adapt": {"updates": 2, "batch": 2, "votes": 2}, "hrm-vote": {"votes": 2}}.get(kind, {})
    random = torch.random.get_rng_state()
    expected, _ = hrm_gym.make_agent(kind, env, device="cpu", **options).predict(observation)
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        with torch.inference_mode():
            agent: Any = hrm_gym.make_agent(kind, env, device="cpu", **options)
            found, _ = agent.predict(observation)
    finally:
        torch.set_default_dtype(default)
    np.testing.assert_array_equal(found, expected)
    assert torch.equal(random, torch.random.get_rng_state())


def test_rules_in_force_and_reasons_are_text() -> None:
    env = make()
    member = HRMAgent(model_that_halts_at_random(), env.unwrapped.family, device="cpu", restart=16, check=True)
    assert member.halting_rules == "own decision (Q) + rule check + restarts every 16"
    assert VotingAgent([member], 8).halting_rules == f"{member.halting_rules} + votes 8"
    assert FirstToHaltAgent([member], 4).halting_rules == f"{member.halting_rules} + first of 4"
    search = SearchAgent(agent_for(FOUR), beam=64)
    assert search.halting_rules == "limit alone + rule check + search beam 64"
    assert str(Rules(Fixed(16), 16)) == "fixed 16"
    rules = Rules(QHead(), 16)
    assert rules.reason(Outcome.HALTED, 0.98, 0.97) == "Q(halt) 0.98 > Q(continue) 0.97: halts"
    assert rules.reason(Outcome.HALTED, 0.9812, 0.9809) == "Q(halt) 0.9812 > Q(continue) 0.9809: halts"
    assert rules.reason(Outcome.LIMIT, 0.1, 0.9) == "budget spent: halts"
    assert rules.reason(Outcome.CONTINUES, 0.1, 0.9) == "Q(halt) 0.10 < Q(continue) 0.90: continues"
    checked = dataclasses.replace(rules, rule=QHead(alone=True), check=lambda *_: None, restart=8)
    assert (rules.threshold, checked.threshold) == (None, 0.5)
    assert checked.reason(Outcome.CHECKED, 0.7, 0.9) == "Q(halt) 0.70 > 0.50 and no rule is broken: halts"
    broken = "Q(halt) 0.70 > 0.50, but a rule is broken: continues"
    assert [checked.reason(Outcome.BREAKS_A_RULE, 0.7, 0.9, k) for k in (8, 9, 17)] == [
        broken,
        "restart 1, from another start",
        "restart 2, from another start",
    ]
    assert [checked.event(Outcome.BREAKS_A_RULE, k) for k in (1, 8, 9)] == ["", "", "restarts"]
    assert checked.event(Outcome.CHECKED, 9) == "halts"
    fixed = dataclasses.replace(checked, rule=Fixed(1))
    assert fixed.reason(Outcome.CHECKED, 0.1, 0.9) == "first answer that breaks no rule: halts"
    assert fixed.reason(Outcome.CONTINUES, 0.1, 0.9) is None
    limited = HRMAgent(member.model, member.family, device="cpu", halting="never", max_segments=1)
    limited.act(env.reset(seed=0)[0])
    assert limited.thought is not None
    assert (limited.thought.reason, limited.thought.event) == ("budget spent: halts", "halts")


def test_residuals_say_how_far_the_states_moved() -> None:
    env = make()
    agent = HRMAgent(model_that_halts_at_random(), env.unwrapped.family, device="cpu", halting="never")
    observation, _ = env.reset(seed=0)
    state, found = None, []
    for share in (0.0, 0.1, 0.2):
        before = state
        _, state = agent.predict({**observation, "segment": np.array([share], np.float32)}, state)
        assert agent.thought is not None
        found.append(dict(agent.thought.residuals))
    assert found[0] == {}, "a first segment has nothing before it"
    assert list(found[2]) == ["H", "L"]
    moved = (state.carry.z_h - before.carry.z_h).norm() / state.carry.z_h.norm()
    assert found[2]["H"] == pytest.approx(float(moved), rel=1e-5)


def boards_of(count: int) -> Boards:
    inputs = mazes(count)
    return Boards(inputs, torch.zeros(count, dtype=torch.int32), torch.ones_like(inputs, dtype=torch.bool))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    pattern=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    limit=st.integers(1, 8),
    every=st.integers(1, 9),
    restart=st.sampled_from([0, 2, 3]),
)
def test_when_halted_boards_leave_changes_no_answer(pattern: list[int], limit: int, every: int, restart: int) -> None:
    """Boards halt after any number of segments: each has what it would have had if nobody had ever left."""
    model, boards, asked = model_that_halts_at_random(), boards_of(len(pattern)), torch.zeros(len(pattern))
    number = {row.numpy().tobytes(): k for k, row in enumerate(boards.inputs)}
    assert len(number) == len(pattern)

    def check(inputs: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        places = [number[row.numpy().tobytes()] for row in inputs]
        asked[places] += 1
        return asked[places] >= torch.tensor(pattern)[places]

    never = [step.state for step in think(model, boards, Rules(Never(), limit, restart=restart))]
    steps = list(think(model, boards, Rules(Fixed(1), limit, check, restart), every=every))
    found = finish(steps)
    expected = [min(halts, limit) for halts in pattern]
    assert found.segments.tolist() == expected
    assert found.halted.all()
    for row, halts in enumerate(expected):
        own, other = found[[row]], never[halts - 1][[row]]
        assert torch.equal(own.answers, other.answers)
        torch.testing.assert_close(own.q_logits, other.q_logits, rtol=0, atol=1e-5)
        torch.testing.assert_close(own.carry.z_h, other.carry.z_h, rtol=0, atol=1e-4)
    for index, step in enumerate(steps):
        left = index // every * every  # those that had halted by the last time somebody left
        assert step.rows.tolist() == [row for row, halts in enumerate(expected) if halts > left]


@pytest.mark.parametrize(("limit", "fixed", "every"), [(6, 2, None), (6, 2, 3), (6, 6, None), (7, 1, 2), (1, 1, 4)])
def test_own_and_fixed_figures_come_from_the_same_segments(limit: int, fixed: int, every: int | None) -> None:
    model, boards = model_that_halts_at_random(), boards_of(40)
    found, whole = own_and_fixed(model, boards, limit, fixed, every), own_and_fixed(model, boards, limit)
    assert torch.equal(found.segments, whole.segments)
    assert torch.equal(found.own, whole.own)
    assert len(set(found.segments.tolist())) > 1 or limit == 1
    assert torch.equal(found.fixed, finish(think(model, boards, Rules(Fixed(fixed), fixed))).answers)
    alone = finish(think(model, boards, Rules(learned(model.config), limit)))
    assert torch.equal(found.own, alone.answers)
    assert torch.equal(found.segments, alone.segments)
    for one, other in zip(found, own_and_fixed(model, boards, limit, fixed, every, batch=17), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match=f"expected fixed segments in 1..{limit}, got {limit + 1}"):
        own_and_fixed(model, boards, limit, limit + 1)
