"""What stands between a bad gradient and the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def gradient_norm(gradients: Sequence[Tensor]) -> Tensor:
    """() float32 length of all gradients taken together; not finite if any element is not."""
    if not gradients:
        return torch.zeros(())
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g.float()) for g in gradients]))


def check_finite(loss: Tensor, gradients: Sequence[Tensor], update: int, rest: str) -> float:
    """The length of the gradients of an update, if it and the loss are finite.

    Args:
        loss: () mean loss of all processes.
        gradients: summed over all processes, so that all of them come to the same verdict.
        update: number of the update.
        rest: the end of the message: where to go on.

    Raises:
        FloatingPointError: something is not finite; the message names the update.
    """
    value, norm = torch.stack([loss.detach().float(), gradient_norm(gradients).to(loss.device)]).tolist()
    if not (math.isfinite(value) and math.isfinite(norm)):
        what = f"loss is {value}" if not math.isfinite(value) else f"gradient has the length {norm}"
        raise FloatingPointError(f"update {update} was not made: its {what}; {rest}")
    return float(norm)


def clip(gradients: Sequence[Tensor], norm: float, limit: float) -> None:
    """Shorten gradients of length `norm` to `limit` in place, if they are longer and there is a limit (> 0)."""
    if 0 < limit < norm:
        torch._foreach_mul_(list(gradients), limit / norm)
