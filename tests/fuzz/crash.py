"""Processes that are killed before a chosen file operation."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")


def killed_before(nth: int, task: Callable[[], object]) -> bool:
    """Run `task` in a process that is killed before its nth change of a file; returns whether it was."""
    process = os.fork()
    if process == 0:
        left = nth

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            left -= event in CHANGES or bool(writes)
            if left == 0:
                left = -1
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        try:
            task()
            os._exit(0)
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
    status = os.waitpid(process, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)
