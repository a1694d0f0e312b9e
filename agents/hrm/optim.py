"""Optimisers, the learning-rate schedule, gradient checks, and the moving average of weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def gradient_norm(gradients: Sequence[Tensor]) -> Tensor:
    """() float32 norm of all gradients taken together; not finite if any element is not."""
    if not gradients:
        return torch.zeros(())
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g.float()) for g in gradients]))


def check_finite(loss: Tensor, gradients: Sequence[Tensor], update: int, rest: str) -> float:
    """The gradient norm of an update, if it and the loss are finite.

    Args:
        loss: () mean loss of all processes.
        gradients: summed over all processes, so that all of them come to the same verdict.
        update: number of the update.
        rest: the end of the message: where to continue.

    Raises:
        FloatingPointError: something is not finite; the message names the update.
    """
    value, norm = torch.stack([loss.detach().float(), gradient_norm(gradients).to(loss.device)]).tolist()
    if not (math.isfinite(value) and math.isfinite(norm)):
        what = f"loss is {value}" if not math.isfinite(value) else f"gradient has the length {norm}"
        raise FloatingPointError(f"update {update} was not made: its {what}; {rest}")
    return float(norm)


def clip(gradients: Sequence[Tensor], norm: float, limit: float) -> None:
    """Scale gradients of norm `norm` down to the maximum gradient norm `limit`, in place; 0 is no limit."""
    if 0 < limit < norm:
        torch._foreach_mul_(list(gradients), limit / norm)


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
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state.update(step=0, exp_avg=torch.zeros_like(parameter), exp_avg_sq=torch.zeros_like(parameter))
        beta1, beta2 = group["betas"]
        state["step"] += 1
        state["exp_avg"].lerp_(parameter.grad, 1 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(parameter.grad, parameter.grad, value=1 - beta2)
        scale = state["exp_avg_sq"].sqrt().div_(math.sqrt(1 - beta2 ** state["step"]))
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.sub_(torch.atan2(state["exp_avg"], scale), alpha=group["lr"] / (1 - beta1 ** state["step"]))


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
            update = self._orthogonal if group["orthogonal"] else self._adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(update(parameter, group), alpha=group["lr"])

    def _orthogonal(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        state, momentum, gradient = self.state[parameter], group["momentum"], parameter.grad
        assert gradient is not None
        if not state:
            state["exp_avg"] = torch.zeros_like(parameter)
        state["exp_avg"].lerp_(gradient, 1 - momentum)
        ahead = gradient.lerp(state["exp_avg"], momentum)
        return orthogonalised(ahead).mul_(0.2 * max(parameter.shape) ** 0.5)

    def _adam(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        state, (beta1, beta2) = self.state[parameter], group["betas"]
        if not state:
            state.update(step=0, exp_avg=torch.zeros_like(parameter), exp_avg_sq=torch.zeros_like(parameter))
        state["step"] += 1
        state["exp_avg"].lerp_(parameter.grad, 1 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(parameter.grad, parameter.grad, value=1 - beta2)
        size = state["exp_avg_sq"].div(1 - beta2 ** state["step"]).sqrt_().add_(1e-8)
        return state["exp_avg"].div(1 - beta1 ** state["step"]).div_(size)


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
    """The rows of an embedding that a batch touched, and the gradient of each: no table of all rows is made.

    Args:
        ids: (B,) integers.
        gradients: (B, D), of the looked-up vectors.

    Returns:
        (R,) int64 rows in rising order, and (R, D) sums over boards of equal id.
    """
    rows, places = torch.unique(ids.long(), return_inverse=True)
    return rows, gradients.new_zeros(len(rows), gradients.shape[1]).index_add_(0, places, gradients)


@torch.no_grad()
def sign_sgd_rows(weights: Tensor, rows: Tensor, sums: Tensor, lr: float, weight_decay: float) -> None:
    """One SignSGD step with decoupled decay on the rows of the puzzle embedding that a batch touched.

    Args:
        weights: (N, D), changed in place; the other rows stay untouched, decay included.
        rows: (R,) int64, each once.
        sums: (R, D) gradients of these rows.
        lr: learning rate.
        weight_decay: decoupled decay.
    """
    weights[rows] = weights[rows] * (1 - lr * weight_decay) - lr * sums.sign()


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
        for name, average in self.shadow.items():
            average.lerp_(named[name], 1 - self.decay)

    def state_dict(self, model: nn.Module) -> dict[str, Tensor]:
        """The model's state with averaged parameters in place of its own, under every name that one of them has."""
        names: dict[int, str] = {id(parameter): name for name, parameter in model.named_parameters()}
        every = model.named_parameters(remove_duplicate=False)
        first = {name: names[id(parameter)] for name, parameter in every}
        averaged = {name: self.shadow[own] for name, own in first.items() if own in self.shadow}
        return {**model.state_dict(), **averaged}
