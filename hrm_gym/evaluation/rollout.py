"""The one loop between environments and agents; it yields a record of every puzzle played.

Puzzle k of a run is puzzle k of the seed, or row k of a data file, whoever plays it and on however many boards. Agents
see observations; the package's own `PrivilegedAgent` alone is shown puzzles with their solutions, never a plug-in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from hrm_gym.agents.agent import Agent, PrivilegedAgent
from hrm_gym.envs.puzzle import Grid, Puzzle, Thought, puzzle_key

Env = gym.Env[Any, Any]


@dataclass(frozen=True, eq=False)
class Frame:
    """What the board showed at one moment of an episode.

    Attributes:
        answer: (H, W) uint8, the answer on the board.
        thought: what the agent had in mind when it brought the board there; None at the start and for blind agents.
        reward: the reward of the action that led here.
        last: whether the episode ended here.
    """

    answer: Grid
    thought: Thought | None = None
    reward: float = 0.0
    last: bool = False


Watcher = Callable[[Env, Frame], None]
"""Called with the environment and its newest frame, after every reset and every step."""


@dataclass(frozen=True, eq=False)
class Episode:
    """One puzzle, played to its end.

    Attributes:
        env_id: the registered id, "" for an environment without one.
        agent: name of the agent.
        index: k, for puzzle k of the seed or row k of the file.
        puzzle: the puzzle.
        frames: the board at the start and after every action; empty unless frames were kept.
        solved: right by the rules.
        exact: equal to the stored solution.
        cell_accuracy: share of right cells among those that were not given, in [0, 1].
        segments: segments used over all attempts, at least 1; None outside answer mode.
        reached: whether the answer or the walk connects start and goal at all; None where that means nothing.
        total_return: undiscounted sum of rewards.
        steps: actions taken.
        seconds: wall time of this puzzle in `predict` and `step`; a board among B bears 1/B of the time of `predict`.
        spent: segments that the agent ran on it, summed over all its networks and images; None for agents without any.
        halting_rules: the halting rules in force, as the agent states them; "none" for agents that have none.
        usage: what else the agent spent on it, such as tokens of a language model; empty for most.
        cluster: what dependent puzzles share, see `PuzzleFamily.cluster`; None if that is not known.
    """

    env_id: str
    agent: str
    index: int
    puzzle: Puzzle
    frames: tuple[Frame, ...]
    solved: bool
    exact: bool
    cell_accuracy: float
    segments: int | None
    reached: bool | None
    total_return: float
    steps: int
    seconds: float
    spent: int | None = None
    halting_rules: str = "none"
    cluster: int | None = None
    usage: Mapping[str, int] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        """The verdict and the boards on the way to it, in a notebook."""
        from hrm_gym.notebook import episode_html

        return episode_html(self)

    @property
    def tokens(self) -> int | None:
        """Tokens that a language model read and wrote; None for other agents."""
        counts = [self.usage[name] for name in ("prompt_tokens", "completion_tokens") if name in self.usage]
        return sum(counts) if counts else None


def halting_rules(agent: Agent) -> str:
    """The halting rules in force, as the agent states them; "none" if it does not."""
    return str(getattr(agent, "halting_rules", "none"))


def caption(agent: Agent) -> str:
    """The agent's name, and on a second line the halting rules in force, for pictures."""
    rules = halting_rules(agent)
    return agent.name if rules == "none" else f"{agent.name}\n{rules}"


def puzzle_for(env: Env, seed: int | None, k: int) -> Puzzle:
    """Puzzle k of a run on `env`: puzzle k of `seed`, or number k of its source (row k of a data file) if that is None.

    Raises:
        ValueError: if `seed` is None and the source is endless or has no puzzle k.
    """
    source = _world(env).puzzle_source
    if seed is not None:
        return source.puzzle(puzzle_key(seed, k))
    if not hasattr(source, "__getitem__"):
        raise ValueError(f"expected a seed, or a source with numbered puzzles, got {type(source).__name__}")
    if not 0 <= k < len(source):
        raise ValueError(f"expected a puzzle number in 0..{len(source) - 1}, got {k}")
    return source[k]


