"""Experiment `levels`: the states of both levels in several trainings: do they settle, and in how many dimensions?"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.analysis.states import study_convergence, study_dimensionality
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.recipes import RECIPES, Recipe
from hrm_gym.agents.hrm.trainer import Trainer
from hrm_gym.evaluation import intervals
from hrm_gym.evaluation.plots import BLUE, GREEN, ORANGE, doubling, heading, legend, level, line, new_figure
from hrm_gym.scripts.experiments.evaluate import about, judged, new_clues, publish, result_of, spread
from hrm_gym.scripts.main import run
from hrm_gym.scripts.options import parse

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROGRAM = "python -m hrm_gym.scripts.experiments.levels"
QUARTERS = (0, 1, 4)
"""When the states are looked at, in quarters of the training; 0 is the untrained network."""


@dataclass(frozen=True)
class LevelsConfig:
    """Train an HRM several times, and look at the states of both levels before, after a quarter, and at the end.

    What is looked at (HRM paper, figure 3 and section 4): whether the L-level settles within a cycle and is set in
    motion again by the update of the H-level, which shows with 4 L-steps a cycle or more; and the participation ratios
    of both levels. New puzzles of the test split. What is finished is kept: the same command continues.

    Attributes:
        recipe: Recipe of `hrm-gym train`, its number of updates and L-steps a cycle apart.
        cycles: L-steps a cycle (the paper's T).
        updates: Of every training.
        seeds: Trainings.
        puzzles: New puzzles on which the states are looked at.
        segments: Thought about each puzzle; 0 for as many as the recipe trains with.
        runs: Folder of the runs.
        out: Folder for levels.json, levels.png and levels.md.
    """

    recipe: str = "sudoku-4x4"
    cycles: int = 4
    updates: int = 600
    seeds: int = 5
    puzzles: int = 256
    segments: int = 0
    runs: Path = Path("runs/levels")
    out: Path = Path("runs/levels")


@dataclass(frozen=True)
class Training:
    """What is read of one training's result."""

    seed: int
    solved: float
    looks: tuple[dict[str, Any], ...]


def main(argv: Sequence[str]) -> int:
    """Run the experiment; returns 0.

    Raises:
        ValueError: an unknown recipe, or a number out of range.
    """
    config = parse(LevelsConfig, PROGRAM, argv)
    if config.recipe not in RECIPES or RECIPES[config.recipe].model.levels != 2:
        raise ValueError(f"expected a recipe of a network of two levels, such as sudoku-4x4, got {config.recipe!r}")
    if config.cycles < 2 or config.updates < 4 or config.seeds < 2 or config.puzzles < 16 or config.segments < 0:
        given = f"{config.cycles}, {config.updates}, {config.seeds}, {config.puzzles} and {config.segments}"
        raise ValueError(
            f"expected at least 2 cycles, 4 updates, 2 seeds, 16 puzzles and no negative segments, got {given}"
        )
    torch.set_num_threads(1)
    results = [one(config, seed) for seed in range(config.seeds)]
    said = about()
    summary = summarised(results)
    content = {**said, "command": command(config), "summary": summary, "results": results}
    publish(config.out, "levels", content, page(config, said, summary), drawn(config, results))
    return 0


# ---- one training ----


def one(config: LevelsConfig, seed: int) -> dict[str, Any]:
    """The result of one training: read if it is there, else worked out and written."""
    asked = {"seed": seed, **{name: getattr(config, name) for name in ("recipe", "cycles", "updates", "puzzles")}}

    def work() -> dict[str, Any]:
        recipe = recipe_of(config, seed)
        trainer = Trainer(recipe, config.runs / f"{name}-run", compile=False)
        looks = []
        for quarters in QUARTERS:
            while trainer.update < config.updates * quarters // 4:
                trainer.step()
            state = trainer.weights() if quarters else trainer.model.state_dict()
            agent = HRMAgent(
                HRM.from_state(recipe.model, state),
                trainer.feed.family,
                max_segments=recipe.model.max_segments,
                device="cpu",
            )
            looks.append({"update": trainer.update, **look(config, recipe, agent)})
        found = judged(recipe.env_id, recipe.env, agent, config.puzzles)
        print(f"seed {seed}: solved {found['solved']:.3f}", file=sys.stderr, flush=True)
        return {"parameters": agent.model.parameter_count(), **found, "looks": looks}

    name = f"{config.recipe}-T{config.cycles}-{config.updates}-seed{seed}"
    return result_of(config.runs / f"{name}.json", asked, work, Training)


def recipe_of(config: LevelsConfig, seed: int) -> Recipe:
    """The recipe from random weights, with as many L-steps a cycle and updates, and no evaluations on the way."""
    recipe = RECIPES[config.recipe]
    model = dataclasses.replace(recipe.model, l_cycles=config.cycles)
    never = 10**9
    return dataclasses.replace(
        recipe,
        model=model,
        seed=seed,
        init="",
        updates=config.updates,
        warmup=min(recipe.warmup, config.updates // 10),
        eval_every=never,
        checkpoint_every=never,
    )


def look(config: LevelsConfig, recipe: Recipe, agent: HRMAgent) -> dict[str, Any]:
    """Residuals and participation ratios on new puzzles."""
    boards = agent.boards(new_clues(recipe.env_id, recipe.env, config.puzzles))
    segments = config.segments or recipe.model.max_segments
    (network,) = study_convergence([("", agent.model, boards)], segments).networks
    low, high = (np.array(trace.residuals) for trace in network.traces)
    counts = [config.puzzles // part for part in (16, 4, 1)]
    study = study_dimensionality(agent.model, boards, segments, [count for count in counts if count >= 2])
    return {
        "low": low.tolist(),
        "high": high.tolist(),
        **settling(low, high, recipe.model.l_cycles),
        "dimensions": [dataclasses.asdict(row) for row in study.trained],
    }


def settling(low: Any, high: Any, cycles: int) -> dict[str, float]:
    """What the residuals say.

    Returns:
        `within`, how much of the L-level's first residual of a cycle is left in its last, in the mean over cycles;
        `falls`, the share of cycles in which the last is the smaller; `moved_again`, the share of updates of the
        H-level after which the L-level moves more than it last did; `high_left`, the H-level's last residual over its
        first.

    >>> settling(np.array([4.0, 2.0, 3.0, 1.0]), np.array([2.0, 1.0]), 2)["moved_again"]
    1.0
    """
    by_cycle = np.asarray(low).reshape(-1, cycles)
    return {
        "within": float((by_cycle[:, -1] / by_cycle[:, 0]).mean()),
        "falls": float((by_cycle[:, -1] < by_cycle[:, 0]).mean()),
        "moved_again": float((by_cycle[1:, 0] > by_cycle[:-1, -1]).mean()),
        "high_left": float(high[-1] / high[0]),
    }


# ---- all of them ----


def summarised(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each look: interquartile means over trainings with their intervals; `NAME_interval` beside NAME."""
    rows = []
    for place, first in enumerate(results[0]["looks"]):
        looks = [row["looks"][place] for row in results]
        values = {name: [one[name] for one in looks] for name in ("within", "falls", "moved_again", "high_left")}
        for name in ("high", "low", "ratio"):
            values[f"dimensions_{name}"] = [one["dimensions"][-1][name] for one in looks]
        found: dict[str, Any] = {"update": first["update"]}
        for name, scores in values.items():
            found[name], found[f"{name}_interval"] = intervals.method(np.array(scores))
        rows.append(found)
    return rows


def command(config: LevelsConfig) -> str:
    """The command line that makes the result."""
    segments = f" --segments {config.segments}" if config.segments else ""
    return (
        f"{PROGRAM} --recipe {config.recipe} --cycles {config.cycles} --updates {config.updates} --seeds "
        f"{config.seeds} --puzzles {config.puzzles}{segments}"
    )


COLUMNS = {
    "within": "left of L's residual at the end of a cycle",
    "moved_again": "share of H's updates after which L moves more",
    "high_left": "left of H's residual at the end",
    "dimensions_high": "PR of H",
    "dimensions_low": "PR of L",
    "dimensions_ratio": "PR of H / PR of L",
}


def page(config: LevelsConfig, said: dict[str, str], summary: Sequence[dict[str, Any]]) -> str:
    """The Markdown page."""
    lines = [
        "# The states of both levels",
        "",
        f"{config.seeds} trainings of `{config.recipe}` with {config.cycles} L-steps a cycle, {config.updates:,} "
        f"updates each, looked at on the same {config.puzzles} new puzzles of the test split. Interquartile means over "
        "trainings; in brackets their 95 % intervals by a bootstrap of the trainings. PR is the participation ratio of "
        "the states.",
        "",
        "| updates | " + " | ".join(COLUMNS.values()) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
        *(f"| {row['update']:,} | " + " | ".join(spread(row, name) for name in COLUMNS) + " |" for row in summary),
        "",
        "![residuals and participation ratios](levels.png)",
        "",
        f"`{command(config)}`, {said['date']}, {said['machine']}.",
        "",
    ]
    return "\n".join(lines)


def drawn(config: LevelsConfig, results: Sequence[dict[str, Any]]) -> Figure:
    """Left the residuals of every trained network; right the ratio of the participation ratios against puzzles."""
    title = f"{config.recipe}, {config.cycles} L-steps a cycle, {len(results)} trainings"
    picture, ((left, right),) = new_figure((8.4, 3.6), title, columns=2)
    for number, result in enumerate(results):
        last = result["looks"][-1]
        calls = np.arange(1, len(last["low"]) + 1)
        line(left, (calls + (calls - 1) // config.cycles).tolist(), last["low"], BLUE, "L-level", ".-")
        at = (config.cycles + 1) * np.arange(1, len(last["high"]) + 1)
        line(left, at.tolist(), last["high"], ORANGE, "H-level", ".-")
        for one, form, name in ((last, "o-", "trained"), (result["looks"][0], "s--", "untrained")):
            rows = one["dimensions"]
            counts = [row["puzzles"] for row in rows]
            line(right, counts, [row["ratio"] for row in rows], GREEN, f"H / L, {name}", form)
        if number == 0:
            doubling(right, counts)
    level(right, 1, "both levels equal")
    heading(left, "how far each update moves a state")
    heading(right, "participation ratio of H over that of L")
    left.set(xlabel="update of a state", ylim=(0, None))
    right.set(xlabel="puzzles", ylim=(0, None))
    legend(picture)
    return picture


if __name__ == "__main__":
    sys.exit(run(main))
