"""Reasoning puzzles as Gymnasium environments, and the Hierarchical Reasoning Models that solve them."""

import hrm_gym._program  # noqa: F401  (first of all)
from hrm_gym.registry import load_plug_ins, make_agent, make_env, register_environments, register_family

__version__ = "0.1.0"

__all__ = ["__version__", "make_agent", "make_env", "register_environments", "register_family"]

register_environments()
load_plug_ins()
