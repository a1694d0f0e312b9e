"""Everything that is found by name: environments, puzzle families, agents; bundled ones, plug-ins and your own.

The only place that says which class a name means. Whatever is named is imported on first use. What a person types may
name a module to import (`module:ID`, `module:factory`); what a file says must be registered already.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym

if TYPE_CHECKING:
    from hrm_gym.agents.agent import Agent
    from hrm_gym.envs.family import PuzzleFamily

logger = logging.getLogger(__name__)

FAMILY_GROUP = "hrm_gym.families"
"""Entry-point group of plug-ins with puzzle families: each names a module that calls `register_family`."""

AGENT_GROUP = "hrm_gym.agents"
"""Entry-point group of plug-ins with agents: each names a factory."""

Target = str | Callable[..., Any]
"""A class or function, or where it is: `module:attribute`."""


# ---- families and their environments ----


@dataclass(frozen=True)
class FamilyEntry:
    """A puzzle family as it is registered; see `register_family`."""

    name: str
    family: Target
    env: Target
    vector_env: Target
    ids: Mapping[str, Mapping[str, Any]]


BUNDLED = (
    FamilyEntry(
        "sudoku",
        family="hrm_gym.envs.sudoku.rules:SudokuFamily.for_grid",
        env="hrm_gym.envs.sudoku.env:SudokuEnv",
        vector_env="hrm_gym.envs.sudoku.env:SudokuVectorEnv",
        ids={
            "HRMSudoku-v0": {},
            "HRMSudokuMini-v0": {"box": (2, 2)},
            "HRMSudokuExtreme-v0": {"difficulty": "extreme"},
        },
    ),
    FamilyEntry(
        "maze",
        family="hrm_gym.envs.maze.rules:MazeFamily.for_grid",
        env="hrm_gym.envs.maze.env:MazeEnv",
        vector_env="hrm_gym.envs.maze.env:MazeVectorEnv",
        ids={
            "HRMMaze-v0": {},
            "HRMMazeHard-v0": {"size": 30, "min_path": 110, "wall_share": 0.37},
        },
    ),
    FamilyEntry(
        "arc",
        family="hrm_gym.envs.arc.rules:ArcFamily.for_grid",
        env="hrm_gym.envs.arc.env:ArcEnv",
        vector_env="hrm_gym.envs.arc.env:ArcVectorEnv",
        ids={
            "HRMARC-v0": {},
            "HRMARC2-v0": {"dataset": 2},
            "HRMARCMini-v0": {"canvas": 12},
        },
    ),
)

HALTING_ID = "HRMHalting-v0"
"""The one environment without a puzzle family: it replays what a network did on puzzles."""

_families: dict[str, FamilyEntry] = {}


def register_environments() -> None:
    """Register the bundled families and environments, those that are not registered yet."""
    for entry in BUNDLED:
        if entry.name not in _families or not set(entry.ids) <= set(gym.registry):
            _register(entry)
    if HALTING_ID not in gym.registry:
        module = "hrm_gym.envs.halting"
        gym.register(
            HALTING_ID,
            entry_point=f"{module}.env:HaltingEnv",
            vector_entry_point=f"{module}.env:HaltingVectorEnv",
        )


def register_family(
    name: str, *, family: Target, env: Target, vector_env: Target, ids: Mapping[str, Mapping[str, Any]]
) -> None:
    """Register a puzzle family of your own, with its environments; `docs/own_puzzle.md` leads through one.

    From then on `gym.make`, `gym.make_vec`, agents, `from_pretrained` and every command know it. A name that is
    registered again, as in a notebook, is replaced.

    Args:
        name: the family's `name`, which weights and data sets carry.
        family: grid (H, W) -> `PuzzleFamily`, the rules for boards of that size; ValueError if there are none.
        env: the class of the single environment, a `PuzzleEnv`; its constructor takes `source` ("bank", "generate", a
            file or a `PuzzleSource`) and `split`, and passes the arguments of `PuzzleEnv` on.
        vector_env: the class of the batched one, a `PuzzleVectorEnv`.
        ids: constructor arguments by environment id.

    Raises:
        ValueError: the name or an id is bad, or belongs to something else.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        raise ValueError(f"expected a family's name in lower-case letters, digits, '-' and '_', got {name!r}")
    if any(entry.name == name for entry in BUNDLED):
        raise ValueError(f"expected a new name for a family, got that of a bundled one, {name!r}")
    if not ids:
        raise ValueError(f"expected at least one environment id for the family {name!r}, got none")
    own = _families[name].ids if name in _families else {}
    if taken := sorted(set(ids) & set(gym.registry) - set(own)):
        raise ValueError(f"expected new environment ids for the family {name!r}, got {', '.join(taken)}")
    _register(FamilyEntry(name, family, env, vector_env, dict(ids)))


