"""`hrm-gym analyze convergence` and `dimensionality`: what the states of both levels do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.analysis.convergence import ConvergenceStudy, Network, study_convergence
from hrm_gym.agents.hrm.analysis.dimensionality import DimensionalityStudy, study_dimensionality
from hrm_gym.agents.hrm.analysis.figures_states import draw_convergence, draw_dimensionality
from hrm_gym.scripts.analyze_setup import PuzzlesConfig, boards_of, one_network, prepared, puzzles_of, show, write
from hrm_gym.scripts.arguments import parse
from hrm_gym.scripts.solve import Worlds


@dataclass(frozen=True)
class ConvergenceConfig(PuzzlesConfig):
    """How far each update still moves a state: forward residuals.

    Attributes:
        episodes: Puzzles.
        segments: Segments to think for, whatever the halting rule says.
        beside: Weights of networks for the same boards to compare, such as those of the recipes maze-recurrent and
            maze-direct.
    """

    episodes: int | None = 128
    segments: int = 8
    beside: tuple[Path, ...] = ()


@dataclass(frozen=True)
class DimensionalityConfig(PuzzlesConfig):
    """Participation ratios of the states of both levels, beside an untrained network.

    Attributes:
        episodes: Puzzles at most; ratios are taken after 1/16, 1/8, 1/4, 1/2 and all of them.
        segments: Segments to think for, whatever the halting rule says.
    """

    episodes: int | None = 512
    segments: int = 4


def analyze_convergence(argv: Sequence[str]) -> None:
    """Run `hrm-gym analyze convergence`."""
    config = parse(ConvergenceConfig, "hrm-gym analyze convergence", argv)
    _check_segments(config.segments)
    out, settings = prepared(config, "convergence", config.segments, None, 1)
    worlds = Worlds(settings)
    agent = one_network(config, settings, worlds)
    agents = [(agent.name, agent)]
    for path in config.beside:
        name = path.parent.name if path.name == "model" else path.name
        agents.append((name, HRMAgent.for_env(worlds.make("answer"), path)))
    puzzles = puzzles_of(worlds)
    networks = [(name, one.model, boards_of(one, puzzles)) for name, one in agents]
    study = study_convergence(networks, config.segments, config.batch, config.env_id)
    show(convergence_table(study))
    write(study, out, lambda path: draw_convergence(study, path))


def analyze_dimensionality(argv: Sequence[str]) -> None:
    """Run `hrm-gym analyze dimensionality`."""
    config = parse(DimensionalityConfig, "hrm-gym analyze dimensionality", argv)
    _check_segments(config.segments)
    out, settings = prepared(config, "dimensionality", config.segments, None, 1)
    worlds = Worlds(settings)
    agent = one_network(config, settings, worlds)
    puzzles = puzzles_of(worlds)
    counts = sorted({count for part in (16, 8, 4, 2, 1) if (count := len(puzzles) // part) >= 2})
    boards = boards_of(agent, puzzles)
    study = study_dimensionality(agent.model, boards, config.segments, counts, config.batch, config.env_id, agent.name)
    show(dimensionality_table(study))
    write(study, out, lambda path: draw_dimensionality(study, path))


def convergence_table(study: ConvergenceStudy) -> Table:
    """A row a state: its residual at the first update, and the mean over each segment's updates."""
    title = f"forward residuals on {study.env}, {study.puzzles:,} puzzles"
    caption = "root mean square change of a state's entries, which are about 1; first: of the first update"
    table = Table(title=title, caption=caption)
    segments = [n for n in (1, 2, 4, 8, 16, 32) if n <= study.segments]
    for heading in ("network", "state", "first", *(f"segment {n}" for n in segments), "last"):
        table.add_column(heading, justify="left" if heading in ("network", "state") else "right")
    for network in study.networks:
        for trace in network.traces:
            means = [_mean_of_segment(network, trace.calls, trace.residuals, n) for n in segments]
            first, last = trace.residuals[0], trace.residuals[-1]
            table.add_row(network.name, trace.level, f"{first:.3f}", *means, f"{last:.3f}")
    return table


def dimensionality_table(study: DimensionalityStudy) -> Table:
    """A row a number of puzzles."""
    title = f"participation ratio of {study.agent}'s states on {study.env}, {study.segments} segments"
    caption = f"of {study.hidden} dimensions; in brackets: the same network untrained"
    table = Table(title=title, caption=caption)
    for heading in ("puzzles", "H-level", "L-level", "H / L"):
        table.add_column(heading, justify="right")
    for one, other in zip(study.trained, study.untrained, strict=True):
        pairs = ((one.high, other.high), (one.low, other.low), (one.ratio, other.ratio))
        table.add_row(str(one.puzzles), *(f"{a:.2f} ({b:.2f})" for a, b in pairs))
    return table


def _mean_of_segment(network: Network, calls: Sequence[int], residuals: Sequence[float], segment: int) -> str:
    """The mean residual of a state's updates in one segment; a deep network has one only."""
    low, high = (segment - 1) * network.calls, segment * network.calls
    inside = [value for call, value in zip(calls, residuals, strict=True) if low < call <= high]
    return f"{sum(inside) / len(inside):.3f}" if inside else "-"


def _check_segments(segments: int) -> None:
    if segments < 1:
        raise ValueError(f"expected --segments of at least 1, got {segments}")
