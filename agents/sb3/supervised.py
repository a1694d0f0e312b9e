"""The control: the baselines' own network, trained by cross-entropy on the stored solutions instead of by reward.

Network, heads and action space are those of PPO in answer mode; what differs is the signal. So a gap between the two is
the signal's, and a gap between this and an HRM under supervision is the architecture's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

from hrm_gym.agents.checkpoint import read_tensors
from hrm_gym.agents.devices import float32_numbers
from hrm_gym.agents.sb3 import policies
from hrm_gym.agents.sb3.recipes import RLRecipe, SupervisedSettings
from hrm_gym.agents.sb3.run import Run, Watcher, env_arguments, puzzle_seed
from hrm_gym.agents.sb3.vec_env import make_sb3_vec
from hrm_gym.agents.scalars import scalar_writer
from hrm_gym.envs.puzzle import PuzzleBatch, puzzle_keys

STATE = "optimizer.safetensors"


class SupervisedRun(Run):
    """A run under supervision; a timestep is a puzzle seen."""

    @float32_numbers()
    def __init__(self, recipe: RLRecipe, folder: Path, device: str = "cpu") -> None:
        """Start, or continue from the newest checkpoint in `folder`.

        Raises:
            ValueError: the folder holds a run of another recipe, or its checkpoint is damaged.
        """
        super().__init__(recipe, folder, device)
        assert isinstance(recipe.learner, SupervisedSettings)
        self.settings = recipe.learner
        torch.manual_seed(recipe.seed)
        self._policy = policies.blank_policy(recipe.algorithm, self._about()["model"]).to(device)
        self.parameters = list(self._policy.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, self.settings.lr, weight_decay=self.settings.weight_decay)
        self.venv: Any = make_sb3_vec(recipe.env_id, 1, **env_arguments(recipe, "train")).venv
        if (found := self._found()) is not None:
            self._resume(found[0])

    @property
    def policy(self) -> BasePolicy:
        """The current policy."""
        return self._policy

    @property
    def timesteps(self) -> int:
        """Puzzles seen so far."""
        return self.updates * self.settings.batch_size

    @float32_numbers()
    def learn(self, watcher: Watcher) -> None:
        """Learn from the remaining puzzles, then write the finished weights to `model/`."""
        total = self.recipe.timesteps
        if self.timesteps < total and not self.expired():
            with scalar_writer(self.folder, self.timesteps + 1) as writer:
                while self.timesteps < total and not self.expired():
                    row = self.after_update({"loss": self.step()}, watcher)
                    for name, value in row.items():
                        writer.add_scalar(f"supervised/{name}", value, self.timesteps)
                if self.stopping:
                    self.save()
                    return
                self.after_update({}, watcher, final=True)
        self.export()

    def step(self) -> float:
        """One update on new puzzles; returns its loss."""
        puzzles = self._puzzles()
        progress = self.timesteps / self.recipe.timesteps
        rate = self.settings.lr * (1 - (1 - self.settings.lr_min_ratio) * progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self.loss(puzzles)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 0.5)
        self.optimizer.step()
        return float(loss.detach())

    def loss(self, puzzles: PuzzleBatch) -> Tensor:
        """() mean cross-entropy of the cells, and of the halt bit, which is to be set."""
        vocabulary, shape = self.family.vocab_size, puzzles.clues.shape
        policy: Any = self._policy
        features = policy.extract_features(self._observations(puzzles))
        logits = policy.action_net(features)
        cells = logits[:, :-2].reshape(-1, vocabulary)
        labels = torch.as_tensor(puzzles.solutions.reshape(shape[0], -1), device=self.device).long().flatten()
        halts = torch.ones(shape[0], dtype=torch.long, device=self.device)
        return F.cross_entropy(cells, labels) + 0.1 * F.cross_entropy(logits[:, -2:], halts)

    def _puzzles(self) -> PuzzleBatch:
        """The next puzzles: those of the first board of an environment, in order."""
        count = self.settings.batch_size
        numbers = np.arange(self.timesteps, self.timesteps + count, dtype=np.uint64)
        seeds = np.full(count, puzzle_seed(self.recipe, 0), dtype=np.uint64)
        found: PuzzleBatch = self.venv.unwrapped.world.puzzle_source.batch(puzzle_keys(seeds, numbers))
        return found

    def _observations(self, puzzles: PuzzleBatch) -> dict[str, Tensor]:
        """What an environment shows of new puzzles."""
        shown = {
            "puzzle": puzzles.clues,
            "answer": self.family.blank(puzzles.clues),
            "segment": np.zeros((len(puzzles), 1), dtype=np.float32),
        }
        return {name: torch.as_tensor(array, device=self.device) for name, array in shown.items()}

    def _fill_state(self, folder: Path) -> None:
        state = {
            f"{number}.{name}": torch.as_tensor(value).contiguous()
            for number, values in self.optimizer.state_dict()["state"].items()
            for name, value in values.items()
        }
        save_file({"empty": torch.zeros(1), **state, **_weights(self._policy)}, folder / STATE)

    def _resume(self, path: Path) -> None:
        try:
            tensors = read_tensors(path / STATE, self._policy.state_dict(), times=4)
        except Exception as error:
            raise ValueError(f"{path} cannot be continued from: {error}") from error
        own = {name.removeprefix("policy."): t for name, t in tensors.items() if name.startswith("policy.")}
        self._policy.load_state_dict(own, strict=False)
        states: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            number, _, field = name.partition(".")
            if number.isdigit():
                states.setdefault(int(number), {})[field] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": states})


def _weights(policy: BasePolicy) -> dict[str, Tensor]:
    from hrm_gym.agents.sb3.policies import own_state

    return {f"policy.{name}": tensor.contiguous() for name, tensor in own_state(policy).items()}
