"""Record what the package does today, as hashes and short strings, and compare a later version with the record.

    python tests/golden/wide/make_wide.py --out tests/golden/wide/wide.json      record everything
    python tests/golden/wide/make_wide.py --check                            compare everything, print each difference
    python tests/golden/wide/make_wide.py --check --only 'agents/*' envs     some parts or entries (names or patterns)

See README.md in this folder.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import functools
import hashlib
import io
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

import hrm_gym

# ---- adapter: everything that is not Gymnasium's interface or `hrm_gym.make_agent`. After a move, edit only this. ----


def weights_folder() -> Path:
    """Where the bundled weights lie, a folder each."""
    from hrm_gym.agents import pretrained

    return Path(pretrained.__file__).parent


def weights_file(folder: Path) -> Path:
    """The tensors of a folder of weights."""
    return folder / "model.safetensors"


def run_command(arguments: Sequence[str]) -> int:
    """The command line, in this process; with a recipe of A2C in mazes, which the package has no more."""
    import dataclasses

    from hrm_gym.agents.sb3.recipes import RECIPES, A2CSettings
    from hrm_gym.scripts.main import main

    walk = A2CSettings(n_steps=16, lr=3e-3, gamma=0.9, gae_lambda=0.9)
    RECIPES.setdefault(
        "maze-a2c", dataclasses.replace(RECIPES["maze"], algorithm="a2c", learner=walk, env={"size": 8}, max_steps=32)
    )
    return main(arguments)


def masks_of(env: Any) -> NDArray[np.bool_] | None:
    """The mask of legal actions of a single environment or of every board; None for environments without one."""
    world = env.unwrapped
    return world.action_masks() if hasattr(world, "action_masks") else None


def puzzle_of(env: Any) -> Any:
    """The puzzle on the board of a single environment, with `clues`, `solution`, `puzzle_id`, `name`, `rating`."""
    return env.unwrapped.puzzle


def shown_of(puzzle: Any) -> dict[str, Any]:
    """What a puzzle shows besides its clues: the demonstrations of a task of ARC, and how many they are."""
    shown = puzzle.extras
    return {"demonstrations": shown["demonstrations"], "pairs": shown["pairs"].item()} if shown else {}


def show_puzzles(agent: Any, envs: Sequence[Any]) -> None:
    """Show the puzzles of the next `predict` to an agent that must see them (the one of the stored answers)."""
    if hasattr(agent, "see"):
        agent.see([puzzle_of(env) for env in envs])


def spent_by(agent: Any) -> list[int] | None:
    """Segments that an agent has run on each board of the last `predict`; None for agents without segments."""
    return [int(value) for value in agent.spent()] if hasattr(agent, "spent") else None


def thoughts_of(agent: Any) -> list[Any]:
    """What an agent had in mind at the last `predict`, in numbers."""
    return [
        [thought.answer, thought.confidence, thought.q_halt, thought.q_continue, thought.segment]
        for thought in agent.thoughts() or ()
    ]


def library_rollout(make_env: Callable[[], Any], agent: Any, episodes: int, batch: int, seed: int) -> Iterator[Any]:
    """The package's own rollout: records with `index`, `solved`, `exact`, `segments`, `steps`, `total_return`."""
    from hrm_gym.evaluation.rollout import rollout_batched

    return rollout_batched(make_env, agent, episodes, batch, seed)


def halting_agent(name: str, env: Any) -> Any:
    """A rule of halting as an agent of HRMHalting-v0."""
    from hrm_gym.agents.halting.rules import Confidence, FixedBudget, Oracle, QHead, RuleAgent

    world = env.unwrapped
    rules: dict[str, Callable[[], Any]] = {
        "q": QHead,
        "fixed": lambda: FixedBudget(4, world.max_segments),
        "confidence": lambda: Confidence(2.2),
        "oracle": lambda: Oracle(world.bank, world.cost),
    }
    return RuleAgent(rules[name]())


def feed_of(recipe: str, puzzles: int) -> Any:
    """The stream of boards of a recipe; a fixed set of puzzles is cut down to `puzzles`."""
    import dataclasses

    import torch

    from hrm_gym.agents.hrm.feed import Feed
    from hrm_gym.agents.hrm.recipes import RECIPES

    found = RECIPES[recipe]
    return Feed(dataclasses.replace(found, puzzles=min(found.puzzles, puzzles)), torch.device("cpu"))


def training_boards(recipe: str, count: int) -> list[NDArray[Any]]:
    """Inputs, labels and rows of the puzzle embedding of the first boards that a recipe trains on."""
    return [part.numpy() for part in feed_of(recipe, 32).boards(0, count)]


def held_out_puzzles(recipe: str, count: int) -> list[NDArray[Any]]:
    """Clues, solutions and ids of the first puzzles on which a training run of a recipe is evaluated."""
    batch = feed_of(recipe, 32).held_out.take(0, count)
    return [batch.clues, batch.solutions, batch.puzzle_ids]


def state_file(run: Path) -> Path | None:
    """The complete training state of a run's last checkpoint, an HRM's in float32; None for runs without one."""
    found = sorted(run.glob("update_*/training_state.safetensors"))
    return found[-1] if found else None


# ---- end of the adapter ----

HERE = Path(__file__).parent
HOUSE = HERE / "wide.json"
SEED = 20260
DIGITS = 16
"""Hexadecimal digits of SHA-256 that are kept."""
MARKS = (100, 500, 2000)
"""Board-steps after which the hashes of an environment's entry are noted."""
BOARDS = 8
NONE = "-"

Entry = dict[str, Any]

# ---- hashing ----


def feed_hash(hasher: Any, value: Any) -> None:
    """Put a value into a hash: arrays with dtype and shape, dictionaries in the order of their keys."""
    if isinstance(value, dict):
        hasher.update(b"{%d" % len(value))
        for key in sorted(value, key=str):
            hasher.update(f"{key}:".encode())
            feed_hash(hasher, value[key])
    elif isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.dtype == object):
        hasher.update(b"[%d" % len(value))
        for item in value:
            feed_hash(hasher, item)
    elif isinstance(value, np.ndarray):
        hasher.update(f"a{value.dtype.str}{value.shape}".encode())
        hasher.update(np.ascontiguousarray(value).tobytes())
    elif value is None or isinstance(value, bool | np.bool_ | str):
        hasher.update(f"{'s' if isinstance(value, str) else 'b'}{value}".encode())
    elif isinstance(value, int | np.integer):
        hasher.update(f"i{int(value)}".encode())
    elif isinstance(value, float | np.floating):
        hasher.update(f"f{float(value)!r}".encode())
    else:
        raise TypeError(f"expected a value that can be hashed, got {type(value)}")


def digest(*values: Any) -> str:
    """The hash of values."""
    hasher = hashlib.sha256()
    for value in values:
        feed_hash(hasher, value)
    return hasher.hexdigest()[:DIGITS]


