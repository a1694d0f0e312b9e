"""Guesses: restarts that begin with a few cells filled in as the network thinks likely.

Where one start comes to nothing, another start with the same clues often does too. A guess, right or wrong, makes
another puzzle of it: a right one makes the other cells easier, and a wrong one leaves a puzzle without a solution, on
which a Q-head that is right does not halt. No rule of the puzzle is looked at.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

CHOICES = 10
"""The cells among which one is drawn, those whose likeliest token is likeliest. All cells would be too many: most
guesses would be wrong."""

CERTAIN = 0.995
"""Probability from which a cell is taken for known: to write it into the puzzle tells the network nothing."""


def add_guess(
    guesses: Tensor, answers: Tensor, probability: Tensor, free: Tensor, rows: Tensor, draws: Tensor
) -> Tensor:
    """Guess one cell more on some boards.

    Args:
        guesses: (B, S) uint8 tokens guessed so far, 0 elsewhere.
        answers: (B, S) uint8, the likeliest token of every cell.
        probability: (B, S) float32, its probability.
        free: (B, S) bool, cells that are not given.
        rows: (B,) bool, the boards that guess.
        draws: (B,) int64, seeds of the draw: the same ones draw the same cell.

    Returns:
        The guesses (B, S) uint8 of all boards. A board whose cells are all certain gets none.
    """
    ranks = torch.where(free & (guesses == 0) & (probability < CERTAIN), probability, -1.0)
    best, cells = ranks.topk(min(CHOICES, ranks.shape[1]), dim=1)
    open_cells = (best >= 0).sum(dim=1)
    numbers = _numbers(guesses.device)
    drawn = numbers[draws % len(numbers)] % open_cells.clamp(min=1)
    cell = cells.gather(1, drawn[:, None])
    guessed = guesses.scatter(1, cell, answers.gather(1, cell))
    return torch.where((rows & (open_cells > 0))[:, None], guessed, guesses)


@cache
def _numbers(device: torch.device) -> Tensor:
    """(4096,) int64 random numbers, always the same."""
    return torch.randint(2**31, (4096,), generator=torch.Generator().manual_seed(0)).to(device)
