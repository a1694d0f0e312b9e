"""Experiment `depth`: does a direct-prediction network gain by layers or by channels, and what does recurrence add?"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.recipes import RECIPES, Recipe, direct, recurrent
from hrm_gym.agents.hrm.trainer import Trainer
from hrm_gym.evaluation.plots import BLUE, GREEN, ORANGE, doubling, legend, level, line, new_figure, shares
from hrm_gym.scripts.experiments.evaluate import about, judged, publish, rate, result_of
from hrm_gym.scripts.main import run
from hrm_gym.scripts.options import parse

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROGRAM = "python -m hrm_gym.scripts.experiments.depth"
HEAD = 32
"""Channels of a head, whatever the width."""


@dataclass(frozen=True)
class DepthConfig:
    """Train direct-prediction Transformers of several depths and widths, and a recurrent one and an HRM next to them.

    All see as many puzzles an update and make as many updates, with the same settings. The direct ones come from the
    recipe by running every layer once (HRM paper, figure 2). What is finished is kept: the same command goes on where
    it was stopped.

    Attributes:
        recipe: Recipe of `hrm-gym train` that all are made from.
        updates: Optimiser updates of every network.
        layers: Depths of the direct networks, even numbers, at the recipe's width.
        widths: Channels of the direct networks, multiples of 32, at the recipe's depth.
        puzzles: Held-out puzzles on which all are judged, the same for all.
        seed: Of weights and puzzles.
        runs: Folder of the runs.
        out: Folder for depth.json, depth.png and depth.md.
        threads: CPU threads.
    """

    recipe: str = "sudoku-4x4"
    updates: int = 1500
    layers: tuple[int, ...] = (2, 4, 8, 16)
    widths: tuple[int, ...] = (32, 64, 128, 256)
    puzzles: int = 1000
    seed: int = 0
    runs: Path = Path("runs/depth")
    out: Path = Path("runs/depth")
    threads: int = 1


def main(argv: Sequence[str]) -> int:
    """Run the experiment; returns 0.

    Raises:
        ValueError: an unknown recipe, or a number out of range.
    """
    config = parse(DepthConfig, PROGRAM, argv)
    networks = chosen(config)
    torch.set_num_threads(config.threads)
    results = [carried_out(config, name, recipe) for name, recipe in networks.items()]
    told = about()
    content = {**told, "recipe": config.recipe, "results": results}
    publish(config.out, "depth", content, table(config, told, results), drawn(config, results))
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
    if config.updates < 1 or config.puzzles < 1 or config.threads < 1:
        given = f"{config.updates}, {config.puzzles}, {config.threads}"
        raise ValueError(f"expected updates, puzzles and threads above 0, got {given}")
    base = dataclasses.replace(RECIPES[config.recipe], updates=config.updates, seed=config.seed, init="")
    base = dataclasses.replace(base, warmup=min(base.warmup, config.updates // 10), checkpoint_every=100)
    found = {"hrm": base, "recurrent": recurrent(base)}
    deep, wide = flat_models(config)
    return found | {_name(model): dataclasses.replace(direct(base), model=model) for model in (*deep, *wide)}


def flat_models(config: DepthConfig) -> tuple[list[HRMConfig], list[HRMConfig]]:
    """The direct-prediction networks: one of each depth at the recipe's width, one of each width at its depth."""
    flat = direct(RECIPES[config.recipe]).model
    deep = [dataclasses.replace(flat, h_layers=n // 2, l_layers=n // 2) for n in config.layers]
    return deep, [dataclasses.replace(flat, hidden_size=n, heads=n // HEAD) for n in config.widths]


def _name(model: HRMConfig) -> str:
    return f"direct-{model.h_layers + model.l_layers}x{model.hidden_size}"


def carried_out(config: DepthConfig, name: str, recipe: Recipe) -> dict[str, Any]:
    """The result of one network: read if it is there, else worked out and written."""
    folder = config.runs / f"{config.recipe}-{name}-{config.updates}-seed{config.seed}"
    asked = {"name": name, "updates": config.updates, "seed": config.seed, "puzzles": config.puzzles}

    def work() -> dict[str, Any]:
        trainer = Trainer(recipe, folder, compile=False)
        for row in trainer.fit():
            if "eval_exact" in row:
                line = f"{name}: update {row['update']:.0f} of {config.updates}, exact {row['eval_exact']:.3f}"
                print(line, file=sys.stderr, flush=True)
        model = HRM(recipe.model)
        model.load_state_dict(trainer.weights())
        agent = HRMAgent(model, trainer.feed.family, max_segments=recipe.model.max_segments, device="cpu")
        return {
            "layers": recipe.model.h_layers + recipe.model.l_layers,
            "width": recipe.model.hidden_size,
            "parameters": model.parameter_count(),
            "seconds": round(trainer.seconds, 1),
            "puzzles_seen": trainer.fed,
            **judged(recipe.env_id, recipe.env, agent, config.puzzles),
        }

    return result_of(folder / "result.json", asked, work)


def table(config: DepthConfig, told: dict[str, str], results: list[dict[str, Any]]) -> str:
    """The Markdown page."""
    lines = [
        "# Depth against width",
        "",
        f"Networks of the recipe `{config.recipe}`, {config.updates:,} updates each; `direct-LxC` runs L layers of C "
        f"channels once. Judged on {config.puzzles:,} held-out puzzles, the same for all. In brackets: 95 % Wilson "
        "intervals. Seconds are of one processor core and depend on what else it did.",
        "",
        "| network | parameters | exact | solved | cells right | puzzles seen | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in results:
        rates = " | ".join(rate(row, name) for name in ("exact", "solved"))
        rest = f"{100 * row['cells']:.1f} % | {row['puzzles_seen']:,} | {row['seconds']:,.0f}"
        lines.append(f"| {row['name']} | {row['parameters']:,} | {rates} | {rest} |")
    default = DepthConfig()
    sizes = "".join(
        f" --{name} {' '.join(map(str, getattr(config, name)))}"
        for name in ("layers", "widths")
        if getattr(config, name) != getattr(default, name)
    )
    command = f"{PROGRAM} --recipe {config.recipe} --updates {config.updates}{sizes} --puzzles {config.puzzles}"
    closing = f"`{command} --seed {config.seed}`, {told['date']}, {told['machine']}."
    return "\n".join([*lines, "", "![exact against depth and width](depth.png)", "", closing, ""])


def drawn(config: DepthConfig, results: list[dict[str, Any]]) -> Figure:
    """Two panels: exact against layers and against channels; the recurrent networks as levels across."""
    title = f"{config.recipe}, {results[0]['updates']:,} updates each"
    picture, (panels,) = new_figure((8.4, 3.6), title, columns=2)
    by_name = {row["name"]: row for row in results}
    labels, every = ("layers", "channels"), flat_models(config)
    for axes, label, models, places in zip(panels, labels, every, (config.layers, config.widths), strict=True):
        rows = [by_name[_name(model)] for model in models]
        bounds = [tuple(row["exact_interval"]) for row in rows]
        line(axes, places, [row["exact"] for row in rows], BLUE, "direct prediction", bounds=bounds)
        level(axes, by_name["hrm"]["exact"], "HRM", ORANGE)
        level(axes, by_name["recurrent"]["exact"], "recurrent Transformer of equal size", GREEN)
        doubling(axes, places)
        shares(axes)
        axes.set(xlabel=label, ylabel="held-out puzzles exact")
    legend(picture)
    return picture


if __name__ == "__main__":
    sys.exit(run(main))
