"""From puzzle sources to the boards that training works on: which puzzle has which number, and how it is augmented.

Every draw of an augmentation (symmetries of the family, turned and shifted grids, partly filled boards) is a function
of a 64-bit key that belongs to a puzzle's number. So a batch comes out the same on any number of processes and after an
interruption. The tables of cells and tokens are drawn by the family.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hrm_gym.agents.hrm.losses import IGNORE
from hrm_gym.agents.hrm.recipes import Recipe
from hrm_gym.agents.hrm.slots import Examples
from hrm_gym.data.stream import PrefetchedStream, PuzzleStream
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.puzzle import Puzzle, PuzzleBatch, PuzzleSource, mix64, puzzle_keys
from hrm_gym.registry import registered_env

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
        keys: N 64-bit keys of the turns; None leaves a puzzle unchanged.
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

    This is how the official ARC data lay out a grid; with turn 0 and no shift a board is unchanged.
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
    """The key of one of the `variants` images of puzzle `row` of a fixed set: every puzzle has its own images."""
    return mix64(seed ^ mix64(row * (variants + 1) + variant)) if variant else None


def embedded_variant_key(seed: int, variant: int) -> int | None:
    """The key of an image with an embedding row to itself: the same symmetry for all puzzles.

    So all pairs of a task share a symmetry under one row, and the row of an image is known when it is voted on.
    """
    return mix64(mix64(seed ^ _EMBEDDED) ^ variant) if variant else None


EVAL_SEED = 0x5EED
"""Seed of the held-out puzzles of every evaluation during training."""

_SHOWN, _SHIFTED = 0x5407, 0x5417
"""Set the draws of partly filled boards and of shifts apart from those of symmetries."""


def environment(recipe: Recipe, split: str) -> tuple[PuzzleFamily, PuzzleSource]:
    """The family and the puzzle source of a recipe's environment for one split.

    Raises:
        ValueError: the environment's boards are not of the size of the recipe's network.
    """
    return _open(recipe, split, recipe.env)


def environment_grid(recipe: Recipe) -> tuple[int, int]:
    """(H, W) of the boards of a recipe's environment, whatever grid its network has."""
    height, width = _made(recipe, "train", recipe.env).shape
    return height, width


def held_out(recipe: Recipe) -> PuzzleSource:
    """What evaluations during training play: the validation split, or the test split where there is no other.

    Where training takes new puzzles or a file, these are the bundled bank's, which need not be made, unless the recipe
    names another source.
    """
    if recipe.test_source:
        return _open(recipe, "test", recipe.env, recipe.test_source)[1]
    try:
        return environment(recipe, "validation")[1]
    except ValueError:
        return environment(recipe, "test")[1]


def _open(
    recipe: Recipe, split: str, arguments: Mapping[str, Any], test_source: str = ""
) -> tuple[PuzzleFamily, PuzzleSource]:
    """The family and the source of the recipe's environment under these arguments."""
    env = _made(recipe, split, arguments, test_source)
    if tuple(env.shape) != recipe.model.grid:
        raise ValueError(
            f"{recipe.env_id} has a grid of {tuple(env.shape)}, the recipe's network one of {recipe.model.grid}"
        )
    return env.family, env.puzzle_source


def _made(recipe: Recipe, split: str, arguments: Mapping[str, Any], test_source: str = "") -> Any:
    """The recipe's environment, with the source that a split has."""
    single_file = Path(recipe.source).suffix != ""
    source = test_source or recipe.source
    if not test_source and split != "train" and (single_file or source == "generate"):
        source = "bank" if split == "validation" else "generate"
    return gym.make(registered_env(recipe.env_id), **{"source": source, "split": split, **arguments}).unwrapped


def training_source(recipe: Recipe) -> tuple[PuzzleFamily, PuzzleSource]:
    """The family and what a recipe trains on: a source without end, or a fixed set of puzzles."""
    family, source = environment(recipe, "train")
    if recipe.demonstrations:
        source = SolvedPairs(source, environment(recipe, "test")[1])
    if recipe.mixture:
        others = [_open(recipe, "train", {**recipe.env, **arguments})[1] for arguments in recipe.mixture]
        source = Mixture([source, *others])
    if recipe.puzzles:
        source = FixedPuzzles(source, recipe.puzzles, recipe.seed)
    return family, source


