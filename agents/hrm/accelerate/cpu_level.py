"""Levels of attention blocks on a CPU: one compiled routine for a level, forward and backward (`cpu_level.cpp`).

PyTorch runs an operation on all boards before it begins the next one, and what lies between two products travels
through memory. Here a board goes through a whole level while its numbers stay in the cache.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from hrm_gym.agents.devices import has_bfloat16_products
from hrm_gym.agents.hrm.accelerate.library import FUNCTIONS, library
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.layers import Attention, Linear, SwiGLU, inner_width, rotary_tables
from hrm_gym.agents.hrm.mixers import Block
from hrm_gym.agents.hrm.model import DTYPES, Level

MULTIPLE = 64
"""What the inner width of the gated MLP must be a multiple of."""

SMALL = HRMConfig(vocab_size=3, grid=(2, 3), hidden_size=64, heads=2, mlp_width=64, dtype="float32")
"""What a library is tried with before it is used."""

TOLERANCES = {"float32": 1e-3, "bfloat16": 2**-4}
"""Relative distance of its results from PyTorch's in float32; a bfloat16 number has 8 digits, and there are 4 products
in a row in each of two blocks."""

logger = logging.getLogger(__name__)


def fits(config: HRMConfig) -> bool:
    """Whether a network's levels are of the kind that the routine runs."""
    return config.mixer == "attention" and config.head_dim % 2 == 0 and inner_width(config) % MULTIPLE == 0


@functools.cache
def load() -> bool:
    """Load the routine, which is compiled if need be; False where it cannot be had or does not compute what it should.

    `HRM_GYM_CPU_LEVEL=0` in the environment keeps it out. Why it cannot be had is logged.
    """
    try:
        if os.environ.get("HRM_GYM_CPU_LEVEL") == "0":
            raise OSError("HRM_GYM_CPU_LEVEL is 0")
        torch.ops.load_library(str(library()))
        missing = [name for name in FUNCTIONS if not hasattr(torch.ops.hrm_gym, name)]
        if missing:
            raise OSError(f"the compiled library lacks {missing}")
    except (OSError, RuntimeError) as error:
        logger.info("levels are left to PyTorch: %s", error)
        return False
    return agrees(SMALL)


@functools.cache
def serves(config: HRMConfig) -> bool:
    """Whether levels of a config can go through the routine here."""
    return fits(config) and load() and agrees(config)


