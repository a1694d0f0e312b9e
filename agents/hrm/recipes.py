"""Recipes: everything that decides the outcome of a training run, as frozen dataclasses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import tyro

from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.losses import AnswerLoss


@dataclass(frozen=True)
class Recipe:
    """One training run. Two runs of equal recipes on one machine end with equal weights.

    Attributes:
        env_id: environment whose puzzles are learnt.
        env: its constructor arguments; `source` and `split` are set by the recipe's own fields.
        source: "generate", "bank" or a data file.
        init: checkpoint folder whose weights the run starts from, e.g. one of smaller boards; "" starts afresh.
        model: the network.
        loss: cross-entropy over the cells.
        batch_size: boards under way at once (slots).
        updates: optimiser updates, one a segment.
        optimizer: "adam_atan2" (the paper's) or "adamw".
        lr: peak learning rate.
        lr_min_ratio: share of it that is left at the end; 1 keeps it constant, as the paper has it.
        lr_decay: shape of the way down.
        warmup: updates of linear warm-up.
        betas: decay of Adam's averages.
        weight_decay: decoupled decay, on every parameter.
        puzzle_lr: learning rate of the puzzle embedding (SignSGD).
        puzzle_weight_decay: its decay.
        ema: decay of the weight average that is evaluated and saved; 0 for none.
        continue_every: updates between two extra forward passes for Q(continue)'s target; the paper's 1 costs a third.
        augment: put every board under a random symmetry of its family.
        seed: of weights, puzzles and exploration.
        eval_puzzles: held-out puzzles of an evaluation.
        eval_every: updates between evaluations.
        checkpoint_every: updates between checkpoints.
    """

    env_id: str
    model: HRMConfig
    env: tyro.conf.Fixed[Mapping[str, Any]] = field(default_factory=dict)
    source: str = "generate"
    init: str = ""
    loss: AnswerLoss = "stablemax"
    batch_size: int = 768
    updates: int = 26_000
    optimizer: Literal["adam_atan2", "adamw"] = "adam_atan2"
    lr: float = 1e-4
    lr_min_ratio: float = 1.0
    lr_decay: Literal["cosine", "linear"] = "cosine"
    warmup: int = 2000
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 1.0
    puzzle_lr: float = 1e-4
    puzzle_weight_decay: float = 1.0
    ema: float = 0.0
    continue_every: int = 1
    augment: bool = False
    seed: int = 0
    eval_puzzles: int = 256
    eval_every: int = 1000
    checkpoint_every: int = 1000

    def __post_init__(self) -> None:
        for name in ("batch_size", "updates", "continue_every", "eval_puzzles", "eval_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must lie in [0, 1), got {self.ema}")
        if self.lr <= 0:
            raise ValueError(f"lr must be positive, got {self.lr}")

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return {**dataclasses.asdict(self), "env": dict(self.env)}


MAZE_NETWORK = HRMConfig(
    vocab_size=6,
    grid=(8, 8),
    hidden_size=96,
    heads=3,
    h_layers=2,
    l_layers=2,
    positions="rope2d",
    rope_theta=100.0,
    max_segments=8,
)
"""0.44M parameters. Rotary positions over rows and columns do not depend on the size of the board."""

SMALL_MAZES = Recipe(
    env_id="HRMMaze-v0",
    env={"size": 8},
    model=MAZE_NETWORK,
    loss="softmax",
    batch_size=64,
    updates=5000,
    optimizer="adamw",
    lr=1e-3,
    lr_min_ratio=0.0,
    lr_decay="linear",
    warmup=200,
    weight_decay=0.1,
    ema=0.999,
    continue_every=4,
    eval_puzzles=512,
    eval_every=500,
    checkpoint_every=500,
)

MAZES = replace(
    SMALL_MAZES,
    env={"size": 10},
    model=replace(MAZE_NETWORK, grid=(10, 10)),
    init="runs/maze/model",
    updates=10_000,
)

PAPER_MAZES = Recipe(env_id="HRMMazeHard-v0", model=HRMConfig(vocab_size=6, grid=(30, 30)), augment=True)

RECIPES = {"maze": SMALL_MAZES, "maze-10x10": MAZES, "maze-hard": PAPER_MAZES}
"""Recipes by the name `hrm-gym train` takes.

"maze" learns 8x8 mazes from nothing; "maze-10x10" goes on from it, and the two made the bundled weights on one CPU
core. "maze-hard" has the paper's 27M network.
"""
