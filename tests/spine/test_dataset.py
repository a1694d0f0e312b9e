"""The order of training puzzles: random-access, and the keys everyone else uses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrm_gym.data.stream import PuzzleStream, stream_keys
from hrm_gym.envs.maze.source import GeneratedMazes
from hrm_gym.envs.puzzle import PuzzleBatch, puzzle_key


@given(seed=st.integers(-(2**70), 2**70), first=st.integers(0, 2**40), count=st.integers(0, 5))
def test_keys_in_a_batch_are_the_keys_one_by_one(seed: int, first: int, count: int) -> None:
    assert stream_keys(seed, first, count).tolist() == [puzzle_key(seed, first + i) for i in range(count)]


def test_an_endless_source_is_read_anywhere() -> None:
    stream = PuzzleStream(GeneratedMazes(5), seed=3)
    whole, part = stream.take(0, 10), stream.take(6, 3)
    assert np.array_equal(whole.clues[6:9], part.clues)
    assert np.array_equal(whole[7].solution, part[1].solution)


class Numbered:
    """Seven puzzles whose clues are their number."""

    shape = (1, 1)

    def __len__(self) -> int:
        return 7

    def batch(self, keys: np.ndarray) -> PuzzleBatch:
        grids = keys.astype(np.uint8).reshape(-1, 1, 1)
        return PuzzleBatch(grids, grids, np.zeros(len(keys), dtype=np.int32))


@pytest.mark.parametrize("pieces", [(21,), (1,) * 21, (5, 9, 7)])
def test_a_finite_source_is_read_in_shuffled_rounds(pieces: tuple[int, ...]) -> None:
    stream, seen = PuzzleStream(Numbered(), seed=1), []  # type: ignore[arg-type]
    for count in pieces:
        seen += stream.take(len(seen), count).clues.ravel().tolist()
    rounds = [seen[i : i + 7] for i in (0, 7, 14)]
    assert all(sorted(row) == list(range(7)) for row in rounds)
    assert rounds[0] != rounds[1], "every round was shuffled in the same way"
    assert seen == PuzzleStream(Numbered(), seed=1).take(0, 21).clues.ravel().tolist()  # type: ignore[arg-type]
