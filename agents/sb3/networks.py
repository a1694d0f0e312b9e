"""What the actions of an environment are, read from its action space: N symbols a cell, and halting.

A features extractor for token grids with a walker: it plans on the puzzle, then looks around the walker.

The baselines' network for token grids: an embedding, a recurrent convolution, and heads shared by all cells.

Shapes: B boards of H x W cells, C channels; states are channels-last, (B, H * W, C).

The baselines' network for boards of interchangeable symbols: a state for every cell and symbol, symbol-equivariant.

Shapes: B boards of n x n cells and n symbols, C channels. A policy by this network, like the equivariant HRM, cannot
tell digits, lines or boxes from one another, and so need not learn of each what holds for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Literal

import gymnasium as gym
import torch
import torch.nn.functional as F
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn


@dataclass(frozen=True)
class ActionForm:
    """The logits that a policy owes its action space.

    Attributes:
        mode: "cell" (one Discrete over cell x symbol, and halting) or "answer" (a MultiDiscrete factor a cell, and the
            halt bit).
        cells: cells of the board.
        symbols: logits a cell.
        halts: logits of halting: 1 in cell mode, where it is one action more; 2 in answer mode, continue and halt.
    """

    mode: Literal["cell", "answer"]
    cells: int
    symbols: int
    halts: int

    @classmethod
    def of(cls, space: gym.Space, cells: int) -> ActionForm:
        """The form of an action space.

        Raises:
            ValueError: it is neither cell mode's nor answer mode's for N cells.
        """
        if isinstance(space, gym.spaces.Discrete) and space.n > cells and (space.n - 1) % cells == 0:
            return cls("cell", cells, int(space.n - 1) // cells, 1)
        if isinstance(space, gym.spaces.MultiDiscrete) and len(space.nvec) == cells + 1 and space.nvec[-1] == 2:
            return cls("answer", cells, int(space.nvec[0]), 2)
        raise ValueError(f"expected the actions of cell or answer mode on {cells} cells, got {space}")

    def flat(self, symbols: Tensor, halts: Tensor) -> Tensor:
        """Logits in the order of the action space.

        Args:
            symbols: (B, cells, symbols).
            halts: (B, halts).

        Returns:
            (B, cells * symbols + halts).
        """
        return torch.cat([symbols.flatten(1), halts], 1)


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
    the 3x3 cells around the walker are read out, with the share of each token in `answer` and the share of the budget
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
        at = (answer == self.walker_token).flatten(1).to(torch.uint8).argmax(1)
        bordered = (at // self.width + 1) * (self.width + 2) + at % self.width + 1
        cells = bordered[:, None] + self.around
        tokens = torch.stack([_bordered(puzzle + 1), _bordered(answer + 1)], 1)
        seen = tokens.gather(2, cells[:, None].expand(-1, 2, -1))
        near = F.one_hot(seen, self.vocab_size + 1).flatten(1).float()
        share = F.one_hot(answer, self.vocab_size).float().mean((1, 2))
        plans, rows = self._planned(puzzle)
        plan = plans[rows[:, None], cells]
        relative = plan - plan[:, _MIDDLE, None]
        return torch.cat([relative.flatten(1), near, share, observations["segment"].float()], 1)

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
        # By content: SB3 moves target networks through `.data`, which a tensor's version does not count.
        version = (weights[0].device, *(float(weight.detach().double().square().sum()) for weight in weights))
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


@dataclass(frozen=True)
class GridModel:
    """Settings of `GridFeatures` and the heads on it.

    Attributes:
        channels: width of the state of every cell.
        iterations: calls of the one block; 0 sizes it by the grid, H + W + 4: a wave can cross the board and wind.
        kernel: side of the convolution, odd.
        lines: whether a block also pools over rows and columns.
        box: rows and columns of the boxes that a block also pools over, (0, 0) for none.
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
        self.pair = (
            nn.Conv2d(2 * model.channels, model.channels, 3, padding=1)
            if "demonstrations" in observation_space.spaces
            else None
        )

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


BLANK, SAME, OTHER = 0, 1, 2
"""What a cell shows, as one symbol sees it; for given cells, the last two are greater by two."""

KINDS = 5


@dataclass(frozen=True)
class SymbolModel:
    """Settings of `SymbolFeatures` and the heads on it.

    Attributes:
        channels: width of the state of every cell and symbol.
        layers: blocks, each with its own weights. Two find a cell's only candidate, or a symbol's only cell.
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
