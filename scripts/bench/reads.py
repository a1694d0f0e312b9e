"""What a training step asks of the host, counted without a GPU: reads of the device, operators, bytes copied.

`hrm-gym bench --only reads`: tensors claim to lie on a device (PyTorch's meta device stands for it) and compute on the
CPU, so that everything that passes between the two is seen. Counts are exact; nothing is clocked.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from hrm_gym.agents.hrm.recipes import Recipe, find_recipe
from hrm_gym.agents.hrm.trainer import Trainer
from hrm_gym.scripts.options import Json, arg, at_least, parse
from hrm_gym.scripts.output import machine, new_table, show, write_json

DEVICE = torch.device("meta")
"""Stands for the device: autograd works there without a driver, and nothing else here uses it."""

_ATEN = torch.ops.aten
_SIZES = {_ATEN.nonzero, _ATEN.unique_dim, _ATEN._unique2, _ATEN._unique, _ATEN.unique_consecutive, _ATEN.masked_select}
"""Operators whose result has a size that the host has to read."""


class Distant(Tensor):
    """A tensor that claims to lie on `DEVICE`; its numbers are in `own`, on the CPU."""

    own: Tensor

    @staticmethod
    def __new__(cls, own: Tensor) -> Distant:
        """Wrap a tensor."""
        made = Tensor._make_wrapper_subclass(
            cls,
            own.shape,
            strides=own.stride(),
            storage_offset=own.storage_offset(),
            dtype=own.dtype,
            device=DEVICE,
        )
        made.own = own
        return made

    def tolist(self) -> Any:
        """The numbers, copied to the host first, as PyTorch does it with tensors of a device."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Only `Traffic` knows how to compute with it."""
        raise RuntimeError(f"{function} on a distant tensor outside of `Traffic`")


class Traffic(TorchDispatchMode):
    """Counts what passes between host and device while it is active.

    Attributes:
        seen: "reads" that the host waits for, "operators" on the device (views not counted), and bytes "up" to the
            device and "down" from it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute on the CPU what is asked of either, and count."""
        kwargs = dict(kwargs or {})
        distant = [part for part in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(part, Distant)]
        goes = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
        if goes == DEVICE:
            kwargs["device"] = torch.device("cpu")
        result = function(*tree_map(_near, args), **tree_map(_near, kwargs))
        if not distant and goes != DEVICE:
            return result
        packet = function.overloadpacket
        if packet is _ATEN._local_scalar_dense or (distant and goes is not None and goes.type == "cpu"):
            self._read(result)
            return result
        if packet in _SIZES or (packet in (_ATEN.index, _ATEN.index_put, _ATEN.index_put_) and _masks(args[1])):
            self._read(None)
        if not distant and isinstance(args[0] if args else None, Tensor):
            self.seen["up"] += args[0].nbytes
        if packet is _ATEN.copy_ and not isinstance(args[1], Distant):
            self.seen["up"] += args[1].nbytes
        if packet is _ATEN.copy_ and not isinstance(args[0], Distant):
            self._read(args[1].own)
            return args[0]
        self.seen["operators"] += not function.is_view and packet is not _ATEN.detach
        known = {id(part.own): part for part in distant}
        return tree_map(lambda part: known.get(id(part), _far(part)), result)

    def _read(self, result: Any) -> None:
        self.seen["reads"] += 1
        self.seen["down"] += result.nbytes if isinstance(result, Tensor) else 8


def _near(part: Any) -> Any:
    return part.own if isinstance(part, Distant) else part


def _far(part: Any) -> Any:
    return Distant(part) if isinstance(part, Tensor) else part


def _masks(indices: Sequence[Tensor | None]) -> bool:
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


THREE = ("sudoku-4x4", "maze", "arc-colours")


@dataclass(frozen=True)
class Reads:
    """Count what training steps ask of the host: reads that it waits for, operators launched, and bytes copied.

    Attributes:
        recipes: Whose training.
        updates: Updates that are counted.
        warmup: Updates before that.
        json: Write the figures to this file.
    """

    EXAMPLES = ("hrm-gym bench --only reads", "hrm-gym bench --only reads sudoku-4x4 --updates 64")
    recipes: Annotated[
        tyro.conf.Positional[tuple[str, ...]], arg("[RECIPE …]", "a Sudoku, a maze and an ARC recipe")
    ] = THREE
    updates: int = 32
    warmup: int = 4
    json: Json = None


def main(argv: Sequence[str]) -> None:
    """Run `hrm-gym bench --only reads`."""
    config = parse(Reads, "hrm-gym bench --only reads", argv)
    at_least(1, config, "updates")
    recipes = {name: find_recipe(name) for name in config.recipes}
    table = new_table("a training step", "", "host reads", "operators", "bytes to the device", "bytes from it")
    figures = {}
    for name, recipe in recipes.items():
        figures[name] = found = measure(recipe, config.updates, config.warmup)
        table.add_row(name, *(f"{found[key]:,.4g}" for key in ("reads", "operators", "up", "down")))
    show(table)
    if config.json is not None:
        write_json({"machine": machine(), "updates": config.updates, "recipes": figures}, config.json)


def measure(recipe: Recipe, updates: int, warmup: int) -> dict[str, float]:
    """Counts of a mean update: host reads, operators on the device, bytes up to it and down from it."""
    recipe = dataclasses.replace(recipe, updates=updates + warmup, init="")
    with tempfile.TemporaryDirectory() as folder, Traffic() as traffic:
        trainer = Trainer(recipe, Path(folder), str(DEVICE))
        for _ in range(warmup):
            trainer.step()
        traffic.seen.clear()
        for _ in range(updates):
            trainer.step()
    return {name: traffic.seen[name] / updates for name in ("reads", "operators", "up", "down")}
