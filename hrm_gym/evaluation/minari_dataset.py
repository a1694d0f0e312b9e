"""Solves as Minari data sets (optional extra `minari`): what an offline learner reads, one episode a puzzle.

Observations, actions and rewards are those of the environment in the agent's action mode; each episode's metadata say
whether it was solved, and which puzzle it was.
"""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from hrm_gym.agents.agent import Agent
from hrm_gym.evaluation.rollout import Env, Episode, rollout
from hrm_gym.extras import load_extra
from hrm_gym.files import remove, sweep, sync

NAME = re.compile(r"((?=..+/)([\w-]+/)+)?[\w-]+-v\d+")
"""What Minari takes: the words before the last `/` have two letters at least."""


def check_name(name: str) -> None:
    """Find out before the work whether a data set of this name can be made.

    Raises:
        ValueError: if the name is none that Minari takes, there is such a data set, or Minari is not installed.
    """
    minari = load_extra("minari")
    if not NAME.fullmatch(name):
        raise ValueError(f"expected a Minari name such as maze/hrm-v0, got {name!r}")
    place = Path(minari.storage.get_dataset_path(name))
    sweep(place.parent, place.name)
    if name in minari.list_local_datasets():
        raise ValueError(f"expected a new Minari name, got {name!r}, which there is (minari delete {name} removes it)")
    root = Path(minari.storage.get_dataset_path())
    if inside := [one for one in place.relative_to(root).parents if (root / one / "data").exists()]:
        raise ValueError(f"expected a new Minari name, got {name!r}, which lies in the data set {inside[0]}")
    if os.path.lexists(place):
        raise ValueError(f"expected a new Minari name, got {name!r}, of which a killed process left half in {place}")


def record_dataset(
    env: Env,
    agent: Agent,
    episodes: int,
    name: str,
    seed: int | None = 0,
    told: Callable[[Episode], None] | None = None,
    command: str = "",
) -> Any:
    """Play puzzles and keep every step as a Minari data set, which is written atomically when all are played.

    Args:
        env: a puzzle environment in the agent's action mode, made with plain values: its arguments go into the data
            set, so that `recover_environment` makes it again.
        agent: who plays.
        episodes: how many puzzles, at least 1.
        name: of the data set, e.g. `maze/hrm-v0`.
        seed: which stream of puzzles; None plays a data file row by row.
        told: called after every episode, e.g. to move a bar on.
        command: what to say of how it was made.

    Returns:
        The `minari.MinariDataset`.

    Raises:
        ValueError: as `check_name`.
    """
    check_name(name)
    minari, kept = load_extra("minari"), Kept(env)
    records = []
    for episode in rollout(kept, agent, episodes, seed, keep_frames=False):
        records.append(_metadata(episode))
        if told is not None:
            told(episode)
    with _put_in_place(name, kept.room()), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that no author is given
        made = minari.create_dataset_from_buffers(
            name,
            buffer=kept.buffers(),
            env=env,
            algorithm_name=agent.name,
            description=f"{agent.name} on {episodes} puzzles. {command}".strip(),
            requirements=["hrm-gym"],
            jpeg_encoding=False,
        )
        made.storage.update_episode_metadata(records)
    return minari.load_dataset(name)


BLOCK = 2**20
"""Bytes that are written at a time."""

EPISODE = 2**15
"""Bytes of an episode besides its numbers, of which files have up to twice as many: measured on six environments."""

ROOT = "MINARI_DATASETS_PATH"


@contextmanager
def _put_in_place(name: str, room: int) -> Iterator[None]:
    """Within, Minari writes to a hidden folder, which it does not list; at the end the data set gets its place.

    Args:
        name: of the data set.
        room: bytes that it may take.

    Raises:
        OSError: if there is no room for it, it cannot be moved, or something was put in its place meanwhile.
    """
    given = os.environ.get(ROOT)
    place = Path(load_extra("minari").storage.get_dataset_path(name)).absolute()
    draft = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        remove(draft)  # in containers numbers of processes come again
        draft.mkdir(parents=True)
        _expect_room(draft / "room", room)
        os.environ[ROOT] = str(draft)
        try:
            yield
        finally:
            os.environ.pop(ROOT)
            if given is not None:
                os.environ[ROOT] = given
        for path in (draft / name).rglob("*"):
            sync(path)
        (draft / name).rename(place)  # fails over a folder that is not empty
        sync(place.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _expect_room(path: Path, size: int) -> None:
    """Find out whether a file of this size can be written: HDF5 ends the process by a segmentation fault if not."""
    with path.open("wb") as file:
        for first in range(0, size, BLOCK):
            file.write(bytes(min(BLOCK, size - first)))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()


class Kept(gym.Wrapper[Any, Any, Any, Any]):
    """Remembers every step that was taken in an environment."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self._episodes: list[dict[str, list[Any]]] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        names = ("actions", "rewards", "terminations", "truncations")
        self._episodes.append({"observations": [observation], **{name: [] for name in names}})
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step and remember it."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        episode = self._episodes[-1]
        episode["observations"].append(observation)
        episode["actions"].append(np.asarray(action))
        episode["rewards"].append(float(reward) + 0.0)  # -0.0 becomes 0.0
        episode["terminations"].append(bool(terminated))
        episode["truncations"].append(bool(truncated))
        return observation, reward, terminated, truncated, info

    def room(self) -> int:
        """Bytes that all episodes take in a file, at most."""
        numbers = sum(array.nbytes for episode in self._episodes for array in _arrays(episode))
        return 2 * numbers + EPISODE * len(self._episodes) + BLOCK

    def buffers(self) -> list[Any]:
        """All episodes as Minari has them."""
        from minari.data_collector import EpisodeBuffer

        return [
            EpisodeBuffer(id=number, **{**episode, "observations": _stacked(episode["observations"])})
            for number, episode in enumerate(self._episodes)
        ]


def _stacked(observations: Iterable[dict[str, NDArray[Any]]]) -> dict[str, list[NDArray[Any]]]:
    """Observations, key by key."""
    rows = list(observations)
    return {key: [row[key] for row in rows] for key in rows[0]}


def _arrays(episode: dict[str, list[Any]]) -> Iterator[NDArray[Any]]:
    """What an episode has, as arrays."""
    for values in episode.values():
        for value in values:
            yield from map(np.asarray, value.values() if isinstance(value, dict) else [value])


def _metadata(episode: Episode) -> dict[str, Any]:
    return {
        "puzzle_index": episode.index,
        "puzzle_name": episode.puzzle.name,
        "solved": bool(episode.solved),
        "exact": bool(episode.exact),
        "cell_accuracy": float(episode.cell_accuracy),
    }
