"""Training on several processes: each has a share of the slots, and all make the same updates.

`torchrun --nproc-per-node N -m hrm_gym.scripts.main train RECIPE` starts the processes. What a slot gets and when it
halts depends on its global number alone, so the number of processes changes nothing but the order of float sums.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hrm_gym._program import ENDING, handling
from hrm_gym.reading import whole_number


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
        if self.count > 1:
            _Message(tensors).arrive()

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


class _Message:
    """Tensors on their way to being summed over all processes; `arrive` waits and puts the sums in their place."""

    @torch.no_grad()
    def __init__(self, tensors: list[Tensor]) -> None:
        self._tensors = tensors
        self._flat = torch.cat([tensor.flatten() for tensor in tensors])
        self._work: Any = dist.all_reduce(self._flat, async_op=True)

    @torch.no_grad()
    def arrive(self) -> None:
        self._work.wait()  # between GPUs the stream waits, not the host
        parts = self._flat.split([tensor.numel() for tensor in self._tensors])
        views = [part.view_as(tensor) for tensor, part in zip(self._tensors, parts, strict=True)]
        torch._foreach_copy_(self._tensors, views)


ALONE = Processes()

BUCKET = 16 * 2**20
"""Bytes of gradients that leave in one message, at least; a block of the paper's network has as many. The message that
leaves last hides behind nothing, so that larger ones hide less; and every message takes its latency."""


class BackwardPass:
    """A backward pass that sums gradients over all processes while it still computes others.

    Parameters lie in buckets, those that the network uses last first: so their gradients come. A bucket whose gradients
    are all there leaves as one message, behind those in front of it: all processes send the same messages, in whatever
    order gradients come. Parameters that got no gradient the last time have a bucket at the end, where no other waits
    for them. All processes must give the same parameters a gradient, as networks do that differ in their boards alone.

    Attributes:
        buckets: the parameters of each message, in the order in which they leave; an empty one is not sent.
        left: of the messages of the last backward pass, after how many gradients each left; empty for one process.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], processes: Processes = ALONE) -> None:
        """Watch `parameters`, which are in the order in which the network uses them."""
        self.left: list[int] = []
        self._processes, self._running = processes, False
        self._order = parameters[::-1]
        self._share_out(set())
        if processes.count > 1:
            for parameter in parameters:
                parameter.register_post_accumulate_grad_hook(self._came)

    def _share_out(self, absent: set[nn.Parameter]) -> None:
        self._absent = absent
        buckets: list[list[nn.Parameter]] = [[]]
        for parameter in self._order:
            if parameter not in absent:
                if sum(own.nbytes for own in buckets[-1]) >= BUCKET:
                    buckets.append([])
                buckets[-1].append(parameter)
        self.buckets = [*buckets, [own for own in self._order if own in absent]]
        self._bucket_of = {own: number for number, bucket in enumerate(self.buckets) for own in bucket}

    def __call__(self, loss: Tensor) -> Tensor:
        """Give the parameters, which have no gradient yet, the sums of their gradients in all processes.

        Args:
            loss: () this process's part.

        Returns:
            () float32 the sum of all parts, detached.
        """
        if self._processes.count == 1:
            loss.backward()
            return loss.detach().float()
        total = loss.detach().float().clone()
        self._missing = [len(bucket) for bucket in self.buckets]
        self._messages: list[_Message] = []
        self._next, self._seen, self._loss, self.left = 0, 0, [total], []
        self._running = True
        try:
            loss.backward()
        finally:
            self._running = False
        while self._next < len(self.buckets):
            self._send()
        for message in self._messages:
            message.arrive()
        absent = {own for own in self._order if own.grad is None}
        if absent != self._absent:
            self._share_out(absent)
        return total

    def _came(self, parameter: Tensor) -> None:
        """The gradient of a parameter is whole: autograd adds those of all its uses first."""
        if self._running:
            self._seen += 1
            self._missing[self._bucket_of[parameter]] -= 1  # type: ignore[index]
            while self._next < len(self.buckets) and not self._missing[self._next]:
                self._send()

    def _send(self) -> None:
        """The next bucket leaves, the first one together with the loss."""
        tensors = self._loss + [own.grad for own in self.buckets[self._next] if own.grad is not None]
        if tensors:
            self._messages.append(_Message(tensors))
            self.left.append(self._seen)
        self._loss, self._next = [], self._next + 1


def launched() -> bool:
    """Whether torchrun, or something that sets the same environment variables, started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def process_count() -> int:
    """How many processes torchrun says there are, 1 without it. ValueError if that is no number."""
    return whole_number("WORLD_SIZE", 1, 1, 2**31)


def join(device: torch.device) -> tuple[Processes, torch.device]:
    """Join the process group that torchrun started: NCCL between GPUs, gloo otherwise.

    Args:
        device: where this run computes; of several GPUs each process takes the one of its local rank.

    Returns:
        The processes, and this one's device. (ALONE, device) if torchrun did not start this process.

    Raises:
        ValueError: an environment variable is none that torchrun sets; it is named.
        OSError: the processes do not find each other.
    """
    if not launched():
        return ALONE, device
    count = process_count()
    whole_number("RANK", 0, 0, count - 1)
    local = whole_number("LOCAL_RANK", 0, 0, (torch.cuda.device_count() if device.type == "cuda" else count) - 1)
    port = whole_number("MASTER_PORT", 29500, 1, 65535)
    if device.type == "cuda":
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        try:
            # PyTorch waits half an hour for missing processes, and hears no signal
            with handling(ENDING, signal.SIG_DFL):
                dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        except dist.DistError as error:
            said = " ".join(str(error).split())[:300]
            where = f"{os.environ.get('MASTER_ADDR', '')}:{port}"
            raise OSError(f"expected the first process at {where} (MASTER_ADDR, MASTER_PORT), got: {said}") from None
    return Processes(dist.get_rank(), dist.get_world_size()), device


def is_lost(error: RuntimeError) -> bool:
    """Whether an error means that another process of the group has ended, or cannot be reached any more."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def leave() -> None:
    """Destroy the process group, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
