"""The environments that `import hrm_gym` registers: a new one is a line here."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

ENVIRONMENTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("HRMMaze-v0", "hrm_gym.envs.maze.env:MazeEnv", {}),
    ("HRMMazeHard-v0", "hrm_gym.envs.maze.env:MazeEnv", {"size": 30, "min_path": 110, "wall_share": 0.37}),
)
"""(id, entry point, constructor arguments). The environments truncate by themselves: no TimeLimit is asked for."""


def register_environments() -> None:
    """Register every environment that is not registered yet."""
    for name, entry_point, arguments in ENVIRONMENTS:
        if name not in gym.registry:
            gym.register(id=name, entry_point=entry_point, kwargs=arguments)
