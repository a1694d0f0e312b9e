"""`hrm-gym`: the commands, and the one place that turns errors and signals into one line and an exit code."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, TextIO

import hrm_gym
from hrm_gym import _program, extras
from hrm_gym.registry import environment_ids, unknown

COMMANDS = {
    "solve": ("solve:main", "let agents solve puzzles: watch them, then read the table"),
    "play": ("play:main", "solve puzzles yourself, with keyboard and mouse"),
    "compare": ("compare:main", "agents x environments on the same puzzles, as one page"),
    "predict": ("predict:main", "answer ARC tasks whose outputs nobody knows, for the ARC Prize"),
    "evaluate": ("evaluate:main", "weights on a file of puzzles, as the official evaluation counts"),
    "record": ("record:main", "write solves as HTML replay, film, JSON lines, Minari data"),
    "train": ("train:main", "train an HRM by deep supervision"),
    "train-rl": ("train_rl:main", "train a stable-baselines3 opponent from reward alone"),
    "web": ("web:main", "one page in which the bundled HRMs think in the browser"),
    "export": ("export:main", "an HRM's segment as an ONNX file"),
    "weights average": ("weights:average_weights", "the mean of several HRMs' weights, as one HRM"),
    "weights verify": ("weights:verify_weights", "whether folders of weights are whole"),
    "data build": ("data:build", "new puzzles, or those of files, in the official layout"),
    "data info": ("data:info", "what files of puzzles hold; everything in them is checked"),
    "data fetch": ("data:fetch", "the CSV files of a data set on the Hugging Face hub"),
    "analyze segments": ("analyze:segments", "does it think longer about harder puzzles?"),
    "analyze scaling": ("analyze:scaling", "what do more segments bring?"),
    "analyze answers": ("analyze:answers", "the answer after each segment, as pictures"),
    "analyze convergence": ("analyze:convergence", "how far each update still moves a state"),
    "analyze dimensionality": ("analyze:dimensionality", "participation ratios of both levels' states"),
    "analyze curve": ("analyze:curve", "how a training run went"),
    "halting bank build": ("halting:build", "record an HRM's segments for HRMHalting-v0"),
    "halting bank info": ("halting:info", "what such a bank holds"),
    "halting learn": ("halting:learn", "DQN or PPO learns when to halt"),
    "halting report": ("halting:report", "compare halting rules on held-out puzzles"),
    "bench": ("bench.command:main", "measure how fast environments and training are"),
    "list": ("list:main", "environments, agents with their scores, recipes"),
}
"""Command -> (module:function that takes the remaining arguments and returns the exit code, one line of help)."""

GROUPS: dict[str, tuple[str, Sequence[str]]] = {
    "weights": (
        "average or verify folders of weights",
        ("hrm-gym weights average runs/a/model runs/b/model --out runs/mean", "hrm-gym weights verify"),
    ),
    "data": (
        "build, look at and fetch data sets",
        ("hrm-gym data build maze --out data/maze-10", "hrm-gym data info data/maze-10"),
    ),
    "analyze": (
        "what an HRM does with its segments, as table and picture",
        ("hrm-gym analyze segments --episodes 1000", "hrm-gym analyze curve runs/sudoku-4x4"),
    ),
    "halting": (
        "record segments, learn when to halt, compare halting rules",
        ("hrm-gym halting bank info", "hrm-gym halting learn --agent dqn", "hrm-gym halting report"),
    ),
    "halting bank": (
        "recorded segments of an HRM, for HRMHalting-v0",
        ("hrm-gym halting bank build --env HRMMaze-v0 --out mazes.npz", "hrm-gym halting bank info"),
    ),
}
"""What several commands have in common: a line of help, and examples."""

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
    ("hrm-gym solve", "the bundled agents on HRMMaze-v0, live or as a GIF"),
    ("hrm-gym train sudoku-4x4", "train an HRM from nothing, a minute of one CPU core"),
    ('eval "$(hrm-gym --completion bash)"', "complete commands in this shell (zsh too)"),
)

USAGE_ERROR = 2
LONGEST_LINE = 2000
"""Characters of an error that are shown."""

STOPPING_SIGNALS = _program.ENDING[1:]  # Python itself raises KeyboardInterrupt for SIGINT
"""Signals that end a command as Ctrl-C does; Windows has no SIGHUP."""


class Stopped(KeyboardInterrupt):
    """A signal other than Ctrl-C asks the process to end; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, `argv` after the program's name; returns the exit code, as `run` says."""
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
    if signal.getsignal(signal.SIGINT) is _program.leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # imported: from here on work is there to be saved
    arguments = list(sys.argv[1:] if argv is None else argv)
    _find_own_modules(arguments)
    _import_matplotlib()
    with _lenient_streams(), _program.handling(STOPPING_SIGNALS, _stop), _compile_cache(), _safe_path():
        try:
            _check_bars()
            return command(arguments)
        except SystemExit as stop:  # after --help
            return int(stop.code or 0)
        except KeyboardInterrupt as stop:
            return interrupted(stop)
        except BrokenPipeError:
            _give_up_stdout()
            return 1
        except Exception as error:
            line = extras.explain(error) if isinstance(error, ImportError) else _one_line(error)
            if line is not None and len(line) > LONGEST_LINE:  # names in files may be of any length
                line = f"{line[: LONGEST_LINE // 2]} … {line[-LONGEST_LINE // 2 :]}"
            known = isinstance(error, (ImportError, *_user_errors()))
            if os.environ.get("HRM_GYM_DEBUG") == "1" or not known or line is None:
                raise
            from hrm_gym.evaluation.pages import printable  # slow to import, and rarely needed

            print(printable(f"hrm-gym: error: {line}"), file=sys.stderr)
            try:
                sys.stdout.flush()
            except (OSError, ValueError):
                _give_up_stdout()
            return USAGE_ERROR


