"""The figures of the HRM paper from the bundled weights, each by one command.

`python -m hrm_gym.scripts.experiments.paper` draws all of them, `… paper NAME` one; docs/claims.md says what they
show (`python -m hrm_gym.scripts.experiments.claims`).
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from hrm_gym.agents.halting import comparison
from hrm_gym.agents.hrm.analysis import figures
from hrm_gym.evaluation.plots import save
from hrm_gym.reading import convert, read_json
from hrm_gym.scripts.bench import memory
from hrm_gym.scripts.experiments import depth, levels, strategies, versus
from hrm_gym.scripts.experiments.evaluate import about
from hrm_gym.scripts.main import main as hrm_gym
from hrm_gym.scripts.main import run
from hrm_gym.scripts.options import arg, parse
from hrm_gym.scripts.output import say, write_json

PROGRAM = "python -m hrm_gym.scripts.experiments.paper"
SUDOKU, MAZE, ARC = "HRMSudoku-v0:difficulty=hard", "HRMMaze-v0", "HRMARCMini-v0:split=train,augment=False"
NEW = "--source generate --seed 2026"

STUDIES = {
    "answers-sudoku": f"answers {SUDOKU} {NEW} --episodes 2 --segments 1 2 4 6 8 12",
    "answers-maze": f"answers {MAZE} {NEW} --episodes 2 --segments 1 2 3 4 5 6",
    "answers-arc": f"answers {ARC} --episodes 3 --segments 1 2 4 8",
    "inner-maze": f"answers {MAZE} {NEW} --episodes 2 --segments 1 2 --inner",
    "convergence-sudoku": f"convergence {SUDOKU} {NEW} --episodes 16 --segments 16",
    "convergence-maze": f"convergence {MAZE} {NEW} --episodes 128 --segments 8",
    "scaling-sudoku": f"scaling {SUDOKU} {NEW} --episodes 128 --batch 16 --budgets 1 2 4 8 16 32 64 128 256",
    "scaling-maze": f"scaling {MAZE} {NEW} --episodes 256 --budgets 1 2 4 8 16 32",
    "segments-sudoku": f"segments {SUDOKU} {NEW} --episodes 128 --batch 16 --max-segments 64 --bins 6",
    "segments-maze": f"segments {MAZE} {NEW} --episodes 500",
    "dimensionality-sudoku": f"dimensionality {SUDOKU} {NEW} --episodes 64 --batch 16 --segments 4",
    "dimensionality-maze": f"dimensionality {MAZE} {NEW} --episodes 256 --segments 4",
}
"""The study of `hrm-gym analyze` behind every figure of the bundled weights."""


@dataclass(frozen=True)
class PaperConfig:
    """Make the paper's figures: PNG and JSON in docs/results/paper, from the bundled weights; and those of trainings
    and measurements of memory, which take longer, from their committed figures (depth, memory, versus,
    levels, halting, curve).

    Attributes:
        names: Of the figures; all by default.
        results: The folder of committed results.
    """

    names: Annotated[tuple[str, ...], tyro.conf.Positional, arg("NAME", "all")] = ()
    results: Path = Path("docs/results")


def from_weights(name: str, results: Path) -> None:
    """Run the study behind a figure, and add to its JSON what was run, when and where."""
    out = results / "paper" / name
    words = ["analyze", *STUDIES[name].split()]
    if hrm_gym([*words, "--out", str(out)]):
        raise ValueError(f"the study behind {name} failed")
    path = Path(f"{out}.json")
    write_json({"command": shlex.join(["hrm-gym", *words]), **about(), **read_json(path)}, path)


def draw_strategies(results: Path) -> None:
    """Run the study of strategies."""
    strategies.main(["--out", str(results / "paper" / "strategies")])


def draw_depth(results: Path) -> None:
    """Depth against width, from the figures of the committed trainings."""
    found = read_json(results / "depth" / "depth.json")
    flat = [row for row in found["results"] if row["name"].startswith("direct")]
    model = depth.RECIPES[found["recipe"]].model
    config = depth.DepthConfig(
        recipe=found["recipe"],
        updates=found["updates"],
        layers=tuple(row["layers"] for row in flat if row["width"] == model.hidden_size),
        widths=tuple(sorted(row["width"] for row in flat if row["layers"] == model.h_layers + model.l_layers)),
    )
    save(depth.drawn(config, found["results"]), results / "depth" / "depth.png")


def draw_memory(results: Path) -> None:
    """Memory against the number of steps, from the committed measurement."""
    found = read_json(results / "memory.json")
    rows = [memory.StepMemory(**row) for row in found["rows"]]
    memory.draw(rows, found["setting"], results / "memory.png")


def draw_versus(results: Path) -> None:
    """Supervision against reward, from the figures of the committed trainings."""
    found = read_json(results / "versus" / "versus.json")["results"]
    sizes = tuple(dict.fromkeys(row["size"] for row in found))
    arms = tuple(dict.fromkeys(row["arm"] for row in found))
    config = versus.VersusConfig(size=sizes, arm=arms, seconds=found[0]["seconds"])
    save(versus.drawn(config, found), results / "versus" / "versus.png")


def draw_levels(results: Path) -> None:
    """Residuals and participation ratios of several trainings, from their committed figures."""
    found = read_json(results / "levels" / "levels.json")["results"]
    config = levels.LevelsConfig(recipe=found[0]["recipe"], cycles=found[0]["cycles"])
    save(levels.drawn(config, found), results / "levels" / "levels.png")


def draw_halting(results: Path) -> None:
    """Halting rules on the accuracy-compute plane, from the committed reports."""
    for name in ("halting-maze", "halting-sudoku"):
        path = results / name / "report.json"
        found = read_json(path)
        study = convert(found["study"], comparison.HaltingStudy, path, whole=False)
        title = f"{found['bank']['agent']} on {found['bank']['env']}, {study.puzzles:,} held-out puzzles"
        comparison.draw(study, title, results / name / "report.png")


def draw_curve(results: Path) -> None:
    """The training of the 4x4 Sudoku network, from its committed curve."""
    found = read_json(results / "sudoku-4x4" / "curve.json")
    figures.draw_curve(found["rows"], found["run"], results / "sudoku-4x4" / "curve.png")


OTHERS: dict[str, Callable[[Path], None]] = {
    "strategies": draw_strategies,
    "depth": draw_depth,
    "memory": draw_memory,
    "versus": draw_versus,
    "levels": draw_levels,
    "halting": draw_halting,
    "curve": draw_curve,
}


def main(argv: Sequence[str]) -> int:
    """Run the command; returns 0.

    Raises:
        ValueError: an unknown figure.
    """
    config = parse(PaperConfig, PROGRAM, argv)
    every: dict[str, Any] = {**STUDIES, **OTHERS}
    if unknown := [name for name in config.names if name not in every]:
        raise ValueError(f"expected figures out of {', '.join(every)}, got {unknown[0]!r}")
    for name in config.names or every:
        say(f"{name} …", file=sys.stderr)
        if name in STUDIES:
            from_weights(name, config.results)
        else:
            OTHERS[name](config.results)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
