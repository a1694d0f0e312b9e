"""How well an HRM for 4x4, 6x6 or 9x9 Sudoku, or for mazes of any size, decides by itself when it is finished.

`python -m hrm_gym.scripts.experiments.own_decision --help`
"""

from __future__ import annotations

import csv
import dataclasses
import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium as gym
import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from hrm_gym.agents import pretrained
from hrm_gym.agents.checkpoint import write_folder
from hrm_gym.agents.hrm import thinking
from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.halting import parse_halting
from hrm_gym.agents.hrm.hub import Pretrained, load_pretrained
from hrm_gym.agents.hrm.inference.search import SearchAgent
from hrm_gym.agents.hrm.run_folder import write_model
from hrm_gym.data.stream import PuzzleStream
from hrm_gym.envs.puzzle import PuzzleBatch
from hrm_gym.evaluation.intervals import rate
from hrm_gym.files import check_ours, check_writable, write_atomically, write_npz
from hrm_gym.registry import make_family
from hrm_gym.scripts.main import run
from hrm_gym.scripts.options import parse

KINDS: dict[tuple[str, tuple[int, int] | None], dict[str, dict[str, Any]]] = {
    ("sudoku", (4, 4)): {"4x4": {"id": "HRMSudokuMini-v0", "box": (2, 2)}},
    ("sudoku", (6, 6)): {"6x6": {"id": "HRMSudokuMini-v0", "box": (2, 3)}},
    ("sudoku", (9, 9)): {
        name: {"id": "HRMSudoku-v0", "difficulty": name} for name in ("easy", "medium", "hard", "extreme")
    },
    ("maze", None): {f"{size}x{size}": {"id": "HRMMaze-v0", "size": size} for size in (8, 12, 16, 20, 24, 30)}
    | {"winding": {"id": "HRMMaze-v0", "size": 30, "min_path": 80, "wall_share": 0.37}},
}
"""The puzzles of our generators by family and grid (None: any), then by kind: arguments of `gym.make`. "winding" are
30x30 with shortest paths of 80 cells and more; longer ones, as Maze-Hard has them, are too rare for a split as small as
validation."""

PARTS = {"validation": ("validation", 77), "test": ("test", 2026)}
"""Split and seed of the puzzle stream of each part. The splits share no puzzle under any symmetry, nor a founder of
extreme puzzles."""

BUNDLED = pretrained.FOLDER / "hrm-sudoku-9x9"

FIXED = 16
"""Segments of the rule that looks at nothing, and of one attempt with restarts."""

LIMITS = (1, 2, 4, 8, 16, 32, 64, 128)
"""Segments at most for which the own decision is reported too: more of them are test-time scaling."""

SETTLED = 6.0
"""Q(halt) logit, above all thresholds worth trying, at which a right answer is final."""

CHUNK = 16
"""Boards at a time: more no longer fit the cache."""


