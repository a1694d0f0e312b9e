"""What a kind of puzzle is: its tokens, rules, solver, symmetries and look, in one abstract base class.

Rules are written for a batch of boards; who has one board adds an axis. Only `write` and `may_write`, which cell mode
calls at every step, are for one board.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hrm_gym.envs.compiled import compiled, plain
from hrm_gym.envs.puzzle import Grid, Puzzle, Thought

if TYPE_CHECKING:
    import pygame

Grids = NDArray[np.uint8]
"""Token ids of N boards of one shape, (N, H, W) uint8."""


@compiled
def _agreement_kernel(solutions, answers, counted, exact, accuracy):
    """Fill (N,) `exact` and `accuracy` from (N, H, W) boards; on few boards numpy would spend its time on calls."""
    for i in range(len(answers)):
        right = cells = wrong = 0
        for row in range(answers.shape[1]):
            for column in range(answers.shape[2]):
                same = answers[i, row, column] == solutions[i, row, column]
                wrong += not same
                if counted[i, row, column]:
                    cells += 1
                    right += same
        exact[i] = wrong == 0
        accuracy[i] = right / cells if cells else 1.0


@compiled
def _count_kernel(marks, counts):
    """Fill (N,) `counts` with the number of True cells of (N, H, W) `marks`."""
    for i in range(len(marks)):
        counts[i] = 0
        for row in range(marks.shape[1]):
            for column in range(marks.shape[2]):
                counts[i] += marks[i, row, column]


class ArrayKind(NamedTuple):
    """Arrays of one shape and integer dtype with values in 0..highest."""

    shape: tuple[int, ...]
    dtype: type[np.integer[Any]]
    highest: int


@dataclass(frozen=True, eq=False)
class CellBoards:
    """N boards in cell mode, as `PuzzleFamily.write_many` works on them in place. All arrays are C-contiguous.

    An action is `cell * len(writable) + place of the token in writable`; the one past the last halts.

    Attributes:
        clues: (N, H, W) uint8.
        solutions: (N, H, W) uint8.
        shown: (N, H, W) uint8, the answers so far.
        free: (N, H*W) bool, cells that may be written.
        violations: (N,) int32, number of violating cells of `shown`.
        ended: (N,) bool, set for boards that halted or became solved, cleared for the other active ones.
    """

    clues: NDArray[np.uint8]
    solutions: NDArray[np.uint8]
    shown: NDArray[np.uint8]
    free: NDArray[np.bool_]
    violations: NDArray[np.int32]
    ended: NDArray[np.bool_]


def expect_one_shape(*boards: Grids) -> None:
    """Raise ValueError unless boards have the same shape: compiled rules would read past the end of the shorter."""
    shape = boards[0].shape
    for board in boards:  # a plain loop: a single environment judges after every write, and `any` is half its cost
        if board.shape != shape:
            raise ValueError(f"expected boards of one shape, got {', '.join(str(each.shape) for each in boards)}")


def expect_tokens(grids: NDArray[Any], vocab_size: int, dimensions: int = 2) -> None:
    """Raise ValueError unless `grids` is an array of token ids below `vocab_size`, by default of one (H, W) grid."""
    if not isinstance(grids, np.ndarray) or grids.ndim != dimensions or grids.dtype.kind not in "ui":
        kind = f"shape {grids.shape}, {grids.dtype}" if isinstance(grids, np.ndarray) else type(grids).__name__
        raise ValueError(f"expected an array of integer token ids in {dimensions} dimensions, got {kind}")
    if grids.size and not 0 <= grids.min() <= grids.max() < vocab_size:
        raise ValueError(f"expected token ids 0..{vocab_size - 1}, got {grids.min()}..{grids.max()}")


class PuzzleFamily(ABC):
    """One kind of puzzle. Stateless; a grid is (H, W) uint8 token ids, grids are (N, H, W).

    A new family gives its attributes and the abstract methods; the others have defaults, which a family overrides
    where it has more to say or where compiled code is faster.

    Attributes:
        name: short name, e.g. `maze`; also the name in checkpoints.
        title: the name as people write it, e.g. `Maze`.
        vocab_size: number of token ids, the padding token 0 included.
        symbols: one printable character per token id, as the official CSV files write them.
        writable: token ids that cell mode may write.
        move_count: number of moves of move mode, 0 where the family has none.
        has_solver: whether `solve` can solve puzzles of this family; without one the stored answers replace it.
        attempts: halts an episode may have; a wrong one before the last starts the next attempt.
        board_size: (width, height) in pixels of the board in a picture.
        difficulty_unit: what `difficulty` counts, in words.
        clue_tokens: tokens that a person may put in a puzzle, the empty one first; () where puzzles cannot be edited.
        clue_once: those of them that stand in a puzzle exactly once.
        wanted: what a right answer is, in words, for who is shown the puzzle as text.
    """

    name: str
    title: str
    vocab_size: int
    symbols: str
    writable: tuple[int, ...]
    move_count: int = 0
    has_solver: bool = True
    attempts: int = 1
    board_size: tuple[int, int] = (480, 480)
    difficulty_unit: str = "free cells"
    clue_tokens: tuple[int, ...] = ()
    clue_once: tuple[int, ...] = ()
    wanted: str = "Fill the free cells by the rules of the puzzle; leave the given ones."

    def extra_arrays(self, shape: tuple[int, int]) -> dict[str, ArrayKind]:
        """What observations show of a puzzle besides its clues: the kinds of the arrays in `Puzzle.extras`, by name."""
        return {}

    @classmethod
    def for_grid(cls, grid: tuple[int, int]) -> PuzzleFamily:
        """The rules for boards of `grid` = (H, W): by default the same for every size. ValueError if there are none."""
        return cls()

    # ---- reading ----

    @abstractmethod
    def parse(self, puzzle: Any) -> Grid:
        """Clues from text or a token grid. Raises ValueError that names what was expected and what came."""

    @abstractmethod
    def check(self, clues: Grid) -> None:
        """Raise ValueError unless `clues` is a puzzle that follows the rules and has a solution."""

    @abstractmethod
    def read_row(self, question: str, answer: str) -> tuple[Grid, Grid]:
        """(clues, solution) of a row of an official CSV file; ValueError unless it is a puzzle and its answer."""

    def read_rows(self, questions: Sequence[str], answers: Sequence[str]) -> tuple[Grids, Grids]:
        """(N, H, W) clues and solutions of N >= 1 such rows; ValueError if any is bad, `read_solved` tells why."""
        rows = [self.read_solved(question, answer) for question, answer in zip(questions, answers, strict=True)]
        return np.stack([clues for clues, _ in rows]), np.stack([solution for _, solution in rows])

    def read_solved(self, question: str, answer: str) -> tuple[Grid, Grid]:
        """`read_row`; ValueError also unless the answer is right by the rules, where there are any."""
        clues, solution = self.read_row(question, answer)
        if self.has_solver and not self.judge(clues[None], solution[None], solution[None])[0]:
            raise ValueError(f"expected an answer that solves its {self.name}, got one that does not")
        return clues, solution

    def make_puzzle(self, puzzle: Any) -> Puzzle:
        """A checked puzzle from text, a token grid or a Puzzle, which alone is not solved here. Raises ValueError."""
        clues = puzzle.clues if isinstance(puzzle, Puzzle) else self.parse(puzzle)
        self.check(clues)
        if isinstance(puzzle, Puzzle):
            return puzzle
        solution = self.solve(clues)
        if solution is None:
            raise ValueError("expected a puzzle with a solution, got one without")
        return Puzzle(clues, solution, name="own puzzle", family=self.name)

    def to_text(self, grid: Grid) -> str:
        """The grid as lines that a person can read, and that `parse` reads: by default the symbols of each row.

        Raises:
            ValueError: `grid` is no (H, W) array of token ids.
        """
        expect_tokens(grid, self.vocab_size)
        return "\n".join("".join(self.symbols[token] for token in row) for row in grid)

    def describe(self, puzzle: Puzzle, answer: Grid) -> str:
        """Puzzle and answer as lines that a person can read: what `render_mode="ansi"` shows."""
        return self.to_text(answer)

    # ---- as text, for language models ----

    @property
    def letters(self) -> str:
        """One character per token id in text observations: `symbols`, with `.` or `_` for a space."""
        return self.symbols.replace(" ", "_" if "." in self.symbols else ".")

    def task_text(self, observation: Mapping[str, NDArray[Any]]) -> str:
        """The puzzle of one observation in words and symbols, with what a right answer is."""
        return f"{self.wanted}\n\n{self.answer_text(observation['puzzle'])}"

    def answer_text(self, grid: Grid) -> str:
        """A grid in `letters`, a line a row. Raises ValueError as `to_text` does."""
        expect_tokens(grid, self.vocab_size)
        return "\n".join("".join(self.letters[token] for token in row) for row in grid.tolist())

    def read_answer(self, lines: Sequence[str], shape: tuple[int, int]) -> Grid:
        """The (H, W) uint8 answer in lines without spaces. Raises ValueError that says where it is no answer."""
        height, width = shape
        if len(lines) != height:
            raise ValueError(f"expected {height} lines in the answer, got {len(lines)}")
        for row, line in enumerate(lines, 1):
            if len(line) != width:
                raise ValueError(f"expected {width} characters in line {row}, got {len(line)}: {line[:60]!a}")
            for column, letter in enumerate(line, 1):
                if letter not in self.letters[1:]:
                    known = " ".join(self.letters[1:])
                    raise ValueError(f"expected one of {known} in line {row}, column {column}, got {letter!a}")
        return np.array([[self.letters.index(letter) for letter in line] for line in lines], dtype=np.uint8)

    # ---- rules, one board ----

    @abstractmethod
    def solve(self, clues: Grid) -> Grid | None:
        """The family's exact solver: the canonical solution of `clues`, or None if there is none."""

    def difficulty(self, puzzle: Puzzle) -> float:
        """How hard the puzzle is, in `difficulty_unit`: by default the number of free cells."""
        return float(np.count_nonzero(self.free(puzzle.clues)))

    def next_move(self, clues: Grid, current: Grid, answer: Grid) -> int:
        """Move mode: the move that follows `answer` from the state shown in `current`."""
        raise ValueError(f"expected a family with moves, got {self.name}")

    def write(self, clues: Grid, shown: Grid, cell: int, token: int) -> int:
        """Cell mode: write `token` into `cell` of `shown`; returns by how much the number of violations grows."""
        before = int(self.count_violations(clues[None], shown[None])[0])
        shown.flat[cell] = token
        return int(self.count_violations(clues[None], shown[None])[0]) - before

    def may_write(self, clues: Grid, shown: Grid, cell: int, token: int) -> bool:
        """Cell mode: whether a writable `token` may be written into `cell` (a flat index, and free) of `shown`."""
        return True

    # ---- rules, many boards ----

    @abstractmethod
    def free(self, clues: Grids) -> NDArray[np.bool_]:
        """(..., H, W) bool, the cells that are the solver's to fill, of one board or of many."""

    def blank(self, clues: Grids) -> Grids:
        """A fresh (..., H, W) answer before the first action: by default the clues."""
        return clues.copy()

    def counted(self, clues: Grids, solutions: Grids) -> NDArray[np.bool_]:
        """(..., H, W) bool, the cells that count in cell accuracy: by default the free ones."""
        return self.free(clues)

    def auxiliary_labels(self, clues: Grids) -> NDArray[np.int64]:
        """(N, H, W) int64, a further label of every cell to learn next to the answer, -100 where there is none.

        It should say of every cell what the answer says of few, so that each teaches something: in mazes the direction
        of a shortest way to the goal (`HRMConfig.auxiliary` is the number of labels).

        Raises:
            ValueError: the family has none.
        """
        raise ValueError(f"{self.name} puzzles have no auxiliary labels")

    @abstractmethod
    def judge(self, clues: Grids, solutions: Grids, answers: Grids) -> NDArray[np.bool_]:
        """(N,) bool, which answers are right by the rules (not merely equal to the stored solutions)."""

    @property
    def judges_tensors(self) -> bool:
        """Whether `judge_tensors` is there, and from the class that says how to `judge`."""
        own, other = (
            next(kind for kind in type(self).__mro__ if name in vars(kind)) for name in ("judge", "judge_tensors")
        )
        return own is other

    def judge_tensors(self, clues: Any, solutions: Any, answers: Any) -> Any:
        """`judge` in operators that PyTorch has on every device: nothing is copied to the host.

        Args:
            clues: (N, H, W) int64 tensor, as the others.
            solutions: right ones; `judge` may do without, this need not.
            answers: any tokens.

        Returns:
            (N,) bool tensor on their device, what `judge` says.

        Raises:
            NotImplementedError: `judges_tensors` is False.
        """
        raise NotImplementedError(f"the rules of {self.name} judge on the host alone")

    def verdict(self, clues: Grids, solutions: Grids, answers: Grids) -> dict[str, NDArray[Any]]:
        """What info says of answers at the end.

        Returns:
            (N,) arrays: `solved` by the rules; `exact`, equal to the stored solution; `cell_accuracy`, the share of
            the counted cells that agree with it (1.0 if none counts); a family may add more.
        """
        exact, accuracy = self._agreement(clues, solutions, answers)
        return {"solved": self.judge(clues, solutions, answers), "exact": exact, "cell_accuracy": accuracy}

    def cell_accuracy(self, clues: Grids, solutions: Grids, answers: Grids) -> NDArray[np.float64]:
        """(N,) float64, `cell_accuracy` of `verdict` alone."""
        return self._agreement(clues, solutions, answers)[1]

    def _agreement(
        self, clues: Grids, solutions: Grids, answers: Grids
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        expect_one_shape(clues, solutions, answers)
        exact, accuracy = np.empty(len(clues), dtype=np.bool_), np.empty(len(clues))
        _agreement_kernel(plain(solutions), plain(answers), self.counted(clues, solutions), exact, accuracy)
        return exact, accuracy

    @abstractmethod
    def violations(self, clues: Grids, answers: Grids) -> NDArray[np.bool_]:
        """(N, H, W) bool, cells of the answers that break a rule, judged from the clues alone."""

    def count_violations(self, clues: Grids, answers: Grids) -> NDArray[np.int32]:
        """(N,) int32, number of cells that `violations` marks."""
        counts = np.empty(len(answers), dtype=np.int32)
        _count_kernel(self.violations(clues, answers), counts)
        return counts

    def cost(self, clues: Grids, answers: Grids) -> NDArray[np.float64]:
        """(N,) float64, what can be said against finished answers without solving the puzzle; less is better.

        Infinite for an answer that breaks a rule or is plainly incomplete. Finite costs rank the others: the cells of a
        walk in a maze, of which the shortest is wanted; 0 where one answer that keeps the rules is as good as another.
        """
        return np.where(self.count_violations(clues, answers) > 0, np.inf, 0.0)

    def legal_writes(self, clues: Grids, shown: Grids) -> NDArray[np.bool_]:
        """(N, H*W, len(writable)) bool: `may_write` for every free cell and every writable token."""
        return np.repeat(self.free(clues).reshape(len(clues), -1, 1), len(self.writable), axis=2)

    def cell_masks(self, clues: Grids, shown: Grids) -> NDArray[np.bool_]:
        """(N, H*W*len(writable) + 1) bool, cell mode's legal actions: `legal_writes`, and halting."""
        legal = self.legal_writes(clues, shown).reshape(len(clues), -1)
        return np.concatenate([legal, np.ones((len(clues), 1), dtype=np.bool_)], axis=1)

    def answer_masks(self, clues: Grids) -> NDArray[np.bool_]:
        """(N, H*W*vocab + 2) bool, answer mode's legal choices: the tokens that alter no clue, and both halt bits."""
        free, tokens = self.free(clues)[..., None], np.arange(self.vocab_size)
        allowed = np.where(free, np.isin(tokens, self.writable), clues[..., None] == tokens).reshape(len(clues), -1)
        return np.concatenate([allowed, np.ones((len(clues), 2), dtype=np.bool_)], axis=1)

    def candidates(self, clues: Grids) -> NDArray[np.bool_]:
        """(N, H*W, len(writable)) bool: the tokens that a free cell may hold without breaking a rule at once."""
        return self.legal_writes(clues, clues)

    def legal_moves(self, clues: Grids, shown: Grids) -> NDArray[np.bool_]:
        """(N, move_count) bool: move mode's legal moves from the states that the boards show."""
        return np.ones((len(clues), self.move_count), dtype=np.bool_)

    def write_many(self, boards: CellBoards, actions: NDArray[np.int64], active: NDArray[np.bool_]) -> None:
        """Cell mode: run one action on each active board; fills `ended`, keeps `shown` and `violations` right."""
        symbols = len(self.writable)
        for row in np.flatnonzero(active).tolist():
            cell, symbol = divmod(int(actions[row]), symbols)
            boards.ended[row] = cell == boards.free.shape[1]
            if boards.ended[row]:
                continue
            clues, shown, token = boards.clues[row], boards.shown[row], self.writable[symbol]
            if boards.free[row, cell] and self.may_write(clues, shown, cell, token):
                boards.violations[row] += self.write(clues, shown, cell, token)
                boards.ended[row] = self.judge(clues[None], boards.solutions[row][None], shown[None])[0]

    # ---- symmetries and looks ----

    def symmetry(self, shape: tuple[int, int], key: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """One symmetry of the family, drawn by a 64-bit key: by default the identity.

        Returns:
            (H*W,) int64 `cells` and (vocab_size,) uint8 `tokens`: the image of a grid is `tokens[grid.ravel()[cells]]`.
        """
        return np.arange(shape[0] * shape[1]), np.arange(self.vocab_size, dtype=np.uint8)

    def image(self, grids: Grids, key: int) -> Grids:
        """Puzzles or answers under one symmetry: that of `symmetry`, unless the family has a richer way.

        Raises:
            ValueError: `grids` is no (N, H, W) array of token ids.
        """
        expect_tokens(grids, self.vocab_size, 3)
        cells, tokens = self.symmetry(grids.shape[1:], key)
        return tokens[grids.reshape(len(grids), -1)[:, cells]].reshape(grids.shape)

    def preimage(self, grids: Grids, key: int) -> Grids:
        """The inverse of `image`: answers to images of puzzles become answers to the puzzles; raises as it does."""
        expect_tokens(grids, self.vocab_size, 3)
        cells, tokens = self.symmetry(grids.shape[1:], key)
        back = np.argsort(tokens).astype(np.uint8)
        return back[grids.reshape(len(grids), -1)[:, np.argsort(cells)]].reshape(grids.shape)

    def canonical(self, clues: Grid) -> Grid:
        """A grid that represents `clues` and all its symmetric images: the same for all of them."""
        return clues

    def cluster(self, puzzle: Puzzle) -> int:
        """A 64-bit hash that puzzles share which are not independent: they belong to one split, and intervals know it.

        By default those that are symmetric images of one another.
        """
        task, grid = puzzle.puzzle_id.to_bytes(4, "little"), np.ascontiguousarray(self.canonical(puzzle.clues))
        return int.from_bytes(hashlib.blake2b(task + grid.tobytes(), digest_size=8).digest(), "little")

    @abstractmethod
    def draw(self, surface: pygame.Surface, puzzle: Puzzle, answer: Grid, thought: Thought | None) -> None:
        """Paint puzzle and answer so that they fill `surface` of `board_size`; needs pygame."""

    def picture(self, puzzle: Puzzle, answer: Grid, thought: Thought | None = None) -> NDArray[np.uint8]:
        """(height, width, 3) uint8: what `draw` paints, without a display."""
        import pygame

        pygame.font.init()
        board = pygame.Surface(self.board_size, 0, 24)
        self.draw(board, puzzle, answer, thought)
        return np.ascontiguousarray(pygame.surfarray.array3d(board).swapaxes(0, 1))

    def edited(self, clues: Grid, cell: tuple[int, int], token: int) -> Grid:
        """`clues` with one of `clue_tokens` in a cell; what stands once moves there, and nothing is put over it."""
        changed = clues.copy()
        if clues[cell] in self.clue_once:
            return changed
        if token in self.clue_once:
            changed[clues == token] = self.clue_tokens[0]
        changed[cell] = token
        return changed

    def cleared(self, clues: Grid) -> Grid:
        """`clues` with nothing left but what has to stand once."""
        return np.where(np.isin(clues, self.clue_once), clues, np.uint8(self.clue_tokens[0]))

    def legend(self, puzzle: Puzzle, answer: Grid, thought: Thought | None) -> list[str]:
        """Lines that explain what `draw` shows besides the board, if it does now."""
        return []

    def cell_at(self, shape: tuple[int, int], place: tuple[int, int]) -> tuple[int, int] | None:
        """(row, column) of the answer's cell under the pixel `place` of the board's picture, None outside it.

        The default is for square cells, as large as fit, in the middle of the picture.
        """
        height, width = shape
        cell = min(self.board_size[0] // width, self.board_size[1] // height)
        column, row = (
            (place[axis] - (self.board_size[axis] - cell * count) // 2) // cell
            for axis, count in ((0, width), (1, height))
        )
        return (row, column) if 0 <= row < height and 0 <= column < width else None
