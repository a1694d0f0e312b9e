"""`hrm-gym halting`: record what an HRM does with its segments, learn when it should halt, compare halting rules."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro

from hrm_gym.agents.halting.comparison import LABELS, AtCost, Entry, HaltingStudy, draw
from hrm_gym.agents.halting.rules import QHead, halting_segments, solved_at
from hrm_gym.envs.halting.bank import HaltingBank, find_bank
from hrm_gym.evaluation.intervals import Figure
from hrm_gym.evaluation.pages import markdown_code, markdown_row, markdown_text
from hrm_gym.files import check_ours, check_writable, held, write_atomically
from hrm_gym.registry import make_env, read_puzzle_env
from hrm_gym.scripts.options import Bank, RunOptions, arg, at_least, parse
from hrm_gym.scripts.output import machine, new_table, progress_bar, say, share, show, write_json

if TYPE_CHECKING:
    from hrm_gym.agents.halting.learning import HaltingRecipe, Learned

PUZZLES = 2000
"""Of each world, unless a number is given."""


# ---- banks ----


@dataclass(frozen=True, kw_only=True)
class Build(RunOptions):
    """Run an HRM over many puzzles, no board ever halting, and keep for every segment whether the answer is right, the
    Q-values, the confidence and a summary of the state. HRMHalting-v0 replays the file: bank="FILE.npz". A build that
    was killed continues when the same command is given again, and ends with the same arrays.

    A bank is worth something where thinking longer sometimes helps and sometimes does not: mix puzzles of several
    difficulties, each a world of its own.

    Attributes:
        env: Environments whose puzzles are taken, ID or ID:argument=value,…; each is a world.
        env_args: Constructor arguments of the environment, as name=value,name=value; each time is a world.
        out: The file.
        agent: hrm, or hrm=PATH for other weights than the bundled ones (a folder, or owner/name on the hub). A network
            with rotary positions may be run on other grid sizes than it learnt.
        puzzles: Puzzles of each world; no two are symmetric images of each other. Given once it holds for every world,
            given as often as there are worlds it goes world by world.
        max_segments: Segments recorded for every puzzle.
        split: Which of the environment's puzzles: those of its test split the network has not learnt from.
        test_share: Share of the puzzles that make up the bank's own test split, chosen by a hash.
        seed: Which stream of puzzles; rows of a file have none.
        batch: Puzzles that are thought through at a time, and saved together.
        state_dims: Numbers that sum up the state.
    """

    EXAMPLES = (
        "hrm-gym halting bank build --env HRMMaze-v0 HRMMaze-v0:size=12 --out a.npz",
        "hrm-gym halting bank build --env HRMSudokuExtreme-v0 --out extreme.npz",
    )
    env: Annotated[tuple[str, ...], arg("ENV")]
    out: Annotated[Path, arg("FILE.npz")]
    env_args: Annotated[tuple[str, ...], arg("NAME=VALUE,…")] = ()
    agent: Annotated[str, arg("hrm=WEIGHTS", "hrm")] = "hrm"
    puzzles: Annotated[tuple[int, ...], arg("N", str(PUZZLES))] = ()
    max_segments: int = 16
    split: str = "test"
    test_share: float = 0.4
    seed: int = 0
    batch: int = 64
    state_dims: int = 8

    def worlds(self) -> list[str]:
        """The worlds' environments as texts."""
        return [f"{env}:{more}" if more else env for env in self.env for more in self.env_args or ("",)]

    def __post_init__(self) -> None:
        """Refuse numbers out of range and paths that cannot be written, before any work."""
        if self.agent.partition("=")[0] != "hrm":
            raise ValueError(f"expected --agent hrm or hrm=PATH, got {self.agent!r}")
        if self.puzzles and min(self.puzzles) < 2:
            raise ValueError(f"expected --puzzles of at least 2, got {min(self.puzzles)}")
        if len(self.puzzles) not in (0, 1, len(self.worlds())):
            worlds = len(self.worlds())
            raise ValueError(f"expected --puzzles once, or once a world ({worlds}), got {len(self.puzzles)}")
        if not 0 < self.test_share < 1:
            raise ValueError(f"expected --test-share between 0 and 1, got {self.test_share}")
        if self.out.suffix != ".npz":
            raise ValueError(f"expected --out to be named *.npz, got {self.out}")
        check_writable(self.out)


