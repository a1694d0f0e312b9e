"""`hrm-gym weights verify`, and the lock of a run's folder at the command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hrm_gym.agents import pretrained
from hrm_gym.files import run_lock
from hrm_gym.scripts.main import main


def test_bundled_weights_are_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "verify"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(list(pretrained.FOLDER.glob("*/config.json")))
    assert all(line.endswith("SHA-256 as written") for line in lines)


def test_changed_weights_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(pretrained.FOLDER / "ppo-sudoku-4x4", folder)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-8, 2)
        file.write(b"\x01")
    for command in (["weights", "verify"], ["verify"]):
        assert main([*command, str(folder)]) == 2
        error = capsys.readouterr().err
        assert "model.safetensors is damaged" in error
        assert error.count("\n") == 1


@pytest.mark.parametrize("command", [["train", "sudoku-4x4"], ["train-rl", "sudoku-4x4-ppo"]])
def test_a_folder_in_use_is_refused(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with run_lock(tmp_path / "run"):
        assert main([*command, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "is in use by process" in error
    assert error.count("\n") == 1
