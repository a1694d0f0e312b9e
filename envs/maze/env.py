"""`HRMMaze-v0` and `HRMMazeHard-v0`: the manual page, and the arguments that only mazes have."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from hrm_gym.envs.maze.generator import Size
from hrm_gym.envs.maze.moves import VectorWalkMode, WalkMode
from hrm_gym.envs.maze.rules import MAZE
from hrm_gym.envs.maze.source import make_source
from hrm_gym.envs.puzzle import PuzzleSource
from hrm_gym.envs.puzzle_env import ActionMode, AnswerMode, CellMode, PuzzleEnv
from hrm_gym.envs.vector_env import PuzzleVectorEnv, VectorMode


class MazeEnv(PuzzleEnv):
    """Find a shortest path through a random-wall maze.

    ## Description

    Every cell of a grid is a wall with probability `wall_share`; a start and a goal lie on open cells, at least
    `min_path` cells apart (both counted). Wanted is a shortest path, walked up, right, down and left. Puzzle k of an
    environment is a pure function of (seed, k): `reset(seed=s)` plays puzzle 0 of seed s, every `reset()` after it the
    next one.

    Tokens are those of the official Maze data sets: 0 pad, 1 wall, 2 open, 3 start, 4 goal, 5 path; in text
    `#`, space, `S`, `G`, `o`.

    ## Action space

    | `action_mode` | space | meaning |
    |---|---|---|
    | `"answer"` | `MultiDiscrete([6]*H*W + [2])` | the whole grid, row after row, and the halt bit |
    | `"cell"` | `Discrete(2*H*W + 1)` | `2*cell` clears a cell, `2*cell + 1` draws path into it; the last halts |
    | `"move"` | `Discrete(4)` | walk 0 up, 1 right, 2 down, 3 left |

    An illegal action (writing on a given cell, walking into a wall) changes nothing, uses up a step and pays
    `step_cost` like any other. `env.unwrapped.action_masks()` has True for every legal action; in answer mode it is
    flat, six entries a cell and two for the halt bit, and allows the tokens that alter no clue.

    ## Observation space

    `Dict` of
    - `puzzle`: `Box(0, 5, (H, W), uint8)`, the maze.
    - `answer`: `Box(0, 5, (H, W), uint8)`, at first the maze. Answer mode: the last answer. Cell mode: the drawing so
      far. Move mode: the walker as start token, the cells behind it as path; a cell from which the walk stepped back
      onto its own trail as pad, since such a walk cannot be a shortest one any more.
    - `segment`: `Box(0, 1, (1,), float32)`, the share of the budget used: segments of `max_segments` in answer mode,
      steps of `max_steps` in the others.

    Every observation is a fresh copy.

    ## End of an episode

    - Answer mode: `terminated` by the halt bit; at `max_segments` the halt is forced (`terminated` too).
    - Cell mode: `terminated` when solved or halted, `truncated` at `max_steps`.
    - Move mode: `terminated` on the goal, `truncated` at `max_steps`.

    ## Reward

    1 at a terminated end if the maze is solved, else 0; minus `step_cost` for every step (in answer mode: segment).
    Solved means: the maze is reproduced with *any one* shortest path in it, nothing else drawn; in move mode: the walk
    was a shortest one (bumping into walls does not lengthen it).

    `reward="dense"` adds `shaping_gamma * Phi(s') - Phi(s)`. In move mode Phi is minus the walker's distance to the
    goal divided by that of the start; in answer and cell mode it is the share of open cells that agree with the stored
    solution. Phi is 0 in every terminal state, and keeps its value in a truncated one. With `shaping_gamma` equal to
    the learner's own discount, the best policies are the same as without shaping. The default 1 makes the shaping sum
    to Phi(end) - Phi(beginning) whatever the way, so no wandering about earns anything.

    ## Info

    Every step: `segment` (segments or steps so far), `violations` (in move mode: cells from which the walk stepped back
    onto its trail; else altered clues and path cells without exactly two neighbours among path, start and goal), and
    `action_mask` (int8) with `mask_in_info=True`. At the end, and only then: `solved` = `is_success`, `exact` (equal to
    the stored solution), `cell_accuracy` (over open cells), `reached` (the path or walk connects start and goal).

    ## Arguments

    - `size` = 10: side length, or (rows, columns). A file of another size sets it.
    - `wall_share` = 0.35: probability of a wall.
    - `min_path` = the longer side: least cells of a shortest path, start and goal counted; not asked of files.
    - `source` = `"bank"`: a bundled bank where one has these mazes, each turned or mirrored at random; else as
      `"generate"`, new mazes without end. Or a CSV file in the official layout `source,question,answer,rating`, or
      any `PuzzleSource`.
    - `split` = `"train"`: or `"validation"`, `"test"`, `"all"`. No maze of one split has the walls of one of another,
      turned or not. A file or a source object is one split by itself.
    - `action_mode` = `"answer"`, `max_segments` = 16 (answer mode only).
    - `max_steps` = 2*H*W in cell mode, 4*H*W in move mode; answer mode does not use it.
    - `reward` = `"sparse"` or `"dense"`, `step_cost` = 0, `shaping_gamma` = 1.
    - `mask_in_info` = False, `render_mode` = None, `"human"`, `"rgb_array"` or `"ansi"` (text; in move mode `@` is
      the walker, `o` its trail, `x` a cell from which it stepped back).

    `reset(options={"puzzle": ...})` plays your own maze: text (H lines of `# SG`), a token grid, or a `Puzzle`;
    `reset(options={"index": i})` plays maze i of a bank or file as it is stored.

    ## Registered

    - `HRMMaze-v0`: the defaults above.
    - `HRMMazeHard-v0`: `size=30, min_path=110, wall_share=0.37`, as the Maze-Hard data set.
    """

    modes: ClassVar[dict[str, type[ActionMode]]] = {"answer": AnswerMode, "cell": CellMode, "move": WalkMode}

    def __init__(
        self,
        size: Size = 10,
        wall_share: float = 0.35,
        min_path: int | None = None,
        source: str | Path | PuzzleSource = "bank",
        split: str = "train",
        **arguments: Any,
    ) -> None:
        """Choose the mazes; the other arguments are those of `PuzzleEnv`.

        Raises:
            FileNotFoundError: if `source` names a file that does not exist.
            ValueError: if an argument, or the file, is bad.
        """
        super().__init__(MAZE, make_source(source, size, split, min_path, wall_share), **arguments)


class MazeVectorEnv(PuzzleVectorEnv):
    """N mazes at once: the vector environment behind `gym.make_vec("HRMMaze-v0", num_envs=N)`."""

    single = MazeEnv
    modes: ClassVar[dict[str, type[VectorMode]]] = {**PuzzleVectorEnv.modes, "move": VectorWalkMode}
