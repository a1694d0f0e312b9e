"""Writes the sources of the HTML manual; `make docs` then has MkDocs build them.

    python docs/pages.py build/docs-source

A new environment, agent, command or bundled model gets its page or section by being registered. Needs no MkDocs.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio.v3 as imageio

from hrm_gym.registry import FACTORIES, environment_ids
from hrm_gym.scripts.main import COMMANDS, main

ROOT = Path(__file__).parent.parent
ROOMS = ("envs", "agents", "scripts")
CARDS = sorted((ROOT / "agents" / "pretrained").glob("*/CARD.md"))
GUIDES = sorted((ROOT / "docs").glob("*.md"))
WRITTEN = sorted((ROOT / "docs" / "manual").glob("*.md"))
RESULTS = sorted(path for path in (ROOT / "docs" / "results").rglob("*") if path.is_file())
TEXT_WIDTH = "110"
Navigation = list[dict[str, Any]]


def generate() -> dict[str, str | bytes]:
    """Every generated page and picture: place in the manual -> content."""
    found: dict[str, str | bytes] = {
        "changelog.md": repository_page("CHANGELOG.md"),
        "environments/index.md": environments_page(),
        "agents.md": agents_page(),
        "commands.md": commands_page(),
    }
    for kind, ids in families().items():
        found[f"environments/{kind.__name__}.md"] = environment_page(kind, ids)
        found[f"environments/{kind.__name__}.png"], found[f"environments/{kind.__name__}-board.png"] = pictures(ids[0])
    pages = [*WRITTEN, *CARDS, *GUIDES, ROOT / "CONTRIBUTING.md", *(path for path in RESULTS if path.suffix == ".md")]
    found.update({manual_place(place_of(page)): repository_page(place_of(page)) for page in pages})
    files = [
        *(path for path in (ROOT / "docs").iterdir() if path.suffix in (".gif", ".png")),
        *(ROOT / "examples").glob("*.py"),
        *(ROOT / "examples").glob("*.ipynb"),
        *(path for path in RESULTS if path.suffix != ".md"),
    ]
    found.update({manual_place(place_of(path)): path.read_bytes() for path in files})
    return found


def navigation() -> Navigation:
    """The table of contents."""
    environments = [{kind.__name__: f"environments/{kind.__name__}.md"} for kind in families()]
    cards = [{card.parent.name: f"cards/{card.parent.name}.md"} for card in CARDS]
    results = [{heading(page): manual_place(place_of(page))} for page in RESULTS if page.suffix == ".md"]

    every = {page.stem: page for page in (*WRITTEN, *GUIDES) if page.stem != "index"}

    def pages(*names: str) -> Navigation:
        return [{heading(page): manual_place(place_of(page))} for page in map(every.pop, names)]

    found: Navigation = [
        {"Home": "index.md"},
        {"Start": pages("install", "tour")},
        {"Environments": ["environments/index.md", *environments, *pages("vectors", "libraries", "test_sets")]},
        {"Agents": ["agents.md", *pages("plugins", "compare", "rl", "text"), {"Bundled weights": cards}]},
        {"Your own puzzle": pages("own_puzzle")},
        {"Training": pages("training", "sudoku", "hrm", "gpu", "experiments")},
        {"The paper": [*pages("claims", "halting"), {"Results": results}]},
        {"About": [*pages("cite"), {"Contributing": "CONTRIBUTING.md"}, {"Changelog": "changelog.md"}]},
    ]
    reference = [{"Command line": "commands.md"}, *pages("protocols", "architecture", "safety")]
    return [*found[:-1], {"Reference": [*reference, *pages(*every)]}, found[-1]]


def write(folder: Path) -> None:
    """Make `folder` afresh: mkdocs.yml with the table of contents, the pages, and the package as it is installed."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "pages").mkdir(parents=True)
    for name in ("wide.css", "iframe-worker.js"):
        shutil.copy(ROOT / "docs" / "manual" / name, folder / "pages")
    for place, content in generate().items():
        path = folder / "pages" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    only_python = shutil.ignore_patterns("__pycache__", "*.npz", "*.safetensors")
    links = shutil.ignore_patterns("__pycache__", *ROOMS)
    shutil.copytree(ROOT / "hrm_gym", folder / "hrm_gym", ignore=links)
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / "hrm_gym" / room, ignore=only_python)
    settings = (ROOT / "docs" / "mkdocs.yml").read_text(encoding="utf-8")
    (folder / "mkdocs.yml").write_text(f"{settings}\nnav: {json.dumps(navigation())}\n", encoding="utf-8")


