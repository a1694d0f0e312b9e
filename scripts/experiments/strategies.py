"""How an HRM gets from its first answer to its last, in numbers (HRM paper, section 4, figure 7).

`python -m hrm_gym.scripts.experiments.strategies` runs the bundled weights on Sudokus, mazes and ARC tasks.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import label

from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.halting import Never
from hrm_gym.agents.hrm.thinking import Rules
from hrm_gym.envs.maze import tokens as maze
from hrm_gym.envs.maze.rules import distances
from hrm_gym.envs.puzzle import Puzzle
from hrm_gym.evaluation.compare.plan import parse_world
from hrm_gym.evaluation.intervals import wilson
from hrm_gym.evaluation.plots import BLUE, GREEN, ORANGE, PURPLE, RED, heading, legend, line, new_figure, save
from hrm_gym.scripts.experiments.evaluate import about
from hrm_gym.scripts.main import run
from hrm_gym.scripts.options import RunOptions, arg, at_least, parse
from hrm_gym.scripts.output import write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROGRAM = "python -m hrm_gym.scripts.experiments.strategies"
WORLDS = {
    "sudoku": ("HRMSudoku-v0:difficulty=hard", "generate", 24),
    "maze": ("HRMMaze-v0", "generate", 8),
    "arc": ("HRMARCMini-v0:split=train,augment=False", "bank", 8),
}
"""Environment, source and segments of each kind."""

LIKELY = 0.1
"""Probability from which a cell counts as part of a path that is considered."""


@dataclass(frozen=True)
class StrategiesConfig(RunOptions):
    """Count, segment by segment, what the bundled HRMs write, take back and get wrong.

    Attributes:
        puzzles: Of each kind.
        seed: Of the puzzles.
        batch: Boards at a time.
        out: Where picture (.png) and figures (.json) go, without suffix.
    """

    puzzles: int = 64
    seed: int = 2026
    batch: int = 16
    out: Annotated[Path, arg("PATH")] = Path("analysis/strategies")


@dataclass(frozen=True, eq=False)
class Course:
    """N puzzles over K segments, in the order in which they were thought about.

    Attributes:
        answers: (N, K, H, W) uint8; after its halt a puzzle keeps the last answer.
        halts: (N,) segment of the halt, K where there is none.
        likely: (N, K, H, W) bool, cells that may belong to a path; of mazes only.
    """

    answers: NDArray[np.uint8]
    halts: NDArray[np.int64]
    likely: NDArray[np.bool_] | None


def follow(agent: HRMAgent, puzzles: Sequence[Puzzle], segments: int) -> Course:
    """The answers of an HRM after every segment, until its own halting rule stops it."""
    boards = agent.boards_of(puzzles)
    seen, stops, likely = [], [], []
    for _, state in agent.think(boards, rules=Rules(Never(), segments)):
        seen.append(state.answers.cpu().numpy().reshape(-1, *agent.grid))
        stops.append(agent.halting.halts(state.evidence(boards.free)).cpu().numpy())
        if agent.family.name == "maze":
            chances = torch.softmax(agent.model.answer_logits(state.carry.z_h).float(), dim=-1)[..., maze.PATH]
            likely.append((chances > LIKELY).cpu().numpy().reshape(-1, *agent.grid))
    halted = np.stack(stops, axis=1)
    halts = np.where(halted.any(axis=1), halted.argmax(axis=1) + 1, segments)
    last = np.minimum(np.arange(segments), halts[:, None] - 1)  # (N, K): the segment that is shown
    rows = np.arange(len(puzzles))[:, None]
    return Course(np.stack(seen, axis=1)[rows, last], halts, np.stack(likely, axis=1)[rows, last] if likely else None)


def joined(parts: Sequence[Course]) -> Course:
    """Courses of one network as one."""
    likely = (
        None if parts[0].likely is None else np.concatenate([part.likely for part in parts if part.likely is not None])
    )
    return Course(np.concatenate([p.answers for p in parts]), np.concatenate([p.halts for p in parts]), likely)


def written_and_taken_back(agent: HRMAgent, puzzles: Sequence[Puzzle], course: Course) -> dict[str, Any]:
    """Per segment, in the mean over puzzles: cells rewritten, those of them replaced later, wrong cells; and totals.

    A cell is written when its symbol changes after the first segment, and taken back when it changes once more.
    """
    counted = np.stack([agent.family.counted(puzzle.clues, puzzle.solution) for puzzle in puzzles])[:, None]
    solutions = np.stack([puzzle.solution for puzzle in puzzles])[:, None]
    answers = course.answers
    wrong = ((answers != solutions) & counted).sum(axis=(2, 3))
    written = (answers[:, 1:] != answers[:, :-1]) & counted
    later = np.cumsum(written[:, ::-1], axis=1)[:, ::-1] > written  # (N, K - 1, H, W): changes again afterwards
    spoilt = written & (answers[:, :-1] == solutions)
    rises = (np.diff(wrong, axis=1) > 0).any(axis=1)
    active = np.arange(1, answers.shape[1]) < course.halts[:, None]
    steps = np.sign(np.diff(wrong, axis=1))[active]
    low, high = wilson(int(rises.sum()), len(rises))
    return {
        "wrong": wrong.mean(axis=0).round(3).tolist(),
        "written": written.sum(axis=(2, 3)).mean(axis=0).round(3).tolist(),
        "taken_back": (written & later).sum(axis=(2, 3)).mean(axis=0).round(3).tolist(),
        "share_taken_back": _ratio((written & later).sum(), written.sum()),
        "share_of_writes_on_right_cells": _ratio(spoilt.sum(), written.sum()),
        "share_of_puzzles_that_get_worse": _ratio(rises.sum(), len(rises)),
        "share_of_puzzles_that_get_worse_interval": [low, high],
        "segments_better_equal_worse": [int((steps == way).sum()) for way in (-1, 0, 1)],
        "solved": float(agent.family.judge(*_grids(puzzles), answers[:, -1]).mean()),
        "mean_segments": float(course.halts.mean()),
    }


def paths(puzzles: Sequence[Puzzle], course: Course) -> dict[str, Any]:
    """Per segment, in the mean over mazes: cells of a path in the answer, cells considered, those of them beside the
    path that is answered in the end, and the pieces of which the answer's path consists."""
    if course.likely is None:
        raise ValueError("expected the course of a maze network, got one without probabilities of paths")
    free = np.stack([puzzle.clues == maze.OPEN for puzzle in puzzles])[:, None]
    drawn = (course.answers == maze.PATH) & free
    final = drawn[:, -1:]
    considered = course.likely & free
    shortest = np.stack([on_a_shortest_path(puzzle.clues) for puzzle in puzzles])[:, None]

    def mean(cells: NDArray[np.bool_]) -> list[float]:
        return [round(float(value), 3) for value in cells.sum(axis=(2, 3)).mean(axis=0)]

    pieces = np.array([[_pieces(grid) for grid in grids] for grids in course.answers])
    return {
        "path_cells": mean(drawn),
        "considered": mean(considered),
        "beside": mean(considered & ~final),
        "beside_on_a_shortest_path": mean(considered & ~final & shortest),
        "pieces": pieces.mean(axis=0).round(3).tolist(),
    }


