"""The HRM network: recurrent modules at several time scales, an answer head and a Q-head (arXiv 2506.21734, section 2).

Shapes: B boards, S = H*W cells, T state vectors a board, D = hidden size, V tokens. Parameters are float32 and are cast
where they are used; states and logits have the config's dtype. TRM is a setting of the same class.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.layers import rotary_tables, truncated_normal
from hrm_gym.agents.hrm.mixers import MIXERS

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Of states and logits, by the name that a config gives them."""


class Carry(tuple[Tensor, ...]):
    """What passes from one segment to the next: the state of every module, slowest first, each (B, T, D).

    An HRM has two, so `z_h, z_l = carry`; a recurrent Transformer without hierarchy has one.
    """

    def __new__(cls, *states: Tensor) -> Carry:
        """Of the states, slowest first."""
        return super().__new__(cls, states)

    @property
    def z_h(self) -> Tensor:
        """(B, T, D), the slowest module's state, from which answer and Q-values are read."""
        return self[0]

    @property
    def z_l(self) -> Tensor:
        """(B, T, D), the fastest module's state."""
        return self[-1]

    def rows(self, index: Tensor) -> Carry:
        """The carry of some boards: `index` is (K,) int64 or (B,) bool."""
        return Carry(*(state[index] for state in self))

    def detached(self) -> Carry:
        """The same numbers without their history: gradient does not pass from one update to the one before."""
        return Carry(*(state.detach() for state in self))


class Segment(NamedTuple):
    """The result of one segment: the next carry, logits (B, S, V), and both Q logits, (B,) float32."""

    carry: Carry
    logits: Tensor
    q_halt: Tensor
    q_continue: Tensor


