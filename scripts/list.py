"""`hrm-gym list`: what can be named on the command line, with the scores and the training times that are recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from hrm_gym.agents.pretrained import FOLDER, bundled
from hrm_gym.registry import agent_names, environment_ids, make_env
from hrm_gym.scripts.options import arg, parse
from hrm_gym.scripts.output import new_table, share, show

if TYPE_CHECKING:
    from rich.table import Table

SCORES = "measured.json"
"""What `scripts/experiments/cards.py` measured of bundled weights; of an HRM first by its own decision alone."""


@dataclass(frozen=True)
class List:
    """What can be named on the command line: the ids of environments; the agents, with the weights that are bundled for
    them and the share of new test puzzles that these solve, HRMs by their own decision alone; the recipes of train and
    train-rl, with the minutes that the trainings of the bundled weights took.

    Attributes:
        what: all, environments, agents or recipes.
    """

    EXAMPLES = ("hrm-gym list", "hrm-gym list agents")
    what: Annotated[tyro.conf.Positional[Literal["all", "environments", "agents", "recipes"]], arg("[WHAT]", "all")] = (
        "all"
    )


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym list`; returns 0."""
    what = parse(List, "hrm-gym list", argv).what
    for name, make in {"environments": environments, "agents": agents, "recipes": recipes}.items():
        if what in ("all", name):
            show(make(), 120)
    return 0


def environments() -> Table:
    """A row an id: its board and its action modes."""
    table = new_table("environments", "id", "board", "action modes", left=3)
    for env_id in environment_ids():
        world: Any = make_env(env_id).unwrapped
        shape = "x".join(map(str, world.shape)) if hasattr(world, "shape") else "-"
        table.add_row(env_id, shape, ", ".join(getattr(world, "modes", ("continue or halt",))))
    return table


def agents() -> Table:
    """A row a set of bundled weights and a kind of puzzles, and one for each agent that has none of its own."""
    table = new_table("agents", "agent", "bundled weights", "puzzles", "solved", left=3)
    table.caption = (
        "new puzzles of the test split; hrm: by its own decision (Q-head) alone; in brackets: 95 % intervals"
    )
    for name in agent_names():
        found = [folder for folder, _ in bundled(name)]
        for folder in found:
            for puzzles, solved in measured(folder) or [("-", "-")]:
                table.add_row(name, folder.name, puzzles, solved)
        if not found:
            table.add_row(name, "those of hrm" if name.startswith("hrm-") else "-", "", "")
    return table


def measured(folder: Path) -> list[tuple[str, str]]:
    """The puzzles on which bundled weights were measured, each with the share solved."""
    path = folder / SCORES
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    firsts = {row["env"]: row for row in reversed(rows)}  # of each kind of puzzles the first row stays
    return [(env, share(row["solved"], row["solved_low"], row["solved_high"])) for env, row in reversed(firsts.items())]


def recipes() -> Table:
    """A row a recipe, with the minutes of the run that made bundled weights."""
    from hrm_gym.agents.hrm.recipes import RECIPES
    from hrm_gym.agents.sb3.recipes import RECIPES as RL_RECIPES

    minutes = dict(training_minutes())
    table = new_table("recipes", "command", "environment", "minutes, one CPU core", left=2)
    for command, found in (("train", RECIPES), ("train-rl", RL_RECIPES)):
        for name, recipe in found.items():
            table.add_row(f"{command} {name}", recipe.env_id, minutes.get(f"{command} {name}", "-"))
    return table


def training_minutes() -> Iterator[tuple[str, str]]:
    """Command and minutes of each training that made bundled weights, from their JSON; CPU time where it is known."""
    from hrm_gym.agents.hrm.recipes import RECIPES
    from hrm_gym.agents.sb3.recipes import RECIPES as RL_RECIPES

    names = {_identity(recipe.to_json()): f"train {name}" for name, recipe in RECIPES.items()}
    names |= {_identity(recipe.to_json()): f"train-rl {name}" for name, recipe in RL_RECIPES.items()}
    for config in sorted(FOLDER.glob("*/config.json")):
        about = json.loads(config.read_text(encoding="utf-8"))
        kind = {} if about["kind"] == "hrm" else {"algorithm": about["kind"]}
        for run in (about, *about.get("before", ()), *about.get("averaged", ())):
            command = run.get("command", "").removeprefix("hrm-gym ") or names.get(_identity({**kind, **run["recipe"]}))
            if command:
                yield command, f"{run.get('processor_seconds', run['seconds']) / 60:.1f}"


def _identity(recipe: dict[str, Any]) -> str:
    """What tells recipes apart, whatever settings were added since."""
    names = ("env_id", "env", "algorithm", "updates", "timesteps", "seed")
    return json.dumps([recipe.get(name) for name in names])
