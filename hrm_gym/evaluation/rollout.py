"""The record of one puzzle played: what a rollout yields, and reports and recorders read.

The one loop between environments and agents; it yields Episode records.

Puzzle k of a run is puzzle k of the seed, or row k of a data file, whoever plays it and on however many boards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from hrm_gym.agents.agent import Agent, Observation
from hrm_gym.envs.puzzle import Grid, Puzzle, Thought, puzzle_key


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
        segments: segments used, at least 1; None outside answer mode.
        reached: whether the answer or the walk connects start and goal at all; None where that means nothing.
        total_return: undiscounted sum of rewards.
        steps: actions taken.
        seconds: wall time of this puzzle in `predict` and `step`; a board among B bears 1/B of the time of `predict`.
        spent: segments that the agent ran on it, summed over all its networks and images; None for agents without any.
        halting_rules: the rules of halting that were in force, e.g. "own decision (Q) + rule check"; "none" for agents
            that do not decide when to halt.
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


Env = gym.Env[Any, Any]


Watcher = Callable[[Env, Frame], None]
"""Called with the environment and its newest frame, after every reset and every step."""


@dataclass
class _Board:
    """One environment in play and the tally of its running episode."""

    env: Env
    index: int
    puzzle: Puzzle
    observation: Observation
    frames: list[Frame] = field(default_factory=list)
    total_return: float = 0.0
    steps: int = 0
    seconds: float = 0.0
    spent: int | None = None

    def episode(self, agent: Agent, info: dict[str, Any]) -> Episode:
        """The record of this board, given the info of its last step."""
        spec, world = self.env.spec, _world(self.env)
        return Episode(
            env_id=spec.id if spec is not None else "",
            agent=agent.name,
            index=self.index,
            puzzle=self.puzzle,
            frames=tuple(self.frames),
            solved=bool(info["solved"]),
            exact=bool(info["exact"]),
            cell_accuracy=float(info["cell_accuracy"]),
            segments=int(info["segment"]) if world.action_mode == "answer" else None,
            reached=bool(info["reached"]) if "reached" in info else None,
            total_return=self.total_return,
            steps=self.steps,
            seconds=self.seconds,
            spent=self.spent,
            halting_rules=getattr(agent, "halting_rules", "none"),
        )


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


def rollout(
    env: Env,
    agent: Agent,
    episodes: int,
    seed: int | None = 0,
    on_step: Watcher | None = None,
    keep_frames: bool = True,
) -> Iterator[Episode]:
    """Play puzzles 0, 1, ... one after another on one environment; what the agent thinks is handed to it for drawing.

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


def play(
    env: Env,
    agent: Agent,
    index: int,
    seed: int | None = 0,
    on_step: Watcher | None = None,
    keep_frames: bool = True,
) -> Episode:
    """Play one puzzle, number `index` of a run, to its end; the arguments are those of `rollout`."""
    return _play(_begin(env, seed, index), agent, on_step, keep_frames)


