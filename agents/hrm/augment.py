"""Augmentation of a batch on its device: symmetries of the family, turned and shifted grids, partly filled boards.

Every draw is a function of a 64-bit key that belongs to a puzzle's number. So a batch comes out the same on any number
of processes and after an interruption. What is drawn (a table of cells and one of tokens a puzzle) is small and is
made by the family, compiled where it is costly; carrying it out on the boards is left to the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hrm_gym.envs.puzzle import PuzzleFamily, mix64, puzzle_keys

PAD, END = 0, 1
"""Tokens around a grid that lies on a larger board; all greater ones are its colours."""

TURNS = 8
_OFFICIAL = (0, 1, 2, 3, 5, 7, 4, 6)
"""The official numbers of the turns (1 to 3 turned left, then left-right, top-bottom, both diagonals) in ours."""

UNSHIFTED = 0.25
"""Share of the grids that stay top left, as all do when an answer is asked for. The official data shift all pairs of a
task but one."""

_SEED64 = (1 << 64) - 1
_EMBEDDED = 0xE3BEDDED
"""Sets the keys of embedded variants apart from others."""


class Symmetries(NamedTuple):
    """N symmetries: image i of a board is `tokens[i][board[cells[i]]]`.

    Attributes:
        cells: (N, S) int64.
        tokens: (N, V) int64.
    """

    cells: Tensor
    tokens: Tensor


def draw_symmetries(
    family: PuzzleFamily, shape: tuple[int, int], keys: Sequence[int | None], device: torch.device | str = "cpu"
) -> Symmetries:
    """What `PuzzleFamily.symmetry` gives for each of N keys, as tables on a device; None stands for the identity."""
    same = np.arange(shape[0] * shape[1]), np.arange(family.vocab_size, dtype=np.uint8)
    drawn = [same if key is None else family.symmetry(shape, key) for key in keys]
    cells = torch.from_numpy(np.stack([cells for cells, _ in drawn]).astype(np.int16))
    tokens = torch.from_numpy(np.stack([tokens for _, tokens in drawn]))
    return Symmetries(cells.to(device).long(), tokens.to(device).long())


def apply_symmetries(symmetries: Symmetries, boards: Tensor) -> Tensor:
    """(N, S) integer boards, each under its symmetry; the same dtype."""
    return symmetries.tokens.gather(1, boards.long().gather(1, symmetries.cells)).to(boards.dtype)


class Placements(NamedTuple):
    """How N grids are turned and where they then lie on their boards; each (N,) int64.

    Attributes:
        turns: 0..7: turned left by that many quarters (0 to 3); 4 to 7 the same, then transposed.
        down: rows above the grid.
        right: columns to the left of it.
    """

    turns: Tensor
    down: Tensor
    right: Tensor


def grid_sizes(boards: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) heights and widths of the grids that lie top left on (N, H, W) boards."""
    coloured = boards > END
    return coloured[:, :, 0].int().cumprod(1).sum(1), coloured[:, 0].int().cumprod(1).sum(1)


def draw_placements(
    inputs: Tensor, labels: Tensor, keys: Sequence[int | None], shifts: Sequence[int | None] | None = None
) -> Placements:
    """A turn for each puzzle, and a shift by which its larger grid, input or output, stays on the board.

    The turn that belongs to a key is the one that the family's own `image` makes with it.

    Args:
        inputs: (N, H, H) boards with a grid top left.
        labels: (N, H, H) boards, the same.
        keys: N 64-bit keys of the turns; None leaves a puzzle as it is.
        shifts: N keys of the shifts, None likewise; by default the same keys.
    """
    device, shifts = inputs.device, keys if shifts is None else shifts
    turned, moved = (torch.tensor([key is not None for key in some], device=device) for some in (keys, shifts))
    turn = np.array(_OFFICIAL)[(_numbers([key or 0 for key in keys], 1)[:, 0] % TURNS).astype(np.int64)]
    turns = torch.from_numpy(turn).to(device) * turned
    room = []
    for sides in zip(grid_sizes(inputs), grid_sizes(labels), strict=True):
        room.append(inputs.shape[1] - torch.maximum(*sides) + 1)
    across = turns % 2 != turns // 4
    rows, columns = torch.where(across, room[1], room[0]), torch.where(across, room[0], room[1])
    numbers = _numbers([key or 0 for key in shifts], 4)[:, 1:]
    shares = torch.from_numpy((numbers >> np.uint64(40)).astype(np.float32) / 2**24).to(device)
    moved &= shares[:, 2] >= UNSHIFTED
    down, right = (shares[:, 0] * rows).long() * moved, (shares[:, 1] * columns).long() * moved
    return Placements(turns, down, right)


