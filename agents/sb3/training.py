"""Training PPO in move mode: environments, evaluation, and checkpoints from which a run goes on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv

from hrm_gym.agents import checkpoint
from hrm_gym.agents.sb3.agent import SB3Agent
from hrm_gym.agents.sb3.buffer import WalksBuffer
from hrm_gym.agents.sb3.export import policy_arguments, write_policy
from hrm_gym.agents.sb3.recipes import PPORecipe
from hrm_gym.rollout import rollout_batched

ACTION_MODE = "move"
EVAL_SEED = 1_000_000
ZIP = "sb3.zip"


def training_env(recipe: PPORecipe) -> gym.Env[Any, Any]:
    """One training environment: new puzzles of the training split, the recipe's reward and budget."""
    return _make(
        recipe,
        "train",
        max_steps=recipe.max_steps,
        reward=recipe.reward,
        step_cost=recipe.step_cost,
        shaping_gamma=recipe.shaping_gamma,
    )


def held_out_env(recipe: PPORecipe) -> gym.Env[Any, Any]:
    """One environment of the test split, with its own reward and budget."""
    return _make(recipe, "test")


def _make(recipe: PPORecipe, split: str, **arguments: Any) -> gym.Env[Any, Any]:
    arguments = {**recipe.env, "action_mode": ACTION_MODE, "source": "generate", "split": split, **arguments}
    return gym.make(recipe.env_id, disable_env_checker=True, **arguments)


class PPORun:
    """One run in one folder; a run found there is continued.

    The order of puzzles and the random draws after a checkpoint are fresh ones, so a continued run ends with other
    weights than an uninterrupted one of the same recipe.

    Attributes:
        model: SB3's PPO.
        updates: rollouts learnt from so far.
        seconds: time spent so far, evaluations included.
    """

    def __init__(self, recipe: PPORecipe, folder: Path, device: str = "cpu") -> None:
        """Start, or go on from the newest checkpoint in `folder`.

        Raises:
            ValueError: the folder holds a run of another recipe, or its checkpoint is damaged.
        """
        self.recipe, self.folder = recipe, folder
        self.family = held_out_env(recipe).unwrapped.family  # type: ignore[attr-defined]
        self.updates, self.seconds = 0, 0.0
        envs = DummyVecEnv([lambda: training_env(recipe)] * recipe.envs)
        found = checkpoint.newest(folder, recipe.to_json())
        self.model = self._resumed(*found, envs, device) if found else self._fresh(envs, device)
        self.model.set_logger(configure(str(folder), ["tensorboard"]))
        self._began = time.perf_counter() - self.seconds

    def learn(self, callback: Any) -> None:
        """Learn from the remaining timesteps, then write the finished weights to `model/`."""
        remaining = self.recipe.timesteps - self.model.num_timesteps
        if remaining > 0:
            self.model.learn(remaining, callback, reset_num_timesteps=False)
            self.save()
        self.export(self.folder / "model")

    def clock(self) -> float:
        """Seconds spent so far, those before the checkpoint included."""
        self.seconds = time.perf_counter() - self._began
        return self.seconds

    def evaluate(self) -> dict[str, float]:
        """Held-out puzzles, walked greedily: shares solved (a shortest walk) and reached, and mean moves."""
        agent = SB3Agent(self.model.policy, ACTION_MODE, device=str(self.model.device))
        count = self.recipe.eval_puzzles
        episodes = list(rollout_batched(lambda: held_out_env(self.recipe), agent, count, batch=count, seed=EVAL_SEED))
        return {
            "solved": float(np.mean([episode.solved for episode in episodes])),
            "reached": float(np.mean([bool(episode.reached) for episode in episodes])),
            "moves": float(np.mean([episode.steps for episode in episodes])),
        }

    def save(self, keep: int = 2) -> Path:
        """Write a checkpoint from which the run goes on; returns its folder."""
        self.clock()
        path = checkpoint.checkpoint_path(self.folder, self.updates)
        checkpoint.write_folder(path, self._fill_checkpoint)
        checkpoint.drop_old(self.folder, keep)
        return path

    def export(self, path: Path) -> None:
        """Write the policy alone, as safetensors and JSON, to the folder `path`."""
        checkpoint.write_folder(path, lambda folder: write_policy(folder, self.model.policy, self._about()))

    def _fill_checkpoint(self, folder: Path) -> None:
        write_policy(folder, self.model.policy, self._about())
        self.model.save(folder / ZIP)

    def _about(self) -> dict[str, Any]:
        return {
            "family": self.family.name,
            "action_mode": ACTION_MODE,
            "recipe": self.recipe.to_json(),
            "timesteps": self.model.num_timesteps,
            "updates": self.updates,
            "seconds": round(self.seconds, 1),
        }

    def _fresh(self, envs: DummyVecEnv, device: str) -> PPO:
        r = self.recipe
        names = ("n_steps", "batch_size", "n_epochs", "gamma", "gae_lambda", "clip_range", "ent_coef", "vf_coef")
        model = {**r.to_json(), "vocab_size": self.family.vocab_size}
        return PPO(
            "MultiInputPolicy",
            envs,
            learning_rate=LinearSchedule(r.lr, 0.0, 1.0),
            rollout_buffer_class=WalksBuffer,
            policy_kwargs=policy_arguments(model),
            seed=r.seed,
            device=device,
            **{name: getattr(r, name) for name in names},
        )

    def _resumed(self, path: Path, about: dict[str, Any], envs: DummyVecEnv, device: str) -> PPO:
        try:
            model = PPO.load(path / ZIP, env=envs, device=device)
        except Exception as error:
            raise ValueError(f"{path / ZIP} cannot be continued from: {error}") from error
        model.set_random_seed(self.recipe.seed + model.num_timesteps)
        self.updates, self.seconds = about["updates"], about["seconds"]
        return model