def on_a_shortest_path(clues: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(H, W) bool, the cells of a maze through which any shortest path leads."""
    swapped = clues.copy()
    swapped[clues == maze.START], swapped[clues == maze.GOAL] = maze.GOAL, maze.START
    to_goal, to_start = distances(clues), distances(swapped)
    length = int(to_goal[clues == maze.START][0])
    return (to_goal >= 0) & (to_start >= 0) & (to_goal + to_start == length)


def _pieces(answer: NDArray[np.uint8]) -> int:
    """Connected pieces of start, goal and path cells."""
    return int(label(answer >= maze.START)[1])


def _grids(puzzles: Sequence[Puzzle]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return np.stack([puzzle.clues for puzzle in puzzles]), np.stack([puzzle.solution for puzzle in puzzles])


def _ratio(part: Any, whole: Any) -> float:
    return float(part) / float(whole) if whole else 0.0


def measured(config: StrategiesConfig) -> Iterator[tuple[str, dict[str, Any]]]:
    """The figures of one kind after the other."""
    for kind, (env, source, segments) in WORLDS.items():
        world = parse_world(env, source, "test", {})
        agent = HRMAgent.for_env(world.make("answer"), device=config.device)
        puzzles = world.puzzles(world.length(config.puzzles), config.seed)
        starts = range(0, len(puzzles), config.batch)
        course = joined([follow(agent, puzzles[first : first + config.batch], segments) for first in starts])
        found = {"env": env, "source": source, "puzzles": len(puzzles), "segments": segments}
        found |= written_and_taken_back(agent, puzzles, course)
        yield kind, found | (paths(puzzles, course) if kind == "maze" else {})


def drawn(results: dict[str, Any]) -> Figure:
    """A panel a kind."""
    figure, ((left, middle, right),) = new_figure((10.5, 3.6), "from the first answer to the last", columns=3)
    places = {kind: list(range(1, found["segments"] + 1)) for kind, found in results.items()}
    sudoku, mazes, arc = (results[kind] for kind in WORLDS)
    line(left, places["sudoku"], sudoku["wrong"], RED, "cells wrong", ".-")
    line(left, places["sudoku"][1:], sudoku["written"], BLUE, "cells rewritten", ".-")
    line(left, places["sudoku"][1:], sudoku["taken_back"], ORANGE, "of these, replaced later", ".--")
    line(middle, places["maze"], mazes["path_cells"], PURPLE, "path cells answered", ".-")
    line(middle, places["maze"], mazes["beside"], GREEN, "considered beside the final path", ".-")
    line(middle, places["maze"], mazes["wrong"], RED, "cells wrong", ".-")
    line(middle, places["maze"], mazes["pieces"], ORANGE, "pieces of the path", ".--")
    line(right, places["arc"], arc["wrong"], RED, "cells wrong", ".-")
    line(right, places["arc"][1:], arc["written"], BLUE, "cells rewritten", ".-")
    for axes, kind, name in ((left, "sudoku", "hard Sudoku"), (middle, "maze", "10x10 mazes"), (right, "arc", "ARC")):
        heading(axes, f"{name}, {results[kind]['puzzles']} puzzles")
        axes.set(xlabel="segment", ylabel="cells a puzzle", ylim=(0, None))
    legend(figure, 4)
    return figure


def main(argv: Sequence[str]) -> int:
    """Run the experiment; returns 0."""
    config = parse(StrategiesConfig, PROGRAM, argv)
    at_least(1, config, "puzzles", "batch")
    config.use_threads()
    results = {}
    for kind, found in measured(config):
        results[kind] = found
        worse, back = found["share_of_puzzles_that_get_worse"], found["share_taken_back"]
        print(
            f"{kind}: {back:.1%} of the cells written are replaced later; {worse:.1%} of the puzzles get worse at times"
        )
    write_json({**about(), "seed": config.seed, "results": results}, Path(f"{config.out}.json"))
    save(drawn(results), Path(f"{config.out}.png"))
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