def build(argv: Sequence[str]) -> None:
    """Run `hrm-gym halting bank build`."""
    config = parse(Build, "hrm-gym halting bank build", argv)
    from hrm_gym.agents.halting.recording import BankBuild, World, agent_on, load_for, weights_digest
    from hrm_gym.evaluation.rollout import puzzle_for

    config.use_threads()
    texts = config.worlds()
    counts = config.puzzles * len(texts) if len(config.puzzles) == 1 else config.puzzles or (PUZZLES,) * len(texts)
    read = [read_puzzle_env(text) for text in texts]
    envs: list[Any] = [make_env(env_id, **{"split": config.split, **given}).unwrapped for env_id, given in read]
    found, name = load_for(envs[0].family, envs[0].shape, config.agent.partition("=")[2] or None)
    worlds = []
    for env, count in zip(envs, counts, strict=True):
        source = env.puzzle_source
        rows = hasattr(source, "__getitem__") and type(source).__module__.startswith("hrm_gym.envs.files")
        stream = partial(puzzle_for, env, None if rows else config.seed)
        worlds.append(World(agent_on(found, env.family, env.shape, config.device), stream, count))
    agent = worlds[0].agent
    recipe = {
        "agent": name,
        "weights": weights_digest(found.model),
        "model": found.model.config.to_json(),
        "update": found.about.get("update"),
        "dtype": agent.model.config.dtype,
        "device": agent.device.type,
        "env": read[0][0],
        "worlds": [text.removeprefix(f"{config.env[0]}:" if config.env_args else "") for text in texts],
        "unit": envs[0].family.difficulty_unit,
        "puzzles": counts,
        **{key: getattr(config, key) for key in ("max_segments", "split", "test_share", "seed", "batch", "state_dims")},
        "command": "hrm-gym halting bank build " + " ".join(argv),
        "created": _today(),
        "versions": {package: version(package) for package in ("hrm-gym", "torch", "numpy")},
    }
    work = BankBuild(config.out, worlds, recipe, config.max_segments, config.batch, config.state_dims)
    if work.resumed:
        say(f"continuing {work.place}", file=sys.stderr)
    if work.puzzles < sum(counts):
        say(f"only {work.puzzles:,} puzzles that differ were found", file=sys.stderr)
    with held(work.place):
        with progress_bar(work.total, "block") as bar:
            for finished in work.run():
                bar.update(finished - bar.n)
        work.finish()
    _print(find_bank(config.out))
    say(f"bank: {config.out} ({config.out.stat().st_size / 1e6:.2f} MB)")


@dataclass(frozen=True)
class Info:
    """What a bank holds.

    Attributes:
        bank: The file, or the name of a bundled bank.
    """

    EXAMPLES = ("hrm-gym halting bank info", "hrm-gym halting bank info hrm-sudoku")
    bank: Annotated[tyro.conf.Positional[Path | None], arg("[FILE.npz]", "the bundled one")] = None


def info(argv: Sequence[str]) -> None:
    """Run `hrm-gym halting bank info`."""
    _print(find_bank(parse(Info, "hrm-gym halting bank info", argv).bank))


