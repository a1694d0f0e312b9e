"""The vector environments against Gymnasium's own loop over single ones: the same numbers at every step."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import CASES, IDS

from hrm_gym.envs.vector_env import PuzzleVectorEnv

every_case = pytest.mark.parametrize(("env_id", "mode"), CASES)
BOARDS = 3


def same(a, b, path="") -> None:
    """Assert that two nested results are equal, dtypes included."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), f"{path}: {sorted(a)} against {sorted(b)}"
        for key in a:
            same(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, np.ndarray) and a.dtype == object:
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            if x is None or y is None:
                assert x is None, path
                assert y is None, path
            else:
                same(x, y, f"{path}[{i}]")
    else:
        assert a.dtype == b.dtype, f"{path}: {a.dtype} against {b.dtype}"
        assert np.array_equal(a, b), f"{path}: {a} against {b}"


def pair(env_id: str, autoreset: AutoresetMode, **kwargs) -> tuple[gym.vector.VectorEnv, gym.vector.VectorEnv]:
    """Our vector environment and Gymnasium's loop over single environments."""
    ours = gym.make_vec(env_id, num_envs=BOARDS, autoreset_mode=autoreset, **kwargs)
    vector_kwargs = {"autoreset_mode": autoreset}
    theirs = gym.make_vec(env_id, BOARDS, "sync", vector_kwargs=vector_kwargs, **kwargs)
    return ours, theirs


def play(ours, theirs, rng: np.random.Generator, steps: int) -> int:
    """Random play on both, compared at every step; returns the episodes that ended."""
    ended = 0
    for _ in range(steps):
        actions = good_actions(ours, theirs, rng)
        a, b = ours.step(actions), theirs.step(actions)
        for mine, other in zip(a, b, strict=True):
            same(mine, other)
        assert ours.observation_space.contains(a[0])
        over = a[2] | a[3]
        ended += int(over.sum())
        if ours.autoreset_mode == AutoresetMode.DISABLED and over.any():
            again = [ours.reset(options={"reset_mask": over}), theirs.reset(options={"reset_mask": over.copy()})]
            same(*(observation for observation, _ in again))
            same(*(info for _, info in again))
    return ended


def good_actions(ours, theirs, rng: np.random.Generator) -> np.ndarray:
    """Half random, half towards the solution, so that some episodes are won; halts are rare."""
    mode, family = ours.world.action_mode, ours.world.family
    if mode == "move":
        return rng.integers(4, size=BOARDS)
    worlds = [env.unwrapped for env in theirs.envs]
    if mode == "answer":
        rows = [np.where(rng.random(w.shape) < 0.02, w._mode.shown, w.puzzle.solution).ravel() for w in worlds]
        right = rng.random(BOARDS) < 0.3
        noise = [np.where(right[i], rows[i], rng.integers(family.vocab_size, size=len(rows[i]))) for i in range(BOARDS)]
        return np.concatenate([np.stack(noise), rng.integers(2, size=(BOARDS, 1))], axis=1).astype(np.int64)
    symbols = len(family.writable)
    actions = rng.integers(ours.single_action_space.n, size=BOARDS)
    for i, world in enumerate(worlds):
        wrong = (world._mode.shown != world.puzzle.solution) & np.isin(world.puzzle.solution, family.writable)
        open_cells = np.flatnonzero(family.free(world.puzzle.clues) & wrong)
        if len(open_cells) and rng.random() < 0.8:
            cell = open_cells[0]
            actions[i] = cell * symbols + family.writable.index(int(world.puzzle.solution.flat[cell]))
    return actions


@every_case
@pytest.mark.parametrize("autoreset", list(AutoresetMode), ids=lambda mode: mode.name)
def test_equal_to_single_environments(env_id, mode, autoreset):
    ours, theirs = pair(env_id, autoreset, action_mode=mode, max_steps=40, max_segments=3, mask_in_info=True)
    assert isinstance(ours, PuzzleVectorEnv)
    same(*(env.reset(seed=11)[0] for env in (ours, theirs)))
    assert play(ours, theirs, np.random.default_rng(1), 150) > 3


