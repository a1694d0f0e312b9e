"""Checkpoints of the official HRM and TRM code: their names and settings translated to ours, and loaded.

The official code saves a run's weights as `step_N`, a plain `torch.save`d state dict whose names begin with
`model.inner.` (`_orig_mod.model.inner.` when it was compiled), and next to it the settings, `all_config.yaml`.
"""

from __future__ import annotations

import re
import reprlib
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hrm_gym.agents.checkpoint import check_size, read_tensors
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.official.config import read_settings, translate_config

_WRAPPERS = re.compile(r"^((_orig_mod|module|model|inner)\.)+")
_DERIVED = re.compile(r"^(rotary_emb\.(cos|sin)_cached|puzzle_emb\.local_(weights|ids)|n_averaged)$")
"""Buffers that follow from others, or count averages; the official code does not save them, some copies do."""

WRAPPED = ("ema", "ema_state_dict", "ema_model", "shadow", "model_state_dict", "state_dict", "model")
"""Names under which training loops keep weights inside a checkpoint; averaged ones, which are evaluated, come first."""

MOST_TIED = 4
"""How often the numbers of a file may be used, by weights that are tied."""

_RENAMES = (
    ("embed_tokens.embedding_weight", "tokens"),
    ("embed_pos.embedding_weight", "positions"),
    ("puzzle_emb.weights", "puzzles"),
    ("lm_head.", "answer_head."),
    ("H_init", "h_init"),
    ("L_init", "l_init"),
    ("H_level.layers.", "h_level.blocks."),
    ("L_level.layers.", "l_level.blocks."),
    (".self_attn.qkv_proj.", ".attention.qkv."),
    (".self_attn.o_proj.", ".attention.out."),
    (".mlp_t.", ".sequence_mlp."),
    (".gate_up_proj.", ".gate_up."),
    (".down_proj.", ".down."),
)
"""(part of an official name, the same part of ours)."""


def load_official(checkpoint: Path | str | Mapping[str, Tensor], config_json: Path | str | Mapping[str, Any]) -> HRM:
    """An official HRM or TRM checkpoint as a network of ours, in evaluation mode.

    >>> model = load_official("run/step_26041", "run/all_config.yaml")  # doctest: +SKIP
    >>> carry = model.initial_carry(batch_size=8)  # doctest: +SKIP
    >>> with torch.no_grad():  # doctest: +SKIP
    ...     carry, logits, q_halt, q_continue = model.segment(carry, tokens, puzzle_ids)

    Args:
        checkpoint: a `torch.save`d or safetensors file, read as tensors only, or the state dict itself, also as one
            entry of a larger checkpoint (`WRAPPED`); names with or without the prefix `_orig_mod.`.
        config_json: an `all_config.yaml`, a JSON file, or their content; the fields may also stand outside `arch`.

    Returns:
        The network with float32 parameters and the official precision of activations (`forward_dtype`).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is damaged, a field or a weight is missing, unknown or of another form; it is named.
    """
    state = read_state(checkpoint)
    config = translate_config(read_settings(config_json), state)
    with torch.device("meta"):  # shapes are compared before memory is taken
        outline = HRM(config)
    check_fit(state, outline, checkpoint if isinstance(checkpoint, str | Path) else "the state dict")
    model = HRM.from_state(config)
    model.load_state_dict(translate_state(state, config))
    return model.eval()


# ---- names ----


def bare_name(name: str) -> str:
    """An official name without the names of what was wrapped around the network.

    >>> bare_name("_orig_mod.model.inner.lm_head.weight")
    'lm_head.weight'
    """
    return _WRAPPERS.sub("", name)


def our_name(official: str) -> str:
    """Our name of an official parameter.

    >>> our_name("model.inner.H_level.layers.0.self_attn.qkv_proj.weight")
    'h_level.blocks.0.attention.qkv.weight'
    """
    name = bare_name(official)
    for theirs, ours in _RENAMES:
        name = name.replace(theirs, ours)
    return name


def official_name(ours: str) -> str:
    """The official name, without prefix, of a parameter of ours; the inverse of `our_name`.

    >>> official_name("answer_head.weight")
    'lm_head.weight'
    """
    for theirs, part in _RENAMES:
        ours = ours.replace(part, theirs)
    return ours


def translate_state(state: Mapping[str, Tensor], config: HRMConfig) -> dict[str, Tensor]:
    """An official state dict under our names, complete: with the second name of a shared level, and with a puzzle
    embedding of width 0 where there is none.
    """
    ours = {our_name(name): tensor for name, tensor in state.items()}
    if config.shared:
        levels = {name: tensor for name, tensor in ours.items() if name.startswith("l_level.")}
        ours |= {name.replace("l_level.", "h_level."): tensor for name, tensor in levels.items()}
    if not config.embedding_dim:
        ours["puzzles"] = torch.zeros(config.puzzle_count, 0)
    return ours


