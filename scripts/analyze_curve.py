"""`hrm-gym analyze curve`: how a training run went, as a table and a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table

from hrm_gym.agents.hrm.analysis.figures import BLUE, GREY, ORANGE, new_figure, plain, save
from hrm_gym.agents.hrm.run_folder import CURVE
from hrm_gym.recorder import check_writable
from hrm_gym.scripts.analyze_setup import show, write
from hrm_gym.scripts.arguments import parse

Row = Mapping[str, float]


@dataclass(frozen=True)
class CurveConfig:
    """The evaluations of a training run.

    Attributes:
        run: Folder of the run, or its curve.jsonl.
        out: Where the figures go, without suffix (analysis/RUN-curve).
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    out: Path | None = None


def analyze_curve(argv: Sequence[str]) -> None:
    """Run `hrm-gym analyze curve`."""
    config = parse(CurveConfig, "hrm-gym analyze curve", argv)
    out = config.out or Path("analysis") / f"{config.run.resolve().name}-curve"
    for suffix in (".png", ".json"):
        check_writable(Path(f"{out}{suffix}"))
    rows = read_curve(config.run / CURVE if config.run.is_dir() else config.run)
    show(curve_table(rows, config.run.name))
    write({"run": config.run.name, "rows": rows}, out, lambda path: draw_curve(rows, config.run.name, path))


def read_curve(path: Path) -> list[dict[str, float]]:
    """The rows of a curve.

    Raises:
        FileNotFoundError: there is none; a run writes it at its first evaluation.
        ValueError: it is no curve.
    """
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if rows and all("eval_exact" in row and "update" in row for row in rows):
            return rows
    except (json.JSONDecodeError, TypeError, UnicodeDecodeError):
        pass
    raise ValueError(f"expected the evaluations of a training run in {path}, got something else")


def curve_table(rows: Sequence[Row], name: str) -> Table:
    """A row an evaluation."""
    table = Table(title=f"{name}: held-out puzzles")
    for heading in ("update", "puzzles seen", "minutes", "solved", "exact", "segments"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            f"{row['update']:,}",
            f"{row['fed']:,}",
            f"{row['seconds'] / 60:.1f}",
            f"{row['eval_solved']:.1%}",
            f"{row['eval_exact']:.1%}",
            f"{row['eval_segments']:.2f}",
        )
    return table


def draw_curve(rows: Sequence[Row], name: str, path: Path) -> None:
    """Write a picture: shares of held-out and of training puzzles above, segments below, against updates.

    Raises:
        OSError: if it cannot be written.
    """
    figure = new_figure((7, 5.6), f"{name}: {rows[-1]['update']:,} updates, {rows[-1]['fed']:,} puzzles seen")
    axes: Any = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    above, below = (plain(one) for one in axes)
    updates = [row["update"] for row in rows]
    above.plot(updates, [row["eval_exact"] for row in rows], "o-", color=BLUE, label="held-out, exact")
    if any(row["eval_solved"] != row["eval_exact"] for row in rows):
        above.plot(updates, [row["eval_solved"] for row in rows], "o--", color=ORANGE, label="held-out, solved")
    above.plot(updates, [row["exact"] for row in rows], ".:", color=GREY, label="in training, exact when halted")
    above.set(ylabel="share", ylim=(0, 1.02))
    above.legend(fontsize=8, frameon=False, loc="lower right")
    below.plot(updates, [row["eval_segments"] for row in rows], "o-", color=BLUE)
    below.set(xlabel="update", ylabel="segments, held-out", ylim=(0, 1.1 * max(row["eval_segments"] for row in rows)))
    save(figure, path)
