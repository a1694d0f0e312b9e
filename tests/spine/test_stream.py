"""Training puzzles made ahead by other processes: the same ones, in any order of asking, and a death is heard."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hrm_gym.agents.hrm.trainer import Trainer
from hrm_gym.data.stream import CHUNK, PrefetchedStream, PuzzleStream
from hrm_gym.envs.maze.source import GeneratedMazes
from hrm_gym.envs.puzzle import PuzzleBatch
from tests.agents.hrm.tiny import TINY


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


def test_a_run_ends_with_the_same_weights_with_and_without_workers(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    recipe = replace(TINY, updates=4, eval_every=2, checkpoint_every=2)
    states = []
    for workers in (0, 2):
        trainer = Trainer(recipe, tmp_path / str(workers), workers=workers)
        for _ in trainer.fit():
            pass
        states.append(trainer.model.state_dict())
        if workers:
            assert isinstance(trainer.feed.stream, PrefetchedStream)
            trainer.feed.stream.close()
    assert all(torch.equal(one, states[1][name]) for name, one in states[0].items())
