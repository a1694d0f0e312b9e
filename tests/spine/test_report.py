"""From episodes to figures."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from hrm_gym.envs.puzzle import Puzzle
from hrm_gym.evaluation.intervals import wilson
from hrm_gym.evaluation.rollout import Episode
from hrm_gym.evaluation.scores import score, to_json, to_table, write_json

GRID = np.zeros((2, 2), dtype=np.uint8)


def episode(solved: bool, segments: int | None = 2, agent: str = "hrm", env: str = "HRMMaze-v0") -> Episode:
    return Episode(
        env_id=env,
        agent=agent,
        index=0,
        puzzle=Puzzle(GRID, GRID),
        frames=(),
        solved=solved,
        exact=False,
        cell_accuracy=0.5,
        segments=segments,
        reached=None,
        total_return=float(solved),
        steps=segments or 7,
        seconds=0.002,
    )


def test_figures() -> None:
    row = score([episode(True, 1), episode(True, 2), episode(False, 6), episode(True, 3)])
    assert (row.agent, row.env, row.episodes) == ("hrm", "HRMMaze-v0", 4)
    assert (row.solved, row.exact, row.cell_accuracy) == (0.75, 0.0, 0.5)
    assert (row.mean_segments, row.mean_steps) == (3.0, 3.0)
    assert row.ms_per_puzzle == pytest.approx(2.0)
    assert row.solved_low < 0.75 < row.solved_high
    assert row.exact_low == 0.0


def test_walkers_have_no_segments() -> None:
    row = score([episode(True, None)])
    assert row.mean_segments is None
    assert row.mean_steps == 7


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 0, 0, 1)],
)
def test_wilson_intervals(successes: int, trials: int, low: float, high: float) -> None:
    """Figures from Newcombe (1998), Statistics in Medicine 17, table I, method 3; the first two are closed forms."""
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_nothing_played_is_no_score() -> None:
    with pytest.raises(ValueError, match="at least one episode"):
        score([])


def test_json_has_the_promised_keys(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "scores.json"
    write_json([score([episode(True)]), score([episode(False, None, "ppo")])], path)
    rows = json.loads(path.read_text())
    promised = {"agent", "env", "episodes", "solved", "exact", "mean_segments", "ms_per_puzzle"}
    assert all(promised <= set(row) for row in rows)
    assert rows[1]["mean_segments"] is None
    assert json.loads(to_json([])) == []


def test_the_table_names_what_differs() -> None:
    rows = [score([episode(True)]), score([episode(False, None, "ppo")])]
    console = Console(width=160, file=io.StringIO(), record=True)
    console.print(to_table(rows))
    console.print(to_table([rows[0], score([episode(True, env="HRMMazeHard-v0")])]))
    text = console.export_text()
    assert "HRMMaze-v0, 1 puzzles" not in text
    assert "HRMMaze-v0, 1 puzzle" in text
    assert "100.0% (20.7-100.0)" in text
    assert "HRMMazeHard-v0" in text
