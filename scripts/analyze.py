"""`hrm-gym analyze`: what an HRM does with its segments; every study is a table, a picture and JSON."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.analysis import figures
from hrm_gym.agents.hrm.analysis.answers import study_answers
from hrm_gym.agents.hrm.analysis.segments import joined, study_scaling, study_segments, think_through
from hrm_gym.agents.hrm.analysis.states import study_convergence, study_dimensionality
from hrm_gym.agents.hrm.halting import learned, parse_halting
from hrm_gym.agents.hrm.run_folder import CURVE
from hrm_gym.envs.puzzle import Puzzle
from hrm_gym.evaluation.compare.plan import World
from hrm_gym.evaluation.rollout import rollout_batched
from hrm_gym.files import check_writable
from hrm_gym.reading import read_curve
from hrm_gym.scripts.options import (
    SHOWN,
    AgentOptions,
    Env,
    PanelOptions,
    PuzzleOptions,
    RuleOptions,
    RunOptions,
    Switch,
    arg,
    at_least,
    parse,
)
from hrm_gym.scripts.output import new_table, say, share, show, with_progress, write_json

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Study(RunOptions, PuzzleOptions):
    """What all studies share.

    Attributes:
        env: An environment of puzzles: ID, ID:argument=value,… or module:ID.
        out: Where picture (.png) and figures (.json) go, without suffix.
    """

    env: Env = "HRMMaze-v0"
    out: Annotated[Path | None, arg("PATH", "analysis/ENV-STUDY")] = None

    def begin(self, study: str) -> tuple[Path, World]:
        """Where the figures go and where the puzzles come from; refuses what is wrong before any work."""
        self.use_threads()
        return _place(self.out, f"{self.env}-{study}"), self.world(self.env)


@dataclass(frozen=True)
class Network(AgentOptions, Study):
    """A study that looks into one network."""

    def look(self, study: str, default: int = 100) -> tuple[Path, World, HRMAgent, list[Puzzle]]:
        """`begin`, with the agent and its puzzles.

        Raises:
            ValueError: also if the agent is a panel, or there are no such weights.
        """
        out, world = self.begin(study)
        return out, world, self.one_hrm(world, HRMAgent), world.puzzles(self.count(world, default), self.seed)


def _place(out: Path | None, name: str) -> Path:
    place = out or Path("analysis") / name
    for suffix in (".png", ".json"):
        check_writable(Path(f"{place}{suffix}"))
    return place


def _write(table: Table, figures: Any, out: Path, draw: Callable[[Path], None]) -> None:
    """Print the table; write the picture that `draw` makes, and the figures (a dataclass, or plain values)."""
    show(table)
    draw(Path(f"{out}.png"))
    write_json(asdict(figures) if dataclasses.is_dataclass(figures) else figures, Path(f"{out}.json"))  # type: ignore[arg-type]
    say(f"picture: {out}.png\nfigures: {out}.json")


# ---- segments against difficulty ----


@dataclass(frozen=True)
class Segments(PanelOptions, Study):
    """Does the agent think longer about harder puzzles? Segments used and share solved against difficulty: the rating
    where puzzles have one, else what their family counts (cells of the shortest path, guesses).

    Attributes:
        bins: Rows of the table, at most.
    """

    EXAMPLES = (
        "hrm-gym analyze segments HRMMaze-v0 --episodes 1000 --source generate",
        "hrm-gym analyze segments HRMSudoku-v0 --agent hrm=runs/sudoku/model --no-check",
    )
    bins: int = 8


def segments(argv: Sequence[str]) -> None:
    """Run `hrm-gym analyze segments`."""
    config = parse(Segments, "hrm-gym analyze segments", argv)
    at_least(1, config, "bins")
    out, world = config.begin("segments")
    agent, count = config.one_hrm(world), config.count(world)
    runs = rollout_batched(lambda: world.make("answer"), agent, count, config.batch, world.seed(config.seed))
    study = study_segments(list(with_progress(runs, count, agent.name)), world.family, config.bins)
    caption = "no correlation: difficulty or segments are the same everywhere"
    if study.correlation is not None:
        caption = f"Spearman correlation {study.correlation:+.2f}"
        if study.correlation_low is not None and study.correlation_high is not None:
            caption += f" ({study.correlation_low:+.2f} to {study.correlation_high:+.2f})"
        caption += "; in brackets: 95 % intervals"
    spent = any(one.spent != one.segments for one in study.bins)
    headings = (study.unit, "puzzles", "segments", "solved", *(["spent"] if spent else []))
    table = new_table(f"{study.agent} on {study.env}, {study.puzzles:,} puzzles", *headings, left=0, caption=caption)
    for one in study.bins:
        table.add_row(
            f"{one.low:g}" if one.low == one.high else f"{one.low:g}-{one.high:g}",
            str(one.puzzles),
            f"{one.segments:.2f} ({one.segments_low:.2f}-{one.segments_high:.2f})",
            share(one.solved, one.solved_low, one.solved_high),
            *([f"{one.spent:.2f}"] if spent else []),
        )
    _write(table, study, out, lambda path: figures.draw_segments(study, path))


# ---- share solved against segments ----


@dataclass(frozen=True)
class Scaling(Network):
    """What do more segments bring? The share solved with fixed budgets, beyond the number used in training too, and
    with the network's own halting and other rules on the same plane.

    Attributes:
        budgets: Fixed numbers of segments.
        rules: Halting rules to compare, with the greatest budget as their limit.
    """

    EXAMPLES = (
        "hrm-gym analyze scaling HRMMaze-v0 --budgets 1 2 4 8 16",
        "hrm-gym analyze scaling --rules confidence:0.9 stable:2 --out figures/maze",
    )
    budgets: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    rules: tuple[str, ...] = ("confidence:0.9", "confidence:0.99", "stable:1", "stable:2")


def scaling(argv: Sequence[str]) -> None:
    """Run `hrm-gym analyze scaling`."""
    config = parse(Scaling, "hrm-gym analyze scaling", argv)
    budgets = sorted(set(config.budgets))
    if not budgets or budgets[0] < 1:
        raise ValueError(f"expected --budgets of at least 1 segment, got {config.budgets}")
    out, _, agent, puzzles = config.look("scaling")
    model = agent.model.config
    rules = [parse_halting(text, model) for text in config.rules]
    parts = think_through(agent, puzzles, budgets[-1], config.batch)
    batches = -(-len(puzzles) // config.batch)
    trajectories = joined(list(with_progress(parts, batches, f"{agent.name}, {budgets[-1]} segments")))
    study = study_scaling(trajectories, learned(model), budgets, rules, config.env, agent.name, model.max_segments)
    title = f"{study.agent} on {study.env}, {study.puzzles:,} puzzles, trained with {study.trained} segments"
    caption = f"in brackets: 95 % Wilson intervals; right after some segment: {study.ever:.1%}"
    table = new_table(title, "segments", "fixed: solved", "q: mean segments", "q: solved", caption=caption)

    def solved(one: Any) -> str:
        return share(one.solved, one.solved_low, one.solved_high)

    for fixed, own in zip(study.fixed, study.learned, strict=True):
        table.add_row(str(fixed.limit), solved(fixed), f"{own.segments:.2f}", solved(own))
    table.add_section()
    for one in study.rules:
        table.add_row(one.rule, "", f"{one.segments:.2f}", solved(one))
    _write(table, study, out, lambda path: figures.draw_scaling(study, path))


# ---- the answer after each segment ----


@dataclass(frozen=True)
class Answers(RuleOptions, Network):
    """The answer after each segment, as a row of pictures a puzzle (HRM paper, figure 7).

    Attributes:
        segments: The segments that are shown; orange frames mark those after which the agent has halted.
        inner: Within these segments, show the answer after every update of the L-level, read from the state that the
            H-level would take if it moved then.
    """

    EXAMPLES = (
        "hrm-gym analyze answers HRMMaze-v0",
        "hrm-gym analyze answers --episodes 3 --segments 1 2 4 8",
        "hrm-gym analyze answers --episodes 2 --segments 1 2 --inner",
    )
    segments: tuple[int, ...] = (1, 2, 3, 4, 6, 8)
    inner: Switch = False


def answers(argv: Sequence[str]) -> None:
    """Run `hrm-gym analyze answers`."""
    config = parse(Answers, "hrm-gym analyze answers", argv)
    shown = sorted(set(config.segments))
    if not shown or shown[0] < 1:
        raise ValueError(f"expected --segments of at least 1, got {config.segments}")
    out, _, agent, puzzles = config.look("answers", SHOWN)
    courses, found = study_answers(agent, puzzles, shown[-1], config.inner)
    moments = courses[0].moments
    places = [place for place, moment in enumerate(moments) if moment.segment in shown]
    what = "update of the L-level" if config.inner else "segment"
    headings = ("puzzle", *(str(moments[n]).removeprefix("segment ") for n in places), "halts after")
    title = f"cells that differ from the stored solution, after each {what}"
    table = new_table(title, *headings, caption="✓: right by the rules")
    for one in courses:
        cells = [f"{one.wrong[n]}{' ✓' if one.solved[n] else ''}" for n in places]
        table.add_row(one.puzzle, *cells, str(one.halts or "-"))
    pictures = [
        [board_picture(agent, puzzle, grids[n]) for n in places] for puzzle, grids in zip(puzzles, found, strict=True)
    ]
    title = f"{agent.name} on {config.env}: the answer after each {what}; orange frame: it has halted"
    told = {"env": config.env, "agent": agent.name, "courses": [asdict(course) for course in courses]}
    _write(table, told, out, lambda path: figures.draw_answers(courses, pictures, places, title, path))


def board_picture(agent: HRMAgent, puzzle: Puzzle, answer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 picture of a puzzle with an answer, drawn without a display."""
    import pygame

    pygame.font.init()
    surface = pygame.Surface(agent.family.board_size, 0, 24)
    agent.family.draw(surface, puzzle, answer, None)
    return np.ascontiguousarray(pygame.surfarray.array3d(surface).transpose(1, 0, 2))


