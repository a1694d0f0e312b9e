"""The environments that `import hrm_gym` registers: a new one is a line here.

The bundled puzzle families by name, for who has weights and no environment; each is imported on first use.

Agents by name: the bundled ones, those of plug-ins, and `module:factory`; each is imported on first use.

Environments as text on a command line: `ID` or `ID:argument=value,argument=value`.
"""

from __future__ import annotations

import ast
import importlib
import re
import reprlib
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from hrm_gym.envs.puzzle import PuzzleFamily

if TYPE_CHECKING:
    from hrm_gym.agents.agent import Agent


ENVIRONMENTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("HRMSudoku-v0", "hrm_gym.envs.sudoku.env:SudokuEnv", {}),
    ("HRMSudokuMini-v0", "hrm_gym.envs.sudoku.env:SudokuEnv", {"box": (2, 2)}),
    ("HRMSudokuExtreme-v0", "hrm_gym.envs.sudoku.env:SudokuEnv", {"difficulty": "extreme"}),
    ("HRMMaze-v0", "hrm_gym.envs.maze.env:MazeEnv", {}),
    ("HRMMazeHard-v0", "hrm_gym.envs.maze.env:MazeEnv", {"size": 30, "min_path": 110, "wall_share": 0.37}),
    ("HRMARC-v0", "hrm_gym.envs.arc.env:ArcEnv", {}),
    ("HRMARC2-v0", "hrm_gym.envs.arc.env:ArcEnv", {"dataset": 2}),
    ("HRMARCMini-v0", "hrm_gym.envs.arc.env:ArcEnv", {"canvas": 12}),
    ("HRMHalting-v0", "hrm_gym.envs.halting.env:HaltingEnv", {}),
)
"""(id, entry point, constructor arguments). The environments truncate by themselves: no TimeLimit is asked for.

Beside `SomeEnv` its module has `SomeVectorEnv`, the same for many boards at once.
"""


def register_environments() -> None:
    """Register every environment that is not registered yet."""
    for name, entry_point, arguments in ENVIRONMENTS:
        if name not in gym.registry:
            batched = entry_point.replace("Env", "VectorEnv")
            gym.register(id=name, entry_point=entry_point, vector_entry_point=batched, kwargs=arguments)


def registered_env(name: object) -> str:
    """An environment's id that was read from a file: it must be registered already, and nothing is imported for it.

    Raises:
        ValueError: it is not registered.
    """
    if not isinstance(name, str) or name not in gym.registry:
        raise ValueError(f"expected the id of a registered environment in a file, got {reprlib.repr(name)}")
    return name


def make_family(name: str, grid: tuple[int, int]) -> PuzzleFamily:
    """The rules of a bundled family for boards of `grid`.

    Raises:
        ValueError: the family is not one of the bundled ones, or knows no such board.
    """
    if name not in _FAMILIES:
        raise ValueError(f"expected weights for one of {', '.join(_FAMILIES)}, got {name!r}; use HRMAgent.for_env")
    return _FAMILIES[name](grid)


def _maze(grid: tuple[int, int]) -> PuzzleFamily:
    from hrm_gym.envs.maze.rules import MazeFamily

    return MazeFamily()


def _sudoku(grid: tuple[int, int]) -> PuzzleFamily:
    from hrm_gym.envs.sudoku.boxes import usual_box
    from hrm_gym.envs.sudoku.rules import SudokuFamily

    return SudokuFamily(usual_box(grid[0]))


def _arc(grid: tuple[int, int]) -> PuzzleFamily:
    from hrm_gym.envs.arc.rules import ArcFamily

    return ArcFamily(canvas=grid[0])


_FAMILIES = {"maze": _maze, "sudoku": _sudoku, "arc": _arc}


ENTRY_POINT_GROUP = "hrm_gym.agents"

