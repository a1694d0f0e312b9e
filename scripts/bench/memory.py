"""What one training step keeps in memory for its backward pass, and how that grows with the cycles.

`hrm-gym bench --only memory`: the memory of a training step against the number of cycles, as a table and a plot.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from hrm_gym.agents.devices import peak_memory, reset_peak_memory
from hrm_gym.agents.hrm.config import Gradient, HRMConfig
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.data.workers import away_from_current_folder
from hrm_gym.evaluation.pages import markdown_row
from hrm_gym.evaluation.plots import CYCLE, heading, legend, line, new_figure, save
from hrm_gym.files import write_atomically
from hrm_gym.scripts.options import arg, parse
from hrm_gym.scripts.output import write_json

MEBIBYTE = 2**20


@dataclass(frozen=True)
class StepMemory:
    """The memory of one training step.

    Attributes:
        gradient: how far the gradient goes back.
        h_cycles: H-cycles of the segment.
        l_cycles: L-cycles of an H-cycle.
        calls: calls of the two modules in the segment.
        saved: bytes that autograd keeps for the backward pass, parameters not counted.
        peak: bytes by which the process grew at its highest during the step; None where the system does not tell.
    """

    gradient: Gradient
    h_cycles: int
    l_cycles: int
    calls: int
    saved: int
    peak: int | None


def saved_bytes(model: HRM, inputs: Tensor, puzzle_ids: Tensor) -> tuple[int, Tensor]:
    """Bytes that autograd keeps for the backward pass of a segment: every storage once, those of parameters never.

    Args:
        model: the network.
        inputs: (B, S) tokens.
        puzzle_ids: (B,) rows of the puzzle embedding.

    Returns:
        The bytes, and a () value whose backward pass they are for.
    """
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = model.segment(model.initial_carry(len(inputs)), inputs, puzzle_ids)
        value = result.logits.float().square().mean() + result.q_halt.sum() + result.q_continue.sum()
    return sum(kept.values()), value


def measure(config: HRMConfig, gradient: Gradient, cycles: tuple[int, int], batch: int) -> StepMemory:
    """The memory of a forward and a backward pass on random boards.

    Args:
        config: the network.
        gradient: takes the place of the config's.
        cycles: (H_cycles, L_cycles), likewise.
        batch: boards.
    """
    config = replace(config, gradient=gradient, h_cycles=cycles[0], l_cycles=cycles[1])
    torch.manual_seed(0)
    model = HRM(config)
    inputs = torch.randint(1, config.vocab_size, (batch, config.cells), dtype=torch.int32)
    gc.collect()
    cpu = torch.device("cpu")
    before = reset_peak_memory(cpu)
    saved, value = saved_bytes(model, inputs, torch.zeros(batch, dtype=torch.int32))
    value.backward()
    peak = None if before is None else peak_memory(cpu) - before
    calls = cycles[0] * (cycles[1] + 1) if config.levels == 2 else cycles[0] * cycles[1]
    return StepMemory(gradient, *cycles, calls, saved, peak)


GRADIENTS: dict[Gradient, str] = {
    "one_step": "one-step gradient",
    "last_cycle": "last H-cycle",
    "bptt": "back-propagation through time",
}


@dataclass(frozen=True)
class Memory:
    """Measure what one training step keeps in memory, for 1 x 1 to 8 x 8 cycles and three lengths of gradient.

    Attributes:
        cycles: H_cycles and L_cycles to take, both the same.
        hidden: Width of the network; 2 + 2 layers on 9 x 9 boards.
        batch: Boards.
        dtype: Precision of activations.
        out: Folder for memory.md, memory.json and memory.png; only the table is printed without one.
    """

    EXAMPLES = (
        "hrm-gym bench --only memory --cycles 1 2 4",
        "hrm-gym bench --only memory --hidden 256 --out reports/memory",
    )
    cycles: tuple[int, ...] = (1, 2, 4, 6, 8)
    hidden: int = 128
    batch: int = 32
    dtype: str = "float32"
    out: Annotated[Path | None, arg("FOLDER", "none")] = None


def main(argv: Sequence[str]) -> None:
    """Run `hrm-gym bench --only memory`."""
    config = parse(Memory, "hrm-gym bench --only memory", argv)
    if not config.cycles or min(config.cycles) < 1 or config.batch < 1:
        raise ValueError(f"expected cycles and a batch of at least 1, got {config.cycles} and {config.batch}")
    size: Any = {"hidden_size": config.hidden, "dtype": config.dtype, "heads": 4, "h_layers": 2, "l_layers": 2}
    network = HRMConfig(vocab_size=11, grid=(9, 9), **size)
    rows = [_measure_apart(network, gradient, n, config.batch) for gradient in GRADIENTS for n in config.cycles]
    text = table(rows)
    print(text)
    if config.out is None:
        return
    setting = f"hidden {config.hidden}, 4 heads, 2+2 layers, 82 positions, batch {config.batch}, {config.dtype}"
    about = (
        f"Bytes kept for the backward pass of one training step (in brackets: growth of the process at its peak); "
        f"{setting}.\nMade by `hrm-gym bench --only memory --out …`.\n"
    )
    page = f"# Memory of a training step\n\n{about}\n{text}\n\n![plot](memory.png)\n"
    write_atomically(config.out / "memory.md", page)
    figures = {"setting": setting, "torch": torch.__version__, "rows": [asdict(row) for row in rows]}
    write_json(figures, config.out / "memory.json")
    draw(rows, setting, config.out / "memory.png")


def _measure_apart(network: HRMConfig, gradient: Gradient, cycles: int, batch: int) -> StepMemory:
    """A measurement in a process of its own, whose peak no earlier one has raised."""
    with away_from_current_folder(), ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_warm_and_measure, network, gradient, cycles, batch).result()


def _warm_and_measure(network: HRMConfig, gradient: Gradient, cycles: int, batch: int) -> StepMemory:
    torch.set_num_threads(1)
    measure(network, "one_step", (1, 1), 1)  # what is made once in a process is made now
    return measure(network, gradient, (cycles, cycles), batch)


def table(rows: Sequence[StepMemory]) -> str:
    """Markdown: a line for each number of cycles, MiB kept by each length of gradient, the peak in brackets."""
    names = list(dict.fromkeys(row.gradient for row in rows))
    found = {(row.gradient, row.h_cycles): row for row in rows}
    headings = ["H x L cycles", "calls", *(f"{GRADIENTS[name]}, MiB" for name in names)]
    lines = [markdown_row(headings), "|---|---|" + "---|" * len(names)]
    for cycles in dict.fromkeys(row.h_cycles for row in rows):
        cells = [f"{cycles} x {cycles}", str(found[names[0], cycles].calls)]
        for row in (found[name, cycles] for name in names):
            peak = "" if row.peak is None else f" ({row.peak / MEBIBYTE:,.0f})"
            cells.append(f"{row.saved / MEBIBYTE:,.1f}{peak}")
        lines.append(markdown_row(cells))
    return "\n".join(lines)


def draw(rows: Sequence[StepMemory], setting: str, path: Path) -> None:
    """Write the picture."""
    figure, ((axes,),) = new_figure((6.2, 3.9), "memory of a training step")
    for (gradient, label), colour in zip(GRADIENTS.items(), CYCLE, strict=False):
        mine = [row for row in rows if row.gradient == gradient]
        line(axes, [row.calls for row in mine], [row.saved / MEBIBYTE for row in mine], colour, label)
    heading(axes, setting)
    axes.set(xlabel="calls of the modules in a segment", ylabel="MiB kept for the backward pass", ylim=(0, None))
    legend(figure)
    save(figure, path)
