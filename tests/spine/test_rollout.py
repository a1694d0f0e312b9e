"""The one loop: the same episodes on one board and on many, recurrent state followed row by row."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import hrm_gym
from hrm_gym.agents.agent import PrivilegedAgent
from hrm_gym.agents.answer_to_action import answers_to_actions
from hrm_gym.envs.maze.rules import MAZE
from hrm_gym.envs.puzzle import Thought
from hrm_gym.evaluation.rollout import Episode, puzzle_for, rollout, rollout_batched


def make_env(mode: str = "answer", **kwargs: Any) -> gym.Env:
    return gym.make("HRMMaze-v0", action_mode=mode, source="generate", disable_env_checker=True, **kwargs)


class Ponderer:
    """A recurrent agent that thinks longer about some puzzles; its state is (clue sum, segments so far) a row.

    It fails as soon as a state is handed back with another board than the one it belongs to.
    """

    name, action_mode = "ponderer", "answer"

    def __init__(self) -> None:
        self.batch_sizes: list[int] = []
        self._thoughts: list[Thought] = []

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> Any:
        clues = observation["puzzle"].astype(np.int64)
        weights = np.arange(clues[0].size).reshape(clues[0].shape)
        prints = (clues * weights).sum(axis=(1, 2))
        carry = np.zeros((len(clues), 2), dtype=np.int64) if state is None else state.copy()
        carry[episode_start] = np.stack([prints, np.zeros_like(prints)], axis=1)[episode_start]
        assert np.array_equal(carry[:, 0], prints)
        carry[:, 1] += 1
        halts = carry[:, 1] > prints % 5
        answers = np.stack(
            [MAZE.solve(grid) if print_ % 2 else grid for grid, print_ in zip(clues, prints, strict=True)]
        )
        self.batch_sizes.append(len(clues))
        self._thoughts = [Thought(answer, segment=int(n)) for answer, n in zip(answers, carry[:, 1], strict=True)]
        return answers_to_actions(MAZE, "answer", observation, answers.astype(np.uint8), halts), carry

    def thoughts(self) -> list[Thought]:
        return self._thoughts


def facts(episode: Episode) -> tuple[Any, ...]:
    clues = episode.puzzle.clues.tobytes()
    outcome = (episode.solved, episode.exact, episode.cell_accuracy, episode.total_return, episode.reached)
    return (episode.index, clues, episode.segments, episode.steps, *outcome)


def by_index(episodes: list[Episode]) -> list[tuple[Any, ...]]:
    return sorted(facts(episode) for episode in episodes)


@pytest.mark.parametrize("batch", [1, 4, 7, 64])
def test_batches_play_the_same_episodes_as_one_board(batch: int) -> None:
    single = list(rollout(make_env(), Ponderer(), episodes=20, seed=11))
    batched = list(rollout_batched(make_env, Ponderer(), episodes=20, batch=batch, seed=11))
    assert by_index(single) == by_index(batched)
    assert len({facts(episode)[2] for episode in single}) > 2


@pytest.mark.parametrize("mode", ["cell", "move"])
def test_batches_agree_in_the_other_modes(mode: str) -> None:
    oracle = hrm_gym.make_agent("oracle", make_env(mode))
    single = list(rollout(make_env(mode), oracle, episodes=9, seed=2))
    batched = list(rollout_batched(lambda: make_env(mode), oracle, episodes=9, batch=4, seed=2))
    assert by_index(single) == by_index(batched)
    assert all(episode.segments is None and episode.steps > 1 for episode in single)


def test_boards_leave_the_batch_when_no_puzzle_is_left() -> None:
    agent = Ponderer()
    episodes = list(rollout_batched(make_env, agent, episodes=12, batch=4, seed=0))
    clocked = agent.batch_sizes[agent.batch_sizes.index(4) + 1 :]
    assert clocked[0] == 4
    assert clocked == sorted(clocked, reverse=True)
    assert sum(clocked) == sum(episode.steps for episode in episodes)


def test_puzzle_k_is_the_environments_own() -> None:
    env, other = make_env(), make_env()
    episodes = list(rollout(env, Ponderer(), episodes=4, seed=6))
    shown = [other.reset(seed=6)[0]] + [other.reset()[0] for _ in range(3)]
    for episode, observation in zip(episodes, shown, strict=True):
        assert np.array_equal(episode.puzzle.clues, observation["puzzle"])


def test_the_stored_answers_are_found_in_a_batch() -> None:
    agent = hrm_gym.make_agent("stored", make_env())
    episodes = list(rollout_batched(make_env, agent, episodes=20, batch=6, seed=1))
    assert all(episode.exact for episode in episodes)


def test_frames_tell_the_whole_episode() -> None:
    watched: list[bool] = []
    env = make_env()
    (episode,) = rollout(env, Ponderer(), 1, seed=3, on_step=lambda env, frame: watched.append(frame.last))
    assert len(episode.frames) == episode.steps + 1 == len(watched)
    assert [frame.last for frame in episode.frames] == watched == [False] * episode.steps + [True]
    assert np.array_equal(episode.frames[0].answer, episode.puzzle.clues)
    assert episode.frames[0].thought is None
    assert [frame.thought.segment for frame in episode.frames[1:]] == list(range(1, episode.steps + 1))
    assert env.unwrapped.thoughts[-1] is episode.frames[-1].thought


def test_batches_keep_frames_on_request() -> None:
    single = {episode.index: episode for episode in rollout(make_env(), Ponderer(), 6, seed=3)}
    for episode in rollout_batched(make_env, Ponderer(), 6, batch=4, seed=3, keep_frames=True):
        twin = single[episode.index]
        assert [frame.answer.tolist() for frame in episode.frames] == [frame.answer.tolist() for frame in twin.frames]
        assert [frame.reward for frame in episode.frames] == [frame.reward for frame in twin.frames]


def test_time_is_counted() -> None:
    assert all(episode.seconds > 0 for episode in rollout_batched(make_env, Ponderer(), 5, batch=2))


def test_no_episodes() -> None:
    assert list(rollout(make_env(), Ponderer(), 0)) == []
    assert list(rollout_batched(make_env, Ponderer(), 0)) == []


def test_an_agent_says_how_many_boards_it_plays_at_most() -> None:
    agent = Ponderer()
    agent.most_boards = 3
    episodes = list(rollout_batched(make_env, agent, episodes=9, batch=64, seed=11))
    assert max(agent.batch_sizes) == 3
    assert by_index(episodes) == by_index(list(rollout(make_env(), Ponderer(), episodes=9, seed=11)))
    agent.most_boards = 0
    with pytest.raises(ValueError, match="expected a batch of at least 1, got 0"):
        list(rollout_batched(make_env, agent, episodes=9, seed=11))


def test_a_batch_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        list(rollout_batched(make_env, Ponderer(), 3, batch=0))


def test_endless_sources_have_no_rows() -> None:
    with pytest.raises(ValueError, match="numbered puzzles"):
        puzzle_for(make_env(), None, 0)


class Searching:
    """Keeps all arrays that can be reached from what it is given; answers with the clues, and halts when it likes."""

    name, action_mode = "searching", "answer"

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []

    def predict(self, observation: Any, state: Any = None, *args: Any, **options: Any) -> Any:
        self._search([observation, state, args, options])
        clues = observation["puzzle"]
        halts = observation["segment"].reshape(len(clues)) > 0.1
        return answers_to_actions(MAZE, "answer", observation, clues, halts), clues

    def thoughts(self) -> None:
        return None

    def see(self, puzzles: Any) -> None:
        self._search(puzzles)

    def _search(self, value: Any, depth: int = 8) -> None:
        if isinstance(value, np.ndarray):
            self.arrays.append(value.copy())
        elif isinstance(value, dict | list | tuple) and depth:
            for part in value.values() if isinstance(value, dict) else value:
                self._search(part, depth - 1)
        elif depth and hasattr(value, "__dict__"):
            self._search(vars(value), depth - 1)

    def holds(self, solution: np.ndarray) -> bool:
        rows = [row for array in self.arrays for row in array.reshape(-1, *array.shape[-2:]) if array.ndim >= 2]
        return any(row.shape == solution.shape and np.array_equal(row, solution) for row in rows)


def test_an_agent_that_searches_its_inputs_finds_no_solution() -> None:
    agent = Searching()
    episodes = [*rollout(make_env(), agent, 2), *rollout_batched(make_env, agent, 3)]
    assert agent.arrays
    assert not any(agent.holds(episode.puzzle.solution) for episode in episodes)


def test_no_agent_from_outside_is_shown_a_solution() -> None:
    class Privileged(Searching, PrivilegedAgent):
        pass

    agent = Privileged()
    with pytest.raises(ValueError, match="expected an agent that sees observations only"):
        list(rollout(make_env(), agent, 1))
    with pytest.raises(ValueError, match="expected an agent that sees observations only"):
        list(rollout_batched(make_env, agent, 2))
    assert not agent.arrays
    stored = hrm_gym.make_agent("stored", make_env())
    (episode,) = rollout(make_env(), stored, 1)
    assert (episode.solved, episode.halting_rules) == (True, "is shown the stored solution")


def test_segments_count_all_attempts() -> None:
    env = gym.make("HRMARCMini-v0", disable_env_checker=True)

    class Wrong:
        name, action_mode = "wrong", "answer"

        def predict(self, observation: Any, *_: Any, **__: Any) -> Any:
            count = observation["puzzle"].shape[0]
            return np.concatenate([np.zeros((count, 144), np.int64), np.ones((count, 1), np.int64)], axis=1), None

        def thoughts(self) -> None:
            return None

    (episode,) = rollout(env, Wrong(), 1)
    assert (episode.solved, episode.steps, episode.segments) == (False, 2, 2)
