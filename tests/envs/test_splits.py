"""No puzzle of one split is in another, whatever it comes from; banks and new puzzles of one split are apart too."""

from __future__ import annotations

from itertools import product
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import hrm_gym
from hrm_gym.envs.puzzle import BANK_SEED, SPLITS, apart_from_banks, hash_in_split, puzzle_keys, split_of_hash

hrm_gym.register_environments()
WORLDS: dict[str, tuple[str, dict[str, Any]]] = {
    "4x4": ("HRMSudokuMini-v0", {}),
    "6x6": ("HRMSudokuMini-v0", {"box": (2, 3)}),
    **{name: ("HRMSudoku-v0", {"difficulty": name}) for name in ("easy", "medium", "hard")},
    "extreme": ("HRMSudokuExtreme-v0", {}),
    "8x8": ("HRMMaze-v0", {"size": 8}),
    "10x10": ("HRMMaze-v0", {}),
}
THREE = ("train", "validation", "test")
FEW = ("4x4", "6x6", "extreme")
"""Where a new puzzle may well be a symmetric image of one in the bank: small boards have few kinds of puzzle, and an
extreme puzzle is often a founder, or a step from one."""


def keys(seed: int, count: int) -> np.ndarray:
    return puzzle_keys(np.array([seed], np.uint64), np.arange(count, dtype=np.uint64))


def sources(world: str) -> dict[tuple[str, str], tuple[Any, list[Any]]]:
    """Of every source and split the family, and puzzles: all of a bank, and of new ones the first of two seeds."""
    env_id, arguments = WORLDS[world]
    found = {}
    for kind, split in product(("bank", "generate"), THREE):
        env: Any = gym.make(env_id, source=kind, split=split, disable_env_checker=True, **arguments).unwrapped
        source = env.puzzle_source
        if kind == "bank":
            puzzles = [source[k] for k in range(len(source))]
        else:
            batches = [source.batch(keys(seed, 60)) for seed in (0, BANK_SEED)]
            puzzles = [batch[k] for batch in batches for k in range(len(batch))]
        found[kind, split] = env.family, puzzles
    return found


@pytest.mark.parametrize("world", WORLDS)
def test_overlap_of_every_pair_of_sources(world: str) -> None:
    found = sources(world)
    clusters = {name: [family.cluster(puzzle) for puzzle in puzzles] for name, (family, puzzles) in found.items()}
    for one, other in product(found, found):
        if one[1] != other[1]:
            assert not set(clusters[one]) & set(clusters[other]), f"{one} and {other}"
    for split in THREE:
        family, stored = found["bank", split]
        new = found["generate", split][1]
        known: dict[int, list[Any]] = {}
        for cluster, puzzle in zip(clusters["bank", split], stored, strict=True):
            known.setdefault(cluster, []).append(puzzle)
        twins = [
            puzzle
            for cluster, puzzle in zip(clusters["generate", split], new, strict=True)
            if any(
                np.array_equal(family.canonical(puzzle.clues), family.canonical(twin.clues))
                for twin in known.get(cluster, ())
            )
        ]
        assert world in FEW or not twins, f"{len(twins)} new {split} puzzles are in the bank"
        same = sum(any(np.array_equal(one.clues, two.clues) for two in stored) for one in new[60:])
        assert same <= (2 if world in FEW else 0), f"{same} puzzles of the bank's seed are the bank's, verbatim"


def test_every_hash_is_in_one_split_and_train_is_as_before() -> None:
    values = np.random.default_rng(0).integers(0, 2**64, 4000, dtype=np.uint64)
    shares = dict.fromkeys(THREE, 0)
    for value in values:
        (split,) = [name for name in THREE if hash_in_split(value, SPLITS.index(name))]
        assert split == split_of_hash(value)
        assert (split == "train") == (int(value) % 8 != 0)
        shares[split] += 1
    assert 60 < shares["validation"] < 200 < shares["test"] < 500


def test_keys_of_the_banks_are_replaced_and_no_others() -> None:
    bank, other = keys(BANK_SEED, 100), keys(3, 100)
    assert not np.isin(apart_from_banks(bank), bank).any()
    assert np.array_equal(apart_from_banks(other), other)
    mixed = np.concatenate([other, bank])
    assert np.array_equal(apart_from_banks(mixed)[:100], other)
    assert len(np.unique(apart_from_banks(bank))) == 100
