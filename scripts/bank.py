"""`hrm-gym bank`: record what an HRM does with its segments, for HRMHalting-v0; and say what a bank holds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import hrm_gym
from hrm_gym.env_text import read_arguments
from hrm_gym.envs.halting.bank import HaltingBank, find_bank
from hrm_gym.recorder import check_writable
from hrm_gym.scripts.arguments import parse
from hrm_gym.scripts.progress import progress_bar

gym.register_envs(hrm_gym)

PUZZLES = 2000
"""Of each world, unless a number is given."""

HELP = """usage: hrm-gym bank build --env ENV_ID --out FILE.npz [options]
       hrm-gym bank info [FILE.npz]

build  run an HRM over many puzzles, no board ever halting, and keep for every segment whether the answer is right, the
       Q-values, the confidence and a summary of the state. HRMHalting-v0 replays the file: bank="FILE.npz".
       A build that was killed goes on when the same command is given again, and ends with the same arrays.
info   what a bank holds (the bundled one if none is named).

A bank is worth something where thinking longer sometimes helps and sometimes does not: mix puzzles of several
difficulties by giving --env-args several times, each a world of its own.

examples:
  hrm-gym bank build --env HRMMaze-v0 --env-args size=10,source=generate --puzzles 2000 \\
      --env-args size=12,source=generate --puzzles 1000 --out mazes.npz
  hrm-gym bank build --env HRMSudoku-v0 --agent hrm=runs/sudoku/model --out sudoku.npz \\
      --env-args difficulty=easy --env-args difficulty=hard --env-args difficulty=extreme,source=generate
  hrm-gym bank build --env HRMSudokuExtreme-v0 --agent hrm=runs/sudoku/model --env-args source=test.csv --out rated.npz
  hrm-gym bank info mazes.npz
"""


@dataclass(frozen=True)
class BuildConfig:
    """Record the segments of an HRM.

    Attributes:
        env: Environment whose puzzles are taken.
        out: The file.
        agent: hrm, or hrm=PATH for other weights than the bundled ones (a folder, or owner/name on the hub). A network
            with rotary positions may be run on other grid sizes than it learnt.
        env_args: Constructor arguments of the environment, as name=value,name=value. Each time the option is given it
            is a world of its own.
        puzzles: Puzzles of each world (2000); no two are symmetric images of each other. Given once it holds for every
            world, given as often as --env-args it goes world by world.
        max_segments: Segments recorded for every puzzle.
        split: Which of the environment's puzzles: those of its test split the network has not learnt from.
        test_share: Share of the puzzles that make up the bank's own test split, chosen by a hash.
        seed: Which stream of puzzles; a file is read row by row.
        batch: Puzzles that are thought through at a time, and saved together.
        state_dims: Numbers that sum up the state.
        device: auto, cpu, cuda or mps.
        threads: CPU threads; 0 leaves torch's own choice.
    """

    env: Annotated[str, tyro.conf.arg(metavar="ENV_ID")]
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.npz")]
    agent: str = "hrm"
    env_args: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE,…")] = ()
    puzzles: tuple[int, ...] = ()
    max_segments: int = 16
    split: str = "test"
    test_share: float = 0.4
    seed: int = 0
    batch: int = 64
    state_dims: int = 8
    device: str = "auto"
    threads: int = 1


@dataclass(frozen=True)
class InfoConfig:
    """Say what a bank holds.

    Attributes:
        bank: The file; the bundled one if none is named.
    """

    bank: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[FILE.npz]")] = None


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym bank COMMAND …`.

    Args:
        argv: the arguments after `bank`.

    Returns:
        0.

    Raises:
        ValueError: for bad input of any kind; the message fits on one line.
        OSError: for files that cannot be read or written.
    """
    commands: dict[str, Callable[[Sequence[str]], None]] = {"build": build, "info": info}
    if argv and argv[0] in ("-h", "--help"):
        print(HELP)
        return 0
    if not argv or argv[0] not in commands:
        found = f"unknown command {argv[0]!r}" if argv else "no command given"
        raise ValueError(f"{found}: expected one of {', '.join(commands)} (see hrm-gym bank --help)")
    commands[argv[0]](argv[1:])
    return 0


