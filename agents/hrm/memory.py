"""What a training step or a segment of solving needs in memory, found out before it runs: from shapes alone, on torch's
meta device."""

from __future__ import annotations

import functools
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hrm_gym.agents.devices import free_memory
from hrm_gym.agents.hrm.accelerate import attend_on_cpu
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.layers import Attention
from hrm_gym.agents.hrm.losses import segment_losses
from hrm_gym.agents.hrm.model import HRM, Carry
from hrm_gym.agents.hrm.recipes import Recipe

WORKING = 1.6
"""Peak over what is kept for the backward pass, which itself needs room for gradients of activations."""

MARGIN = 0.8
"""Share of the free memory that `largest_batch` fills."""

FACTOR = 2.0
"""The estimate and a measured peak differ by less than this factor, which a test holds."""


@dataclass(frozen=True)
class StepEstimate:
    """Bytes of a training step: `fixed` for weights, gradients and optimiser, and `board` for each board."""

    fixed: int
    board: int

    def peak(self, boards: int) -> int:
        """Bytes at the highest with a batch of `boards`."""
        return self.fixed + self.board * boards


def estimate_step(recipe: Recipe, device: torch.device) -> StepEstimate:
    """The memory of an update by this recipe; without a compiled level, which needs less."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = HRM(recipe.model)
    if device.type == "cpu":
        for part in model.modules():
            if isinstance(part, Attention):
                part.attend = attend_on_cpu  # type: ignore[assignment]
    trained = sum(p.nbytes for name, p in model.named_parameters() if name != "puzzles")
    copies = 4 + bool(recipe.ema)  # weights, gradients, both averages of Adam
    one, two = (_saved(model, recipe, boards) for boards in (1, 2))
    return StepEstimate(copies * trained + model.puzzles.nbytes, int(WORKING * recipe.gradient_segments * (two - one)))


def _saved(model: HRM, recipe: Recipe, boards: int) -> int:
    """Bytes that autograd keeps for the backward pass of a segment and its losses, parameters not counted."""
    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage  # kept alive, so that no other one is taken for it
        return tensor

    tokens = torch.zeros((boards, model.config.cells), dtype=torch.int32, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        found = model.segment(model.initial_carry(boards), tokens, tokens[:, 0])
        losses = segment_losses(found.logits, tokens, found.q_halt, found.q_continue, None, recipe.loss)
    del losses
    return sum(storage.nbytes() for storage in kept.values())


def check_fits(recipe: Recipe, device: torch.device, processes: int = 1) -> None:
    """Refuse a batch that cannot fit.

    Raises:
        ValueError: not even an estimate that is too high by `FACTOR` fits the memory that is free.
    """
    free = free_memory(device)
    if free is None:
        return
    found = estimate_step(recipe, device)
    boards = recipe.batch_size // processes
    if found.peak(boards) / FACTOR > free:
        most = processes * largest_batch(recipe, device)
        instead = f"--batch-size {most}" if most else "only a smaller network"
        raise ValueError(
            f"a training step with a batch of {recipe.batch_size} needs about {found.peak(boards) / 2**30:.1f} GiB, "
            f"and {free / 2**30:.1f} GiB of {device} are free: {instead} fits"
        )


def largest_batch(recipe: Recipe, device: torch.device) -> int:
    """The largest power of two whose estimated step fits the memory that is free; 0 if none does.

    Where the system does not tell how much is free, the recipe's own.
    """
    free, found = free_memory(device), estimate_step(recipe, device)
    if free is None:
        return recipe.batch_size
    batch = 1
    while found.peak(2 * batch) <= MARGIN * free:
        batch *= 2
    return batch if found.peak(batch) <= MARGIN * free else 0


# ---- solving ----


class _Peak(TorchDispatchMode):
    """Within, the bytes of all tensors that are alive at once are counted; `peak` is the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            storage = tensor.untyped_storage() if isinstance(tensor, Tensor) else None
            if storage is not None and storage not in self._known:
                self._known.add(storage)
                self.alive += storage.nbytes()
                self.peak = max(self.peak, self.alive)
                weakref.finalize(storage, self._free, storage.nbytes())
        return found

    def _free(self, size: int) -> None:
        self.alive -= size


def _fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The room that a fused attention takes: that of its result."""
    return torch.empty_like(q)


@functools.cache
def estimate_solving(config: HRMConfig) -> StepEstimate:
    """The memory of a segment without gradient, weights included; attention is taken to keep no scores, as fused."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = HRM(config)
    for part in model.modules():
        if isinstance(part, Attention):
            part.attend = _fused  # type: ignore[assignment]

    def peak(boards: int) -> int:
        with torch.no_grad(), _Peak() as counted:
            tokens = torch.zeros((boards, config.cells), dtype=torch.int32, device="meta")
            carry = Carry(*(state.clone() for state in model.initial_carry(boards)))
            model.segment(carry, tokens, tokens[:, 0]).logits.float()
        return counted.peak

    one, two = peak(1), peak(2)
    weights = sum(parameter.nbytes for parameter in model.parameters())
    return StepEstimate(weights + 2 * one - two, two - one)


def solving_batch(config: HRMConfig, device: torch.device, most: int) -> int:
    """Boards to solve at a time: `most`, halved until `FACTOR` times its estimate fits the free memory; at least 1.

    Where the system does not tell how much is free, `most`.
    """
    free, found = free_memory(device), estimate_solving(config)
    while free is not None and most > 1 and FACTOR * found.peak(most) > free:
        most = -(-most // 2)
    return most