def place_grids(placements: Placements, boards: Tensor) -> Tensor:
    """(N, H, H) boards whose grids are turned, shifted, and framed by end tokens below and to the right again.

    This is how the official ARC data lay out a grid; with turn 0 and no shift a board stays as it is.
    """
    count, side = len(boards), boards.shape[1]
    heights, widths = (size.view(-1, 1, 1) for size in grid_sizes(boards))
    turns = placements.turns.view(-1, 1, 1)
    across = turns % 2 != turns // 4
    tall, wide = torch.where(across, widths, heights), torch.where(across, heights, widths)
    steps = torch.arange(side, device=boards.device)
    rows = steps.view(1, -1, 1) - placements.down.view(-1, 1, 1)
    columns = steps.view(1, 1, -1) - placements.right.view(-1, 1, 1)
    in_rows, in_columns = (rows >= 0) & (rows < tall), (columns >= 0) & (columns < wide)
    r, c = _sources(turns, rows, columns, heights, widths)
    flat = (r.clamp(0, side - 1) * side + c.clamp(0, side - 1)).view(count, -1)
    colours = boards.view(count, -1).gather(1, flat).view_as(boards)
    frame = ((rows == tall) & in_columns) | ((columns == wide) & in_rows)
    around = torch.where(frame, END, PAD).to(boards.dtype)
    return torch.where(in_rows & in_columns, colours, around)


def _sources(turns: Tensor, rows: Tensor, columns: Tensor, heights: Tensor, widths: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of the grid that come to (rows, columns) of its image, each broadcast to (N, H, W)."""
    transposed, quarters = turns >= 4, turns % 4
    rows, columns = torch.where(transposed, columns, rows), torch.where(transposed, rows, columns)
    across = quarters % 2 == 1
    r, c = torch.where(across, columns, rows), torch.where(across, rows, columns)
    r = torch.where(quarters >= 2, heights - 1 - r, r)
    c = torch.where((quarters == 1) | (quarters == 2), widths - 1 - c, c)
    return r, c


def show_cells(inputs: Tensor, labels: Tensor, keys: Sequence[int], chance: float) -> Tensor:
    """Boards of which some are partly filled: a random share of the cells that differ shows the solution.

    Args:
        inputs: (N, S) boards.
        labels: (N, S) solutions.
        keys: N 64-bit keys.
        chance: probability that a board is filled at all; the share is then uniform in [0, 1).

    Returns:
        (N, S) boards, the dtype of `inputs`.
    """
    numbers = _numbers(keys, 2 + inputs.shape[1])
    uniform = torch.from_numpy((numbers >> np.uint64(40)).astype(np.float32) / 2**24).to(inputs.device)
    shown = (uniform[:, :1] < chance) & (uniform[:, 2:] < uniform[:, 1:2])
    return torch.where(shown, labels.to(inputs.dtype), inputs)


def _numbers(keys: Sequence[int], count: int) -> NDArray[np.uint64]:
    """(N, count) well-mixed uint64 numbers that belong to N keys."""
    seeds = np.array([key & _SEED64 for key in keys], dtype=np.uint64)
    return puzzle_keys(seeds[:, None], np.arange(count, dtype=np.uint64)[None])


def choose_variants(seed: int, numbers: Sequence[int], variants: int) -> list[int]:
    """Which of `variants` + 1 fixed images of its puzzle each of N numbers of the stream is; 0 is the puzzle itself."""
    return [mix64(mix64(seed) ^ mix64(~number & _SEED64)) % (variants + 1) for number in numbers]


def puzzle_variant_key(seed: int, row: int, variant: int, variants: int) -> int | None:
    """The key of one of the `variants` images of puzzle `row` of a fixed set: every puzzle has images of its own."""
    return mix64(seed ^ mix64(row * (variants + 1) + variant)) if variant else None


def embedded_variant_key(seed: int, variant: int) -> int | None:
    """The key of an image with an embedding row to itself: the same symmetry for all puzzles.

    So all pairs of a task look alike under one row, and the row of an image is known when it is voted on.
    """
    return mix64(mix64(seed ^ _EMBEDDED) ^ variant) if variant else None
