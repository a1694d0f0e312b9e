"""What a figure was measured on: the machine, the versions, the state of the source."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("gymnasium", "numpy", "torch", "stable-baselines3", "sb3-contrib")
"""Libraries whose versions may matter to a figure."""


@lru_cache(maxsize=1)
def machine() -> str:
    """Processor, cores, graphics card, system."""
    parts = [_processor(), f"{os.cpu_count()} cores", *_cards(), f"{platform.system()} {platform.machine()}"]
    return ", ".join(parts)


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """hrm-gym (with the commit where it runs from a repository), Python, and the libraries behind the agents."""
    found = {"hrm-gym": version("hrm-gym") + _commit(), "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def load() -> float | None:
    """How many processes wanted a core in the last minute, on average; None where the system does not say.

    Above the number of cores, milliseconds tell more about the company than about the agent.
    """
    try:
        return round(os.getloadavg()[0], 1)
    except (AttributeError, OSError):
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cards() -> list[str]:
    """The CUDA device in use, if torch is there and has one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [str(torch.cuda.get_device_name())]


def _commit() -> str:
    """` (commit abc1234)`, with ` and changes` if files were edited since; "" outside a repository."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        ran = [
            subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True, check=True, timeout=10)
            for command in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.SubprocessError):
        return ""
    return f" (commit {ran[0].stdout.strip()}{' and changes' if ran[1].stdout.strip() else ''})"
