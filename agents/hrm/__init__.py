"""The Hierarchical Reasoning Model (arXiv 2506.21734): network, halting, training, checkpoints, and the agent.

>>> from hrm_gym.agents.hrm import HRMAgent, load_official
>>> agent = HRMAgent.from_pretrained("sapientinc/HRM-checkpoint-sudoku-extreme")  # doctest: +SKIP
>>> model = load_official("run/step_26041", "run/all_config.yaml")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hrm_gym.agents.hrm.agent import HRMAgent
    from hrm_gym.agents.hrm.config import HRMConfig
    from hrm_gym.agents.hrm.model import HRM
    from hrm_gym.agents.hrm.official.weights import load_official

__all__ = ["HRM", "HRMAgent", "HRMConfig", "load_official"]

_MODULES = {"HRM": "model", "HRMAgent": "agent", "HRMConfig": "config", "load_official": "official.weights"}


def __getattr__(name: str) -> Any:
    """Import a name of `__all__` on first use, so that settings can be read without torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
