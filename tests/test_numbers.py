"""Every share with an interval in the README and on the cards stands in committed JSON too.

JSON comes from `--json` of a command (docs/results/, or beside the weights). Shares measured before their JSON was kept
are listed in tests/unbacked_shares.txt, which may only become shorter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
TEXTS = [ROOT / "README.md", ROOT / "docs" / "rl.md", *sorted(ROOT.glob("agents/pretrained/*/CARD.md"))]
UNBACKED = Path(__file__).parent / "unbacked_shares.txt"
SHARE = re.compile(r"(\d+\.\d) %? ?\((\d+\.\d) to (\d+\.\d)\)")


def stated(path: Path) -> list[str]:
    """The shares with intervals that a text states, as `97.8 (95.8 to 98.8)`."""
    return [f"{value} ({low} to {high})" for value, low, high in SHARE.findall(path.read_text(encoding="utf-8"))]


def figures(value: Any) -> Iterator[str]:
    """All shares with intervals in plain JSON values."""
    if isinstance(value, list):
        for part in value:
            yield from figures(part)
    if not isinstance(value, dict):
        return
    for name, part in value.items():
        yield from figures(part)
        bounds = value.get(f"{name}_interval") or [value.get(f"{name}_low"), value.get(f"{name}_high")]
        if name == "value":
            bounds = [value.get("low"), value.get("high")]
        if isinstance(part, int | float) and all(isinstance(bound, int | float) for bound in bounds):
            yield "{:.1f} ({:.1f} to {:.1f})".format(100 * part, *(100 * bound for bound in bounds))


@pytest.fixture(scope="module")
def measured() -> set[str]:
    files = [*ROOT.glob("docs/results/**/*.json"), *ROOT.glob("agents/pretrained/*/*.json")]
    return {share for path in files for share in figures(json.loads(path.read_text(encoding="utf-8")))}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_stated_shares_were_measured(path: Path, measured: set[str]) -> None:
    place = path.relative_to(ROOT).as_posix()
    lines = [line.split(": ", 1) for line in UNBACKED.read_text().splitlines()]
    listed = {share for name, share in lines if name == place}
    missing = [share for share in stated(path) if share not in measured]
    assert not set(missing) - listed, "no committed JSON has these"
    assert not listed - set(missing), f"measured by now: take them out of {UNBACKED.name}"


def test_shares_are_found_in_every_form() -> None:
    assert list(figures({"solved": 0.5, "solved_interval": [0.4, 0.6]})) == ["50.0 (40.0 to 60.0)"]
    assert list(figures([{"solved": 0.5, "solved_low": 0.4, "solved_high": 0.6}])) == ["50.0 (40.0 to 60.0)"]
    assert list(figures({"row": {"value": 0.975, "low": 0.9, "high": 1.0}})) == ["97.5 (90.0 to 100.0)"]
    assert list(figures({"solved": None, "solved_interval": None})) == []
