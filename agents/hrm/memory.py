"""What a training step needs in memory, found out before it runs: from shapes alone, on torch's meta device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hrm_gym.agents.devices import free_memory
from hrm_gym.agents.hrm.accelerate import attend_on_cpu
from hrm_gym.agents.hrm.layers import Attention
from hrm_gym.agents.hrm.losses import segment_losses
from hrm_gym.agents.hrm.model import HRM
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
