"""Values that nobody should hand to an environment, for `make fuzz`: everything drawn from one `random.Random`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.puzzle import Puzzle

SCALARS: tuple[Any, ...] = (
    math.nan, math.inf, -math.inf, -1, 0, 1, 2, 3, -(2**63), 2**63, 2**70, 255, 256, 65536, 1.5, 0.0, -0.0, 1e308,
    None, True, False, "", "1", "nan", "answer", "generate", "train", "\x00", "ü", "🦆", "9" * 400, b"1", [], [1],
    (1, 2), 1e-320,
    {}, {"a": 1}, set(), 1j, ..., object, np.int64(-1), np.int64(1), np.uint8(255), np.float32("nan"), np.float64(2),
    np.bool_(True), np.array(3), np.array([3]), np.array([[3]]), np.array([]), np.array(["x"]), np.array([None]),
    np.datetime64("2020"), range(3), [[1, 2], [3]], [math.nan], -2, 10**9, 1e9, np.int8(-128), np.uint64(2**64 - 1),
)  # fmt: skip
"""Single values of every kind; some of them are good in some places."""

ALPHABET = "# SGo.0123456789?,;:'\"\\\n\r\t\x00\x1b|-+eEnaN[]{}ü€🦆\u2028\ufeff"
DTYPES = ("bool", "int8", "int16", "int64", "uint64", "float16", "float64", "complex64", "object", "U1", "S1", "M8[s]")
SIDES = (0, 1, 2, 3, 4, 5, 6, 9, 10, 12, 30, 31, 300)


def scalar(rng: Random) -> Any:
    """One value of any kind."""
    return rng.choice(SCALARS)


def text(rng: Random) -> str:
    """Random characters in random lines."""
    lines = [rng.choices(ALPHABET, k=rng.choice(SIDES[:-1])) for _ in range(rng.choice((0, 1, 1, 2, 4, 9)))]
    return rng.choice(("\n", "\r\n", "", " ")).join("".join(line) for line in lines)


def mutated_text(rng: Random, good: str) -> str:
    """A good text with a few letters exchanged, lost, added, doubled, or its lines shuffled."""
    letters = list(good)
    for _ in range(rng.choice((1, 1, 1, 2, 5, 40))):
        place = rng.randrange(len(letters) + 1)
        change = rng.randrange(5)
        if change == 0:
            letters[place : place + 1] = [rng.choice(ALPHABET)]
        elif change == 1:
            del letters[place : place + rng.choice((1, 1, 3, 20))]
        elif change == 2:
            letters.insert(place, rng.choice(ALPHABET))
        elif change == 3 and letters:
            letters[place : place + 1] = [rng.choice(letters)]
        else:
            letters[place:place] = letters[place : place + rng.choice((1, 9, 40))]
    lines = "".join(letters).split("\n")
    if rng.random() < 0.1:
        rng.shuffle(lines)
    return "\n".join(lines)


def array(rng: Random, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
    """An array of a random type, and of a random shape unless that is given; numbers in and out of range."""
    if shape is None:
        shape = tuple(rng.choice(SIDES[:-1]) for _ in range(rng.choice((0, 1, 2, 2, 2, 3))))
    low, high = rng.choice(((0, 6), (0, 12), (1, 5), (-5, 5), (0, 256), (-300, 70000)))
    numbers = np.random.default_rng(rng.getrandbits(32)).integers(low, high, shape)
    with np.errstate(all="ignore"):
        return numbers.astype(rng.choice(("int64", "uint8", "int64", "uint8", *DTYPES)))


def mutated_grid(rng: Random, good: NDArray[np.uint8]) -> Any:
    """A good token grid, changed in its values, its shape, its type or its nesting."""
    change = rng.choice(GRID_CHANGES)
    return change(rng, good.copy())


def _cells(rng: Random, grid: NDArray[np.uint8]) -> Any:
    for _ in range(rng.choice((1, 1, 2, 3, 30))):
        grid.flat[rng.randrange(grid.size)] = rng.choice((0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 255))
    return grid


def _moved(rng: Random, grid: NDArray[np.uint8]) -> Any:
    """Every token moved by a number that the type of the official files would wrap back."""
    return grid.astype(np.int64) + rng.choice((256, -256, 1, -1, 2**32, 65536))


def _one_far_off(rng: Random, grid: NDArray[np.uint8]) -> Any:
    wide = grid.astype(rng.choice(("int64", "float64", "object")))
    value = rng.choice((256 + int(grid.flat[0]), -1, math.nan, math.inf, 10**6, 1.5))
    whole = wide.dtype.kind == "i" and isinstance(value, float)
    wide.flat[rng.randrange(wide.size)] = 0 if whole else value
    return wide


def _cast(rng: Random, grid: NDArray[np.uint8]) -> Any:
    with np.errstate(all="ignore"):
        return grid.astype(rng.choice(DTYPES))


def _cut(rng: Random, grid: NDArray[np.uint8]) -> Any:
    return rng.choice(
        (grid[1:], grid[:, :-1], grid[:0], grid[:, :0], grid.ravel(), grid[None], grid[..., None], grid[0])
    )


def _joined(rng: Random, grid: NDArray[np.uint8]) -> Any:
    return rng.choice(
        (np.tile(grid, (2, 1)), np.tile(grid, (2, 2)), np.tile(grid, (1, 3)), np.repeat(grid, 40, axis=0))
    )


def _turned(rng: Random, grid: NDArray[np.uint8]) -> Any:
    return rng.choice((grid.T, grid[::-1], np.asfortranarray(grid), grid[:, ::-1]))


def _listed(rng: Random, grid: NDArray[np.uint8]) -> Any:
    rows = grid.tolist()
    if rows and rows[0]:
        rng.choice(rows)[rng.randrange(len(rows[0]))] = scalar(rng)
    return rng.choice((rows, tuple(map(tuple, rows)), [*rows[:-1], [1]], [rows, rows], [*rows, None]))


GRID_CHANGES: Sequence[Callable[[Random, NDArray[np.uint8]], Any]] = (
    _cells, _cells, _cells, _moved, _one_far_off, _cast, _cut, _joined, _turned, _listed,
)  # fmt: skip


def mutated_puzzle(rng: Random, good: Puzzle) -> Puzzle:
    """A Puzzle with something wrong in it: its clues, its solution, its demonstrations or its numbers."""
    clues: Any = good.clues
    solution: Any = good.solution
    part = rng.randrange(4)
    if part in (0, 3):
        clues = mutated_grid(rng, good.clues)
    if part in (1, 3):
        solution = rng.choice((mutated_grid(rng, good.solution), good.clues, None))
    if part == 2:
        return Puzzle(clues, solution, scalar(rng), extras={"demonstrations": scalar(rng), "pairs": scalar(rng)})
    return Puzzle(clues, solution, good.puzzle_id, extras=good.extras)


def mutated_bytes(rng: Random, good: bytes) -> bytes:
    """The bytes of a file with some exchanged, lost, added or doubled, or in another encoding."""
    content = bytearray(good)
    for _ in range(rng.choice((1, 1, 2, 8))):
        place = rng.randrange(len(content) + 1)
        change = rng.randrange(5)
        if change == 0:
            content[place : place + 1] = rng.randbytes(1)
        elif change == 1:
            del content[place : place + rng.choice((1, 1, 9, 100, 10**6))]
        elif change == 2:
            content[place:place] = rng.choice(
                (b"\x00", b'"', b",", b"\n", b"\r", b"\xff", b"\xef\xbb\xbf", b"\xc3", b"nan")
            )
        elif change == 3:
            content[place:place] = content[max(0, place - 200) : place]
        elif rng.random() < 0.05:
            return rng.choice((b"", good * 3, good.decode("latin-1").encode("utf-16"), b"x" * 200_000, good[::-1]))
    return bytes(content)
