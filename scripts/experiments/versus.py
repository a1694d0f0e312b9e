"""Experiment `versus`: one HRM network under dense supervision and under reward, for equal time, with equal carry."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from hrm_gym.agents.agent import Agent
from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.optim import EMA
from hrm_gym.agents.hrm.recipes import RECIPES as HRM_RECIPES
from hrm_gym.agents.hrm.recipes import Recipe, recurrent
from hrm_gym.agents.hrm.trainer import Trainer
from hrm_gym.agents.sb3.agent import SB3Agent
from hrm_gym.agents.sb3.hrm_policy import network_parameters
from hrm_gym.agents.sb3.recipes import SMALL_HRM, THINKER, HRMModel, RLRecipe
from hrm_gym.agents.sb3.training import RLRun
from hrm_gym.evaluation import intervals
from hrm_gym.evaluation.plots import CYCLE, heading, legend, new_figure, shares
from hrm_gym.scripts.experiments.evaluate import about, played, publish, rate, result_of
from hrm_gym.scripts.main import run
from hrm_gym.scripts.options import parse

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EQUIVARIANT = dataclasses.replace(
    SMALL_HRM, hidden_size=16, mlp_width=32, mixer="symbols", symbols=4, box=(2, 2), positions="none"
)
"""For 4x4 Sudoku, equivariant in its digits, lines and boxes: the smallest that learns within seconds."""

SIZES: dict[str, tuple[str, dict[str, Any], HRMConfig]] = {
    "sudoku-4x4": ("HRMSudokuMini-v0", {}, EQUIVARIANT),
    "maze-6x6": ("HRMMaze-v0", {"size": 6}, dataclasses.replace(SMALL_HRM, grid=(6, 6))),
}
"""Environment, its arguments, and the network of all arms."""


@dataclass(frozen=True)
class Arm:
    """One way of learning.

    Attributes:
        words: what the page says of it.
        signal: supervision, or the environment's reward.
        action_mode: of the rewarded policy.
        carry: whether the states pass from one segment of an episode to the next.
        flat: without hierarchy: one module with the layers of both and one state, iterated as often.
    """

    words: str
    signal: Literal["supervision", "dense", "sparse"]
    action_mode: str = "answer"
    carry: bool = True
    flat: bool = False


ARMS = {
    "supervision": Arm("cross-entropy on the solution after every segment (deep supervision)", "supervision"),
    "supervision-no-carry": Arm("the same after a first and only segment", "supervision", carry=False),
    "supervision-flat": Arm(
        "the same without hierarchy: a recurrent network of as many parameters and updates", "supervision", flat=True
    ),
    "reward-grid": Arm("MaskablePPO, an answer grid a segment: reward 1 for a solved grid", "sparse"),
    "reward-cells": Arm(
        "MaskablePPO, an answer grid a segment: reward by how many more of its cells agree with the solution", "dense"
    ),
    "reward-writes": Arm(
        "MaskablePPO, a written symbol a segment: reward by whether it agrees with the solution", "dense", "cell"
    ),
    "reward-writes-no-carry": Arm("the same, every segment from the initial states", "dense", "cell", carry=False),
}
PROGRAM = "python -m hrm_gym.scripts.experiments.versus"
MARKS = (1.0, 2.0, 4.0)
"""Moments of a training at which it is judged, in units of `seconds`; the learning rate is constant, so that each of
them is what a training of that length would have come to."""
ENDLESS = 10**9
"""Updates or steps: more than any training makes; time ends them."""
BETWEEN = 10
"""Updates of supervision between two looks at the time."""


@dataclass(frozen=True)
class VersusConfig:
    """Train one HRM network by deep supervision and by reward: equal parameters, carry, segments, puzzles and time.

    Every environment step is one segment; the states pass from one to the next (but in the arms that say so), and
    gradient does not. Training episodes have at most 4 segments (where a symbol is written at a time, 3 a line of the
    board), and all are judged with the average of their weights. Time is this process's CPU time on one thread;
    evaluations do not count. Each training is written when it is finished: the same command continues.

    Attributes:
        size: Which puzzles.
        arm: Which ways of learning.
        seconds: The shorter time; every training goes on to four times as long.
        seeds: Trainings of each arm.
        puzzles: New puzzles of the test split on which all are judged.
        runs: Folder of the results of single trainings.
        out: Folder for versus.json, versus.png and versus.md.
    """

    size: tuple[str, ...] = ("sudoku-4x4",)
    arm: tuple[str, ...] = tuple(ARMS)
    seconds: float = 60.0
    seeds: int = 5
    puzzles: int = 400
    runs: Path = Path("runs/versus")
    out: Path = Path("runs/versus")


@dataclass(frozen=True)
class Training:
    """What is read of one training's result."""

    size: str
    arm: str
    parameters: int
    curve: tuple[dict[str, float], ...]


