"""`hrm-gym analyze`: what an HRM does with its segments, as a table, a picture and JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from hrm_gym.agents.hrm.analysis.figures import draw_scaling, draw_segments
from hrm_gym.agents.hrm.analysis.scaling import Point, ScalingStudy, study_scaling
from hrm_gym.agents.hrm.analysis.segments import SegmentStudy, study_segments
from hrm_gym.agents.hrm.analysis.trajectories import joined, think_through
from hrm_gym.agents.hrm.halting import learned, parse_halting
from hrm_gym.rollout import rollout_batched
from hrm_gym.scripts.analyze_answers import analyze_answers
from hrm_gym.scripts.analyze_curve import analyze_curve
from hrm_gym.scripts.analyze_setup import PuzzlesConfig, one_network, prepared, puzzles_of, show, write
from hrm_gym.scripts.analyze_states import analyze_convergence, analyze_dimensionality
from hrm_gym.scripts.arguments import parse
from hrm_gym.scripts.progress import with_progress
from hrm_gym.scripts.solve import Worlds, agent_named

HELP = """usage: hrm-gym analyze STUDY [ENV_ID] [options]

segments  does the agent think longer about harder puzzles? Segments used and share solved against difficulty: the
          rating where puzzles have one, else what their family counts (cells of the shortest path, guesses).
scaling   what do more segments bring? The share solved with fixed budgets, beyond the number used in training too, and
          with the network's own halting and other rules on the same plane.
answers   the answer after each segment, as a picture a puzzle (HRM paper, figure 7).
convergence     how far each call of a level still moves its state (the forward residual of the HRM paper, figure 3),
          beside a recurrent and a direct-prediction network if you name their weights.
dimensionality  the participation ratio of both levels' states (HRM paper, section 4), against that of an untrained
          network, for rising numbers of puzzles.
curve     how a training run went: its evaluations on held-out puzzles.

All print a table and write a picture (.png) and the figures (.json).

examples:
  hrm-gym analyze segments HRMMaze-v0 --agent hrm --episodes 1000
  hrm-gym analyze segments HRMMaze-v0 --source generate --votes 8
  hrm-gym analyze segments HRMSudokuExtreme-v0 --agent hrm=runs/sudoku/model --data test.csv
  hrm-gym analyze scaling HRMMaze-v0 --budgets 1 2 4 8 16 32 64
  hrm-gym analyze scaling HRMMaze-v0 --rules confidence:0.9 stable:2 --out figures/maze
  hrm-gym analyze answers HRMMaze-v0 --episodes 4
  hrm-gym analyze convergence HRMMaze-v0 --beside runs/maze-recurrent/model runs/maze-direct/model
  hrm-gym analyze dimensionality HRMMaze-v0 --episodes 512
  hrm-gym analyze curve runs/sudoku-4x4
  hrm-gym analyze segments --help                      every option with its default