def type_of(value: Any) -> str:
    """A value's type in words, with dtype and shape; a dictionary's with those of its entries."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}".replace(" ", "")
    return type(value).__name__


@dataclass
class Recorder:
    """Running hashes by field; each field's value is a string with one hash a mark."""

    hashers: dict[str, Any] = field(default_factory=dict)
    values: dict[str, list[str]] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    marks: int = 0

    def add(self, name: str, value: Any) -> None:
        """Add a value to a field; a dictionary goes to a field for each of its keys, and a type is noted once."""
        if isinstance(value, dict):
            for key, item in value.items():
                self.add(f"{name}.{key}", item)
            return
        feed_hash(self.hashers.setdefault(name, hashlib.sha256()), value)
        self.types.setdefault(name, type_of(value))

    def mark(self) -> None:
        """Note every hash as it is now."""
        for name, hasher in self.hashers.items():
            noted = self.values.setdefault(name, [NONE] * self.marks)
            noted.append(hasher.hexdigest()[:DIGITS])
        self.marks += 1

    def entry(self) -> Entry:
        """The fields, and the types."""
        return {**{name: " ".join(noted) for name, noted in self.values.items()}, "types": self.types}


# ---- actions ----


def words_of(env_id: str) -> tuple[int, int]:
    """(first token that cell mode writes, number of tokens that it writes or 0 for all digits) of an environment."""
    return (4, 2) if "Maze" in env_id else (2, 0) if "Sudoku" in env_id else (1, 11)


@dataclass
class Player:
    """Draws the actions of one board.

    An episode is played at random, mostly towards the solution, or only towards it. Of random actions half are drawn
    from the legal ones and half from all.

    Attributes:
        env_id: of the environment.
        mode: its action mode.
        rng: where every draw comes from.
        guided: share of the running episode's actions that go towards the solution.
    """

    env_id: str
    mode: str
    rng: np.random.Generator
    guided: float = 0.0

    def begin(self) -> None:
        """Choose how the next episode is played."""
        self.guided = float(self.rng.choice([0.0, 0.9, 1.0], p=[0.4, 0.3, 0.3]))

    def act(self, observation: Any, mask: Any, solution: Any, space: Any) -> Any:
        """An action for one board."""
        draw = self.rng.random(3)
        if self.mode == "decide":
            return int(draw[0] < 0.3)
        towards, legal, halt = bool(draw[0] < self.guided), bool(draw[1] < 0.5), draw[2]
        if self.mode == "answer":
            return self._answer(mask, solution, space.nvec, towards, legal, halt < 0.2)
        if self.mode == "cell" and self.guided < 1.0 and halt < 0.01:
            return int(space.n) - 1
        found = self._towards(observation, solution, int(space.n)) if towards else None
        if found is not None:
            return found
        return int(self.rng.choice(np.flatnonzero(mask))) if legal else int(self.rng.integers(space.n))

    def _answer(self, mask: Any, solution: Any, sizes: Any, towards: bool, legal: bool, halt: bool) -> Any:
        cells, vocabulary = len(sizes) - 1, int(sizes[0])
        if towards and self.rng.random() < 0.5:
            return np.append(solution.ravel().astype(np.int64), int(self.rng.random() < 0.7))
        if not legal:
            return np.append(self.rng.integers(sizes[:-1]), int(halt))
        chances = self.rng.random((cells, vocabulary))
        chances[~mask[:-2].reshape(cells, vocabulary)] = -1.0
        return np.append(chances.argmax(axis=1), int(halt))

    def _towards(self, observation: Any, solution: Any, actions: int) -> int | None:
        """An action that brings the board nearer to the stored solution, if there is one."""
        answer = observation["answer"]
        if self.mode == "move":
            return self._along(answer, solution)
        first, count = words_of(self.env_id)
        count = count or (actions - 1) // answer.size
        wrong = np.flatnonzero((answer != solution).ravel() & (solution.ravel() >= first))
        wrong = wrong[solution.ravel()[wrong] < first + count]
        if not len(wrong):
            return None
        cell = int(self.rng.choice(wrong))
        return cell * count + int(solution.ravel()[cell]) - first

    def _along(self, answer: Any, solution: Any) -> int | None:
        """A step from the walker (token 3) to a cell of the stored path (5) or the goal (4), best not of its trail."""
        row, column = np.argwhere(answer == 3)[0]
        back = None
        for action, (down, right) in enumerate(((-1, 0), (0, 1), (1, 0), (0, -1))):
            place = row + down, column + right
            inside = 0 <= place[0] < len(answer) and 0 <= place[1] < len(answer)
            if inside and solution[place] in (4, 5):
                if answer[place] not in (0, 5):
                    return action
                back = action
        return back


# ---- part "envs" ----


@dataclass(frozen=True)
class World:
    """One environment in one action mode.

    Attributes:
        env_id: registered id.
        mode: action mode; "decide" for HRMHalting-v0, which has none.
        arguments: of the constructor.
        label: what sets a variant's entry apart.
    """

    env_id: str
    mode: str
    arguments: tuple[tuple[str, Any], ...] = ()
    label: str = ""

    @property
    def name(self) -> str:
        """The beginning of its entries' names."""
        return f"envs/{self.env_id}/{self.mode}{self.label and '/' + self.label}"

    def options(self) -> dict[str, Any]:
        """Arguments of `gym.make`."""
        mode = {} if self.mode == "decide" else {"action_mode": self.mode}
        return {**mode, **dict(self.arguments)}

    def make(self, **more: Any) -> Any:
        """The single environment."""
        return gym.make(self.env_id, disable_env_checker=True, **self.options(), **more)


def variant(env_id: str, mode: str, label: str, **arguments: Any) -> World:
    """A world with arguments of its own."""
    return World(env_id, mode, tuple(arguments.items()), label)


