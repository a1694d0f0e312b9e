"""What `make fuzz` tries: one case is one malformed thing handed to one environment, and what must come of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import Error, ResetNeeded
from numpy.typing import NDArray

from . import garbage

OWN_ARGUMENT = "unexpected keyword argument"
"""How Python says that a function has no argument of a name: the one TypeError that is right."""


@dataclass(frozen=True)
class Attempt:
    """One malformed thing and what may come of it.

    Attributes:
        given: what is handed in, for the report.
        call: hands it in.
        complaint: judges what was accepted; None if that was legitimate.
        refusals: exceptions by which it may be refused, beside ValueError.
        after: must work whatever came of it.
        late: whether it may also be refused when what was made of it is first used.
    """

    given: Any
    call: Callable[[], Any]
    complaint: Callable[[Any], str | None]
    refusals: tuple[type[Exception], ...] = ()
    after: Callable[[], Any] = lambda: None
    late: bool = False


@dataclass
class World:
    """One registered id in one action mode, with what the cases need of it.

    Attributes:
        env_id: the id.
        mode: the action mode; "" for environments that have one only.
        env: the environment, without wrappers.
        batched: the vector environment, None where there is none of its own.
        arguments: constructor arguments: those of the id, and the mode.
    """

    env_id: str
    mode: str
    env: Any
    batched: Any
    arguments: dict[str, Any]
    names: tuple[str, ...] = field(default=())

    @property
    def title(self) -> str:
        """The id with its mode."""
        return f"{self.env_id} {self.mode}".strip()

    @property
    def has_puzzles(self) -> bool:
        """Whether it is an environment over a puzzle family."""
        return hasattr(self.env, "family") and hasattr(self.env, "puzzle_source")


def worlds() -> list[World]:
    """Every registered id of ours in each of its modes."""
    found: list[World] = []
    for env_id in sorted(name for name in gym.registry if name.startswith("HRM")):
        spec = gym.spec(env_id)
        with gym.make(env_id) as env:
            modes = tuple(getattr(env.unwrapped, "modes", ())) or ("",)
        found.extend(_world(env_id, mode, spec) for mode in modes)
    return found


def _world(env_id: str, mode: str, spec: Any) -> World:
    chosen: dict[str, Any] = {"action_mode": mode} if mode else {}
    env: Any = gym.make(env_id, disable_env_checker=True, **chosen).unwrapped
    batched = gym.make_vec(env_id, num_envs=3, **chosen) if spec.vector_entry_point else None
    makers = (getattr(kind, "__init__") for kind in type(env).__mro__)  # noqa: B009
    names = (name for make in makers for name in inspect.signature(make).parameters)
    known = tuple(
        dict.fromkeys(name for name in names if name not in ("self", "args", "kwargs", "arguments", "family"))
    )
    return World(env_id, mode, env, batched, {**spec.kwargs, **chosen}, known)


# ---- what is tried ----


def bad_action(world: World, rng: Random) -> Attempt:
    """An action of the wrong kind, shape or range, in the middle of an episode."""
    env = world.env
    env.reset(seed=rng.randrange(100))
    env.action_space.seed(rng.getrandbits(31))
    if rng.random() < 0.3 and env.step(_going_on(env))[2]:
        env.reset()
    action = _action(rng, env.action_space)
    return Attempt(
        action,
        lambda: env.step(action),
        lambda outcome: _not_an_action(env.action_space, action) or _bad_outcome(env, outcome),
        after=lambda: _still_steps(env),
    )


def bad_batch(world: World, rng: Random) -> Attempt:
    """Actions, seeds or options that do not fit a batch of boards."""
    env = world.batched
    env.reset(seed=rng.randrange(100))
    after = env.reset
    if rng.random() < 0.5:
        action = _action(rng, env.action_space)
        accepted = lambda outcome: _not_an_action(env.action_space, action) or _bad_batch(env, outcome)  # noqa: E731
        return Attempt(action, lambda: env.step(action), accepted, after=after)
    seed, options = rng.choice(((_seeds(rng), None), (None, _batch_options(rng)), (_seeds(rng), _batch_options(rng))))
    given = {"seed": seed, "options": options}
    return Attempt(
        given, lambda: env.reset(**given), lambda outcome: _bad_observation(env, outcome[0]), (Error,), after
    )


def bad_puzzle(world: World, rng: Random) -> Attempt:
    """A puzzle of one's own: random, or a good one that was spoilt."""
    env = world.env
    env.reset(seed=rng.randrange(100))
    good = env.puzzle
    change = rng.randrange(6)
    given: Any = garbage.scalar(rng) if change == 0 else garbage.text(rng)
    if change == 1:
        given = garbage.array(rng, rng.choice((None, env.shape)))
    elif change == 2:
        given = garbage.mutated_text(rng, env.family.to_text(good.clues))
    elif change in (3, 4):
        given = garbage.mutated_grid(rng, good.clues)
    elif change == 5:
        given = garbage.mutated_puzzle(rng, good)
    options = {"puzzle": given}
    return Attempt(
        given, lambda: env.reset(options=options), lambda told: _bad_own_puzzle(env, given, told), after=env.reset
    )


