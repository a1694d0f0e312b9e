"""Half an hour of a GPU, a call of at most ten minutes at a time: `python -m hrm_gym.scripts.gpu.half_hour --help`."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro

from hrm_gym.agents.checkpoint import write_folder
from hrm_gym.agents.devices import choose_device
from hrm_gym.agents.hrm import thinking
from hrm_gym.agents.hrm.accelerate import accelerate
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.feed import environment, training_source
from hrm_gym.agents.hrm.memory import solving_batch
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.official.weights import load_official
from hrm_gym.agents.hrm.recipes import RECIPES, Recipe
from hrm_gym.agents.hrm.run_folder import CURVE, write_model
from hrm_gym.agents.hrm.trainer import EVAL_BOARDS, Trainer
from hrm_gym.data.build import DatasetBuild, Plan, Workplace
from hrm_gym.data.folder import write_dataset, write_manifest
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.puzzle import PuzzleBatch, PuzzleSource
from hrm_gym.evaluation.intervals import wilson
from hrm_gym.files import held, remove, write_atomically
from hrm_gym.scripts.bench.flops import Flops, measure
from hrm_gym.scripts.main import run
from hrm_gym.scripts.options import parse

Call = Literal["pack", "parity", "speed", "sudoku", "own", "maze", "arc"]

CPU_BUDGET = (15_000 + 40_000) * 16 + 7_500 * 16 * 4
"""Boards x segments of the three trainings that made the bundled Sudoku network (its card)."""

BATCH = 1024
OWN = dataclasses.replace(
    RECIPES["sudoku-longer"],
    init="",
    batch_size=BATCH,
    updates=math.ceil(100 * CPU_BUDGET / (BATCH * RECIPES["sudoku-longer"].gradient_segments)),
    lr=1e-2,
    warmup=500,
    seed=0,
)
"""The bundled Sudoku network from random weights at 100 times its CPU budget: bfloat16 as there, 64 times the boards an
update (about 24 GB), so that launching kernels takes the least part of it, and a rate a little above that of the first
run. Batch and rate were not tried: there was no GPU."""

TRAININGS = {
    "sudoku": RECIPES["sudoku-extreme-1k"],
    "own": OWN,
    "maze": RECIPES["maze-hard-1k"],
    "arc": RECIPES["arc-1"],
}
"""The recipe of each training call."""

TOTAL = {"own": 14.0}
"""Minutes of a whole training, all its calls together, whose learning rate has to come down by then."""

LIMIT = {"own": 64}
"""Segments within which the own decision has to halt, where those are not the official evaluation's."""

PACKED: dict[Call, tuple[int, int]] = {"sudoku": (1000, 10_000), "own": (100_000, 2000)}
"""Puzzles to learn from and held-out ones that `pack` makes: an extreme Sudoku takes a CPU core 30 ms."""

THERE = ("torch", "numba", "llvmlite", "numpy", "triton", "nvidia", "sympy", "mpmath", "networkx", "setuptools")
"""Packages that a machine with PyTorch and numba has, or that only playing needs; nothing of them is packed."""

PLATFORM = ("--python-version", "3.12", "--platform", "manylinux2014_x86_64", "--platform", "manylinux_2_28_x86_64")
"""For which machine wheels are packed."""

MOST_PACKED = 60 * 2**20
"""Bytes of wheels that may be carried to the machine."""

MOST_WRITTEN = 16 * 2**20
"""Bytes of weights that a call may leave in its folder."""

FIXED = 16
"""Segments of the official evaluation, which halts nobody earlier."""

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "agents" / "hrm" / "golden"
"""Numbers of the official code, in a checkout."""


