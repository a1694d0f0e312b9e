"""The options that commands share, each defined once, and how a command line becomes a config dataclass.

`PuzzleOptions` says which puzzles, `AgentOptions` who solves them and how HRMs halt, `PanelOptions` adds votes and
learning from demonstrations, `RunOptions` says what they run on. A command's config inherits what it takes.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

import gymnasium as gym
import tyro

from hrm_gym._program import ended_at_once
from hrm_gym.agents.agent import Agent
from hrm_gym.evaluation.compare.plan import Entrant, Label, World, enter, parse_world
from hrm_gym.registry import FACTORIES, unknown

Config = TypeVar("Config")

DEFAULT_AGENTS = ("hrm", "ppo", "random", "oracle")
DEFAULT_EPISODES = 100
SHOWN = 5
"""Puzzles on a film, a page or a picture unless --episodes says; more of them make it long and large."""

ENV = r"[\w.]+(:[\w.]+)?-v\d+(:|$)"
"""What a person's text for an environment looks like."""

HRM_AGENTS = ("hrm", "hrm-vote", "hrm-first", "hrm-adapt", "hrm-search")


def arg(metavar: str = "", default: str = "", **options: Any) -> Any:
    """How an option stands in the help: the name of its value, and what holds without it."""
    make: Any = tyro.conf.arg  # its overloads do not take what is passed on
    shown = {"metavar": metavar} if metavar else {}
    return make(help_behavior_hint=f"(default: {default})" if default else "", **shown, **options)


Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff, arg()]
Env = Annotated[tyro.conf.Positional[str], arg("[ENV]", "HRMMaze-v0")]
Bank = Annotated[Path | None, arg("FILE.npz", "the bundled one")]
Json = Annotated[Path | None, arg("FILE.json")]


@dataclass(frozen=True)
class RunOptions:
    """What a command runs on.

    Attributes:
        threads: CPU threads; 0 leaves torch's own choice.
        device: auto, cpu, cuda or mps.
    """

    threads: int = 1
    device: Annotated[str, arg("NAME", "auto")] = "auto"

    def use_threads(self) -> None:
        """Give torch the threads that were asked for."""
        with ended_at_once():
            import torch

        at_least(0, self, "threads")
        if self.threads:
            torch.set_num_threads(self.threads)


@dataclass(frozen=True)
class PuzzleOptions:
    """Which puzzles.

    Attributes:
        episodes: Puzzles; films, pages and pictures show the first five unless it is given.
        source: bank (bundled puzzles under random symmetries), generate (new ones), auto (new ones where the
            environment can make any), or a file of puzzles (CSV, JSON), a folder or owner/name on the Hugging Face hub,
            of which the rows are played in order.
        split: Which part of the puzzles; held-out is validation and test.
        seed: Which stream of puzzles; rows of a file, and grids of ARC that are not augmented, have none.
        size: Side length of the grid.
        difficulty: Of a Sudoku: easy, medium, hard, extreme.
        box: Rows and columns of a Sudoku's boxes.
    """

    episodes: Annotated[int | None, arg("N", "100, or every row of a file or grid of ARC")] = None
    source: Annotated[str, arg("bank|generate|auto|FILE", "bank", aliases=("--data",))] = "bank"
    split: Literal["train", "validation", "test", "held-out"] = "test"
    seed: int = 0
    size: Annotated[int | None, arg("N", "the environment's own")] = None
    difficulty: Annotated[str | None, arg("LEVEL", "the environment's own")] = None
    box: Annotated[tuple[int, int] | None, arg("ROWS COLUMNS", "the environment's own")] = None

    def arguments(self) -> dict[str, Any]:
        """The environment's constructor arguments among these options, those that were given."""
        names = ("size", "difficulty", "box", "max_segments", "max_steps")
        at_least(1, self, "episodes", "size", "max_segments", "max_steps")
        given = {name: getattr(self, name, None) for name in names}
        return {name: value for name, value in given.items() if value is not None}

    def world(self, env: str) -> World:
        """The environment that a person's text and these options mean.

        Raises:
            ValueError: there is no such environment of puzzles, or a number is out of range.
        """
        found = parse_world(env, self.source, self.split, self.arguments())
        found.modes  # noqa: B018  # whatever is wrong with the puzzles is found out here
        return found

    def count(self, world: World, default: int = DEFAULT_EPISODES) -> int:
        """How many puzzles to play: a file's rows, or ARC's grids, at most."""
        everything = sys.maxsize if world.numbered and default == DEFAULT_EPISODES else default
        return world.length(self.episodes or everything)


