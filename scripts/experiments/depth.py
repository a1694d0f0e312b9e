"""Experiment `depth`: does a direct-prediction network gain by layers or by channels, and what does recurrence add?"""

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
from hrm_gym.agents.hrm.analysis.states import study_convergence
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.recipes import RECIPES, Recipe, direct, recurrent
from hrm_gym.agents.hrm.trainer import Trainer
from hrm_gym.evaluation import intervals
from hrm_gym.evaluation.plots import (
    BLUE,
    GREEN,
    ORANGE,
    doubling,
    heading,
    legend,
    level,
    line,
    new_figure,
    shares,
)
from hrm_gym.scripts.experiments.evaluate import about, judged, new_clues, publish, rate, result_of, spread
from hrm_gym.scripts.main import run
from hrm_gym.scripts.options import parse

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROGRAM = "python -m hrm_gym.scripts.experiments.depth"
HEAD = 32
"""Channels of a head, whatever the width."""

CHOICE_SEED = 1000
"""Of the trainings that choose a learning rate, which none of those that are judged has."""

SETTLED = 64
"""Puzzles on which the states are looked at."""


@dataclass(frozen=True)
class DepthConfig:
    """Train direct-prediction Transformers of several depths and widths, and a recurrent one and an HRM next to them.

    All see as many puzzles an update and make as many updates. The direct ones come from the recipe by running every
    layer once (HRM paper, figure 2). Each network has the learning rate of those in `lrs` with which one training does
    best on puzzles of the validation split, and is then trained from several seeds and judged on the test split. How
    far each layer, or each update of a state, moves the state at the end of the training is kept too (figure 3). What
    is finished is kept: the same command goes on where it was stopped.

    Attributes:
        recipe: Recipe of `hrm-gym train` that all are made from.
        updates: Optimiser updates of every network.
        layers: Depths of the direct networks, even numbers, at the recipe's width.
        widths: Channels of the direct networks, multiples of 32, at the recipe's depth.
        lrs: Learning rates to choose from; of a single one there is no choice.
        seeds: Trainings of each network.
        puzzles: Held-out puzzles on which all are judged, the same for all.
        runs: Folder of the runs.
        out: Folder for depth.json, depth.png and depth.md.
        threads: CPU threads.
    """

    recipe: str = "sudoku-4x4"
    updates: int = 400
    layers: tuple[int, ...] = (2, 4, 8, 16, 32)
    widths: tuple[int, ...] = (32, 64, 128)
    lrs: tuple[float, ...] = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
    seeds: int = 5
    puzzles: int = 500
    runs: Path = Path("runs/depth")
    out: Path = Path("runs/depth")
    threads: int = 1


@dataclass(frozen=True)
class Training:
    """What is read of one training's result."""

    exact: float
    solved: float
    cells: float
    parameters: int
    seconds: float
    traces: tuple[dict[str, Any], ...]


def main(argv: Sequence[str]) -> int:
    """Run the experiment; returns 0.

    Raises:
        ValueError: an unknown recipe, or a number out of range.
    """
    config = parse(DepthConfig, PROGRAM, argv)
    networks = chosen(config)
    torch.set_num_threads(config.threads)
    results = [several(config, name, recipe) for name, recipe in networks.items()]
    said = about()
    content = {**said, "command": command(config), "recipe": config.recipe, "updates": config.updates}
    publish(config.out, "depth", {**content, "results": results}, table(config, said, results), drawn(config, results))
    return 0


