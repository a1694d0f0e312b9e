"""The environments that `import hrm_gym` registers: a new one is a line here."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

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
