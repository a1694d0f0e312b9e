"""`hrm-gym analyze`: tables, pictures and figures; what trajectories say is what solving does."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from hrm_gym.agents.checkpoint import write_folder
from hrm_gym.agents.hrm import thinking
from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.analysis.answers import study_answers
from hrm_gym.agents.hrm.analysis.segments import (
    Trajectories,
    halting_segments,
    joined,
    right_at,
    spearman,
    split_evenly,
    study_scaling,
    study_segments,
    think_through,
)
from hrm_gym.agents.hrm.analysis.states import participation_ratio, steps_of, study_convergence, study_dimensionality
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.halting import Evidence, Fixed, Never, QHead, Stable, parse_halting
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.recipes import Recipe, direct, recurrent
from hrm_gym.agents.hrm.run_folder import write_model
from hrm_gym.envs.puzzle import Puzzle
from hrm_gym.evaluation.rollout import Episode
from hrm_gym.scripts.main import main

MODEL = HRMConfig(
    vocab_size=6, grid=(5, 5), hidden_size=16, heads=1, h_layers=1, l_layers=1, positions="rope2d", dtype="float32"
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """An untrained network that halts here and there."""
    torch.manual_seed(0)
    model = HRM(MODEL)
    with torch.no_grad():
        model.q_head.weight.normal_()
        model.q_head.bias.zero_()
    about = {"kind": "hrm", "family": "maze"}
    write_folder(tmp_path / "weights", lambda path: write_model(path, model.state_dict(), MODEL, about))
    return tmp_path / "weights"


def world(**kwargs: Any) -> Any:
    return gym.make("HRMMaze-v0", size=5, disable_env_checker=True, **kwargs).unwrapped


def test_segments_as_table_picture_and_json(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--agent", f"hrm={weights}", "--size", "5", "--episodes", "30", "--out", "found/segments"]
    assert main(["analyze", "segments", "HRMMaze-v0", *arguments, "--max-segments", "6"]) == 0
    said = capsys.readouterr().out
    assert "cells of a shortest path" in said
    assert "orrelation" in said
    figures = json.loads(Path("found/segments.json").read_text())
    assert sum(one["puzzles"] for one in figures["bins"]) == figures["puzzles"] == 30
    assert 1 <= figures["segments"] <= 6
    assert Path("found/segments.png").read_bytes().startswith(b"\x89PNG")


def test_votes_show_what_they_cost(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--agent", f"hrm={weights}", "--size", "5", "--episodes", "6", "--halting", "fixed:2", "--votes", "3"]
    assert main(["analyze", "segments", *arguments]) == 0
    assert "spent" in capsys.readouterr().out
    (path,) = Path("analysis").glob("*.json")
    bins = json.loads(path.read_text())["bins"]
    assert {(one["segments"], one["spent"]) for one in bins} == {(2.0, 6.0)}


def test_scaling_as_table_picture_and_json(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--agent", f"hrm={weights}", "--size", "5", "--episodes", "10", "--budgets", "1", "3", "20"]
    assert main(["analyze", "scaling", *arguments, "--rules", "stable:1", "--out", "s"]) == 0
    assert "trained with 16 segments" in " ".join(capsys.readouterr().out.split())
    figures = json.loads(Path("s.json").read_text())
    assert [one["segments"] for one in figures["fixed"]] == [1, 3, 20]
    assert [one["rule"] for one in figures["rules"]] == ["stable:1"]
    assert Path("s.png").read_bytes().startswith(b"\x89PNG")


def test_answers_as_table_picture_and_json(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--agent", f"hrm={weights}", "--size", "5", "--episodes", "2", "--segments", "1", "3", "--out", "a"]
    assert main(["analyze", "answers", *arguments, "--halting", "fixed:2"]) == 0
    assert "halts after" in capsys.readouterr().out
    courses = json.loads(Path("a.json").read_text())["courses"]
    assert [(len(one["wrong"]), len(one["grids"]), one["halts"]) for one in courses] == [(3, 3, 2)] * 2
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")


def test_answers_within_a_segment_end_with_its_answer(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The state that the H-level would take after the last L-update of a segment is the one that it takes."""
    env = world()
    agent = HRMAgent.for_env(env, weights, device="cpu")
    puzzles = [env.puzzle_source.puzzle(key) for key in (1, 2, 3)]
    inner, within = study_answers(agent, puzzles, 3, inner=True)
    outer, after = study_answers(agent, puzzles, 3)
    last = [place for place, moment in enumerate(inner[0].moments) if moment.update == MODEL.steps]
    assert len(inner[0].moments) == 3 * MODEL.steps
    for one, other, many, few in zip(inner, outer, within, after, strict=True):
        assert np.array_equal(many[last], few)
        assert [one.q_halt[place] for place in last] == pytest.approx(list(other.q_halt), abs=1e-4)
    arguments = [
        "--agent",
        f"hrm={weights}",
        "--size",
        "5",
        "--episodes",
        "2",
        "--segments",
        "2",
        "--inner",
        "--out",
        "i",
    ]
    assert main(["analyze", "answers", *arguments]) == 0
    assert f"2, update {MODEL.steps}" in " ".join(capsys.readouterr().out.split())