@every_case
@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**32), autoreset=st.sampled_from(AutoresetMode), reward=st.sampled_from(["sparse", "dense"])
)
def test_equal_whatever_seed_reward_and_budget(env_id, mode, seed, autoreset, reward):
    rng = np.random.default_rng(seed)
    extra = {"step_cost": 0.25, "shaping_gamma": 0.9} if seed % 2 else {}
    budget = {"max_steps": int(rng.integers(1, 60)), "max_segments": int(rng.integers(1, 5))}
    ours, theirs = pair(env_id, autoreset, action_mode=mode, reward=reward, **budget, **extra)
    for env in (ours, theirs):
        env.reset(seed=seed)
    play(ours, theirs, rng, 40)


@every_case
def test_masks_are_those_of_the_single_environments(env_id, mode):
    ours, theirs = pair(env_id, AutoresetMode.SAME_STEP, action_mode=mode)
    for env in (ours, theirs):
        env.reset(seed=5)
    rng = np.random.default_rng(5)
    for _ in range(5):
        assert np.array_equal(ours.action_masks(), np.stack([env.unwrapped.action_masks() for env in theirs.envs]))
        play(ours, theirs, rng, 4)


@every_case
def test_nothing_returned_is_shared_with_the_next_step(env_id, mode):
    env = gym.make_vec(env_id, num_envs=2, action_mode=mode)
    first = env.reset(seed=0)
    second = env.step(env.action_space.sample())
    arrays = [[*obs.values(), *info.values()] for obs, info in ((first[0], first[1]), (second[0], second[4]))]
    arrays[1] += second[1:4]
    for a in arrays[0]:
        assert not any(np.shares_memory(a, b) for b in arrays[1])
    kept = {key: array.copy() for key, array in second[0].items()}
    for array in arrays[0]:
        array.fill(0)
    env.step(env.action_space.sample())
    for key, array in kept.items():
        assert np.array_equal(array, second[0][key])


@pytest.mark.parametrize("env_id", IDS)
def test_new_puzzles_on_reset_and_the_same_for_the_same_seed(env_id):
    env = gym.make_vec(env_id, num_envs=4)
    first, second = env.reset(seed=3)[0], env.reset()[0]
    assert not np.array_equal(first["puzzle"], second["puzzle"])
    assert len({grid.tobytes() for grid in first["puzzle"]}) > 1
    same(first, env.reset(seed=3)[0])
    same(first, env.reset(seed=[3, 4, 5, 6])[0])


def test_options_reach_every_board_and_do_not_count():
    env = gym.make_vec("HRMMaze-v0", num_envs=2)
    env.reset(seed=1)
    chosen = env.reset(options={"index": 5})[0]
    assert np.array_equal(chosen["puzzle"][0], chosen["puzzle"][1])
    single = gym.make("HRMMaze-v0")
    assert np.array_equal(chosen["puzzle"][0], single.reset(options={"index": 5})[0]["puzzle"])
    single.reset(seed=1)
    assert np.array_equal(env.reset()[0]["puzzle"][0], single.reset()[0]["puzzle"])


def test_pictures_of_all_boards():
    env = gym.make_vec("HRMMaze-v0", num_envs=2, render_mode="rgb_array")
    env.reset(seed=1)
    frames = env.render()
    assert len(frames) == 2
    assert frames[0].dtype == np.uint8
    assert not np.array_equal(frames[0], frames[1])
    text = gym.make_vec("HRMMaze-v0", num_envs=2, render_mode="ansi")
    text.reset(seed=1)
    assert "Maze 10x10" in text.render()[1]


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.array([0, 1, 2]), "shape"),
        (np.array([0.0, 1.0]), "integers"),
        (np.array([0, 4]), "board 1"),
        (np.array([-1, 0]), "board 0"),
        ("up", "shape"),
    ],
)
def test_bad_actions_are_named(actions, message):
    env = gym.make_vec("HRMMaze-v0", num_envs=2, action_mode="move")
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(actions)


