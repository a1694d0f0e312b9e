"""The frozen recipes, by the name that `hrm-gym train-rl` takes."""

from __future__ import annotations

from dataclasses import replace

from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.recipes.sudoku import EQUIVARIANT_NETWORK
from hrm_gym.agents.sb3.grid import GridModel
from hrm_gym.agents.sb3.recipe import (
    A2CSettings,
    DQNSettings,
    HRMModel,
    PPOSettings,
    RLRecipe,
    SupervisedSettings,
    WalkerModel,
)
from hrm_gym.agents.sb3.symbols import SymbolModel

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
EIGHT = replace(MAZE, env={"size": 8}, max_steps=32, timesteps=1_000_000, eval_every=100_000, checkpoint_every=100_000)

DQN_WALK = DQNSettings(batch_size=512, n_steps=4, gradient_steps=2, target_every=5_000, lr=1e-3, gamma=0.9)

WALKERS = {
    "maze": MAZE,
    "maze-maskableppo": replace(MAZE, algorithm="maskableppo"),
    "maze-dqn": replace(MAZE, algorithm="dqn", learner=DQN_WALK, envs=64, timesteps=600_000, eval_every=100_000),
    "maze-8x8-ppo": EIGHT,
    "maze-8x8-maskableppo": replace(EIGHT, algorithm="maskableppo"),
    "maze-8x8-a2c": replace(
        EIGHT, algorithm="a2c", learner=A2CSettings(n_steps=16, lr=3e-3, gamma=0.9, gae_lambda=0.9), envs=64
    ),
    "maze-8x8-dqn": replace(EIGHT, algorithm="dqn", learner=DQN_WALK, envs=64, timesteps=600_000),
}

# ---- Sudoku, cell mode ----

FOUR_PPO = PPOSettings(n_steps=16, batch_size=512, n_epochs=3, lr=2e-3, gamma=0.6, gae_lambda=0.9, ent_coef=0.003)
FOUR = RLRecipe(
    "maskableppo",
    "HRMSudokuMini-v0",
    "cell",
    GridModel(channels=32, iterations=4, kernel=1, lines=True, box=(2, 2)),
    FOUR_PPO,
    max_steps=24,
    timesteps=200_000,
    eval_every=20_000,
    checkpoint_every=20_000,
)
NINE = replace(
    FOUR,
    env_id="HRMSudoku-v0",
    env={"legal_only": True},
    model=GridModel(channels=48, iterations=4, kernel=1, lines=True, box=(3, 3)),
    learner=PPOSettings(n_steps=16, batch_size=512, n_epochs=2, lr=2e-3, gamma=0.6, gae_lambda=0.9, ent_coef=0.003),
    source="bank",
    max_steps=100,
    envs=64,
    timesteps=1_000_000,
    eval_puzzles=200,
    eval_every=100_000,
    checkpoint_every=50_000,
)
AT_ONCE = PPOSettings(n_steps=8, batch_size=128, n_epochs=4, lr=2e-3, gamma=0.0, gae_lambda=0.0, ent_coef=0.0)
"""For rewards that come at once: no action is credited with what later ones earn."""

EQUIVARIANT = replace(
    NINE,
    model=HRMModel(
        replace(EQUIVARIANT_NETWORK, h_layers=1, l_layers=1, l_cycles=2),
        segments=1,
    ),
    learner=AT_ONCE,
    timesteps=200_000,
    eval_puzzles=100,
    eval_every=20_000,
    checkpoint_every=10_000,
)
"""The network of `hrm-gym train sudoku` at half its depth, by reward alone."""

CANDIDATES = replace(
    NINE,
    model=SymbolModel(layers=2),
    learner=replace(AT_ONCE, batch_size=64, n_epochs=3, lr=1e-3),
    max_steps=32,
    timesteps=250_000,
    eval_every=40_000,
    checkpoint_every=20_000,
)
"""A feed-forward network that treats all digits, lines and boxes alike; every right digit pays at once (gamma 0)."""