def own_ids() -> list[str]:
    """The registered environments of this package; others may be registered in the same process."""
    return [env_id for env_id in environment_ids() if str(gym.spec(env_id).entry_point).startswith("hrm_gym.")]


def families() -> dict[type[gym.Env[Any, Any]], list[str]]:
    """Every environment class with the ids under which it is registered."""
    found: dict[type[gym.Env[Any, Any]], list[str]] = {}
    for env_id in own_ids():
        module, _, name = str(gym.spec(env_id).entry_point).partition(":")
        found.setdefault(getattr(importlib.import_module(module), name), []).append(env_id)
    return found


def environments_page() -> str:
    """The list of all environments, a row a class with its picture, and what they have in common."""
    rows = [
        f"| [![{ids[0]}]({kind.__name__}-board.png){{ width=180 }}]({kind.__name__}.md) | "
        f"{'<br>'.join(f'`{env_id}`: {constructed(env_id)}' for env_id in ids)} | "
        f"[{kind.__name__}]({kind.__name__}.md): {summary(kind)} |"
        for kind, ids in families().items()
    ]
    head = ["# Environments", "", "| | id: made with | task |", "|---|---|---|"]
    shared = ["", "## What they share", "", "::: hrm_gym.envs.puzzle_env.PuzzleEnv", ""]
    return "\n".join([*head, *rows, *shared])


def summary(kind: type) -> str:
    """The first line of a class's docstring."""
    return (inspect.getdoc(kind) or "").splitlines()[0]


def constructed(env_id: str) -> str:
    """The constructor arguments that an id stands for."""
    return ", ".join(f"`{name}={value!r}`" for name, value in gym.spec(env_id).kwargs.items()) or "the defaults"


def environment_page(kind: type, ids: list[str]) -> str:
    """The manual page of an environment: its class's docstring, under a picture."""
    title = f"# {kind.__name__}: {', '.join(ids)}"
    first, _, rest = (inspect.getdoc(kind) or "").partition("\n")
    shown = f"![{ids[0]}, a puzzle and its stored solution]({kind.__name__}.png)"
    make = f'```python\nimport gymnasium as gym\nimport hrm_gym\n\nenv = gym.make("{ids[0]}")\n```'
    return f"{title}\n\n{first}\n\n{shown}\n\n{make}\n{lists_apart(rest)}\n"


def pictures(env_id: str) -> tuple[bytes, bytes]:
    """Two PNGs of puzzle 0 of seed 0 with its stored solution: as the environment draws it, and the board alone.

    Of an environment without a board, both are of an episode after a few steps.
    """
    env = gym.make(env_id, render_mode="rgb_array")
    env.reset(seed=0)
    world: Any = env.unwrapped
    answers = getattr(world, "action_mode", None) == "answer"
    for action in [[*world.puzzle.solution.ravel().tolist(), 0]] if answers else [0] * 6:
        env.step(action)
    frame: Any = env.render()
    board = world.family.picture(world.puzzle, world.puzzle.solution) if answers else frame
    env.close()
    whole, alone = (bytes(imageio.imwrite("<bytes>", image, extension=".png")) for image in (frame, board))
    return whole, alone


def agents_page() -> str:
    """The scores of the bundled weights, and the agents that `make_agent` knows, each with its class's docstring."""
    parts = ["# Agents", "", '`hrm_gym.make_agent("NAME", env)` makes the agent that fits an environment.', ""]
    parts += ["## Scores", "", SCORES]
    parts += [row for card in CARDS for row in scores(card.parent)]
    parts += ["", "::: hrm_gym.registry.make_agent", ""]
    for name, place in FACTORIES.items():
        module, _, factory = place.partition(":")
        parts += [f"## {name}", "", f"::: {module}.{factory.partition('.')[0]}", ""]
    return "\n".join(parts)


