"""Several agents on one puzzle at once."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

import hrm_gym
from hrm_gym.evaluation.films import columns_for, play_together, tiled
from hrm_gym.evaluation.rollout import play


def players(*modes: str) -> list[Any]:
    envs = [gym.make("HRMMaze-v0", size=6, action_mode=mode, disable_env_checker=True) for mode in modes]
    return [(env, hrm_gym.make_agent("oracle", env)) for env in envs]


def test_each_plays_as_it_does_alone_and_all_go_on_until_the_last_is_done() -> None:
    rounds: list[list[bool]] = []
    both = players("answer", "move")
    together = play_together(both, 3, 7, lambda frames: rounds.append([frame.last for frame in frames]))
    alone = [play(env, agent, 3, 7) for env, agent in players("answer", "move")]
    for mine, other in zip(together, alone, strict=True):
        assert (mine.solved, mine.steps, mine.total_return) == (other.solved, other.steps, other.total_return)
        assert np.array_equal(mine.puzzle.clues, alone[0].puzzle.clues)
    assert together[1].steps > together[0].steps
    assert len(rounds) == together[1].steps + 1
    assert rounds[0] == [False, False]
    assert rounds[1] == [True, False], "who is done waits with the last frame"
    assert rounds[-1] == [True, True]


def test_tiles() -> None:
    pictures = [np.full((2, 3, 3), value, dtype=np.uint8) for value in (10, 20, 30)]
    whole = tiled(pictures, 2)
    assert whole.shape == (4, 6, 3)
    assert [whole[0, 0, 0], whole[0, 3, 0], whole[2, 0, 0]] == [10, 20, 30]
    assert tuple(whole[2, 3]) == (15, 23, 42)


def test_boards_fill_a_screen() -> None:
    assert [columns_for(count, (760, 520)) for count in (1, 2, 4, 6, 9)] == [1, 2, 2, 3, 3]
    assert columns_for(2, (300, 900)) == 2
