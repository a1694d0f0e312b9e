"""`hrm-gym analyze answers`: the answer after each segment, as pictures in a row a puzzle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from hrm_gym.agents.hrm.analysis.answers import Answers, study_answers
from hrm_gym.agents.hrm.analysis.figures import BLUE, GREY, new_figure, save
from hrm_gym.envs.puzzle import Grid, Puzzle, PuzzleFamily
from hrm_gym.scripts.analyze_setup import PuzzlesConfig, one_network, prepared, puzzles_of, show, write
from hrm_gym.scripts.arguments import parse
from hrm_gym.scripts.solve import Worlds

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
