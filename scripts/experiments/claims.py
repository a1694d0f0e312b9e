"""The HRM paper's claims, one row each: what was measured here, and what follows from it.

`python -m hrm_gym.scripts.experiments.claims` writes docs/claims.md from the committed figures in docs/results.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hrm_gym.agents import pretrained
from hrm_gym.agents.checkpoint import read_config
from hrm_gym.files import write_atomically
from hrm_gym.reading import read_json
from hrm_gym.scripts.experiments.evaluate import rate, spread
from hrm_gym.scripts.main import run
from hrm_gym.scripts.options import parse


@dataclass(frozen=True)
class ClaimsConfig:
    """Write the page of the paper's claims from the figures in a folder of results.

    Attributes:
        results: Folder with paper/, depth/, levels/, own-decision/, versus/ and memory.json.
        out: The Markdown file to write.
    """

    results: Path = Path("docs/results")
    out: Path = Path("docs/claims.md")


class Claim(NamedTuple):
    """One row: the claim, the file of our figures, what they say, how many trainings, the verdict and its reason; and
    the names of the pictures that `paper` draws of it."""

    claim: str
    file: str
    figure: Callable[[Any], str]
    trainings: int
    verdict: str
    reason: str
    pictures: tuple[str, ...] = ()


SHOWN, WEAKLY, NOT, UNTESTABLE = "shown", "shown weakly", "not reproduced", "not testable here"


def percent(share: float) -> str:
    """One decimal, as everywhere."""
    return f"{100 * share:.1f} %"


def _networks_of(found: Any) -> dict[str, Any]:
    return {row["name"]: row for row in found["results"]}


def _convergence(found: Any) -> str:
    low, high = (np.array(trace["residuals"]) for trace in found["networks"][0]["traces"])
    cycles = low[2::2][: len(high) - 1] > low[1::2][: len(high) - 1]
    return (
        f"hard Sudoku: L-level residual {low[0]:.2f} at first, {low[-1]:.3f} after {found['segments']} segments; "
        f"H-level {high[0]:.2f} and {high[-1]:.3f}; L moves further again after {int(cycles.sum())} of {len(cycles)} "
        "updates of H"
    )


def _left(found: Any) -> str:
    rows = _networks_of(found)

    def left(name: str) -> str:
        return spread(rows[name], "left", 3)

    deep = ", ".join(f"{layers} layers {left(f'direct-{layers}x64')}" for layers in (8, 16, 32))
    return (
        f"last residual over the first, interquartile means: recurrent network {left('recurrent')}, HRM's L-level "
        f"{left('hrm')}; direct prediction: {deep}"
    )


def _layers(found: Any) -> str:
    rows = _networks_of(found)
    by_depth = ", ".join(rate(rows[f"direct-{layers}x64"], "exact") for layers in (2, 4, 8, 16, 32))
    by_width = ", ".join(rate(rows[f"direct-4x{width}"], "exact") for width in (32, 64, 128))
    return (
        f"4x4 Sudoku, interquartile means: 2, 4, 8, 16, 32 layers of 64 channels: {by_depth}; 4 layers of 32, 64, 128 "
        f"channels: {by_width}"
    )


def _direct(found: Any) -> str:
    rows = _networks_of(found)
    best = max((row for name, row in rows.items() if name.startswith("direct")), key=lambda row: row["exact"])
    return (
        f"4x4 Sudoku, interquartile means: HRM {rate(rows['hrm'], 'exact')}, the best direct prediction "
        f"({best['name']}) {rate(best, 'exact')}"
    )


def _hierarchy(found: Any) -> str:
    rows = _networks_of(found)
    return (
        f"4x4 Sudoku, interquartile means: HRM {rate(rows['hrm'], 'exact')}, a recurrent Transformer of equal "
        f"parameters {rate(rows['recurrent'], 'exact')}"
    )


def _act(found: Any) -> str:
    own, fixed = found["learned"][4], found["fixed"][4]
    return (
        f"own decision {percent(own['solved'])} with {own['segments']:.2f} segments in the mean, "
        f"always 16: {percent(fixed['solved'])}"
    )


def _act_sudoku(found: Any) -> str:
    rows = found["results"]
    kinds = ("easy", "hard", "extreme")
    shown = (
        f"{kind} {percent(rows[kind]['own']['solved'])} with {rows[kind]['own']['mean_segments']:.1f} segments, "
        f"always 16 {percent(rows[kind]['fixed']['solved'])}"
        for kind in kinds
    )
    return "; ".join(shown)


def _scaling(found: Any) -> str:
    own = found["results"]["extreme"]["own"]
    shares = {**own["solved_within"], str(found["max_segments"]): own["solved"]}
    shown = ", ".join(f"{limit}: {percent(shares[limit])}" for limit in ("16", "32", "64", "128", "256"))
    within = f"within that number of segments (trained with at most {_trained_segments()})"
    return f"extreme Sudoku by own decision, {within}: {shown}"


def _trained_segments() -> int:
    """Segments of a puzzle at most in the training of the bundled 9x9 network."""
    return int(read_config(pretrained.FOLDER / "hrm-sudoku-9x9")["model"]["max_segments"])


def _maze_scaling(found: Any) -> str:
    shares = {row["limit"]: row["solved"] for row in found["learned"]}
    return "10x10 mazes within 8, 16, 32 segments (trained with 8): " + ", ".join(
        percent(shares[limit]) for limit in (8, 16, 32)
    )


def _segments(found: Any) -> str:
    low, high = found["correlation_low"], found["correlation_high"]
    return (
        f"Spearman correlation of segments with {found['unit']} {found['correlation']:+.2f} ({low:+.2f} to {high:+.2f})"
    )


def _sudoku_strategy(found: Any) -> str:
    one = found["results"]["sudoku"]
    return (
        f"{one['puzzles']} hard Sudokus: {percent(one['share_taken_back'])} of the cells written after the first "
        f"segment are written once more, {percent(one['share_of_writes_on_right_cells'])} of the writes spoil a right "
        "cell, and "
        f"{percent(one['share_of_puzzles_that_get_worse'])} of the puzzles get worse before they get better"
    )


def _maze_strategy(found: Any) -> str:
    one = found["results"]["maze"]
    beside, other, pieces = (one[name] for name in ("beside", "beside_on_a_shortest_path", "pieces"))
    return (
        f"{one['puzzles']} mazes: after segment 1 {beside[0]:.1f} cells beside the final path have a probability above "
        f"0.1, {other[0]:.1f} of them on another shortest path, and the path lies in {pieces[0]:.1f} pieces; after "
        f"segment 2 {beside[1]:.1f}, {other[1]:.1f} and {pieces[1]:.1f}"
    )


def _arc_strategy(found: Any) -> str:
    one = found["results"]["arc"]
    better, _, worse = one["segments_better_equal_worse"]
    wrong = one["wrong"]
    return (
        f"{one['puzzles']} test grids of ARC tasks of the training: {wrong[0]:.1f} cells wrong after segment 1, "
        f"{wrong[-1]:.1f} after {len(wrong)}; {better} segments make an answer better, {worse} worse; "
        f"{percent(one['share_of_puzzles_that_get_worse'])} of the grids get worse at times"
    )


def _inner(found: Any) -> str:
    courses = found["courses"]
    first = [place for place, moment in enumerate(courses[0]["moments"]) if moment[0] == 1]
    wrong = np.mean([[course["wrong"][place] for place in first] for course in courses], axis=0)
    return f"cells wrong after the {len(first)} L-level updates of segment 1: " + ", ".join(f"{n:.1f}" for n in wrong)


def _dimensions(found: Any) -> str:
    trained, untrained = found["trained"][-1], found["untrained"][-1]
    return (
        f"{found['env'].partition(':')[0]}, {trained['puzzles']} puzzles: PR_H / PR_L = {trained['high']:.2f} / "
        f"{trained['low']:.2f} = {trained['ratio']:.2f}; untrained {untrained['ratio']:.2f}"
    )


def _memory(found: Any) -> str:
    kept = {(row["gradient"], row["calls"]): row["saved"] / 2**20 for row in found["rows"]}
    return (
        f"from 2 to 72 calls of the modules a segment: one-step gradient {kept['one_step', 2]:.0f} to "
        f"{kept['one_step', 72]:.0f} MiB, back-propagation through time {kept['bptt', 2]:.0f} to "
        f"{kept['bptt', 72]:,.0f} MiB"
    )


def _mean(row: Any) -> str:
    """An interquartile mean over trainings with its interval."""
    low, high = row["solved_interval"]
    return f"{percent(row['solved'])} ({100 * low:.1f} to {100 * high:.1f})"


def _arms(found: Any, size: str, words: dict[str, str]) -> str:
    """How the arms of `versus` do on one kind of puzzle after both times, by the words for each."""
    arms, seconds = found["summary"][size], found["results"][0]["seconds"]
    shown = "; ".join(f"{words[name]} {_mean(arms[name]['1x'])}, {_mean(arms[name]['4x'])}" for name in words)
    puzzles = {"sudoku-4x4": "4x4 Sudoku", "maze-6x6": "6x6 mazes"}[size]
    return f"{puzzles}, {seconds:g} and {4 * seconds:g} s of a core, interquartile means: {shown}"


def _signals(size: str) -> Callable[[Any], str]:
    words = {
        "supervision": "supervision",
        "reward-writes": "reward for every written symbol",
        "reward-writes-no-carry": "the same without carry",
        "reward-grid": "reward for a solved grid",
    }
    return lambda found: _arms(found, size, words)


def _carry(size: str) -> Callable[[Any], str]:
    words = {"supervision": "up to 4 segments", "supervision-no-carry": "one segment"}
    return lambda found: _arms(found, size, words)


def _settling(found: Any) -> str:
    last, cycles = found["summary"][-1], found["results"][0]["cycles"]
    left, again, high = (spread(last, name) for name in ("within", "moved_again", "high_left"))
    return (
        f"4x4 Sudoku, {cycles} L-steps a cycle, after {last['update']:,} updates, interquartile means: {left} of L's "
        f"residual at the beginning of a cycle is left at its end; L moves further again after {again} of H's updates; "
        f"{high} of H's first residual is left at the end"
    )


def _levels_dimensions(found: Any) -> str:
    shown = ", ".join(f"{row['update']:,} updates {spread(row, 'dimensions_ratio')}" for row in found["summary"])
    return f"4x4 Sudoku, {found['results'][0]['puzzles']} puzzles, PR_H / PR_L: {shown}"


def _act_mini(found: Any) -> str:
    rows = [row for row in found["results"] if (row["size"], row["arm"]) == ("sudoku-4x4", "supervision")]
    last = [row["curve"][-1] for row in rows]
    own, used = (float(np.mean([point[name] for point in last])) for name in ("solved", "segments"))
    four, sixteen = (float(np.mean([row["fixed"][count] for row in rows])) for count in ("4", "16"))
    return (
        f"4x4 Sudoku, means over trainings: own decision {percent(own)} with {used:.2f} segments, always 4 "
        f"{percent(four)}, always 16 {percent(sixteen)}"
    )


CLAIMS = (
    Claim(
        "Hierarchical convergence: L settles within a cycle and is set in motion again by H (figure 3)",
        "paper/convergence-sudoku.json",
        _convergence,
        1,
        WEAKLY,
        "two L-steps a cycle are too few to see L settle within one",
        ("convergence-sudoku", "convergence-maze"),
    ),
    Claim(
        "The same with four L-steps a cycle, five short trainings",
        "levels/levels.json",
        _settling,
        5,
        SHOWN,
        "L settles within a cycle and moves again after every update of H; the untrained network does too, so that it "
        "lies in the structure; what training adds is that H settles",
        ("levels",),
    ),
    Claim(
        "A recurrent network settles early, the layers of a deep one lose their residuals (figure 3)",
        "depth/depth.json",
        _left,
        5,
        WEAKLY,
        "recurrence settles in all trainings; the layers of deep networks keep most of theirs, and 32 layers learnt "
        "nothing at any of six learning rates",
    ),
    Claim(
        "Direct prediction gains by depth, not by width (figure 2)",
        "depth/depth.json",
        _layers,
        5,
        NOT,
        "both help, 2 to 8 layers and 32 to 128 channels, and the widest network is the best; 16 and 32 layers hardly "
        "learn within 400 updates, at the best of six learning rates",
        ("depth",),
    ),
    Claim(
        "HRM is better than direct prediction of comparable size",
        "depth/depth.json",
        _direct,
        5,
        SHOWN,
        "five trainings each, intervals far apart; 4x4 Sudoku only",
    ),
    Claim(
        "Hierarchy is better than plain recurrence",
        "depth/depth.json",
        _hierarchy,
        5,
        NOT,
        "at this size the network without hierarchy is as good or better: the intervals just touch",
    ),
    Claim(
        "ACT saves computation at next to no loss: mazes (figure 5)",
        "paper/scaling-maze.json",
        _act,
        1,
        SHOWN,
        "one network, 256 mazes",
        ("scaling-maze",),
    ),
    Claim(
        "ACT saves computation at next to no loss: Sudoku (figure 5)",
        "own-decision/sudoku-9x9-test.json",
        _act_sudoku,
        1,
        SHOWN,
        "with a threshold of Q(halt) chosen on validation puzzles; at one half it halts too early",
        ("scaling-sudoku",),
    ),
    Claim(
        "The same on 4x4 Sudoku, five short trainings",
        "versus/versus.json",
        _act_mini,
        5,
        WEAKLY,
        "the Q-head halts every board after its first segment, which does as well as four; sixteen, four times as many "
        "as in the training, do harm",
    ),
    Claim(
        "More segments at test time than in training help (figure 5)",
        "own-decision/sudoku-9x9-restarts.json",
        _scaling,
        1,
        SHOWN,
        "on hard Sudokus",
        ("scaling-sudoku",),
    ),
    Claim(
        "The same in mazes, where the paper sees little",
        "paper/scaling-maze.json",
        _maze_scaling,
        1,
        SHOWN,
        "little, as in the paper",
    ),
    Claim(
        "Harder puzzles are thought about longer",
        "paper/segments-maze.json",
        _segments,
        1,
        SHOWN,
        "500 mazes",
        ("segments-maze",),
    ),
    Claim(
        "The same among Sudokus of one class, hard",
        "paper/segments-sudoku.json",
        _segments,
        1,
        NOT,
        "easy, hard and extreme ones take more and more segments (above), but within hard ones guesses say nothing",
        ("segments-sudoku",),
    ),
    Claim(
        "Sudoku is searched as by depth first with backtracking (figure 7)",
        "paper/strategies.json",
        _sudoku_strategy,
        1,
        WEAKLY,
        "cells are taken back and the answer gets worse on the way, as in a search with backtracking; but many cells "
        "change at a time, so no order of a depth-first search can be read off",
        ("strategies", "answers-sudoku"),
    ),
    Claim(
        "Mazes: several paths at first, then one (figure 7)",
        "paper/strategies.json",
        _maze_strategy,
        1,
        SHOWN,
        "in probabilities; the answer itself shows one path in pieces, and it is over after two segments",
        ("answers-maze",),
    ),
    Claim(
        "Within a segment the answer forms from update to update (preliminary H-state, figure 7)",
        "paper/inner-maze.json",
        _inner,
        1,
        WEAKLY,
        "two mazes: the ends first, then pieces of the middle",
        ("inner-maze",),
    ),
    Claim(
        "ARC answers approach by small steps (figure 7)",
        "paper/strategies.json",
        _arc_strategy,
        1,
        WEAKLY,
        "the mean falls by small steps, single tasks go both ways; the network is small and solves few of them",
        ("answers-arc",),
    ),
    Claim(
        "H uses more dimensions than L after training, not before: Sudoku (section 4)",
        "paper/dimensionality-sudoku.json",
        _dimensions,
        1,
        NOT,
        "training raises the ratio to about one, the paper has 2.98",
        ("dimensionality-sudoku", "dimensionality-maze"),
    ),
    Claim(
        "The same in mazes",
        "paper/dimensionality-maze.json",
        _dimensions,
        1,
        NOT,
        "likewise",
    ),
    Claim(
        "The same on 4x4 Sudoku, five short trainings",
        "levels/levels.json",
        _levels_dimensions,
        5,
        NOT,
        "training raises the ratio, which stays below one in all five",
    ),
    Claim(
        "Training needs memory that the number of steps does not enter",
        "memory.json",
        _memory,
        0,
        SHOWN,
        "measured, no training",
        ("memory",),
    ),
    Claim(
        "Dense supervision learns where reward does not",
        "versus/versus.json",
        _signals("sudoku-4x4"),
        5,
        NOT,
        "a reward for every symbol, which says as much, starts later and then learns as well, without carry better; "
        "one for a solved grid alone is hardly ever met. Same network and segments in all arms",
        ("versus",),
    ),
    Claim(
        "The same on 6x6 mazes",
        "versus/versus.json",
        _signals("maze-6x6"),
        5,
        WEAKLY,
        "after 16 seconds supervision solves some and no reward any; the time is too short for more",
    ),
    Claim(
        "Supervision over several segments is better than over one",
        "versus/versus.json",
        _carry("sudoku-4x4"),
        5,
        NOT,
        "a tie: after so short a training the Q-head halts every board after its first segment",
    ),
    Claim(
        "The same on 6x6 mazes",
        "versus/versus.json",
        _carry("maze-6x6"),
        5,
        NOT,
        "a tie, after as short a training",
    ),
)
"""In the paper's order."""