def bad_options(world: World, rng: Random) -> Attempt:
    """Options that do not exist, and indices that are none."""
    env = world.env
    options = _options(rng)
    return Attempt(
        options, lambda: env.reset(options=options), lambda told: _bad_chosen(env, options, told), after=env.reset
    )


def bad_seed(world: World, rng: Random) -> Attempt:
    """Seeds that are none; Gymnasium's own refusal is as good."""
    env, seed = world.env, garbage.scalar(rng)

    def complaint(told: Any) -> str | None:
        whole = seed is None or (isinstance(seed, int | np.integer) and seed >= 0)
        return _bad_observation(env, told[0]) if whole else "no seed, accepted as one"

    return Attempt(seed, lambda: env.reset(seed=seed), complaint, (Error,), env.reset)


def bad_order(world: World, rng: Random) -> Attempt:
    """Calls out of order: before the first reset, after the end, after closing."""
    env = _fresh(world, rng.choice((None, "ansi", "rgb_array") if rng.random() < 0.02 else (None, "ansi")))
    calls = {
        "step": lambda: env.step(_going_on(env)),
        "render": env.render,
        "action_masks": env.action_masks if hasattr(env, "action_masks") else env.close,
        "close": env.close,
        "reset": env.reset,
        "end": lambda: _play_to_the_end(env),
    }
    names = [rng.choice(tuple(calls)) for _ in range(rng.randrange(1, 5))]

    def call() -> None:
        for name in names:
            calls[name]()

    return Attempt(names, call, lambda _: None, (ResetNeeded,), env.reset)


def bad_arguments(world: World, rng: Random) -> Attempt:
    """Constructor arguments out of range, of the wrong type, or unknown."""
    arguments = dict(world.arguments)
    if world.has_puzzles and rng.random() < 0.8:
        arguments["source"] = world.env.puzzle_source
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        name = rng.choice(world.names) if rng.random() < 0.95 else rng.choice(("siz", "x", "Source", "kwargs"))
        arguments[name] = garbage.scalar(rng)
    kind = type(world.env) if rng.random() < 0.8 or world.batched is None else type(world.batched)
    return construction(kind, arguments)


def construction(kind: type, arguments: dict[str, Any]) -> Attempt:
    """The attempt to make an environment of `kind`, and to play on it if it can be made."""
    made: list[Any] = []

    def call() -> Any:
        made.append(kind(**arguments))
        return made[0]

    def after() -> None:
        for env in made:
            env.close()

    shown = {name: value for name, value in arguments.items() if not hasattr(value, "puzzle")}
    return Attempt(shown, call, _cannot_be_played, (FileNotFoundError,), after, late=True)


# ---- what is drawn ----


def _going_on(env: Any) -> Any:
    """A legal action that does not halt, where there is one."""
    action = env.action_space.sample()
    if isinstance(env.action_space, gym.spaces.MultiDiscrete):
        action[-1] = 0
    return action


def _action(rng: Random, space: gym.Space[Any]) -> Any:
    """Something that may or may not be an action of `space`."""
    change = rng.randrange(5)
    if change == 0:
        return garbage.scalar(rng)
    if change == 1:
        return garbage.array(rng, space.shape if rng.random() < 0.5 else None)
    good = np.asarray(space.sample())
    if change == 2:
        return good.astype(rng.choice(("float64", "bool", "object", "int8", "uint64", "U3", "complex64")))
    if change == 3:
        return rng.choice((good[None], good.tolist(), np.append(good, 0), good.ravel()[:-1], good + 10**6, -1 - good))
    spoilt = good.astype(rng.choice(("int64", "float64", "object"))).reshape(-1)
    value = rng.choice((-1, 10**6, 2**40, 255, 256, -(2**31)))
    spoilt[rng.randrange(spoilt.size)] = value
    return spoilt.reshape(good.shape) if good.shape else spoilt[0]


def _options(rng: Random) -> Any:
    if rng.random() < 0.3:
        return garbage.scalar(rng)
    names = ("index", "index", "puzzle", "puzle", "seed", "", 1, None)
    return {rng.choice(names): garbage.scalar(rng) for _ in range(rng.choice((1, 1, 1, 2)))}


def _batch_options(rng: Random) -> Any:
    if rng.random() < 0.5:
        return _options(rng)
    return {"reset_mask": garbage.array(rng, rng.choice(((3,), (3,), None)))}


def _seeds(rng: Random) -> Any:
    one = garbage.scalar
    return rng.choice((one(rng), [one(rng) for _ in range(rng.choice((0, 2, 3, 3, 4)))]))


# ---- what is accepted ----


