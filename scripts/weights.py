"""`hrm-gym weights`: work on folders of weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from hrm_gym.agents.hrm.averaging import average
from hrm_gym.scripts.options import parse, run_subcommand

HELP = """usage: hrm-gym weights average FOLDER FOLDER [FOLDER ...] --out FOLDER

average  the mean of the weights of several HRMs, as one HRM. It makes sense for
         networks that continued from the same weights: with the weights before,
         the mean keeps what they could and most of what was learnt since. A
         folder that is named twice counts twice.

examples:
  hrm-gym weights average runs/maze/model runs/maze-10x10/model --out runs/mean
  hrm-gym solve HRMMaze-v0:size=24 --agent hrm=runs/mean
"""


@dataclass(frozen=True)
class AverageConfig:
    """The mean of several networks' weights.

    Attributes:
        folders: Checkpoint folders, two at least.
        out: Folder of the mean.
    """

    folders: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FOLDER FOLDER ...")]
    out: Path


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym weights COMMAND …`.

    Returns:
        0.

    Raises:
        ValueError: fewer than two folders, damaged ones, or networks that differ.
        OSError: files that cannot be read or written.
    """
    return run_subcommand({"average": run_average}, "hrm-gym weights", argv, HELP)


def run_average(argv: Sequence[str]) -> None:
    """Run `hrm-gym weights average`."""
    if argv and argv[0] in ("-h", "--help"):
        print(HELP)
        return
    config = parse(AverageConfig, "hrm-gym weights average", argv)
    average(config.folders, config.out)
    print(f"mean of {len(config.folders)}: {config.out}")
