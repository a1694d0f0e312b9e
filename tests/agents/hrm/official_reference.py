"""The official HRM and TRM forward pass written down once more, plainly and in float64, and weights to run it on.

It shares nothing with the package: NumPy, the official names, one position or head at a time where that is clearer.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]

HRM: dict[str, Any] = {
    "batch_size": 3, "seq_len": 9, "vocab_size": 7, "num_puzzle_identifiers": 4, "puzzle_emb_ndim": 32,
    "H_cycles": 2, "L_cycles": 2, "H_layers": 1, "L_layers": 1, "hidden_size": 32, "expansion": 4, "num_heads": 2,
    "pos_encodings": "rope", "halt_max_steps": 16, "halt_exploration_prob": 0.1, "forward_dtype": "float32",
}  # fmt: skip
TRM: dict[str, Any] = {
    **HRM, "H_layers": 0, "L_layers": 2, "H_cycles": 3, "L_cycles": 4,
    "puzzle_emb_len": 16, "no_ACT_continue": True, "mlp_t": False,
}  # fmt: skip
MIXER: dict[str, Any] = {**TRM, "mlp_t": True, "pos_encodings": "none"}

CONFIGS: dict[str, dict[str, Any]] = {
    "hrm": HRM,
    "hrm, learned positions": {**HRM, "pos_encodings": "learned"},
    "hrm, no puzzle embedding": {**HRM, "puzzle_emb_ndim": 0},
    "hrm, puzzle embedding over three positions": {**HRM, "puzzle_emb_ndim": 80},
    "hrm, narrow puzzle embedding": {**HRM, "puzzle_emb_ndim": 20},
    "hrm, other depths and cycles": {**HRM, "H_layers": 3, "L_layers": 2, "H_cycles": 3, "L_cycles": 1},
    "hrm, one cycle, no square": {**HRM, "H_cycles": 1, "L_cycles": 3, "seq_len": 15, "num_heads": 4},
    "hrm, other constants": {**HRM, "expansion": 1.5, "rope_theta": 100.0, "rms_norm_eps": 1e-2, "halt_max_steps": 3},
    "trm, attention": TRM,
    "trm, as many puzzle positions as needed": {**TRM, "puzzle_emb_len": 0, "puzzle_emb_ndim": 40},
    "trm, no puzzle embedding": {**TRM, "puzzle_emb_len": 0, "puzzle_emb_ndim": 0, "L_layers": 1},
    "trm, learned positions": {**TRM, "pos_encodings": "learned", "no_ACT_continue": False},
    "trm, mixer": MIXER,
    "trm, mixer, no square": {**MIXER, "seq_len": 21, "puzzle_emb_len": 5, "puzzle_emb_ndim": 70, "expansion": 2},
    "trm, mixer, learned positions": {**MIXER, "pos_encodings": "learned", "puzzle_emb_len": 0},
    "trm, mixer, no puzzle embedding": {**MIXER, "puzzle_emb_len": 0, "puzzle_emb_ndim": 0},
}
"""Official `arch` sections."""


class Result(NamedTuple):
    """Of one segment: z_H and z_L (B, T, D), logits (B, S, V), Q logits (B,)."""

    z_h: Array
    z_l: Array
    logits: Array
    q_halt: Array
    q_continue: Array


def puzzle_positions(arch: dict[str, Any]) -> int:
    return arch.get("puzzle_emb_len") or math.ceil(arch["puzzle_emb_ndim"] / arch["hidden_size"])


def swiglu_shapes(name: str, width: int, expansion: float) -> dict[str, tuple[int, ...]]:
    inner = math.ceil(round(expansion * width * 2 / 3) / 256) * 256
    return {f"{name}.gate_up_proj.weight": (2 * inner, width), f"{name}.down_proj.weight": (width, inner)}


def official_shapes(arch: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor that the official code saves, by its name without prefix."""
    hidden, length = arch["hidden_size"], arch["seq_len"] + puzzle_positions(arch)
    shapes: dict[str, tuple[int, ...]] = {
        "H_init": (hidden,), "L_init": (hidden,), "embed_tokens.embedding_weight": (arch["vocab_size"], hidden),
        "lm_head.weight": (arch["vocab_size"], hidden), "q_head.weight": (2, hidden), "q_head.bias": (2,),
    }  # fmt: skip
    if arch["puzzle_emb_ndim"]:
        shapes["puzzle_emb.weights"] = (arch["num_puzzle_identifiers"], arch["puzzle_emb_ndim"])
    if arch["pos_encodings"] == "learned":
        shapes["embed_pos.embedding_weight"] = (length, hidden)
    levels = {"L_level": arch["L_layers"]} | ({} if "mlp_t" in arch else {"H_level": arch["H_layers"]})
    for block in (f"{level}.layers.{i}" for level, depth in levels.items() for i in range(depth)):
        shapes |= swiglu_shapes(f"{block}.mlp", hidden, arch["expansion"])
        if arch.get("mlp_t"):
            shapes |= swiglu_shapes(f"{block}.mlp_t", length, arch["expansion"])
        else:
            shapes[f"{block}.self_attn.qkv_proj.weight"] = (3 * hidden, hidden)
            shapes[f"{block}.self_attn.o_proj.weight"] = (hidden, hidden)
    return shapes


