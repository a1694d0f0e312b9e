"""The example of docs/plugins.md, taken out of the page and run, as module:factory and as an entry point."""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import hrm_gym
from hrm_gym import registry
from hrm_gym.evaluation.compare.plan import PredictOnly, as_agent
from hrm_gym.scripts.main import main

PAGE = Path(__file__).parents[2] / "docs" / "plugins.md"


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The example as `lonely.py` in an empty folder, which is the working directory."""
    code = re.search(r"```python\n(\"\"\"lonely\.py.*?)```", PAGE.read_text(), re.S)
    assert code is not None
    (tmp_path / "lonely.py").write_text(code[1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "lonely", raising=False)
    return code[1]


def test_the_example_is_short(example: str) -> None:
    lines = [line for line in example.splitlines() if line.strip() and not line.startswith('"""')]
    assert len(lines) <= 32


def test_it_stands_in_a_comparison(example: str) -> None:
    argv = ["--env", "HRMSudokuMini-v0", "HRMMaze-v0", "--agent", "lonely:make", "oracle", "--episodes", "40"]
    assert main(["compare", *argv, "--films", "1"]) == 0
    rows = json.loads(Path("compare/compare.json").read_text())["rows"]
    assert rows[0]["solved"]["value"] > 0.3, "single candidates solve many 4x4 Sudokus"
    assert rows[0]["actions"]["value"] > 1
    assert rows[2]["absent"] == "lonely plays Sudoku only"


def test_it_is_solved_and_recorded_with(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["HRMSudoku-v0", "--agent", "lonely:make", "--agent", "oracle", "--episodes", "5", "--json", "scores.json"]
    assert main(["solve", *argv]) == 0
    scores = {row["agent"]: row for row in json.loads(Path("scores.json").read_text())}
    assert scores["oracle"]["solved"] == 1.0
    assert 0 < scores["lonely"]["cell_accuracy"] <= 1
    assert main(["record", "HRMSudoku-v0", "--agent", "lonely:make", "--episodes", "1", "--html", "lonely.html"]) == 0
    assert "lonely" in Path("lonely.html").read_text()


def test_an_installed_package_gives_it_a_name(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = re.search(r"```toml\n(.*?)```", PAGE.read_text(), re.S)
    assert declared is not None
    group, name, target = re.findall(r'"([\w.]+)"\]\n(\w+) = "([\w:]+)"', declared[1])[0]
    assert group == registry.AGENT_GROUP
    monkeypatch.setattr(registry, "entry_points", lambda group: [EntryPoint(name, target, group)])
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path.cwd())])
    agent: Any = hrm_gym.make_agent("lonely", gym.make("HRMSudokuMini-v0"))
    assert agent.name == "lonely"
    assert main(["compare", "--env", "HRMSudokuMini-v0", "--agent", "lonely", "--episodes", "3", "--films", "0"]) == 0


def test_an_sb3_model_is_an_agent_as_it_is() -> None:
    from stable_baselines3 import PPO

    env = gym.make("HRMMaze-v0", size=5, action_mode="move", disable_env_checker=True)
    model = PPO("MultiInputPolicy", env, n_steps=8, batch_size=8, device="cpu")
    agent = as_agent(model, "mine", "move")
    assert isinstance(agent, PredictOnly)
    assert (agent.name, agent.action_mode, agent.thoughts()) == ("mine", "move", None)
    observation, _ = env.reset(seed=0)
    batch = {key: np.stack([value] * 3) for key, value in observation.items()}
    actions, state = agent.predict(batch, episode_start=np.ones(3, dtype=bool))
    assert actions.shape == (3,)
    assert state is None