MODES = {
    "HRMSudoku-v0": ("answer", "cell"),
    "HRMSudokuMini-v0": ("answer", "cell"),
    "HRMSudokuExtreme-v0": ("answer", "cell"),
    "HRMMaze-v0": ("answer", "cell", "move"),
    "HRMMazeHard-v0": ("answer", "cell", "move"),
    "HRMARC-v0": ("answer", "cell"),
    "HRMARC2-v0": ("answer", "cell"),
    "HRMARCMini-v0": ("answer", "cell"),
    "HRMHalting-v0": ("decide",),
}
WORLDS = [World(env_id, mode) for env_id, modes in MODES.items() for mode in modes]
VARIANTS = [
    variant("HRMMaze-v0", "move", "dense", reward="dense", shaping_gamma=0.9, step_cost=0.01, max_steps=30),
    variant("HRMMaze-v0", "cell", "dense-new-6x6", reward="dense", size=6, source="generate", mask_in_info=True),
    variant("HRMMaze-v0", "answer", "dense", reward="dense", max_segments=3, mask_in_info=True),
    variant("HRMMazeHard-v0", "move", "short", max_steps=200),
    variant("HRMMaze-v0", "move", "new-13x13-test", size=13, source="generate", split="held-out"),
    variant("HRMSudoku-v0", "cell", "legal-dense-hard", legal_only=True, difficulty="hard", reward="dense"),
    variant("HRMSudoku-v0", "answer", "new-medium-test", difficulty="medium", source="generate", split="held-out"),
    variant("HRMSudokuMini-v0", "cell", "new-6x6", box=(2, 3), source="generate", max_steps=20, mask_in_info=True),
    variant("HRMSudokuMini-v0", "cell", "new-8x8-legal", box=(2, 4), source="generate", legal_only=True),
    variant("HRMSudokuMini-v0", "answer", "dense-cost", reward="dense", step_cost=0.05, shaping_gamma=0.8),
    variant("HRMARCMini-v0", "answer", "dense-evaluation", reward="dense", split="evaluation", max_segments=2),
    variant("HRMARCMini-v0", "cell", "dense-short", reward="dense", max_steps=40, step_cost=0.01),
    variant("HRMHalting-v0", "decide", "test-in-order", cost=0.05, split="test", order="sequential", max_segments=5),
    variant("HRMHalting-v0", "decide", "sudoku-bank", bank="hrm-sudoku"),
    variant("HRMHalting-v0", "decide", "arc-bank", bank="hrm-arc"),
]
AUTORESET = {"next": "NextStep", "same": "SameStep", "disabled": "Disabled"}


def counted(marks: Sequence[int], small: bool) -> Sequence[int]:
    """The marks that are reached: the first one in the scaled form."""
    return marks[:1] if small else marks


def single_steps(world: World, small: bool) -> Entry:
    """The hashes of a single environment under seeded random play."""
    env, recorder = world.make(), Recorder()
    player = Player(world.env_id, world.mode, np.random.default_rng(SEED))
    ends = {"episodes": 0, "solved": 0, "truncated": 0}

    def note(observation: Any, info: dict[str, Any]) -> None:
        recorder.add("obs", observation)
        recorder.add("info", info)
        recorder.add("keys", " ".join(sorted(info)))

    observation, info = env.reset(seed=SEED)
    note(observation, info)
    player.begin()
    marks = counted(MARKS, small)
    for step in range(1, marks[-1] + 1):
        mask = masks_of(env)
        if mask is not None:
            recorder.add("mask", mask)
        solution = None if mask is None else puzzle_of(env).solution
        action = player.act(observation, mask, solution, env.action_space)
        observation, reward, terminated, truncated, info = env.step(action)
        recorder.add("reward", reward)
        recorder.add("terminated", terminated)
        recorder.add("truncated", truncated)
        note(observation, info)
        if terminated or truncated:
            ends["episodes"] += 1
            ends["solved"] += int(info["solved"])
            ends["truncated"] += int(truncated)
            observation, info = env.reset()
            note(observation, info)
            player.begin()
        if step in marks:
            recorder.mark()
    env.close()
    return {**recorder.entry(), **({} if small else {"ends": " ".join(f"{k}={v}" for k, v in ends.items())})}


class Solutions:
    """The stored solutions of the puzzles of one board of a vector environment, from a single one of the same seed."""

    def __init__(self, world: World, seed: int) -> None:
        self._env, self._known = world.make(), []
        self._env.reset(seed=seed)

    def __getitem__(self, episode: int) -> Any:
        while len(self._known) <= episode:
            if self._known:
                self._env.reset()
            self._known.append(puzzle_of(self._env).solution.copy())
        return self._known[episode]


def vector_steps(world: World, autoreset: str, small: bool) -> Entry:
    """The hashes of a vector environment under seeded random play; marks count steps of single boards."""
    mode = gym.vector.AutoresetMode(AUTORESET[autoreset])
    envs = gym.make_vec(world.env_id, num_envs=BOARDS, autoreset_mode=mode, **world.options())
    recorder, generator = Recorder(), np.random.default_rng(SEED + 1)
    players = [Player(world.env_id, world.mode, generator) for _ in range(BOARDS)]
    decides = world.mode == "decide"
    solutions = [None if decides else Solutions(world, SEED + board) for board in range(BOARDS)]
    episodes = np.zeros(BOARDS, np.int64)
    cut = 0

    def note(observation: Any, info: dict[str, Any]) -> None:
        recorder.add("obs", observation)
        recorder.add("info", info)
        recorder.add("keys", " ".join(sorted(info)))

    observation, info = envs.reset(seed=SEED)
    note(observation, info)
    for player in players:
        player.begin()
    marks = [-(-mark // BOARDS) for mark in counted(MARKS, small)]
    for step in range(1, marks[-1] + 1):
        masks = masks_of(envs)
        if masks is not None:
            recorder.add("mask", masks)
        actions = []
        for board, player in enumerate(players):
            seen = observation[board] if decides else {"answer": observation["answer"][board]}
            solution = None if decides else solutions[board][episodes[board]]
            mask = None if masks is None else masks[board]
            actions.append(player.act(seen, mask, solution, envs.single_action_space))
        observation, reward, terminated, truncated, info = envs.step(np.array(actions))
        recorder.add("reward", reward)
        recorder.add("terminated", terminated)
        recorder.add("truncated", truncated)
        note(observation, info)
        ended = terminated | truncated
        episodes += ended
        cut += int(truncated.sum())
        for board in np.flatnonzero(ended):
            players[board].begin()
        if autoreset == "disabled" and ended.any():
            observation, info = envs.reset(options={"reset_mask": ended})
            note(observation, info)
        if step in marks:
            recorder.mark()
    envs.close()
    return {**recorder.entry(), **({} if small else {"ends": f"episodes={int(episodes.sum())} truncated={cut}"})}


def options_entry(small: bool) -> Entry:
    """Puzzles chosen by `reset(options=...)`, and the plain puzzles after them."""
    found = {}
    for env_id in ("HRMSudoku-v0", "HRMSudokuMini-v0", "HRMMaze-v0", "HRMMazeHard-v0", "HRMARCMini-v0"):
        env = gym.make(env_id, disable_env_checker=True)
        seen = [env.reset(seed=3)[0]]
        seen += [env.reset(options={"index": index})[0] for index in range(20)]
        seen.append(env.reset(options={"puzzle": puzzle_of(env).clues if "ARC" not in env_id else puzzle_of(env)})[0])
        seen.append(env.reset()[0])
        found[env_id] = digest(seen)
    return found


def env_entries() -> Iterator[tuple[str, Callable[[bool], Entry]]]:
    """Names and makers of the entries of part "envs"."""
    for world in (*WORLDS, *VARIANTS):
        yield f"{world.name}/single", functools.partial(single_steps, world)
        for autoreset in AUTORESET:
            yield f"{world.name}/vector-{autoreset}", functools.partial(vector_steps, world, autoreset)
    yield "envs/options", options_entry


# ---- part "puzzles" ----

GENERATED: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"sudoku-{name}": ("HRMSudoku-v0", {"difficulty": name}) for name in ("easy", "medium", "hard", "extreme")},
    "sudoku-4x4": ("HRMSudokuMini-v0", {}),
    "sudoku-6x6": ("HRMSudokuMini-v0", {"box": (2, 3)}),
    "sudoku-8x8": ("HRMSudokuMini-v0", {"box": (2, 4)}),
    "maze-10": ("HRMMaze-v0", {}),
    "maze-30": ("HRMMaze-v0", {"size": 30}),
    "maze-hard": ("HRMMazeHard-v0", {}),
}
STORED: dict[str, tuple[str, dict[str, Any]]] = {
    **GENERATED,
    "arc-1": ("HRMARC-v0", {}),
    "arc-1-augmented": ("HRMARC-v0", {"augment": True}),
    "arc-2": ("HRMARC2-v0", {}),
    "arc-12": ("HRMARCMini-v0", {}),
}


