"""Weights by name: folders of the official code in every layout, our own folders, and the hub, never really called."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
import yaml
from golden_kit import Kit
from official_reference import HRM, random_state
from safetensors.torch import save_file

import hrm_gym
from hrm_gym.agents import pretrained
from hrm_gym.agents.hrm import HRMAgent, hub
from hrm_gym.agents.hrm.official.folder import find_run
from hrm_gym.agents.hrm.official.weights import load_official
from hrm_gym.agents.hrm.task_rows import TaskRows
from hrm_gym.scripts.main import main

SUDOKU = {**HRM, "vocab_size": 11, "seq_len": 81, "num_puzzle_identifiers": 1, "forward_dtype": "bfloat16"}
MAZE = {**SUDOKU, "vocab_size": 6, "seq_len": 25}
ARC = {**SUDOKU, "vocab_size": 12, "seq_len": 144, "num_puzzle_identifiers": 3}
DATA = {"sudoku": "data/sudoku-extreme-1k", "maze": "data/maze-small", "arc": "data/arc-aug-1000"}


def write_run(folder: Path, arch: dict[str, Any], data: str, checkpoint: str = "step_26041") -> Path:
    """A folder as an official run leaves it behind."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(random_state(arch, prefix="_orig_mod.model.inner."), folder / checkpoint)
    (folder / "all_config.yaml").write_text(yaml.dump({"arch": arch, "data_path": data, "lr": 1e-4}))
    return folder


@pytest.fixture
def maze_run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "maze", MAZE, DATA["maze"])


def small_maze(**kwargs: Any) -> Any:
    return gym.make("HRMMaze-v0", size=5, split="test", **kwargs)


# ---- folders of the official code ----


