"""Folders of weights and of training state: safetensors plus JSON, written to a temporary name and renamed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.network import HRM

FORMAT_VERSION = 1
WEIGHTS, CONFIG, STATE = "model.safetensors", "config.json", "training_state.safetensors"
PREFIX = "update_"


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Make the folder `path` by filling a temporary one and renaming it, so that no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    fill(temporary)
    if path.exists():
        old = path.with_name(f".{path.name}.{os.getpid()}.old")
        path.rename(old)
        temporary.rename(path)
        shutil.rmtree(old)
    else:
        temporary.rename(path)


def write_model(folder: Path, state: dict[str, Tensor], config: HRMConfig, about: dict[str, Any]) -> None:
    """Write weights and their JSON into an existing folder."""
    save_file({name: tensor.contiguous() for name, tensor in _unshared(state, config).items()}, folder / WEIGHTS)
    content = {"format_version": FORMAT_VERSION, **about, "model": config.to_json()}
    (folder / CONFIG).write_text(json.dumps(content, indent=1) + "\n")


def _unshared(state: dict[str, Tensor], config: HRMConfig) -> dict[str, Tensor]:
    """The state without the second name of a shared level."""
    return {name: tensor for name, tensor in state.items() if not (config.shared and name.startswith("h_level."))}


def read_config(folder: Path) -> dict[str, Any]:
    """The JSON beside the weights.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no JSON, or of another format version.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no checkpoint folder: it has no {CONFIG}")
    try:
        content = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from None
    if not isinstance(content, dict) or content.get("format_version") != FORMAT_VERSION or "model" not in content:
        found = content.get("format_version") if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path}: expected a checkpoint of format_version {FORMAT_VERSION}, got {found}")
    return content


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or cut short.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    try:
        return load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise ValueError(f"{path} is damaged or cut short: {error}") from None


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
    expected = model.state_dict()
    if missing := sorted(set(expected) - set(state)):
        raise ValueError(f"{origin}: weights lack {missing[0]} ({len(missing)} missing in all)")
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape:
            raise ValueError(f"{origin}: {name} expected shape {tuple(tensor.shape)}, got {tuple(state[name].shape)}")
    model.load_state_dict({name: state[name] for name in expected})


def checkpoints(run: Path) -> list[Path]:
    """The finished checkpoint folders of a run, oldest first."""
    return sorted(path for path in run.glob(f"{PREFIX}*") if path.is_dir())


def checkpoint_path(run: Path, update: int) -> Path:
    """Where the checkpoint after `update` updates lies."""
    return run / f"{PREFIX}{update:08d}"


def drop_old(run: Path, keep: int) -> None:
    """Remove all checkpoints but the newest `keep`, and temporary folders that a killed run left behind."""
    for path in checkpoints(run)[:-keep]:
        shutil.rmtree(path)
    for path in (*run.glob(".*.tmp"), *run.glob(".*.old")):
        shutil.rmtree(path, ignore_errors=True)


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
