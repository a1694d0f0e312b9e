"""The smallest parts of the network: initialisation, the norm, the linear map, the gated MLP.

Rotary positions: along the sequence as in the paper, or along rows and columns for grids.

Blocks that know the shape of a board: interchangeable symbols on boards with boxes, colours, and neighbourhoods.

They are equivariant: what holds in one place of the board, or for one symbol, holds for every other, and need not be
learnt there again. Their weights do not depend on the size of the board. They stand in for the attention blocks of a
level, and take and return the same (B, T, D) states.
"""

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
    return torch.cat((torch.zeros(prefix, head_dim // 2), cells))


def rotary_tables(config: HRMConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (T, head_dim) float32; empty tensors where positions are not rotary."""
    if config.positions == "rope":
        angles = sequence_angles(config.prefix + config.cells, config.head_dim, config.rope_theta)
    elif config.positions in ("rope2d", "learned_rope2d"):
        angles = grid_angles(config.grid, config.prefix, config.head_dim, config.rope_theta)
    else:
        return torch.empty(0), torch.empty(0)
    doubled = torch.cat((angles, angles), dim=-1)
    return doubled.cos(), doubled.sin()


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate (…, T, head_dim) by tables (T, head_dim), halves paired, in float32; returns the dtype of `x`."""
    wide = x.float()
    first, second = wide.chunk(2, dim=-1)
    return (wide * cos + torch.cat((-second, first), dim=-1) * sin).to(x.dtype)


class SymbolBlock(nn.Module):
    """A gated MLP over a state for every cell and symbol, each seeing the means of the sets it belongs to.

    A cell's symbol belongs to: the same symbol in its row, in its column, in its box, in the part of its row and of its
    column that lies within its box; and the other symbols of its cell. These are the sets of which a Sudoku allows one,
    and their intersections. Renaming symbols, permuting bands, stacks or the lines within them, and (with square boxes)
    transposing the board do the same to the result: the block is equivariant under all symmetries of Sudoku.
    """

    def __init__(self, config: HRMConfig) -> None:
        super().__init__()
        assert config.box is not None
        hidden, width = config.hidden_size, inner_width(config)
        self.eps, self.box = config.norm_eps, config.box
        self.own = Linear(hidden, 2 * width)
        self.line = Linear(hidden, 2 * width)
        self.boxes = Linear(hidden, 2 * width)
        self.part = Linear(hidden, 2 * width)
        self.cell = Linear(hidden, 2 * width)
        self.down = Linear(width, hidden)

    def forward(self, state: Tensor, rotary: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D), T = n * n * n: rows, columns, symbols. `rotary` has no effect."""
        high, wide = self.box  # n = high * wide: bands of `high` rows, `wide` of them; stacks of `wide` columns
        n, batch, hidden = high * wide, len(state), state.shape[-1]
        x = state.view(batch, n, n, n, hidden)
        rows, columns, cells = x.mean(2), x.mean(1), x.mean(3)
        row_parts = x.view(batch, n, high, wide, n, hidden).mean(3)  # (B, n rows, high stacks, n symbols, D)
        column_parts = x.view(batch, wide, high, n, n, hidden).mean(2)  # (B, wide bands, n columns, n symbols, D)
        boxes = row_parts.view(batch, wide, high, high, n, hidden).mean(2)  # (B, wide bands, high stacks, n symbols, D)

        along_rows = self.part(row_parts).view(batch, wide, high, high, n, -1) + self.boxes(boxes)[:, :, None]
        along_rows = along_rows.view(batch, n, high, n, -1) + self.line(rows)[:, :, None]
        along_columns = self.part(column_parts) + self.line(columns)[:, None]
        h = self.own(x).view(batch, n, high, wide, n, -1) + along_rows[:, :, :, None]
        h = h.view(batch, wide, high, n, n, -1) + along_columns[:, :, None]
        h = h.view(batch, n, n, n, -1) + self.cell(cells)[:, :, :, None]
        gate, up = h.chunk(2, dim=-1)
        return rms_norm(state + self.down(F.silu(gate) * up).view_as(state), self.eps)


class ColourBlock(nn.Module):
    """Attention over the cells, mixing with the 3x3 neighbourhood, then a gated MLP, for a state per cell and colour.

    Where a cell attends to depends on the mean over its colours; what it fetches is fetched for every colour alike. The
    neighbourhood stays within a colour. The MLP sees the means of the cell and of the board beside the state itself. So
    exchanging colours does the same to the result: the block is equivariant under all permutations of colours.
    """

    def __init__(self, config: HRMConfig) -> None:
        super().__init__()
        hidden, width = config.hidden_size, inner_width(config)
        self.grid, self.colours, self.heads, self.eps = config.grid, config.symbols, config.heads, config.norm_eps
        self.where = Linear(hidden, 2 * hidden)
        self.what = Linear(hidden, hidden)
        self.fetched = Linear(hidden, hidden)
        self.near = nn.Parameter(torch.empty(9, hidden).uniform_(-1, 1) / 3)
        self.own = Linear(hidden, 2 * width)
        self.cell = Linear(hidden, 2 * width)
        self.board = Linear(hidden, 2 * width)
        self.down = Linear(width, hidden)

    def forward(self, state: Tensor, rotary: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D), T = H * W * colours; `rotary`: tables (H * W, D / heads) for queries and keys."""
        batch, hidden = len(state), state.shape[-1]
        cells = self.grid[0] * self.grid[1]
        x = state.view(batch, cells, self.colours, hidden)
        near = self._near(x.view(batch, *self.grid, self.colours, hidden)).view_as(x)
        x = rms_norm(x + self._attended(x, rotary) + near, self.eps)
        h = self.own(x) + self.cell(x.mean(2, keepdim=True)) + self.board(x.mean(1, keepdim=True))
        gate, up = h.chunk(2, dim=-1)
        return rms_norm(x + self.down(F.silu(gate) * up), self.eps).view_as(state)

    def _attended(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        """(B, S, C, D): what every cell fetches from all cells."""
        batch, cells, colours, hidden = x.shape
        width = hidden // self.heads
        q, k = self.where(x.mean(2)).view(batch, cells, 2 * self.heads, width).transpose(1, 2).chunk(2, dim=1)
        if rotary is not None:
            q, k = apply_rotary(q, *rotary), apply_rotary(k, *rotary)
        v = self.what(x).view(batch, cells, colours, self.heads, width).permute(0, 3, 1, 2, 4).flatten(3)
        mixed = explicit_attention(q, k, v).view(batch, self.heads, cells, colours, width).permute(0, 2, 3, 1, 4)
        return self.fetched(mixed.reshape(x.shape))

    def _near(self, x: Tensor) -> Tensor:
        """(B, H, W, C, D): the weighted sum of every 3x3 neighbourhood, channel by channel."""
        height, width = self.grid
        padded = F.pad(x, (0, 0, 0, 0, 1, 1, 1, 1))
        weights = self.near.to(x.dtype)
        shifted = (padded[:, i // 3 : i // 3 + height, i % 3 : i % 3 + width] * weights[i] for i in range(9))
        return sum(shifted, start=torch.zeros_like(x))


class ConvolutionBlock(nn.Module):
    """Mixing with the 3x3 neighbourhood, channel by channel, and with the mean of the board; then a gated MLP."""

    def __init__(self, config: HRMConfig) -> None:
        super().__init__()
        self.grid, self.eps = config.grid, config.norm_eps
        hidden = config.hidden_size
        self.near = nn.Parameter(torch.empty(hidden, 1, 3, 3).uniform_(-1, 1) / 3)
        self.board = Linear(hidden, hidden)
        self.mlp = SwiGLU(hidden, inner_width(config))

    def forward(self, state: Tensor, rotary: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D), T = H * W. `rotary` has no effect."""
        batch, _, hidden = state.shape
        picture = state.transpose(1, 2).reshape(batch, hidden, *self.grid)
        near = F.conv2d(picture, self.near.to(state.dtype), padding=1, groups=hidden).flatten(2).transpose(1, 2)
        x = rms_norm(state + near + self.board(state.mean(1, keepdim=True)), self.eps)
        return rms_norm(x + self.mlp(x), self.eps)
