"""The order in which puzzles are fed to training: endless, random-access, the same after an interruption."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count as count_from

import numpy as np
from numpy.typing import NDArray

from hrm_gym.data.workers import Workers
from hrm_gym.envs.puzzle import PuzzleBatch, PuzzleSource, puzzle_key, puzzle_keys


def stream_keys(seed: int, first: int, count: int) -> NDArray[np.uint64]:
    """(count,) uint64 keys of puzzles first, first + 1, … under `seed`; element i is `puzzle_key(seed, first + i)`."""
    numbers = np.arange(first, first + count, dtype=np.uint64)
    return puzzle_keys(np.array([seed & ((1 << 64) - 1)], dtype=np.uint64), numbers)


class PuzzleStream:
    """Puzzle number n of a training run, for any n: a pure function of (source, seed, n).

    A source without a length is asked for new puzzles for ever. One with a length is read in shuffled rounds, each
    puzzle once a round. So a run that is resumed only needs to remember how far it had come.
    """

    def __init__(self, source: PuzzleSource, seed: int) -> None:
        self.source, self.seed = source, seed
        self.length = len(source) if hasattr(source, "__len__") else None  # type: ignore[arg-type]
        self._round = -1
        self._order: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def take(self, first: int, count: int) -> PuzzleBatch:
        """Puzzles first … first + count - 1."""
        if self.length is None:
            return self.source.batch(stream_keys(self.seed, first, count))
        return self.source.batch(self.rows(first, count))

    def rows(self, first: int, count: int) -> NDArray[np.uint64]:
        """(count,) uint64: which puzzles of a source with a length these numbers stand for."""
        return np.array([self._row(n) for n in range(first, first + count)], dtype=np.uint64)

    def _row(self, n: int) -> int:
        round_number, place = divmod(n, self.length or 1)
        if round_number != self._round:
            order = np.random.Generator(np.random.Philox(puzzle_key(self.seed, round_number)))
            self._round, self._order = round_number, order.permutation(self.length or 1)
        return int(self._order[place])


CHUNK = 32
"""Puzzles of one job of a worker: an extreme Sudoku takes 50 ms, and the first ones are waited for."""


class PrefetchedStream(PuzzleStream):
    """The same puzzles under the same numbers, made ahead by processes; for sources without a length.

    Numbers are meant to be asked for in rising order. A few chunks a process are computed ahead and no more.
    """

    def __init__(self, source: PuzzleSource, seed: int, processes: int) -> None:
        """Start `processes` >= 1 of them; `close` ends them."""
        super().__init__(source, seed)
        self._workers = Workers(processes, _make)
        self._coming: Iterator[PuzzleBatch] = iter(())
        self._next = -1  # the number of the chunk that `_coming` gives next
        self._chunks: dict[int, PuzzleBatch] = {}

    def take(self, first: int, count: int) -> PuzzleBatch:
        """Puzzles first … first + count - 1.

        Raises:
            OSError: a process died.
        """
        if self.length is not None or not count:
            return super().take(first, count)
        wanted = range(first // CHUNK, (first + count - 1) // CHUNK + 1)
        self._chunks = {number: chunk for number, chunk in self._chunks.items() if number >= wanted.start}
        if wanted.start not in self._chunks and self._next != wanted.start:
            self._chunks, self._next = {}, wanted.start
            jobs = ((self.source, self.seed, number * CHUNK, CHUNK) for number in count_from(wanted.start))
            self._coming = self._workers.ordered(jobs)
        while self._next < wanted.stop:
            self._chunks[self._next] = next(self._coming)
            self._next += 1
        place = first - wanted.start * CHUNK
        return PuzzleBatch.joined([self._chunks[number] for number in wanted]).rows(slice(place, place + count))

    def close(self) -> None:
        """End the processes."""
        self._workers.__exit__()


def _make(source: PuzzleSource, seed: int, first: int, count: int) -> PuzzleBatch:
    """What a worker does."""
    return PuzzleStream(source, seed).take(first, count)
