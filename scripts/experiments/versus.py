"""Experiment `versus`: one HRM network under dense supervision and under reward, for equal time, on three puzzles."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hrm_gym.agents.agent import Agent
from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.recipes import RECIPES as HRM_RECIPES
from hrm_gym.agents.hrm.recipes import Recipe
from hrm_gym.agents.hrm.run_folder import append_curve, trim_curve
from hrm_gym.agents.hrm.trainer import Trainer
from hrm_gym.agents.sb3.agent import SB3Agent
from hrm_gym.agents.sb3.curves import curve_of
from hrm_gym.agents.sb3.recipes import POLICY, SMALL_HRM, THINKER, RLRecipe
from hrm_gym.agents.sb3.training import RLRun
from hrm_gym.evaluation.plots import CYCLE, heading, legend, line, new_figure, shares
from hrm_gym.scripts.experiments.evaluate import about, judged, publish, rate, result_of
from hrm_gym.scripts.main import run
from hrm_gym.scripts.options import parse

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES: dict[str, tuple[str, dict[str, Any], int]] = {
    "sudoku-4x4": ("HRMSudokuMini-v0", {}, 4),
    "maze-6x6": ("HRMMaze-v0", {"size": 6}, 6),
    "maze-8x8": ("HRMMaze-v0", {"size": 8}, 8),
}
"""Environment, its arguments and the side of its boards."""

ARMS = {
    "supervision": "dense supervision: cross-entropy on the solution after every segment",
    "sparse": "sparse reward: MaskablePPO in answer mode, 1 for a solved grid",
    "dense": "dense reward: MaskablePPO in cell mode, told of every symbol whether it agrees with the solution",
}
PROGRAM = "python -m hrm_gym.scripts.experiments.versus"
UPDATES = 10**9
"""More than any run makes: time ends them."""


@dataclass(frozen=True)
class VersusConfig:
    """Train one HRM network by deep supervision and by reward alone, with equal parameters, puzzles and time.

    The clock is this process's time on the processor on a CPU (one thread, so that on an idle core it is wall time, and
    other work on the machine takes nothing from either side), and wall time elsewhere; evaluations do not count. What
    is finished is kept: the same command continues where it was stopped.

    Attributes:
        size: Which puzzles.
        arm: Which ways of learning.
        seconds: Time of every run.
        puzzles: Held-out puzzles on which all finished networks are judged, the same for all.
        seed: Of weights, puzzles and exploration.
        runs: Folder of the runs.
        out: Folder for versus.json, versus.png and versus.md.
        threads: CPU threads.
    """

    size: tuple[str, ...] = tuple(SIZES)
    arm: tuple[str, ...] = tuple(ARMS)
    seconds: float = 300.0
    puzzles: int = 500
    seed: int = 0
    runs: Path = Path("runs/versus")
    out: Path = Path("runs/versus")
    threads: int = 1


def main(argv: Sequence[str]) -> int:
    """Run the experiment; returns 0.

    Raises:
        ValueError: an unknown size or arm, or a number out of range.
    """
    config = parse(VersusConfig, PROGRAM, argv)
    check(config)
    torch.set_num_threads(config.threads)
    results = [carried_out(config, size, arm) for size in config.size for arm in config.arm]
    told = about()
    content = {**told, "arms": ARMS, "results": results}
    publish(config.out, "versus", content, table(config, told, results), drawn(config, results))
    return 0


def check(config: VersusConfig) -> None:
    """Refuse what cannot be run, before any work."""
    for given, known in ((config.size, SIZES), (config.arm, ARMS)):
        if unknown := [name for name in given if name not in known]:
            raise ValueError(f"expected some of {', '.join(known)}, got {unknown[0]!r}")
    if config.seconds <= 0 or config.puzzles < 1 or config.threads < 1:
        raise ValueError(
            f"expected seconds, puzzles and threads above 0, got {config.seconds:g}, {config.puzzles}, {config.threads}"
        )


# ---- the two ways of learning ----


def supervised_recipe(size: str, seed: int) -> Recipe:
    """Deep supervision: the recipe of `hrm-gym train sudoku-4x4` on these puzzles, at a constant learning rate."""
    env_id, env, side = SIZES[size]
    model = dataclasses.replace(SMALL_HRM, grid=(side, side))
    recipe = dataclasses.replace(HRM_RECIPES["sudoku-4x4"], env_id=env_id, env=env, model=model, seed=seed)
    return dataclasses.replace(recipe, updates=UPDATES, lr=1e-3, lr_min_ratio=1.0, eval_puzzles=256)


def rewarded_recipe(size: str, arm: str, seed: int) -> RLRecipe:
    """MaskablePPO with the same network: answer mode and sparse reward, or cell mode and dense reward."""
    env_id, env, side = SIZES[size]
    model = dataclasses.replace(POLICY, hrm=dataclasses.replace(SMALL_HRM, grid=(side, side)))
    learner = dataclasses.replace(THINKER.learner, lr_min_ratio=1.0)
    changes: dict[str, Any] = {"reward": "dense", "action_mode": "cell", "max_steps": 3 * side}
    if arm == "sparse":
        changes = {"reward": "sparse", "action_mode": "answer", "max_steps": 1}
    changes |= {"env_id": env_id, "env": env, "model": model, "learner": learner, "seed": seed, "timesteps": UPDATES}
    return dataclasses.replace(THINKER, **changes, eval_every=16_384, checkpoint_every=16_384, eval_puzzles=128)


class Clock:
    """Seconds of learning: processor time on a CPU, wall time elsewhere; stands still while it is stopped."""

    def __init__(self, spent: float, device: str = "cpu") -> None:
        self._now = time.process_time if device == "cpu" else time.perf_counter
        self.spent, self._since = spent, self._now()

    def stop(self) -> float:
        """Stand still; returns the seconds so far."""
        self.spent += self._now() - self._since
        return self.spent

    def start(self) -> None:
        """Go on."""
        self._since = self._now()


def supervise(config: VersusConfig, size: str, folder: Path, every: int = 100) -> tuple[list[dict[str, Any]], Agent]:
    """Deep supervision for the time that is left; returns its curve and the agent."""
    trainer = Trainer(supervised_recipe(size, config.seed), folder, compile=False)
    trim_curve(folder, trainer.update)
    before = curve_of(folder)
    clock = Clock(before[-1]["processor_seconds"] if before else 0.0)
    spent = clock.spent
    while spent < config.seconds:
        for _ in range(every):
            trainer.step()
        spent = clock.stop()
        found = trainer.evaluate()
        append_curve(folder, {"update": trainer.update, "processor_seconds": round(spent, 2), **found})
        trainer.save()
        tell(size, "supervision", spent, found)
        clock.start()
    model = HRM(trainer.recipe.model)
    model.load_state_dict(trainer.weights())
    return curve_of(folder), HRMAgent(model, trainer.feed.family, max_segments=16, device="cpu")


def reward(config: VersusConfig, size: str, arm: str, folder: Path) -> tuple[list[dict[str, Any]], Agent]:
    """Reward alone for the time that is left; returns its curve and the agent."""
    run = RLRun(rewarded_recipe(size, arm, config.seed), folder)
    run.limit = config.seconds

    def watch(row: dict[str, float]) -> None:
        if run.recently_evaluated():
            tell(size, arm, row["processor_seconds"], {"exact": curve_of(folder)[-1]["exact"]})

    run.learn(watch)
    return curve_of(folder), SB3Agent(run.policy, run.recipe.action_mode, device="cpu", family=run.family)


def tell(size: str, arm: str, seconds: float, found: dict[str, float]) -> None:
    """A line of progress."""
    print(f"{size}, {arm}: {seconds:.0f} s, exact {found['exact']:.3f}", file=sys.stderr, flush=True)


# ---- results ----


def carried_out(config: VersusConfig, size: str, arm: str) -> dict[str, Any]:
    """The result of one run: read if it is there, else worked out and written."""
    folder = config.runs / f"{size}-{arm}-{config.seconds:g}s-seed{config.seed}"
    asked = {"size": size, "arm": arm, "seconds": config.seconds, "seed": config.seed, "puzzles": config.puzzles}

    def work() -> dict[str, Any]:
        curve, agent = supervise(config, size, folder) if arm == "supervision" else reward(config, size, arm, folder)
        network: Any = agent.model if isinstance(agent, HRMAgent) else agent.policy.features_extractor.hrm  # type: ignore[attr-defined]
        found = judged(*SIZES[size][:2], agent, config.puzzles)
        return {"parameters": network.parameter_count(), **found, "curve": curve}

    return result_of(folder / "result.json", asked, work)


def table(config: VersusConfig, told: dict[str, str], results: list[dict[str, Any]]) -> str:
    """The Markdown page."""
    lines = [
        "# One network, three signals",
        "",
        f"An HRM of the same parameters, on generated puzzles of the train split, {config.seconds:g} seconds of one "
        f"processor core a run; judged on {config.puzzles} held-out puzzles, the same for all. In brackets: 95 % "
        "Wilson intervals.",
        "",
        *(f"- **{arm}**: {ARMS[arm]}" for arm in config.arm),
        "",
        "| puzzles | signal | exact | solved | cells right | parameters |",
        "|---|---|---|---|---|---|",
    ]
    for row in results:
        rates = [rate(row, name) for name in ("exact", "solved")]
        cells = f"{100 * row['cells']:.1f} %"
        lines.append(f"| {row['size']} | {row['arm']} | {' | '.join(rates)} | {cells} | {row['parameters']:,} |")
    chosen = "" if config.size == tuple(SIZES) else f" --size {' '.join(config.size)}"
    chosen += "" if config.arm == tuple(ARMS) else f" --arm {' '.join(config.arm)}"
    command = f"{PROGRAM}{chosen} --seconds {config.seconds:g} --puzzles {config.puzzles} --seed {config.seed}"
    return "\n".join([*lines, "", "![curves](versus.png)", "", f"`{command}`, {told['date']}, {told['machine']}.", ""])


def drawn(config: VersusConfig, results: list[dict[str, Any]]) -> Figure:
    """The curves, a panel a size."""
    width = 3.3 * len(config.size) + 0.6
    picture, (panels,) = new_figure((width, 3.4), "one network, three signals", columns=len(config.size), sharey=True)
    for axes, size in zip(panels, config.size, strict=True):
        for result in results:
            if result["size"] == size:
                rows = [{"processor_seconds": 0.0, "exact": 0.0}, *result["curve"]]
                seconds, exact = ([row[name] for row in rows] for name in ("processor_seconds", "exact"))
                line(axes, seconds, exact, CYCLE[list(ARMS).index(result["arm"])], result["arm"], ".-")
        heading(axes, size)
        axes.set(xlabel="seconds of learning, one core")
        shares(axes)
    panels[0].set_ylabel("held-out puzzles exact")
    legend(picture)
    return picture


if __name__ == "__main__":
    sys.exit(run(main))
