"""`python -m tests.fuzz.guided --minutes 10`: bytes that lead readers to new lines, found by atheris (libFuzzer).

Without `pip install "hrm-gym[fuzz]"` (Linux) bytes change by chance. What reaches new lines is added to the corpus.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FunctionType
from typing import Any

from hrm_gym.scripts.main import run
from hrm_gym.scripts.options import parse

from . import readers
from .garbage import mutated_bytes

GUIDED = importlib.util.find_spec("atheris") is not None
INSTRUMENTED = (
    "hrm_gym.reading", "hrm_gym.registry", "hrm_gym.envs.files", "hrm_gym.envs.files.csv_file",
    "hrm_gym.envs.files.npy", "hrm_gym.envs.family", "hrm_gym.envs.puzzle_env", "hrm_gym.envs.arc.tasks",
    "hrm_gym.envs.halting.bank", "hrm_gym.envs.maze.rules", "hrm_gym.envs.maze.tokens", "hrm_gym.envs.sudoku.rules",
    "hrm_gym.envs.sudoku.tokens", "hrm_gym.agents.checkpoint", "hrm_gym.agents.hrm.run_folder",
    "hrm_gym.agents.hrm.config", "hrm_gym.agents.hrm.official.config", "hrm_gym.agents.hrm.official.folder",
    "hrm_gym.agents.hrm.official.weights", "hrm_gym.agents.hrm.hub", "hrm_gym.agents.hrm.agent",
    "hrm_gym.agents.hrm.task_rows", "hrm_gym.agents.hrm.halting", "hrm_gym.agents.halting.learning",
    "hrm_gym.agents.sb3.agent", "hrm_gym.agents.sb3.policies", "yaml.scanner", "yaml.parser", "zipfile",
    "importlib.metadata", "numpy.lib._format_impl", "csv", "json.decoder",
)  # fmt: skip
"""Modules whose branches lead the search."""

SLOW = 5.0
"""CPU seconds that no input of at most 16,000 bytes may take."""

LARGE = 400 * 2**20
"""Bytes of memory that no such input may take."""


def instrument() -> None:
    """Make the functions of these modules count their branches; compiled ones cannot."""
    import atheris

    for name in INSTRUMENTED:
        module = importlib.import_module(name)
        holders = [module, *(kind for kind in vars(module).values() if isinstance(kind, type))]
        for holder in holders:
            for value in list(vars(holder).values()):
                if isinstance(value, FunctionType) and value.__module__ == name:
                    atheris.instrument_func(value)


@dataclass(frozen=True)
class GuidedConfig:
    """Give readers bytes that lead to lines not run before; the exit code is 1 if one of them is not read or refused.

    Attributes:
        minutes: CPU minutes for each reader.
        reader: Which; all by default.
        inside: Folder for what is found, of a process that fuzzes one reader.
    """

    minutes: float = 10
    reader: tuple[str, ...] = ()
    inside: Path | None = None


def main(argv: Sequence[str]) -> int:
    """Fuzz the readers one after another, each in a process, which may crash."""
    config = parse(GuidedConfig, "python -m tests.fuzz.guided", argv)
    if config.inside is not None:
        fuzz(config.reader[0], 60 * config.minutes, config.inside)
        return 0
    wrong = 0
    for name in config.reader or readers.READERS:
        with tempfile.TemporaryDirectory() as text:
            folder, began = Path(text), time.monotonic()
            for number, content in enumerate([*readers.corpus(name), *readers.seeds(name)]):
                (folder / f"known-{number}").write_bytes(content)
            command = [sys.executable, "-m", "tests.fuzz.guided", "--minutes", str(config.minutes)]
            done = subprocess.run(
                [*command, "--reader", name, "--inside", text], capture_output=True, text=True, errors="replace"
            )
            found = [line for line in done.stdout.splitlines() if line.startswith("FINDING")]
            crashed = [path.name for path in folder.glob("crash-*")]
            if crashed or not (folder / "ended").exists():
                found.append(f"FINDING the process ended with {done.returncode}: {done.stderr[-800:]}")
            tried = (folder / "ended").read_text() if (folder / "ended").exists() else "?"
            (folder / "ended").unlink(missing_ok=True)
            units = [path.read_bytes() for path in folder.iterdir() if path.is_file()]
            with tempfile.TemporaryDirectory() as place:
                kept = readers.keep(name, Path(place), units)
        wrong += len(found)
        print(
            f"{name}: {tried}, {time.monotonic() - began:.0f} s of wall time, {kept} kept",
            *found,
            sep="\n  ",
            flush=True,
        )
    return min(wrong, 1)


def fuzz(name: str, seconds: float, folder: Path) -> None:
    """Fuzz one reader for so many seconds of CPU time; prints every kind of finding once and ends the process."""
    tried, seen = 0, set[str]()
    place = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    for content in readers.seeds(name):  # what is compiled or imported at first use is no finding
        readers.finding(name, Path(place.name), content)

    def one(content: bytes) -> None:
        nonlocal tried
        tried += 1
        began, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        complaint = readers.finding(name, Path(place.name), content)
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory)
        if complaint is None and (took := time.process_time() - began) > SLOW:
            complaint = f"{took:.0f} s of CPU time"
        if complaint is None and grown > LARGE:
            complaint = f"{grown / 2**20:.0f} MiB of memory"
        if complaint is not None and (kind := re.sub(r"\d+", "#", complaint)[:60]) not in seen:
            seen.add(kind)
            print(f"FINDING {complaint}; given {content[:300]!r}", flush=True)
            (folder / f"finding-{len(seen)}").write_bytes(content)
        if (over := time.process_time() > seconds) or tried % 100 == 1:
            (folder / "ended").write_text(f"{tried:,} inputs in {time.process_time() / 60:.1f} CPU minutes")
        if over:
            place.cleanup()
            os._exit(0)  # libFuzzer knows wall time only

    if GUIDED:
        import atheris

        instrument()
        limits = ["-timeout=120", "-rss_limit_mb=4000", "-max_len=16000", "-verbosity=0"]
        atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={folder}/", str(folder)], one)
        atheris.Fuzz()
        return
    rng: Any = Random(0)
    known = [path.read_bytes() for path in folder.iterdir()]
    while True:
        one(mutated_bytes(rng, rng.choice(known)))


if __name__ == "__main__":
    sys.exit(run(main))
