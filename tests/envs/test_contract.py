"""What every registered environment promises, in every action mode."""

from __future__ import annotations

import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import hrm_gym
from hrm_gym.envs.puzzle import Thought

hrm_gym.register_environments()
IDS = sorted(name for name in gym.registry if name.startswith("HRM"))


def _modes(env_id: str) -> list[str]:
    with gym.make(env_id) as env:
        return list(getattr(env.unwrapped, "modes", {}))


CASES = [(env_id, mode) for env_id in IDS for mode in _modes(env_id)]
every_case = pytest.mark.parametrize(("env_id", "mode"), CASES)
END_KEYS = {"is_success", "solved", "exact", "cell_accuracy"}


def make(env_id: str, mode: str, **kwargs) -> gym.Env:
    return gym.make(env_id, action_mode=mode, **kwargs)


def rollout(env: gym.Env, seed: int, steps: int) -> list:
    """Steps under a seeded random agent, with resets in between."""
    env.action_space.seed(seed)
    trace = [env.reset(seed=seed)]
    for _ in range(steps):
        trace.append(env.step(env.action_space.sample()))
        if trace[-1][2] or trace[-1][3]:
            trace.append(env.reset())
    return trace


def same(a, b) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(np.array_equal(a, b))


@every_case
@pytest.mark.parametrize("reward", ["sparse", "dense"])
def test_checkers(env_id, mode, reward):
    env = make(env_id, mode, reward=reward, mask_in_info=True, render_mode="rgb_array").unwrapped
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Your observation .* has an unconventional shape")
        sb3_check_env(env)
    check_env(env)


@every_case
def test_same_seed_same_episodes_and_other_seed_other_puzzles(env_id, mode):
    first, second = (rollout(make(env_id, mode), 7, 40) for _ in range(2))
    assert same(first, second)
    other = make(env_id, mode).reset(seed=8)[0]
    assert not np.array_equal(first[0][0]["puzzle"], other["puzzle"])


@every_case
def test_pickled_in_mid_episode_goes_on_identically(env_id, mode):
    env = make(env_id, mode).unwrapped
    rollout(env, 3, 5)
    env.reset()
    actions = [env.action_space.sample() for _ in range(30)]
    if mode == "answer":
        for action in actions:
            action[-1] = 0
    env.step(actions[0])
    twin = pickle.loads(pickle.dumps(env))
    for action in actions[1:]:
        a, b = env.step(action), twin.step(action)
        assert same(a, b)
        if a[2] or a[3]:
            assert same(env.reset(), twin.reset())


@every_case
def test_observations_share_no_memory(env_id, mode):
    env = make(env_id, mode).unwrapped
    observations = [env.reset(seed=1)[0], env.step(env.action_space.sample())[0]]
    for key in observations[0]:
        assert not np.shares_memory(observations[0][key], observations[1][key])
        assert not np.shares_memory(observations[1][key], env.puzzle.clues)
    before = env.puzzle.clues.copy(), env._mode.shown.copy()
    for array in observations[1].values():
        array.fill(0)
    assert np.array_equal(before[0], env.puzzle.clues)
    assert np.array_equal(before[1], env._mode.shown)


@every_case
def test_info_tells_the_outcome_at_the_end_and_only_then(env_id, mode):
    for item in rollout(make(env_id, mode, max_segments=3, max_steps=20), 2, 60):
        info = item[-1]
        assert {"segment", "violations"} <= info.keys()
        if len(item) == 5 and (item[2] or item[3]):
            assert info.keys() >= END_KEYS
            assert info["is_success"] == info["solved"]
            assert not (item[2] and item[3])
        else:
            assert info.keys() == {"segment", "violations"}


@every_case
def test_masks_say_exactly_which_actions_change_nothing(env_id, mode):
    env = make(env_id, mode).unwrapped
    env.reset(seed=4)
    mask = env.action_masks()
    assert mask.dtype == np.bool_
    if mode == "answer":
        assert len(mask) == env.action_space.nvec.sum()
        allowed = mask[:-2].reshape(*env.shape, env.family.vocab_size)
        assert np.array_equal(allowed.sum(-1) > 1, env.family.free(env.puzzle.clues))
        assert np.take_along_axis(allowed, env.puzzle.clues[..., None].astype(int), -1).all()
        return
    assert len(mask) == env.action_space.n
    state = pickle.dumps(env)
    for action in range(min(env.action_space.n, 200)):
        twin = pickle.loads(state)
        before = twin._mode.shown.copy()
        terminated = twin.step(action)[2]
        if not mask[action]:
            assert np.array_equal(before, twin._mode.shown)
            assert not terminated
        elif mode == "move":
            assert not np.array_equal(before, twin._mode.shown)


