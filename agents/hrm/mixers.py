"""Mixers: how a board becomes state vectors, how a module mixes them, and how they become an answer and Q-values.

A mixer owns its block, its embedding and its readout; the parameters lie in the network, under the names that
checkpoints have. Three of the five are equivariant: what holds in one place of the board, or for one symbol, holds for
every other, and need not be learnt there again; the weights of their blocks do not depend on the size of the board.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.layers import (
    Attention,
    Linear,
    SwiGLU,
    apply_rotary,
    explicit_attention,
    inner_width,
    rms_norm,
    swiglu_width,
    thirds,
    truncated_normal,
)

NEVER = -1e4
"""Logit of tokens that are no symbols, where answers are made of symbols alone."""

Q_READOUT = 8
"""Numbers that the Q-head reads of every state with `q_features` "worst"."""

STILL = 1e-6
"""Mean square by which a state vector moves in a segment and may be taken to rest; it bounds the logarithm below."""

MARGIN_SCALE = 0.1
"""Margins between logits reach some tens; so scaled, they weigh about as much as the normalised states."""


class Mixer:
    """What all mixers share: a state a cell, after the puzzle positions; answers and Q-values by linear heads.

    `network` is the HRM whose parameters are meant.
    """

    block: ClassVar[type[nn.Module]]

    def __init__(self, config: HRMConfig) -> None:
        self.config = config

    @property
    def first_symbol(self) -> int:
        """The first token id that is one of the interchangeable symbols."""
        return self.config.vocab_size - self.config.symbols

    # ---- parameters ----

    def make_embedding(self, network: Any) -> None:
        """Give the network its embeddings: `tokens`, `puzzles` and, with learned positions, `positions`."""
        config = self.config
        std = config.hidden_size**-0.5
        network.tokens = nn.Parameter(truncated_normal((self.token_classes, config.hidden_size), std))
        network.puzzles = nn.Parameter(torch.zeros(config.puzzle_count, config.embedding_dim, dtype=torch.float32))
        if config.positions in ("learned", "learned_rope2d"):
            network.positions = nn.Parameter(truncated_normal((self.places, config.hidden_size), std))

    def make_heads(self, network: Any) -> None:
        """Give the network its answer head and its Q-head."""
        network.answer_head = Linear(self.config.hidden_size, self.outputs)
        if self.config.auxiliary:
            network.auxiliary_head = Linear(self.config.hidden_size, self.config.auxiliary)
        self.make_q_head(network)

    def make_q_head(self, network: Any) -> None:
        """Give the network its Q-head, which wants to continue: no weight, and a bias of -5."""
        network.q_head = nn.Linear(self.q_width, 2, dtype=torch.float32)
        nn.init.zeros_(network.q_head.weight)
        nn.init.constant_(network.q_head.bias, -5.0)

    @property
    def token_classes(self) -> int:
        """Rows of the token embedding."""
        return self.config.vocab_size

    @property
    def places(self) -> int:
        """Rows of learned positions."""
        return self.config.length

    @property
    def outputs(self) -> int:
        """Outputs of the answer head for a state."""
        return self.config.vocab_size

    @property
    def q_width(self) -> int:
        """Numbers that the Q-head reads."""
        return self.config.hidden_size

    # ---- embedding ----

    def embed(self, network: Any, tokens: Tensor, puzzles: Tensor) -> Tensor:
        """Embedded boards (B, T, D), scaled by sqrt(D), from tokens (B, S) and puzzle vectors (B, embedding_dim)."""
        config = self.config
        states = self.embed_cells(network, tokens, puzzles)
        if config.prefix:
            pad = config.prefix * config.hidden_size - puzzles.shape[-1]
            front = F.pad(puzzles.to(network.dtype), (0, pad)).view(len(tokens), config.prefix, config.hidden_size)
            states = torch.cat((front, states), dim=1)  # before the scale, so that puzzle vectors are scaled too
        if config.positions in ("learned", "learned_rope2d"):
            by_place = states.unflatten(1, (self.places, -1))  # all symbols of a cell are in one place
            states = math.sqrt(0.5) * (by_place + network.positions.to(network.dtype)[:, None]).flatten(1, 2)
        return math.sqrt(config.hidden_size) * states

    def embed_cells(self, network: Any, tokens: Tensor, puzzles: Tensor) -> Tensor:
        """(B, T - P, D), before scale and positions."""
        return F.embedding(tokens.long(), network.tokens.to(network.dtype))

    # ---- readout ----

    def answer_logits(self, network: Any, z_h: Tensor) -> Tensor:
        """Logits (B, S, V) from the H-level state (B, T, D)."""
        return network.answer_head(z_h[:, self.config.prefix :])

    def auxiliary_logits(self, network: Any, z_h: Tensor) -> Tensor:
        """Logits (B, S, classes) of the auxiliary labels."""
        return network.auxiliary_head(z_h[:, self.config.prefix :])

    def q_values(self, network: Any, z_h: Tensor, before: Tensor) -> Tensor:
        """(B, 2) float32 logits of Q(halt) and Q(continue), read off the first puzzle position.

        Args:
            network: the HRM.
            z_h: (B, T, D) after a segment.
            before: the same before it.
        """
        weight, bias = network.q_head.weight.to(z_h.dtype), network.q_head.bias.to(z_h.dtype)
        return F.linear(z_h[:, 0], weight, bias).float()


class EquivariantMixer(Mixer):
    """Without puzzle positions: the Q-head reads the mean state, and more of the board with other `q_features`."""

    @property
    def states_per_cell(self) -> int:
        """State vectors of a cell."""
        return 1

    def make_q_head(self, network: Any) -> None:
        """With `q_features` "worst" the Q-head has its own small readout."""
        super().make_q_head(network)
        if self.config.q_features == "worst":
            network.q_readout = Linear(self.config.hidden_size, Q_READOUT)

    @property
    def q_width(self) -> int:
        """The mean state; with "worst" two extremes of the readout, with "drift" two of movement; and two margins."""
        return self.config.hidden_size + {"mean": 0, "worst": 2 * Q_READOUT + 2, "drift": 4}[self.config.q_features]

    def q_values(self, network: Any, z_h: Tensor, before: Tensor) -> Tensor:
        """(B, 2) float32 logits; in float32, since one wrong cell is enough to be wrong and hardly moves a mean."""
        return network.q_head(self.q_features(network, z_h, before))

    def q_features(self, network: Any, z_h: Tensor, before: Tensor) -> Tensor:
        """(B, q_width) float32: the mean state, and what the least decided or the least settled cell looks like."""
        config, wide = self.config, z_h.float()
        if config.q_features == "mean":
            return wide.mean(1)
        # without gradient: Q learns to judge the answer, it must not shape it
        best = self.answer_logits(network, z_h.detach()).detach().float().topk(2, dim=2).values
        margin = MARGIN_SCALE * (best[..., 0] - best[..., 1])
        margins = (margin.amin(1, keepdim=True), margin.mean(1, keepdim=True))
        if config.q_features == "drift":
            moved = (wide.detach() - before.detach().float()).square().mean(2).add(STILL).log()
            return torch.cat((wide.mean(1), moved.amax(1, keepdim=True), moved.mean(1, keepdim=True), *margins), 1)
        read = network.q_readout(wide).view(len(z_h), config.cells, self.states_per_cell, Q_READOUT)
        lowest = read.amax(2).amin(1)  # the cell whose best symbol is worst
        return torch.cat((wide.mean(1), lowest, read.amin(2).amax(1), *margins), 1)


class SymbolStates(EquivariantMixer):
    """A state for every cell and symbol; the last `symbols` token ids are interchangeable."""

    @property
    def states_per_cell(self) -> int:
        """One a symbol."""
        return self.config.symbols

    @property
    def token_classes(self) -> int:
        """The tokens that are no symbols, and "this symbol" and "another symbol"."""
        return self.first_symbol + 2

    @property
    def places(self) -> int:
        """A place a cell."""
        return self.config.cells

    @property
    def outputs(self) -> int:
        """How much a state speaks for its symbol in its cell."""
        return 1

    def embed_cells(self, network: Any, tokens: Tensor, puzzles: Tensor) -> Tensor:
        """(B, S * symbols, D): the token itself where it is no symbol, else whether it is this state's symbol."""
        symbols = torch.arange(self.first_symbol, self.config.vocab_size, device=tokens.device)
        same = torch.where(tokens[..., None] == symbols, self.first_symbol, self.first_symbol + 1)
        classes = torch.where(tokens[..., None] < self.first_symbol, tokens[..., None], same).flatten(1)
        return super().embed_cells(network, classes, puzzles)

    def symbol_logits(self, network: Any, z_h: Tensor) -> Tensor:
        """(B, S, symbols)."""
        return network.answer_head(z_h).view(len(z_h), self.config.cells, self.config.symbols)


