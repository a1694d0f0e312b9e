"""What every registered environment promises, in every action mode."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from worlds import CASES, IDS

from hrm_gym.envs.puzzle import Thought

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
def test_the_stored_solution_leaks_nowhere_before_the_end(env_id, mode):
    """Two boards whose puzzles differ in nothing but the stored solution cannot be told apart while they run."""
    envs = [make(env_id, mode, mask_in_info=True, render_mode="ansi").unwrapped for _ in range(2)]
    envs[0].reset(seed=6)
    puzzle = envs[0].puzzle
    wrong = np.roll(puzzle.solution, 1, axis=1)
    lie = replace(puzzle, solution=wrong)
    first = [env.reset(options={"puzzle": told}) for env, told in zip(envs, (puzzle, lie), strict=True)]
    assert same(*first)
    envs[0].action_space.seed(6)
    for _ in range(30):
        action = envs[0].action_space.sample()
        steps = [env.step(action) for env in envs]
        if any(step[2] or step[3] for step in steps):
            return
        assert same(*steps)
        assert envs[0].render() == envs[1].render()


@every_case
def test_masks_say_exactly_which_actions_are_legal(env_id, mode):
    env = make(env_id, mode).unwrapped
    env.reset(seed=4)
    if mode == "answer":
        mask = env.action_masks()
        assert mask.dtype == np.bool_
        assert len(mask) == env.action_space.nvec.sum()
        allowed = mask[:-2].reshape(*env.shape, env.family.vocab_size)
        assert np.array_equal(allowed.sum(-1) > 1, env.family.free(env.puzzle.clues))
        given = ~env.family.free(env.puzzle.clues)
        assert np.take_along_axis(allowed, env.puzzle.clues[..., None].astype(int), -1)[given].all()
        return
    rng = np.random.default_rng(4)
    for _ in range(4):
        mask = env.action_masks()
        assert mask.dtype == np.bool_
        assert len(mask) == env.action_space.n
        state = pickle.dumps(env)
        for action in rng.permutation(env.action_space.n)[:60]:
            check_action(pickle.loads(state), mode, int(action), bool(mask[action]))
        legal = np.flatnonzero(mask if mode == "move" else mask[:-1])
        if env.step(int(rng.choice(legal)))[2]:
            env.reset()


def check_action(env, mode: str, action: int, legal: bool) -> None:
    """A legal action does what the manual says; an illegal one changes nothing and ends nothing."""
    before = env._mode.shown.copy()
    terminated = env.step(action)[2]
    after = env._mode.shown
    if not legal:
        assert np.array_equal(before, after)
        assert not terminated
    elif mode == "move":
        assert not np.array_equal(before, after)
    elif action < env.action_space.n - 1:
        cell, symbol = divmod(action, len(env.family.writable))
        assert after.flat[cell] == env.family.writable[symbol]
        assert np.count_nonzero(before != after) <= 1


@every_case
def test_illegal_actions_never_end_an_episode_before_its_budget(env_id, mode):
    env = make(env_id, mode, max_steps=25, max_segments=4).unwrapped
    env.reset(seed=9)
    for step in range(1, env.max_steps + 1):
        illegal = np.flatnonzero(~env.action_masks())
        if mode == "answer":
            action = np.append((env.puzzle.clues.ravel() + 1) % env.family.vocab_size, 0)
        elif len(illegal) == 0:
            pytest.skip(f"in {env_id} every action is legal in {mode} mode")
        else:
            action = int(illegal[step % len(illegal)])
        _, reward, terminated, truncated, info = env.step(action)
        assert reward == 0
        assert (terminated or truncated) == (step == env.max_steps and env.family.attempts == 1)
        assert info["segment"] == step % env.max_steps or env.family.attempts == 1


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
    if env.family.attempts > 1:
        for _ in range(5 if mode == "answer" else 0):  # a budget spent on a wrong answer starts the last attempt
            shares = [env.step(action)[0]["segment"][0]]
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
    for _ in range(env.family.attempts):
        last = env.step(env.action_space.sample())
        if last[2] or last[3]:
            break
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
    *board, status = env.render().splitlines()
    assert env.family.describe(env.puzzle, env._mode.shown).splitlines() == board
    assert "segment 0/16" in status
