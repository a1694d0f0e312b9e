"""What weights cost: read from the JSON beside them, the card, and the curve of their evaluations."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

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

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self)


@dataclass(frozen=True)
class Curve:
    """The evaluations of one training run.

    Attributes:
        minutes: wall time of training at each evaluation, rising.
        solved: share of held-out puzzles solved then.
    """

    minutes: tuple[float, ...]
    solved: tuple[float, ...]


def read_training(folder: Path | None) -> Training:
    """What is known of the weights in a folder.

    Raises:
        ValueError: if the JSON beside them is damaged.
    """
    about = read_about(folder)
    if folder is None or not about:
        return Training()
    stages = [*_before(about), about]
    recipe = about.get("recipe") or {}
    return Training(
        steps=_total(stages, _steps),
        puzzles=_total(stages, _puzzles),
        transitions=_total(stages, lambda stage: None if _puzzles(stage) is not None else stage.get("timesteps")),
        seconds=_total(stages, lambda stage: stage.get("seconds")),
        processor_seconds=_total(stages, lambda stage: stage.get("processor_seconds")),
        command=about.get("command") or _command_of_card(folder),
        seed=recipe.get("seed"),
        recipe=recipe,
    )


def read_curve(folder: Path | None) -> Curve | None:
    """The learning curve of the weights in a folder: beside them, or in the folder of the run they are the end of."""
    places = [] if folder is None else [folder / CURVE, folder.parent / CURVE]
    path = next((place for place in places if place.is_file()), None)
    if folder is None or path is None:
        return None
    earlier = sum(float(stage.get("seconds") or 0.0) for stage in _before(read_about(folder)))
    points = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = _row(line)
        solved = row.get("eval_solved", row.get("solved"))
        if solved is not None and row.get("seconds") is not None:
            points.append(((earlier + row["seconds"]) / 60, float(solved)))
    points.sort()
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


def read_about(folder: Path | None) -> dict[str, Any]:
    """The JSON beside weights; empty if there is none.

    Raises:
        ValueError: if it is damaged.
    """
    if folder is None or not (folder / CONFIG).is_file():
        return {}
    try:
        found = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG} is not readable JSON: {error}") from None
    return found if isinstance(found, dict) else {}


def parameter_count(agent: Any, folder: Path | None) -> int | None:
    """Number of trained parameters: as the weights' JSON says, else counted; None for agents without any."""
    told = read_about(folder).get("parameters")
    if isinstance(told, int):
        return told
    for name in ("model", "policy"):
        holder: Any = getattr(agent, name, None)
        holder = getattr(holder, "policy", holder)  # an SB3 model has its network in its policy
        if callable(getattr(holder, "named_parameters", None)):
            own = (tensor for name, tensor in holder.named_parameters() if not name.startswith("q_net_target."))
            return sum(int(tensor.numel()) for tensor in own)
    return None


def _before(about: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Trainings whose weights this one started from, the first one first: the JSON's own list `before`."""
    return list(about.get("before", ()))


def _puzzles(stage: Mapping[str, Any]) -> int | None:
    """Solved puzzles shown; of a supervised control they are what its JSON counts as timesteps."""
    if stage.get("kind") == "supervised":
        return stage.get("timesteps")
    return stage.get("puzzles", stage.get("fed"))


def _steps(stage: Mapping[str, Any]) -> int | None:
    if "steps" in stage or "timesteps" in stage:
        found: int = stage["steps"] if "steps" in stage else stage["timesteps"]
        return found
    batch = (stage.get("recipe") or {}).get("batch_size")
    return int(stage["update"] * batch) if batch and "update" in stage else None


def _total(stages: Sequence[Mapping[str, Any]], value: Any) -> Any:
    """The sum over all stages; None if one of them says nothing."""
    found = [value(stage) for stage in stages]
    return None if any(one is None for one in found) else sum(found)


def _row(line: str) -> dict[str, Any]:
    """A line of a curve; empty if it was cut short."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _command_of_card(folder: Path) -> str | None:
    """The commands in the card's table: what stands in backquotes in the row `command` or `commands`."""
    card = folder / CARD
    if not card.is_file():
        return None
    row = re.search(r"^\|\s*commands?\s*\|(.+)\|\s*$", card.read_text(encoding="utf-8"), re.M)
    commands = re.findall(r"`([^`]+)`", row[1]) if row else []
    return " && ".join(commands) or None