SCORES = """New puzzles of the test split, at which nothing was chosen or trained; in brackets 95 % intervals. An HRM's
*own decision* is its Q-head alone. From the `measured.json` next to the weights, which the command in it writes.

| weights | puzzles | halting | solved | segments |
|---|---|---|---|---|"""


def scores(weights: Path) -> list[str]:
    """The rows of one set of bundled weights."""
    path = weights / "measured.json"
    found = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    rows = []
    for row in found:
        solved, low, high = (f"{100 * row[name]:.1f}" for name in ("solved", "solved_low", "solved_high"))
        used = "-" if row["mean_segments"] is None else f"{row['mean_segments']:.1f}"
        halting = row.get("halting_rules") or "-"
        cells = (f"[{weights.name}](cards/{weights.name}.md)", f"`{row['env']}`", halting)
        rows.append(f"| {' | '.join(cells)} | {solved} % ({low} to {high}) | {used} |")
    return rows


def commands_page() -> str:
    """What every command says of itself with `--help`."""
    parts = ["# Command line", "", _console("hrm-gym --help", help_text())]
    for name in COMMANDS:
        parts += [f"## hrm-gym {name}", "", _console(f"hrm-gym {name} --help", help_text(*name.split()))]
    return "\n".join(parts)


def help_text(*command: str) -> str:
    """The text that `hrm-gym COMMAND --help` prints."""
    said, width = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = TEXT_WIDTH
    try:
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            main([*command, "--help"])
    finally:
        os.environ.pop("COLUMNS")
        os.environ.update({} if width is None else {"COLUMNS": width})
    return said.getvalue()


def place_of(path: Path) -> str:
    """Where a file lies in the repository."""
    return path.relative_to(ROOT).as_posix()


def heading(page: Path) -> str:
    """The title of a Markdown file."""
    return page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ").replace("`", "")


def manual_place(place: str) -> str:
    """Where a file of the repository comes to lie in the manual, if it does."""
    if place in ("README.md", "CHANGELOG.md"):
        return {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}[place]
    if re.fullmatch(r"docs/manual/(environments/index|agents|commands)\.md", place):
        return place.removeprefix("docs/manual/")
    if re.fullmatch(r"agents/pretrained/[^/]+/CARD\.md", place):
        return f"cards/{place.split('/')[2]}.md"
    if re.fullmatch(r"docs/[^/]+\.(gif|png)", place):
        return f"pictures/{os.path.basename(place)}"
    return place.removeprefix("docs/manual/").removeprefix("docs/")


def repository_page(place: str) -> str:
    """A Markdown file of the repository with its links turned into links of the manual."""
    text = (ROOT / place).read_text(encoding="utf-8")
    text = lists_apart(text)
    return re.sub(r"\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)", lambda link: _turned(link, place), text)


def lists_apart(text: str) -> str:
    """Markdown with an empty line before every list, which MkDocs needs and GitHub does not.

    >>> lists_apart("Dict of\\n- one\\n- two")
    'Dict of\\n\\n- one\\n- two'
    """
    return re.sub(r"^(?!\s*[-*] |\s*$)(\S.*\n)(?=[-*] )", r"\1\n", text, flags=re.M)


def _turned(link: re.Match[str], place: str) -> str:
    """One link of the file at `place`: to where its target lies in the manual, seen from the page."""
    target = manual_place(os.path.normpath(os.path.join(os.path.dirname(place), link[1])).replace(os.sep, "/"))
    seen = os.path.relpath(target, os.path.dirname(manual_place(place)) or ".").replace(os.sep, "/")
    return f"]({seen}{link[2] or ''})"


def _console(command: str, said: str) -> str:
    """A command and what it prints, as a block."""
    lines = "\n".join(line.rstrip() for line in said.rstrip().splitlines())
    return f"```console\n$ {command}\n{lines}\n```\n"


if __name__ == "__main__":
    write(Path(sys.argv[1]))
