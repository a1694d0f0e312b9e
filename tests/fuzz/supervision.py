"""Numbered cases in a process of their own, which may hang or crash without taking the command along."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

BATCH = 256
"""Results sent at a time."""

WARM_UP_LIMIT = 600.0
"""Seconds that the process may take before its first case: compilation."""

_WARMING = -1


class Stopped(NamedTuple):
    """A case that did not come back.

    Attributes:
        case: its number.
        reason: what happened.
    """

    case: int
    reason: str


def supervise(
    start: Callable[..., Callable[[int], Any]], arguments: tuple[Any, ...], count: int, limit: float
) -> Generator[Any, None, None]:
    """Run cases 0 .. count - 1 in order; a case that hangs or crashes costs a new process, and the rest goes on.

    Args:
        start: called in the process with `arguments`; returns the function that runs one case. Importable.
        arguments: picklable.
        count: how many cases.
        limit: seconds a case may take.

    Yields:
        What each case returned, in order, or `Stopped`.

    Raises:
        RuntimeError: if the process dies before its first case.
    """
    done, bad = 0, dict[int, Stopped]()
    while done < count:
        done, stopped = yield from _attempt(start, arguments, range(done, count), bad, limit)
        if stopped is not None:
            bad[stopped.case] = stopped


def _attempt(
    start: Callable[..., Callable[[int], Any]],
    arguments: tuple[Any, ...],
    cases: range,
    bad: dict[int, Stopped],
    limit: float,
) -> Generator[Any, None, tuple[int, Stopped | None]]:
    """Run `cases` in a new process until they end or one stops it; returns the next case and what stopped it.

    What was run but not sent when the process stopped is run again by the next one, which passes over the `bad` cases.
    """
    context = multiprocessing.get_context("spawn")
    current = context.Array("d", [_WARMING, time.time()], lock=False)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(start, arguments, cases, bad, theirs, current), daemon=True)
    process.start()
    theirs.close()
    done = cases.start
    try:
        while done < cases.stop:
            if not ours.poll(0.2):
                stopped = _late(current, limit)
                if stopped is not None:
                    return done, stopped
                continue
            try:
                results = ours.recv()
            except EOFError:
                process.join()
                return done, _dead(process, current)
            yield from results
            done += len(results)
        process.join(1.0)
        return done, None
    finally:
        process.kill()
        process.join()
        ours.close()


def _late(current: Any, limit: float) -> Stopped | None:
    """The case that the process is at, if it takes too long."""
    case, seconds = int(current[0]), time.time() - current[1]
    if case == _WARMING and seconds > WARM_UP_LIMIT:
        raise RuntimeError(f"expected all environments to warm up within {WARM_UP_LIMIT:g} s")
    return Stopped(case, f"hangs for more than {limit:g} s") if case != _WARMING and seconds > limit else None


def _dead(process: Any, current: Any) -> Stopped:
    """The case at which the process died."""
    case = int(current[0])
    if case == _WARMING:
        raise RuntimeError(f"expected all environments to warm up, but the process died, exit code {process.exitcode}")
    return Stopped(case, f"the process died with exit code {process.exitcode}")


def _work(
    start: Any, arguments: tuple[Any, ...], cases: range, bad: dict[int, Stopped], pipe: Connection, current: Any
) -> None:
    """The process: run cases and send what they return, in batches."""
    run = start(*arguments)
    results: list[Any] = []
    for case in cases:
        current[1] = time.time()
        current[0] = case
        results.append(bad[case] if case in bad else run(case))
        if len(results) == BATCH:
            pipe.send(results)
            results = []
    pipe.send(results)
