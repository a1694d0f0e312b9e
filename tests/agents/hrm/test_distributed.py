"""Two processes train as one does: the same puzzles, the same halts, the same weights; and a run changes its number."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import TINY

from hrm_gym.agents import checkpoint
from hrm_gym.agents.hrm.distributed import ALONE, Processes, join, launched
from hrm_gym.agents.hrm.trainer import Trainer

HERE = Path(__file__).parent
UPDATES = 20
TOGETHER = dataclasses.replace(
    TINY,
    updates=UPDATES,
    augment=True,
    shown=0.3,
    optimizer="adamw",
    loss="softmax",
    model=dataclasses.replace(TINY.model, exploration=0.5),
)
CHILD = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import torch
torch.set_num_threads(1)
from pathlib import Path
from test_distributed import TOGETHER
from hrm_gym.agents.hrm.distributed import join, leave
from hrm_gym.agents.hrm.trainer import Trainer
processes, device = join(torch.device("cpu"))
trainer = Trainer(TOGETHER, Path(sys.argv[1]), processes=processes)
for _ in trainer.fit(report_every=1):
    pass
leave()
"""


def train(run: Path, processes: int) -> None:
    """Train in so many processes of their own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    there = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-c", CHILD, str(run)]
    children = [subprocess.Popen(command, env={**os.environ, **there, "RANK": str(rank)}) for rank in range(processes)]
    try:
        assert [child.wait(timeout=600) for child in children] == [0] * processes
    finally:
        for child in children:
            child.kill()


def state(run: Path) -> dict[str, torch.Tensor]:
    newest = checkpoint.checkpoints(run)[-1]
    assert checkpoint.read_config(newest)["update"] == UPDATES
    return checkpoint.read_tensors(newest / checkpoint.STATE)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("one")
    for _ in Trainer(TOGETHER, run).fit(report_every=1):
        pass
    return run


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("two")
    train(run, 2)
    return run


def differing(expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> list[str]:
    """Names of the tensors that are further than 1e-5 apart, or not equal where they are whole numbers."""
    assert expected.keys() == found.keys()
    return [
        name
        for name, tensor in expected.items()
        if not (
            torch.allclose(tensor, found[name], rtol=0, atol=1e-5 if not name.startswith("slots.") else 1e-3)
            if tensor.is_floating_point()
            else torch.equal(tensor, found[name])
        )
    ]


def test_two_processes_train_as_one(one: Path, two: Path) -> None:
    assert differing(state(one), state(two)) == []
    curves = [json.loads((run / "curve.jsonl").read_text().splitlines()[-1]) for run in (one, two)]
    assert curves[0]["fed"] == curves[1]["fed"] > TINY.batch_size
    for name in ("loss", "exact", "cells", "segments", "eval_solved", "eval_exact"):
        assert curves[0][name] == pytest.approx(curves[1][name], abs=1e-4), name


def test_a_run_of_two_processes_is_ended_by_one(one: Path, two: Path, tmp_path: Path) -> None:
    run = shutil.copytree(two, tmp_path / "run")
    shutil.rmtree(checkpoint.checkpoints(run)[-1])
    assert checkpoint.read_config(checkpoint.checkpoints(run)[-1])["update"] == 15
    for _ in Trainer(TOGETHER, run).fit(report_every=1):
        pass
    assert differing(state(one), state(run)) == []


def test_slots_are_shared_out_evenly() -> None:
    assert [Processes(rank, 4).share(12) for rank in range(4)] == [slice(3 * r, 3 * r + 3) for r in range(4)]
    with pytest.raises(ValueError, match="4 processes can share evenly, got 10"):
        Processes(0, 4).share(10)


def test_alone_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert not launched()
    assert join(torch.device("cpu")) == (ALONE, torch.device("cpu"))
    values = torch.arange(3.0)
    ALONE.sum([values])
    ALONE.wait()
    assert ALONE.gather(values) is values
