"""Command-line arguments: tyro's parsing, with its errors as one line.

Progress bars of the commands: twice a second on a terminal, twice a minute in a log.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro
from tqdm import tqdm

from hrm_gym.evaluation.pages import printable
from hrm_gym.registry import unknown

Config = TypeVar("Config")


def parse(
    kind: type[Config], prog: str, argv: Sequence[str], default: Config | None = None, append: bool = False
) -> Config:
    """A config dataclass from arguments.

    Args:
        kind: the dataclass.
        prog: the command, for the help.
        argv: the arguments after it.
        default: where unmentioned settings come from, if not from the dataclass.
        append: whether sequences are collected from repeated options.

    Raises:
        ValueError: the arguments make no config; the message fits on one line.
        SystemExit: with code 0, after `--help`.
    """
    wanted: Any = tyro.conf.UseAppendAction[kind] if append else kind  # type: ignore[valid-type,misc]
    given: dict[str, Any] = {} if default is None else {"default": default}
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            found: Config = tyro.cli(wanted, prog=prog, args=list(argv), **given)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ValueError(f"{flattened(said.getvalue())} (see {prog} --help)") from None
    return _with_data(found)


def parse_recipe(
    kind: Callable[[Any], Config], recipes: Mapping[str, Any], command: str, argv: Sequence[str], text: str
) -> tuple[str, Config] | None:
    """The recipe's name and the config of a training command, or None after its own help was printed.

    Args:
        kind: the config dataclass; its first field is the recipe.
        recipes: recipes by name.
        command: what comes before the recipe's name, e.g. `hrm-gym train`.
        argv: the recipe's name and the options.
        text: the command's own help.

    Raises:
        ValueError: no or an unknown recipe, or bad options.
    """
    if argv and argv[0] in ("-h", "--help"):
        print(text)
        return None
    if not argv or argv[0] not in recipes:
        found = (
            unknown("recipe", argv[0], recipes) if argv else f"no recipe given: expected one of {', '.join(recipes)}"
        )
        raise ValueError(f"{found} (see {command} --help)")
    default = kind(recipes[argv[0]])
    return argv[0], parse(type(default), f"{command} {argv[0]}", argv[1:], default)


def run_subcommand(
    commands: Mapping[str, Callable[[list[str]], Any]], prog: str, argv: Sequence[str], text: str
) -> int:
    """Run the one of `commands` that the first argument names, or print the command's own help.

    Args:
        commands: sub-command -> function of the arguments after it; what it returns is the exit code, None is 0.
        prog: the command, e.g. `hrm-gym data`.
        argv: the arguments after it.
        text: its own help.

    Raises:
        ValueError: no or an unknown sub-command.
    """
    if argv and argv[0] in ("-h", "--help"):
        print(text)
        return 0
    if not argv:
        raise ValueError(f"{prog} needs a command: expected one of {', '.join(commands)} (see {prog} --help)")
    if argv[0] not in commands:
        raise ValueError(f"{unknown(f'command of {prog}', argv[0], commands)} (see {prog} --help)")
    return int(commands[argv[0]](list(argv[1:])) or 0)


def say(text: str, **where: Any) -> None:
    """`print`, with control characters of names and paths written out."""
    print("\n".join(map(printable, text.split("\n"))), **where)


def spread_lists(argv: Sequence[str], options: Collection[str]) -> list[str]:
    """Write every value of some list options as its own `--option VALUE`, however they were given.

    >>> spread_lists(["--env", "a", "b", "--agent=c", "--out", "d"], ["--env", "--agent"])
    ['--env', 'a', '--env', 'b', '--agent', 'c', '--out', 'd']
    """
    found: list[str] = []
    listing = ""
    for argument in argv:
        name, equals, value = argument.partition("=")
        if name in options:
            listing, argument = name, value if equals else ""
        elif argument.startswith("--"):
            listing = ""
        if not listing:
            found.append(argument)
        elif argument:
            found += [listing, argument]
    return found


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


def _with_data(config: Config) -> Config:
    """A command's options in which `--source FILE` means `--data FILE`.

    Raises:
        ValueError: both name a file, or there is no such file.
    """
    options: Any = config
    if not (hasattr(options, "source") and hasattr(options, "data")) or options.source in ("bank", "generate"):
        return config
    path = Path(options.source)
    if options.data is not None:
        raise ValueError(f"expected --source FILE or --data FILE, got both: {path} and {options.data}")
    if not path.exists():
        raise ValueError(f"expected --source bank, generate, or a file of puzzles, got {options.source!r}")
    return dataclasses.replace(options, source="bank", data=path)


Item = TypeVar("Item")

_ON_TERMINAL, _IN_LOG = 0.5, 30.0
"""Seconds between two states of a bar."""

_DELAY = 3.0
"""Seconds that a wait may take without a bar."""


def progress_bar(total: int | None, unit: str, **options: Any) -> tqdm[Any]:
    """A bar on stderr.

    Args:
        total: units to do, if known.
        unit: of what.
        **options: as `tqdm`, e.g. `initial`, units done in an earlier session.
    """
    interval = _ON_TERMINAL if sys.stderr.isatty() else _IN_LOG
    return tqdm(total=total, unit=unit, dynamic_ncols=True, mininterval=interval, **options)


def passing_bar(total: int | None, unit: str, label: str, **options: Any) -> tqdm[Any]:
    """A bar for what may be over in a moment: it comes after three seconds, and a terminal loses it at the end."""
    return progress_bar(total, unit, desc=label, delay=_DELAY, leave=not sys.stderr.isatty(), **options)


def with_progress(items: Iterable[Item], total: int, label: str, unit: str = " puzzles") -> Iterator[Item]:
    """Pass on what takes time, such as episodes, with a `passing_bar`."""
    with passing_bar(total, unit, label) as bar:
        for item in items:
            yield item
            bar.update()
