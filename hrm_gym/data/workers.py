"""Processes that compute puzzles ahead of whoever asks for them, in a fixed order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any


class Workers:
    """Processes that call one function on many arguments.

    Use as a context: however the block ends, the processes are ended with it. They ignore Ctrl-C, which is for this
    process to hear, and end by themselves when this process is gone.
    """

    def __init__(self, count: int, work: Callable[..., Any]) -> None:
        """Start `count` processes; `work` travels there, so it must be picklable, as are its arguments and results."""
        context = multiprocessing.get_context("spawn")
        pipes = [context.Pipe() for _ in range(count)]
        self._processes = [context.Process(target=_serve, args=(theirs, work), daemon=True) for _, theirs in pipes]
        self._idle: list[Any] = [ours for ours, _ in pipes]
        self._busy: dict[Any, int] = {}
        self._sent = 0
        with _sigint_ignored(), away_from_current_folder():
            for process in self._processes:
                process.start()
        for _, theirs in pipes:
            theirs.close()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()
        for pipe in (*self._idle, *self._busy):
            pipe.close()

    def ordered(self, jobs: Iterator[tuple[Any, ...]]) -> Iterator[Any]:
        """The results of endless `jobs`, in their order; a few are computed ahead, and dropped if not asked for.

        Raises:
            OSError: if a process died.
            Exception: whatever the function raised, in its turn.
        """
        begin = wanted = self._sent
        results: dict[int, Any] = {}
        while True:
            while self._idle and self._sent < wanted + 2 * len(self._processes):
                self._send(next(jobs))
            if wanted not in results:
                results.update((ticket, result) for ticket, result in self._received() if ticket >= begin)
                continue
            result = results.pop(wanted)
            wanted += 1
            if isinstance(result, Exception):
                raise result
            yield result

    def _send(self, job: tuple[Any, ...]) -> None:
        pipe = self._idle.pop()
        self._busy[pipe] = self._sent
        self._sent += 1
        try:
            pipe.send(job)
        except OSError:
            raise OSError(_DIED) from None

    def _received(self) -> list[tuple[int, Any]]:
        """(ticket, result) of the jobs that are ready, at least one."""
        found = []
        ready: list[Any] = wait(list(self._busy))
        for pipe in ready:
            try:
                found.append((self._busy[pipe], pipe.recv()))
            except (EOFError, OSError):
                raise OSError(_DIED) from None
            del self._busy[pipe]
            self._idle.append(pipe)
        return found


_DIED = "a worker process died (out of memory?); the same command continues where it stopped"


def _serve(pipe: Connection, work: Callable[..., Any]) -> None:
    """What a worker process does until its pipe is closed."""
    try:
        while True:
            job = pipe.recv()
            try:
                result = work(*job)
            except Exception as error:
                result = error
            pipe.send(result)
    except (EOFError, OSError):
        pass


@contextmanager
def away_from_current_folder() -> Iterator[None]:
    """Processes started meanwhile look for modules among Python's own first, not in the current folder.

    multiprocessing starts them by `python -c`, then gives them this process's folder and path. PYTHONSAFEPATH, from
    Python 3.11 on, makes this needless.
    """
    if sys.version_info >= (3, 11) and os.environ.get("PYTHONSAFEPATH"):
        yield
        return
    here = None
    with suppress(OSError):  # a current folder that is gone
        here = os.getcwd()
        os.chdir(os.path.dirname(os.__file__))
    try:
        yield
    finally:
        if here is not None:
            os.chdir(here)


@contextmanager
def _sigint_ignored() -> Iterator[None]:
    """Processes started meanwhile never hear Ctrl-C, not even while they import."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
