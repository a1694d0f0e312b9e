"""Optimisers, the learning-rate schedule, gradient checks, and the moving average of weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@torch.no_grad()
def gradient_norm(gradients: Sequence[Tensor]) -> Tensor:
    """() float32 norm of all gradients taken together; not finite if any element is not."""
    if not gradients:
        return torch.zeros(())
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm([g.float() for g in gradients])))


def check_finite(loss: float, norm: float, update: int, rest: str) -> None:
    """Refuse an update that is not made of numbers.

    Args:
        loss: mean loss of all processes.
        norm: of the gradient summed over all processes, so that all of them come to the same verdict.
        update: number of the update.
        rest: the end of the message: where to continue.

    Raises:
        FloatingPointError: something is not finite; the message names the update.
    """
    if not (math.isfinite(loss) and math.isfinite(norm)):
        what = f"loss is {loss}" if not math.isfinite(loss) else f"gradient has the length {norm}"
        raise FloatingPointError(f"update {update} was not made: its {what}; {rest}")


@torch.no_grad()
def clip(gradients: Sequence[Tensor], norm: Tensor, limit: float) -> None:
    """Scale gradients of norm `norm` () down to the maximum gradient norm `limit`, in place; 0 is no limit.

    The factor stays on the device; it is 1, which changes no bit, for gradients below the limit.
    """
    if limit > 0:
        wide = torch.float32 if norm.device.type == "mps" else torch.float64  # so that `limit` is not rounded
        factor = (torch.full_like(norm, limit, dtype=wide) / norm).clamp(max=1)
        torch._foreach_mul_(list(gradients), factor.to(norm.dtype))


@contextmanager
def undone_unless(fine: Tensor, tensors: Sequence[Tensor]) -> Iterator[None]:
    """Within the block `tensors` change; after it they are as before where `fine`, () bool, is False.

    The device decides, so that no host waits for it. A second copy of the tensors lies in memory meanwhile.
    """
    before = torch._foreach_clone(list(tensors))
    yield
    with torch.no_grad():
        for tensor, old in zip(tensors, before, strict=True):
            tensor.copy_(torch.where(fine, tensor, old))


class AdamATan2(torch.optim.Optimizer):
    """Adam whose update is an arctangent, free of epsilon and of scale (arXiv 2407.05872), in plain PyTorch.

    p <- p (1 - lr wd);  p <- p - lr / (1 - b1^t) * atan2(m, sqrt(v / (1 - b2^t))). The first bias correction stands
    outside the arctangent and no factor 1.27 is applied, as in the package the official HRM uses. Parameters without
    a gradient are left untouched, decay included.

    Args:
        params: parameters or groups.
        lr: learning rate, >= 0; the size of a step is at most about 1.57 times it.
        betas: decay of the two averages.
        weight_decay: decoupled decay.
    """

    def __init__(
        self, params: Any, lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.95), weight_decay: float = 0.1
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for step, parameters, means, squares in _moments(self, group):
                scales = torch._foreach_sqrt(squares)
                torch._foreach_div_(scales, math.sqrt(1 - beta2**step))
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                turns = [torch.atan2(mean, scale) for mean, scale in zip(means, scales, strict=True)]
                torch._foreach_add_(parameters, turns, alpha=-group["lr"] / (1 - beta1**step))


def _moments(
    optimizer: torch.optim.Optimizer, group: dict[str, Any]
) -> Iterator[tuple[int, list[Tensor], list[Tensor], list[Tensor]]]:
    """Move Adam's two averages of the parameters that have a gradient.

    Yields:
        The updates made, and lists of the parameters that made as many, their average gradients, and the average
        squares. It is one set of lists, unless some update left a parameter out.
    """
    by_step: dict[int, list[Tensor]] = {}
    for parameter in group["params"]:
        if parameter.grad is not None:
            state = optimizer.state[parameter]
            if not state:
                state.update(step=0, exp_avg=torch.zeros_like(parameter), exp_avg_sq=torch.zeros_like(parameter))
            state["step"] += 1
            by_step.setdefault(state["step"], []).append(parameter)
    beta1, beta2 = group["betas"]
    for step, parameters in by_step.items():
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        means, squares = ([optimizer.state[p][name] for p in parameters] for name in ("exp_avg", "exp_avg_sq"))
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)
        yield step, parameters, means, squares


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal, for the matrices inside a network; Adam for everything else.

    Orthogonal updates move all directions of a matrix equally (Muon, K. Jordan 2024), here at the size of Adam's
    (arXiv 2502.16982: 0.2 sqrt(max(rows, columns))), so that one learning rate serves both.

    Args:
        params: groups; those with `orthogonal=True` hold matrices.
        lr: learning rate, >= 0.
        betas: decay of Adam's averages.
        momentum: decay of the matrices' average gradient, with Nesterov's look ahead.
        weight_decay: decoupled decay.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        momentum: float = 0.95,
        weight_decay: float = 0.1,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "momentum": momentum, "weight_decay": weight_decay, "orthogonal": False}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameters, updates in self._orthogonal(group) if group["orthogonal"] else self._adam(group):
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(parameters, updates, alpha=-group["lr"])

    def _orthogonal(self, group: dict[str, Any]) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
        parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["exp_avg"] = torch.zeros_like(parameter)
        if parameters:
            means, gradients = [self.state[p]["exp_avg"] for p in parameters], [p.grad for p in parameters]
            torch._foreach_lerp_(means, gradients, 1 - group["momentum"])
            ahead = torch._foreach_lerp(gradients, means, group["momentum"])
            yield parameters, [orthogonalised(own).mul_(0.2 * max(own.shape) ** 0.5) for own in ahead]

    def _adam(self, group: dict[str, Any]) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
        beta1, beta2 = group["betas"]
        for step, parameters, means, squares in _moments(self, group):
            sizes = torch._foreach_div(squares, 1 - beta2**step)
            torch._foreach_sqrt_(sizes)
            torch._foreach_add_(sizes, 1e-8)
            updates = torch._foreach_div(means, 1 - beta1**step)
            torch._foreach_div_(updates, sizes)
            yield parameters, list(updates)


def muon_for(named: Sequence[tuple[str, nn.Parameter]], **settings: Any) -> tuple[Muon, list[tuple[str, nn.Parameter]]]:
    """`Muon` for an HRM, of which it makes the levels' matrices orthogonal.

    Args:
        named: what is trained.
        **settings: learning rate and the like.

    Returns:
        The optimiser, and the parameters in the order in which it keeps its state.
    """
    inside = [(name, p) for name, p in named if p.ndim == 2 and "level." in name]
    rest = [(name, p) for name, p in named if not (p.ndim == 2 and "level." in name)]
    groups: list[dict[str, Any]] = [
        {"params": [p for _, p in inside], "orthogonal": True},
        {"params": [p for _, p in rest]},
    ]
    return Muon(groups, **settings), inside + rest


def orthogonalised(matrix: Tensor, iterations: int = 5) -> Tensor:
    """The nearest matrix whose singular values all lie near 1, float32, by Newton-Schulz iterations of fifth order.

    Args:
        matrix: (M, N).
        iterations: five bring singular values above a hundredth of the norm to between 0.7 and 1.2.
    """
    x = matrix.float() / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(iterations):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T.contiguous() if tall else x


@torch.no_grad()
def sum_by_row(ids: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of each row of an embedding that a batch touched: no table of all rows, no read by the host.

    Args:
        ids: (B,) integers, rows of the embedding.
        gradients: (B, D), of the looked-up vectors.

    Returns:
        (B,) int64, which of the distinct rows in rising order each id is; and (B, D) their gradients, sums over boards
        of equal id, with zeros behind those of the last row.
    """
    ordered, order = ids.sort(stable=True)
    ranks = F.pad((ordered[1:] != ordered[:-1]).cumsum(0), (1, 0))
    places = torch.empty_like(order).scatter_(0, order, ranks)
    return places, torch.zeros_like(gradients).index_add_(0, places, gradients)