UNTESTED = (
    (
        "1,000 examples suffice: Sudoku-Extreme 55 %, Maze-Hard 74.5 %",
        "the paper's recipes are here (`hrm-gym train sudoku-extreme-1k`, `maze-hard-1k`), and need a GPU",
    ),
    (
        "ARC-AGI-1 40.3 %",
        "the same; 25,000 parameters trained on a CPU solve 21.3 % of small test grids after adaptation "
        "([card](../agents/pretrained/hrm-arc-12x12/CARD.md))",
    ),
    (
        "Chain-of-thought models solve none of these Sudokus and mazes",
        "`--agent llm=URL#MODEL` runs the comparison for whoever has a model ([how](text.md)); none was at hand",
    ),
    ("HRM is Turing-complete in practice", "see below"),
)

OPENING = """# The paper's claims

What the HRM paper (arXiv 2506.21734) shows, and what came of it here, in networks small enough for one CPU core.
Written by `python -m hrm_gym.scripts.experiments.claims` from the figures in [results](results), which name their
commands, seeds, machines and dates. *Trainings* counts the independently trained networks behind a figure. **With one
training a row says something about that network, not about the method**: no verdict that compares methods is better
than *shown weakly* with fewer than five trainings an arm.

| claim | measured here | trainings | verdict | because |
|---|---|---|---|---|"""

