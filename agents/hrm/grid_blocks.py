"""Blocks that know the shape of a board: for interchangeable symbols on boards with boxes, and for neighbourhoods.

Both are equivariant: what holds in one place of the board holds in every other, and need not be learnt there again.
Their weights do not depend on the size of the board. They stand in for the attention blocks of a level, and take and
return the same (B, T, D) states.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.layers import Linear, SwiGLU, inner_width, rms_norm


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
