"""`hrm-gym train-rl`: a tiny run, its files, going on after a stop, and refusals."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback

import hrm_gym
from hrm_gym.agents.sb3.agent import SB3Agent
from hrm_gym.agents.sb3.recipes import RLRecipe
from hrm_gym.agents.sb3.run import Watch
from hrm_gym.agents.sb3.training import RLRun
from hrm_gym.scripts import train_rl
from hrm_gym.scripts.main import main as command_line
from hrm_gym.scripts.options import parse_recipe

TINY = shlex.split(
    "--size 5 --envs 4 --n-steps 8 --batch-size 16 --n-epochs 1 --max-steps 10 --model.hidden 8 --model.iterations 3 "
    "--eval-puzzles 4 --eval-every 96 --checkpoint-every 64 --device cpu"
)


def run_tiny(out: Path, timesteps: int = 160, *more: str) -> int:
    return train_rl.main(["maze", "--out", str(out), "--timesteps", str(timesteps), *TINY, *more])


def test_a_tiny_run_leaves_weights_that_play(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_tiny(tmp_path / "run") == 0
    assert "held-out solved" in capsys.readouterr().err
    curve = [json.loads(line) for line in (tmp_path / "run" / "curve.jsonl").read_text().splitlines()]
    assert [row["timesteps"] for row in curve] == [96, 160]
    assert {"seconds", "processor_seconds", "solved", "reached"} <= set(curve[0])
    assert (tmp_path / "run" / "curves.png").stat().st_size > 1000
    env = gym.make("HRMMaze-v0", size=5, action_mode="move", source="generate")
    agent = hrm_gym.make_agent("ppo", env, weights=tmp_path / "run" / "model")
    assert isinstance(agent, SB3Agent)
    observation, _ = env.reset(seed=0)
    assert env.action_space.contains(agent.act(observation))
    about = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert (about["timesteps"], about["updates"]) == (160, 5)
    assert list((tmp_path / "run").glob("events.out.tfevents.*"))


class Stop(Exception):
    """Stands in for a kill."""


class _StopAfter(BaseCallback):
    """Raises in the middle of a rollout."""

    def __init__(self, timesteps: int) -> None:
        super().__init__()
        self.last = timesteps

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.last:
            raise Stop
        return True


def tiny_recipe(*more: str) -> RLRecipe:
    """The recipe of a tiny run, as the command makes it."""
    argv = ["maze", "--timesteps", "160", *TINY, *more]
    _, config = parse_recipe(train_rl.TrainRL, train_rl.RECIPES, "train-rl", argv, "", train_rl.recipe_for)
    return dataclasses.replace(config.recipe, env={**config.recipe.env, "size": config.size})


def test_the_reward_reaches_the_plan(tmp_path: Path) -> None:
    run = RLRun(tiny_recipe(), tmp_path)
    before = {name: tensor.clone() for name, tensor in run.model.policy.state_dict().items()}
    run.learn(lambda row: None)
    after = run.model.policy.state_dict()
    for name in ("action_net.weight", "value_net.weight", "features_extractor.propagation.spread.weight"):
        assert not after[name].equal(before[name]), name


def test_a_stopped_run_goes_on_from_its_newest_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tiny_recipe()
    run = RLRun(recipe, tmp_path)
    with pytest.raises(Stop):
        run.model.learn(160, [Watch(run, lambda row: None), _StopAfter(104)])
    again = RLRun(recipe, tmp_path)
    assert (again.timesteps, again.updates) == (64, 2)
    assert run_tiny(tmp_path) == 0
    assert "continuing" in capsys.readouterr().err
    about = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (about["timesteps"], about["updates"]) == (160, 5)


def test_a_resumed_model_has_the_weights_of_its_checkpoint(tmp_path: Path) -> None:
    run_tiny(tmp_path, 64)
    weights = SB3Agent.load(tmp_path / "model", gym.make("HRMMaze-v0", size=5, action_mode="move")).policy
    recipe = tiny_recipe("--timesteps", "64")
    model = RLRun(recipe, tmp_path).model
    for name, tensor in model.policy.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), weights.state_dict()[name].numpy())


def test_another_recipe_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    run_tiny(tmp_path, 64)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    with pytest.raises(ValueError, match=r"holds a run of another recipe \(.* there, .* here"):
        run_tiny(tmp_path, 64, "--gamma", "0.5")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == before


def test_a_run_without_a_whole_checkpoint_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_tiny(tmp_path, 64)
    for path in tmp_path.glob("update_*/training_state.safetensors"):
        path.write_bytes(path.read_bytes()[:1000])
    capsys.readouterr()
    assert command_line(["train-rl", "maze", "--out", str(tmp_path), "--timesteps", "64", *TINY]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("hrm-gym: error:")
    assert "no checkpoint that is whole" in error


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["train-rl", "--help"]) == 0
    assert "hrm-gym train-rl maze --size 6" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no recipe given"):
        train_rl.main([])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"timesteps": 0}, "timesteps"),
        ({"batch_size": 4}, "batch_size"),
        ({"seeds": 0}, "--seeds"),
        ({"gamma": 1.5}, "gamma"),
        ({"lr": 0.0}, "lr"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    argv = [word for name, value in changes.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    with pytest.raises(ValueError, match=f"expected {message}"):
        train_rl.main(["maze", "--out", str(tmp_path), *TINY, *argv])


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown recipe 'go': expected one of maze"):
        train_rl.main(["go"])


def test_an_environment_takes_the_settings_of_a_recipe(tmp_path: Path) -> None:
    short = ["--timesteps", "64", "--envs", "4", "--learner.n-steps", "4", "--eval-puzzles", "2"]
    argv = ["train-rl", "hrm_gym:HRMMaze-v0:size=4", "--out", str(tmp_path), *short]
    assert command_line([one.replace("--learner.", "--") for one in argv]) == 0
    about = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (about["recipe"]["env_id"], about["recipe"]["env"]) == ("HRMMaze-v0", {"size": 4})
    assert command_line(["train-rl", "CartPole-v1"]) == 2
