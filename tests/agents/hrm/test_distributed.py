"""Two processes train as one does: the same puzzles, the same halts, the same weights; and a run changes its number."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tiny import MAZES, TINY

from hrm_gym.agents import checkpoint
from hrm_gym.agents.hrm import distributed
from hrm_gym.agents.hrm.distributed import ALONE, BUCKET, BackwardPass, Processes, join, launched
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.recipes import RECIPES
from hrm_gym.agents.hrm.trainer import Trainer
from hrm_gym.scripts.main import main

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


def train(run: Path, processes: int, child: str = CHILD) -> None:
    """Train in so many processes of their own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    there = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-c", child, str(run)]
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


# ---- the backward pass: gradients leave while others are still computed ----


class Echo:
    """Another process that sends the same: a sum is twice the message, and is there once somebody has waited for it."""

    def __init__(self, flat: torch.Tensor) -> None:
        self.flat = flat

    def wait(self) -> None:
        self.flat *= 2


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers in each message, to an `Echo`; small buckets."""
    seen: list[int] = []

    def all_reduce(flat: torch.Tensor, async_op: bool) -> Echo:
        seen.append(flat.numel())
        return Echo(flat)

    monkeypatch.setattr(distributed.dist, "all_reduce", all_reduce)
    monkeypatch.setattr(distributed, "BUCKET", 4 * 12)
    return seen


def layers() -> list[torch.nn.Parameter]:
    """Four maps of three numbers to three: 9 numbers each, of which two are a bucket of 12 or a little more."""
    random = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(3, 3, generator=random)) for _ in range(4)]


def through(maps: Sequence[torch.Tensor], turns: int = 1) -> torch.Tensor:
    x = torch.ones(3)
    for own in [*maps] * turns:
        x = torch.tanh(own @ x)
    return x.sum()


def same_twice(maps: list[torch.nn.Parameter], loss: torch.Tensor, total: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Whether loss and gradients are twice those that autograd alone gives."""
    own = torch.autograd.grad(wanted, maps, allow_unused=True)
    pairs = [(p.grad, one) for p, one in zip(maps, own, strict=True)]
    return torch.equal(total, 2 * loss.detach()) and all(
        one is None if grad is None else one is not None and torch.equal(grad, 2 * one) for grad, one in pairs
    )


def test_messages_leave_before_the_backward_pass_ends(sizes: list[int]) -> None:
    maps = layers()
    backward = BackwardPass(maps, Processes(0, 2))
    loss = through(maps)
    total = backward(loss)
    assert backward.left == [2, 4], "of four gradients"
    assert sizes == [1 + 18, 18], "the loss travels with the first two"
    assert same_twice(maps, loss, total, through(maps))


def test_parameters_that_are_used_again_are_summed_once(sizes: list[int]) -> None:
    """As in several segments: a gradient is whole after the first use, which comes last."""
    maps = layers()
    backward = BackwardPass(maps, Processes(0, 2))
    loss = through(maps[:3], turns=3) + through(maps[3:])
    total = backward(loss)
    assert sizes == [1 + 18, 18]
    assert same_twice(maps, loss, total, through(maps[:3], turns=3) + through(maps[3:]))


def test_messages_keep_their_order_whatever_order_gradients_come_in(sizes: list[int]) -> None:
    maps = layers()
    backward = BackwardPass(maps[::-1], Processes(0, 2))
    loss = through(maps)
    assert same_twice(maps, loss, backward(loss), through(maps))
    assert backward.left == [4, 4], "the first bucket is whole when all are"


