"""`hrm-gym halting`: learn when an HRM should halt, and compare halting rules on held-out puzzles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from hrm_gym.envs.halting.bank import HaltingBank, find_bank
from hrm_gym.recorder import check_writable
from hrm_gym.scripts.arguments import parse
from hrm_gym.scripts.progress import progress_bar

if TYPE_CHECKING:
    from hrm_gym.agents.halting.learning import HaltingRecipe, Learned

HELP = """usage: hrm-gym halting train --agent dqn|ppo [options]
       hrm-gym halting report [options]

train   DQN or PPO (stable-baselines3) learns on HRMHalting-v0 when to halt, at one cost of a segment: a minute or less
        of one CPU core. The policy is written as safetensors and JSON.
report  the Q-head, fixed budgets, confidence thresholds, DQN, PPO and the oracle on the held-out puzzles of a bank, at
        several costs: accuracy against mean segments as a picture, returns with 95 % intervals as Markdown and JSON.
        What can be tuned is tuned on the training puzzles. Finished trainings are kept in the folder: started again, a
        report that was killed goes on.

examples:
  hrm-gym halting train --agent dqn --cost 0.01
  hrm-gym halting train --agent ppo --cost 0.05 --bank sudoku.npz --out runs/halting/ppo
  hrm-gym halting report --out reports/halting
  hrm-gym halting report --bank sudoku.npz --costs 0.001 0.01 0.1 --seeds 5 --out reports/halting-sudoku
  hrm-gym halting report --help                        every option with its default
