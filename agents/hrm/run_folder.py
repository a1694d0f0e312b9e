"""The files of a run: everything from which training goes on exactly, and the curve of its evaluations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from hrm_gym.agents import checkpoint
from hrm_gym.agents.hrm.checkpoint import write_model
from hrm_gym.agents.hrm.config import HRMConfig

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
        about: what the JSON beside the weights says.
        keep: checkpoints to keep.
    """

    def fill(folder: Path) -> None:
        write_model(folder, weights, config, about)
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / checkpoint.STATE)

    path = checkpoint.checkpoint_path(run, update)
    checkpoint.write_folder(path, fill)
    checkpoint.drop_old(run, keep)
    return path


def where_to_go_on(run: Path) -> str:
    """A clause for error messages: which checkpoint of a run is the last good one."""
    found = checkpoint.checkpoints(run)
    return f"the last good checkpoint is {found[-1]}" if found else f"{run} has no checkpoint yet"


def append_curve(run: Path, row: Mapping[str, float]) -> None:
    """Add one evaluation to the curve."""
    run.mkdir(parents=True, exist_ok=True)
    with (run / CURVE).open("a") as file:
        file.write(json.dumps(dict(row)) + "\n")


def trim_curve(run: Path, update: int) -> None:
    """Drop evaluations that came after the checkpoint of `update` updates and will be made again."""
    path = run / CURVE
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
        rows = [line for line in lines if json.loads(line)["update"] <= update]
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(f"{line}\n" for line in rows))
        temporary.replace(path)


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
