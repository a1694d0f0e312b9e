"""Training puzzles made ahead by other processes: the same ones, in any order of asking, and a death is heard."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest

from hrm_gym.data.stream import CHUNK, PrefetchedStream, PuzzleStream
from hrm_gym.envs.maze.source import GeneratedMazes
from hrm_gym.envs.puzzle import PuzzleBatch


@pytest.fixture
def ahead() -> Iterator[PrefetchedStream]:
    stream = PrefetchedStream(GeneratedMazes(6), 3, 2)
    yield stream
    stream.close()
    assert not multiprocessing.active_children()


def same(found: PuzzleBatch, expected: PuzzleBatch) -> None:
    for part in ("clues", "solutions", "puzzle_ids"):
        np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))


def test_the_same_puzzles_wherever_one_begins_and_jumps(ahead: PrefetchedStream) -> None:
    plain = PuzzleStream(GeneratedMazes(6), 3)
    wanted = [(0, 1), (1, 5), (6, CHUNK), (CHUNK + 6, 3 * CHUNK), (5, 2), (20 * CHUNK - 1, 2), (20 * CHUNK + 1, 0)]
    for first, count in wanted:
        same(ahead.take(first, count), plain.take(first, count))


def test_the_death_of_a_process_is_heard(ahead: PrefetchedStream) -> None:
    ahead.take(0, 1)
    for process in multiprocessing.active_children():
        os.kill(process.pid or 0, signal.SIGKILL)
    with pytest.raises(OSError, match="a worker process died"):
        ahead.take(0, 100 * CHUNK)