class Playthrough:
    """One puzzle played an action at a time, as fast as the caller iterates over its frames.

    Attributes:
        episode: the record, there as soon as the last frame is.
    """

    episode: Episode

    def __init__(self, env: Env, agent: Agent, index: int, seed: int | None = 0, keep_frames: bool = False) -> None:
        """Take the arguments of `play`; nothing happens before the first frame is asked for."""
        self._given = (env, agent, index, seed, keep_frames)

    def __iter__(self) -> Iterator[Frame]:
        """The frame after the reset and after every step; what the agent thinks is given to the environment to draw."""
        env, agent, index, seed, keep_frames = self._given
        board = _Board(env, index, seed, keep_frames)
        yield board.frame
        state = None
        starts = np.ones(1, dtype=bool)
        while not board.frame.last:
            state = _act([board], agent, state, starts, with_thoughts=True)
            starts = np.zeros(1, dtype=bool)
            if board.frame.last:
                self.episode = board.episode(agent)
            yield board.frame


def play(
    env: Env,
    agent: Agent,
    index: int,
    seed: int | None = 0,
    on_step: Watcher | None = None,
    keep_frames: bool = True,
) -> Episode:
    """Play one puzzle, number `index` of a run, to its end; the arguments are those of `rollout`."""
    played = Playthrough(env, agent, index, seed, keep_frames)
    for frame in played:
        if on_step is not None:
            on_step(env, frame)
    return played.episode


def rollout(
    env: Env,
    agent: Agent,
    episodes: int,
    seed: int | None = 0,
    on_step: Watcher | None = None,
    keep_frames: bool = True,
) -> Iterator[Episode]:
    """Play puzzles 0, 1, ... one after another on one environment.

    Args:
        env: a puzzle environment in the agent's action mode.
        agent: who plays.
        episodes: how many puzzles.
        seed: which stream of puzzles; None plays a data file row by row.
        on_step: called after every reset and every step, e.g. a recorder.
        keep_frames: whether each Episode keeps its frames.

    Yields:
        One Episode a puzzle, in order.
    """
    for index in range(episodes):
        yield play(env, agent, index, seed, on_step, keep_frames)


def rollout_batched(
    make_env: Callable[[], Env],
    agent: Agent,
    episodes: int,
    batch: int = 64,
    seed: int | None = 0,
    keep_frames: bool = False,
    first: int = 0,
) -> Iterator[Episode]:
    """Play puzzles 0, 1, ... on `batch` boards at once; equal to `rollout` for a deterministic agent, only faster.

    A board whose puzzle ends takes the next one at once, and leaves the batch when there is none: so an agent that
    thinks less costs less. The first puzzle is played once before that, so that no compilation is timed.

    Args:
        make_env: makes one puzzle environment in the agent's action mode; called at most `batch` times.
        agent: who plays; its state, if any, must allow `state[rows]`.
        episodes: how many puzzles.
        batch: most boards in play at a time, at least 1; fewer for an agent whose `most_boards` says so.
        seed: which stream of puzzles; None plays a data file row by row.
        keep_frames: whether each Episode keeps its frames.
        first: number of the first puzzle; then puzzles `first` ... `first + episodes - 1` are played.

    Yields:
        One Episode a puzzle, in the order in which they end; `Episode.index` says which it is.

    Raises:
        ValueError: if `batch`, or the agent's `most_boards`, is below 1.
    """
    batch = min(batch, getattr(agent, "most_boards", batch))
    if batch < 1:
        raise ValueError(f"expected a batch of at least 1, got {batch}")
    waiting = iter(range(first, first + episodes))
    envs = [make_env() for _ in range(min(batch, episodes))]
    try:
        boards = [_Board(env, next(waiting), seed, keep_frames) for env in envs]
        if boards and getattr(agent, "warm_up", True):
            play(envs[0], agent, first, seed, keep_frames=False)
            boards[0] = _Board(envs[0], first, seed, keep_frames)
            _predict(boards, agent, None, np.ones(len(boards), dtype=bool))  # compiled code may depend on the batch
        state, starts = None, np.ones(len(boards), dtype=bool)
        while boards:
            state = _act(boards, agent, state, starts, with_thoughts=keep_frames)
            starts = np.zeros(len(boards), dtype=bool)
            stays = np.ones(len(boards), dtype=bool)
            for row in [row for row, board in enumerate(boards) if board.frame.last]:
                yield boards[row].episode(agent)
                index = next(waiting, None)
                if index is None:
                    stays[row] = False
                else:
                    boards[row] = _Board(boards[row].env, index, seed, keep_frames)
                    starts[row] = True
            if not stays.all():
                rows = np.flatnonzero(stays)
                boards = [boards[row] for row in rows]
                starts = starts[rows]
                state = None if state is None else state[rows]
    finally:
        for env in envs:
            env.close()


