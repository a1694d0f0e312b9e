"""Reasoning puzzles as Gymnasium environments, and the Hierarchical Reasoning Models that solve them."""

from hrm_gym.registry import make_agent, register_environments

__all__ = ["make_agent", "register_environments"]

register_environments()
