"""The HRM network: embedding, two recurrent levels, an answer head and a Q-head (arXiv 2506.21734, section 2).

Shapes: B boards, S = H*W cells, P puzzle positions in front of them, T = P + S positions, D = hidden size, V tokens.
Parameters are float32 and are cast where they are used; states and logits have the config's dtype.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrm_gym.agents.hrm.accelerate import cpu_level
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.mixers import (
    ColourBlock,
    ConvolutionBlock,
    Linear,
    SwiGLU,
    SymbolBlock,
    apply_rotary,
    explicit_attention,
    inner_width,
    rms_norm,
    rotary_tables,
    swiglu_width,
    truncated_normal,
)

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Of states and logits, by the name that a config gives them."""


class Carry(NamedTuple):
    """What goes from one segment to the next: the states of both levels, each (B, T, D), without gradient."""

    z_h: Tensor
    z_l: Tensor

    def rows(self, index: Tensor) -> Carry:
        """The carry of some boards: `index` is (K,) int64 or (B,) bool."""
        return Carry(self.z_h[index], self.z_l[index])


class Segment(NamedTuple):
    """The result of one segment: the detached carry, logits (B, S, V), and both Q logits, (B,) float32."""

    carry: Carry
    logits: Tensor
    q_halt: Tensor
    q_continue: Tensor


