"""The record of one puzzle played: what a rollout yields, and reports and recorders read."""

from __future__ import annotations

from dataclasses import dataclass

from hrm_gym.envs.puzzle import Grid, Puzzle, Thought


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
