"""Checkpoints: atomic, and every kind of damage is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import TINY_MODEL

from hrm_gym.agents.checkpoint import CONFIG, WEIGHTS, write_folder
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.run_folder import load_model, write_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = HRM(TINY_MODEL)
    about = {"kind": "hrm", "family": "maze"}
    write_folder(tmp_path / "model", lambda path: write_model(path, model.state_dict(), TINY_MODEL, about))
    return tmp_path / "model"


@pytest.mark.parametrize("shared", [False, True])
def test_round_trip(tmp_path: Path, shared: bool) -> None:
    values = {**TINY_MODEL.to_json(), "shared": shared, "l_layers": 2}
    model = HRM(HRMConfig.from_json(values))
    write_folder(tmp_path / "m", lambda path: write_model(path, model.state_dict(), model.config, {}))
    loaded, _ = load_model(tmp_path / "m")
    assert loaded.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])


def test_others_may_read_what_they_may_read_of_new_files(folder: Path) -> None:
    (folder / "new").touch()
    assert {path.stat().st_mode for path in folder.iterdir()} == {(folder / "new").stat().st_mode}


def test_cut_in_half(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="damaged or cut short"):
        load_model(folder)


def test_other_shapes_and_versions(folder: Path) -> None:
    text = (folder / CONFIG).read_text()
    (folder / CONFIG).write_text(text.replace('"hidden_size": 32', '"hidden_size": 64'))
    with pytest.raises(ValueError, match=r"expected shape .* got"):
        load_model(folder)
    (folder / CONFIG).write_text(text.replace('"format_version": 1', '"format_version": 99'))
    with pytest.raises(ValueError, match="99"):
        load_model(folder)
    (folder / CONFIG).write_text(text[:40])
    with pytest.raises(ValueError, match="JSON"):
        load_model(folder)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        load_model(folder.parent)


def test_a_writer_that_fails_leaves_the_old_folder(folder: Path) -> None:
    before = (folder / WEIGHTS).read_bytes()

    def fail(path: Path) -> None:
        (path / WEIGHTS).write_bytes(b"half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        write_folder(folder, fail)
    assert (folder / WEIGHTS).read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 30}, "multiple of 8"),
        ({"l_cycles": 0}, "l_cycles"),
        ({"grid": (0, 5)}, "grid"),
        ({"puzzle_dim": 64, "puzzle_positions": 1}, "puzzle positions"),
    ],
)
def test_settings_that_make_no_network(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HRMConfig.from_json({**TINY_MODEL.to_json(), **changes})


def test_unknown_settings_are_named() -> None:
    with pytest.raises(ValueError, match="wings"):
        HRMConfig.from_json({**TINY_MODEL.to_json(), "wings": 2})