def old_split(env_id: str, split: str) -> str:
    """The split that has the puzzles that "test" had when the record was made."""
    return "held-out" if split == "test" and not env_id.startswith(("HRMARC", "HRMHalting")) else split


def puzzles_entry(env_id: str, arguments: dict[str, Any], small: bool) -> Entry:
    """Twenty puzzles of each split: clues, solutions, and what is known of them; a hash after five and after all."""
    found: Entry = {}
    for split in ("train", "test"):
        env = gym.make(env_id, split=old_split(env_id, split), disable_env_checker=True, **arguments)
        recorder = Recorder()
        for number in range(1, 6 if small else 21):
            env.reset(**({"seed": SEED} if number == 1 else {}))
            puzzle = puzzle_of(env)
            recorder.add("clues", puzzle.clues)
            recorder.add("solution", puzzle.solution)
            recorder.add("id", puzzle.puzzle_id)
            recorder.add("name", puzzle.name.replace("/held-out:", "/test:"))
            recorder.add("rating", None if puzzle.rating is None else float(puzzle.rating))
            for name, value in shown_of(puzzle).items():
                recorder.add(name, value)
            if number in (5, 20):
                recorder.mark()
        found.update({f"{split}.{name}": " ".join(value) for name, value in recorder.values.items()})
    return found


STREAMS = (
    "sudoku-4x4",
    "sudoku",
    "sudoku-6x6",
    "maze-any-size-8",
    "maze-hard-1k",
    "sudoku-extreme-1k",
    "arc-colours",
    "arc-1",
)


def stream_entry(recipe: str, small: bool) -> Entry:
    """The first 64 boards that a recipe trains on (and 8 of them), and the first puzzles that it is evaluated on."""
    inputs, labels, rows = training_boards(recipe, 64)
    found = {
        name: f"{digest(part[:8])} {digest(part)}"
        for name, part in (("inputs", inputs), ("labels", labels), ("rows", rows))
    }
    found["held-out"] = digest(*held_out_puzzles(recipe, 16))
    return found


def puzzle_entries() -> Iterator[tuple[str, Callable[[bool], Entry]]]:
    """Names and makers of the entries of part "puzzles"."""
    for name, (env_id, arguments) in GENERATED.items():
        yield f"puzzles/new/{name}", functools.partial(puzzles_entry, env_id, {**arguments, "source": "generate"})
    for name, (env_id, arguments) in STORED.items():
        yield f"puzzles/bank/{name}", functools.partial(puzzles_entry, env_id, arguments)
    for recipe in STREAMS:
        yield f"puzzles/training/{recipe}", functools.partial(stream_entry, recipe)


# ---- parts "text" and "pictures" ----


def render_entry(world: World, render_mode: str, small: bool) -> Entry:
    """Renderings at the start, after three actions, and of a finished board."""
    env = world.make(render_mode=render_mode)
    player = Player(world.env_id, world.mode, np.random.default_rng(SEED), guided=1.0)
    observation, _ = env.reset(seed=SEED)
    found = {"start": digest(env.render())}
    mask = masks_of(env)
    for _ in range(3):
        solution = None if mask is None else puzzle_of(env).solution
        action = player.act(observation, masks_of(env), solution, env.action_space)
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            break
    found["three"] = digest(env.render())
    found["type"] = type_of(env.render())
    env.close()
    return found


def render_entries(part: str, render_mode: str) -> Iterator[tuple[str, Callable[[bool], Entry]]]:
    """Names and makers of the entries of one of the two parts."""
    for world in WORLDS:
        yield f"{part}/{world.env_id}/{world.mode}", functools.partial(render_entry, world, render_mode)


# ---- part "agents" ----


@dataclass(frozen=True)
class Contestant:
    """An agent on puzzles of its world.

    Attributes:
        agent: name for `make_agent`, or halting:RULE.
        folder: of its bundled weights; "" for agents without.
        env_id: the world.
        arguments: of the environment.
        puzzles: how many it plays.
        chunk: how many at a time; the scaled form plays the first chunk.
        settings: of the agent.
    """

    agent: str
    folder: str
    env_id: str
    arguments: dict[str, Any] = field(default_factory=dict)
    puzzles: int = 50
    chunk: int = 10
    settings: dict[str, Any] = field(default_factory=dict)

    def make_env(self) -> Any:
        """A single environment."""
        return gym.make(
            self.env_id, disable_env_checker=True, **{"split": old_split(self.env_id, "test"), **self.arguments}
        )

    def make_agent(self, env: Any) -> Any:
        """The agent, with weights named by their folder."""
        if self.agent.startswith("halting:"):
            return halting_agent(self.agent.partition(":")[2], env)
        if not self.folder:
            return hrm_gym.make_agent(self.agent, env, **self.settings)
        return hrm_gym.make_agent(
            self.agent, env, weights=weights_folder() / self.folder, device="cpu", **self.settings
        )