EXPLICIT_LENGTH = 256
"""Longest sequence for which training on a CPU spells attention out and keeps the T x T weights for the backward."""


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention over (B, heads, T, head_dim).

    Torch's fused kernel, but for training short sequences on a CPU: there its backward pass costs four times as much as
    plain matrix products (`hrm-gym bench train` shows both).
    """
    if q.device.type != "cpu" or q.shape[-2] > EXPLICIT_LENGTH or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q, k, v)
    return explicit_attention(q, k, v)


class Attention(nn.Module):
    """Full (non-causal) multi-head attention, without any CUDA extension."""

    def __init__(self, config: HRMConfig) -> None:
        super().__init__()
        self.heads, self.head_dim = config.heads, config.head_dim
        self.qkv = Linear(config.hidden_size, 3 * config.hidden_size)
        self.out = Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        """(B, T, D) -> (B, T, D); `rotary` is the cosine and sine table, each (T, head_dim)."""
        batch, length, hidden = x.shape
        qkv = (
            self.qkv(x).view(batch, length, 3 * self.heads, self.head_dim).transpose(1, 2)
        )  # (B, 3*heads, T, head_dim)
        q, k, v = qkv.chunk(3, dim=1)
        if rotary is not None:
            q, k = apply_rotary(q, *rotary), apply_rotary(k, *rotary)
        mixed = attend(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, hidden))


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


NEVER = -1e4
"""Logit of tokens that are no symbols, where answers are made of symbols alone."""


def schedule(config: HRMConfig) -> tuple[str, int]:
    """The calls of one segment, and how many of the last ones keep gradient.

    Returns:
        A letter a call: "l" and "h" for the levels, "x" for a network of one level; and the number of calls.

    >>> schedule(HRMConfig(vocab_size=6, grid=(4, 4), h_cycles=2, l_cycles=3))
    ('lllhlllh', 2)
    """
    cycle = "l" * config.l_cycles + "h" if config.levels == 2 else "x" * config.l_cycles
    calls = config.h_cycles * cycle
    kept = {"one_step": config.levels, "last_cycle": len(cycle), "bptt": len(calls)}
    return calls, kept[config.gradient]


BLOCKS: dict[str, type[nn.Module]] = {
    "attention": Block,
    "mlp": Block,
    "symbols": SymbolBlock,
    "colours": ColourBlock,
    "convolution": ConvolutionBlock,
}
"""The block of each mixer."""


Q_READOUT = 8
"""Numbers that the Q-head reads of every state with `q_features` "worst"."""

MARGIN_SCALE = 0.1
"""Margins between logits reach some tens; so scaled, they weigh about as much as the normalised states."""

CACHED = 400_000
"""Numbers of a state that pass through the blocks at a time when equivariant networks solve on a CPU: what lies between
their matrix products then stays in the cache, which doubles their speed."""


class Level(nn.Module):
    """One recurrent module: a stack of blocks applied to its state plus the injected input."""

    def __init__(self, config: HRMConfig, layers: int) -> None:
        super().__init__()
        self.apart, self.eps, self.heads = config.equivariant, config.norm_eps, config.heads
        self.on_cpu = False
        self.held: dict[torch.dtype, list[Tensor]] | None = None
        self.blocks = nn.ModuleList(BLOCKS[config.mixer](config) for _ in range(layers))

    def forward(
        self, state: Tensor, injection: Tensor, rotary: tuple[Tensor, Tensor] | None, only: int | None = None
    ) -> Tensor:
        """Next state (B, T, D) from the state and what is added to it before the first block.

        `only` so many positions, counted from the first, are wanted of it; the result may have more.
        """
        if self.apart and state.device.type == "cpu" and not torch.is_grad_enabled():
            few = max(1, CACHED // (state.shape[1] * state.shape[2]))
            if len(state) > few and not torch.compiler.is_compiling():
                parts = zip(state.split(few), injection.split(few), strict=True)
                return torch.cat([self(part, injected, rotary) for part, injected in parts])
        if self.on_cpu and not torch.compiler.is_compiling() and not self._is_watched():
            weights = self._weights()
            if cpu_level.takes(state, weights):
                packed = self._packed(weights, state.dtype)
                return cpu_level.advance(state, injection, rotary, weights, packed, self.heads, self.eps, only)
        x = state + injection
        for block in self.blocks:
            x = block(x, rotary)
        return x

    def _is_watched(self) -> bool:
        """Whether somebody wants to see what goes through the blocks, which the routine has no calls of."""
        return any(part._forward_hooks or part._forward_pre_hooks for part in self.blocks.modules())

    def _packed(self, weights: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
        """The weights packed, once where they are held."""
        if self.held is None:
            return cpu_level.pack(weights, dtype)
        if dtype not in self.held:
            self.held[dtype] = cpu_level.pack(weights, dtype)
        return self.held[dtype]

    def _weights(self) -> list[Tensor]:
        """Four a block, as `cpu_level` takes them."""
        weights: list[Tensor] = []
        for block in cast("Iterable[Block]", self.blocks):
            attention, mlp = block.attention, block.mlp
            assert attention is not None
            weights += (attention.qkv.weight, attention.out.weight, mlp.gate_up.weight, mlp.down.weight)
        return weights


@functools.cache
def has_own_routine(config: HRMConfig) -> bool:
    """Whether levels of a config can go through `cpu_level` here.

    Processors differ in their products, so that a small level is first carried out both ways, and the results compared,
    with states of the config's dtype.
    """
    if not (cpu_level.fits(config) and cpu_level.load()):
        return False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        level, rotary = Level(config, 2), rotary_tables(config)
        given = torch.randn(3, 2, config.length, config.hidden_size)

    def results(own: bool, dtype: torch.dtype) -> list[Tensor]:
        level.on_cpu = own
        state, injection, gradient = given.to(dtype)
        state.requires_grad_()
        found = level(state, injection, rotary if rotary[0].numel() else None)
        learnt = torch.autograd.grad(found, [state, *level.parameters()], gradient)
        return [part.float() for part in (found.detach(), *learnt)]

    try:
        found, expected = results(True, DTYPES[config.dtype]), results(False, torch.float32)
        tolerance = {"float32": 1e-3, "bfloat16": 2**-4}[config.dtype]
        if not all((x - y).norm() <= tolerance * y.norm() for x, y in zip(found, expected, strict=True)):
            raise RuntimeError(f"in {config.dtype} its results differ from PyTorch's")
    except RuntimeError as error:
        logger.warning("on this processor levels have no routine of their own: %s", error)
        return False
    return True


class HRM(nn.Module):
    """Hierarchical Reasoning Model. One call of `segment` is one step of deep supervision, and one environment step."""

    h_init: Tensor
    l_init: Tensor
    cos: Tensor
    sin: Tensor

    def __init__(self, config: HRMConfig) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden_size
        self.dtype = DTYPES[config.dtype]
        classes = self.first_symbol + 2 if config.by_symbol else config.vocab_size
        self.tokens = nn.Parameter(truncated_normal((classes, hidden), hidden**-0.5))
        self.puzzles = nn.Parameter(torch.zeros(config.puzzle_count, config.embedding_dim))
        if config.positions in ("learned", "learned_rope2d"):
            length = config.cells if config.by_symbol else config.length
            self.positions = nn.Parameter(truncated_normal((length, hidden), hidden**-0.5))
        self.l_level = Level(config, config.l_layers)
        self.h_level = self.l_level if config.shared else Level(config, config.h_layers)
        self.answer_head = Linear(hidden, 1 if config.by_symbol else config.vocab_size)
        if config.mixer == "colours":
            self.end_head = Linear(hidden, 1)
        self.q_head = nn.Linear(hidden, 2)
        if config.q_features == "worst":
            self.q_readout = Linear(hidden, Q_READOUT)
            self.q_head = nn.Linear(hidden + 2 * Q_READOUT + 2, 2)
        nn.init.zeros_(self.q_head.weight)
        nn.init.constant_(self.q_head.bias, -5.0)
        self.register_buffer("h_init", truncated_normal((hidden,), 1.0).to(self.dtype))
        self.register_buffer("l_init", truncated_normal((hidden,), 1.0).to(self.dtype))
        cos, sin = rotary_tables(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    @property
    def first_symbol(self) -> int:
        """The first token id that is one of the config's interchangeable symbols."""
        return self.config.vocab_size - self.config.symbols

    @property
    def rotary(self) -> tuple[Tensor, Tensor] | None:
        """Cosine and sine tables, each (T, head_dim) float32, or None without rotary positions."""
        return (self.cos, self.sin) if self.cos.numel() else None

    def parameter_count(self) -> int:
        """Trained parameters, the puzzle embedding not counted (as the papers count)."""
        return sum(p.numel() for name, p in self.named_parameters() if name != "puzzles")

    def compile_levels(self, dynamic: bool, own: bool = True) -> None:
        """Compile both levels, which is where time goes.

        Attention blocks on a CPU go through a routine of our own (`cpu_level`), the rest through `torch.compile`.

        Args:
            dynamic: for batches of many sizes.
            own: whether our own routine may be taken.
        """
        on_cpu = own and self.h_init.device.type == "cpu" and has_own_routine(self.config)
        for level in {self.l_level, self.h_level}:
            level.on_cpu = on_cpu
            if not on_cpu:
                level.compile(dynamic=dynamic)

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """A stretch in which weights do not change, so that what is made of them for fast products is made once."""
        levels = [level for level in {self.l_level, self.h_level} if level.held is None]
        for level in levels:
            level.held = {}
        try:
            yield
        finally:
            for level in levels:
                level.held = None

    def in_float32(self) -> HRM:
        """The network with activations in float32, itself if it has them: faster where bfloat16 products are slow."""
        if self.dtype == torch.float32:
            return self
        model = HRM(dataclasses.replace(self.config, dtype="float32"))
        model.load_state_dict(self.state_dict())
        return model

    def on_grid(self, grid: tuple[int, int]) -> HRM:
        """The same weights for boards of another size: for networks that know nothing of places (`convolution`).

        Raises:
            ValueError: the weights belong to boards of one size.
        """
        if grid == self.config.grid:
            return self
        if not self.config.any_grid:
            raise ValueError(f"expected a board of {self.config.grid}, for which the weights are, got one of {grid}")
        model = HRM(dataclasses.replace(self.config, grid=grid))
        model.load_state_dict(self.state_dict())
        return model.train(self.training)

    def initial_carry(self, batch_size: int) -> Carry:
        """States of B new boards: the same untrained vector at every position."""
        shape = (batch_size, self.config.length, self.config.hidden_size)
        return Carry(self.h_init.expand(shape), self.l_init.expand(shape))

    def start(self, number: int = 0) -> Carry:
        """The states of one board before its first segment, each (T, D).

        Number 0 is the initial one. The others have standard normal noise on top, always the same for the same number:
        from there a thought takes another course, and may end where the first did not.
        """
        shape = (self.config.length, self.config.hidden_size)
        states = [self.h_init.expand(shape), self.l_init.expand(shape)]
        if number:
            generator = torch.Generator().manual_seed(number)
            noise = torch.randn((2, *shape), generator=generator).to(self.h_init.device, self.dtype)
            states = [state + own for state, own in zip(states, noise, strict=True)]
        return Carry(*states)

    def reset_rows(self, carry: Carry, rows: Tensor, numbers: Tensor | None = None) -> Carry:
        """The carry with the boards of the (B,) bool mask `rows` put back to a start.

        Args:
            carry: of B boards.
            rows: (B,) bool.
            numbers: (B,) integers, which start; by default the initial one for all.
        """
        if numbers is None or not (rows & (numbers > 0)).any():
            mask = rows[:, None, None]
            return Carry(torch.where(mask, self.h_init, carry.z_h), torch.where(mask, self.l_init, carry.z_l))
        for number in numbers[rows].unique().tolist():
            mask = (rows & (numbers == number))[:, None, None]
            carry = Carry(*(torch.where(mask, new, old) for new, old in zip(self.start(number), carry, strict=True)))
        return carry

    def embed(self, tokens: Tensor, puzzles: Tensor) -> Tensor:
        """Embedded input (B, T, D), scaled by sqrt(D), from tokens (B, S) and puzzle vectors (B, embedding_dim).

        The vectors stand in front of the cells; with the mixer "colours" they are added to the states of their colours.
        """
        config = self.config
        if config.by_symbol:
            tokens = self._compared_with_symbols(tokens)
        cells = F.embedding(tokens.long(), self.tokens.to(self.dtype))
        if config.mixer == "colours":
            vectors = puzzles.to(self.dtype).view(len(tokens), config.symbols + 1, config.hidden_size)
            cells = cells + (vectors[:, :-1] + vectors[:, -1:]).repeat(1, config.cells, 1)
        if config.prefix:
            pad = config.prefix * config.hidden_size - puzzles.shape[-1]
            front = F.pad(puzzles.to(self.dtype), (0, pad)).view(len(tokens), config.prefix, config.hidden_size)
            cells = torch.cat((front, cells), dim=1)
        if config.positions in ("learned", "learned_rope2d"):
            by_place = cells.unflatten(1, (len(self.positions), -1))  # all symbols of a cell are in one place
            cells = math.sqrt(0.5) * (by_place + self.positions.to(self.dtype)[:, None]).flatten(1, 2)
        return math.sqrt(config.hidden_size) * cells

    def _compared_with_symbols(self, tokens: Tensor) -> Tensor:
        """(B, S) token ids -> (B, S * symbols) classes: the token itself if it is no symbol, else same or different."""
        first = self.first_symbol
        every = torch.arange(first, self.config.vocab_size, device=tokens.device)
        given = torch.where(tokens[..., None] == every, first, first + 1)
        return torch.where(tokens[..., None] < first, tokens[..., None], given).flatten(1)

    def think(self, carry: Carry, x: Tensor) -> Carry:
        """The part of a segment before its last updates: it runs without gradient whatever the setting."""
        calls, kept = schedule(self.config)
        return self._advance(carry, x, calls[: len(calls) - kept])

    def conclude(self, carry: Carry, x: Tensor) -> Carry:
        """The last updates of a segment, which keep gradient in training (`HRMConfig.gradient` says how many)."""
        calls, kept = schedule(self.config)
        return self._advance(carry, x, calls[len(calls) - kept :])

    def _advance(self, carry: Carry, x: Tensor, calls: str) -> Carry:
        """Carry out calls of the modules, as `schedule` names them, one after the other."""
        z_h, z_l = carry
        for call in calls:
            if call == "l":
                z_l = self.l_level(z_l, z_h + x, self.rotary)
            else:
                z_h = self.h_level(z_h, z_l if call == "h" else x, self.rotary)
        return Carry(z_h, z_l)

    def foresee(self, carry: Carry, tokens: Tensor, puzzles: Tensor) -> tuple[Tensor, Tensor]:
        """The Q-values that `run` would end with, and nothing else of it, without gradient.

        The last call of a level then need not work out positions that no Q-value is read from.
        """
        with torch.no_grad(), self.hold():
            x, (calls, _) = self.embed(tokens, puzzles), schedule(self.config)
            z_h, z_l = self._advance(carry, x, calls[:-1])
            only = 1 if self.h_level.on_cpu else None
            return self.q_values(self.h_level(z_h, z_l if calls[-1] == "h" else x, self.rotary, only))

    def answer_logits(self, z_h: Tensor) -> Tensor:
        """Logits (B, S, V) from the cells of the H-level state."""
        config = self.config
        logits = self.answer_head(z_h[:, config.prefix :])
        if not config.by_symbol:
            return logits
        logits = logits.view(len(z_h), config.cells, config.symbols)
        if config.mixer == "symbols":
            return F.pad(logits, (self.first_symbol, 0), value=NEVER)
        cells = z_h.view(len(z_h), config.cells, config.symbols, -1).mean(2)
        return F.pad(torch.cat((self.end_head(cells), logits), dim=-1), (self.first_symbol - 1, 0), value=NEVER)

    def q_values(self, z_h: Tensor) -> tuple[Tensor, Tensor]:
        """Q(halt) and Q(continue) logits, (B,) float32 each, from position 0 of the H-level state.

        Equivariant networks have no such position, and take the mean of all. In float32: one wrong cell is enough to be
        wrong, and hardly moves a mean.
        """
        if self.config.q_features == "worst":
            q = self.q_head(self._worst_cell(z_h))
        elif self.config.equivariant:
            q = self.q_head(z_h.float().mean(1))
        else:
            q = F.linear(z_h[:, 0], self.q_head.weight.to(z_h.dtype), self.q_head.bias.to(z_h.dtype)).float()
        return q[:, 0], q[:, 1]

    def _worst_cell(self, z_h: Tensor) -> Tensor:
        """(B, D + 2 * Q_READOUT + 2) float32: the mean state, and what the least decided cell looks like."""
        config, wide = self.config, z_h.float()
        read = self.q_readout(wide).view(len(z_h), config.cells, config.symbols, Q_READOUT)
        lowest = read.amax(2).amin(1)  # the cell whose best symbol is worst
        highest = read.amin(2).amax(1)
        # without gradient: Q learns to judge the answer, it must not shape it
        logits = self.answer_head(z_h.detach()).float().view(len(z_h), config.cells, config.symbols)
        best = logits.topk(2, dim=2).values
        margin = MARGIN_SCALE * (best[..., 0] - best[..., 1]).detach()
        return torch.cat((wide.mean(1), lowest, highest, margin.amin(1, keepdim=True), margin.mean(1, keepdim=True)), 1)

    def heads(self, z_h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, S, V) and both Q logits, (B,) float32."""
        return self.answer_logits(z_h), *self.q_values(z_h)

    def segment(self, carry: Carry, tokens: Tensor, puzzle_ids: Tensor) -> Segment:
        """One segment of H_cycles x L_cycles updates.

        Args:
            carry: states of the boards, each (B, T, D).
            tokens: (B, S) integer token ids of the puzzles.
            puzzle_ids: (B,) integer rows of the puzzle embedding.

        Returns:
            The detached next carry, logits (B, S, V) and both Q logits (B,).
        """
        return self.run(carry, tokens, F.embedding(puzzle_ids.long(), self.puzzles))

    def run(self, carry: Carry, tokens: Tensor, puzzles: Tensor, detach: bool = True) -> Segment:
        """`segment` with the puzzle vectors (B, embedding_dim) looked up already; the part worth compiling.

        `detach=False` leaves the gradient in the carry, for training through several segments.
        """
        x = self.embed(tokens, puzzles)
        with self.hold():
            with torch.no_grad():
                carry = self.think(carry, x)
            carry = self.conclude(carry, x)
        logits, q_halt, q_continue = self.heads(carry.z_h)
        if detach:
            carry = Carry(carry.z_h.detach(), carry.z_l.detach())
        return Segment(carry, logits, q_halt, q_continue)

    def forward(self, carry: Carry, tokens: Tensor, puzzle_ids: Tensor) -> Segment:
        """The same as `segment`."""
        return self.segment(carry, tokens, puzzle_ids)