# ---- the states of both levels ----


@dataclass(frozen=True)
class Convergence(Network):
    """How far each update still moves a state (the forward residual of the HRM paper, figure 3), also of other networks
    for the same boards, such as a recurrent and a direct-prediction one.

    Attributes:
        segments: Segments to think for, whatever the halting rule says.
        beside: Weights of the other networks.
    """

    EXAMPLES = (
        "hrm-gym analyze convergence HRMMaze-v0 --episodes 128",
        "hrm-gym analyze convergence --size 8 --beside runs/maze-direct",
    )
    segments: int = 8
    beside: tuple[Path, ...] = ()


def convergence(argv: Sequence[str]) -> None:
    """Run `hrm-gym analyze convergence`."""
    config = parse(Convergence, "hrm-gym analyze convergence", argv)
    at_least(1, config, "segments")
    out, world, agent, puzzles = config.look("convergence")
    networks = [(agent.name, agent.model, agent.boards_of(puzzles))]
    for path in config.beside:
        other = HRMAgent.for_env(world.make("answer"), path)
        name = path.parent.name if path.name == "model" else path.name
        networks.append((name, other.model, other.boards_of(puzzles)))
    study = study_convergence(networks, config.segments, config.batch, config.env)
    title = f"forward residuals on {study.env}, {study.puzzles:,} puzzles"
    caption = "root mean square change of a state's entries, which are about 1; first: of the first update"
    marks = [n for n in (1, 2, 4, 8, 16, 32) if n <= study.segments]
    headings = ("network", "state", "first", *(f"segment {n}" for n in marks), "last")
    table = new_table(title, *headings, left=2, caption=caption)
    for network in study.networks:
        for trace in network.traces:
            pairs = list(zip(trace.calls, trace.residuals, strict=True))
            means = []
            for n in marks:  # of a deep network, all calls are in the first segment
                inside = [value for call, value in pairs if (n - 1) * network.calls < call <= n * network.calls]
                means.append(f"{sum(inside) / len(inside):.3f}" if inside else "-")
            first, last = trace.residuals[0], trace.residuals[-1]
            table.add_row(network.name, trace.level, f"{first:.3f}", *means, f"{last:.3f}")
    _write(table, study, out, lambda path: figures.draw_convergence(study, path))


