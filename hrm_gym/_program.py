"""How processes of the program end before its commands are imported; nothing changes for a library."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any


def leave(number: int, frame: FrameType | None) -> None:
    """End at once: an exception raised in a module's import may be swallowed there, and the command would run on."""
    os._exit(128 + number)


ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that ask a process to end; Windows has no SIGHUP."""

Handler = Callable[[int, FrameType | None], None] | signal.Handlers


@contextlib.contextmanager
def handling(numbers: Iterable[int], handler: Handler) -> Iterator[None]:
    """Within, these signals call `handler`, but for those that are ignored (nohup's wish) or that C code handles."""
    before: dict[int, Any] = {}
    with contextlib.suppress(ValueError):  # only the main thread may set handlers
        for number in numbers:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def ended_at_once() -> contextlib.AbstractContextManager[None]:
    """Within, in which large libraries are imported and there is nothing to be saved, signals end a command at once.

    An exception that comes while PyTorch's C++ is being loaded aborts the process.
    """
    # Only handlers of the commands: a library leaves signals to whoever uses it.
    ours = ("_stop", "default_int_handler")
    return handling([n for n in ENDING if getattr(signal.getsignal(n), "__name__", "") in ours], leave)


def end_with_standard_input() -> None:
    """End as by SIGTERM once standard input ends: whoever holds its other side asks for that, or has been killed."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


if sys.argv and os.path.basename(sys.argv[0]) in ("-m", "hrm-gym", "hrm-gym.exe"):
    _before = sys.excepthook

    def _quiet(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            _before(kind, error, trace)

    sys.excepthook = _quiet
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)
