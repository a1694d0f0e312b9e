"""What all studies of `hrm-gym analyze` share: which puzzles, played by whom, and where the figures go.

`hrm-gym analyze answers`: the answer after each segment, as pictures in a row a puzzle.

`hrm-gym analyze curve`: how a training run went, as a table and a picture.

`hrm-gym analyze convergence` and `dimensionality`: what the states of both levels do.

`hrm-gym analyze`: what an HRM does with its segments, as a table, a picture and JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.table import Table

from hrm_gym.agents.hrm.agent import Boards, HRMAgent
from hrm_gym.agents.hrm.analysis.answers import Answers, study_answers
from hrm_gym.agents.hrm.analysis.figures import (
    BLUE,
    GREY,
    ORANGE,
    draw_convergence,
    draw_dimensionality,
    draw_scaling,
    draw_segments,
    new_figure,
    plain,
    save,
)
from hrm_gym.agents.hrm.analysis.segments import (
    Point,
    ScalingStudy,
    SegmentStudy,
    joined,
    study_scaling,
    study_segments,
    think_through,
)
from hrm_gym.agents.hrm.analysis.states import (
    ConvergenceStudy,
    DimensionalityStudy,
    Network,
    study_convergence,
    study_dimensionality,
)
from hrm_gym.agents.hrm.halting import learned, parse_halting
from hrm_gym.agents.hrm.run_folder import CURVE
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.puzzle import Grid, Puzzle
from hrm_gym.evaluation.pages import show
from hrm_gym.evaluation.rollout import puzzle_for, rollout_batched
from hrm_gym.files import check_writable, write_atomically, written_atomically
from hrm_gym.reading import read_curve
from hrm_gym.scripts.options import parse, run_subcommand, say, with_progress
from hrm_gym.scripts.solve import HRM_AGENTS, SolveConfig, Worlds, agent_named, check


@dataclass(frozen=True)
class PuzzlesConfig:
    """Which puzzles, played by whom.

    Attributes:
        env_id: A registered environment.
        agent: hrm, hrm-vote or hrm-first; NAME=PATH gives other weights than the bundled ones.
        episodes: Puzzles (1000, or every row of --data).
        source: Take puzzles from the bundled bank (under random symmetries), generate new ones, or play a file.
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
    source: Annotated[str, tyro.conf.arg(metavar="bank|generate|FILE")] = "bank"
    data: Path | None = None
    batch: int = 64
    seed: int = 0
    split: Literal["train", "test"] = "test"
    size: int | None = None
    compile: bool = False
    out: Path | None = None


