"""A features extractor for token grids with a walker: it plans on the puzzle, then looks around the walker."""

from __future__ import annotations

from functools import reduce

import gymnasium as gym
import torch
import torch.nn.functional as F
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

_NEIGHBOURHOOD, _MIDDLE = 9, 4
_REMEMBERED = 4096


class Propagation(nn.Module):
    """A recurrent convolution over the puzzle: every cell learns from its neighbours, again and again.

    Each iteration is a 3x3 convolution of C channels into A alternatives for every channel, plus what the cell's own
    surroundings contribute, and the largest alternative is kept: the form of value iteration (max over actions of
    reward plus the neighbours' values), with everything in it learnt. All iterations share their weights.
    """

    def __init__(self, vocab_size: int, channels: int, alternatives: int, iterations: int) -> None:
        super().__init__()
        self.channels, self.alternatives, self.iterations = channels, alternatives, iterations
        width = channels * alternatives
        self.vocab_size = vocab_size
        self.surroundings = nn.Conv2d(vocab_size, width, 3, padding=1)
        self.spread = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        nn.init.normal_(self.surroundings.weight, std=0.1)
        nn.init.normal_(self.spread.weight, std=0.5 / (3 * channels**0.5))

    def forward(self, puzzle: Tensor) -> Tensor:
        """(N, H, W) int64 tokens to (N, C, H, W) float32 states."""
        planes = F.one_hot(puzzle, self.vocab_size).permute(0, 3, 1, 2).float()
        given = self.surroundings(planes)
        state = given.new_zeros(len(puzzle), self.channels, *puzzle.shape[1:])
        for _ in range(self.iterations):
            options = given + self.spread(state)
            state = reduce(torch.maximum, options.chunk(self.alternatives, 1))  # amax: twice the time backwards
        return state


class WalkerFeatures(BaseFeaturesExtractor):
    """Features of `Dict(puzzle, answer, segment)` for a policy that walks.

    `Propagation` plans on the puzzle. Of the plan (relative to the walker's own cell) and of the tokens of both planes
    the 3x3 cells around the walker are read out, beside the share of each token in `answer` and the share of the budget
    used. Equal puzzles in a batch are planned on once, and without gradients a plan is kept for the next call while the
    weights stay the same: a walk through one maze plans once.
    """

    around: Tensor
    multipliers: Tensor

    def __init__(
        self,
        observation_space: gym.spaces.Dict,
        vocab_size: int,
        walker_token: int,
        channels: int = 4,
        alternatives: int = 4,
        iterations: int = 0,
    ) -> None:
        """Make the layers.

        Args:
            observation_space: with `puzzle` and `answer` of shape (H, W) and `segment` of shape (1,).
            vocab_size: number of token ids; tokens lie in 0..vocab_size - 1.
            walker_token: token of the walker's cell in `answer`.
            channels: channels of the plan.
            alternatives: alternatives that each channel takes the largest of.
            iterations: iterations of the plan; 0 for H + W + 4, enough for a wave to cross the board and wind a little.

        Raises:
            ValueError: if the walker's token is not in the vocabulary.
        """
        if not 0 <= walker_token < vocab_size:
            raise ValueError(f"expected walker_token in 0..{vocab_size - 1}, got {walker_token}")
        self.height, self.width = observation_space["puzzle"].shape  # type: ignore[misc]
        super().__init__(observation_space, _NEIGHBOURHOOD * (channels + 2 * (vocab_size + 1)) + vocab_size + 1)
        self.vocab_size, self.walker_token, self.channels = vocab_size, walker_token, channels
        self.propagation = Propagation(vocab_size, channels, alternatives, iterations or self.height + self.width + 4)
        around = [row * (self.width + 2) + column for row in (-1, 0, 1) for column in (-1, 0, 1)]
        self.register_buffer("around", torch.tensor(around), persistent=False)
        multipliers = torch.randint(1 << 62, (self.height * self.width,), generator=torch.Generator().manual_seed(1))
        self.register_buffer("multipliers", multipliers * 2 + 1, persistent=False)
        self._plans: dict[int, Tensor] = {}
        self._planned_with: tuple[object, ...] = ()

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Features of B observations.

        Args:
            observations: `puzzle` and `answer` (B, H, W) of any dtype holding token ids, `segment` (B, 1).

        Returns:
            (B, features_dim) float32.
        """
        puzzle, answer = observations["puzzle"].long(), observations["answer"].long()
        cells = self._cells_around(answer)
        tokens = torch.stack([_bordered(puzzle + 1), _bordered(answer + 1)], 1)
        seen = tokens.gather(2, cells[:, None].expand(-1, 2, -1))
        near = F.one_hot(seen, self.vocab_size + 1).flatten(1).float()
        share = F.one_hot(answer, self.vocab_size).float().mean((1, 2))
        plans, rows = self._planned(puzzle)
        plan = plans[rows[:, None], cells]
        relative = plan - plan[:, _MIDDLE, None]
        return torch.cat([relative.flatten(1), near, share, observations["segment"].float()], 1)

    def _cells_around(self, answer: Tensor) -> Tensor:
        """(B, 9) int64: the walker's cell and its neighbours, as indices into the grid with a border of one cell."""
        at = (answer == self.walker_token).flatten(1).to(torch.uint8).argmax(1)
        bordered = (at // self.width + 1) * (self.width + 2) + at % self.width + 1
        return bordered[:, None] + self.around

    def _planned(self, puzzle: Tensor) -> tuple[Tensor, Tensor]:
        """Plans (U, cells with border, C) of the U different puzzles, and (B,) which of them each row has."""
        keys = (puzzle.flatten(1) * self.multipliers).sum(1)
        different, rows = torch.unique(keys, return_inverse=True)
        first = torch.empty_like(different)
        first[rows] = torch.arange(len(rows), device=rows.device)
        if torch.is_grad_enabled():
            return self._plan(puzzle[first]), rows
        return self._remembered(different.tolist(), puzzle[first]), rows

    def _remembered(self, keys: list[int], puzzles: Tensor) -> Tensor:
        """Plans of different puzzles, those of earlier calls looked up."""
        weights = list(self.propagation.parameters())
        version = (weights[0].device, *(weight._version for weight in weights))
        if version != self._planned_with or len(self._plans) > _REMEMBERED:
            self._plans, self._planned_with = {}, version
        new = [row for row, key in enumerate(keys) if key not in self._plans]
        if new:
            self._plans.update(zip((keys[row] for row in new), self._plan(puzzles[new]), strict=True))
        return torch.stack([self._plans[key] for key in keys])

    def _plan(self, puzzles: Tensor) -> Tensor:
        """(U, H, W) tokens to (U, (H + 2) * (W + 2), C)."""
        return _bordered(self.propagation(puzzles)).transpose(1, 2)


def _bordered(grid: Tensor) -> Tensor:
    """(..., H, W) to (..., (H + 2) * (W + 2)): a border of zeros, and the cells in one row."""
    return F.pad(grid, (1, 1, 1, 1)).flatten(-2)