class _Board:
    """One environment with a puzzle on it, and what is counted while it is played."""

    def __init__(self, env: Env, index: int, seed: int | None, keep_frames: bool) -> None:
        """Put puzzle `index` on the board."""
        self.env, self.index, self.puzzle = env, index, puzzle_for(env, seed, index)
        self.observation, self.info = env.reset(seed=seed, options={"puzzle": self.puzzle})
        self.frame = Frame(self.observation["answer"])
        self.frames = [self.frame] if keep_frames else None
        self.total_return = self.seconds = 0.0
        self.steps = 0
        self.spent: int | None = None
        self.usage: Mapping[str, int] = {}

    def step(self, action: NDArray[Any], thought: Thought | None) -> None:
        """Take one action and time the environment."""
        _world(self.env).set_thought(thought)
        begin = time.perf_counter()
        self.observation, reward, terminated, truncated, self.info = self.env.step(action)
        self.seconds += time.perf_counter() - begin
        self.steps += 1
        self.total_return += float(reward)
        self.frame = Frame(self.observation["answer"], thought, float(reward), terminated or truncated)
        if self.frames is not None:
            self.frames.append(self.frame)

    def episode(self, agent: Agent) -> Episode:
        """The record, once the last frame is there."""
        spec, info = self.env.spec, self.info
        return Episode(
            env_id=spec.id if spec is not None else "",
            agent=agent.name,
            index=self.index,
            puzzle=self.puzzle,
            frames=tuple(self.frames or ()),
            solved=bool(info["solved"]),
            exact=bool(info["exact"]),
            cell_accuracy=float(info["cell_accuracy"]),
            # Not info["segment"]: that starts again with a second attempt.
            segments=self.steps if _world(self.env).action_mode == "answer" else None,
            reached=bool(info["reached"]) if "reached" in info else None,
            total_return=self.total_return,
            steps=self.steps,
            seconds=self.seconds,
            spent=self.spent,
            halting_rules=halting_rules(agent),
            usage=self.usage,
            cluster=_world(self.env).family.cluster(self.puzzle),
        )


def _act(boards: Sequence[_Board], agent: Agent, state: Any, starts: NDArray[np.bool_], with_thoughts: bool) -> Any:
    """One action on every board; returns the agent's next state."""
    begin = time.perf_counter()
    actions, state = _predict(boards, agent, state, starts)
    share = (time.perf_counter() - begin) / len(boards)
    found: Sequence[Thought | None] | None = agent.thoughts() if with_thoughts else None
    thoughts = found or [None] * len(boards)
    for board, action, thought in zip(boards, actions, thoughts, strict=True):
        board.seconds += share
        board.step(action, thought)
    return state


def _predict(boards: Sequence[_Board], agent: Agent, state: Any, starts: NDArray[np.bool_]) -> tuple[NDArray[Any], Any]:
    """The agent's actions, one a board, and its next state; what it says it has `spent` is noted."""
    if isinstance(agent, PrivilegedAgent) and starts.any():
        if not type(agent).__module__.startswith("hrm_gym."):
            raise ValueError(f"expected an agent that sees observations only, got {agent.name}, a PrivilegedAgent")
        agent.see([board.puzzle for board in boards])
    observation = {key: np.stack([board.observation[key] for board in boards]) for key in boards[0].observation}
    found = agent.predict(observation, state=state, episode_start=starts, deterministic=True)
    spent = getattr(agent, "spent", None)
    if spent is not None:
        for board, segments in zip(boards, spent().tolist(), strict=True):
            board.spent = segments
    if hasattr(agent, "usage"):
        for board, used in zip(boards, agent.usage(), strict=True):
            board.usage = used
    return found


def _world(env: Env) -> Any:
    """The puzzle environment under the wrappers."""
    return env.unwrapped
