"""`hrm-gym halting bank`: record what an HRM does with its segments, for HRMHalting-v0; and say what a bank holds.

The report of `hrm-gym halting report`: a table on the terminal; Markdown, JSON and a picture in a folder.

`hrm-gym halting`: learn when an HRM should halt, and compare halting rules on held-out puzzles.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import gymnasium as gym
import numpy as np
import tyro
from rich.table import Table

import hrm_gym
from hrm_gym.agents.halting.comparison import LABELS, AtCost, Entry, HaltingStudy, Interval, Lead, draw
from hrm_gym.envs.halting.bank import HaltingBank, find_bank
from hrm_gym.evaluation.pages import markdown_code, markdown_row, markdown_text, plot_text, show
from hrm_gym.files import check_ours, check_writable, write_atomically, written_atomically
from hrm_gym.registry import read_arguments
from hrm_gym.scripts.bench.command import machine
from hrm_gym.scripts.options import parse, progress_bar, run_subcommand, say

if TYPE_CHECKING:
    from hrm_gym.agents.halting.learning import HaltingRecipe, Learned


gym.register_envs(hrm_gym)

PUZZLES = 2000
"""Of each world, unless a number is given."""

HELP_BANK = """usage: hrm-gym halting bank build --env ENV_ID --out FILE.npz [options]
       hrm-gym halting bank info [FILE.npz]

build  run an HRM over many puzzles, no board ever halting, and keep for every segment whether the answer is right, the
       Q-values, the confidence and a summary of the state. HRMHalting-v0 replays the file: bank="FILE.npz".
       A build that was killed goes on when the same command is given again, and ends with the same arrays.
info   what a bank holds (the bundled one if none is named).

A bank is worth something where thinking longer sometimes helps and sometimes does not: mix puzzles of several
difficulties by giving --env-args several times, each a world of its own.

examples:
  hrm-gym halting bank build --env HRMMaze-v0 --env-args size=10,source=generate --puzzles 2000 \\
      --env-args size=12,source=generate --puzzles 1000 --out mazes.npz
  hrm-gym halting bank build --env HRMSudoku-v0 --agent hrm=runs/sudoku/model --out sudoku.npz \\
      --env-args difficulty=easy --env-args difficulty=hard --env-args difficulty=extreme,source=generate
  hrm-gym halting bank build --env HRMSudokuExtreme-v0 --env-args source=test.csv --out rated.npz
  hrm-gym halting bank info mazes.npz
