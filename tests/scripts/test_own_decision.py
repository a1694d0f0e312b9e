"""`own_decision`: halting rules read off a trace, the same halts as the agent's, and parts that share no puzzle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import hrm_gym
from hrm_gym.agents import pretrained
from hrm_gym.agents.hrm.hub import load_pretrained
from hrm_gym.agents.hrm.recipes import RECIPES
from hrm_gym.data.stream import PuzzleStream
from hrm_gym.evaluation.rollout import rollout_batched
from hrm_gym.scripts.experiments import own_decision
from hrm_gym.scripts.experiments.own_decision import Trace

NETWORK = load_pretrained(own_decision.BUNDLED).model.config


def test_a_rule_halts_where_it_first_wants_to() -> None:
    right = np.array([[0, 1, 1], [0, 1, 1], [0, 0, 0], [0, 0, 1]], dtype=np.bool_)
    wants = np.array([[0, 1, 0], [1, 1, 1], [0, 0, 0], [0, 0, 0]], dtype=np.bool_)
    found = own_decision.rule(Trace(np.zeros((4, 3), np.float32), right, right, 12, 1.0), wants)
    assert (found["solved"], found["wrong_halts"], found["unfinished"]) == (0.5, 0.25, 0.5)
    assert found["mean_segments"] == (2 + 1 + 3 + 3) / 4


def test_a_trace_halts_as_the_agent_does() -> None:
    torch.set_num_threads(1)

    def make_env() -> Any:
        options = {"difficulty": "hard", "source": "generate", "split": "test", "max_segments": 20}
        return gym.make("HRMSudoku-v0", disable_env_checker=True, **options)

    agent = hrm_gym.make_agent("hrm", make_env(), device="cpu", check=False, restart=0)
    batch = PuzzleStream(make_env().unwrapped.puzzle_source, 5).take(0, 12)
    plain = own_decision.trace(agent, batch, 20)  # type: ignore[attr-defined]
    found = own_decision.rule(plain, plain.q_halt > 0)
    episodes = list(rollout_batched(make_env, agent, 12, 12, seed=5))
    assert found["solved"] == np.mean([episode.solved for episode in episodes])
    restarted = own_decision.trace(agent, batch, 20, 16, plain)  # type: ignore[attr-defined]
    assert (restarted.q_halt[:, :16] == plain.q_halt[:, :16]).all()


def test_there_are_kinds_for_every_sudoku_recipe() -> None:
    for name in ("sudoku", "sudoku-4x4", "sudoku-4x4-equivariant", "sudoku-6x6"):
        asked = own_decision.OwnDecisionConfig(puzzles=3)
        for _, batch in own_decision.kinds(asked, "sudoku", RECIPES[name].model):
            assert batch.clues.shape == (3, *RECIPES[name].model.grid)


def test_the_parts_share_no_puzzle() -> None:
    parts = []
    for part in ("validation", "test"):
        config = own_decision.OwnDecisionConfig(part=part, puzzles=50, kinds=("easy",))  # type: ignore[arg-type]
        ((_, batch),) = own_decision.kinds(config, "sudoku", NETWORK)
        parts.append({clues.tobytes() for clues in batch.clues})
    assert not parts[0] & parts[1]


def test_rows_of_a_file_by_source_and_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = own_decision.OwnDecisionConfig(puzzles=4, kinds=("easy",))
    ((_, batch),) = own_decision.kinds(config, "sudoku", NETWORK)
    digits = [
        ["".join(".123456789"[token - 1] for token in grid.reshape(-1)) for grid in grids]
        for grids in batch_pair(batch)
    ]
    rows = [f"{'ab'[k % 2]},{question},{answer},0" for k, (question, answer) in enumerate(zip(*digits, strict=True))]
    data = tmp_path / "rows.csv"
    data.write_text("\n".join(["source,question,answer,rating", *rows]) + "\n")
    argv = ["--puzzles", "1", "--kinds", "easy", "--data", str(data), "--max-segments", "2"]
    more = ["--scan", "--json", str(tmp_path / "own.json"), "--threshold", "1.5", "--save", str(tmp_path / "shifted")]
    assert own_decision.main([*argv, *more]) == 0
    shifted = load_pretrained(tmp_path / "shifted")
    before = load_pretrained(pretrained.FOLDER / "hrm-sudoku-9x9").model.q_head.bias
    assert torch.allclose(shifted.model.q_head.bias, before - torch.tensor([1.5, 0.0]))
    found = json.loads((tmp_path / "own.json").read_text())
    assert set(found["results"]) == {"easy", "a", "b"}
    assert found["results"]["a"]["own"]["puzzles"] == 1
    assert "easy, 1: own " in capsys.readouterr().out


@pytest.mark.parametrize("name", ["traces.npz", "traces"])
def test_traces_are_written_atomically(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    argv = ["--puzzles", "1", "--kinds", "easy", "--max-segments", "1", "--restart", "0", "--traces"]
    traces = tmp_path / "new" / name
    assert own_decision.main([*argv, str(traces)]) == 0
    before = traces.read_bytes()
    with np.load(traces) as found:
        assert found["easy.plain.q_halt"].shape == (1, 1)

    def cut_short(file: Any, **arrays: Any) -> None:
        (Path(file) if isinstance(file, (str, Path)) else Path(file.name)).write_bytes(b"PK")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", cut_short)
    with pytest.raises(KeyboardInterrupt):
        own_decision.main([*argv, str(traces)])
    assert traces.read_bytes() == before
    assert [path.name for path in traces.parent.iterdir()] == [name]


def test_a_file_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_decision, "load_pretrained", None)
    for option in ("--json", "--traces"):
        with pytest.raises(OSError, match="expected a file to write, got the folder"):
            own_decision.main([option, str(tmp_path)])


def test_a_search_by_the_network_alone_is_judged_too(tmp_path: Path) -> None:
    argv = ["--puzzles", "3", "--kinds", "extreme", "--max-segments", "2", "--restart", "0", "--search", "40"]
    assert own_decision.main([*argv, "--json", str(tmp_path / "own.json")]) == 0
    found = json.loads((tmp_path / "own.json").read_text())
    assert found["search"] == 40
    own, searched = (found["results"]["extreme"][name] for name in ("own", "own_search"))
    assert searched["puzzles"] == 3
    assert searched["mean_segments"] <= 40
    assert searched["solved"] >= own["solved"]


def batch_pair(batch: Any) -> tuple[Any, Any]:
    return batch.clues, batch.solutions


@pytest.mark.parametrize(
    "argv", [["--puzzles", "0"], ["--kinds", "gruesome"], ["--search", "-1"], ["--search", "9", "--threshold", "1"]]
)
def test_bad_input_is_refused(argv: list[str]) -> None:
    with pytest.raises(ValueError, match="expected --"):
        own_decision.main(argv)
