"""`make fuzz`: malformed puzzles, actions, options, arguments and files against every registered environment."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Annotated, Any, NamedTuple

import gymnasium as gym
import numpy as np
import tyro

from hrm_gym.scripts.main import run
from hrm_gym.scripts.options import parse
from hrm_gym.scripts.output import with_progress

from . import cases, files
from .supervision import BATCH, Stopped, supervise

FILE_WEIGHT = 6
LIMIT = 5.0
SHOWN = 600
MEMORY = Path("/dev/shm")
"""Files are written here where there is such a folder: thousands of small ones, and none is kept."""


@dataclass(frozen=True)
class FuzzConfig:
    """Hand malformed puzzles, actions, options, constructor arguments and files to every registered environment.

    Each case must end in a ValueError that says what was expected (or in the documented FileNotFoundError or
    ResetNeeded), or in something that is legitimately accepted. Anything else is a finding, and makes the exit code 1:
    another exception, a crash, more than five seconds, or garbage accepted without a word.

    Attributes:
        count: Cases.
        seed: Which cases; case k of a seed is always the same.
        case: Run this one case only, and show what came of it with its traceback.
        json: Write counts and findings to this file.
    """

    count: Annotated[int, tyro.conf.arg(metavar="N")] = 100_000
    seed: int = 0
    case: Annotated[int | None, tyro.conf.arg(metavar="K", help_behavior_hint="")] = None
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE.json", help_behavior_hint="")] = None


class Verdict(NamedTuple):
    """What came of one case.

    Attributes:
        case: its number.
        kind: what was malformed.
        target: id and mode.
        outcome: "rejected", "accepted" or "finding".
        complaint: what is wrong, "" if nothing is.
        place: where an exception came from, "" if there was none.
        given: what was handed in, "" if nothing is wrong.
    """

    case: int
    kind: str
    target: str
    outcome: str
    complaint: str = ""
    place: str = ""
    given: str = ""


@dataclass
class Tally:
    """What came of all cases so far.

    Attributes:
        counts: cases by kind and outcome.
        findings: what is wrong.
        begin: when the first results came, the environments being made and warm.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    findings: list[Verdict] = field(default_factory=list)
    begin: float = 0.0

    def add(self, verdict: Verdict) -> None:
        """Count one case."""
        self.begin = self.begin or time.perf_counter()
        self.counts[verdict.kind, verdict.outcome] += 1
        if verdict.outcome == "finding":
            self.findings.append(verdict)

    def groups(self) -> list[list[Verdict]]:
        """Findings that look like the same thing, most frequent first."""
        found: dict[tuple[str, ...], list[Verdict]] = {}
        for verdict in self.findings:
            words = "" if verdict.place else re.sub(r"\d+", "#", verdict.complaint)[:60]
            found.setdefault((verdict.kind, verdict.complaint.split(":")[0], words, verdict.place), []).append(verdict)
        return sorted(found.values(), key=len, reverse=True)


def main(argv: Sequence[str]) -> int:
    """Run `make fuzz`; returns 0, or 1 if there was a finding."""
    config = parse(FuzzConfig, "python -m tests.fuzz.fuzz", argv)
    if config.count < 1:
        raise ValueError(f"expected --count of at least 1, got {config.count}")
    if config.case is not None:
        return show_case(config.seed, config.case)
    tally = Tally()
    for item in with_progress(supervise(start, (config.seed,), config.count, LIMIT), config.count, "fuzz", " cases"):
        tally.add(_verdict_of(item, config.seed) if isinstance(item, Stopped) else Verdict(*item))
    print_report(tally, config)
    if config.json is not None:
        counts = [{"kind": kind, "outcome": outcome, "cases": n} for (kind, outcome), n in sorted(tally.counts.items())]
        found = {"seed": config.seed, "counts": counts, "findings": [item._asdict() for item in tally.findings]}
        config.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 1 if tally.findings else 0


def start(seed: int) -> Callable[[int], tuple[Any, ...]]:
    """Make all environments and warm them up; returns the function that runs one case."""
    arena = Arena(seed)
    for world in arena.worlds:
        arena.warm_up(world)
    return lambda case: tuple(arena.run(case))


class Arena:
    """All environments, and the cases of one seed.

    Attributes:
        worlds: every id in every mode.
    """

    def __init__(self, seed: int) -> None:
        """Make the environments, and a folder for files that lives as long as the arena."""
        quieten()
        self.seed = seed
        self.worlds = cases.worlds()
        self._folder = tempfile.TemporaryDirectory(prefix="hrm-gym-fuzz-", dir=MEMORY if MEMORY.is_dir() else None)
        self._files = files.Files(Path(self._folder.name))
        self._kinds = {world.title: self._kinds_for(world) for world in self.worlds}

    def run(self, case: int, trace: bool = False) -> Verdict:
        """Try one case; everything about it follows from the seed and its number."""
        rng = Random((self.seed << 64) ^ case)
        world = rng.choice(self.worlds)
        names, draws, sums = self._kinds[world.title]
        place = rng.choices(range(len(draws)), cum_weights=sums)[0]
        try:
            attempt = draws[place](world, rng)
        except Exception as error:
            return Verdict(case, names[place], world.title, "finding", f"even before: {_told(error)}", _place(error))
        outcome, complaint, where = judge(attempt, trace)
        given = shortened(attempt.given) if outcome == "finding" or trace else ""
        return Verdict(case, names[place], world.title, outcome, complaint, where, given)

    def warm_up(self, world: cases.World) -> None:
        """Let everything be compiled that a case may need, so that no case is blamed for it."""
        rng = Random(1)
        draws = self._kinds[world.title][1]
        for draw in draws:
            for _ in range(10 if draw == self._files.bad_file else 3):
                judge(draw(world, rng))

    def _kinds_for(self, world: cases.World) -> tuple[list[str], list[cases.Draw], list[float]]:
        kinds = list(cases.kinds_for(world))
        if world.has_puzzles:
            kinds.append(("file", self._files.bad_file, FILE_WEIGHT))
        names, draws, weights = zip(*kinds, strict=True)
        return list(names), list(draws), list(accumulate(weights))


