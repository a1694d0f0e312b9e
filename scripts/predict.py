"""`hrm-gym predict`: answers to ARC tasks whose outputs nobody knows, as the ARC Prize takes them."""

from __future__ import annotations

import hashlib
import json
import logging
import reprlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
import tyro

from hrm_gym.agents.agent import Agent
from hrm_gym.envs.arc.tasks import read_tasks, unanswered_puzzle
from hrm_gym.envs.arc.tokens import crop, read_grid
from hrm_gym.envs.puzzle import Puzzle
from hrm_gym.evaluation.compare.plan import Entrant, parse_world
from hrm_gym.evaluation.compare.run import agent_key, digest, reseed
from hrm_gym.evaluation.intervals import wilson
from hrm_gym.files import (
    MARKER,
    check_no_link,
    check_ours,
    check_writable,
    delete_folder,
    held,
    sweep,
    write_atomically,
)
from hrm_gym.reading import read_json
from hrm_gym.scripts.options import PanelOptions, RunOptions, arg, parse
from hrm_gym.scripts.output import say, share, with_progress

logger = logging.getLogger(__name__)

Attempts = list[list[list[int]]]
"""The two answers to a grid."""

NO_ANSWER = [[0, 0], [0, 0]]
"""What stands for a grid that no answer was found for, as in the sample of the ARC Prize."""


