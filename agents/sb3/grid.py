"""The baselines' network for token grids: an embedding, a recurrent convolution, and heads that read every cell alike.

Shapes: B boards of H x W cells, C channels; states are channels-last, (B, H * W, C).
"""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import torch
import torch.nn.functional as F
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from hrm_gym.agents.sb3.forms import ActionForm


@dataclass(frozen=True)
class GridModel:
    """Settings of `GridFeatures` and the heads on it.

    Attributes:
        channels: width of the state of every cell.
        iterations: calls of the one block; 0 sizes it by the grid, H + W + 4: a wave can cross the board and wind.
        kernel: side of the convolution, odd.
        lines: whether a block also pools over rows and columns.
        box: rows and columns of the boxes that a block pools over besides, (0, 0) for none.
        hidden: width of the value's hidden layer.
    """

    channels: int = 32
    iterations: int = 0
    kernel: int = 3
    lines: bool = False
    box: tuple[int, int] = (0, 0)
    hidden: int = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "box", tuple(self.box))
        if self.channels < 1 or self.hidden < 1 or self.iterations < 0:
            raise ValueError(
                f"expected channels and hidden of at least 1 and iterations of at least 0, "
                f"got {self.channels}, {self.hidden}, {self.iterations}"
            )
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"expected an odd kernel, got {self.kernel}")


