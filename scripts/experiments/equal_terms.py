"""Experiment `equal_terms`: the HRM and the stable-baselines3 agents, each trained several times for the same time."""

from __future__ import annotations

import dataclasses
import functools
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy

from hrm_gym.agents.agent import Agent, Observation
from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.recipes import RECIPES as HRM_RECIPES
from hrm_gym.agents.hrm.recipes import Recipe as HRMRecipe
from hrm_gym.agents.hrm.trainer import Trainer
from hrm_gym.agents.sb3.agent import SB3Agent
from hrm_gym.agents.sb3.recipes import RECIPES as RL_RECIPES
from hrm_gym.agents.sb3.recipes import DQNSettings, RLRecipe
from hrm_gym.agents.sb3.training import RLRun
from hrm_gym.evaluation import intervals
from hrm_gym.evaluation.plots import CYCLE, new_figure
from hrm_gym.scripts.experiments.evaluate import about, played, publish, rate, result_of
from hrm_gym.scripts.main import run
from hrm_gym.scripts.options import parse

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROGRAM = "python -m hrm_gym.scripts.experiments.equal_terms"

PUZZLES: dict[str, dict[str, str]] = {
    "sudoku-4x4": {
        "hrm": "sudoku-4x4",
        **{name: f"sudoku-4x4-{name}" for name in ("maskableppo", "ppo", "a2c", "dqn")},
    },
    "maze-10x10": {
        "hrm": "maze-10x10",
        "hrm-any-size": "maze-any-size-8",
        **{"maskableppo": "maze-maskableppo", "ppo": "maze", "dqn": "maze-dqn"},
    },
    "sudoku-9x9": {"hrm": "sudoku", **{name: f"sudoku-9x9-{name}" for name in ("maskableppo", "ppo", "dqn")}},
}
"""Recipes by puzzle and agent: those that the bundled weights came from, their number of updates or steps apart."""

SAME: dict[str, dict[str, Any]] = {
    "maze-10x10": {
        "hrm-any-size": {
            "env": {"size": 10},
            "model": dataclasses.replace(HRM_RECIPES["maze-any-size-8"].model, grid=(10, 10)),
        }
    },
    "sudoku-9x9": {
        "hrm": {"env": {"difficulty": "easy"}, "mixture": ()},
        **{name: {"source": "generate"} for name in ("maskableppo", "ppo", "dqn")},
    },
}
"""What is changed in recipes so that all learn from the same kind of puzzles; of 9x9 Sudoku, new easy ones."""

TRIES = 8
"""Answers of which the rules may choose, where they help."""

TRIAL = 6.0
"""Seconds in which the speed of an agent's training is measured, and as many before them, which do not count."""

NEVER: dict[str, Any] = {"eval_every": 10**9, "checkpoint_every": 10**9}
"""No evaluations and checkpoints on the way."""


@dataclass(frozen=True)
class Training:
    """What is read of one training's result."""

    date: str
    agent: str
    cpu_seconds: float
    alone: float
    helped: float


@dataclass(frozen=True)
class EqualTermsConfig:
    """Train every agent from several seeds for the same time, and judge all of them on the same puzzles.

    How many updates or steps fit into the time is measured first, on a short training that is thrown away, so that each
    recipe's learning rate falls to its end within the time. Time is the processor's, of one thread; evaluations do not
    count. Each agent is judged twice: alone (the HRM by its own decision, the others with their likeliest actions), and
    with the same help for all: up to 8 answers, of which a check of the rules takes the first that passes (an HRM
    restarts every 16 segments, or as many as it trains with if that is more; the others draw their actions, DQN as at
    the end of its training). What is finished is kept: the same command continues.

    Attributes:
        puzzle: Which puzzles.
        agent: Which agents; all by default.
        seconds: Time of every training.
        seeds: Trainings of each agent.
        puzzles: New puzzles of the test split on which all are judged.
        runs: Folder of the runs.
        out: Folder for equal_terms.json, equal_terms.png and equal_terms.md.
    """

    puzzle: str = "sudoku-4x4"
    agent: tuple[str, ...] = ()
    seconds: float = 120.0
    seeds: int = 5
    puzzles: int = 400
    runs: Path = Path("runs/equal-terms")
    out: Path = Path("runs/equal-terms")


def main(argv: Sequence[str]) -> int:
    """Run the experiment; returns 0.

    Raises:
        ValueError: an unknown puzzle or agent, or a number out of range.
    """
    config = parse(EqualTermsConfig, PROGRAM, argv)
    if config.puzzle not in PUZZLES:
        raise ValueError(f"expected one of {', '.join(PUZZLES)} as puzzle, got {config.puzzle!r}")
    agents = config.agent or tuple(PUZZLES[config.puzzle])
    if unknown := [name for name in agents if name not in PUZZLES[config.puzzle]]:
        raise ValueError(f"expected some of {', '.join(PUZZLES[config.puzzle])}, got {unknown[0]!r}")
    if config.seconds <= 0 or config.seeds < 2 or config.puzzles < 1:
        raise ValueError(
            f"expected seconds and puzzles above 0 and at least 2 seeds, got {config.seconds:g}, {config.puzzles} "
            f"and {config.seeds}"
        )
    torch.set_num_threads(1)
    results = [one(config, name, seed) for name in agents for seed in range(config.seeds)]
    said = about()
    summary = {name: summarised([row for row in results if row["agent"] == name]) for name in agents}
    content = {**said, "command": command(config), "summary": summary, "results": results}
    publish(config.out, "equal_terms", content, page(config, said, summary), drawn(config, results))
    return 0


