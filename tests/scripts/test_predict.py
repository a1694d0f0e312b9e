"""`hrm-gym predict`: a submission in the format of the ARC Prize, known outputs or not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz.crash import killed_before

import hrm_gym
from hrm_gym.agents.agent import Observation
from hrm_gym.envs.arc.tokens import place
from hrm_gym.scripts.main import main

hrm_gym.register_environments()
SHOWN = [{"input": [[1]], "output": [[1, 1]]}, {"input": [[2]], "output": [[2, 2]]}]


class Twice:
    """Answers with its own grid in the first attempt, and with another one in the second."""

    name, action_mode = "twice", "answer"

    @classmethod
    def for_env(cls, env: Any, **kwargs: Any) -> Twice:
        return cls()

    def predict(
        self, observation: Observation, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        colour = 3 + int(observation["attempt"].item())
        board = place(np.full((1, 2), colour, np.uint8), observation["puzzle"].shape[-1])
        return np.append(board.ravel().astype(np.int64), 1), None

    def thoughts(self) -> None:
        return None


def test_every_test_grid_gets_two_attempts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    big = np.zeros((20, 20), int).tolist()
    tasks = {
        "unknown": {"train": SHOWN, "test": [{"input": [[3]]}, {"input": [[4]]}]},
        "known": {"train": SHOWN, "test": [{"input": [[4]], "output": [[4, 4]]}, {"input": [[5]]}]},
        "large": {"train": SHOWN, "test": [{"input": big}]},
    }
    for name, task in tasks.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(task))
    out = tmp_path / "out" / "submission.json"
    out.parent.mkdir()
    assert main(["predict", str(tmp_path), "--agent", f"{__name__}:Twice.for_env", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert {name: len(grids) for name, grids in found.items()} == {"unknown": 2, "known": 2, "large": 1}
    assert found["unknown"][1] == {"attempt_1": [[3, 3]], "attempt_2": [[4, 4]]}
    assert found["large"] == [{"attempt_1": [[0, 0], [0, 0]], "attempt_2": [[0, 0], [0, 0]]}]
    said = capsys.readouterr().out
    assert "5 test grids of 3 tasks, by twice" in said
    assert "no answer to 1 that do not fit 12x12" in said
    assert "of 1 with a known output 1 are right" in said


def test_the_bundled_network_answers(tmp_path: Path) -> None:
    challenges = tmp_path / "arc-agi_test_challenges.json"
    challenges.write_text(json.dumps({"a": {"train": SHOWN, "test": [{"input": [[3]]}]}}))
    assert main(["predict", str(challenges), "--out", str(tmp_path / "s.json"), "--max-segments", "2"]) == 0
    (grids,) = json.loads((tmp_path / "s.json").read_text())["a"]
    assert set(grids) == {"attempt_1", "attempt_2"}
    assert all(0 <= colour <= 9 for grid in grids.values() for row in grid for colour in row)


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.json").write_text(json.dumps({"train": SHOWN, "test": [{"input": [[3]]}]}))
    for options, expected in (
        (["--env", "HRMMaze-v0"], "expected an ARC environment as --env"),
        (["--votes", "0"], "expected --votes of at least 1"),
        (["--agent", "nobody"], "nobody"),
    ):
        assert main(["predict", str(tmp_path), "--out", str(tmp_path / "s.json"), *options]) == 2
        assert expected in capsys.readouterr().err


def test_an_answer_does_not_take_the_place_of_a_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = tmp_path / "tasks" / "a.json"
    task.parent.mkdir()
    task.write_text(json.dumps({"train": SHOWN, "test": [{"input": [[3]]}]}))
    before = task.read_text()
    for path in (task, task.parent):
        assert main(["predict", str(path), "--agent", "random", "--out", str(task)]) == 2
        assert "--out elsewhere than the tasks" in capsys.readouterr().err
    assert task.read_text() == before


class Counted(Twice):
    """Writes down every grid that it answers, in a file; the fifth ends the process if `FATAL` is set."""

    def predict(
        self, observation: Observation, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        with Path(os.environ["PLAYED"]).open("a") as file:
            file.write(f"{int(observation['puzzle'][0, 0])} ")
        if os.environ.get("FATAL") and len(Path(os.environ["PLAYED"]).read_text().split()) == 5:
            raise KeyboardInterrupt
        return super().predict(observation, state)


def four_tasks(root: Path) -> Path:
    tasks = root / "tasks"
    tasks.mkdir(parents=True)
    for colour in range(1, 5):
        (tasks / f"{colour}.json").write_text(json.dumps({"train": SHOWN, "test": [{"input": [[colour]]}]}))
    return tasks


def test_a_stopped_prediction_keeps_its_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLAYED", str(tmp_path / "played"))
    monkeypatch.setenv("FATAL", "1")
    out, tasks = tmp_path / "out.json", four_tasks(tmp_path)
    command = ["predict", str(tasks), "--agent", f"{__name__}:Counted.for_env", "--out", str(out)]
    assert main(command) == 130
    assert "the same command continues" in capsys.readouterr().err
    assert not out.exists()
    monkeypatch.delenv("FATAL")
    assert main(command) == 0
    assert "2 answers are there" in capsys.readouterr().err
    # Two attempts a grid; the third grid was under way.
    assert (tmp_path / "played").read_text().split() == ["3", "3", "4", "4", "5", "5", "5", "6", "6"]
    found = json.loads(out.read_text())
    assert [found[name][0]["attempt_2"] for name in "1234"] == [[[4, 4]]] * 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "played", "tasks"]


@pytest.mark.parametrize("change", ["damage", "task", "agent"])
def test_damaged_answers_and_those_of_other_tasks_or_agents_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    monkeypatch.setenv("PLAYED", str(tmp_path / "played"))
    monkeypatch.setenv("FATAL", "1")
    out, tasks = tmp_path / "out.json", four_tasks(tmp_path)
    command = ["predict", str(tasks), "--agent", f"{__name__}:Counted.for_env", "--out", str(out)]
    assert main(command) == 130
    monkeypatch.delenv("FATAL")
    if change == "damage":
        next((tmp_path / "out.json.partial" / "parts").iterdir()).write_text("[[[77]], [[1]]]")
    elif change == "task":
        (tasks / "2.json").write_text(json.dumps({"train": SHOWN[:1], "test": [{"input": [[2]]}]}))
    else:
        monkeypatch.setattr("hrm_gym.evaluation.compare.plan._fingerprint", lambda *rest: "other weights")
    (tmp_path / "played").write_text("")
    assert main(command) == 0
    assert len((tmp_path / "played").read_text().split()) == (8 if change == "agent" else 6)
    assert ("expected colours 0..9, got 77" in caplog.text) == (change == "damage")


def test_a_strangers_folder_in_the_place_of_the_answers_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, tasks = tmp_path / "out.json", four_tasks(tmp_path)
    (tmp_path / "out.json.partial").mkdir()
    (tmp_path / "out.json.partial" / "thesis.txt").write_text("mine")
    assert main(["predict", str(tasks), "--agent", "random", "--out", str(out)]) == 2
    assert "got one that holds thesis.txt" in capsys.readouterr().err
    assert (tmp_path / "out.json.partial" / "thesis.txt").read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that share what is compiled")
def test_a_prediction_killed_anywhere_ends_the_same(tmp_path: Path) -> None:
    def run(root: Path) -> bytes:
        assert main(["predict", str(root / "tasks"), "--agent", "random", "--out", str(root / "out.json")]) == 0
        return (root / "out.json").read_bytes()

    four_tasks(tmp_path / "whole")
    wanted, nth, killed = run(tmp_path / "whole"), 0, True
    while killed:
        nth += 3
        root = tmp_path / str(nth)
        four_tasks(root)
        killed = killed_before(nth, lambda root=root: run(root))
        assert run(root) == wanted, f"killed before change {nth}"
        assert sorted(path.name for path in root.iterdir()) == ["out.json", "tasks"]
    assert nth > 20


def test_a_link_in_the_place_of_the_answers_is_not_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, tasks = tmp_path / "out.json", four_tasks(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out.json.partial").symlink_to(tmp_path / "elsewhere")
    assert main(["predict", str(tasks), "--agent", "random", "--out", str(out)]) == 2
    assert "got a symbolic link to" in capsys.readouterr().err
    assert not any((tmp_path / "elsewhere").iterdir())
    assert (tmp_path / "out.json.partial").is_symlink()