def _find_own_modules(arguments: Sequence[str]) -> None:
    """Let `module:factory` and `module:ID` find a module in the current folder, if one that is named lies there.

    Only then: libraries look for dozens of optional modules, and whoever filled the folder could have written them.
    """
    named = [found[1] for text in arguments if (found := re.match(r"(?:[^:]*=)?([^\W\d]\w*)[\w.]*:[^\W\d]", text))]
    if any(os.path.isfile(f"{name}.py") or os.path.isdir(name) for name in named):
        sys.path.append(os.getcwd())


BAR_NUMBERS = ("delay", "initial", "maxinterval", "mininterval", "miniters", "ncols", "nrows", "position", "smoothing",
               "total", "unit_divisor")  # fmt: skip
"""Arguments of tqdm that are numbers, by the names that its environment variables have after `TQDM_`."""


def _check_bars() -> None:
    """Find out whether tqdm takes its environment variables: it fails over them when imported, or at its first bar.

    Raises:
        ValueError: names them.
    """
    given = {name: text for name, text in sorted(os.environ.items()) if name.startswith("TQDM_")}
    for name, text in given.items():
        if name[5:].lower() in BAR_NUMBERS and not re.fullmatch(r"[0-9]+(\.[0-9]*)?", text):
            raise ValueError(f"expected the environment variable {name} as a number of at least 0, got {text[:40]!r}")
    if not given:
        return
    try:
        from tqdm import tqdm

        with contextlib.redirect_stderr(io.StringIO()), tqdm(total=2) as bar:
            bar.update()
            bar.set_description("tried")
    except Exception as error:
        shown = ", ".join(f"{name}={text[:40]!r}" for name, text in given.items())
        said = f"{type(error).__name__}: {error}"
        raise ValueError(f"expected environment variables that tqdm takes, got {shown} ({said})") from None


def _import_matplotlib() -> None:
    """Import matplotlib elsewhere if the current folder has a `matplotlibrc`, which could let LaTeX run."""
    if os.path.exists("matplotlibrc") and "matplotlib" not in sys.modules:
        here = os.getcwd()
        os.chdir(os.path.dirname(os.path.abspath(__file__)))
        try:
            with contextlib.suppress(ImportError):
                importlib.import_module("matplotlib")
        finally:
            os.chdir(here)


def interrupted(stop: KeyboardInterrupt) -> int:
    """The exit code after a signal: 130 after Ctrl-C, 128 + n after signal n."""
    return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)


def _dispatch(arguments: list[str]) -> int:
    """Answer the program's own options, or run a command."""
    if arguments[:1] == ["--version"]:
        print(f"hrm-gym {hrm_gym.__version__}")
        return 0
    if arguments[:1] == ["--completion"]:
        print(_completion(*arguments[1:2]))
        return 0
    name, rest = "", ["weights", *arguments] if arguments[:1] == ["verify"] else arguments
    while name not in COMMANDS:
        if not rest or rest[0] in ("-h", "--help"):
            if name and not rest:
                raise ValueError(f"hrm-gym {name} needs a command: expected one of {', '.join(_after(name))}")
            print(_help(name))
            return 0 if rest else USAGE_ERROR
        if rest[0] not in _after(name):
            if not name and rest[0] in MOVED:
                raise ValueError(f"unknown command {rest[0]!r}: it is {MOVED[rest[0]]} now")
            what = f"command of hrm-gym {name}" if name else "command"
            raise ValueError(f"{unknown(what, rest[0], _after(name))} (see hrm-gym{f' {name}' * bool(name)} --help)")
        name, rest = f"{name} {rest[0]}".strip(), rest[1:]
    return int(_command(name)(rest) or 0)


