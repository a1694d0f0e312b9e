"""`hrm-gym web`: the page has everything in it, and solves a puzzle with a known answer in a real browser."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from hrm_gym.envs.sudoku.rules import SudokuFamily
from hrm_gym.scripts import web
from hrm_gym.scripts.main import main

pytest.importorskip("onnx", reason="the web extra is not installed: pip install -e '.[web]'")

PUZZLE = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
ANSWER = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
HARD = "2..9.4..5.......1...65.1.4.8.1.......9.178.6.....4.....5836...7.2......4........."
DRAWN = str.maketrans("", "", " |-+")
DRIVE = """
<script type="module">
while (!window.playground) await new Promise((done) => setTimeout(done, 50));
const { load, step, state } = window.playground;
load([...%r].map((sign) => (sign === "." ? 1 : Number(sign) + 1)));
for (let k = 0; k < 8; k++) await step();
const told = { answers: state().history.map((one) => one.answer.map((token) => token - 1).join("")),
  q: state().history.map((one) => one.q_halt), words: document.getElementById("words").textContent,
  rules: document.getElementById("rules").textContent, lines: document.querySelectorAll("polyline").length };
document.body.replaceChildren(JSON.stringify(told));
</script>
"""


def package(folder: Path, *names: str) -> Path:
    """A package of npm's form with one line in every file."""
    path = folder / "package.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = len(name)
            archive.addfile(entry, io.BytesIO(name.encode()))
    return path


def test_a_page_has_everything_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runtime = package(tmp_path, web.MODULE, web.WASM)
    assert main(["web", "--out", str(tmp_path / "page.html"), "--runtime", str(runtime)]) == 0
    page = (tmp_path / "page.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    assert [model["name"] for model in data["models"]] == ["Sudoku 9x9", "Maze 10x10", "Sudoku 4x4"]
    assert all(len(model["puzzles"]) == web.PUZZLES and model["onnx"] for model in data["models"])
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page), "nothing is fetched from anywhere"
    assert "page.html" in capsys.readouterr().out


def test_another_package_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["web", "--out", str(tmp_path / "a.html"), "--runtime", str(package(tmp_path, "package/other"))]) == 2
    assert "onnxruntime-web" in capsys.readouterr().err


def test_hostile_packages_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that is cut short, one whose link leads to itself, one that unpacks to gigabytes, a pipe, a device; and names
    of gigabytes, which tarfile takes into memory."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as archive:
        entry = tarfile.TarInfo(web.MODULE)
        entry.type, entry.linkname = tarfile.SYMTYPE, Path(web.MODULE).name
        archive.addfile(entry)
    large = tarfile.TarInfo("large")
    large.size = 2**40
    whole = package(tmp_path, web.MODULE, web.WASM).read_bytes()
    contents = {"cut": whole[: len(whole) // 2], "link": held.getvalue(), "large": gzip.compress(large.tobuf())}
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
        name = tarfile.TarInfo("name")
        name.type, name.size = kind, 2**33
        contents[f"metadata {kind!r}"] = gzip.compress(name.tobuf(tarfile.GNU_FORMAT) + bytes(2**28), 1)
    for name, content in contents.items():
        (tmp_path / f"{name}.tgz").write_bytes(content)
    os.mkfifo(tmp_path / "pipe")
    for runtime in (*(tmp_path / f"{name}.tgz" for name in contents), tmp_path / "pipe", Path("/dev/zero")):
        assert main(["web", "--out", str(tmp_path / "a.html"), "--runtime", str(runtime)]) == 2
        said = capsys.readouterr().err
        assert "expected the npm package" in said
        assert said.count("\n") == 1
        assert ("metadata of at most" in said) == runtime.name.startswith("metadata")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with the real runtime."""
    folder = tmp_path_factory.mktemp("page")
    try:
        (folder / "runtime.tgz").write_bytes(web._from_npm())
    except ValueError as error:
        pytest.skip(str(error))
    assert main(["web", "--out", str(folder / "page.html"), "--runtime", str(folder / "runtime.tgz")]) == 0
    return folder / "page.html"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium to think in")
@pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm to fetch the runtime with")
def test_a_browser_solves_a_sudoku(page: Path, tmp_path: Path) -> None:
    driven = tmp_path / "page.html"
    driven.write_text(page.read_text().replace("</body>", DRIVE % PUZZLE + "</body>"))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=600000", "--dump-dom"]
    done = subprocess.run(
        [*command, f"--user-data-dir={tmp_path / 'profile'}", str(driven)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    found = json.loads(re.search(r"<body>(.*?)</body>", done.stdout, re.S)[1].replace("&gt;", ">").replace("&lt;", "<"))  # type: ignore[index]
    assert ANSWER in found["answers"]
    assert found["lines"] == 3, "Q(halt) and two residuals; this network has no Q(continue)"
    assert "keeps the rules" in found["rules"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium to think in")
@pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm to fetch the runtime with")
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_a_person_types_a_hard_sudoku(page: Path, width: int, height: int) -> None:
    """By keys where there is a keyboard, by touch on a phone; nothing is wider than the screen."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    phone, errors = width < 500, []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        shown = browser.new_context(viewport={"width": width, "height": height}, has_touch=phone).new_page()
        shown.on("pageerror", lambda error: errors.append(str(error)))
        shown.goto(page.as_uri())
        shown.wait_for_function("window.playground", timeout=120_000)
        shown.click("#clear")
        shown.click("[data-cell='0']")
        for cell, digit in enumerate(HARD):
            if phone and digit != ".":
                shown.tap(f"[data-cell='{cell}']")
                shown.tap(f"#brushes button:nth-child({int(digit) + 1})")
            elif not phone:
                if digit != ".":
                    shown.keyboard.press(digit)
                shown.keyboard.press("ArrowRight")
        assert _board(shown) == HARD
        shown.click("#think")
        shown.wait_for_function("document.getElementById('words').textContent.endsWith(': halts')", timeout=120_000)
        answer = _board(shown)
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        board = shown.locator("#board").bounding_box()
        assert board["x"] >= 0
        assert board["x"] + board["width"] <= width
        assert shown.locator("#think").bounding_box()["y"] < height, "board and controls are in view together"
        shown.evaluate(
            "text => { const held = new DataTransfer(); held.setData('text', text);"
            "document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: held })); }",
            PUZZLE.replace(".", "0"),
        )
        assert _board(shown) == PUZZLE
        browser.close()
    family = SudokuFamily()
    assert family.to_text(family.solve(family.parse(HARD))).replace("\n", "").translate(DRAWN) == answer
    assert not errors


def _board(shown: Any) -> str:
    cells = shown.eval_on_selector_all("#board button", "cells => cells.map((cell) => cell.textContent)")
    return "".join(cell or "." for cell in cells)
