"""Training updates for `hrm-gym bench train`: one update, with and without what makes it fast."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from hrm_gym.agents.hrm import act, network
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.losses import segment_losses
from hrm_gym.agents.hrm.network import HRM, Carry
from hrm_gym.agents.hrm.optim import AdamATan2

BATCH = 64
CONFIG = HRMConfig(vocab_size=11, grid=(10, 10), hidden_size=128, heads=4, h_layers=2, l_layers=2)
SETTING = f"hidden 128, 4 heads, 2+2 layers, 2x2 cycles, 101 positions, batch {BATCH}, bfloat16, one thread"
BASE = "compiled, torch's fused attention"


def contestants() -> dict[str, Callable[[float], float]]:
    """Name -> a turn of training updates; every one includes the extra forward pass for the target of Q(continue)."""
    torch.set_num_threads(1)
    return {
        BASE: updating(compiled=True, explicit_length=0),
        "compiled, attention spelt out (hrm-gym train)": updating(
            compiled=True, explicit_length=network.EXPLICIT_LENGTH
        ),
        "not compiled, attention spelt out": updating(compiled=False, explicit_length=network.EXPLICIT_LENGTH),
    }


def updating(compiled: bool, explicit_length: int) -> Callable[[float], float]:
    """A turn of updates on random boards; returns boards x segments a second."""
    torch.manual_seed(0)
    model = HRM(CONFIG)
    if compiled:
        for level in (model.l_level, model.h_level):
            level.compile(dynamic=False)
    optimizer = AdamATan2([p for name, p in model.named_parameters() if name != "puzzles"])
    shape = (BATCH, CONFIG.cells)
    inputs, labels = (torch.randint(1, CONFIG.vocab_size, shape, dtype=torch.int32) for _ in range(2))
    carry = [Carry(*(state.clone() for state in model.initial_carry(BATCH)))]

    def turn(seconds: float) -> float:
        before, network.EXPLICIT_LENGTH = network.EXPLICIT_LENGTH, explicit_length
        updates, begin = 0, time.perf_counter()
        while updates == 0 or time.perf_counter() - begin < seconds:
            carry[0] = update(model, optimizer, carry[0], inputs, labels)
            updates += 1
        network.EXPLICIT_LENGTH = before
        return updates * BATCH / (time.perf_counter() - begin)

    return turn


def update(model: HRM, optimizer: AdamATan2, carry: Carry, inputs: torch.Tensor, labels: torch.Tensor) -> Carry:
    """One segment, its target, its losses and one optimiser update, as the trainer makes them."""
    ids = torch.zeros(BATCH, dtype=torch.int32)
    puzzles = F.embedding(ids.long(), model.puzzles)
    result: Any = model.run(carry, inputs, puzzles)
    target = act.continue_target(CONFIG, model.run, result, torch.ones_like(ids), inputs, puzzles)
    losses = segment_losses(result.logits, labels, result.q_halt, result.q_continue, target)
    model.zero_grad(set_to_none=True)
    (losses.total / BATCH).backward()
    optimizer.step()
    return Carry(*result.carry)