UNMASKED = replace(CANDIDATES, algorithm="ppo")
VALUED = replace(
    CANDIDATES,
    algorithm="dqn",
    learner=DQNSettings(batch_size=64, gradient_steps=2, target_every=1_000, lr=1e-3, gamma=0.0),
    envs=32,
)

FILLERS = {
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
    "sudoku-4x4-maskableppo-sparse": replace(FOUR, reward="sparse", learner=replace(FOUR_PPO, gamma=0.98)),
    "sudoku-9x9-maskableppo": CANDIDATES,
    "sudoku-9x9-ppo": UNMASKED,
    "sudoku-9x9-dqn": VALUED,
    "sudoku-9x9-hrm-maskableppo": EQUIVARIANT,
    "sudoku-9x9-maskableppo-grid": NINE,
}

# ---- mazes and ARC, cell mode ----

DRAWN = replace(
    FOUR,
    env_id="HRMMaze-v0",
    env={"size": 8},
    model=GridModel(channels=24, kernel=3),
    learner=PPOSettings(n_steps=16, batch_size=512, n_epochs=2, lr=2e-3, gamma=0.6, gae_lambda=0.9, ent_coef=0.003),
    max_steps=48,
    envs=64,
    timesteps=400_000,
)
ARC = replace(
    FOUR,
    algorithm="ppo",
    env_id="HRMARCMini-v0",
    model=GridModel(channels=16, iterations=8, kernel=3),
    learner=PPOSettings(n_steps=16, batch_size=128, n_epochs=2, lr=1e-3, gamma=0.6, gae_lambda=0.9, ent_coef=0.003),
    source="bank",
    max_steps=160,
    envs=16,
    timesteps=100_000,
    eval_puzzles=40,
    eval_every=50_000,
    checkpoint_every=10_000,
)
DRAWERS = {
    "maze-8x8-maskableppo-cell": DRAWN,
    "arc-mini-ppo": ARC,
    "arc-mini-maskableppo": replace(ARC, algorithm="maskableppo"),
    "arc-mini-a2c": replace(ARC, algorithm="a2c", learner=A2CSettings(n_steps=8, lr=1e-3, gamma=0.6)),
    "arc-mini-dqn": replace(ARC, algorithm="dqn", learner=DQNSettings(buffer_size=5_000, batch_size=64, gamma=0.6)),
}

# ---- controls: HRM's own action space, and supervision ----

ANSWERED = replace(
    FOUR,
    algorithm="ppo",
    action_mode="answer",
    learner=replace(AT_ONCE, batch_size=512, n_epochs=2),
    max_steps=8,
    envs=256,
    timesteps=600_000,
    eval_every=50_000,
    checkpoint_every=50_000,
)
SUPERVISED = replace(
    ANSWERED,
    algorithm="supervised",
    learner=SupervisedSettings(),
    timesteps=100_000,
    eval_every=10_000,
    checkpoint_every=10_000,
)
CONTROLS = {
    "sudoku-4x4-ppo-answer": ANSWERED,
    "sudoku-4x4-maskableppo-answer": replace(ANSWERED, algorithm="maskableppo"),
    "sudoku-4x4-supervised": SUPERVISED,
    "sudoku-9x9-supervised": replace(
        SUPERVISED, env_id="HRMSudoku-v0", model=NINE.model, source="bank", timesteps=400_000, eval_puzzles=200
    ),
    "maze-8x8-supervised": replace(SUPERVISED, env_id="HRMMaze-v0", env={"size": 8}, model=DRAWN.model),
}

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
"""An HRM for any board, small enough to think anew at every step of an environment, as a policy must."""

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
THINKERS = {
    "sudoku-4x4-hrm-maskableppo": THINKER,
    "maze-6x6-hrm-maskableppo": replace(THINKER, env_id="HRMMaze-v0", env={"size": 6}, max_steps=18),
    "maze-8x8-hrm-maskableppo": replace(THINKER, env_id="HRMMaze-v0", env={"size": 8}, max_steps=24),
}

RECIPES: dict[str, RLRecipe] = {**WALKERS, **FILLERS, **DRAWERS, **CONTROLS, **THINKERS}
"""All recipes. `maze` made the bundled 10x10 walker; the names of the others say puzzle, size and algorithm."""
