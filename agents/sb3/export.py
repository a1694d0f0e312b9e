"""PPO policies as safetensors plus JSON: written whole, rebuilt without a pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from safetensors.torch import save_file
from stable_baselines3.common.policies import ActorCriticPolicy, MultiInputActorCriticPolicy
from torch import Tensor

from hrm_gym.agents.checkpoint import CONFIG, WEIGHTS, fitting, read_config, read_tensors, write_config
from hrm_gym.agents.sb3.features import WalkerFeatures

KIND = "ppo"


def policy_arguments(model: dict[str, Any]) -> dict[str, Any]:
    """SB3's `policy_kwargs` for the `model` part of a config.json."""
    names = ("vocab_size", "walker_token", "channels", "alternatives", "iterations")
    return {
        "features_extractor_class": WalkerFeatures,
        "features_extractor_kwargs": {name: model[name] for name in names},
        "net_arch": {"pi": [model["hidden"]], "vf": [model["hidden"]]},
        "ortho_init": False,
    }


def model_config(policy: ActorCriticPolicy) -> dict[str, Any]:
    """What rebuilds `policy` (one made with `policy_arguments`), as plain JSON values."""
    features: Any = policy.features_extractor
    spread = features.propagation
    action_space: Any = policy.action_space
    return {
        "grid": [features.height, features.width],
        "vocab_size": features.vocab_size,
        "moves": int(action_space.n),
        "walker_token": features.walker_token,
        "channels": spread.channels,
        "alternatives": spread.alternatives,
        "iterations": spread.iterations,
        "hidden": policy.net_arch["pi"][0],  # type: ignore[call-overload]
    }


def write_policy(folder: Path, policy: ActorCriticPolicy, about: dict[str, Any]) -> None:
    """Write weights and JSON into an existing folder; `about` says the family, the action mode and the run."""
    state = {name: tensor.contiguous() for name, tensor in policy.state_dict().items() if not _is_alias(name)}
    save_file(state, folder / WEIGHTS)
    write_config(folder, {"kind": KIND, **about, "model": model_config(policy)})


def read_policy(folder: Path | str) -> tuple[MultiInputActorCriticPolicy, dict[str, Any]]:
    """The policy of a folder and the JSON beside it.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the folder holds no PPO policy, or its files are damaged or do not fit together.
    """
    folder = Path(folder)
    about = read_config(folder)
    if about.get("kind") != KIND:
        raise ValueError(f"{folder}: expected weights of kind {KIND!r}, got {about.get('kind')!r}")
    state = read_tensors(folder / WEIGHTS)
    try:
        policy = blank_policy(about["model"])
    except KeyError as error:
        raise ValueError(f"{folder / CONFIG}: model lacks {error}") from None
    _load(policy, state, folder)
    return policy, about


def blank_policy(model: dict[str, Any]) -> MultiInputActorCriticPolicy:
    """A policy of the form that `model` describes, with fresh weights."""
    grid = gym.spaces.Box(0, model["vocab_size"] - 1, tuple(model["grid"]), np.uint8)
    share = gym.spaces.Box(0.0, 1.0, (1,), np.float32)
    observation_space = gym.spaces.Dict({"puzzle": grid, "answer": grid, "segment": share})
    actions = gym.spaces.Discrete(model["moves"])
    return MultiInputActorCriticPolicy(observation_space, actions, lambda _: 0.0, **policy_arguments(model))


def _load(policy: ActorCriticPolicy, state: dict[str, Tensor], origin: Path) -> None:
    """Put `state` into `policy`; a ValueError names what does not fit."""
    expected = {name: tensor for name, tensor in policy.state_dict().items() if not _is_alias(name)}
    policy.load_state_dict(fitting(state, expected, origin), strict=False)


def _is_alias(name: str) -> bool:
    """Whether a name of SB3's state is a second one for the shared features extractor."""
    return name.startswith(("pi_features_extractor.", "vf_features_extractor."))