class Mixture:
    """Several sources without end as one: each key belongs to one of them, all equally often."""

    def __init__(self, sources: Sequence[PuzzleSource]) -> None:
        self.shape, self._sources = sources[0].shape, tuple(sources)

    def puzzle(self, key: int) -> Puzzle:
        """The puzzle of one 64-bit key."""
        return self.batch(np.array([key], dtype=np.uint64))[0]

    def batch(self, keys: NDArray[np.uint64]) -> PuzzleBatch:
        """The puzzles of N keys."""
        chosen = puzzle_keys(keys, np.zeros(1, dtype=np.uint64)) % np.uint64(len(self._sources))
        clues, solutions = np.empty((2, len(keys), *self.shape), dtype=np.uint8)
        ids = np.empty(len(keys), dtype=np.int32)
        for number, source in enumerate(self._sources):
            rows = np.flatnonzero(chosen == number)
            if len(rows):
                batch = source.batch(keys[rows])
                clues[rows], solutions[rows], ids[rows] = batch.clues, batch.solutions, batch.puzzle_ids
        return PuzzleBatch(clues, solutions, ids)


class FixedPuzzles:
    """The first N puzzles of a source's stream, as a set with a length: puzzle i is a function of (seed, i)."""

    def __init__(self, source: PuzzleSource, count: int, seed: int) -> None:
        """Describe the set; the puzzles are made when they are first asked for."""
        if isinstance(source, Sized) and len(source) < count:
            raise ValueError(f"expected a source of at least {count} puzzles, got one of {len(source)}")
        self.shape, self._source, self._count, self._seed = source.shape, source, count, seed

    def __len__(self) -> int:
        """Number of puzzles."""
        return self._count

    @cached_property
    def _all(self) -> PuzzleBatch:
        return PuzzleStream(self._source, self._seed).take(0, self._count)

    def puzzle(self, key: int) -> Puzzle:
        """Puzzle key % len."""
        return self._all[key % self._count]

    def batch(self, keys: NDArray[np.uint64]) -> PuzzleBatch:
        """The puzzles of N keys."""
        rows, every = (keys % np.uint64(self._count)).astype(np.int64), self._all
        return PuzzleBatch(every.clues[rows], every.solutions[rows], every.puzzle_ids[rows])


class SolvedPairs:
    """Every solved example of tasks as a separate puzzle, with the task's id: the training set of ARC.

    These are the demonstrations of all tasks, and the test grids of those that are there to be learnt from.
    """

    def __init__(self, learnt: PuzzleSource, shown: PuzzleSource) -> None:
        """Collect the examples.

        Args:
            learnt: tasks all of whose pairs count; a source with a length.
            shown: tasks of which only the demonstrations count, since their test grids are held out.

        Raises:
            ValueError: the puzzles bring no demonstrations.
        """
        parts = [*_demonstrations(learnt), *_demonstrations(shown)]
        tests = learnt.batch(np.arange(len(learnt), dtype=np.uint64))  # type: ignore[arg-type]
        clues = np.concatenate([pairs[:, 0] for pairs, _ in parts] + [tests.clues])
        solutions = np.concatenate([pairs[:, 1] for pairs, _ in parts] + [tests.solutions])
        ids = [np.full(len(pairs), task, dtype=np.int32) for pairs, task in parts]
        self._batch = PuzzleBatch(clues, solutions, np.concatenate([*ids, tests.puzzle_ids]))
        self.shape = learnt.shape

    def __len__(self) -> int:
        """Number of examples."""
        return len(self._batch)

    def puzzle(self, key: int) -> Puzzle:
        """Example key % len."""
        return self._batch[key % len(self)]

    def batch(self, keys: NDArray[np.uint64]) -> PuzzleBatch:
        """The examples of N keys."""
        rows = (keys % np.uint64(len(self))).astype(np.int64)
        return PuzzleBatch(self._batch.clues[rows], self._batch.solutions[rows], self._batch.puzzle_ids[rows])


def _demonstrations(source: PuzzleSource) -> list[tuple[NDArray[np.uint8], int]]:
    """(pairs, 2, H, W) demonstrations and id of every task of a source, each task once."""
    if not isinstance(source, Sized):
        raise ValueError(f"expected a source with a length, got {type(source).__name__}")
    batch = source.batch(np.arange(len(source), dtype=np.uint64))
    if "demonstrations" not in batch.extras:
        raise ValueError(f"expected puzzles with demonstrations, got a {type(source).__name__} of puzzles without")
    _, firsts = np.unique(batch.puzzle_ids, return_index=True)
    shown, pairs = batch.extras["demonstrations"], batch.extras["pairs"]
    return [(shown[i, : pairs[i].item()], int(batch.puzzle_ids[i])) for i in firsts]


