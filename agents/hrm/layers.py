"""The smallest parts of the network: initialisation, the norm, the linear map, the gated MLP."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrm_gym.agents.devices import has_slow_bfloat16_products
from hrm_gym.agents.hrm.config import HRMConfig


def truncated_normal(shape: tuple[int, ...], std: float, generator: torch.Generator | None = None) -> Tensor:
    """Normal draws cut at two underlying sigmas and widened so that the standard deviation is exactly `std`.

    The cut therefore lies at 2.27 standard deviations (the official initialisation; the paper only says "truncated").
    """
    cut = 2.0
    mass = math.erf(cut / math.sqrt(2))
    density = math.exp(-0.5 * cut**2) / math.sqrt(2 * math.pi)
    scale = std / math.sqrt(1 - 2 * cut * density / mass)
    values = torch.empty(shape).uniform_(-mass, mass, generator=generator).erfinv_()
    return values.mul_(math.sqrt(2) * scale).clip_(-cut * scale, cut * scale)


def rms_norm(x: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm over the last axis without gain, computed in float32, returned in the dtype of `x`."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


FLOAT32_PRODUCTS = has_slow_bfloat16_products()
"""Whether bfloat16 numbers are multiplied as float32 on this CPU: the same products, rounded once, at the end."""

NARROW = 32
"""Least width of a linear map for which that pays: below, widening the numbers costs more than it saves."""


class Linear(nn.Module):
    """A bias-free linear map whose float32 weight is cast to the dtype of its input."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(truncated_normal((fan_out, fan_in), fan_in**-0.5))

    def forward(self, x: Tensor) -> Tensor:
        """(…, fan_in) -> (…, fan_out)."""
        weight = self.weight.to(x.dtype)
        if FLOAT32_PRODUCTS and x.dtype == torch.bfloat16 and x.device.type == "cpu" and min(weight.shape) >= NARROW:
            return F.linear(x.float(), weight.float()).to(x.dtype)
        return F.linear(x, weight)


def explicit_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention over (B, heads, T, head_dim) as plain matrix products; the values may have another width."""
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
    return torch.matmul(torch.softmax(scores.float(), dim=-1).to(v.dtype), v)


def swiglu_width(hidden: int, expansion: float) -> int:
    """Width of a SwiGLU's inner layer: two thirds of the expansion, rounded up to a multiple of 256."""
    return -(-round(expansion * hidden * 2 / 3) // 256) * 256


def inner_width(config: HRMConfig) -> int:
    """Width of the inner layer of a config's gated MLPs over state vectors."""
    return config.mlp_width or swiglu_width(config.hidden_size, config.expansion)


class SwiGLU(nn.Module):
    """Gated MLP; the first half of `gate_up` is the gate."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.gate_up = Linear(hidden, 2 * width)
        self.down = Linear(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(…, hidden) -> (…, hidden)."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)
