"""`hrm-gym`: the commands, and the one place that turns errors and signals into one line and an exit code."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, TextIO

import hrm_gym
from hrm_gym import extras
from hrm_gym.registry import unknown

COMMANDS = {
    "solve": ("solve:main", "let agents solve puzzles: watch them, then read the table"),
    "play": ("play:main", "solve puzzles yourself, with keyboard and mouse"),
    "compare": ("compare:main", "agents x environments on the same puzzles, as one page"),
    "predict": ("predict:main", "answer ARC tasks whose outputs nobody knows, for the ARC Prize"),
    "record": ("record:main", "write solves as HTML replay, film, JSON lines, Minari data"),
    "train": ("train:main", "train an HRM by deep supervision"),
    "train-rl": ("train_rl:main", "train a stable-baselines3 opponent from reward alone"),
    "export": ("export:main", "an HRM's segment as an ONNX file"),
    "weights": ("weights:main", "average several networks' weights"),
    "data": ("data:main", "build, convert, look at and fetch data sets"),
    "analyze": ("analyze:main", "what an HRM does with its segments, as table and picture"),
    "halting": ("halting:main", "record segments, learn when to halt, compare halting rules"),
    "bench": ("bench.command:main", "measure how fast environments and training are"),
    "list": ("list:main", "environments, agents with their weights, recipes"),
}
"""Command -> (module:function that takes the remaining arguments and returns the exit code, one line of help)."""

MOVED = {
    "average": "hrm-gym weights average",
    "bank": "hrm-gym halting bank",
    "bench-flops": "hrm-gym bench --only flops",
    "bench-memory": "hrm-gym bench --only memory",
    "versus": "python -m hrm_gym.scripts.experiments.versus",
    "depth": "python -m hrm_gym.scripts.experiments.depth",
}
"""Commands of earlier versions, and what they are now."""

EXAMPLES = (
    ("hrm-gym solve", "every bundled agent on HRMMaze-v0, live or as a GIF"),
    ("hrm-gym solve HRMMaze-v0 --agent hrm oracle --episodes 1000 --no-render", "two agents, figures only"),
    ("hrm-gym solve HRMMazeHard-v0 --source train.csv --agent oracle", "your own puzzles"),
    ("hrm-gym solve HRMSudoku-v0 --source puzzles.sdm", "a puzzle a line; Kaggle's CSV files too"),
    ("hrm-gym predict tasks/ --out submission.json", "ARC tasks, answered as the ARC Prize wants it"),
    ("hrm-gym compare", "the bundled agents on mazes and Sudoku, as one page"),
    ("hrm-gym data build maze --out data/maze-10", "a data set on disk, in the official layout"),
    ("hrm-gym train maze", "train an HRM from nothing, a quarter of an hour of one CPU core"),
    ('eval "$(hrm-gym --completion bash)"', "complete commands in this shell (zsh too)"),
)

USAGE_ERROR = 2
STOPPING_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that end a command as Ctrl-C does; Windows has no SIGHUP."""


class Stopped(KeyboardInterrupt):
    """A signal other than Ctrl-C asks the process to end; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments after the program's name; those of the process if None.

    Returns:
        The exit code, as `run` says.
    """
    return run(_dispatch, argv)


def run(command: Callable[[list[str]], int], argv: Sequence[str] | None = None) -> int:
    """Run a function as a program: whatever the user got wrong becomes one line on stderr.

    Args:
        command: takes the arguments and returns the exit code.
        argv: the arguments after the program's name; those of the process if None.

    Returns:
        What the function returned; 2 for bad input, 130 after Ctrl-C, 128 + n after signal n. With `HRM_GYM_DEBUG=1`
        errors are raised with their traceback instead.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # so that `--agent module:factory` finds a module in the current folder
    with _lenient_streams(), _signals_raised():
        try:
            return command(list(sys.argv[1:] if argv is None else argv))
        except KeyboardInterrupt as stop:
            return interrupted(stop)
        except BrokenPipeError:
            _give_up_stdout()
            return 1
        except Exception as error:
            line = extras.explain(error) if isinstance(error, ImportError) else _one_line(error)
            known = isinstance(error, (ImportError, *_user_errors()))
            if os.environ.get("HRM_GYM_DEBUG") == "1" or not known or line is None:
                raise
            print(f"hrm-gym: error: {line}", file=sys.stderr)
            _give_up_stdout_if_full()
            return USAGE_ERROR


def interrupted(stop: KeyboardInterrupt) -> int:
    """The exit code after a signal: 130 after Ctrl-C, 128 + n after signal n."""
    return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)


def _dispatch(arguments: list[str]) -> int:
    """Answer the program's own options, or run a command."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else USAGE_ERROR
    if arguments[0] == "--version":
        print(f"hrm-gym {hrm_gym.__version__}")
        return 0
    if arguments[0] == "--completion":
        print(_completion(*arguments[1:2]))
        return 0
    return _command(arguments[0])(arguments[1:])


