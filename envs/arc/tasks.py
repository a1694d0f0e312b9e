"""ARC tasks as people write them down, `{"train": [{"input": …, "output": …}, …], "test": […]}`, and their boards."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hrm_gym.envs.arc.tokens import MAX_SIDE, Colours, place, read_grid
from hrm_gym.envs.puzzle import Puzzle

MAX_PAIRS = 10
"""Demonstrations of a task that are kept; no task of ARC-AGI-1 or -2 has more."""

Pair = tuple[Colours, Colours]


@dataclass(frozen=True, eq=False)
class Task:
    """One task.

    Attributes:
        name: as its data set calls it, e.g. `00576224`.
        train: 1..10 demonstrations, (input, output).
        test: (input, output) of every test grid whose output is known.
    """

    name: str
    train: tuple[Pair, ...]
    test: tuple[Pair, ...]

    def fits(self, canvas: int) -> bool:
        """Whether no grid of the task is longer or wider than `canvas`."""
        return all(max(grid.shape) <= canvas for pair in (*self.train, *self.test) for grid in pair)


def read_task(value: Any, name: str = "own task", outputs: Sequence[Any] | None = None) -> Task:
    """A task from a dictionary as the ARC files have it.

    Args:
        value: `{"train": [pair, …], "test": [pair, …]}`, a pair being `{"input": rows, "output": rows}` with rows of
            colours 0..9. Of more than ten demonstrations the first ten are kept. Test pairs without an output are left
            out.
        name: what to call the task.
        outputs: outputs of the test grids, for files that keep these apart.

    Returns:
        The checked task; `test` is empty if no output is known.

    Raises:
        ValueError: if a part is missing or a grid is bad; names the pair.
    """
    if not isinstance(value, Mapping) or not {"train", "test"} <= value.keys():
        got = sorted(map(str, value)) if isinstance(value, Mapping) else value
        raise ValueError(f"expected a task with the keys 'train' and 'test', got {reprlib.repr(got)}")
    shown, asked = (_pairs(value[part], part) for part in ("train", "test"))
    if outputs is not None:
        asked = _with_outputs(asked, outputs)
    known = [(index, pair) for index, pair in enumerate(asked) if pair.get("output") is not None]
    train = [_read_pair(pair, f"train pair {index}") for index, pair in enumerate(shown[:MAX_PAIRS])]
    test = [_read_pair(pair, f"test pair {index}") for index, pair in known]
    return Task(name, tuple(train), tuple(test))


def read_json_task(text: str, name: str = "own task") -> Task:
    """`read_task` of JSON text; ValueError says where it is not JSON."""
    return read_task(read_json(text), name)


def read_json(text: str) -> Any:
    """What JSON text says; ValueError with the place where it is not JSON."""
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"expected the JSON text of a task, got {text[:40]!r} ({error})") from None


def make_puzzle(task: Task, test: int = 0, canvas: int = MAX_SIDE, puzzle_id: int = 0, name: str = "") -> Puzzle:
    """The puzzle of one test grid.

    Args:
        task: the task.
        test: number of the test pair.
        canvas: side of the boards.
        puzzle_id: row of the puzzle embedding, 0 for a task that is in no data set.
        name: default `task:test`.

    Raises:
        ValueError: if there is no such test pair with an output, or a grid does not fit the canvas.
    """
    if not task.test:
        raise ValueError(f"expected a test pair with an output, got none in {task.name}")
    if not 0 <= test < len(task.test):
        raise ValueError(f"expected a test pair in 0..{len(task.test) - 1} with an output, got {test} of {task.name}")
    if not task.fits(canvas):
        side = max(max(grid.shape) for pair in (*task.train, *task.test) for grid in pair)
        raise ValueError(f"expected grids of at most {canvas}x{canvas} cells, got a side of {side} in {task.name}")
    demonstrations = np.zeros((MAX_PAIRS, 2, canvas, canvas), dtype=np.uint8)
    for row, pair in enumerate(task.train):
        demonstrations[row] = [place(grid, canvas) for grid in pair]
    clues, solution = (place(grid, canvas) for grid in task.test[test])
    name = name or f"{task.name}:{test}"
    return Puzzle(clues, solution, puzzle_id, name, demonstrations=demonstrations, pairs=len(task.train))


def _pairs(value: Any, part: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise ValueError(f"expected a list of at least one {part} pair, got {reprlib.repr(value)}")
    for index, pair in enumerate(value):
        if not isinstance(pair, Mapping) or "input" not in pair:
            raise ValueError(f"expected a pair with an 'input', got {reprlib.repr(pair)} as {part} pair {index}")
    return list(value)


def _with_outputs(pairs: list[Mapping[str, Any]], outputs: Sequence[Any]) -> list[Mapping[str, Any]]:
    if not isinstance(outputs, Sequence) or len(outputs) != len(pairs):
        count = len(outputs) if isinstance(outputs, Sequence) else type(outputs).__name__
        raise ValueError(f"expected {len(pairs)} solutions, one a test pair, got {count}")
    return [{**pair, "output": output} for pair, output in zip(pairs, outputs, strict=True)]


def _read_pair(pair: Mapping[str, Any], where: str) -> Pair:
    grids = []
    for part in ("input", "output"):
        if pair.get(part) is None:
            raise ValueError(f"expected an {part}, got none in {where}")
        try:
            grids.append(read_grid(pair[part]))
        except ValueError as error:
            raise ValueError(f"{error} in the {part} of {where}") from None
    return grids[0], grids[1]