def main(argv: Sequence[str]) -> int:
    """Run the experiment; returns 0.

    Raises:
        ValueError: an unknown size or arm, or a number out of range.
    """
    config = parse(VersusConfig, PROGRAM, argv)
    check(config)
    torch.set_num_threads(1)
    trainings = [(size, arm, seed) for size in config.size for seed in range(config.seeds) for arm in config.arm]
    results = [one(config, *training) for training in trainings]
    said = about()
    summary = {size: {arm: summarised(results, size, arm) for arm in config.arm} for size in config.size}
    words = {name: ARMS[name].words for name in config.arm}
    content = {**said, "command": command(config), "arms": words, "summary": summary, "results": results}
    publish(config.out, "versus", content, page(config, said, summary, results), drawn(config, results))
    return 0


def check(config: VersusConfig) -> None:
    """Refuse what cannot be run, before any work."""
    for given, known in ((config.size, SIZES), (config.arm, ARMS)):
        if unknown := [name for name in given if name not in known]:
            raise ValueError(f"expected some of {', '.join(known)}, got {unknown[0]!r}")
    if config.seconds <= 0 or config.puzzles < 1 or config.seeds < 2:
        raise ValueError(
            f"expected seconds and puzzles above 0 and at least 2 seeds, got {config.seconds:g}, {config.puzzles} and "
            f"{config.seeds}"
        )


# ---- one training ----


def one(config: VersusConfig, size: str, arm: str, seed: int) -> dict[str, Any]:
    """The result of one training: read if it is there, else worked out and written."""
    asked = {"size": size, "arm": arm, "seconds": config.seconds, "seed": seed, "puzzles": config.puzzles}
    env_id, env, _ = SIZES[size]

    def judge(agent: Agent, spent: float, amount: int) -> dict[str, float]:
        episodes = played(env_id, env, agent, config.puzzles)
        found = {
            "solved": float(np.mean([episode.solved for episode in episodes])),
            "exact": float(np.mean([episode.exact for episode in episodes])),
            "cells": float(np.mean([episode.cell_accuracy for episode in episodes])),
            "segments": float(np.mean([episode.segments or episode.steps for episode in episodes])),
        }
        print(f"{size}, {arm}, seed {seed}: {spent:.0f} s, solved {found['solved']:.3f}", file=sys.stderr, flush=True)
        return {"cpu_seconds": round(spent, 2), "amount": amount, **found}

    def work() -> dict[str, Any]:
        marks = [mark * config.seconds for mark in MARKS]
        with tempfile.TemporaryDirectory() as folder:
            if ARMS[arm].signal == "supervision":
                return supervise(supervised_recipe(size, arm, seed), marks, judge, Path(folder))
            return reward(rewarded_recipe(size, arm, seed), marks, judge, Path(folder))

    name = f"{size}-{arm}-{config.seconds:g}s-seed{seed}.json"
    return result_of(config.runs / name, asked, work, Training)


Judge = Callable[[Agent, float, int], dict[str, float]]
"""Of an agent, the CPU seconds that it learnt for, and the updates or steps that it made in them."""
Learnt = dict[str, Any]
"""`parameters` of the network; `curve`, how it did at every mark; under supervision with carry `fixed`, how it does at
the end with numbers of segments that are fixed."""


