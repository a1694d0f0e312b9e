"""What families compute for many boards, or compiled, is what the plain definitions in `family.py` say."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import WORLDS

from hrm_gym.envs.family import CellBoards, PuzzleFamily
from hrm_gym.envs.puzzle import PuzzleBatch, puzzle_keys

BY_ID = {env_id: gym.make(env_id).unwrapped for env_id in WORLDS}
every_family = pytest.mark.parametrize("env_id", WORLDS)
seeds = st.integers(0, 2**32 - 1)
BOARDS = 6
ARC = [env_id for env_id, world in BY_ID.items() if world.family.name == "arc"]
"""Colours of an ARC input alone say nothing of the task: its symmetric images have no canonical form."""


def puzzles(env_id: str, seed: int) -> PuzzleBatch:
    """Some puzzles of an environment."""
    keys = puzzle_keys(np.full(BOARDS, seed, dtype=np.uint64), np.arange(BOARDS, dtype=np.uint64))
    return BY_ID[env_id].puzzle_source.batch(keys)


def answers(env_id: str, batch: PuzzleBatch, rng: np.random.Generator) -> np.ndarray:
    """A right answer, a nearly right one, one of the clues, legal ones, and one of anything at all."""
    family = BY_ID[env_id].family
    noise = rng.integers(family.vocab_size, size=batch.clues.shape, dtype=np.uint8)
    legal = np.where(
        family.free(batch.clues), rng.choice(np.array(family.writable, np.uint8), batch.clues.shape), batch.clues
    )
    chance = rng.choice([0.0, 0.0, 0.01, 0.2], size=(BOARDS, 1, 1))
    near = np.where(rng.random(batch.clues.shape) < chance, noise, batch.solutions)
    kind = rng.integers(4, size=(BOARDS, 1, 1))
    return np.select([kind == 0, kind == 1, kind == 2], [legal, noise, batch.clues], near).astype(np.uint8)


@every_family
@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_many_boards_are_judged_like_one(env_id, seed):
    family, batch = BY_ID[env_id].family, puzzles(env_id, seed)
    given = answers(env_id, batch, np.random.default_rng(seed))
    boards = (batch.clues, batch.solutions, given)
    for name in ("judge", "cell_accuracy"):
        each = [getattr(family, name)(*(grids[i : i + 1] for grids in boards))[0] for i in range(BOARDS)]
        assert getattr(family, name)(*boards).tolist() == each, name
    for name in ("violations", "count_violations", "legal_writes"):
        together = getattr(family, name)(batch.clues, given)
        each = [getattr(family, name)(batch.clues[i : i + 1], given[i : i + 1])[0] for i in range(BOARDS)]
        assert np.array_equal(together, np.array(each)), name
    assert family.count_violations(batch.clues, given).dtype == np.int32
    assert np.array_equal(
        family.count_violations(batch.clues, given), family.violations(batch.clues, given).sum((1, 2))
    )
    legal, free = family.legal_writes(batch.clues, given), family.free(batch.clues).reshape(BOARDS, -1)
    for i, cell in [
        (int(k) % BOARDS, int(k) % free.shape[1]) for k in np.random.default_rng(seed).integers(10**6, size=9)
    ]:
        may = [family.may_write(batch.clues[i], given[i], cell, token) for token in family.writable]
        assert legal[i, cell].tolist() == [free[i, cell] and yes for yes in may]


@every_family
@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_agreement_with_the_stored_solutions(env_id, seed):
    family, batch = BY_ID[env_id].family, puzzles(env_id, seed)
    given = answers(env_id, batch, np.random.default_rng(seed))
    verdict = family.verdict(batch.clues, batch.solutions, given)
    counted = family.counted(batch.clues, batch.solutions)
    right = [
        (same[cells].mean() if cells.any() else 1.0)
        for same, cells in zip(given == batch.solutions, counted, strict=True)
    ]
    assert (
        verdict["cell_accuracy"].tolist() == right == family.cell_accuracy(batch.clues, batch.solutions, given).tolist()
    )
    assert np.array_equal(verdict["solved"], family.judge(batch.clues, batch.solutions, given))
    same = (given == batch.solutions).all(axis=(1, 2))
    assert np.array_equal(verdict["exact"], verdict["solved"] if family.name == "arc" else same)


@every_family
def test_stored_solutions_are_right_and_break_no_rule(env_id):
    family, batch = BY_ID[env_id].family, puzzles(env_id, 5)
    assert family.judge(batch.clues, batch.solutions, batch.solutions).all()
    assert not family.count_violations(batch.clues, batch.solutions).any()
    assert not family.count_violations(batch.clues, family.blank(batch.clues)).any()


@every_family
@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_costs_of_answers(env_id, seed):
    family, batch = BY_ID[env_id].family, puzzles(env_id, seed)
    given = answers(env_id, batch, np.random.default_rng(seed))
    cost = family.cost(batch.clues, given)
    assert cost.dtype == np.float64
    assert np.isinf(cost[family.count_violations(batch.clues, given) > 0]).all()
    solved = family.judge(batch.clues, batch.solutions, given)
    best = family.cost(batch.clues, batch.solutions)
    assert np.isfinite(best).all()
    assert (cost[solved] == best[solved]).all()
    if family.name != "arc":
        assert (cost[~solved] > best[~solved]).all(), "Sudokus have one solution, and only shortest paths solve a maze"
        blank = family.cost(batch.clues, family.blank(batch.clues))
        assert np.isinf(blank[(batch.clues != batch.solutions).any(axis=(1, 2))]).all()


def cell_boards(env_id: str, batch: PuzzleBatch) -> CellBoards:
    """Boards in cell mode before the first action."""
    family = BY_ID[env_id].family
    shown, free = family.blank(batch.clues), family.free(batch.clues).reshape(BOARDS, -1)
    zeros = np.zeros(BOARDS, np.int32), np.zeros(BOARDS, np.bool_)
    return CellBoards(batch.clues, batch.solutions, shown, np.ascontiguousarray(free), *zeros)


@every_family
@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_writing_on_many_boards_is_writing_on_each(env_id, seed):
    family, batch, rng = BY_ID[env_id].family, puzzles(env_id, seed), np.random.default_rng(seed)
    ours, plain = cell_boards(env_id, batch), cell_boards(env_id, batch)
    symbols, cells = len(family.writable), batch.clues[0].size
    wanted = [
        np.flatnonzero(family.free(c) & (s != b))
        for c, s, b in zip(batch.clues, batch.solutions, ours.shown, strict=True)
    ]
    over = np.zeros(BOARDS, dtype=np.bool_)
    for step in range(40):
        actions = rng.integers(cells * symbols + 1, size=BOARDS)
        for row in range(BOARDS):
            if rng.random() < 0.7 and step < len(wanted[row]):
                cell = wanted[row][step]
                actions[row] = cell * symbols + max(family.writable.index(int(batch.solutions[row].flat[cell])), 0)
        active = (rng.random(BOARDS) < 0.9) & ~over
        family.write_many(ours, actions, active)
        PuzzleFamily.write_many(family, plain, actions, active)
        assert np.array_equal(ours.shown, plain.shown)
        assert np.array_equal(ours.violations, plain.violations)
        assert np.array_equal(ours.ended[active], plain.ended[active])
        over |= ours.ended & active
    assert ours.violations.tolist() == family.count_violations(batch.clues, ours.shown).tolist()


@every_family
@settings(max_examples=10, deadline=None)
@given(key=st.integers(0, 2**64 - 1))
def test_symmetric_images_of_solved_puzzles_are_solved(env_id, key):
    world, batch = BY_ID[env_id], puzzles(env_id, key % 1000)
    cells, tokens = world.family.symmetry(world.shape, key)
    assert np.array_equal(np.sort(cells), np.arange(world.shape[0] * world.shape[1]))
    assert np.array_equal(np.sort(tokens), np.arange(world.family.vocab_size))
    clues, solutions = (
        tokens[grids.reshape(BOARDS, -1)[:, cells]].reshape(grids.shape) for grids in (batch.clues, batch.solutions)
    )
    assert world.family.judge(clues, solutions, solutions).all()
    assert np.array_equal(world.family.canonical(clues[0]), world.family.canonical(batch.clues[0])) or env_id in ARC
    if world.family.solve(batch.clues[0]) is not None:
        world.family.check(clues[0])


@every_family
def test_every_family_reads_back_what_it_writes(env_id):
    family, batch = BY_ID[env_id].family, puzzles(env_id, 9)
    assert len(family.symbols) == family.vocab_size
    assert len(set(family.symbols)) == family.vocab_size
    if family.solve(batch.clues[0]) is None:
        pytest.skip(f"{family.name} has no exact solver: its puzzles are whole tasks, read elsewhere")
    assert np.array_equal(family.parse(batch.clues[0]), batch.clues[0])
    assert np.array_equal(family.parse(family.to_text(batch.clues[0])), batch.clues[0])
    if family.name == "maze" and len(set(batch.clues[0].shape)) == 2:
        return  # a line of a CSV file is one text without lines: it says nothing of a shape that is not square
    flat = ["".join(family.symbols[token] for token in grid.ravel()) for grid in (batch.clues[0], batch.solutions[0])]
    clues, solution = family.read_row(*flat)
    assert np.array_equal(clues, batch.clues[0])
    assert np.array_equal(solution, batch.solutions[0])