@dataclass(frozen=True)
class BatchOptions:
    """How networks run.

    Attributes:
        compile: Compile the networks; pays off for long runs.
        batch: Boards in play at a time.
    """

    compile: Switch = False
    batch: int = 64

    def __post_init__(self) -> None:
        """Refuse numbers out of range, before any work."""
        at_least(1, self, "batch")


@dataclass(frozen=True)
class AgentOptions(BatchOptions):
    """Who solves them.

    Attributes:
        agent: hrm, hrm-vote, hrm-first (several thoughts), hrm-adapt (learns a task's demonstrations first), hrm-search
            (guesses where it is stuck), ppo, maskableppo, a2c, dqn, random, oracle, stored, llm=URL#MODEL (a language
            model), a plug-in's name or module:factory; several may be named. NAME@MODE is an action mode, NAME=WEIGHTS
            a folder or owner/name on the hub, NAME=A+B several networks of one vote; wildcards stand for several
            training seeds.
    """

    agent: Annotated[tuple[str, ...], arg("NAME", "hrm ppo random oracle, where weights fit; hrm in analyses")] = ()

    def __post_init__(self) -> None:
        """Refuse numbers out of range and what does not go together, before any work."""
        super().__post_init__()
        at_least(1, self, "max_segments", "votes", "first", "adapt", "adapt_batch", "adapt_snapshots", "budget")
        at_least(0, self, "restart", "agree")
        twice = sorted({name for name in self.agent if self.agent.count(name) > 1})
        if twice:
            raise ValueError(f"expected every --agent once, got {', '.join(twice)} twice")

    def named(self) -> list[str]:
        """The agents, without modes and weights."""
        return [re.split("[@=]", label)[0] for label in self.agent or DEFAULT_AGENTS]

    def thinking(self) -> dict[str, Any]:
        """What every HRM is given beyond its own defaults."""
        return {"compile": True} if self.compile else {}

    def settings(self, name: str) -> tuple[str, dict[str, Any]]:
        """The factory behind an agent's name, and what it is given beyond its own defaults.

        Raises:
            ValueError: there are options of HRMs, and no HRM among the agents.
        """
        options = self.thinking()
        if options and not set(self.named()) & set(HRM_AGENTS):
            flags = "--halting, --check, --no-check, --restart and --compile"
            raise ValueError(f"expected an HRM among the agents for {flags}, got {', '.join(self.named())}")
        device = getattr(self, "device", "auto")
        if device != "auto" and FACTORIES.get(name, "").startswith(("hrm_gym.agents.hrm.", "hrm_gym.agents.sb3.")):
            options["device"] = device
        return name, options if name in HRM_AGENTS else {k: v for k, v in options.items() if k == "device"}

    def enter(self, label: str, world: World) -> list[Entrant]:
        """The runs of the agent `NAME`, `NAME@MODE`, `NAME=WEIGHTS` in a world, by these options."""
        read = Label.parse(label)
        return enter(read, world, *self.settings(read.name))

    def entrants(self, world: World) -> list[Entrant]:
        """The agents that were named; of the default ones those whose weights fit, with a line for each other one."""
        if self.agent:
            return [entrant for label in self.agent for entrant in self.enter(label, world)]
        found = []
        for name in DEFAULT_AGENTS:
            try:
                found += self.enter(name, world)
            except (ValueError, FileNotFoundError) as error:
                print(f"{name}: {' '.join(str(error).split())} (skipped)", file=sys.stderr)
        return found

    def one_hrm(self, world: World, kind: type[Config] | None = None) -> Any:
        """The one HRM of an analysis.

        Raises:
            ValueError: another agent is named, or several; or one that is no `kind`.
        """
        labels = self.agent or ("hrm",)
        if len(labels) > 1 or self.named()[0] not in HRM_AGENTS:
            raise ValueError(f"expected --agent to be one of {', '.join(HRM_AGENTS)}, got {' '.join(labels)!r}")
        agent: Agent = self.enter(labels[0], world)[0].agent
        if kind is not None and not isinstance(agent, kind):
            raise ValueError(f"expected one HRM, got {labels[0]!r}: this study looks into a single network")
        return agent