def build(argv: Sequence[str]) -> None:
    """Run `hrm-gym bank build`."""
    config = parse(BuildConfig, "hrm-gym bank build", argv, append=True)
    _check(config)
    import torch

    from hrm_gym.agents.halting.building import BankBuild, World
    from hrm_gym.agents.halting.recording import agent_on, load_for, weights_digest

    if config.threads:
        torch.set_num_threads(config.threads)
    texts = config.env_args or ("",)
    counts = config.puzzles * len(texts) if len(config.puzzles) == 1 else config.puzzles or (PUZZLES,) * len(texts)
    envs = [_make(config, read_arguments(text)) for text in texts]
    first = envs[0]
    found, name = load_for(first.family, first.shape, config.agent.partition("=")[2] or None)
    worlds = [
        World(agent_on(found, env.family, env.shape, config.device), _stream(env, config.seed), count)
        for env, count in zip(envs, counts, strict=True)
    ]
    model = worlds[0].agent.model
    recipe = {
        "agent": name,
        "weights": weights_digest(found.model),
        "model": found.model.config.to_json(),
        "update": found.about.get("update"),
        "dtype": model.config.dtype,
        "device": worlds[0].agent.device.type,
        "env": config.env,
        "worlds": list(texts),
        "unit": first.family.difficulty_unit,
        "puzzles": counts,
        "max_segments": config.max_segments,
        "split": config.split,
        "test_share": config.test_share,
        "seed": config.seed,
        "batch": config.batch,
        "state_dims": config.state_dims,
        "command": "hrm-gym bank build " + " ".join(argv),
        "created": datetime.now(timezone.utc).date().isoformat(),
        "versions": {package: version(package) for package in ("hrm-gym", "torch", "numpy")},
    }
    work = BankBuild(config.out, worlds, recipe, config.max_segments, config.batch, config.state_dims)
    if work.resumed:
        print(f"going on with {work.place}", file=sys.stderr)
    if work.puzzles < sum(counts):
        print(f"only {work.puzzles:,} puzzles that differ were found", file=sys.stderr)
    with progress_bar(work.total, "block") as bar:
        for finished in work.run():
            bar.update(finished - bar.n)
    work.finish()
    _print(find_bank(config.out))
    print(f"bank: {config.out} ({config.out.stat().st_size / 1e6:.2f} MB)")


def info(argv: Sequence[str]) -> None:
    """Run `hrm-gym bank info`."""
    _print(find_bank(parse(InfoConfig, "hrm-gym bank info", argv).bank))


def _check(config: BuildConfig) -> None:
    if config.agent.partition("=")[0] != "hrm":
        raise ValueError(f"expected --agent hrm or hrm=PATH, got {config.agent!r}")
    if config.puzzles and min(config.puzzles) < 2:
        raise ValueError(f"expected --puzzles of at least 2, got {min(config.puzzles)}")
    if len(config.puzzles) not in (0, 1, max(1, len(config.env_args))):
        worlds = len(config.env_args)
        raise ValueError(f"expected --puzzles once, or as often as --env-args ({worlds}), got {len(config.puzzles)}")
    if not 0 < config.test_share < 1:
        raise ValueError(f"expected --test-share between 0 and 1, got {config.test_share}")
    if config.out.suffix != ".npz":
        raise ValueError(f"expected --out to be named *.npz, got {config.out}")
    check_writable(config.out)


def _make(config: BuildConfig, arguments: dict[str, Any]) -> Any:
    """One environment of a world, without wrappers."""
    try:
        env: Any = gym.make(config.env, disable_env_checker=True, **{"split": config.split, **arguments}).unwrapped
    except TypeError as error:
        raise ValueError(f"{config.env} does not take these --env-args: {error}") from error
    if not hasattr(env, "puzzle_source"):
        raise ValueError(f"expected an environment with puzzles, got {config.env}")
    return env


def _stream(env: Any, seed: int) -> Callable[[int], Any]:
    """Puzzle k: row k of a file, else puzzle k of the seed."""
    from hrm_gym.rollout import puzzle_for

    source = env.puzzle_source
    numbered = hasattr(source, "__getitem__") and type(source).__module__.startswith("hrm_gym.envs.files")
    return lambda k: puzzle_for(env, None if numbered else seed, k)


def _print(bank: HaltingBank) -> None:
    about = bank.about
    title = f"{bank.name}: {about['agent']} on {about['env']}, {len(bank):,} puzzles, {bank.segments} segments"
    table = Table(title=title, title_justify="left", caption=_caption(bank), caption_justify="left")
    table.add_column("world", no_wrap=True)
    marks = [k for k in (1, 2, 4, 8, 16, 32, 64) if k < bank.segments] + [bank.segments]
    for heading in ("train", "test", "difficulty", *(f"right at {k}" for k in marks), "ever"):
        table.add_column(heading, justify="right")
    for number, text in enumerate(about["worlds"]):
        rows = np.flatnonzero(bank.world == number)
        if len(rows):
            table.add_row(text or "defaults", *_figures(bank, rows, marks))
    console = Console()
    (console if console.is_terminal else Console(width=140)).print(table)


def _figures(bank: HaltingBank, rows: Any, marks: list[int]) -> list[str]:
    hard, solved = bank.difficulty[rows], bank.solved[rows]
    test = int(bank.test[rows].sum())
    shares = [_share(solved[:, k - 1]) for k in marks] + [_share(solved.any(axis=1))]
    return [str(len(rows) - test), str(test), f"{hard.min():g} to {hard.max():g}", *shares]


def _share(right: Any) -> str:
    return f"{right.mean():.1%}"


def _caption(bank: HaltingBank) -> str:
    about, solved = bank.about, bank.solved
    lost = (solved[:, :-1] & ~solved[:, 1:]).any(axis=1).mean()
    return (
        f"right once and wrong after a later segment: {lost:.1%} of the puzzles; difficulty: {about['unit']}\n"
        f"observations of {bank.observations.shape[2]} numbers; weights {about['weights'][:12]}, "
        f"made {about['created']} by\n"
        f"{about['command']}"
    )