@every_case
def test_mask_in_info_is_int8_and_equal_to_the_method(env_id, mode):
    env = make(env_id, mode, mask_in_info=True).unwrapped
    mask = env.reset(seed=4)[1]["action_mask"]
    assert mask.dtype == np.int8
    assert np.array_equal(mask.astype(bool), env.action_masks())


@every_case
@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_reward_is_as_defined(env_id, mode, gamma):
    """Dense = sparse + gamma Phi(s') - Phi(s), Phi = 0 at a terminated end; each step costs."""
    arguments = {"max_segments": 4, "max_steps": 50}
    dense = make(env_id, mode, reward="dense", shaping_gamma=gamma, step_cost=0.01, **arguments).unwrapped
    dense.reset(seed=5)
    dense.action_space.seed(5)
    phi, running = dense._mode.potential(), True
    while running:
        _, reward, terminated, truncated, info = dense.step(dense.action_space.sample())
        running = not (terminated or truncated)
        after = 0.0 if terminated else dense._mode.potential()
        paid = float(terminated and info["solved"]) - 0.01
        assert reward == pytest.approx(paid + gamma * after - phi)
        phi = after


@every_case
def test_segment_is_the_share_of_the_budget(env_id, mode):
    env = make(env_id, mode, max_segments=5, max_steps=5).unwrapped
    shares = [env.reset(seed=0)[0]["segment"][0]]
    action = env.action_space.sample() * 0
    for _ in range(5):
        observation, _, terminated, truncated, _ = env.step(action)
        shares.append(observation["segment"][0])
        if terminated or truncated:
            break
    assert shares == pytest.approx([k / 5 for k in range(len(shares))])
    assert terminated or truncated


@every_case
def test_step_without_an_episode_is_refused(env_id, mode):
    env = make(env_id, mode, max_segments=1, max_steps=1).unwrapped
    with pytest.raises(gym.error.ResetNeeded):
        env.step(env.action_space.sample())
    env.reset(seed=0)
    env.step(env.action_space.sample())
    with pytest.raises(gym.error.ResetNeeded):
        env.step(env.action_space.sample())


@every_case
def test_actions_outside_the_space_are_refused(env_id, mode):
    env = make(env_id, mode).unwrapped
    env.reset(seed=0)
    outside = np.full(env.action_space.shape, 99) if mode == "answer" else env.action_space.n
    with pytest.raises(ValueError, match=r"expected .* got"):
        env.step(outside)


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize(
    "arguments",
    [{"action_mode": "fly"}, {"reward": "much"}, {"max_segments": 0}, {"max_steps": 0, "action_mode": "cell"},
     {"step_cost": -1.0}, {"shaping_gamma": 1.5}, {"split": "dev"}, {"source": "nowhere"}],
)  # fmt: skip
def test_bad_arguments_are_named(env_id, arguments):
    with pytest.raises(ValueError, match=r"expected .*, got"):
        gym.make(env_id, **arguments)


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("options", [{"puzle": "x"}, {"index": 10**9}, {"puzzle": "###"}, {"puzzle": [[1, 2], [3]]}])
def test_bad_options_are_named(env_id, options):
    with pytest.raises(ValueError, match=r"expected .* got"):
        gym.make(env_id).reset(options=options)


@pytest.mark.parametrize("env_id", IDS)
def test_pictures_have_one_size_whatever_is_thought(env_id):
    env = gym.make(env_id, render_mode="rgb_array").unwrapped
    env.reset(seed=0)
    env.set_caption("an agent with a very long name " * 4)
    plain = env.render()
    confidence = np.full(env.shape, 0.5, dtype=np.float32)
    env.set_thought(Thought(env.puzzle.solution, confidence, 0.3, 0.6, 2))
    thoughtful = env.render()
    assert plain.shape == thoughtful.shape
    assert plain.dtype == np.uint8
    assert not np.array_equal(plain, thoughtful)
    assert not np.shares_memory(plain, thoughtful)


@pytest.mark.parametrize("env_id", IDS)
def test_a_closed_window_stops_nothing(env_id, monkeypatch):
    import pygame

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = gym.make(env_id, render_mode="human").unwrapped
    env.reset(seed=0)
    assert not env.closed_by_user
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    for _ in range(3):
        env.step(env.action_space.sample() * 0)
    assert env.closed_by_user
    env.close()
    env.close()


@pytest.mark.parametrize("env_id", IDS)
def test_text_shows_the_board_and_a_status_line(env_id):
    env = gym.make(env_id, render_mode="ansi").unwrapped
    env.reset(seed=0)
    lines = env.render().splitlines()
    assert len(lines) == env.shape[0] + 1
    assert "segment 0/16" in lines[-1]