def random_state(arch: dict[str, Any], seed: int = 0, prefix: str = "model.inner.") -> dict[str, torch.Tensor]:
    """Random weights as the official code saves them; matrices are kept small, since a full one makes chaos."""
    draw = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in official_shapes(arch).items():
        scale = 0.5 * shape[-1] ** -0.5 if "_level" in name else 1.0
        state[prefix + name] = scale * torch.randn(shape, generator=draw)
    for name in ("H_init", "L_init"):
        state[prefix + name] = state[prefix + name].to(getattr(torch, arch["forward_dtype"]))
    return state


def softmax(x: Array) -> Array:
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


class Reference:
    """An official network in float64."""

    def __init__(self, arch: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
        self.arch = arch
        self.weights = {name.split("inner.")[-1]: tensor.double().numpy() for name, tensor in state.items()}
        self.front = puzzle_positions(arch)
        self.length = self.front + arch["seq_len"]

    def start(self, batch: int) -> tuple[Array, Array]:
        shape = (batch, self.length, self.arch["hidden_size"])
        return np.broadcast_to(self.weights["H_init"], shape), np.broadcast_to(self.weights["L_init"], shape)

    def norm(self, x: Array, axis: int) -> Array:
        """Root mean square 1 along `axis`."""
        return x / np.sqrt((x**2).mean(axis, keepdims=True) + self.arch.get("rms_norm_eps", 1e-5))

    def swiglu(self, name: str, x: Array) -> Array:
        both = x @ self.weights[f"{name}.gate_up_proj.weight"].T
        gate, up = np.split(both, 2, axis=-1)
        return (gate / (1 + np.exp(-gate)) * up) @ self.weights[f"{name}.down_proj.weight"].T

    def turn(self, x: Array) -> Array:
        """Rotate (B, T, head_dim): entries j and j + head_dim/2 are a point, turned by t * theta^(-2j/head_dim)."""
        half = x.shape[-1] // 2
        turned = np.empty_like(x)
        for j in range(half):
            angle = np.arange(self.length) * self.arch.get("rope_theta", 10000.0) ** (-j / half)
            a, b = x[..., j], x[..., j + half]
            turned[..., j], turned[..., j + half] = (
                a * np.cos(angle) - b * np.sin(angle),
                b * np.cos(angle) + a * np.sin(angle),
            )
        return turned

    def attention(self, name: str, x: Array) -> Array:
        heads, width = self.arch["num_heads"], self.arch["hidden_size"] // self.arch["num_heads"]
        qkv = x @ self.weights[f"{name}.qkv_proj.weight"].T
        found = []
        for head in range(heads):
            q, k, v = (qkv[..., (part * heads + head) * width :][..., :width] for part in range(3))
            if self.arch["pos_encodings"] == "rope":
                q, k = self.turn(q), self.turn(k)
            found.append(softmax(q @ k.transpose(0, 2, 1) / math.sqrt(width)) @ v)
        return np.concatenate(found, -1) @ self.weights[f"{name}.o_proj.weight"].T

    def block(self, name: str, x: Array) -> Array:
        if self.arch.get("mlp_t"):
            columns = np.swapaxes(x, 1, 2)
            mixed = np.stack([self.swiglu(f"{name}.mlp_t", columns[:, d]) for d in range(columns.shape[1])], axis=2)
            x = self.norm(x + mixed, axis=1)
        else:
            x = self.norm(x + self.attention(f"{name}.self_attn", x), axis=2)
        return self.norm(x + self.swiglu(f"{name}.mlp", x), axis=2)

    def level(self, name: str, state: Array, injected: Array) -> Array:
        x = state + injected
        for i in range(self.arch[f"{name[0]}_layers"]):
            x = self.block(f"{name}.layers.{i}", x)
        return x

    def embed(self, tokens: NDArray[np.int64], ids: NDArray[np.int64]) -> Array:
        hidden = self.arch["hidden_size"]
        x = self.weights["embed_tokens.embedding_weight"][tokens]
        if self.arch["puzzle_emb_ndim"]:
            front = np.zeros((len(ids), self.front * hidden))
            front[:, : self.arch["puzzle_emb_ndim"]] = self.weights["puzzle_emb.weights"][ids]
            x = np.concatenate([front.reshape(len(ids), self.front, hidden), x], axis=1)
        if self.arch["pos_encodings"] == "learned":
            x = (x + self.weights["embed_pos.embedding_weight"]) / math.sqrt(2)
        return x * math.sqrt(hidden)

    def segment(self, z_h: Array, z_l: Array, tokens: NDArray[np.int64], ids: NDArray[np.int64]) -> Result:
        x, upper = self.embed(tokens, ids), "L_level" if "mlp_t" in self.arch else "H_level"
        for _ in range(self.arch["H_cycles"]):
            for _ in range(self.arch["L_cycles"]):
                z_l = self.level("L_level", z_l, z_h + x)
            z_h = self.level(upper, z_h, z_l)
        logits = z_h[:, self.front :] @ self.weights["lm_head.weight"].T
        q = z_h[:, 0] @ self.weights["q_head.weight"].T + self.weights["q_head.bias"]
        return Result(z_h, z_l, logits, q[:, 0], q[:, 1])
