"""The style of all plots: no text lies on another, and files are small."""

from __future__ import annotations

import dataclasses
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrm_gym.agents.hrm.analysis import figures
from hrm_gym.agents.hrm.analysis.segments import Point, ScalingStudy
from hrm_gym.evaluation import plots
from hrm_gym.scripts.experiments import paper, strategies

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def texts_of(figure: Any) -> list[Any]:
    """The texts that are drawn; ticks beyond the ends of an axis are not."""
    found = [*figure.texts, figure._suptitle]
    for legend in figure.legends:
        found += legend.get_texts()
    for axes in figure.axes:
        found += [axes.title, *axes.texts]
        for axis in (axes.xaxis, axes.yaxis):
            found += [axis.label, *(tick.label1 for tick in axis._update_ticks())]
    return [
        text for text in dict.fromkeys(found) if text is not None and text.get_visible() and text.get_text().strip()
    ]


def overlapping(figure: Any) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes share more than a pixel."""
    figure.canvas.draw()
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts_of(figure)]
    found = []
    for (one, a), (other, b) in combinations(boxes, 2):
        across, up = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        if across > 1 and up > 1:
            found.append((one, other))
    return found


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are saved while a test runs."""
    kept: list[Any] = []
    real = plots.save

    def save(figure: Any, path: Path) -> Path:
        kept.append(figure)
        return real(figure, path)

    for module in (plots, figures, paper, strategies, paper.memory, paper.comparison):
        monkeypatch.setattr(module, "save", save)
    return kept


def test_texts_that_overlap_are_found() -> None:
    figure, ((axes,),) = plots.new_figure((3, 2), "one")
    axes.text(0.5, 0.5, "here")
    assert not overlapping(figure)
    axes.text(0.52, 0.5, "and here")
    assert overlapping(figure) == [("here", "and here")]


@pytest.mark.parametrize("name", ["depth", "memory", "versus", "levels", "halting", "curve"])
def test_figures_of_committed_results_can_be_read(name: str, drawn: list[Any], tmp_path: Path) -> None:
    import shutil

    shutil.copytree(RESULTS, tmp_path / "results")
    assert paper.main([name, "--results", str(tmp_path / "results")]) == 0
    assert drawn
    assert not [pair for figure in drawn for pair in overlapping(figure)]


def test_rules_that_agree_do_not_hide_each_other_s_names(drawn: list[Any], tmp_path: Path) -> None:
    def point(rule: str, limit: int) -> Point:
        return Point(rule, limit, 3.0 + limit / 8, 0.9, 0.85, 0.95)

    budgets = (1, 2, 4, 8, 16, 32, 64)
    rules = tuple(point(f"confidence:0.{n}", 64) for n in range(5, 10))
    every = tuple(point("fixed", budget) for budget in budgets)
    study = ScalingStudy("HRMMaze-v0", "hrm", 100, 8, every, every, rules, 0.92)
    figures.draw_scaling(study, tmp_path / "scaling.png")
    assert not overlapping(drawn[0])
    assert (tmp_path / "scaling.png").stat().st_size < 80_000


def test_committed_pictures_are_small() -> None:
    for path in RESULTS.rglob("*.png"):
        assert path.stat().st_size <= 80 * 1024, f"{path}: expected at most 80 KiB, got {path.stat().st_size:,}"


def test_every_figure_of_the_paper_is_committed_with_its_command() -> None:
    for name in paper.STUDIES:
        found = json.loads((RESULTS / "paper" / f"{name}.json").read_text())
        assert found["command"] == f"hrm-gym analyze {paper.STUDIES[name]}"
        assert (RESULTS / "paper" / f"{name}.png").exists()


def test_unknown_figures_are_named() -> None:
    with pytest.raises(ValueError, match=r"expected figures out of answers-sudoku.* got .figure-3."):
        paper.main(["figure-3"])


def test_shortest_paths_and_pieces_of_a_maze() -> None:
    from hrm_gym.envs.maze import tokens

    maze = tokens.parse("S  \n # \n  G")  # two shortest paths around a wall
    assert strategies.on_a_shortest_path(maze).sum() == 8
    answer = maze.copy()
    answer[0, 2] = tokens.PATH
    assert strategies._pieces(answer) == 3


def test_writes_and_what_is_taken_back() -> None:
    """One free cell: right, wrong, right again, and one that is written once."""
    from hrm_gym.envs.puzzle import Puzzle

    class Family:
        def counted(self, clues: Any, solution: Any) -> Any:
            return clues == 1

        def judge(self, clues: Any, solutions: Any, answers: Any) -> Any:
            return (answers == solutions).all(axis=(1, 2))

    @dataclasses.dataclass
    class Agent:
        family: Any = dataclasses.field(default_factory=Family)

    puzzle = Puzzle(np.array([[1, 1, 5]], np.uint8), np.array([[3, 4, 5]], np.uint8))
    answers = np.array([[[[3, 2, 5]], [[2, 4, 5]], [[3, 4, 5]]]], np.uint8)
    course = strategies.Course(answers, np.array([3]), None)
    found = strategies.written_and_taken_back(Agent(), [puzzle], course)  # type: ignore[arg-type]
    assert found["wrong"] == [1, 1, 0]
    assert found["written"] == [2, 1]
    assert found["taken_back"] == [1, 0]
    assert found["share_of_writes_on_right_cells"] == pytest.approx(1 / 3)
    assert found["segments_better_equal_worse"] == [1, 1, 0]
    assert found["solved"] == 1
