"""`hrm-gym bench`: replayed actions are legal, ratios are taken round by round, and every group runs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.scripts.bench import peers, reads, solving, steps, training, worlds
from hrm_gym.scripts.bench.timing import Contest, race
from hrm_gym.scripts.main import main

QUICK = ["--rounds", "1", "--seconds", "0.01"]


def test_ratios_are_medians_of_rounds() -> None:
    rates = {"slow": iter([9.0, 1.0, 2.0, 4.0]), "fast": iter([9.0, 3.0, 2.0, 16.0])}
    contest = Contest("a race", {name: lambda _, found=found: next(found) for name, found in rates.items()}, "slow")
    slow, fast = race(contest, 3, 1.0).rows
    assert (slow.median, slow.low, slow.high, slow.ratio) == (2.0, 1.0, 4.0, None)
    assert (fast.median, fast.ratio) == (3.0, 3.0)


@pytest.mark.parametrize("mode", ["cell", "move"])
def test_replayed_actions_are_legal(mode: str) -> None:
    env = gym.make("HRMMaze-v0", size=4, action_mode=mode)
    actions = worlds.drawn(env, 300)
    env.reset(seed=0)
    for action in actions:
        assert env.unwrapped.action_masks()[action]
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()


def test_replayed_actions_of_many_boards_are_legal() -> None:
    envs = gym.make_vec("HRMMaze-v0", num_envs=50, size=4, action_mode="cell")
    actions = worlds.drawn_many(envs)
    envs.reset(seed=0)
    waiting, ends = np.zeros(50, dtype=bool), 0
    for action in actions:
        assert (envs.action_masks()[np.arange(50), action] | waiting).all()
        _, _, terminated, truncated, _ = envs.step(action)
        waiting = terminated | truncated
        ends += waiting.sum()
    assert ends > 10


def test_the_choice_finds_the_only_legal_action() -> None:
    envs = gym.make_vec("HRMMaze-v0", num_envs=3, action_mode="cell")
    masks = np.zeros((3, 201), dtype=bool)
    masks[[0, 1, 2], [7, 200, 0]] = True
    chosen = worlds.legal_choice(np.random.default_rng(0), envs, masks)
    assert chosen.tolist() == [7, 200, 0]


def test_groups_print_tables_and_write_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = tmp_path / "bench.json"
    assert main(["bench", "--only", "single", "generators", *QUICK, "--json", str(found)]) == 0
    shown = capsys.readouterr().out
    assert "HRMMaze-v0, move" in shown
    assert "x CartPole-v1" in shown
    told = json.loads(found.read_text())
    assert [contest["base"] for contest in told["contests"]] == ["CartPole-v1", None]
    assert {row["name"] for row in told["contests"][1]["rows"]} >= {"HRMMaze-v0", "HRMMazeHard-v0"}
    assert told["machine"]["cores"] >= 1


@pytest.mark.parametrize("make", [worlds.reset, worlds.render], ids=["reset", "render"])
def test_every_id_resets_and_renders(make: type[Contest], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worlds, "BOARDS", 4)
    contest = make()
    for env_id in worlds.ids():
        assert any(name.startswith(env_id) for name in contest.turns)
    assert all(turn(0.001) > 0 for turn in contest.turns.values())


def test_batches_race_cartpole(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(worlds, "BOARDS", 16)
    assert main(["bench", "--only", "vector", *QUICK]) == 0
    shown = capsys.readouterr().out
    assert "HRMMaze-v0, size 30, move" in shown


def test_training_and_solving(monkeypatch: pytest.MonkeyPatch) -> None:
    """The contests of networks, on tiny ones and without compilation; halting must not cost right answers."""
    tiny = HRMConfig(vocab_size=6, grid=(4, 4), hidden_size=32, heads=2, h_layers=1, l_layers=1)
    every = training.updating(tiny, 2, False, 0, False)
    fourth = training.updating(tiny, 2, False, 256, True, target_every=4)
    assert every(0.01) > 0
    assert fourth(0.01) > 0
    monkeypatch.setattr(solving, "POOL", 8)
    monkeypatch.setattr(solving, "BATCH", 8)
    monkeypatch.setattr(solving, "RULES", ("never", "q"))
    contest = solving.solving()
    assert len(contest.turns) == 2
    assert contest.base == next(iter(contest.turns))
    assert contest.base.startswith("fixed 16 segments: ")
    assert all(turn(0.001) > 0 for turn in contest.turns.values())


def test_peers_that_are_not_installed_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "installed", lambda module: False)
    assert main(["bench", "--peers", *QUICK]) == 0
    shown = capsys.readouterr().err
    for package in ("jumanji", "minigrid", "arcle"):
        assert f"pip install {package}" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "everything"], "everything"),
        (["--rounds", "0"], "at least one round"),
        (["--seconds", "0"], "at least one round"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 2
    found = capsys.readouterr().err
    assert said in found
    assert found.count("\n") == 1


def test_an_older_version_trains_in_turns_with_this_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Here the other version is this one; a revision that does not exist is one line."""
    found = tmp_path / "steps.json"
    options = ["--rounds", "1", "--seconds", "0.01"]
    old = ["--old", str(steps.OURS)]
    assert main(["bench", "--only", "steps", "sudoku-4x4", *old, *options, "--json", str(found)]) == 0
    contest = json.loads(found.read_text())["contests"][0]
    assert contest["base"] == str(steps.OURS)
    assert [row["name"] for row in contest["rows"]] == [str(steps.OURS), "this version"]
    assert contest["rows"][1]["ratio"] > 0
    assert main(["bench", "--only", "steps", "--old", "no-such-revision"]) == 2
    assert "expected a git revision or a folder" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="got none"), steps.training("no-recipe", steps.OURS):
        pass


