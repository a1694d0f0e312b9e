"""Folders of weights and of training state: safetensors plus JSON, written to a temporary name and renamed."""

from __future__ import annotations

import json
import logging
import os
import re
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor

from hrm_gym.agents.devices import free_memory
from hrm_gym.files import check_ours, file_sha256, remove, replace_folder, sweep
from hrm_gym.reading import MOST_CONFIG, read_json, read_text

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
WEIGHTS, CONFIG, STATE = "model.safetensors", "config.json", "training_state.safetensors"
SUMS = "SHA256SUMS"
PREFIX = "update_"
LENGTHS = ("updates", "timesteps")
"""Settings of a recipe that may be raised when a run is continued."""


def write_folder(path: Path, fill: Callable[[Path], None], ours: bool = False) -> None:
    """Make the folder `path` by filling a temporary one and renaming it, so that no reader ever sees half of it.

    Raises:
        OSError: it cannot be written, or would replace what this program has not written; `ours` as `replace_folder`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    remove(temporary)
    temporary.mkdir()
    fill(temporary)
    write_sums(temporary)
    _open_to_readers(temporary)
    replace_folder(temporary, path, ours)


def _open_to_readers(folder: Path) -> None:
    """Give all files the permissions of a new file; safetensors writes its own for their owner alone."""
    sample = folder / ".sample"
    sample.touch()
    mode = sample.stat().st_mode
    sample.unlink()
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)


def write_sums(folder: Path) -> None:
    """List the SHA-256 of a folder's tensors and arrays, in the format of `sha256sum`; texts may be edited by hand."""
    files = (path for path in sorted(folder.iterdir()) if path.suffix in (".safetensors", ".npz"))
    lines = [f"{file_sha256(path)}  {path.name}" for path in files]
    (folder / SUMS).write_text("\n".join(lines) + "\n", encoding="utf-8")


MOST_SUMMED = 2**35
"""Bytes of the files of a folder whose sums are compared; that takes half a minute."""


def verify(folder: Path) -> int:
    """Compare the files of a folder with the sums that were written with them.

    Returns:
        How many files were compared; 0 where there are no sums.

    Raises:
        ValueError: a file is missing or differs; it is named.
    """
    sums = folder / SUMS
    if not sums.is_file():
        return 0
    lines, seen, size = read_text(sums, 2**20).splitlines(), set[Any](), 0
    for line in lines:
        wanted, _, name = line.partition("  ")
        path = folder / Path(name).name  # a name from a file never leaves the folder
        if not path.is_file():
            raise ValueError(f"{path} is missing, but listed in {sums}")
        about = path.stat()
        size += about.st_size
        file = (about.st_dev, about.st_ino) if about.st_ino else path.name  # a link leads to the same one
        if file in seen:  # thousands of lines for one large file would take hours
            raise ValueError(f"{sums}: expected every file once, got {path.name[:100]} twice")
        if size > MOST_SUMMED:  # a sparse file of terabytes takes no room on its author's disk
            raise ValueError(f"{sums}: expected files of {MOST_SUMMED:,} bytes at most, got {path.name[:100]} too")
        seen.add(file)
        if file_sha256(path) != wanted:
            raise ValueError(f"{path} is damaged or cut short: its SHA-256 is not the one in {sums}")
    return len(lines)


KINDS_OF_FIELDS: dict[str, type | tuple[type, ...]] = {
    "kind": str,
    "family": str,
    "action_mode": str,
    "symbols": str,
    "model": dict,
    "recipe": dict,
    "arithmetic": dict,
    "before": list,
    "update": int,
    "updates": int,
    "timesteps": int,
    "fed": int,
    "seconds": (int, float),
    "processor_seconds": (int, float),
    "halting": str,
    "restart": int,
    "check": bool,
    "official": bool,
}
"""What the JSON of weights may say, as far as it is read; all but `model` may be missing."""

_NAMES = {str: "a text", dict: "an object", list: "a list", int: "a whole number", bool: "true or false"}


def write_config(folder: Path, about: dict[str, Any]) -> None:
    """Write the JSON of the weights into an existing folder."""
    content = {"format_version": FORMAT_VERSION, **about}
    (folder / CONFIG).write_text(json.dumps(content, indent=1) + "\n")


