"""Environments in another form: as text (the prompt of an observation, the answer in a reply), and with the mask of
legal actions in the observation."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.puzzle import Grid

MOST_TEXT = 1 << 20
"""Characters of a reply that are read, its last ones."""

_AGAIN = "CONTINUE"

_SHOWN = 8
"""Cells that a prompt names of those that break a rule."""

_FENCE = re.compile(r"^[ \t]*```[^\n`]*$", re.M)
_FORM = (
    "Think as long as you like. Then give the whole answer, a line a row, between two lines "
    "of ```; only the last such block is read. The answer is final, unless a line CONTINUE follows the block: then you "
    "see it again and may correct it (turn {turn} of {turns})."
)


@dataclass(frozen=True, eq=False)
class Reply:
    """What a text answers.

    Attributes:
        answer: (H, W) uint8 token ids; None where no answer could be read.
        final: whether it is to be judged now: a reply with an answer and without CONTINUE.
        error: why there is no answer, what was expected and what came; "" where there is one.
    """

    answer: Grid | None
    final: bool
    error: str = ""


def prompt(
    family: PuzzleFamily, observation: Mapping[str, NDArray[Any]], turn: int, turns: int, error: str = ""
) -> str:
    """One observation of answer mode as printable ASCII: the task, the last answer and what is wrong with it, the form.

    What is said of the last answer is judged from the puzzle alone, never from its solution.

    Args:
        family: the rules.
        observation: of one environment: `puzzle`, `answer`, and what the family shows besides them.
        turn: from 1.
        turns: how many there may be.
        error: why the last reply could not be read.
    """
    parts = [family.task_text(observation)]
    if "attempt" in observation and observation["attempt"][0]:
        parts.append(f"Attempt {observation['attempt'][0] + 1} of {family.attempts}: the one before was wrong.")
    puzzle, shown = observation["puzzle"], observation["answer"]
    if not np.array_equal(shown, family.blank(puzzle)):
        parts.append(f"Your last answer:\n{family.answer_text(shown)}\n{_complaint(family, puzzle, shown)}".rstrip())
    if error:
        parts.append(f"Your last reply could not be read: {error}")
    return "\n\n".join([*parts, _FORM.format(turn=turn, turns=turns)])


def read_reply(family: PuzzleFamily, shape: tuple[int, int], text: str) -> Reply:
    """The answer in a text.

    The last block between two lines of ``` counts; without one, the last lines that look like an answer. Spaces,
    commas and the lines that people draw between boxes are passed over.

    Args:
        family: the rules.
        shape: (H, W) of the board.
        text: anything.
    """
    text = text[-MOST_TEXT:]
    parts = _FENCE.split(text)
    # after an odd number of fences the last part is a block that was cut short
    block, after = (parts[-1], "") if len(parts) % 2 == 0 else (parts[-2] if len(parts) > 1 else text, parts[-1])
    lines = block.splitlines()
    asks = any(line.strip().upper() == _AGAIN for line in (*after.splitlines(), *lines))
    rows = [bare for line in lines if (bare := _bare(line, family.letters)) and bare.upper() != _AGAIN]
    if len(parts) == 1:
        rows = _last_run(rows, family.letters)
    if not rows:
        came = "an empty reply" if not text.strip() else f"{text.strip()[-60:]!a} at the end"
        return Reply(None, False, f"expected an answer between two lines of ```, got {came}")
    try:
        return Reply(family.read_answer(rows, shape), not asks)
    except ValueError as error:
        return Reply(None, False, str(error))


