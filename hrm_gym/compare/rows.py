"""From chunks to figures: one row an agent and world, with 95 % intervals, and where every figure comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.compare.entrants import Entrant, Label
from hrm_gym.compare.plan import World
from hrm_gym.compare.run import Comparison, Part
from hrm_gym.compare.training import Curve, Training, parameter_count, read_curve, read_training
from hrm_gym.intervals import bootstrap_mean, bootstrap_runs, wilson

DEFINITIONS = {
    "solved": "share of puzzles right by the rules: in mazes any shortest path, in move mode a shortest walk",
    "exact": "share equal to the stored solution; of several shortest paths only one is stored",
    "cells right": "mean share of right cells among those that were not given",
    "reached": "share of answers or walks that connect start and goal, by whatever way",
    "return": "mean undiscounted sum of rewards, with the environment's default reward",
    "actions": "mean number of actions: segments in answer mode, moves or writings in the other modes",
    "ms / puzzle": "mean wall time of agent and environment on a puzzle, boards in batches, after a warm-up",
    "parameters": "trained parameters",
    "training steps": "environment steps of training; of an HRM, segments on one puzzle each",
    "seen": "puzzles with their stored solutions, or transitions without them",
    "training time": "wall time, evaluations included, on the machine that the weights' card names",
}
"""What every column means."""


@dataclass(frozen=True)
class Figure:
    """A mean or a rate with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Run:
    """One set of weights: where it lies, how it came about, and how it did.

    Attributes:
        weights: folder, as it was found; None for agents without any.
        fingerprint: SHA-256 of the weights or of foreign code; "" for our own agents without weights.
        training: what it cost.
        curve: its evaluations, where they were kept.
        solved: share solved.
    """

    weights: str | None
    fingerprint: str
    training: Training
    curve: Curve | None
    solved: float


@dataclass(frozen=True)
class Row:
    """An agent in a world.

    Attributes:
        world: label of the world.
        agent: label of the agent.
        absent: why it does not play there; then the rest means nothing.
        mode: its action mode.
        puzzles: played by each run.
        solved: see `DEFINITIONS`, as all that follow; Wilson's interval, or with several runs the two-stage bootstrap.
        exact: likewise.
        reached: None where it means nothing.
        cell_accuracy: bootstrap interval, as those that follow.
        total_return: of an episode.
        actions: of an episode.
        milliseconds: a puzzle.
        parameters: trained parameters.
        runs: one for every set of weights.
        machines: on which it was played.
        loads: load averages of these machines, one for every chunk where the system told.
        puzzles_sha256: of the puzzles' clues; the same for all agents of a world.
    """

    world: str
    agent: str
    absent: str = ""
    mode: str = ""
    puzzles: int = 0
    solved: Figure | None = None
    exact: Figure | None = None
    reached: float | None = None
    cell_accuracy: Figure | None = None
    total_return: Figure | None = None
    actions: Figure | None = None
    milliseconds: Figure | None = None
    parameters: int | None = None
    runs: tuple[Run, ...] = ()
    machines: tuple[str, ...] = ()
    loads: tuple[float, ...] = ()
    puzzles_sha256: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self)


def make_rows(comparison: Comparison) -> list[Row]:
    """The rows of a comparison whose chunks are all on disk, world by world."""
    parts = comparison.parts()
    return [_row(comparison, world, label, parts) for world in comparison.worlds for label in comparison.labels]


def _row(comparison: Comparison, world: World, label: Label, parts: Sequence[Part]) -> Row:
    entrants = comparison.entrants(world, label)
    if isinstance(entrants, str):
        return Row(world.label, label.text, absent=entrants)
    read = [_gathered([part for part in parts if part.entrant is entrant]) for entrant in entrants]
    tables = [table for table, _ in read]
    machines = sorted({content["machine"] for _, contents in read for content in contents})
    reached = np.concatenate([table["reached"] for table in tables])
    return Row(
        world=world.label,
        agent=label.text,
        mode=entrants[0].agent.action_mode,
        puzzles=len(tables[0]["solved"]),
        solved=_rate([table["solved"] for table in tables]),
        exact=_rate([table["exact"] for table in tables]),
        reached=None if np.isnan(reached).any() else float(reached.mean()),
        cell_accuracy=_mean([table["cell_accuracy"] for table in tables]),
        total_return=_mean([table["total_return"] for table in tables]),
        actions=_mean([table["steps"] for table in tables]),
        milliseconds=_mean([1000 * table["seconds"] for table in tables]),
        parameters=parameter_count(entrants[0].agent, entrants[0].weights),
        runs=tuple(_run(entrant, table) for entrant, table in zip(entrants, tables, strict=True)),
        machines=tuple(machines),
        loads=tuple(content["load"] for _, contents in read for content in contents if content["load"] is not None),
        puzzles_sha256=_joined_hash([content["puzzles_sha256"] for content in read[0][1]]),
    )


def _gathered(parts: Sequence[Part]) -> tuple[Mapping[str, NDArray[np.float64]], list[dict[str, Any]]]:
    """The episodes of all chunks of one run as columns of numbers (nan for what means nothing), and the chunks."""
    contents = [part.read() for part in parts]
    names = contents[0]["episodes"]
    table = {
        name: np.array([value for content in contents for value in content["episodes"][name]], dtype=np.float64)
        for name in names
    }
    return table, contents


def _joined_hash(hashes: Sequence[str]) -> str:
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def _rate(runs: Sequence[NDArray[np.float64]]) -> Figure:
    if len(runs) > 1:
        return _mean(runs)
    successes, count = int(runs[0].sum()), len(runs[0])
    return Figure(successes / count, *wilson(successes, count))


def _mean(runs: Sequence[NDArray[np.float64]]) -> Figure:
    low, high = bootstrap_runs(runs) if len(runs) > 1 else bootstrap_mean(runs[0])
    return Figure(float(np.mean([run.mean() for run in runs])), low, high)


def _run(entrant: Entrant, table: Mapping[str, NDArray[np.float64]]) -> Run:
    return Run(
        weights=None if entrant.weights is None else _shown(entrant.weights),
        fingerprint=entrant.fingerprint,
        training=read_training(entrant.weights),
        curve=read_curve(entrant.weights),
        solved=float(table["solved"].mean()),
    )


def _shown(folder: Path) -> str:
    """A folder as a reader of the page can find it: bundled ones by their name, others as they were given."""
    bundled = Path(__file__).resolve().parents[2] / "agents" / "pretrained"
    installed = Path(__file__).resolve().parents[1] / "agents" / "pretrained"
    for place in (bundled, installed):
        if folder.resolve().parent == place:
            return f"bundled {folder.name}"
    return str(folder)
