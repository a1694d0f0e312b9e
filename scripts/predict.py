"""`hrm-gym predict`: answers to ARC tasks whose outputs nobody knows, as the ARC Prize takes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
import tyro

from hrm_gym.agents.agent import Agent
from hrm_gym.envs.arc.tasks import Task, read_tasks, unanswered_puzzle
from hrm_gym.envs.arc.tokens import crop
from hrm_gym.envs.puzzle import Puzzle
from hrm_gym.evaluation.compare.plan import Label, agent_for
from hrm_gym.evaluation.scores import wilson
from hrm_gym.files import check_writable, write_atomically
from hrm_gym.registry import read_env
from hrm_gym.scripts.options import parse, say, with_progress

HELP = """usage: hrm-gym predict PATH --out submission.json [options]

Answer the test grids of ARC tasks, with two attempts each, in the format of the ARC Prize:
{"TASK": [{"attempt_1": grid, "attempt_2": grid}, one a test grid], ...}. Known outputs are never shown to the
agent; where there are some, the share that is right is printed.

PATH: a folder of JSON files, one a task, or one JSON file such as arc-agi_test_challenges.json.

examples:
  hrm-gym predict tasks/ --out submission.json
  hrm-gym predict arc-agi_test_challenges.json --agent hrm-adapt --votes 8 --adapt 50 --out submission.json
  hrm-gym predict tasks/ --env HRMARC2-v0 --agent hrm=my-weights --out submission.json
"""
NO_ANSWER = [[0, 0], [0, 0]]
"""What stands for a grid that no answer was found for, as in the sample of the ARC Prize."""


@dataclass(frozen=True)
class PredictConfig:
    """Answer ARC tasks.

    Attributes:
        path: A folder of tasks, or a JSON file.
        out: The file to write.
        agent: NAME or NAME=WEIGHTS, e.g. hrm, hrm-vote, hrm-adapt.
        env: The environment whose boards the agent plays; grids that do not fit them get no answer.
        votes: Symmetric images of each task that vote, for hrm-vote and hrm-adapt.
        adapt: Updates in which hrm-adapt learns each task.
        max_segments: Segments after which an answer is forced.
    """

    path: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PATH")]
    out: Path
    agent: str = "hrm"
    env: str = "HRMARCMini-v0"
    votes: int | None = None
    adapt: int | None = None
    max_segments: int | None = None


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym predict`; returns 0, and raises ValueError or OSError for what is bad."""
    if argv and argv[0] in ("-h", "--help"):
        print(HELP)
    config = parse(PredictConfig, "hrm-gym predict", argv)
    for name in ("votes", "adapt", "max_segments"):
        if (value := getattr(config, name)) is not None and value < 1:
            raise ValueError(f"expected --{name.replace('_', '-')} of at least 1, got {value}")
    check_writable(config.out)
    tasks = [task for part in read_tasks(config.path).splits.values() for task in part]
    env_id, options = read_env(config.env)
    if config.max_segments is not None:
        options["max_segments"] = config.max_segments
    env = gym.make(env_id, disable_env_checker=True, **options)
    world: Any = env.unwrapped
    if world.family.name != "arc":
        raise ValueError(f"expected an ARC environment as --env, got {config.env}")
    label = Label.parse(config.agent)
    given: dict[str, Any] = {"votes": config.votes, "updates": config.adapt, "weights": "+".join(label.weights) or None}
    given = {name: value for name, value in given.items() if value is not None}
    agent = agent_for(label.name, lambda mode: env, ("answer",), **given)
    submission = {task.name: [[NO_ANSWER, NO_ANSWER] for _ in task.asked] for task in tasks}
    numbers = {name: at for at, name in enumerate(getattr(world.puzzle_source, "task_names", ()), 1)}
    puzzles = [
        (task.name, test, unanswered_puzzle(task, test, world.family.canvas, numbers.get(task.name, 0)))
        for task in tasks
        for test in range(len(task.asked))
    ]
    for name, test, puzzle in with_progress(puzzles, len(puzzles), agent.name, " grids"):
        if puzzle is not None:
            submission[name][test] = attempts(env, agent, puzzle)
    written = {
        name: [{"attempt_1": first, "attempt_2": second} for first, second in grids]
        for name, grids in submission.items()
    }
    write_atomically(config.out, json.dumps(written))
    left = sum(puzzle is None for _, _, puzzle in puzzles)
    say(f"{config.out}: {len(puzzles)} test grids of {len(tasks)} tasks, by {agent.name}")
    if left:
        say(f"no answer to {left} that do not fit {world.family.canvas}x{world.family.canvas} cells")
    _print_known(tasks, submission)
    return 0


def attempts(env: gym.Env[Any, Any], agent: Agent, puzzle: Puzzle) -> list[list[list[int]]]:
    """The agent's two answers to a puzzle whose stored solution no answer is equal to."""
    observation, _ = env.reset(options={"puzzle": puzzle})
    found: list[list[list[int]]] = []
    state, ended = None, False
    while not ended:
        attempt = int(observation["attempt"].item())
        action, state = agent.predict(observation, state)
        observation, _, terminated, truncated, _ = env.step(action)
        ended = terminated or truncated
        if ended or int(observation["attempt"].item()) != attempt:
            board = np.asarray(action[:-1], dtype=np.uint8).reshape(puzzle.shape)
            found.append(crop(board).tolist() or NO_ANSWER)
    return [*found, found[-1]][:2]


def _print_known(tasks: Sequence[Task], submission: dict[str, list[list[list[list[int]]]]]) -> None:
    """The share of right answers, where outputs are known."""
    known = [
        output.tolist() in submission[task.name][test]
        for task in tasks
        for test, (_, output) in zip(task.numbers, task.test, strict=True)
    ]
    if known:
        low, high = wilson(sum(known), len(known))
        share = sum(known) / len(known)
        say(f"of {len(known)} with a known output {sum(known)} are right: {share:.1%} ({low:.1%} to {high:.1%})")
