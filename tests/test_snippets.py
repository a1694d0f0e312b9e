"""Every command and every Python block of README and manual is run, or at least understood.

A marker above a block says how it is scaled down. `<!-- test: solve --episodes 2; train --updates 2 -->` adds options
to commands of these names, `<!-- test: 100_000 -> 100 -->` changes numbers of a Python block, `read` runs nothing of a
block, `read bench train` leaves out these commands. Whatever is left out is parsed all the same.
"""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch

from hrm_gym.agents.checkpoint import write_folder
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.recipes import RECIPES
from hrm_gym.agents.hrm.run_folder import write_model
from hrm_gym.agents.pretrained import FOLDER
from hrm_gym.scripts import options
from hrm_gym.scripts.main import COMMANDS, main, run

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "manual").glob("*.md"))]
BLOCK = re.compile(r"(?:^<!-- (?P<marker>.*?) -->\n)?^```(?P<kind>\w*)\n(?P<body>.*?)^```$", re.M | re.S)
INDENTED = re.compile(r"^    ((?:hrm-gym|python -m hrm_gym)\b.*)$", re.M)
OTHERS = {"pip", "uv", "python", "py", "torchrun", "export", "echo", "make", "git", "cd"}
"""Programs that are not ours; `echo` is run, targets of `make` are looked up."""

MODULES = "hrm_gym.scripts."


class Parsed(Exception):
    """The arguments are understood."""


@dataclass(frozen=True)
class Block:
    """A block of code of a page: the items of its marker, its language, its text."""

    marker: tuple[str, ...]
    kind: str
    body: str

    @property
    def read(self) -> bool:
        """Whether nothing of it is run; another test that runs it may be named in place of a marker."""
        return any(item == "read" or item.startswith(("read needs", "tests/", "the test")) for item in self.marker)

    def left_out(self, name: str) -> bool:
        """Whether a command is parsed only."""
        return self.read or any(item.startswith("read ") and f" {name} " in f"{item} " for item in self.marker)

    def extra(self, name: str) -> list[str]:
        """Options that scale a command down."""
        found = (item.removeprefix(name) for item in self.marker if item.startswith(f"{name} --"))
        return [word for item in found for word in shlex.split(item)]


def blocks(page: Path) -> list[Block]:
    """The blocks of a page that can be run."""
    found = []
    for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
        marker = tuple(item.strip() for item in (match["marker"] or "").removeprefix("test: ").split(";"))
        found.append(Block(marker, match["kind"], match["body"]))
    return found


def commands(body: str) -> Iterator[list[str]]:
    """The commands of a console block, as words."""
    for line in body.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True, posix="\\" not in line):
            yield words


def name_of(argv: list[str]) -> str:
    """The command among the arguments after `hrm-gym`."""
    return next((" ".join(argv[:n]) for n in (3, 2, 1) if " ".join(argv[:n]) in COMMANDS), "")


def program_of(words: list[str]) -> tuple[str, list[str]] | None:
    """What is called of ours, and its arguments: "" for `hrm-gym`, else a module; None for other programs."""
    if re.split(r"[/\\]", words[0])[-1] == "hrm-gym":
        return "", words[1:]
    if words[:2] == ["python", "-m"] and words[2].startswith(MODULES):
        return words[2], words[3:]
    return None


def call(program: str, argv: list[str]) -> int:
    """Run one of our commands in this process."""
    return main(argv) if not program else run(importlib.import_module(program).main, argv)


def understood(monkeypatch: pytest.MonkeyPatch, program: str, argv: list[str]) -> None:
    """Parse the arguments of a command, and do nothing."""

    def stop(config: Any) -> None:
        raise Parsed

    if argv and argv[0].startswith("-"):
        return  # --help and --completion of the program itself
    with monkeypatch.context() as patched:
        patched.setattr(options, "parsed", stop)
        with pytest.raises(Parsed):
            call(program, argv)


def in_python(block: Block) -> str:
    """The text of a Python block with the numbers that its marker gives."""
    text = block.body
    for item in block.marker:
        if " -> " in item:
            old, new = item.split(" -> ")
            assert re.sub(r"[\d_.]+", "#", old) == re.sub(r"[\d_.]+", "#", new), f"{item}: expected other numbers only"
            assert old in text, f"expected {old!r} in the block"
            text = text.replace(old, new)
    return text


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that pages speak of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    monkeypatch.syspath_prepend(str(tmp_path))
    maze: Any = gym.make("HRMMazeHard-v0").unwrapped
    rows = ["source,question,answer,rating"]
    for seed in range(2):
        maze.reset(seed=seed)
        texts = (maze.family.to_text(grid).replace("\n", "") for grid in (maze.puzzle.clues, maze.puzzle.solution))
        rows.append(f"here,{','.join(texts)},1")
    Path("train.csv").write_text("\n".join(rows) + "\n")
    puzzle = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
    Path("puzzles.sdm").write_text(f"{puzzle}\n")
    mini: Any = gym.make("HRMSudokuMini-v0", source="generate").unwrapped
    for name, first in (("mine.txt", 0), ("held_out.txt", 50)):
        lines = []
        for seed in range(first, first + 12):
            mini.reset(seed=seed)
            lines.append("".join(mini.family.symbols[token] for token in mini.puzzle.clues.flat))
        Path(name).write_text("\n".join(lines) + "\n")
    Path("tasks").mkdir()
    task = {"train": [{"input": [[1, 2]], "output": [[2, 1]]}], "test": [{"input": [[3, 4]]}]}
    Path("tasks/a.json").write_text(json.dumps(task))
    shutil.copytree(FOLDER / "hrm-sudoku-9x9", "runs/sudoku/model")
    torch.manual_seed(0)
    config = RECIPES["maze"].model
    about = {"kind": "hrm", "family": "maze"}
    write_folder(Path("runs/maze/model"), lambda path: write_model(path, HRM(config).state_dict(), config, about))
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_are_understood(page: Path, bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        words
        for block in blocks(page)
        if block.kind not in ("python", "toml", "bibtex")
        for words in commands(block.body)
    ]
    lines += [words for line in INDENTED.findall(page.read_text(encoding="utf-8")) for words in commands(line)]
    for words in lines:
        ours = program_of(words)
        if any(word.startswith("$") or word == "CALL" for word in words):
            continue  # something has to be filled in
        if ours is not None:
            understood(monkeypatch, *ours)
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M), " ".join(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_blocks_run(page: Path, bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"__name__": "snippet"}  # blocks of a page go on from each other
    for block in blocks(page):
        if block.kind == "python" and not block.read:
            exec(compile(in_python(block), str(page), "exec"), names)
        elif block.kind == "console":
            for words in commands(block.body):
                _run(block, words, capsys)


def _run(block: Block, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    line, ours = shlex.join(words), program_of(words)
    if ours is None:
        name = re.split(r"[/\\]", words[0])[-1]
        assert name in OTHERS, f"expected one of our commands, or one of {', '.join(sorted(OTHERS))}, got {line}"
        if name == "echo" and not block.read:
            subprocess.run(block.body.splitlines()[0], shell=True, check=True)
        return
    program, argv = ours
    name = name_of(argv) if not program else program.rpartition(".")[2]
    if not block.left_out(name):
        capsys.readouterr()
        status = call(program, [*argv, *block.extra(name)])
        assert status == 0, f"{line}\n{capsys.readouterr().err[-2000:]}"