NINE = {"max_segments": 64, "source": "bank"}
LEGAL = {"action_mode": "cell", "legal_only": True}
ARC = {"augment": False}
PLAIN: dict[str, Any] = {"batch": 16, "optimizer": "adam_atan2", "shift": False, "known": False, "snapshots": 1}
CONTESTANTS: dict[str, Contestant] = {
    "hrm-maze-10x10": Contestant("hrm", "hrm-maze-10x10", "HRMMaze-v0"),
    "hrm-maze-any-size": Contestant("hrm", "hrm-maze-any-size", "HRMMaze-v0", {"size": 16, "source": "generate"}),
    "hrm-sudoku-4x4": Contestant("hrm", "hrm-sudoku-4x4", "HRMSudokuMini-v0"),
    "hrm-sudoku-6x6": Contestant("hrm", "hrm-sudoku-6x6", "HRMSudokuMini-v0", {"box": (2, 3)}),
    "hrm-sudoku-9x9": Contestant("hrm", "hrm-sudoku-9x9", "HRMSudoku-v0", {"difficulty": "hard", **NINE}),
    "hrm-arc-12x12": Contestant("hrm", "hrm-arc-12x12", "HRMARCMini-v0", ARC),
    "hrm-maze-10x10-move": Contestant("hrm", "hrm-maze-10x10", "HRMMaze-v0", {"action_mode": "move"}, 20),
    "hrm-sudoku-4x4-cell": Contestant("hrm", "hrm-sudoku-4x4", "HRMSudokuMini-v0", {"action_mode": "cell"}, 20),
    **{
        f"hrm-maze-10x10-{rule}": Contestant(
            "hrm", "hrm-maze-10x10", "HRMMaze-v0", puzzles=20, settings={"halting": rule}
        )
        for rule in ("fixed:3", "confidence:0.99", "stable:2", "q,stable:2", "never")
    },
    "hrm-maze-10x10-restart": Contestant(
        "hrm", "hrm-maze-10x10", "HRMMaze-v0", {"max_segments": 32}, 20, settings={"restart": 4, "check": True}
    ),
    "hrm-vote-maze": Contestant(
        "hrm-vote", "hrm-maze-any-size", "HRMMaze-v0", {"size": 16, "source": "generate"}, 10, 5
    ),
    "hrm-first-maze": Contestant(
        "hrm-first", "hrm-maze-any-size", "HRMMaze-v0", {"size": 16, "source": "generate"}, 10, 5
    ),
    "hrm-vote-sudoku": Contestant("hrm-vote", "hrm-sudoku-9x9", "HRMSudokuExtreme-v0", NINE, 10, 2),
    "hrm-first-sudoku": Contestant("hrm-first", "hrm-sudoku-6x6", "HRMSudokuMini-v0", {"box": (2, 3)}, 10, 5),
    "hrm-vote-arc": Contestant("hrm-vote", "hrm-arc-12x12", "HRMARCMini-v0", ARC, 10, 2),
    "hrm-search-sudoku": Contestant("hrm-search", "hrm-sudoku-9x9", "HRMSudokuExtreme-v0", NINE, 10, 5),
    "hrm-adapt-arc": Contestant(
        "hrm-adapt", "hrm-arc-12x12", "HRMARCMini-v0", ARC, 2, 1, {"updates": 4, "lr": 1e-3, **PLAIN}
    ),
    **{
        f"{kind}-maze-10x10": Contestant(kind, f"{kind}-maze-10x10", "HRMMaze-v0", {"action_mode": "move"})
        for kind in ("ppo", "maskableppo", "dqn")
    },
    **{
        f"{kind}-sudoku-4x4": Contestant(kind, f"{kind}-sudoku-4x4", "HRMSudokuMini-v0", {"action_mode": "cell"})
        for kind in ("ppo", "maskableppo", "a2c", "dqn")
    },
    **{
        f"{kind}-sudoku-9x9": Contestant(kind, f"{kind}-sudoku-9x9", "HRMSudoku-v0", LEGAL)
        for kind in ("ppo", "maskableppo", "dqn")
    },
    "supervised-sudoku-4x4": Contestant("sb3", "supervised-sudoku-4x4", "HRMSudokuMini-v0"),
    **{
        f"{agent}-{name}": Contestant(agent, "", env_id, arguments)
        for agent in ("random", "oracle")
        for name, env_id, arguments in (
            ("maze", "HRMMaze-v0", {}),
            ("maze-cell", "HRMMaze-v0", {"action_mode": "cell"}),
            ("maze-move", "HRMMaze-v0", {"action_mode": "move"}),
            ("maze-hard", "HRMMazeHard-v0", {}),
            ("sudoku", "HRMSudoku-v0", {}),
            ("sudoku-cell", "HRMSudokuMini-v0", {"action_mode": "cell"}),
            ("sudoku-extreme", "HRMSudokuExtreme-v0", {}),
            ("arc", "HRMARCMini-v0", {}),
        )
    },
    "stored-sudoku": Contestant("stored", "", "HRMSudoku-v0"),
    "stored-maze-move": Contestant("stored", "", "HRMMaze-v0", {"action_mode": "move"}),
    **{
        f"halting-{rule}-{bank}": Contestant(f"halting:{rule}", "", "HRMHalting-v0", {"bank": f"hrm-{bank}"})
        for rule in ("q", "fixed", "confidence", "oracle")
        for bank in ("maze", "sudoku", "arc")
    },
}


def verdict_of(info: dict[str, Any]) -> str:
    """One letter: E solved and exact, S solved otherwise, R start and goal connected, x none of these."""
    return "E" if info["solved"] and info["exact"] else "S" if info["solved"] else "R" if info.get("reached") else "x"


def play_chunk(agent: Any, envs: list[Any], first: int) -> tuple[list[str], list[str], str, str]:
    """Play one puzzle an environment, as a batch that boards leave; rows, segments spent, hashes of answers, thoughts.

    Board k plays puzzle 0 of seed SEED + k, `first` being the number of the first board.
    """
    observations = [env.reset(seed=SEED + first + row)[0] for row, env in enumerate(envs)]
    live, steps = np.arange(len(envs)), 0
    rows, spent, last = [""] * len(envs), [NONE] * len(envs), [observations[0]] * len(envs)
    state, thoughts = None, hashlib.sha256()
    while len(live):
        seen = [observations[row] for row in live]
        batch = (
            {key: np.stack([one[key] for one in seen]) for key in seen[0]}
            if isinstance(seen[0], dict)
            else np.stack(seen)
        )
        if not steps:
            show_puzzles(agent, envs)
        actions, state = agent.predict(batch, state, episode_start=np.full(len(live), steps == 0), deterministic=True)
        segments = spent_by(agent)
        if hasattr(agent, "thoughts"):
            feed_hash(thoughts, thoughts_of(agent))
        steps += 1
        stays = np.ones(len(live), dtype=bool)
        for place, row in enumerate(live):
            observations[row], _, terminated, truncated, info = envs[row].step(actions[place])
            if terminated or truncated:
                stays[place] = False
                rows[row], last[row] = f"{verdict_of(info)}{steps}", observations[row]
                spent[row] = NONE if segments is None else str(segments[place])
        if not stays.all():
            state = None if state is None else state[np.flatnonzero(stays)]
            live = live[stays]
    answers = [one["answer"] if isinstance(one, dict) else one for one in last]
    return rows, spent, digest(answers), thoughts.hexdigest()[:DIGITS]


