"""`hrm-gym export`: one segment of an HRM as an ONNX file, for other runtimes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from hrm_gym.agents.hrm.export import write_onnx
from hrm_gym.agents.hrm.hub import load_pretrained
from hrm_gym.agents.pretrained import FOLDER
from hrm_gym.files import check_writable
from hrm_gym.scripts.options import arg, parse


@dataclass(frozen=True)
class ExportConfig:
    """One segment of an HRM as an ONNX file: carry in, carry out; a JSON file next to it describes its board.

    Attributes:
        model: A folder of weights, a bundled one's name (hrm-sudoku-9x9), or owner/name on the Hugging Face hub.
        onnx: The file to write.
        size: Side length of the board, for networks that play any.
    """

    EXAMPLES = (
        "hrm-gym export hrm-sudoku-9x9 --onnx sudoku.onnx",
        "hrm-gym export hrm-maze-any-size --onnx maze.onnx --size 16",
    )
    model: Annotated[tyro.conf.Positional[str], arg("MODEL")]
    onnx: Annotated[Path, arg("OUT.onnx")]
    size: Annotated[int | None, arg("N", "that of the weights")] = None


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym export`; returns 0."""
    config = parse(ExportConfig, "hrm-gym export", argv)
    if config.onnx.suffix != ".onnx":
        raise ValueError(f"expected --onnx to end in .onnx, got {config.onnx.name!r}")
    check_writable(config.onnx)
    about = config.onnx.with_suffix(".json")
    if about.exists() and not config.onnx.exists():
        raise FileExistsError(f"expected no {about}, which would be replaced: give --onnx another name")
    check_writable(about)
    bundled = FOLDER / config.model
    found = load_pretrained(bundled if bundled.is_dir() else config.model)
    model = found.model if config.size is None else found.model.on_grid((config.size, config.size))
    write_onnx(model, found.about, config.onnx)
    print(f"{config.onnx}: one segment of {config.model}, {config.onnx.stat().st_size:,} bytes")
    return 0