@dataclass(frozen=True, kw_only=True)
class Predict(RunOptions, PanelOptions):
    """Answer the test grids of ARC tasks, with two attempts each, in the format of the ARC Prize: {"TASK":
    [{"attempt_1": grid, "attempt_2": grid}, one a test grid], ...}. Known outputs are never shown to the agent; where
    there are some, the share that is right is printed. Interrupted, even by kill -9, the same command continues:
    until the end answers are kept in FILE.json.partial.

    Attributes:
        path: A folder of JSON files, one a task, or one JSON file such as arc-agi_test_challenges.json.
        out: The file to write.
        env: The ARC environment whose boards the agent plays; grids that do not fit them get no answer.
    """

    EXAMPLES = (
        "hrm-gym predict tasks/ --out submission.json",
        "hrm-gym predict tasks/ --agent hrm-adapt --compile --out a.json",
        "hrm-gym predict tasks/ --env HRMARC2-v0 --agent hrm=my-weights --out a.json",
    )
    path: Annotated[tyro.conf.Positional[Path], arg("PATH")]
    out: Annotated[Path, arg("FILE.json")]
    env: Annotated[str, arg("ENV", "HRMARCMini-v0")] = "HRMARCMini-v0"


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym predict`; returns 0."""
    config = parse(Predict, "hrm-gym predict", argv)
    config.use_threads()
    out, tasks_at = config.out.resolve(), config.path.resolve()
    if out == tasks_at or (out.exists() and out.parent == tasks_at):
        raise ValueError(f"expected --out elsewhere than the tasks, got {config.out}")
    check_writable(config.out)
    tasks = [task for part in read_tasks(config.path).splits.values() for task in part]
    limit = {} if config.max_segments is None else {"max_segments": config.max_segments}
    found = parse_world(config.env, arguments=limit)
    env = found.make("answer")
    world: Any = env.unwrapped
    if world.family.name != "arc":
        raise ValueError(f"expected an ARC environment as --env, got {config.env}")
    if len(config.agent) > 1:
        raise ValueError(f"expected one --agent, got {', '.join(config.agent)}")
    entrant = config.enter((config.agent or ("hrm",))[0], found)[0]
    agent = entrant.agent
    submission = {task.name: [[NO_ANSWER, NO_ANSWER] for _ in task.asked] for task in tasks}
    numbers = {name: at for at, name in enumerate(getattr(world.puzzle_source, "task_names", ()), 1)}
    puzzles = [
        (task.name, test, unanswered_puzzle(task, test, world.family.canvas, numbers.get(task.name, 0)))
        for task in tasks
        for test in range(len(task.asked))
    ]
    answers = Answers(config.out, env, entrant, {**agent_key(found, entrant), "label": entrant.label.text})
    with held(answers.folder):
        try:
            for name, test, puzzle in with_progress(puzzles, len(puzzles), agent.name, " grids"):
                if puzzle is not None:
                    submission[name][test] = answers.of(puzzle)
        except KeyboardInterrupt:
            say(f"interrupted: the same command continues from {answers.folder}", file=sys.stderr)
            raise
        write_submission(config.out, submission)
        delete_folder(answers.folder)
    left = sum(puzzle is None for _, _, puzzle in puzzles)
    say(f"{config.out}: {len(puzzles)} test grids of {len(tasks)} tasks, by {agent.name}")
    if left:
        say(f"no answer to {left} that do not fit {world.family.canvas}x{world.family.canvas} cells")
    known = [
        output.tolist() in submission[task.name][test]
        for task in tasks
        for test, (_, output) in zip(task.numbers, task.test, strict=True)
    ]
    if known:
        rate = share(sum(known) / len(known), *wilson(sum(known), len(known)))
        say(f"of {len(known)} with a known output {sum(known)} are right: {rate}")
    return 0


def write_submission(path: Path, submission: dict[str, list[Attempts]]) -> None:
    """Write two attempts a test grid in the format of the ARC Prize, atomically."""
    written = {
        name: [{"attempt_1": first, "attempt_2": second} for first, second in grids]
        for name, grids in submission.items()
    }
    write_atomically(path, json.dumps(written))


class Answers:
    """An agent's answers, each in a file as soon as it is found, so that a killed run continues from those.

    A file's name is a hash of all that decides the answer.

    Attributes:
        folder: `<out>.partial`, where they lie.
    """

    def __init__(self, out: Path, env: gym.Env[Any, Any], entrant: Entrant, key: dict[str, Any]) -> None:
        """Make the folder, or take up the one that is there.

        Args:
            out: the submission.
            env: in which the agent plays.
            entrant: the agent.
            key: all that decides answers, whichever the puzzle.

        Raises:
            OSError: if it cannot be made, or holds something else.
        """
        self.folder, self._env, self._entrant, self._key = out.with_name(f"{out.name}.partial"), env, entrant, key
        check_no_link(self.folder)
        if self.folder.exists():
            check_ours(self.folder)
            sweep(self.folder / "parts")
        if there := len(list(self.folder.glob("parts/*.json"))):
            say(f"continuing in {self.folder}: {there} answers are there", file=sys.stderr)
        write_atomically(self.folder / MARKER, "parts/*\n.*.part*\n")

    def of(self, puzzle: Puzzle) -> Attempts:
        """The answers to a puzzle: those that are there, else the agent's, which are kept."""
        shown = hashlib.sha256(puzzle.clues.tobytes())
        for name, values in sorted(puzzle.extras.items()):
            shown.update(f"{name} {values.shape}".encode() + np.ascontiguousarray(values).tobytes())
        name = digest({**self._key, "puzzle": shown.hexdigest(), "shape": puzzle.shape, "puzzle_id": puzzle.puzzle_id})
        path = self.folder / "parts" / f"{name}.json"
        if path.is_file():
            try:
                return read_attempts(path)
            except ValueError as error:
                logger.warning("%s; it is answered again", error)
        reseed(self._entrant, path)
        found = attempts(self._env, self._entrant.agent, puzzle)
        write_atomically(path, json.dumps(found))
        return found


def read_attempts(path: Path) -> Attempts:
    """Two answers to a grid, as they were kept.

    Raises:
        ValueError: if the file is damaged.
    """
    found = read_json(path)
    if not isinstance(found, list) or len(found) != 2:
        raise ValueError(f"{path}: expected two grids, got {reprlib.repr(found)}")
    try:
        return [read_grid(grid).tolist() for grid in found]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def attempts(env: gym.Env[Any, Any], agent: Agent, puzzle: Puzzle) -> Attempts:
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
