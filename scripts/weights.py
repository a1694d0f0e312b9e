"""`hrm-gym weights`: the mean of several networks' weights, and whether folders of weights are whole."""

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
from hrm_gym.scripts.options import arg, parse
from hrm_gym.scripts.output import say


@dataclass(frozen=True)
class Average:
    """The mean of the weights of several HRMs, as one HRM. It makes sense for networks that continued from the same
    weights: with the weights before, the mean keeps what they could and most of what was learnt since. A folder that is
    named twice counts twice.

    Attributes:
        folders: Folders of weights, two at least.
        out: Folder of the mean.
    """

    EXAMPLES = (
        "hrm-gym weights average runs/maze/model runs/maze-10x10/model --out runs/mean",
        ("hrm-gym solve HRMMaze-v0:size=24 --agent hrm=runs/mean", "play with the mean"),
    )
    folders: Annotated[tyro.conf.Positional[tuple[Path, ...]], arg("FOLDER FOLDER ...")]
    out: Annotated[Path, arg("FOLDER")]


@dataclass(frozen=True)
class Verify:
    """Whether folders of weights are whole: settings, names and shapes, and the SHA-256 of their tensors.

    Attributes:
        folders: Folders of weights of ours.
    """

    EXAMPLES = ("hrm-gym weights verify", "hrm-gym weights verify runs/maze/model")
    folders: Annotated[tyro.conf.Positional[tuple[Path, ...]], arg("[FOLDER ...]", "the bundled ones")] = ()


def average_weights(argv: Sequence[str]) -> None:
    """Run `hrm-gym weights average`."""
    config = parse(Average, "hrm-gym weights average", argv)
    average(config.folders, config.out)
    say(f"mean of {len(config.folders)}: {config.out}")


def verify_weights(argv: Sequence[str]) -> None:
    """Run `hrm-gym weights verify`."""
    folders = parse(Verify, "hrm-gym weights verify", argv).folders
    for folder in folders or sorted(path.parent for path in pretrained.FOLDER.glob("*/config.json")):
        kind = read_config(folder).get("kind")
        model = load_model(folder)[0] if kind == "hrm" else read_policy(folder)[0]
        parameters = sum(parameter.numel() for parameter in model.parameters())
        sums = "SHA-256 as written" if verify(folder) else "no SHA256SUMS to compare with"
        say(f"{folder}: {kind}, {parameters:,} parameters, whole; {sums}")
