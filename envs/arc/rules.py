"""The rules of ARC, and ARC as a `PuzzleFamily`.

A task shows pairs of grids, input and output, and wants the output to one more input. Whether an answer is right only
its stored solution tells; nothing can be judged from the clues.
"""

from __future__ import annotations

import hashlib
import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.arc import tasks, tokens
from hrm_gym.envs.arc.layout import BOARD, answer_cell
from hrm_gym.envs.arc.tokens import (
    BLACK,
    COLOURS,
    VOCAB_SIZE,
    judge_kernel,
    turn_many_kernel,
    write_kernel,
)
from hrm_gym.envs.compiled import plain
from hrm_gym.envs.family import ArrayKind, CellBoards, Grids, PuzzleFamily, expect_one_shape, expect_tokens
from hrm_gym.envs.puzzle import Grid, Puzzle, Thought, puzzle_keys

if TYPE_CHECKING:
    import pygame


TURNS = 8
BACK = (0, 3, 2, 1, 4, 5, 6, 7)
"""The turn that undoes each turn."""


def turned(grid: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """One of the eight symmetric images of a grid, numbered as the official augmentation does.

    Args:
        grid: (h, w).
        turn: 0 unchanged, 1..3 turned left that many times, 4 left and right swapped, 5 top and bottom swapped, 6
            transposed, 7 transposed along the other diagonal.

    Returns:
        A view, (h, w) or (w, h).
    """
    if turn < 4:
        return np.rot90(grid, turn)
    return (np.fliplr, np.flipud, np.transpose, lambda one: np.fliplr(np.rot90(one)))[turn - 4](grid)


RECOLOURINGS = math.factorial(COLOURS - 1)
"""Permutations of the colours that leave black alone."""


def symmetry_key(turn: int, colours: Sequence[int]) -> int:
    """The key that stands for one very symmetry, where others are drawn: 0 is the identity.

    Args:
        turn: 0..7.
        colours: the colour, 0..9, that takes the place of each colour; black stays 0.

    Raises:
        ValueError: there is no such turn, or `colours` is no permutation that leaves black alone.
    """
    if turn not in range(TURNS) or colours[0] != 0 or sorted(colours) != list(range(COLOURS)):
        raise ValueError(f"expected a turn in 0..{TURNS - 1} and a permutation of colours 0, …, got {turn}, {colours}")
    left, rank = list(range(1, COLOURS)), 0
    for colour in colours[1:]:
        rank = rank * len(left) + left.index(colour)
        left.remove(colour)
    return turn * RECOLOURINGS + rank


def _read_key(key: int) -> tuple[int, list[int]]:
    """The inverse of `symmetry_key`."""
    turn, rank = divmod(key, RECOLOURINGS)
    places: list[int] = []
    for size in range(1, COLOURS):
        rank, place = divmod(rank, size)
        places.insert(0, place)
    left = list(range(1, COLOURS))
    return turn, [0, *(left.pop(place) for place in places)]


def draw_symmetries(keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """One symmetry for each 64-bit key: a turn, and a permutation of the colours that leaves black alone.

    Small keys, which no draw of a puzzle comes to, each stand for a symmetry of their own: `symmetry_key`.

    Args:
        keys: (N,) uint64.

    Returns:
        (N,) int64 turns 0..7, and (N, 12) uint8 tokens: the token that takes the place of each token.
    """
    numbers = puzzle_keys(keys[:, None], np.arange(COLOURS, dtype=np.uint64)[None])
    tokens = np.tile(np.arange(VOCAB_SIZE, dtype=np.uint8), (len(keys), 1))
    tokens[:, BLACK + 1 :] = BLACK + 1 + np.argsort(numbers[:, 1:], axis=1)
    turns = (numbers[:, 0] % np.uint64(TURNS)).astype(np.int64)
    for row in np.flatnonzero(keys < TURNS * RECOLOURINGS):
        turns[row], colours = _read_key(int(keys[row]))
        tokens[row, BLACK:] = BLACK + np.array(colours)
    return turns, tokens


FORMS = "a Puzzle, a task dictionary or its JSON text, or (task, number of the test pair)"


class ArcFamily(PuzzleFamily):
    """ARC tasks on boards of `canvas` x `canvas` cells; see `PuzzleFamily` for the methods.

    All cells are free, none is given: the answer is a separate board, at first all pad, on which a grid of any shape
    is drawn top left. Only what `tokens.crop` reads off the board is judged.

    Attributes:
        canvas: side of the boards.
    """

    name = "arc"
    title = "ARC"
    vocab_size = tokens.VOCAB_SIZE
    symbols = tokens.SYMBOLS
    writable: tuple[int, ...] = tuple(range(tokens.END, tokens.VOCAB_SIZE))
    has_solver = False
    attempts = 2
    board_size = BOARD
    difficulty_unit = "cells"
    wanted = (
        "Grids of coloured cells, a digit 0 to 9 a colour, a line a row. In each example one rule makes the output out "
        "of the input. Give the output to the test input by the same rule; its size may be another."
    )

    def __init__(self, canvas: int = tokens.MAX_SIDE) -> None:
        self.canvas = canvas

    def extra_arrays(self, shape: tuple[int, int]) -> dict[str, ArrayKind]:
        """The demonstrations, how many there are, and the task's place in its data set."""
        return {
            "demonstrations": ArrayKind((tasks.MAX_PAIRS, 2, *shape), np.uint8, self.vocab_size - 1),
            "pairs": ArrayKind((1,), np.uint8, tasks.MAX_PAIRS),
            "task": ArrayKind((1,), np.int32, 2**31 - 1),
        }

    @classmethod
    def for_grid(cls, grid: tuple[int, int]) -> ArcFamily:
        """On a canvas of that side."""
        return cls(canvas=grid[0])

    # ---- reading ----

    def parse(self, puzzle: Any) -> Grid:
        """The board of a grid, from lines of digits or from token ids; see `tokens.read_board`."""
        return tokens.read_board(puzzle, self.canvas)

    def check(self, clues: Grid) -> None:
        """Raise ValueError unless the board shows one grid, top left, with end and pad around it."""
        if clues.shape != (self.canvas, self.canvas):
            raise ValueError(f"expected a board of {self.canvas}x{self.canvas} cells, got {clues.shape}")
        tokens.check_board(clues)

    def read_row(self, question: str, answer: str) -> tuple[Grid, Grid]:
        """No CSV file: ARC tasks come as JSON."""
        raise ValueError(f"expected ARC tasks as JSON files, got a CSV row that begins {question[:20]!r}")

    def make_puzzle(self, puzzle: Any) -> Puzzle:
        """A checked puzzle from what a person hands in.

        Args:
            puzzle: a Puzzle; a task, `{"train": [{"input": …, "output": …}, …], "test": [{"input": …, "output": …}]}`;
                its JSON text; or (task, number of the test pair), without which the first test pair with an output is
                taken. Of more than ten demonstrations the first ten are kept.

        Raises:
            ValueError: says what was expected and what came.
        """
        if isinstance(puzzle, Puzzle):
            return self._checked(puzzle)
        task, test = puzzle if isinstance(puzzle, tuple) and len(puzzle) == 2 else (puzzle, None)
        if not isinstance(task, str | Mapping) or not isinstance(test, int | np.integer | None):
            raise ValueError(f"expected {FORMS}, got {reprlib.repr(puzzle)}")
        read = tasks.read_json_task(task) if isinstance(task, str) else tasks.read_task(task)
        return tasks.make_puzzle(read, None if test is None else int(test), self.canvas)

    def _checked(self, puzzle: Puzzle) -> Puzzle:
        """The same puzzle; ValueError unless its arrays are those of an ARC puzzle on this canvas."""
        self.check(puzzle.clues)
        if not isinstance(puzzle.extras, Mapping):
            raise ValueError(f"expected extras as a dictionary, got {reprlib.repr(puzzle.extras)}")
        side, shown = self.canvas, puzzle.extras.get("demonstrations")
        if puzzle.solution.shape != (side, side):
            raise ValueError(f"expected a solution of {side}x{side} cells, got {puzzle.solution.shape}")
        expected = (tasks.MAX_PAIRS, 2, side, side)
        if not isinstance(shown, np.ndarray) or shown.shape != expected or shown.dtype != np.uint8:
            got = f"{shown.shape} {shown.dtype}" if isinstance(shown, np.ndarray) else reprlib.repr(shown)
            raise ValueError(f"expected demonstrations as an array {expected} of uint8, got {got}")
        pairs = np.asarray(puzzle.extras.get("pairs", -1))
        if pairs.size != 1 or pairs.dtype.kind not in "iu" or not 0 <= pairs.item() <= tasks.MAX_PAIRS:
            raise ValueError(f"expected pairs in 0..{tasks.MAX_PAIRS}, got {reprlib.repr(puzzle.extras.get('pairs'))}")
        highest = max(int(puzzle.solution.max()), int(shown.max()))
        if highest >= self.vocab_size:
            raise ValueError(f"expected token ids 0..{self.vocab_size - 1}, got {highest}")
        if not isinstance(puzzle.puzzle_id, int | np.integer) or not 0 <= puzzle.puzzle_id < 2**31:
            raise ValueError(f"expected puzzle_id in 0..{2**31 - 1}, got {reprlib.repr(puzzle.puzzle_id)}")
        extras = tasks.extras(shown, pairs.item(), puzzle.puzzle_id)
        whole = all(name in puzzle.extras and np.array_equal(puzzle.extras[name], extras[name]) for name in extras)
        return puzzle if whole else replace(puzzle, extras=extras)

    def describe(self, puzzle: Puzzle, answer: Grid) -> str:
        """Demonstrations, the test input, and next to it the board of the answer."""
        expect_tokens(answer, self.vocab_size)
        shown = tuple(puzzle.extras["demonstrations"][: puzzle.extras["pairs"].item()])
        blocks = [
            f"demonstration {number}\n{_beside(*(tokens.to_text(_trimmed(board)) for board in pair))}\n"
            for number, pair in enumerate(shown, 1)
        ]
        test = _beside(tokens.to_text(_trimmed(puzzle.clues)), tokens.to_text(answer))
        return "\n".join([*blocks, f"test input -> answer\n{test}"])

    @property
    def letters(self) -> str:
        """The colours."""
        return self.symbols[BLACK:]

    def task_text(self, observation: Mapping[str, NDArray[Any]]) -> str:
        """The demonstrations and the test input, as digits."""
        parts = [self.wanted]
        for number, pair in enumerate(observation["demonstrations"][: int(observation["pairs"][0])], 1):
            given, made = map(self.answer_text, pair)
            parts.append(f"Example {number}, input:\n{given}\n\nExample {number}, output:\n{made}")
        return "\n\n".join([*parts, f"Test input:\n{self.answer_text(observation['puzzle'])}"])

    def answer_text(self, grid: Grid) -> str:
        """The grid on a board, as digits."""
        expect_tokens(grid, self.vocab_size)
        return "\n".join("".join(map(str, row)) for row in tokens.crop(grid).tolist())

    def read_answer(self, lines: Sequence[str], shape: tuple[int, int]) -> Grid:
        """The board of a grid in lines of digits; see `tokens.read_board`."""
        return tokens.read_board("\n".join(lines), shape[0])

    # ---- rules ----

    def solve(self, clues: Grid) -> Grid | None:
        """None: no program is known that solves ARC."""
        return None

    def blank(self, clues: Grids) -> Grids:
        """All pad."""
        return np.zeros_like(clues)

    def free(self, clues: Grids) -> NDArray[np.bool_]:
        """All cells."""
        return np.ones(clues.shape, dtype=np.bool_)

    def counted(self, clues: Grids, solutions: Grids) -> NDArray[np.bool_]:
        """The cells of the stored solution's grid."""
        return solutions >= tokens.BLACK

    def judge(self, clues: Grids, solutions: Grids, answers: Grids) -> NDArray[np.bool_]:
        """(N,) bool: whether the grid read off an answer is that of the stored solution, in shape and in content."""
        expect_one_shape(solutions, answers)
        solved = np.empty(len(answers), dtype=np.bool_)
        judge_kernel(plain(solutions), plain(answers), solved)
        return solved

    def verdict(self, clues: Grids, solutions: Grids, answers: Grids) -> dict[str, NDArray[Any]]:
        """As of other families, but `exact` is `solved`: what is around a grid means nothing."""
        verdict = super().verdict(clues, solutions, answers)
        return {**verdict, "exact": verdict["solved"].copy()}

    def violations(self, clues: Grids, answers: Grids) -> NDArray[np.bool_]:
        """None: the clues alone say of no answer that it is wrong."""
        return np.zeros(answers.shape, dtype=np.bool_)

    def count_violations(self, clues: Grids, answers: Grids) -> NDArray[np.int32]:
        """Zeros."""
        return np.zeros(len(answers), dtype=np.int32)

    def write(self, clues: Grid, shown: Grid, cell: int, token: int) -> int:
        """Write `token` into `cell`; no number of violations grows."""
        shown.flat[cell] = token
        return 0

    def write_many(self, boards: CellBoards, actions: NDArray[np.int64], active: NDArray[np.bool_]) -> None:
        """One action on each active board, compiled."""
        write_kernel(boards.solutions, boards.shown, boards.free, actions, active, boards.ended)

    # ---- symmetries and looks ----

    def symmetry(self, shape: tuple[int, int], key: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """A permutation of the colours that leaves black alone; the cells stay.

        Turning or mirroring means something for the grids, not for the boards on which they lie top left: no
        permutation of cells does it for grids of all sizes. `image` turns, and so does `ArcTasks`.
        """
        colours = draw_symmetries(np.array([key], dtype=np.uint64))[1][0]
        return np.arange(shape[0] * shape[1]), colours

    def symmetry_key(self, turn: int, colours: Sequence[int]) -> int:
        """The key of a turn and a permutation of the colours; see `symmetry_key`."""
        return symmetry_key(turn, colours)

    def image(self, grids: NDArray[np.uint8], key: int) -> NDArray[np.uint8]:
        """The grids on (N, C, C) boards, turned or mirrored and in other colours, as `ArcTasks` does it with `key`."""
        expect_tokens(grids, self.vocab_size, 3)
        turns, colours = draw_symmetries(np.array([key], dtype=np.uint64))
        return _turned_boards(grids, int(turns[0]), colours[0])

    def preimage(self, grids: NDArray[np.uint8], key: int) -> NDArray[np.uint8]:
        """The inverse of `image` for the grids that are read off (N, C, C) boards; what lies around them is lost."""
        expect_tokens(grids, self.vocab_size, 3)
        turns, colours = draw_symmetries(np.array([key], dtype=np.uint64))
        shown = np.stack([tokens.place(tokens.crop(board), self.canvas) for board in grids])
        return _turned_boards(shown, BACK[turns[0]], np.argsort(colours[0]).astype(np.uint8))

    def cluster(self, puzzle: Puzzle) -> int:
        """The task, of which a puzzle is one test grid; for a task of no data set, its demonstrations."""
        shown = b"" if puzzle.puzzle_id else puzzle.extras["demonstrations"].tobytes()
        task = puzzle.puzzle_id.to_bytes(4, "little")
        return int.from_bytes(hashlib.blake2b(task + shown, digest_size=8).digest(), "little")

    def legend(self, puzzle: Puzzle, answer: Grid, thought: Thought | None) -> list[str]:
        """What the small squares mean."""
        wishes = thought is not None and bool(((thought.answer != answer) & (thought.answer >= tokens.BLACK)).any())
        return ["small squares: not written yet"] if wishes else []

    def draw(self, surface: pygame.Surface, puzzle: Puzzle, answer: Grid, thought: Thought | None) -> None:
        """Paint demonstrations, test input and answer so that they fill `surface`."""
        from hrm_gym.envs.arc.drawing import draw_arc

        draw_arc(surface, puzzle, answer, thought)

    def cell_at(self, shape: tuple[int, int], place: tuple[int, int]) -> tuple[int, int] | None:
        """The (row, column) of the answer's board under a pixel of the picture, None outside it."""
        return answer_cell(shape[0], place)


def _trimmed(board: Grid) -> Grid:
    """The grid on a board, without end and pad."""
    height, width = tokens.crop(board).shape
    return board[:height, :width]


def _beside(left: str, right: str) -> str:
    """Two blocks of lines side by side, an arrow between their first lines."""
    lefts, rights = left.split("\n"), right.split("\n")
    rows = zip_longest(lefts, rights, fillvalue="")
    width = max(map(len, lefts))
    lines = [f"{one:{width}} {'->' if row == 0 else '  '} {other}" for row, (one, other) in enumerate(rows)]
    return "\n".join(line.rstrip() for line in lines)


def _turned_boards(boards: NDArray[np.uint8], turn: int, colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The grids of (N, C, C) boards under one turn and in other colours, on boards of their own."""
    count = len(boards)
    images = np.zeros(boards.shape, dtype=np.uint8)
    turn_many_kernel(plain(boards), np.arange(count), np.full(count, turn), np.tile(colours, (count, 1)), images)
    return images
