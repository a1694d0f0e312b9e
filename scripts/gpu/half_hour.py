"""Half an hour of a GPU, a call of at most ten minutes at a time: `python -m hrm_gym.scripts.gpu.half_hour --help`."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from hrm_gym.agents.devices import choose_device
from hrm_gym.agents.hrm import thinking
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.halting import Fixed
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.recipes import RECIPES, Recipe
from hrm_gym.agents.hrm.trainer import EVAL_BOARDS, Trainer
from hrm_gym.evaluation.intervals import wilson
from hrm_gym.files import write_atomically
from hrm_gym.scripts.bench.flops import Flops, measure
from hrm_gym.scripts.options import parse

Call = Literal["pack", "parity", "speed", "sudoku", "own", "maze", "arc"]

TRAININGS = {"sudoku": "sudoku-extreme-1k", "own": "sudoku-own", "maze": "maze-hard-1k", "arc": "arc-1"}
"""The recipe of each training call."""

THERE = ("torch", "numba", "llvmlite", "numpy", "triton", "nvidia", "sympy", "mpmath", "networkx", "setuptools")
"""Packages that a machine with PyTorch and numba has, or that only playing needs; nothing of them is packed."""

MOST_PACKED = 60 * 2**20
"""Bytes of wheels that may be carried to the machine."""

FIXED = 16
"""Segments of the official evaluation, which halts nobody earlier."""


@dataclasses.dataclass(frozen=True)
class HalfHourConfig:
    """One call of a half hour on a GPU. Calls that train continue where the last one stopped, if its folder is there.

    In order of what they are worth: pack (before, on a machine with a network: the wheels that the other has not),
    parity, speed, sudoku (several calls: the paper's recipe takes about 40 minutes of an H100 at 40 % of its peak),
    own, maze, arc.

    Attributes:
        call: pack, parity, speed, sudoku, own, maze or arc.
        out: Folder for figures, one JSON a call, and for small weights.
        run: Folder of runs with checkpoints, which stay on the machine.
        minutes: Wall time of a call that trains; evaluation and start-up come on top of it.
        held_out: Held-out puzzles of an evaluation.
        device: auto, cpu, cuda or mps.
        dry: Tiny sizes: whether the call works, in seconds on a CPU.
    """

    call: Annotated[Call, tyro.conf.Positional]
    out: Path = Path("half-hour")
    run: Path = Path("runs/half-hour")
    minutes: float = 7.0
    held_out: int = 10_000
    device: str = "auto"
    dry: bool = False


def main(argv: Sequence[str]) -> int:
    """Run one call; its figures are `OUT/CALL.json`.

    Returns:
        0.

    Raises:
        ValueError: a bad setting, or more wheels than may be carried.
    """
    config = parse(HalfHourConfig, "half_hour", argv)
    if config.minutes <= 0 or config.held_out < 1:
        raise ValueError(f"expected --minutes and --held-out above 0, got {config.minutes} and {config.held_out}")
    calls: dict[str, Callable[[HalfHourConfig, torch.device], dict[str, Any]]] = {
        "pack": pack, "parity": parity, "speed": speed, **dict.fromkeys(TRAININGS, train)
    }  # fmt: skip
    device = choose_device(config.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    found = calls[config.call](config, device)
    about = {"call": config.call, "dry": config.dry, "device": name, "torch": torch.__version__}
    write_atomically(
        config.out / f"{config.call}.json",
        json.dumps({**about, "date": date.today().isoformat(), **found}, indent=1) + "\n",
    )
    print(json.dumps(found, indent=1))
    return 0


def pack(config: HalfHourConfig, device: torch.device) -> dict[str, Any]:
    """Fetch the wheels of what training needs in addition to `THERE`, for Python 3.12 on Linux."""
    wanted: set[str] = set()
    queue = ["hrm-gym"]
    while queue:
        for line in importlib.metadata.requires(queue.pop()) or ():
            name = re.split(r"[ ;<>=!~\[(]", line, maxsplit=1)[0]
            if "extra ==" not in line and not name.startswith(THERE) and name not in wanted:
                wanted.add(name)
                queue.append(name) if _installed(name) else None
    names = sorted(name for name in wanted if _installed(name))
    folder = config.out / "wheels"
    if not config.dry:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(folder)]
        subprocess.run([*command, "--python-version", "3.12", "--platform", "manylinux2014_x86_64", *names], check=True)
    size = sum(file.stat().st_size for file in folder.glob("*.whl"))
    if size > MOST_PACKED:
        raise ValueError(f"expected at most {MOST_PACKED / 2**20:.0f} MiB of wheels, got {size / 2**20:.0f}")
    return {"wheels": names, "mebibytes": size / 2**20}


def _installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def parity(config: HalfHourConfig, device: torch.device) -> dict[str, Any]:
    """The same weights and boards on the CPU in float32 and on the device in both precisions, four segments.

    Returns:
        Largest differences of logits and Q-values, by precision; the golden numbers of the official code are
        `pytest tests/agents/hrm/test_parity.py`.
    """
    model = HRM.from_state(dataclasses.replace(_recipe("sudoku", config.dry).model, dtype="float32"))
    torch.nn.init.normal_(model.get_parameter("q_head.weight"), std=0.02)
    random = torch.Generator().manual_seed(0)
    boards = torch.randint(1, model.config.vocab_size, (8, model.config.cells), generator=random)
    expected = _segments(model, boards)
    found = {}
    for dtype in ("float32", "bfloat16"):
        other = model.with_config(dtype=dtype).to(device)
        given = _segments(other, boards.to(device))
        pairs = {name: zip(expected[name], given[name], strict=True) for name in expected}
        found[dtype] = {name: max(float((a - b.cpu()).abs().max()) for a, b in both) for name, both in pairs.items()}
    return {"largest_difference": found}


@torch.no_grad()
def _segments(model: HRM, boards: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    carry, found = model.initial_carry(len(boards)), {"logits": [], "q_halt": []}  # type: ignore[var-annotated]
    for _ in range(4):
        result = model.segment(carry, boards, torch.zeros(len(boards), dtype=torch.int64, device=boards.device))
        carry = result.carry
        found["logits"].append(result.logits.float())
        found["q_halt"].append(result.q_halt)
    return found


def speed(config: HalfHourConfig, device: torch.device) -> dict[str, Any]:
    """Share of the peak in training, and the dearest operations of an update."""
    recipe = _recipe("sudoku", config.dry)
    few = Flops(updates=2 if config.dry else 30, warmup=1 if config.dry else 5)
    found = measure(few, recipe, device)
    trainer = Trainer(recipe, config.run / "profile", str(device), compile=not config.dry)
    for _ in range(2):
        trainer.step()
    kinds = [torch.profiler.ProfilerActivity.CPU]
    kinds += [torch.profiler.ProfilerActivity.CUDA] if device.type == "cuda" else []
    with torch.profiler.profile(activities=kinds) as profile:
        trainer.step()
    own = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    rows = sorted(profile.key_averages(), key=lambda row: -getattr(row, own))[:3]
    return {**found, "dearest": {row.key: getattr(row, own) / 1000 for row in rows}, "dearest_unit": "ms an update"}


def train(config: HalfHourConfig, device: torch.device) -> dict[str, Any]:
    """Train for the minutes of this call, save, and judge the weights so far: own decision, and fixed 16 segments."""
    recipe = _recipe(config.call, config.dry)
    trainer = Trainer(recipe, config.run / config.call, str(device), compile=not config.dry)
    end = time.monotonic() + 60 * config.minutes
    for row in trainer.fit():
        print(f"update {row['update']} of {recipe.updates}: loss {row['loss']:.4f}", flush=True)
        if time.monotonic() > end:
            trainer.stopping = 1  # the trainer saves and returns
    model = HRM.from_state(recipe.model, trainer.weights()).to(device)
    count = 8 if config.dry else config.held_out
    own = exact = 0
    for first in range(0, count, EVAL_BOARDS):
        some = min(EVAL_BOARDS, count - first)
        own += int(trainer.group.held_out_rows(model, first, some)[:, 1].sum())
        batch = trainer.feed.held_out.take(first, some)
        found = thinking.solve(model, *trainer.feed.held_out_boards(batch), FIXED, Fixed(FIXED))
        exact += int((found.answers.cpu().numpy().reshape(batch.clues.shape) == batch.solutions).all(axis=(1, 2)).sum())
    if recipe.model.hidden_size < 128:  # the 27M network is too large to be carried back
        trainer.export()
    return {
        "recipe": recipe.to_json(), "update": trainer.update, "seconds": trainer.seconds, "held_out": count,
        "own_exact": own / count, "own_interval": wilson(own, count),
        "fixed_16_exact": exact / count, "fixed_16_interval": wilson(exact, count),
    }  # fmt: skip


def _recipe(call: str, dry: bool) -> Recipe:
    recipe = RECIPES[TRAININGS[call]]
    if not dry:
        return recipe
    model: HRMConfig = recipe.model
    if model.mixer == "attention":
        model = dataclasses.replace(model, hidden_size=32, heads=2, h_layers=1, l_layers=1, dtype="float32")
    model = dataclasses.replace(model, max_segments=2)
    puzzles = 8 if recipe.puzzles else 0
    return dataclasses.replace(
        recipe,
        model=model,
        puzzles=puzzles,
        batch_size=2,
        updates=3,
        eval_puzzles=2,
        test_puzzles=2,
        variants=min(2, recipe.variants),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