@dataclass(frozen=True)
class Dimensionality(Network):
    """The participation ratio of both levels' states (HRM paper, section 4), next to that of an untrained network, for
    1/16, 1/8, 1/4, 1/2 and all of the puzzles.

    Attributes:
        segments: Segments to think for, whatever the halting rule says.
    """

    EXAMPLES = (
        "hrm-gym analyze dimensionality HRMMaze-v0 --episodes 512",
        "hrm-gym analyze dimensionality HRMSudokuMini-v0 --segments 2",
    )
    segments: int = 4


def dimensionality(argv: Sequence[str]) -> None:
    """Run `hrm-gym analyze dimensionality`."""
    config = parse(Dimensionality, "hrm-gym analyze dimensionality", argv)
    at_least(1, config, "segments")
    out, _, agent, puzzles = config.look("dimensionality")
    counts = sorted({count for part in (16, 8, 4, 2, 1) if (count := len(puzzles) // part) >= 2})
    boards = agent.boards_of(puzzles)
    study = study_dimensionality(agent.model, boards, config.segments, counts, config.batch, config.env, agent.name)
    title = f"participation ratio of {study.agent}'s states on {study.env}, {study.segments} segments"
    caption = f"of {study.hidden} dimensions; in brackets: the same network untrained"
    table = new_table(title, "puzzles", "H-level", "L-level", "H / L", left=0, caption=caption)
    for one, other in zip(study.trained, study.untrained, strict=True):
        pairs = ((one.high, other.high), (one.low, other.low), (one.ratio, other.ratio))
        table.add_row(str(one.puzzles), *(f"{a:.2f} ({b:.2f})" for a, b in pairs))
    _write(table, study, out, lambda path: figures.draw_dimensionality(study, path))


# ---- the course of a training ----

CURVE_NUMBERS = ("update", "fed", "seconds", "exact", "eval_solved", "eval_exact", "eval_segments")
"""What is shown of every evaluation."""


@dataclass(frozen=True)
class Curve:
    """How a training run went: its evaluations on held-out puzzles.

    Attributes:
        run: Folder of the run, or its curve.jsonl.
        out: Where picture (.png) and figures (.json) go, without suffix.
    """

    EXAMPLES = ("hrm-gym analyze curve runs/sudoku-4x4", "hrm-gym analyze curve runs/maze --out figures/maze")
    run: Annotated[tyro.conf.Positional[Path], arg("RUN")]
    out: Annotated[Path | None, arg("PATH", "analysis/RUN-curve")] = None


def curve(argv: Sequence[str]) -> None:
    """Run `hrm-gym analyze curve`."""
    config = parse(Curve, "hrm-gym analyze curve", argv)
    out, name = _place(config.out, f"{os.path.basename(os.path.realpath(config.run))}-curve"), config.run.name
    path = config.run / CURVE if config.run.is_dir() else config.run
    if not (rows := read_curve(path, CURVE_NUMBERS)):
        raise ValueError(f"{path}: expected the evaluations of a training run, found none")
    headings = ("update", "puzzles seen", "minutes", "solved", "exact", "segments")
    table = new_table(f"{name}: held-out puzzles", *headings, left=0)
    for row in rows:
        shares = (f"{row[f'eval_{rate}']:.1%}" for rate in ("solved", "exact"))
        minutes, used = f"{row['seconds'] / 60:.1f}", f"{row['eval_segments']:.2f}"
        table.add_row(f"{row['update']:,}", f"{row['fed']:,}", minutes, *shares, used)
    _write(table, {"run": name, "rows": rows}, out, lambda path: figures.draw_curve(rows, name, path))