def check_fit(state: Mapping[str, Tensor], model: HRM, origin: object) -> None:
    """Refuse official weights that are not exactly those of `model`.

    Args:
        state: official weights by their bare names.
        model: the network that the official config describes.
        origin: where the weights come from, for the message.

    Raises:
        ValueError: some are missing, unknown or of another shape; one line with their official names.
    """
    expected = {official_name(name): tensor for name, tensor in model.state_dict().items() if tensor.numel()}
    if model.config.shared:
        expected = {name: tensor for name, tensor in expected.items() if not name.startswith("H_level.")}
    wrong = [
        f"{name}: expected shape {tuple(expected[name].shape)}, got {tuple(state[name].shape)}"
        for name in sorted(set(expected) & set(state))
        if expected[name].shape != state[name].shape
    ]
    faults = [_few("missing", sorted(set(expected) - set(state))), _few("unknown", sorted(set(state) - set(expected)))]
    if found := [fault for fault in [*faults, _few("of another shape", wrong)] if fault]:
        raise ValueError(f"{origin}: the weights are not those of the config: {'; '.join(found)}")


def _few(what: str, names: list[str], most: int = 3) -> str:
    """`what` and the first names, or nothing if there are none."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{what} {', '.join(names[:most])}{more}" if names else ""


# ---- files ----


def read_state(checkpoint: Path | str | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Official weights by their bare names, from a file or a mapping; nothing but tensors is read from a file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds something else than named tensors.
    """
    if isinstance(checkpoint, Mapping):
        return _bare(_unwrapped(checkpoint).items(), "the state dict")
    path = Path(checkpoint)
    if not path.is_file():
        raise FileNotFoundError(f"expected an official checkpoint file at {path}, found none")
    check_size(path)
    state = read_tensors(path) if path.suffix == ".safetensors" else _unpickled(path)
    if not isinstance(state, Mapping):
        raise ValueError(f"{path}: expected a state dict, got {type(state).__name__}")
    found, size = _bare(_unwrapped(state).items(), path), path.stat().st_size
    # A tensor may be a view that repeats one number billions of times, or all of them the same numbers.
    if (asked := sum(tensor.numel() * tensor.element_size() for tensor in found.values())) > MOST_TIED * size:
        raise ValueError(f"{path}: expected tensors of about the {size:,} bytes of the file, got {asked:,}")
    # Mapped ones would end the process if the file were cut short later.
    return {name: tensor.clone() for name, tensor in found.items()}


def _unwrapped(state: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """The weights in a checkpoint that may also hold an optimiser, counters and the like."""
    while not all(isinstance(value, Tensor) for value in state.values()):
        inside = [state[name] for name in WRAPPED if isinstance(state.get(name), Mapping) and state[name]]
        if not inside:
            break
        state = inside[0]
    return state


def _unpickled(path: Path) -> Any:
    """What `torch.save` wrote, as far as it is tensors and plain containers."""
    try:
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"  # by which PyTorch knows its own format
        if zipped:
            with zipfile.ZipFile(path) as archive:
                if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                    raise ValueError("expected members that are stored, as PyTorch writes them, got compressed ones")
        # Mapped, no tensor reaches past the end of the file, whatever sizes it is said to have.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # damaged pickles raise whatever the unpickler comes upon: IndexError, struct.error, …
        reason = _line(error)
        raise ValueError(f"{path} is damaged, or no checkpoint of tensors alone: {reason}") from None


def _bare(items: Iterable[tuple[Any, Any]], origin: object) -> dict[str, Tensor]:
    """Named tensors without the prefixes of the names; derived buffers left out."""
    state: dict[str, Tensor] = {}
    for name, tensor in items:
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ValueError(f"{origin}: expected named tensors, got {reprlib.repr(name)}: {type(tensor).__name__}")
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized or tensor.is_complex():
            raise ValueError(f"{origin}: expected {reprlib.repr(name)} as plain numbers, got {_kind(tensor)}")
        bare = bare_name(name)
        if bare in state:
            raise ValueError(f"{origin}: two weights are called {bare}")
        if not _DERIVED.match(bare):
            state[bare] = tensor
    return state


def _kind(tensor: Tensor) -> str:
    return f"a {'meta' if tensor.is_meta else str(tensor.layout).removeprefix('torch.')} tensor of {tensor.dtype}"


def _line(error: Exception, most: int = 160) -> str:
    """The beginning of an error's message, on one line."""
    return " ".join(str(error).split())[:most] or type(error).__name__
