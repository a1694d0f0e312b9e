"""`hrm-gym evaluate`: what it counts is what the official evaluation counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from golden_kit import Kit
from official_reference import Reference

import hrm_gym
from hrm_gym.agents import pretrained
from hrm_gym.agents.hrm import HRMAgent
from hrm_gym.envs.files import PuzzleFile
from hrm_gym.evaluation.compare.plan import parse_world
from hrm_gym.evaluation.rollout import rollout_batched
from hrm_gym.registry import make_family
from hrm_gym.scripts.main import main

hrm_gym.register_environments()
RATED = Path(__file__).parents[2] / "envs" / "sudoku_rated.csv"
SEGMENTS = 3


def evaluated(weights: Any, data: Path, out: Path, *options: str) -> dict[str, Any]:
    assert main(["evaluate", str(weights), "--data", str(data), "--json", str(out), "--device", "cpu", *options]) == 0
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def golden_run(name: str, folder: Path) -> tuple[Path, Kit, dict[str, Any]]:
    """A golden checkpoint in the official layout, on 9x9 boards: its rotary positions have no weights."""
    kit, folder = Kit(name), folder / name
    arch = {"puzzle_emb_ndim": 0, **kit.settings["arch"], "seq_len": 81}
    folder.mkdir()
    torch.save({f"_orig_mod.{key}": tensor for key, tensor in kit.state.items()}, folder / "step_9")
    (folder / "all_config.yaml").write_text(yaml.dump({"arch": arch, "data_path": "data/sudoku-extreme-1k"}))
    return folder, kit, arch


@pytest.mark.parametrize("name", ["hrm", "trm_att"])
def test_golden_checkpoints_score_as_the_plain_reference(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, kit, arch = golden_run(name, tmp_path)
    options = ("--fixed", str(SEGMENTS), "--max-puzzles", "7", "--batch", "3")
    found = evaluated(folder, RATED, tmp_path / "out.json", *options)
    puzzles, reference = PuzzleFile(RATED, make_family("sudoku", (9, 9))), Reference(arch, kit.state)
    inputs, labels = (grids[:7].reshape(7, 81).astype(np.int64) for grids in (puzzles.clues, puzzles.solutions))
    z_h, z_l = reference.start(7)
    for _ in range(SEGMENTS):
        z_h, z_l, logits, *_ = reference.segment(z_h, z_l, inputs, np.zeros(7, np.int64))
    right = logits[..., 1:].argmax(-1) + 1 == labels
    fixed, own = found["rows"]
    assert found["puzzles"] == 7
    assert fixed["segments"] == SEGMENTS
    assert 1 <= own["segments"] <= SEGMENTS
    assert fixed["cells"] == pytest.approx(right.mean(), abs=1e-9)
    assert 0 < fixed["cells"] < 1
    assert fixed["exact"] == right.all(axis=1).mean()
    said = capsys.readouterr().out
    assert "s per 1,000 boards on cpu" in said
    assert "own decision (Q)" in said


def test_both_rows_agree_with_the_agent_in_an_environment(tmp_path: Path) -> None:
    family, draw = make_family("sudoku", (4, 4)), np.random.default_rng(5)
    env: Any = parse_world("HRMSudokuMini-v0").make("answer").unwrapped
    batch = env.puzzle_source.batch(draw.integers(0, 2**63, 40, dtype=np.uint64))
    text = ["".join(family.symbols[token] for token in grid.ravel()) for grid in (*batch.clues, *batch.solutions)]
    rows = [f"own,{question},{answer},0" for question, answer in zip(text[:40], text[40:], strict=True)]
    data = tmp_path / "test.csv"
    data.write_text("\n".join(["source,question,answer,rating", *rows]).replace("?", "."))
    found = evaluated("hrm-sudoku-4x4", data, tmp_path / "out.json", "--fixed", "2", "--batch", "16")
    world = parse_world("HRMSudokuMini-v0", str(data), arguments={"max_segments": 2})
    for row, halting in zip(found["rows"], ("fixed:2", "q"), strict=True):
        env = world.make("answer")
        weights = pretrained.FOLDER / "hrm-sudoku-4x4"
        agent = HRMAgent.for_env(env, weights, halting=halting, check=False, restart=0, device="cpu")
        episodes = list(rollout_batched(lambda: world.make("answer"), agent, 40, 16, None))
        assert row["exact"] == np.mean([episode.exact for episode in episodes])
        assert row["segments"] == np.mean([episode.segments for episode in episodes])
        given = (batch.clues > 1).sum(axis=(1, 2))
        cells = [e.cell_accuracy * (16 - given[e.index]) + given[e.index] for e in episodes]
        assert row["cells"] <= np.mean(cells) / 16 + 1e-9  # a network may answer a given cell wrongly
    assert found["rows"][0]["exact"] > 0


@pytest.mark.parametrize(
    ("weights", "options", "expected"),
    [
        ("hrm-sudoku-4x4", (), "81"),
        ("no-such-weights", (), "no weights at no-such-weights"),
        ("hrm-sudoku-9x9", ("--fixed", "0"), "expected --fixed of at least 1, got 0"),
        ("hrm-sudoku-9x9", ("--max-puzzles", "0"), "expected --max-puzzles of at least 1, got 0"),
    ],
)
def test_bad_input_is_one_line(
    weights: str, options: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", weights, "--data", str(RATED), *options]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert expected in line
