"""The HRM state kept between environment steps: it passes on within an episode, and resets with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3 import A2C, PPO

import hrm_gym
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.sb3.agent import SB3Agent
from hrm_gym.agents.sb3.carry import CarryVecEnv
from hrm_gym.agents.sb3.hrm_policy import HRMPolicy, MaskableHRMPolicy
from hrm_gym.agents.sb3.policies import read_policy
from hrm_gym.agents.sb3.recipes import THINKER, HRMModel
from hrm_gym.agents.sb3.training import RLRun
from hrm_gym.agents.sb3.vec_env import make_sb3_vec
from hrm_gym.evaluation.rollout import rollout_batched

gym.register_envs(hrm_gym)
TINY = HRMConfig(6, (4, 4), hidden_size=16, heads=2, h_layers=1, l_layers=1, dtype="float32")
SMALL = {"n_steps": 4, "batch_size": 8, "n_epochs": 1, "device": "cpu"}


def kept(mode: str, count: int = 3, algorithm: Any = PPO, **arguments: Any) -> tuple[CarryVecEnv, Any]:
    """Environments and a model that acts in them, with weights that take several steps to come to an answer."""
    envs = CarryVecEnv(make_sb3_vec("HRMSudokuMini-v0", count, seed=1, action_mode=mode, **arguments), TINY)
    kind = MaskableHRMPolicy if algorithm is MaskablePPO else HRMPolicy
    settings = {"n_steps": 4, "device": "cpu"} if algorithm is A2C else SMALL
    model = algorithm(kind, envs, policy_kwargs={"hrm": TINY, "segments": 1}, seed=0, **settings)
    envs.follow(model.policy)
    return envs, model


@pytest.mark.parametrize("algorithm", [PPO, A2C, MaskablePPO])
@pytest.mark.parametrize("mode", ["cell", "answer"])
def test_sb3_trains_it(algorithm: Any, mode: str) -> None:
    _, model = kept(mode, 8, algorithm, reward="dense")
    before = {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
    model.learn(64)
    moved = {name for name, tensor in model.policy.state_dict().items() if not torch.equal(tensor, before[name])}
    for part in ("hrm.l_level", "hrm.h_level", "hrm.answer_head", "value_net"):
        assert any(part in name for name in moved), part


def test_steps_of_an_episode_are_segments_of_one_thought_and_the_next_episode_starts_over() -> None:
    envs, model = kept("answer", 2, max_segments=3)
    hrm: HRM = model.policy.features_extractor.hrm
    observation = envs.reset()
    carry = hrm.initial_carry(2)
    halts = np.zeros((2, 17), np.int64)
    halts[:, :-1] = observation["puzzle"].reshape(2, -1)
    for step in range(1, 7):
        with torch.no_grad():
            puzzle = torch.as_tensor(observation["puzzle"]).flatten(1)
            carry = hrm.segment(carry, puzzle, torch.zeros(2)).carry
        model.predict(observation)
        halts[0, -1] = step == 2  # the first board halts after 2 segments; its budget of 3 ends the second one's
        observation, _, ended, infos = envs.step(halts)
        last = torch.stack(carry, 1).numpy()
        carry = hrm.reset_rows(carry, torch.as_tensor(ended))
        for row in range(2):
            shown = observation["carry"][row]
            if ended[row]:
                assert not shown.any()
                np.testing.assert_array_equal(infos[row]["terminal_observation"]["carry"], last[row])
            else:
                np.testing.assert_allclose(shown, last[row], atol=1e-5)
        assert ended.tolist() == [step in (2, 5), step % 3 == 0]


def test_zeros_stand_for_the_initial_states_alone() -> None:
    envs, model = kept("answer", 2)
    observation = {name: torch.as_tensor(array) for name, array in envs.reset().items()}
    extractor = model.policy.features_extractor
    hrm: HRM = extractor.hrm
    with torch.no_grad():
        fresh = extractor(observation)
        puzzle = observation["puzzle"].flatten(1)
        first = hrm.segment(hrm.initial_carry(2), puzzle, torch.zeros(2)).carry
        torch.testing.assert_close(fresh, first.z_h.flatten(1))
        observation["carry"][1] = torch.stack(first, 1)[1]
        second = hrm.segment(first, puzzle, torch.zeros(2)).carry
        found = extractor(observation)
    torch.testing.assert_close(found[0], first.z_h[0].flatten())
    torch.testing.assert_close(found[1], second.z_h[1].flatten())
    assert not torch.allclose(found[1], fresh[1])


def test_only_the_last_segment_has_gradient() -> None:
    envs, model = kept("answer", 2)
    observation = {name: torch.as_tensor(array) for name, array in envs.reset().items()}
    observation["carry"] = torch.randn_like(observation["carry"]).requires_grad_()
    values, log_prob, _ = model.policy.evaluate_actions(observation, torch.ones(2, 17, dtype=torch.long))
    (values.sum() + log_prob.sum()).backward()
    assert observation["carry"].grad is None or not observation["carry"].grad.any()
    assert not model.policy.features_extractor.carry.requires_grad


@pytest.mark.parametrize("mode", ["cell", "answer"])
def test_evaluation_acts_as_the_rollout_does(mode: str) -> None:
    """The agent's actions are those of the policy in SB3's environments, over ends of episodes."""
    budget = {"max_segments": 3} if mode == "answer" else {"max_steps": 5}
    envs, model = kept(mode, 3, MaskablePPO, **budget)
    observation = envs.reset()
    world: Any = envs.venv.venv.unwrapped  # type: ignore[attr-defined]
    agent = SB3Agent(model.policy, mode, device="cpu", family=world.world.family)
    state, starts = None, np.ones(3, bool)
    seen = 0
    for _ in range(12):
        shown = {name: array for name, array in observation.items() if name != "carry"}
        actions, state = agent.predict(shown, state, starts)
        wanted, _ = model.predict(observation, action_masks=get_action_masks(envs), deterministic=True)
        np.testing.assert_array_equal(actions, wanted)
        observation, _, starts, _ = envs.step(wanted)
        seen += int(starts.sum())
        state = state[np.arange(3)]
    assert seen >= 6


def test_a_vector_environment_whose_reset_is_a_step_needs_no_flags() -> None:
    _, model = kept("answer", 2)
    envs = gym.make_vec("HRMSudokuMini-v0", num_envs=2, action_mode="answer", max_segments=2)
    agent = SB3Agent(model.policy, "answer", device="cpu")
    observation, _ = envs.reset(seed=3)
    state = None
    for _ in range(7):
        fresh, _ = agent.predict(observation)  # without a state every board starts
        actions, state = agent.predict(observation, state)
        begins = observation["segment"][:, 0] == 0
        assert (actions == fresh)[begins].all()
        actions[:, -1] = 0
        observation, *_ = envs.step(actions)


def test_a_run_keeps_the_states_and_its_weights_play(tmp_path: Path) -> None:
    recipe = replace(THINKER, model=HRMModel(TINY, 1, carry=True), envs=8, timesteps=64, eval_puzzles=4)
    rl = RLRun(recipe, tmp_path / "run")
    rl.learn(lambda row: None)
    policy, about = read_policy(tmp_path / "run" / "model")
    assert about["model"]["carry"] is True
    assert "carry" in policy.observation_space.spaces  # type: ignore[attr-defined]

    def make() -> Any:
        return gym.make("HRMSudokuMini-v0", action_mode="cell", source="generate", split="test")

    agent = SB3Agent.load(tmp_path / "run" / "model", make(), device="cpu")
    played = []
    for batch in (2, 5):
        episodes = sorted(rollout_batched(make, agent, 5, batch, seed=3), key=lambda episode: episode.index)
        played.append([(episode.steps, episode.cell_accuracy) for episode in episodes])
    assert played[0] == played[1]
    env = make()
    observation, _ = env.reset(seed=3)
    agent.reset()
    state = None
    for _ in range(4):
        action, state = agent.predict(observation, state)
        assert agent.act(observation) == action
        observation, _, ended, cut, _ = env.step(action)
        if ended or cut:
            break


def test_a_run_with_states_continues_to_the_same_bits(tmp_path: Path) -> None:
    network = HRMModel(TINY, 1, carry=True)
    recipe = replace(THINKER, model=network, envs=8, timesteps=96, eval_puzzles=2, checkpoint_every=32)
    whole = RLRun(recipe, tmp_path / "whole")
    whole.learn(lambda row: None)

    def kill(row: dict[str, float]) -> None:
        if row["timesteps"] > 32:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        RLRun(recipe, tmp_path / "part").learn(kill)
    again = RLRun(recipe, tmp_path / "part")
    assert 0 < again.timesteps < 96
    again.learn(lambda row: None)
    for name, tensor in whole.policy.state_dict().items():
        assert torch.equal(tensor, again.policy.state_dict()[name]), name


def test_what_does_not_fit_is_refused() -> None:
    envs = CarryVecEnv(make_sb3_vec("HRMSudokuMini-v0", 2, action_mode="cell"), TINY)
    with pytest.raises(ValueError, match="expected the carry of"):
        PPO(HRMPolicy, envs, policy_kwargs={"hrm": replace(TINY, hidden_size=32)}, **SMALL)
    envs.reset()
    with pytest.raises(ValueError, match="expected follow"):
        envs.step(np.zeros(2, np.int64))
    _, model = kept("answer", 2)
    agent = SB3Agent(model.policy, "answer", device="cpu")
    observation, _ = gym.make_vec("HRMSudokuMini-v0", num_envs=2, action_mode="answer").reset(seed=1)
    observation["segment"][:] = 0.5
    with pytest.raises(ValueError, match=r"expected a state of shape \(2, 2, 17, 16\), got \(3, 2, 17, 16\)"):
        agent.predict(observation, np.ones((3, 2, 17, 16), np.float32))