def _not_an_action(space: gym.Space[Any], action: Any) -> str | None:
    """Complain unless `action` lies in `space`, as it is or as the array that it stands for."""
    try:
        if space.contains(action):
            return None
        given = np.asarray(action)
        whole = given.dtype.kind in "iu" and given.size == int(np.prod(space.shape or ()))
        shape = space.shape or ()
        if whole and (given.shape == shape or not shape) and space.contains(given.reshape(shape).astype(np.int64)):
            return None
        if whole and not shape and space.contains(given.item()):
            return None
    except (TypeError, ValueError, OverflowError):
        pass
    return "outside the action space, accepted as an action"


def _bad_outcome(env: Any, outcome: Any) -> str | None:
    """Complain of what a step returned unless it is as Gymnasium has it."""
    observation, reward, terminated, truncated, info = outcome
    if not (isinstance(reward, float) and np.isfinite(reward)):
        return f"reward {reward!r}"
    if not (isinstance(terminated, bool) and isinstance(truncated, bool) and isinstance(info, dict)):
        return f"ends {terminated!r}, {truncated!r} and info of {type(info).__name__}"
    return _bad_observation(env, observation)


def _bad_batch(env: Any, outcome: Any) -> str | None:
    rewards = np.asarray(outcome[1], dtype=np.float64)
    if rewards.shape != (env.num_envs,) or not np.isfinite(rewards).all():
        return f"rewards {rewards!r}"
    return _bad_observation(env, outcome[0])


def _bad_observation(env: Any, observation: Any) -> str | None:
    return None if env.observation_space.contains(observation) else "an observation outside its space"


def _still_steps(env: Any) -> None:
    """A refused action must leave an episode that goes on."""
    if getattr(env, "_running", True):
        env.step(_going_on(env))
    env.reset()


def _bad_own_puzzle(env: Any, given: Any, told: Any) -> str | None:
    """Complain unless the puzzle on the board is the one handed in and follows the rules."""
    puzzle = env.puzzle
    wanted = getattr(given, "clues", given)
    if not isinstance(wanted, str | dict) and not _same(wanted, puzzle.clues):
        return "a puzzle that was altered without a word"
    return bad_puzzle_on_board(env, puzzle) or _bad_observation(env, told[0]) or _cannot_be_stepped(env)


def bad_puzzle_on_board(env: Any, puzzle: Any) -> str | None:
    """Complain unless `puzzle` follows the rules and its stored solution, right or wrong, is a token grid."""
    try:
        env.family.check(puzzle.clues)
    except Exception as error:
        return f"a puzzle that check() refuses ({type(error).__name__}: {error})"
    if getattr(puzzle.solution, "shape", None) != puzzle.clues.shape or puzzle.solution.dtype != np.uint8:
        return f"a solution that is no uint8 grid like the clues: {type(puzzle.solution).__name__}"
    if puzzle.solution.max() >= env.family.vocab_size:
        return f"a solution with a token {puzzle.solution.max()}"
    return None


def _bad_chosen(env: Any, options: Any, told: Any) -> str | None:
    """Complain of options that are none, or of an index that is no whole number."""
    if not options:
        return _bad_observation(env, told[0])
    if not isinstance(options, dict) or set(options) not in ({"index"}, {"puzzle"}):
        return "options that do not exist, accepted"
    if "index" in options and not isinstance(options["index"], int | np.integer):
        return "an index that is no whole number, accepted"
    return _bad_observation(env, told[0])


def _same(given: Any, grid: NDArray[np.uint8]) -> bool:
    try:
        return bool(np.array_equal(np.asarray(given), grid))
    except ValueError:
        return False


def _cannot_be_played(env: Any) -> str | None:
    """Complain unless an environment that could be made can be played."""
    if isinstance(env, gym.vector.VectorEnv):
        env.reset(seed=0)
        return _bad_batch(env, env.step(env.action_space.sample()))
    told = env.reset(seed=0)
    return _bad_observation(env, told[0]) or _cannot_be_stepped(env)


def _cannot_be_stepped(env: Any) -> str | None:
    for _ in range(2):
        outcome = env.step(_going_on(env))
        complaint = _bad_outcome(env, outcome)
        if complaint or outcome[2] or outcome[3]:
            return complaint
    return None


def _fresh(world: World, render_mode: str | None) -> Any:
    """A new environment over the same source."""
    shared = {"source": world.env.puzzle_source} if world.has_puzzles else {}
    return type(world.env)(**{**world.arguments, **shared, "render_mode": render_mode})


def _play_to_the_end(env: Any) -> None:
    for _ in range(env.max_steps if hasattr(env, "max_steps") else 1):
        outcome = env.step(env.action_space.sample())
        if outcome[2] or outcome[3]:
            return


Draw = Callable[[World, Random], Attempt]


def kinds_for(world: World) -> Iterable[tuple[str, Draw, float]]:
    """Name, draw and weight of every kind of case that `world` allows, but those with files."""
    yield "action", bad_action, 34
    yield "seed", bad_seed, 5
    yield "order", bad_order, 4
    yield "arguments", bad_arguments, 8
    yield "options", bad_options, 10
    if world.has_puzzles:
        yield "puzzle", bad_puzzle, 25
    if world.batched is not None:
        yield "batch", bad_batch, 10
