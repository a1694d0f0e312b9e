"""The baselines' network for boards of interchangeable symbols: a state for every cell and symbol, all treated alike.

Shapes: B boards of n x n cells and n symbols, C channels. A policy by this network, like the equivariant HRM, cannot
tell digits, lines or boxes from one another, and so need not learn of each what holds for all.
"""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import torch
import torch.nn.functional as F
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from hrm_gym.agents.sb3.grid import line_numbers

BLANK, SAME, OTHER = 0, 1, 2
"""What a cell shows, as one symbol sees it; for given cells, the last two are greater by two."""

KINDS = 5


@dataclass(frozen=True)
class SymbolModel:
    """Settings of `SymbolFeatures` and the heads on it.

    Attributes:
        channels: width of the state of every cell and symbol.
        layers: blocks, each with weights of its own. Two find a cell's only candidate, or a symbol's only cell.
        box: rows and columns of a box.
        hidden: width of the value's hidden layer.
    """

    channels: int = 16
    layers: int = 3
    box: tuple[int, int] = (3, 3)
    hidden: int = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "box", tuple(self.box))
        if min(self.channels, self.layers, self.hidden, *self.box) < 1:
            raise ValueError(
                f"expected channels, layers, hidden and box of at least 1, "
                f"got {self.channels}, {self.layers}, {self.hidden}, {self.box}"
            )


class SymbolBlock(nn.Module):
    """A symbol in a cell hears of the same one in its row, column and box, and of the other symbols in its cell."""

    means: Tensor
    belongs: Tensor

    def __init__(self, model: SymbolModel) -> None:
        super().__init__()
        width, side = model.channels, model.box[0] * model.box[1]
        self.own = nn.Linear(width, width)
        self.line, self.box, self.cell = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.out = nn.Linear(width, width)
        belongs = sets_of_cells(model.box)
        self.register_buffer("belongs", belongs.T.contiguous(), persistent=False)
        self.register_buffer("means", belongs / side, persistent=False)

    def forward(self, state: Tensor) -> Tensor:
        """(B, cells, symbols, C) to the same."""
        side = state.shape[2]
        means = torch.matmul(self.means, state.flatten(2)).unflatten(2, (side, -1))  # (B, 3 * side sets, symbols, C)
        heard = torch.cat((self.line(means[:, : 2 * side]), self.box(means[:, 2 * side :])), 1)
        heard = torch.matmul(self.belongs, heard.flatten(2)).view_as(state)
        heard = heard + self.own(state) + self.cell(state.mean(2, keepdim=True))
        return F.layer_norm(state + self.out(F.relu(heard)), state.shape[-1:])


def sets_of_cells(box: tuple[int, int]) -> Tensor:
    """(3 * n, n * n) float32 of ones and zeros: which cells the rows, the columns and the boxes are made of.

    >>> sets_of_cells((1, 2))[:, 1].tolist()  # the second cell: first row, second column, first box
    [1.0, 0.0, 0.0, 1.0, 1.0, 0.0]
    """
    side = box[0] * box[1]
    return torch.cat([F.one_hot(kind, side).T.float() for kind in line_numbers((side, side), box)])


class SymbolFeatures(BaseFeaturesExtractor):
    """Features of `Dict(puzzle, answer, ...)`: a state for every cell and symbol, cell after cell.

    A state begins as one of five vectors: the cell is blank, or holds this symbol or another one, given or written.
    """

    def __init__(self, observation_space: gym.spaces.Dict, vocab_size: int, model: SymbolModel) -> None:
        """Make the layers.

        Args:
            observation_space: with `puzzle` and `answer` of shape (n, n).
            vocab_size: number of token ids; the last n are the symbols, the one before them is blank.
            model: the settings.

        Raises:
            ValueError: the board is not n x n with boxes of n cells.
        """
        shape = tuple(observation_space["puzzle"].shape or ())
        side = model.box[0] * model.box[1]
        if shape != (side, side) or vocab_size <= side:
            raise ValueError(f"expected a board of {side}x{side} cells and {side} symbols, got {shape}, {vocab_size}")
        self.height, self.width = shape
        super().__init__(observation_space, model.channels * side**3)
        self.model, self.first = model, vocab_size - side
        self.states = nn.Linear(KINDS, model.channels, bias=False)
        self.blocks = nn.ModuleList(SymbolBlock(model) for _ in range(model.layers))

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Features of B observations, tokens of any dtype: (B, n * n * n * C) float32."""
        shown, given = observations["answer"].long(), observations["puzzle"].long() >= self.first
        symbols = torch.arange(self.first, self.first + self.height, device=shown.device)
        kind = torch.where(shown[..., None] == symbols, SAME, OTHER) + 2 * given[..., None]
        kind = torch.where(shown[..., None] < self.first, BLANK, kind).flatten(1, 2)
        state = self.states(F.one_hot(kind, KINDS).float())
        for block in self.blocks:
            state = block(state)
        return state.flatten(1)
