"""How far answers agree with the stored solutions, compiled: on few boards numpy would spend its time on calls."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from hrm_gym.envs.puzzle import plain


@njit(cache=True)
def agreement_kernel(clues, solutions, answers, free, exact, accuracy):
    """Fill (N,) `exact` and `accuracy` from (N, H, W) boards; the cells whose clue is the token `free` are counted."""
    for i in range(len(clues)):
        right = counted = wrong = 0
        for row in range(clues.shape[1]):
            for column in range(clues.shape[2]):
                same = answers[i, row, column] == solutions[i, row, column]
                wrong += not same
                if clues[i, row, column] == free:
                    counted += 1
                    right += same
        exact[i] = wrong == 0
        accuracy[i] = right / counted if counted else 1.0


def agreement(
    clues: NDArray[np.uint8], solutions: NDArray[np.uint8], answers: NDArray[np.uint8], free: int
) -> dict[str, NDArray[Any]]:
    """`exact` and `cell_accuracy` of (N, H, W) answers.

    Args:
        clues: (N, H, W) uint8.
        solutions: (N, H, W) uint8.
        answers: (N, H, W) uint8.
        free: the token of cells that are the solver's to fill; only these count.

    Returns:
        (N,) bool, whether an answer equals the solution, and (N,) float64, the share of right cells among those that
        count (1.0 if none does).
    """
    exact, accuracy = np.empty(len(clues), dtype=np.bool_), np.empty(len(clues))
    agreement_kernel(plain(clues), plain(solutions), plain(answers), free, exact, accuracy)
    return {"exact": exact, "cell_accuracy": accuracy}