"""


@dataclass(frozen=True)
class SegmentsConfig(PuzzlesConfig):
    """Segments used and share solved against difficulty.

    Attributes:
        max_segments: Segments after which an answer is forced (the environment's own).
        halting: When the HRM stops before that: q, fixed:8, confidence:0.99, stable:2 or never; by default what suits
            the weights, mostly q.
        votes: Let it solve so many symmetric images of each puzzle and vote.
        bins: Rows of the table, at most.
    """

    max_segments: int | None = None
    halting: str | None = None
    votes: int = 1
    bins: int = 8


@dataclass(frozen=True)
class ScalingConfig(PuzzlesConfig):
    """Share solved against segments.

    Attributes:
        budgets: Fixed numbers of segments.
        rules: Halting rules to compare, with the greatest budget as their limit.
    """

    budgets: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    rules: tuple[str, ...] = ("confidence:0.9", "confidence:0.99", "stable:1", "stable:2")


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym analyze STUDY …`.

    Args:
        argv: the arguments after `analyze`.

    Returns:
        0.

    Raises:
        ValueError: for bad input of any kind; the message fits on one line.
        OSError: for files that cannot be read or written.
    """
    if argv and argv[0] in ("-h", "--help"):
        print(HELP)
        return 0
    if not argv or argv[0] not in STUDIES:
        found = f"unknown study {argv[0]!r}" if argv else "no study given"
        raise ValueError(f"{found}: expected one of {', '.join(STUDIES)} (see hrm-gym analyze --help)")
    STUDIES[argv[0]](argv[1:])
    return 0


def analyze_segments(argv: Sequence[str]) -> None:
    """Run `hrm-gym analyze segments`."""
    config = parse(SegmentsConfig, "hrm-gym analyze segments", argv)
    if config.bins < 1:
        raise ValueError(f"expected --bins of at least 1, got {config.bins}")
    out, settings = prepared(config, "segments", config.max_segments, config.halting, config.votes)
    worlds = Worlds(settings)
    agent = agent_named(config.agent, settings, worlds)
    runs = rollout_batched(lambda: worlds.make("answer"), agent, worlds.episodes, config.batch, worlds.seed)
    episodes = list(with_progress(runs, worlds.episodes, agent.name))
    family: Any = worlds.make("answer").unwrapped
    study = study_segments(episodes, family.family, config.bins)
    show(segments_table(study))
    write(study, out, lambda path: draw_segments(study, path))


def analyze_scaling(argv: Sequence[str]) -> None:
    """Run `hrm-gym analyze scaling`."""
    config = parse(ScalingConfig, "hrm-gym analyze scaling", argv)
    budgets = sorted(set(config.budgets))
    if not budgets or budgets[0] < 1:
        raise ValueError(f"expected --budgets of at least 1 segment, got {config.budgets}")
    out, settings = prepared(config, "scaling", budgets[-1], None, 1)
    worlds = Worlds(settings)
    agent = one_network(config, settings, worlds)
    model = agent.model.config
    rules = [parse_halting(text, model) for text in config.rules]
    puzzles = puzzles_of(worlds)
    parts = think_through(agent, puzzles, budgets[-1], config.batch)
    batches = -(-len(puzzles) // config.batch)
    trajectories = joined(list(with_progress(parts, batches, f"{agent.name}, {budgets[-1]} segments")))
    study = study_scaling(trajectories, learned(model), budgets, rules, config.env_id, agent.name, model.max_segments)
    show(scaling_table(study))
    write(study, out, lambda path: draw_scaling(study, path))


STUDIES: dict[str, Callable[[Sequence[str]], None]] = {
    "segments": analyze_segments,
    "scaling": analyze_scaling,
    "answers": analyze_answers,
    "curve": analyze_curve,
    "convergence": analyze_convergence,
    "dimensionality": analyze_dimensionality,
}


def segments_table(study: SegmentStudy) -> Table:
    """A row a bin, from easy to hard."""
    table = Table(title=f"{study.agent} on {study.env}, {study.puzzles:,} puzzles", caption=_correlation(study))
    spent = any(one.spent != one.segments for one in study.bins)
    for heading in (study.unit, "puzzles", "segments", "solved", *(["spent"] if spent else [])):
        table.add_column(heading, justify="right")
    for one in study.bins:
        table.add_row(
            f"{one.low:g}" if one.low == one.high else f"{one.low:g}-{one.high:g}",
            str(one.puzzles),
            f"{one.segments:.2f} ({one.segments_low:.2f}-{one.segments_high:.2f})",
            _share(one.solved, one.solved_low, one.solved_high),
            *([f"{one.spent:.2f}"] if spent else []),
        )
    return table


def scaling_table(study: ScalingStudy) -> Table:
    """A row a budget, and a row a further rule."""
    title = f"{study.agent} on {study.env}, {study.puzzles:,} puzzles, trained with {study.trained} segments"
    caption = f"in brackets: 95 % Wilson intervals; right after some segment: {study.ever:.1%}"
    table = Table(title=title, caption=caption)
    table.add_column("segments")
    for heading in ("fixed: solved", "q: mean segments", "q: solved"):
        table.add_column(heading, justify="right")
    for fixed, own in zip(study.fixed, study.learned, strict=True):
        table.add_row(str(fixed.limit), _solved(fixed), f"{own.segments:.2f}", _solved(own))
    if study.rules:
        table.add_section()
    for one in study.rules:
        table.add_row(one.rule, "", f"{one.segments:.2f}", _solved(one))
    return table


def _correlation(study: SegmentStudy) -> str:
    """The last line of the table of segments."""
    if study.correlation is None:
        return "no correlation: difficulty or segments are the same everywhere"
    text = f"Spearman correlation {study.correlation:+.2f}"
    if study.correlation_low is not None and study.correlation_high is not None:
        text += f" ({study.correlation_low:+.2f} to {study.correlation_high:+.2f})"
    return f"{text}; in brackets: 95 % intervals"


def _solved(one: Point) -> str:
    return _share(one.solved, one.solved_low, one.solved_high)


def _share(rate: float, low: float, high: float) -> str:
    return f"{rate:.1%} ({100 * low:.1f}-{100 * high:.1f})"
