"""`hrm-gym record`: solves for others to read: an HTML replay, a Minari data set, a film, a JSONL record."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from hrm_gym.evaluation.films import check_save_path, write_jsonl
from hrm_gym.evaluation.minari_dataset import check_name, record_dataset
from hrm_gym.evaluation.rollout import rollout
from hrm_gym.evaluation.scores import puzzle_count
from hrm_gym.registry import make_env
from hrm_gym.scripts import viewer
from hrm_gym.scripts.options import SHOWN, Env, PanelOptions, PuzzleOptions, RunOptions, arg, parse
from hrm_gym.scripts.output import say


@dataclass(frozen=True)
class Record(RunOptions, PanelOptions, PuzzleOptions):
    """Keep how agents solve puzzles: as a page that goes through the segments, as a film, as JSON lines, or as a Minari
    data set. Several agents share a page or a film; a record and a data set take one.

    Attributes:
        env: An environment of puzzles: ID, ID:argument=value,… or module:ID.
        html: Write a page that goes through every segment to this file.
        film: Write a .gif or .mp4.
        jsonl: Write a JSON object a line and an episode.
        minari: Make a Minari data set of this name, such as maze/hrm-v0; needs pip install 'hrm-gym[minari]'.
    """

    EXAMPLES = (
        "hrm-gym record HRMMaze-v0 --agent hrm ppo --html replay.html",
        "hrm-gym record HRMSudoku-v0 --difficulty hard --agent hrm --film hard.gif",
        "hrm-gym record --agent ppo --episodes 1000 --minari maze/ppo-v0",
    )
    env: Env = "HRMMaze-v0"
    html: Annotated[Path | None, arg("FILE.html")] = None
    film: Annotated[Path | None, arg("FILE.gif")] = None
    jsonl: Annotated[Path | None, arg("FILE.jsonl")] = None
    minari: Annotated[str | None, arg("NAME")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, suffixes in (("html", (".html",)), ("film", (".gif", ".mp4")), ("jsonl", (".jsonl",))):
            path = getattr(self, name)
            if path is not None and path.suffix.lower() not in suffixes:
                raise ValueError(f"expected --{name} to end in {' or '.join(suffixes)}, got {path.name!r}")
            if path is not None:
                check_save_path(path)
        if self.minari is not None:
            check_name(self.minari)
        if all(one is None for one in (self.html, self.minari, self.film, self.jsonl)):
            raise ValueError("expected --html, --minari, --film or --jsonl, got none: there is nothing to write")
        if len(self.named()) > 1 and (self.minari is not None or self.jsonl is not None):
            raise ValueError(f"expected one --agent for --minari and --jsonl, got {', '.join(self.named())}")


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym record`; returns 0."""
    config = parse(Record, "hrm-gym record", argv)
    config.use_threads()
    command, world = shlex.join(["hrm-gym", "record", *argv]), config.world(config.env)
    agents = [entrant.agent for entrant in config.entrants(world)]
    seed, few, many = world.seed(config.seed), config.count(world, SHOWN), config.count(world)

    def players() -> list[Any]:
        return [(world.make(agent.action_mode, "rgb_array"), agent) for agent in agents]

    if config.html is not None:
        viewer.replay_together(players(), few, seed, config.html, command)
        say(f"replay of {puzzle_count(few)}: {config.html}")
    if config.film is not None:
        viewer.film_together(players(), few, seed, config.film)
        say(f"film of {puzzle_count(few)}: {config.film}")
    agent = agents[0]
    if config.jsonl is not None:
        write_jsonl(list(rollout(world.make(agent.action_mode), agent, many, seed)), config.jsonl)
        say(f"record of {puzzle_count(many)}: {config.jsonl}")
    if config.minari is not None:
        # A data set keeps the arguments of its environment, so the source must be one that can be written down.
        options = {name: str(value) if isinstance(value, Path) else value for name, value in world.options.items()}
        env = make_env(world.env_id, **options, action_mode=agent.action_mode)
        made = record_dataset(env, agent, many, config.minari, seed, command=command)
        say(f"Minari data set {config.minari}: {made.total_episodes} episodes, {made.total_steps} steps")
    return 0
