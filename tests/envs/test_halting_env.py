"""HRMHalting-v0: what the manual page promises, on a made-up bank; the batch against single environments."""

from __future__ import annotations

import dataclasses
import os
import pickle
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import hrm_gym
from hrm_gym.agents.sb3.vec_env import make_sb3_vec
from hrm_gym.envs.halting.bank import BUNDLED, SCALARS, HaltingBank, find_bank
from hrm_gym.envs.halting.env import CONTINUE, HALT, HaltingEnv

gym.register_envs(hrm_gym)
ENV_ID = "HRMHalting-v0"
BOARDS = 3
END_KEYS = {"is_success", "solved", "exact", "cell_accuracy", "row"}


def make(bank: Any, **kwargs: Any) -> HaltingEnv:
    return HaltingEnv(bank, **kwargs)


def same(a: Any, b: Any, path: str = "") -> None:
    """Assert that two nested results are equal, dtypes included."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), f"{path}: {sorted(a)} against {sorted(b)}"
        for key in a:
            same(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, np.ndarray) and a.dtype == object:
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert (x is None) == (y is None), path
            if x is not None:
                same(x, y, f"{path}[{i}]")
    else:
        assert a.dtype == b.dtype, f"{path}: {a.dtype} against {b.dtype}"
        assert np.array_equal(a, b), f"{path}: {a} against {b}"


# ---- one board ----


def test_checkers(halting_bank: HaltingBank) -> None:
    env = gym.make(ENV_ID, bank=halting_bank, render_mode="rgb_array").unwrapped
    sb3_check_env(env)
    check_env(env)


def test_it_works_bare_from_a_small_bundled_bank() -> None:
    assert BUNDLED.stat().st_size <= 3_000_000
    env = gym.make(ENV_ID)
    observation, info = env.reset(seed=0)
    assert observation in env.observation_space
    assert info == {"segment": 1}
    world: Any = env.unwrapped
    assert len(world.features) == len(observation)
    assert world.features[:6] == SCALARS
    bank = find_bank(None)
    assert bank.segments == 16
    assert min(len(bank.rows(split)) for split in ("train", "test")) > 500


@pytest.mark.parametrize("cost", [0.0, 0.03, 1.0])
@pytest.mark.parametrize("limit", [None, 3, 1])
def test_the_return_is_as_defined(halting_bank: HaltingBank, cost: float, limit: int | None) -> None:
    env = make(halting_bank, cost=cost, max_segments=limit, split="all")
    rng = np.random.default_rng(0)
    for index in range(len(halting_bank)):
        env.reset(options={"index": index})
        total, steps, over = 0.0, 0, False
        while not over:
            _, reward, over, truncated, info = env.step(int(rng.random() < 0.3))
            total, steps = total + reward, steps + 1
            assert not truncated
        assert info["segment"] == steps <= (limit or 5)
        assert info["solved"] == halting_bank.solved[index, steps - 1]
        assert info["row"] == index
        assert total == pytest.approx(float(info["solved"]) - cost * steps)


def test_observations_are_those_of_the_bank(halting_bank: HaltingBank) -> None:
    env = make(halting_bank, split="test", max_segments=4)
    row = halting_bank.rows("test")[2]
    seen = [env.reset(options={"index": 2})[0]] + [env.step(CONTINUE)[0] for _ in range(3)]
    assert [observation[0] for observation in seen] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert np.array_equal(np.stack(seen)[:, 1:], halting_bank.observations[row, :4, 1:])
    assert env.step(CONTINUE)[2], "at the limit the halt is forced"


def test_info_tells_the_outcome_at_the_end_and_only_then(halting_bank: HaltingBank) -> None:
    env = make(halting_bank)
    assert env.reset(seed=0)[1].keys() == {"segment"}
    for _ in range(4):
        assert env.step(CONTINUE)[4].keys() == {"segment"}
    last = env.step(HALT)[4]
    assert last.keys() == {"segment"} | END_KEYS
    assert last["is_success"] == last["solved"]


def test_nothing_leaks_before_the_end(halting_bank: HaltingBank) -> None:
    lie = dataclasses.replace(halting_bank, solved=~halting_bank.solved, exact=~halting_bank.exact)
    envs = [make(bank, render_mode="ansi") for bank in (halting_bank, lie)]
    for _ in range(10):
        first = [env.reset(seed=4) for env in envs]
        assert np.array_equal(first[0][0], first[1][0])
        for _ in range(4):
            (a, paid, *_, told), (b, other, *_, said) = (env.step(CONTINUE) for env in envs)
            assert np.array_equal(a, b)
            assert (paid, told) == (other, said)
            assert envs[0].render() == envs[1].render()


def test_same_seed_same_episodes_and_other_seed_others(halting_bank: HaltingBank) -> None:
    def rows(seed: int) -> list[int]:
        env = make(halting_bank, split="all")
        env.reset(seed=seed)
        found = []
        for _ in range(20):
            found.append(env.step(HALT)[4]["row"])
            env.reset()
        return found

    assert rows(1) == rows(1) != rows(2)
    assert len(set(rows(1))) > 10


def test_sequential_order_goes_all_around(halting_bank: HaltingBank) -> None:
    env = make(halting_bank, split="test", order="sequential")
    rows = halting_bank.rows("test").tolist()
    found = []
    for _ in range(len(rows) + 1):
        env.reset()
        found.append(env.step(HALT)[4]["row"])
    assert found == [*rows, rows[0]]


def test_an_indexed_episode_does_not_count(halting_bank: HaltingBank) -> None:
    env, twin = make(halting_bank), make(halting_bank)
    for one in (env, twin):
        one.reset(seed=3)
    env.reset(options={"index": 0})
    assert np.array_equal(env.reset()[0], twin.reset()[0])


def test_splits_are_disjoint_and_whole(halting_bank: HaltingBank) -> None:
    train, test = (set(halting_bank.rows(split).tolist()) for split in ("train", "test"))
    assert not train & test
    assert train | test == set(range(len(halting_bank)))


def test_observations_share_no_memory(halting_bank: HaltingBank) -> None:
    env = make(halting_bank)
    first, second = env.reset(seed=0)[0], env.step(CONTINUE)[0]
    kept = second.copy()
    first.fill(0)
    second.fill(0)
    assert not np.shares_memory(first, second)
    env.reset(seed=0)
    assert np.array_equal(env.step(CONTINUE)[0], kept)
    with pytest.raises(ValueError, match="read-only"):
        halting_bank.observations[0] = 0


def test_pickled_in_mid_episode_goes_on_identically(halting_bank: HaltingBank) -> None:
    env = make(halting_bank, render_mode="rgb_array")
    env.reset(seed=1)
    env.render()
    env.step(CONTINUE)
    twin = pickle.loads(pickle.dumps(env))
    for action in (CONTINUE, HALT):
        a, b = env.step(action), twin.step(action)
        assert np.array_equal(a[0], b[0])
        assert a[1:] == b[1:]


def test_step_without_an_episode_is_refused(halting_bank: HaltingBank) -> None:
    env = make(halting_bank, render_mode="ansi")
    for call in (lambda: env.step(HALT), env.render):
        with pytest.raises(ResetNeeded):
            call()
    env.reset(seed=0)
    env.step(HALT)
    with pytest.raises(ResetNeeded):
        env.step(HALT)


@pytest.mark.parametrize("action", [2, -1, 0.0, True, "halt", None, np.array([1]), np.float32(1)])
def test_actions_outside_the_space_are_refused(halting_bank: HaltingBank, action: Any) -> None:
    env = make(halting_bank)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"expected an action .* got"):
        env.step(action)
    env.step(np.int64(CONTINUE))
    env.step(np.array(HALT))


@pytest.mark.parametrize(
    "arguments",
    [{"cost": -0.1}, {"cost": 2}, {"cost": "dear"}, {"cost": float("nan")}, {"split": "dev"}, {"split": 3},
     {"order": "any"}, {"max_segments": 0}, {"max_segments": 6}, {"max_segments": 2.5}, {"render_mode": "film"}],
)  # fmt: skip
def test_bad_arguments_are_named(halting_bank: HaltingBank, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected .*, got"):
        make(halting_bank, **arguments)


@pytest.mark.parametrize("options", [{"puzzle": "x"}, {"index": 10**9}, {"index": -1}, {"index": "0"}, [1]])
def test_bad_options_are_named(halting_bank: HaltingBank, options: Any) -> None:
    with pytest.raises(ValueError, match=r"expected .* got"):
        make(halting_bank).reset(options=options)


# ---- files ----


def test_a_file_is_the_bank_it_was_written_from(halting_bank: HaltingBank, halting_file: Path) -> None:
    read = find_bank(halting_file)
    assert np.array_equal(read.observations, halting_bank.observations)
    assert read.about == halting_bank.about
    assert find_bank(str(halting_file)) is read
    assert make(halting_file).bank.name == "made-up"


def test_a_bank_that_was_replaced_within_a_tick_of_the_clock_is_read_again(halting_arrays: Any, tmp_path: Path) -> None:
    """The same holds for a clock that was set back."""
    path, found = tmp_path / "bank.npz", []
    for number in (0, 1):
        np.savez(tmp_path / f"{number}.npz", **halting_arrays())
        os.replace(tmp_path / f"{number}.npz", path)
        os.utime(path, (1, 1))
        found.append(find_bank(path))
    assert found[0] is not found[1]


@pytest.mark.parametrize("damage", ["cut", "text", "lacks", "shape", "dtype", "version", "nan"])
def test_damaged_files_are_named(halting_arrays: Any, tmp_path: Path, damage: str) -> None:
    arrays, path = halting_arrays(), tmp_path / f"{damage}.npz"
    if damage == "lacks":
        del arrays["q_halt"]
    elif damage == "shape":
        arrays["changed"] = arrays["changed"][:, :-1]
    elif damage == "dtype":
        arrays["solved"] = arrays["solved"].astype(np.float32)
    elif damage == "version":
        arrays["about"] = np.array('{"format_version": 99}')
    elif damage == "nan":
        arrays["state"][0, 0, 0] = np.nan
    np.savez_compressed(path, **arrays)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    elif damage == "text":
        path.write_text("not a bank")
    with pytest.raises(ValueError, match=rf"{damage}.npz.*: expected"):
        make(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no halting bank at"):
        make(tmp_path / "none.npz")
    with pytest.raises(ValueError, match="expected bank as"):
        make(7)


# ---- pictures ----


def test_text_and_pictures(halting_bank: HaltingBank) -> None:
    env = make(halting_bank, render_mode="rgb_array")
    env.reset(seed=0)
    frames = [env.render()]
    env.step(CONTINUE)
    frames.append(env.render())
    env.step(HALT)
    frames.append(env.render())
    assert {frame.shape for frame in frames} == {(400, 640, 3)}
    assert frames[0].dtype == np.uint8
    assert not any(np.array_equal(a, b) for a, b in ((frames[0], frames[1]), (frames[1], frames[2])))
    text = make(halting_bank, render_mode="ansi")
    text.reset(seed=0)
    text.step(CONTINUE)
    assert "segment 2/5" in text.render()
    assert text.render().count("Q(halt)") == 2
    assert "solved" not in text.render()
    text.step(HALT)
    assert text.render().splitlines()[-1] in ("solved", "not solved")


def test_a_closed_window_stops_nothing(halting_bank: HaltingBank, monkeypatch: pytest.MonkeyPatch) -> None:
    import pygame

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = make(halting_bank, render_mode="human")
    env.metadata["render_fps"] = 100
    env.reset(seed=0)
    assert not env.closed_by_user
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    for _ in range(3):
        env.step(CONTINUE)
    assert env.closed_by_user
    env.close()
    env.close()


# ---- many boards ----


def pair(autoreset: AutoresetMode, **kwargs: Any) -> tuple[Any, Any]:
    ours = gym.make_vec(ENV_ID, num_envs=BOARDS, autoreset_mode=autoreset, **kwargs)
    theirs = gym.make_vec(ENV_ID, BOARDS, "sync", vector_kwargs={"autoreset_mode": autoreset}, **kwargs)
    return ours, theirs


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**40),
    autoreset=st.sampled_from(AutoresetMode),
    order=st.sampled_from(["random", "sequential"]),
    limit=st.sampled_from([None, 1, 3]),
    halting=st.floats(0, 1),
)
def test_equal_to_single_environments(
    halting_bank: HaltingBank, seed: int, autoreset: AutoresetMode, order: str, limit: int | None, halting: float
) -> None:
    ours, theirs = pair(autoreset, bank=halting_bank, order=order, max_segments=limit, cost=0.07, split="test")
    same(*(env.reset(seed=seed)[0] for env in (ours, theirs)))
    rng = np.random.default_rng(seed)
    for step in range(40):
        actions = (rng.random(BOARDS) < halting).astype(np.int64)
        a, b = ours.step(actions), theirs.step(actions)
        for mine, other in zip(a, b, strict=True):
            same(mine, other)
        assert ours.observation_space.contains(a[0])
        over = a[2]
        if autoreset == AutoresetMode.DISABLED and over.any():
            for part in zip(*(env.reset(options={"reset_mask": over.copy()}) for env in (ours, theirs)), strict=True):
                same(*part)
        elif step == 20:
            for part in zip(*(env.reset(options={"index": 1}) for env in (ours, theirs)), strict=True):
                same(*part)


def test_nothing_returned_is_shared_with_the_next_step(halting_bank: HaltingBank) -> None:
    env = gym.make_vec(ENV_ID, num_envs=4, bank=halting_bank)
    first = env.reset(seed=0)
    second = env.step(np.zeros(4, np.int64))
    third = env.step(np.ones(4, np.int64))
    kept = [array.copy() for array in third[:4]]
    for array in (first[0], *second[:4], second[4]["segment"]):
        array.fill(0)
    assert all(np.array_equal(a, b) for a, b in zip(kept, third[:4], strict=True))
    assert third[2].all()


def test_pictures_of_all_boards(halting_bank: HaltingBank) -> None:
    env = gym.make_vec(ENV_ID, num_envs=2, bank=halting_bank, render_mode="ansi")
    env.reset(seed=0)
    env.step(np.array([0, 1]))
    texts = env.render()
    assert "segment 2/5" in texts[0]
    assert texts[1].splitlines()[-1] in ("solved", "not solved")
    assert gym.make_vec(ENV_ID, num_envs=2, bank=halting_bank).render() is None


@pytest.mark.parametrize(
    ("actions", "message"),
    [(np.zeros(3, int), "shape"), (np.zeros(2), "integers"), (np.array([0, 2]), "board 1"), ("up", "shape")],
)
def test_bad_actions_of_a_batch_are_named(halting_bank: HaltingBank, actions: Any, message: str) -> None:
    env = gym.make_vec(ENV_ID, num_envs=2, bank=halting_bank)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(actions)


def test_bad_use_of_a_batch_is_named(halting_bank: HaltingBank) -> None:
    env = gym.make_vec(ENV_ID, num_envs=2, bank=halting_bank, autoreset_mode=AutoresetMode.DISABLED)
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(2, np.int64))
    env.reset(seed=0)
    env.step(np.ones(2, np.int64))
    with pytest.raises(ResetNeeded, match=r"\[0, 1\]"):
        env.step(np.zeros(2, np.int64))
    for options, message in (
        ({"reset_mask": np.zeros(2, bool)}, "reset_mask"),
        ({"index": 99}, "index"),
        ("x", "dict"),
    ):
        with pytest.raises(ValueError, match=message):
            env.reset(options=options)  # type: ignore[arg-type]
    for seed in ([1], "x", [1, -1], np.array(3)):
        with pytest.raises(ValueError, match="seed"):
            env.reset(seed=seed)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_envs"):
        gym.make_vec(ENV_ID, num_envs=0, bank=halting_bank)
    with pytest.raises(ValueError, match="human"):
        gym.make_vec(ENV_ID, num_envs=2, bank=halting_bank, render_mode="human")


def test_sb3_sees_the_ends(halting_bank: HaltingBank) -> None:
    envs = make_sb3_vec(ENV_ID, 2, 0, bank=halting_bank)
    envs.reset()
    _, rewards, ended, infos = envs.step(np.array([0, 1]))
    assert ended.tolist() == [False, True]
    assert infos[1]["TimeLimit.truncated"] is False
    assert infos[1]["terminal_observation"].shape == envs.observation_space.shape
    assert rewards[1] == pytest.approx(float(infos[1]["solved"]) - 0.01)


@pytest.mark.parametrize("name", ["hrm-maze", "hrm-sudoku"])
def test_bundled_banks_go_by_name(name: str) -> None:
    env = gym.make("HRMHalting-v0", bank=name, split="test")
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    solved = find_bank(name).only("test").solved
    assert solved[:, 0].mean() < solved[:, -1].mean() < 1
    assert solved[:, -1].mean() > 0.5


def test_the_bank_of_arc_is_of_thoughts_that_are_best_halted_early() -> None:
    env = gym.make("HRMHalting-v0", bank="hrm-arc", split="train")
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    solved = find_bank("hrm-arc").only("train").solved
    assert 0 < solved[:, -1].mean() < solved[:, 3].mean() < solved.any(axis=1).mean()