@pytest.mark.parametrize("checkpoint", ["step_7", "checkpoint", "pytorch_model.bin", "weights.pt", "x.pth", "y.ckpt"])
def test_a_checkpoint_beside_its_settings(checkpoint: str, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", MAZE, DATA["maze"], checkpoint)
    for other in ("README.md", "LICENSE", "hrm_act_v1.py", "losses.py", "step_7_all_preds.0"):
        (folder / other).write_text("text")
    assert find_run(folder) == (folder / checkpoint, folder / "all_config.yaml")
    assert find_run(tmp_path) == (folder / checkpoint, folder / "all_config.yaml")
    assert find_run(folder / checkpoint) == (folder / checkpoint, folder / "all_config.yaml")


def test_other_settings_files(tmp_path: Path) -> None:
    save_file(random_state(MAZE), tmp_path / "model.safetensors")
    for text in (MAZE, {"arch": MAZE}):
        (tmp_path / "config.json").write_text(json.dumps({**text, "data_path": DATA["maze"]}))
        assert hub.load_pretrained(tmp_path).about["family"] == "maze"
    (tmp_path / "all_config.yaml").write_text(yaml.dump(MAZE))
    assert find_run(tmp_path)[1].name == "all_config.yaml"


def test_a_checkpoint_below_its_settings(maze_run: Path) -> None:
    (maze_run / "checkpoints").mkdir()
    moved = (maze_run / "step_26041").rename(maze_run / "checkpoints" / "step_26041")
    assert find_run(maze_run) == (moved, maze_run / "all_config.yaml")


def test_the_last_of_several_steps(maze_run: Path) -> None:
    for number in (9, 100000, 30000):
        shutil.copy(maze_run / "step_26041", maze_run / f"step_{number}")
    assert find_run(maze_run)[0].name == "step_100000"
    assert find_run(maze_run / "step_9")[0].name == "step_9"


def test_a_run_above_other_runs(maze_run: Path) -> None:
    write_run(maze_run / "older", MAZE, DATA["maze"])
    assert find_run(maze_run)[0] == maze_run / "step_26041"


def test_what_is_meant_must_be_clear(maze_run: Path) -> None:
    write_run(maze_run.parent / "second", MAZE, DATA["maze"])
    with pytest.raises(ValueError, match=r"several runs: .*maze.*second; name one"):
        hub.load_pretrained(maze_run.parent)
    shutil.copy(maze_run / "step_26041", maze_run / "best.pt")
    with pytest.raises(ValueError, match=r"several files .*best\.pt.*step_26041; name one"):
        hub.load_pretrained(maze_run)
    assert hub.load_pretrained(maze_run / "best.pt").model.config.grid == (5, 5)


@pytest.mark.parametrize("left", ["all_config.yaml", "step_26041", None])
def test_halves_of_a_run(maze_run: Path, left: str | None) -> None:
    for file in maze_run.iterdir():
        if file.name != left:
            file.unlink()
    with pytest.raises(FileNotFoundError, match=f"expected all_config.yaml .* got {left or 'an empty folder'}"):
        hub.load_pretrained(maze_run)


def test_golden_checkpoints_in_a_folder(tmp_path: Path) -> None:
    for name in ("hrm", "trm_att"):
        kit, folder = Kit(name), tmp_path / name
        folder.mkdir()
        torch.save({f"_orig_mod.{key}": tensor for key, tensor in kit.state.items()}, folder / "step_1")
        (folder / "all_config.yaml").write_text(yaml.dump({"arch": kit.settings["arch"]}))
        boards, model = kit.boards("batch"), load_official(*find_run(folder))
        with torch.no_grad():
            result = model.segment(model.initial_carry(8), boards.inputs, boards.puzzle_ids)
        assert kit.difference("eval/seg1/logits", result.logits).max() < kit.eval_tolerance
        with pytest.raises(ValueError, match=r"vocabulary 11 and 16 cells .* load_official gives the bare network"):
            HRMAgent.from_pretrained(folder)


# ---- families ----


@pytest.mark.parametrize(("family", "arch"), [("sudoku", SUDOKU), ("maze", MAZE), ("arc", ARC)])
def test_the_family_follows_from_the_checkpoint(family: str, arch: dict[str, Any], tmp_path: Path) -> None:
    agent = HRMAgent.from_pretrained(write_run(tmp_path / "run", arch, DATA[family]), device="cpu")
    side = round(arch["seq_len"] ** 0.5)
    assert (agent.family.name, agent.model.config.grid, agent.max_segments) == (family, (side, side), 16)
    puzzles = np.ones((2, side, side), np.uint8)
    actions, _ = agent.predict({"puzzle": puzzles, "answer": puzzles, "task": np.array([[2], [7]], np.int32)})
    assert actions.shape == (2, side * side + 1)


def test_the_family_follows_from_vocabulary_and_cells_alone(tmp_path: Path) -> None:
    agent = HRMAgent.from_pretrained(write_run(tmp_path / "run", SUDOKU, "data/mine"), device="cpu")
    assert agent.family.name == "sudoku"


def test_a_vocabulary_that_is_not_the_familys(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {**SUDOKU, "seq_len": 16}, DATA["sudoku"])
    with pytest.raises(ValueError, match="vocabulary of 11 do not fit sudoku, which has 6"):
        HRMAgent.from_pretrained(folder)


def test_a_task_without_a_row_gets_row_0(tmp_path: Path) -> None:
    """So does every task with official weights, which number tasks in another way; `hrm-adapt` is for them."""
    boards, tasks = np.ones((4, 12, 12), np.uint8), np.array([[2], [3], [-1], [0]], np.int32)
    for rows, expected in ((3, [2, 0, 0, 0]), (1, [0, 0, 0, 0])):
        folder = write_run(tmp_path / str(rows), {**ARC, "num_puzzle_identifiers": rows}, DATA["arc"])
        agent = HRMAgent.from_pretrained(folder, device="cpu")
        assert agent.boards(boards, tasks).puzzle_ids.tolist() == [0, 0, 0, 0]
        agent.task_rows = TaskRows()
        assert agent.boards(boards, tasks).puzzle_ids.tolist() == expected
        assert agent.boards(boards).puzzle_ids.tolist() == [0, 0, 0, 0]


def test_a_family_that_is_not_bundled() -> None:
    with pytest.raises(ValueError, match="'chess'"):
        hub.make_family("chess", (8, 8))


# ---- saving ----


def test_saved_and_loaded_again(maze_run: Path, tmp_path: Path) -> None:
    agent = HRMAgent.from_pretrained(maze_run, device="cpu", name="mine")
    agent.save_pretrained(tmp_path / "saved")
    again = HRMAgent.from_pretrained(tmp_path / "saved", device="cpu")
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert again.model.config == agent.model.config
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["model"]["dtype"] == "bfloat16"
    for name, tensor in agent.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name
    again.save_pretrained(tmp_path / "twice")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "twice" / name).read_bytes() == (tmp_path / "saved" / name).read_bytes()


def test_our_own_folder_in_a_sub_folder(maze_run: Path, tmp_path: Path) -> None:
    HRMAgent.from_pretrained(maze_run, device="cpu").save_pretrained(tmp_path / "run" / "model")
    for place in ("run", "run/model", "run/model/model.safetensors"):
        assert hub.load_pretrained(tmp_path / place).about["family"] == "maze"


def test_weights_say_what_suits_them_and_the_caller_has_the_last_word(maze_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    HRMAgent.from_pretrained(maze_run, device="cpu").save_pretrained(folder)
    about = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**about, "halting": "stable:2", "restart": 8, "check": True}))
    suited = HRMAgent.from_pretrained(folder, device="cpu")
    assert (str(suited.halting), suited.restart, suited.check) == ("stable:2", 8, True)
    bare = HRMAgent.from_pretrained(folder, device="cpu", halting="q", restart=0, check=False)
    assert (str(bare.halting), bare.restart, bare.check) == ("q", 0, False)