def judge(attempt: cases.Attempt, trace: bool = False) -> tuple[str, str, str]:
    """Outcome, complaint and place of one attempt."""
    outcome, complaint, where = _tried(attempt, trace)
    try:
        attempt.after()
    except Exception as error:
        if outcome != "finding":
            outcome, complaint, where = "finding", f"broken afterwards: {_told(error)}", _place(error)
    return outcome, complaint, where


def _tried(attempt: cases.Attempt, trace: bool) -> tuple[str, str, str]:
    try:
        accepted = attempt.call()
    except Exception as error:
        if trace:
            traceback.print_exc()
        complaint = _bad_refusal(attempt, error)
        return ("finding", complaint, _place(error)) if complaint else ("rejected", "", "")
    try:
        complaint = attempt.complaint(accepted)
    except Exception as error:
        if trace:
            traceback.print_exc()
        if attempt.late and _bad_refusal(attempt, error) is None:
            return "rejected", "", ""
        return "finding", f"accepted, then {_told(error)}", _place(error)
    return ("finding", f"accepted: {complaint}", "") if complaint else ("accepted", "", "")


def _bad_refusal(attempt: cases.Attempt, error: Exception) -> str | None:
    """Complain unless the exception is one that the documentation promises, and speaks of what was expected."""
    if isinstance(error, attempt.refusals) and not isinstance(error, ValueError):
        return None
    if isinstance(error, TypeError) and cases.OWN_ARGUMENT in str(error):
        return None
    if isinstance(error, ValueError) and "expected" in str(error):
        return None
    return _told(error)


def show_case(seed: int, case: int) -> int:
    """Run one case and say what came of it; returns 1 if it is a finding."""
    verdict = Arena(seed).run(case, trace=True)
    for name, value in verdict._asdict().items():
        print(f"{name:<10} {value}")
    return 1 if verdict.outcome == "finding" else 0


def print_report(tally: Tally, config: FuzzConfig) -> None:
    """Print the counts as a table, then each kind of finding with one case to reproduce it."""
    from rich.console import Console
    from rich.table import Table

    later, seconds = max(config.count - BATCH, 0), time.perf_counter() - tally.begin
    table = Table(title=f"{config.count:,} cases, seed {config.seed}: {later / seconds:,.0f} a second")
    outcomes = ("rejected", "accepted", "finding")
    for heading in ("kind", "cases", *outcomes):
        table.add_column(heading, justify="left" if heading == "kind" else "right")
    kinds = sorted({kind for kind, _ in tally.counts})
    for kind in [*kinds, "all"]:
        found = [sum(n for (k, o), n in tally.counts.items() if kind in (k, "all") and o == name) for name in outcomes]
        table.add_row(kind, f"{sum(found):,}", *(f"{n:,}" for n in found))
    Console().print(table)
    for group in tally.groups():
        first, targets = group[0], sorted({verdict.target for verdict in group})
        print(f"\n{len(group)}x {first.kind}: {first.complaint}")
        print(f"  {first.place or 'no exception'}; in {', '.join(targets)}")
        print(f"  given {first.given[:300]}\n  python -m tests.fuzz.fuzz --seed {config.seed} --case {first.case}")


def quieten() -> None:
    """No warnings, no window, no long arrays in messages: only what is refused or accepted counts here."""
    np.set_printoptions(threshold=60, edgeitems=4)
    warnings.simplefilter("ignore")
    gym.logger.min_level = gym.logger.ERROR
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


def shortened(value: Any) -> str:
    """What was handed in, on one line."""
    try:
        said = repr(value)
    except Exception as error:
        said = f"{type(value).__name__} whose repr raises {type(error).__name__}"
    return " ".join(said.split())[:SHOWN]


def _verdict_of(item: Stopped, seed: int) -> Verdict:
    """The verdict on a case that did not come back."""
    return Verdict(item.case, "hang or crash", "any", "finding", item.reason, "", f"seed {seed}, case {item.case}")


def _told(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _place(error: BaseException) -> str:
    """The last line of ours that an exception went through, as file:line."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    ours = [frame for frame in frames if "fuzz" not in Path(frame.filename).name]
    last = (ours or frames)[-1]
    return f"{'/'.join(Path(last.filename).parts[-3:])}:{last.lineno}"


if __name__ == "__main__":
    sys.exit(run(main))
