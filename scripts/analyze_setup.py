"""What all studies of `hrm-gym analyze` share: which puzzles, played by whom, and where the figures go."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from hrm_gym.agents.hrm.agent import Boards, HRMAgent
from hrm_gym.envs.puzzle import Puzzle
from hrm_gym.recorder import check_writable, written_whole
from hrm_gym.rollout import puzzle_for
from hrm_gym.scripts.solve import HRM_AGENTS, SolveConfig, Worlds, agent_named, check


@dataclass(frozen=True)
class PuzzlesConfig:
    """Which puzzles, played by whom.

    Attributes:
        env_id: A registered environment.
        agent: hrm, hrm-vote or hrm-first; NAME=PATH gives other weights than the bundled ones.
        episodes: Puzzles (1000, or every row of --data).
        source: Take puzzles from the bundled bank (under random symmetries), or generate new ones.
        data: Play the rows of this CSV file (source,question,answer,rating) in order.
        batch: Boards in play at a time.
        seed: Which stream of puzzles.
        split: Which part of the puzzles.
        size: Side length of the grid.
        compile: Compile the network; pays off for long runs.
        out: Where the figures go, without suffix (analysis/ENV-STUDY).
    """

    env_id: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[ENV_ID]")] = "HRMMaze-v0"
    agent: str = "hrm"
    episodes: int | None = None
    source: Literal["bank", "generate"] = "bank"
    data: Path | None = None
    batch: int = 64
    seed: int = 0
    split: Literal["train", "test"] = "test"
    size: int | None = None
    compile: bool = False
    out: Path | None = None


def prepared(
    config: PuzzlesConfig, study: str, max_segments: int | None, halting: str | None, votes: int
) -> tuple[Path, SolveConfig]:
    """Where the figures go, and what `solve` would be told; bad settings are refused before any work."""
    if config.agent.partition("=")[0] not in HRM_AGENTS:
        raise ValueError(f"expected --agent to be one of {', '.join(HRM_AGENTS)}, got {config.agent!r}")
    out = config.out or Path("analysis") / f"{config.env_id}-{study}"
    for suffix in (".png", ".json"):
        check_writable(Path(f"{out}{suffix}"))
    names = ("env_id", "source", "data", "batch", "seed", "split", "size", "compile")
    same: dict[str, Any] = {name: getattr(config, name) for name in names}
    episodes = 1000 if config.episodes is None and config.data is None else config.episodes
    settings = SolveConfig(
        **same, agent=(config.agent,), episodes=episodes, max_segments=max_segments, halting=halting, votes=votes
    )
    check(settings)
    return out, settings


def one_network(config: PuzzlesConfig, settings: SolveConfig, worlds: Worlds) -> HRMAgent:
    """The agent of a study that looks into one network.

    Raises:
        ValueError: it is a panel, or there are no such weights.
    """
    agent = agent_named(config.agent, settings, worlds)
    if not isinstance(agent, HRMAgent):
        raise ValueError(f"expected one HRM, got {config.agent!r}: this study looks into a single network")
    return agent


def puzzles_of(worlds: Worlds) -> list[Puzzle]:
    """The puzzles that are asked for."""
    env = worlds.make("answer")
    return [puzzle_for(env, worlds.seed, k) for k in range(worlds.episodes)]


def boards_of(agent: HRMAgent, puzzles: Sequence[Puzzle]) -> Boards:
    """Puzzles as the agent's network takes them."""
    tasks = np.array([[puzzle.puzzle_id] for puzzle in puzzles], np.int32)
    return agent.boards(np.stack([puzzle.clues for puzzle in puzzles]), tasks)


def show(table: Table) -> None:
    """Print a table; on a pipe as wide as it needs to be."""
    console = Console()
    (console if console.is_terminal else Console(width=140)).print(table)


def write(study: Any, out: Path, draw: Callable[[Path], None]) -> None:
    """Write the picture that `draw` makes, and the figures of a study (a dataclass, or plain values), each whole or not
    at all.
    """
    picture, figures = Path(f"{out}.png"), Path(f"{out}.json")
    plain: Any = asdict(study) if is_dataclass(study) and not isinstance(study, type) else study
    with written_whole(picture) as draft:
        draw(draft)
    with written_whole(figures) as draft:
        draft.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
    print(f"picture: {picture}\nfigures: {figures}")