def _print(bank: HaltingBank) -> None:
    about, solved = bank.about, bank.solved
    lost = (solved[:, :-1] & ~solved[:, 1:]).any(axis=1).mean()
    ends = halting_segments(QHead(), bank)
    halted = QHead().halts(bank.observations)[np.arange(len(bank)), ends - 1]  # not by the limit of segments
    wrongly = halted & ~solved_at(bank, ends)
    caption = (
        "at k: right after k segments; ever: after any\n"
        "Q halts: the Q-head does, by itself; wrongly: while the answer is wrong\n"
        f"right once and wrong after a later segment: {lost:.1%} of the puzzles; difficulty: {about['unit']}\n"
        f"observations of {bank.observations.shape[2]} numbers; weights {about['weights'][:12]}, "
        f"made {about['created']} by\n{about['command']}"
    )
    title = f"{bank.name}: {about['agent']} on {about['env']}, {len(bank):,} puzzles, {bank.segments} segments"
    marks = [k for k in (1, 2, 4, 8, 16, 32, 64) if k < bank.segments] + [bank.segments]
    headings = ("world", "train", "test", "difficulty", *(f"at {k}" for k in marks), "ever", "Q halts", "wrongly")
    table = new_table(title, *headings, caption=caption)
    for number, text in enumerate(about["worlds"]):
        rows = np.flatnonzero(bank.world == number)
        if len(rows):
            hard, right, test = bank.difficulty[rows], solved[rows], int(bank.test[rows].sum())
            shares = [*(right[:, k - 1].mean() for k in marks), right.any(axis=1).mean()]
            shares += [halted[rows].mean(), wrongly[rows].mean()]
            first = (text or "defaults", str(len(rows) - test), str(test), f"{hard.min():g} to {hard.max():g}")
            table.add_row(*first, *(f"{one:.1%}" for one in shares))
    show(table)


def _today() -> str:
    return datetime.now(timezone.utc).date().isoformat()


# ---- learning when to halt ----


@dataclass(frozen=True, kw_only=True)
class Learn(RunOptions):
    """DQN or PPO (stable-baselines3) learns on HRMHalting-v0 when to halt, at one cost of a segment: a minute or less
    of one CPU core. The policy is written at the end, as safetensors and JSON. A run that is stopped or killed keeps
    nothing: given again, the command starts over. A policy that lay in the folder stays until the new one is written.

    Attributes:
        agent: dqn or ppo.
        cost: Cost of a segment.
        bank: What is learnt from.
        out: Folder of the policy.
        steps: Environment steps.
        seed: Of weights, puzzles and exploration.
        max_segments: Limit of segments.
    """

    EXAMPLES = (
        "hrm-gym halting learn --agent dqn --cost 0.01",
        "hrm-gym halting learn --agent ppo --cost 0.05 --bank sudoku.npz --out runs/ppo",
    )
    agent: Literal["dqn", "ppo"]
    cost: float = 0.01
    bank: Bank = None
    out: Annotated[Path | None, arg("FOLDER", "runs/halting/AGENT-COST")] = None
    steps: Annotated[int | None, arg("N", "the tuned recipe's")] = None
    seed: int = 0
    max_segments: Annotated[int | None, arg("M", "all that the bank has")] = None


def learn(argv: Sequence[str]) -> None:
    """Run `hrm-gym halting learn`."""
    config = parse(Learn, "hrm-gym halting learn", argv)
    from hrm_gym.agents.halting.learning import mean_return

    config.use_threads()
    recipe = _recipe(config.agent, config.cost, config.seed, config.steps, max_segments=config.max_segments or 0)
    out = config.out or Path("runs") / "halting" / f"{config.agent}-{config.cost:g}"
    check_writable(out / "model.safetensors")
    check_ours(out)
    bank = find_bank(config.bank)
    with progress_bar(recipe.steps, "step") as bar:
        policy = _train(recipe, bank, bar)
    policy.save(out)
    for split in ("train", "test"):
        part = bank.only(split, config.max_segments)
        mine, own = (mean_return(rule, part, config.cost) for rule in (policy, QHead()))
        say(f"{split}: mean return {mine:.4f}, Q-head {own:.4f}, over {len(part):,} puzzles")
    say(f"policy: {out}")


