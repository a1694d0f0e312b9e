"""The mean of weights: exact, on the board of the first network, and only of networks of one architecture."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from tiny import TINY_MODEL

import hrm_gym
from hrm_gym.agents import checkpoint
from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.averaging import average
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.run_folder import write_model
from hrm_gym.scripts.main import main

hrm_gym.register_environments()
ANY_GRID = dataclasses.replace(TINY_MODEL, mixer="convolution", mlp_width=8, positions="none", halting="bce")


def saved(folder: Path, seed: int = 0, config: HRMConfig = ANY_GRID, **about: Any) -> Path:
    torch.manual_seed(seed)
    told = {"kind": "hrm", "family": "maze", "symbols": "?# SGo", "seed": seed, **about}
    checkpoint.write_folder(folder, lambda draft: write_model(draft, HRM(config).state_dict(), config, told))
    return folder


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read_tensors(folder / checkpoint.WEIGHTS)


def test_the_mean_is_the_mean(tmp_path: Path) -> None:
    larger = dataclasses.replace(ANY_GRID, grid=(7, 7))
    folders = [saved(tmp_path / "a", 1, check=True), saved(tmp_path / "b", 2, larger), saved(tmp_path / "c", 3)]
    found = average([*folders, folders[2]], tmp_path / "mean")
    a, b, c = (tensors(folder) for folder in folders)
    for name, tensor in tensors(found).items():
        assert torch.allclose(tensor, (a[name] + b[name] + 2 * c[name]) / 4, atol=1e-6), name
    about = checkpoint.read_config(found)
    assert about["model"]["grid"] == [5, 5]
    assert about["check"] is True
    assert [one["seed"] for one in about["averaged"]] == [1, 2, 3, 3]


def test_the_mean_of_one_network_with_itself_answers_as_it_does(tmp_path: Path) -> None:
    one = saved(tmp_path / "a")
    twice = average([one, one], tmp_path / "b")
    observation, _ = gym.make("HRMMaze-v0", size=5).reset(seed=1)
    agents = [HRMAgent.from_pretrained(folder, device="cpu") for folder in (one, twice)]
    assert np.array_equal(*(agent.act(observation) for agent in agents))


def test_what_has_no_mean_is_refused_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, out = saved(tmp_path / "a"), tmp_path / "mean"
    wider = saved(tmp_path / "wider", config=dataclasses.replace(ANY_GRID, hidden_size=64))
    other = saved(tmp_path / "other", family="sudoku")
    bound = saved(tmp_path / "bound", config=TINY_MODEL)
    larger = saved(tmp_path / "larger", config=dataclasses.replace(TINY_MODEL, grid=(6, 6)))
    for folders, said in (
        ([one], "at least two folders of weights, got 1"),
        ([one, wider], "wider with hidden_size 64 (the first: 32)"),
        ([one, other], "other with family sudoku (the first: maze)"),
        ([bound, larger], "larger with grid (6, 6) (the first: (5, 5))"),
        ([one, tmp_path / "nothing"], "nothing is no checkpoint folder"),
    ):
        assert main(["weights", "average", *map(str, folders), "--out", str(out)]) == 2
        line = capsys.readouterr().err
        assert said in line
        assert line.count("\n") == 1
    assert not out.exists()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(saved(tmp_path / name, seed)) for seed, name in enumerate("ab")]
    assert main(["weights", "average", *folders, "--out", str(tmp_path / "mean")]) == 0
    assert "mean of 2" in capsys.readouterr().out
    assert HRMAgent.from_pretrained(tmp_path / "mean", device="cpu").family.name == "maze"
    assert main(["weights", "average", "--help"]) == 0
    assert "hrm-gym weights average [-h] FOLDER FOLDER" in capsys.readouterr().out


def test_a_folder_of_other_things_is_not_replaced(tmp_path: Path) -> None:
    for name in ("a", "b"):
        saved(tmp_path / name)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.json").write_text("{}")
    with pytest.raises(FileExistsError, match=r"got one that holds config\.json"):
        average([tmp_path / "a", tmp_path / "b"], tmp_path / "home")
    assert (tmp_path / "home" / "config.json").read_text() == "{}"
    for _ in range(2):
        average([tmp_path / "a", tmp_path / "b"], tmp_path / "mean")
