"""Recipes of the opponents' runs: everything that decides their outcome, as frozen dataclasses.

The frozen recipes, by the name that `hrm-gym train-rl` takes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import tyro

from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.sb3.networks import GridModel, SymbolModel

Algorithm = Literal["ppo", "maskableppo", "a2c", "dqn", "supervised"]
MODES = ("answer", "cell", "move")


@dataclass(frozen=True)
class WalkerModel:
    """Settings of `WalkerFeatures`, for move mode.

    Attributes:
        walker_token: token of the walker's cell in the observed answer.
        channels: of the plan.
        alternatives: of the plan.
        iterations: of the plan; 0 sizes it by the grid.
        hidden: width of the policy's and the value's hidden layer.
    """

    walker_token: int = 3
    channels: int = 4
    alternatives: int = 4
    iterations: int = 0
    hidden: int = 64

    def __post_init__(self) -> None:
        _at_least_one(self, "channels", "alternatives", "hidden")


@dataclass(frozen=True)
class HRMModel:
    """An HRM as policy (`HRMPolicy`).

    Attributes:
        hrm: the network; its vocabulary and grid are the environment's.
        segments: segments an environment step.
        carry: keep the states between the steps of an episode (`carry.CarryVecEnv`); else each starts from the initial
            ones.
    """

    hrm: HRMConfig
    segments: int = 2
    carry: bool = False

    def __post_init__(self) -> None:
        _at_least_one(self, "segments")


Model = WalkerModel | GridModel | SymbolModel | HRMModel


@dataclass(frozen=True)
class PPOSettings:
    """PPO and MaskablePPO.

    Attributes:
        n_steps: steps of each environment between two updates.
        batch_size: steps in a minibatch.
        n_epochs: passes over the steps of an update.
        lr: learning rate at the start; it falls linearly.
        lr_min_ratio: share of it that is left at the end.
        gamma: discount.
        gae_lambda: of the advantage estimates.
        clip_range: of the policy's ratio.
        ent_coef: weight of the entropy bonus at the start; it falls linearly to 0.
        vf_coef: weight of the value loss.
        whole_walks: minibatches of whole environments instead of steps drawn one by one (`WalksBuffer`).
    """

    n_steps: int = 64
    batch_size: int = 1024
    n_epochs: int = 4
    lr: float = 3e-3
    lr_min_ratio: float = 0.0
    gamma: float = 0.9
    gae_lambda: float = 0.9
    clip_range: float = 0.2
    ent_coef: float = 0.003
    vf_coef: float = 0.5
    whole_walks: bool = False

    def __post_init__(self) -> None:
        _at_least_one(self, "n_steps", "batch_size", "n_epochs")
        _shares(self, "lr_min_ratio", "gamma", "gae_lambda")
        _positive(self, "lr", "clip_range")
        if self.whole_walks and self.batch_size < self.n_steps:
            raise ValueError(f"expected batch_size >= n_steps ({self.n_steps}), got {self.batch_size}")


@dataclass(frozen=True)
class A2CSettings:
    """A2C.

    Attributes:
        n_steps: steps of each environment between two updates.
        lr: learning rate at the start; it falls linearly.
        lr_min_ratio: share of it that is left at the end.
        gamma: discount.
        gae_lambda: of the advantage estimates.
        ent_coef: weight of the entropy bonus at the start; it falls linearly to 0.
        vf_coef: weight of the value loss.
        use_rms_prop: RMSprop as published; else Adam.
        normalize_advantage: bring the advantages of an update to mean 0 and deviation 1.
    """

    n_steps: int = 8
    lr: float = 1e-3
    lr_min_ratio: float = 0.0
    gamma: float = 0.9
    gae_lambda: float = 0.9
    ent_coef: float = 0.003
    vf_coef: float = 0.5
    use_rms_prop: bool = False
    normalize_advantage: bool = True

    def __post_init__(self) -> None:
        _at_least_one(self, "n_steps")
        _shares(self, "lr_min_ratio", "gamma", "gae_lambda")
        _positive(self, "lr")


@dataclass(frozen=True)
class DQNSettings:
    """DQN.

    Attributes:
        buffer_size: transitions kept.
        learning_starts: transitions before the first update.
        batch_size: transitions of an update.
        n_steps: steps of each environment between two rounds of updates.
        gradient_steps: updates of a round.
        target_every: environment steps between two copies to the target network.
        lr: learning rate at the start; it falls linearly.
        lr_min_ratio: share of it that is left at the end.
        gamma: discount.
        exploration: share of the run in which the share of random actions falls to its last value.
        last_random: that value.
    """

    buffer_size: int = 100_000
    learning_starts: int = 5_000
    batch_size: int = 256
    n_steps: int = 1
    gradient_steps: int = 1
    target_every: int = 2_000
    lr: float = 1e-3
    lr_min_ratio: float = 0.0
    gamma: float = 0.9
    exploration: float = 0.3
    last_random: float = 0.02

    def __post_init__(self) -> None:
        _at_least_one(self, "buffer_size", "learning_starts", "batch_size", "n_steps", "gradient_steps", "target_every")
        _shares(self, "lr_min_ratio", "gamma", "exploration", "last_random")
        _positive(self, "lr")


@dataclass(frozen=True)
class SupervisedSettings:
    """Cross-entropy on the stored solutions; a timestep is a puzzle seen.

    Attributes:
        batch_size: puzzles of an update.
        lr: learning rate at the start; it falls linearly.
        lr_min_ratio: share of it that is left at the end.
        weight_decay: decoupled decay.
    """

    batch_size: int = 64
    lr: float = 2e-3
    lr_min_ratio: float = 0.0
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        _at_least_one(self, "batch_size")
        _shares(self, "lr_min_ratio")
        _positive(self, "lr")


Learner = PPOSettings | A2CSettings | DQNSettings | SupervisedSettings
LEARNERS: dict[str, type[Any]] = {
    "ppo": PPOSettings,
    "maskableppo": PPOSettings,
    "a2c": A2CSettings,
    "dqn": DQNSettings,
    "supervised": SupervisedSettings,
}


@dataclass(frozen=True)
class RLRecipe:
    """One run of an opponent.

    Attributes:
        algorithm: ppo, maskableppo, a2c, dqn, or supervised (the control: the same network, another signal).
        env_id: environment that is learnt; its training split.
        action_mode: "answer", "cell" or "move".
        model: the network.
        learner: the algorithm's settings.
        env: constructor arguments of the environment, in training and evaluation.
        source: where training puzzles come from: "generate" or "bank".
        max_steps: actions after which a training episode is cut off, 0 for the environment's own; evaluations always
            keep the environment's own.
        reward: "dense" (potential-shaped) or "sparse", in training.
        step_cost: cost of an action, in training.
        shaping_gamma: discount within the shaping; 1 lets each action earn exactly the potential it gains.
        timesteps: environment steps in all.
        envs: environments side by side.
        seed: of weights, puzzles and exploration.
        eval_puzzles: held-out puzzles of an evaluation.
        eval_every: environment steps between evaluations.
        checkpoint_every: environment steps between checkpoints.
    """

    algorithm: tyro.conf.Fixed[Algorithm]
    env_id: str
    action_mode: str
    model: tyro.conf.AvoidSubcommands[Model]
    learner: Annotated[tyro.conf.AvoidSubcommands[Learner], tyro.conf.arg(name="")]
    env: tyro.conf.Fixed[Mapping[str, Any]] = field(default_factory=dict)
    source: str = "generate"
    max_steps: int = 0
    reward: str = "dense"
    step_cost: float = 0.0
    shaping_gamma: float = 1.0
    timesteps: int = 1_000_000
    envs: int = 128
    seed: int = 0
    eval_puzzles: int = 500
    eval_every: int = 100_000
    checkpoint_every: int = 100_000

    def __post_init__(self) -> None:
        """Raise ValueError for a setting out of its range."""
        if self.reward not in ("dense", "sparse"):
            raise ValueError(f"expected reward 'dense' or 'sparse', got {self.reward!r}")
        if self.action_mode not in MODES:
            raise ValueError(f"expected action_mode {', '.join(MODES)}, got {self.action_mode!r}")
        if not isinstance(self.learner, LEARNERS[self.algorithm]):
            raise ValueError(f"expected settings of {self.algorithm}, got {type(self.learner).__name__}")
        if isinstance(self.model, WalkerModel) != (self.action_mode == "move"):
            raise ValueError(f"expected a WalkerModel in move mode only, got {type(self.model).__name__}")
        if self.algorithm == "supervised" and self.action_mode != "answer":
            raise ValueError(f"expected action_mode 'answer' under supervision, got {self.action_mode!r}")
        _at_least_one(self, "timesteps", "envs", "eval_puzzles", "eval_every", "checkpoint_every")
        if self.max_steps < 0:
            raise ValueError(f"expected max_steps >= 0, got {self.max_steps}")

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain JSON values."""
        return {**dataclasses.asdict(self), "env": dict(self.env)}


