"""`hrm-gym solve`: let agents solve puzzles; watch them live or as a GIF, then read the table."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium as gym
import tyro

from hrm_gym.agents.agent import Agent
from hrm_gym.evaluation.compare.plan import agent_for
from hrm_gym.evaluation.films import RECORD_SUFFIX, REPLAY_SUFFIX, Player, check_save_path, write_jsonl
from hrm_gym.evaluation.rollout import Env, rollout_batched
from hrm_gym.evaluation.scores import Score, puzzle_count, score, to_table, write_json
from hrm_gym.files import check_writable
from hrm_gym.registry import read_env
from hrm_gym.scripts import viewer
from hrm_gym.scripts.options import parse, say, with_progress

DEFAULT_AGENTS = ("hrm", "ppo", "random", "oracle")
DEFAULT_EPISODES = 100
HRM_AGENTS = ("hrm", "hrm-vote", "hrm-first", "hrm-adapt", "hrm-search")


def _arg(metavar: str, default: str = "") -> Any:
    """How an option stands in the help: the name of its value, and what holds without it."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=f"(default: {default})" if default else "")


@dataclass(frozen=True)
class SolveConfig:
    """Let agents solve puzzles: watch them live (or as a GIF where there is no display), then read the table.

    Attributes:
        env_id: A registered environment, with constructor arguments as ID:argument=value,… where wanted.
        agent: hrm, hrm-vote, hrm-first, hrm-adapt (which learns from a task's demonstrations first), hrm-search (which
            guesses where it is stuck), ppo, maskableppo, a2c, dqn, random, oracle, stored, a plug-in's name or
            module:factory; several may be named. NAME=PATH gives an agent other weights than the bundled ones,
            hrm-vote=PATH+PATH and hrm-first=PATH+PATH several networks at once.
        episodes: Puzzles an agent.
        source: Take puzzles from the bundled bank (under random symmetries), generate new ones, or play a file.
        data: Play the rows of this CSV file (source,question,answer,rating) in order.
        max_segments: Segments after which an answer is forced; may exceed what the HRM was trained with.
        halting: When an HRM stops before that: q (its own decision), fixed:8, confidence:0.99 (every free cell is
            that sure; confidence:0.99:mean for their mean), stable:2 (two segments changed nothing) or never;
            q,stable:2 is whichever halts first.
        check: Let an HRM halt only on an answer that breaks no rule.
        no_check: Let it halt on any answer.
        restart: Segments after which a thought that has not halted restarts; 0 never.
        votes: Let every HRM (only hrm-vote, if that is among the agents) solve so many symmetric images of each puzzle
            and vote on the answer.
        agree: Halt when so many of the votes at their end are for equally good answers; 0 waits for all votes.
        first: Let every HRM (only hrm-first, if that is among the agents) solve so many symmetric images of each
            puzzle; the first to halt gives the answer.
        adapt: Optimiser updates with which hrm-adapt learns each task from its demonstrations.
        adapt_whole: Let a copy of its whole network learn, not the puzzle embedding alone.
        adapt_lr: Learning rate of that copy.
        adapt_batch: Demonstrations, or images of them, that are under way at once while hrm-adapt learns.
        adapt_known: Begin with what the network knows of the task, if it was part of its training.
        compile: Compile the networks; pays off for long runs.
        batch: Boards in play at a time while the figures are taken.
        save: Write a film (.gif or .mp4) or a page that goes through the segments (.html) of the first five puzzles, or
            a record (.jsonl) of all, instead of opening a window.
        render: Show the first five puzzles. The figures are taken without rendering in any case.
        together: Show all agents side by side on the same puzzle; --no-together shows one after another.
        speed: How many times as fast as usual agents are shown.
        hold: Seconds that the end of a puzzle stays on film.
        json: Write the figures to this file; implies --no-render.
        seed: Which stream of puzzles.
        split: Which part of the puzzles.
        size: Side length of the grid.
    """

    env_id: Annotated[tyro.conf.Positional[str], _arg("[ENV_ID]", "HRMMaze-v0")] = "HRMMaze-v0"
    agent: Annotated[tuple[str, ...], _arg("NAME", "hrm ppo random oracle, where weights fit")] = ()
    episodes: Annotated[int | None, _arg("N", "100, or every row of --data")] = None
    source: Annotated[str, tyro.conf.arg(metavar="bank|generate|FILE")] = "bank"
    data: Annotated[Path | None, _arg("FILE.csv")] = None
    max_segments: Annotated[int | None, _arg("M", "the environment's own")] = None
    halting: Annotated[str | None, _arg("RULE", "what suits the weights, mostly q")] = None
    check: Annotated[bool, tyro.conf.FlagCreatePairsOff, _arg("", "what suits the weights")] = False
    no_check: Annotated[bool, tyro.conf.FlagCreatePairsOff, _arg("", "what suits the weights")] = False
    restart: Annotated[int | None, _arg("N", "what suits the weights")] = None
    votes: Annotated[int, _arg("N", "1")] = 1
    agree: Annotated[int, _arg("N", "0")] = 0
    first: Annotated[int, _arg("N", "1")] = 1
    adapt: Annotated[int, _arg("N", "300")] = 300
    adapt_whole: bool = False
    adapt_lr: Annotated[float, _arg("RATE", "1e-4")] = 1e-4
    adapt_batch: Annotated[int, _arg("B", "16")] = 16
    adapt_known: bool = False
    compile: bool = False
    batch: Annotated[int, _arg("B", "64")] = 64
    save: Annotated[Path | None, _arg("OUT.gif")] = None
    render: bool = True
    together: bool = True
    speed: Annotated[float, _arg("X", "1")] = 1.0
    hold: Annotated[float, _arg("SECONDS", "3")] = viewer.HOLD
    json: Annotated[Path | None, _arg("FILE.json")] = None
    seed: int = 0
    split: Literal["train", "test"] = "test"
    size: Annotated[int | None, _arg("N", "the environment's own")] = None


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym solve`.

    Args:
        argv: the arguments after `solve`.

    Returns:
        0.

    Raises:
        ValueError: for bad input of any kind; the message fits on one line.
        OSError: for files that cannot be read or written.
    """
    config = parse(SolveConfig, "hrm-gym solve", spread_agents(argv), append=True)
    check(config)
    command = shlex.join(["hrm-gym", "solve", *argv])
    worlds = Worlds(config)
    agents = _agents(config, worlds)
    _show(config, worlds, agents, command)
    scores = [_figures(config, worlds, agent) for agent in agents]
    _print_table(scores)
    if config.json is not None:
        write_json(scores, config.json)
        say(f"figures: {config.json}")
    return 0


def spread_agents(argv: Sequence[str]) -> list[str]:
    """Write every agent as its own `--agent NAME`, however they were given.

    `--agent a b`, `--agent a,b` and `--agent a --agent b` mean the same. What looks like an environment's id is none.

    >>> spread_agents(["--agent", "hrm", "oracle", "HRMMaze-v0", "--seed", "3"])
    ['--agent', 'hrm', '--agent', 'oracle', 'HRMMaze-v0', '--seed', '3']
    """
    found: list[str] = []
    listing = False
    for argument in argv:
        if argument == "--agent" or argument.startswith("--agent="):
            listing = True
            argument = argument[len("--agent=") :]
        elif argument.startswith("-") or re.search(r"-v\d+$", argument):
            listing = False
        names = [name for name in argument.split(",") if name] if listing else []
        found.extend(word for name in names for word in ("--agent", name))
        found.extend([] if listing else [argument])
    return found


class Worlds:
    """Makes the environments that a configuration asks for; they share one source, so a data file is read once.

    Attributes:
        env_id: id of the environment.
        seed: which stream of puzzles; None for a data file, which is played row by row.
        episodes: puzzles an agent plays.
        modes: action modes of the environment.
    """

    def __init__(self, config: SolveConfig) -> None:
        """Find the environment and read its puzzles.

        Raises:
            ValueError, OSError, gymnasium.error.Error: if the id, an option or the file is bad.
        """
        self.env_id, given = read_env(config.env_id)
        options = {"source": config.data or config.source, "size": config.size, "max_segments": config.max_segments}
        asked = {key: value for key, value in options.items() if value is not None}
        self._options: dict[str, Any] = {**asked, "split": config.split, **given}
        self.seed = config.seed if config.data is None else None
        world: Any = self.make("answer").unwrapped
        if not hasattr(world, "puzzle_source"):
            raise ValueError(f"expected an environment of puzzles to solve, got {self.env_id}")
        self._options["source"], self.modes = world.puzzle_source, tuple(world.modes)
        rows = len(self._options["source"]) if config.data is not None else None
        wanted = config.episodes if config.episodes is not None else rows or DEFAULT_EPISODES
        self.episodes = min(wanted, rows) if rows is not None else wanted

    def make(self, action_mode: str, render_mode: str | None = None) -> Env:
        """One environment in an action mode."""
        options = {**self._options, "action_mode": action_mode, "render_mode": render_mode}
        try:
            return gym.make(self.env_id, disable_env_checker=True, **options)
        except TypeError as error:
            raise ValueError(f"{self.env_id} does not take the options of solve: {error}") from error


def check(config: SolveConfig) -> None:
    """Refuse numbers out of range and paths that cannot be written, before any work."""
    for name in ("episodes", "batch", "max_segments", "size", "votes", "first", "adapt", "adapt_batch"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ValueError(f"expected --{name.replace('_', '-')} of at least 1, got {value}")
    if not (config.speed > 0 and config.hold >= 0):
        raise ValueError(f"expected --speed above 0 and --hold of at least 0, got {config.speed} and {config.hold}")
    if config.votes > 1 and config.first > 1:
        raise ValueError(f"expected --votes or --first, got both: {config.votes} and {config.first}")
    if config.check and config.no_check:
        raise ValueError("expected --check or --no-check, got both")
    if config.restart is not None and config.restart < 0:
        raise ValueError(f"expected --restart of at least 0, got {config.restart}")
    named = _named(config)
    if config.agree < 0 or (config.agree and config.votes == 1 and "hrm-vote" not in named):
        raise ValueError(f"expected --agree of at least 0, with --votes or hrm-vote, got {config.agree}")
    if _thinking(config, "hrm")[1] and not set(named) & set(HRM_AGENTS):
        options = "--halting, --check, --restart, --votes, --first and --compile"
        raise ValueError(f"expected an HRM among the agents for {options}, got {', '.join(named)}")
    if config.save is not None:
        check_save_path(config.save)
    if config.json is not None:
        check_writable(config.json)


def _agents(config: SolveConfig, worlds: Worlds) -> list[Agent]:
    """The agents that were named; of the default ones those whose weights fit, with a line for each of the others."""
    if config.agent:
        return [agent_named(name, config, worlds) for name in dict.fromkeys(config.agent)]
    found = []
    for name in DEFAULT_AGENTS:
        try:
            found.append(agent_named(name, config, worlds))
        except (ValueError, FileNotFoundError) as error:
            say(f"{name}: {' '.join(str(error).split())} (skipped)", file=sys.stderr)
    return found


def agent_named(label: str, config: SolveConfig, worlds: Worlds) -> Agent:
    """The agent `NAME`, `NAME@MODE` or `NAME=WEIGHTS`, thinking as the configuration says."""
    name, _, weights = label.partition("=")
    name, _, mode = name.partition("@")
    factory, options = _thinking(config, name)
    given = {"weights": Path(weights)} if weights else {}
    agent = agent_for(factory, worlds.make, worlds.modes, mode or None, **given, **options)
    if weights:
        agent.name = label if factory == name else f"{label} {agent.name}"
    elif mode:
        agent.name += f"@{mode}"
    if "halting" in options:
        agent.name += f" {config.halting}"
    return agent


def _named(config: SolveConfig) -> list[str]:
    """The agents of a configuration, without modes and weights."""
    return [re.split("[@=]", label)[0] for label in config.agent or DEFAULT_AGENTS]


def _thinking(config: SolveConfig, name: str) -> tuple[str, dict[str, Any]]:
    """The factory behind a name, and those of its options that differ from its own defaults; only HRMs have any."""
    if name not in HRM_AGENTS:
        return name, {}
    options: dict[str, Any] = {} if config.halting is None else {"halting": config.halting}
    if config.check or config.no_check:
        options["check"] = config.check
    if config.restart is not None:
        options["restart"] = config.restart
    if config.compile:
        options["compile"] = True
    if name == "hrm-adapt":
        votes = {"votes": config.votes} if config.votes > 1 else {}
        learning = {"updates": config.adapt, "whole": config.adapt_whole, "lr": config.adapt_lr}
        learning |= {"batch": config.adapt_batch, "known": config.adapt_known}
        return name, {**options, **votes, **learning}
    if name == "hrm-search":
        return name, options
    named, agree = _named(config), {"agree": config.agree} if config.agree else {}
    if config.votes > 1 and (name == "hrm-vote" or "hrm-vote" not in named):
        return "hrm-vote", {**options, "votes": config.votes, **agree}
    if config.first > 1 and (name == "hrm-first" or "hrm-first" not in named):
        return "hrm-first", {**options, "images": config.first}
    return name, {**options, **(agree if name == "hrm-vote" else {})}


def _figures(config: SolveConfig, worlds: Worlds, agent: Agent) -> Score:
    """Play all puzzles in batches and take one agent's figures."""
    record = config.save is not None and config.save.suffix.lower() == RECORD_SUFFIX
    runs = rollout_batched(
        lambda: worlds.make(agent.action_mode), agent, worlds.episodes, config.batch, worlds.seed, keep_frames=record
    )
    episodes = sorted(with_progress(runs, worlds.episodes, agent.name), key=lambda episode: episode.index)
    if record:
        path = _save_path(config, agent.name)
        write_jsonl(episodes, path)
        say(f"{agent.name}: record in {path}")
    return score(episodes)


def _show(config: SolveConfig, worlds: Worlds, agents: Sequence[Agent], command: str) -> None:
    """Show the agents on the first puzzles, all side by side or one after another, as far as that is wanted."""
    if config.save is None and (not config.render or config.json is not None):
        return
    if config.save is not None and config.save.suffix.lower() == REPLAY_SUFFIX:
        _replay(config, worlds, agents, command)
        return
    if config.save is not None and config.save.suffix.lower() == RECORD_SUFFIX:
        return
    for group in [agents] if config.together else [[agent] for agent in agents]:
        if group:
            _show_group(config, worlds, group)


def _show_group(config: SolveConfig, worlds: Worlds, agents: Sequence[Agent]) -> None:
    """Open a window or write a film, as configuration and display allow."""
    shown = min(worlds.episodes, viewer.MAX_EPISODES)
    names = ", ".join(agent.name for agent in agents)
    path = _save_path(config, "-".join(agent.name for agent in agents), whole=config.together)
    if config.save is None and viewer.has_display() and _watch(worlds, agents, shown):
        return
    viewer.film_together(_players(worlds, agents), shown, worlds.seed, path, config.speed, config.hold)
    say(f"{names}: {puzzle_count(shown)} on film in {path}")


def _replay(config: SolveConfig, worlds: Worlds, agents: Sequence[Agent], command: str) -> None:
    """Write the page that goes through every segment of the first puzzles."""
    assert config.save is not None
    shown = min(worlds.episodes, viewer.MAX_EPISODES)
    viewer.replay_together(_players(worlds, agents), shown, worlds.seed, config.save, command)
    say(f"{', '.join(agent.name for agent in agents)}: replay of {puzzle_count(shown)} in {config.save}")


def _watch(worlds: Worlds, agents: Sequence[Agent], shown: int) -> bool:
    """Show the agents in a window; False if none could be opened."""
    if len(agents) == 1:
        window = worlds.make(agents[0].action_mode, "human")
        return viewer.watch_live(window, agents[0], shown, worlds.seed)
    return viewer.watch_together(_players(worlds, agents), shown, worlds.seed)


def _players(worlds: Worlds, agents: Sequence[Agent]) -> list[Player]:
    return [(worlds.make(agent.action_mode, "rgb_array"), agent) for agent in agents]


def _save_path(config: SolveConfig, name: str, whole: bool = False) -> Path:
    """Where a recording goes: `--save`, with the agent's name in it unless the file is about all or the only one."""
    env, name = (re.sub(r"[^\w.-]+", "-", text) for text in (config.env_id, name))
    if config.save is None:
        return Path("solves") / f"{env}-{name[:100]}.gif"
    return config.save if whole or len(config.agent) == 1 else config.save.with_stem(f"{config.save.stem}-{name}")


def _print_table(scores: Sequence[Score]) -> None:
    """Print the table as wide as the terminal lets it, on a pipe as wide as it needs to be."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    console.print(to_table(scores, console.width))
