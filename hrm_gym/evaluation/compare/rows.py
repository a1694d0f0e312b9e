"""From chunks to figures: one row an agent and environment, with 95 % intervals, and what its weights cost to train."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym import reading
from hrm_gym.evaluation.compare.plan import Entrant, Label, World
from hrm_gym.evaluation.compare.run import FIELDS, Comparison, Part, Played
from hrm_gym.evaluation.intervals import Figure, Paired, bootstrap_mean, bootstrap_runs, paired, rate
from hrm_gym.evaluation.rollout import halting_rules
from hrm_gym.reading import convert, read_object, read_text
from hrm_gym.registry import bundled_weights

CONFIG, CARD, CURVE = "config.json", "CARD.md", "curve.jsonl"


@dataclass(frozen=True)
class Training:
    """How an agent was trained; None where nobody wrote it down.

    Attributes:
        steps: environment steps; of an HRM, segments on one puzzle each.
        puzzles: puzzles seen, each with its stored solution.
        transitions: transitions seen, without solutions.
        seconds: wall time.
        processor_seconds: processor time, which other work on the machine does not lengthen.
        command: the command that made the weights.
        seed: of the training.
        recipe: everything that decides the outcome, as the weights' JSON has it.
    """

    steps: int | None = None
    puzzles: int | None = None
    transitions: int | None = None
    seconds: float | None = None
    processor_seconds: float | None = None
    command: str | None = None
    seed: int | None = None
    recipe: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Curve:
    """The evaluations of one training run.

    Attributes:
        minutes: wall time of training at each evaluation, rising.
        solved: share of held-out puzzles solved then.
    """

    minutes: tuple[float, ...]
    solved: tuple[float, ...]


@dataclass(frozen=True)
class Numbers:
    """What a recipe says, as far as it is read."""

    seed: int | None = None
    batch_size: int | None = None


@dataclass(frozen=True)
class Stage:
    """What the JSON of weights says of their training, as far as it is read; `before`: the trainings before it."""

    kind: str = ""
    steps: int | None = None
    timesteps: int | None = None
    puzzles: int | None = None
    fed: int | None = None
    update: int | None = None
    seconds: float | None = None
    processor_seconds: float | None = None
    parameters: int | None = None
    command: str | None = None
    recipe: dict[str, Any] | None = None
    before: tuple[Stage, ...] = ()

    @property
    def numbers(self) -> Numbers:
        """Those of the recipe."""
        return convert(self.recipe or {}, Numbers, "recipe", whole=False)

    @property
    def shown(self) -> int | None:
        """Solved puzzles shown; of a supervised control they are what its JSON counts as timesteps."""
        return self.timesteps if self.kind == "supervised" else self.fed if self.puzzles is None else self.puzzles

    @property
    def taken(self) -> int | None:
        """Environment steps; of an HRM, segments on one puzzle each."""
        told = self.timesteps if self.steps is None else self.steps
        batch = self.numbers.batch_size
        return told if told is not None or batch is None or self.update is None else self.update * batch


def read_training(folder: Path | None) -> Training:
    """What is known of the weights in a folder.

    Raises:
        ValueError: if the JSON next to them is damaged.
    """
    about = read_about(folder)
    if folder is None or about == Stage():
        return Training()
    stages = [*about.before, about]
    return Training(
        steps=_total(one.taken for one in stages),
        puzzles=_total(one.shown for one in stages),
        transitions=_total(None if one.shown is not None else one.timesteps for one in stages),
        seconds=_total(one.seconds for one in stages),
        processor_seconds=_total(one.processor_seconds for one in stages),
        command=about.command or _command_of_card(folder),
        seed=about.numbers.seed,
        recipe=about.recipe or {},
    )


def read_curve(folder: Path | None) -> Curve | None:
    """The learning curve of the weights in a folder: next to them, or in the folder of the run they are the end of."""
    places = [] if folder is None else [folder / CURVE, folder.parent / CURVE]
    path = next((place for place in places if place.is_file()), None)
    if folder is None or path is None:
        return None
    earlier = sum(stage.seconds or 0.0 for stage in read_about(folder).before)
    rows = reading.read_curve(path)
    name = "eval_solved" if any("eval_solved" in row for row in rows) else "solved"
    points = sorted(((earlier + row["seconds"]) / 60, row[name]) for row in rows if {"seconds", name} <= set(row))
    return Curve(tuple(minutes for minutes, _ in points), tuple(share for _, share in points)) if points else None


def band(curves: Sequence[Curve], points: int = 80) -> tuple[list[float], list[float], list[float], list[float]]:
    """Several runs on one time axis: minutes, and there the mean, lowest and highest share solved.

    Between evaluations shares are interpolated. The axis begins when the last run was evaluated first, and ends when
    the first one ends.
    """
    begin, end = max(curve.minutes[0] for curve in curves), min(curve.minutes[-1] for curve in curves)
    axis = np.linspace(begin, max(begin, end), points if len(curves) > 1 else 2)
    if len(curves) == 1:
        axis = np.array(curves[0].minutes)
    table = np.stack([np.interp(axis, curve.minutes, curve.solved) for curve in curves])
    return axis.tolist(), table.mean(axis=0).tolist(), table.min(axis=0).tolist(), table.max(axis=0).tolist()


def read_about(folder: Path | None) -> Stage:
    """The JSON next to weights; empty if there is none.

    Raises:
        ValueError: if it is damaged.
    """
    return Stage() if folder is None or not (folder / CONFIG).is_file() else read_object(folder / CONFIG, Stage)


def parameter_count(agent: Any, folder: Path | None) -> int | None:
    """Number of trained parameters: as the weights' JSON says, else counted; None for agents without any."""
    told = read_about(folder).parameters
    if told is not None:
        return told
    for name in ("model", "policy"):
        holder: Any = getattr(agent, name, None)
        holder = getattr(holder, "policy", holder)  # an SB3 model has its network in its policy
        if callable(getattr(holder, "named_parameters", None)):
            own = (tensor for name, tensor in holder.named_parameters() if not name.startswith("q_net_target."))
            return sum(int(tensor.numel()) for tensor in own)
    return None


