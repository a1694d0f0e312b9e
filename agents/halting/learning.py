"""DQN and PPO of stable-baselines3 learn when to halt; what is kept is a small network, as safetensors and JSON."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from msgspec import Meta
from numpy.typing import NDArray
from safetensors.torch import save_file
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.utils import LinearSchedule
from torch import Tensor, nn

from hrm_gym.agents.checkpoint import (
    CONFIG,
    WEIGHTS,
    check_size,
    fitting,
    read_config,
    read_tensors,
    verify,
    write_config,
    write_folder,
)
from hrm_gym.agents.devices import float32_numbers
from hrm_gym.agents.halting.rules import Rule, halting_segments, solved_at
from hrm_gym.agents.sb3.vec_env import make_sb3_vec
from hrm_gym.envs.halting.bank import HaltingBank
from hrm_gym.reading import convert

ENV_ID = "HRMHalting-v0"
KIND = "halting"


@dataclass(frozen=True)
class HaltingRecipe:
    """How a policy learns when to halt.

    Attributes:
        agent: dqn or ppo.
        cost: cost of a segment.
        max_segments: limit of segments; 0 takes all that the bank has.
        steps: environment steps in all.
        envs: boards side by side.
        hidden: width of the two hidden layers.
        lr: learning rate at the start; it falls linearly to 0.
        batch_size: transitions in a minibatch.
        n_steps: PPO: steps of each board between two updates.
        n_epochs: PPO: passes over the steps of an update.
        ent_coef: PPO: weight of the entropy bonus.
        gae_lambda: PPO: of the advantage estimates.
        updates_a_step: DQN: gradient steps for each step of all boards.
        target_every: DQN: steps of all boards between two copies of the network to the target network.
        exploration: DQN: share of the steps over which random actions become rarer, down to 5 %.
        weight_decay: of the optimiser (AdamW).
        seed: of weights, puzzles and exploration.
    """

    agent: Literal["dqn", "ppo"]
    cost: float = 0.01
    max_segments: int = 0
    steps: int = 200_000
    envs: int = 256
    hidden: int = 32
    lr: float = 1e-3
    batch_size: int = 1024
    n_steps: int = 32
    n_epochs: int = 4
    ent_coef: float = 0.003
    gae_lambda: float = 0.95
    updates_a_step: int = 2
    target_every: int = 50
    exploration: float = 0.3
    weight_decay: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for a setting out of its range."""
        if self.agent not in ("dqn", "ppo"):
            raise ValueError(f"expected agent dqn or ppo, got {self.agent!r}")
        if not 0 <= self.cost <= 1:
            raise ValueError(f"expected cost in 0..1, got {self.cost}")
        whole = ("steps", "envs", "hidden", "batch_size", "n_steps", "n_epochs", "updates_a_step", "target_every")
        for name in whole:
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} of at least 1, got {getattr(self, name)}")
        if not self.lr > 0:
            raise ValueError(f"expected lr above 0, got {self.lr}")

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain JSON values."""
        return dataclasses.asdict(self)


def recipe_for(agent: str, **changes: Any) -> HaltingRecipe:
    """The tuned recipe of an agent, with changes.

    Raises:
        ValueError: no such agent, or a setting out of its range.
    """
    if agent not in RECIPES:
        raise ValueError(f"expected agent to be one of {', '.join(RECIPES)}, got {agent!r}")
    return dataclasses.replace(RECIPES[agent], **changes)


RECIPES = {
    "dqn": HaltingRecipe("dqn", lr=2e-3),
    "ppo": HaltingRecipe("ppo", envs=512, n_steps=16, batch_size=2048, lr=3e-3),
}
"""The tuned recipes: chosen on a third of the training puzzles of the bundled bank, held out for that."""


class DecisionNet(nn.Module):
    """Two scores, for continuing and for halting, of an observation; the greater one is the decision."""

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.layers = nn.Sequential(
            nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2)
        )

    def forward(self, observations: Tensor) -> Tensor:
        """(B, 2) of (B, F)."""
        scores: Tensor = self.layers((observations - self.mean) / self.scale)
        return scores


class Learned:
    """A learned halting policy as a rule.

    Attributes:
        name: what tables call it.
        net: the network.
        about: how it was learnt.
    """

    def __init__(self, net: DecisionNet, about: dict[str, Any]) -> None:
        self.net, self.about = net.eval().requires_grad_(False), about
        self.name = str(about["recipe"]["agent"]).upper()

    def halts(self, observations: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(...) bool of (..., F) observations.

        Raises:
            ValueError: they have another number of entries than the policy learnt from.
        """
        flat = torch.from_numpy(np.array(observations, np.float32).reshape(-1, np.shape(observations)[-1]))
        if flat.shape[1] != len(self.net.mean):
            raise ValueError(f"expected observations of {len(self.net.mean)} numbers, got {flat.shape[1]}")
        with torch.inference_mode():
            scores = self.net(flat)
        return (scores[:, 1] > scores[:, 0]).numpy().reshape(np.shape(observations)[:-1])

    def save(self, folder: Path) -> None:
        """Write weights and JSON to `folder` atomically."""

        def fill(draft: Path) -> None:
            save_file({name: tensor.contiguous() for name, tensor in self.net.state_dict().items()}, draft / WEIGHTS)
            write_config(draft, {"kind": KIND, **self.about, "model": _form(self.net)})

        write_folder(folder, fill)

    @classmethod
    @float32_numbers()
    def load(cls, folder: Path | str) -> Learned:
        """The policy of a folder that `save` wrote.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: the folder holds no halting policy, or its files are damaged.
        """
        folder = Path(folder)
        about = read_config(folder)
        if about.get("kind") != KIND:
            raise ValueError(f"{folder}: expected weights of kind {KIND!r}, got {about.get('kind')!r}")
        form = convert(about["model"], Form, folder / CONFIG)
        convert(about.get("recipe", {}), HaltingRecipe, f"{folder / CONFIG}: recipe")
        net = DecisionNet(form.features, form.hidden)
        check_size(folder / WEIGHTS, net.state_dict())
        verify(folder)
        net.load_state_dict(fitting(read_tensors(folder / WEIGHTS), net.state_dict(), folder))
        return cls(net, {name: value for name, value in about.items() if name not in ("kind", "model")})