def test_answers_are_those_of_the_agent(weights: Path) -> None:
    env = world()
    agent = HRMAgent.for_env(env, weights, device="cpu", halting="fixed:3")
    puzzles = [env.puzzle_source.puzzle(key) for key in (1, 2)]
    courses, answers = study_answers(agent, puzzles, 4)
    for puzzle, course, grids in zip(puzzles, courses, answers, strict=True):
        observation, _ = env.reset(options={"puzzle": puzzle})
        state = None
        for segment in range(3):
            action, state = agent.predict(observation, state)
            assert np.array_equal(action[:-1].reshape(5, 5), grids[segment])
            assert course.q_halt[segment] == pytest.approx(float(state.q_halt[0]), abs=1e-4)
            assert bool(action[-1]) == (segment == 2)
            observation = env.step(action)[0]
        assert course.halts == 3
        assert course.changed[1] == int((grids[1] != grids[0]).sum())
    with pytest.raises(ValueError, match="at least one puzzle"):
        study_answers(agent, [], 4)


def test_convergence_beside_recurrent_and_deep_networks(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    beside = []
    for name, change in {"deep": direct, "recurrent": recurrent}.items():
        config = change(Recipe("HRMMaze-v0", MODEL)).model
        model = HRM(config)
        write = lambda path, model=model, config=config: write_model(  # noqa: E731
            path, model.state_dict(), config, {"kind": "hrm", "family": "maze"}
        )
        write_folder(Path(name) / "model", write)
        beside.append(f"{name}/model")
    arguments = ["--agent", f"hrm={weights}", "--size", "5", "--episodes", "5", "--batch", "2", "--segments", "3"]
    assert main(["analyze", "convergence", *arguments, "--beside", *beside, "--out", "c"]) == 0
    assert "H-level" in capsys.readouterr().out
    found = json.loads(Path("c.json").read_text())["networks"]
    assert [(one["name"][:4], one["kind"], one["calls"]) for one in found] == [
        ("hrm=", "hierarchical", 6), ("deep", "deep", 2), ("recu", "recurrent", 4),
    ]  # fmt: skip
    low, high = found[0]["traces"]
    assert (low["calls"][:5], high["calls"][:3]) == ([1, 2, 4, 5, 7], [3, 6, 9])
    assert len(found[2]["traces"][0]["calls"]) == 12
    assert Path("c.png").read_bytes().startswith(b"\x89PNG")


def test_residuals_are_those_of_the_states(weights: Path) -> None:
    env = world()
    agent = HRMAgent.for_env(env, weights, device="cpu")
    boards = agent.boards(env.puzzle_source.batch(np.arange(6, dtype=np.uint64)).clues)
    steps, carry = list(steps_of(agent.model, boards, 2)), agent.model.initial_carry(6)
    for segment in (1, 2):
        before = carry
        carry, *_ = agent.model.segment(carry, boards.inputs, boards.puzzle_ids)
        assert torch.allclose(steps[6 * segment - 1].after, carry.z_h, atol=1e-5)
        assert torch.allclose(steps[6 * segment - 6].before, before.z_l, atol=1e-5)
    study = study_convergence([("a", agent.model, boards)], 2, batch=4)
    moved = (steps[2].after - steps[2].before).square().mean(-1).sqrt().mean()
    assert study.networks[0].traces[1].residuals[0] == pytest.approx(float(moved), rel=1e-4)


def test_a_curve_as_table_picture_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"update": 10, "fed": 30, "seconds": 90.0, "loss": 1.0, "exact": 0.1, "cells": 0.5, "segments": 2.0}
    told = [{**row, "eval_solved": 0.6, "eval_exact": 0.5, "eval_segments": 1.5}] * 2
    Path("run").mkdir()
    Path("run/curve.jsonl").write_text("".join(json.dumps(one) + "\n" for one in told))
    assert main(["analyze", "curve", "run", "--out", "c"]) == 0
    assert "50.0%" in capsys.readouterr().out
    assert json.loads(Path("c.json").read_text())["rows"] == told
    assert Path("c.png").read_bytes().startswith(b"\x89PNG")
    for path, content in (("empty", ""), ("text", "x"), ("other", '{"a": 1}\n')):
        Path(path).write_text(content)
        assert main(["analyze", "curve", path]) == 2
        assert ": expected" in capsys.readouterr().err
    assert main(["analyze", "curve", "nowhere"]) == 2


