"""What `hrm-gym bench` measures of environments: every registered id, as far as it has the thing in question."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

import hrm_gym
from hrm_gym.scripts.bench.timing import Contest, Turn

gym.register_envs(hrm_gym)

CARTPOLE, HALTING = "CartPole-v1", "HRMHalting-v0"
BOARDS = 1024
PLAYED = {"cell", "move"}
"""Modes in which steps are counted; an answer is as long as its agent thinks."""

STEPS = 3000
"""Actions drawn beforehand for one board."""

BATCH_STEPS = 100
"""Actions drawn beforehand for each of many boards: long enough that boards end and restart."""

DRAWS = 30
"""Attempts to draw a legal action at random before the first legal one is taken."""

VECTORS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("HRMMaze-v0", {}), ("HRMMaze-v0", {"size": 30}), ("HRMSudoku-v0", {}), ("HRMARC-v0", {}),
)  # fmt: skip
"""The batches that are measured, in every mode of PLAYED that they have."""

DIFFICULTIES = ("easy", "medium", "hard", "extreme")


def ids() -> list[str]:
    """Our registered ids."""
    return sorted(name for name in gym.registry if name.startswith("HRM"))


def modes(env_id: str) -> list[str]:
    """The modes of an id in which steps are counted."""
    env = gym.make(env_id)
    return [mode for mode in getattr(env.unwrapped, "modes", {}) if mode in PLAYED]


def single() -> Contest:
    """Steps a second of single environments through `gym.make`."""
    turns = {CARTPOLE: stepping(gym.make(CARTPOLE))}
    for env_id in ids():
        turns.update({f"{env_id}, {mode}": stepping(gym.make(env_id, action_mode=mode)) for mode in modes(env_id)})
    return Contest("steps a second, one environment through gym.make", turns, CARTPOLE)


def vector() -> Contest:
    """Steps of boards a second of batches through `gym.make_vec`."""
    cartpole = gym.make_vec(CARTPOLE, num_envs=BOARDS, vectorization_mode="vector_entry_point")
    turns = {CARTPOLE: stepping_many(cartpole)}
    for env_id, arguments in VECTORS:
        for mode in modes(env_id) if env_id in gym.registry else ():
            name = ", ".join([env_id, *(f"{key} {value}" for key, value in arguments.items()), mode])
            turns[name] = stepping_many(gym.make_vec(env_id, num_envs=BOARDS, action_mode=mode, **arguments))
    turns[HALTING] = stepping_many(gym.make_vec(HALTING, num_envs=BOARDS))
    return Contest(f"steps of boards a second, {BOARDS:,} boards through gym.make_vec", turns, CARTPOLE)


def reset() -> Contest:
    """Seconds until many environments are made and reset, and of the first reset alone."""
    turns: dict[str, Turn] = {}
    for env_id in (name for name in ids() if gym.spec(name).vector_entry_point):
        turns[env_id] = beginning(env_id, whole=False)
        turns[f"{env_id}, with gym.make_vec"] = beginning(env_id, whole=True)
    return Contest(f"seconds of the first reset of {BOARDS:,} boards (less is better)", turns)


def render() -> Contest:
    """Steps with a picture a second, at the size an id has by itself."""
    turns: dict[str, Turn] = {}
    for env_id in ids():
        for mode in modes(env_id)[-1:]:
            turns[f"{env_id}, {mode}"] = painting(gym.make(env_id, action_mode=mode, render_mode="rgb_array"))
    turns[HALTING] = painting(gym.make(HALTING, render_mode="rgb_array"))
    return Contest("pictures (rgb_array) a second, with a step before each", turns)


def generators() -> Contest:
    """New puzzles a second of every source that makes any."""
    turns = {name: generating(source) for name, source in generating_sources()}
    return Contest("new puzzles a second", turns)


def generating_sources() -> Iterator[tuple[str, Any]]:
    """Name and source of every id that can generate, in every difficulty it knows."""
    for env_id in ids():
        kind: Any = gym.make(env_id, disable_env_checker=True).unwrapped
        graded = "difficulty" in inspect.signature(type(kind).__init__).parameters and not gym.spec(env_id).kwargs
        for difficulty in DIFFICULTIES if graded else (None,):
            chosen: dict[str, Any] = {} if difficulty is None else {"difficulty": difficulty}
            try:
                env: Any = gym.make(env_id, source="generate", disable_env_checker=True, **chosen)
            except (ValueError, TypeError, OSError):
                continue
            yield ", ".join(filter(None, (env_id, difficulty))), env.unwrapped.puzzle_source


# ---- turns ----


def replaying(reset: Callable[[], Any], act: Callable[[Any], Any], actions: Sequence[Any], boards: int = 1) -> Turn:
    """A turn of actions along episodes that were played before; the first reset of each round is not clocked."""

    def turn(seconds: float) -> float:
        steps, spent = 0, 0.0
        while spent < seconds:
            reset()
            begin = time.perf_counter()
            for action in actions:
                act(action)
            spent += time.perf_counter() - begin
            steps += len(actions) * boards
        return steps / spent

    return turn


def acting(env: gym.Env[Any, Any], picture: bool = False) -> Callable[[Any], None]:
    """One step of an environment, with its automatic reset, and if asked for a picture after it."""

    def act(action: Any) -> None:
        _, _, terminated, truncated, _ = env.step(action)
        if picture:
            env.render()
        if terminated or truncated:
            env.reset()

    return act


def stepping(env: gym.Env[Any, Any]) -> Turn:
    """A turn of steps, with their resets."""
    return replaying(partial(env.reset, seed=0), acting(env), drawn(env))


def drawn(env: gym.Env[Any, Any], steps: int = STEPS) -> list[Any]:
    """Random legal actions along the episodes from seed 0 on; replayed from there they are legal again."""
    rng = np.random.default_rng(0)
    masks: Callable[[], NDArray[np.bool_]] | None = getattr(env.unwrapped, "action_masks", None)
    space: Any = env.action_space
    env.reset(seed=0)
    actions = []
    for _ in range(steps):
        legal = np.flatnonzero(masks()) if masks is not None else np.arange(space.n)
        actions.append(int(rng.choice(legal)))
        _, _, terminated, truncated, _ = env.step(actions[-1])
        if terminated or truncated:
            env.reset()
    return actions


def stepping_many(envs: gym.vector.VectorEnv[Any, Any, Any]) -> Turn:
    """A turn of steps of many boards, likewise."""
    return replaying(partial(envs.reset, seed=0), envs.step, drawn_many(envs), envs.num_envs)


def drawn_many(envs: gym.vector.VectorEnv[Any, Any, Any]) -> list[NDArray[np.int64]]:
    """BATCH_STEPS times a random legal action for every board, along the episodes from seed 0 on."""
    rng = np.random.default_rng(0)
    masks: Callable[[], NDArray[np.bool_]] | None = getattr(envs, "action_masks", None)
    envs.reset(seed=0)
    actions = []
    for _ in range(BATCH_STEPS):
        actions.append(legal_choice(rng, envs, None if masks is None else masks()))
        envs.step(actions[-1])
    return actions


def legal_choice(
    rng: np.random.Generator, envs: gym.vector.VectorEnv[Any, Any, Any], masks: NDArray[np.bool_] | None
) -> NDArray[np.int64]:
    """A random legal action for every board: drawn again where it was not legal."""
    space: Any = envs.single_action_space
    actions = rng.integers(0, space.n, envs.num_envs)
    if masks is None:
        return actions
    rows = np.arange(envs.num_envs)
    for _ in range(DRAWS):
        rows = rows[~masks[rows, actions[rows]]]
        if not len(rows):
            return actions
        actions[rows] = rng.integers(0, space.n, len(rows))
    rows = rows[~masks[rows, actions[rows]]]
    actions[rows] = masks[rows].argmax(axis=1)
    return actions


def beginning(env_id: str, whole: bool) -> Turn:
    """How long a batch takes to begin; with making it, if `whole`. One batch a turn, however long the turn."""

    def turn(seconds: float) -> float:
        begin = time.perf_counter()
        envs = gym.make_vec(env_id, num_envs=BOARDS)
        begin = begin if whole else time.perf_counter()
        envs.reset(seed=0)
        taken = time.perf_counter() - begin
        envs.close()
        return taken

    return turn


def painting(env: gym.Env[Any, Any]) -> Turn:
    """A turn of steps, with a picture after each."""
    return replaying(partial(env.reset, seed=0), acting(env, picture=True), drawn(env, 100))


def generating(source: Any) -> Turn:
    """A turn of new puzzles in batches, which grow as long as they are quick."""

    def turn(seconds: float) -> float:
        count, size, begin = 0, 1, time.perf_counter()
        while time.perf_counter() - begin < seconds:
            before = time.perf_counter()
            source.batch(np.arange(count, count + size, dtype=np.uint64))
            count += size
            size = size * 2 if time.perf_counter() - before < 0.01 and size < 256 else size
        return count / (time.perf_counter() - begin)

    return turn
