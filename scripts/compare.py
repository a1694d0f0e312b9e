"""`hrm-gym compare`: any agents in any environments on the same puzzles, as one page, Markdown and JSON."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from hrm_gym.evaluation.compare.page import by_world, compare_page, markdown, terminal_table
from hrm_gym.evaluation.compare.plan import Label, Plan
from hrm_gym.evaluation.compare.rows import DEFINITIONS, Row, make_rows
from hrm_gym.evaluation.compare.run import Comparison, filmed, missing_films, shoot, versions
from hrm_gym.evaluation.pages import printable, table_text
from hrm_gym.extras import load_extra
from hrm_gym.files import check_writable, write_atomically
from hrm_gym.scripts.options import (
    DEFAULT_AGENTS,
    PanelOptions,
    PuzzleOptions,
    RunOptions,
    arg,
    at_least,
    parse,
)
from hrm_gym.scripts.output import passing_bar, say, show

ENVS = ("HRMMaze-v0", "HRMSudokuMini-v0", "HRMSudoku-v0")
FORMAT_VERSION = 1
_SOURCES = {"generate": "newly generated", "bank": "from the bundled bank, under random symmetries"}


@dataclass(frozen=True)
class Compare(RunOptions, PanelOptions, PuzzleOptions):
    """Let agents play environments on the same puzzles, each in its own action mode, and write one page about it: what
    they solve, with 95 % intervals, what they cost, their learning curves, and films side by side. Interrupted, even by
    kill -9, the same command continues where it stopped; with more agents, environments or puzzles it plays only those
    that are missing.

    Attributes:
        env: Environments: ID, ID:argument=value,… or module:ID.
        seeds: Streams of puzzles that are put together: that of --seed, the next one, ….
        out: The folder for index.html (one page, nothing else is needed to show it), compare.md and compare.json.
        chunk: Puzzles played, and kept, at a time.
        films: Puzzles on film; 0 makes none.
    """

    EXAMPLES = (
        "hrm-gym compare --env HRMMaze-v0 HRMSudokuMini-v0 --agent hrm ppo oracle",
        ("hrm-gym compare --env HRMSudoku-v0:difficulty=extreme --source generate", "new puzzles"),
        ('hrm-gym compare --agent "ppo=runs/ppo-seed-*" hrm', "three training seeds as one agent"),
    )
    env: Annotated[tuple[str, ...], arg("ENV", " ".join(ENVS))] = ()
    seeds: int = 1
    out: Annotated[Path, arg("FOLDER", "compare")] = Path("compare")
    chunk: int = 100
    films: int = 2


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym compare`; returns 0."""
    config = parse(Compare, "hrm-gym compare", argv)
    config.use_threads()
    at_least(1, config, "seeds")
    agents = config.agent or DEFAULT_AGENTS
    plan = Plan(
        config.env or ENVS,
        agents,
        config.episodes or max(config.count(config.world(env)) for env in config.env or ENVS),
        tuple(range(config.seed, config.seed + config.seeds)),
        config.batch,
        config.chunk,
        config.films,
        config.source,
        config.split,
        config.arguments(),
        {name: config.settings(name) for name in (Label.parse(text).name for text in agents)},
    )
    comparison = Comparison(plan, config.out)
    check_writable(config.out / "index.html")
    load_extra("matplotlib")  # the charts are drawn last: what is missing is reported first
    try:
        comparison.enter()
        _play(comparison)
        missing = missing_films(comparison)
        with passing_bar(len(missing), "film", "films") as bar:
            for world, entrant in missing:
                bar.set_description(printable(f"film of {entrant.label.text} in {world.label}"), refresh=False)
                shoot(comparison, world, entrant)
                bar.update()
    except KeyboardInterrupt:
        say(f"interrupted: the same command continues in {config.out}", file=sys.stderr)
        raise
    comparison.clear()
    _write(comparison, make_rows(comparison), shlex.join(["hrm-gym", "compare", *argv]))
    return 0


def _play(comparison: Comparison) -> None:
    """Play what is missing, with a bar."""
    parts = comparison.parts()
    if there := sum(part.finished for part in parts):
        say(f"continuing in {comparison.folder}: {there} of {len(parts)} chunks are there", file=sys.stderr)
    with passing_bar(len(parts), "chunk", "playing") as bar:
        for part in comparison.run():
            bar.set_description(printable(f"{part.entrant.label.text} in {part.world.label}"), refresh=False)
            bar.update()


def _write(comparison: Comparison, rows: Sequence[Row], command: str) -> None:
    """Write the three files, and print the tables."""
    folder, plan = comparison.folder, comparison.plan
    many = f"{len(plan.agents)} agents in {len(plan.envs)} worlds"
    about = {
        "title": many if len(plan.envs) > 1 else f"{plan.envs[0]}: agents",
        "command": command,
        "facts": _facts(comparison, rows),
    }
    data = {
        "format_version": FORMAT_VERSION,
        **about,
        "versions": versions(),
        "plan": plan.to_json(),
        "columns": DEFINITIONS,
        "rows": [row.to_json() for row in rows],
    }
    films = {
        (world.label, entrant.label.text): comparison.film_path(world, entrant) for world, entrant in filmed(comparison)
    }
    write_atomically(folder / "compare.json", json.dumps(data, indent=1) + "\n")
    write_atomically(folder / "compare.md", markdown(about, rows))
    write_atomically(folder / "index.html", compare_page(about, rows, films, data))
    for here in by_world(rows).values():
        show(terminal_table(here), 100)
        for row in here:
            if row.absent:
                show(table_text(f"{row.agent}: {row.absent}", "dim"), 100)
        print()
    say(f"page: {folder / 'index.html'}")


def _facts(comparison: Comparison, rows: Sequence[Row]) -> dict[str, str]:
    """What is to be known of how the figures were taken, in words."""
    plan = comparison.plan
    machines = sorted({machine for row in rows for machine in row.machines})
    loads = [load for row in rows for load in row.loads]
    busy = f"; load average while playing {min(loads)} to {max(loads)}" if loads else ""
    sources = {world.label: str(world.options["source"]) for world in comparison.worlds}
    said = "; ".join(f"{label}: {_SOURCES.get(source, source)}" for label, source in sources.items())
    return {
        "puzzles": f"{plan.episodes:,} of each seed, {plan.split} split. {said}",
        "seed": ", ".join(map(str, plan.seeds)),
        "boards at a time": str(plan.batch),
        "machine": "; ".join(machines) + busy,
        "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
        "date": time.strftime("%Y-%m-%d"),
    }
