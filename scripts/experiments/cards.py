"""The figures of the cards of the bundled weights, measured again: `measured.json` next to each of them.

    python -m hrm_gym.scripts.experiments.cards                       # all; what stands there already is skipped
    python -m hrm_gym.scripts.experiments.cards --only hrm-maze-10x10 --again

New puzzles of the test split, seed 2026; every row names the halting rules in force and begins with the own decision.
`tests/test_numbers.py` compares cards and README with these files. Searches and votes, which take hours, are not here.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import gymnasium as gym
import torch

import hrm_gym
from hrm_gym.agents import pretrained
from hrm_gym.evaluation.compare.plan import as_agent
from hrm_gym.evaluation.rollout import rollout_batched
from hrm_gym.evaluation.scores import score
from hrm_gym.files import write_atomically
from hrm_gym.registry import read_env
from hrm_gym.scripts.main import run
from hrm_gym.scripts.options import parse
from hrm_gym.scripts.output import with_progress

SEED = 2026
FILE = "measured.json"
OWN: dict[str, Any] = {"halting": "q", "check": False, "restart": 0}
FIXED: dict[str, Any] = {"halting": "fixed:16", "check": False, "restart": 0}
MINI, SIX, MAZE = "HRMSudokuMini-v0", "HRMSudokuMini-v0:box=(2,3)", "HRMMaze-v0"
EASY, MEDIUM = (f"HRMSudoku-v0:difficulty={name}" for name in ("easy", "medium"))

Line = tuple[str, str, str, dict[str, Any], int]
"""Agent, action mode, environment, options of the agent, puzzles."""

CARDS: dict[str, list[Line]] = {
    "hrm-maze-10x10": [("hrm", "answer", MAZE, OWN, 1000), ("hrm", "answer", MAZE, FIXED, 200)],
    "hrm-sudoku-4x4": [("hrm", "answer", MINI, OWN, 1000), ("hrm", "answer", MINI, FIXED, 200)],
    "hrm-sudoku-6x6": [("hrm", "answer", SIX, options, 1000) for options in (OWN, FIXED)],
    "hrm-sudoku-9x9": [
        ("hrm", "answer", f"HRMSudoku-v0:difficulty={name},max_segments=64", OWN, 400)
        for name in ("easy", "medium", "hard", "extreme")
    ],
    "hrm-maze-any-size": [
        ("hrm", "answer", f"HRMMaze-v0:size={size},max_segments=64", OWN, 200) for size in (8, 12, 16, 20, 24, 30)
    ],
    **{f"{name}-sudoku-4x4": [(name, "cell", MINI, {}, 1000)] for name in ("ppo", "maskableppo", "a2c", "dqn")},
    "supervised-sudoku-4x4": [("sb3", "answer", MINI, {}, 1000)],
    "ppo-maze-10x10": [("ppo", "move", MAZE, {}, 1000)],
    **{
        f"{name}-maze-10x10": [(name, "move", world, {}, 1000) for world in (MAZE, f"{MAZE}:size=8")]
        for name in ("maskableppo", "dqn")
    },
    **{
        f"{name}-sudoku-9x9": [(name, "cell", world, {}, 400) for world in (EASY, MEDIUM)]
        for name in ("ppo", "maskableppo", "dqn")
    },
}


@dataclass(frozen=True)
class CardsConfig:
    """Measure the bundled weights again.

    Attributes:
        only: Folders of weights; all by default.
        again: Measure too what stands in a file already.
        threads: CPU threads.
    """

    only: tuple[str, ...] = ()
    again: bool = False
    threads: int = 1


def measure(folder: str, line: Line) -> dict[str, Any]:
    """The figures of one line of a card."""
    name, mode, world, options, count = line
    env_id, arguments = read_env(world)
    given = {"source": "generate", "split": "test", "action_mode": mode, **arguments}

    def make() -> gym.Env[Any, Any]:
        return gym.make(env_id, disable_env_checker=True, **given)

    agent = as_agent(hrm_gym.make_agent(name, make(), weights=pretrained.FOLDER / folder, **options), name, mode)
    runs = rollout_batched(make, agent, count, 200, SEED)
    found = score(sorted(with_progress(runs, count, f"{folder}, {world}"), key=lambda episode: episode.index))
    return {**asdict(found), "env": world, "source": "generate", "split": "test", "seed": SEED}


def main(argv: Sequence[str]) -> int:
    """Run the command; returns 0. ValueError for a folder without lines."""
    config = parse(CardsConfig, "cards", argv)
    if unknown := set(config.only) - CARDS.keys():
        raise ValueError(f"expected --only of {', '.join(CARDS)}, got {', '.join(sorted(unknown))}")
    torch.set_num_threads(config.threads)
    for folder in config.only or CARDS:
        path = pretrained.FOLDER / folder / FILE
        if path.is_file() and not config.again:
            continue
        rows = [measure(folder, line) for line in CARDS[folder]]
        about = {
            "command": f"python -m hrm_gym.scripts.experiments.cards --only {folder} --again",
            "date": date.today().isoformat(),
            "machine": f"{platform.machine()}, {config.threads} threads, PyTorch {torch.__version__}",
        }
        write_atomically(path, json.dumps({**about, "rows": rows}, indent=1) + "\n")
        for row in rows:
            shares = "{:.1%} ({:.1%} to {:.1%})".format(*(row[f"solved{end}"] for end in ("", "_low", "_high")))
            print(f"{folder}, {row['env']}, {row['halting_rules']}: {shares}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