def read_config(folder: Path) -> dict[str, Any]:
    """The JSON of the weights.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no JSON, or of another format version.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no checkpoint folder: it has no {CONFIG}")
    content = read_json(path, MOST_CONFIG)
    if not isinstance(content, dict) or content.get("format_version") != FORMAT_VERSION or "model" not in content:
        found = content.get("format_version") if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path}: expected a checkpoint of format_version {FORMAT_VERSION}, got {found!r}")
    for name, kind in KINDS_OF_FIELDS.items():
        if name in content and not isinstance(content[name], kind):
            wanted = "a number" if isinstance(kind, tuple) else _NAMES[kind]
            raise ValueError(f"{path}: expected {name} to be {wanted}, got {reprlib.repr(content[name])}")
    return content


SLACK = 2**24
"""Bytes by which a file of weights may be longer than its numbers; names and metadata take some thousands."""


def check_size(path: Path, needed: Mapping[str, Tensor] | None = None, times: int = 1) -> None:
    """Refuse a file of tensors that is far larger than what is needed of it, or than the memory that is free.

    A sparse file of terabytes takes no room on its author's disk.

    Args:
        path: the file.
        needed: the tensors that are to be found in it; a number takes eight bytes at most.
        times: how often; an optimiser keeps some numbers for each.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is too large.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    size, free = path.stat().st_size, free_memory(torch.device("cpu"))
    if needed is not None and size > (most := 8 * times * sum(map(Tensor.numel, needed.values())) + SLACK):
        raise ValueError(f"{path}: expected at most {most:,} bytes for what is needed of it, got {size:,}")
    if free is not None and size > free:
        raise ValueError(f"{path}: expected at most the {free:,} bytes of memory that are free, got {size:,}")


def read_tensors(path: Path, needed: Mapping[str, Tensor] | None = None, times: int = 1) -> dict[str, Tensor]:
    """All tensors of a safetensors file, in memory: mapped ones end the process if the file is cut short later.

    Args:
        path: the file.
        needed: as for `check_size`.
        times: as for `check_size`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or cut short, or too large.
    """
    check_size(path, needed, times)
    try:
        with torch.device("cpu"):
            return load(path.read_bytes())
    except MemoryError:
        size = path.stat().st_size
        raise ValueError(f"{path}: expected no more bytes than this process may take, got {size:,}") from None
    except Exception as error:  # safetensors' own, and an AssertionError at tensors without numbers
        raise ValueError(f"{path} is damaged or cut short: {error}") from None


def checkpoints(run: Path) -> list[Path]:
    """The finished checkpoint folders of a run, oldest first."""
    found = (path for path in run.glob(f"{PREFIX}*") if re.fullmatch(r"[0-9]{8,}", path.name.removeprefix(PREFIX)))
    return sorted((path for path in found if path.is_dir()), key=lambda path: int(path.name.removeprefix(PREFIX)))


def checkpoint_path(run: Path, update: int) -> Path:
    """Where the checkpoint after `update` updates lies."""
    return run / f"{PREFIX}{update:08d}"


def model_path(run: Path) -> Path:
    """Where the finished weights of a run lie.

    Raises:
        FileExistsError: something is there that this program has not written, and that would be lost with them.
    """
    path = run / "model"
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path}: expected a new folder or one that hrm-gym wrote, got something else")
    if path.is_dir():
        check_ours(path)
    return path


def arithmetic(device: torch.device | str, code: str = "PyTorch", processes: int = 1) -> dict[str, Any]:
    """What the bits of a training depend on besides its recipe, as plain values; `code` runs the network's levels."""
    return {
        "torch": torch.__version__,
        "device": torch.device(device).type,
        "processor": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "processes": processes,
        "code": code,
    }


def warn_of_other_bits(before: Any, now: Mapping[str, Any]) -> None:
    """Log one warning if a run is continued under another `arithmetic` than that of its checkpoint."""
    known = before if isinstance(before, dict) else {}
    differs = [name for name in now if name in known and known[name] != now[name]]
    if differs:
        shown = ", ".join(f"{name} {reprlib.repr(known[name])} before, {now[name]!r} now" for name in differs)
        logger.warning("bits will differ from those of a run without a break: %s", shown)


