"""Agents by name: the bundled ones, those of plug-ins, and `module:factory`; each is imported on first use."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gymnasium as gym

    from hrm_gym.agents.agent import Agent

ENTRY_POINT_GROUP = "hrm_gym.agents"

FACTORIES = {
    "hrm": "hrm_gym.agents.hrm.agent:HRMAgent.for_env",
    "hrm-vote": "hrm_gym.agents.hrm.voting:VotingAgent.for_env",
    "hrm-first": "hrm_gym.agents.hrm.ensemble:EnsembleAgent.for_env",
    "hrm-adapt": "hrm_gym.agents.hrm.adapting_agent:AdaptingAgent.for_env",
    "hrm-search": "hrm_gym.agents.hrm.search:SearchAgent.for_env",
    "ppo": "hrm_gym.agents.sb3.agent:SB3Agent.ppo",
    "maskableppo": "hrm_gym.agents.sb3.agent:SB3Agent.maskableppo",
    "a2c": "hrm_gym.agents.sb3.agent:SB3Agent.a2c",
    "dqn": "hrm_gym.agents.sb3.agent:SB3Agent.dqn",
    "sb3": "hrm_gym.agents.sb3.agent:SB3Agent.for_env",
    "random": "hrm_gym.agents.random_agent:RandomAgent.for_env",
    "oracle": "hrm_gym.agents.oracle:OracleAgent.for_env",
    "stored": "hrm_gym.agents.stored:StoredAnswerAgent.for_env",
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
