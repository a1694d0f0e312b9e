"""`hrm-gym compare`: any agents in any environments on the same puzzles, as one page, Markdown and JSON."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from hrm_gym.evaluation.compare.page import by_world, compare_page, markdown, terminal_table
from hrm_gym.evaluation.compare.plan import Plan
from hrm_gym.evaluation.compare.rows import DEFINITIONS, Row, make_rows
from hrm_gym.evaluation.compare.run import Comparison, filmed, missing_films, shoot, versions
from hrm_gym.evaluation.pages import printable, table_text
from hrm_gym.extras import load_extra
from hrm_gym.files import check_writable, write_atomically
from hrm_gym.scripts.options import parse, passing_bar, say, spread_lists

ENVS = ("HRMMaze-v0", "HRMSudokuMini-v0", "HRMSudoku-v0")
AGENTS = ("hrm", "ppo", "maskableppo", "dqn", "random", "oracle")
FORMAT_VERSION = 1

HELP = """usage: hrm-gym compare [options]

Let any agents play any environments on the same puzzles, each in its own action mode. The folder --out gets index.html
(one page, nothing else is needed to show it), compare.md and compare.json: what they solve, with 95 % intervals, what
they cost, their learning curves, and films side by side. Interrupted, even by kill -9, the same command goes on where
it stopped; with more agents, environments or puzzles it plays only those that are missing.

examples:
  hrm-gym compare                                       the bundled agents on mazes and on 4x4 and 9x9 Sudoku
  hrm-gym compare --env HRMMaze-v0 --env HRMSudokuMini-v0 --agent hrm ppo random oracle --episodes 500
  hrm-gym compare --env HRMSudoku-v0:difficulty=extreme,source=bank "HRMSudokuMini-v0:box=(2,3)"
  hrm-gym compare --env HRMSudokuExtreme-v0:data=test.csv --agent hrm=runs/sudoku
  hrm-gym compare --env HRMMaze-v0 --agent "ppo=runs/ppo-seed-*" hrm        three training seeds as one agent
  hrm-gym compare --env HRMMaze-v0 --agent my_module:make_agent oracle      your own, see docs/plugins.md
  hrm-gym compare --agent ppo@cell ppo@move                                 one agent in two action modes
"""


@dataclass(frozen=True)
class CompareConfig:
    """Let agents play environments on the same puzzles, and write one page about it.

    Attributes:
        env: Environments, ID or ID:argument=value,…; any argument of the environment. data=FILE plays a file's rows.
        agent: Agents, NAME, NAME@MODE, NAME=WEIGHTS; NAME is one of hrm, hrm-vote, hrm-first, ppo, random, oracle, …, a
            plug-in's, or module:factory. WEIGHTS with wildcards are several training seeds of one agent.
        episodes: Puzzles of each environment and seed.
        seed: Streams of puzzles; several are put together.
        out: The folder.
        source: Make new puzzles, or take the bundled bank under random symmetries; auto takes the bank only where none
            can be made. An environment's own argument wins.
        split: Which part of the puzzles.
        batch: Boards in play at a time; milliseconds a puzzle depend on it.
        chunk: Puzzles played, and kept, at a time.
        films: Puzzles on film; 0 makes none.
    """

    env: tuple[str, ...] = ()
    agent: tuple[str, ...] = ()
    episodes: int = 500
    seed: tuple[int, ...] = ()
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")] = Path("compare")
    source: Literal["auto", "generate", "bank"] = "auto"
    split: Literal["test", "train"] = "test"
    batch: int = 50
    chunk: int = 100
    films: int = 2

    def plan(self) -> Plan:
        """What is compared, the defaults filled in.

        Raises:
            ValueError: if a number is out of range or something is named twice.
        """
        rest = {name: getattr(self, name) for name in ("episodes", "batch", "chunk", "films", "source", "split")}
        return Plan(self.env or ENVS, self.agent or AGENTS, seeds=self.seed or (0,), **rest)


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym compare`.

    Returns:
        0.

    Raises:
        ValueError: for bad input of any kind; the message fits on one line.
        OSError: for files that cannot be read or written.
    """
    if argv and argv[0] in ("-h", "--help"):
        print(HELP)
    config = parse(CompareConfig, "hrm-gym compare", spread_lists(argv, ("--env", "--agent", "--seed")), append=True)
    comparison = Comparison(config.plan(), config.out)
    check_writable(config.out / "index.html")
    load_extra("matplotlib")  # the charts are drawn last: what is missing is said first
    try:
        comparison.enter()
        _play(comparison)
        _film(comparison)
    except KeyboardInterrupt:
        say(f"interrupted: the same command continues in {config.out}", file=sys.stderr)
        raise
    comparison.clear()
    _write(comparison, make_rows(comparison), shlex.join(["hrm-gym", "compare", *argv]))
    return 0


def _play(comparison: Comparison) -> None:
    """Play what is missing, with a bar."""
    parts = comparison.parts()
    there = sum(part.finished for part in parts)
    if there:
        say(f"going on in {comparison.folder}: {there} of {len(parts)} chunks are there", file=sys.stderr)
    with passing_bar(len(parts), "chunk", "playing") as bar:
        for part in comparison.run():
            bar.set_description(printable(f"{part.entrant.label.text} in {part.world.label}"), refresh=False)
            bar.update()


def _film(comparison: Comparison) -> None:
    """Make the films that are missing, with a bar."""
    missing = missing_films(comparison)
    with passing_bar(len(missing), "film", "films") as bar:
        for world, entrant in missing:
            bar.set_description(printable(f"film of {entrant.label.text} in {world.label}"), refresh=False)
            shoot(comparison, world, entrant)
            bar.update()


def _write(comparison: Comparison, rows: Sequence[Row], command: str) -> None:
    """Write the three files, and print the tables."""
    folder = comparison.folder
    about = {"title": _title(comparison.plan), "command": command, "facts": _facts(comparison, rows)}
    data = {
        "format_version": FORMAT_VERSION,
        **about,
        "versions": versions(),
        "plan": comparison.plan.to_json(),
        "columns": DEFINITIONS,
        "rows": [row.to_json() for row in rows],
    }
    films = {
        (world.label, entrant.label.text): comparison.film_path(world, entrant) for world, entrant in filmed(comparison)
    }
    written = {
        "compare.json": json.dumps(data, indent=1) + "\n",
        "compare.md": markdown(about, rows),
        "index.html": compare_page(about, rows, films, data),
    }
    for name, content in written.items():
        write_atomically(folder / name, content)
    _print(rows)
    say(f"page: {folder / 'index.html'}")


def _title(plan: Plan) -> str:
    return f"{len(plan.agents)} agents in {len(plan.envs)} worlds" if len(plan.envs) > 1 else f"{plan.envs[0]}: agents"


_SOURCES = {"generate": "made anew", "bank": "from the bundled bank, under random symmetries"}


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


def _print(rows: Sequence[Row]) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=100)
    for here in by_world(rows).values():
        console.print(terminal_table(here))
        for row in here:
            if row.absent:
                console.print(table_text(f"{row.agent}: {row.absent}", "dim"))
        console.print()
