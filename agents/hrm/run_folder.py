"""An HRM's weights and its optimiser's state to and from checkpoint folders.

The files of a run: everything from which training continues exactly, and the curve of its evaluations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from hrm_gym.agents import checkpoint
from hrm_gym.agents.checkpoint import (
    CONFIG,
    WEIGHTS,
    check_size,
    fitting,
    read_config,
    read_tensors,
    verify,
    write_config,
)
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.files import check_in_place, write_atomically
from hrm_gym.reading import read_curve


def write_model(folder: Path, state: dict[str, Tensor], config: HRMConfig, about: dict[str, Any]) -> None:
    """Write weights and their JSON into an existing folder."""
    second = "h_level." if config.shared else "-"  # the second name of a shared level
    kept = {name: tensor.contiguous() for name, tensor in state.items() if not name.startswith(second)}
    save_file(kept, folder / WEIGHTS)
    write_config(folder, {**about, "model": config.to_json()})


def load_model(folder: Path | str) -> tuple[HRM, dict[str, Any]]:
    """The network of a checkpoint folder, in evaluation mode, and its JSON.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or the weights do not fit the config.
    """
    folder = Path(folder)
    about = read_config(folder)
    try:
        config = HRMConfig.from_json(about["model"])
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG}: {error}") from None
    outline = _outline(config).state_dict()
    check_size(folder / WEIGHTS, outline)
    verify(folder)
    model = build(config, read_tensors(folder / WEIGHTS, outline), folder)
    return model.eval().requires_grad_(False), about


def build(config: HRMConfig, state: dict[str, Tensor], origin: Path | str) -> HRM:
    """The network of a config that came from a file; memory is taken only once the weights have its shapes.

    Raises:
        ValueError: a weight is missing or has another shape; it is named, with `origin`.
    """
    load_weights(_outline(config), state, origin, outline=True)
    model = HRM.from_state(config)
    load_weights(model, state, origin)
    return model


def _outline(config: HRMConfig) -> HRM:
    """The network without memory for its weights."""
    with torch.device("meta"):
        return HRM(config)


def load_weights(model: HRM, state: dict[str, Tensor], origin: Path | str, outline: bool = False) -> None:
    """Load `state` into `model`, of an `outline` only compare shapes; a ValueError names what does not fit."""
    if model.config.shared:
        state = state | {f"h_level.{name[8:]}": tensor for name, tensor in state.items() if name.startswith("l_level.")}
    fits = fitting(state, model.state_dict(), origin)
    if not outline:
        model.load_state_dict(fits)


def with_fresh_q_head(state: dict[str, Tensor], model: HRM) -> dict[str, Tensor]:
    """The weights `state` with the Q-head of `model`, which may read other features."""
    kept = {name: tensor for name, tensor in state.items() if not name.startswith("q_")}
    return kept | {name: tensor for name, tensor in model.state_dict().items() if name.startswith("q_")}


def pack_optimizer(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, Tensor]:
    """The state of an optimiser as named tensors; `names` are the parameters in the optimiser's order."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{key}.{names[index]}": torch.as_tensor(value).contiguous()
        for index, values in state.items()
        for key, value in values.items()
    }


def unpack_optimizer(optimizer: torch.optim.Optimizer, names: list[str], tensors: dict[str, Tensor]) -> None:
    """The inverse of `pack_optimizer`, in place.

    Raises:
        ValueError: a tensor is missing or does not fit its parameter.
    """
    state: dict[int, dict[str, Any]] = {}
    shapes = [parameter.shape for group in optimizer.param_groups for parameter in group["params"]]
    for full, tensor in tensors.items():
        if full.startswith("optimizer."):
            _, key, name = f"{full}..".split(".", 2)
            name = name.removesuffix("..")
            if name not in names or (tensor.ndim and tensor.shape != shapes[names.index(name)]):
                raise ValueError(f"expected {full} to fit a parameter, got a tensor of shape {tuple(tensor.shape)}")
            value = int(tensor) if tensor.dtype == torch.int64 and tensor.ndim == 0 else tensor
            state.setdefault(names.index(name), {})[key] = value
    first = 0
    for group in optimizer.param_groups:  # parameters that got no gradient have no state
        kinds = {tuple(sorted(state[k])) for k in range(first, first + len(group["params"])) if k in state}
        if len(kinds) > 1:
            raise ValueError(f"expected the same state of the optimiser for all parameters, got {sorted(kinds)}")
        first += len(group["params"])
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


CURVE = "curve.jsonl"


def write_checkpoint(
    run: Path,
    update: int,
    weights: dict[str, Tensor],
    state: Mapping[str, Tensor],
    config: HRMConfig,
    about: dict[str, Any],
    keep: int,
) -> Path:
    """Write the checkpoint after `update` updates and drop all but the newest `keep`; returns its folder.

    Args:
        run: folder of the run.
        update: updates made.
        weights: the weights worth using.
        state: the complete state of training, under names of our own.
        config: of the network.
        about: what the JSON next to the weights says.
        keep: checkpoints to keep.
    """

    def fill(folder: Path) -> None:
        write_model(folder, weights, config, about)
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / checkpoint.STATE)

    path = checkpoint.checkpoint_path(run, update)
    checkpoint.write_folder(path, fill, ours=True)
    checkpoint.drop_old(run, keep, path)
    return path


def where_to_go_on(run: Path) -> str:
    """A clause for error messages: which checkpoint of a run is the last good one."""
    found = checkpoint.checkpoints(run)
    return f"the last good checkpoint is {found[-1]}" if found else f"{run} has no checkpoint yet"


def append_curve(run: Path, row: Mapping[str, float]) -> None:
    """Add one evaluation to the curve."""
    run.mkdir(parents=True, exist_ok=True)
    check_in_place(run / CURVE)
    with (run / CURVE).open("a") as file:
        file.write(json.dumps(dict(row)) + "\n")


def trim_curve(run: Path, update: int) -> None:
    """Drop evaluations that came after the checkpoint of `update` updates and will be made again."""
    path = run / CURVE
    if path.exists():
        rows = [row for row in read_curve(path, ("update",)) if row["update"] <= update]
        write_atomically(path, "".join(f"{json.dumps(row)}\n" for row in rows))


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def once(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without those that are another one under a second name (a module shared by both levels)."""
    names: dict[int, str] = {}
    for name, tensor in tensors.items():
        if tensor.numel():
            names.setdefault(tensor.data_ptr(), name)
    return {name: tensor for name, tensor in tensors.items() if not tensor.numel() or name in names.values()}
