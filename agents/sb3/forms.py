"""What the actions of an environment are, read from its action space: so many symbols a cell, and halting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import gymnasium as gym
import torch
from torch import Tensor


@dataclass(frozen=True)
class ActionForm:
    """The logits that a policy owes its action space.

    Attributes:
        mode: "cell" (one Discrete over cell x symbol, and halting) or "answer" (a MultiDiscrete factor a cell, and the
            halt bit).
        cells: cells of the board.
        symbols: logits a cell.
        halts: logits of halting: 1 in cell mode, where it is one action more; 2 in answer mode, continue and halt.
    """

    mode: Literal["cell", "answer"]
    cells: int
    symbols: int
    halts: int

    @classmethod
    def of(cls, space: gym.Space, cells: int) -> ActionForm:
        """The form of an action space.

        Raises:
            ValueError: it is neither cell mode's nor answer mode's for so many cells.
        """
        if isinstance(space, gym.spaces.Discrete) and space.n > cells and (space.n - 1) % cells == 0:
            return cls("cell", cells, int(space.n - 1) // cells, 1)
        if isinstance(space, gym.spaces.MultiDiscrete) and len(space.nvec) == cells + 1 and space.nvec[-1] == 2:
            return cls("answer", cells, int(space.nvec[0]), 2)
        raise ValueError(f"expected the actions of cell or answer mode on {cells} cells, got {space}")

    def flat(self, symbols: Tensor, halts: Tensor) -> Tensor:
        """Logits in the order of the action space.

        Args:
            symbols: (B, cells, symbols).
            halts: (B, halts).

        Returns:
            (B, cells * symbols + halts).
        """
        return torch.cat([symbols.flatten(1), halts], 1)
