"""Augmentation on the device is the family's own, keeps puzzles right, and hangs on puzzle numbers alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from tiny import TINY

import hrm_gym
from hrm_gym.agents.hrm.feed import (
    END,
    TURNS,
    Feed,
    FixedPuzzles,
    Mixture,
    Placements,
    SolvedPairs,
    apply_symmetries,
    draw_placements,
    draw_symmetries,
    embedded_variant_key,
    place_grids,
    show_cells,
    training_source,
)
from hrm_gym.agents.hrm.recipes import RECIPES, Recipe
from hrm_gym.envs.puzzle import mix64

gym.register_envs(hrm_gym)
CPU = torch.device("cpu")
KEYS = [mix64(number) for number in range(40)]
FAMILIES: dict[str, dict[str, Any]] = {
    "HRMMaze-v0": {"size": 6, "source": "generate"},
    "HRMSudokuMini-v0": {"source": "generate"},
    "HRMSudoku-v0": {"source": "generate"},
    "HRMSudoku-6": {"box": (2, 3), "source": "generate"},
}

ARC_MINI = dataclasses.replace(
    RECIPES["arc-1"],
    env_id="HRMARCMini-v0",
    model=dataclasses.replace(
        RECIPES["arc-1"].model,
        grid=(12, 12),
        puzzle_count=801,
        hidden_size=128,
        heads=4,
        h_layers=2,
        l_layers=2,
        positions="rope2d",
        rope_theta=100.0,
    ),
    embed_variants=False,
    variants=0,
    batch_size=64,
)
"""Small grids, and one embedding row a task."""


def world(name: str) -> Any:
    return gym.make(name if name.endswith("v0") else "HRMSudoku-v0", **FAMILIES[name]).unwrapped


@pytest.mark.parametrize("name", FAMILIES)
def test_tables_are_the_familys_symmetries_and_keep_puzzles_solved(name: str) -> None:
    env = world(name)
    batch = env.puzzle_source.batch(np.arange(len(KEYS), dtype=np.uint64))
    symmetries = draw_symmetries(env.family, env.shape, KEYS)
    shape = (len(KEYS), *env.shape)
    images = [
        apply_symmetries(symmetries, torch.from_numpy(grids.reshape(len(KEYS), -1))).numpy().reshape(shape)
        for grids in (batch.clues, batch.solutions)
    ]
    cells, tokens = env.family.symmetry(env.shape, KEYS[3])
    assert np.array_equal(images[0][3].ravel(), tokens[batch.clues[3].ravel()[cells]])
    for clues, solution in zip(*images, strict=True):
        env.family.check(clues)
        assert env.family.judge(clues[None], solution[None], solution[None])[0]
    assert sum(bool((image != clues).any()) for image, clues in zip(images[0], batch.clues, strict=True)) > 30


def test_no_key_is_the_identity() -> None:
    env = world("HRMSudokuMini-v0")
    boards = torch.randint(0, 6, (2, 16), dtype=torch.int32)
    symmetries = draw_symmetries(env.family, env.shape, [None, None])
    assert torch.equal(apply_symmetries(symmetries, boards), boards)


# ---- grids on larger boards ----


def framed(grid: np.ndarray, side: int, down: int = 0, right: int = 0) -> np.ndarray:
    """The grid on a board, with end tokens below and to the right, as the official builder writes it."""
    board = np.zeros((side, side), dtype=np.uint8)
    height, width = grid.shape
    board[down : down + height, right : right + width] = grid
    if down + height < side:
        board[down + height, right : right + width] = END
    if right + width < side:
        board[down : down + height, right + width] = END
    return board


def image(grid: np.ndarray, turn: int) -> np.ndarray:
    turned = np.rot90(grid, turn % 4)
    return turned.T if turn >= 4 else turned


@pytest.mark.parametrize("size", [(1, 1), (2, 4), (4, 2), (5, 5), (3, 5)])
def test_every_turn_and_shift_of_a_grid(size: tuple[int, int]) -> None:
    grid = np.random.default_rng(0).integers(2, 12, size, dtype=np.uint8)
    boards = torch.from_numpy(framed(grid, 5))[None]
    for turn in range(TURNS):
        turned = image(grid, turn)
        for down in range(5 - turned.shape[0] + 1):
            for right in range(5 - turned.shape[1] + 1):
                placements = Placements(*(torch.tensor([value]) for value in (turn, down, right)))
                found = place_grids(placements, boards)[0].numpy()
                assert np.array_equal(found, framed(turned, 5, down, right)), (turn, down, right)


def test_drawn_placements_reach_everything_and_keep_both_grids_on_the_board() -> None:
    keys = [mix64(number) for number in range(400)]
    rng = np.random.default_rng(1)
    first, second = (rng.integers(2, 12, size, dtype=np.uint8) for size in ((2, 3), (4, 1)))
    inputs, labels = (torch.from_numpy(framed(grid, 6)).expand(400, 6, 6) for grid in (first, second))
    placements = draw_placements(inputs, labels, keys)
    assert set(placements.turns.tolist()) == set(range(8))
    for boards, size in ((inputs, 6), (labels, 4)):
        assert ((place_grids(placements, boards) > END).sum((1, 2)) == size).all()
    assert placements.down.max() == placements.right.max() == 3, "a side of 4 or 3 is the longer one of both grids"
    assert 100 <= int((placements.down + placements.right == 0).sum()) < 160, (
        "a quarter stays, some come back by chance"
    )
    apart = draw_placements(inputs, labels, [keys[0]] * 400, keys)
    assert len(set(apart.turns.tolist())) == 1
    assert len(set(apart.down.tolist())) > 3
    still = draw_placements(inputs, labels, [None] * 400)
    assert torch.equal(place_grids(still, inputs), inputs)


# ---- partly filled boards ----


def test_partly_filled_boards_show_the_solution_in_some_of_their_blanks() -> None:
    keys = [mix64(number) for number in range(2000)]
    inputs = torch.ones(2000, 16, dtype=torch.int32)
    inputs[:, :4] = 3
    labels = torch.full((2000, 16), 5, dtype=torch.int32)
    labels[:, :4] = 3
    filled = show_cells(inputs, labels, keys, 0.5)
    assert ((filled == inputs) | (filled == labels)).all()
    shares = (filled != inputs).float().mean(1) * 16 / 12
    assert 0.42 < float((shares > 0).float().mean()) < 0.52
    assert 0.45 < float(shares[shares > 0].mean()) < 0.60
    assert torch.equal(show_cells(inputs, labels, keys, 0.0), inputs)


# ---- the feed ----


def recipes() -> dict[str, Recipe]:
    plain = dataclasses.replace(TINY, source="generate")
    return {
        "symmetries": dataclasses.replace(plain, augment=True),
        "partly filled": dataclasses.replace(plain, shown=0.5),
        "variants of a fixed set": dataclasses.replace(plain, augment=True, puzzles=10, variants=3),
        "a mixture": dataclasses.replace(plain, mixture=({"wall_share": 0.2},)),
    }


@pytest.mark.parametrize("name", recipes())
def test_a_puzzle_hangs_on_its_number_alone(name: str) -> None:
    recipe = recipes()[name]
    whole = Feed(recipe, CPU).boards(0, 30)
    feed = Feed(recipe, CPU)
    parts = [feed.boards(first, 10) for first in (20, 0, 10)]
    for at, full in enumerate(whole):
        assert torch.equal(full, torch.cat([parts[1][at], parts[2][at], parts[0][at]]))
    plain = Feed(TINY, CPU).boards(0, 30)
    assert not torch.equal(whole.inputs, plain.inputs)


def test_a_fixed_set_with_variants_repeats_itself() -> None:
    feed = Feed(recipes()["variants of a fixed set"], CPU)
    seen = {bytes(row.numpy().astype(np.uint8)) for row in feed.boards(0, 600).inputs}
    assert 20 <= len(seen) <= 10 * 4
    endless = dataclasses.replace(TINY, augment=True, variants=3)
    with pytest.raises(ValueError, match="puzzles without end"):
        Feed(endless, CPU)


def test_a_fixed_set_is_not_larger_than_its_source() -> None:
    _, source = training_source(dataclasses.replace(TINY, puzzles=10))
    assert isinstance(source, FixedPuzzles)
    assert len(source) == 10
    with pytest.raises(ValueError, match="at least 11 puzzles, got one of 10"):
        FixedPuzzles(source, 11, 0)


def test_a_mixture_takes_from_every_source() -> None:
    _, source = training_source(dataclasses.replace(TINY, mixture=({"wall_share": 0.1}, {"wall_share": 0.2})))
    assert isinstance(source, Mixture)
    keys = np.arange(200, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    clues = source.batch(keys).clues
    assert np.array_equal(source.puzzle(int(keys[7])).clues, clues[7])
    assert len({round(float(share), 1) for share in (clues == 1).mean((1, 2))}) > 2


def test_arc_is_learnt_from_all_pairs_that_are_not_held_out() -> None:
    recipe = ARC_MINI
    family, source = training_source(recipe)
    assert isinstance(source, SolvedPairs)
    assert family.name == "arc"
    learnt, held_out = (gym.make("HRMARCMini-v0", split=split).unwrapped for split in ("train", "evaluation"))
    sources: list[Any] = [learnt.puzzle_source, held_out.puzzle_source]  # type: ignore[attr-defined]
    batches = [one.batch(np.arange(len(one), dtype=np.uint64)) for one in sources]
    shown = sum(
        int(batch.extras["pairs"][np.unique(batch.puzzle_ids, return_index=True)[1]].sum()) for batch in batches
    )
    assert len(source) == shown + len(sources[0])
    assert set(batches[1].puzzle_ids) <= set(source.batch(np.arange(len(source), dtype=np.uint64)).puzzle_ids)
    feed = Feed(recipe, CPU)
    boards = feed.boards(0, 64)
    assert (boards.inputs > END).any(1).all()
    assert int(boards.puzzle_ids.max()) < recipe.model.puzzle_count


def test_a_row_of_the_embedding_means_one_task_under_one_symmetry() -> None:
    """Turn and colours of a variant are those of the family's `image` with its key, for every pair of a task."""
    model = dataclasses.replace(ARC_MINI.model, puzzle_count=6 * 801)
    recipe = dataclasses.replace(ARC_MINI, model=model, variants=5, embed_variants=True)
    feed, side = Feed(recipe, CPU), recipe.model.grid[0]
    plain = feed.stream.take(0, 96)
    boards = feed.boards(0, 96)
    tasks, variants = (boards.puzzle_ids // 6).numpy(), (boards.puzzle_ids % 6).tolist()
    assert np.array_equal(tasks, plain.puzzle_ids)
    assert set(variants) == set(range(6))
    moved = 0
    for n, variant in enumerate(variants):
        key = embedded_variant_key(recipe.seed, variant)
        for ours, stored in ((boards.inputs, plain.clues), (boards.labels, plain.solutions)):
            image = stored[n] if key is None else feed.family.image(stored[n : n + 1], key)[0]
            board = torch.where(ours[n] < 0, 0, ours[n]).numpy().reshape(side, side)
            moved += not np.array_equal(board, image)
            assert np.array_equal(trimmed(board), trimmed(image))
    assert 96 * 2 * 0.3 < moved < 96 * 2, "most grids are shifted, but not all"


def test_a_puzzle_id_without_a_row_is_refused() -> None:
    recipe = ARC_MINI
    small = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, puzzle_count=10))
    with pytest.raises(ValueError, match=r"puzzle-count of at least \d+ for puzzle id \d+, got 10"):
        Feed(small, CPU).boards(0, 64)


def trimmed(board: np.ndarray) -> np.ndarray:
    """The coloured part of a board."""
    rows, columns = (np.flatnonzero((board > END).any(axis)) for axis in (1, 0))
    return board[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
