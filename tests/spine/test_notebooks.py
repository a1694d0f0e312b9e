"""The notebooks of examples/ run from top to bottom, scaled down; and what notebooks show of our objects."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import hrm_gym
from hrm_gym.envs.puzzle import Puzzle
from hrm_gym.evaluation.rollout import play
from hrm_gym.notebook import watch

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def test_there_are_five() -> None:
    assert len(NOTEBOOKS) == 5


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_bare(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert "pip install" in source(code[0])
    badge = re.search(
        r"\]\(https://colab\.research\.google\.com/github/hrm-gym/hrm-gym/blob/main/(\S+)\)", source(cells[0])
    )
    assert badge is not None
    assert badge[1] == f"examples/{path.name}"
    assert f"examples/{path.name}" in (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed: pip install -e '.[dev]'")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: pip install -e '.[dev]'")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install -e '.[notebook]'")
    monkeypatch.setenv("HRM_GYM_EXAMPLE_SCALE", "0.01")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    book = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(book, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in book.cells for output in cell.get("outputs", ())]
    assert not [output for output in shown if output.output_type == "error"]
    kinds = {kind for output in shown for kind in output.get("data", {})}
    told = "".join(output.get("text", "") for output in shown)
    assert "image/png" in kinds or "return" in told


@pytest.mark.parametrize("env_id", ["HRMSudoku-v0", "HRMSudokuMini-v0", "HRMMaze-v0", "HRMARCMini-v0"])
def test_a_puzzle_an_agent_and_an_episode_are_shown(env_id: str) -> None:
    env = gym.make(env_id, max_segments=3)
    agent = hrm_gym.make_agent("random", env)
    episode = play(env, agent, 0, seed=3)
    for shown in (episode.puzzle._repr_html_(), episode._repr_html_()):
        assert shown is not None
        assert "data:image/png;base64," in shown
        assert len(shown) < 200_000
    assert "not solved" in episode._repr_html_()
    assert "<b>random</b>" in agent._repr_html_()  # type: ignore[attr-defined]


def test_names_are_escaped_and_unknown_puzzles_are_left_alone() -> None:
    board = np.ones((9, 9), dtype=np.uint8)
    evil = Puzzle(board, board, name="<script>alert(1)</script>", family="sudoku")
    assert "<script" not in str(evil._repr_html_())
    assert Puzzle(board, board)._repr_html_() is None
    assert Puzzle(board, board, family="<b>")._repr_html_() is None
    agent: Any = hrm_gym.make_agent("random", gym.make("HRMMaze-v0"), name="<img src=x>")
    assert "<img" not in agent._repr_html_()


@pytest.mark.parametrize("source", ["bank", "generate"])
@pytest.mark.parametrize("env_id", ["HRMSudoku-v0", "HRMSudokuMini-v0", "HRMMaze-v0", "HRMARCMini-v0"])
def test_puzzles_know_their_family(env_id: str, source: str) -> None:
    if "ARC" in env_id and source == "generate":
        pytest.skip("nobody generates ARC tasks")
    world: Any = gym.make(env_id, source=source).unwrapped
    world.reset(seed=1)
    assert world.puzzle.family == world.family.name


def test_watching_changes_one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    display = pytest.importorskip("IPython.display", reason="IPython is not installed: pip install -e '.[notebook]'")
    seen: list[tuple[str, bytes]] = []
    handle = display.DisplayHandle
    monkeypatch.setattr(handle, "display", lambda self, picture: seen.append((self.display_id, picture.data)))
    monkeypatch.setattr(handle, "update", lambda self, picture: seen.append((self.display_id, picture.data)))
    env = gym.make("HRMSudokuMini-v0", render_mode="rgb_array", max_segments=4)
    episode = watch(env, hrm_gym.make_agent("random", env), seed=2, pause=0.0)
    assert len(seen) == len(episode.frames) > 1
    assert len({display_id for display_id, _ in seen}) == 1
    assert all(data.startswith(b"\x89PNG") for _, data in seen)
    with pytest.raises(ValueError, match="render_mode 'rgb_array', got None"):
        watch(gym.make("HRMMaze-v0"), hrm_gym.make_agent("random", env))