def agent_entry(contestant: Contestant, small: bool) -> Entry:
    """Puzzle by puzzle what an agent comes to: a letter (see `verdict_of`) and the number of its actions."""
    envs = [contestant.make_env() for _ in range(min(contestant.chunk, contestant.puzzles))]
    agent = contestant.make_agent(envs[0])
    found: dict[str, list[str]] = {"rows": [], "spent": [], "answers": [], "thoughts": []}
    for first in range(0, contestant.puzzles, contestant.chunk):
        rows, spent, answers, thoughts = play_chunk(agent, envs[: contestant.puzzles - first], first)
        found["rows"] += rows
        found["spent"] += spent
        found["answers"].append(answers)
        found["thoughts"].append(thoughts)
        if small:
            break
    if set(found["spent"]) == {NONE}:
        del found["spent"], found["thoughts"]
    weights = {"weights": file_hash(weights_file(weights_folder() / contestant.folder))} if contestant.folder else {}
    return {**weights, **{name: " ".join(value) for name, value in found.items()}}


def rollout_entry(contestant: Contestant, small: bool) -> Entry:
    """The package's own rollout: which puzzle is number k, boards that take the next puzzle, returns."""
    agent = contestant.make_agent(contestant.make_env())
    episodes = sorted(library_rollout(contestant.make_env, agent, 12, 4, SEED), key=lambda episode: episode.index)
    rows = []
    for one in episodes:
        letter = verdict_of({"solved": one.solved, "exact": one.exact, "reached": one.reached})
        rows.append(f"{letter}{one.steps}/{one.segments}")
    weights = {"weights": file_hash(weights_file(weights_folder() / contestant.folder))} if contestant.folder else {}
    returns = digest([float(one.total_return) for one in episodes])
    return {
        **weights,
        "rows": " ".join(rows),
        "returns": returns,
        "puzzles": digest([one.puzzle.clues for one in episodes]),
    }


def alone_entry(contestant: Contestant, small: bool) -> Entry:
    """The README's loop: one environment, one observation at a time."""
    env = contestant.make_env()
    agent, rows = contestant.make_agent(env), []
    for number in range(10):
        observation, info = env.reset(seed=SEED + number)
        ended, state, steps = False, None, 0
        while not ended:
            action, state = agent.predict(observation, state)
            observation, _, terminated, truncated, info = env.step(action)
            ended, steps = terminated or truncated, steps + 1
        rows.append(f"{verdict_of(info)}{steps}")
    return {"weights": file_hash(weights_file(weights_folder() / contestant.folder)), "rows": " ".join(rows)}


def file_hash(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:DIGITS]


def agent_entries() -> Iterator[tuple[str, Callable[[bool], Entry]]]:
    """Names and makers of the entries of part "agents"."""
    for name, contestant in CONTESTANTS.items():
        yield f"agents/{name}", functools.partial(agent_entry, contestant)
    for name in ("hrm-maze-10x10", "hrm-arc-12x12", "ppo-maze-10x10", "oracle-maze"):
        yield f"agents/{name}/rollout", functools.partial(rollout_entry, CONTESTANTS[name])
    for name in ("hrm-maze-10x10", "hrm-sudoku-4x4", "maskableppo-sudoku-4x4"):
        yield f"agents/{name}/alone", functools.partial(alone_entry, CONTESTANTS[name])


# ---- part "training" ----

QUICK = "--updates 20 --eval-puzzles 16 --test-puzzles 16 --eval-every 20 --checkpoint-every 1000 --device cpu"
NARROW = "--puzzles 16 --batch-size 4 --model.hidden-size 32 --model.max-segments 4 --no-compile"
HRM_RUNS = {
    "attention": "sudoku-4x4 --batch-size 16 --no-compile",
    "attention-maze": "maze --size 6 --batch-size 8 --no-compile",
    "attention-routine": "sudoku-4x4 --batch-size 16",
    "mlp": f"sudoku-extreme-1k-trm-mlp {NARROW} --model.h-cycles 2 --model.l-cycles 3",
    "symbols": "sudoku --batch-size 4 --no-compile",
    "colours": "arc-colours --batch-size 4 --no-compile",
    "convolution": "maze-any-size-8 --batch-size 8 --no-compile",
    "shared-levels": f"sudoku-extreme-1k-trm-att {NARROW} --model.heads 2 --model.h-cycles 2 --model.l-cycles 3",
    "one-level": "maze-recurrent --size 6 --batch-size 8 --no-compile",
    "direct": "maze-direct --size 6 --batch-size 8 --no-compile",
    "paper": f"sudoku-extreme-1k {NARROW} --model.heads 2",
}
RL_QUICK = "--eval-puzzles 8 --eval-every 100000 --checkpoint-every 100000 --device cpu"
ON_POLICY = "--size 5 --envs 8 --n-steps 8 --timesteps 1280 --model.hidden 16 --model.iterations 4"
RL_RUNS = {
    "ppo": f"maze --max-steps 32 {ON_POLICY} --batch-size 32 --n-epochs 1",
    "maskableppo": f"maze-maskableppo --max-steps 32 {ON_POLICY} --batch-size 32 --n-epochs 1",
    "a2c": f"maze-a2c {ON_POLICY}",
    "dqn": "maze-dqn --max-steps 32 --size 5 --envs 8 --timesteps 640 --model.hidden 16 --model.iterations 4 "
    "--learning-starts 320 --batch-size 16 --n-steps 2 --gradient-steps 1 --buffer-size 1000 --target-every 100",
    "supervised": "sudoku-4x4-supervised --timesteps 320 --batch-size 16",
    "hrm-policy": "sudoku-4x4-hrm-maskableppo --envs 4 --n-steps 4 --timesteps 64 --batch-size 8 --n-epochs 1",
    "cell-grid": "sudoku-4x4-ppo --envs 8 --n-steps 8 --timesteps 640 --batch-size 32 --n-epochs 1",
}
HALTING_RUNS = {
    "halting-dqn": "halting learn --agent dqn --steps 5120",
    "halting-ppo": "halting learn --agent ppo --steps 16384",
}
QUIET = {"seconds", "processor_seconds", "samples_per_second", "torch", "versions", "created", "command"}
"""Keys of a run's files that are timings or say where and when it ran."""