@torch.no_grad()
def sign_sgd_rows(
    weights: Tensor, rows: Tensor, gradients: Tensor, lr: float, weight_decay: float, fine: Tensor | None = None
) -> None:
    """One SignSGD step with decoupled decay on the rows of the puzzle embedding that a batch touched.

    Args:
        weights: (N, D), changed in place; the other rows stay untouched, decay included.
        rows: (R,) integers; those that are there more than once have equal gradients.
        gradients: (R, D) gradients of these rows.
        lr: learning rate.
        weight_decay: decoupled decay.
        fine: () bool, whether the step is made; None for yes.
    """
    rows = rows.long()
    before = weights[rows]
    after = before * (1 - lr * weight_decay) - lr * gradients.sign()
    weights[rows] = after if fine is None else torch.where(fine, after, before)


def learning_rate(
    update: int, base: float, warmup: int, total: int, min_ratio: float = 1.0, decay: str = "cosine"
) -> float:
    """Learning rate of optimiser update number `update`, counted from 1.

    Linear to `base` over `warmup` updates, then from `base` to `min_ratio * base` at `total`: along a cosine
    ("cosine", the official one) or a straight line ("linear"). `min_ratio=1` keeps it constant.
    """
    if update < warmup:
        return base * update / max(1, warmup)
    progress = min(1.0, (update - warmup) / max(1, total - warmup))
    shape = 0.5 * (1 + math.cos(math.pi * progress)) if decay == "cosine" else 1 - progress
    return base * (min_ratio + (1 - min_ratio) * max(0.0, shape))


class EMA:
    """Exponential moving average of parameters, from the first update, without bias correction (as TRM has it).

    Attributes:
        decay: weight of the old average, in [0, 1).
        shadow: name -> averaged tensor.
    """

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], decay: float) -> None:
        self.decay = decay
        self.shadow = {name: parameter.detach().clone() for name, parameter in parameters}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's parameters."""
        named = dict(model.named_parameters())
        torch._foreach_lerp_(list(self.shadow.values()), [named[name] for name in self.shadow], 1 - self.decay)

    def state_dict(self, model: nn.Module) -> dict[str, Tensor]:
        """The model's state with averaged parameters in place of its own, under every name that one of them has."""
        names: dict[int, str] = {id(parameter): name for name, parameter in model.named_parameters()}
        every = model.named_parameters(remove_duplicate=False)
        first = {name: names[id(parameter)] for name, parameter in every}
        averaged = {name: self.shadow[own] for name, own in first.items() if own in self.shadow}
        return {**model.state_dict(), **averaged}
