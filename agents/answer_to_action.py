"""From an answer grid to an action: the one place that knows how each action mode spells an answer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.agents.agent import Observation
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.puzzle import Grid


def answer_to_action(
    family: PuzzleFamily, action_mode: str, observation: Observation, answer: Grid, halt: bool = True
) -> NDArray[np.int64]:
    """The action by which an agent that holds `answer` comes closer to having given it.

    Args:
        family: the rules of the puzzle, for its writable tokens and its moves.
        action_mode: "answer", "cell" or "move".
        observation: what one environment shows (no batch axis): `puzzle` and `answer`, both (H, W) uint8.
        answer: (H, W) uint8, the grid to give.
        halt: the halt bit of answer mode; the other modes ignore it (cell mode halts once the board shows `answer`).

    Returns:
        int64. Answer mode: shape (H * W + 1,), the grid and the halt bit. Other modes: shape (), a Discrete action.

    Raises:
        ValueError: if `action_mode` is none of the three.
    """
    if action_mode == "answer":
        return np.append(answer.ravel(), halt).astype(np.int64)
    if action_mode == "cell":
        return _first_writing(family, observation, answer)
    if action_mode == "move":
        return np.array(family.next_move(observation["puzzle"], observation["answer"], answer), dtype=np.int64)
    raise ValueError(f"expected action_mode 'answer', 'cell' or 'move', got {action_mode!r}")


def answers_to_actions(
    family: PuzzleFamily, action_mode: str, observation: Observation, answers: NDArray[np.uint8], halts: Any = True
) -> NDArray[np.int64]:
    """`answer_to_action` for a batch.

    Args:
        family: the rules of the puzzle.
        action_mode: "answer", "cell" or "move".
        observation: arrays with a leading batch axis of B rows.
        answers: (B, H, W) uint8, the grid to give in each row.
        halts: one bool for all rows, or (B,) bool.

    Returns:
        int64, one action a row: (B, H * W + 1) in answer mode, else (B,).
    """
    bits = np.broadcast_to(np.asarray(halts, dtype=bool), len(answers))
    boards = zip(observation["puzzle"], observation["answer"], strict=True)
    actions = [
        answer_to_action(family, action_mode, {"puzzle": puzzle, "answer": shown}, answer, bool(bit))
        for (puzzle, shown), answer, bit in zip(boards, answers, bits, strict=True)
    ]
    return np.stack(actions)


def _first_writing(family: PuzzleFamily, observation: Observation, answer: Grid) -> NDArray[np.int64]:
    """Cell mode: write the first free cell that differs from `answer`, or halt when none does.

    Actions are numbered cell by cell, `len(writable)` to a cell in the order of `family.writable`; the last one halts.
    A cell whose answer cannot be written (a wall where the puzzle is open, say) is left unchanged.
    """
    writable = np.asarray(family.writable)
    differs = (observation["answer"] != answer) & family.free(observation["puzzle"]) & np.isin(answer, writable)
    cells = np.flatnonzero(differs)
    if len(cells) == 0:
        return np.array(answer.size * len(writable), dtype=np.int64)
    symbol = int(np.flatnonzero(writable == answer.flat[cells[0]])[0])
    return np.array(cells[0] * len(writable) + symbol, dtype=np.int64)
