"""`hrm-gym bench-memory`: the memory of a training step against the number of cycles, as a table and a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from hrm_gym.agents.hrm.config import Gradient, HRMConfig
from hrm_gym.agents.hrm.memory import MEBIBYTE, StepMemory, measure
from hrm_gym.scripts.arguments import parse

GRADIENTS: dict[Gradient, str] = {
    "one_step": "one-step gradient",
    "last_cycle": "last H-cycle",
    "bptt": "back-propagation through time",
}


@dataclass(frozen=True)
class MemoryConfig:
    """Measure what one training step keeps in memory, for 1 x 1 to 8 x 8 cycles and three lengths of gradient.

    Attributes:
        cycles: H_cycles and L_cycles to take, both the same.
        hidden: Width of the network; 2 + 2 layers on 9 x 9 boards.
        batch: Boards.
        dtype: Precision of activations.
        out: Folder for memory.md, memory.json and memory.png; only the table is printed without one.
    """

    cycles: tuple[int, ...] = (1, 2, 4, 6, 8)
    hidden: int = 128
    batch: int = 32
    dtype: str = "float32"
    out: Path | None = None


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym bench-memory`; returns 0."""
    config = parse(MemoryConfig, "hrm-gym bench-memory", argv)
    if not config.cycles or min(config.cycles) < 1 or config.batch < 1:
        raise ValueError(f"expected cycles and a batch of at least 1, got {config.cycles} and {config.batch}")
    layers = {"heads": 4, "h_layers": 2, "l_layers": 2}
    size: Any = {"hidden_size": config.hidden, "dtype": config.dtype, **layers}
    network = HRMConfig(vocab_size=11, grid=(9, 9), **size)
    rows = [_measure_apart(network, gradient, n, config.batch) for gradient in GRADIENTS for n in config.cycles]
    text = table(rows)
    print(text)
    if config.out is not None:
        config.out.mkdir(parents=True, exist_ok=True)
        _write(config, rows, text)
    return 0


def _measure_apart(network: HRMConfig, gradient: Gradient, cycles: int, batch: int) -> StepMemory:
    """A measurement in a process of its own, whose peak no earlier one has raised."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_warm_and_measure, network, gradient, cycles, batch).result()


def _warm_and_measure(network: HRMConfig, gradient: Gradient, cycles: int, batch: int) -> StepMemory:
    torch.set_num_threads(1)
    measure(network, "one_step", (1, 1), 1)  # what is made once in a process is made now
    return measure(network, gradient, (cycles, cycles), batch)


def table(rows: Sequence[StepMemory]) -> str:
    """Markdown: a line for each number of cycles, MiB kept by each length of gradient, the peak in brackets."""
    names = list(dict.fromkeys(row.gradient for row in rows))
    found = {(row.gradient, row.h_cycles): row for row in rows}
    lines = [
        "| H x L cycles | calls | " + " | ".join(f"{GRADIENTS[name]}, MiB" for name in names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for cycles in dict.fromkeys(row.h_cycles for row in rows):
        cells = [_cell(found[name, cycles]) for name in names]
        calls = found[names[0], cycles].calls
        lines.append(f"| {cycles} x {cycles} | {calls} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row: StepMemory) -> str:
    peak = "" if row.peak is None else f" ({row.peak / MEBIBYTE:,.0f})"
    return f"{row.saved / MEBIBYTE:,.1f}{peak}"


def _write(config: MemoryConfig, rows: Sequence[StepMemory], text: str) -> None:
    """The table, the figures and the plot in the folder that was asked for."""
    assert config.out is not None
    setting = f"hidden {config.hidden}, 4 heads, 2+2 layers, 82 positions, batch {config.batch}, {config.dtype}"
    about = (
        f"Bytes kept for the backward pass of one training step (in brackets: growth of the process at its peak); "
        f"{setting}.\nMade by `hrm-gym bench-memory --out …`.\n"
    )
    (config.out / "memory.md").write_text(f"# Memory of a training step\n\n{about}\n{text}\n\n![plot](memory.png)\n")
    told: dict[str, Any] = {"setting": setting, "torch": torch.__version__, "rows": [asdict(row) for row in rows]}
    (config.out / "memory.json").write_text(json.dumps(told, indent=1) + "\n")
    _plot(rows, setting, config.out / "memory.png")


def _plot(rows: Sequence[StepMemory], setting: str, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for gradient, label in GRADIENTS.items():
        mine = [row for row in rows if row.gradient == gradient]
        axes.plot([row.calls for row in mine], [row.saved / MEBIBYTE for row in mine], marker="o", label=label)
    axes.set(xlabel="calls of the modules in a segment", ylabel="MiB kept for the backward pass", ylim=(0, None))
    axes.set_title(setting, fontsize=8)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