FIGURES = """Drawn from the bundled weights, on puzzles of the test split that no network learnt from (seed 2026; ARC:
tasks of the training), or from the committed figures of the trainings. All of them again:
`python -m hrm_gym.scripts.experiments.paper`."""

PROGRAM = "python -m hrm_gym.scripts.experiments.paper"
PLACES = {
    "depth": "results/depth/depth.png",
    "memory": "results/memory.png",
    "versus": "results/versus/versus.png",
    "levels": "results/levels/levels.png",
}
"""Where the pictures lie that are drawn from committed figures."""

CLOSING = """## Turing completeness, and chain of thought

A recurrent network with unbounded precision and time can simulate a Turing machine; the paper says that HRM comes
nearer to it than a Transformer of fixed depth, since it may run any number of segments. What can be run of this is
test-time scaling: a network that goes on computing, with a state of fixed size and in bfloat16, solves more puzzles
given more segments (rows above), up to a bound. That is evidence for use of more time, and none for universality: the
state is finite, and on mazes much longer than those of the training the networks here lose their way rather than need
longer ([card](../agents/pretrained/hrm-maze-any-size/CARD.md)).

The comparison with chain of thought sets 27M parameters trained on one kind of puzzle against general language models
that were not trained on it. It shows that these puzzles are hard for text, not that latent recurrence is the better
way to reason in general.
"""


