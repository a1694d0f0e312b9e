"""`hrm-gym play`: a person solves puzzles with keyboard and mouse, under the rules that hold for every agent."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium as gym
import numpy as np
import tyro
from numpy.typing import NDArray

from hrm_gym.envs.puzzle import Puzzle, PuzzleBatch
from hrm_gym.recorder import check_writable
from hrm_gym.report import score, write_json
from hrm_gym.rollout import Env
from hrm_gym.scripts import showing
from hrm_gym.scripts.arguments import parse
from hrm_gym.scripts.sitting import Game


def _arg(metavar: str, default: str = "") -> Any:
    """How an option stands in the help: the name of its value, and what holds without it."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=f"(default: {default})" if default else "")


@dataclass(frozen=True)
class PlayConfig:
    """Solve puzzles yourself: walk a maze, fill a Sudoku, paint an ARC grid. The window shows the keys.

    Attributes:
        env_id: A registered environment.
        mode: How you give the answer: walking, or cell by cell.
        seed: Which stream of puzzles.
        source: Take puzzles from the bundled bank (under random symmetries), or generate new ones.
        data: Play the rows of this data file in order.
        puzzle: Play the puzzle in this text file.
        split: Which part of the puzzles.
        size: Side length of a maze.
        difficulty: Of a Sudoku: easy, medium, hard, extreme.
        box: Rows and columns of a Sudoku's boxes.
        max_steps: Actions a puzzle may take.
        json: Write your figures to this file.
    """

    env_id: Annotated[tyro.conf.Positional[str], _arg("[ENV_ID]", "HRMMaze-v0")] = "HRMMaze-v0"
    mode: Annotated[Literal["move", "cell"] | None, _arg("{move,cell}", "move where there are moves")] = None
    seed: Annotated[int | None, _arg("SEED", "a new one")] = None
    source: Literal["bank", "generate"] = "bank"
    data: Annotated[Path | None, _arg("FILE")] = None
    puzzle: Annotated[Path | None, _arg("FILE")] = None
    split: Literal["train", "test"] = "test"
    size: Annotated[int | None, _arg("N", "the environment's own")] = None
    difficulty: Annotated[str | None, _arg("LEVEL", "the environment's own")] = None
    box: Annotated[tuple[int, int] | None, _arg("ROWS COLUMNS", "the environment's own")] = None
    max_steps: Annotated[int | None, _arg("N", "the environment's own")] = None
    json: Annotated[Path | None, _arg("FILE.json")] = None


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym play`.

    Args:
        argv: the arguments after `play`.

    Returns:
        0.

    Raises:
        ValueError: for bad input of any kind, and where no window can be opened; the message fits on one line.
        OSError: for files that cannot be read or written.
    """
    config = parse(PlayConfig, "hrm-gym play", argv)
    if config.json is not None:
        check_writable(config.json)
    env = make_env(config)
    if not showing.has_display():
        raise ValueError("expected a display to play on, got none: hrm-gym play opens a window")
    numbered = config.data is not None or config.puzzle is not None
    drawn = int.from_bytes(os.urandom(4), "little")
    game = Game(env, None if numbered else drawn if config.seed is None else config.seed)
    try:
        game.run()
    finally:
        game.close()
    _tell(game, config.json)
    return 0


def make_env(config: PlayConfig) -> Env:
    """The environment that a configuration asks for, in the person's mode.

    Raises:
        ValueError, OSError, gymnasium.error.Error: if the id, an option or a file is bad.
    """
    wanted: dict[str, Any] = {"source": config.data or config.source, "split": config.split, "size": config.size}
    wanted |= {"difficulty": config.difficulty, "box": config.box}
    options = {key: value for key, value in wanted.items() if value is not None}
    first = _make(config.env_id, options)
    world: Any = first.unwrapped
    if not hasattr(world, "modes"):
        raise ValueError(f"expected an environment with a board to play on, got {config.env_id}")
    mode = config.mode or ("move" if "move" in world.modes else "cell")
    source = world.puzzle_source if config.puzzle is None else OnePuzzle(_own_puzzle(world, config.puzzle))
    settings = {"action_mode": mode, "render_mode": "rgb_array", "max_steps": config.max_steps}
    return _make(config.env_id, {**options, "source": source, **settings})


def _make(env_id: str, options: dict[str, Any]) -> Env:
    try:
        return gym.make(env_id, disable_env_checker=True, **options)
    except TypeError as error:
        raise ValueError(f"{env_id} does not take these options: {error}") from error


def _own_puzzle(world: Any, path: Path) -> Puzzle:
    """The puzzle in a text file, checked."""
    try:
        puzzle: Puzzle = world.family.make_puzzle(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return puzzle


@dataclass(frozen=True)
class OnePuzzle:
    """A source that has one puzzle."""

    only: Puzzle

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the grid."""
        return self.only.shape

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Puzzle:
        """The puzzle, whatever its number."""
        return self.only

    def puzzle(self, key: int) -> Puzzle:
        """The puzzle, whatever the key."""
        return self.only

    def batch(self, keys: NDArray[np.uint64]) -> PuzzleBatch:
        """The puzzle as often as there are keys."""
        count, only = len(keys), self.only
        clues, solutions = (np.stack([grid] * count) for grid in (only.clues, only.solution))
        shown = None if only.demonstrations is None else np.stack([only.demonstrations] * count)
        pairs = None if shown is None else np.full(count, only.pairs, np.uint8)
        return PuzzleBatch(clues, solutions, np.full(count, only.puzzle_id, np.int32), shown, pairs)


def _tell(game: Game, path: Path | None) -> None:
    """Print a line a puzzle; write the figures if that is asked for."""
    if game.seed is not None:
        print(f"seed {game.seed}")
    for line in game.lines:
        print(line)
    if path is not None:
        write_json([score(game.episodes)] if game.episodes else [], path)
        print(f"figures: {path}")
