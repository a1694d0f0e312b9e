"""Finding the files of an official HRM or TRM run, and the puzzles that it was trained on."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.official.config import data_family, data_folders
from hrm_gym.agents.hrm.task_rows import IDENTIFIERS
from hrm_gym.reading import MOST_CONFIG, read_json

CONFIGS = ("all_config.yaml", "all_config.yml", "all_config.json", "config.yaml", "config.json")
"""Files that can hold the settings of an official run, the likeliest first."""

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
_STEP = re.compile(r"step_(\d+)")

_FAMILIES = {(11, 81): "sudoku", (6, 900): "maze", (12, 900): "arc"}
"""The official data sets by vocabulary and cells."""


def is_official(folder: Path) -> bool:
    """Whether `folder` holds anything but weights in our own format, whose config.json has no fields of theirs."""
    path = folder / "config.json"
    if not path.is_file():
        return True
    try:
        content = read_json(path, MOST_CONFIG)
    except ValueError:
        return False
    return isinstance(content, dict) and bool({"arch", "hidden_size"} & content.keys())


def find_run(path: Path) -> tuple[Path, Path]:
    """The checkpoint and the settings of an official run.

    Args:
        path: a folder with one checkpoint file next to its settings, perhaps in a sub-folder; of several `step_N` the
            last is taken. Or a checkpoint file next to its settings.

    Raises:
        FileNotFoundError: one of both is missing.
        ValueError: there are several, and nothing tells which is meant.
    """
    root = path if path.is_dir() else path.parent
    found = [file for name in reversed(CONFIGS) for file in sorted(root.rglob(name)) if file.is_file()]
    configs = {file.parent: file for file in found}
    checkpoints = [path] if path.is_file() else [file for file in sorted(root.rglob("*")) if _may_be_weights(file)]
    nearby = {folder: [file for file in checkpoints if file.parent == folder] for folder in configs}
    runs = sorted((folder for folder in nearby if nearby[folder]), key=lambda folder: len(folder.parts))
    if not runs and len(configs) == 1 and checkpoints:
        return _last(checkpoints), next(iter(configs.values()))
    if not runs:
        raise FileNotFoundError(
            f"{path} holds no weights: expected {' or '.join(CONFIGS[::4])} and next to it one checkpoint file "
            f"(step_N, *{', *'.join(SUFFIXES)}), got {_names(root)}"
        )
    if len(runs) > 1 and len(runs[0].parts) == len(runs[1].parts):
        raise ValueError(f"{path} holds several runs: {_list(runs)}; name one of them")
    return _last(nearby[runs[0]]), configs[runs[0]]


def official_family(settings: Mapping[str, Any], config: HRMConfig) -> str:
    """The family of puzzles of an official run: what its data folder is called, else its vocabulary and its cells.

    Raises:
        ValueError: they tell of no family.
    """
    family = data_family(settings) or _FAMILIES.get((config.vocab_size, config.cells))
    if family is None:
        known = ", ".join(f"{name} {vocabulary} and {cells}" for (vocabulary, cells), name in _FAMILIES.items())
        raise ValueError(
            f"an official network of vocabulary {config.vocab_size} and {config.cells} cells is for no puzzles known "
            f"here (expected {known}, or a data_path that names them); load_official gives the bare network"
        )
    return family


def find_identifiers(folder: Path, settings: Mapping[str, Any]) -> Path | None:
    """The names of the rows of a run's puzzle embedding: next to its settings, or with the data that they name."""
    places = (folder, *data_folders(settings))
    return next((place / IDENTIFIERS for place in places if (place / IDENTIFIERS).is_file()), None)


def _may_be_weights(file: Path) -> bool:
    """By the name; a file without suffix also by what `torch.save` writes, a zip archive."""
    if not file.is_file() or file.name.startswith("."):
        return False
    named = file.suffix in SUFFIXES or _STEP.fullmatch(file.name) is not None
    return named or (not file.suffix and zipfile.is_zipfile(file))


def _last(files: list[Path]) -> Path:
    """The only file, or of `step_N` files the one with the largest N."""
    steps = [_STEP.fullmatch(file.stem) for file in files]
    if len(files) > 1 and not all(steps):
        raise ValueError(f"several files could be the weights: {_list(files)}; name one of them")
    return max(zip(files, steps, strict=True), key=lambda pair: int(pair[1][1]) if pair[1] else 0)[0]


def _list(paths: Iterable[Path]) -> str:
    return ", ".join(map(str, paths))


def _names(folder: Path, most: int = 5) -> str:
    """The first few names in a folder."""
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(names[:most]) + (" …" if len(names) > most else "") or "an empty folder"
