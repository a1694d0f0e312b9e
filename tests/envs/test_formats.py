"""Formats that people have: Kaggle's CSV files, files of lines without answers, RE-ARC's lists."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hrm_gym.envs.arc.tasks import read_tasks, unanswered_puzzle
from hrm_gym.envs.files import open_puzzles
from hrm_gym.envs.maze.rules import MAZE
from hrm_gym.envs.sudoku.rules import sudoku
from hrm_gym.envs.sudoku.source import BankedSudoku, find_bank
from hrm_gym.envs.sudoku.tokens import decode

BANK = BankedSudoku(find_bank((2, 2), "easy"), "test")  # type: ignore[arg-type]
PUZZLES = [decode(grid) for grid in BANK.clues[:6]]
ANSWERS = [decode(grid) for grid in BANK.solutions[:6]]
MINI = sudoku((2, 2))


def write(path: Path, lines: list[str], end: str = "\n") -> Path:
    path.write_text(end.join(lines) + end, newline="")
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("name", "header", "row"),
    [
        ("sudoku.csv", "quizzes,solutions", "{zeros},{answer}"),
        ("sudoku.csv", "puzzle,solution", "{puzzle},{answer}"),
        ("sudoku.csv", "Puzzle,Solution", "{puzzle},{answer}"),
        ("sudoku-3m.csv", "id,puzzle,solution,clues,difficulty", "7,{puzzle},{answer},5,1.5"),
        ("norating.csv", "source,question,answer", "mine,{puzzle},{answer}"),
        ("unsolved.csv", "puzzle", "{puzzle}"),
        ("unsolved.csv", "question,rating", "{puzzle},1.5"),
        ("lines.sdm", "# a remark", "{puzzle}"),
        ("lines.txt", "", " {zeros} "),
        ("pairs.txt", "", "{puzzle},{answer}"),
        ("bare.csv", "{puzzle}", "{puzzle}"),
    ],
)
def test_sudoku_files(tmp_path: Path, name: str, header: str, row: str, end: str) -> None:
    rows = [
        row.format(puzzle=puzzle, zeros=puzzle.replace(".", "0"), answer=answer)
        for puzzle, answer in zip(PUZZLES, ANSWERS, strict=True)
    ]
    found = open_puzzles(write(tmp_path / name, [header.format(puzzle=PUZZLES[0]), *rows], end), MINI)
    extra = int("{" in header)
    assert len(found) == len(PUZZLES) + extra
    for at, puzzle in enumerate(PUZZLES):
        assert decode(found[at + extra].clues) == puzzle
        assert decode(found[at + extra].solution) == ANSWERS[at]
        assert found[at + extra].name == f"{name}:{at + 2}"
    has_rating = "rating" in header or "difficulty" in header
    assert found[0].rating == (1.5 if has_rating else None)


def test_puzzles_without_one_solution_are_all_named(tmp_path: Path) -> None:
    none = "11" + "." * 14
    lines = [PUZZLES[0], "." * 16, *PUZZLES[1:3], none, "12" + "." * 14]
    with pytest.raises(ValueError, match=r"bad.sdm:2: expected .* exactly one solution, got one with several; bad lin"):
        open_puzzles(write(tmp_path / "bad.sdm", lines), MINI)
    with pytest.raises(ValueError, match=r"besides: 2 \(5, 6\)"):
        open_puzzles(tmp_path / "bad.sdm", MINI)
    with pytest.raises(ValueError, match=r"one.txt:2: expected 16 characters in question, .* got 3"):
        open_puzzles(write(tmp_path / "one.txt", [PUZZLES[0], "1.3"]), MINI)
    with pytest.raises(ValueError, match=r"three.txt:1: expected the columns .* or Kaggle's"):
        open_puzzles(write(tmp_path / "three.txt", [",".join(PUZZLES[:3])]), MINI)


def test_mazes_without_answers_are_solved_and_keep_their_spaces(tmp_path: Path) -> None:
    found = open_puzzles(write(tmp_path / "mazes.txt", ["#S   ## G".ljust(9), "S# G# #  "]), MAZE)
    assert found.shape == (3, 3)
    assert MAZE.judge(found.clues, found.solutions, found.solutions).all()


def test_re_arc_lists(tmp_path: Path) -> None:
    pairs = [{"input": [[k]], "output": [[k, k]]} for k in range(6)]
    (tmp_path / "00d62c1b.json").write_text(json.dumps(pairs))
    (task,) = read_tasks(tmp_path).splits["all"]
    assert (task.name, len(task.train), task.numbers) == ("00d62c1b", 3, (0, 1, 2))
    assert task.test[0][1].tolist() == [[3, 3]]
    assert len(read_tasks(tmp_path / "00d62c1b.json").splits["all"]) == 1
    many = [{"id": "a", "train": pairs[:2], "test": pairs[2:3]}, {"train": pairs[:2], "test": [{"input": [[9]]}]}]
    (tmp_path / "many.json").write_text(json.dumps(many))
    tasks = read_tasks(tmp_path / "many.json").splits["all"]
    assert [task.name for task in tasks] == ["a", "many-1"]
    assert (tasks[1].test, tasks[1].asked[0].tolist()) == ((), [[9]])
    puzzle = unanswered_puzzle(tasks[0], 0, 5)
    assert puzzle is not None
    assert not np.any(puzzle.solution)  # the known output is not shown
    (tmp_path / "short.json").write_text(json.dumps(pairs[:3]))
    with pytest.raises(ValueError, match=r"short.json: expected a task with the keys 'train' and 'test'"):
        read_tasks(tmp_path / "short.json")