# ---- one training ----


def one(config: EqualTermsConfig, name: str, seed: int) -> dict[str, Any]:
    """The result of one training: read if it is there, else worked out and written."""
    folder = config.runs / f"{config.puzzle}-{name}-{config.seconds:g}s-seed{seed}"
    asked = {"puzzle": config.puzzle, "agent": name, "seconds": config.seconds, "seed": seed, "puzzles": config.puzzles}

    def work() -> dict[str, Any]:
        train = train_hrm if is_hrm(name) else train_rl
        alone, helped, spent, amount = train(config.puzzle, name, seed, config.seconds, folder / "run")
        tries = np.array([solved(agent, config) for agent in (alone, *helped)])
        found = {"alone": float(tries[0].mean()), "helped": float(tries.any(axis=0).mean())}
        shares = ", ".join(f"{key} {value:.3f}" for key, value in found.items())
        print(f"{name}, seed {seed}: {shares}", file=sys.stderr, flush=True)
        return {"date": about()["date"], "cpu_seconds": round(spent, 1), **amount, **found}

    return result_of(folder / "result.json", asked, work, Training)


def is_hrm(name: str) -> bool:
    """Whether an agent is an HRM."""
    return name.startswith("hrm")


def hrm_recipe(puzzle: str, name: str) -> HRMRecipe:
    """From random weights, on these puzzles alone."""
    recipe = HRM_RECIPES[PUZZLES[puzzle][name]]
    return dataclasses.replace(recipe, init="", **NEVER, **SAME.get(puzzle, {}).get(name, {}))


def rl_recipe(puzzle: str, name: str) -> RLRecipe:
    """On these puzzles alone."""
    return dataclasses.replace(RL_RECIPES[PUZZLES[puzzle][name]], **NEVER, **SAME.get(puzzle, {}).get(name, {}))


Trained = tuple[Agent, list[Agent], float, dict[str, int]]
"""The agent alone, its help, CPU seconds, and the updates or environment steps made."""


def train_hrm(puzzle: str, name: str, seed: int, seconds: float, folder: Path) -> Trained:
    """Deep supervision; its help is one agent, which restarts."""
    updates = max(1, round(hrm_speed(puzzle, name) * seconds))
    recipe = dataclasses.replace(hrm_recipe(puzzle, name), seed=seed, updates=updates)
    trainer = Trainer(recipe, folder, compile=False)
    start = time.process_time()
    while trainer.update < trainer.recipe.updates:
        trainer.step()
    spent = time.process_time() - start
    model = HRM.from_state(trainer.recipe.model, trainer.weights())
    family, count = trainer.feed.family, trainer.recipe.model.max_segments
    alone = HRMAgent(model, family, max_segments=16, device="cpu")
    restart = max(16, count)
    helped = HRMAgent(model, family, max_segments=TRIES * restart, restart=restart, check=True, device="cpu")
    return alone, [helped], spent, {"updates": trainer.update}


@functools.cache
def hrm_speed(puzzle: str, name: str) -> float:
    """Updates a second of the processor; the first seconds, in which buffers are filled, do not count."""
    recipe = dataclasses.replace(hrm_recipe(puzzle, name), updates=10**9)
    with tempfile.TemporaryDirectory() as scratch:
        trial = Trainer(recipe, Path(scratch), compile=False)
        for _ in range(2):
            begin, before = time.process_time(), trial.update
            while (spent := time.process_time() - begin) < TRIAL:
                trial.step()
        return (trial.update - before) / spent


def train_rl(puzzle: str, name: str, seed: int, seconds: float, folder: Path) -> Trained:
    """Reward; its help are further tries, with actions that are drawn."""
    recipe = dataclasses.replace(rl_recipe(puzzle, name), seed=seed)
    steps = max(recipe.envs, round(rl_speed(puzzle, name) * seconds))
    rl = RLRun(dataclasses.replace(recipe, timesteps=steps), folder)
    start = time.process_time()
    rl.learn(lambda row: None)
    spent = time.process_time() - start
    arguments = {"action_mode": recipe.action_mode, "device": "cpu", "family": rl.family}
    chance = recipe.learner.last_random if isinstance(recipe.learner, DQNSettings) else 0.0
    helped: list[Agent] = [Sampled(rl.policy, chance, number, **arguments) for number in range(TRIES - 1)]
    return SB3Agent(rl.policy, **arguments), helped, spent, {"timesteps": rl.timesteps}


