"""The settings of an official HRM or TRM run, translated to ours.

`all_config.yaml` describes the network in its `arch` section. What the data set determined (length, vocabulary, number
of puzzles) is not in that file: it is taken from the shapes of the weights and from the name of the data's folder.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.reading import MOST_CONFIG, read_json, read_yaml

_NUMBERS: dict[str, type] = {
    "seq_len": int,
    "vocab_size": int,
    "num_puzzle_identifiers": int,
    "H_cycles": int,
    "L_cycles": int,
    "H_layers": int,
    "L_layers": int,
    "hidden_size": int,
    "num_heads": int,
    "halt_max_steps": int,
    "puzzle_emb_ndim": int,
    "puzzle_emb_len": int,
    "expansion": float,
    "halt_exploration_prob": float,
    "rms_norm_eps": float,
    "rope_theta": float,
}
"""Fields that are numbers, with their types."""

_CHOICES: dict[str, tuple[Any, ...]] = {
    "pos_encodings": ("rope", "learned", "none"),
    "forward_dtype": ("bfloat16", "float32"),
    "mlp_t": (False, True),
    "no_ACT_continue": (False, True),
}
"""Fields with a few possible values."""

_DEFAULTS = {
    "puzzle_emb_ndim": 0,
    "puzzle_emb_len": 0,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "forward_dtype": "bfloat16",
    "mlp_t": False,
    "no_ACT_continue": False,
}
"""What HRM's fields are by default; a puzzle_emb_len of 0 means as many positions as the puzzle embedding needs."""

_RECURSIVE_DEFAULTS = {**_DEFAULTS, "H_layers": 0, "puzzle_emb_len": 16, "no_ACT_continue": True}
"""The same for TRM, which ignores H_layers."""

_LENGTHS = {"sudoku": 81, "maze": 900, "arc": 900}
"""Cells of a board in the official data sets, by a word in their folder's name."""


def read_settings(config: Path | str | Mapping[str, Any]) -> dict[str, Any]:
    """An official config from a YAML or JSON file, or a copy of a mapping.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is neither YAML nor JSON, or holds no fields.
    """
    if isinstance(config, Mapping):
        return _with_arch(dict(config), "the official config")
    path = Path(config)
    if not path.is_file():
        raise FileNotFoundError(f"expected an official config (all_config.yaml or JSON) at {path}, found none")
    return _with_arch(read_json(path, MOST_CONFIG) if path.suffix == ".json" else read_yaml(path), path)


def _with_arch(content: Any, origin: object) -> dict[str, Any]:
    """`content` if it can be an official config."""
    if not isinstance(content, dict) or not isinstance(content.get("arch", {}), Mapping):
        raise ValueError(f"{origin}: expected the fields of an official config, got {reprlib.repr(content)}")
    return content


def translate_config(settings: Mapping[str, Any], state: Mapping[str, Tensor] | None = None) -> HRMConfig:
    """Our config from an official one. The grid is a square where seq_len is one, else (1, seq_len).

    Args:
        settings: the content of an `all_config.yaml` or of a JSON file, or its `arch` section alone.
        state: the weights by their bare official names; they tell HRM from TRM, and give what an `all_config.yaml`
            does not hold.

    Raises:
        ValueError: a field that must be there is not, or has a value that makes no network.
    """
    recursive = _is_recursive(settings, state)
    arch = _complete(settings, state, _RECURSIVE_DEFAULTS if recursive else _DEFAULTS)
    length, side = arch["seq_len"], math.isqrt(arch["seq_len"])
    return HRMConfig(
        vocab_size=arch["vocab_size"],
        grid=(side, side) if side * side == length else (1, length),
        hidden_size=arch["hidden_size"],
        heads=arch["num_heads"],
        h_layers=arch["H_layers"],
        l_layers=arch["L_layers"],
        h_cycles=arch["H_cycles"],
        l_cycles=arch["L_cycles"],
        expansion=arch["expansion"],
        positions=arch["pos_encodings"],
        rope_theta=arch["rope_theta"],
        puzzle_count=arch["num_puzzle_identifiers"],
        puzzle_dim=arch["puzzle_emb_ndim"],
        puzzle_positions=arch["puzzle_emb_len"] or None,
        max_segments=arch["halt_max_steps"],
        exploration=arch["halt_exploration_prob"],
        halting="bce" if arch["no_ACT_continue"] else "q_learning",
        gradient="last_cycle" if recursive else "one_step",
        shared=recursive,
        mixer="mlp" if arch["mlp_t"] else "attention",
        norm_eps=arch["rms_norm_eps"],
        dtype=arch["forward_dtype"],
    )


def data_family(settings: Mapping[str, Any]) -> str | None:
    """The family of puzzles that the folder of an official run's data names, or None.

    >>> data_family({"data_path": "data/sudoku-extreme-1k-aug-1000"})
    'sudoku'
    """
    names = [folder.name.lower() for folder in data_folders(settings)]
    return next((family for family in _LENGTHS if any(family in name for name in names)), None)


def data_folders(settings: Mapping[str, Any]) -> list[Path]:
    """The folders of an official run's data: HRM names one, TRM a list."""
    folders = settings.get("data_path") or settings.get("data_paths") or []
    return [Path(str(folder)) for folder in ([folders] if isinstance(folders, str) else folders)]


def _is_recursive(settings: Mapping[str, Any], state: Mapping[str, Tensor] | None) -> bool:
    """Whether this is a TRM, which has no separate H-level. Without weights its fields tell."""
    if state is not None:
        return not any(name.startswith("H_level.") for name in state)
    arch = settings.get("arch", settings)
    return "no_ACT_continue" in arch or arch.get("H_layers") == 0


def _complete(
    settings: Mapping[str, Any], state: Mapping[str, Tensor] | None, defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Every field, of its type: from the arch section, from around it, from weights and data, or by default."""
    known = _NUMBERS.keys() | _CHOICES.keys()
    given = {**settings, **settings.get("arch", {})}
    arch = {**defaults, **_from_data(settings, state), **{name: given[name] for name in known & given.keys()}}
    if missing := sorted(known - arch.keys()):
        found = sorted(map(str, given))
        raise ValueError(f"the official config lacks {', '.join(missing)} in its arch section; got {found}")
    numbers = {name: _number(name, arch[name], kind) for name, kind in _NUMBERS.items()}
    return numbers | {name: _choice(name, arch[name], allowed) for name, allowed in _CHOICES.items()}


def _from_data(settings: Mapping[str, Any], state: Mapping[str, Tensor] | None) -> dict[str, int]:
    """What the data set of an official run determined."""
    if state is None or not {"data_path", "data_paths"} & settings.keys():
        return {}
    named = {"vocab_size": "lm_head.weight", "num_puzzle_identifiers": "puzzle_emb.weights"}
    shapes = {field: len(state[name]) for field, name in named.items() if name in state}
    family = data_family(settings)
    return {"num_puzzle_identifiers": 1, **shapes, **({"seq_len": _LENGTHS[family]} if family else {})}


def _number(name: str, value: Any, kind: type) -> Any:
    """`value` as a number; YAML reads 1e-5 as text."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not 0 <= number < math.inf or (kind is int and number % 1):
        wanted = "a whole number" if kind is int else "a number"
        raise ValueError(f"official config: expected {name} as {wanted} of at least 0, got {reprlib.repr(value)}")
    return kind(number)


def _choice(name: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    """`value` if it is allowed; nothing at all, YAML's null, means "none"."""
    value = "none" if value is None else value
    if value not in allowed:
        raise ValueError(f"official config: expected {name} as one of {allowed}, got {reprlib.repr(value)}")
    return value
