"""The environments that every contract is tested on: all registered ones, and settings that change the rules."""

from __future__ import annotations

import gymnasium as gym

import hrm_gym

hrm_gym.register_environments()
NOT_PUZZLES = {"HRMHalting-v0"}
"""Registered environments without a board, an answer or action modes; their contracts are in test_halting_env.py."""

IDS = sorted(name for name in gym.registry if name.startswith("HRM") and name not in NOT_PUZZLES)
"""Every registered puzzle environment of this package."""

_VARIANTS = {
    "Variant/SudokuLegalOnly-v0": ("HRMSudokuMini-v0", {"legal_only": True}),
    "Variant/Sudoku6x6-v0": ("HRMSudokuMini-v0", {"box": (2, 3)}),
    "Variant/Sudoku16x16-v0": ("HRMSudokuMini-v0", {"box": (4, 4)}),
    "Variant/MazeGenerated-v0": ("HRMMaze-v0", {"size": 5, "source": "generate"}),
    "Variant/MazeRectangular-v0": ("HRMMaze-v0", {"size": (4, 6)}),
}


def _register(name: str, base: str, arguments: dict) -> None:
    spec = gym.spec(base)
    kwargs = {**spec.kwargs, **arguments}
    gym.register(name, entry_point=spec.entry_point, vector_entry_point=spec.vector_entry_point, kwargs=kwargs)


for _name, (_base, _arguments) in _VARIANTS.items():
    if _name not in gym.registry:
        _register(_name, _base, _arguments)

WORLDS = [*IDS, *_VARIANTS]
"""The registered environments and the variants."""

CASES = [(env_id, mode) for env_id in WORLDS for mode in gym.make(env_id).unwrapped.modes]
"""(id, action mode) of every world."""