def _register(entry: FamilyEntry) -> None:
    for env_id in _families[entry.name].ids if entry.name in _families else ():
        gym.registry.pop(env_id, None)  # Gymnasium warns of ids that are registered twice
    for env_id, arguments in entry.ids.items():
        # The environments count their steps themselves, so no TimeLimit is asked for.
        gym.register(env_id, entry_point=entry.env, vector_entry_point=entry.vector_env, kwargs=dict(arguments))
    _families[entry.name] = entry


def family_names() -> list[str]:
    """The registered families, bundled ones first."""
    return list(_families)


def find_family(name: str) -> FamilyEntry:
    """The registered family of a name.

    Raises:
        ValueError: there is none.
    """
    if name not in _families:
        raise ValueError(unknown("family of puzzles", name, _families))
    return _families[name]


def make_family(name: str, grid: tuple[int, int]) -> PuzzleFamily:
    """The rules of a registered family for boards of `grid` = (H, W).

    Raises:
        ValueError: there is no such family, or it knows no such board.
    """
    found: PuzzleFamily = _load(find_family(name).family)(tuple(grid))
    return found


def registered_env(env_id: str) -> str:
    """An environment id that a file gives, unchanged: it must be registered already, and nothing is imported for it.

    Raises:
        ValueError: it is not registered, or names a module.
    """
    if not isinstance(env_id, str) or ":" in env_id:
        raise ValueError(f"expected the id of a registered environment, got {env_id!r}")
    try:
        gym.spec(env_id)
    except gym.error.Error:
        raise ValueError(unknown("environment", env_id, environment_ids())) from None
    return env_id


def make_env(text: str, **arguments: Any) -> gym.Env[Any, Any]:
    """The environment that a person's text means.

    >>> make_env("HRMSudokuMini-v0:box=(2,3),max_segments=8", render_mode="ansi").unwrapped.shape
    (6, 6)

    Args:
        text: as `read_env` takes it.
        **arguments: further constructor arguments; those of the text come first.

    Raises:
        ValueError: there is no such environment, or it does not take an argument.
        FileNotFoundError: an argument names a file that does not exist.
    """
    env_id, given = read_env(text)
    try:
        return gym.make(env_id, disable_env_checker=True, **{**arguments, **given})
    except TypeError as error:
        unexpected = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        what = f"has no argument {unexpected[1]!r}" if unexpected else f"does not take these arguments: {error}"
        raise ValueError(f"{env_id} {what}") from error


def read_env(text: str) -> tuple[str, dict[str, Any]]:
    """The id and the constructor arguments of `[module:]ID[:argument=value,…]`, as a person types it.

    A module is imported, so that it registers its environments; the id is returned without it.

    >>> read_env("HRMSudokuMini-v0:box=(2,3),max_segments=8")
    ('HRMSudokuMini-v0', {'box': (2, 3), 'max_segments': 8})

    Raises:
        ValueError: the text has another form, the module cannot be imported, or no such environment is registered.
    """
    expected = f"an environment as ID, ID:argument=value,… or module:ID, got {text!r}"
    first, _, rest = text.partition(":")
    second, _, after = rest.partition(":")
    if second and "=" not in second and all(part.isidentifier() for part in first.split(".")):
        _import(first, f"environment {text!r}")
        first, rest = second, after
    if not first:
        raise ValueError(f"expected {expected}")
    return registered_env(first), read_arguments(rest, expected)


def read_puzzle_env(text: str) -> tuple[str, dict[str, Any]]:
    """As `read_env`, for an environment that has puzzles to solve.

    Raises:
        ValueError: as `read_env`, or the environment has none.
    """
    env_id, arguments = read_env(text)
    puzzles = [name for entry in _families.values() for name in entry.ids]
    if env_id not in puzzles:
        try:
            env = gym.make(env_id, disable_env_checker=True)
        except Exception:  # an environment of another package may raise anything
            env = None
        if env is None or not hasattr(env.unwrapped, "puzzle_source") or not hasattr(env.unwrapped, "modes"):
            raise ValueError(f"expected an environment of puzzles, one of {', '.join(puzzles)}, got {env_id}")
    return env_id, arguments


