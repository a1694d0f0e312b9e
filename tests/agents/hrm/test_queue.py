"""Puzzles and draws that lie on the device ahead of the step: the same ones, whatever the number of updates ahead."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from test_group import RECIPE as SIZES
from tiny import TINY

from hrm_gym.agents import checkpoint
from hrm_gym.agents.hrm.recipes import Recipe
from hrm_gym.agents.hrm.trainer import Trainer

MOVING = dataclasses.replace(
    TINY,
    updates=11,
    checkpoint_every=4,
    eval_every=11,
    random_starts=1.0,
    augment=True,
    clip_norm=0.5,
    model=dataclasses.replace(TINY.model, exploration=0.5, halting="bce"),
)


def state(run: Trainer) -> dict[str, torch.Tensor]:
    return checkpoint.read_tensors(checkpoint.checkpoints(run.run)[-1] / checkpoint.STATE)


@pytest.mark.parametrize("recipe", [MOVING, dataclasses.replace(SIZES, updates=8)], ids=["one size", "three sizes"])
def test_the_bits_do_not_depend_on_how_far_ahead_the_host_prepares(recipe: Recipe, tmp_path: Path) -> None:
    """Also where a run is taken up again in the middle of what was prepared, by another number."""
    straight, broken = Trainer(recipe, tmp_path / "1"), Trainer(recipe, tmp_path / "3", ahead=3)
    list(straight.fit())
    for _ in range(4):
        broken.step()
    broken.save()
    again = Trainer(recipe, tmp_path / "3", ahead=5)
    assert again.update == 4
    list(again.fit())
    expected, found = state(straight), state(again)
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    assert straight.fed == again.fed > 0


def test_slots_take_puzzles_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """Whatever slots halt; rows of the queue are used again."""
    run = Trainer(dataclasses.replace(TINY, augment=True), tmp_path, ahead=4)
    slots, queue, fed = run.slots, run.group.queue, 0
    draw = torch.Generator().manual_seed(0)
    expected = [torch.zeros_like(slots.boards.inputs), torch.zeros_like(slots.boards.labels)]
    for update in range(1, 14):
        slots.halted = torch.ones(8, dtype=torch.bool) if update == 1 else torch.rand(8, generator=draw) < 0.7
        count = int(slots.halted.sum())
        fresh = run.feed.boards(fed, count)
        for own, given in zip(expected, fresh, strict=False):
            own[slots.halted] = given
        fed += count
        run.group.refill(range(update, update + 4))
        assert torch.equal(slots.boards.inputs, expected[0])
        assert torch.equal(slots.boards.labels, expected[1])
        assert int(queue.fed) == fed <= queue.end
    assert fed > queue.rows


def test_an_update_that_is_not_finite_is_not_made_nor_those_behind_it(tmp_path: Path) -> None:
    """The device leaves everything as it was; the host says which update it was as soon as it reads."""
    run = Trainer(dataclasses.replace(TINY, optimizer="adamw"), tmp_path, ahead=4)
    for _ in range(5):
        run.step()
    saved = run.save()
    before = checkpoint.read_tensors(saved / checkpoint.STATE)
    wrong = run.model.answer_head.weight.register_hook(lambda gradient: gradient * float("inf"))
    run.step()  # update 6
    wrong.remove()
    run.step()
    run.step()
    for name, own in run.model.state_dict().items():
        assert torch.equal(before[f"model.{name}"], own), name
    assert run.ema is not None
    assert all(torch.equal(before[f"ema.{name}"], own) for name, own in run.ema.shadow.items())
    for name, parameter in run.named:
        moments = run.optimizer.state[parameter]
        assert torch.equal(before[f"optimizer.exp_avg.{name}"], moments["exp_avg"])
    for meets in (run.step, run.save):
        with pytest.raises(FloatingPointError, match=r"update 6 was not made: its gradient .*update_00000005"):
            meets()


def test_a_queue_is_for_at_least_one_update(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one update, got -1"):
        Trainer(TINY, tmp_path, ahead=-1)
