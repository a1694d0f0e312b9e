"""Folders of weights and of training state: safetensors plus JSON, written to a temporary name and renamed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hrm_gym.files import replace_folder

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
    _open_to_readers(temporary)
    replace_folder(temporary, path)


def _open_to_readers(folder: Path) -> None:
    """Give all files the permissions of a new file; safetensors writes its own for their owner alone."""
    sample = folder / ".sample"
    sample.touch()
    mode = sample.stat().st_mode
    sample.unlink()
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)


def write_config(folder: Path, about: dict[str, Any]) -> None:
    """Write the JSON beside the weights into an existing folder."""
    content = {"format_version": FORMAT_VERSION, **about}
    (folder / CONFIG).write_text(json.dumps(content, indent=1) + "\n")


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


def newest(run: Path, recipe: dict[str, Any]) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint of a run and the JSON in it; None if the run has not got that far.

    Args:
        run: folder of the run.
        recipe: the recipe that is to be continued, as plain JSON values.

    Raises:
        ValueError: the folder holds a run of another recipe, or a damaged checkpoint.
    """
    found = checkpoints(run)
    if not found:
        return None
    about = read_config(found[-1])
    if about["recipe"] != json.loads(json.dumps(recipe)):
        raise ValueError(f"{run} holds a run of another recipe; give a new folder or the same settings")
    return found[-1], about


def fitting(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], origin: Path | str) -> dict[str, Tensor]:
    """The tensors of `state` that `expected` names.

    Raises:
        ValueError: one is missing or has another shape; it is named, with `origin`.
    """
    if missing := sorted(set(expected) - set(state)):
        raise ValueError(f"{origin}: weights lack {missing[0]} ({len(missing)} missing in all)")
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape:
            raise ValueError(f"{origin}: {name} expected shape {tuple(tensor.shape)}, got {tuple(state[name].shape)}")
    return {name: state[name] for name in expected}
