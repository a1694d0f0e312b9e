"""Random, oracle and stored-answer agents, in every action mode, on one board and on several."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

import hrm_gym
from hrm_gym.agents.agent import Agent
from hrm_gym.agents.answer_to_action import answer_to_action, answers_to_actions
from hrm_gym.envs.maze.rules import MAZE
from hrm_gym.evaluation.rollout import rollout

MODES = ("answer", "cell", "move")


def make_env(mode: str = "answer") -> gym.Env:
    return gym.make("HRMMaze-v0", size=8, action_mode=mode, source="generate", disable_env_checker=True)


def stacked(observations: list[dict]) -> dict:
    return {key: np.stack([observation[key] for observation in observations]) for key in observations[0]}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["random", "oracle", "stored"])
def test_actions_lie_in_the_action_space(name: str, mode: str) -> None:
    env = make_env(mode)
    agent = hrm_gym.make_agent(name, env)
    observation, _ = env.reset(seed=3)
    assert isinstance(agent, Agent)
    assert agent.action_mode == mode
    for _ in range(20):
        action, _ = agent.predict(observation)
        assert env.action_space.contains(action)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["oracle", "stored"])
def test_right_answers_are_carried_out_in_every_mode(name: str, mode: str) -> None:
    env = make_env(mode)
    episodes = list(rollout(env, hrm_gym.make_agent(name, env), episodes=10, seed=5))
    assert all(episode.solved for episode in episodes)
    if mode == "answer":
        assert [episode.segments for episode in episodes] == [1] * 10


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_gets_the_actions_of_its_rows(mode: str) -> None:
    env = make_env(mode)
    oracle = hrm_gym.make_agent("oracle", env)
    observations = [env.reset(seed=seed)[0] for seed in range(4)]
    actions, state = oracle.predict(stacked(observations))
    singles = [oracle.predict(observation)[0] for observation in observations]
    assert np.array_equal(actions, np.stack(singles))
    assert state[np.array([2, 0])].shape == (2, 8, 8)


def test_the_state_keeps_an_answer_until_a_puzzle_begins() -> None:
    env = make_env("move")
    oracle = hrm_gym.make_agent("oracle", env)
    first, second = (env.reset(seed=seed)[0] for seed in (0, 1))
    _, state = oracle.predict(stacked([first, first]))
    under_way = {**second, "segment": np.full(1, 0.5, np.float32)}  # another board, which the state is not for
    _, later = oracle.predict(stacked([second, under_way]), state, np.array([True, False]))
    assert np.array_equal(later[0], MAZE.solve(second["puzzle"]))
    assert np.array_equal(later[1], MAZE.solve(first["puzzle"]))


def test_the_random_agent_is_seeded() -> None:
    env = make_env()
    observation, _ = env.reset(seed=0)
    draws = [hrm_gym.make_agent("random", env, seed=seed).predict(observation)[0] for seed in (4, 4, 5)]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_the_random_agent_keeps_the_clues() -> None:
    env = make_env()
    observation, _ = env.reset(seed=0)
    action, _ = hrm_gym.make_agent("random", env).predict(observation)
    given = ~MAZE.free(observation["puzzle"])
    assert np.array_equal(action[:-1].reshape(8, 8)[given], observation["puzzle"][given])


def test_the_stored_agent_must_be_shown_its_puzzles() -> None:
    env = make_env()
    agent = hrm_gym.make_agent("stored", env)
    strange, _ = make_env().reset(seed=9)
    env.reset(seed=1)
    with pytest.raises(ValueError, match="was not shown the puzzle"):
        agent.predict(strange)


def test_cell_mode_halts_when_nothing_is_left_to_write() -> None:
    env = make_env("cell")
    observation, _ = env.reset(seed=0)
    action = answer_to_action(MAZE, "cell", observation, observation["answer"])
    assert action == env.action_space.n - 1


def test_cell_mode_leaves_alone_what_cannot_be_written() -> None:
    observation, _ = make_env("cell").reset(seed=0)
    walls_everywhere = np.ones((8, 8), dtype=np.uint8)
    assert answer_to_action(MAZE, "cell", observation, walls_everywhere) == 8 * 8 * len(MAZE.writable)


def test_halt_bits_differ_by_row() -> None:
    env = make_env()
    observations = stacked([env.reset(seed=seed)[0] for seed in range(3)])
    bits = np.array([True, False, True])
    actions = answers_to_actions(MAZE, "answer", observations, observations["answer"], bits)
    assert np.array_equal(actions[:, -1], bits)
    assert np.array_equal(actions[:, :-1].reshape(3, 8, 8), observations["answer"])


def test_an_unknown_mode_is_named() -> None:
    observation, _ = make_env().reset(seed=0)
    with pytest.raises(ValueError, match="'fly'"):
        answer_to_action(MAZE, "fly", observation, observation["answer"])