def test_an_older_version_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was committed, with what makes its rooms importable."""
    monkeypatch.setattr(steps, "OURS", tmp_path)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for room in ("hrm_gym", *steps.ROOMS):
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text("old")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "old"]):
        subprocess.run([*git, *command], check=True)
    (tmp_path / "envs" / "__init__.py").write_text("new")
    with steps.older("HEAD") as there:
        assert (there / "hrm_gym" / "envs" / "__init__.py").read_text() == "old"
    assert not there.exists()
    with steps.older(str(tmp_path)) as there:
        assert there == tmp_path


def test_what_passes_between_host_and_device_is_counted() -> None:
    with reads.Traffic() as traffic:
        there = torch.arange(4, dtype=torch.float32).to(reads.DEVICE)
        assert there.device == reads.DEVICE
        assert dict(traffic.seen) == {"up": 16, "operators": 1}
        total = (2 * there).sum()
        assert traffic.seen["operators"] == 3
        assert not traffic.seen["reads"]
        assert float(total) == 12.0
        assert there[there > 1].tolist() == [2.0, 3.0]  # the size of the result, then the result
        assert traffic.seen["reads"] == 3
        assert traffic.seen["down"] == 8 + 8 + 8


@pytest.mark.parametrize("name", ["reads", "feeding"])
def test_a_recipe_is_counted_and_fed(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"reads": ["--updates", "1", "--warmup", "1"], "feeding": ["--seconds", "0.01", "--peak", "1"]}[name]
    assert main(["bench", "--only", name, "sudoku-4x4", *options, "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())["recipes"]["sudoku-4x4"]
    if name == "reads":
        assert found["reads"] == 0, "the only read, once in 16 updates, comes before the first"
        assert found["up"] == 0, "and the copies with it"
        assert found["operators"] > 100
    else:
        assert found["processes"] == -(-found["taken"] // found["prepared"])
        assert found["taken"] > 0
    assert main(["bench", "--only", name, "chess"]) == 2
    assert "unknown recipe 'chess'" in capsys.readouterr().err
