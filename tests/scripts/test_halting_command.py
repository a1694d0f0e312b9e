"""`hrm-gym halting`: a policy from the command line, and a report that goes on where it was killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hrm_gym.agents.halting import learning
from hrm_gym.agents.halting.learning import Learned
from hrm_gym.scripts.main import main


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_train(halting_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["halting", "learn", "--agent", "ppo", "--bank", str(halting_file), "--steps", "9000", "--cost", "0.05"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "test: mean return" in said
    assert "policy: runs/halting/ppo-0.05" in said
    policy = Learned.load("runs/halting/ppo-0.05")
    assert policy.about["recipe"]["cost"] == 0.05
    assert policy.about["segments"] == 5


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_a_policy_stays_when_a_new_one_is_stopped(name: str, halting_file: Path) -> None:
    learn = ["halting", "learn", "--agent", "ppo", "--bank", str(halting_file), "--out", "policy", "--threads", "1"]
    assert main([*learn, "--steps", "9000"]) == 0
    before = {path.name: path.read_bytes() for path in Path("policy").iterdir()}

    def hear() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    command = [sys.executable, "-m", "hrm_gym", *learn, "--steps", "100000000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, preexec_fn=hear) as child:
        assert child.stderr is not None
        child.stderr.read(1)  # of the bar, which comes when the learning begins
        child.send_signal(getattr(signal, name))
        try:
            said = child.communicate(timeout=560)[1]
        finally:
            child.kill()
    assert child.returncode in (128 + getattr(signal, name), -signal.SIGKILL)
    assert b"Traceback" not in said
    assert {path.name: path.read_bytes() for path in Path("policy").iterdir()} == before
    assert main([*learn, "--steps", "9000"]) == 0
    assert {path.name: path.read_bytes() for path in Path("policy").iterdir()} == before


def test_the_help_says_that_a_stopped_run_starts_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["halting", "learn", "--help"]) == 0
    assert "the command starts over" in " ".join(capsys.readouterr().out.split())


def report_arguments(bank: Path) -> list[str]:
    costs = ["--costs", "0.01", "0.1", "--seeds", "2", "--steps", "6000"]
    return ["halting", "report", "--bank", str(bank), "--out", "found", *costs]


def test_report_and_going_on_with_it(
    halting_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, trained = learning.train, []

    def tired(recipe: Any, *rest: Any) -> Any:
        trained.append((recipe.agent, recipe.cost, recipe.seed))
        if len(trained) == 4:
            raise KeyboardInterrupt
        return real(recipe, *rest)

    monkeypatch.setattr(learning, "train", tired)
    assert main(report_arguments(halting_file)) == 130
    assert not Path("found/report.md").exists()
    assert main(report_arguments(halting_file)) == 0
    assert len(trained) == 9, "eight policies, and the one that was interrupted"
    assert len(set(trained)) == 8
    said = capsys.readouterr().out
    assert "returns most" in said
    text = Path("found/report.md").read_text()
    assert text.count("\n## Cost ") == 2
    assert "Q-head, as trained" in text
    told = json.loads(Path("found/report.json").read_text())
    assert told["study"]["puzzles"] + told["study"]["train_puzzles"] == 60
    assert told["command"].startswith("hrm-gym halting report")
    assert [entry["kind"] for entry in told["study"]["costs"][0]["entries"]][-1] == "oracle"
    assert Path("found/report.png").read_bytes().startswith(b"\x89PNG")
    assert main(report_arguments(halting_file)) == 0
    assert len(trained) == 9, "everything was kept"
    assert Path("found/report.md").read_text() == text


def test_policies_of_another_bank_are_not_taken(
    halting_file: Path, halting_arrays: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    arguments = ["--costs", "0.1", "--seeds", "1", "--steps", "6000", "--out", "found"]
    assert main(["halting", "report", "--bank", str(halting_file), *arguments]) == 0
    before = Learned.load("found/policies/ppo-0.1-seed0").about["bank"]
    np.savez("other.npz", **halting_arrays(seed=5))
    assert main(["halting", "report", "--bank", "other.npz", *arguments]) == 0
    assert Learned.load("found/policies/ppo-0.1-seed0").about["bank"] != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["learn", "--agent", "a2c"], "a2c"),
        (["learn", "--agent", "dqn", "--cost", "3"], "cost in 0..1"),
        (["learn", "--agent", "dqn", "--steps", "0"], "steps of at least 1"),
        (["learn", "--agent", "dqn", "--bank", "none.npz"], "no halting bank at none.npz"),
        (["report", "--costs", "-1"], "--costs"),
        (["report", "--seeds", "0"], "--seeds of at least 1"),
        (["report", "--bank", "none.npz"], "no halting bank at none.npz"),
        (["lern"], "unknown command of hrm-gym halting"),
        ([], "needs a command"),
    ],
)
def test_bad_arguments_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["halting", *arguments]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert message in said[0]


def test_the_examples_of_the_docs_run(capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "halting.md").read_text(encoding="utf-8")
    first, second = re.findall(r"```python\n(.*?)```", text, re.S)
    exec(first, {})
    assert "segments" in capsys.readouterr().out
    assert "100_000" in second
    exec(second.replace("100_000", "2_000"), {})
    rows = capsys.readouterr().out.splitlines()
    assert [row.split("  ")[0] for row in rows] == ["DQN", "Q-head", "fixed, 4 segments", "oracle"]


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["halting", "--help"]) == 0
    assert "examples:" in capsys.readouterr().out
