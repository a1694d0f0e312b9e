"""How processes of the program end before its commands are imported; nothing changes for a library."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType


def leave(number: int, frame: FrameType | None) -> None:
    """End at once: an exception raised in a module's import may be swallowed there, and the command would run on."""
    os._exit(128 + number)


@contextlib.contextmanager
def ended_at_once() -> Iterator[None]:
    """Within, in which large libraries are imported and there is nothing to be saved, signals end a command at once.

    An exception that comes while PyTorch's C++ is being loaded aborts the process.
    """
    before = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        # Only handlers of the commands: a library leaves signals to whoever uses it.
        if number is not None and getattr(signal.getsignal(number), "__name__", "") in ("_stop", "default_int_handler"):
            with contextlib.suppress(ValueError):  # only the main thread may set handlers
                before[number] = signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
