"""`hrm-gym predict`: a submission in the format of the ARC Prize, known outputs or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
