"""Policies as safetensors plus JSON: written whole, rebuilt without a pickle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from safetensors.torch import save_file
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

from hrm_gym.agents.checkpoint import CONFIG, WEIGHTS, fitting, read_config, read_tensors, write_config
from hrm_gym.agents.sb3.models import blank_policy, resized
from hrm_gym.agents.sb3.recipe import Algorithm

ALGORITHMS: tuple[str, ...] = get_args(Algorithm)
"""The kinds of weights, as the JSON beside them names them."""

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


def read_policy(folder: Path | str, grid: Sequence[int] | None = None) -> tuple[BasePolicy, dict[str, Any]]:
    """The policy of a folder and the JSON beside it.

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
    state = read_tensors(folder / WEIGHTS)
    try:
        policy = blank_policy(about["kind"], resized(about["model"], grid))
    except KeyError as error:
        raise ValueError(f"{folder / CONFIG}: model lacks {error}") from None
    policy.load_state_dict(fitting(state, own_state(policy), folder), strict=False)
    return policy, about


def own_state(policy: BasePolicy) -> dict[str, Tensor]:
    """The state of a policy, every tensor under one name, without what acting does not need."""
    return {name: tensor for name, tensor in policy.state_dict().items() if not name.startswith(SECOND_NAMES)}
