"""The manual: every environment has a whole page, agents and commands have sections, and it builds clean."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from hrm_gym.registry import FACTORIES
from hrm_gym.scripts.main import COMMANDS

ROOT = Path(__file__).parent.parent
SECTIONS = {"Description", "Action space", "Observation space", "Reward", "End of an episode", "Info", "Arguments"}
SECTIONS.add("Registered")


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_environment_has_a_whole_manual_page(pages: ModuleType) -> None:
    for kind, ids in pages.families().items():
        text = inspect.getdoc(kind) or ""
        missing = SECTIONS - set(re.findall(r"^## (.+)$", text, re.M))
        assert not missing, f"{kind.__name__}: expected the sections {sorted(SECTIONS)}, missing {sorted(missing)}"
        registered = text.split("## Registered")[1]
        for env_id in ids:
            assert f"`{env_id}`" in registered, f"{kind.__name__}: expected `{env_id}` under Registered"


def test_every_constructor_argument_is_explained(pages: ModuleType) -> None:
    for kind in pages.families():
        own = [name for name in inspect.signature(kind.__init__).parameters if name not in ("self", "arguments")]
        listed = (inspect.getdoc(kind) or "").split("## Arguments")[1].split("\n## ")[0]
        missing = [name for name in own if f"`{name}`" not in listed]
        assert not missing, f"{kind.__name__}: expected {missing} under Arguments"


def test_pages_are_made_of_what_is_registered(pages: ModuleType) -> None:
    for env_id in pages.own_ids():
        assert f"`{env_id}`" in pages.environments_page()
    for name in FACTORIES:
        assert f"\n## {name}\n" in pages.agents_page()
    commands = pages.commands_page()
    for name in COMMANDS:
        assert f"\n$ hrm-gym {name} --help\nusage: hrm-gym {name}" in commands


def test_every_page_is_in_the_table_of_contents(pages: ModuleType) -> None:
    listed = set(re.findall(r"[\w/.-]+\.md", str(pages.navigation())))
    assert {place for place in pages.generate() if place.endswith(".md")} == listed


def test_lists_get_their_empty_line(pages: ModuleType) -> None:
    assert pages.lists_apart("Dict of\n- one\n  more\n- two\n") == "Dict of\n\n- one\n  more\n- two\n"
    assert pages.lists_apart("Text.\n\n- one\n\nMore.\n") == "Text.\n\n- one\n\nMore.\n"


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the HTML manual; fails if a page has a warning."""
    pytest.importorskip("mkdocstrings", reason="the docs extra is not installed: pip install -e '.[docs]'")
    pytest.importorskip("material", reason="the docs extra is not installed: pip install -e '.[docs]'")
    source = tmp_path_factory.mktemp("manual") / "docs-source"
    subprocess.run([sys.executable, ROOT / "docs" / "pages.py", source], check=True)
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "-q", "-f", source / "mkdocs.yml"],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return source.parent / "docs"


def test_the_manual_builds_without_a_warning(manual: Path) -> None:
    page = (manual / "environments" / "MazeEnv.html").read_text()
    assert "<table" in page
    assert 'id="observation-space"' in page


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium to search with")
def test_the_manual_is_searched_from_a_file(manual: Path) -> None:
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=60000", "--dump-dom"]
    address = f"{(manual / 'index.html').as_uri()}?q=participation"
    page = subprocess.run([*command, address], capture_output=True, text=True, check=True, timeout=300).stdout
    assert re.search(r'md-search-result__meta">\d+ matching documents?<', page)
    assert not re.search(r'(?:src|href)="(?:https?:)?//(?!github\.com)[^"]*\.(?:js|css)"', page), "needs a network"


def test_the_map_leads_to_what_it_names() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| .+ \| `([\w/]+\.py)` \| `(\w+)` \|$", text, re.M)
    assert len(rows) >= 10
    for place, name in rows:
        assert re.search(rf"^ *(def|class) {name}\b", (ROOT / place).read_text(), re.M), f"{place} has no {name}"


def test_every_promise_of_safety_names_a_test_that_is_there() -> None:
    places = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs" / "safety.md").read_text(encoding="utf-8"))
    assert len(places) > 15
    for file, name in places:
        assert f"def {name}" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{name}"