def run_entry(arguments: list[str], model: str, small: bool) -> Entry:
    """Hashes of the weights that a training command writes, its settings, and its last evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        run_silently([*arguments, "--out", folder + "/run", "--threads", "1"])
        run = Path(folder) / "run"
        tensors = tensors_of(weights_file(run / model))
        state = state_file(run)
        inside = {} if state is None else tensors_of(state)
        about = json.loads((run / model / "config.json").read_text())
        curve = run / "curve.jsonl"
        last = json.loads(curve.read_text().splitlines()[-1]) if curve.exists() else {}
    learnt = {name: tensor for name, tensor in inside.items() if name.startswith("model.")}
    return {
        "values": digest(tensors),
        "tensors": digest(sorted(digest(tensor) for tensor in tensors.values())),
        "names": digest(sorted(tensors)),
        **({"float32": digest(learnt)} if learnt else {}),
        **({"state": digest(sorted(map(digest, inside.values())))} if inside else {}),
        "curve": {name: value for name, value in last.items() if name not in QUIET},
        "settings": about.get("recipe", {}),
    }


def run_silently(arguments: list[str]) -> None:
    """Run a command; RuntimeError with what it printed if it fails."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        code = run_command(arguments)
    if code:
        raise RuntimeError(f"{' '.join(arguments)}: exit code {code}\n{told.getvalue()}")


def tensors_of(path: Path) -> dict[str, list[Any]]:
    """The tensors of a safetensors file by name: dtype, shape, and bytes as an array."""
    import torch
    from safetensors.torch import load_file

    return {
        name: [str(tensor.dtype), list(tensor.shape), tensor.contiguous().flatten().view(torch.uint8).numpy()]
        for name, tensor in load_file(path).items()
    }


def training_entries() -> Iterator[tuple[str, Callable[[bool], Entry]]]:
    """Names and makers of the entries of part "training"."""
    for name, line in HRM_RUNS.items():
        yield f"training/{name}", functools.partial(run_entry, ["train", *line.split(), *QUICK.split()], "model")
    for name, line in RL_RUNS.items():
        yield f"training/{name}", functools.partial(run_entry, ["train-rl", *line.split(), *RL_QUICK.split()], "model")
    for name, line in HALTING_RUNS.items():
        yield f"training/{name}", functools.partial(run_entry, line.split(), "")


# ---- part "commands" ----


def bank_entry(env: str, folder: str, small: bool) -> Entry:
    """The arrays of a bank of recorded segments."""
    with tempfile.TemporaryDirectory() as place:
        arguments = f"--env {env} --agent hrm={weights_folder() / folder} --puzzles 24 --max-segments 6 --batch 12"
        arguments += f" --split {old_split(env, 'test')}"
        run_silently(["halting", "bank", "build", *arguments.split(), "--device", "cpu", "--out", f"{place}/bank.npz"])
        with np.load(f"{place}/bank.npz") as content:
            arrays = {name: digest(content[name]) for name in content if name != "about"}
    return {"weights": file_hash(weights_file(weights_folder() / folder)), **arrays}


TIMINGS = ("agent", "ms_per_puzzle", "puzzles", "command", "date")
"""What a row of `solve --json` says of when and how it was made."""


def solve_entry(env: str, folder: str, small: bool) -> Entry:
    """The figures of `solve`, an agent a field, without the timings."""
    with tempfile.TemporaryDirectory() as place:
        agents = ["--agent", f"hrm={weights_folder() / folder}", "random", "oracle"]
        run_silently(
            [
                "solve",
                env,
                *agents,
                "--split",
                "held-out",
                "--episodes",
                "20",
                "--seed",
                "3",
                "--json",
                f"{place}/scores.json",
            ]
        )
        rows = json.loads(Path(f"{place}/scores.json").read_text())
    kept = [{name: value for name, value in row.items() if name not in TIMINGS} for row in rows]
    names = ("hrm", "random", "oracle")
    weights = file_hash(weights_file(weights_folder() / folder))
    return {"weights": weights, **dict(zip(names, kept, strict=True))}


def data_entry(arguments: str, small: bool) -> Entry:
    """The arrays of a data set in the official layout."""
    with tempfile.TemporaryDirectory() as place:
        run_silently(["data", "build", *arguments.split(), "--out", f"{place}/data"])
        files = sorted(Path(place).glob("data/*/*.npy"))
        return {f"{file.parent.name}.{file.stem}": digest(np.load(file)) for file in files}


DATA = {
    "maze": "maze --train 20 --test 10 --aug 7",
    "sudoku": "sudoku --train 20 --test 10 --aug 3 --difficulty medium",
}


def command_entries() -> Iterator[tuple[str, Callable[[bool], Entry]]]:
    """Names and makers of the entries of part "commands"."""
    for kind, arguments in DATA.items():
        yield f"commands/data/{kind}", functools.partial(data_entry, arguments)
    for env, folder in (("HRMMaze-v0", "hrm-maze-10x10"), ("HRMSudokuMini-v0", "hrm-sudoku-4x4")):
        yield f"commands/bank/{folder}", functools.partial(bank_entry, env, folder)
        yield f"commands/solve/{folder}", functools.partial(solve_entry, env, folder)


# ---- all entries, machine, comparison ----


@functools.cache
def entries() -> dict[str, Callable[[bool], Entry]]:
    """The maker of every entry; it takes whether the scaled form is wanted, whose hashes begin the whole one's."""
    parts = (
        env_entries(),
        puzzle_entries(),
        render_entries("text", "ansi"),
        render_entries("pictures", "rgb_array"),
        agent_entries(),
        training_entries(),
        command_entries(),
    )
    return {name: maker for part in parts for name, maker in part}


def make_entry(name: str, small: bool = False) -> Entry:
    """One entry, with one thread."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found: Entry = json.loads(json.dumps(entries()[name](small)))
    finally:
        torch.set_num_threads(threads)
    return found


def machine() -> dict[str, str]:
    """What the bits of floating-point results and of pictures depend on."""
    import pygame
    import torch

    about = Path("/proc/cpuinfo")
    text = about.read_text() if about.exists() else ""
    found = {
        key: (re.search(rf"^{key}\s*: (.*)$", text, re.M) or ["", "?"])[1]
        for key in ("model name", "cpu family", "model")
    }
    flags = set((re.search(r"^flags\s*: (.*)$", text, re.M) or ["", ""])[1].split())
    vector = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    processor = f"{found['model name']}, family {found['cpu family']}, model {found['model']}, {' '.join(vector)}"
    return {
        "processor": processor if text else platform.processor(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pygame": pygame.version.ver,
    }


def strays() -> list[str]:
    """Modules of the package that were loaded from another place than its top.

    With an editable install of one checkout and another one on PYTHONPATH, parts can come from the wrong checkout.
    """
    top = Path(hrm_gym.__file__).resolve().parents[1]
    files = {name: module.__file__ for name, module in list(sys.modules.items()) if name.partition(".")[0] == "hrm_gym"}
    return [f"{name} from {file}" for name, file in files.items() if file and top not in Path(file).resolve().parents]


def other_machine(name: str, recorded: dict[str, str]) -> str:
    """Why an entry's bits cannot be compared here; "" if they can. Entries of integers alone always can."""
    now = machine()
    keys = {"training": ("processor", "torch"), "pictures": ("pygame",)}.get(name.split("/")[0], ())
    if is_neural(name):
        keys = ("processor", "torch")
    return "; ".join(f"{key}: recorded {recorded[key]}, here {now[key]}" for key in keys if recorded[key] != now[key])