@dataclasses.dataclass(frozen=True)
class HalfHourConfig:
    """One call of a half hour on a GPU. Calls that train continue where the last one stopped, if its folder is there.

    In order of what they are worth: pack (before, on a machine with a network and hours of CPU: the wheels that the
    other has not, and puzzles), parity, speed, sudoku (several calls: the paper's recipe takes about 40 minutes of an
    H100 at 40 % of its peak), own, maze, arc.

    Attributes:
        call: pack, parity, speed, sudoku, own, maze or arc.
        out: Folder for figures, one JSON a call, small weights, and what `pack` made.
        run: Folder of runs with checkpoints, which stay on the machine.
        minutes: Wall time of a call that trains; evaluation and start-up come on top of it.
        held_out: Held-out puzzles of an evaluation, as far as there are so many.
        processes: Processes that make puzzles; all cores but one by default.
        device: auto, cpu, cuda or mps.
        dry: Tiny sizes: whether the call works, in seconds on a CPU.
    """

    call: Annotated[Call, tyro.conf.Positional]
    out: Path = Path("half-hour")
    run: Path = Path("runs/half-hour")
    minutes: float = 7.0
    held_out: int = 10_000
    processes: int = max(1, (os.cpu_count() or 1) - 1)
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
    if config.minutes <= 0 or min(config.held_out, config.processes) < 1:
        given = f"{config.minutes}, {config.held_out} and {config.processes}"
        raise ValueError(f"expected --minutes, --held-out and --processes above 0, got {given}")
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
    """Fetch the wheels of what training needs in addition to `THERE`, for Python 3.12 on Linux, and make puzzles.

    Given again it continues: puzzles that are there are not made again. A dry run fetches nothing, and computes how
    large the whole would be: from what is installed, compressed as in a wheel, and from as many blank puzzles.

    Returns:
        Names of the wheels, numbers of puzzles, and the size of all.

    Raises:
        ValueError: it is more than `MOST_PACKED`.
    """
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
        done = subprocess.run([*command, *PLATFORM, *names])
        if done.returncode:  # pip has said why
            raise OSError(f"expected pip to fetch wheels into {folder}, got its exit code {done.returncode}")
    for call in PACKED:
        make_puzzles(config, call)
    if config.dry:
        size = sum(map(_compressed, names)) + sum(map(_puzzle_bytes, PACKED))
    else:
        size = _bytes(folder) + _bytes(config.out / "data")
    if size > MOST_PACKED:
        raise ValueError(f"expected at most {MOST_PACKED / 2**20:.0f} MiB to be carried, got {size / 2**20:.0f}")
    return {"wheels": names, "puzzles": PACKED, "mebibytes": size / 2**20}


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _compressed(name: str) -> int:
    """Bytes of an installed package's files, each compressed."""
    distribution = importlib.metadata.distribution(name)
    files = [Path(str(distribution.locate_file(file))) for file in distribution.files or ()]
    return sum(len(zlib.compress(file.read_bytes())) for file in files if file.is_file() and file.suffix != ".pyc")


def _puzzle_bytes(call: Call) -> int:
    """Bytes of as many puzzles as `pack` makes for a call."""
    with tempfile.TemporaryDirectory() as folder:
        for split, count in zip(("train", "test"), PACKED[call], strict=True):
            grids = np.zeros((count, *TRAININGS[call].model.grid), np.uint8)
            batch = PuzzleBatch(grids, grids, np.zeros(count, np.int32))
            write_dataset(Path(folder), split, [(batch, np.ones(count, np.int64))], TRAININGS[call].model.vocab_size)
        return _bytes(Path(folder))


def make_puzzles(config: HalfHourConfig, call: Call) -> None:
    """Make the puzzles of a training call, those of its recipe's own sources, as a folder in the official layout."""
    folder, recipe = config.out / "data" / call, dataclasses.replace(TRAININGS[call], puzzles=0, variants=0)
    if folder.exists():
        return
    counts = dict(zip(("train", "test"), (4, 4) if config.dry else PACKED[call], strict=True))
    family = training_source(recipe)[0]
    place = Workplace(folder, {"call": call, **counts})
    with held(place.path):
        _make(place, family, recipe, counts, 1 if config.dry else config.processes)


def _make(place: Workplace, family: PuzzleFamily, recipe: Recipe, counts: dict[str, int], processes: int) -> None:
    work = DatasetBuild(Plan(family, functools.partial(source_of, recipe), counts, recipe.seed, 4), place)
    for done in work.run(processes):
        print(f"\r{place.folder.name}: {done:,} of {sum(counts.values()):,} puzzles", end="", file=sys.stderr)
    print(file=sys.stderr)
    records: dict[str, Any] = {}
    remove(place.path / "whole")  # of a process that was killed
    for split in counts:
        groups = ((batch, np.ones(len(batch), np.int64)) for batch in work.batches(split))
        records[split] = write_dataset(place.path / "whole", split, groups, family.vocab_size)
    about = {"family": family.name, "grid": list(recipe.model.grid), "kind": recipe.env_id, "seed": recipe.seed}
    write_manifest(place.path / "whole", {**about, "arguments": recipe.env}, records)
    place.finish(place.path / "whole")