class Level(nn.Module):
    """One recurrent module: a stack of blocks applied to its state plus what is injected."""

    def __init__(self, config: HRMConfig, layers: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(MIXERS[config.mixer].block(config) for _ in range(layers))

    def forward(self, state: Tensor, injection: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        """Next state (B, T, D) from the state and what is added to it before the first block."""
        x = state + injection
        for block in self.blocks:
            x = block(x, rotary)
        return x


class HRM(nn.Module):
    """Hierarchical Reasoning Model. One call of `segment` is one step of deep supervision, and one environment step.

    Attributes:
        config: the architecture.
        dtype: of states and logits.
        mixer: how boards become states and states answers.
        modules_by_speed: (name, level, period) of every recurrent module, fastest first; a module of period p moves at
            every p-th step. An HRM is (("l", L, 1), ("h", H, T)).
    """

    tokens: nn.Parameter  # these and the heads are made by the mixer
    puzzles: nn.Parameter
    l_level: Level
    h_level: Level
    h_init: Tensor
    l_init: Tensor
    cos: Tensor
    sin: Tensor

    def __init__(self, config: HRMConfig) -> None:
        super().__init__()
        self.config = config
        self.dtype = DTYPES[config.dtype]
        self.mixer = MIXERS[config.mixer](config)
        self.mixer.make_embedding(self)
        specs = config.modules
        levels: dict[str, Level] = {}
        for name, layers, _ in specs:  # TRM: one module serves as all of them
            shared = levels[specs[0].name] if config.shared and levels else None
            levels[name] = shared or Level(config, layers)
            self.add_module(f"{name}_level", levels[name])
        if config.levels == 1:
            self.h_level = levels["l"]  # checkpoints of networks without hierarchy hold it under both names
        self.mixer.make_heads(self)
        # the same untrained vector at every position; buffers, as the official code has them
        for name in dict.fromkeys(("h", "l", *(spec.name for spec in reversed(specs)))):
            start = truncated_normal((config.hidden_size,), 1.0).to(self.dtype)
            self.register_buffer(f"{name}_init", start)
        cos, sin = rotary_tables(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    @classmethod
    def from_state(cls, config: HRMConfig, state: dict[str, Tensor] | None = None) -> HRM:
        """A network for given weights: nothing is drawn from torch's global random state.

        Args:
            config: the architecture.
            state: its weights; None leaves it with the initialisation of a fixed seed, to be loaded into.
        """
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.manual_seed(0)
            model = cls(config)
        if state is not None:
            model.load_state_dict(state)
        return model

    def with_config(self, **changes: object) -> HRM:
        """The same weights under a changed config; the network itself where nothing changes."""
        config = dataclasses.replace(self.config, **changes)  # type: ignore[arg-type]
        return self if config == self.config else HRM.from_state(config, self.state_dict()).train(self.training)

    def on_grid(self, grid: tuple[int, int]) -> HRM:
        """The same weights for boards of another size, for translation-equivariant networks (`convolution`).

        Raises:
            ValueError: the weights belong to boards of one size.
        """
        if grid != self.config.grid and not self.config.any_grid:
            raise ValueError(f"expected a board of {self.config.grid}, for which the weights are, got one of {grid}")
        return self.with_config(grid=grid)

    @property
    def rotary(self) -> tuple[Tensor, Tensor] | None:
        """Cosine and sine tables, each (T, head_dim) float32, or None without rotary positions."""
        return (self.cos, self.sin) if self.cos.numel() else None

    @property
    def modules_by_speed(self) -> list[tuple[str, Level, int]]:
        """Name, level and period of every recurrent module, fastest first."""
        return [(name, self.get_submodule(f"{name}_level"), period) for name, _, period in self.config.modules]  # type: ignore[misc]

    def parameter_count(self) -> int:
        """Trained parameters, the puzzle embedding not counted (as the papers count)."""
        return sum(p.numel() for name, p in self.named_parameters() if name != "puzzles")

    # ---- states before the first segment ----

    def start(self, number: int = 0) -> Carry:
        """The states of one board before its first segment, each (T, D).

        Number 0 is the initial one. The others add standard normal noise, always the same for the same number: from
        there the states take another course, and may converge where the first did not.
        """
        shape = (self.config.length, self.config.hidden_size)
        states = [self._initial(name).expand(shape) for name, _, _ in reversed(self.config.modules)]
        if number:
            generator = torch.Generator().manual_seed(number)
            noise = torch.randn((len(states), *shape), generator=generator, dtype=torch.float32).to(
                self.h_init.device, self.dtype
            )
            states = [state + own for state, own in zip(states, noise, strict=True)]
        return Carry(*states)

    def initial_carry(self, batch_size: int) -> Carry:
        """States of B new boards: the same untrained vector at every position."""
        return Carry(*(state.expand(batch_size, -1, -1) for state in self.start()))

    def reset_rows(self, carry: Carry, rows: Tensor, numbers: Tensor | None = None) -> Carry:
        """The carry with the boards of the (B,) bool mask `rows` put back to a start.

        Args:
            carry: of B boards.
            rows: (B,) bool.
            numbers: (B,) integers, which start; by default the initial one for all.
        """
        wanted = [0] if numbers is None else numbers[rows].unique().tolist()
        for number in wanted:
            mask = rows if numbers is None else rows & (numbers == number)
            carry = Carry(
                *(
                    torch.where(mask[:, None, None], new, old)
                    for new, old in zip(self.start(number), carry, strict=True)
                )
            )
        return carry

    def _initial(self, name: str) -> Tensor:
        # without hierarchy the one state is read as z_H, and starts where z_H does
        return self.h_init if self.config.levels == 1 else self.get_buffer(f"{name}_init")

    # ---- a segment ----

    def updates(self, carry: Carry, x: Tensor) -> Iterator[tuple[str, Carry]]:
        """The paper's double loop (section 2): L moves at each of the N*T steps of a segment, H at every T-th.

        Only the last updates keep gradient (`HRMConfig.gradient`); by default the last of each module, which is the
        paper's one-step approximation of the gradient at the fixed point, and needs memory that N*T does not enter.

        Args:
            carry: the states, each (B, T, D).
            x: (B, T, D), the embedded board.

        Yields:
            The name of the module that moved, and all states after it.
        """
        modules, states = self.modules_by_speed, list(reversed(carry))  # fastest first
        steps, kept = self.config.steps, self.config.kept_steps
        wanted = torch.is_grad_enabled()
        for step in range(1, steps + 1):
            for k, (name, level, period) in enumerate(modules):
                if step % period:
                    continue
                # L sees the board and what H holds; H sees what L has come to; a module between them sees both sides
                injection = x if k == 0 else states[k - 1]
                if k + 1 < len(modules):
                    injection = states[k + 1] + injection
                with torch.set_grad_enabled(wanted and step > steps - kept):
                    states[k] = level(states[k], injection, self.rotary)
                yield name, Carry(*reversed(states))

    def advance(self, carry: Carry, x: Tensor) -> Carry:
        """The states after one segment, without its heads, given the embedded board (B, T, D)."""
        states = carry
        for _, states in self.updates(carry, x):  # noqa: B007  (the last ones count)
            pass
        return states

    def run(self, carry: Carry, tokens: Tensor, puzzles: Tensor, detach: bool = True) -> Segment:
        """`segment` with the puzzle vectors (B, embedding_dim) looked up already.

        `detach=False` leaves the gradient in the carry, for training through several segments.
        """
        before, carry = carry.z_h, self.advance(carry, self.embed(tokens, puzzles))
        return Segment(carry.detached() if detach else carry, *self.heads(carry.z_h, before))

    def segment(self, carry: Carry, tokens: Tensor, puzzle_ids: Tensor) -> Segment:
        """One segment of N*T steps.

        Args:
            carry: states of the boards, each (B, T, D).
            tokens: (B, S) integer token ids of the puzzles.
            puzzle_ids: (B,) integer rows of the puzzle embedding.

        Returns:
            The detached next carry, logits (B, S, V) and both Q logits (B,).
        """
        return self.run(carry, tokens, F.embedding(puzzle_ids.long(), self.puzzles))

    def forward(self, carry: Carry, tokens: Tensor, puzzle_ids: Tensor) -> Segment:
        """The same as `segment`."""
        return self.segment(carry, tokens, puzzle_ids)

    @torch.no_grad()
    def next_q_values(self, carry: Carry, tokens: Tensor, puzzles: Tensor) -> tuple[Tensor, Tensor]:
        """The Q-values that one more segment would end with, without gradient: the target of Q(continue)."""
        return self.q_values(self.advance(carry, self.embed(tokens, puzzles)).z_h, carry.z_h)

    # ---- what the mixer knows ----

    def embed(self, tokens: Tensor, puzzles: Tensor) -> Tensor:
        """Embedded boards (B, T, D), scaled by sqrt(D), from tokens (B, S) and puzzle vectors (B, embedding_dim)."""
        return self.mixer.embed(self, tokens, puzzles)

    def answer_logits(self, z_h: Tensor) -> Tensor:
        """Logits (B, S, V) from the H-level state (B, T, D)."""
        return self.mixer.answer_logits(self, z_h)

    def q_values(self, z_h: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """Q(halt) and Q(continue) logits, (B,) float32 each, from the H-level state (B, T, D) after and before."""
        q = self.mixer.q_values(self, z_h, before)
        return q[:, 0], q[:, 1]

    def heads(self, z_h: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, S, V) and both Q logits, (B,) float32; the H-level state (B, T, D) after and before a segment."""
        return self.answer_logits(z_h), *self.q_values(z_h, before)
