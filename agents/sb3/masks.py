"""The legal actions of a board, worked out from its observation: for a masked policy that is handed no masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hrm_gym.agents.agent import Observation
from hrm_gym.envs.puzzle import PuzzleFamily


def legal_actions(family: PuzzleFamily, action_mode: str, observation: Observation) -> NDArray[np.bool_]:
    """The environment's `action_masks()` for a batch of observations.

    Args:
        family: the rules of the puzzle.
        action_mode: "answer", "cell" or "move".
        observation: `puzzle` and `answer`, (B, H, W) uint8 each.

    Returns:
        (B, A) bool.
    """
    clues = observation["puzzle"]
    if action_mode == "cell":
        legal = family.legal_writes_many(clues, observation["answer"]).reshape(len(clues), -1)
        return np.append(legal, np.ones((len(clues), 1), dtype=np.bool_), axis=1)
    if action_mode == "answer":
        tokens = np.arange(family.vocab_size)
        free, written = family.free(clues)[..., None], np.isin(tokens, family.writable)
        legal = np.where(free, written, clues[..., None] == tokens).reshape(len(clues), -1)
        return np.append(legal, np.ones((len(clues), 2), dtype=np.bool_), axis=1)
    return family.legal_moves_many(clues, observation["answer"])
