"""Training on several processes: each has a share of the slots, and all make the same updates.

`torchrun --nproc-per-node N -m hrm_gym.scripts.main train RECIPE` starts the processes. What a slot gets and when it
halts depends on its global number alone, so the number of processes changes nothing but the order of float sums.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Processes:
    """The processes of one run, seen from one of them; a single one needs no process group.

    Attributes:
        rank: number of this process, 0 <= rank < count. Number 0 writes the files.
        count: number of processes.
    """

    rank: int = 0
    count: int = 1

    def share(self, batch: int) -> slice:
        """The slots of this process among `batch`.

        Raises:
            ValueError: they cannot be shared out evenly.
        """
        if batch % self.count:
            raise ValueError(f"expected a batch size that {self.count} processes can share evenly, got {batch}")
        each = batch // self.count
        return slice(self.rank * each, (self.rank + 1) * each)

    def sum(self, tensors: list[Tensor]) -> None:
        """Replace float tensors of one dtype and device by their sums over all processes: one message for them all."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        torch._foreach_copy_(tensors, [part.view_as(tensor) for tensor, part in zip(tensors, parts, strict=True)])

    def gather(self, tensor: Tensor) -> Tensor:
        """The rows (B/count, …) of every process, in the order of slots: (B, …), the same dtype."""
        if self.count == 1:
            return tensor
        raw = tensor.contiguous().view(torch.uint8) if tensor.numel() else tensor
        parts = [torch.empty_like(raw) for _ in range(self.count)]
        dist.all_gather(parts, raw)
        return torch.cat([part.view(tensor.dtype) for part in parts])

    def wait(self) -> None:
        """Wait until all processes have come this far."""
        if self.count > 1:
            dist.barrier()


ALONE = Processes()


def launched() -> bool:
    """Whether torchrun, or something that sets the same environment variables, started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def join(device: torch.device) -> tuple[Processes, torch.device]:
    """Join the process group that torchrun started: NCCL between GPUs, gloo otherwise.

    Args:
        device: where this run computes; of several GPUs each process takes the one of its local rank.

    Returns:
        The processes, and this one's device. (ALONE, device) if torchrun did not start this process.
    """
    if not launched():
        return ALONE, device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Processes(dist.get_rank(), dist.get_world_size()), device


def leave() -> None:
    """Destroy the process group, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