def _total(values: Iterable[Any]) -> Any:
    """The sum over all stages; None if one of them says nothing."""
    found = list(values)
    return None if None in found else sum(found)


def _command_of_card(folder: Path) -> str | None:
    """The commands in the card's table: what stands in backquotes in the row `command` or `commands`."""
    card = folder / CARD
    if not card.is_file():
        return None
    row = re.search(r"^\|\s*commands?\s*\|(.+)\|\s*$", read_text(card), re.M)
    commands = re.findall(r"`([^`]+)`", row[1]) if row else []
    return " && ".join(commands) or None


DEFINITIONS = {
    "solved": "share of puzzles right by the rules: in mazes any shortest path, in move mode a shortest walk",
    "to the first": "difference in the share solved to the first agent, paired puzzle by puzzle; p: exact McNemar test",
    "exact": "share equal to the stored solution; of several shortest paths only one is stored",
    "cells right": "mean share of right cells among those that were not given",
    "reached": "share of answers or walks that connect start and goal, by whatever way",
    "return": "mean undiscounted sum of rewards, with the environment's default reward",
    "actions": "mean number of actions: segments in answer mode, moves or writings in the other modes",
    "ms / puzzle": "mean wall time of agent and environment on a puzzle, boards in batches, after a warm-up",
    "tokens": "mean number of tokens that a language model read and wrote for a puzzle, as its endpoint counts them",
    "parameters": "trained parameters",
    "training steps": "environment steps of training; of an HRM, segments on one puzzle each",
    "seen": "puzzles with their stored solutions, or transitions without them",
    "training time": "wall time, evaluations included, on the machine that the weights' card names",
}
"""What every column means."""


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
        absent: why it does not play there; then the other fields mean nothing.
        mode: its action mode.
        halting_rules: the halting rules in force, as the agent states them; "none" for agents that have none.
        puzzles: played by each run.
        solved: see `DEFINITIONS`, as all that follow; Wilson's interval (`intervals.rate`), or with
            several runs the two-stage bootstrap.
        exact: likewise.
        reached: None where it means nothing.
        cell_accuracy: bootstrap interval, as those that follow.
        total_return: of an episode.
        actions: of an episode.
        milliseconds: a puzzle.
        parameters: trained parameters.
        runs: one for every set of weights.
        machines: on which it was played.
        loads: load averages of these machines, one for every chunk where the system reports them.
        puzzles_sha256: of the puzzles' clues; the same for all agents of a world.
        difference: of the share solved to that of the first agent that plays the world, on the same puzzles.
        tokens: that a language model read and wrote for a puzzle; None for other agents.
    """

    world: str
    agent: str
    absent: str = ""
    mode: str = ""
    halting_rules: str = "none"
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
    difference: Paired | None = None
    tokens: Figure | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self)


def make_rows(comparison: Comparison) -> list[Row]:
    """The rows of a comparison whose chunks are all on disk, world by world."""
    parts, rows = comparison.parts(), []
    for world in comparison.worlds:
        first: list[NDArray[np.float64]] | None = None
        for label in comparison.labels:
            row, solved = _row_rows(comparison, world, label, parts)
            if solved and first:
                row = replace(row, difference=paired(solved, first))
            first = first or solved
            rows.append(row)
    return rows


def _row_rows(
    comparison: Comparison, world: World, label: Label, parts: Sequence[Part]
) -> tuple[Row, list[NDArray[np.float64]]]:
    """The row of an agent, and which puzzles each of its runs solved."""
    entrants = comparison.entrants(world, label)
    if isinstance(entrants, str):
        return Row(world.label, label.text, absent=entrants), []
    read = [_gathered([part for part in parts if part.entrant is entrant]) for entrant in entrants]
    tables = [table for table, _ in read]
    machines = sorted({content.machine for _, contents in read for content in contents})
    reached = np.concatenate([table["reached"] for table in tables])
    clusters = tables[0].get("cluster")
    counted = all("tokens" in table and not np.isnan(table["tokens"]).any() for table in tables)
    row = Row(
        world=world.label,
        agent=label.text,
        mode=entrants[0].agent.action_mode,
        halting_rules=halting_rules(entrants[0].agent),
        puzzles=len(tables[0]["solved"]),
        solved=_rate([table["solved"] for table in tables], clusters),
        exact=_rate([table["exact"] for table in tables], clusters),
        reached=None if np.isnan(reached).any() else float(reached.mean()),
        cell_accuracy=_mean([table["cell_accuracy"] for table in tables]),
        total_return=_mean([table["total_return"] for table in tables]),
        actions=_mean([table["steps"] for table in tables]),
        milliseconds=_mean([1000 * table["seconds"] for table in tables]),
        tokens=_mean([table["tokens"] for table in tables]) if counted else None,
        parameters=parameter_count(entrants[0].agent, entrants[0].weights),
        runs=tuple(_run(entrant, table) for entrant, table in zip(entrants, tables, strict=True)),
        machines=tuple(machines),
        loads=tuple(content.load for _, contents in read for content in contents if content.load is not None),
        puzzles_sha256=hashlib.sha256("".join(content.puzzles_sha256 for content in read[0][1]).encode()).hexdigest(),
    )
    return row, [table["solved"] for table in tables]


def _gathered(parts: Sequence[Part]) -> tuple[Mapping[str, NDArray[np.float64]], list[Played]]:
    """The episodes of all chunks of one run as columns of numbers (nan for what means nothing), and the chunks."""
    contents = [part.read() for part in parts]
    table = {
        name: np.array([value for content in contents for value in content.episodes[name]], dtype=np.float64)
        for name in (*FIELDS, "cluster", "tokens")
        if all(len(content.episodes.get(name, ())) == len(content.episodes["index"]) for content in contents)
    }
    return table, contents


def _rate(runs: Sequence[NDArray[np.float64]], clusters: NDArray[np.float64] | None) -> Figure:
    if len(runs) > 1:
        return _mean(runs)
    known = None if clusters is None or np.isnan(clusters).any() else clusters.astype(np.int64).tolist()
    return Figure(float(runs[0].mean()), *rate(runs[0], known))


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
    bundled = Path(os.path.realpath(folder)).parent == bundled_weights().resolve()
    return f"bundled {folder.name}" if bundled else str(folder)
