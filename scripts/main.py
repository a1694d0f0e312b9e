"""`hrm-gym`: the command line that gathers every script, and the one place that turns errors into one line."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence

import hrm_gym
from hrm_gym import extras

COMMANDS = {
    "solve": ("hrm_gym.scripts.solve:main", "let agents solve puzzles: watch them, then read the table"),
    "compare": ("hrm_gym.scripts.compare:main", "any agents x environments on the same puzzles, as one page"),
    "record": ("hrm_gym.scripts.record:main", "keep how agents solve: HTML replay, Minari data set, film, JSON lines"),
    "play": ("hrm_gym.scripts.play:main", "solve puzzles yourself, with keyboard and mouse"),
    "train": ("hrm_gym.scripts.train:main", "train an HRM by deep supervision"),
    "average": ("hrm_gym.scripts.weights:main", "the mean of several networks' weights, as one network"),
    "train-rl": ("hrm_gym.scripts.train_rl:main", "train a stable-baselines3 opponent from reward alone"),
    "versus": ("hrm_gym.scripts.experiments.versus:main", "one network under supervision and under reward"),
    "depth": ("hrm_gym.scripts.experiments.depth:main", "direct prediction against recurrence, by layers and width"),
    "data": ("hrm_gym.scripts.data:main", "build, convert, look at and fetch data sets"),
    "analyze": ("hrm_gym.scripts.analyze:main", "what an HRM does with its segments, as table and picture"),
    "bank": ("hrm_gym.scripts.halting:main_bank", "record an HRM's segments, for HRMHalting-v0"),
    "halting": ("hrm_gym.scripts.halting:main", "learn when to halt, and compare halting rules"),
    "bench": ("hrm_gym.scripts.bench.command:main", "measure how fast environments and training are"),
    "bench-flops": ("hrm_gym.scripts.bench.flops:main", "measure operations a second, and their share of the peak"),
    "bench-memory": ("hrm_gym.scripts.bench.memory:main", "measure the memory of a training step against its cycles"),
}
"""Command -> (module:function that takes the remaining arguments and returns the exit code, one line of help)."""

EXAMPLES = (
    ("hrm-gym solve", "every bundled agent on HRMMaze-v0, live or as a GIF"),
    ("hrm-gym solve HRMMaze-v0 --agent hrm oracle --episodes 1000 --no-render", "two agents, figures only"),
    ("hrm-gym solve HRMMazeHard-v0 --data train.csv --agent oracle --json scores.json", "your own puzzles"),
    ("hrm-gym compare", "the bundled agents on mazes and Sudoku, as one page"),
    ("hrm-gym data build maze --out data/maze-10", "a data set on disk, in the official layout"),
    ("hrm-gym train maze", "train an HRM from nothing, a quarter of an hour of one CPU core"),
)

USAGE_ERROR = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; whatever the user got wrong becomes one line on stderr and exit code 2.

    Args:
        argv: the arguments after the program's name; those of the process if None.

    Returns:
        The exit code: 0, 2 for bad input, 130 after Ctrl-C, or what the command returned. With `HRM_GYM_DEBUG=1` errors
        are raised with their traceback instead.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # so that `--agent module:factory` finds a module beside the person
    try:
        return _dispatch(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ImportError as error:
        line = extras.explain(error)
        if line is None or os.environ.get("HRM_GYM_DEBUG") == "1":
            raise
        print(f"hrm-gym: error: {line}", file=sys.stderr)
        return USAGE_ERROR
    except Exception as error:
        if os.environ.get("HRM_GYM_DEBUG") == "1" or not isinstance(error, _user_errors()):
            raise
        print(f"hrm-gym: error: {_one_line(error)}", file=sys.stderr)
        return USAGE_ERROR


def _dispatch(arguments: list[str]) -> int:
    """Answer `--help` and `--version`, or hand over to a command."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else USAGE_ERROR
    if arguments[0] == "--version":
        print(f"hrm-gym {hrm_gym.__version__}")
        return 0
    return _command(arguments[0])(arguments[1:])


def _command(name: str) -> Callable[[list[str]], int]:
    """The function behind a command.

    Raises:
        ValueError: if there is no such command.
    """
    if name not in COMMANDS:
        raise ValueError(f"unknown command {name!r}: expected one of {', '.join(COMMANDS)} (see hrm-gym --help)")
    module, _, function = COMMANDS[name][0].partition(":")
    found: Callable[[list[str]], int] = getattr(importlib.import_module(module), function)
    return found


def _help() -> str:
    """The text of `hrm-gym --help`."""
    commands = "\n".join(f"  {name:<12} {line}" for name, (_, line) in COMMANDS.items())
    examples = "\n".join(f"  {command}\n      {line}" for command, line in EXAMPLES)
    return (
        "usage: hrm-gym COMMAND [options]\n\n"
        "Puzzles as Gymnasium environments, and Hierarchical Reasoning Models that solve them.\n\n"
        f"commands:\n{commands}\n\n"
        "options:\n  -h, --help   show this text, or after a command its options\n  --version    show the version\n\n"
        f"examples:\n{examples}"
    )


def _user_errors() -> tuple[type[BaseException], ...]:
    """The exceptions that speak of bad input; a library that was never imported cannot have raised any."""
    found: list[type[BaseException]] = [ValueError, OSError, FloatingPointError]
    for module, name in (("gymnasium.error", "Error"), ("safetensors", "SafetensorError")):
        if module in sys.modules:
            found.append(getattr(sys.modules[module], name))
    return tuple(found)


def _one_line(error: BaseException) -> str:
    """The message of an error on one line; for the errors of the operating system, with the file's name."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
