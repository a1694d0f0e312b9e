"""What a network adds to search: the same beam search led by candidate counts, by chance and by the network.

    python -m hrm_gym.scripts.experiments.search_control --out docs/results/search-control/search-control.json

In the first three arms the network fills the grids and halts (`hrm-search`, own decision (Q) + rule check); only which
cell is guessed, and which lanes are kept, differ. The last arm asks no network at all: between two guesses a lane
writes what has one candidate left, and it is as wide and guesses as often.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from hrm_gym.agents import pretrained
from hrm_gym.agents.checkpoint import WEIGHTS
from hrm_gym.agents.hrm.inference.search import SearchAgent
from hrm_gym.agents.hrm.thinking import AgentState
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.puzzle import puzzle_keys
from hrm_gym.evaluation.intervals import paired, rate
from hrm_gym.evaluation.rollout import rollout_batched
from hrm_gym.files import file_sha256, write_atomically
from hrm_gym.scripts.main import run
from hrm_gym.scripts.options import parse

SEED = 99
"""Of the puzzles of the test split."""


@dataclass(frozen=True)
class ControlConfig:
    """Search led by the network, by candidate counts and by chance, on the same new puzzles.

    Attributes:
        weights: Folder of weights; the bundled ones for 9x9 Sudoku by default.
        kinds: Difficulties.
        puzzles: Of each kind.
        beam: Lanes of a puzzle at most.
        max_segments: Segments, one after the other, of a puzzle.
        out: The JSON file; an arm of a kind that stands in it is not run again with the same weights and settings.
        threads: CPU threads.
    """

    out: Path
    weights: Path = pretrained.FOLDER / "hrm-sudoku-9x9"
    kinds: tuple[str, ...] = ("hard", "extreme")
    puzzles: int = 200
    beam: int = 64
    max_segments: int = 128
    threads: int = 1


def fewest_candidates(family: PuzzleFamily, clues: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of P grids the free cell with the fewest candidates, and what each symbol is worth there: the fewer candidates
    all cells have after it, the better; -inf if one has none.

    Returns:
        (P,) int64 and (P, symbols) float64.
    """
    count, symbols = len(clues), len(family.writable)
    candidates, free = family.candidates(clues), family.free(clues).reshape(count, -1)
    cell = np.where(free, candidates.sum(-1), symbols + 1).argmin(axis=1)
    children = np.repeat(clues.reshape(count, -1), symbols, axis=0)
    children[np.arange(len(children)), np.repeat(cell, symbols)] = np.tile(np.array(family.writable), count)
    children = children.reshape(-1, *clues.shape[1:])
    left = family.candidates(children).sum(-1)
    dead = (family.free(children).reshape(len(children), -1) & (left == 0)).any(axis=1)
    worth = np.where(dead, -np.inf, -left.sum(axis=1)).reshape(count, symbols)
    return cell, np.where(candidates[np.arange(count), cell], worth, -np.inf)