def _command(name: str) -> Callable[[list[str]], int]:
    """The function behind a command.

    Raises:
        ValueError: if there is no such command.
    """
    if name not in COMMANDS:
        if name in MOVED:
            raise ValueError(f"unknown command {name!r}: it is {MOVED[name]} now")
        raise ValueError(f"{unknown('command', name, COMMANDS)} (see hrm-gym --help)")
    module, _, function = COMMANDS[name][0].partition(":")
    found: Callable[[list[str]], int] = getattr(importlib.import_module(f"hrm_gym.scripts.{module}"), function)
    return found


def _help() -> str:
    """The text of `hrm-gym --help`."""
    commands = "\n".join(f"  {name:<12} {line}" for name, (_, line) in COMMANDS.items())
    examples = "\n".join(f"  {command}\n      {line}" for command, line in EXAMPLES)
    return (
        "usage: hrm-gym COMMAND [options]\n\n"
        "Puzzles as Gymnasium environments, and Hierarchical Reasoning Models that\nsolve them.\n\n"
        f"commands:\n{commands}\n\n"
        "options:\n  -h, --help           show this text, or after a command its options\n"
        "  --version            show the version\n"
        "  --completion SHELL   a script for bash or zsh that completes commands\n\n"
        f"examples:\n{examples}"
    )


def _completion(shell: str = "") -> str:
    """A script that lets a shell complete commands, environment ids, recipes and files."""
    if shell not in ("bash", "zsh"):
        raise ValueError(f"expected --completion bash or --completion zsh, got {shell!r}")
    from hrm_gym.scripts.list import words_after

    cases = "\n".join(
        f"      {name}) words='{' '.join(words)}' ;;" for name in COMMANDS if (words := words_after(name))
    )
    # zsh runs bash's completions once bashcompinit is loaded.
    start = "autoload -Uz bashcompinit && bashcompinit\n" if shell == "zsh" else ""
    return f"""{start}_hrm_gym() {{
  local words=''
  if [ "$COMP_CWORD" -eq 1 ]; then
    words='{" ".join(COMMANDS)} --help --version'
  else
    case "${{COMP_WORDS[1]}}" in
{cases}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _hrm_gym hrm-gym"""


# ---- signals and streams ----


@contextlib.contextmanager
def _signals_raised() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP raise `Stopped` where the program is, as Ctrl-C raises KeyboardInterrupt."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    before = {}
    with contextlib.suppress(ValueError):  # only the main thread may set handlers
        for number in STOPPING_SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup's wish
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def signals_noted(run: Any, folder: Any) -> Iterator[None]:
    """Within, the first signal sets `run.stopping`, so that a training ends between two updates; a second one raises.

    Raises:
        Stopped: at the end, if the run was stopped; a line on stderr says how to continue.
    """

    def note(number: int, frame: FrameType | None) -> None:
        if run.stopping:
            raise Stopped(number)
        run.stopping = number
        print("stopping after this update; once more stops at once", file=sys.stderr)

    before = {}
    with contextlib.suppress(ValueError):  # only the main thread may set handlers
        for number in (signal.SIGINT, *STOPPING_SIGNALS):
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if run.stopping:
        print(f"stopped, checkpoint in {folder}: the same command continues from there", file=sys.stderr)
        raise Stopped(run.stopping)


class _Lenient:
    """A stream that drops what cannot be written: progress on a full disk or a closed terminal must not end a run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write if that is possible."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush if that is possible."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _lenient_streams() -> Iterator[None]:
    """Within, characters that the terminal's encoding lacks become `?`, and stderr may be full or closed."""
    before = sys.stdout, sys.stderr
    # Python sets a stream that was closed at the start to None.
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    lenient: Any = _Lenient(stderr)
    sys.stderr = lenient
    try:
        yield
    finally:
        lenient.flush()
        if before[1] is not None:
            sys.stderr = before[1]


def _give_up_stdout() -> None:
    """Send what is still to be written to nowhere, so that the exit of the process does not fail over it."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _give_up_stdout_if_full() -> None:
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        _give_up_stdout()


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
