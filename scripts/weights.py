"""`hrm-gym weights`: work on folders of weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from hrm_gym.agents import pretrained
from hrm_gym.agents.checkpoint import read_config, verify
from hrm_gym.agents.hrm.averaging import average
from hrm_gym.agents.hrm.run_folder import load_model
from hrm_gym.agents.sb3.policies import read_policy
from hrm_gym.scripts.options import parse, run_subcommand, say

HELP = """usage: hrm-gym weights average FOLDER FOLDER [FOLDER ...] --out FOLDER
       hrm-gym weights verify [FOLDER ...]

average  the mean of the weights of several HRMs, as one HRM. It makes sense for
         networks that continued from the same weights: with the weights before,
         the mean keeps what they could and most of what was learnt since. A
         folder that is named twice counts twice.
verify   whether folders of weights are whole: settings, names and shapes, and
         the SHA-256 of their tensors. Without a folder: the bundled weights.

examples:
  hrm-gym weights average runs/maze/model runs/maze-10x10/model --out runs/mean
  hrm-gym solve HRMMaze-v0:size=24 --agent hrm=runs/mean
  hrm-gym weights verify runs/maze/model
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


@dataclass(frozen=True)
class VerifyConfig:
    """Whether folders of weights are whole.

    Attributes:
        folders: Folders of weights of ours; the bundled ones by default.
    """

    folders: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="[FOLDER ...]")] = ()


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym weights COMMAND …`.

    Returns:
        0.

    Raises:
        ValueError: fewer than two folders, damaged ones, or networks that differ.
        OSError: files that cannot be read or written.
    """
    return run_subcommand({"average": run_average, "verify": run_verify}, "hrm-gym weights", argv, HELP)


def run_average(argv: Sequence[str]) -> None:
    """Run `hrm-gym weights average`."""
    if argv and argv[0] in ("-h", "--help"):
        print(HELP)
        return
    config = parse(AverageConfig, "hrm-gym weights average", argv)
    average(config.folders, config.out)
    say(f"mean of {len(config.folders)}: {config.out}")


def run_verify(argv: Sequence[str]) -> None:
    """Run `hrm-gym weights verify`."""
    if argv and argv[0] in ("-h", "--help"):
        print(HELP)
        return
    folders = parse(VerifyConfig, "hrm-gym weights verify", argv).folders
    for folder in folders or sorted(path.parent for path in pretrained.FOLDER.glob("*/config.json")):
        kind = read_config(folder).get("kind")
        model = load_model(folder)[0] if kind == "hrm" else read_policy(folder)[0]
        parameters = sum(parameter.numel() for parameter in model.parameters())
        sums = "SHA-256 as written" if verify(folder) else "no SHA256SUMS to compare with"
        say(f"{folder}: {kind}, {parameters:,} parameters, whole; {sums}")
