"""Sudokus in which one right guess opens little: what a network makes of them, and more of them.

    python -m hrm_gym.scripts.experiments.backdoors measure --data rated.csv --json FILE.json
    python -m hrm_gym.scripts.experiments.backdoors build --out runs/few-backdoors.csv

Training on 3,000 of them brought nothing (docs/experiments.md).
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro

from hrm_gym.agents.hrm.hub import load_pretrained
from hrm_gym.data.stream import PuzzleStream
from hrm_gym.envs.sudoku.backdoors import effects
from hrm_gym.envs.sudoku.extreme import ExtremeSudoku
from hrm_gym.envs.sudoku.solver import rate
from hrm_gym.evaluation.intervals import rate as interval
from hrm_gym.files import written_atomically
from hrm_gym.scripts.experiments.own_decision import BUNDLED, OwnDecisionConfig, agent_for, kinds, trace
from hrm_gym.scripts.main import run
from hrm_gym.scripts.options import parse
from hrm_gym.scripts.output import machine, progress_bar, write_json

CLASSES = {"0 to 4": (0, 5), "5 to 14": (5, 15), "15 to 34": (15, 35), "35 and more": (35, 10**9)}
"""Guesses."""

AT_ONCE = 64
"""Puzzles that are made at a time."""


@dataclass(frozen=True)
class Measure:
    """How many puzzles are right after some segment, by kind and guesses, next to what one right guess opens in them.

    Attributes:
        weights: Folder of weights; the bundled ones for 9x9 Sudoku by default.
        part: Validation or test puzzles, as of own_decision.
        puzzles: Of each kind.
        data: Rows of this CSV file too, each source by itself.
        max_segments: Segments of a puzzle.
        json: Write the figures to this file.
        threads: CPU threads.
    """

    weights: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = BUNDLED
    part: Literal["validation", "test"] = "validation"
    puzzles: int = 400
    data: Annotated[Path | None, tyro.conf.arg(metavar="FILE.csv")] = None
    max_segments: int = 64
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE.json")] = None
    threads: int = 1


@dataclass(frozen=True)
class Build:
    """Write extreme puzzles of the train split in which one right guess opens little: one of nine that the generator
    makes, so that 3,000 take a quarter of an hour of a core.

    Attributes:
        out: The CSV file: source,question,answer,rating.
        puzzles: How many.
        most: Effect of a right guess at most.
        seed: Of the stream that they are taken from.
    """

    out: Path
    puzzles: int = 3000
    most: float = 0.2
    seed: int = 9


def measure(config: Measure) -> list[dict[str, Any]]:
    """A row for each kind and class of guesses."""
    torch.set_num_threads(config.threads)
    found = load_pretrained(config.weights)
    asked = OwnDecisionConfig(part=config.part, puzzles=config.puzzles, data=config.data)
    rows: list[dict[str, Any]] = []
    for name, batch in kinds(asked, found.about["family"], found.model.config):
        run = trace(agent_for(found, batch, 0), batch, config.max_segments)
        right = np.asarray(run.right.any(1))
        guesses, opened = np.array([rate(grid) for grid in batch.clues]), effects(batch.clues, batch.solutions)
        for label, (low, high) in CLASSES.items():
            chosen = (guesses >= low) & (guesses < high)
            if not chosen.any():
                continue
            clusters = [run.clusters[row] for row in np.flatnonzero(chosen)] if run.clusters else None
            row = {
                "kind": name,
                "guesses": label,
                "puzzles": int(chosen.sum()),
                "effect": float(np.median(opened[chosen, 0])),
                "no_backdoor": float((opened[chosen, 1] == 0).mean()),
                "right": float(right[chosen].mean()),
                "right_interval": interval(right[chosen], clusters),
            }
            rows.append(row)
            print(
                f"{name}, {label} guesses: {row['puzzles']} puzzles, a right guess removes {row['effect']:.0%}, "
                f"{row['no_backdoor']:.0%} without a backdoor, right {row['right']:.1%}",
                flush=True,
            )
    return rows


def build(config: Build) -> int:
    """Write the file; returns how many puzzles were looked at."""
    source, looked_at = ExtremeSudoku("train"), 0
    stream = PuzzleStream(source, config.seed)
    kept: list[tuple[str, str, str, int]] = []
    with progress_bar(config.puzzles, "puzzles") as bar, written_atomically(config.out) as draft:
        while len(kept) < config.puzzles:
            batch = stream.take(looked_at, AT_ONCE)
            looked_at += AT_ONCE
            for row in np.flatnonzero(effects(batch.clues, batch.solutions)[:, 0] <= config.most):
                clues = batch.clues[row]
                kept.append(("few_backdoors", _text(clues), _text(batch.solutions[row]), rate(clues)))
            bar.update(min(len(kept), config.puzzles) - bar.n)
        with draft.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["source", "question", "answer", "rating"])
            rows.writerows(kept[: config.puzzles])
    return looked_at


def _text(grid: Any) -> str:
    """81 characters."""
    return "".join("." if token < 2 else str(token - 1) for token in grid.ravel())


def main(argv: Sequence[str]) -> int:
    """Run one of the two commands."""
    what, rest = (argv[0], argv[1:]) if argv else ("", argv)
    if what == "build":
        print(f"{build(parse(Build, 'backdoors build', rest)):,} puzzles looked at")
        return 0
    if what != "measure":
        raise ValueError(f"expected build or measure, got {what!r}")
    config = parse(Measure, "backdoors measure", rest)
    rows = measure(config)
    if config.json is not None:
        write_json(
            {"machine": machine(), "part": config.part, "segments": config.max_segments, "rows": rows}, config.json
        )
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
