"""`hrm-gym analyze`: what an HRM does with its segments, as a table, a picture and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.analysis.figures import draw_scaling, draw_segments
from hrm_gym.agents.hrm.analysis.scaling import Point, ScalingStudy, study_scaling
from hrm_gym.agents.hrm.analysis.segments import SegmentStudy, study_segments
from hrm_gym.agents.hrm.analysis.trajectories import joined, think_through
from hrm_gym.agents.hrm.halting import learned, parse_halting
from hrm_gym.recorder import check_writable, written_whole
from hrm_gym.rollout import puzzle_for, rollout_batched
from hrm_gym.scripts.arguments import parse
from hrm_gym.scripts.solve import HRM_AGENTS, SolveConfig, Worlds, agent_named, check, with_progress

HELP = """usage: hrm-gym analyze segments [ENV_ID] [options]
       hrm-gym analyze scaling [ENV_ID] [options]

segments  does the agent think longer about harder puzzles? Segments used and share solved against difficulty: the
          rating where puzzles have one, else what their family counts (cells of the shortest path, guesses).
scaling   what do more segments bring? The share solved with fixed budgets, beyond the number used in training too, and
          with the network's own halting and other rules on the same plane.

Both print a table and write a picture (.png) and the figures (.json).

examples:
  hrm-gym analyze segments HRMMaze-v0 --agent hrm --episodes 1000
  hrm-gym analyze segments HRMMaze-v0 --source generate --votes 8
  hrm-gym analyze segments HRMSudokuExtreme-v0 --agent hrm=runs/sudoku/model --data test.csv
  hrm-gym analyze scaling HRMMaze-v0 --budgets 1 2 4 8 16 32 64
  hrm-gym analyze scaling HRMMaze-v0 --rules confidence:0.9 stable:2 --out figures/maze
  hrm-gym analyze segments --help                      every option with its default
"""


@dataclass(frozen=True)
class PuzzlesConfig:
    """Which puzzles, played by whom.

    Attributes:
        env_id: A registered environment.
        agent: hrm, hrm-vote or hrm-first; NAME=PATH gives other weights than the bundled ones.
        episodes: Puzzles (1000, or every row of --data).
        source: Take puzzles from the bundled bank (under random symmetries), or generate new ones.
        data: Play the rows of this CSV file (source,question,answer,rating) in order.
        batch: Boards in play at a time.
        seed: Which stream of puzzles.
        split: Which part of the puzzles.
        size: Side length of the grid.
        compile: Compile the network; pays off for long runs.
        out: Where the figures go, without suffix (analysis/ENV-STUDY).
    """

    env_id: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[ENV_ID]")] = "HRMMaze-v0"
    agent: str = "hrm"
    episodes: int | None = None
    source: Literal["bank", "generate"] = "bank"
    data: Path | None = None
    batch: int = 64
    seed: int = 0
    split: Literal["train", "test"] = "test"
    size: int | None = None
    compile: bool = False
    out: Path | None = None


@dataclass(frozen=True)
class SegmentsConfig(PuzzlesConfig):
    """Segments used and share solved against difficulty.

    Attributes:
        max_segments: Segments after which an answer is forced (the environment's own).
        halting: When the HRM stops before that: q, fixed:8, confidence:0.99, stable:2 or never.
        votes: Let it solve so many symmetric images of each puzzle and vote.
        bins: Rows of the table, at most.
    """

    max_segments: int | None = None
    halting: str = "q"
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
    out, settings = _prepared(config, "segments", config.max_segments, config.halting, config.votes)
    worlds = Worlds(settings)
    agent = agent_named(config.agent, settings, worlds)
    runs = rollout_batched(lambda: worlds.make("answer"), agent, worlds.episodes, config.batch, worlds.seed)
    episodes = list(with_progress(runs, worlds.episodes, agent.name))
    family: Any = worlds.make("answer").unwrapped
    study = study_segments(episodes, family.family, config.bins)
    _print(segments_table(study))
    _write(study, out, lambda path: draw_segments(study, path))


def analyze_scaling(argv: Sequence[str]) -> None:
    """Run `hrm-gym analyze scaling`."""
    config = parse(ScalingConfig, "hrm-gym analyze scaling", argv)
    budgets = sorted(set(config.budgets))
    if not budgets or budgets[0] < 1:
        raise ValueError(f"expected --budgets of at least 1 segment, got {config.budgets}")
    out, settings = _prepared(config, "scaling", budgets[-1], "q", 1)
    worlds = Worlds(settings)
    agent = agent_named(config.agent, settings, worlds)
    if not isinstance(agent, HRMAgent):
        raise ValueError(f"expected one HRM, got {config.agent!r}: the budget of a panel is not one number")
    model = agent.model.config
    rules = [parse_halting(text, model) for text in config.rules]
    env = worlds.make("answer")
    puzzles = [puzzle_for(env, worlds.seed, k) for k in range(worlds.episodes)]
    parts = think_through(agent, puzzles, budgets[-1], config.batch)
    batches = -(-len(puzzles) // config.batch)
    trajectories = joined(list(with_progress(parts, batches, f"{agent.name}, {budgets[-1]} segments")))
    study = study_scaling(trajectories, learned(model), budgets, rules, config.env_id, agent.name, model.max_segments)
    _print(scaling_table(study))
    _write(study, out, lambda path: draw_scaling(study, path))


STUDIES: dict[str, Callable[[Sequence[str]], None]] = {"segments": analyze_segments, "scaling": analyze_scaling}


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


def _prepared(
    config: PuzzlesConfig, study: str, max_segments: int | None, halting: str, votes: int
) -> tuple[Path, SolveConfig]:
    """Where the figures go, and what `solve` would be told; bad settings are refused before any work."""
    if config.agent.partition("=")[0] not in HRM_AGENTS:
        raise ValueError(f"expected --agent to be one of {', '.join(HRM_AGENTS)}, got {config.agent!r}")
    out = config.out or Path("analysis") / f"{config.env_id}-{study}"
    for suffix in (".png", ".json"):
        check_writable(Path(f"{out}{suffix}"))
    names = ("env_id", "source", "data", "batch", "seed", "split", "size", "compile")
    same: dict[str, Any] = {name: getattr(config, name) for name in names}
    episodes = 1000 if config.episodes is None and config.data is None else config.episodes
    settings = SolveConfig(
        **same, agent=(config.agent,), episodes=episodes, max_segments=max_segments, halting=halting, votes=votes
    )
    check(settings)
    return out, settings


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


def _print(table: Table) -> None:
    console = Console()
    (console if console.is_terminal else Console(width=140)).print(table)


def _write(study: SegmentStudy | ScalingStudy, out: Path, draw: Callable[[Path], None]) -> None:
    """Write picture and figures, each whole or not at all."""
    picture, figures = Path(f"{out}.png"), Path(f"{out}.json")
    with written_whole(picture) as draft:
        draw(draft)
    with written_whole(figures) as draft:
        draft.write_text(json.dumps(asdict(study), indent=2) + "\n", encoding="utf-8")
    print(f"picture: {picture}\nfigures: {figures}")