def source_of(recipe: Recipe, split: str) -> PuzzleSource:
    """New puzzles of a split: the recipe's own to learn from, and the environment's to be judged by."""
    return training_source(recipe)[1] if split == "train" else environment(recipe, split)[1]


def _installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def parity(config: HalfHourConfig, device: torch.device) -> dict[str, Any]:
    """The official code's numbers, and the paper's network on the CPU, against the device in both precisions.

    Returns:
        Largest differences of logits and Q(halt) over four segments, by precision: `golden` by network, where the
        golden numbers are (in a checkout), and `largest_difference` from this CPU's. The tests accept 2e-4 for "hrm"
        and 2e-5 for "trm_att" in float32; 0.7 and 0.05 in bfloat16.
    """
    model = HRM.from_state(dataclasses.replace(_recipe(config, "sudoku").model, dtype="float32"))
    torch.nn.init.normal_(model.get_parameter("q_head.weight"), std=0.02)
    random = torch.Generator().manual_seed(0)
    boards = torch.randint(1, model.config.vocab_size, (8, model.config.cells), generator=random)
    ids = torch.zeros(8, dtype=torch.int64)
    expected = _segments(model, boards, ids)
    found = {"largest_difference": _differences(model, boards, ids, dict.fromkeys(DTYPES, expected), device)}
    found["golden"] = {}
    for name in ("hrm", "trm_att") if GOLDEN.is_dir() else ():
        file = GOLDEN / f"{name}.npz"
        with np.load(file) as arrays:
            there = {key: torch.from_numpy(np.array(arrays[key])) for key in arrays}
        state = {key.removeprefix("state/"): tensor for key, tensor in there.items() if key.startswith("state/")}
        official = load_official(state, json.loads(file.with_suffix(".json").read_text()))
        wanted = {
            dtype: {
                key: [there[f"{part}/seg{number}/{key}"].float() for number in range(1, 5)]
                for key in ("logits", "q_halt")
            }
            for dtype, part in zip(DTYPES, ("eval", "eval_bf16"), strict=True)
        }
        own = HRM.from_state(official.config, official.state_dict())
        boards, ids = there["batch/inputs"], there["batch/puzzle_identifiers"]
        found["golden"][name] = _differences(own, boards, ids, wanted, device)
    return found


DTYPES = ("float32", "bfloat16")

Numbers = dict[str, list[torch.Tensor]]


def _differences(
    model: HRM, boards: torch.Tensor, ids: torch.Tensor, expected: dict[str, Numbers], device: torch.device
) -> dict[str, Any]:
    """Of each precision, the largest difference on the device from the numbers that are expected, by their name."""
    found = {}
    for dtype, numbers in expected.items():
        given = _segments(model.with_config(dtype=dtype).to(device), boards.to(device), ids.to(device))
        pairs = {name: zip(numbers[name], given[name], strict=True) for name in numbers}
        found[dtype] = {name: max(float((a - b.cpu()).abs().max()) for a, b in both) for name, both in pairs.items()}
    return found


@torch.no_grad()
def _segments(model: HRM, boards: torch.Tensor, ids: torch.Tensor) -> Numbers:
    carry, found = model.initial_carry(len(boards)), Numbers(logits=[], q_halt=[])
    for _ in range(4):
        result = model.segment(carry, boards, ids)
        carry = result.carry
        found["logits"].append(result.logits.float())
        found["q_halt"].append(result.q_halt)
    return found


