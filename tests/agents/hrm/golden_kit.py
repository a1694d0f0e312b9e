"""The golden numbers of the official HRM and TRM code, and our network with their weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hrm_gym.agents.hrm.accelerate import accelerate, uses_cpu_routine
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.official.weights import load_official, our_name
from hrm_gym.agents.hrm.slots import Examples

GOLDEN = Path(__file__).parent / "golden"
STRIDE = 13


class Kit:
    """One official model: its settings, its arrays, and our network with its weights.

    Args:
        name: hrm or trm_att.
        own: whether our network's levels go through their own routine on a CPU.
    """

    def __init__(self, name: str, own: bool = False) -> None:
        self.own = own
        self.settings: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            self.arrays = dict(arrays)
        self.eval_tolerance = {"hrm": 2e-4, "trm_att": 2e-5}[name]
        self.bfloat16_tolerance = {"hrm": 0.7, "trm_att": 0.1 if own else 0.05}[name]

    def tensor(self, key: str) -> Tensor:
        return torch.from_numpy(np.array(self.arrays[key]))

    @property
    def state(self) -> dict[str, Tensor]:
        """The official state dict."""
        return {key[len("state/") :]: self.tensor(key) for key in self.arrays if key.startswith("state/")}

    def model(self, **changes: Any) -> HRM:
        official = load_official(self.state, self.settings)
        model = HRM(dataclasses.replace(official.config, **changes))
        model.load_state_dict(official.state_dict())
        if self.own:
            accelerate(model, compile=True)
            assert uses_cpu_routine(model) or model.dtype == torch.bfloat16
        return model

    def boards(self, prefix: str) -> Examples:
        names = ("inputs", "labels", "puzzle_identifiers")
        return Examples(*(self.tensor(f"{prefix}/{name}") for name in names))

    def difference(self, key: str, ours: Tensor) -> Tensor:
        """Absolute differences from the official numbers, of every 13th element where only those were kept."""
        ours = ours.detach().float()
        if key in self.arrays:
            return (ours - self.tensor(key).float()).abs()
        return (ours.flatten()[::STRIDE] - self.tensor(f"{key}@{STRIDE}").float()).abs()

    def named(self, prefix: str) -> dict[str, str]:
        """Our parameter names -> keys under `prefix`, the mark of thinned arrays cut off."""
        keys = (key.split("@")[0] for key in self.arrays if key.startswith(prefix))
        return {our_name(key[len(prefix) :]): key for key in keys}
