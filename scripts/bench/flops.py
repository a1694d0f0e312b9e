"""Floating-point operations of a segment, counted from what PyTorch runs: 2 for a multiply-add, attention included.

`hrm-gym bench --only flops`: operations a second that the training of a recipe achieves, and their share of the peak.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch.utils.flop_counter import FlopCounterMode

from hrm_gym.agents.devices import choose_device
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.recipes import Recipe, find_recipe
from hrm_gym.agents.hrm.trainer import Trainer
from hrm_gym.scripts.options import Json, RunOptions, Switch, arg, at_least, parse
from hrm_gym.scripts.output import machine, write_json


def segment_flops(config: HRMConfig, training: bool = False, target: bool = True) -> int:
    """Operations that one board costs in one segment. Nothing is computed: shapes are enough.

    Args:
        config: the network.
        training: with the backward pass, which goes through as many updates as `HRMConfig.gradient` says.
        target: in training, with the extra forward pass for the target of Q(continue), where it is trained at all.

    >>> round(segment_flops(HRMConfig(vocab_size=11, grid=(9, 9)), training=True) / 1e9, 1)
    36.7
    """
    config = dataclasses.replace(config, puzzle_count=1)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = HRM(config)
        tokens, ids = torch.zeros(1, config.cells, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
        with torch.set_grad_enabled(training):
            result = model.segment(model.initial_carry(1), tokens, ids)
        if training:
            (result.logits.float().sum() + result.q_halt.sum() + result.q_continue.sum()).backward()
    forward_again = training and target and config.halting == "q_learning"
    return counter.get_total_flops() + (segment_flops(config) if forward_again else 0)


TERA = 1e12


@dataclass(frozen=True)
class Flops(RunOptions):
    """Train for some updates and count: boards x segments a second, TFLOP/s (2 for a multiply-add, attention included,
    nothing counted twice), and the share of the peak, the fastest of some large matrix products in the same precision.

    Attributes:
        recipe: Whose training, with all that belongs to an update: puzzles, augmentation, optimiser.
        batch: Boards.
        puzzles: Train on N puzzles.
        updates: Updates that are clocked.
        warmup: Updates before that, compilation included.
        no_compile: Do not compile the network.
        json: Write the figures to this file.
    """

    EXAMPLES = ("hrm-gym bench --only flops", "hrm-gym bench --only flops maze-hard-1k --batch 8 --updates 5")
    recipe: Annotated[tyro.conf.Positional[str], arg("[RECIPE]", "sudoku-extreme-1k")] = "sudoku-extreme-1k"
    batch: Annotated[int | None, arg("B", "the recipe's")] = None
    puzzles: Annotated[int | None, arg("N", "the recipe's")] = None
    updates: int = 30
    warmup: int = 5
    no_compile: Switch = False
    json: Json = None


def main(argv: Sequence[str]) -> None:
    """Run `hrm-gym bench --only flops`."""
    config = parse(Flops, "hrm-gym bench --only flops", argv)
    config.use_threads()
    at_least(1, config, "updates", "warmup", "batch")
    recipe = find_recipe(config.recipe)
    given: dict[str, Any] = {"batch_size": config.batch, "puzzles": config.puzzles}
    recipe = dataclasses.replace(recipe, **{name: value for name, value in given.items() if value is not None})
    found = measure(config, recipe, choose_device(config.device))
    print(
        f"{config.recipe}, batch {recipe.batch_size}, {found['device']}: {found['boards_per_second']:,.0f} boards x "
        f"segments a second, {found['tflops']:.3g} TFLOP/s = {found['share']:.1%} of the measured peak of "
        f"{found['peak_tflops']:.3g} ({recipe.model.dtype})"
    )
    if config.json is not None:
        write_json({"machine": machine(), "recipe": config.recipe, **found}, config.json)


def measure(config: Flops, recipe: Recipe, device: torch.device) -> dict[str, Any]:
    """The figures of one recipe on a device."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(recipe, Path(folder), str(device), not config.no_compile)
        for _ in range(config.warmup):
            trainer.step()
        _wait(device)
        begin = time.perf_counter()
        for _ in range(config.updates):
            trainer.step()
        _wait(device)
        seconds = time.perf_counter() - begin
    boards = config.updates * recipe.batch_size / seconds
    tflops = boards * flops_of_an_update(recipe) / TERA
    peak = measured_peak(device, getattr(torch, recipe.model.dtype)) / TERA
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "device": name, "batch": recipe.batch_size, "dtype": recipe.model.dtype, "boards_per_second": boards,
        "gflop_per_board": flops_of_an_update(recipe) / 1e9, "tflops": tflops, "peak_tflops": peak,
        "share": tflops / peak,
    }  # fmt: skip


def flops_of_an_update(recipe: Recipe) -> float:
    """Operations of an update, a board: its segment, silent ones before it, and its share of the targets' passes."""
    model, once = recipe.model, segment_flops(recipe.model)
    learning = segment_flops(model, training=True, target=False)
    targets = once / recipe.continue_every if model.halting == "q_learning" else 0.0
    return learning + recipe.silent_segments * once + targets


def measured_peak(device: torch.device, dtype: torch.dtype, seconds: float = 1.0) -> float:
    """The most operations a second in square matrix products of some sizes."""
    best = 0.0
    for size in (4096, 8192, 16384) if device.type == "cuda" else (512, 1024):
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        torch.matmul(a, b)
        _wait(device)
        begin, products = time.perf_counter(), 0
        while products == 0 or time.perf_counter() - begin < seconds:
            for _ in range(10 if device.type == "cuda" else 1):
                torch.matmul(a, b)
                products += 1
            _wait(device)
        best = max(best, products * 2 * size**3 / (time.perf_counter() - begin))
    return best


def _wait(device: torch.device) -> None:
    """Let the device finish what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
