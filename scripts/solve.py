"""`hrm-gym solve`: let agents solve puzzles; watch them live or as a GIF, then read the table."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated

from hrm_gym.agents.agent import Agent
from hrm_gym.evaluation.compare.plan import World
from hrm_gym.evaluation.films import RECORD_SUFFIX, REPLAY_SUFFIX, Player, check_save_path, write_jsonl
from hrm_gym.evaluation.rollout import rollout_batched
from hrm_gym.evaluation.scores import Score, puzzle_count, score, to_table, write_json
from hrm_gym.files import check_writable
from hrm_gym.scripts import viewer
from hrm_gym.scripts.options import SHOWN, Env, Json, PanelOptions, PuzzleOptions, RunOptions, arg, parse
from hrm_gym.scripts.output import say, with_progress


@dataclass(frozen=True)
class Solve(RunOptions, PanelOptions, PuzzleOptions):
    """Let agents solve puzzles: watch them live, or as a GIF where there is no display, then read the table.

    Attributes:
        env: An environment of puzzles: ID, ID:argument=value,… or module:ID.
        save: Write a film (.gif or .mp4) or a page that goes through the segments (.html) of the first puzzles, or a
            record (.jsonl) of all, instead of opening a window.
        render: Show the first puzzles. The figures are taken without rendering in any case.
        together: Show all agents side by side on the same puzzle; --no-together shows one after another.
        speed: How many times as fast as usual agents are shown.
        hold: Seconds that the end of a puzzle stays.
        json: Write the figures to this file; implies --no-render.
    """

    EXAMPLES = (
        ("hrm-gym solve", "the bundled agents on HRMMaze-v0, live or as a GIF"),
        ("hrm-gym solve HRMSudoku-v0 --agent hrm oracle --episodes 1000 --no-render", "two agents, figures only"),
        ("hrm-gym solve HRMMazeHard-v0 --source train.csv --agent oracle", "your own puzzles"),
    )
    env: Env = "HRMMaze-v0"
    save: Annotated[Path | None, arg("OUT.gif")] = None
    render: bool = True
    together: bool = True
    speed: Annotated[float, arg("X", "1")] = 1.0
    hold: Annotated[float | None, arg("SECONDS", "3 on film; a window waits")] = None
    json: Json = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.speed > 0 and (self.hold or 0) >= 0):
            raise ValueError(f"expected --speed above 0 and --hold of at least 0, got {self.speed} and {self.hold}")
        if self.save is not None:
            check_save_path(self.save)
        if self.json is not None:
            check_writable(self.json)


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym solve`; returns 0."""
    config = parse(Solve, "hrm-gym solve", argv)
    config.use_threads()
    world = config.world(config.env)
    agents = _agents(config, world)
    command = shlex.join(["hrm-gym", "solve", *argv])
    _show(config, world, agents, command)
    scores = [_figures(config, world, agent) for agent in agents]
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    console.print(to_table(scores, console.width))
    if config.json is not None:
        given = ",".join(f"{name}={value}" for name, value in config.arguments().items() if name != "max_segments")
        puzzles = f"{config.env}{',' if ':' in config.env else ':'}{given}" if given else config.env
        write_json(scores, config.json, puzzles=puzzles, command=command, date=date.today().isoformat())
        say(f"figures: {config.json}")
    return 0


def _agents(config: Solve, world: World) -> list[Agent]:
    return [entrant.agent for entrant in config.entrants(world)]


def _figures(config: Solve, world: World, agent: Agent) -> Score:
    """Play all puzzles in batches and take one agent's figures."""
    record = config.save is not None and config.save.suffix.lower() == RECORD_SUFFIX
    make, count = lambda: world.make(agent.action_mode), config.count(world)
    runs = rollout_batched(make, agent, count, config.batch, world.seed(config.seed), keep_frames=record)
    episodes = sorted(with_progress(runs, count, agent.name), key=lambda episode: episode.index)
    if record:
        path = _save_path(config, agent.name)
        write_jsonl(episodes, path)
        say(f"{agent.name}: record in {path}")
    return score(episodes)


def _show(config: Solve, world: World, agents: Sequence[Agent], command: str) -> None:
    """Show the agents on the first puzzles, in a window or on film, as configuration and display allow."""
    suffix = "" if config.save is None else config.save.suffix.lower()
    if suffix == RECORD_SUFFIX or (config.save is None and (not config.render or config.json is not None)):
        return
    seed, count = world.seed(config.seed), min(SHOWN, config.count(world))
    page = config.save if suffix == REPLAY_SUFFIX else None
    for group in [agents] if config.together or page else [[agent] for agent in agents]:
        names = ", ".join(agent.name for agent in group)
        if page:
            viewer.replay_together(_players(world, group), count, seed, page, command)
            say(f"{names}: replay of {puzzle_count(count)} in {page}")
            continue
        seen = config.save is None and viewer.has_display()
        if seen and viewer.watch(_players(world, group), count, seed, config.speed, config.hold):
            continue
        path = _save_path(config, "-".join(agent.name for agent in group), whole=config.together)
        hold = viewer.HOLD if config.hold is None else config.hold
        viewer.film_together(_players(world, group), count, seed, path, config.speed, hold)
        say(f"{names}: {puzzle_count(count)} on film in {path}")


def _players(world: World, agents: Sequence[Agent]) -> list[Player]:
    return [(world.make(agent.action_mode, "rgb_array"), agent) for agent in agents]


def _save_path(config: Solve, name: str, whole: bool = False) -> Path:
    """Where a recording goes: `--save`, with the agent's name in it unless the file is about all or the only one."""
    env, name = (re.sub(r"[^\w.-]+", "-", text) for text in (config.env, name))
    if config.save is None:
        return Path("solves") / f"{env}-{name[:100]}.gif"
    return config.save if whole or len(config.agent) == 1 else config.save.with_stem(f"{config.save.stem}-{name}")