"""


@dataclass(frozen=True)
class BuildConfig:
    """Record the segments of an HRM.

    Attributes:
        env: Environment whose puzzles are taken.
        out: The file.
        agent: hrm, or hrm=PATH for other weights than the bundled ones (a folder, or owner/name on the hub). A network
            with rotary positions may be run on other grid sizes than it learnt.
        env_args: Constructor arguments of the environment, as name=value,name=value. Each time the option is given it
            is a world of its own.
        puzzles: Puzzles of each world (2000); no two are symmetric images of each other. Given once it holds for every
            world, given as often as --env-args it goes world by world.
        max_segments: Segments recorded for every puzzle.
        split: Which of the environment's puzzles: those of its test split the network has not learnt from.
        test_share: Share of the puzzles that make up the bank's own test split, chosen by a hash.
        seed: Which stream of puzzles; a file is read row by row.
        batch: Puzzles that are thought through at a time, and saved together.
        state_dims: Numbers that sum up the state.
        device: auto, cpu, cuda or mps.
        threads: CPU threads; 0 leaves torch's own choice.
    """

    env: Annotated[str, tyro.conf.arg(metavar="ENV_ID")]
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.npz")]
    agent: str = "hrm"
    env_args: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE,…")] = ()
    puzzles: tuple[int, ...] = ()
    max_segments: int = 16
    split: str = "test"
    test_share: float = 0.4
    seed: int = 0
    batch: int = 64
    state_dims: int = 8
    device: str = "auto"
    threads: int = 1


@dataclass(frozen=True)
class InfoConfig:
    """Say what a bank holds.

    Attributes:
        bank: The file; the bundled one if none is named.
    """

    bank: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[FILE.npz]")] = None


def run_bank(argv: Sequence[str]) -> int:
    """Run `hrm-gym halting bank COMMAND …`."""
    return run_subcommand({"build": build, "info": info}, "hrm-gym halting bank", argv, HELP_BANK)


def build(argv: Sequence[str]) -> None:
    """Run `hrm-gym halting bank build`."""
    config = parse(BuildConfig, "hrm-gym halting bank build", argv, append=True)
    _check(config)
    import torch

    from hrm_gym.agents.halting.recording import BankBuild, World, agent_on, load_for, weights_digest

    if config.threads:
        torch.set_num_threads(config.threads)
    texts = config.env_args or ("",)
    counts = config.puzzles * len(texts) if len(config.puzzles) == 1 else config.puzzles or (PUZZLES,) * len(texts)
    envs = [_make(config, read_arguments(text)) for text in texts]
    first = envs[0]
    found, name = load_for(first.family, first.shape, config.agent.partition("=")[2] or None)
    worlds = [
        World(agent_on(found, env.family, env.shape, config.device), _stream(env, config.seed), count)
        for env, count in zip(envs, counts, strict=True)
    ]
    model = worlds[0].agent.model
    recipe = {
        "agent": name,
        "weights": weights_digest(found.model),
        "model": found.model.config.to_json(),
        "update": found.about.get("update"),
        "dtype": model.config.dtype,
        "device": worlds[0].agent.device.type,
        "env": config.env,
        "worlds": list(texts),
        "unit": first.family.difficulty_unit,
        "puzzles": counts,
        "max_segments": config.max_segments,
        "split": config.split,
        "test_share": config.test_share,
        "seed": config.seed,
        "batch": config.batch,
        "state_dims": config.state_dims,
        "command": "hrm-gym halting bank build " + " ".join(argv),
        "created": datetime.now(timezone.utc).date().isoformat(),
        "versions": {package: version(package) for package in ("hrm-gym", "torch", "numpy")},
    }
    work = BankBuild(config.out, worlds, recipe, config.max_segments, config.batch, config.state_dims)
    if work.resumed:
        say(f"going on with {work.place}", file=sys.stderr)
    if work.puzzles < sum(counts):
        say(f"only {work.puzzles:,} puzzles that differ were found", file=sys.stderr)
    with progress_bar(work.total, "block") as bar:
        for finished in work.run():
            bar.update(finished - bar.n)
    work.finish()
    _print(find_bank(config.out))
    say(f"bank: {config.out} ({config.out.stat().st_size / 1e6:.2f} MB)")


def info(argv: Sequence[str]) -> None:
    """Run `hrm-gym halting bank info`."""
    _print(find_bank(parse(InfoConfig, "hrm-gym halting bank info", argv).bank))


def _check(config: BuildConfig) -> None:
    if config.agent.partition("=")[0] != "hrm":
        raise ValueError(f"expected --agent hrm or hrm=PATH, got {config.agent!r}")
    if config.puzzles and min(config.puzzles) < 2:
        raise ValueError(f"expected --puzzles of at least 2, got {min(config.puzzles)}")
    if len(config.puzzles) not in (0, 1, max(1, len(config.env_args))):
        worlds = len(config.env_args)
        raise ValueError(f"expected --puzzles once, or as often as --env-args ({worlds}), got {len(config.puzzles)}")
    if not 0 < config.test_share < 1:
        raise ValueError(f"expected --test-share between 0 and 1, got {config.test_share}")
    if config.out.suffix != ".npz":
        raise ValueError(f"expected --out to be named *.npz, got {config.out}")
    check_writable(config.out)


def _make(config: BuildConfig, arguments: dict[str, Any]) -> Any:
    """One environment of a world, without wrappers."""
    try:
        env: Any = gym.make(config.env, disable_env_checker=True, **{"split": config.split, **arguments}).unwrapped
    except TypeError as error:
        raise ValueError(f"{config.env} does not take these --env-args: {error}") from error
    if not hasattr(env, "puzzle_source"):
        raise ValueError(f"expected an environment with puzzles, got {config.env}")
    return env


def _stream(env: Any, seed: int) -> Callable[[int], Any]:
    """Puzzle k: row k of a file, else puzzle k of the seed."""
    from hrm_gym.evaluation.rollout import puzzle_for

    source = env.puzzle_source
    numbered = hasattr(source, "__getitem__") and type(source).__module__.startswith("hrm_gym.envs.files")
    return lambda k: puzzle_for(env, None if numbered else seed, k)


def _print(bank: HaltingBank) -> None:
    about = bank.about
    title = f"{bank.name}: {about['agent']} on {about['env']}, {len(bank):,} puzzles, {bank.segments} segments"
    table = Table(title=title, title_justify="left", caption=_caption(bank), caption_justify="left")
    table.add_column("world", no_wrap=True)
    marks = [k for k in (1, 2, 4, 8, 16, 32, 64) if k < bank.segments] + [bank.segments]
    for heading in ("train", "test", "difficulty", *(f"right at {k}" for k in marks), "ever"):
        table.add_column(heading, justify="right")
    for number, text in enumerate(about["worlds"]):
        rows = np.flatnonzero(bank.world == number)
        if len(rows):
            table.add_row(text or "defaults", *_figures(bank, rows, marks))
    show(table)


def _figures(bank: HaltingBank, rows: Any, marks: list[int]) -> list[str]:
    hard, solved = bank.difficulty[rows], bank.solved[rows]
    test = int(bank.test[rows].sum())
    shares = [_share(solved[:, k - 1]) for k in marks] + [_share(solved.any(axis=1))]
    return [str(len(rows) - test), str(test), f"{hard.min():g} to {hard.max():g}", *shares]


def _share(right: Any) -> str:
    return f"{right.mean():.1%}"


def _caption(bank: HaltingBank) -> str:
    about, solved = bank.about, bank.solved
    lost = (solved[:, :-1] & ~solved[:, 1:]).any(axis=1).mean()
    return (
        f"right once and wrong after a later segment: {lost:.1%} of the puzzles; difficulty: {about['unit']}\n"
        f"observations of {bank.observations.shape[2]} numbers; weights {about['weights'][:12]}, "
        f"made {about['created']} by\n"
        f"{about['command']}"
    )


SAME = Interval(0.0, 0.0, 0.0)
"""The difference of a rule to itself."""

_HEADINGS = ("rule", "mean segments", "solved", "mean return", "against the Q-head", "chosen on the train split")


def print_table(study: HaltingStudy) -> None:
    """The returns of all rules at every cost."""
    title = f"{study.bank}: {study.puzzles:,} held-out puzzles, at most {study.segments} segments"
    table = Table(title=title, title_justify="left", caption="in brackets: 95 % intervals", caption_justify="left")
    table.add_column("cost")
    for heading in _HEADINGS:
        table.add_column(heading, justify="left" if heading == "rule" else "right")
    for at in study.costs:
        table.add_section()
        for entry in at.entries:
            table.add_row(f"{at.cost:g}", *_row(entry))
    show(table, width=190)
    for at in study.costs:
        print(_verdict(at))


def write_report(
    study: HaltingStudy, bank: HaltingBank, out: Path, command: str, recipes: dict[str, dict[str, Any]]
) -> None:
    """Write report.md, report.json and report.png into the folder `out`, each whole or not at all."""
    told = {
        "command": command,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": machine(),
        "bank": bank.about,
        "recipes": recipes,
        "study": asdict(study),
    }
    title = f"When should an HRM halt? {bank.about['agent']} on {bank.about['env']}, {study.puzzles:,} held-out puzzles"
    with written_atomically(out / "report.png") as draft:
        draw(study, plot_text(title, 160), draft)
    write_atomically(out / "report.json", json.dumps(told, indent=1) + "\n")
    write_atomically(out / "report.md", markdown(study, told, title))
    say(f"report: {out / 'report.md'}, {out / 'report.json'}, {out / 'report.png'}")


def markdown(study: HaltingStudy, told: dict[str, Any], title: str) -> str:
    """The report as a Markdown page."""
    bank, where = told["bank"], told["machine"]
    lines = [
        f"# {markdown_text(title)}",
        "",
        "![Accuracy against mean segments, and the gain over the Q-head](report.png)",
        "",
        f"{markdown_code(told['command'].strip())}, {told['date']}, on {where['processor']} ({where['cores']} cores), "
        f"PyTorch {where['torch']}.",
        f"Bank: {markdown_code(bank['command'])}, {markdown_text(bank['created'])}; weights "
        f"{markdown_text(bank['weights'][:12])}. Thresholds were chosen and "
        f"policies trained on its {study.train_puzzles:,} train puzzles, at each cost anew.",
        "",
        f"Return = 1[solved] - cost x segments. Of the {study.puzzles:,} held-out puzzles {study.ever:.1%} were right "
        "after some segment. The oracle decides in hindsight: it is a bound, not a rival.",
        "In brackets: 95 % intervals: Wilson for shares, bootstrap over puzzles for returns, paired for differences. "
        f"DQN and PPO: means over {_trainings(study)} trainings of other seeds (range of their returns in the last "
        "column).",
        "",
    ]
    for at in study.costs:
        lines += [
            f"## Cost {at.cost:g} a segment",
            "",
            _verdict(at),
            "",
            markdown_row(list(_HEADINGS)),
            markdown_row(["---"] * 6),
        ]
        lines += [markdown_row(_row(entry)) for entry in at.entries]
        lines.append("")
    return "\n".join(lines)


def _verdict(at: AtCost) -> str:
    """Which rule wins, in a sentence."""
    lead: Lead = at.lead
    best = next(entry for entry in at.entries if entry.kind == lead.kind)
    against = {lead.next_kind: lead.gain, lead.plain_kind: lead.plain_gain, "q": best.gain}
    parts = [
        f"{_signed(gain)} against {LABELS[kind]}{_unclear(gain)}" for kind, gain in against.items() if gain != SAME
    ]
    return f"Cost {at.cost:g}: {LABELS[lead.kind]} returns most; " + "; ".join(parts) + "."


def _trainings(study: HaltingStudy) -> int:
    return max(len(entry.seeds) for at in study.costs for entry in at.entries)


def _unclear(gain: Interval) -> str:
    return "" if gain.low > 0 else ", no clear difference"


def _row(entry: Entry) -> list[str]:
    chosen = entry.rule if entry.kind in ("q_tuned", "fixed", "confidence") else ""
    if entry.seeds:
        chosen = f"{min(entry.seeds):.4f} to {max(entry.seeds):.4f}"
    share = entry.solved
    return [
        LABELS[entry.kind],
        f"{entry.segments:.2f}",
        f"{share.value:.1%} ({100 * share.low:.1f}-{100 * share.high:.1f})",
        f"{entry.reward.value:.4f} ({entry.reward.low:.4f}-{entry.reward.high:.4f})",
        "" if entry.kind == "q" else _signed(entry.gain),
        chosen,
    ]


def _signed(one: Interval) -> str:
    return f"{one.value:+.4f} ({one.low:+.4f} to {one.high:+.4f})"


HELP = """usage: hrm-gym halting learn --agent dqn|ppo [options]
       hrm-gym halting report [options]

