"""Names and settings of the official HRM / TRM checkpoints, translated to ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hrm_gym.agents.hrm.config import HRMConfig

_RENAMES = (
    (r"^(_orig_mod\.)?(model\.)?inner\.", ""),
    (r"^embed_tokens\.embedding_weight$", "tokens"),
    (r"^embed_pos\.embedding_weight$", "positions"),
    (r"^puzzle_emb\.weights$", "puzzles"),
    (r"^lm_head\.", "answer_head."),
    (r"^([HL])_init$", lambda match: f"{match[1].lower()}_init"),
    (r"^([HL])_level\.layers\.", lambda match: f"{match[1].lower()}_level.blocks."),
    (r"\.self_attn\.qkv_proj\.", ".attention.qkv."),
    (r"\.self_attn\.o_proj\.", ".attention.out."),
    (r"\.mlp_t\.", ".sequence_mlp."),
    (r"\.gate_up_proj\.", ".gate_up."),
    (r"\.down_proj\.", ".down."),
)


def our_name(official: str) -> str:
    """Our name of an official parameter, e.g. `model.inner.lm_head.weight` -> `answer_head.weight`."""
    name = official
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def translate_state(state: Mapping[str, Tensor], config: HRMConfig) -> dict[str, Tensor]:
    """An official state dict under our names. With a shared module the one level appears under both of its names."""
    ours = {our_name(name): tensor for name, tensor in state.items()}
    if config.shared:
        ours |= {
            name.replace("l_level.", "h_level."): tensor for name, tensor in ours.items() if name.startswith("l_level.")
        }
    return ours


def translate_config(arch: Mapping[str, Any], grid: tuple[int, int] | None = None) -> HRMConfig:
    """Our config from the `arch` section of an official config.

    Args:
        arch: the official fields (`seq_len`, `H_cycles`, `halt_max_steps`, …).
        grid: (H, W); by default a square where seq_len is one, else (1, seq_len).

    Raises:
        ValueError: a field that must be there is not.
    """
    if missing := sorted({"seq_len", "vocab_size", "num_puzzle_identifiers", "hidden_size"} - set(arch)):
        raise ValueError(f"the official config lacks {missing} in its arch section; got {sorted(arch)}")
    length = int(arch["seq_len"])
    side = round(length**0.5)
    recursive = "puzzle_emb_len" in arch or "no_ACT_continue" in arch
    return HRMConfig(
        vocab_size=arch["vocab_size"],
        grid=grid or ((side, side) if side * side == length else (1, length)),
        hidden_size=arch["hidden_size"],
        heads=arch["num_heads"],
        h_layers=arch["H_layers"],
        l_layers=arch["L_layers"],
        h_cycles=arch["H_cycles"],
        l_cycles=arch["L_cycles"],
        expansion=arch["expansion"],
        positions=arch["pos_encodings"],
        rope_theta=arch.get("rope_theta", 10000.0),
        puzzle_count=arch["num_puzzle_identifiers"],
        puzzle_dim=arch["puzzle_emb_ndim"],
        puzzle_positions=arch.get("puzzle_emb_len") or None,
        max_segments=arch["halt_max_steps"],
        exploration=arch["halt_exploration_prob"],
        halting="bce" if arch.get("no_ACT_continue", recursive) else "q_learning",
        gradient="last_cycle" if recursive else "one_step",
        shared=recursive,
        mixer="mlp" if arch.get("mlp_t") else "attention",
        norm_eps=arch.get("rms_norm_eps", 1e-5),
        dtype=arch.get("forward_dtype", "bfloat16"),
    )
