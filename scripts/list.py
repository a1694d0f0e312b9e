"""`hrm-gym list`: what can be named on the command line, with the scores and the training times that are recorded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.table import Table

from hrm_gym.agents.pretrained import FOLDER, bundled
from hrm_gym.evaluation.pages import show
from hrm_gym.registry import agent_names, environment_ids
from hrm_gym.scripts.options import parse

What = Literal["all", "environments", "agents", "recipes"]

HELP = """usage: hrm-gym list [environments|agents|recipes]

The ids of environments, the agents with the weights that are bundled for them
and the first figure on their cards, and the recipes of `train` and `train-rl` with
the minutes that the trainings of the bundled weights took.

examples:
  hrm-gym list
  hrm-gym list agents
"""


@dataclass(frozen=True)
class ListConfig:
    """What can be named on the command line.

    Attributes:
        what: all, environments, agents or recipes.
    """

    what: Annotated[tyro.conf.Positional[What], tyro.conf.arg(metavar="[WHAT]")] = "all"


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym list`; returns 0."""
    if argv and argv[0] in ("-h", "--help"):
        print(HELP)
        return 0
    config = parse(ListConfig, "hrm-gym list", argv)
    tables = {"environments": environments_table, "agents": agents_table, "recipes": recipes_table}
    for name, make in tables.items():
        if config.what in ("all", name):
            show(make(), width=120)
    return 0


def environments_table() -> Table:
    """A row an id: its board and its action modes."""
    import gymnasium as gym

    table = _table("environments", "id", "board", "action modes")
    for env_id in environment_ids():
        world: Any = gym.make(env_id, disable_env_checker=True).unwrapped
        shape = "x".join(map(str, world.shape)) if hasattr(world, "shape") else "-"
        table.add_row(env_id, shape, ", ".join(getattr(world, "modes", ("continue or halt",))))
    return table


def agents_table() -> Table:
    """A row a set of bundled weights, and one for each agent that has none of its own."""
    table = _table("agents", "agent", "bundled weights", "first figure of its card")
    for name in agent_names():
        found = [folder for folder, _ in bundled(name)]
        for folder in found:
            table.add_row(name, folder.name, measured(folder))
        if not found:
            table.add_row(name, "those of hrm" if name.startswith("hrm-") else "-", "")
    return table


def recipes_table() -> Table:
    """A row a recipe, with the minutes of the run that made bundled weights."""
    from hrm_gym.agents.hrm.recipes import RECIPES
    from hrm_gym.agents.sb3.recipes import RECIPES as RL_RECIPES

    minutes = training_minutes()
    table = _table("recipes", "command", "environment", "minutes, one CPU core")
    for command, recipes in (("train", RECIPES), ("train-rl", RL_RECIPES)):
        for name, recipe in recipes.items():
            table.add_row(f"{command} {name}", recipe.env_id, minutes.get((command, name), "not recorded"))
    return table


def measured(folder: Path) -> str:
    """The first share with its interval in the card's section of measurements, e.g. `95.8 % (94.4 to 96.9)`."""
    card = folder / "CARD.md"
    text = card.read_text(encoding="utf-8").partition("## Measured")[2] if card.is_file() else ""
    found = re.search(r"\d+\.\d+ % \([\d.]+ to [\d.]+\)", text)
    return found[0] if found else "see its card"


def training_minutes() -> dict[tuple[str, str], str]:
    """(command, recipe) -> minutes, from the cards of the bundled weights that name both."""
    found = {}
    for card in sorted(FOLDER.glob("*/CARD.md")):
        text = card.read_text(encoding="utf-8")
        command = re.search(r"\| command \| `hrm-gym (train|train-rl) ([\w.-]+)`", text)
        time = re.search(r"\| time \| ([\d., +]+?) minutes", text)
        if command and time:
            found[command[1], command[2]] = time[1]
    return found


def words_after(command: str) -> list[str]:
    """What may follow a command, for shell completion."""
    if command in ("solve", "play", "record", "compare"):
        return [*environment_ids(), "--agent", "--episodes", "--source", "--seed"]
    if command in ("train", "train-rl"):
        if command == "train":
            from hrm_gym.agents.hrm.recipes import RECIPES

            return list(RECIPES)
        from hrm_gym.agents.sb3.recipes import RECIPES as RL_RECIPES

        return list(RL_RECIPES)
    known = {
        "weights": "average",
        "data": "build info fetch",
        "analyze": "segments scaling answers curve convergence dimensionality",
        "halting": "bank learn report",
        "list": "environments agents recipes",
    }
    return known.get(command, "").split()


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
