"""A run that is continued where it computes otherwise says once that its bits will differ."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny import TINY

from hrm_gym.agents import checkpoint
from hrm_gym.agents.hrm import accelerate
from hrm_gym.agents.hrm.accelerate import cpu_level
from hrm_gym.agents.hrm.trainer import Trainer

SHORT = dataclasses.replace(TINY, updates=2, model=dataclasses.replace(TINY.model, hidden_size=64, mlp_width=64))
"""Its levels fit the CPU routine."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    caplog.clear()
    return [message for message in found if "bits will differ" in message]


def train(run: Path, compile: bool = False) -> None:
    for _ in Trainer(SHORT, run, compile=compile).fit():
        pass


def test_a_run_that_is_continued_as_it_was_begun_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tmp_path)
    Trainer(SHORT, tmp_path)
    assert warnings(caplog) == []


def test_another_number_of_threads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tmp_path)
    torch.set_num_threads(2)
    continued = Trainer(SHORT, tmp_path)
    assert warnings(caplog) == ["bits will differ from those of a run without a break: threads 1 before, 2 now"]
    continued.save()
    Trainer(SHORT, tmp_path)
    assert warnings(caplog) == [], "the checkpoint was made with two threads"


def test_another_device(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of a run on a GPU only the record can be had here."""
    train(tmp_path)
    config = checkpoint.checkpoints(tmp_path)[-1] / checkpoint.CONFIG
    about = json.loads(config.read_text())
    assert about["arithmetic"]["device"] == "cpu"
    about["arithmetic"] |= {"device": "cuda", "torch": "2.0.\x1b[31m"}
    config.write_text(json.dumps(about))
    Trainer(SHORT, tmp_path)
    assert warnings(caplog) == [
        "bits will differ from those of a run without a break: "
        f"torch '2.0.\\x1b[31m' before, {torch.__version__!r} now, device 'cuda' before, 'cpu' now"
    ]


def test_no_cpu_routine(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    if not cpu_level.load():
        pytest.skip("no C++ compiler")
    train(tmp_path, compile=True)
    monkeypatch.setattr(cpu_level, "serves", lambda config: False)
    monkeypatch.setattr(accelerate, "can_compile", lambda device: False)
    Trainer(SHORT, tmp_path, compile=True)
    assert warnings(caplog) == [
        "bits will differ from those of a run without a break: code 'CPU routine' before, 'PyTorch' now"
    ]