def test_participation_ratio() -> None:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(5000, 6)) * [1, 1, 1, 0, 0, 0] + 5
    ratio = participation_ratio(states.T @ states / 5000, states.mean(axis=0))
    assert ratio == pytest.approx(3, abs=0.05)
    line = np.outer(np.arange(10.0), np.ones(6))
    assert participation_ratio(line.T @ line / 10, line.mean(axis=0)) == pytest.approx(1)
    assert participation_ratio(np.zeros((3, 3)), np.zeros(3)) == 0


def test_dimensionality_as_table_picture_and_json(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--agent", f"hrm={weights}", "--size", "5", "--episodes", "16", "--batch", "3", "--segments", "2"]
    assert main(["analyze", "dimensionality", *arguments, "--out", "d"]) == 0
    assert "of 16 dimensions" in capsys.readouterr().out
    found = json.loads(Path("d.json").read_text())
    for rows in (found["trained"], found["untrained"]):
        assert [one["puzzles"] for one in rows] == [2, 4, 8, 16]
        assert all(1 <= one["high"] <= 16 and 1 <= one["low"] <= 16 for one in rows)
    assert Path("d.png").read_bytes().startswith(b"\x89PNG")
    env = world()
    agent = HRMAgent.for_env(env, weights, device="cpu")
    boards = agent.boards(env.puzzle_source.batch(np.arange(8, dtype=np.uint64)).clues)
    whole, parts = (study_dimensionality(agent.model, boards, 2, [2, 8], batch) for batch in (8, 3))
    assert whole.trained[1].high == pytest.approx(parts.trained[1].high, rel=1e-4)
    cells = [step.after[:, 1:].flatten(0, 1) for step in steps_of(agent.model, boards, 2) if step.level == "H"]
    covariance = np.cov(torch.cat(cells).double().numpy().T, bias=True)
    assert whole.trained[1].high == pytest.approx(np.trace(covariance) ** 2 / (covariance**2).sum(), rel=1e-3)
    for counts in ([], [4, 2], [1, 4], [2, 9]):
        with pytest.raises(ValueError, match=r"puzzles in 2\.\.8"):
            study_dimensionality(agent.model, boards, 2, counts)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "needs a command: expected one of segments, scaling, answers, convergence, dimensionality, curve"),
        (["speed"], "unknown command of hrm-gym analyze"),
        (["segments", "--bins", "0"], "--bins of at least 1, got 0"),
        (
            ["segments", "--agent", "ppo"],
            "one of hrm, hrm-vote, hrm-first, hrm-adapt, hrm-search, got 'ppo'",
        ),
        (["segments", "--episodes", "0"], "--episodes of at least 1"),
        (["segments", "--halting", "soon"], "expected a halting rule"),
        (["scaling", "--budgets", "0", "4"], "--budgets of at least 1"),
        (["scaling", "--rules", "fixed:0"], "fixed with at least 1 segment"),
        (["scaling", "--agent", "hrm-vote"], "expected one HRM"),
        (["scaling", "--check"], "Unrecognized options: --check"),
        (["segments", "HRMHalting-v0"], "expected an environment of puzzles, one of HRMSudoku-v0"),
        (["answers", "--segments", "0", "2"], "--segments of at least 1"),
        (["convergence", "--segments", "0"], "--segments of at least 1"),
        (["convergence", "--beside", "nowhere"], "no weights at nowhere"),
        (["dimensionality", "--agent", "hrm-first"], "expected one HRM"),
    ],
)
def test_bad_input_gets_one_line(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", *argv]) == 2
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1
    assert not list(Path().rglob("*.png"))


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", "--help"]) == 0
    assert "examples:\n  hrm-gym analyze segments" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["q", "fixed:3", "stable:1", "confidence:0.3", "never"])
