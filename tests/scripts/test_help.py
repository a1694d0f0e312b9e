"""Every command's help: it fits 80 columns, its examples are understood, and a flag means the same everywhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from hrm_gym.scripts import options
from hrm_gym.scripts.main import COMMANDS, GROUPS, main

BENCH = tuple(f"bench --only {name}" for name in ("flops", "memory", "reads", "feeding", "steps"))
RECIPES = ("train maze", "train-rl sudoku-4x4-dqn", "data build maze", "data build HRMARCMini-v0")
SHARED = (
    "--halting", "--check", "--no-check", "--restart", "--max-segments", "--source", "--size", "--difficulty", "--box",
    "--agent", "--votes", "--batch", "--threads", "--device", "--json", "--seed", "--episodes", "--split", "--compile",
)  # fmt: skip
OWN = {
    ("halting", "--agent"), ("halting", "--max-segments"), ("halting", "--batch"), ("train", "--source"),
    ("train-rl", "--source"), ("train-rl", "--batch"), ("data", "--size"), ("data", "--difficulty"), ("data", "--box"),
    ("bench", "--batch"), ("bench", "--json"), ("play", "--json"), ("solve", "--json"),
    ("export", "--size"), ("halting", "--seed"), ("halting", "--split"), ("data", "--seed"), ("data", "--split"),
    ("train", "--seed"), ("train-rl", "--seed"), ("evaluate", "--source"), ("evaluate", "--split"),
    ("evaluate", "--max-segments"),
}  # fmt: skip
"""Where a flag is another one: DQN or PPO, a bank's segments, a recipe's seed, a data set's, the weights'."""


class Parsed(Exception):
    """The arguments are understood."""


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main([*command.split(), "--help"]) == 0
    return capsys.readouterr().out


def examples_of(text: str) -> list[str]:
    return re.findall(r"^  (hrm-gym .+|eval .+)$", text.partition("examples:")[2], re.M)


@pytest.mark.parametrize("command", ["", *COMMANDS, *GROUPS, *BENCH, *RECIPES])
def test_it_fits_80_columns_and_has_examples_that_are_understood(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = help_of(command, capsys)
    assert text.startswith(f"usage: hrm-gym {command or 'COMMAND'}")
    assert [line for line in text.splitlines() if len(line) > 80] == []
    shown = examples_of(text)
    assert 2 <= len(shown) <= 4

    def stop(config: Any) -> None:
        raise Parsed

    monkeypatch.setattr(options, "parsed", stop)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))
    for example in shown:
        program, *argv = shlex.split(example)
        if program == "hrm-gym":
            with pytest.raises(Parsed):
                main(argv)


def test_a_flag_means_the_same_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    meanings: dict[str, dict[str, list[str]]] = {}
    for command in (*COMMANDS, *RECIPES[:2]):
        for entry in re.split(r"\n  (?=-)", help_of(command, capsys).partition("\n  -h")[2].partition("\nexamples")[0]):
            words = " ".join(entry.split())
            flag = "--source" if words.startswith("--data") else words.partition(" ")[0].rstrip(",")
            if flag in SHARED and (command.split()[0], flag) not in OWN:
                meanings.setdefault(flag, {}).setdefault(words, []).append(command)
    assert {flag for flag, found in meanings.items() if len(found) > 1} == set()
    assert set(meanings) == set(SHARED)
    for flag in ("--seed", "--episodes", "--source", "--split"):
        ((_, commands),) = meanings[flag].items()
        assert {"play", "solve", "compare", "record", "analyze segments"} <= set(commands)
    for flag in ("--halting", "--check", "--restart", "--max-segments"):
        ((_, commands),) = meanings[flag].items()
        assert {"solve", "compare", "record", "predict", "analyze segments"} <= set(commands)


@pytest.mark.parametrize("env_id", ["HRMHalting-v0", "CartPole-v1", "HRMMaez-v0"])
@pytest.mark.parametrize(
    "command",
    [
        "solve {}", "play {}", "compare --env {}", "record {} --html a.html", "train {}", "train-rl {}",
        "data build {} --out a", "analyze segments {}", "analyze scaling {}", "halting bank build --env {} --out a.npz",
        "predict tasks --env {} --out a.json",
    ],
)  # fmt: skip
def test_what_has_no_puzzles_is_refused_in_our_own_words(
    command: str, env_id: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tasks").mkdir()
    Path("tasks/a.json").write_text('{"train": [{"input": [[1]], "output": [[1]]}], "test": [{"input": [[1]]}]}')
    assert main(command.format(env_id).split()) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    if env_id == "HRMMaez-v0":
        assert "did you mean 'HRMMaze-v0'" in line or "unknown recipe 'HRMMaez-v0'" in line or "unknown kind" in line
    else:
        assert "expected an environment of puzzles, one of HRMSudoku-v0" in line
        assert line.endswith(f"got {env_id}\n")
