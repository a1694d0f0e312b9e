"""Runs of every algorithm and network: they learn, leave weights that play, and go on after a kill."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import hrm_gym
from hrm_gym.agents import pretrained
from hrm_gym.agents.sb3 import policies
from hrm_gym.agents.sb3.agent import SB3Agent
from hrm_gym.agents.sb3.curves import curve_of, draw_curves
from hrm_gym.agents.sb3.networks import GridModel, SymbolModel
from hrm_gym.agents.sb3.policies import ALGORITHMS, own_state, read_policy
from hrm_gym.agents.sb3.recipes import RECIPES, SMALL_HRM, RLRecipe, SupervisedSettings, WalkerModel
from hrm_gym.agents.sb3.run import Run, puzzle_seed
from hrm_gym.agents.sb3.training import RLRun, save_replay, start_run
from hrm_gym.evaluation.rollout import rollout_batched

TINY_HRM = dataclasses.replace(SMALL_HRM, hidden_size=16, heads=2, h_layers=1, l_layers=1, h_cycles=1, l_cycles=1)


def tiny(name: str, **changes: Any) -> RLRecipe:
    """A recipe that is over in a moment."""
    recipe = RECIPES[name]
    model, learner = recipe.model, recipe.learner
    if isinstance(model, GridModel):
        model = dataclasses.replace(model, channels=4, iterations=1, hidden=4)
    elif isinstance(model, SymbolModel):
        model = dataclasses.replace(model, channels=4, layers=1, hidden=4)
    elif isinstance(model, WalkerModel):
        model = dataclasses.replace(model, iterations=2, hidden=4)
    else:
        hrm = TINY_HRM if model.hrm.mixer == "attention" else dataclasses.replace(model.hrm, hidden_size=8, mlp_width=8)
        model = dataclasses.replace(model, hrm=hrm, segments=1)
    small = {"n_steps": 4, "batch_size": 8, "n_epochs": 1, "buffer_size": 200, "learning_starts": 8, "target_every": 16}
    known = {field.name for field in dataclasses.fields(learner)}
    learner = dataclasses.replace(learner, **{key: value for key, value in small.items() if key in known})
    rest = {"envs": 4, "timesteps": 64, "eval_puzzles": 2, "eval_every": 32, "checkpoint_every": 32, "max_steps": 6}
    budget = "max_segments" if recipe.action_mode == "answer" else "max_steps"
    env = {**recipe.env, budget: 6}  # An untrained policy uses up whatever an evaluation gives it.
    return dataclasses.replace(recipe, **{"model": model, "learner": learner, "env": env, **rest, **changes})


def ignore(row: dict[str, float]) -> None:
    """A watcher that looks away."""


def world(recipe: RLRecipe) -> gym.Env[Any, Any]:
    return gym.make(recipe.env_id, action_mode=recipe.action_mode, split="test", **recipe.env)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_and_leaves_weights_that_play_the_same(name: str, tmp_path: Path) -> None:
    recipe = tiny(name)
    run = start_run(recipe, tmp_path)
    before = {key: tensor.clone() for key, tensor in own_state(run.policy).items()}
    run.learn(ignore)
    after = own_state(run.policy)
    assert any(not torch.equal(after[key], tensor) for key, tensor in before.items())
    assert [row["timesteps"] for row in curve_of(tmp_path)][-1] == run.timesteps == 64
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        ".hrm-gym",
        "SHA256SUMS",
        "config.json",
        "model.safetensors",
    }
    env = world(recipe)
    agent = hrm_gym.make_agent("sb3", env, weights=tmp_path / "model")
    own = SB3Agent(run.policy, recipe.action_mode, device="cpu", family=run.family)
    observation, _ = env.reset(seed=3)
    for _ in range(3):
        action = agent.predict(observation)[0]
        np.testing.assert_array_equal(action, own.predict(observation)[0])
        assert env.action_space.contains(action if action.ndim else int(action))
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            break


@pytest.mark.parametrize(
    "name", ["sudoku-4x4-maskableppo", "sudoku-4x4-a2c", "sudoku-4x4-dqn", "sudoku-4x4-supervised", "maze"]
)
def test_a_run_goes_on_from_its_newest_checkpoint(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny(name)
    run = start_run(recipe, tmp_path)

    class Killed(Exception):
        pass

    def kill(row: dict[str, float]) -> None:
        if row["timesteps"] > 40:
            raise Killed

    with pytest.raises(Killed):
        run.learn(kill)
    again = start_run(recipe, tmp_path)
    assert again.timesteps == 32
    saved, _ = read_policy(sorted(tmp_path.glob("update_*"))[-1])
    for key, tensor in own_state(again.policy).items():
        assert torch.equal(tensor, own_state(saved)[key]), key
    assert again.seconds() > 0
    again.learn(ignore)
    assert [row["timesteps"] for row in curve_of(tmp_path)] == [32, 64]
    assert not list(tmp_path.rglob("*.zip")), "nothing that has to be unpickled"


@pytest.mark.parametrize(
    "name",
    [
        *("sudoku-4x4-maskableppo", "sudoku-4x4-ppo", "sudoku-4x4-a2c", "sudoku-4x4-dqn", "sudoku-4x4-supervised"),
        *("maze", "maze-dqn"),
    ],
)
def test_a_killed_run_ends_with_the_bits_of_an_uninterrupted_one(name: str, tmp_path: Path) -> None:
    recipe = tiny(name, timesteps=160, checkpoint_every=48, eval_every=80)
    straight = start_run(recipe, tmp_path / "straight")
    straight.learn(ignore)

    class Killed(Exception):
        pass

    def kill_after(timesteps: int, row: dict[str, float]) -> None:
        if row["timesteps"] > timesteps:
            raise Killed

    for timesteps in (70, 120):
        with pytest.raises(Killed):
            start_run(recipe, tmp_path / "killed").learn(functools.partial(kill_after, timesteps))
    again = start_run(recipe, tmp_path / "killed")
    assert 0 < again.timesteps < 160
    again.learn(ignore)
    for key, tensor in straight.policy.state_dict().items():
        assert torch.equal(tensor, again.policy.state_dict()[key]), key
    timeless = [
        [{key: value for key, value in row.items() if "seconds" not in key} for row in curve_of(tmp_path / folder)]
        for folder in ("straight", "killed")
    ]
    assert timeless[0] == timeless[1]


@pytest.mark.parametrize("name", ["sudoku-4x4-ppo", "sudoku-4x4-dqn"])
def test_a_finished_run_whose_steps_are_no_whole_rollouts_is_opened_again(name: str, tmp_path: Path) -> None:
    recipe = tiny(name, timesteps=33)
    start_run(recipe, tmp_path).learn(ignore)
    again = start_run(recipe, tmp_path)
    assert again.timesteps > 33
    again.learn(ignore)
    start_run(dataclasses.replace(recipe, timesteps=90), tmp_path).learn(ignore)


def test_a_policy_trained_to_write_no_clash_writes_none_where_it_might(tmp_path: Path) -> None:
    start_run(tiny("sudoku-9x9-maskableppo"), tmp_path).learn(ignore)
    env = gym.make("HRMSudoku-v0", action_mode="cell")
    assert not env.unwrapped.family.legal_only
    agent = SB3Agent.maskableppo(env, tmp_path / "model", device="cpu")
    observation, _ = env.reset(seed=1)
    for _ in range(20):
        action = agent.predict(observation, deterministic=False)[0]
        observation, _, terminated, truncated, info = env.step(action)
        assert info["violations"] == 0
        if terminated or truncated:
            break


def test_the_replay_buffer_comes_back(tmp_path: Path) -> None:
    recipe = tiny("sudoku-4x4-dqn")
    run = start_run(recipe, tmp_path)
    assert isinstance(run, RLRun)
    run.learn(ignore)
    again = start_run(recipe, tmp_path)
    assert isinstance(again, RLRun)
    ours, theirs = again.model.replay_buffer, run.model.replay_buffer
    assert (ours.pos, ours.full) == (theirs.pos, theirs.full)
    assert ours.pos == 16
    np.testing.assert_array_equal(ours.observations["answer"][:16], theirs.observations["answer"][:16])
    np.testing.assert_array_equal(ours.rewards[:16], theirs.rewards[:16])
    save_replay(ours, tmp_path / "again.npz")


def test_runs_of_other_seeds_and_stretches_see_other_puzzles() -> None:
    recipe = tiny("sudoku-4x4-ppo")
    seeds = [puzzle_seed(dataclasses.replace(recipe, seed=seed), steps) for seed in range(5) for steps in (0, 1000)]
    gaps = np.abs(np.subtract.outer(np.array(seeds, dtype=float), np.array(seeds, dtype=float)))
    assert (gaps + np.eye(len(seeds)) * 1e18 > 1e9).all()


def test_a_limit_stops_a_run_and_its_weights_are_kept(tmp_path: Path) -> None:
    run: Run = start_run(tiny("sudoku-4x4-maskableppo", timesteps=10**9), tmp_path)
    run.limit = run.processor_seconds() + 0.05
    run.learn(ignore)
    assert 0 < run.timesteps < 10**6
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_supervision_lowers_the_loss_of_one_batch(tmp_path: Path) -> None:
    recipe = tiny("sudoku-4x4-supervised", learner=SupervisedSettings(batch_size=8, lr=0.03), timesteps=10**6)
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, channels=16))  # type: ignore[type-var]
    run: Any = start_run(recipe, tmp_path)
    puzzles = run._puzzles()
    run._puzzles = lambda: puzzles
    losses = [run.step() for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0]


def test_ppo_and_supervision_have_the_same_network() -> None:
    controlled, control = RECIPES["sudoku-4x4-ppo"], RECIPES["sudoku-4x4-supervised"]
    assert controlled.model == control.model
    assert policies.policy_class("ppo", controlled.model) is policies.policy_class("supervised", control.model)


def test_an_algorithm_that_does_not_go_with_the_network_is_refused() -> None:
    with pytest.raises(ValueError, match="for a network of kind 'hrm', got dqn"):
        policies.policy_class("dqn", RECIPES["sudoku-4x4-hrm-maskableppo"].model)
    with pytest.raises(ValueError, match="expected a WalkerModel in move mode only"):
        dataclasses.replace(RECIPES["maze"], action_mode="cell")


def test_weights_of_another_algorithm_are_refused(tmp_path: Path) -> None:
    recipe = tiny("sudoku-4x4-a2c")
    start_run(recipe, tmp_path).learn(ignore)
    with pytest.raises(ValueError, match="were trained by a2c, expected dqn"):
        hrm_gym.make_agent("dqn", world(recipe), weights=tmp_path / "model")
    agent = hrm_gym.make_agent("a2c", world(recipe), weights=tmp_path / "model")
    assert (agent.name, agent.action_mode) == ("a2c", "cell")


def test_curves_of_several_seeds_are_drawn(tmp_path: Path) -> None:
    for seed, height in enumerate((0.2, 0.6)):
        run = tmp_path / f"seed-{seed}"
        run.mkdir()
        rows = [{"timesteps": 100 * k, "processor_seconds": k, "solved": height * k} for k in (0, 1)]
        (run / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"cut off')
    runs = {path.name: path for path in sorted(tmp_path.iterdir())}
    assert len(curve_of(runs["seed-0"])) == 2
    assert draw_curves(runs, tmp_path / "curves.png").stat().st_size > 1000


BUNDLED = [(kind, folder, about) for kind in ALGORITHMS for folder, about in pretrained.bundled(kind)]
FLOORS = {"sudoku-4x4": 0.85, "maze-8x8": 0.7, "maze-10x10": 0.85}
"""Least share solved of the puzzles below, well under what the cards say of a thousand."""


@pytest.mark.parametrize(("kind", "folder", "about"), BUNDLED, ids=lambda value: getattr(value, "name", ""))
def test_bundled_weights_play_as_their_cards_say(kind: str, folder: Path, about: dict[str, Any]) -> None:
    recipe = about["recipe"]
    arguments = {**recipe["env"], "action_mode": about["action_mode"], "split": "test"}

    def make() -> gym.Env[Any, Any]:
        return gym.make(recipe["env_id"], **arguments)

    agent = (
        hrm_gym.make_agent(kind, make()) if kind != "supervised" else hrm_gym.make_agent("sb3", make(), weights=folder)
    )
    assert sum(path.stat().st_size for path in folder.iterdir()) < 300_000
    assert (folder / "CARD.md").is_file()
    puzzle = folder.name.partition("-")[2]
    if puzzle in FLOORS and kind in ("ppo", "maskableppo"):
        episodes = list(rollout_batched(make, agent, 60, batch=60, seed=77))
        assert np.mean([episode.solved for episode in episodes]) >= FLOORS[puzzle]


@pytest.mark.parametrize("name", ["sudoku-4x4-ppo", "sudoku-4x4-dqn"])
def test_another_default_dtype_trains_the_same(name: str, tmp_path: Path) -> None:
    start_run(tiny(name), tmp_path / "float32").learn(ignore)
    torch.set_default_dtype(torch.float64)
    try:
        start_run(tiny(name), tmp_path / "float64").learn(ignore)
    finally:
        torch.set_default_dtype(torch.float32)
    a, b = ((tmp_path / kind / "model" / "model.safetensors").read_bytes() for kind in ("float32", "float64"))
    assert a == b


def test_a_model_that_someone_else_put_there_is_kept(tmp_path: Path) -> None:
    """It is found before the training, not after it."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="thesis"):
        start_run(tiny("sudoku-4x4-ppo"), tmp_path)


def test_a_run_that_is_continued_with_other_threads_says_that_bits_will_differ(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    threads = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    recipe = tiny("sudoku-4x4-dqn")
    torch.set_num_threads(1)
    start_run(recipe, tmp_path).learn(ignore)
    start_run(recipe, tmp_path)
    assert "bits" not in caplog.text
    torch.set_num_threads(2)
    start_run(recipe, tmp_path)
    assert caplog.text.count("bits will differ from those of a run without a break: threads 1 before, 2 now") == 1