class Block(nn.Module):
    """Post-norm block: mixing over positions, then a gated MLP, each with its residual and an RMS norm."""

    def __init__(self, config: HRMConfig) -> None:
        super().__init__()
        self.eps = config.norm_eps
        self.attention = Attention(config) if config.mixer == "attention" else None
        length = config.prefix + config.cells
        self.sequence_mlp = SwiGLU(length, swiglu_width(length, config.expansion)) if config.mixer == "mlp" else None
        self.mlp = SwiGLU(config.hidden_size, inner_width(config))

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        """(B, T, D) -> (B, T, D). The norm after the sequence MLP runs over the sequence, as TRM's code has it."""
        if self.sequence_mlp is not None:
            turned = x.transpose(1, 2)
            x = rms_norm(turned + self.sequence_mlp(turned), self.eps).transpose(1, 2)
        elif self.attention is not None:
            x = rms_norm(x + self.attention(x, rotary), self.eps)
        return rms_norm(x + self.mlp(x), self.eps)


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

    Attention weights depend on the mean over a cell's colours and are shared by all colours. The neighbourhood stays
    within a colour. The MLP sees the state and the means of its cell and of the board. So exchanging colours does the
    same to the result: the block is equivariant under all permutations of colours.
    """

    def __init__(self, config: HRMConfig) -> None:
        super().__init__()
        hidden, width = config.hidden_size, inner_width(config)
        self.grid, self.colours, self.heads, self.eps = config.grid, config.symbols, config.heads, config.norm_eps
        self.where = Linear(hidden, 2 * hidden)
        self.what = Linear(hidden, hidden)
        self.fetched = Linear(hidden, hidden)
        self.near = nn.Parameter(thirds(9, hidden))
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
        self.near = nn.Parameter(thirds(hidden, 1, 3, 3))
        self.board = Linear(hidden, hidden)
        self.mlp = SwiGLU(hidden, inner_width(config))

    def forward(self, state: Tensor, rotary: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D), T = H * W. `rotary` has no effect."""
        batch, _, hidden = state.shape
        picture = state.transpose(1, 2).reshape(batch, hidden, *self.grid)
        near = F.conv2d(picture, self.near.to(state.dtype), padding=1, groups=hidden).flatten(2).transpose(1, 2)
        x = rms_norm(state + near + self.board(state.mean(1, keepdim=True)), self.eps)
        return rms_norm(x + self.mlp(x), self.eps)