class Feed:
    """Puzzle number n of a run as tensors: a pure function of the recipe and n.

    Attributes:
        family: of the puzzles.
        stream: the numbered puzzles, before augmentation.
        held_out: the numbered puzzles of evaluations, see `held_out`.
    """

    def __init__(self, recipe: Recipe, device: torch.device, workers: int = 0) -> None:
        """Open the sources of a recipe; new puzzles are made ahead by `workers` processes, or when they are needed.

        Raises:
            ValueError: a source does not fit the recipe.
        """
        self._recipe, self._device = recipe, device
        self.family, source = training_source(recipe)
        if recipe.variants and not hasattr(source, "__len__"):
            raise ValueError("expected a fixed set of puzzles (--puzzles N) for --variants, got puzzles without end")
        endless = not isinstance(source, Sized)
        self.stream = (
            PrefetchedStream(source, recipe.seed, workers) if workers and endless else PuzzleStream(source, recipe.seed)
        )
        self.held_out = PuzzleStream(held_out(recipe), EVAL_SEED)

    def close(self) -> None:
        """End the processes that make puzzles ahead."""
        if isinstance(self.stream, PrefetchedStream):
            self.stream.close()

    def boards(self, first: int, count: int) -> Examples:
        """Puzzles first … first + count - 1, augmented as the recipe says; on the host, from where a queue copies them.

        Raises:
            ValueError: a puzzle id for which the network has no row of the puzzle embedding.
        """
        batch, numbers = self.stream.take(first, count), range(first, first + count)
        self._check_rows(batch.puzzle_ids)
        inputs, labels = (
            torch.from_numpy(grids.reshape(count, -1)).to(torch.int32) for grids in (batch.clues, batch.solutions)
        )
        ids = torch.from_numpy(batch.puzzle_ids)
        if self._recipe.augment:
            variants, keys = self._keys(numbers)
            inputs, labels = self._augmented(inputs, labels, keys, numbers)
            ids = self._embedding_rows(ids, torch.tensor(variants, dtype=ids.dtype))
        elif self._recipe.embed_variants:
            ids = self._embedding_rows(ids, torch.zeros_like(ids))
        if self._recipe.shown:
            draws = [mix64(self._recipe.seed ^ _SHOWN ^ mix64(number)) for number in numbers]
            inputs = show_cells(inputs, labels, draws, self._recipe.shown)
        return Examples(inputs, torch.where(labels == 0, IGNORE, labels), ids)

    def held_out_boards(self, batch: PuzzleBatch) -> tuple[Tensor, Tensor]:
        """(N, S) inputs and (N,) embedding rows of puzzles as they are, on the device."""
        self._check_rows(batch.puzzle_ids)
        ids = torch.from_numpy(batch.puzzle_ids).to(self._device)
        ids = self._embedding_rows(ids, torch.zeros_like(ids))
        inputs = torch.from_numpy(batch.clues.reshape(len(batch), -1))
        return inputs.to(self._device).to(torch.int32), ids

    def _check_rows(self, ids: NDArray[np.int32]) -> None:
        """Refuse puzzle ids for which the puzzle embedding has no row."""
        each = self._recipe.variants + 1 if self._recipe.embed_variants else 1
        last = (int(ids.max()) + 1) * each
        if last > self._recipe.model.puzzle_count:
            raise ValueError(
                f"expected --model.puzzle-count of at least {last} for puzzle id {int(ids.max())}, "
                f"got {self._recipe.model.puzzle_count}"
            )

    def _embedding_rows(self, ids: Tensor, variants: Tensor) -> Tensor:
        """The rows of the puzzle embedding: one a puzzle id, or one a variant of it with `embed_variants`."""
        return ids * (self._recipe.variants + 1) + variants if self._recipe.embed_variants else ids

    def _keys(self, numbers: range) -> tuple[list[int], list[int | None]]:
        """The variant of each puzzle number (0 where there are no fixed ones), and the key of its symmetry."""
        recipe, count = self._recipe, self._recipe.variants
        if not count:
            return [0] * len(numbers), [mix64(recipe.seed ^ mix64(number)) for number in numbers]
        chosen = choose_variants(recipe.seed, numbers, count)
        if recipe.embed_variants:
            return chosen, [embedded_variant_key(recipe.seed, variant) for variant in chosen]
        rows = self.stream.rows(numbers.start, len(numbers)).tolist()
        pairs = zip(rows, chosen, strict=True)
        return chosen, [puzzle_variant_key(recipe.seed, row, variant, count) for row, variant in pairs]

    def _augmented(
        self, inputs: Tensor, labels: Tensor, keys: Sequence[int | None], numbers: range
    ) -> tuple[Tensor, Tensor]:
        """(N, S) inputs and labels, each pair under the symmetry of its key; grids are shifted by puzzle number."""
        grid = self._recipe.model.grid
        symmetries = draw_symmetries(self.family, grid, keys)
        inputs, labels = (apply_symmetries(symmetries, boards) for boards in (inputs, labels))
        if self._recipe.place_grids:
            inputs, labels = (boards.view(-1, *grid) for boards in (inputs, labels))
            shifts: list[int | None] = [None] * len(numbers)
            if self._recipe.shift_grids:
                shifts = [mix64(self._recipe.seed ^ _SHIFTED ^ mix64(number)) for number in numbers]
            placements = draw_placements(inputs, labels, keys, shifts)
            inputs, labels = (place_grids(placements, boards).flatten(1) for boards in (inputs, labels))
        return inputs, labels
