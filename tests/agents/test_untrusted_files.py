"""Files that come from elsewhere run no code, take no memory beyond their size, and are refused with one line."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import hrm_gym
from hrm_gym.agents import checkpoint, pretrained
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.hub import MOST_CARD, load_pretrained
from hrm_gym.agents.hrm.official.config import read_settings
from hrm_gym.agents.hrm.recipes import RECIPES
from hrm_gym.agents.hrm.run_folder import load_model
from hrm_gym.agents.hrm.trainer import Trainer
from hrm_gym.agents.sb3.policies import read_policy
from hrm_gym.agents.sb3.recipes import RECIPES as RL_RECIPES
from hrm_gym.agents.sb3.training import fill_replay, save_replay, start_run
from hrm_gym.files import file_sha256
from hrm_gym.reading import parse_json, read_json, read_npz, read_text, read_yaml

TINY_RUN = dataclasses.replace(
    RECIPES["sudoku-4x4"],
    model=HRMConfig(vocab_size=6, grid=(4, 4), hidden_size=16, heads=2, h_layers=1, l_layers=1, max_segments=2),
    batch_size=4,
    updates=9,
    eval_every=100,
    checkpoint_every=3,
    eval_puzzles=4,
)


def changed(folder: Path, target: Path, **changes: Any) -> Path:
    """A copy of bundled weights whose config.json says something else."""
    shutil.copytree(folder, target)
    content = json.loads((target / "config.json").read_text())
    for name, value in changes.items():
        content[name] = {**content[name], **value} if isinstance(value, dict) else value
    (target / "config.json").write_text(json.dumps(content))
    return target


@pytest.mark.parametrize("env_id", ["helpers:HRMMaze-v0", "HRMNowhere-v0", 7])
def test_a_weights_folder_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env_id: object) -> None:
    (tmp_path / "helpers.py").write_text("raise SystemExit('code of a weights folder ran')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    folder = changed(
        pretrained.FOLDER / "maskableppo-sudoku-9x9", tmp_path / "weights", recipe={"env_id": env_id, "env": {"a": 1}}
    )
    env = gym.make("HRMSudoku-v0", action_mode="cell")
    with pytest.raises(ValueError, match=r"registered environment|environment .HRMNowhere"):
        hrm_gym.make_agent("maskableppo", env, weights=folder)
    assert "helpers" not in sys.modules


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"hidden_size": 10**9}, "hidden_size must be at most"),
        ({"l_layers": 10**9}, "l_layers must be at most"),
        ({"puzzle_count": 10**7}, "puzzles expected shape"),
        ({"mlp_width": 2**20}, "expected shape"),
        ({"grid": [1000, 1000]}, "expected"),
        ({"hidden_size": "128"}, "hidden_size: expected int, got str"),
        ({"mixer": "helpers:Mixer"}, "mixer: expected one of 'attention', .*, got 'helpers:Mixer'"),
        ({"mixr": "attention"}, "unknown settings"),
        ({"heads": None}, "heads: expected int, got null"),
        ({"expansion": 1e-9}, "expected an expansion that gives"),
        ({"rope_theta": 0.0}, "rope_theta must be positive"),
        ({"norm_eps": -1.0}, "norm_eps must be positive"),
    ],
)
def test_a_network_of_any_size_takes_no_memory(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    folder = changed(pretrained.FOLDER / "hrm-sudoku-4x4", tmp_path / "weights", model=settings)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=said) as error:
            load_model(folder)
        assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
    finally:
        tracemalloc.stop()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "settings", [{"vocab_size": 0}, {"vocab_size": -5}, {"grid": [2**62, 4]}, {"moves": 2**70}, {"walker_token": -9}]
)
def test_an_opponent_with_numbers_out_of_range(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Some were an OverflowError."""
    folder = changed(pretrained.FOLDER / "ppo-maze-10x10", tmp_path / "weights", model=settings)
    with pytest.raises(ValueError, match=r"config\.json: model") as error:
        read_policy(folder)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"recipe": {"embed_variants": True, "variants": "x"}}, "variants and seed of the weights' recipe as whole"),
        ({"restart": 10**30}, "below 2"),
        ({"halting": "q," * 10**5}, "at most 200 characters, got 200,000"),
    ],
)
def test_what_suits_weights_has_its_range(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    """These were a TypeError, an OverflowError, and a refusal as long as the rule."""
    folder = changed(pretrained.FOLDER / "hrm-sudoku-4x4", tmp_path / "weights", **changes)
    env = gym.make("HRMSudokuMini-v0")
    with pytest.raises(ValueError, match=said) as error:
        hrm_gym.make_agent("hrm", env, weights=str(folder))
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("field", "value"),
    [("family", ["sudoku"]), ("recipe", "text"), ("restart", "16"), ("halting", 3), ("check", "yes")],
)
def test_a_field_of_another_kind_is_named(tmp_path: Path, field: str, value: object) -> None:
    folder = changed(pretrained.FOLDER / "hrm-sudoku-4x4", tmp_path / "weights", **{field: value})
    with pytest.raises(ValueError, match=f"expected {field} to be"):
        load_model(folder)


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, '{"a": NaN}', '{"a": -Infinity}', '{"a": 1', "\x00"])
def test_json_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="origin"):
        parse_json(text, "origin")