def _at_least_one(settings: Any, *names: str) -> None:
    for name in names:
        if getattr(settings, name) < 1:
            raise ValueError(f"expected {name} >= 1, got {getattr(settings, name)}")


def _shares(settings: Any, *names: str) -> None:
    for name in names:
        if not 0.0 <= getattr(settings, name) <= 1.0:
            raise ValueError(f"expected {name} in 0..1, got {getattr(settings, name)}")


def _positive(settings: Any, *names: str) -> None:
    for name in names:
        if not getattr(settings, name) > 0.0:
            raise ValueError(f"expected {name} > 0, got {getattr(settings, name)}")


# ---- mazes, move mode ----

MAZE = RLRecipe(
    "ppo",
    "HRMMaze-v0",
    "move",
    WalkerModel(),
    PPOSettings(n_steps=64, batch_size=1024, n_epochs=4, lr=3e-3, gamma=0.9, gae_lambda=0.9, whole_walks=True),
    env={"size": 10},
    max_steps=40,
    timesteps=2_000_000,
    eval_every=200_000,
    checkpoint_every=200_000,
)
DQN_WALK = DQNSettings(batch_size=512, n_steps=4, gradient_steps=2, target_every=5_000, lr=1e-3, gamma=0.9)

# ---- Sudoku, cell mode ----