def speed(config: HalfHourConfig, device: torch.device) -> dict[str, Any]:
    """Share of the peak in training, and the dearest operations of an update."""
    recipe = _recipe(config, "sudoku")
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
    """Train for the minutes of this call, save, and judge the weights so far: own decision, and fixed 16 segments.

    Returns:
        The figures; the curve, and weights of at most `MOST_WRITTEN`, lie in OUT/CALL.
    """
    recipe, out = _recipe(config, config.call), config.out / config.call
    workers = 0 if config.dry else config.processes
    trainer = Trainer(recipe, config.run / config.call, str(device), not config.dry, workers=workers)
    end = time.monotonic() + 60 * config.minutes
    try:
        _fit_length(trainer, TOTAL.get(config.call))
        for row in trainer.fit():
            _fit_length(trainer, TOTAL.get(config.call))
            print(f"update {row['update']} of {trainer.recipe.updates}: loss {row['loss']:.4f}", flush=True)
            if time.monotonic() > end:
                trainer.stopping = 1  # the trainer saves and returns
    finally:
        trainer.close()
    if (curve := trainer.run / CURVE).exists():
        write_atomically(out / CURVE, curve.read_text())
    weights = trainer.weights()
    if sum(tensor.nbytes for tensor in weights.values()) <= MOST_WRITTEN:
        about = {"kind": "hrm", "family": trainer.feed.family.name, "update": trainer.update}
        write_folder(out / "model", lambda folder: write_model(folder, weights, recipe.model, about))
    return {
        "recipe": recipe.to_json(), "update": trainer.update, "updates": trainer.recipe.updates,
        "seconds": trainer.seconds, **judge(config, trainer, device),
    }  # fmt: skip


def _fit_length(trainer: Trainer, minutes: float | None) -> None:
    """Make a training as long as its time, at the speed it has had, if that is shorter: the rate comes down by then."""
    if minutes is not None and trainer.update:
        within = max(trainer.update + 1, int(trainer.update * 60 * minutes / max(trainer.seconds, 1e-9)))
        trainer.recipe = dataclasses.replace(trainer.recipe, updates=min(trainer.recipe.updates, within))


def judge(config: HalfHourConfig, trainer: Trainer, device: torch.device) -> dict[str, Any]:
    """Both figures of held-out puzzles from one solve: the own decision, and 16 segments of every board."""
    model = HRM.from_state(trainer.recipe.model, trainer.weights()).to(device)
    accelerate(model, compile=device.type == "cuda")
    feed, limit = trainer.feed, LIMIT.get(config.call, FIXED)
    count = min(8 if config.dry else config.held_out, feed.held_out.length or sys.maxsize)
    batch_size = solving_batch(model.config, device, min(count, EVAL_BOARDS))
    right, segments = np.zeros(2, np.int64), 0
    for first in range(0, count, batch_size):
        batch = feed.held_out.take(first, min(batch_size, count - first))
        inputs, ids = feed.held_out_boards(batch)
        boards = thinking.Boards(inputs, ids, torch.ones_like(inputs, dtype=torch.bool))
        found = thinking.own_and_fixed(model, boards, limit, FIXED)
        for place, grids in enumerate((found.own, found.fixed)):
            right[place] += (grids.cpu().numpy().reshape(batch.clues.shape) == batch.solutions).all(axis=(1, 2)).sum()
        segments += int(found.segments.sum())
    own, fixed = right.tolist()
    return {
        "held_out": count, "max_segments": limit, "mean_segments": segments / count,
        "own_exact": own / count, "own_interval": wilson(own, count),
        "fixed_16_exact": fixed / count, "fixed_16_interval": wilson(fixed, count),
    }  # fmt: skip


def _recipe(config: HalfHourConfig, call: str) -> Recipe:
    """The recipe of a call, on the puzzles that were packed if they are there: few evaluations on the way."""
    recipe, packed = TRAININGS[call], config.out / "data" / call
    recipe = dataclasses.replace(recipe, eval_puzzles=512, test_puzzles=0, eval_every=max(recipe.eval_every, 2000))
    if packed.is_dir():
        recipe = dataclasses.replace(recipe, source=str(packed), puzzles=0, mixture=(), env={})
    if not config.dry:
        return recipe
    model: HRMConfig = recipe.model
    if model.mixer == "attention":
        model = dataclasses.replace(model, hidden_size=32, heads=2, h_layers=1, l_layers=1, dtype="float32")
    model = dataclasses.replace(model, max_segments=2)
    return dataclasses.replace(
        recipe,
        model=model,
        puzzles=8 if recipe.puzzles else 0,
        batch_size=2,
        updates=3,
        warmup=1,
        eval_puzzles=2,
        variants=min(2, recipe.variants),
    )


if __name__ == "__main__":
    sys.exit(run(main))