class Standardised(BaseFeaturesExtractor):
    """Observations with mean 0 and deviation 1 over the training puzzles of a bank."""

    mean: Tensor
    scale: Tensor

    def __init__(self, observation_space: spaces.Box, mean: NDArray[np.float32], scale: NDArray[np.float32]) -> None:
        super().__init__(observation_space, len(mean))
        self.register_buffer("mean", torch.from_numpy(mean.copy()))
        self.register_buffer("scale", torch.from_numpy(scale.copy()))

    def forward(self, observations: Tensor) -> Tensor:
        """(B, F) of (B, F)."""
        return (observations - self.mean) / self.scale


def bank_digest(bank: HaltingBank) -> str:
    """A hash of what a policy learns from, in hexadecimal."""
    digest = hashlib.sha256()
    for array in (bank.observations, bank.solved, bank.test):
        digest.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


@float32_numbers()
def train(recipe: HaltingRecipe, bank: HaltingBank, progress: Callable[[int], None] = lambda steps: None) -> Learned:
    """Learn a policy from the training split of a bank.

    Args:
        recipe: how.
        bank: the whole bank.
        progress: called with the number of environment steps so far.
    """
    limit = recipe.max_segments or bank.segments
    learnt_from = bank.only("train", limit)
    flat = learnt_from.observations.reshape(-1, learnt_from.observations.shape[2])
    mean, scale = flat.mean(axis=0), np.maximum(flat.std(axis=0), 1e-3)
    envs = make_sb3_vec(ENV_ID, recipe.envs, recipe.seed, bank=bank, cost=recipe.cost, max_segments=limit)
    model = _model(recipe, envs, {"mean": mean, "scale": scale})
    model.learn(recipe.steps, _Progress(progress))
    net = _extracted(model, recipe, mean, scale)
    return Learned(net, {"recipe": recipe.to_json(), "bank": bank_digest(bank), "segments": limit})


def mean_return(policy: Rule, bank: HaltingBank, cost: float) -> float:
    """Mean return of a policy over all puzzles of a bank."""
    segments = halting_segments(policy, bank)
    return float((solved_at(bank, segments) - cost * segments).mean())


def _model(recipe: HaltingRecipe, envs: Any, statistics: dict[str, Any]) -> DQN | PPO:
    policy_kwargs = {
        "features_extractor_class": Standardised,
        "features_extractor_kwargs": statistics,
        "activation_fn": nn.ReLU,
        "optimizer_class": torch.optim.AdamW,
        "optimizer_kwargs": {"weight_decay": recipe.weight_decay},
    }
    same: dict[str, Any] = {"seed": recipe.seed, "device": "cpu", "gamma": 1.0, "batch_size": recipe.batch_size}
    same["learning_rate"] = LinearSchedule(recipe.lr, 0.0, 1.0)
    layers = [recipe.hidden, recipe.hidden]
    if recipe.agent == "ppo":
        return PPO(
            "MlpPolicy",
            envs,
            n_steps=recipe.n_steps,
            n_epochs=recipe.n_epochs,
            ent_coef=recipe.ent_coef,
            gae_lambda=recipe.gae_lambda,
            policy_kwargs={**policy_kwargs, "net_arch": {"pi": layers, "vf": layers}},
            **same,
        )
    return DQN(
        "MlpPolicy",
        envs,
        buffer_size=max(recipe.steps, recipe.batch_size),
        learning_starts=20 * recipe.envs,
        train_freq=1,
        gradient_steps=recipe.updates_a_step,
        target_update_interval=recipe.target_every * recipe.envs,
        exploration_fraction=recipe.exploration,
        policy_kwargs={**policy_kwargs, "net_arch": layers},
        **same,
    )


def _extracted(model: DQN | PPO, recipe: HaltingRecipe, mean: Any, scale: Any) -> DecisionNet:
    """The part of a policy that decides."""
    policy: Any = model.policy
    if recipe.agent == "dqn":
        trained = [layer for layer in policy.q_net.q_net if isinstance(layer, nn.Linear)]
    else:
        trained = [layer for layer in policy.mlp_extractor.policy_net if isinstance(layer, nn.Linear)]
        trained.append(policy.action_net)
    net = DecisionNet(len(mean), recipe.hidden)
    net.mean.copy_(torch.from_numpy(mean))
    net.scale.copy_(torch.from_numpy(scale))
    own = (layer for layer in net.layers if isinstance(layer, nn.Linear))
    for layer, source in zip(own, trained, strict=True):
        layer.load_state_dict(source.state_dict())
    return net


_Size = Annotated[int, Meta(ge=1, le=4096)]


@dataclass(frozen=True)
class Form:
    """What rebuilds a policy: the numbers of an observation, and of a hidden layer."""

    features: _Size
    hidden: _Size


def _form(net: DecisionNet) -> dict[str, int]:
    first: Any = net.layers[0]
    return {"features": first.in_features, "hidden": first.out_features}


class _Progress(BaseCallback):
    """Passes on the number of steps."""

    def __init__(self, progress: Callable[[int], None]) -> None:
        super().__init__()
        self._progress = progress

    def _on_step(self) -> bool:
        self._progress(self.num_timesteps)
        return True
