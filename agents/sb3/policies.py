"""Policies of stable-baselines3 and sb3-contrib on `GridFeatures` and `SymbolFeatures`: heads are shared by all cells.

From a recipe's network to a policy class and its arguments, and back from plain JSON.

Policies as safetensors plus JSON: written whole, rebuilt without a pickle.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import gymnasium as gym
import numpy as np
import torch
from safetensors.torch import save_file
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy, MaskableMultiInputActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy, MultiInputPolicy, QNetwork
from torch import Tensor

from hrm_gym.agents.checkpoint import (
    CONFIG,
    WEIGHTS,
    check_size,
    fitting,
    read_config,
    read_tensors,
    verify,
    write_config,
)
from hrm_gym.agents.devices import float32_numbers
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.sb3.hrm_policy import HRMPolicy, MaskableHRMPolicy
from hrm_gym.agents.sb3.networks import (
    ActionForm,
    CellHead,
    DuelingHead,
    GridFeatures,
    GridModel,
    PooledValue,
    SymbolFeatures,
    SymbolModel,
    WalkerFeatures,
)
from hrm_gym.agents.sb3.recipes import Algorithm, HRMModel, Model, WalkerModel
from hrm_gym.reading import convert


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


WIDEST = 4096
"""Largest number in the settings of a network from a file; those of the recipes stay far below."""

KINDS: dict[type[Any], str] = {WalkerModel: "walker", GridModel: "grid", SymbolModel: "symbols", HRMModel: "hrm"}

_CLASSES: dict[str, dict[str, type[BasePolicy]]] = {
    "walker": {"a2c": MultiInputActorCriticPolicy, "maskableppo": MaskableMultiInputActorCriticPolicy},
    "grid": {"a2c": GridPolicy, "maskableppo": MaskableGridPolicy, "dqn": GridDQNPolicy},
    "hrm": {"a2c": HRMPolicy, "maskableppo": MaskableHRMPolicy},
}
_CLASSES["walker"]["dqn"] = MultiInputPolicy
for _classes in _CLASSES.values():
    _classes |= {"ppo": _classes["a2c"], "supervised": _classes["a2c"]}
_CLASSES["symbols"] = _CLASSES["grid"]


def policy_class(algorithm: str, model: Model) -> type[BasePolicy]:
    """The class of policies that `algorithm` trains with such a network.

    Raises:
        ValueError: the two do not go together.
    """
    kind = KINDS[type(model)]
    if algorithm not in _CLASSES[kind]:
        raise ValueError(f"expected one of {', '.join(_CLASSES[kind])} for a network of kind {kind!r}, got {algorithm}")
    return _CLASSES[kind][algorithm]


def policy_arguments(
    algorithm: str, model: Model, vocab_size: int, writable: Sequence[int], grid: Sequence[int]
) -> dict[str, Any]:
    """SB3's `policy_kwargs`.

    Args:
        algorithm: which algorithm.
        model: the network.
        vocab_size: number of token ids of the family.
        writable: tokens that cell mode may write, of the family.
        grid: (H, W) of the boards.
    """
    if isinstance(model, HRMModel):
        height, width = grid
        hrm = dataclasses.replace(model.hrm, vocab_size=vocab_size, grid=(height, width))
        return {"hrm": hrm, "segments": model.segments, "writable": tuple(writable)}
    if isinstance(model, GridModel | SymbolModel):
        features = GridFeatures if isinstance(model, GridModel) else SymbolFeatures
        extractor: dict[str, Any] = {"vocab_size": vocab_size, "model": model}
        return {"features_extractor_class": features, "features_extractor_kwargs": extractor}
    names = ("walker_token", "channels", "alternatives", "iterations")
    extractor = {"vocab_size": vocab_size, **{name: getattr(model, name) for name in names}}
    walker = {"features_extractor_class": WalkerFeatures, "features_extractor_kwargs": extractor}
    if algorithm == "dqn":
        return {**walker, "net_arch": [model.hidden]}
    return {**walker, "net_arch": {"pi": [model.hidden], "vf": [model.hidden]}, "ortho_init": False}


def to_json(model: Model, vocab_size: int, writable: Sequence[int], grid: Sequence[int]) -> dict[str, Any]:
    """The network as plain JSON values."""
    board = {"vocab_size": vocab_size, "writable": list(writable), "grid": list(grid)}
    return {"kind": KINDS[type(model)], **board, **dataclasses.asdict(model)}


def from_json(content: Mapping[str, Any]) -> Model:
    """The inverse of `to_json`; without a kind it is a walker, as the first weights were written.

    Raises:
        ValueError: an unknown kind or a bad setting.
        KeyError: a setting is missing.
    """
    kind = content.get("kind", "walker")
    for made, name in KINDS.items():
        if name == kind:
            given = {"carry": False, **content}  # files of before it was a setting
            fields = {field.name: given[field.name] for field in dataclasses.fields(made)}
            for place, value in fields.items():
                if isinstance(value, int) and value > WIDEST:
                    raise ValueError(f"expected {place} of at most {WIDEST:,}, got {value:,}")
            if name == "hrm":
                fields["hrm"] = dataclasses.asdict(HRMConfig.from_json(fields["hrm"]))
            found: Model = convert(fields, made, "network")
            return found
    raise ValueError(f"expected a network of kind {', '.join(KINDS.values())}, got {kind!r}")


def plays_any_size(content: Mapping[str, Any]) -> bool:
    """Whether a network plays boards of other sizes than it was trained on: a walker does, with the same actions."""
    return bool(content.get("kind", "walker") == "walker")


def resized(content: Mapping[str, Any], grid: Sequence[int] | None) -> dict[str, Any]:
    """The `model` part of a config.json for boards of another size, if the network plays any."""
    if grid is None or not plays_any_size(content) or tuple(grid) == tuple(content.get("grid", ())):
        return dict(content)
    return {name: value for name, value in content.items() if name != "observation"} | {"grid": list(grid)}


def blank_policy(algorithm: str, content: Mapping[str, Any]) -> BasePolicy:
    """A policy with fresh weights, for the `model` part of a config.json.

    Raises:
        ValueError: the parts do not go together.
        KeyError: one is missing.
    """
    model, grid = from_json(content), tuple(content["grid"])
    vocab_size = content["vocab_size"]
    spaces = content.get("observation") or _plain_observation(grid, vocab_size)
    boxes: dict[str, gym.spaces.Space[Any]] = {
        name: gym.spaces.Box(said["low"], said["high"], tuple(said["shape"]), np.dtype(said["dtype"]).type)
        for name, said in spaces.items()
    }
    arguments = policy_arguments(algorithm, model, vocab_size, content.get("writable", ()), grid)
    found: Any = policy_class(algorithm, model)
    said = content["actions"] if "actions" in content else content["moves"]
    actions = gym.spaces.Discrete(said) if isinstance(said, int) else gym.spaces.MultiDiscrete(said)
    policy: ActorCriticPolicy | MaskableActorCriticPolicy = found(
        gym.spaces.Dict(boxes), actions, lambda _: 0.0, **arguments
    )
    return policy


def spaces_json(observation: gym.spaces.Dict, actions: gym.Space) -> dict[str, Any]:
    """Both spaces as plain JSON values: `observation` and `actions`."""
    said = {}
    for name, space in observation.spaces.items():
        box: Any = space
        ends = {"low": box.low.min().item(), "high": box.high.max().item()}
        said[name] = {**ends, "shape": list(box.shape), "dtype": str(box.dtype)}
    chosen: Any = actions
    many = isinstance(actions, gym.spaces.MultiDiscrete)
    return {"observation": said, "actions": chosen.nvec.tolist() if many else int(chosen.n)}


def _plain_observation(grid: tuple[int, ...], vocab_size: int) -> dict[str, Any]:
    board = {"low": 0, "high": vocab_size - 1, "shape": grid, "dtype": "uint8"}
    return {"puzzle": board, "answer": board, "segment": {"low": 0.0, "high": 1.0, "shape": (1,), "dtype": "float32"}}


ALGORITHMS: tuple[str, ...] = get_args(Algorithm)
"""The kinds of weights, as their JSON names them."""

SECOND_NAMES = ("pi_features_extractor.", "vf_features_extractor.", "q_net_target.")
"""How names begin in SB3's state that are second ones of the shared extractor, or the target network's."""


def write_policy(folder: Path, policy: BasePolicy, about: dict[str, Any]) -> None:
    """Write weights and JSON into an existing folder.

    Args:
        folder: an existing folder.
        policy: the policy.
        about: at least `kind` (the algorithm), `family`, `action_mode`, and `model` (what rebuilds the policy).
    """
    save_file({name: tensor.contiguous() for name, tensor in own_state(policy).items()}, folder / WEIGHTS)
    write_config(folder, about)


@float32_numbers()
def read_policy(folder: Path | str, grid: Sequence[int] | None = None) -> tuple[BasePolicy, dict[str, Any]]:
    """The policy of a folder and its JSON.

    Args:
        folder: what `write_policy` wrote.
        grid: (H, W) of the boards that it is to play, if it plays boards of any size; those it was trained on by
            default.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the folder holds no such policy, or its files are damaged or do not fit together.
    """
    folder = Path(folder)
    about = read_config(folder)
    if about.get("kind") not in ALGORITHMS:
        raise ValueError(f"{folder}: expected weights of {', '.join(ALGORITHMS)}, got {about.get('kind')!r}")
    try:
        with (
            torch.random.fork_rng(devices=[]),
            torch.device("cpu"),
        ):  # fresh weights are drawn, though none of them stays
            policy = blank_policy(about["kind"], resized(about["model"], grid))
    except KeyError as error:
        raise ValueError(f"{folder / CONFIG}: model lacks {error}") from None
    except Exception as error:  # whatever gymnasium, numpy and PyTorch raise at numbers out of range
        raise ValueError(f"{folder / CONFIG}: model: {' '.join(str(error).split())}") from None
    check_size(folder / WEIGHTS, policy.state_dict())
    verify(folder)
    state = read_tensors(folder / WEIGHTS)
    policy.load_state_dict(fitting(state, own_state(policy), folder), strict=False)
    return policy, about


def own_state(policy: BasePolicy) -> dict[str, Tensor]:
    """The state of a policy, every tensor under one name, without what acting does not need."""
    return {name: tensor for name, tensor in policy.state_dict().items() if not name.startswith(SECOND_NAMES)}
