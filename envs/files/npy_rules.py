"""Whether the examples in a folder of npy arrays follow the rules, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.puzzle import PuzzleBatch, PuzzleFamily

if TYPE_CHECKING:
    from hrm_gym.envs.files.npy_folder import NpyPuzzles

_CELLS = 10_000_000
"""Cells that are looked at in one go."""


def check_rules(puzzles: NpyPuzzles, family: PuzzleFamily) -> None:
    """Read every example as if it stood in a CSV file; a progress bar shows up if that takes more than a few seconds.

    Of an example with ignored labels only the clues are checked. ARC has no rules that could judge an example.

    Raises:
        ValueError: if an example is no puzzle, or not solved by its labels; names the folder and the row.
    """
    from tqdm import tqdm

    if not family.has_solver:
        return
    rows = max(1, _CELLS // puzzles.metadata.seq_len)
    blocks = range(0, len(puzzles), rows)
    for first in tqdm(blocks, desc=str(puzzles.folder), unit="block", delay=3.0, disable=None, leave=False):
        batch = puzzles.rows(np.arange(first, min(first + rows, len(puzzles))))
        try:
            family.read_rows(_texts(batch.clues, family), _texts(batch.solutions, family))
        except ValueError:
            _check_each(puzzles, family, batch, first)


def _check_each(puzzles: NpyPuzzles, family: PuzzleFamily, batch: PuzzleBatch, first: int) -> None:
    """The examples of a batch one by one; `first` is the row of the first."""
    questions, answers = _texts(batch.clues, family), _texts(batch.solutions, family)
    for at, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        try:
            if (batch.solutions[at] == 0).any():
                family.check(batch.clues[at])
            else:
                family.read_row(question, answer)
        except ValueError as error:
            raise ValueError(f"{puzzles.folder}: row {first + at}: {error}") from None


def _texts(grids: NDArray[np.uint8], family: PuzzleFamily) -> list[str]:
    """(N, H, W) token grids as the lines of an official CSV file."""
    symbols = np.frombuffer(family.symbols.encode("latin-1"), dtype=np.uint8)
    return [symbols[grid].tobytes().decode("latin-1") for grid in grids]