def _after(name: str) -> dict[str, str]:
    """The words that may follow a group of commands ("" for the program), each with its line of help."""
    depth = len(name.split())
    lines = {key: about[1] for key, about in COMMANDS.items()} | {key: about[0] for key, about in GROUPS.items()}
    words = [key.split()[depth] for key in COMMANDS if key.split()[:depth] == name.split()]
    return {word: lines[f"{name} {word}".strip()] for word in words}


def _command(name: str) -> Callable[[list[str]], int | None]:
    """The function behind a command."""
    module, _, function = COMMANDS[name][0].partition(":")
    with _program.ended_at_once():
        found: Callable[[list[str]], int | None] = getattr(
            importlib.import_module(f"hrm_gym.scripts.{module}"), function
        )
    return found


def _help(name: str) -> str:
    """The text of `hrm-gym --help`, or of that of a group of commands."""
    from hrm_gym.scripts.options import examples

    after = _after(name)
    wide = max(map(len, after)) + 2
    commands = "\n".join(f"  {word:<{wide}}{line}" for word, line in after.items())
    program = f"hrm-gym {name}".strip()
    if name:
        line, shown = GROUPS[name]
        about = f"{line[0].upper()}{line[1:]}.\n{program} COMMAND --help shows the options."
        return f"usage: {program} COMMAND [options]\n\n{about}\n\ncommands:\n{commands}\n\n{examples(shown)}"
    return (
        "usage: hrm-gym COMMAND [options]\n\n"
        "Puzzles as Gymnasium environments, and Hierarchical Reasoning Models that\nsolve them.\n\n"
        f"commands:\n{commands}\n\n"
        "options:\n  -h, --help           show this text, or after a command its options\n"
        "  --version            show the version\n"
        "  --completion SHELL   a script for bash or zsh that completes commands\n\n"
        f"{examples(EXAMPLES)}"
    )


def _completion(shell: str = "") -> str:
    """A script that lets a shell complete commands, environment ids, recipes and files."""
    if shell not in ("bash", "zsh"):
        raise ValueError(f"expected --completion bash or --completion zsh, got {shell!r}")
    from hrm_gym.agents.hrm.recipes import RECIPES
    from hrm_gym.agents.sb3.recipes import RECIPES as RL_RECIPES

    ids = [*environment_ids(), "--agent", "--episodes", "--source", "--seed"]
    words: dict[str, Any] = {name: _after(name) for name in ("weights", "data", "analyze", "halting")}
    words |= dict.fromkeys(("solve", "play", "record", "compare"), ids) | {"train": RECIPES, "train-rl": RL_RECIPES}
    words["list"] = ("environments", "agents", "recipes")
    cases = "\n".join(f"      {name}) words='{' '.join(after)}' ;;" for name, after in words.items())
    # zsh runs bash's completions once bashcompinit is loaded.
    start = "autoload -Uz bashcompinit && bashcompinit\n" if shell == "zsh" else ""
    return f"""{start}_hrm_gym() {{
  local words=''
  if [ "$COMP_CWORD" -eq 1 ]; then
    words='{" ".join(_after(""))} --help --version'
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
def _compile_cache() -> Iterator[None]:
    """Within, TORCHINDUCTOR_CACHE_DIR can be written to: PyTorch makes that folder whatever it is asked to do."""
    given = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    with contextlib.ExitStack() as stack:
        try:
            if given is not None:
                os.makedirs(given, exist_ok=True)
                stack.enter_context(tempfile.TemporaryFile(dir=given)).close()
        except OSError as error:
            print(f"nothing is kept in TORCHINDUCTOR_CACHE_DIR: {_one_line(error)}", file=sys.stderr)
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="hrm_gym_", ignore_cleanup_errors=True)
            )
        try:
            yield
        finally:
            if given is not None:
                os.environ["TORCHINDUCTOR_CACHE_DIR"] = given


@contextlib.contextmanager
def _safe_path() -> Iterator[None]:
    """Within, child processes import nothing from the current folder, from Python 3.11 on: workers, trainings."""
    given = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if given is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = given


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


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
        print("stopping after this update; a second signal stops at once", file=sys.stderr)

    with _program.handling(_program.ENDING, note):
        yield
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
