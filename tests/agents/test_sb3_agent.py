"""PPO's parts: the features extractor, the buffer, weights without pickles, and SB3Agent under the protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv

import hrm_gym
from hrm_gym.agents.agent import Agent
from hrm_gym.agents.checkpoint import write_folder
from hrm_gym.agents.sb3.agent import SB3Agent
from hrm_gym.agents.sb3.networks import WalkerFeatures
from hrm_gym.agents.sb3.policies import blank_policy, read_policy, write_policy
from hrm_gym.agents.sb3.training import WalksBuffer
from hrm_gym.evaluation.rollout import rollout, rollout_batched

MODEL = {
    "grid": [5, 5],
    "vocab_size": 6,
    "moves": 4,
    "walker_token": 3,
    "channels": 3,
    "alternatives": 2,
    "iterations": 5,
    "hidden": 8,
}
ABOUT = {"kind": "ppo", "family": "maze", "action_mode": "move", "model": MODEL}


def make(size: int = 5, action_mode: str = "move", **arguments: Any) -> gym.Env[Any, Any]:
    return gym.make("HRMMaze-v0", size=size, action_mode=action_mode, source="generate", **arguments)


def observations(count: int, moves: int = 3) -> dict[str, np.ndarray]:
    """A batch of what `count` walkers see after a few random moves."""
    env, rng, seen = make(), np.random.default_rng(0), []
    for seed in range(count):
        observation, _ = env.reset(seed=seed)
        for _ in range(moves):
            after, _, terminated, _, _ = env.step(int(rng.integers(4)))
            if terminated:
                break
            observation = after
        seen.append(observation)
    return {key: np.stack([one[key] for one in seen]) for key in seen[0]}


def tensors(batch: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value).float() for key, value in batch.items()}


@pytest.fixture
def features() -> WalkerFeatures:
    torch.manual_seed(0)
    return WalkerFeatures(make().observation_space, vocab_size=6, walker_token=3)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Weights of an untrained policy for 5x5 mazes."""
    torch.manual_seed(0)
    policy = blank_policy("ppo", MODEL)
    write_folder(tmp_path / "weights", lambda path: write_policy(path, policy, ABOUT))
    return tmp_path / "weights"


# ---- features ----


def test_features_have_the_size_they_announce(features: WalkerFeatures) -> None:
    found = features(tensors(observations(7)))
    assert found.shape == (7, features.features_dim)
    assert found.isfinite().all()


def test_features_of_a_row_do_not_depend_on_its_company(features: WalkerFeatures) -> None:
    batch = tensors(observations(6))
    alone = torch.cat([features({key: value[i : i + 1] for key, value in batch.items()}) for i in range(6)])
    torch.testing.assert_close(features(batch), alone)


def test_features_see_the_goal_from_the_far_corner(features: WalkerFeatures) -> None:
    grid = torch.full((1, 5, 5), 2.0)
    grid[0, 0, 0] = 3
    boards = []
    for row, column in ((4, 4), (4, 3)):
        board = grid.clone()
        board[0, row, column] = 4
        boards.append(features({"puzzle": board, "answer": board, "segment": torch.zeros(1, 1)}))
    plan = slice(0, 9 * features.channels)
    assert not torch.equal(boards[0][:, plan], boards[1][:, plan])


def test_kept_plans_are_dropped_when_the_weights_change(features: WalkerFeatures) -> None:
    batch = tensors(observations(4))
    with torch.no_grad():
        features(batch)
        again = features(batch)
    torch.testing.assert_close(again, features(batch).detach())
    torch.optim.SGD(features.parameters(), 1.0).zero_grad()
    features(batch).sum().backward()
    torch.optim.SGD(features.parameters(), 0.1).step()
    with torch.no_grad():
        changed = features(batch)
    assert not torch.equal(changed, again)
    torch.testing.assert_close(changed, features(batch).detach())