def counter(about: Mapping[str, Any], name: str, path: Path) -> Any:
    """A number that training continues from.

    Raises:
        ValueError: there is none, or it is negative or no number.
    """
    found = about.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found < 2**53:
        raise ValueError(f"{path / CONFIG}: expected {name} as a number of at least 0, got {reprlib.repr(found)}")
    return found


def check_state(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> None:
    """Refuse the state of a training that is not such as this training writes.

    Raises:
        ValueError: a tensor is missing, or has another shape or dtype; it is named.
    """
    for name, tensor in wanted.items():
        if name not in found:
            raise ValueError(f"{path / STATE}: expected the tensor {name!r}, found none")
        own = found[name]
        if own.shape != tensor.shape or own.dtype != tensor.dtype:
            kinds = [f"{one.dtype} of shape {tuple(one.shape)}" for one in (tensor, own)]
            raise ValueError(f"{path / STATE}: expected {name} as {kinds[0]}, got {kinds[1]}")


def drop_old(run: Path, keep: int, written: Path) -> None:
    """Remove all checkpoints but the newest `keep`, and what killed processes left half-written.

    Those past `written`, the newest that is whole, do not count: they are damaged, and stay until training gets there.
    """
    found = checkpoints(run)
    for path in found[: found.index(written) + 1][:-keep]:
        remove(path)
    sweep(run)


def newest(
    run: Path, recipe: dict[str, Any], defaults: dict[str, Any] | None = None
) -> tuple[Path, dict[str, Any]] | None:
    """The newest undamaged checkpoint of a run and the JSON in it; None if the run has not got that far.

    Args:
        run: folder of the run.
        recipe: the recipe that is to be continued, as plain JSON values; its length may differ from before.
        defaults: of settings that a recipe written by an earlier version may lack.

    Raises:
        ValueError: the folder holds a run of another recipe, or no checkpoint that is whole.
    """
    problem: Exception | None = None
    for path in reversed(checkpoints(run)):
        try:
            verify(path)
            about = read_config(path)
        except (ValueError, OSError) as error:
            problem = problem or error
            logger.warning("%s; going back to the checkpoint before it", error)
            continue
        wanted = json.loads(json.dumps(recipe))
        known, asked = (_settings(_filled(one, defaults or {})) for one in (about.get("recipe"), wanted))
        if known != asked:
            differs = _difference(known, asked)
            raise ValueError(f"{run} holds a run of another recipe ({differs}); give a new folder or the same settings")
        return path, about
    if problem is not None:
        raise ValueError(f"{run} holds no checkpoint that is whole: {problem}")
    return None


def _difference(known: Any, asked: dict[str, Any]) -> str:
    """Which settings two recipes disagree in, with both values of the first three."""
    if not isinstance(known, dict):
        return "none is recorded"
    flat = []
    for recipe in (known, asked):
        inside = {f"{name}.{key}": v for name, own in recipe.items() if isinstance(own, dict) for key, v in own.items()}
        flat.append({name: value for name, value in recipe.items() if not isinstance(value, dict)} | inside)
    there, here = flat
    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    shown = [f"{name} {there.get(name)!r} there, {here.get(name)!r} here" for name in names[:3]]
    return ", ".join([*shown, *([f"and {len(names) - 3} more"] if len(names) > 3 else [])])


def _filled(recipe: Any, defaults: dict[str, Any]) -> Any:
    """A recipe with the defaults of what it does not name, one level down too."""
    if not isinstance(recipe, dict):
        return recipe
    plain = json.loads(json.dumps(defaults))
    inside = {name: {**plain[name], **own} for name, own in recipe.items() if isinstance(plain.get(name), dict)}
    return {**plain, **recipe, **inside}


def _settings(recipe: Any) -> Any:
    """A recipe without its length: a finished run may be given more updates."""
    return {k: v for k, v in recipe.items() if k not in LENGTHS} if isinstance(recipe, dict) else recipe


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
