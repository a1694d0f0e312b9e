"""The parts that every mixer is made of: initialisation, norm, linear map, gated MLP, attention, rotary positions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrm_gym.agents.hrm.config import HRMConfig


def truncated_normal(shape: tuple[int, ...], std: float, generator: torch.Generator | None = None) -> Tensor:
    """Normal draws cut at two underlying sigmas and widened so that the standard deviation is exactly `std`.

    The cut therefore lies at 2.27 standard deviations (the official initialisation; the paper only says "truncated").
    """
    cut = 2.0
    mass = math.erf(cut / math.sqrt(2))
    density = math.exp(-0.5 * cut**2) / math.sqrt(2 * math.pi)
    scale = std / math.sqrt(1 - 2 * cut * density / mass)
    values = torch.empty(shape, dtype=torch.float32)
    if values.is_meta:  # only a shape is asked for; arithmetic on it would import the compiler of torch
        return values
    values.uniform_(-mass, mass, generator=generator).erfinv_()
    return values.mul_(math.sqrt(2) * scale).clip_(-cut * scale, cut * scale)


def thirds(*shape: int) -> Tensor:
    """Uniform draws between -1/3 and 1/3: the initialisation of 3x3 neighbourhoods."""
    values = torch.empty(shape, dtype=torch.float32)
    return values if values.is_meta else values.uniform_(-1, 1) / 3  # as in `truncated_normal`


def rms_norm(x: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm over the last axis without gain, computed in float32, returned in the dtype of `x`."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


class Linear(nn.Module):
    """A bias-free linear map whose float32 weight is cast to the dtype of its input."""

    product = staticmethod(F.linear)  # `accelerate` puts a faster one in its place where there is one

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(truncated_normal((fan_out, fan_in), fan_in**-0.5))

    def forward(self, x: Tensor) -> Tensor:
        """(…, fan_in) -> (…, fan_out)."""
        return self.product(x, self.weight.to(x.dtype))


class Attention(nn.Module):
    """Full (non-causal) multi-head attention, without any CUDA extension."""

    attend = staticmethod(F.scaled_dot_product_attention)  # `accelerate` as well

    def __init__(self, config: HRMConfig) -> None:
        super().__init__()
        self.heads, self.head_dim = config.heads, config.head_dim
        self.qkv = Linear(config.hidden_size, 3 * config.hidden_size)
        self.out = Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        """(B, T, D) -> (B, T, D); `rotary` is the cosine and sine table, each (T, head_dim)."""
        batch, length, hidden = x.shape
        qkv = self.qkv(x).view(batch, length, 3 * self.heads, self.head_dim)
        q, k, v = qkv.transpose(1, 2).chunk(3, dim=1)  # (B, heads, T, head_dim) each
        if rotary is not None:
            q, k = apply_rotary(q, *rotary), apply_rotary(k, *rotary)
        mixed = self.attend(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, hidden))


def explicit_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention over (B, heads, T, head_dim) as plain matrix products; the values may have another width."""
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
    return torch.matmul(torch.softmax(scores.float(), dim=-1).to(v.dtype), v)


def swiglu_width(hidden: int, expansion: float) -> int:
    """Width of a SwiGLU's inner layer: two thirds of the expansion, rounded up to a multiple of 256.

    Raises:
        ValueError: there is nothing to round up.
    """
    if not (width := round(expansion * hidden * 2 / 3)) > 0:
        raise ValueError(f"expected an expansion that gives an inner layer of at least 1, got {expansion} of {hidden}")
    return -(-width // 256) * 256


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


def frequencies(width: int, theta: float) -> Tensor:
    """(width/2,) float32 angular frequencies theta^(-2i/width)."""
    return 1.0 / (theta ** (torch.arange(0, width, 2, dtype=torch.float32) / width))


def sequence_angles(length: int, head_dim: int, theta: float) -> Tensor:
    """(length, head_dim/2) angles; every position counts, puzzle positions included (the official code)."""
    return torch.outer(torch.arange(length, dtype=torch.float32), frequencies(head_dim, theta))


def grid_angles(grid: tuple[int, int], prefix: int, head_dim: int, theta: float) -> Tensor:
    """(prefix + H*W, head_dim/2) angles: half of the frequencies turn with the row, half with the column.

    Cells count from 1, so that the puzzle positions, which all sit at (0, 0), share a place with no cell.
    """
    height, width = grid
    rows = torch.arange(height, dtype=torch.float32).add(1).repeat_interleave(width)
    columns = torch.arange(width, dtype=torch.float32).add(1).repeat(height)
    base = frequencies(head_dim // 2, theta)
    cells = torch.cat((torch.outer(rows, base), torch.outer(columns, base)), dim=1)
    return torch.cat((torch.zeros(prefix, head_dim // 2, dtype=torch.float32), cells))


def rotary_tables(config: HRMConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (T, head_dim) float32; empty tensors where positions are not rotary."""
    if torch.empty(0).is_meta and "rope" in config.positions:  # as in `truncated_normal`
        shape = (config.prefix + config.cells, config.head_dim)
        return torch.empty(shape, dtype=torch.float32), torch.empty(shape, dtype=torch.float32)
    if config.positions == "rope":
        angles = sequence_angles(config.prefix + config.cells, config.head_dim, config.rope_theta)
    elif config.positions in ("rope2d", "learned_rope2d"):
        angles = grid_angles(config.grid, config.prefix, config.head_dim, config.rope_theta)
    else:
        return torch.empty(0, dtype=torch.float32), torch.empty(0, dtype=torch.float32)
    doubled = torch.cat((angles, angles), dim=-1)
    return doubled.cos(), doubled.sin()


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate (…, T, head_dim) by tables (T, head_dim), halves paired, in float32; returns the dtype of `x`."""
    wide = x.float()
    first, second = wide.chunk(2, dim=-1)
    return (wide * cos + torch.cat((-second, first), dim=-1) * sin).to(x.dtype)