def chosen(config: DepthConfig) -> dict[str, Recipe]:
    """The recipes of all networks by name; refuses what cannot be run, before any work."""
    if config.recipe not in RECIPES or RECIPES[config.recipe].model.mixer != "attention":
        fitting = ", ".join(name for name, recipe in RECIPES.items() if recipe.model.mixer == "attention")
        raise ValueError(f"expected --recipe to be one of {fitting}, got {config.recipe!r}")
    if bad := [n for n in config.layers if n < 2 or n % 2]:
        raise ValueError(f"expected --layers of even numbers, got {bad[0]}")
    if bad := [n for n in config.widths if n < HEAD or n % HEAD]:
        raise ValueError(f"expected --widths of multiples of {HEAD}, got {bad[0]}")
    if not config.lrs or min(config.lrs) <= 0:
        raise ValueError(f"expected --lrs above 0, got {' '.join(map(str, config.lrs)) or 'none'}")
    if config.updates < 1 or config.puzzles < 1 or config.threads < 1 or config.seeds < 2:
        given = f"{config.updates}, {config.puzzles}, {config.threads} and {config.seeds}"
        raise ValueError(f"expected updates, puzzles and threads above 0 and at least 2 seeds, got {given}")
    base = dataclasses.replace(
        RECIPES[config.recipe],
        updates=config.updates,
        init="",
        eval_every=10**9,
        checkpoint_every=100,
    )
    base = dataclasses.replace(base, warmup=min(base.warmup, config.updates // 10))
    found = {"hrm": base, "recurrent": recurrent(base)}
    deep, wide = flat_models(config)
    return found | {_name(model): dataclasses.replace(direct(base), model=model) for model in (*wide, *deep)}


def flat_models(config: DepthConfig) -> tuple[list[HRMConfig], list[HRMConfig]]:
    """The direct-prediction networks: one of each depth at the recipe's width, one of each width at its depth."""
    flat = direct(RECIPES[config.recipe]).model
    deep = [dataclasses.replace(flat, h_layers=n // 2, l_layers=n // 2) for n in config.layers]
    return deep, [dataclasses.replace(flat, hidden_size=n, heads=n // HEAD) for n in config.widths]


def _name(model: HRMConfig) -> str:
    return f"direct-{model.h_layers + model.l_layers}x{model.hidden_size}"


# ---- one network ----


def several(config: DepthConfig, name: str, recipe: Recipe) -> dict[str, Any]:
    """What came of all trainings of one network: interquartile means with their intervals, and each training's row."""
    lr, tried = config.lrs[0], {}
    if len(config.lrs) > 1:
        rows = {lr: trained(config, name, recipe, lr, CHOICE_SEED, "validation") for lr in config.lrs}
        tried = {str(lr): row["exact"] for lr, row in rows.items()}
        lr = max(rows, key=lambda lr: (rows[lr]["exact"], rows[lr]["cells"]))
    trainings = [trained(config, name, recipe, lr, seed, "test") for seed in range(config.seeds)]
    found: dict[str, Any] = {
        "name": name,
        "layers": recipe.model.h_layers + recipe.model.l_layers,
        "width": recipe.model.hidden_size,
        "parameters": trainings[0]["parameters"],
        "lr": lr,
        "tried": tried,
    }
    for measure in ("exact", "cells"):
        scores = np.array([row[measure] for row in trainings])
        found[measure], found[f"{measure}_interval"] = intervals.method(scores)
    left = np.array([row["traces"][0]["residuals"][-1] / row["traces"][0]["residuals"][0] for row in trainings])
    found["left"], found["left_interval"] = intervals.method(left)
    return {**found, "trainings": trainings}


def trained(config: DepthConfig, name: str, recipe: Recipe, lr: float, seed: int, split: str) -> dict[str, Any]:
    """The result of one training: read if it is there, else worked out and written."""
    folder = config.runs / f"{config.recipe}-{name}-{config.updates}-lr{lr:g}-seed{seed}"
    asked = {"name": name, "updates": config.updates, "lr": lr, "seed": seed, "puzzles": config.puzzles, "split": split}

    def work() -> dict[str, Any]:
        trainer = Trainer(dataclasses.replace(recipe, lr=lr, seed=seed), folder, compile=False)
        for _ in trainer.fit():
            pass
        model = HRM.from_state(recipe.model, trainer.weights())
        agent = HRMAgent(model, trainer.feed.family, max_segments=recipe.model.max_segments, device="cpu")
        found = judged(recipe.env_id, recipe.env, agent, config.puzzles, split)
        print(f"{name}, lr {lr:g}, seed {seed}: {split} exact {found['exact']:.3f}", file=sys.stderr, flush=True)
        return {
            "parameters": model.parameter_count(),
            "seconds": round(trainer.seconds, 1),
            "puzzles_seen": trainer.fed,
            **found,
            "traces": traces(recipe, agent),
        }

    return result_of(folder / "result.json", asked, work, Training)


def traces(recipe: Recipe, agent: HRMAgent) -> list[dict[str, Any]]:
    """The residuals of a trained network: of each of its states, or of its layers, on new puzzles of the test split."""
    boards = agent.boards(new_clues(recipe.env_id, recipe.env, SETTLED))
    (network,) = study_convergence([("", agent.model, boards)], max(2, recipe.model.max_segments)).networks
    return [{"level": trace.level, "residuals": [round(x, 5) for x in trace.residuals]} for trace in network.traces]


# ---- all of them ----


def command(config: DepthConfig) -> str:
    """The command line that makes the result."""
    default = DepthConfig()
    changed = "".join(
        f" --{name} {' '.join(f'{value:g}' for value in getattr(config, name))}"
        for name in ("layers", "widths", "lrs")
        if getattr(config, name) != getattr(default, name)
    )
    return (
        f"{PROGRAM} --recipe {config.recipe} --updates {config.updates}{changed} --seeds {config.seeds} --puzzles "
        f"{config.puzzles}"
    )


def table(config: DepthConfig, said: dict[str, str], results: list[dict[str, Any]]) -> str:
    """The Markdown page."""
    lines = [
        "# Depth against width",
        "",
        f"Networks of the recipe `{config.recipe}`, {config.updates:,} updates each, {config.seeds} trainings a "
        f"network; `direct-LxC` runs L layers of C channels once. Judged on {config.puzzles:,} new puzzles of the test "
        "split, the same for all. Interquartile means over trainings; in brackets their 95 % intervals by a bootstrap "
        f"of the trainings. The learning rate is the one of {', '.join(f'{lr:g}' for lr in config.lrs)} that did best "
        "in one training more, on validation puzzles. *Left* is the last residual over the first: of the layers of a "
        "direct network, of the updates of the state of a recurrent one, of those of the L-level of the HRM. Seconds "
        "are of one processor core and depend on what else it did.",
        "",
        "| network | parameters | learning rate | exact | each training | cells right | left | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in results:
        each = ", ".join(f"{100 * one['exact']:.1f}" for one in row["trainings"])
        seconds = [one["seconds"] for one in row["trainings"]]
        lines.append(
            f"| {row['name']} | {row['parameters']:,} | {row['lr']:g} | {rate(row, 'exact')} | {each} | "
            f"{rate(row, 'cells')} | {spread(row, 'left', 3)} | "
            f"{min(seconds):,.0f} to {max(seconds):,.0f} |"
        )
    closing = f"`{command(config)}`, {said['date']}, {said['machine']}."
    return "\n".join([*lines, "", "![depth and width](depth.png)", "", closing, ""])


def drawn(config: DepthConfig, results: Sequence[dict[str, Any]]) -> Figure:
    """Three panels: exact against layers and against channels, and how far each layer or update moves the state."""
    title = f"{config.recipe}, {config.updates:,} updates, {len(results[0]['trainings'])} trainings a network"
    picture, (panels,) = new_figure((12.0, 3.6), title, columns=3)
    by_name = {row["name"]: row for row in results}
    labels, every = ("layers", "channels"), flat_models(config)
    for axes, label, models, places in zip(panels, labels, every, (config.layers, config.widths), strict=False):
        rows = [by_name[_name(model)] for model in models]
        bounds = [tuple(row["exact_interval"]) for row in rows]
        line(axes, places, [row["exact"] for row in rows], BLUE, "direct prediction", bounds=bounds)
        level(axes, by_name["hrm"]["exact"], "HRM", ORANGE)
        level(axes, by_name["recurrent"]["exact"], "recurrent Transformer of equal size", GREEN)
        doubling(axes, places)
        shares(axes)
        axes.set(xlabel=label, ylabel="held-out puzzles exact")
    deepest = by_name[_name(every[0][-1])]
    for row, colour, name in (
        (by_name["hrm"], ORANGE, "HRM"),
        (by_name["recurrent"], GREEN, "recurrent Transformer of equal size"),
        (deepest, BLUE, "direct prediction"),
    ):
        for one in row["trainings"]:
            residuals = one["traces"][0]["residuals"]
            line(panels[2], (np.arange(len(residuals)) + 1).tolist(), residuals, colour, name, "-")
    heading(panels[2], "how far an update moves the state")
    panels[2].locator_params("x", integer=True)
    panels[2].set(xlabel=f"update of the state; layer of {deepest['name']}", ylim=(0, None))
    legend(picture)
    return picture


if __name__ == "__main__":
    sys.exit(run(main))