def _recipe(agent: str, cost: float, seed: int, steps: int | None, **changes: int) -> HaltingRecipe:
    from hrm_gym.agents.halting.learning import recipe_for

    return recipe_for(agent, cost=cost, seed=seed, **changes, **({} if steps is None else {"steps": steps}))


def _train(recipe: HaltingRecipe, bank: HaltingBank, bar: Any) -> Learned:
    """Train one policy; `bar` moves on by its steps."""
    from hrm_gym.agents.halting import learning

    begun = bar.n
    policy = learning.train(recipe, bank, lambda steps: bar.update(begun + min(steps, recipe.steps) - bar.n))
    bar.update(begun + recipe.steps - bar.n)
    return policy


# ---- the report ----


@dataclass(frozen=True)
class Report(RunOptions):
    """The Q-head, fixed budgets, confidence thresholds, DQN, PPO and the oracle on the held-out puzzles of a bank, at
    several costs: accuracy against mean segments as a picture, returns with 95 % intervals as Markdown and JSON. What
    can be tuned is tuned on the training puzzles. Finished trainings are kept in the folder: started again, a report
    that was killed continues.

    Attributes:
        bank: What is compared on.
        out: Folder for report.md, report.json, report.png and the trained policies.
        costs: Costs of a segment.
        seeds: Trainings of DQN and of PPO at every cost; their figures are means over these.
        steps: Environment steps of every training.
        seed: Of the first training, and of the bootstrap.
    """

    EXAMPLES = (
        "hrm-gym halting report --out reports/halting",
        "hrm-gym halting report --bank hrm-sudoku --costs 0.001 0.01 0.1 --seeds 5",
    )
    bank: Bank = None
    out: Annotated[Path, arg("FOLDER", "reports/halting")] = Path("reports/halting")
    costs: tuple[float, ...] = (0.001, 0.005, 0.01, 0.02, 0.05)
    seeds: int = 3
    steps: Annotated[int | None, arg("N", "the tuned recipe's")] = None
    seed: int = 0


def report(argv: Sequence[str]) -> None:
    """Run `hrm-gym halting report`."""
    config = parse(Report, "hrm-gym halting report", argv)
    costs = sorted(set(config.costs))
    if not costs or not all(0 <= cost <= 1 for cost in costs):
        raise ValueError(f"expected --costs in 0..1, got {config.costs}")
    at_least(1, config, "seeds")
    for name in ("report.md", "report.json", "report.png"):
        check_writable(config.out / name)
    bank = find_bank(config.bank)
    from hrm_gym.agents.halting.comparison import study
    from hrm_gym.agents.halting.learning import Learned, bank_digest

    config.use_threads()
    recipes = {agent: _recipe(agent, 0.0, 0, config.steps).to_json() for agent in ("dqn", "ppo")}
    seeds = range(config.seed, config.seed + config.seeds)

    def policy(recipe: HaltingRecipe) -> Learned:
        """The policy of a recipe: as the folder has it, else trained and kept there."""
        folder = config.out / "policies" / f"{recipe.agent}-{recipe.cost:g}-seed{recipe.seed}"
        if folder.exists():
            found = Learned.load(folder)
            if found.about.get("recipe") == recipe.to_json() and found.about.get("bank") == bank_digest(bank):
                bar.update(recipe.steps)
                return found
        trained = _train(recipe, bank, bar)
        trained.save(folder)
        return trained

    def trained_at(cost: float) -> dict[str, list[Learned]]:
        return {agent: [policy(_recipe(agent, cost, seed, config.steps)) for seed in seeds] for agent in recipes}

    with progress_bar(len(costs) * config.seeds * sum(one["steps"] for one in recipes.values()), "step") as bar:
        found = study(bank, costs, trained_at, config.seed)
    title = f"{found.bank}: {found.puzzles:,} held-out puzzles, at most {found.segments} segments"
    table = new_table(title, "cost", *_HEADINGS, left=2, caption="in brackets: 95 % intervals")
    for at in found.costs:
        table.add_section()
        for entry in at.entries:
            table.add_row(f"{at.cost:g}", *_row(entry))
    show(table, 190)
    for at in found.costs:
        print(_verdict(at))
    about = bank.about
    title = f"When should an HRM halt? {about['agent']} on {about['env']}, {found.puzzles:,} held-out puzzles"
    command = ("hrm-gym halting report " + " ".join(argv)).strip()
    told = {"command": command, "date": _today(), "machine": machine(), "bank": about, "recipes": recipes}
    draw(found, title, config.out / "report.png")
    write_json({**told, "study": asdict(found)}, config.out / "report.json")
    write_atomically(config.out / "report.md", _markdown(found, told, title))
    say(f"report: {', '.join(str(config.out / f'report.{kind}') for kind in ('md', 'json', 'png'))}")


