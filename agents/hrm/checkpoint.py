"""An HRM's weights and its optimiser's state to and from checkpoint folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from hrm_gym.agents.checkpoint import WEIGHTS, fitting, read_config, read_tensors, write_config
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.network import HRM


def write_model(folder: Path, state: dict[str, Tensor], config: HRMConfig, about: dict[str, Any]) -> None:
    """Write weights and their JSON into an existing folder."""
    save_file({name: tensor.contiguous() for name, tensor in _unshared(state, config).items()}, folder / WEIGHTS)
    write_config(folder, {**about, "model": config.to_json()})


def _unshared(state: dict[str, Tensor], config: HRMConfig) -> dict[str, Tensor]:
    """The state without the second name of a shared level."""
    return {name: tensor for name, tensor in state.items() if not (config.shared and name.startswith("h_level."))}


def load_model(folder: Path | str) -> tuple[HRM, dict[str, Any]]:
    """The network of a checkpoint folder, in evaluation mode, and the JSON beside it.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or the weights do not fit the config.
    """
    folder = Path(folder)
    about = read_config(folder)
    model = HRM(HRMConfig.from_json(about["model"]))
    load_weights(model, read_tensors(folder / WEIGHTS), folder)
    return model.eval().requires_grad_(False), about


def load_weights(model: HRM, state: dict[str, Tensor], origin: Path | str) -> None:
    """Load `state` into `model`; a ValueError names what does not fit."""
    if model.config.shared:
        state = state | {f"h_level.{name[8:]}": tensor for name, tensor in state.items() if name.startswith("l_level.")}
    model.load_state_dict(fitting(state, model.state_dict(), origin))


def pack_optimizer(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, Tensor]:
    """The state of an optimiser as named tensors; `names` are the parameters in the optimiser's order."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{key}.{names[index]}": torch.as_tensor(value).contiguous()
        for index, values in state.items()
        for key, value in values.items()
    }


def unpack_optimizer(optimizer: torch.optim.Optimizer, names: list[str], tensors: dict[str, Tensor]) -> None:
    """The inverse of `pack_optimizer`, in place."""
    state: dict[int, dict[str, Any]] = {}
    for full, tensor in tensors.items():
        if full.startswith("optimizer."):
            _, key, name = full.split(".", 2)
            value = int(tensor) if tensor.dtype == torch.int64 and tensor.ndim == 0 else tensor
            state.setdefault(names.index(name), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