@dataclass(frozen=True)
class RuleOptions(AgentOptions):
    """By which rule an HRM halts.

    Attributes:
        halting: When an HRM stops: q (its own decision), fixed:8, confidence:0.99 (every free cell is that sure;
            confidence:0.99:mean for their mean), stable:2 (two segments changed nothing) or never; q,stable:2 is
            whichever halts first.
    """

    halting: Annotated[str | None, arg("RULE", "what suits the weights, mostly q")] = None

    def thinking(self) -> dict[str, Any]:
        """What every HRM is given beyond its own defaults."""
        return super().thinking() | ({} if self.halting is None else {"halting": self.halting})


@dataclass(frozen=True)
class HaltingOptions(RuleOptions):
    """When an HRM halts.

    Attributes:
        check: Let an HRM halt only on an answer that breaks no rule.
        no_check: Let it halt on any answer.
        restart: Segments after which a thought that has not halted restarts; 0 never.
        max_segments: Segments after which an answer is forced; may exceed what the HRM was trained with.
    """

    check: Annotated[Switch, arg(default="what suits the weights")] = False
    no_check: Annotated[Switch, arg(default="what suits the weights")] = False
    restart: Annotated[int | None, arg("N", "what suits the weights")] = None
    max_segments: Annotated[int | None, arg("M", "the environment's own")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.check and self.no_check:
            raise ValueError("expected --check or --no-check, got both")

    def thinking(self) -> dict[str, Any]:
        """What every HRM is given beyond its own defaults."""
        given: dict[str, Any] = {"restart": self.restart}
        given["check"] = self.check if self.check or self.no_check else None
        return super().thinking() | {key: value for key, value in given.items() if value is not None}


@dataclass(frozen=True)
class PanelOptions(HaltingOptions):
    """HRMs that think several times about a puzzle, or learn from it first.

    Attributes:
        votes: Let every HRM (only hrm-vote, if that is among the agents) solve N symmetric images of each puzzle and
            vote on the answer.
        agree: Halt when N of the votes at their end are for equally good answers; 0 waits for all votes.
        first: Let every HRM (only hrm-first, if that is among the agents) solve N symmetric images of each puzzle; the
            first to halt gives the answer.
        adapt: Optimiser updates with which hrm-adapt learns each task from its demonstrations.
        adapt_whole: Let a copy of its whole network learn; --no-adapt-whole the puzzle embedding alone.
        adapt_lr: Learning rate of that copy.
        adapt_optimizer: Optimiser of that copy; muon fits the demonstrations in fewer updates.
        adapt_shift: Shift most demonstrations on their boards while hrm-adapt learns, input and output together.
        adapt_batch: Demonstrations, or images of them, that are under way at once while hrm-adapt learns.
        adapt_known: Begin with what the network knows of the task, if it was part of its training.
        adapt_snapshots: Times at which hrm-adapt answers while it learns, evenly spread; all answers vote.
        budget: Segments that hrm-search may run on a puzzle, in all lanes together. With --no-check it asks no rule.
    """

    votes: Annotated[int | None, arg("N", "1; hrm-vote 8, hrm-adapt 8 at most")] = None
    agree: Annotated[int, arg("N", "0")] = 0
    first: Annotated[int | None, arg("N", "1; hrm-first 8")] = None
    adapt: Annotated[int, arg("N", "120")] = 120
    adapt_whole: bool = True
    adapt_lr: Annotated[float, arg("RATE", "5e-3")] = 5e-3
    adapt_optimizer: Literal["adam_atan2", "muon"] = "muon"
    adapt_shift: bool = True
    adapt_batch: Annotated[int, arg("B", "32")] = 32
    adapt_known: bool = True
    adapt_snapshots: Annotated[int | None, arg("N", "once in ten updates")] = None
    budget: Annotated[int | None, arg("N", "any number")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.budget is not None and "hrm-search" not in self.named():
            raise ValueError(f"expected hrm-search among the agents for --budget, got {', '.join(self.named())}")
        votes, first = (self.votes or 1) > 1, (self.first or 1) > 1
        if votes and first:
            raise ValueError(f"expected --votes or --first, got both: {self.votes} and {self.first}")
        if self.agree and not votes and "hrm-vote" not in self.named():
            raise ValueError(f"expected --agree of at least 0, with --votes or hrm-vote, got {self.agree}")
        if (votes or first) and not set(self.named()) & set(HRM_AGENTS):
            raise ValueError(f"expected an HRM among the agents for --votes and --first, got {', '.join(self.named())}")

    def settings(self, name: str) -> tuple[str, dict[str, Any]]:
        """As those of `AgentOptions`; with --votes or --first, hrm becomes the agent that does so."""
        name, options = super().settings(name)
        if name == "hrm-adapt":
            learning: dict[str, Any] = {"updates": self.adapt, "whole": self.adapt_whole, "lr": self.adapt_lr}
            learning |= {"batch": self.adapt_batch, "known": self.adapt_known, "snapshots": self.adapt_snapshots}
            learning |= {"optimizer": self.adapt_optimizer, "shift": self.adapt_shift, "votes": self.votes}
            return name, {**options, **learning}
        if name == "hrm-search":
            return name, {**options, **({} if self.budget is None else {"budget": self.budget})}
        if name not in HRM_AGENTS:
            return name, options
        named, agree = self.named(), {"agree": self.agree} if self.agree else {}
        votes, first = self.votes, self.first
        if votes is not None and (name == "hrm-vote" or (votes > 1 and "hrm-vote" not in named)):
            return "hrm-vote", {**options, "votes": votes, **agree}
        if first is not None and (name == "hrm-first" or (first > 1 and "hrm-first" not in named)):
            return "hrm-first", {**options, "images": first}
        return name, {**options, **(agree if name == "hrm-vote" else {})}


def at_least(least: int, config: Any, *names: str) -> None:
    """Refuse options below a number; those that a config does not have, or that were not given, are none.

    Raises:
        ValueError: naming the option.
    """
    for name in names:
        value = getattr(config, name, None)
        if value is not None and value < least:
            raise ValueError(f"expected --{name.strip('_').replace('_', '-')} of at least {least}, got {value}")


# ---- from arguments to a config ----


def parse(kind: type[Config], prog: str, argv: Sequence[str], default: Config | None = None) -> Config:
    """A config dataclass from arguments; `--help` prints its docstring, its options and its `EXAMPLES`.

    A list option takes its values at once or one by one: `--agent a b`, `--agent a,b` and `--agent a --agent b`.

    Args:
        kind: the dataclass.
        prog: the command, for the help.
        argv: the arguments after it.
        default: where unmentioned settings come from, if not from the dataclass.

    Raises:
        ValueError: the arguments make no config; the message fits on one line.
        SystemExit: with code 0, after `--help`.
    """
    given: dict[str, Any] = {} if default is None else {"default": default}
    paragraphs = (kind.__doc__ or "").partition("Attributes:")[0].strip().split("\n\n")
    about = "\n\n".join(" ".join(part.split()) for part in paragraphs)
    said = io.StringIO()
    if {"--source", "--data"} <= {argument.partition("=")[0] for argument in argv}:
        raise ValueError("expected --source or --data, which are one option, got both")
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said), _narrow():
            args = gathered(argv, _lists(kind))
            found: Config = tyro.cli(kind, prog=prog, description=about, args=args, **given)
    except SystemExit as stop:
        if stop.code:
            raise ValueError(f"{flattened(said.getvalue())} (see {prog} --help)") from None
        for line in said.getvalue().strip().splitlines():
            print(textwrap.fill(line, 79) if line[:1] != " " else line.rstrip())
        print(f"\n{examples(getattr(kind, 'EXAMPLES', ()))}")
        raise
    return parsed(found)


def parse_recipe(
    kind: Callable[..., Config],
    recipes: Mapping[str, Any],
    prog: str,
    argv: Sequence[str],
    about: str,
    recipe_for: Callable[[str], Any],
) -> tuple[str, Config]:
    """The recipe's name and the config of a training command.

    Args:
        kind: the config dataclass, with a field `recipe`.
        recipes: recipes by name.
        prog: what comes before the recipe's name, e.g. `hrm-gym train`.
        argv: the recipe's name and the options.
        about: what the command's own help says.
        recipe_for: the recipe of an environment as a person names it.

    Raises:
        ValueError: no or an unknown recipe, or bad options.
        SystemExit: with code 0, after `--help`.
    """
    if argv and argv[0] in ("-h", "--help"):
        print_about(prog, "RECIPE", about, kind.EXAMPLES)  # type: ignore[attr-defined]
    if not argv:
        raise ValueError(f"no recipe given: expected one of {', '.join(recipes)} (see {prog} --help)")
    name = argv[0]
    try:
        recipe = recipes[name]
    except KeyError:
        if ":" not in name and name not in gym.registry:
            if name and Path(name).exists():
                raise ValueError(
                    f"expected a recipe or an environment, got a file: {prog} ENV --source {name}"
                ) from None
            raise ValueError(f"{unknown('recipe', name, recipes)}, or an environment (see {prog} --help)") from None
        recipe = recipe_for(name)
    default = kind(recipe=recipe)
    return name, parse(type(default), f"{prog} {name}", argv[1:], default)


def print_about(prog: str, what: str, about: str, shown: Sequence[str | tuple[str, str]]) -> NoReturn:
    """Print the help of a command whose options depend on its first argument, and leave."""
    blocks = [textwrap.fill(" ".join(part.split()), 79, break_on_hyphens=False) for part in about.split("\n\n")]
    print(f"usage: {prog} {what}|ENV [options]\n\n" + "\n\n".join(blocks))
    print(f"\n{prog} {what} --help shows every option with its default.\n\n{examples(shown)}")
    raise SystemExit(0)


def parsed(config: Config) -> Config:
    """The config, as `parse` found it; tests stop here."""
    return config


def examples(found: Sequence[str | tuple[str, str]]) -> str:
    """The end of a help text: commands, with a line on what they do where that is not plain.

    >>> print(examples(["hrm-gym list", ("hrm-gym solve", "watch agents")]))
    examples:
      hrm-gym list
      hrm-gym solve
          watch agents
    """
    lines = [f"\n  {one}" if isinstance(one, str) else f"\n  {one[0]}\n      {one[1]}" for one in found]
    return "examples:" + "".join(lines)


def gathered(argv: Sequence[str], lists: Mapping[str, bool]) -> list[str]:
    """Arguments with the values of every list option together, at the end; an environment's id is none of them.

    Args:
        argv: the arguments.
        lists: list options, each with whether commas separate its values too.

    >>> gathered(["--agent", "a,b", "HRMMaze-v0:size=5", "--agent=c", "--seed", "3"], {"--agent": True})
    ['HRMMaze-v0:size=5', '--seed', '3', '--agent', 'a', 'b', 'c']
    """
    rest: list[str] = []
    found: dict[str, list[str]] = {}
    values: list[str] | None = None
    commas = False
    for argument in argv:
        name, equals, value = argument.partition("=") if argument.startswith("--") else (argument, "", "")
        if name in lists:
            values, commas = found.setdefault(name, []), lists[name]
            argument = value if equals else ""
        elif re.match(r"-\D", argument) or (name not in found and commas and re.match(ENV, argument)):
            values = None
        if values is None:
            rest.append(argument)
        elif argument:
            values += (
                [part for part in argument.split(",") if part] if commas and not _is_path(argument) else [argument]
            )
    return [*rest, *(word for name, many in found.items() for word in (name, *many))]


def _is_path(label: str) -> bool:
    """Whether the weights of `NAME=WEIGHTS` are there under this very name, commas and all."""
    path = label.partition("=")[2]
    return path != "" and Path(path).exists()


def _lists(kind: type) -> dict[str, bool]:
    """The options of a config that take any number of values."""
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    many = [name for name in names if get_origin(hints[name]) is tuple and Ellipsis in get_args(hints[name])]
    return {f"--{name.replace('_', '-')}": name == "agent" for name in many}


@contextlib.contextmanager
def _narrow() -> Any:
    """Within, tyro writes for 80 columns, however wide the terminal."""
    before, width = os.environ.get("COLUMNS"), min(80, shutil.get_terminal_size().columns)
    os.environ["COLUMNS"] = str(width)
    try:
        yield
    finally:
        os.environ.pop("COLUMNS", None)
        os.environ.update({} if before is None else {"COLUMNS": before})


def flattened(box: str) -> str:
    """What an error box of tyro says, on one line, without its frame and its hints.

    >>> flattened("╭─ Value error ─╮\\n│ Error parsing --n: bad │\\n│ ─────── │\\n│ For full helptext, see x │\\n╰──╯")
    'Error parsing --n: bad'
    """
    lines = [re.sub(r"[\u2500-\u257f|]|-{5,}", " ", line).strip() for line in box.splitlines()[1:]]
    text = " ".join(line for line in lines if line)
    return (
        re.split(r"Got errors:|Argument helptext:|For full helptext|Perhaps you meant", text)[0].strip()
        or "bad arguments"
    )