_HEADINGS = ("rule", "mean segments", "solved", "mean return", "against the Q-head", "chosen on the train split")


def _markdown(study: HaltingStudy, told: dict[str, Any], title: str) -> str:
    """The report as a Markdown page."""
    bank, where = told["bank"], told["machine"]
    trainings = max(len(entry.seeds) for at in study.costs for entry in at.entries)
    lines = [
        f"# {markdown_text(title)}",
        "",
        "![Accuracy against mean segments, and the gain over the Q-head](report.png)",
        "",
        f"{markdown_code(told['command'])}, {told['date']}, on {where['processor']} ({where['cores']} cores), "
        f"PyTorch {where['torch']}.",
        f"Bank: {markdown_code(bank['command'])}, {markdown_text(bank['created'])}; weights "
        f"{markdown_text(bank['weights'][:12])}. Thresholds were chosen and "
        f"policies trained on its {study.train_puzzles:,} train puzzles, separately for each cost.",
        "",
        f"Return = 1[solved] - cost x segments. Of the {study.puzzles:,} held-out puzzles {study.ever:.1%} were right "
        "after some segment. The oracle decides in hindsight: it is a bound, not a rival.",
        "In brackets: 95 % intervals: Wilson for shares, bootstrap over puzzles for returns, paired for differences. "
        f"DQN and PPO: means over {trainings} trainings of other seeds (range of their returns in the last column).",
        "",
    ]
    for at in study.costs:
        lines += [f"## Cost {at.cost:g} a segment", "", _verdict(at), ""]
        lines += [markdown_row(list(_HEADINGS)), markdown_row(["---"] * len(_HEADINGS))]
        lines += [*(markdown_row(_row(entry)) for entry in at.entries), ""]
    return "\n".join(lines)


def _verdict(at: AtCost) -> str:
    """Which rule wins, in a sentence."""
    lead = at.lead
    best = next(entry for entry in at.entries if entry.kind == lead.kind)
    against = {lead.next_kind: lead.gain, lead.plain_kind: lead.plain_gain, "q": best.gain}
    parts = [
        f"{_signed(gain)} against {LABELS[kind]}{'' if gain.low > 0 else ', no clear difference'}"
        for kind, gain in against.items()
        if gain != Figure(0.0, 0.0, 0.0)  # the difference of a rule to itself
    ]
    return f"Cost {at.cost:g}: {LABELS[lead.kind]} returns most; " + "; ".join(parts) + "."


def _row(entry: Entry) -> list[str]:
    chosen = entry.rule if entry.kind in ("q_tuned", "fixed", "confidence") else ""
    if entry.seeds:
        chosen = f"{min(entry.seeds):.4f} to {max(entry.seeds):.4f}"
    return [
        LABELS[entry.kind],
        f"{entry.segments:.2f}",
        share(entry.solved.value, entry.solved.low, entry.solved.high),
        f"{entry.reward.value:.4f} ({entry.reward.low:.4f}-{entry.reward.high:.4f})",
        "" if entry.kind == "q" else _signed(entry.gain),
        chosen,
    ]


def _signed(one: Figure) -> str:
    return f"{one.value:+.4f} ({one.low:+.4f} to {one.high:+.4f})"
