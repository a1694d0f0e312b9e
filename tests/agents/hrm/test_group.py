"""Training on boards of several sizes in turn: one network, a group of slots a size."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from tiny import MAZES, TINY

from hrm_gym.agents.hrm.trainer import Trainer

NETWORK = dataclasses.replace(MAZES, q_features="mean", auxiliary=4)
RECIPE = dataclasses.replace(
    TINY,
    env_id="HRMMaze-v0",
    env={"size": 7},
    model=NETWORK,
    loss="softmax",
    gradient_segments=2,
    ema=0.5,
    updates=6,
    checkpoint_every=3,
    eval_every=6,
    eval_puzzles=5,
    other_sizes=({"env": {"size": 5}, "batch_size": 6}, {"env": {"size": 9}, "mixture": ({"wall_share": 0.2},)}),
)


def test_every_size_has_its_turn_and_teaches_the_one_network(tmp_path: Path) -> None:
    trainer = Trainer(RECIPE, tmp_path / "run")
    assert [group.model.config.grid for group in trainer.groups] == [(7, 7), (5, 5), (9, 9)]
    assert [group.slots.boards.inputs.shape for group in trainer.groups] == [(8, 49), (6, 25), (8, 81)]
    for number, group in enumerate(trainer.groups):
        names = dict(trainer.model.named_parameters())
        assert all(own is names[name] for name, own in group.model.named_parameters())
        before = trainer.model.answer_head.weight.detach().clone()
        trainer.step()
        assert not torch.equal(before, trainer.model.answer_head.weight)
        assert [own.fed > 0 for own in trainer.groups] == [True] * (number + 1) + [False] * (2 - number)
        assert (group.slots.boards.inputs != 0).all(), "boards fill their grid"


def test_a_run_on_several_sizes_continues_exactly(tmp_path: Path) -> None:
    straight = Trainer(RECIPE, tmp_path / "straight")
    list(straight.fit())
    first = Trainer(RECIPE, tmp_path / "twice")
    for _ in range(4):  # in the middle of a round
        first.step()
    first.save()
    second = Trainer(RECIPE, tmp_path / "twice")
    assert [group.fed for group in second.groups] == [group.fed for group in first.groups]
    list(second.fit())
    for name, tensor in straight.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name
    row = json.loads((tmp_path / "twice" / "curve.jsonl").read_text().splitlines()[-1])
    shares = [row[f"eval_solved_{grid}"] for grid in ("7x7", "5x5", "9x9")]
    assert row["eval_solved"] == pytest.approx(sum(shares) / 3)


def test_several_sizes_need_a_network_for_all_and_boards_that_say_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="other_sizes: expected env, and perhaps mixture and batch_size, got"):
        dataclasses.replace(RECIPE, other_sizes=({"size": 5},))
    for_one = dataclasses.replace(NETWORK, mixer="attention", heads=2, auxiliary=0)
    with pytest.raises(ValueError, match="network for boards of all sizes, got mixer 'attention'"):
        Trainer(dataclasses.replace(RECIPE, model=for_one), tmp_path / "run")