def test_the_card_goes_with_the_weights(tmp_path: Path) -> None:
    folder = next(folder for folder, _ in pretrained.bundled("hrm"))
    agent = HRMAgent.from_pretrained(folder, device="cpu")
    agent.save_pretrained(tmp_path / "saved")
    text = (tmp_path / "saved" / "README.md").read_text()
    card = (folder / "CARD.md").read_text().strip()
    assert text.startswith("---\n")
    assert "library_name: hrm-gym" in text
    assert text.strip().endswith(card)
    again = HRMAgent.from_pretrained(tmp_path / "saved", device="cpu")
    assert again.card is not None
    assert again.card.strip() == card
    assert again.about is not None
    assert again.about["recipe"] == agent.about["recipe"]  # type: ignore[index]


def test_weights_without_a_card_get_a_few_lines(maze_run: Path) -> None:
    card = HRMAgent.from_pretrained(maze_run, device="cpu").generate_model_card()
    assert "# HRM for maze 5x5" in card.text


def test_pushed_to_the_hub(maze_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    class Api:
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

        def create_repo(self, repo_id: str, **kwargs: Any) -> Any:
            return type("Repository", (), {"repo_id": repo_id})

        def upload_folder(self, repo_id: str, folder_path: Path, **kwargs: Any) -> str:
            seen[repo_id] = {path.name for path in Path(folder_path).iterdir()}
            return "commit"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    assert HRMAgent.from_pretrained(maze_run, device="cpu").push_to_hub("me/maze") == "commit"
    assert seen == {"me/maze": {"config.json", "model.safetensors", "README.md"}}


# ---- the hub ----


def test_fetched_from_the_hub(maze_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, Any]] = []

    def download(name: str, revision: str | None = None, **kwargs: Any) -> str:
        calls.append((name, revision))
        return str(maze_run)

    monkeypatch.setattr(hub, "snapshot_download", download)
    name = "sapientinc/HRM-checkpoint-maze"
    HRMAgent.from_pretrained(name, device="cpu")
    HRMAgent.from_pretrained(name, device="cpu", revision="v1")
    HRMAgent.from_pretrained(f"{name}@v2", device="cpu")
    agent = hrm_gym.make_agent("hrm", small_maze(), weights=Path(name), device="cpu")
    assert calls == [(name, None), (name, "v1"), (name, "v2"), (name, None)]
    assert agent.predict(small_maze().reset(seed=0)[0])[0].shape == (26,)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*args: Any, **kwargs: Any) -> str:
        raise ConnectionError("Name or service not known\nplease check your connection")

    monkeypatch.setattr(hub, "snapshot_download", download)


@pytest.mark.usefixtures("offline")
def test_without_a_network_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    name = "sapientinc/HRM-checkpoint-sudoku-extreme"
    with pytest.raises(OSError, match=rf"{name}: found no such .*Hugging Face hub \(Name .*known\); give a local one"):
        HRMAgent.from_pretrained(name)
    assert main(["solve", "HRMMaze-v0", "--agent", f"hrm={name}", "--no-render"]) == 2
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    assert "all_config.yaml" in written


def test_what_is_neither_here_nor_a_name() -> None:
    for weights in ("nowhere", "/no/such/folder", "a/b/c"):
        with pytest.raises(FileNotFoundError, match=f"no weights at {weights}: expected a folder"):
            HRMAgent.from_pretrained(weights)


# ---- playing ----


def test_solve_with_an_official_run(maze_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["solve", "HRMMaze-v0", "--size", "5", "--agent", f"hrm={maze_run}", "--episodes", "2", "--no-render"]
    assert main(words) == 0
    assert "hrm=" in capsys.readouterr().out
    assert main(["solve", "HRMMaze-v0", "--size", "6", *words[4:]]) == 2
    assert "are for maze 5x5, the environment is maze 6x6" in capsys.readouterr().err


def test_solve_with_a_damaged_run(maze_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (maze_run / "step_26041").read_bytes()
    (maze_run / "step_26041").write_bytes(whole[: len(whole) // 2])
    words = ["solve", "HRMMaze-v0", "--size", "5", "--agent", f"hrm={maze_run}", "--episodes", "2", "--no-render"]
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", ["HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"])
@pytest.mark.parametrize("text", ["abc", "10.5", "", "-1", "9" * 5000])
def test_timeouts_that_are_none_are_named(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, text)
    assert main(["data", "fetch", "nobody/nothing"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"hrm-gym: error: expected the environment variable {name} as a whole number from 0 to ")
    assert said.endswith(f", got {text[:40]!r}\n")
    assert said.count("\n") == 1


def test_timeouts_are_looked_at_before_the_hub_is_imported() -> None:
    """It failed over them while it was imported, with a ValueError that did not say what was meant."""
    command = [sys.executable, "-m", "hrm_gym", "analyze", "curve", "nowhere"]
    there = {**os.environ, "HF_HUB_DOWNLOAD_TIMEOUT": "abc"}
    ran = subprocess.run(command, env=there, capture_output=True, text=True)
    assert ran.returncode == 2
    assert ran.stderr.startswith("hrm-gym: error: expected the environment variable HF_HUB_DOWNLOAD_TIMEOUT as a whole")
    assert ran.stderr.count("\n") == 1
