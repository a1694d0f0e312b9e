"""Training updates for `hrm-gym bench`: one update, with and without what makes it fast."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F

from hrm_gym.agents.hrm import accelerate as fast
from hrm_gym.agents.hrm.accelerate import cpu_level
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.losses import segment_losses
from hrm_gym.agents.hrm.model import HRM, Carry
from hrm_gym.agents.hrm.optim import AdamATan2
from hrm_gym.agents.hrm.slots import continue_target
from hrm_gym.scripts.bench.timing import Contest

SMALL = HRMConfig(vocab_size=11, grid=(10, 10), hidden_size=128, heads=4, h_layers=2, l_layers=2)
LARGE = HRMConfig(vocab_size=11, grid=(9, 9))
SMALL_BATCH, LARGE_BATCH = 64, 16
PLAIN = "compiled by torch, its fused attention, bfloat16 products"
SPELT = "compiled by torch, attention spelt out, bfloat16 products"
WIDE = "compiled by torch, attention spelt out, float32 products"
OURS = "hrm-gym train: the levels' own routine"


def small() -> Contest:
    """Updates of a small network: the base, and what each change brings."""
    torch.set_num_threads(1)
    turns = {
        PLAIN: updating(SMALL, SMALL_BATCH, "torch", explicit_length=0, float32_products=False),
        SPELT: updating(SMALL, SMALL_BATCH, "torch", float32_products=False),
        **({WIDE: updating(SMALL, SMALL_BATCH, "torch")} if fast.FLOAT32_PRODUCTS else {}),
        **({OURS: updating(SMALL, SMALL_BATCH, "own")} if cpu_level.serves(SMALL) else {}),
        "hrm-gym train --continue-every 4": updating(SMALL, SMALL_BATCH, "own", target_every=4),
        "hrm-gym train --no-compile": updating(SMALL, SMALL_BATCH, "not"),
    }
    return Contest(_title(SMALL, SMALL_BATCH), turns, PLAIN)


def large() -> Contest:
    """Updates of the paper's 27M network on Sudoku."""
    torch.set_num_threads(1)
    turns = {
        PLAIN: updating(LARGE, LARGE_BATCH, "torch", explicit_length=0, float32_products=False),
        **({OURS: updating(LARGE, LARGE_BATCH, "own")} if cpu_level.serves(LARGE) else {}),
    }
    return Contest(_title(LARGE, LARGE_BATCH), turns, PLAIN)


def _title(config: HRMConfig, batch: int) -> str:
    return (
        f"training: boards x segments a second; hidden {config.hidden_size}, {config.heads} heads, "
        f"{config.h_layers}+{config.l_layers} layers, {config.h_cycles}x{config.l_cycles} cycles, "
        f"{config.prefix + config.cells} positions, batch {batch}, {config.dtype}, one thread"
    )


def updating(
    config: HRMConfig,
    batch: int,
    compiled: Literal["torch", "own", "not"],
    explicit_length: int = fast.EXPLICIT_LENGTH,
    float32_products: bool = fast.FLOAT32_PRODUCTS,
    target_every: int = 1,
) -> Callable[[float], float]:
    """A turn of updates on random boards; returns boards x segments a second.

    Args:
        config: the network.
        batch: boards.
        compiled: whether its levels are, by torch or through their own routine where that can be had.
        explicit_length: longest sequence for which torch's attention is spelt out.
        float32_products: whether torch multiplies bfloat16 numbers as float32.
        target_every: updates between two extra forward passes for the target of Q(continue).
    """
    torch.manual_seed(0)
    usual, fast.FLOAT32_PRODUCTS = fast.FLOAT32_PRODUCTS, float32_products
    model = fast.accelerate(HRM(config), compiled != "not", dynamic=False, routine=compiled == "own")
    fast.FLOAT32_PRODUCTS = usual
    optimizer = AdamATan2([p for name, p in model.named_parameters() if name != "puzzles"])
    inputs, labels = (torch.randint(1, config.vocab_size, (batch, config.cells), dtype=torch.int32) for _ in range(2))
    state: dict[str, Any] = {
        "carry": Carry(*(part.clone() for part in model.initial_carry(batch))),
        "updates": 0,
    }

    def turn(seconds: float) -> float:
        before, fast.EXPLICIT_LENGTH = fast.EXPLICIT_LENGTH, explicit_length
        updates, begin = 0, time.perf_counter()
        while updates == 0 or time.perf_counter() - begin < seconds:
            targeted = state["updates"] % target_every == 0
            state["carry"] = update(model, optimizer, state["carry"], inputs, labels, targeted)
            state["updates"] += 1
            updates += 1
        fast.EXPLICIT_LENGTH = before
        return updates * batch / (time.perf_counter() - begin)

    return turn


def update(
    model: HRM,
    optimizer: AdamATan2,
    carry: Carry,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    targeted: bool = True,
) -> Carry:
    """One segment, its target, its losses and one optimiser update, as the trainer makes them."""
    ids = torch.zeros(len(inputs), dtype=torch.int32)
    puzzles = F.embedding(ids.long(), model.puzzles)
    target = None
    result: Any = model.run(carry, inputs, puzzles)
    if targeted:
        target = continue_target(model, result, torch.ones_like(ids), inputs, puzzles)
    losses = segment_losses(result.logits, labels, result.q_halt, result.q_continue, target)
    model.zero_grad(set_to_none=True)
    (losses.total / len(inputs)).backward()
    optimizer.step()
    return Carry(*result.carry)
