"""Rotary positions: along the sequence as in the paper, or along rows and columns for grids."""

from __future__ import annotations

import torch
from torch import Tensor

from hrm_gym.agents.hrm.config import HRMConfig


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