def supervised_recipe(size: str, arm: str, seed: int) -> Recipe:
    """Deep supervision: the recipe of `hrm-gym train sudoku-4x4` on these puzzles, at a constant learning rate."""
    env_id, env, model = SIZES[size]
    if not ARMS[arm].carry:
        model = dataclasses.replace(model, max_segments=1)
    recipe = dataclasses.replace(HRM_RECIPES["sudoku-4x4"], env_id=env_id, env=env, model=model, seed=seed)
    recipe = dataclasses.replace(recipe, updates=ENDLESS, lr=1e-3, lr_min_ratio=1.0)
    return recurrent(recipe) if ARMS[arm].flat else recipe


def rewarded_recipe(size: str, arm: str, seed: int) -> RLRecipe:
    """MaskablePPO with the same network, at a constant learning rate."""
    env_id, env, hrm = SIZES[size]
    chosen = ARMS[arm]
    learner: Any = dataclasses.replace(THINKER.learner, lr_min_ratio=1.0)
    if chosen.signal == "sparse":  # the reward comes with the last segment, and has to reach the others
        learner = dataclasses.replace(learner, gamma=0.9, gae_lambda=0.9)
    return dataclasses.replace(
        THINKER,
        env_id=env_id,
        env=env,
        model=HRMModel(hrm, segments=1, carry=chosen.carry),
        learner=learner,
        action_mode=chosen.action_mode,
        reward=chosen.signal,
        max_steps=hrm.max_segments if chosen.action_mode == "answer" else 3 * hrm.grid[0],
        seed=seed,
        timesteps=ENDLESS,
        eval_every=ENDLESS,
        checkpoint_every=ENDLESS,
        eval_puzzles=1,
    )


def supervise(recipe: Recipe, marks: Sequence[float], judge: Judge, folder: Path) -> Learnt:
    """Deep supervision."""
    trainer = Trainer(recipe, folder, compile=False)
    limit = 16 if recipe.model.max_segments > 1 else 1
    spent, curve = 0.0, []
    for mark in marks:
        while spent < mark:
            begin = time.process_time()
            for _ in range(BETWEEN):
                trainer.step()
            spent += time.process_time() - begin
        model = HRM.from_state(recipe.model, trainer.weights())
        agent = HRMAgent(model, trainer.feed.family, max_segments=limit, device="cpu")
        curve.append(judge(agent, spent, trainer.update))
    found: Learnt = {"parameters": model.parameter_count(), "curve": curve}
    if limit > 1:
        found["fixed"] = {}
        for segments in (recipe.model.max_segments, limit):
            agent = HRMAgent(model, trainer.feed.family, max_segments=segments, halting="never", device="cpu")
            found["fixed"][str(segments)] = judge(agent, spent, trainer.update)["solved"]
    return found


def reward(recipe: RLRecipe, marks: Sequence[float], judge: Judge, folder: Path) -> Learnt:
    """Reward alone; the weights are averaged as under supervision."""
    rl = RLRun(recipe, folder)
    policy: Any = rl.policy
    average = EMA(policy.named_parameters(), HRM_RECIPES["sudoku-4x4"].ema)
    policy.optimizer.register_step_post_hook(lambda *_: average.update(policy))
    start = rl.processor_seconds()
    curve: list[dict[str, float]] = []
    rl.limit = start + marks[-1]

    def watch(row: dict[str, float]) -> None:
        spent = rl.processor_seconds() - start
        while len(curve) < len(marks) and spent >= marks[len(curve)]:
            with rl.standing_still(), averaged(policy, average):
                agent = SB3Agent(policy, recipe.action_mode, device="cpu", family=rl.family)
                curve.append(judge(agent, spent, rl.timesteps))

    rl.learn(watch)
    return {"parameters": network_parameters(policy), "curve": curve}


@contextmanager
def averaged(policy: Any, average: EMA) -> Iterator[None]:
    """The policy with averaged weights inside, and with its own again afterwards."""
    own = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    policy.load_state_dict(average.state_dict(policy))
    yield
    policy.load_state_dict(own)


# ---- all of them ----