class TextObservation(gym.Wrapper[str, str, Any, Any], gym.utils.RecordConstructorArgs):
    """A puzzle environment in answer mode that speaks text: observations are prompts, actions are replies.

    A reply is one segment. If it holds an answer, that is final, unless a line CONTINUE follows it; then the next
    prompt shows it again, with the cells that break a rule. If it cannot be read, the answer stays as it was, the
    segment is spent, and the next prompt says what was expected and what came. Rewards, ends and info are those of
    the environment; `info["text_error"]` is that message, "" for a reply that was read.

    >>> env = TextObservation(gym.make("HRMSudokuMini-v0"))
    >>> text, _ = env.reset(options={"puzzle": "12.4 3412 2143 4321"})
    >>> print(text.split(chr(10) * 2)[1])
    12.4
    3412
    2143
    4321
    >>> env.step("No idea.")[4]["text_error"]
    "expected an answer between two lines of ```, got 'No idea.' at the end"
    >>> env.step("1234 3412 2143 4321".replace(" ", chr(10)))[1:3]
    (1.0, True)

    Attributes:
        observation_space: `Text` of printable ASCII.
        action_space: the same; other characters are no error.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        """Wrap an environment.

        Raises:
            ValueError: it has no puzzles, or is not in answer mode.
        """
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        world: Any = env.unwrapped
        mode = getattr(world, "action_mode", None)
        if not isinstance(getattr(world, "family", None), PuzzleFamily) or mode != "answer":
            got = type(world).__name__ + (f" in {mode} mode" if mode else "")
            raise ValueError(f"expected an environment of puzzles in answer mode, got {got}")
        self._inner: Any = env  # whose observations are arrays
        self._world = world
        self.observation_space = gym.spaces.Text(MOST_TEXT, charset=string.printable)
        self.action_space = gym.spaces.Text(MOST_TEXT, min_length=0, charset=string.printable)
        self._shown: Grid

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """The prompt of the next puzzle; arguments and errors as those of the environment."""
        observation, info = self._inner.reset(seed=seed, options=options)
        return self._prompt(observation), info

    def step(self, action: str) -> tuple[str, Any, bool, bool, dict[str, Any]]:
        """One reply.

        Raises:
            ValueError: it is no text.
        """
        if not isinstance(action, str):
            raise ValueError(f"expected a reply as text, got {type(action).__name__}")
        reply = read_reply(self._world.family, self._world.shape, action)
        answer = self._shown if reply.answer is None else reply.answer
        given = np.append(answer.ravel(), reply.final).astype(np.int64)
        observation, reward, terminated, truncated, info = self._inner.step(given)
        info = {**info, "text_error": reply.error}
        return self._prompt(observation, reply.error), reward, terminated, truncated, info

    def _prompt(self, observation: Mapping[str, NDArray[Any]], error: str = "") -> str:
        self._shown = observation["answer"]
        turns = self._world.max_steps
        return prompt(self._world.family, observation, turn_of(observation, turns), turns, error)


def turn_of(observation: Mapping[str, NDArray[Any]], turns: int) -> int:
    """The number, from 1 to `turns`, of the turn that follows an observation."""
    return min(round(float(observation["segment"][0]) * turns) + 1, turns)


def _complaint(family: PuzzleFamily, puzzle: Grid, answer: Grid) -> str:
    """What the puzzle alone says against an answer."""
    wrong = np.argwhere(family.violations(puzzle[None], answer[None])[0]) + 1
    if not len(wrong):
        return ""
    cells = ", ".join(f"row {row} column {column}" for row, column in wrong[:_SHOWN].tolist())
    more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return f"It breaks a rule in {len(wrong)} cells: {cells}{more}."


def _bare(line: str, letters: str) -> str:
    """A line without spaces and without what is drawn between cells and boxes."""
    return "".join(letter for letter in line if letter in letters or letter not in " \t|,+-=")


def _last_run(rows: list[str], letters: str) -> list[str]:
    """The last rows, one after the other, that hold nothing but letters."""
    alike = [set(row) <= set(letters) for row in rows]
    last = max((place for place, fits in enumerate(alike) if fits), default=-1)
    first = max((place for place, fits in enumerate(alike[: last + 1]) if not fits), default=-1) + 1
    return rows[first : last + 1]


class MaskObservation(gym.ObservationWrapper[dict[str, Any], Any, Any], gym.utils.RecordConstructorArgs):
    """The mask of legal actions as an entry of the observation, for RL libraries that look for it there.

    Observations gain `action_mask`, (A,) int8, 1 for every action that is legal now.

    Raises:
        ValueError: an environment whose actions are not numbered, as in answer mode.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        if not isinstance(env.action_space, gym.spaces.Discrete):
            raise ValueError(f"expected an environment in cell or move mode, got actions of {env.action_space}")
        shown: Any = env.observation_space
        mask = gym.spaces.MultiBinary(int(env.action_space.n))
        self.observation_space = gym.spaces.Dict({**shown.spaces, "action_mask": mask})

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """The observation with the mask."""
        world: Any = self.unwrapped
        return {**observation, "action_mask": world.action_masks().astype(np.int8)}