@functools.cache
def rl_speed(puzzle: str, name: str) -> float:
    """Environment steps a second of the processor; what comes before the first update, compilation of the rules among
    it, and the seconds after it do not count."""
    with tempfile.TemporaryDirectory() as scratch:
        trial = RLRun(dataclasses.replace(rl_recipe(puzzle, name), timesteps=10**9), Path(scratch))
        seen: list[tuple[float, int]] = []

        def watch(row: dict[str, float]) -> None:
            seen.append((trial.processor_seconds(), trial.timesteps))
            trial.limit = seen[0][0] + 2 * TRIAL

        trial.learn(watch)
    begin = next((one for one in seen[:-1] if one[0] >= seen[0][0] + TRIAL), seen[0])
    return (seen[-1][1] - begin[1]) / max(seen[-1][0] - begin[0], 1e-9)


class Sampled(SB3Agent):
    """The same policy with actions that are drawn: of DQN, which has no distribution, as at the end of its training."""

    def __init__(self, policy: BasePolicy, chance: float, seed: int, **arguments: Any) -> None:
        """`chance` is that of an action from all alike, drawn from `seed`."""
        super().__init__(policy, **arguments)
        self.chance, self._rng = chance, np.random.default_rng(seed)

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
        """Actions drawn from the policy."""
        actions, after = super().predict(observation, state, episode_start, deterministic=False)
        if self.chance:
            space: Any = self.policy.action_space
            other = self._rng.integers(space.n, size=actions.shape)
            actions = np.where(self._rng.random(actions.shape) < self.chance, other, actions)
        return actions, after


def solved(agent: Agent, config: EqualTermsConfig) -> NDArray[np.bool_]:
    """(puzzles,) bool: which of the new puzzles the agent solves."""
    recipe = hrm_recipe(config.puzzle, "hrm")
    # an environment ends an episode, too: it has to last as long as the agent would go on
    limit = {"max_segments": agent.max_segments} if isinstance(agent, HRMAgent) else {}
    episodes = played(recipe.env_id, {**recipe.env, **limit}, agent, config.puzzles)
    return np.array([episode.solved for episode in episodes])


# ---- all of them ----


def summarised(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The interquartile mean over trainings with its interval, alone and helped, and the spread of CPU seconds."""
    found: dict[str, Any] = {}
    for name in ("alone", "helped"):
        mean, interval = intervals.method(np.array([row[name] for row in rows]))
        found[name] = {"solved": mean, "solved_interval": interval, "scores": [row[name] for row in rows]}
    seconds, dates = [row["cpu_seconds"] for row in rows], sorted({row["date"] for row in rows})
    return {**found, "cpu_seconds": [min(seconds), max(seconds)], "trainings": len(rows), "dates": dates}


def command(config: EqualTermsConfig) -> str:
    """The command line that makes the result."""
    chosen = f" --agent {' '.join(config.agent)}" if config.agent else ""
    return (
        f"{PROGRAM} --puzzle {config.puzzle}{chosen} --seconds {config.seconds:g} --seeds {config.seeds} "
        f"--puzzles {config.puzzles}"
    )


def page(config: EqualTermsConfig, said: dict[str, str], summary: dict[str, Any]) -> str:
    """The Markdown page."""
    lines = [
        f"# {config.puzzle} on equal terms",
        "",
        f"{config.seeds} trainings an agent, {config.seconds:g} seconds of one processor core each, judged on the same "
        f"{config.puzzles} new puzzles of the test split. Interquartile mean over trainings; in brackets its 95 % "
        f"interval by a bootstrap of the trainings. *Help*: up to {TRIES} answers, of which a check of the rules takes "
        "the first that passes.",
        "",
        "| agent | solved alone | with help | each training, alone | CPU seconds | date |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in summary.items():
        alone, helped = rate(row["alone"], "solved"), rate(row["helped"], "solved")
        scores = ", ".join(f"{100 * score:.1f}" for score in row["alone"]["scores"])
        (low, high), dates = row["cpu_seconds"], ", ".join(row["dates"])
        lines.append(f"| {name} | {alone} | {helped} | {scores} | {low:.0f} to {high:.0f} | {dates} |")
    return "\n".join([*lines, "", f"`{command(config)}`, {said['date']}, {said['machine']}.", ""])


def drawn(config: EqualTermsConfig, results: list[dict[str, Any]]) -> Figure:
    """Every training as a point, alone and with help."""
    names = list(dict.fromkeys(row["agent"] for row in results))
    picture, ((axes,),) = new_figure((5.2, 3.2), f"{config.puzzle}, {config.seconds:g} s a training")
    for offset, (kind, marker) in enumerate((("alone", "o"), ("helped", "x"))):
        xs = [names.index(row["agent"]) + 0.25 * offset - 0.12 for row in results]
        axes.plot(xs, [row[kind] for row in results], marker, color=CYCLE[offset], label=kind, alpha=0.7)
    axes.set_xticks(range(len(names)), names)
    axes.set(ylabel="test puzzles solved", ylim=(-0.02, 1.02))
    axes.legend(loc="lower right")
    return picture


if __name__ == "__main__":
    sys.exit(run(main))