def prepared(
    config: PuzzlesConfig, study: str, max_segments: int | None, halting: str | None, votes: int
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


def one_network(config: PuzzlesConfig, settings: SolveConfig, worlds: Worlds) -> HRMAgent:
    """The agent of a study that looks into one network.

    Raises:
        ValueError: it is a panel, or there are no such weights.
    """
    agent = agent_named(config.agent, settings, worlds)
    if not isinstance(agent, HRMAgent):
        raise ValueError(f"expected one HRM, got {config.agent!r}: this study looks into a single network")
    return agent


def puzzles_of(worlds: Worlds) -> list[Puzzle]:
    """The puzzles that are asked for."""
    env = worlds.make("answer")
    return [puzzle_for(env, worlds.seed, k) for k in range(worlds.episodes)]


def boards_of(agent: HRMAgent, puzzles: Sequence[Puzzle]) -> Boards:
    """Puzzles as the agent's network takes them."""
    tasks = np.array([[puzzle.puzzle_id] for puzzle in puzzles], np.int32)
    return agent.boards(np.stack([puzzle.clues for puzzle in puzzles]), tasks)


def write(study: Any, out: Path, draw: Callable[[Path], None]) -> None:
    """Write the picture that `draw` makes, and the figures of a study (a dataclass, or plain values), each whole or not
    at all.
    """
    picture, figures = Path(f"{out}.png"), Path(f"{out}.json")
    plain: Any = asdict(study) if is_dataclass(study) and not isinstance(study, type) else study
    with written_atomically(picture) as draft:
        draw(draft)
    write_atomically(figures, json.dumps(plain, indent=2) + "\n")
    say(f"picture: {picture}\nfigures: {figures}")


Pictures = list[list[NDArray[np.uint8]]]


@dataclass(frozen=True)
class AnswersConfig(PuzzlesConfig):
    """The answer after each segment.

    Attributes:
        episodes: Puzzles, a row of pictures each.
        segments: The segments that are shown.
        halting: The rule whose decision is marked: q, fixed:8, confidence:0.99, stable:2 or never; by default what
            suits the weights, mostly q.
    """

    episodes: int | None = 4
    segments: tuple[int, ...] = (1, 2, 3, 4, 6, 8)
    halting: str | None = None


def analyze_answers(argv: Sequence[str]) -> None:
    """Run `hrm-gym analyze answers`."""
    config = parse(AnswersConfig, "hrm-gym analyze answers", argv)
    shown = sorted(set(config.segments))
    if not shown or shown[0] < 1:
        raise ValueError(f"expected --segments of at least 1, got {config.segments}")
    out, settings = prepared(config, "answers", shown[-1], config.halting, 1)
    worlds = Worlds(settings)
    agent = one_network(config, settings, worlds)
    puzzles = puzzles_of(worlds)
    courses, answers = study_answers(agent, puzzles, shown[-1])
    pictures = [
        [board_picture(agent.family, puzzle, grids[segment - 1]) for segment in shown]
        for puzzle, grids in zip(puzzles, answers, strict=True)
    ]
    show(answers_table(courses, shown))
    title = f"{agent.name} on {config.env_id}: the answer after each segment"
    told = {"env": config.env_id, "agent": agent.name, "courses": [asdict(course) for course in courses]}
    write(told, out, lambda path: draw_answers(courses, pictures, shown, title, path))


def answers_table(courses: Sequence[Answers], shown: Sequence[int]) -> Table:
    """A row a puzzle: wrong cells after each segment that is shown."""
    table = Table(
        title="cells that differ from the stored solution, after each segment", caption="✓: right by the rules"
    )
    table.add_column("puzzle")
    for segment in shown:
        table.add_column(str(segment), justify="right")
    table.add_column("halts after", justify="right")
    for one in courses:
        cells = [f"{one.wrong[n - 1]}{' ✓' if one.solved[n - 1] else ''}" for n in shown]
        table.add_row(one.puzzle, *cells, str(one.halts or "-"))
    return table


def board_picture(family: PuzzleFamily, puzzle: Puzzle, answer: Grid) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 picture of a puzzle with an answer, drawn without a display."""
    import pygame

    pygame.font.init()
    surface = pygame.Surface(family.board_size, 0, 24)
    family.draw(surface, puzzle, answer, None)
    return np.ascontiguousarray(pygame.surfarray.array3d(surface).transpose(1, 0, 2))


def draw_answers(courses: Sequence[Answers], pictures: Pictures, shown: Sequence[int], title: str, path: Path) -> None:
    """Write the pictures, a row a puzzle and a column a segment.

    Raises:
        OSError: if it cannot be written.
    """
    figure = new_figure((2.1 * len(shown), 2.55 * len(courses) + 0.5), title)
    axes: Any = figure.subplots(len(courses), len(shown), squeeze=False)
    for row, (course, some) in enumerate(zip(courses, pictures, strict=True)):
        for column, (segment, picture) in enumerate(zip(shown, some, strict=True)):
            one = axes[row, column]
            one.imshow(picture, interpolation="antialiased")
            one.set_xticks([])
            one.set_yticks([])
            wrong, right = course.wrong[segment - 1], course.solved[segment - 1]
            halted = course.halts is not None and course.halts <= segment
            state = "solved" if right else f"{wrong} cells wrong"
            one.set_title(f"segment {segment}: {state}\nQ(halt) {course.q_halt[segment - 1]:.2f}", fontsize=7)
            for spine in one.spines.values():
                spine.set(color=BLUE if halted else GREY, linewidth=2.5 if halted else 0.5)
    figure.supxlabel("blue frame: the agent has halted by then", fontsize=8)
    save(figure, path)


Row = Mapping[str, float]

CURVE_NUMBERS = ("update", "fed", "seconds", "exact", "eval_solved", "eval_exact", "eval_segments")
"""What is told of every evaluation."""


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
    path = config.run / CURVE if config.run.is_dir() else config.run
    if not (rows := read_curve(path, CURVE_NUMBERS)):
        raise ValueError(f"{path}: expected the evaluations of a training run, found none")
    show(curve_table(rows, config.run.name))
    write({"run": config.run.name, "rows": rows}, out, lambda path: draw_curve(rows, config.run.name, path))


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
    return run_subcommand(STUDIES, "hrm-gym analyze", argv, HELP)


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
