"""Ctrl-C while the commands are still being imported ends them without a traceback; nothing changes for a library."""

import os
import sys
from types import TracebackType

if sys.argv and os.path.basename(sys.argv[0]) in ("-m", "hrm-gym", "hrm-gym.exe"):
    _before = sys.excepthook

    def _quiet(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            _before(kind, error, trace)

    sys.excepthook = _quiet
