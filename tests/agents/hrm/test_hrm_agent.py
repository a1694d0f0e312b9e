"""HRMAgent: SB3's protocol, the same play alone and in a batch, and halting that saves work."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv
from tiny import TINY_MODEL

import hrm_gym
from hrm_gym.agents.checkpoint import write_folder
from hrm_gym.agents.hrm import thinking
from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.halting import Never
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.run_folder import write_model
from hrm_gym.data.stream import stream_keys
from hrm_gym.evaluation.rollout import rollout, rollout_batched


def mazes(count: int) -> torch.Tensor:
    """(count, 25) tokens of 5x5 mazes."""
    batch = make().unwrapped.puzzle_source.batch(stream_keys(1, 0, count))
    return torch.from_numpy(batch.clues.reshape(count, -1)).to(torch.int32)


def model_that_halts_at_random() -> HRM:
    """Untrained, but its Q-head is set so that different boards halt after different numbers of segments."""
    torch.manual_seed(1)
    model = HRM(TINY_MODEL)
    with torch.no_grad():
        model.q_head.weight.normal_()
        model.q_head.bias.zero_()
        inputs, ids, gaps = mazes(40), torch.zeros(40, dtype=torch.int32), []
        carry = model.initial_carry(40)
        for _ in range(6):
            result = model.segment(carry, inputs, ids)
            carry = result.carry
            gaps.append(result.q_halt - result.q_continue)
        model.q_head.bias[0] = -torch.stack(gaps).quantile(0.75)
    return model


def make(mode: str = "answer", **kwargs: Any) -> Any:
    return gym.make("HRMMaze-v0", size=5, action_mode=mode, split="test", **kwargs)


def agent_for(env: Any, **kwargs: Any) -> HRMAgent:
    world = env.unwrapped
    return HRMAgent(model_that_halts_at_random(), world.family, world.action_mode, world.max_segments, "cpu", **kwargs)


@pytest.mark.parametrize("mode", ["answer", "cell", "move"])
def test_batched_play_equals_single_play(mode: str) -> None:
    env = make(mode)
    alone = list(rollout(env, agent_for(env), 12, seed=5))
    together = sorted(rollout_batched(lambda: make(mode), agent_for(env), 12, 5, seed=5), key=lambda e: e.index)
    for a, b in zip(alone, together, strict=True):
        assert (a.segments, a.steps, a.solved, a.total_return) == (b.segments, b.steps, b.solved, b.total_return)
    if mode == "answer":
        assert len({episode.segments for episode in alone}) > 1, "every board halted at once: the test shows nothing"


def test_sb3_evaluates_an_hrm_unchanged() -> None:
    envs = DummyVecEnv([make] * 3)
    rewards, lengths = evaluate_policy(
        agent_for(make()), envs, n_eval_episodes=9, return_episode_rewards=True, warn=False  # type: ignore[arg-type]
    )  # fmt: skip
    assert len(rewards) == len(lengths) == 9
    assert all(1 <= length <= 16 for length in lengths)


def test_halted_rows_leave_the_batch() -> None:
    model = model_that_halts_at_random()
    seen: list[int] = []
    model.h_level.register_forward_hook(lambda level, inputs, output: seen.append(len(output)))
    inputs, ids = mazes(40), torch.zeros(40, dtype=torch.int32)
    solved = thinking.solve(model, inputs, ids, 6)
    seen = seen[:: model.config.h_cycles]
    alive = [int((solved.segments >= k).sum()) for k in range(1, len(seen) + 1)]
    assert seen == alive
    assert seen[-1] < seen[0]
    assert thinking.solve(model, inputs, ids, 6, Never()).segments.eq(6).all()


def test_a_halted_board_answers_as_it_would_alone() -> None:
    model = model_that_halts_at_random()
    inputs = mazes(10)
    ids = torch.zeros(10, dtype=torch.int32)
    together = thinking.solve(model, inputs, ids, 6)
    for i in range(10):
        alone = thinking.solve(model, inputs[i : i + 1], ids[:1], 6)
        assert alone.segments[0] == together.segments[i]
        assert torch.equal(alone.answers[0], together.answers[i])


def test_thoughts_are_there_to_draw() -> None:
    env = make()
    observation, _ = env.reset(seed=0)
    agent = agent_for(env)
    action = agent.act(observation)
    assert env.action_space.contains(action)
    thought = agent.thought
    assert thought is not None
    assert thought.answer.shape == (5, 5)
    assert thought.confidence is not None
    assert 0 <= thought.confidence.min() <= thought.confidence.max() <= 1
    assert 0 <= thought.q_halt <= 1  # type: ignore[operator]
    assert thought.segment == 1
    agent.act(env.step(action)[0])
    assert agent.thought.segment == 2  # type: ignore[union-attr]
    agent.reset()
    agent.act(observation)
    assert agent.thought.segment == 1  # type: ignore[union-attr]


def test_answers_never_hold_padding() -> None:
    logits = torch.zeros(2, 25, 6)
    logits[..., 0] = 9.0
    answers, _ = thinking.read_answer(logits)
    assert answers.min() >= 1


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    model = HRM(TINY_MODEL)
    write_folder(
        tmp_path / "w",
        lambda path: write_model(path, model.state_dict(), model.config, {"kind": "hrm", "family": "maze"}),
    )
    agent = hrm_gym.make_agent("hrm", make(), weights=tmp_path / "w")
    assert np.asarray(agent.predict(make().reset(seed=0)[0])[0]).shape == (26,)
    with pytest.raises(ValueError, match=r"5x5.*6x6"):
        hrm_gym.make_agent("hrm", gym.make("HRMMaze-v0", size=6), weights=tmp_path / "w")
    with pytest.raises(ValueError, match="no bundled HRM weights fit sudoku 8x8"):
        hrm_gym.make_agent("hrm", gym.make("HRMSudoku-v0", box=(2, 4)))
    with pytest.raises(ValueError, match="warp"):
        hrm_gym.make_agent("hrm", make(), weights=tmp_path / "w", device="warp")


def test_trm_settings_halt_by_correctness_alone() -> None:
    config = dataclasses.replace(TINY_MODEL, shared=True, h_layers=0, l_layers=2, gradient="last_cycle", halting="bce")
    solved = thinking.solve(HRM(config), torch.ones(3, 25, dtype=torch.int32), torch.zeros(3, dtype=torch.int32), 5)
    assert solved.segments.eq(5).all(), "Q(halt) starts at -5, so an untrained network never halts by itself"


@pytest.mark.parametrize("mode", ["answer", "cell"])
def test_an_agent_that_checks_does_not_halt_with_a_broken_rule(mode: str) -> None:
    env = gym.make("HRMSudokuMini-v0", action_mode=mode)
    agent = hrm_gym.make_agent("hrm", env, device="cpu", halting="fixed:1", max_segments=5, check=True)
    torch.nn.init.zeros_(agent.model.answer_head.weight)  # the same symbol everywhere
    observation, _ = env.reset(seed=0)
    state, segments = None, 1 if mode == "cell" else 5
    for _ in range(segments):
        action, state = agent.predict(observation, state)
        observation = env.step(action)[0]
    assert agent.spent().tolist() == [5]
    assert "rule check" in agent.halting_rules