def test_bad_use_is_named():
    env = gym.make_vec("HRMMaze-v0", num_envs=2, action_mode="cell", autoreset_mode=AutoresetMode.DISABLED)
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(2, dtype=np.int64))
    env.reset(seed=0)
    env.step(np.full(2, env.single_action_space.n - 1))
    with pytest.raises(ResetNeeded, match=r"\[0, 1\]"):
        env.step(np.zeros(2, dtype=np.int64))
    with pytest.raises(ValueError, match="reset_mask"):
        env.reset(options={"reset_mask": np.zeros(3, dtype=np.bool_)})
    with pytest.raises(ValueError, match="2 seeds"):
        env.reset(seed=[1])
    with pytest.raises(ValueError, match="expected a seed, or one a board"):
        env.reset(seed=np.array(3))
    with pytest.raises(ValueError, match="autoreset_mode to be one of NextStep, SameStep, Disabled, got 'never'"):
        gym.make_vec("HRMMaze-v0", num_envs=2, autoreset_mode="never")
    with pytest.raises(ResetNeeded, match=r"action_masks\(\)"):
        gym.make_vec("HRMMaze-v0", num_envs=2).action_masks()
    for bad in (np.full(2, -1), np.full(2, -1, np.int8), np.full(2, 201, np.uint8)):
        env.reset(seed=0)
        with pytest.raises(ValueError, match=r"expected actions in Discrete\(201\)"):
            env.step(bad)
    with pytest.raises(ValueError, match="num_envs"):
        gym.make_vec("HRMMaze-v0", num_envs=0)
    with pytest.raises(ValueError, match="human"):
        gym.make_vec("HRMMaze-v0", num_envs=2, render_mode="human")


@pytest.mark.parametrize("autoreset", list(AutoresetMode))
@pytest.mark.parametrize(
    ("env_id", "mode"), [("HRMSudokuMini-v0", "cell"), ("HRMMaze-v0", "move"), ("HRMARCMini-v0", "answer")]
)
def test_max_episode_steps_truncates_as_gymnasium_does(env_id, mode, autoreset):
    ours, theirs = pair(env_id, autoreset, action_mode=mode, max_episode_steps=3, reward="dense")
    same(ours.reset(seed=1)[0], theirs.reset(seed=1)[0])
    assert play(ours, theirs, np.random.default_rng(0), 20) >= 5 * BOARDS
    with pytest.raises(ValueError, match="expected max_episode_steps to be an integer of at least 1, got 0"):
        gym.make_vec(env_id, num_envs=2, max_episode_steps=0)


@pytest.mark.parametrize("env_id", ["HRMMaze-v0", "HRMHalting-v0"])
def test_a_refused_reset_changes_nothing(env_id):
    for bad in ({"seed": 5, "options": {"index": -1}}, {"seed": [5, -1], "options": None}):
        envs, twin = (gym.make_vec(env_id, num_envs=2) for _ in range(2))
        for env in (envs, twin):
            env.reset(seed=3)
        with pytest.raises(ValueError, match="expected"):
            envs.reset(**bad)
        same(envs.reset()[0], twin.reset()[0])
    one, twin = (gym.make(env_id) for _ in range(2))
    for env in (one, twin):
        env.reset(seed=3)
    with pytest.raises(ValueError, match="expected"):
        one.reset(seed=5, options={"index": -1})
    same(one.reset()[0], twin.reset()[0])


@pytest.mark.parametrize("env_id", ["HRMMaze-v0", "HRMHalting-v0"])
def test_pictures_need_a_puzzle(env_id):
    envs = gym.make_vec(env_id, num_envs=2, render_mode="ansi")
    with pytest.raises(ResetNeeded, match=r"expected reset\(\) before render\(\)"):
        envs.render()
    envs.reset(seed=0)
    assert len(envs.render()) == 2
