"""What a training would take on N GPUs: a model of one update, checked on one and two processes of this machine.

`hrm-gym bench --only scaling`. The check is measured; everything about GPUs is computed from `Hardware`, nothing of it
is measured.
"""

from __future__ import annotations

import dataclasses
import math
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from hrm_gym.agents.hrm.distributed import ALONE, BackwardPass, Processes, join, leave
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.recipes import Recipe, find_recipe
from hrm_gym.agents.hrm.trainer import Trainer
from hrm_gym.data.workers import away_from_current_folder
from hrm_gym.scripts.bench.flops import TERA, flops_of_an_update, segment_flops
from hrm_gym.scripts.options import Json, arg, at_least, parse
from hrm_gym.scripts.output import machine, new_table, show, write_json


@dataclass(frozen=True)
class Hardware:
    """Assumptions about a cluster of H100 machines of eight GPUs each; none of them was measured here.

    Attributes:
        peak: operations a second of a GPU in bfloat16, dense, as its data sheet says.
        share: of the peak in a large batch, the goal of this project (`--only flops` measures it).
        kernels: launched one after the other by an update: twelve passes through a module of four blocks without
            gradient, two with, eight and twenty kernels a block, and the optimiser's.
        kernel: least seconds of a kernel, however little it does.
        node: GPUs of a machine.
        inside: bytes a second that an all-reduce moves for each GPU within a machine (NVLink).
        between: the same across machines with a network card of 400 Gbit/s for each GPU.
        latency: seconds of an all-reduce of nothing, for each doubling of the number of GPUs.
    """

    peak: float = 989 * TERA
    share: float = 0.4
    kernels: int = 600
    kernel: float = 5e-6
    node: int = 8
    inside: float = 300e9
    between: float = 200e9
    latency: float = 15e-6


@dataclass(frozen=True)
class Update:
    """The seconds of one update.

    Attributes:
        compute: products, which shrink with the share of the batch.
        fixed: what does not shrink: launching kernels, the optimiser.
        reduce: the sum of the gradients over all processes, in messages that leave during the backward pass.
        last: seconds of what leaves when it is over, and hides behind nothing.
        whole: seconds of the sum if it were one message after the backward pass.
        backward: share of the backward pass, behind which messages hide; 0 if none leaves during it.
    """

    compute: float
    fixed: float
    reduce: float = 0.0
    last: float = 0.0
    whole: float = 0.0
    backward: float = 0.0

    @property
    def seconds(self) -> float:
        """All of it: a GPU computes, or waits for the next kernel, whichever takes longer; and sums meanwhile."""
        busy = max(self.compute, self.fixed)
        return busy + max(self.last, self.reduce - self.backward * busy)

    @property
    def in_turn(self) -> float:
        """The same if it summed when it has computed, all at once."""
        return max(self.compute, self.fixed) + self.whole

    @property
    def limit(self) -> str:
        """What takes longest."""
        parts = {"products": self.compute, "kernel launches": self.fixed, "all-reduce": self.reduce}
        return max(parts, key=parts.__getitem__)


def predict(recipe: Recipe, gpus: int, hardware: Hardware) -> Update:
    """An update of a recipe's batch, shared out evenly over GPUs.

    Raises:
        ValueError: the batch cannot be shared out evenly.
    """
    boards = Processes(0, gpus).share(recipe.batch_size).stop
    with torch.device("meta"):
        model = HRM(recipe.model)
    parameters = [own for name, own in model.named_parameters() if name != "puzzles"]
    messages = [sum(own.nbytes for own in bucket) for bucket in BackwardPass(parameters).buckets if bucket]
    flops = flops_of_an_update(recipe)
    backward = (segment_flops(recipe.model, True, target=False) - segment_flops(recipe.model)) / flops
    speed = hardware.inside if gpus <= hardware.node else hardware.between
    latency = hardware.latency * math.log2(gpus)
    *early, last = (2 * (gpus - 1) / gpus * size / speed + latency for size in messages)
    reduce, whole = sum(early) + last, sum(early) + last - latency * len(early)
    if recipe.model.kept_steps * recipe.gradient_segments > 1 or recipe.model.shared:
        last, backward = reduce, 0.0  # gradients of levels that are used more than once are whole at the end
    compute = boards * flops / (hardware.share * hardware.peak)
    return Update(compute, hardware.kernels * hardware.kernel, reduce, last, whole, backward)


@dataclass(frozen=True)
class Scaling:
    """What a recipe's training would take on N GPUs, computed from assumptions that are printed, and how well the same
    model of an update foretells two processes of this machine from one, which is measured.

    Attributes:
        recipe: Whose training is computed.
        gpus: How many.
        check: The recipe with which the model is checked here.
        rounds: Turns of each measurement; the median counts.
        seconds: Length of a turn.
        json: Write the figures to this file.
    """

    EXAMPLES = ("hrm-gym bench --only scaling", "hrm-gym bench --only scaling maze-hard-1k --gpus 8 64")
    recipe: Annotated[tyro.conf.Positional[str], arg("RECIPE", "sudoku-extreme-1k")] = "sudoku-extreme-1k"
    gpus: tuple[int, ...] = (1, 8, 64, 256, 512)
    check: Annotated[str, arg("RECIPE", "sudoku-4x4")] = "sudoku-4x4"
    rounds: int = 5
    seconds: float = 1.0
    json: Json = None