"""


@dataclass(frozen=True)
class TrainConfig:
    """Learn when to halt.

    Attributes:
        agent: dqn or ppo.
        cost: Cost of a segment.
        bank: What is learnt from; the bundled bank if none is named.
        out: Folder of the policy; runs/halting/AGENT-COST by default.
        steps: Environment steps (the tuned recipe's).
        seed: Of weights, puzzles and exploration.
        max_segments: Limit of segments; all that the bank has by default.
        threads: CPU threads; 0 leaves torch's own choice.
    """

    agent: Literal["dqn", "ppo"]
    cost: float = 0.01
    bank: Annotated[Path | None, tyro.conf.arg(metavar="FILE.npz")] = None
    out: Path | None = None
    steps: int | None = None
    seed: int = 0
    max_segments: int = 0
    threads: int = 1


@dataclass(frozen=True)
class ReportConfig:
    """Compare halting rules on held-out puzzles.

    Attributes:
        bank: The bank; the bundled one if none is named.
        out: Folder for report.md, report.json, report.png and the trained policies.
        costs: Costs of a segment.
        seeds: Trainings of DQN and of PPO at every cost; their figures are means over these.
        steps: Environment steps of every training (the tuned recipe's).
        seed: Of the first training, and of the bootstrap.
        threads: CPU threads; 0 leaves torch's own choice.
    """

    bank: Annotated[Path | None, tyro.conf.arg(metavar="FILE.npz")] = None
    out: Path = Path("reports/halting")
    costs: tuple[float, ...] = (0.001, 0.005, 0.01, 0.02, 0.05)
    seeds: int = 3
    steps: int | None = None
    seed: int = 0
    threads: int = 1


def main(argv: Sequence[str]) -> int:
    """Run `hrm-gym halting COMMAND …`.

    Args:
        argv: the arguments after `halting`.

    Returns:
        0.

    Raises:
        ValueError: for bad input of any kind; the message fits on one line.
        OSError: for files that cannot be read or written.
    """
    commands: dict[str, Callable[[Sequence[str]], None]] = {"train": train_one, "report": report}
    if argv and argv[0] in ("-h", "--help"):
        print(HELP)
        return 0
    if not argv or argv[0] not in commands:
        found = f"unknown command {argv[0]!r}" if argv else "no command given"
        raise ValueError(f"{found}: expected one of {', '.join(commands)} (see hrm-gym halting --help)")
    commands[argv[0]](argv[1:])
    return 0


def train_one(argv: Sequence[str]) -> None:
    """Run `hrm-gym halting train`."""
    config = parse(TrainConfig, "hrm-gym halting train", argv)
    from hrm_gym.agents.halting.learning import mean_return, recipe_for
    from hrm_gym.agents.halting.rules import QHead

    changes = {"cost": config.cost, "seed": config.seed, "max_segments": config.max_segments}
    recipe = recipe_for(config.agent, **changes, **({} if config.steps is None else {"steps": config.steps}))
    out = config.out or Path("runs") / "halting" / f"{config.agent}-{config.cost:g}"
    check_writable(out / "model.safetensors")
    bank = find_bank(config.bank)
    policy = _train(recipe, bank, config.threads)
    policy.save(out)
    for split in ("train", "test"):
        part = bank.only(split, config.max_segments or None)
        mine, own = (mean_return(rule, part, config.cost) for rule in (policy, QHead()))
        print(f"{split}: mean return {mine:.4f}, Q-head {own:.4f}, over {len(part):,} puzzles")
    print(f"policy: {out}")


def report(argv: Sequence[str]) -> None:
    """Run `hrm-gym halting report`."""
    config = parse(ReportConfig, "hrm-gym halting report", argv)
    costs = sorted(set(config.costs))
    if not costs or not all(0 <= cost <= 1 for cost in costs):
        raise ValueError(f"expected --costs in 0..1, got {config.costs}")
    if config.seeds < 1:
        raise ValueError(f"expected --seeds of at least 1, got {config.seeds}")
    for name in ("report.md", "report.json", "report.png"):
        check_writable(config.out / name)
    bank = find_bank(config.bank)
    from hrm_gym.agents.halting.comparison import study
    from hrm_gym.scripts.halting_report import print_table, write_report

    trained = _Trained(config, bank, len(costs))
    with trained.bar:
        found = study(bank, costs, trained.at, config.seed)
    print_table(found)
    write_report(found, bank, config.out, "hrm-gym halting report " + " ".join(argv), trained.recipes())


class _Trained:
    """The learned policies of a report: trained when they are asked for, and kept in its folder.

    Attributes:
        bar: the progress of all trainings, in environment steps.
    """

    def __init__(self, config: ReportConfig, bank: HaltingBank, costs: int) -> None:
        self._config, self._bank = config, bank
        one = sum(recipe["steps"] for recipe in self.recipes().values())
        self.bar = progress_bar(costs * config.seeds * one, "step")

    def recipes(self) -> dict[str, dict[str, Any]]:
        """The recipe of each agent, but for cost and seed."""
        return {agent: self._recipe(agent, 0.0, 0).to_json() for agent in ("dqn", "ppo")}

    def at(self, cost: float) -> dict[str, list[Learned]]:
        """The policies of one cost."""
        seeds = range(self._config.seed, self._config.seed + self._config.seeds)
        return {agent: [self._policy(self._recipe(agent, cost, seed)) for seed in seeds] for agent in ("dqn", "ppo")}

    def _recipe(self, agent: str, cost: float, seed: int) -> HaltingRecipe:
        from hrm_gym.agents.halting.learning import recipe_for

        steps = {} if self._config.steps is None else {"steps": self._config.steps}
        return recipe_for(agent, cost=cost, seed=seed, **steps)

    def _policy(self, recipe: HaltingRecipe) -> Learned:
        from hrm_gym.agents.halting.learning import Learned, bank_digest

        folder = self._config.out / "policies" / f"{recipe.agent}-{recipe.cost:g}-seed{recipe.seed}"
        if folder.exists():
            policy = Learned.load(folder)
            if policy.about["recipe"] == recipe.to_json() and policy.about["bank"] == bank_digest(self._bank):
                self.bar.update(recipe.steps)
                return policy
        begun = self.bar.n
        policy = _train(recipe, self._bank, self._config.threads, self.bar)
        policy.save(folder)
        self.bar.update(begun + recipe.steps - self.bar.n)
        return policy


def _train(recipe: HaltingRecipe, bank: HaltingBank, threads: int, bar: Any = None) -> Learned:
    """Train one policy, with a progress bar: `bar`, or one of its own."""
    import torch

    from hrm_gym.agents.halting.learning import train

    if threads:
        torch.set_num_threads(threads)
    own = None if bar is not None else progress_bar(recipe.steps, "step")
    shown: Any = bar if own is None else own
    begun = shown.n
    try:
        policy = train(recipe, bank, lambda steps: shown.update(begun + min(steps, recipe.steps) - shown.n))
    finally:
        if own is not None:
            own.close()
    return policy