FACTORIES = {
    "hrm": "hrm_gym.agents.hrm.agent:HRMAgent.for_env",
    "hrm-vote": "hrm_gym.agents.hrm.inference.vote:VotingAgent.for_env",
    "hrm-first": "hrm_gym.agents.hrm.inference.vote:EnsembleAgent.for_env",
    "hrm-adapt": "hrm_gym.agents.hrm.inference.adapt:AdaptingAgent.for_env",
    "hrm-search": "hrm_gym.agents.hrm.inference.search:SearchAgent.for_env",
    "ppo": "hrm_gym.agents.sb3.agent:SB3Agent.ppo",
    "maskableppo": "hrm_gym.agents.sb3.agent:SB3Agent.maskableppo",
    "a2c": "hrm_gym.agents.sb3.agent:SB3Agent.a2c",
    "dqn": "hrm_gym.agents.sb3.agent:SB3Agent.dqn",
    "sb3": "hrm_gym.agents.sb3.agent:SB3Agent.for_env",
    "random": "hrm_gym.agents.baselines:RandomAgent.for_env",
    "oracle": "hrm_gym.agents.baselines:OracleAgent.for_env",
    "stored": "hrm_gym.agents.baselines:StoredAnswerAgent.for_env",
}
"""The factory of every bundled agent; a factory takes an environment and keyword arguments."""


def make_agent(name: str, env: gym.Env[Any, Any], /, **kwargs: Any) -> Agent:
    """An agent that plays `env` in its action mode.

    Args:
        name: a bundled agent (`agent_names()` lists them), one from the entry-point group `hrm_gym.agents`, or
            `module:factory` for any callable that takes the environment.
        env: a puzzle environment; wrappers do not matter.
        **kwargs: passed on to the agent's factory.

    Returns:
        An object that follows `hrm_gym.agents.agent.Agent`.

    Raises:
        ValueError: if there is no such agent, it cannot be imported, or it has no weights that fit `env`.
    """
    return factory(name)(env, **kwargs)


def agent_names() -> list[str]:
    """The names that `make_agent` knows, bundled ones first, then those of installed plug-ins."""
    return [*FACTORIES, *sorted(set(_plug_ins()) - set(FACTORIES))]


def preferred_modes(name: str) -> tuple[str, ...]:
    """The action modes in which an agent is asked for where nobody says, the best first.

    A plug-in's factory may say with an attribute `action_modes`. Policies of stable-baselines3 act step by step, all
    other agents give whole answers if they can.
    """
    told = getattr(factory(name), "action_modes", None)
    if told is not None:
        return tuple(told)
    stepwise = FACTORIES.get(name, "").startswith("hrm_gym.agents.sb3.")
    return ("move", "cell", "answer") if stepwise else ("answer", "cell", "move")


def factory(name: str) -> Callable[..., Agent]:
    """The callable behind a name.

    Raises:
        ValueError: if there is no such agent, or it cannot be imported.
    """
    target = FACTORIES.get(name) or (name if ":" in name else None)
    plug_ins = {} if target else _plug_ins()
    if target is None and name not in plug_ins:
        raise ValueError(f"unknown agent {name!r}: expected one of {', '.join(agent_names())}, or module:factory")
    try:
        return _load(target) if target else plug_ins[name].load()
    except (ImportError, AttributeError) as error:
        raise ValueError(f"agent {name!r} cannot be loaded: {error}") from error


def _load(target: str) -> Callable[..., Agent]:
    """The object that `module:attribute.attribute` names."""
    module, _, attributes = target.partition(":")
    found: Any = importlib.import_module(module)
    for attribute in attributes.split("."):
        found = getattr(found, attribute)
    return found


def _plug_ins() -> dict[str, EntryPoint]:
    """Entry points of installed packages, by name."""
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def read_env(label: str) -> tuple[str, dict[str, Any]]:
    """The id and the constructor arguments of `ID` or `ID:argument=value,…`.

    >>> read_env("HRMSudokuMini-v0:box=(2,3),max_segments=8")
    ('HRMSudokuMini-v0', {'box': (2, 3), 'max_segments': 8})

    Raises:
        ValueError: the text has another form.
    """
    env_id, _, rest = label.partition(":")
    return env_id, read_arguments(rest, f"an environment as ID or ID:argument=value,…, got {label!r}")


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
    for part in re.split(r",(?![^()\[\]{}]*[)\]}])", text):
        name, equals, value = part.strip().partition("=")
        if not part.strip():
            continue
        if not equals or not name.strip().isidentifier():
            raise ValueError(f"expected {expected or f'arguments as name=value,name=value, got {text!r}'}: {part!r}")
        found[name.strip()] = _value(value.strip())
    return found


def _value(written: str) -> Any:
    try:
        return ast.literal_eval(written)
    except (ValueError, SyntaxError):
        return written