def is_neural(name: str) -> bool:
    """Whether an entry is what a network does: on another processor a few of its puzzles may come out otherwise."""
    part, _, rest = name.partition("/")
    if part == "commands":
        return not rest.startswith("data")
    return part == "agents" and not rest.startswith(("random", "oracle", "stored", "halting"))


def has_verdicts(name: str) -> bool:
    """Whether something of an entry can be compared on another machine: the rows of a network's agent."""
    return is_neural(name) and name.startswith("agents/")


def tell_apart(expected: Any, found: Any, prefix: bool) -> str:
    """How two fields differ, "" if they do not; with `prefix` what was found need only begin what was expected."""
    if not isinstance(expected, str) or not isinstance(found, str):
        if isinstance(expected, dict) and isinstance(found, dict):
            keys = sorted(set(found) if prefix else set(expected) | set(found))
            parts = [f"{k}: {expected.get(k)!r} -> {found.get(k)!r}" for k in keys if expected.get(k) != found.get(k)]
            return ", ".join(parts)
        return "" if expected == found else f"{expected!r} -> {found!r}"
    before, after = expected.split(), found.split()
    if prefix:
        before = before[: len(after)]
    if before == after:
        return ""
    if len(before) != len(after) or len(before) == 1:
        return f"{' '.join(before)} -> {' '.join(after)}"
    places = [k for k, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]]
    shown = ", ".join(f"{before[k]} -> {after[k]}" for k in places[:8])
    return f"{len(places)} of {len(before)} differ, at {places[:8]}: {shown}"


def differences(name: str, expected: Entry, found: Entry, small: bool, recorded: dict[str, str]) -> list[str]:
    """Each difference of an entry as a line.

    On another processor or version of PyTorch only the verdicts of an agent are compared, and one in ten may differ.
    """
    if expected.get("weights") != found.get("weights"):
        return [f"{name}: weights changed: {expected.get('weights')} -> {found.get('weights')}; nothing was compared"]
    if other_machine(name, recorded):
        if not has_verdicts(name):
            return []
        before, after = (entry["rows"].split() for entry in (expected, found))
        wrong = sum(a[0] != b[0] for a, b in zip(before, after, strict=False))
        return [f"{name}: {wrong} of {len(after)} verdicts differ"] if wrong > max(1, len(after) // 10) else []
    told = []
    for key in sorted((expected.keys() | found.keys()) - {"settings"}):
        if key not in found and small and (key == "ends" or expected[key].split()[:1] == [NONE]):
            continue
        if key not in found or key not in expected:
            told.append(f"{name}: {key}: {'new field' if key in found else 'missing field'}")
            continue
        difference = tell_apart(expected[key], found[key], small)
        if difference:
            told.append(f"{name}: {key}: {difference}")
    changed = tell_apart(expected.get("settings", {}), found.get("settings", {}), False)
    return [*told, f"{name}: its settings too: {changed}"] if told and changed else told


def chosen(patterns: Iterable[str]) -> list[str]:
    """The entries whose names are, begin with, or match one of the patterns; all without a pattern.

    Raises:
        SystemExit: a pattern fits no entry.
    """
    patterns, names = list(patterns), list(entries())
    if not patterns:
        return names
    fits = {
        pattern: {n for n in names if n == pattern or n.startswith(f"{pattern}/") or fnmatch.fnmatch(n, pattern)}
        for pattern in patterns
    }
    for pattern, found in fits.items():
        if not found:
            sys.exit(f"expected the name of an entry or a pattern, got {pattern!r}")
    return [name for name in names if any(name in found for found in fits.values())]


def read(path: Path = HOUSE) -> dict[str, Any]:
    """A recorded file."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def write(content: dict[str, Any], path: Path) -> None:
    """Write a record: an entry's fields a line each, sorted, so that a difference of two files can be read."""
    content = {"machine": content["machine"], "entries": dict(sorted(content["entries"].items()))}
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def main() -> int:
    """The command line; 1 if a comparison found differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="record to this file; with --only, into the entries that it has")
    parser.add_argument("--check", action="store_true", help="compare with the recorded file and print each difference")
    parser.add_argument("--against", type=Path, default=HOUSE, help="the recorded file (default: %(default)s)")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="parts, entries or patterns")
    parser.add_argument("--small", action="store_true", help="with --check: a scaled form, which takes half a minute")
    parser.add_argument("--reverse", action="store_true", help="make the entries in the opposite order")
    parser.add_argument("--list", action="store_true", help="print the names of all entries")
    options = parser.parse_args()
    names = chosen(options.only)
    if options.list:
        print("\n".join(names))
        return 0
    if options.out is None and not options.check:
        parser.error("expected --out FILE, --check or --list")
    print(f"hrm_gym from {Path(hrm_gym.__file__).parent}", file=sys.stderr)
    made, lost, seconds = {}, [], {}
    for name in reversed(names) if options.reverse else names:
        begun = time.perf_counter()
        try:
            made[name] = make_entry(name, options.small and options.check)
        except Exception as error:
            if not options.check:
                raise
            lost.append(f"{name}: cannot be made: {type(error).__name__}: {error}")
        seconds[name] = time.perf_counter() - begun
        print(f"{seconds[name]:7.2f} s  {name}", file=sys.stderr, flush=True)
    if strays():
        sys.exit(f"expected all of hrm_gym from one checkout, got {Path(hrm_gym.__file__).parent} and {strays()[0]}")
    for part in dict.fromkeys(name.split("/")[0] for name in names):
        total = sum(took for name, took in seconds.items() if name.split("/")[0] == part)
        print(f"{total:7.1f} s  all of {part}", file=sys.stderr)
    if options.out is not None:
        kept = read(options.out)["entries"] if options.only and options.out.exists() else {}
        write({"machine": machine(), "entries": {**kept, **made}}, options.out)
    if not options.check:
        return 0
    return report(made, lost, read(options.against), options)


def report(made: dict[str, Entry], lost: list[str], house: dict[str, Any], options: argparse.Namespace) -> int:
    """Print every difference from a recorded file; 1 if there is one."""
    told = list(lost)
    for name, found in made.items():
        if name not in house["entries"]:
            told.append(f"{name}: not in the recorded file")
            continue
        told += differences(name, house["entries"][name], found, options.small, house["machine"])
        reason = other_machine(name, house["machine"])
        if reason:
            print(f"{name}: bits not compared ({reason})")
    if not options.only:
        told += [f"{name}: recorded, and made no more" for name in sorted(house["entries"].keys() - entries().keys())]
    print("\n".join(told) if told else f"{len(made)} entries, no difference")
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
