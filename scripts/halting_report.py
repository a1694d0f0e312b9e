"""The report of `hrm-gym halting report`: a table on the terminal; Markdown, JSON and a picture in a folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hrm_gym.agents.halting.comparison import AtCost, Entry, HaltingStudy, Interval, Lead
from hrm_gym.agents.halting.figures import LABELS, draw
from hrm_gym.envs.halting.bank import HaltingBank
from hrm_gym.recorder import written_whole
from hrm_gym.scripts.bench import machine

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
    console = Console()
    (console if console.is_terminal else Console(width=190)).print(table)
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
    with written_whole(out / "report.png") as draft:
        draw(study, title, draft)
    with written_whole(out / "report.json") as draft:
        draft.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    with written_whole(out / "report.md") as draft:
        draft.write_text(markdown(study, told, title), encoding="utf-8")
    print(f"report: {out / 'report.md'}, {out / 'report.json'}, {out / 'report.png'}")


def markdown(study: HaltingStudy, told: dict[str, Any], title: str) -> str:
    """The report as a Markdown page."""
    bank, where = told["bank"], told["machine"]
    lines = [
        f"# {title}",
        "",
        "![Accuracy against mean segments, and the gain over the Q-head](report.png)",
        "",
        f"`{told['command'].strip()}`, {told['date']}, on {where['processor']} ({where['cores']} cores), "
        f"PyTorch {where['torch']}.",
        f"Bank: `{bank['command']}`, {bank['created']}; weights {bank['weights'][:12]}. Thresholds were chosen and "
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
        lines += [f"## Cost {at.cost:g} a segment", "", _verdict(at), "", _line(_HEADINGS), _line(["---"] * 6)]
        lines += [_line(_row(entry)) for entry in at.entries]
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


def _line(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"