@dataclass(frozen=True)
class OwnDecisionConfig:
    """Judge an HRM by its own decision: it halts when its Q-head says so, and nobody checks the answer.

    Every puzzle is given all its segments once, and all halting rules are read off these: the Q-head alone (own); a
    fixed number of segments, 16 (fixed); the Q-head with a check of the rules, which holds it back from halting with a
    broken one (check); and the first and the last with restarts from another start (own_restarts, check_restarts).
    An answer is taken at the last segment if nothing halted before. "ever" counts puzzles with a right answer after any
    segment, which no halting rule can exceed. In a maze an answer that breaks no rule is any path; right is a shortest.
    A search by the network alone (own_search) has its own segments, which are those of all lanes.

    Attributes:
        weights: Folder of weights, e.g. runs/sudoku/model; the bundled ones for 9x9 Sudoku by default.
        part: Validation puzzles (their own split, seed 77; rows K to 2 K - 1 of every source of --data) are for choices
            such as a threshold, test puzzles (test split, seed 2026; rows 0 to K - 1) for reports.
        puzzles: Puzzles of each kind, K.
        kinds: Which of the own generator's puzzles: of 9x9 Sudoku easy, medium, hard, extreme; of mazes 8x8 to 30x30,
            and winding. All by default.
        data: Rows of this CSV file (source,question,answer,rating) too, each source by itself.
        max_segments: Segments of a puzzle at most.
        restart: Segments of one attempt where there are restarts; 0 leaves these out.
        search: Segments of all lanes of a search that asks no rule (`hrm-search --no-check --budget N`); 0 leaves it
            out. For networks whose guesses can be written into the puzzle, and a threshold of 0.
        threshold: Q(halt) logit above which the network halts.
        scan: Also print wrong halts and solved puzzles for thresholds from 0 to 6.
        json: Write all figures to this file.
        traces: Write Q-values, and which answers are right, of all segments to this .npz file.
        save: Write the weights with the threshold subtracted from the bias of Q(halt) to this folder: they then halt at
            a logit of 0 where these halt at the threshold.
        threads: CPU threads.
    """

    weights: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    part: Literal["validation", "test"] = "validation"
    puzzles: int = 400
    kinds: tuple[str, ...] = ()
    data: Annotated[Path | None, tyro.conf.arg(metavar="FILE.csv")] = None
    max_segments: int = 64
    restart: int = FIXED
    search: int = 0
    threshold: float = 0.0
    scan: bool = False
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE.json")] = None
    traces: Annotated[Path | None, tyro.conf.arg(metavar="FILE.npz")] = None
    save: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    threads: int = 1


