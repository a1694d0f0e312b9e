"""What one training step keeps in memory for its backward pass, and how that grows with the cycles."""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from hrm_gym.agents.hrm.config import Gradient, HRMConfig
from hrm_gym.agents.hrm.network import HRM

MEBIBYTE = 2**20


@dataclass(frozen=True)
class StepMemory:
    """The memory of one training step.

    Attributes:
        gradient: how far the gradient goes back.
        h_cycles: H-cycles of the segment.
        l_cycles: L-cycles of an H-cycle.
        calls: calls of the two modules in the segment.
        saved: bytes that autograd keeps for the backward pass, parameters not counted.
        peak: bytes by which the process grew at its highest during the step; None where the system does not tell.
    """

    gradient: Gradient
    h_cycles: int
    l_cycles: int
    calls: int
    saved: int
    peak: int | None


def saved_bytes(model: HRM, inputs: Tensor, puzzle_ids: Tensor) -> tuple[int, Tensor]:
    """Bytes that autograd keeps for the backward pass of a segment: every storage once, those of parameters never.

    Args:
        model: the network.
        inputs: (B, S) tokens.
        puzzle_ids: (B,) rows of the puzzle embedding.

    Returns:
        The bytes, and a () value whose backward pass they are for.
    """
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = model.segment(model.initial_carry(len(inputs)), inputs, puzzle_ids)
        value = result.logits.float().square().mean() + result.q_halt.sum() + result.q_continue.sum()
    return sum(kept.values()), value


def measure(config: HRMConfig, gradient: Gradient, cycles: tuple[int, int], batch: int) -> StepMemory:
    """The memory of a forward and a backward pass on random boards.

    Args:
        config: the network.
        gradient: takes the place of the config's.
        cycles: (H_cycles, L_cycles), likewise.
        batch: boards.
    """
    config = replace(config, gradient=gradient, h_cycles=cycles[0], l_cycles=cycles[1])
    torch.manual_seed(0)
    model = HRM(config)
    inputs = torch.randint(1, config.vocab_size, (batch, config.cells), dtype=torch.int32)
    gc.collect()
    before = _reset_peak()
    saved, value = saved_bytes(model, inputs, torch.zeros(batch, dtype=torch.int32))
    value.backward()
    after = _status("VmHWM")
    peak = None if before is None or after is None else after - before
    calls = cycles[0] * (cycles[1] + 1) if config.levels == 2 else cycles[0] * cycles[1]
    return StepMemory(gradient, *cycles, calls, saved, peak)


def _reset_peak() -> int | None:
    """Bytes that the process occupies now, from where its peak is counted anew; None if the system cannot do that."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _status("VmRSS")


def _status(name: str) -> int | None:
    """A size in bytes out of Linux's account of this process; None elsewhere."""
    told = Path("/proc/self/status")
    lines = told.read_text().splitlines() if told.exists() else []
    sizes = [int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")]
    return sizes[0] if sizes else None