def test_parameters_without_a_gradient(sizes: list[int]) -> None:
    """The first time everything waits for them, the next time nothing does; they stay without one."""
    maps = layers()
    backward = BackwardPass(maps, Processes(0, 2))
    for used, left, sent in (
        ([0, 1, 2], [3, 3], [10, 18]),
        ([0, 1, 2], [2, 3], [19, 9]),
        ([0, 1, 2, 3], [3, 4, 4], [19, 9, 9]),  # known to be absent, so it leaves at the end
        ([0, 1, 2, 3], [2, 4], [19, 18]),
        ([], [0], [1]),
    ):
        sizes.clear()
        for own in maps:
            own.grad = None
        some = [maps[number] for number in used]
        loss = through(some) if some else torch.zeros((), requires_grad=True)
        total = backward(loss)
        assert same_twice(some, loss, total, through(some)) if some else total == 0
        assert [own.grad is None for own in maps] == [number not in used for number in range(4)]
        assert (backward.left, sizes) == (left, sent), used


def test_a_backward_pass_that_fails_leaves_nothing_behind(sizes: list[int]) -> None:
    maps = layers()
    backward = BackwardPass(maps, Processes(0, 2))
    loss = through(maps)
    loss.backward(retain_graph=True)
    assert not sizes, "nobody else's backward pass is summed"
    for own in maps:
        own.grad = None
    handle = maps[0].register_hook(lambda gradient: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        backward(loss)
    handle.remove()
    for own in maps:
        own.grad = None
    loss = through(maps)
    assert same_twice(maps, loss, backward(loss), through(maps))


def test_the_papers_network_sends_all_but_its_last_bucket_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole 27M network, without numbers: parameters in their order give gradients in the opposite order."""
    monkeypatch.setattr(distributed.dist, "all_reduce", lambda flat, async_op: Echo(flat))
    config = RECIPES["sudoku-extreme-1k"].model
    with torch.device("meta"):
        model = HRM(config)
        own = [parameter for name, parameter in model.named_parameters() if name != "puzzles"]
        backward = BackwardPass(own, Processes(0, 2))
        boards = torch.zeros(2, config.cells, dtype=torch.int32)
        found = model.run(model.initial_carry(2), boards, torch.zeros(2, config.embedding_dim), detach=False)
        backward((found.logits.sum() + found.q_halt.sum()).float())
    assert backward.left[-1] == len(own)
    assert len(backward.left) > 4
    assert backward.left[-2] < len(own), backward.left


# ---- two processes, every way in which a gradient can come about ----

PAPER = dataclasses.replace(  # AdamATan2, Q-learning, one step of gradient, puzzle vectors
    TINY,
    puzzles=8,
    augment=True,
    variants=2,
    embed_variants=True,
    model=dataclasses.replace(TINY.model, puzzle_count=3),
)
SEGMENTS = dataclasses.replace(  # gradient through three segments, boards of three sizes in turn, Muon, clipping
    TINY,
    env={"size": 7},
    model=dataclasses.replace(MAZES, auxiliary=4),
    loss="softmax",
    optimizer="muon",
    clip_norm=0.1,
    gradient_segments=3,
    other_sizes=({"env": {"size": 5}, "batch_size": 6}, {"env": {"size": 9}}),
)
TRM = dataclasses.replace(  # one module as both levels; the rules say what Q(halt) learns
    TINY,
    halt_target="solved",
    optimizer="adamw",
    model=dataclasses.replace(
        TINY.model, shared=True, h_layers=0, gradient="last_cycle", halting="bce", puzzle_positions=4
    ),
)
EVERY = {"paper": PAPER, "segments": SEGMENTS, "trm": TRM}
STEPS = 6


def learn(folder: Path, bucket: int, processes: Processes, steps: int = STEPS) -> list[int]:
    """A few updates of every recipe, and their checkpoints; how many messages left early in each one's last update."""
    distributed.BUCKET, early = bucket, []
    for name, recipe in EVERY.items():
        trainer = Trainer(recipe, folder / name, processes=processes)
        for _ in range(steps - trainer.update):
            trainer.step()
        trainer.save()
        early.append(sum(number < trainer.backward.left[-1] for number in trainer.backward.left))
    return early


TOGETHER_CHILD = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import torch
torch.set_num_threads(1)
from pathlib import Path
from test_distributed import learn
from hrm_gym.agents.hrm.distributed import join, leave
processes, _ = join(torch.device("cpu"))
run = Path(sys.argv[1])
early = learn(run / "many", 4096, processes), learn(run / "one", 2**40, processes)
leave()
assert early[0][0] > 0 and max(early[1]) == 0, early
"""


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All recipes, `begun` by one process, then ended by it (`alone`) and by two, with `many` messages or `one`."""
    run = tmp_path_factory.mktemp("every")
    learn(run / "begun", BUCKET, ALONE, 2)
    for name in ("alone", "many", "one"):
        shutil.copytree(run / "begun", run / name)
    learn(run / "alone", BUCKET, ALONE)
    train(run, 2, TOGETHER_CHILD)
    return run


@pytest.mark.parametrize("name", EVERY)
def test_two_processes_end_every_kind_of_recipe_as_one_does(name: str, every: Path) -> None:
    alone, many, one = (
        checkpoint.read_tensors(checkpoint.checkpoint_path(every / way / name, STEPS) / checkpoint.STATE)
        for way in ("alone", "many", "one")
    )
    assert differing(alone, many) == []
    assert [key for key, tensor in many.items() if not torch.equal(tensor, one[key])] == [], "same bits"


@pytest.mark.parametrize(
    ("name", "text", "span"),
    [("RANK", "abc", "from 0 to 1"), ("RANK", "2", "from 0 to 1"), ("WORLD_SIZE", "0", "of at least 1"),
     ("WORLD_SIZE", "2.5", "of at least 1"), ("LOCAL_RANK", "-1", "from 0 to 1"), ("MASTER_PORT", "http", "to 65535"),
     ("MASTER_PORT", "70000", "to 65535"), ("RANK", "", "from 0 to 1")],
)  # fmt: skip
def test_variables_that_torchrun_does_not_set_are_named(
    name: str, text: str, span: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for known, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(known, value)
    monkeypatch.setenv(name, text)
    assert main(["train", "sudoku-4x4", "--updates", "1", "--device", "cpu", "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"the environment variable {name} as a whole number" in said
    assert span in said
    assert repr(text) in said


def test_a_process_that_waits_for_the_others_is_ended_by_a_signal(tmp_path: Path) -> None:
    """It waited for half an hour, and heard nothing meanwhile."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    there = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [
        sys.executable,
        "-m",
        "hrm_gym",
        "train",
        "sudoku-4x4",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "run"),
    ]
    waiting = subprocess.Popen(command, env={**os.environ, **there}, stderr=subprocess.DEVNULL)
    try:
        for _ in range(1200):
            time.sleep(0.1)
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
        time.sleep(1)
        waiting.terminate()
        assert waiting.wait(timeout=20) != 0
    finally:
        waiting.kill()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_one_of_two_processes_is_ended(number: signal.Signals, tmp_path: Path) -> None:
    """Killed, the other one says so in one line (it was a traceback); stopped, none says that it has finished."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    there = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    small = ["--model.hidden-size", "16", "--model.heads", "2", "--batch-size", "4", "--workers", "0", "--no-compile"]
    often = ["--checkpoint-every", "5", "--eval-every", "100000", "--device", "cpu", "--out", str(tmp_path / "run")]
    command = [sys.executable, "-m", "hrm_gym", "train", "sudoku-4x4", *small, *often, "--updates", "100000"]
    children = [
        subprocess.Popen(command, env={**os.environ, **there, "RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        until = time.monotonic() + 120
        while not checkpoint.checkpoints(tmp_path / "run") and time.monotonic() < until:
            time.sleep(0.1)
        children[1].send_signal(number)
        said = children[0].communicate(timeout=120)[1]
        assert "Traceback" not in said
        if number == signal.SIGKILL:
            assert children[0].returncode == 2
            assert "another process of this training is gone: the same command continues" in said
        else:
            assert children[0].returncode == 128 + number
            assert "the same command continues from there" in said
        assert "finished weights" not in said
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert checkpoint.checkpoints(tmp_path / "run")
