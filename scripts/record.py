"""`hrm-gym record`: solves for others to read: an HTML replay, a Minari data set, a film, a JSONL record."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import tyro

from hrm_gym.evaluation.compare.plan import Entrant, Label, Plan, World, enter, parse_world
from hrm_gym.evaluation.films import Player, check_save_path, write_jsonl
from hrm_gym.evaluation.minari_dataset import check_name, record_dataset
from hrm_gym.evaluation.rollout import rollout
from hrm_gym.evaluation.scores import puzzle_count
from hrm_gym.scripts import viewer
from hrm_gym.scripts.options import parse, say, spread_lists

HELP = """usage: hrm-gym record [ENV] --agent NAME [options]

Play puzzles and keep them: as a page that goes through the segments (--html), as a Minari data set (--minari, needs
pip install 'hrm-gym[minari]'), as a film (--film) or as JSON lines (--jsonl). Several agents share a page or a film.

examples:
  hrm-gym record HRMMaze-v0 --agent hrm ppo --html replay.html
  hrm-gym record HRMSudoku-v0:difficulty=hard --agent hrm --episodes 10 --html hard.html
  hrm-gym record HRMMaze-v0 --agent ppo --episodes 1000 --minari maze/ppo-v0
  hrm-gym record HRMSudokuMini-v0 --agent oracle@cell --episodes 500 --minari sudoku/oracle-v0 --jsonl oracle.jsonl
"""
FEW = 5
"""Puzzles on a page or a film unless somebody says; many make it large."""

MANY = 100
"""Puzzles of a data set or a record."""


@dataclass(frozen=True)
class RecordConfig:
    """Keep how agents solve puzzles.

    Attributes:
        env: An environment, ID or ID:argument=value,…; data=FILE plays a file's rows.
        agent: Agents, NAME, NAME@MODE, NAME=WEIGHTS, a plug-in's name or module:factory.
        episodes: Puzzles (5 on a page or a film, 100 otherwise).
        html: Write a page that goes through every segment to this file.
        minari: Make a Minari data set of this name, such as maze/hrm-v0; takes one agent.
        film: Write a .gif or .mp4.
        jsonl: Write a JSON object a line and an episode; takes one agent.
        seed: Which stream of puzzles.
        source: auto (new puzzles, the bank where none can be made), generate, bank, or what else the environment opens.
        split: Which part of the puzzles.
    """

    env: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[ENV]")] = "HRMMaze-v0"
    agent: tuple[str, ...] = ()
    episodes: int | None = None
    html: Path | None = None
    minari: str | None = None
    film: Path | None = None
    jsonl: Path | None = None
    seed: int = 0
    source: str = "auto"
    split: str = "test"


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym record`.

    Returns:
        0.

    Raises:
        ValueError: for bad input of any kind; the message fits on one line.
        OSError: for files that cannot be read or written.
    """
    if argv and argv[0] in ("-h", "--help"):
        print(HELP)
    config = parse(RecordConfig, "hrm-gym record", spread_lists(argv, ("--agent",)), append=True)
    check(config)
    plan = Plan((config.env,), config.agent, source=config.source, split=config.split)
    world = parse_world(config.env, plan)
    entrants = [enter(Label.parse(label), world)[0] for label in config.agent]
    _record(config, world, entrants, shlex.join(["hrm-gym", "record", *argv]))
    return 0


def check(config: RecordConfig) -> None:
    """Refuse what cannot be recorded, before any work.

    Raises:
        ValueError, OSError: in a line.
    """
    if not config.agent:
        raise ValueError("expected at least one --agent, got none")
    if config.episodes is not None and config.episodes < 1:
        raise ValueError(f"expected --episodes of at least 1, got {config.episodes}")
    for name, suffixes in (("html", (".html",)), ("film", (".gif", ".mp4")), ("jsonl", (".jsonl",))):
        path = getattr(config, name)
        if path is not None and path.suffix.lower() not in suffixes:
            raise ValueError(f"expected --{name} to end in {' or '.join(suffixes)}, got {path.name!r}")
        if path is not None:
            check_save_path(path)
    if config.minari is not None:
        check_name(config.minari)
    if all(one is None for one in (config.html, config.minari, config.film, config.jsonl)):
        raise ValueError("expected --html, --minari, --film or --jsonl, got none: there is nothing to write")
    if len(config.agent) > 1 and (config.minari is not None or config.jsonl is not None):
        raise ValueError(f"expected one --agent for --minari and --jsonl, got {', '.join(config.agent)}")


def _record(config: RecordConfig, world: World, entrants: Sequence[Entrant], command: str) -> None:
    """Write all that was asked for."""
    seed = world.seed(config.seed)
    few, many = (world.length(config.episodes or default) for default in (FEW, MANY))
    if config.html is not None:
        viewer.replay_together(_players(world, entrants), few, seed, config.html, command)
        say(f"replay of {puzzle_count(few)}: {config.html}")
    if config.film is not None:
        viewer.film_together(_players(world, entrants), few, seed, config.film)
        say(f"film of {puzzle_count(few)}: {config.film}")
    agent = entrants[0].agent
    if config.jsonl is not None:
        write_jsonl(list(rollout(world.make(agent.action_mode), agent, many, seed)), config.jsonl)
        say(f"record of {puzzle_count(many)}: {config.jsonl}")
    if config.minari is not None:
        made = record_dataset(_plain(world, agent.action_mode), agent, many, config.minari, seed, command=command)
        say(f"Minari data set {config.minari}: {made.total_episodes} episodes, {made.total_steps} steps")


def _players(world: World, entrants: Sequence[Entrant]) -> list[Player]:
    return [(world.make(entrant.agent.action_mode, "rgb_array"), entrant.agent) for entrant in entrants]


def _plain(world: World, action_mode: str) -> Any:
    """The environment made with values that a data set can keep."""
    options: dict[str, Any] = {
        name: str(value) if isinstance(value, Path) else value for name, value in world.options.items()
    }
    return gym.make(world.env_id, disable_env_checker=True, action_mode=action_mode, **options)