def make_puzzle_env(text: str, **arguments: Any) -> Any:
    """As `make_env`, for an environment that has puzzles; without wrappers.

    Raises:
        ValueError: as `make_env`, or the environment has none.
    """
    env_id, given = read_puzzle_env(text)
    return make_env(env_id, **{**arguments, **given}).unwrapped


def read_arguments(text: str, expected: str = "") -> dict[str, Any]:
    """Constructor arguments of `argument=value,…`; values are Python literals, or text where they are none.

    >>> read_arguments("size=12,source=generate,box=(2,3)")
    {'size': 12, 'source': 'generate', 'box': (2, 3)}

    Args:
        text: the arguments.
        expected: what an error says that it expected and got; by default the text itself.

    Raises:
        ValueError: the text has another form.
    """
    found: dict[str, Any] = {}
    for part in _split_at_commas(text):
        name, equals, value = part.strip().partition("=")
        if not part.strip():
            continue
        if not equals or not name.strip().isidentifier():
            said = expected or f"arguments as name=value,name=value, got {text[:200]!r}"
            raise ValueError(f"expected {said}: {part[:200]!r}")
        found[name.strip()] = _value(value.strip())
    return found


LONGEST = 10_000
"""Maximum length of constructor arguments in an id."""


def _split_at_commas(text: str) -> list[str]:
    """The parts between commas that stand outside of brackets and of quoted values.

    >>> _split_at_commas("box=(2,3),data='a, b.csv',name=it's")
    ['box=(2,3)', "data='a, b.csv'", "name=it's"]
    """
    if len(text) > LONGEST:
        raise ValueError(f"expected at most {LONGEST:,} characters of arguments, got {len(text):,}")
    parts, first, depth, quote = [], 0, 0, ""
    for place, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and text[:place].rstrip()[-1:] in ("=", "(", "[", "{", ","):
            quote = character if character in text[place + 1 :] else ""  # a quote that never ends is a letter
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth = max(0, depth - 1)
        elif character == "," and not depth:
            parts.append(text[first:place])
            first = place + 1
    return [*parts, text[first:]]


def _value(written: str) -> Any:
    try:
        return ast.literal_eval(written)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # `{[]: 1}`; brackets nested too deep
        return written


def environment_ids() -> list[str]:
    """The ids of all puzzle environments and of `HRMHalting-v0`, bundled ones first."""
    return [*(env_id for entry in _families.values() for env_id in entry.ids), HALTING_ID]


# ---- agents ----


FACTORIES = {
    "hrm": "hrm_gym.agents.hrm.agent:HRMAgent.for_env",
    "hrm-vote": "hrm_gym.agents.hrm.inference.vote:VotingAgent.for_env",
    "hrm-first": "hrm_gym.agents.hrm.inference.vote:FirstToHaltAgent.for_env",
    "hrm-adapt": "hrm_gym.agents.hrm.inference.adapt:AdaptingAgent.for_env",
    "hrm-search": "hrm_gym.agents.hrm.inference.search:SearchAgent.for_env",
    "ppo": "hrm_gym.agents.sb3.agent:SB3Agent.ppo",
    "maskableppo": "hrm_gym.agents.sb3.agent:SB3Agent.maskableppo",
    "a2c": "hrm_gym.agents.sb3.agent:SB3Agent.a2c",
    "dqn": "hrm_gym.agents.sb3.agent:SB3Agent.dqn",
    "sb3": "hrm_gym.agents.sb3.agent:SB3Agent.for_env",
    "llm": "hrm_gym.agents.llm:LLMAgent.for_env",
    "random": "hrm_gym.agents.baselines:RandomAgent.for_env",
    "oracle": "hrm_gym.agents.baselines:OracleAgent.for_env",
    "stored": "hrm_gym.agents.baselines:StoredAnswerAgent.for_env",
}
"""The factory of every bundled agent; a factory takes an environment and keyword arguments."""


