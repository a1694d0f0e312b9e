"""The HRM network as an actor-critic policy of stable-baselines3: `PPO(HRMPolicy, env)`.

At every environment step the network runs a fixed number of segments, the last of them with the network's own gradient
(one-step by default) and the others without any. It starts from its initial states, since SB3 keeps no recurrent state
in its rollouts; or, in environments that show a `carry` (`carry.CarryVecEnv`), from the states that the step before
left. In answer mode it reads `puzzle`, as an HRM does; in cell mode it reads `answer`, the board with what has been
written.

Its answer logits are the distribution over symbols in every cell: a factor a cell in answer mode, one softmax over
cells x symbols in cell mode. Halting is the Q-head's: (Q(continue), Q(halt)) are the logits of the halt bit in answer
mode, Q(halt) is the logit of the action that halts in cell mode. The value is a linear map of the H-level state at
position 0 (of the mean of all in equivariant networks), where the Q-head reads too; it is the only layer that an HRM
under supervision has not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import torch
import torch.nn.functional as F
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from hrm_gym.agents.devices import choose_device, has_fast_bfloat16
from hrm_gym.agents.hrm.accelerate import accelerate
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.model import HRM, Carry
from hrm_gym.agents.sb3.carry import NAME, with_carry
from hrm_gym.agents.sb3.networks import ActionForm

SMALL = {"hidden_size": 64, "heads": 2, "h_layers": 2, "l_layers": 2, "positions": "learned_rope2d"}
"""What a policy without an `hrm` is made with: 0.26M parameters."""


def default_config(space: gym.spaces.Dict) -> HRMConfig:
    """A small HRM for an observation space: its grid, its vocabulary."""
    puzzle: Any = space["puzzle"]
    return HRMConfig(int(puzzle.high.max()) + 1, puzzle.shape, rope_theta=10.0, **SMALL)  # type: ignore[arg-type]


class HRMFeatures(BaseFeaturesExtractor):
    """The H-level states after a fixed number of segments from the initial states, or from those observed as `carry`.

    Attributes:
        hrm: the network; its heads are the policy's.
        segments: segments an environment step.
        reads: "puzzle" or "answer", the plane that the network is given.
        carry: (B, modules, T, D) float32, the states that the last call left, without gradient.
    """

    carry: Tensor

    def __init__(self, observation_space: gym.spaces.Dict, hrm: HRMConfig, segments: int, reads: str) -> None:
        """Make the network.

        Raises:
            ValueError: the config is for other boards, or `segments` is below 1.
        """
        if segments < 1:
            raise ValueError(f"expected segments of at least 1, got {segments}")
        needed = default_config(observation_space)
        if hrm.grid != needed.grid or hrm.vocab_size < needed.vocab_size:
            raise ValueError(
                f"expected an HRM for {needed.vocab_size} tokens on {needed.grid}, "
                f"got one for {hrm.vocab_size} on {hrm.grid}"
            )
        if NAME in observation_space.spaces and observation_space != with_carry(observation_space, hrm):
            raise ValueError(f"expected the carry of {hrm}, got one of shape {observation_space[NAME].shape}")
        super().__init__(observation_space, hrm.hidden_size * hrm.length)
        self.hrm, self.segments, self.reads = accelerate(HRM(hrm)), segments, reads

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """(B, T * D) in the network's dtype: the H-level states of B boards."""
        hrm, tokens = self.hrm, observations[self.reads].long().flatten(1)
        rows = torch.zeros(len(tokens), dtype=torch.long, device=tokens.device)
        x = hrm.embed(tokens, F.embedding(rows, hrm.puzzles))
        carry = self._before(observations, len(tokens))
        with torch.no_grad():
            for _ in range(self.segments - 1):
                carry = hrm.advance(carry, x)
        carry = hrm.advance(carry, x)
        if NAME in observations:
            self.carry = torch.stack(carry.detached(), 1).float()
        return carry.z_h.flatten(1)

    def _before(self, observations: dict[str, Tensor], boards: int) -> Carry:
        """The states of B boards before the first segment."""
        if NAME not in observations:
            return self.hrm.initial_carry(boards)
        shown = observations[NAME]
        begins = (shown == 0).flatten(1).all(1)
        return self.hrm.reset_rows(Carry(*shown.to(self.hrm.dtype).unbind(1)), begins)

    def states(self, features: Tensor) -> Tensor:
        """The features as H-level states (B, T, D)."""
        return features.unflatten(1, (-1, self.hrm.config.hidden_size))