class CountLed(SearchAgent):
    """The same search in which candidate counts say what is guessed and which lanes are kept."""

    def guesses(
        self,
        lanes: AgentState,
        clues: NDArray[np.uint8],
        candidates: NDArray[np.bool_],
        worth: NDArray[np.float64],
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The cell with the fewest candidates; see `fewest_candidates`."""
        return fewest_candidates(self.family, clues)


class ChanceLed(SearchAgent):
    """The same search in which chance does."""

    def guesses(
        self,
        lanes: AgentState,
        clues: NDArray[np.uint8],
        candidates: NDArray[np.bool_],
        worth: NDArray[np.float64],
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """A free cell by chance, a function of the grids; its candidates are worth random numbers."""
        rng = np.random.default_rng(int(clues.astype(np.uint64).sum()) * 2654435761 + len(clues))
        free = self.family.free(clues).reshape(len(clues), -1)
        cell = np.where(free, rng.random(free.shape), -1.0).argmax(axis=1)
        possible = candidates[np.arange(len(clues)), cell] & ~(free & (candidates.sum(-1) == 0)).any(1, keepdims=True)
        return cell, np.where(possible, rng.random(possible.shape), -np.inf)


ARMS: dict[str, type[SearchAgent]] = {"network": SearchAgent, "candidate counts": CountLed, "chance": ChanceLed}
ALONE = "candidate counts, no network"


def without_network(family: PuzzleFamily, puzzle: NDArray[np.uint8], beam: int, guesses: int) -> bool:
    """Whether a beam search that writes single candidates, and guesses so often, solves a puzzle (H, W)."""
    lanes = puzzle[None].copy()
    symbols = np.array(family.writable, np.uint8)
    for guess in range(guesses + 1):
        while len(lanes):
            candidates, free = family.candidates(lanes), family.free(lanes).reshape(len(lanes), -1)
            counts = candidates.sum(-1)
            alive = ~(free & (counts == 0)).any(axis=1) & (family.count_violations(lanes, lanes) == 0)
            single = free & (counts == 1)
            lanes, single, candidates = lanes[alive], single[alive], candidates[alive]
            if not single.any():
                break
            flat = lanes.reshape(len(lanes), -1)
            flat[single] = symbols[candidates[single].argmax(-1)]
        if not len(lanes):
            return False
        full = ~family.free(lanes).reshape(len(lanes), -1).any(axis=1)
        if full.any():
            return bool(family.judge(puzzle[None], lanes[full][:1], lanes[full][:1])[0])
        if guess == guesses:
            return False
        cell, worth = fewest_candidates(family, lanes)
        parent, symbol = np.nonzero(np.isfinite(worth))
        best = np.argsort(-worth[parent, symbol], kind="stable")[:beam]
        parent, symbol = parent[best], symbol[best]
        children = lanes[parent].reshape(len(parent), -1)
        children[np.arange(len(parent)), cell[parent]] = symbols[symbol]
        lanes = children.reshape(-1, *puzzle.shape)
    return False


def arm(config: ControlConfig, kind: str, name: str) -> dict[str, Any]:
    """The figures of one arm on the puzzles of one kind."""

    def make() -> Any:
        arguments: dict[str, Any] = {"difficulty": kind, "max_segments": config.max_segments}
        return gym.make("HRMSudoku-v0", disable_env_checker=True, source="generate", split="test", **arguments)

    world = make().unwrapped
    puzzles = world.puzzle_source.batch(puzzle_keys(np.array([SEED], np.uint64), np.arange(config.puzzles, dtype="u8")))
    began = time.process_time()
    spent: float | None = None
    if name == ALONE:
        probe = SearchAgent.for_env(make(), config.weights, beam=config.beam)
        guesses = 1 + (config.max_segments - probe.patience - 1) // probe.look
        solved = [without_network(world.family, clues, config.beam, guesses) for clues in puzzles.clues]
        rules = f"single candidates + search beam {config.beam}"
    else:
        agent = ARMS[name].for_env(
            make(), config.weights, beam=config.beam, max_segments=config.max_segments, check=True, device="cpu"
        )
        episodes = sorted(rollout_batched(make, agent, config.puzzles, 16, SEED), key=lambda episode: episode.index)
        solved = [episode.solved for episode in episodes]
        spent = float(np.mean([episode.spent for episode in episodes]))
        rules = agent.halting_rules
    clusters = [world.family.cluster(puzzles[k]) for k in range(config.puzzles)]
    return {
        "solved": float(np.mean(solved)),
        "solved_interval": rate(solved, clusters),
        "puzzles": config.puzzles,
        "clusters": len(set(clusters)),
        "mean_spent": spent,
        "halting_rules": rules,
        "cpu_seconds": round(time.process_time() - began, 1),
        "right": "".join(str(int(one)) for one in solved),
    }


def main(argv: Sequence[str]) -> int:
    """Run the command; returns 0."""
    config = parse(ControlConfig, "search_control", argv)
    torch.set_num_threads(config.threads)
    asked = json.loads(json.dumps({**dataclasses.asdict(config), "seed": SEED}, default=str))
    for name in ("out", "kinds", "threads"):
        del asked[name]
    if config.weights.parent == pretrained.FOLDER:
        asked["weights"] = config.weights.name  # wherever the package lies
    asked["sha256"] = file_sha256(config.weights / WEIGHTS)[:16]
    found: dict[str, Any] = json.loads(config.out.read_text()) if config.out.is_file() else {}
    if found.get("settings") != asked:
        found = {"settings": asked, "results": {}}
    found |= {"date": date.today().isoformat(), "machine": f"{platform.machine()}, PyTorch {torch.__version__}"}
    config.out.parent.mkdir(parents=True, exist_ok=True)
    for kind in config.kinds:
        rows = found["results"].setdefault(kind, {})
        for name in (*ARMS, ALONE):
            if name not in rows:
                rows[name] = arm(config, kind, name)
            first, own = ([np.array(list(row["right"])) == "1"] for row in (rows["network"], rows[name]))
            gap = paired(own, first)
            rows[name]["to_network"] = {"difference": gap.difference, "interval": (gap.low, gap.high), "p": gap.p}
            low, high = rows[name]["solved_interval"]
            print(
                f"{kind}, {name}: {rows[name]['solved']:.1%} ({low:.1%} to {high:.1%}), to the network "
                f"{100 * gap.difference:+.1f} (p {gap.p:.3f}), {rows[name]['cpu_seconds']:.0f} s of CPU",
                flush=True,
            )
            write_atomically(config.out, json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
