"""The arrows between the rooms, read from the imports; and that no room is imported under its folder's bare name."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {"hrm_gym": "", "envs": "envs.", "agents": "agents.", "scripts": "scripts."}
SPINE = {"hrm_gym.agents.agent", "hrm_gym.envs.puzzle", "hrm_gym.envs.family"}
PICTURES = ("drawing.py", "screen.py", "window.py", "lettering.py", "player.py", "palette.py")


def modules() -> list[tuple[str, Path]]:
    """(dotted name, file) of every module of the package."""
    found = []
    for room, prefix in ROOMS.items():
        for path in sorted((ROOT / room).rglob("*.py")):
            parts = path.relative_to(ROOT / room).with_suffix("").parts
            if room == "hrm_gym" and parts[0] in ROOMS:
                continue  # the links that `make` sets
            inner = ".".join(part for part in parts if part != "__init__")
            found.append((f"hrm_gym.{prefix}{inner}".rstrip("."), path))
    return found


def imports(path: Path, at_import_time: bool = False) -> Iterator[str]:
    """Modules that a file imports; without those in functions and under TYPE_CHECKING if `at_import_time`."""
    tree = ast.parse(path.read_text())
    for node in tree.body if at_import_time else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def top(module: str) -> str:
    return module.split(".")[0]


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: str(value) if isinstance(value, str) else "")
def test_who_may_import_whom(name: str, path: Path) -> None:
    used = set(imports(path))
    assert not {module for module in used if top(module) in ("envs", "agents", "scripts")}, "import rooms by hrm_gym.*"
    if not within(name, "hrm_gym.scripts"):
        assert not [module for module in used if within(module, "hrm_gym.scripts")], "nothing imports scripts"
    if within(name, "hrm_gym.envs"):
        assert not [m for m in used if top(m) in ("torch", "stable_baselines3") or within(m, "hrm_gym.agents")]
        if path.name == "rules.py":
            plain = {"__future__", "collections", "functools", "itertools", "math", "reprlib", "typing"}
            assert {top(m) for m in imports(path, at_import_time=True)} <= {*plain, "numpy", "numba", "hrm_gym"}
        if path.name not in PICTURES:
            assert "pygame" not in {top(m) for m in imports(path, at_import_time=True)}
    elif within(name, "hrm_gym.agents"):
        known = ("hrm_gym.envs.puzzle", "hrm_gym.envs.family", "hrm_gym.envs.files", "hrm_gym.envs.halting")
        families = [m for m in used if m.startswith("hrm_gym.envs.") and not within(m, *known)]
        assert not families, "agents know no particular puzzle family"
    elif not within(name, "hrm_gym.scripts"):
        rooms = {m for m in imports(path, at_import_time=True) if within(m, "hrm_gym.agents", "hrm_gym.envs")}
        assert all(within(m, *SPINE) for m in rooms), "the spine knows the two protocols only"


def test_importing_the_package_is_light_and_makes_no_second_copy() -> None:
    code = (
        "import sys, hrm_gym, gymnasium\n"
        "gymnasium.make('HRMMaze-v0')\n"
        "bad = {'torch', 'pygame', 'stable_baselines3', 'matplotlib', 'envs', 'agents', 'scripts'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {bad}' if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
