"""Sudoku tokens: the ids and characters of the official data sets, text <-> grid, and the packing of bundled files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.files.csv_file import encode_rows, symbol_table
from hrm_gym.envs.puzzle import Grid
from hrm_gym.envs.sudoku.boxes import Box, board

PAD, BLANK, FIRST_DIGIT = range(3)
SYMBOLS = "?.123456789ABCDEFG"
"""The character of every token id; a board of side n knows the first n + 2. When read, `0` is a blank too, and letters
may be small."""

_SEPARATORS = str.maketrans("", "", " \t|+-")
_BYTES = np.frombuffer(SYMBOLS.encode("ascii"), dtype=np.uint8)


def encode(text: str, size: int) -> NDArray[np.uint8]:
    """Token ids of a line of Sudoku characters.

    Args:
        text: characters out of `.`, `0` and the digits up to `size`, followed by A to G.
        size: side length of the board.

    Returns:
        (len(text),) uint8, ids 1..size+1.

    Raises:
        ValueError: for any other character; names it and its place.
    """
    known = "." + SYMBOLS[FIRST_DIGIT : size + FIRST_DIGIT]
    ids = [known.find("." if character == "0" else character.upper()) + BLANK for character in text]
    if PAD in ids:
        place = ids.index(PAD)
        digits = f"1..{size}" if size <= 9 else f"1..9 and A..{known[-1]}"
        raise ValueError(f"expected only digits {digits}, '.' and '0', got {text[place]!r} at position {place}")
    return np.array(ids, dtype=np.uint8)


def decode(grid: NDArray[np.uint8]) -> str:
    """The characters of a token grid, row after row without separators.

    Args:
        grid: uint8 token ids 0..17, any shape.
    """
    return _BYTES[np.ascontiguousarray(grid, dtype=np.uint8)].tobytes().decode("ascii")


def to_text(grid: Grid, box: Box) -> str:
    """The (n, n) token grid as lines, with `|` and `-` between the boxes.

    >>> print(to_text(np.array([[2, 1, 1, 5], [1, 1, 1, 1], [1, 1, 1, 1], [3, 1, 1, 1]], dtype=np.uint8), (2, 2)))
    1 . | . 4
    . . | . .
    ----+----
    . . | . .
    2 . | . .
    """
    rows, columns = box
    stacks = [slice(left, left + columns) for left in range(0, len(grid), columns)]
    lines = [" | ".join(" ".join(decode(line[stack])) for stack in stacks) for line in grid]
    ruler = "+".join(
        "-" * (2 * columns + (0 < place < len(stacks) - 1)) for place in range(len(stacks))
    )  # as wide as the lines: a stack in the middle has a space on either side
    bands = ["\n".join(lines[top : top + rows]) for top in range(0, len(lines), rows)]
    return f"\n{ruler}\n".join(bands)


def parse(puzzle: Any, box: Box) -> Grid:
    """Sudoku clues from what a person may hand in.

    Args:
        puzzle: n lines of n characters, or one line of n*n, out of the digits, `.` and `0`, where spaces, `|`, `+`, `-`
            and empty lines say nothing; or an (n, n) array or nested list of token ids 1..n+1.
        box: (rows, columns) of a box.

    Returns:
        A fresh (n, n) uint8 grid of token ids.

    Raises:
        ValueError: if the characters, ids or shape are not those of such a board.
    """
    size = board(box).size
    return _parse_text(puzzle, size) if isinstance(puzzle, str) else _parse_tokens(puzzle, size)


def _parse_text(text: str, size: int) -> Grid:
    rows = [row for row in (line.translate(_SEPARATORS) for line in text.splitlines()) if row]
    if len(rows) == 1 and len(rows[0]) != size * size:
        raise ValueError(f"expected {size * size} characters in one line (side {size}), got {len(rows[0])}")
    if len(rows) > 1 or not rows:
        if len(rows) != size:
            raise ValueError(f"expected {size} lines of {size} characters, or one line of all, got {len(rows)} lines")
        for line, row in enumerate(rows, 1):
            if len(row) != size:
                raise ValueError(f"expected {size} characters in every line, got {len(row)} in line {line}")
    return encode("".join(rows), size).reshape(size, size)


def _parse_tokens(puzzle: Any, size: int) -> Grid:
    try:
        grid = np.asarray(puzzle)
    except ValueError:
        raise ValueError("expected a grid with rows of one length, got rows of several lengths") from None
    if grid.shape != (size, size) or not np.issubdtype(grid.dtype, np.integer):
        raise ValueError(
            f"expected a ({size}, {size}) grid of integer token ids, got shape {grid.shape}, dtype {grid.dtype}"
        )
    if grid.min() < BLANK or grid.max() > size + 1:
        raise ValueError(f"expected Sudoku tokens 1..{size + 1}, got {int(grid.min())}..{int(grid.max())}")
    return grid.astype(np.uint8)


def are_solutions(grids: NDArray[np.uint8], box: Box) -> NDArray[np.bool_]:
    """Which boards have every digit once in every row, column and box.

    Args:
        grids: (N, n, n) uint8 token ids.
        box: (rows, columns) of a box.

    Returns:
        (N,) bool.
    """
    (rows, columns), count = box, len(grids)
    size = rows * columns
    boxes = grids.reshape(count, columns, rows, rows, columns).swapaxes(2, 3).reshape(count, size, size)
    digits = np.arange(FIRST_DIGIT, size + FIRST_DIGIT, dtype=np.uint8)
    units = np.concatenate([grids, grids.swapaxes(1, 2), boxes], axis=1)
    return (np.sort(units, axis=2) == digits).all(axis=(1, 2))


def read_row(question: str, answer: str, box: Box) -> tuple[Grid, Grid]:
    """The puzzle and the answer of a row of an official CSV file.

    That the answer is the only one is not asked: it would take long in a large file.

    Args:
        question: n*n characters out of the digits, `.` and `0`.
        answer: n*n digits.
        box: (rows, columns) of a box.

    Returns:
        Two (n, n) uint8 grids.

    Raises:
        ValueError: if the texts are not a board and the same board solved.
    """
    size = board(box).size
    grids = []
    for name, text in (("question", question), ("answer", answer)):
        if len(text) != size * size:
            raise ValueError(f"expected {size * size} characters in {name}, got {len(text)}")
        try:
            grids.append(encode(text, size).reshape(size, size))
        except ValueError as error:
            raise ValueError(f"{error} in {name}") from None
    clues, solution = grids
    altered = (clues != BLANK) & (clues != solution)
    if altered.any():
        r, c = (int(place[0]) for place in np.nonzero(altered))
        was, now = decode(clues[r, c : c + 1]), decode(solution[r, c : c + 1])
        raise ValueError(f"expected an answer that keeps the clues, got {now!r} for {was!r} at row {r}, column {c}")
    if not are_solutions(solution[None], box)[0]:
        raise ValueError("expected an answer with every digit once in every row, column and box, got another")
    return clues, solution


def read_rows(questions: Sequence[str], answers: Sequence[str], box: Box) -> tuple[Grid, Grid]:
    """`read_row` for N >= 1 rows.

    Returns:
        Two (N, n, n) uint8 arrays.

    Raises:
        ValueError: if any row is bad; it does not say which.
    """
    size = board(box).size
    known = {SYMBOLS[token]: token for token in range(BLANK, size + FIRST_DIGIT)}
    table = symbol_table({"0": BLANK} | known | {symbol.lower(): token for symbol, token in known.items()})
    clues, solutions = encode_rows(questions, table), encode_rows(answers, table)
    if clues.shape != solutions.shape or clues.shape[1] != size * size:
        raise ValueError(f"expected questions and answers of {size * size} characters, got others")
    if not ((clues == BLANK) | (clues == solutions)).all():
        raise ValueError("expected answers that keep their clues, got another")
    solutions = solutions.reshape(-1, size, size)
    if not are_solutions(solutions, box).all():
        raise ValueError("expected answers with every digit once in every row, column and box, got another")
    return clues.reshape(-1, size, size), solutions


def pack(clues: NDArray[np.uint8], solutions: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The bytes of M puzzles.

    Args:
        clues: (M, n, n) uint8 token ids.
        solutions: (M, n, n) uint8 token ids.

    Returns:
        (M, ceil(n*n/8)) uint8, a bit for every cell with a clue, and (M, ceil(n*n/2)) uint8, the solution.
    """
    count = len(clues)
    digits = solutions.reshape(count, -1) - np.uint8(FIRST_DIGIT)
    digits = np.pad(digits, ((0, 0), (0, digits.shape[1] % 2)))
    given = np.packbits(clues.reshape(count, -1) != BLANK, axis=1)
    return given, digits[:, ::2] << np.uint8(4) | digits[:, 1::2]


def unpack(given: NDArray[np.uint8], digits: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """What `pack` packed.

    Args:
        given: (M, ceil(n*n/8)) uint8.
        digits: (M, ceil(n*n/2)) uint8.
        size: n.

    Returns:
        (M, 2, n*n) uint8: the clues of every puzzle, and its solution.
    """
    cells = size * size
    both = np.stack([digits >> 4, digits & 15], axis=2).reshape(len(digits), -1)[:, :cells]
    solutions = both + np.uint8(FIRST_DIGIT)
    shown = np.unpackbits(given, axis=1, count=cells).astype(np.bool_)
    return np.stack([np.where(shown, solutions, np.uint8(BLANK)), solutions], axis=1)