def agrees(config: HRMConfig) -> bool:
    """Whether a small level with a config's blocks gives the same through the routine as through PyTorch.

    Processors differ in their products, so this is tried with states of the config's dtype, forward and backward.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        level, rotary = Level(config, 2), rotary_tables(config)
        given = torch.randn(3, 2, config.length, config.hidden_size, dtype=torch.float32)
    routine: Any = CPULevel(level, config)

    def results(run: Any, dtype: torch.dtype) -> list[Tensor]:
        state, injection, gradient = given.to(dtype)
        state.requires_grad_()
        with torch.inference_mode(False), torch.enable_grad():
            found = run(state, injection, rotary if rotary[0].numel() else None)
            learnt = torch.autograd.grad(found, [state, *level.parameters()], gradient)
        return [part.float() for part in (found.detach(), *learnt)]

    try:
        found, expected = results(routine, DTYPES[config.dtype]), results(level, torch.float32)
        tolerance = TOLERANCES[config.dtype]
        if not all((x - y).norm() <= tolerance * y.norm() for x, y in zip(found, expected, strict=True)):
            raise RuntimeError(f"in {config.dtype} its results differ from PyTorch's")
    except RuntimeError as error:
        logger.warning("on this processor levels are left to PyTorch: %s", error)
        return False
    return True


def takes(state: Tensor, weights: list[Tensor]) -> bool:
    """Whether the routine takes these tensors: states in float32 or bfloat16 on a CPU, weights in float32."""
    if state.device.type != "cpu" or state.dtype not in (torch.float32, torch.bfloat16) or not len(state):
        return False
    return all(weight.dtype == torch.float32 for weight in weights)


class CPULevel:
    """The forward pass of a level through the routine; whatever the routine does not know is left to PyTorch.

    So it is with blocks that somebody watches by hooks, and with blocks whose parts were replaced or wrapped (adapters,
    parametrizations): the routine would read past them.
    """

    def __init__(self, level: Level, config: HRMConfig) -> None:
        self.level, self.heads, self.eps = level, config.heads, config.norm_eps
        self._packed: dict[torch.dtype, tuple[tuple[Any, ...], list[Tensor]]] = {}

    def __call__(self, state: Tensor, injection: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        """The next state (B, T, D)."""
        weights = None if torch.compiler.is_compiling() else self._weights()
        if weights is None or not takes(state, weights):
            return Level.forward(self.level, state, injection, rotary)
        packed = self._pack(weights, state.dtype)
        return advance(state, injection, rotary, weights, packed, self.heads, self.eps)

    def _weights(self) -> list[Tensor] | None:
        """Four a block, as the routine takes them; None where a block is not what it was built as."""
        weights: list[Tensor] = []
        blocks: Iterable[Any] = self.level.blocks  # what they are made of is checked here
        for block in blocks:
            parts = [block, block.attention, block.mlp]
            maps = [block.attention.qkv, block.attention.out, block.mlp.gate_up, block.mlp.down]
            kinds = [type(part) for part in (*parts, *maps)]
            watched = any(part._forward_hooks or part._forward_pre_hooks for part in (*parts, *maps))
            if watched or kinds != [Block, Attention, SwiGLU, *[Linear] * 4]:
                return None
            weights += [linear.weight for linear in maps]
        return weights

    def _pack(self, weights: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
        """The packed weights, packed again after every change.

        PyTorch counts changes of a tensor in `_version`, but not those that go through `.data`.
        """
        if any(weight.is_inference() for weight in weights):  # such tensors have no version
            return pack(weights, dtype)
        key = tuple((weight.data_ptr(), weight._version) for weight in weights)
        stored = self._packed.get(dtype)
        if stored is None or stored[0] != key:
            stored = key, pack(weights, dtype)
            self._packed[dtype] = stored
        return stored[1]


def pack(weights: list[Tensor], dtype: torch.dtype, backward: bool = False) -> list[Tensor]:
    """The weights as the routine multiplies by them, for states of a dtype and a forward or a backward pass.

    Products of bfloat16 numbers are of bfloat16 or of float32 numbers, whichever this processor does faster.
    """
    narrow = dtype == torch.bfloat16 and has_bfloat16_products()
    return torch.ops.hrm_gym.level_pack([weight.detach().contiguous() for weight in weights], backward, narrow)


def advance(
    state: Tensor,
    injection: Tensor,
    rotary: tuple[Tensor, Tensor] | None,
    weights: list[Tensor],
    packed: list[Tensor],
    heads: int,
    eps: float,
) -> Tensor:
    """The next state of a level of attention blocks.

    Args:
        state: (B, T, D) float32 or bfloat16.
        injection: the same; it is added to the state before the first block.
        rotary: the tables of cosines and sines, each (T, head_dim), or None.
        weights: four a block: queries, keys and values (3D, D), output (D, D), gate and up (2I, D), down (D, I).
        packed: the same, packed.
        heads: heads of attention.
        eps: of the norms.

    Returns:
        (B, T, D), of the dtype of `state`. Sums, norms and the softmax are in float32.
    """
    cos, sin = rotary or (state.new_empty(0, dtype=torch.float32),) * 2
    state, injection, inner = state.contiguous(), injection.contiguous(), weights[3].shape[1]
    if torch.is_grad_enabled() and any(part.requires_grad for part in (state, injection, *weights)):
        return _Advance.apply(state, injection, cos, sin, packed, inner, heads, eps, *weights)
    every = state.shape[1]
    return torch.ops.hrm_gym.level_forward(state, injection, cos, sin, packed, inner, heads, eps, every, False)[0]


class _Advance(torch.autograd.Function):
    """`advance` with what its backward pass needs."""

    @staticmethod
    def forward(
        ctx: Any, state: Tensor, injection: Tensor, cos: Tensor, sin: Tensor, packed: Any, *rest: Any
    ) -> Tensor:
        inner, heads, eps, *weights = rest
        every = state.shape[1]
        saved = torch.ops.hrm_gym.level_forward(state, injection, cos, sin, packed, inner, heads, eps, every, True)
        ctx.sizes, ctx.kept = (inner, heads, eps), len(saved)
        ctx.save_for_backward(*saved, cos, sin, *weights)
        return saved[0]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        saved, (cos, sin, *weights) = ctx.saved_tensors[: ctx.kept], ctx.saved_tensors[ctx.kept :]
        packed = pack(weights, gradient.dtype, backward=True)
        through, *own = torch.ops.hrm_gym.level_backward(
            gradient.contiguous(), list(saved), cos, sin, packed, *ctx.sizes
        )
        return through, through, None, None, None, None, None, None, *own
