"""`hrm-gym evaluate`: weights on a file of puzzles, counted as the official evaluation counts."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from hrm_gym.agents.devices import peak_memory, reset_peak_memory
from hrm_gym.agents.hrm import HRMAgent
from hrm_gym.agents.hrm.halting import Never
from hrm_gym.agents.hrm.hub import load_pretrained
from hrm_gym.agents.hrm.thinking import Rules, own_and_fixed, think
from hrm_gym.agents.pretrained import FOLDER
from hrm_gym.envs.files import NpyPuzzles, PuzzleFile, open_puzzles
from hrm_gym.evaluation.intervals import wilson
from hrm_gym.files import check_writable
from hrm_gym.registry import make_family
from hrm_gym.scripts.options import BatchOptions, Json, RunOptions, arg, at_least, parse
from hrm_gym.scripts.output import machine, new_table, passing_bar, say, share, write_json


@dataclass(frozen=True, kw_only=True)
class Evaluate(RunOptions, BatchOptions):
    """An HRM's weights on a file of puzzles, as the official evaluation counts: the answer after a fixed number of
    segments, every cell, given ones too, and whole boards; below it the same for the network's own decision (its
    Q-head), from the same segments.

    Attributes:
        weights: A folder of ours or in the official layout (all_config.yaml, step_N), a bundled one's name, or
            owner/name on the Hugging Face hub.
        data: A CSV file, a folder in the official layout, or owner/name on the hub.
        split: Which part of a folder or a data set on the hub.
        fixed: Segments of every board.
        max_segments: Segments within which the own decision has to halt.
        max_puzzles: Take the first N puzzles only.
        json: Write the figures to this file.
    """

    EXAMPLES = (
        ("hrm-gym evaluate sapientinc/HRM-checkpoint-sudoku-extreme --data test.csv", "official weights"),
        ("hrm-gym evaluate hrm-sudoku-9x9 --data test.csv --max-puzzles 100", "bundled ones"),
    )
    weights: Annotated[tyro.conf.Positional[str], arg("WEIGHTS")]
    data: Annotated[str, arg("FILE")]
    split: Annotated[str, arg("NAME", "test")] = "test"
    fixed: Annotated[int, arg("N", "16")] = 16
    max_segments: Annotated[int | None, arg("M", "those of --fixed")] = None
    max_puzzles: Annotated[int | None, arg("N", "all")] = None
    json: Json = None

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, self, "fixed", "max_puzzles")
        at_least(self.fixed, self, "max_segments")
        if self.json is not None:
            check_writable(self.json)


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym evaluate`; returns 0."""
    config = parse(Evaluate, "hrm-gym evaluate", argv)
    config.use_threads()
    agent, puzzles = load(config)
    result = figures(config, agent, puzzles)
    from rich.console import Console

    Console(width=79).print(_table(result))
    gone = f"{result['seconds_per_1000']:.3g} s per 1,000 boards on {agent.device}"
    held = ""
    if result["peak_bytes"] is not None:
        each = result["peak_bytes"] / result["batch"] * 1000
        held = f"; peak memory {result['peak_bytes'] / 2**20:,.0f} MiB with {result['batch']} boards at a time, "
        held += f"{each / 2**20:,.0f} MiB per 1,000"
    say(gone + held)
    if config.json is not None:
        about = {"command": shlex.join(["hrm-gym", "evaluate", *argv]), "date": date.today().isoformat()}
        write_json({**about, **result, "machine": machine()}, config.json)
        say(f"figures: {config.json}")
    return 0


def load(config: Evaluate) -> tuple[HRMAgent, PuzzleFile | NpyPuzzles]:
    """The network, as an agent, and the puzzles.

    Raises:
        ValueError: they are damaged, or do not fit each other.
        OSError: there is nothing of that name here, and nothing came from the hub.
    """
    bundled = FOLDER / config.weights
    found = load_pretrained(bundled if bundled.is_dir() else config.weights)
    family = make_family(str(found.about.get("family")), found.model.config.grid)
    puzzles = open_puzzles(config.data, family, config.split)
    grid, wanted = found.model.config.grid, puzzles.shape
    if grid != wanted and not found.model.config.any_grid:
        raise ValueError(
            f"expected puzzles of {'x'.join(map(str, grid))} cells, which {config.weights} are for, got "
            f"{'x'.join(map(str, wanted))} in {config.data}"
        )
    found = found._replace(model=found.model.on_grid(wanted))
    return HRMAgent.of(found, family, device=config.device, compile=config.compile), puzzles