def summarised(results: Sequence[dict[str, Any]], size: str, arm: str) -> dict[str, Any]:
    """At the shorter and the longer time the interquartile mean over trainings with its interval."""
    rows = [row for row in results if (row["size"], row["arm"]) == (size, arm)]
    used = [row["curve"][-1]["segments"] for row in rows]
    found: dict[str, Any] = {"trainings": len(rows), "segments": float(np.mean(used))}
    for name, mark in (("1x", 1.0), ("4x", 4.0)):
        scores = [row["curve"][MARKS.index(mark)]["solved"] for row in rows]
        mean, interval = intervals.method(np.array(scores))
        found[name] = {"solved": mean, "solved_interval": interval, "scores": scores}
    return found


def command(config: VersusConfig) -> str:
    """The command line that makes the result."""
    chosen = "" if config.arm == tuple(ARMS) else f" --arm {' '.join(config.arm)}"
    return (
        f"{PROGRAM} --size {' '.join(config.size)}{chosen} --seconds {config.seconds:g} --seeds {config.seeds} "
        f"--puzzles {config.puzzles}"
    )


def page(config: VersusConfig, said: dict[str, str], summary: dict[str, Any], results: Sequence[dict[str, Any]]) -> str:
    """The Markdown page."""
    long = 4 * config.seconds
    parameters = sorted({row["parameters"] for row in results})
    lines = [
        "# One network, three signals",
        "",
        f"An HRM of {' and '.join(f'{count:,}' for count in parameters)} parameters, {config.seeds} trainings an arm, "
        f"{config.seconds:g} and {long:g} seconds of one processor core each, judged on the same {config.puzzles} new "
        "puzzles of the test split. Interquartile mean over trainings; in brackets its 95 % interval by a bootstrap of "
        "the trainings. An environment step is a segment; the states pass from one to the next and gradient does not; "
        "weights are averaged in all arms. At most 16 segments a puzzle when judged (1 under supervision without "
        "carry; where symbols are written one at a time, as many as writes); the last column has their mean.",
        "",
        *(f"- **{name}**: {ARMS[name].words}" for name in config.arm),
        "",
        f"| puzzles | arm | solved after {config.seconds:g} s | after {long:g} s | each, {long:g} s | segments |",
        "|---|---|---|---|---|---|",
    ]
    for size, arms in summary.items():
        for name, row in arms.items():
            scores = ", ".join(f"{100 * score:.1f}" for score in row["4x"]["scores"])
            rates = f"{rate(row['1x'], 'solved')} | {rate(row['4x'], 'solved')}"
            lines.append(f"| {size} | {name} | {rates} | {scores} | {row['segments']:.1f} |")
    lines += ["", "![curves](versus.png)", "", f"`{command(config)}`, {said['date']}, {said['machine']}.", ""]
    return "\n".join(lines)


def drawn(config: VersusConfig, results: Sequence[dict[str, Any]]) -> Figure:
    """Every training thin, and the interquartile mean of each arm, a panel a size."""
    width = 4.6 * len(config.size) + 1.4
    picture, (panels,) = new_figure((width, 3.8), "one network, three signals", columns=len(config.size), sharey=True)
    seconds = [0.0, *(mark * config.seconds for mark in MARKS)]
    for axes, size in zip(panels, config.size, strict=True):
        for name in config.arm:
            colour = CYCLE[config.arm.index(name) % len(CYCLE)]
            rows = [row for row in results if (row["size"], row["arm"]) == (size, name)]
            curves = np.array([[0.0, *(point["solved"] for point in row["curve"])] for row in rows])
            axes.plot(seconds, curves.T, color=colour, alpha=0.25, linewidth=0.7)
            means = [intervals.interquartile_mean(column) for column in curves.T]
            axes.plot(seconds, means, ".-", color=colour, label=name)
        heading(axes, size)
        axes.set(xlabel="seconds of learning, one core")
        shares(axes)
    panels[0].set_ylabel("test puzzles solved")
    legend(picture)
    return picture


if __name__ == "__main__":
    sys.exit(run(main))
