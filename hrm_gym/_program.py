"""Ctrl-C while the commands are still being imported ends them without a traceback; nothing changes for a library."""

import os
import signal
import sys
from types import FrameType, TracebackType


def leave(number: int, frame: FrameType | None) -> None:
    """End at once: an exception raised in a module's import may be swallowed there, and the command would run on."""
    os._exit(130)


if sys.argv and os.path.basename(sys.argv[0]) in ("-m", "hrm-gym", "hrm-gym.exe"):
    _before = sys.excepthook

    def _quiet(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            _before(kind, error, trace)

    sys.excepthook = _quiet
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)