class AttentionMixer(Mixer):
    """ "attention": the paper's Transformer blocks."""

    block = Block


class SequenceMixer(Mixer):
    """ "mlp": a gated MLP over the sequence in place of attention (TRM's mlp_t)."""

    block = Block


class SudokuMixer(SymbolStates):
    """ "symbols": equivariant under renaming symbols and permuting lines."""

    block = SymbolBlock

    def answer_logits(self, network: Any, z_h: Tensor) -> Tensor:
        """(B, S, V); tokens that are no symbols are never chosen."""
        return F.pad(self.symbol_logits(network, z_h), (self.first_symbol, 0), value=NEVER)


class ColourMixer(SymbolStates):
    """ "colours": equivariant under exchanging colours in the board and in the task's embedding."""

    block = ColourBlock

    def make_heads(self, network: Any) -> None:
        """Besides colours an answer may have the end token, read off the mean of a cell's states."""
        network.answer_head = Linear(self.config.hidden_size, 1)
        network.end_head = Linear(self.config.hidden_size, 1)
        self.make_q_head(network)

    def embed_cells(self, network: Any, tokens: Tensor, puzzles: Tensor) -> Tensor:
        """(B, S * colours, D); the task's vector of each colour is added to its states, and one of them to all."""
        config = self.config
        cells = super().embed_cells(network, tokens, puzzles)
        vectors = puzzles.to(network.dtype).view(len(tokens), config.symbols + 1, config.hidden_size)
        return cells + (vectors[:, :-1] + vectors[:, -1:]).repeat(1, config.cells, 1)

    def answer_logits(self, network: Any, z_h: Tensor) -> Tensor:
        """(B, S, V): the end token and the colours."""
        colours = self.symbol_logits(network, z_h)
        end = network.end_head(z_h.view(len(z_h), self.config.cells, self.config.symbols, -1).mean(2))
        return F.pad(torch.cat((end, colours), dim=-1), (self.first_symbol - 1, 0), value=NEVER)


class ConvolutionMixer(EquivariantMixer):
    """ "convolution": translation-equivariant, for boards of any size."""

    block = ConvolutionBlock


MIXERS: dict[str, type[Mixer]] = {
    "attention": AttentionMixer,
    "mlp": SequenceMixer,
    "symbols": SudokuMixer,
    "colours": ColourMixer,
    "convolution": ConvolutionMixer,
}
"""By the name that a config gives them."""