def test_a_walk_plans_once(features: WalkerFeatures, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = []
    plan = features._plan
    monkeypatch.setattr(features, "_plan", lambda puzzles: planned.append(len(puzzles)) or plan(puzzles))
    batch = tensors(observations(4))
    with torch.no_grad():
        features(batch)
        features(batch)
    assert planned == [4]


def test_a_walker_that_is_no_token_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected walker_token in 0\.\.5, got 6"):
        WalkerFeatures(make().observation_space, vocab_size=6, walker_token=6)  # type: ignore[arg-type]


# ---- buffer ----


def test_minibatches_keep_walks_together_and_cover_every_step_once() -> None:
    space = gym.spaces.Dict({"at": gym.spaces.Box(0, 100, (1,), np.float32)})
    buffer = WalksBuffer(4, space, gym.spaces.Discrete(2), device="cpu", n_envs=6)
    for step in range(4):
        at = 10.0 * np.arange(6)[:, None] + step
        zeros = np.zeros(6)
        buffer.add({"at": at}, zeros[:, None], zeros, zeros, torch.zeros(6), torch.zeros(6))
    for _ in range(2):
        batches = [batch.observations["at"].ravel().numpy() for batch in buffer.get(8)]
        assert [len(batch) for batch in batches] == [8, 8, 8]
        assert all(len(set(batch // 10)) == 2 for batch in batches)
        assert len(set(np.concatenate(batches))) == 24


# ---- weights ----


def test_weights_come_back_and_act_the_same(folder: Path) -> None:
    torch.manual_seed(0)
    policy, batch = blank_policy("ppo", MODEL), observations(20)
    loaded, about = read_policy(folder)
    assert about["model"] == MODEL
    with torch.no_grad():
        given = policy.get_distribution(policy.obs_to_tensor(batch)[0]).distribution.logits
        found = loaded.get_distribution(loaded.obs_to_tensor(batch)[0]).distribution.logits
    assert torch.equal(given, found)


def test_weights_are_no_pickle(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {".hrm-gym", "SHA256SUMS", "config.json", "model.safetensors"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "hrm"}, "expected weights of ppo, maskableppo, a2c, dqn, supervised, got 'hrm'"),
        ({"format_version": 99}, "format_version"),
        ({"model": {**MODEL, "hidden": 9}}, "expected shape"),
        ({"model": {"grid": [5, 5]}}, "model lacks 'walker_token'"),
        ({"model": {**MODEL, "kind": "table"}}, "expected a network of kind walker, grid, symbols, hrm, got 'table'"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(folder: Path, change: dict[str, Any], message: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=message):
        read_policy(folder)


def test_weights_cut_in_half_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        read_policy(folder)


# ---- agent ----


def test_agent_follows_the_protocol_alone_and_in_a_batch(folder: Path) -> None:
    agent, batch = SB3Agent.load(folder, make()), observations(5)
    assert isinstance(agent, Agent)
    assert (agent.name, agent.action_mode) == ("ppo", "move")
    actions, state = agent.predict(batch)
    assert actions.shape == (5,)
    assert state is None
    one = agent.act({key: value[2] for key, value in batch.items()})
    assert one.shape == ()
    assert one == actions[2]
    assert agent.thoughts() is None


def test_agent_plays_the_same_alone_and_in_a_batch(folder: Path) -> None:
    def env() -> gym.Env[Any, Any]:
        return make(max_steps=10)

    agent = SB3Agent.load(folder, env())
    alone = [(e.index, e.steps, e.solved) for e in rollout(env(), agent, 12, keep_frames=False)]
    batched = sorted((e.index, e.steps, e.solved) for e in rollout_batched(env, agent, 12, batch=5))
    assert alone == batched


def test_sb3_evaluates_the_agent(folder: Path) -> None:
    envs = DummyVecEnv([lambda: make(max_steps=10)] * 2)
    mean, _ = evaluate_policy(SB3Agent.load(folder, make()), envs, n_eval_episodes=4, warn=False)  # type: ignore[arg-type]
    assert 0.0 <= mean <= 1.0


def test_a_plain_sb3_model_plays_as_it_is() -> None:
    model = PPO("MultiInputPolicy", DummyVecEnv([make]), n_steps=2, batch_size=2)
    actions, _ = model.predict(observations(3))
    assert actions.shape == (3,)


@pytest.mark.parametrize(("size", "action_mode"), [(6, "cell"), (5, "answer")])
def test_weights_for_another_world_are_refused(folder: Path, size: int, action_mode: str) -> None:
    with pytest.raises(ValueError, match=r"are for maze 5x5 in move mode, the environment is maze"):
        SB3Agent.load(folder, make(size, action_mode))


def test_a_walker_walks_on_boards_of_any_size(folder: Path) -> None:
    agent, env = SB3Agent.load(folder, make(7)), make(7)
    trained, _ = read_policy(folder)
    for name, tensor in trained.state_dict().items():
        assert torch.equal(agent.policy.state_dict()[name], tensor), name
    observation, _ = env.reset(seed=0)
    assert env.action_space.contains(int(agent.act(observation)))


def test_an_environment_without_bundled_weights_says_so() -> None:
    with pytest.raises(ValueError, match=r"no bundled weights of ppo fit maze 5x5 in answer mode; bundled: ppo: "):
        hrm_gym.make_agent("ppo", make(action_mode="answer"))


def test_bundled_weights_walk_most_mazes() -> None:
    env = make(10, split="test")
    agent = hrm_gym.make_agent("ppo", env)
    episodes = list(rollout_batched(lambda: make(10, split="test"), agent, 100, batch=100, seed=77))
    assert np.mean([bool(episode.reached) for episode in episodes]) >= 0.95
    assert np.mean([episode.solved for episode in episodes]) >= 0.88