def moments(
    env: Env, agent: Agent, index: int, seed: int | None = 0, keep_frames: bool = False
) -> Generator[Frame, None, Episode]:
    """Play puzzle `index` of a run an action at a time, as fast as the caller asks for frames.

    Yields:
        The frame after the reset and after every step; the last one says so.

    Returns:
        The Episode, once the last frame was taken.
    """
    return _moments(_begin(env, seed, index), agent, keep_frames)


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
    thinks less costs less. Before the clock starts, the first puzzle is played once for warming up.

    Args:
        make_env: makes one puzzle environment in the agent's action mode; called at most `batch` times.
        agent: who plays; its state, if any, must allow `state[rows]`.
        episodes: how many puzzles.
        batch: most boards in play at a time, at least 1.
        seed: which stream of puzzles; None plays a data file row by row.
        keep_frames: whether each Episode keeps its frames.
        first: number of the first puzzle; then puzzles `first` ... `first + episodes - 1` are played.

    Yields:
        One Episode a puzzle, in the order in which they end; `Episode.index` says which it is.

    Raises:
        ValueError: if `batch` is below 1.
    """
    if batch < 1:
        raise ValueError(f"expected a batch of at least 1, got {batch}")
    envs = [make_env() for _ in range(min(batch, episodes))]
    try:
        yield from _play_batch(envs, agent, range(first, first + episodes), seed, keep_frames)
    finally:
        for env in envs:
            env.close()


def _play(board: _Board, agent: Agent, on_step: Watcher | None, keep_frames: bool) -> Episode:
    """Play the puzzle on one board to its end."""
    course = _moments(board, agent, keep_frames)
    while True:
        try:
            frame = next(course)
        except StopIteration as end:
            episode: Episode = end.value
            return episode
        if on_step is not None:
            on_step(board.env, frame)


def _moments(board: _Board, agent: Agent, keep_frames: bool) -> Generator[Frame, None, Episode]:
    """The frames of the puzzle on one board, to its end."""
    state: Any = None
    info: dict[str, Any] = {}
    frame = Frame(board.observation["answer"])
    start = np.ones(1, dtype=bool)
    while True:
        if keep_frames:
            board.frames.append(frame)
        yield frame
        if frame.last:
            return board.episode(agent, info)
        clock = time.perf_counter()
        actions, state = _predict(agent, [board], state, start)
        board.seconds += time.perf_counter() - clock
        thoughts = agent.thoughts()
        thought = thoughts[0] if thoughts else None
        _world(board.env).set_thought(thought)
        frame, info = _advance(board, actions[0], thought)
        start = np.zeros(1, dtype=bool)


def _play_batch(
    envs: Sequence[Env], agent: Agent, puzzles: range, seed: int | None, keep_frames: bool
) -> Iterator[Episode]:
    """Play with one board an environment; a board that ends takes the next puzzle, or leaves when none is left."""
    boards = [_begin(env, seed, index) for env, index in zip(envs, puzzles, strict=False)]
    waiting = iter(puzzles[len(boards) :])
    state, starts = None, np.ones(len(boards), dtype=bool)
    _warm_up(boards, agent, seed)
    while boards:
        state, ended = _tick(boards, agent, state, starts, keep_frames)
        starts = np.isin(np.arange(len(boards)), list(ended))
        leaving = []
        for row, info in ended.items():
            yield boards[row].episode(agent, info)
            index = next(waiting, None)
            if index is None:
                leaving.append(row)
            else:
                boards[row] = _begin(boards[row].env, seed, index)
        if leaving:
            rows = np.setdiff1d(np.arange(len(boards)), leaving)
            boards, starts = [boards[row] for row in rows], starts[rows]
            state = None if state is None else state[rows]


def _warm_up(boards: list[_Board], agent: Agent, seed: int | None) -> None:
    """Play the first puzzle once and let the agent see the full batch, so that no compilation is clocked later."""
    if boards:
        _play(boards[0], agent, None, keep_frames=False)
        boards[0] = _begin(boards[0].env, seed, boards[0].index)
        _predict(agent, boards, None, np.ones(len(boards), dtype=bool))


def _tick(
    boards: Sequence[_Board], agent: Agent, state: Any, starts: NDArray[np.bool_], keep_frames: bool
) -> tuple[Any, dict[int, dict[str, Any]]]:
    """One action on every board; returns the agent's state and, by row, the final info of the boards that ended."""
    if keep_frames:
        for board in (board for board, start in zip(boards, starts, strict=True) if start):
            board.frames.append(Frame(board.observation["answer"]))
    clock = time.perf_counter()
    actions, state = _predict(agent, boards, state, starts)
    share = (time.perf_counter() - clock) / len(boards)
    thoughts = agent.thoughts() if keep_frames else None
    ended: dict[int, dict[str, Any]] = {}
    for row, board in enumerate(boards):
        board.seconds += share
        frame, info = _advance(board, actions[row], thoughts[row] if thoughts else None)
        if keep_frames:
            board.frames.append(frame)
        if frame.last:
            ended[row] = info
    return state, ended


def _begin(env: Env, seed: int | None, index: int) -> _Board:
    """Put puzzle `index` on the board."""
    puzzle = puzzle_for(env, seed, index)
    observation, _ = env.reset(seed=seed, options={"puzzle": puzzle})
    return _Board(env, index, puzzle, observation)


def _advance(board: _Board, action: NDArray[Any], thought: Thought | None) -> tuple[Frame, dict[str, Any]]:
    """Take one action on one board, clocking the environment."""
    clock = time.perf_counter()
    board.observation, reward, terminated, truncated, info = board.env.step(action)
    board.seconds += time.perf_counter() - clock
    board.steps += 1
    board.total_return += float(reward)
    return Frame(board.observation["answer"], thought, float(reward), terminated or truncated), info


def _predict(agent: Agent, boards: Sequence[_Board], state: Any, starts: NDArray[np.bool_]) -> tuple[NDArray[Any], Any]:
    """Ask the agent for one action a board; agents that want to `see` the puzzles are shown them as they begin.

    What an agent says it has `spent` on each board is noted.
    """
    see = getattr(agent, "see", None)
    if see is not None and starts.any():
        see([board.puzzle for board in boards])
    keys = boards[0].observation
    observation = {key: np.stack([board.observation[key] for board in boards]) for key in keys}
    found = agent.predict(observation, state=state, episode_start=starts, deterministic=True)
    spent = getattr(agent, "spent", None)
    if spent is not None:
        for board, segments in zip(boards, spent().tolist(), strict=True):
            board.spent = segments
    return found


def _world(env: Env) -> Any:
    """The puzzle environment under the wrappers."""
    return env.unwrapped
