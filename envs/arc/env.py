"""`HRMARC-v0`, `HRMARC2-v0` and `HRMARCMini-v0`: the manual page, and the arguments that only ARC has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hrm_gym.envs.arc.rules import ArcFamily
from hrm_gym.envs.arc.source import make_source
from hrm_gym.envs.arc.tokens import MAX_SIDE
from hrm_gym.envs.puzzle import PuzzleSource
from hrm_gym.envs.puzzle_env import PuzzleEnv
from hrm_gym.envs.vector_env import PuzzleVectorEnv


class ArcEnv(PuzzleEnv):
    """See from a few examples what is done to a grid, and do it to one more.

    ## Description

    A task of ARC-AGI shows up to ten demonstrations, pairs of coloured grids, input and output, and asks for the output
    to one more input. Nothing says what the rule is, each task has its own, and the size of the output is part of the
    answer. One episode is one test grid; a task with two of them is two puzzles. Puzzle k of an environment is a pure
    function of (seed, k): `reset(seed=s)` plays puzzle 0 of seed s, every `reset()` after it the next one.

    All grids lie on boards of `canvas` x `canvas` cells, written in the tokens of the official HRM data sets: 0 pad,
    1 end, 2..11 the colours 0..9 (black, blue, red, green, yellow, grey, magenta, orange, sky, maroon). A grid lies top
    left; end tokens stand in the row below it and in the column to its right, but not in the corner where these meet;
    a grid as wide or as high as the board has none there; other cells are pad. In text `.`, `|` and the digits.

    ## Action space

    With C for `canvas`:

    | `action_mode` | space | meaning |
    |---|---|---|
    | `"answer"` | `MultiDiscrete([12]*C*C + [2])` | the whole board, row after row, and the halt bit |
    | `"cell"` | `Discrete(11*C*C + 1)` | `11*cell + k` writes token k + 1 (end, colours) into a cell; the last halts |

    No action is illegal: every cell is free. `env.unwrapped.action_masks()` is all True in cell mode; in answer mode it
    is flat, twelve entries a cell and two for the halt bit, and leaves out pad, which no answer needs (an answer with
    pad in it is taken all the same).

    ## Observation space

    `Dict` of
    - `puzzle`: `Box(0, 11, (C, C), uint8)`, the test input.
    - `answer`: `Box(0, 11, (C, C), uint8)`, at first all pad. Answer mode: the last answer. Cell mode: the drawing so
      far.
    - `segment`: `Box(0, 1, (1,), float32)`, the share of this attempt's budget used: segments of `max_segments` in
      answer mode, steps of `max_steps` in cell mode.
    - `demonstrations`: `Box(0, 11, (10, 2, C, C), uint8)`, input and output of each; rows past `pairs` are all pad.
    - `pairs`: `Box(0, 10, (1,), uint8)`, the number of demonstrations.
    - `task`: `Box(0, 2**31 - 1, (1,), int32)`, place of the task in the data set, training tasks first, counted from 1;
      0 for a task of your own. It tells the HRM which puzzle embedding to take.
    - `attempt`: `Box(0, 1, (1,), uint8)`, 0 in the first attempt, 1 in the second.

    Every observation is a fresh copy.

    ## End of an episode

    ARC allows two attempts. The first halt ends the episode if the answer is right; else the second attempt begins: the
    answer stays on the board and the budget restarts. The second halt ends the episode in any case.

    - Answer mode: the halt bit halts, and at `max_segments` the halt is forced, in each attempt; `terminated`.
    - Cell mode: `terminated` when solved or halted for good, `truncated` at `max_steps` of an attempt.

    ## Reward

    1 at a terminated end if the test grid is solved, else 0; minus `step_cost` for every step (in answer mode:
    segment). The answer's grid is the largest rectangle of colours that begins top left, as in the official
    evaluation; solved means that it has the shape and the colours of the stored output. What stands around it means
    nothing.

    `reward="dense"` adds `shaping_gamma * Phi(s') - Phi(s)`, Phi being the share of the cells of the stored output that
    the answer has right. Phi is 0 in every terminal state, and keeps its value in a truncated one and when the second
    attempt begins. With `shaping_gamma` equal to the learner's own discount, the best policies are the same as without
    shaping.

    ## Info

    Every step: `segment` (segments or steps of this attempt so far), `violations` (always 0: the puzzle alone says of
    no answer that it is wrong), and `action_mask` (int8) with `mask_in_info=True`. At the end, and only then:
    `solved` = `is_success`, `exact` (the same), `cell_accuracy` (over the cells of the stored output).

    ## Arguments

    - `dataset` = 1: ARC-AGI-1 (400 tasks to train, 400 to evaluate), or 2: ARC-AGI-2 (1,000 and 120).
    - `split` = `"train"`: or `"evaluation"` (`"test"` is the same), `"all"`. Tasks of a file or of a folder without
      `training` and `evaluation` are all taken, whatever the split.
    - `canvas` = 30: side of the boards. Tasks with a grid that is longer or wider are left out.
    - `source` = `"bank"`: the public tasks. Or a folder of task files, or one with `training` and `evaluation` in it;
      a JSON file with one task or a dictionary of tasks (Kaggle's `..._challenges.json` finds its
      `..._solutions.json`); or any `PuzzleSource`, which then sets `canvas`. There is no `"generate"`.
    - `augment` = None: whether all grids of a puzzle are turned or mirrored in one way and take other colours, black
      excepted, at random, as in the official training data (where grids are shifted on the board too; here they are
      not). None: in `"train"` only, so that results on the other splits are about the tasks as they are.
    - `action_mode` = `"answer"`, `max_segments` = 16 (answer mode only), `max_steps` = 2*C*C (cell mode only), both for
      each attempt.
    - `reward` = `"sparse"` or `"dense"`, `step_cost` = 0, `shaping_gamma` = 1.
    - `mask_in_info` = False, `render_mode` = None, `"human"`, `"rgb_array"` or `"ansi"` (text: the demonstrations, then
      the test input next to the answer; digits are colours, `|` ends a grid, `.` is pad).

    `reset(options={"puzzle": ...})` plays your own task: `{"train": [{"input": rows, "output": rows}, ...], "test":
    [...]}`, its JSON text, (task, number of the test pair), or a `Puzzle`; of more than ten demonstrations the first
    ten are kept. `reset(options={"index": i})` plays test grid i of the split as it is stored.

    ## Registered

    - `HRMARC-v0`: the defaults above.
    - `HRMARC2-v0`: `dataset=2`.
    - `HRMARCMini-v0`: `canvas=12`, 220 tasks of ARC-AGI-1 to train and 114 to evaluate.
    """

    def __init__(
        self,
        dataset: int = 1,
        split: str = "train",
        canvas: int = MAX_SIDE,
        source: str | Path | PuzzleSource = "bank",
        augment: bool | None = None,
        **arguments: Any,
    ) -> None:
        """Choose the tasks; the other arguments are those of `PuzzleEnv`.

        Raises:
            FileNotFoundError: if `source` names a file or folder that does not exist.
            ValueError: if an argument, or a file, is bad.
        """
        puzzles = make_source(source, dataset, split, canvas, augment)
        super().__init__(ArcFamily(puzzles.shape[0]), puzzles, **arguments)


class ArcVectorEnv(PuzzleVectorEnv):
    """N ARC puzzles at once: the vector environment behind `gym.make_vec("HRMARC-v0", num_envs=N)`."""

    single = ArcEnv