class HRMHeads:
    """What both actor-critic policies share: heads from the network itself, and a linear value."""

    value_net: Any

    def __init__(
        self: Any,
        *arguments: Any,
        hrm: HRMConfig | None = None,
        segments: int = 2,
        writable: tuple[int, ...] | None = None,
        **named: Any,
    ) -> None:
        """Make the policy.

        Args:
            *arguments: observation space, action space and learning rate schedule, from SB3.
            hrm: the network; by default a small one for the observation space. It is run in float32 where bfloat16 is
                slow.
            segments: segments an environment step.
            writable: token of every symbol of cell mode (a family's `writable`); by default the last of the
                vocabulary, as Sudoku and ARC have them.
            **named: as SB3's own policies take them.

        Raises:
            ValueError: the action space is neither cell mode's nor answer mode's, or the network does not fit.
        """
        space, actions = (
            named.get(name, given) for name, given in zip(_SPACES, (*arguments, None, None), strict=False)
        )
        hrm = hrm or default_config(space)
        if not has_fast_bfloat16(choose_device()):
            hrm = replace(hrm, dtype="float32")
        if hrm.q_features == "drift":
            raise ValueError("expected q_features 'mean' or 'worst' in a policy, which keeps one state, got 'drift'")
        form = ActionForm.of(actions, hrm.cells)
        places = gym.spaces.flatdim(space["puzzle"])
        if form.symbols > hrm.vocab_size or places != hrm.cells:
            raise ValueError(f"expected an HRM of {places} cells and {form.symbols} tokens or more, got {hrm}")
        self._form, self._writable = form, writable
        extractor = {"hrm": hrm, "segments": segments, "reads": "puzzle" if form.mode == "answer" else "answer"}
        named |= {"features_extractor_class": HRMFeatures, "features_extractor_kwargs": extractor, "net_arch": []}
        super().__init__(*arguments, **named)

    def _build(self: Any, lr_schedule: Schedule) -> None:
        hrm = self.features_extractor.hrm
        symbols = range(hrm.config.vocab_size) if self._form.mode == "answer" else self._written()
        self.register_buffer("symbols", torch.tensor(list(symbols)), persistent=False)
        self._build_mlp_extractor()
        self.value_net = StateValue(hrm.config.hidden_size, hrm.config.equivariant)
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)

    def _written(self: Any) -> list[int]:
        """Tokens of cell mode's symbols."""
        count, vocabulary = self._form.symbols, self.features_extractor.hrm.config.vocab_size
        found = list(self._writable or range(vocabulary - count, vocabulary))
        if len(found) != count:
            raise ValueError(f"expected {count} writable tokens, got {found}")
        return found

    def _get_constructor_parameters(self: Any) -> dict[str, Any]:
        known = super()._get_constructor_parameters()  # type: ignore[misc]
        extractor = known.pop("features_extractor_kwargs")
        for name in ("features_extractor_class", "net_arch"):
            known.pop(name)
        return {**known, "hrm": extractor["hrm"], "segments": extractor["segments"], "writable": self._writable}

    def _get_action_dist_from_latent(self: Any, latent_pi: Tensor) -> Any:
        return self.action_dist.proba_distribution(action_logits=self._logits(latent_pi))

    def _logits(self: Any, features: Tensor) -> Tensor:
        """(B, actions) float32 from the H-level states."""
        extractor = self.features_extractor
        states = extractor.states(features)
        symbols, q_halt, q_continue = extractor.hrm.heads(states, states)
        halts = torch.stack([q_continue, q_halt] if self._form.mode == "answer" else [q_halt], 1)
        return self._form.flat(symbols[..., self.symbols].float(), halts.float())


_SPACES = ("observation_space", "action_space")


class StateValue(nn.Module):
    """A linear value of the H-level state, 0 at first: at position 0, or of the mean of all positions."""

    def __init__(self, hidden: int, mean: bool = False) -> None:
        super().__init__()
        self.hidden, self.mean, self.layer = hidden, mean, nn.Linear(hidden, 1)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(B, T * D) to (B, 1) float32."""
        if self.mean:
            return self.layer(features.unflatten(1, (-1, self.hidden)).float().mean(1))
        return self.layer(features[:, : self.hidden].float())


class HRMPolicy(HRMHeads, ActorCriticPolicy):
    """The HRM network for PPO and A2C.

    >>> import gymnasium as gym, hrm_gym
    >>> from stable_baselines3 import PPO
    >>> env = gym.make("HRMSudokuMini-v0", action_mode="cell")
    >>> model = PPO(HRMPolicy, env, policy_kwargs={"segments": 1}, device="cpu")
    >>> model.policy.features_extractor.hrm.config.grid
    (4, 4)
    """


class MaskableHRMPolicy(HRMHeads, MaskableActorCriticPolicy):
    """The HRM network for MaskablePPO."""


def network_parameters(policy: Any) -> int:
    """Parameters of the HRM inside a policy, counted as the papers count; the value's layer comes on top."""
    return int(policy.features_extractor.hrm.parameter_count())
