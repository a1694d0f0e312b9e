"""The safety net of a redesign: what the environments, the bundled agents and training do, as hashes in one file.

    python tests/golden/make_golden.py                 # compare with house.json beside it; exit code 1 on a difference
    python tests/golden/make_golden.py --only envs     # one part: envs, sources, agents, training
    python tests/golden/make_golden.py --write         # make the file, from code that is known to be right

`tests/golden/test_golden.py` checks a part of it that takes seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

import hrm_gym

# ---- what this file knows of the house: everything that a redesign may rename ----
from hrm_gym.agents import pretrained
from hrm_gym.agents.hrm.recipes import RECIPES as HRM_RECIPES
from hrm_gym.agents.hrm.trainer import Trainer
from hrm_gym.agents.sb3.recipes import RECIPES as RL_RECIPES
from hrm_gym.agents.sb3.training import start_run
from hrm_gym.evaluation.rollout import rollout_batched

FILE = Path(__file__).parent / "house.json"
WORLDS: dict[str, dict[str, Any]] = {
    "HRMSudoku-v0": {},
    "HRMSudokuMini-v0": {},
    "HRMSudokuExtreme-v0": {},
    "HRMMaze-v0": {},
    "HRMMazeHard-v0": {},
    "HRMARC-v0": {},
    "HRMARC2-v0": {},
    "HRMARCMini-v0": {},
    "HRMHalting-v0": {},
}
MARKS = (100, 500, 2000)
"""Steps after which the hashes so far are kept, so that a difference can be located."""

BOARDS = 8


class Digest:
    """Running hashes of named parts: arrays by dtype, shape and bytes, everything else by its text."""

    def __init__(self) -> None:
        self.parts: dict[str, Any] = {}

    def add(self, name: str, value: Any) -> None:
        self._feed(self.parts.setdefault(name, hashlib.sha256()), value)

    def _feed(self, state: Any, value: Any) -> None:
        if isinstance(value, dict):
            for key in sorted(value, key=str):
                state.update(str(key).encode())
                self._feed(state, value[key])
        elif isinstance(value, np.ndarray) and value.dtype != object:
            state.update(f"{value.dtype}{value.shape}".encode())
            state.update(np.ascontiguousarray(value).tobytes())
        elif isinstance(value, (list, tuple, np.ndarray)):
            for part in value:
                self._feed(state, part)
        else:
            plain = value.item() if isinstance(value, np.generic) else value
            state.update(repr(plain).encode())

    def text(self) -> dict[str, str]:
        return {name: state.hexdigest()[:16] for name, state in sorted(self.parts.items())}


def an_action(rng: np.random.Generator, space: gym.Space[Any], mask: Any) -> Any:
    """A legal action half of the time, else any; of a whole answer the halt bit is rarely set."""
    if isinstance(space, gym.spaces.MultiDiscrete):
        action = (rng.random(len(space.nvec)) * space.nvec).astype(np.int64)
        action[-1] = rng.random() < 0.2
        return action
    count = int(space.n)  # type: ignore[attr-defined]
    legal = np.flatnonzero(mask) if mask is not None and rng.random() < 0.5 else np.arange(count)
    return int(legal[int(rng.random() * len(legal))])


def single(env_id: str, steps: int, **arguments: Any) -> dict[str, dict[str, str]]:
    """Hashes of one environment under seeded random play."""
    env, rng, digest = gym.make(env_id, disable_env_checker=True, **arguments), np.random.default_rng(7), Digest()
    found: dict[str, dict[str, str]] = {}
    observation, info = env.reset(seed=11)
    digest.add("observation", observation)
    digest.add("info", info)
    for step in range(1, steps + 1):
        world: Any = env.unwrapped
        mask = world.action_masks() if hasattr(world, "action_masks") else None
        digest.add("mask", mask)
        observation, reward, terminated, truncated, info = env.step(an_action(rng, env.action_space, mask))
        digest.add("observation", observation)
        digest.add("reward", (float(reward), bool(terminated), bool(truncated)))
        digest.add("info", info)
        if terminated or truncated:
            observation, info = env.reset()
            digest.add("observation", observation)
            digest.add("info", info)
        if step in MARKS:
            found[str(step)] = digest.text()
    env.close()
    return found


def vector(env_id: str, steps: int, **arguments: Any) -> dict[str, dict[str, str]]:
    """Hashes of a batched environment: `steps` counts the steps of all boards."""
    envs, rng, digest = gym.make_vec(env_id, num_envs=BOARDS, **arguments), np.random.default_rng(7), Digest()
    found: dict[str, dict[str, str]] = {}
    observation, info = envs.reset(seed=11)
    digest.add("observation", observation)
    digest.add("info", info)
    disabled = str(arguments.get("autoreset_mode")) == "Disabled"
    for step in range(1, steps // BOARDS + 1):
        world: Any = envs
        masks = world.action_masks() if hasattr(world, "action_masks") else [None] * BOARDS
        digest.add("mask", masks)
        actions = np.array([an_action(rng, envs.single_action_space, mask) for mask in masks])
        observation, reward, terminated, truncated, info = envs.step(actions)
        digest.add("observation", observation)
        digest.add("reward", (reward, terminated, truncated))
        digest.add("info", info)
        if disabled and (terminated | truncated).any():
            observation, info = envs.reset(options={"reset_mask": terminated | truncated})
            digest.add("observation", observation)
            digest.add("info", info)
        if step * BOARDS in [BOARDS * (mark // BOARDS) for mark in MARKS]:
            found[str(step * BOARDS)] = digest.text()
    envs.close()
    return found


def modes(env_id: str) -> tuple[str, ...]:
    env = gym.make(env_id, disable_env_checker=True)
    return tuple(getattr(env.unwrapped, "modes", ("",)))


def environments(steps: int = MARKS[-1], only: tuple[str, ...] = tuple(WORLDS)) -> Iterator[tuple[str, Any]]:
    """Every id and action mode, single and vector; and settings that change rewards, resets and sources."""
    for env_id in only:
        for mode in modes(env_id):
            arguments = {"action_mode": mode} if mode else {}
            yield f"{env_id} {mode} single", single(env_id, steps, **arguments)
            yield f"{env_id} {mode} vector", vector(env_id, steps, **arguments)
    more: dict[str, dict[str, Any]] = {
        "HRMMaze-v0": {"source": "generate", "reward": "dense", "action_mode": "move", "step_cost": 0.01},
        "HRMSudokuMini-v0": {"source": "generate", "reward": "dense", "action_mode": "cell", "mask_in_info": True},
        "HRMSudoku-v0": {"difficulty": "hard", "reward": "dense", "action_mode": "cell", "legal_only": True},
        "HRMARCMini-v0": {"reward": "dense", "action_mode": "cell"},
    }
    for env_id, arguments in more.items():
        if env_id in only:
            yield f"{env_id} {arguments} single", single(env_id, steps, **arguments)
            yield f"{env_id} {arguments} vector", vector(env_id, steps, **arguments)
    if "HRMMaze-v0" in only:
        for reset in ("SameStep", "Disabled"):
            found = vector("HRMMaze-v0", steps, action_mode="move", autoreset_mode=reset)
            yield f"HRMMaze-v0 move vector {reset}", found


def sources() -> Iterator[tuple[str, Any]]:
    """The first puzzles of every kind of source, and what they look like."""
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        f"sudoku {difficulty} {source}": ("HRMSudoku-v0", {"difficulty": difficulty, "source": source})
        for difficulty in ("easy", "medium", "hard", "extreme")
        for source in ("bank", "generate")
    }
    kinds |= {
        "sudoku 4x4": ("HRMSudokuMini-v0", {"source": "generate"}),
        "sudoku 6x6": ("HRMSudokuMini-v0", {"box": (2, 3), "source": "generate"}),
        "maze 10": ("HRMMaze-v0", {"source": "generate"}),
        "maze 30": ("HRMMazeHard-v0", {"source": "generate"}),
        "arc": ("HRMARC-v0", {}),
        "arc mini": ("HRMARCMini-v0", {"split": "evaluation"}),
    }
    for name, (env_id, arguments) in kinds.items():
        digest = Digest()
        for mode in ("ansi", "rgb_array"):
            env = gym.make(env_id, disable_env_checker=True, render_mode=mode, **arguments)
            for k in range(8):
                env.reset(seed=k)
                puzzle: Any = env.unwrapped.puzzle  # type: ignore[attr-defined]
                digest.add("puzzle", (puzzle.clues, puzzle.solution, puzzle.puzzle_id, puzzle.name))
                if k == 0:
                    digest.add(mode, env.render())
            env.close()
        yield name, digest.text()


PLAIN: dict[str, Any] = {"batch": 16, "optimizer": "adam_atan2", "shift": False, "known": False, "snapshots": 1}
"""Adaptation as it was when these numbers were taken."""

AGENTS: dict[str, tuple[str, dict[str, Any], dict[str, Any], int]] = {
    "hrm-maze-10x10": ("HRMMaze-v0", {}, {}, 50),
    "hrm-sudoku-4x4": ("HRMSudokuMini-v0", {}, {}, 50),
    "hrm-sudoku-6x6": ("HRMSudokuMini-v0", {"box": (2, 3)}, {}, 50),
    "hrm-sudoku-9x9": ("HRMSudoku-v0", {"difficulty": "hard", "max_segments": 48}, {}, 20),
    "hrm-arc-12x12": ("HRMARCMini-v0", {"split": "evaluation"}, {}, 10),
    "ppo-maze-10x10": ("HRMMaze-v0", {}, {}, 50),
    "maskableppo-maze-10x10": ("HRMMaze-v0", {}, {}, 50),
    "dqn-maze-10x10": ("HRMMaze-v0", {}, {}, 50),
    "a2c-sudoku-4x4": ("HRMSudokuMini-v0", {}, {}, 50),
    "dqn-sudoku-4x4": ("HRMSudokuMini-v0", {}, {}, 50),
    "ppo-sudoku-4x4": ("HRMSudokuMini-v0", {}, {}, 50),
    "maskableppo-sudoku-4x4": ("HRMSudokuMini-v0", {}, {}, 50),
    "supervised-sudoku-4x4": ("HRMSudokuMini-v0", {}, {}, 50),
    "dqn-sudoku-9x9": ("HRMSudoku-v0", {"difficulty": "easy"}, {}, 20),
    "ppo-sudoku-9x9": ("HRMSudoku-v0", {"difficulty": "easy"}, {}, 20),
    "maskableppo-sudoku-9x9": ("HRMSudoku-v0", {"difficulty": "easy"}, {}, 20),
    "hrm-vote hrm-sudoku-9x9": ("HRMSudoku-v0", {"difficulty": "hard", "max_segments": 32}, {"votes": 4}, 5),
    "hrm-first hrm-maze-10x10": ("HRMMaze-v0", {}, {"images": 4}, 20),
    "hrm-search hrm-sudoku-9x9": ("HRMSudoku-v0", {"difficulty": "extreme", "max_segments": 64}, {}, 10),
    "hrm-adapt hrm-arc-12x12": ("HRMARCMini-v0", {"split": "evaluation"}, {"updates": 3, "lr": 1e-4, **PLAIN}, 2),
    "hrm hrm-sudoku-9x9": ("HRMSudoku-v0", {"difficulty": "extreme"}, {"check": False, "restart": 0}, 20),
    "random": ("HRMMaze-v0", {}, {}, 20),
    "oracle": ("HRMSudoku-v0", {"difficulty": "extreme"}, {}, 20),
}


def agents(only: tuple[str, ...] = tuple(AGENTS), most: int = 50) -> Iterator[tuple[str, Any]]:
    """Every bundled agent on seeded puzzles: solved, exact and segments (or steps), puzzle by puzzle."""
    for label in only:
        env_id, arguments, options, count = AGENTS[label]
        kind, _, folder = label.partition(" ")
        if (pretrained.FOLDER / kind).is_dir():
            folder, kind = kind, kind.split("-")[0]
            kind = "sb3" if kind == "supervised" else kind
        if folder:
            options = {**options, "weights": pretrained.FOLDER / folder}
        mode = "answer" if kind.startswith("hrm") else None
        yield label, play(kind, env_id, arguments, options, min(count, most), mode, folder)


def play(
    kind: str,
    env_id: str,
    arguments: dict[str, Any],
    options: dict[str, Any],
    count: int,
    mode: str | None,
    folder: str,
) -> dict[str, str]:
    for action_mode in (mode,) if mode else ("cell", "move", "answer"):
        given = {**arguments, "action_mode": action_mode, "split": arguments.get("split", "held-out")}  # the old test

        def make(given: dict[str, Any] = given) -> gym.Env[Any, Any]:
            return gym.make(env_id, disable_env_checker=True, **given)

        with contextlib.suppress(ValueError):
            agent: Any = hrm_gym.make_agent(kind, make(), **options)
            found = sorted(rollout_batched(make, agent, count, 16, 5), key=lambda episode: episode.index)
            digits = ["".join(str(int(getattr(episode, name))) for episode in found) for name in ("solved", "exact")]
            used = " ".join(str(episode.segments or episode.steps) for episode in found)
            result = {"solved": digits[0], "exact": digits[1], "used": used}
            if folder:
                weights = (pretrained.FOLDER / folder / "model.safetensors").read_bytes()
                result["weights"] = hashlib.sha256(weights).hexdigest()[:16]
            return result
    raise ValueError(f"no action mode of {env_id} in which {kind} plays")


def digest_of(state: dict[str, torch.Tensor]) -> str:
    digest = Digest()
    for name in sorted(state):
        digest.add("state", name)
        digest.add("state", state[name].detach().float().cpu().numpy())
    return digest.text()["state"]


SMALL: dict[str, dict[str, Any]] = {
    "sudoku-4x4": {"batch_size": 16},
    "sudoku-extreme-1k-trm-mlp": {"batch_size": 4, "puzzles": 8, "variants": 3},
    "sudoku": {"batch_size": 4, "mixture": ()},
    "arc-colours": {"batch_size": 2},
    "maze-any-size-8": {"batch_size": 8},
    "maze-10x10": {"batch_size": 8},
}


def training(updates: int = 20, only: tuple[str, ...] = (*SMALL, "rl")) -> Iterator[tuple[str, Any]]:
    """The weights after a few updates of one recipe a mixer, and of one RL recipe an algorithm."""
    torch.set_num_threads(1)
    for name in (name for name in SMALL if name in only):
        recipe = dataclasses.replace(HRM_RECIPES[name], updates=updates, eval_every=1000, init="", **SMALL[name])
        if recipe.model.hidden_size > 128:
            model = dataclasses.replace(recipe.model, hidden_size=64, heads=2)
            recipe = dataclasses.replace(recipe, model=model)
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(recipe, Path(folder))
            losses = [float(trainer.step().total.detach()) for _ in range(updates)]
        yield (
            f"train {name}",
            {"weights": digest_of(trainer.model.state_dict()), "losses": f"{losses[0]:.6g} {losses[-1]:.6g}"},
        )
    if "rl" not in only:
        return
    for name in ("sudoku-4x4-ppo", "sudoku-4x4-maskableppo", "sudoku-4x4-a2c", "sudoku-4x4-dqn", "maze"):
        recipe = RL_RECIPES[name]
        small = {
            "n_steps": 4,
            "batch_size": 8,
            "n_epochs": 1,
            "buffer_size": 400,
            "learning_starts": 8,
            "target_every": 16,
        }
        fields = {field.name for field in dataclasses.fields(recipe.learner)}
        learner = dataclasses.replace(recipe.learner, **{key: value for key, value in small.items() if key in fields})
        budget = {"envs": 4, "timesteps": 160, "eval_puzzles": 2, "eval_every": 1000, "checkpoint_every": 1000}
        recipe = dataclasses.replace(recipe, learner=learner, **budget)
        with tempfile.TemporaryDirectory() as folder:
            run = start_run(recipe, Path(folder))
            run.learn(lambda row: None)
            yield f"train-rl {name}", {"weights": digest_of(dict(run.policy.state_dict()))}


PARTS: dict[str, Callable[[], Iterator[tuple[str, Any]]]] = {
    "envs": environments,
    "sources": sources,
    "agents": agents,
    "training": training,
}


def machine() -> dict[str, str]:
    """What floating-point results depend on; `agents` and `training` are compared on the same machine only."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {"processor": name, "torch": torch.__version__}


def differences(stored: Any, found: Any, place: str = "") -> Iterator[str]:
    """Where two results differ, a line each."""
    if isinstance(stored, dict) and isinstance(found, dict):
        for key in sorted(stored.keys() | found.keys()):
            yield from differences(stored.get(key), found.get(key), f"{place} / {key}" if place else key)
    elif stored != found:
        yield f"{place}: stored {stored}, found {found}"


def main() -> int:
    """Write the file or compare with it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="make the file")
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=list(PARTS), help="parts to go through")
    config = parser.parse_args()
    stored = json.loads(FILE.read_text()) if FILE.exists() else {}
    bad = 0
    for part in config.only:
        for name, result in PARTS[part]():
            result = json.loads(json.dumps(result))
            if config.write:
                stored.setdefault(part, {})[name] = result
                continue
            if name not in stored.get(part, {}):
                print(f"{part}: {name}: not recorded", flush=True)
                continue
            found = list(differences(stored[part][name], result, f"{part}: {name}"))
            bad += len(found)
            print("\n".join(found) if found else f"{part}: {name}: equal", flush=True)
    if config.write:
        stored["machine"] = machine()
        FILE.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
