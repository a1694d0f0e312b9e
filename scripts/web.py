"""`hrm-gym web`: one page, without server or network, in which the bundled HRMs think in the browser."""

from __future__ import annotations

import base64
import gzip
import io
import shlex
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import tyro

from hrm_gym.agents.hrm.export import describe, to_onnx
from hrm_gym.agents.hrm.hub import load_pretrained
from hrm_gym.agents.pretrained import FOLDER
from hrm_gym.envs.puzzle import puzzle_key
from hrm_gym.evaluation.pages import render
from hrm_gym.files import check_writable, write_atomically
from hrm_gym.scripts.options import parse

PACKAGE = "onnxruntime-web@1.30.0"
MODULE, WASM = "package/dist/ort.wasm.bundle.min.mjs", "package/dist/ort-wasm-simd-threaded.wasm"
MODELS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("Sudoku 9x9", "hrm-sudoku-9x9", "HRMSudoku-v0", {"difficulty": "hard"}),
    ("Maze 10x10", "hrm-maze-10x10", "HRMMaze-v0", {}),
    ("Sudoku 4x4", "hrm-sudoku-4x4", "HRMSudokuMini-v0", {}),
)
"""Name on the page, bundled weights, and the environment that its puzzles come from."""

PUZZLES = 8

MOST_NAMES = 2**20
"""Bytes of a name or of other metadata in the package, which tarfile reads as a whole."""

MOST = 2**28
"""Bytes of the package, and of either file in it; the package has 25 million, all its files unpack to 130 million."""


@dataclass(frozen=True)
class Web:
    """One page in which the bundled HRMs think in the browser, by ONNX Runtime Web: type or draw a puzzle, watch every
    segment, edit while it thinks, compare halting rules. The page is about 9 MB and needs neither server nor network.

    Attributes:
        out: The page.
        runtime: The npm package onnxruntime-web as a .tgz file; by default npm is asked for it.
    """

    EXAMPLES = ("hrm-gym web --out playground.html", "hrm-gym web --out playground.html --runtime onnxruntime-web.tgz")
    out: Annotated[Path, tyro.conf.arg(metavar="PAGE.html")]
    runtime: Annotated[Path | None, tyro.conf.arg(metavar="FILE.tgz", help_behavior_hint="(default: npm pack)")] = None


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym web`.

    Returns:
        0.

    Raises:
        ValueError, OSError: for bad input of any kind; the message fits on one line.
    """
    config = parse(Web, "hrm-gym web", argv)
    if config.out.suffix.lower() != ".html":
        raise ValueError(f"expected --out to end in .html, got {config.out.name!r}")
    check_writable(config.out)
    module, wasm = _members(_package(config.runtime) if config.runtime else _from_npm())
    page = render(
        "playground.html",
        title="See an HRM think",
        command=shlex.join(["hrm-gym", "web", *argv]),
        runtime=_packed(module),
        wasm=_packed(wasm),
        data=playground_data(),
    )
    write_atomically(config.out, page)
    print(f"{config.out}: {config.out.stat().st_size:,} bytes")
    return 0


def playground_data() -> dict[str, Any]:
    """What the page's script reads: for each model what `describe` says, its name, box, graph, and some puzzles."""
    models = []
    for name, weights, env_id, options in MODELS:
        found = load_pretrained(FOLDER / weights)
        world: Any = gym.make(env_id, disable_env_checker=True, **options).unwrapped
        puzzles = [world.puzzle_source.puzzle(puzzle_key(0, k)).clues.ravel().tolist() for k in range(PUZZLES)]
        about = {**describe(found.model, found.about), "name": name, "box": getattr(world.family, "box", None)}
        models.append({**about, "puzzles": puzzles, "onnx": _packed(to_onnx(found.model))})
    return {"models": models}


def _from_npm() -> bytes:
    """The package as npm packs it."""
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError(f"expected npm, or --runtime with the package {PACKAGE} as a .tgz file, got neither")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([npm, "pack", PACKAGE, "--silent"], cwd=folder, capture_output=True, text=True)
        files = list(Path(folder).glob("*.tgz"))
        if done.returncode or not files:
            raise ValueError(f"npm pack {PACKAGE} failed: {' '.join(done.stderr.split())[:200]}")
        return files[0].read_bytes()


def _package(path: Path) -> bytes:
    """A package that lies here; ValueError if it is no file or too large."""
    if not path.is_file() or path.stat().st_size > MOST:
        raise ValueError(f"expected the npm package {PACKAGE} as a .tgz file of at most {MOST:,} bytes, got {path}")
    return path.read_bytes()


class _Entry(tarfile.TarInfo):
    """An entry whose metadata are of a bounded length."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:  # which tarfile lets subclasses override
        if not (self.isreg() or self.isdir()) and self.size > MOST_NAMES:
            raise ValueError(f"expected metadata of at most {MOST_NAMES:,} bytes, got {self.size:,}")
        return super()._proc_member(archive)  # type: ignore[misc]


def _members(package: bytes) -> tuple[bytes, bytes]:
    """The script and the compiled runtime in the package."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(package), mode="r|gz", tarinfo=_Entry) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() and member.name in (MODULE, WASM) else None
                if archive.offset > 4 * MOST:  # what a kilobyte can unpack to takes hours
                    raise ValueError(f"it unpacks to more than {4 * MOST:,} bytes")
                if file is not None and member.size <= MOST:
                    found[member.name] = file.read()
        return found[MODULE], found[WASM]
    except (KeyError, ValueError, EOFError, OSError, zlib.error, tarfile.TarError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"expected the npm package {PACKAGE} as a .tgz file, got another: {said}") from error


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, mtime=0)).decode("ascii")