@dataclass(frozen=True, eq=False)
class Trace:
    """What an HRM comes to after each of S segments on N puzzles.

    Attributes:
        q_halt: (N, S) float32 logits.
        right: (N, S) bool, answers that solve the puzzle.
        legal: (N, S) bool, answers that are complete and break no rule, which a check lets pass: in a Sudoku the right
            ones, in a maze all paths from start to goal.
        run: segments run, of all puzzles together.
        seconds: CPU time that they took.
        clusters: N hashes, equal for puzzles that are not independent (`PuzzleFamily.cluster`); None if all are.
    """

    q_halt: NDArray[np.float32]
    right: NDArray[np.bool_]
    legal: NDArray[np.bool_]
    run: int
    seconds: float
    clusters: tuple[int, ...] | None = None


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Returns:
        0.

    Raises:
        ValueError: a number out of range, an unknown difficulty, or weights for another board.
        OSError: a file that cannot be read or written.
    """
    config = parse(OwnDecisionConfig, "own_decision", argv)
    _check(config)
    torch.set_num_threads(config.threads)
    found = load_pretrained(config.weights or BUNDLED)
    traces: dict[str, tuple[Trace, Trace]] = {}
    results: dict[str, Any] = {}
    for name, batch in kinds(config, found.about["family"], found.model.config):
        agent = agent_for(found, batch, config.restart)
        plain = trace(agent, batch, config.max_segments)
        restarted = trace(agent, batch, config.max_segments, config.restart, plain) if config.restart else plain
        traces[name] = plain, restarted
        results[name] = figures(plain, restarted, config.threshold)
        if config.search:
            results[name]["own_search"] = searched(agent, batch, config.search, plain.clusters)
        print(line(name, results[name]), flush=True)
    about = {
        "weights": str(config.weights or "bundled"),
        "part": config.part,
        "max_segments": config.max_segments,
        "restart": config.restart,
        **({"search": config.search} if config.search else {}),
        "threshold": config.threshold,
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {config.threads} threads, PyTorch {torch.__version__}",
    }
    if config.scan:
        rows = scan([plain for plain, _ in traces.values()])
        about["scan"] = rows
        for row in rows:
            print(
                f"threshold {row['threshold']:5.2f}: solved {row['solved']:.2%}, wrong halts {row['wrong_halts']:.2%}, "
                f"at most {row['most_wrong_halts']:.2%} of a kind"
            )
    if config.json is not None:
        write_atomically(config.json, json.dumps({**about, "results": results}, indent=1) + "\n")
    if config.traces is not None:
        _write_traces(config.traces, traces)
    if config.save is not None:
        save_shifted(config.weights or BUNDLED, config.threshold, config.save)
    return 0


def _check(config: OwnDecisionConfig) -> None:
    if config.save is not None:
        check_ours(config.save)
    for name in ("restart", "search"):
        if getattr(config, name) < 0:
            raise ValueError(f"expected --{name} of at least 0, got {getattr(config, name)}")
    if config.search and config.threshold:
        raise ValueError(f"expected --threshold 0 with --search (see --save), got {config.threshold}")
    for name in ("puzzles", "max_segments", "threads"):
        if getattr(config, name) < 1:
            raise ValueError(f"expected --{name.replace('_', '-')} of at least 1, got {getattr(config, name)}")
    for path in (config.json, config.traces):
        if path is not None:
            check_writable(path)


def agent_for(found: Pretrained, batch: PuzzleBatch, restart: int) -> HRMAgent:
    """The agent on boards of this size, with a fast network."""
    grid = batch.clues.shape[1], batch.clues.shape[2]
    family = make_family(found.about["family"], grid)
    return HRMAgent(found.model.on_grid(grid), family, device="cpu", compile=True, restart=restart)


def kinds(config: OwnDecisionConfig, family: str, network: HRMConfig) -> list[tuple[str, PuzzleBatch]]:
    """The puzzles by kind: those of our generators, those of the file by source.

    Raises:
        ValueError: an unknown kind, or weights for which there are no kinds.
    """
    known = KINDS.get((family, None if network.any_grid else network.grid))
    if known is None:
        raise ValueError(
            f"expected weights for Sudoku of 4x4, 6x6 or 9x9, or mazes of any size, got {family} {network.grid}"
        )
    if unknown := set(config.kinds) - set(known):
        raise ValueError(f"expected --kinds of {', '.join(known)}, got {', '.join(sorted(unknown))}")
    split, seed = PARTS[config.part]
    kinds = []
    for name in config.kinds or known:
        world: Any = gym.make(disable_env_checker=True, source="generate", split=split, **known[name]).unwrapped
        kinds.append((name, PuzzleStream(world.puzzle_source, seed).take(0, config.puzzles)))
    if config.data is None:
        return kinds
    world = gym.make(next(iter(known.values()))["id"], disable_env_checker=True, source=config.data).unwrapped
    with config.data.open(newline="", encoding="utf-8-sig") as file:
        sources = [row["source"] for row in csv.DictReader(file)]
    names = dict.fromkeys(sources) if family == "sudoku" else {config.data.stem: None}
    first = config.puzzles if config.part == "validation" else 0
    for source in names:
        rows = [row for row, name in enumerate(sources) if family != "sudoku" or name == source]
        if rows := rows[first : first + config.puzzles]:
            kinds.append((source, world.puzzle_source.batch(np.array(rows, dtype=np.uint64))))
    return kinds


def trace(agent: HRMAgent, batch: PuzzleBatch, segments: int, restart: int = 0, begun: Trace | None = None) -> Trace:
    """Run segments on puzzles, whatever the Q-head says.

    A puzzle is settled once, after `FIXED` segments or more, its answer is right with a Q(halt) logit above `SETTLED`:
    all rules have halted by then. What it would do later is not run; its last values are repeated.

    Args:
        agent: the network, the rules, and the images that restarts go through.
        batch: N puzzles.
        segments: how many segments.
        restart: segments after which all puzzles restart; 0 never.
        begun: the trace without restarts of the same puzzles, whose first `restart` segments are taken over.
    """

    def judged(numbers: NDArray[np.int64], answers: torch.Tensor) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        clues, given = batch.clues[numbers], answers.numpy().reshape(-1, *batch.clues.shape[1:])
        return family.judge(clues, batch.solutions[numbers], given), np.isfinite(family.cost(clues, given))

    model, family, turns = agent.model, agent.family, agent.rules.turns if restart else None
    rules = thinking.Rules(parse_halting("never", model.config), segments, None, restart, turns)
    q_halt = np.zeros((len(batch), segments), np.float32)
    right, legal = np.zeros((2, len(batch), segments), np.bool_)
    first, live = 0, np.arange(len(batch))
    if begun is not None:
        first = min(restart, segments)
        pairs: tuple[tuple[Any, Any], ...] = (q_halt, begun.q_halt), (right, begun.right), (legal, begun.legal)
        for own, other in pairs:
            own[:, :first] = other[:, :first]
            own[:, first:] = own[:, first - 1 : first]
        live = np.flatnonzero(~(right[:, first - 1] & (q_halt[:, first - 1] > SETTLED)))
    began, run = time.process_time(), 0
    for at in range(0, len(live) if first < segments else 0, CHUNK):
        chunk = live[at : at + CHUNK]
        clues = torch.from_numpy(batch.clues[chunk].reshape(len(chunk), -1))
        ids = torch.zeros(len(chunk), dtype=torch.int32)
        boards = thinking.Boards(clues.to(torch.int32), ids, torch.ones_like(clues, dtype=torch.bool))
        state = thinking.AgentState.before(model, len(chunk))
        state = dataclasses.replace(state, segments=torch.full_like(state.segments, first))
        while len(chunk):
            step = next(thinking.think(model, boards, rules, state))
            state, segment = step.state, int(step.state.segments[0]) - 1
            found_right, found_legal = judged(chunk, state.answers)
            q_halt[chunk, segment:] = state.q_logits[:, :1].numpy()
            right[chunk, segment:], legal[chunk, segment:] = found_right[:, None], found_legal[:, None]
            run += len(chunk)
            settled = found_right & (q_halt[chunk, segment] > SETTLED) & (segment + 1 >= FIXED)
            stay = torch.from_numpy(~settled & (segment + 1 < segments))
            chunk, boards, state = chunk[stay.numpy()], boards.rows(stay), state[stay]
    clusters = tuple(family.cluster(batch[number]) for number in range(len(batch)))
    return Trace(q_halt, right, legal, run, time.process_time() - began, clusters)


def figures(plain: Trace, restarted: Trace, threshold: float) -> dict[str, dict[str, Any]]:
    """The figures of every halting rule, by its name."""
    after_fixed = np.broadcast_to(np.arange(plain.right.shape[1]) >= FIXED - 1, plain.right.shape)
    found = {
        "own": rule(plain, plain.q_halt > threshold),
        "fixed": rule(plain, after_fixed),
        "ever": rule(plain, plain.right),
        "check": rule(plain, (plain.q_halt > threshold) & plain.legal),
    }
    if restarted is not plain:
        found["own_restarts"] = rule(restarted, restarted.q_halt > threshold)
        found["check_restarts"] = rule(restarted, (restarted.q_halt > threshold) & restarted.legal)
    limits = [limit for limit in LIMITS if limit <= plain.right.shape[1]]
    found["own"]["solved_within"] = {
        str(limit): rule(plain, plain.q_halt > threshold, limit)["solved"] for limit in limits
    }
    found["own"]["cpu_milliseconds"] = 1000 * plain.seconds / plain.run * found["own"]["mean_segments"]
    return found


def rule(trace: Trace, wants: NDArray[np.bool_], limit: int | None = None) -> dict[str, Any]:
    """What comes of halting at the first segment at which `wants` (N, S) is true, or else at the last, or the limit.

    Returns:
        `solved` with its 95 % interval; `wrong_halts`, the share of all puzzles on which it halts with a wrong answer
        before the end, with its interval; `clusters`, how many of the puzzles are independent, which the intervals
        know; `unfinished`, the share on which it never halts; `mean_segments`.
    """
    wants = wants[:, :limit]
    count, segments = wants.shape
    halts = np.asarray(wants.any(axis=1))
    stop = np.where(halts, wants.argmax(axis=1), segments - 1)
    return outcome(trace.right[np.arange(count), stop], halts, stop + 1, trace.clusters)


def outcome(
    right: NDArray[np.bool_], halts: NDArray[np.bool_], segments: NDArray[np.int64], clusters: tuple[int, ...] | None
) -> dict[str, Any]:
    """The figures of N puzzles (N,) with right answers, that halted, after how many segments."""
    count = len(right)
    return {
        "puzzles": count,
        "solved": int(right.sum()) / count,
        "solved_interval": rate(right, clusters),
        "wrong_halts": int((halts & ~right).sum()) / count,
        "wrong_halts_interval": rate(halts & ~right, clusters),
        "clusters": count if clusters is None else len(set(clusters)),
        "unfinished": float(np.mean(~halts)),
        "mean_segments": float(np.mean(segments)),
    }


def searched(agent: HRMAgent, batch: PuzzleBatch, budget: int, clusters: tuple[int, ...] | None) -> dict[str, Any]:
    """What a search by the network alone comes to, as `rule` has it; `mean_segments` counts those of all lanes.

    Raises:
        ValueError: the network is not one for a search.
    """
    search = SearchAgent(agent, max_segments=budget, budget=budget, check=False)
    right, halted, spent = [], [], []
    for at in range(0, len(batch), CHUNK):
        clues, solutions = batch.clues[at : at + CHUNK], batch.solutions[at : at + CHUNK]
        found = search.solve(clues)
        right += agent.family.judge(clues, solutions, found.answers).tolist()
        halted += found.halted.tolist()
        spent += found.spent.tolist()
    return outcome(np.array(right), np.array(halted), np.array(spent), clusters)


def scan(traces: Sequence[Trace]) -> list[dict[str, float]]:
    """Own decision for thresholds of Q(halt) from 0 to `SETTLED`, the mean over the kinds of puzzles."""
    rows = []
    for threshold in np.arange(0, SETTLED + 0.25, 0.25):
        found = [rule(trace, trace.q_halt > threshold) for trace in traces]
        means = {name: float(np.mean([row[name] for row in found])) for name in ("solved", "wrong_halts")}
        most = max(row["wrong_halts"] for row in found)
        rows.append({"threshold": float(threshold), **means, "most_wrong_halts": float(most)})
    return rows


def line(name: str, found: dict[str, dict[str, Any]]) -> str:
    """The figures of one kind of puzzles on one line."""

    def share(row: dict[str, Any]) -> str:
        low, high = row["solved_interval"]
        wrong = f", {100 * row['wrong_halts']:.2f} % wrong halts" if row["unfinished"] or row["wrong_halts"] else ""
        return f"{100 * row['solved']:.1f} ({100 * low:.1f} to {100 * high:.1f}), {row['mean_segments']:.1f}{wrong}"

    return f"{name}, {found['own']['puzzles']}: " + "; ".join(f"{rule} {share(row)}" for rule, row in found.items())


def save_shifted(weights: Path, threshold: float, out: Path) -> None:
    """Write the weights with `threshold` subtracted from the bias of Q(halt), and say so in their JSON."""
    found = load_pretrained(weights)
    state = found.model.state_dict()
    state["q_head.bias"] = state["q_head.bias"] - torch.tensor([threshold, 0.0])
    about = {**found.about, "q_halt_shift": found.about.get("q_halt_shift", 0.0) - threshold}
    write_folder(out, lambda folder: write_model(folder, state, found.model.config, about))


def _write_traces(path: Path, traces: dict[str, tuple[Trace, Trace]]) -> None:
    arrays: dict[str, Any] = {}
    for name, pair in traces.items():
        for kind, found in zip(("plain", "restarted"), pair, strict=True):
            arrays |= {f"{name}.{kind}.{part}": getattr(found, part) for part in ("q_halt", "right", "legal")}
    write_npz(path, arrays)


if __name__ == "__main__":
    sys.exit(run(main))
