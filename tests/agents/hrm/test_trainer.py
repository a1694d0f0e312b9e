"""Training learns, and continues exactly after being killed at any moment."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TINY

from hrm_gym.agents import checkpoint
from hrm_gym.agents.hrm.trainer import Trainer
from hrm_gym.data.stream import PrefetchedStream
from hrm_gym.envs.puzzle import PuzzleBatch

HERE = Path(__file__).parent
CHILD = f"""
import sys, time
sys.path.insert(0, {str(HERE)!r})
import torch
torch.set_num_threads(1)
from pathlib import Path
from tiny import TINY
from hrm_gym.agents.hrm.trainer import Trainer
trainer = Trainer(TINY, Path(sys.argv[1]))
for row in trainer.fit(report_every=1):
    print("update", int(row["update"]), flush=True)
    time.sleep(0.02)
"""


def start(run: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", CHILD, str(run)], stdout=subprocess.PIPE, text=True)


def final_state(run: Path) -> dict[str, torch.Tensor]:
    newest = checkpoint.checkpoints(run)[-1]
    assert checkpoint.read_config(newest)["update"] == TINY.updates
    return checkpoint.read_tensors(newest / checkpoint.STATE) | checkpoint.read_tensors(newest / checkpoint.WEIGHTS)


def curve(run: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (run / "curve.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_killed_at_ten_random_moments_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    torch.set_num_threads(1)
    for _ in Trainer(TINY, straight).fit(report_every=1):
        pass
    moments = random.Random(int(time.time()))
    finished: list[Path] = []
    for kill_at in sorted(moments.sample(range(1, 28), 10)):
        child = start(broken)
        assert child.stdout is not None
        for line in child.stdout:
            if int(line.split()[1]) >= kill_at:
                break
        time.sleep(moments.random() * 0.05)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        there = checkpoint.checkpoints(broken)
        assert there[-1:] >= finished[-1:], "a finished checkpoint was lost"
        finished = there
    last = Trainer(TINY, broken)
    assert last.update >= 5, "the last session did not begin from a checkpoint"
    for _ in last.fit(report_every=1):
        pass
    expected, found = final_state(straight), final_state(broken)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert curve(straight) == curve(broken)
    assert not list(broken.glob(".*")), "temporary folders stayed behind"


class OneMaze:
    """A source that always gives the same eight boards."""

    shape = (5, 5)

    def __init__(self, source: object) -> None:
        self._source = source

    def batch(self, keys: np.ndarray) -> PuzzleBatch:
        return self._source.batch(np.arange(len(keys), dtype=np.uint64) % np.uint64(8))  # type: ignore[attr-defined]


def test_one_batch_can_be_learnt_by_heart(tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, updates=300, optimizer="adamw", lr=3e-3, weight_decay=0.0, loss="softmax")
    trainer = Trainer(recipe, tmp_path)
    trainer.feed.stream.source = OneMaze(trainer.feed.stream.source)
    losses = [float(trainer.step().answer.detach()) / 8 for _ in range(recipe.updates)]
    assert losses[-1] < 0.05 * losses[0]


def test_a_run_of_other_settings_is_not_overwritten(tmp_path: Path) -> None:
    trainer = Trainer(TINY, tmp_path)
    trainer.save()
    with pytest.raises(ValueError, match="another recipe"):
        Trainer(dataclasses.replace(TINY, lr=1.0), tmp_path)


def test_a_loss_that_is_not_finite_stops_with_the_update_named(tmp_path: Path) -> None:
    trainer = Trainer(TINY, tmp_path)
    trainer.step()
    trainer.save()
    with torch.no_grad():
        trainer.model.answer_head.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="update 2"):
        trainer.step()
    assert checkpoint.checkpoints(tmp_path)


def test_weights_of_another_board_size_start_a_run(tmp_path: Path) -> None:
    first = Trainer(TINY, tmp_path / "small")
    first.export()
    model = dataclasses.replace(TINY.model, grid=(6, 6))
    recipe = dataclasses.replace(TINY, env={"size": 6}, model=model, init=str(tmp_path / "small" / "model"))
    second = Trainer(recipe, tmp_path / "large")
    assert torch.equal(second.model.answer_head.weight, first.weights()["answer_head.weight"])
    second.save()
    again = Trainer(recipe, second.run)
    assert [stage["update"] for stage in again.before] == [first.update]
    assert again.before[0]["recipe"]["env"] == dict(TINY.env)


def test_a_gradient_that_is_not_finite_changes_nothing_and_says_where_to_go_on(tmp_path: Path) -> None:
    trainer = Trainer(TINY, tmp_path)
    for _ in range(2):
        trainer.step()
    saved = trainer.save()
    trainer.model.answer_head.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(FloatingPointError, match=r"update 3 was not made: its gradient .*update_00000002"):
        trainer.step()
    before = checkpoint.read_tensors(saved / checkpoint.STATE)
    assert all(torch.equal(before[f"model.{name}"], own) for name, own in trainer.model.state_dict().items())


def test_a_shared_module_is_averaged_saved_and_continued(tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, model=dataclasses.replace(TINY.model, shared=True), ema=0.5)
    trainer = Trainer(recipe, tmp_path)
    for _ in range(3):
        trainer.step()
    trainer.save()
    weights, own = trainer.weights(), trainer.model.state_dict()
    name = "blocks.0.mlp.down.weight"
    assert torch.equal(weights[f"h_level.{name}"], weights[f"l_level.{name}"])
    assert not torch.equal(weights[f"h_level.{name}"], own[f"h_level.{name}"])
    again = Trainer(recipe, tmp_path)
    assert again.update == 3
    assert all(torch.equal(again.model.state_dict()[name], tensor) for name, tensor in own.items())


def test_only_the_rows_of_the_batch_are_touched_in_a_large_puzzle_embedding(tmp_path: Path) -> None:
    model = dataclasses.replace(TINY.model, puzzle_count=50_000)
    trainer = Trainer(dataclasses.replace(TINY, model=model), tmp_path)
    trainer.step()
    assert trainer.model.puzzles.grad is None
    assert trainer.model.puzzles.ne(0).any(1).nonzero().flatten().tolist() == [0]


def test_a_run_ends_with_the_same_weights_with_and_without_workers(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    recipe = dataclasses.replace(TINY, updates=4, eval_every=2, checkpoint_every=2)
    states = []
    for workers in (0, 2):
        trainer = Trainer(recipe, tmp_path / str(workers), workers=workers)
        for _ in trainer.fit():
            pass
        states.append(trainer.model.state_dict())
        if workers:
            assert isinstance(trainer.feed.stream, PrefetchedStream)
            trainer.feed.close()
    assert all(torch.equal(one, states[1][name]) for name, one in states[0].items())


def test_a_run_of_an_earlier_version_continues(tmp_path: Path) -> None:
    """Its recipe lacks settings that came later, and means their defaults."""
    recipe = dataclasses.replace(TINY, updates=5)
    for _ in Trainer(recipe, tmp_path).fit():
        pass
    config = checkpoint.checkpoints(tmp_path)[-1] / checkpoint.CONFIG
    about = json.loads(config.read_text())
    del about["recipe"]["random_starts"], about["recipe"]["model"]["q_features"]
    config.write_text(json.dumps(about))
    (config.parent / checkpoint.SUMS).unlink()
    assert Trainer(recipe, tmp_path).update == 5
    with pytest.raises(ValueError, match="another recipe"):
        Trainer(dataclasses.replace(recipe, random_starts=1.0), tmp_path)


def test_a_model_that_someone_else_put_there_is_kept(tmp_path: Path) -> None:
    """It is found before the training, not after it."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="thesis"):
        Trainer(TINY, tmp_path)
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "model").write_text("years of work")
    with pytest.raises(FileExistsError, match="got something else"):
        Trainer(TINY, tmp_path / "file")