def test_trajectories_tell_what_solving_does(weights: Path, text: str) -> None:
    env = world()
    agent = HRMAgent.for_env(env, weights, device="cpu")
    rule = parse_halting(text, agent.model.config)
    puzzles = env.puzzle_source.batch(np.arange(20, dtype=np.uint64))
    parts = list(think_through(agent, [puzzles[k] for k in range(20)], 7, batch=8))
    assert [len(part.right) for part in parts] == [8, 8, 4]
    whole = joined(parts)
    inputs, ids, free = agent.boards(puzzles.clues)
    for limit in (7, 2):
        solved = thinking.solve(agent.model, inputs, ids, limit, rule, free)
        used = halting_segments(rule, whole, limit)
        assert used.tolist() == solved.segments.tolist()
        answers = solved.answers.numpy().reshape(puzzles.clues.shape)
        right = env.family.judge(puzzles.clues, puzzles.solutions, answers)
        assert right_at(whole, used).tolist() == right.tolist()


def trajectories(right: list[list[int]], q: list[list[float]]) -> Trajectories:
    """Two boards or more, with Q(continue) 0 and answers that never change."""
    values = torch.tensor(q)
    numbers = torch.arange(1, values.shape[1] + 1).expand(values.shape)
    certain = torch.ones_like(values)
    return Trajectories(np.array(right, bool), Evidence(numbers, values, 0 * values, certain, certain, numbers - 1))


def test_a_scaling_study_by_hand() -> None:
    told = trajectories([[0, 1, 0, 0], [0, 0, 0, 1]], [[-1, 1, -1, -1], [-1, -1, -1, -1]])
    study = study_scaling(told, QHead(), [1, 2, 4], [Stable(1), Never()])
    assert [one.solved for one in study.fixed] == [0, 0.5, 0.5]
    assert [(one.segments, one.solved) for one in study.learned] == [(1, 0), (2, 0.5), (3, 1)]
    assert [(one.rule, one.segments, one.solved) for one in study.rules] == [("stable:1", 2, 0.5), ("never", 4, 0.5)]
    assert study.ever == 1
    assert halting_segments(Fixed(9), told, 3).tolist() == [3, 3]
    for budgets in ([], [0, 1], [2, 1], [1, 1]):
        with pytest.raises(ValueError, match="expected rising budgets"):
            study_scaling(told, QHead(), budgets)
    with pytest.raises(ValueError, match="at most 4 segments, got 5"):
        study_scaling(told, QHead(), [5])


def episode(rating: float | None, segments: int | None, solved: bool) -> Episode:
    grid = np.full((1, 2), 2, np.uint8)
    puzzle = Puzzle(grid, grid, rating=rating)
    return Episode("env", "hrm", 0, puzzle, (), solved, solved, 1.0, segments, None, 0.0, 1, 0.0)


def test_a_segment_study_by_hand() -> None:
    played = [episode(10, 1, True), episode(10, 3, True), episode(40, 8, False)]
    study = study_segments(played, world().family)
    assert study.unit == "rating"
    assert [(one.low, one.high, one.puzzles, one.segments, one.solved) for one in study.bins] == [
        (10, 10, 2, 2, 1),
        (40, 40, 1, 8, 0),
    ]
    assert study.correlation == pytest.approx(0.866, abs=1e-3)
    assert study_segments([episode(1, 2, True)] * 2, world().family).correlation is None
    with pytest.raises(ValueError, match="expected episodes of answer mode"):
        study_segments([episode(1, None, True)], world().family)


def test_bins_hold_all_rows_and_rise() -> None:
    values = np.random.default_rng(0).integers(0, 40, 300).astype(np.float64)
    for bins in (1, 5, 100):
        groups = split_evenly(values, bins)
        assert sorted(np.concatenate(groups).tolist()) == list(range(300))
        assert all(values[a].max() < values[b].min() for a, b in pairwise(groups))
        assert len(groups) <= bins or bins >= 40


def test_rank_correlation() -> None:
    rng = np.random.default_rng(1)
    a = rng.integers(0, 9, 200).astype(np.float64)
    b = a + rng.normal(0, 4, 200)
    r, low, high = spearman(a, b)
    assert r == pytest.approx(spearmanr(a, b).statistic)
    assert low < r < high  # type: ignore[operator]
    assert spearman(a, np.zeros(200)) == (None, None, None)
    assert spearman(np.arange(6.0), np.arange(6.0) ** 3)[0] == pytest.approx(1)