FOUR = RLRecipe(
    "maskableppo",
    "HRMSudokuMini-v0",
    "cell",
    GridModel(channels=32, iterations=4, kernel=1, lines=True, box=(2, 2)),
    PPOSettings(n_steps=16, batch_size=512, n_epochs=3, lr=2e-3, gamma=0.6, gae_lambda=0.9, ent_coef=0.003),
    max_steps=24,
    timesteps=200_000,
    eval_every=20_000,
    checkpoint_every=20_000,
)
AT_ONCE = PPOSettings(n_steps=8, batch_size=128, n_epochs=4, lr=2e-3, gamma=0.0, gae_lambda=0.0, ent_coef=0.0)
"""For rewards that come at once: no action is credited with what later ones earn."""

NINE = replace(
    FOUR,
    env_id="HRMSudoku-v0",
    env={"legal_only": True},
    model=SymbolModel(layers=2),
    learner=replace(AT_ONCE, batch_size=64, n_epochs=3, lr=1e-3),
    source="bank",
    max_steps=32,
    envs=64,
    timesteps=250_000,
    eval_puzzles=200,
    eval_every=40_000,
    checkpoint_every=20_000,
)
"""A feed-forward network, equivariant under digits, lines and boxes; every right digit pays at once (gamma 0)."""

# ---- the control: supervision in the HRM's own action space ----

SUPERVISED = replace(
    FOUR,
    algorithm="supervised",
    action_mode="answer",
    learner=SupervisedSettings(),
    max_steps=8,
    envs=256,
    timesteps=100_000,
    eval_every=10_000,
    checkpoint_every=10_000,
)

# ---- an HRM as the policy ----

SMALL_HRM = HRMConfig(
    vocab_size=6,
    grid=(4, 4),
    hidden_size=32,
    heads=2,
    h_layers=1,
    l_layers=1,
    h_cycles=1,
    l_cycles=2,
    mlp_width=64,
    positions="learned_rope2d",
    rope_theta=10.0,
    max_segments=4,
    dtype="float32",
)
"""An HRM for any board, small enough to run a segment at every step of an environment, as a policy must."""

POLICY = HRMModel(SMALL_HRM, segments=1)

THINKER = replace(
    FOUR,
    model=POLICY,
    learner=replace(AT_ONCE, n_steps=4, batch_size=256, n_epochs=3),
    max_steps=12,
    envs=256,
    timesteps=500_000,
    eval_every=50_000,
    checkpoint_every=50_000,
)

RECIPES: dict[str, RLRecipe] = {
    "maze": MAZE,
    "maze-maskableppo": replace(MAZE, algorithm="maskableppo"),
    "maze-dqn": replace(MAZE, algorithm="dqn", learner=DQN_WALK, envs=64, timesteps=600_000, eval_every=100_000),
    "sudoku-4x4-maskableppo": FOUR,
    "sudoku-4x4-ppo": replace(FOUR, algorithm="ppo"),
    "sudoku-4x4-a2c": replace(
        FOUR, algorithm="a2c", learner=A2CSettings(n_steps=4, lr=2e-3, gamma=0.6), envs=32, timesteps=400_000
    ),
    "sudoku-4x4-dqn": replace(
        FOUR,
        algorithm="dqn",
        learner=DQNSettings(batch_size=256, n_steps=4, gradient_steps=2, target_every=2_000, lr=1e-3, gamma=0.6),
        envs=32,
    ),
    "sudoku-4x4-supervised": SUPERVISED,
    "sudoku-9x9-maskableppo": NINE,
    "sudoku-9x9-ppo": replace(NINE, algorithm="ppo"),
    "sudoku-9x9-dqn": replace(
        NINE,
        algorithm="dqn",
        learner=DQNSettings(batch_size=64, gradient_steps=2, target_every=1_000, lr=1e-3, gamma=0.0),
        envs=32,
    ),
    "sudoku-4x4-hrm-maskableppo": THINKER,
    "maze-6x6-hrm-maskableppo": replace(THINKER, env_id="HRMMaze-v0", env={"size": 6}, max_steps=18),
    "maze-8x8-hrm-maskableppo": replace(THINKER, env_id="HRMMaze-v0", env={"size": 8}, max_steps=24),
}
"""By the name that `hrm-gym train-rl` takes. `maze` made the bundled 10x10 walker; the others say puzzle, size and
algorithm."""
