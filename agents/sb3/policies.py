"""Policies of stable-baselines3 and sb3-contrib on `GridFeatures` and `SymbolFeatures`: all cells are read alike."""

from __future__ import annotations

from typing import Any

from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork

from hrm_gym.agents.sb3.forms import ActionForm
from hrm_gym.agents.sb3.grid import CellHead, DuelingHead, GridFeatures, PooledValue
from hrm_gym.agents.sb3.symbols import SymbolFeatures


def _actions(policy: Any, features: GridFeatures | SymbolFeatures) -> tuple[ActionForm, int]:
    """The form of a policy's actions, and how many states the features have."""
    form = ActionForm.of(policy.action_space, features.height * features.width)
    return form, features.features_dim // features.model.channels


class GridHeads:
    """How both actor-critic policies build their heads: no hidden layers, the features are a state a cell."""

    action_net: Any
    value_net: Any

    def __init__(self: Any, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **{**named, "net_arch": []})

    def _build(self: Any, lr_schedule: Schedule) -> None:
        features = self.features_extractor
        self._build_mlp_extractor()
        self.action_net = CellHead(features.model.channels, *_actions(self, features))
        self.value_net = PooledValue(features.model.channels, features.model.hidden)
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)


class GridPolicy(GridHeads, ActorCriticPolicy):
    """For PPO and A2C, in cell mode and answer mode; its features extractor must be one of both."""


class MaskableGridPolicy(GridHeads, MaskableActorCriticPolicy):
    """For MaskablePPO, in cell mode and answer mode; its features extractor must be one of both."""


class GridQNetwork(QNetwork):
    """Q-values of every symbol in every cell and of halting."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        named["net_arch"] = [1]  # SB3 makes its dense layers first; these stay small, and go.
        super().__init__(*arguments, **named)
        features: Any = self.features_extractor
        self.q_net = DuelingHead(features.model.channels, features.model.hidden, *_actions(self, features))  # type: ignore[assignment]


class GridDQNPolicy(DQNPolicy):
    """For DQN, in cell mode; its features extractor must be one of both."""

    def make_q_net(self) -> GridQNetwork:
        """One network with its own features extractor: the learnt one, and the target."""
        return GridQNetwork(**self._update_features_extractor(self.net_args, features_extractor=None)).to(self.device)