def figures(config: Evaluate, agent: HRMAgent, puzzles: PuzzleFile | NpyPuzzles) -> dict[str, Any]:
    """Both rows, with time and memory."""
    count = min(len(puzzles), config.max_puzzles or len(puzzles))
    batch = min(config.batch, count)
    counts = []
    before = reset_peak_memory(agent.device)
    boards = agent.boards_of([puzzles[0]] * batch)
    next(think(agent.model, boards, Rules(Never(), 1)))  # compiles and allocates, which is not to be timed
    seconds = 0.0
    with passing_bar(count, " puzzles", config.weights) as bar:
        for first in range(0, count, batch):
            rows = range(first, min(first + batch, count))
            begin = time.perf_counter()
            counts.append(_counts(agent, puzzles, rows, config))
            seconds += time.perf_counter() - begin
            bar.update(len(rows))
    exact, cells, own_exact, own_cells, segments = np.concatenate(counts).T
    return {
        "weights": config.weights,
        "data": config.data,
        "puzzles": count,
        "parameters": agent.model.parameter_count(),
        "dtype": agent.model.config.dtype,
        "rows": [
            _row(f"fixed {config.fixed}", exact, cells, np.full(count, config.fixed)),
            _row("own decision (Q)", own_exact, own_cells, segments),
        ],
        "seconds_per_1000": 1000 * seconds / count,
        "batch": batch,
        "peak_bytes": None if before is None else peak_memory(agent.device) - before,
    }


def _counts(
    agent: HRMAgent, puzzles: PuzzleFile | NpyPuzzles, rows: Sequence[int], config: Evaluate
) -> NDArray[np.float64]:
    """(K, 5) of some puzzles: exact (0 or 1) and share of cells right after the fixed segments, the same by the own
    decision, and its segments. Cells whose label is padding do not count, as in the official code."""
    batch = puzzles.batch(np.array(rows, dtype=np.uint64))
    boards = agent.boards(batch.clues, batch.puzzle_ids[:, None])
    if (agent.about or {}).get("official") and isinstance(puzzles, NpyPuzzles):
        # The identifiers of an official data set are rows of the embedding.
        ids = np.where(batch.puzzle_ids < agent.model.config.puzzle_count, batch.puzzle_ids, 0)
        boards = boards._replace(puzzle_ids=torch.from_numpy(ids).to(agent.device))
    found = own_and_fixed(agent.model, boards, config.max_segments or config.fixed, config.fixed)
    labels = batch.solutions.reshape(len(batch), -1)
    counted = labels != 0
    columns: list[NDArray[Any]] = []
    for answers in (found.fixed, found.own):
        right = ((answers.cpu().numpy() == labels) & counted).sum(axis=1)
        columns += [right == counted.sum(axis=1), right / np.maximum(counted.sum(axis=1), 1)]
    return np.stack([*columns, found.segments.cpu().numpy()], axis=1).astype(np.float64)


def _row(decision: str, exact: NDArray[Any], cells: NDArray[Any], segments: NDArray[Any]) -> dict[str, Any]:
    right = int(exact.sum())
    return {
        "decision": decision,
        "exact": right / len(exact),
        "exact_interval": wilson(right, len(exact)),
        "cells": math.fsum(cells) / len(cells),
        "segments": float(segments.mean()),
    }


def _table(result: dict[str, Any]) -> Any:
    title = f"{result['weights']} on {result['puzzles']:,} puzzles of {result['data']}"
    table = new_table(title, "halts by", "exact", "cells", "mean segments")
    for row in result["rows"]:
        exact = share(row["exact"], *row["exact_interval"])
        table.add_row(row["decision"], exact, f"{row['cells']:.2%}", f"{row['segments']:.2f}")
    return table
