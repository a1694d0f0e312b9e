"""`hrm-gym play` with a person made of events, before a window that nobody sees."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pygame
import pytest

from hrm_gym.envs.rendering.window import Window
from hrm_gym.scripts import play as command
from hrm_gym.scripts import viewer
from hrm_gym.scripts.main import main

MAZE = "S   #\n### #\n#G  #\n#####\n#####\n"
WAY = (pygame.K_RIGHT,) * 3 + (pygame.K_DOWN,) * 2 + (pygame.K_LEFT,) * 2
Play = Callable[..., list[str]]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Every test runs in an empty folder; a display is said to be there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.delenv("HRM_GYM_DEBUG", raising=False)
    monkeypatch.setattr(viewer, "has_display", lambda: True)
    Path("maze.txt").write_text(MAZE)
    yield tmp_path
    pygame.display.quit()


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Play:
    """Play with these keys, and return the printed lines; the window closes when no key is left."""

    def run(keys: Sequence[int | tuple[int, str]], *argv: str) -> list[str]:
        waiting = list(keys)

        class Scripted(Window):
            def events(self, timeout: float = 0.0) -> list[pygame.event.Event]:
                if waiting:
                    key = waiting.pop(0)
                    code, letter = key if isinstance(key, tuple) else (key, "")
                    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=code, unicode=letter))
                    pygame.event.post(pygame.event.Event(pygame.KEYUP, key=code, unicode=letter))
                else:
                    pygame.event.post(pygame.event.Event(pygame.QUIT))
                return super().events(timeout)

        monkeypatch.setattr(command, "Window", Scripted)
        capsys.readouterr()
        assert main(["play", *argv]) == 0
        return capsys.readouterr().out.splitlines()

    return run


def test_an_own_maze_is_walked_and_recorded(play: Play) -> None:
    lines = play(WAY, "HRMMaze-v0", "--puzzle", "maze.txt", "--json", "me.json")
    assert lines[0].startswith("0: own puzzle: solved, 7 steps, reward 1.00, ")
    assert lines[1] == "figures: me.json"
    (row,) = json.loads(Path("me.json").read_text())
    assert (row["agent"], row["env"], row["episodes"], row["solved"], row["mean_steps"]) == (
        "person",
        "HRMMaze-v0",
        1,
        1.0,
        7.0,
    )


def test_again_next_and_quit(play: Play) -> None:
    keys = (pygame.K_r, *WAY, pygame.K_r, pygame.K_RIGHT, pygame.K_n, *WAY, pygame.K_SPACE, pygame.K_ESCAPE, *WAY)
    lines = play(keys, "--puzzle", "maze.txt")
    assert [line.split(", ")[0] for line in lines] == [
        "0: own puzzle: solved",
        "0: own puzzle: left after 1 step",
        "0: own puzzle: solved",
    ]


def test_other_keys_do_not_leave_the_verdict(play: Play) -> None:
    assert len(play((*WAY, *WAY, pygame.K_x), "--puzzle", "maze.txt")) == 1


def test_a_seed_names_the_puzzles_and_a_new_one_is_told(play: Play) -> None:
    keys = (pygame.K_RETURN, pygame.K_n, pygame.K_RETURN)
    first, again = (play(keys, "--mode", "cell", "--seed", "4") for _ in range(2))
    names = [line.split(": ")[1] for line in first[1:]]
    assert first[0] == "seed 4"
    assert len(set(names)) == 2
    assert names == [line.split(": ")[1] for line in again[1:]]
    assert play((), "--mode", "cell") == ["seed 0"]
    assert play((), "--mode", "cell", "--new")[0] != "seed 0"


def test_options_reach_the_environment(play: Play) -> None:
    lines = play([pygame.K_LEFT] * 3, "--size", "8", "--max-steps", "3", "--seed", "0")
    assert "maze-8-8" in lines[1]
    assert "not solved, 3 steps" in lines[1]


def test_rows_of_a_data_file_in_order_and_from_the_start_again(play: Play) -> None:
    question, answer = MAZE.replace("\n", ""), "Sooo####o##Goo###########"
    rows = f"mine,{question},Sooo####o##Goo###########,8\n" * 2
    assert len(question) == len(answer)
    Path("mazes.csv").write_text("source,question,answer,rating\n" + rows)
    keys = [key for _ in range(3) for key in (pygame.K_RETURN, pygame.K_n)]
    lines = play(keys, "--data", "mazes.csv", "--mode", "cell", "--episodes", "9")
    assert [line.split(": ")[0] for line in lines] == ["0", "1", "0"]


def test_an_own_arc_task_is_painted(play: Play) -> None:
    pairs = [{"input": [[1]], "output": [[2]]}]
    Path("task.json").write_text(json.dumps({"train": pairs, "test": pairs}))
    keys = [(pygame.K_2, "2"), (pygame.K_SPACE, " ")]
    (line,) = play(keys, "HRMARCMini-v0", "--puzzle", "task.json")
    assert ": solved, 1 step, reward 1.00" in line


def test_help_can_be_hidden(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(command.Person, "_show", lambda self: shown.append(bool(self._world._notes)))
    play([(pygame.K_x, "x"), (pygame.K_SLASH, "?"), (pygame.K_x, "x"), pygame.K_F1, pygame.K_x], "--seed", "0")
    assert [helping for k, helping in enumerate(shown) if k == 0 or shown[k - 1] != helping] == [True, False, True]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["HRMMaez-v0"], "HRMMaez"),
        (["CartPole-v1"], "expected an environment of puzzles, one of HRMSudoku-v0"),
        (["--puzzle", "nowhere.txt"], "nowhere.txt"),
        (["--puzzle", "bad.txt"], "bad.txt: expected"),
        (["--mode", "answer"], "answer"),
        (["--difficulty", "hard"], "difficulty"),
        (["--max-steps", "0"], "--max-steps of at least 1, got 0"),
        (["--json", "."], "folder"),
    ],
)
def test_bad_input_gets_one_line(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.txt").write_text("what?")
    assert main(["play", *argv]) == 2
    line = capsys.readouterr().err
    assert line.startswith("hrm-gym: error: ")
    assert line.count("\n") == 1
    assert said in line


def test_without_a_display_there_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "no_such_driver")
    pygame.display.quit()
    for display in (True, False):
        monkeypatch.setattr(viewer, "has_display", lambda display=display: display)
        assert main(["play"]) == 2
        line = capsys.readouterr().err
        assert line.startswith("hrm-gym: error: expected a display")
        assert line.count("\n") == 1