def main(argv: Sequence[str]) -> None:
    """Run `hrm-gym bench --only scaling`."""
    config = parse(Scaling, "hrm-gym bench --only scaling", argv)
    at_least(1, config, "rounds")
    recipe, checked_with = find_recipe(config.recipe), find_recipe(config.check)
    if not config.gpus or min(config.gpus) < 1:
        raise ValueError(f"expected --gpus of at least 1, got {config.gpus}")
    hardware = Hardware()
    rows = table(recipe, config.gpus, hardware)
    _show(config.recipe, rows)
    checked = check(checked_with, config.rounds, config.seconds)
    for kind, name in (("wall", "wall time"), ("cpu", "CPU time of each")):
        found = checked[kind]
        print(
            f"checked with {config.check} on this machine, {name}: two processes took {1000 * found['two']:.1f} ms an "
            f"update, computed from one process and an all-reduce {1000 * found['two_computed']:.1f} ms"
        )
    if config.json is not None:
        assumed = {"recipe": config.recipe, "hardware": dataclasses.asdict(hardware)}
        write_json({"computed": {**assumed, "rows": rows}, "measured": checked, "machine": machine()}, config.json)


def table(recipe: Recipe, gpus: Sequence[int], hardware: Hardware) -> list[dict[str, Any]]:
    """A row for each number of GPUs: the recipe's batch where it can be shared out, and its share of eight GPUs on each
    (a larger batch, which is another training, and fewer updates)."""
    rows = []
    for count in gpus:
        each = recipe.batch_size // hardware.node
        for batch in dict.fromkeys((recipe.batch_size, each * count)):
            if batch % count or (batch < recipe.batch_size):
                continue
            updates = math.ceil(recipe.updates * recipe.batch_size / batch)
            update = predict(dataclasses.replace(recipe, batch_size=batch), count, hardware)
            rows.append(
                {
                    "gpus": count, "batch": batch, "updates": updates, **dataclasses.asdict(update),
                    "minutes": updates * update.seconds / 60, "minutes_in_turn": updates * update.in_turn / 60,
                    "limit": update.limit,
                }
            )  # fmt: skip
    return rows


def _show(name: str, rows: Sequence[dict[str, Any]]) -> None:
    shown = new_table(
        f"{name}: computed, not measured", "GPUs", "batch", "updates", "ms products", "ms launches", "ms all-reduce",
        "minutes", "summed in turn", "limit", left=0,
    )  # fmt: skip
    for row in rows:
        parts = [f"{1000 * row[key]:.2f}" for key in ("compute", "fixed", "reduce")]
        minutes = [f"{row[key]:.2f}" for key in ("minutes", "minutes_in_turn")]
        shown.add_row(str(row["gpus"]), str(row["batch"]), f"{row['updates']:,}", *parts, *minutes, row["limit"])
    show(shown)


# ---- the check: two processes of this machine ----


def check(recipe: Recipe, rounds: int, seconds: float) -> dict[str, Any]:
    """Seconds of an update on two processes, computed from one process at two batches and an all-reduce, and measured.

    One process fits `fixed + board * boards` to the recipe's batch and to half of it; two are then expected to take
    what half the batch takes, and the all-reduce. By the `wall` clock that holds on a machine that has two idle cores;
    where others want them too, the `cpu` time of a process tells more, but nothing about waiting.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = get_context("spawn")
    given, taken = context.Pipe(False)[::-1]
    arguments = [(rank, port, recipe, rounds, seconds, given if rank == 0 else None) for rank in range(2)]
    children = [context.Process(target=_measure, args=own) for own in arguments]
    with away_from_current_folder():
        for child in children:
            child.start()
    for child in children:
        child.join()
    if any(child.exitcode for child in children):
        raise RuntimeError(f"a measuring process ended with {[child.exitcode for child in children]}")
    found: dict[str, Any] = taken.recv()
    return found


def _measure(rank: int, port: int, recipe: Recipe, rounds: int, seconds: float, out: Any) -> None:
    here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(here, RANK=str(rank), WORLD_SIZE="2")
    torch.set_num_threads(1)
    processes, _ = join(torch.device("cpu"))
    half = dataclasses.replace(recipe, batch_size=recipe.batch_size // 2)
    with tempfile.TemporaryDirectory() as folder:
        runs = {"whole": (recipe, ALONE), "half": (half, ALONE), "two": (recipe, processes)}
        trainers = {name: Trainer(one, Path(folder) / name, processes=who) for name, (one, who) in runs.items()}
        gradient = torch.zeros(trainers["two"].model.parameter_count() + 1)
        steps = {name: trainer.step for name, trainer in trainers.items()}
        turns: dict[str, Any] = {**steps, "reduce": lambda: processes.sum([gradient])}
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in turns}
        for _ in range(rounds + 1):  # the first one warms up
            for name, turn in turns.items():
                processes.wait()
                if rank == 0 or name in ("two", "reduce"):
                    taken[name].append(_clock(turn, seconds, processes if name in ("two", "reduce") else ALONE))
    leave()
    if rank == 0:
        found: dict[str, Any] = {"batch": recipe.batch_size, "bytes": 4 * len(gradient)}
        for place, kind in enumerate(("wall", "cpu")):
            own = {name: statistics.median(pair[place] for pair in pairs[1:]) for name, pairs in taken.items()}
            board = (own["whole"] - own["half"]) / half.batch_size
            fitted = {"board": board, "fixed": own["half"] - half.batch_size * board}
            found[kind] = {**own, **fitted, "two_computed": own["half"] + own["reduce"]}
        out.send(found)


def _clock(turn: Any, seconds: float, processes: Processes) -> tuple[float, float]:
    """Wall and CPU seconds of one of a number of turns on which the processes agree."""
    turn()
    begin = time.perf_counter()
    turn()
    once = torch.tensor(time.perf_counter() - begin)
    processes.sum([once])
    count = max(1, int(seconds * processes.count / float(once)))
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        turn()
    return (time.perf_counter() - wall) / count, (time.process_time() - cpu) / count
