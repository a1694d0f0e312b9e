"""A part of the safety net that takes seconds; `python tests/golden/make_golden.py` goes through all of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import make_golden
import pytest
from make_golden import FILE, differences, machine

STORED: dict[str, Any] = json.loads(FILE.read_text())
SAME_MACHINE = machine() == STORED["machine"]
OTHER = f"bits of floating-point results are compared on {STORED['machine']}, this is {machine()}"


def check(part: str, results: Iterator[tuple[str, Any]]) -> None:
    for name, found in results:
        stored = STORED[part][name]
        if part == "envs":
            stored = {mark: stored[mark] for mark in found}
        assert not list(differences(stored, json.loads(json.dumps(found)), name))


@pytest.mark.parametrize("env_id", make_golden.WORLDS)
def test_environments(env_id: str) -> None:
    check("envs", make_golden.environments(500, (env_id,)))


def test_sources() -> None:
    fast = (pair for pair in make_golden.sources() if "extreme" not in pair[0])
    check("sources", fast)


@pytest.mark.skipif(not SAME_MACHINE, reason=OTHER)
def test_agents() -> None:
    check("agents", make_golden.agents(("hrm-maze-10x10", "hrm-sudoku-4x4", "ppo-maze-10x10", "dqn-sudoku-4x4")))


@pytest.mark.skipif(not SAME_MACHINE, reason=OTHER)
def test_training() -> None:
    check("training", make_golden.training(20, ("sudoku-4x4", "maze-any-size-8")))
