"""The mean of several networks' weights, which may do better than each.

Networks that continued from the same weights mostly lie in one valley of the loss, as does their mean ("model soups",
arXiv 2203.05482); the mean of a network before and after it learnt elsewhere keeps much of what it knew and
most of what it learnt (arXiv 2109.01903). Networks that were trained apart have nothing in common to average.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hrm_gym.agents.checkpoint import write_folder
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.run_folder import load_model, write_model
from hrm_gym.files import check_ours


def average(folders: Sequence[Path | str], out: Path) -> Path:
    """Write the mean of the weights in several checkpoint folders to the folder `out`, and return it.

    What else is known of the first one (its board, recipe and settings) holds for the mean, and what is known of all of
    them is kept as `averaged` in its JSON.

    Args:
        folders: at least two, of our format; a folder that is named twice counts twice.
        out: a folder; one that this program wrote is replaced.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: fewer than two, a damaged one, or networks that differ.
    """
    if len(folders) < 2:
        raise ValueError(f"expected at least two folders of weights, got {len(folders)}")
    check_ours(Path(out))
    loaded = [load_model(folder) for folder in folders]
    model, about = loaded[0]
    first = model.state_dict()
    total = {name: tensor.double() for name, tensor in first.items()}
    for folder, (other, about_other) in zip(folders[1:], loaded[1:], strict=True):
        for name, tensor in _checked(model, about, other, about_other, folder).state_dict().items():
            total[name] += tensor
    state = {name: (tensor / len(folders)).to(first[name].dtype) for name, tensor in total.items()}
    averaged = [about_other for _, about_other in loaded]
    write_folder(out, lambda draft: write_model(draft, state, model.config, {**about, "averaged": averaged}))
    return out


def _checked(model: HRM, about: dict[str, Any], other: HRM, about_other: dict[str, Any], folder: Path | str) -> HRM:
    """`other` on the board of `model`; a ValueError names what differs."""
    if other.config.any_grid:
        other = other.on_grid(model.config.grid)
    own, its = model.config.to_json(), dataclasses.replace(other.config, dtype=model.config.dtype).to_json()
    own["family"], its["family"] = about.get("family"), about_other.get("family")
    if own != its:
        names = ", ".join(f"{name} {its[name]} (the first: {own[name]})" for name in own if own[name] != its[name])
        raise ValueError(f"expected networks of one architecture, got {folder} with {names}")
    return other
