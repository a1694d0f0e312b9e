"""Compiled code needs no cache: none can be written, or what is in it is damaged."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = """
import numpy as np
from hrm_gym.envs.compiled import compiled

@compiled
def twice(values, out):
    for i in range(len(values)):
        out[i] = 2 * values[i]

out = np.empty(3, np.int64)
twice(np.arange(3), out)
print(out.tolist(), sum(twice.stats.cache_hits.values()))
"""


def run(module: Path, **environment: str) -> str:
    """What the module prints in a process of its own."""
    found = subprocess.run(
        [sys.executable, str(module)], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    assert found.returncode == 0, found.stderr[-2000:]
    return found.stdout.strip()


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "place" / "module.py"
    path.parent.mkdir()
    path.write_text(MODULE)
    return path


def test_without_a_place_for_the_cache(module: Path) -> None:
    """A folder name that is a file, as package folder, home and cache: numba alone raises `no locator available`."""
    (module.parent / "__pycache__").write_text("not a folder")
    nowhere = str(module.parent / "__pycache__" / "home")
    assert run(module, HOME=nowhere, XDG_CACHE_HOME=nowhere, NUMBA_CACHE_DIR="") == "[0, 2, 4] 0"


@pytest.mark.parametrize("damage", [b"", b"garbage" * 50, None])
@pytest.mark.parametrize("ending", ["nbi", "nbc"])
def test_a_damaged_cache_is_made_again(module: Path, ending: str, damage: bytes | None) -> None:
    cache = module.parent / "__pycache__"
    assert run(module) == "[0, 2, 4] 0"
    assert run(module) == "[0, 2, 4] 1"
    (file,) = cache.glob(f"*.{ending}")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2] if damage is None else damage)
    assert run(module) == "[0, 2, 4] 0"
    assert run(module) == "[0, 2, 4] 1"
    shutil.rmtree(cache)