def page(results: Path) -> str:
    """The Markdown page; FileNotFoundError or ValueError if a file of figures is missing or damaged."""
    lines = [OPENING]
    for claim in CLAIMS:
        figure = claim.figure(read_json(results / claim.file))
        shown = f"{figure} ([figures](results/{claim.file}))"
        lines.append(f"| {claim.claim} | {shown} | {claim.trainings or '-'} | **{claim.verdict}** | {claim.reason} |")
    lines += [f"| {claim} | - | - | **{UNTESTABLE}** | {why} |" for claim, why in UNTESTED]
    return "\n".join([*lines, "", *pictures(results), CLOSING])


def pictures(results: Path) -> list[str]:
    """The paper's figures, each under its claim, with the verdict in one sentence and the command that draws it."""
    lines = ["## The figures", "", FIGURES, ""]
    for claim in CLAIMS:
        if claim.pictures:
            figure = claim.figure(read_json(results / claim.file))
            lines += [
                f"### {claim.claim}",
                "",
                f"{claim.verdict.capitalize()}: {figure}. {claim.reason.capitalize()}.",
                "",
            ]
        for name in claim.pictures:
            lines += [f"![{name}]({PLACES.get(name, f'results/paper/{name}.png')})", "", f"`{PROGRAM} {name}`", ""]
    return lines


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Returns:
        0.
    """
    config = parse(ClaimsConfig, "claims", argv)
    write_atomically(config.out, page(config.results))
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