def make_agent(name: str, env: gym.Env[Any, Any] | gym.vector.VectorEnv[Any, Any, Any], /, **kwargs: Any) -> Agent:
    """An agent that plays `env` in its action mode.

    Args:
        name: a bundled agent (`agent_names()` lists them), one from the entry-point group `hrm_gym.agents`, or
            `module:factory` for any callable that takes the environment.
        env: a puzzle environment, or a batch of one from `gym.make_vec`; wrappers do not matter.
        **kwargs: passed on to the agent's factory.

    Returns:
        An object that follows `hrm_gym.agents.agent.Agent`.

    Raises:
        ValueError: if there is no such agent, it cannot be imported, or it has no weights that fit `env`.
    """
    if isinstance(env, gym.vector.VectorEnv):
        if (world := getattr(env.unwrapped, "world", None)) is None:
            raise ValueError(f"expected an environment of gym.make or gym.make_vec, got {env}: pass one of its boards")
        env = world
    return factory(name)(env, **kwargs)


def agent_names() -> list[str]:
    """The names that `make_agent` knows, bundled ones first, then those of installed plug-ins."""
    return [*FACTORIES, *sorted(set(_agent_plug_ins()) - set(FACTORIES))]


def bundled_weights() -> Path:
    """The folder in which every bundled agent's weights have a folder."""
    return Path(_import("hrm_gym.agents.pretrained", "the bundled weights").FOLDER)


def preferred_modes(name: str) -> tuple[str, ...]:
    """The action modes in which an agent is asked for where nobody chooses one, the best first.

    A plug-in's factory may choose with an attribute `action_modes`. Policies of stable-baselines3 act step by step, all
    other agents give whole answers if they can.
    """
    chosen = getattr(factory(name), "action_modes", None)
    if chosen is not None:
        return tuple(chosen)
    stepwise = FACTORIES.get(name, "").startswith("hrm_gym.agents.sb3.")
    return ("move", "cell", "answer") if stepwise else ("answer", "cell", "move")


def factory(name: str) -> Callable[..., Agent]:
    """The callable behind a name.

    Raises:
        ValueError: if there is no such agent, or it cannot be imported.
    """
    if ":" in name or name in FACTORIES:
        return _load(FACTORIES.get(name, name), f"agent {name!r}")
    plug_ins = _agent_plug_ins()
    if name not in plug_ins:
        raise ValueError(f"{unknown('agent', name, agent_names())}, or module:factory")
    return _load(plug_ins[name].value, f"agent {name!r}")


def _agent_plug_ins() -> dict[str, EntryPoint]:
    """Entry points of installed packages, by name."""
    return {point.name: point for point in _plug_ins(AGENT_GROUP)}


def _plug_ins(group: str) -> list[EntryPoint]:
    """Entry points of installed packages; none, and a warning, if what one of them says cannot be read."""
    try:
        return list(entry_points(group=group))
    except Exception as error:
        logger.warning("the plug-ins of %s are skipped: %s: %s", group, type(error).__name__, error)
        return []


# ---- looking up ----


def load_plug_ins() -> None:
    """Import the installed plug-ins with puzzle families; one that fails is named in the log and skipped."""
    for point in _plug_ins(FAMILY_GROUP):
        try:
            if not EntryPoint.pattern.match(point.value):  # importlib would fail on its own None
                raise ValueError("expected a module or module:object")
            found = point.load()
            if callable(found):
                found()
        except (Exception, SystemExit) as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            logger.warning("the plug-in %s (%s = %s) is skipped: %s", point.name, FAMILY_GROUP, point.value, reason)


def closest(name: str, known: Iterable[str]) -> str | None:
    """The one of the `known` names that somebody who typed `name` probably meant.

    >>> closest("sudoko", ["maze", "sudoku"])
    'sudoku'
    """
    by_lower = {one.lower(): one for one in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return by_lower[found[0]] if found else None


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that is not among the `known` ones.

    >>> unknown("family", "sudoko", ["maze", "sudoku"])
    "unknown family 'sudoko', did you mean 'sudoku'? Expected one of maze, sudoku"
    """
    names = list(known)
    near = closest(name, names)
    hint = f", did you mean {near!r}? Expected" if near else ": expected"
    return f"unknown {what} {name[:100]!r}{hint} one of {', '.join(names)}"


def _load(target: Target, what: str = "") -> Any:
    """The object that `module:attribute.attribute` names.

    Raises:
        ValueError: it cannot be imported; `what` names it in the message.
    """
    if not isinstance(target, str):
        return target
    module, _, attributes = target.partition(":")
    found = _import(module, what or target)
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            raise ValueError(f"{what or target} cannot be loaded: {module} has no {attributes}")
        found = getattr(found, attribute)
    return found


def _import(module: str, what: str) -> Any:
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:  # a module of a person's or a plug-in's may raise anything
        raise ValueError(f"{what} cannot be loaded: {type(error).__name__}: {error}") from error
