"""Solving for `hrm-gym bench`: bundled HRMs with real halting next to a fixed budget, and what either gets right."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Any

import gymnasium as gym
import numpy as np
import torch

import hrm_gym
from hrm_gym.agents.hrm import thinking
from hrm_gym.agents.hrm.agent import Boards, HRMAgent
from hrm_gym.agents.hrm.analysis.segments import halting_segments, joined, right_at, think_through
from hrm_gym.agents.hrm.halting import Halting, parse_halting
from hrm_gym.data.stream import stream_keys
from hrm_gym.scripts.bench.timing import Contest, Turn

BATCH = 64
POOL = 512
"""Puzzles whose solutions are counted."""

BUDGET = 16
SEED = 2026
RULES = ("never", "q", "stable:1", "stable:2")


def solving() -> Contest:
    """Puzzles solved a second, batch after batch; a board that halts leaves its batch."""
    hrm_gym.register_environments()
    torch.set_num_threads(1)
    world: Any = gym.make("HRMMaze-v0", source="generate", split="test", disable_env_checker=True).unwrapped
    agent: Any = hrm_gym.make_agent("hrm", world, max_segments=BUDGET, device="cpu")
    puzzles = world.puzzle_source.batch(stream_keys(SEED, 0, POOL))
    rules = {text: parse_halting(text, agent.model.config) for text in RULES}
    right = joined(list(think_through(agent, [puzzles[k] for k in range(POOL)], BUDGET, BATCH)))
    turns: dict[str, Turn] = {}
    for text, rule in rules.items():
        used = halting_segments(rule, right, BUDGET)
        share = right_at(right, used).mean()
        what = f"fixed {BUDGET} segments" if text == "never" else text
        turns[f"{what}: {share:.1%} right, {used.mean():.2f} segments"] = batches(agent, puzzles.clues, rule)
    title = f"solving: 10x10 mazes a second, batches of {BATCH}; of {POOL} mazes that many are right"
    return Contest(title, turns, next(iter(turns)))


def batches(agent: HRMAgent, clues: np.ndarray[Any, np.dtype[np.uint8]], rule: Halting) -> Turn:
    """A turn of whole batches, taken in order from (N, H, W) puzzles."""
    waiting = cycle(_boards(agent, clues))

    def turn(seconds: float) -> float:
        count, begin = 0, time.perf_counter()
        while count == 0 or time.perf_counter() - begin < seconds:
            inputs, ids, free = next(waiting)
            thinking.solve(agent.model, inputs, ids, BUDGET, rule, free)
            count += BATCH
        return count / (time.perf_counter() - begin)

    return turn


def _boards(agent: HRMAgent, clues: np.ndarray[Any, np.dtype[np.uint8]]) -> Iterator[Boards]:
    """The batches that a turn takes."""
    for first in range(0, len(clues), BATCH):
        yield agent.boards(clues[first : first + BATCH])


# ---- evaluations ----

LIMIT = 64
MIXED = ("easy", "extreme")


def evaluation() -> Contest:
    """9x9 Sudokus a second, half easy and half extreme: both figures of an evaluation, and the own decision alone."""
    hrm_gym.register_environments()
    torch.set_num_threads(1)
    worlds: list[Any] = [
        gym.make("HRMSudoku-v0", difficulty=name, disable_env_checker=True).unwrapped for name in MIXED
    ]
    agent: Any = hrm_gym.make_agent("hrm", worlds[0], device="cpu")
    keys = stream_keys(SEED, 0, BATCH // len(MIXED))
    clues = np.concatenate([world.puzzle_source.batch(keys).clues for world in worlds])
    boards, model = agent.boards(clues), agent.model

    def turn(run: Callable[[], Any]) -> Turn:
        def rate(seconds: float) -> float:
            count, begin = 0, time.perf_counter()
            while count == 0 or time.perf_counter() - begin < seconds:
                run()
                count += BATCH
            return count / (time.perf_counter() - begin)

        return rate

    both, own = f"own decision within {LIMIT} and fixed {BUDGET}", f"own decision within {LIMIT} alone"
    every = dict.fromkeys((1, thinking.COMPACT_EVERY, LIMIT))
    turns = {
        f"{both}: nobody leaves": turn(partial(thinking.own_and_fixed, model, boards, LIMIT)),
        f"{both}: halted boards leave after {BUDGET}": turn(
            partial(thinking.own_and_fixed, model, boards, LIMIT, BUDGET)
        ),
        **{
            f"{own}: halted boards leave every {number}": turn(
                partial(thinking.solve, model, boards.inputs, boards.puzzle_ids, LIMIT, every=number)
            )
            for number in every
        },
    }
    segments = thinking.own_and_fixed(model, boards, LIMIT, BUDGET).segments.float().mean()
    title = f"evaluation: 9x9 Sudokus a second, {BATCH} at a time, half easy, half extreme; {segments:.1f} segments"
    return Contest(title, turns, next(iter(turns)))
