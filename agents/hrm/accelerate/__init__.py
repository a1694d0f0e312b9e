"""Faster execution of a network: the same results, or the same up to rounding. The model knows nothing of it.

`accelerate(model)` changes how the modules of a network are executed and returns it:

- on a CPU, levels of equivariant networks pass their boards in parts that stay in the cache (same bits);
- on a CPU, attention in training is spelt out where the fused kernel's backward pass is slower (rounding);
- on a CPU whose bfloat16 products are slow, bfloat16 numbers are multiplied as float32 (rounding);
- with `compile`, levels of attention blocks on a CPU go through one compiled routine (`cpu_level.cpp`), all others
  through `torch.compile` (rounding).
"""

from __future__ import annotations

import functools
import logging

import torch
import torch.nn.functional as F
from torch import Tensor

from hrm_gym.agents.devices import has_slow_bfloat16_products
from hrm_gym.agents.hrm.accelerate import cpu_level, library
from hrm_gym.agents.hrm.layers import Attention, Linear, explicit_attention
from hrm_gym.agents.hrm.model import HRM, Level

logger = logging.getLogger(__name__)

EXPLICIT_LENGTH = 256
"""Longest sequence for which training on a CPU spells attention out and keeps the T x T weights for the backward: the
fused kernel's backward pass costs four times as much there (`hrm-gym bench --only training` shows both)."""

FLOAT32_PRODUCTS = has_slow_bfloat16_products()
"""Whether bfloat16 numbers are multiplied as float32 on this CPU: the same products, rounded once, at the end."""

NARROW = 32
"""Least width of a linear map for which that pays: below, widening the numbers costs more than it saves."""

CACHED = 400_000
"""Numbers of a state that pass through the blocks at a time when equivariant networks solve on a CPU: what lies between
their matrix products then stays in the cache, which doubles their speed."""


def accelerate(model: HRM, compile: bool = False, dynamic: bool = True, routine: bool = True) -> HRM:
    """The same network, executed faster where it lies; call it after moving the network to its device.

    Args:
        model: the network; it is changed in place.
        compile: whether levels are compiled as well; takes up to a minute, once.
        dynamic: for batches of many sizes.
        routine: whether the compiled routine for attention on a CPU may be taken.

    Returns:
        The network.
    """
    on_cpu = model.h_init.device.type == "cpu"
    if on_cpu:
        for part in model.modules():
            if isinstance(part, Attention):
                part.attend = attend_on_cpu  # type: ignore[assignment]
            elif isinstance(part, Linear) and FLOAT32_PRODUCTS and min(part.weight.shape) >= NARROW:
                part.product = float32_product  # type: ignore[assignment]
    for level in {level for _, level, _ in model.modules_by_speed}:
        if on_cpu and model.config.equivariant:
            level.forward = InParts(level)  # type: ignore[method-assign]
        if compile and on_cpu and routine and cpu_level.serves(model.config):
            level.forward = cpu_level.CPULevel(level, model.config)  # type: ignore[method-assign]
        elif compile and can_compile(model.h_init.device.type):
            level.compile(dynamic=dynamic)
    return model


def uses_cpu_routine(model: HRM) -> bool:
    """Whether a network's levels go through the compiled routine."""
    return any(isinstance(level.forward, cpu_level.CPULevel) for _, level, _ in model.modules_by_speed)


def code_of(model: HRM) -> str:
    """What runs a network's levels, for records."""
    if uses_cpu_routine(model):
        return "CPU routine"
    levels = (level for _, level, _ in model.modules_by_speed)
    return "torch.compile" if any(level._compiled_call_impl is not None for level in levels) else "PyTorch"


def attend_on_cpu(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention over (B, heads, T, head_dim): the fused kernel, but for training short sequences."""
    if q.shape[-2] > EXPLICIT_LENGTH or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q, k, v)
    return explicit_attention(q, k, v)


def float32_product(x: Tensor, weight: Tensor) -> Tensor:
    """`F.linear` in which bfloat16 numbers are multiplied as float32."""
    if x.dtype != torch.bfloat16:
        return F.linear(x, weight)
    return F.linear(x.float(), weight.float()).to(x.dtype)


class InParts:
    """A level that solves its boards in parts of a few; in training they go through together."""

    def __init__(self, level: Level) -> None:
        self.level = level

    def __call__(self, state: Tensor, injection: Tensor, rotary: tuple[Tensor, Tensor] | None) -> Tensor:
        """The next state (B, T, D)."""
        few = max(1, CACHED // (state.shape[1] * state.shape[2]))
        forward = functools.partial(Level.forward, self.level)
        if torch.is_grad_enabled() or len(state) <= few or torch.compiler.is_compiling():
            return forward(state, injection, rotary)
        parts = zip(state.split(few), injection.split(few), strict=True)
        return torch.cat([forward(part, injected, rotary) for part, injected in parts])


@functools.cache
def can_compile(device: str) -> bool:
    """Whether `torch.compile` works here; a warning says why not.

    On a CPU it needs a C++ compiler, which slim containers do not have.
    """
    library.prepare_compile_cache()
    try:
        # a stored graph would hide that there is no compiler for the next one
        torch.compile(lambda x: x + 1, options={"fx_graph_cache": False})(torch.zeros(2, device=device))
    except Exception as error:  # torch's own errors have no common base
        reason = str(error).strip().splitlines()
        logger.warning("networks are not compiled here: %s", reason[0] if reason else type(error).__name__)
        return False
    return True
