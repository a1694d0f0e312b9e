"""Gymnasium's vector environments for stable-baselines3: whole batches step at once, no environment is looped over."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from hrm_gym.registry import registered_env

FINAL = ("final_obs", "final_info")


class VectorEnvAdapter(VecEnv):
    """A `gymnasium.vector.VectorEnv` as an SB3 `VecEnv`; what it returns is what `DummyVecEnv` over single ones would.

    The info of a board that ended has its final info, `terminal_observation` and `TimeLimit.truncated`; that of a
    running board is empty, since making a dictionary a board and step costs more than the steps, unless
    `running_infos` asks for them. SB3's `VecMonitor` goes on top for returns and lengths of episodes.

    sb3-contrib's MaskablePPO finds the masks of a vector environment with a method `action_masks() -> (N, A) bool`.

    Attributes:
        venv: the vector environment.
        running_infos: whether running boards get their infos and `TimeLimit.truncated` as well.
    """

    def __init__(self, venv: gym.vector.VectorEnv[Any, Any, Any], running_infos: bool = False) -> None:
        """Adapt `venv`.

        Args:
            venv: any vector environment that resets in the step in which an episode ends.
            running_infos: whether boards that go on get their infos too.

        Raises:
            ValueError: if its autoreset mode is not SAME_STEP, which is SB3's.
        """
        mode = venv.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(f"expected a vector environment with autoreset_mode SAME_STEP, got {mode}")
        self.venv, self.running_infos = venv, running_infos
        self._actions: NDArray[Any] = np.empty(0)
        super().__init__(venv.num_envs, venv.single_observation_space, venv.single_action_space)

    # ---- playing ----

    def reset(self) -> VecEnvObs:
        """Begin the next episode on every board, with the seeds and options that were set for this reset.

        Raises:
            ValueError: if the boards were given different options.
        """
        if any(options != self._options[0] for options in self._options):
            raise ValueError(f"expected the same options for all boards, got {self._options}")
        seeds: Any = self._seeds if any(seed is not None for seed in self._seeds) else None
        observation, info = self.venv.reset(seed=seeds, options=self._options[0] or None)
        self.reset_infos = [board_info(info, row) for row in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return observation

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Observations (of the next episode where one ended), (N,) float32 rewards, (N,) bool ends and N infos."""
        observation, rewards, terminated, truncated, info = self.venv.step(self._actions)
        ended = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if self.running_infos:
            infos = [{**board_info(info, row), "TimeLimit.truncated": False} for row in range(self.num_envs)]
        for row in np.flatnonzero(ended).tolist():
            infos[row] = board_info(info["final_info"], row)
            infos[row]["TimeLimit.truncated"] = bool(truncated[row] and not terminated[row])
            infos[row]["terminal_observation"] = info["final_obs"][row]
            self.reset_infos[row] = board_info(info, row)
        return observation, np.asarray(rewards, dtype=np.float32), ended, infos

    def close(self) -> None:
        """Close the vector environment."""
        self.venv.close()

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """A picture of every board."""
        images: Any = self.venv.render()
        return [None] * self.num_envs if images is None else list(images)

    # ---- attributes and methods ----

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of every board; of a vector environment without single ones inside, its own for each.

        Raises:
            AttributeError: if there is none of that name.
        """
        singles = self._singles(indices)
        if singles is not None and attr_name != "render_mode":
            return [single.get_wrapper_attr(attr_name) for single in singles]
        return [self._attribute(attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of boards.

        Raises:
            ValueError: if only some boards are meant, and they are no single environments.
        """
        singles = self._singles(indices)
        if singles is None and indices is not None:
            raise ValueError(f"expected to set {attr_name} for all boards of a vector environment, got {indices}")
        for target in [self.venv.unwrapped] if singles is None else singles:
            setattr(target, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of every board; of a vector environment without single ones inside, once for all boards.

        Raises:
            AttributeError: if there is no such method.
            ValueError: if the one call did not give a result for every board.
        """
        singles = self._singles(indices)
        if singles is not None:
            return [single.get_wrapper_attr(method_name)(*method_args, **method_kwargs) for single in singles]
        results = self._attribute(method_name)(*method_args, **method_kwargs)
        if not isinstance(results, np.ndarray | list | tuple) or len(results) != self.num_envs:
            found = type(results).__name__
            raise ValueError(f"expected of {method_name}() a result for each of {self.num_envs} boards, got {found}")
        return [results[row] for row in self._get_indices(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Whether boards are wrapped; those of a vector environment without single ones inside are not."""
        singles = self._singles(indices)
        if singles is None:
            return [False for _ in self._get_indices(indices)]
        return [is_wrapped(single, wrapper_class) for single in singles]

    def _attribute(self, name: str) -> Any:
        """An attribute of the vector environment, of what it wraps, or of the single environment whose rules it has."""
        places = [self.venv, self.venv.unwrapped, getattr(self.venv.unwrapped, "world", None)]
        return getattr(next((place for place in places if hasattr(place, name)), self.venv), name)

    def _singles(self, indices: VecEnvIndices) -> list[Any] | None:
        """The single environments inside, None where there are none in this process."""
        envs = getattr(self.venv.unwrapped, "envs", None)
        return None if envs is None else [envs[row] for row in self._get_indices(indices)]


def board_info(info: dict[str, Any], row: int) -> dict[str, Any]:
    """The info of one board out of a vector environment's: what its masks say is there, as plain numbers."""
    found: dict[str, Any] = {}
    for key, values in info.items():
        known = info.get(f"_{key}")
        if known is None or key in FINAL or not known[row]:
            continue
        value = board_info(values, row) if isinstance(values, dict) else values[row]
        found[key] = value.item() if isinstance(value, np.generic) else value
    return found


def make_sb3_vec(env_id: str, num_envs: int, seed: int | None = None, **arguments: Any) -> VectorEnvAdapter:
    """N environments for SB3: its own vector environment if that can reset in the same step, else single ones.

    Args:
        env_id: a registered id.
        num_envs: how many boards.
        seed: of the first reset: board i plays seed + i.
        arguments: for the environment's constructor.
    """
    entry_point = gym.spec(registered_env(env_id)).vector_entry_point
    creator: Any = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
    mode: Any = AutoresetMode.SAME_STEP
    if creator is not None and "autoreset_mode" in inspect.signature(creator).parameters:
        venv = gym.make_vec(env_id, num_envs, "vector_entry_point", autoreset_mode=mode, **arguments)
    else:
        venv = gym.make_vec(env_id, num_envs, "sync", vector_kwargs={"autoreset_mode": mode}, **arguments)
    adapter = VectorEnvAdapter(venv)
    if seed is not None:
        adapter.seed(seed)
    return adapter