learn   DQN or PPO (stable-baselines3) learns on HRMHalting-v0 when to halt, at one cost of a segment: a minute or less
        of one CPU core. The policy is written as safetensors and JSON.
report  the Q-head, fixed budgets, confidence thresholds, DQN, PPO and the oracle on the held-out puzzles of a bank, at
        several costs: accuracy against mean segments as a picture, returns with 95 % intervals as Markdown and JSON.
        What can be tuned is tuned on the training puzzles. Finished trainings are kept in the folder: started again, a
        report that was killed goes on.

examples:
  hrm-gym halting learn --agent dqn --cost 0.01
  hrm-gym halting learn --agent ppo --cost 0.05 --bank sudoku.npz --out runs/halting/ppo
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
    commands = {"bank": run_bank, "learn": learn, "report": report}
    return run_subcommand(commands, "hrm-gym halting", argv, HELP)


def learn(argv: Sequence[str]) -> None:
    """Run `hrm-gym halting learn`."""
    config = parse(TrainConfig, "hrm-gym halting learn", argv)
    from hrm_gym.agents.halting.learning import mean_return, recipe_for
    from hrm_gym.agents.halting.rules import QHead

    changes = {"cost": config.cost, "seed": config.seed, "max_segments": config.max_segments}
    recipe = recipe_for(config.agent, **changes, **({} if config.steps is None else {"steps": config.steps}))
    out = config.out or Path("runs") / "halting" / f"{config.agent}-{config.cost:g}"
    check_writable(out / "model.safetensors")
    check_ours(out)
    bank = find_bank(config.bank)
    policy = _train(recipe, bank, config.threads)
    policy.save(out)
    for split in ("train", "test"):
        part = bank.only(split, config.max_segments or None)
        mine, own = (mean_return(rule, part, config.cost) for rule in (policy, QHead()))
        say(f"{split}: mean return {mine:.4f}, Q-head {own:.4f}, over {len(part):,} puzzles")
    say(f"policy: {out}")


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
            if policy.about.get("recipe") == recipe.to_json() and policy.about.get("bank") == bank_digest(self._bank):
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
