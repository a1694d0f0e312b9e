"""Recipes of PPO runs: everything that decides their outcome, as frozen dataclasses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import tyro

_COUNTS = (
    *("max_steps", "timesteps", "envs", "n_steps", "n_epochs", "channels", "alternatives", "hidden"),
    *("eval_puzzles", "eval_every", "checkpoint_every"),
)


@dataclass(frozen=True)
class PPORecipe:
    """One PPO run in move mode.

    Attributes:
        env_id: environment that is learnt, always with new puzzles of its training split.
        env: its constructor arguments.
        walker_token: token of the walker's cell in the observed answer.
        max_steps: moves after which a training episode is truncated; evaluations keep the environment's own budget.
        reward: "dense" (potential-shaped) or "sparse", in training.
        step_cost: cost of a move, in training.
        shaping_gamma: discount within the shaping; 1 lets each move earn exactly the distance it gains.
        timesteps: environment steps in all.
        envs: environments side by side.
        n_steps: steps of each environment between two updates.
        batch_size: steps in a minibatch; whole environments are kept together.
        n_epochs: passes over the steps of an update.
        lr: learning rate at the start; it falls linearly to 0.
        gamma: PPO's discount.
        gae_lambda: of the advantage estimates.
        clip_range: of the policy's ratio.
        ent_coef: weight of the entropy bonus at the start; it falls linearly to 0.
        vf_coef: weight of the value loss.
        channels: of the plan (`WalkerFeatures`).
        alternatives: of the plan.
        iterations: of the plan; 0 sizes it by the grid.
        hidden: width of the policy's and the value's hidden layer.
        seed: of weights, puzzles and exploration.
        eval_puzzles: held-out puzzles of an evaluation.
        eval_every: updates between evaluations.
        checkpoint_every: updates between checkpoints.
    """

    env_id: str
    walker_token: int
    env: tyro.conf.Fixed[Mapping[str, Any]] = field(default_factory=dict)
    max_steps: int = 40
    reward: str = "dense"
    step_cost: float = 0.0
    shaping_gamma: float = 1.0
    timesteps: int = 2_000_000
    envs: int = 128
    n_steps: int = 64
    batch_size: int = 1024
    n_epochs: int = 4
    lr: float = 3e-3
    gamma: float = 0.9
    gae_lambda: float = 0.9
    clip_range: float = 0.2
    ent_coef: float = 0.003
    vf_coef: float = 0.5
    channels: int = 4
    alternatives: int = 4
    iterations: int = 0
    hidden: int = 64
    seed: int = 0
    eval_puzzles: int = 500
    eval_every: int = 25
    checkpoint_every: int = 25

    def __post_init__(self) -> None:
        """Raise ValueError for a setting out of its range."""
        if self.reward not in ("dense", "sparse"):
            raise ValueError(f"expected reward 'dense' or 'sparse', got {self.reward!r}")
        if self.batch_size < self.n_steps:
            raise ValueError(f"expected batch_size >= n_steps ({self.n_steps}), got {self.batch_size}")
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {getattr(self, name)}")
        for name in ("gamma", "gae_lambda"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"expected {name} in 0..1, got {getattr(self, name)}")
        for name in ("lr", "clip_range"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"expected {name} > 0, got {getattr(self, name)}")

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain JSON values."""
        return {**dataclasses.asdict(self), "env": dict(self.env)}


RECIPES = {"maze": PPORecipe("HRMMaze-v0", walker_token=3, env={"size": 10})}
"""The recipes by name; `maze` made the bundled weights."""