def test_brackets_in_texts_are_no_nesting() -> None:
    content = {"a": "[" * 500, "b": '\\"[' * 100}
    assert parse_json(json.dumps(content), "origin") == content


def test_a_large_json_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(10**9)
    with pytest.raises(ValueError, match="at most"):
        read_json(path)


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x]\nb: &b [*a, *a]\n",
        "\n".join(["a0: &a0 [x]", *(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 9))]),
        "[" * 5000 + "]" * 5000,
        "a: !!python/object/apply:os.system ['echo run']",
        "a: [",
    ],
)
def test_yaml_that_builds_on_itself(tmp_path: Path, text: str) -> None:
    path = tmp_path / "all_config.yaml"
    path.write_text(text)
    for read in (read_yaml, read_settings):
        with pytest.raises(ValueError, match="YAML") as error:
            read(path)
        assert "\n" not in str(error.value)


def test_a_member_of_an_npz_file_that_is_no_array(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bare.npz", "w") as archive:
        archive.writestr("a.npy", b"no array")
    with pytest.raises(ValueError, match="'a' is no array"):
        read_npz(tmp_path / "bare.npz")


def test_an_npz_file_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w", force_zip64=True) as file,
    ):
        for _ in range(64):
            file.write(bytes(2**20))
    with pytest.raises(ValueError, match="at most"):
        read_npz(path, most=2**20)
    np.savez(tmp_path / "pickle.npz", a=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="pickle"):
        read_npz(tmp_path / "pickle.npz")


def test_bundled_weights_have_their_sums() -> None:
    for folder in sorted(pretrained.FOLDER.glob("*/config.json")):
        assert checkpoint.verify(folder.parent) == 1, folder.parent.name


def test_weights_that_changed_are_refused(tmp_path: Path) -> None:
    folder = changed(pretrained.FOLDER / "hrm-sudoku-4x4", tmp_path / "weights")
    model, _ = load_model(folder)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["q_head.bias"] += 1
    save_file(state, folder / checkpoint.WEIGHTS)
    with pytest.raises(ValueError, match="SHA-256"):
        load_model(folder)
    (folder / checkpoint.SUMS).write_text("0  ../../secret\n")
    with pytest.raises(ValueError, match="secret is missing"):
        load_model(folder)


def test_a_file_that_is_listed_many_times_is_summed_up_once(tmp_path: Path) -> None:
    """A megabyte of sums for a large file kept a command busy for hours."""
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / checkpoint.SUMS).write_text(2 * f"{file_sha256(tmp_path / 'a')}  a\n")
    with pytest.raises(ValueError, match="expected every file once, got a twice"):
        checkpoint.verify(tmp_path)


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_links_to_a_file_are_not_summed_up_again(tmp_path: Path, link: Callable[[Path, Path], None]) -> None:
    (tmp_path / "a").write_bytes(b"a")
    link(tmp_path / "a", tmp_path / "b")
    (tmp_path / checkpoint.SUMS).write_text("".join(f"{file_sha256(tmp_path / 'a')}  {x}\n" for x in "ab"))
    with pytest.raises(ValueError, match="expected every file once, got b twice"):
        checkpoint.verify(tmp_path)


def test_sums_of_terabytes_are_not_compared(tmp_path: Path) -> None:
    with (tmp_path / "a.npz").open("wb") as file:
        file.truncate(2**42)
    (tmp_path / checkpoint.SUMS).write_text(f"{'0' * 64}  a.npz\n")
    with pytest.raises(ValueError, match=r"expected files of 34,359,738,368 bytes at most, got a\.npz"):
        checkpoint.verify(tmp_path)


def test_a_card_of_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    folder = changed(pretrained.FOLDER / "hrm-sudoku-4x4", tmp_path / "weights")
    with (folder / "CARD.md").open("wb") as file:
        file.truncate(2**40)
    found = load_pretrained(folder)
    assert found.card is not None
    assert len(found.card) == MOST_CARD


