"""`HRMSudoku-v0`, `HRMSudokuMini-v0`, `HRMSudokuExtreme-v0`: the manual page, and Sudoku's own arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hrm_gym.envs.puzzle import PuzzleSource
from hrm_gym.envs.puzzle_env import PuzzleEnv, yes_or_no
from hrm_gym.envs.sudoku.boxes import board
from hrm_gym.envs.sudoku.rules import sudoku
from hrm_gym.envs.sudoku.source import make_source
from hrm_gym.envs.vector_env import PuzzleVectorEnv


class SudokuEnv(PuzzleEnv):
    """Fill a Sudoku: every digit once in every row, column and box.

    ## Description

    Boxes of (rows, columns) cells make a board of n x n cells with n = rows * columns digits: 9x9 by default, 4x4 and
    6x6 for learning and for quick experiments, 16x16 for what goes beyond. Every puzzle has exactly one solution.
    Puzzle k of an environment is a pure function of (seed, k): `reset(seed=s)` plays puzzle 0 of seed s, every
    `reset()` after it the next one.

    Difficulty is counted in guesses: a solver that knows naked and hidden singles, locked candidates and locked sets
    goes as far as these carry it, and guesses where they do not. easy: no guess, medium: 1 to 4, hard: 5 to 14,
    extreme: 15 or more. A random puzzle is hardly ever extreme: these come from a search among the neighbours of hard
    generated ones (a clue out, another in), which starts from bundled founders of its own making. No published puzzle
    has a part in it.

    Tokens are those of the official Sudoku data sets: 0 pad, 1 blank, 2 to n + 1 the digits 1 to n; in text `.` and
    the digits, followed by A to G on 16x16 boards.

    ## Action space

    | `action_mode` | space | meaning |
    |---|---|---|
    | `"answer"` | `MultiDiscrete([n + 2]*n*n + [2])` | the whole grid, row after row, and the halt bit |
    | `"cell"` | `Discrete(n*n*n + 1)` | `n*cell + d - 1` writes digit d into a cell; the last halts |

    Writing over one's own digits is allowed, over given ones not. With `legal_only=True` a digit that stands in the
    same row, column or box already is refused as well. An illegal action changes nothing, uses up a step and pays
    `step_cost` like any other. `env.unwrapped.action_masks()` has True for every legal action; in answer mode it is
    flat, n + 2 entries a cell and two for the halt bit, and allows the tokens that alter no clue.

    ## Observation space

    `Dict` of
    - `puzzle`: `Box(0, n + 1, (n, n), uint8)`, the clues.
    - `answer`: `Box(0, n + 1, (n, n), uint8)`, at first the clues. Answer mode: the last answer. Cell mode: the digits
      so far.
    - `segment`: `Box(0, 1, (1,), float32)`, the share of the budget used: segments of `max_segments` in answer mode,
      steps of `max_steps` in cell mode.

    Every observation is a fresh copy.

    ## End of an episode

    - Answer mode: `terminated` by the halt bit; at `max_segments` the halt is forced (`terminated` too).
    - Cell mode: `terminated` when solved or halted, `truncated` at `max_steps`. A conflict never ends an episode.

    ## Reward

    1 at a terminated end if the Sudoku is solved, else 0; minus `step_cost` for every step (in answer mode: segment).
    Solved means: the clues are kept, no cell is blank, and no digit stands twice in a row, column or box.

    `reward="dense"` adds `shaping_gamma * Phi(s') - Phi(s)`, where Phi is the share of blank cells that agree with the
    solution. Phi is 0 in every terminal state, and keeps its value in a truncated one. With `shaping_gamma` equal to
    the learner's own discount, the best policies are the same as without shaping.

    ## Info

    Every step: `segment` (segments or steps so far), `violations` (altered clues, and cells whose digit stands in
    their row, column or box once more), and `action_mask` (int8) with `mask_in_info=True`. At the end, and only then:
    `solved` = `is_success`, `exact` (equal to the stored solution), `cell_accuracy` (over blank cells).

    ## Arguments

    - `difficulty` = `"easy"`, `"medium"`, `"hard"` or `"extreme"`; boards other than 9x9 have `"easy"` only.
    - `box` = (3, 3): rows and columns of a box; (2, 2) is 4x4, (2, 3) 6x6, (2, 4) 8x8, (4, 4) 16x16.
    - `legal_only` = False: whether cell mode refuses direct conflicts.
    - `source` = `"bank"`: a bundled bank where there is one, each puzzle under a random symmetry (digits renamed;
      bands, stacks, rows and columns shuffled; maybe transposed); else as `"generate"`, new puzzles without end. Or a
      CSV file in the official layout `source,question,answer,rating`, a folder in the official npy layout, the name of
      a data set on the Hugging Face hub such as `"sapientinc/sudoku-extreme"`, or any `PuzzleSource`.
    - `split` = `"train"`: or `"validation"`, `"test"`, `"all"`. No puzzle of one split is one of another under any
      symmetry. A file or a source object is one split by itself.
    - `action_mode` = `"answer"`, `max_segments` = 16 (answer mode only).
    - `max_steps` = 2*n*n in cell mode; answer mode does not use it.
    - `reward` = `"sparse"` or `"dense"`, `step_cost` = 0, `shaping_gamma` = 1.
    - `mask_in_info` = False, `render_mode` = None, `"human"`, `"rgb_array"` or `"ansi"`.

    `reset(options={"puzzle": ...})` plays your own Sudoku: text (n lines of n characters, or one line of all), a token
    grid, or a `Puzzle`; `reset(options={"index": i})` plays puzzle i of a bank or file as it is stored.

    ## Registered

    - `HRMSudoku-v0`: the defaults above.
    - `HRMSudokuMini-v0`: `box=(2, 2)`, 4x4.
    - `HRMSudokuExtreme-v0`: `difficulty="extreme"`, rated as the Sudoku-Extreme data set.
    """

    def __init__(
        self,
        difficulty: str = "easy",
        box: tuple[int, int] = (3, 3),
        legal_only: bool = False,
        source: str | Path | PuzzleSource = "bank",
        split: str = "train",
        **arguments: Any,
    ) -> None:
        """Choose the puzzles; the other arguments are those of `PuzzleEnv`.

        Raises:
            FileNotFoundError: if `source` names a file that does not exist.
            ValueError: if an argument, or the file, is bad.
        """
        yes_or_no("legal_only", legal_only)
        family = sudoku(board(box).box, bool(legal_only))
        puzzles = make_source(source, family.box, difficulty, split, family=family)
        if puzzles.shape != (family.size, family.size):
            raise ValueError(
                f"expected puzzles of {family.size}x{family.size} cells for box {box}, got {puzzles.shape}"
            )
        super().__init__(family, puzzles, **arguments)


class SudokuVectorEnv(PuzzleVectorEnv):
    """N Sudokus at once: the vector environment behind `gym.make_vec("HRMSudoku-v0", num_envs=N)`."""

    single = SudokuEnv