class Neighbours(nn.Module):
    """What a cell learns from the cells around it: a convolution of channels-last states."""

    def __init__(self, model: GridModel, shape: tuple[int, int]) -> None:
        super().__init__()
        self.shape, width = shape, model.channels
        self.convolution = nn.Conv2d(width, width, model.kernel, padding=model.kernel // 2)

    def forward(self, state: Tensor) -> Tensor:
        """(B, H * W, C) to (B, H * W, C)."""
        planes = state.unflatten(1, self.shape).permute(0, 3, 1, 2)
        return self.convolution(planes).permute(0, 2, 3, 1).flatten(1, 2)


class Lines(nn.Module):
    """What a cell learns from its row, its column and its box: their mean states, each mixed in its own way."""

    means: Tensor

    def __init__(self, model: GridModel, shape: tuple[int, int]) -> None:
        super().__init__()
        means = line_means(shape, model.box)
        self.kinds = len(means)
        self.register_buffer("means", means.flatten(0, 1), persistent=False)
        self.mix = nn.Linear(self.kinds * model.channels, model.channels, bias=False)

    def forward(self, state: Tensor) -> Tensor:
        """(B, H * W, C) to (B, H * W, C)."""
        means = torch.matmul(self.means, state).unflatten(1, (self.kinds, -1))  # (B, kinds, H * W, C)
        return self.mix(means.transpose(1, 2).flatten(2))


def line_means(shape: tuple[int, int], box: tuple[int, int]) -> Tensor:
    """(kinds, H * W, H * W) float32: row i of each averages over the row, the column or the box of cell i.

    >>> line_means((2, 2), (0, 0))[0].tolist()
    [[0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.5]]
    """
    together = [kind[:, None] == kind[None] for kind in line_numbers(shape, box)]
    return torch.stack([same / same.sum(1, keepdim=True) for same in together])


def line_numbers(shape: tuple[int, int], box: tuple[int, int]) -> list[Tensor]:
    """(H * W,) int64 each: the number of every cell's row, of its column and, if there are boxes, of its box.

    >>> [kind.tolist() for kind in line_numbers((2, 4), (2, 2))]
    [[0, 0, 0, 0, 1, 1, 1, 1], [0, 1, 2, 3, 0, 1, 2, 3], [0, 0, 1, 1, 0, 0, 1, 1]]
    """
    cells = torch.arange(shape[0] * shape[1])
    rows, columns = cells // shape[1], cells % shape[1]
    boxes = [rows // box[0] * (shape[1] // box[1]) + columns // box[1]] if box[0] else []
    return [rows, columns, *boxes]


class Block(nn.Module):
    """One iteration: neighbours, lines and the input, through a rectifier, added to the state; then a layer norm."""

    def __init__(self, model: GridModel, shape: tuple[int, int]) -> None:
        super().__init__()
        self.width = model.channels
        self.near = Neighbours(model, shape) if model.kernel > 1 else nn.Linear(self.width, self.width)
        self.far = Lines(model, shape) if model.lines else None
        self.out = nn.Linear(self.width, self.width)

    def forward(self, state: Tensor, given: Tensor) -> Tensor:
        """The next state (B, H * W, C) of a state and the input's embedding, both (B, H * W, C)."""
        heard = self.near(state) + given
        if self.far is not None:
            heard = heard + self.far(state)
        return F.layer_norm(state + self.out(F.relu(heard)), (self.width,))


class GridFeatures(BaseFeaturesExtractor):
    """Features of `Dict(puzzle, answer, segment, ...)`: a state for every cell.

    Tokens of both planes are embedded and added, with the share of the budget used; one block is called again and again
    on the states, always with that input. Where the observation has solved demonstrations (ARC), their cells are
    embedded and convolved the same way, averaged over the pairs, and added to the input: a summary of the task.
    """

    def __init__(self, observation_space: gym.spaces.Dict, vocab_size: int, model: GridModel) -> None:
        """Make the layers.

        Args:
            observation_space: with `puzzle` and `answer` of shape (H, W) and `segment` of shape (1,); perhaps
                `demonstrations` (P, 2, H, W), `pairs` (1,) and `attempt` (1,).
            vocab_size: number of token ids.
            model: the settings.

        Raises:
            ValueError: the grid is not made of whole boxes.
        """
        self.height, self.width = observation_space["puzzle"].shape  # type: ignore[misc]
        if model.box[0] and (self.height % model.box[0] or self.width % model.box[1]):
            raise ValueError(f"expected boxes that tile {self.height}x{self.width} cells, got {model.box}")
        super().__init__(observation_space, model.channels * self.height * self.width)
        self.vocab_size, self.model = vocab_size, model
        self.iterations = model.iterations or self.height + self.width + 4
        self.puzzle = nn.Embedding(vocab_size, model.channels)
        self.answer = nn.Embedding(vocab_size, model.channels)
        scalars = 1 + ("attempt" in observation_space.spaces)
        self.progress = nn.Linear(scalars, model.channels)
        self.block = Block(model, (self.height, self.width))
        self.pair = nn.Conv2d(2 * model.channels, model.channels, 3, padding=1) if _shows(observation_space) else None

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Features of B observations.

        Args:
            observations: of the observation space, with a batch axis; tokens of any dtype.

        Returns:
            (B, H * W * C) float32, cell after cell.
        """
        tokens = self.puzzle(observations["puzzle"].long()) + self.answer(observations["answer"].long())
        scalars = [observations[name].float() for name in ("segment", "attempt") if name in observations]
        given = (tokens + self.progress(torch.cat(scalars, 1))[:, None, None]).flatten(1, 2)
        if self.pair is not None:
            given = given + self._demonstrated(observations)
        state = F.layer_norm(given, (self.model.channels,))
        for _ in range(self.iterations):
            state = self.block(state, given)
        return state.flatten(1)

    def _demonstrated(self, observations: dict[str, Tensor]) -> Tensor:
        """(B, H * W, C): the mean over the pairs shown."""
        shown = observations["demonstrations"].long()  # (B, P, 2, H, W)
        before, after = self.puzzle(shown[:, :, 0]), self.answer(shown[:, :, 1])
        both = torch.cat([before, after], -1).permute(0, 1, 4, 2, 3)
        assert self.pair is not None
        learnt = F.relu(self.pair(both.flatten(0, 1))).unflatten(0, both.shape[:2])
        count = observations["pairs"].float().view(-1, 1, 1, 1, 1)
        there = torch.arange(shown.shape[1], device=shown.device).view(1, -1, 1, 1, 1) < count
        mean = (learnt * there).sum(1) / count[:, 0].clamp(min=1)  # (B, C, H, W)
        return mean.flatten(2).transpose(1, 2)


def _shows(space: gym.spaces.Dict) -> bool:
    return "demonstrations" in space.spaces


class CellHead(nn.Module):
    """Logits of every symbol in every cell from that cell's states alone, and of halting from all states pooled.

    Its size does not depend on the board's, and what it learns of one cell it knows of all. Features have one state a
    cell, or one for every cell and symbol.
    """

    def __init__(self, channels: int, form: ActionForm, states: int) -> None:
        super().__init__()
        if states not in (form.cells, form.cells * form.symbols):
            raise ValueError(f"expected a state for each of {form.cells} cells or {form.symbols} symbols, got {states}")
        self.channels, self.form = channels, form
        self.symbols = nn.Linear(channels, form.cells * form.symbols // states)
        self.halts = nn.Linear(2 * channels, form.halts)
        for layer in (self.symbols, self.halts):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(B, states * C) to (B, cells * symbols + halts)."""
        states = features.unflatten(1, (-1, self.channels))
        return self.form.flat(self.symbols(states), self.halts(pooled(states)))


class PooledValue(nn.Module):
    """A value from all states pooled."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.channels = channels
        self.layers = nn.Sequential(nn.Linear(2 * channels, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, features: Tensor) -> Tensor:
        """(B, states * C) to (B, 1)."""
        return self.layers(pooled(features.unflatten(1, (-1, self.channels))))


class DuelingHead(nn.Module):
    """Q-values as a value plus advantages whose mean is 0 (arXiv 1511.06581), read out as `CellHead` does."""

    def __init__(self, channels: int, hidden: int, form: ActionForm, states: int) -> None:
        super().__init__()
        self.advantages, self.value = CellHead(channels, form, states), PooledValue(channels, hidden)

    def forward(self, features: Tensor) -> Tensor:
        """(B, states * C) to (B, actions)."""
        advantages = self.advantages(features)
        return self.value(features) + advantages - advantages.mean(1, keepdim=True)


def pooled(states: Tensor) -> Tensor:
    """(B, states, C) to (B, 2C): mean and largest."""
    return torch.cat([states.mean(1), states.amax(1)], 1)