def test_a_card_that_is_a_link_to_a_private_file_is_none(tmp_path: Path) -> None:
    """It became part of the card that `push_to_hub` publishes. Links of the hub's cache are followed."""
    (tmp_path / "private").write_text("secret")
    folder = changed(pretrained.FOLDER / "hrm-sudoku-4x4", tmp_path / "snapshots" / "revision")
    (folder / "CARD.md").unlink()
    (folder / "CARD.md").symlink_to(tmp_path / "private")
    assert load_pretrained(folder).card is None
    (folder / "CARD.md").unlink()
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "1").write_text("a card")
    (folder / "README.md").symlink_to("../../blobs/1")
    assert load_pretrained(folder).card == "a card"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
def test_a_file_without_a_size_is_read_as_empty(tmp_path: Path) -> None:
    """Some files of /proc never end, and some wait for what the kernel says next."""
    (tmp_path / "config.json").symlink_to("/proc/self/status")
    assert read_text(tmp_path / "config.json") == ""


@pytest.mark.parametrize("damage", ["cut", "flipped", "config"])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    recipe = TINY_RUN
    straight = Trainer(recipe, tmp_path / "straight")
    for _ in straight.fit():
        pass
    broken = Trainer(recipe, tmp_path / "broken")
    while broken.update < 6:
        broken.step()
        if broken.update % 3 == 0:
            broken.save()
    newest = checkpoint.checkpoints(tmp_path / "broken")[-1]
    file = newest / (checkpoint.CONFIG if damage == "config" else checkpoint.STATE)
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    resumed = Trainer(recipe, tmp_path / "broken")
    assert resumed.update == 3
    assert newest.name in caplog.text
    for _ in resumed.fit():
        pass
    for name, tensor in straight.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_a_state_of_training_that_is_none(tmp_path: Path) -> None:
    """A run's folder from elsewhere: every tensor and number that training continues from is looked at first."""
    for _ in Trainer(TINY_RUN, tmp_path).fit():
        pass
    old, folder = checkpoint.checkpoints(tmp_path)
    shutil.rmtree(old)
    (folder / checkpoint.SUMS).unlink()
    good, about = load_file(folder / checkpoint.STATE), json.loads((folder / checkpoint.CONFIG).read_text())
    average = next(name for name in good if name.startswith("optimizer.exp_avg."))
    changes: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({"slots.inputs": None}, {}, "expected the tensor 'slots.inputs', found none"),
        ({"slots.z_l": torch.zeros(3, 1)}, {}, "expected slots.z_l as .*, got torch.float32 of shape"),
        ({"slots.inputs": torch.full_like(good["slots.inputs"], 100)}, {}, "expected inputs in 0..5, got 100"),
        ({average: torch.zeros(3, 1)}, {}, "to fit a parameter, got a tensor of shape"),
        ({average: None}, {}, "expected the same state of the optimiser"),
        ({}, {"update": None}, "expected update as a number of at least 0"),
        ({}, {"fed": -1}, "expected fed as a number of at least 0, got -1"),
    ]
    for tensors, fields, message in changes:
        state = {name: tensor for name, tensor in {**good, **tensors}.items() if tensor is not None}
        save_file(state, folder / checkpoint.STATE)
        said = {name: value for name, value in {**about, **fields}.items() if value is not None}
        (folder / checkpoint.CONFIG).write_text(json.dumps(said))
        with pytest.raises(ValueError, match=message):
            Trainer(dataclasses.replace(TINY_RUN, updates=12), tmp_path)


def test_a_replay_buffer_that_is_none(tmp_path: Path) -> None:
    """An action that does not exist would be an index out of bounds, in the middle of an update."""
    recipe = dataclasses.replace(RL_RECIPES["sudoku-4x4-dqn"], envs=4)
    buffer = start_run(recipe, tmp_path / "run").model.replay_buffer
    save_replay(buffer, tmp_path / "good.npz")
    fill_replay(buffer, tmp_path / "good.npz")
    buffer.pos = 2
    save_replay(buffer, tmp_path / "good.npz")
    good = dict(np.load(tmp_path / "good.npz"))
    for name, changed, message in (
        ("actions", good["actions"] + 10**6, "expected actions within its space"),
        ("pos", np.array(10**9), "or as many as pos says, got 2 and 1000000000"),
        ("pos", np.zeros(3, np.int64), "expected pos as int64 of shape"),
        ("rewards", good["rewards"][:, :1], "expected rewards as float32 of shape"),
        ("rewards", good["rewards"] * np.nan, "expected finite numbers in rewards"),
    ):
        np.savez(tmp_path / "bad.npz", **{**good, name: changed})
        with pytest.raises(ValueError, match=message):
            fill_replay(buffer, tmp_path / "bad.npz")
