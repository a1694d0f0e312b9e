"""The numbers of the official HRM and TRM code: forward, losses, gradients, optimisers, halting, trajectories."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from golden_kit import Kit
from torch import Tensor

from hrm_gym.agents.hrm.accelerate import cpu_level
from hrm_gym.agents.hrm.losses import IGNORE, SegmentLosses, segment_losses
from hrm_gym.agents.hrm.model import HRM, Carry, Segment
from hrm_gym.agents.hrm.optim import EMA, AdamATan2, learning_rate, sign_sgd_rows
from hrm_gym.agents.hrm.slots import Examples, Exploration, Slots, continue_target, training_halt

SEGMENTS = (1, 2, 3, 4)


@pytest.fixture(params=["hrm", "trm_att", "hrm, own routine", "trm_att, own routine"])
def kit(request: pytest.FixtureRequest) -> Kit:
    name, *own = request.param.split(", ")
    if own and not cpu_level.load():
        pytest.skip("levels have no routine of their own on this machine")
    return Kit(name, own=bool(own))


def optimizer_of(kit: Kit, model: HRM) -> AdamATan2:
    optim = kit.settings["optim"]
    params = [p for name, p in model.named_parameters() if name != "puzzles"]
    return AdamATan2(params, lr=optim["lr"], betas=tuple(optim["betas"]), weight_decay=optim["weight_decay"])


def target_of(model: HRM, result: Any, segments: Tensor, boards: Examples) -> Tensor | None:
    if model.config.halting != "q_learning":
        return None
    puzzles = model.puzzles[boards.puzzle_ids.long()]
    return continue_target(model, result, segments, boards.inputs, puzzles)


def metrics_of(slots: Slots, losses: SegmentLosses, q_halt: Tensor) -> dict[str, Tensor]:
    """The official metrics: sums over the boards that halted and have a cell that counts."""
    counted = slots.halted & (slots.boards.labels != IGNORE).any(-1)
    chosen = {
        "count": torch.ones(len(counted)),
        "accuracy": losses.cell_accuracy,
        "exact_accuracy": losses.exact,
        "q_halt_accuracy": (q_halt >= 0) == losses.exact,
        "steps": slots.segments,
    }
    return {name: (values * counted).sum() for name, values in chosen.items()}


def segments_of(kit: Kit, model: HRM) -> list[Segment]:
    """Four segments on the kit's batch, without gradient."""
    boards, found = kit.boards("batch"), []
    carry = model.initial_carry(8)
    with torch.no_grad():
        for _ in SEGMENTS:
            found.append(model.segment(carry, boards.inputs, boards.puzzle_ids))
            carry = found[-1].carry
    return found


def test_every_segment(kit: Kit) -> None:
    for number, result in zip(SEGMENTS, segments_of(kit, kit.model()), strict=True):
        found = {
            "logits": result.logits, "q_halt": result.q_halt, "q_continue": result.q_continue,
            "z_H": result.carry.z_h, "z_L": result.carry.z_l,
        }  # fmt: skip
        for name, value in found.items():
            assert kit.difference(f"eval/seg{number}/{name}", value).max() < kit.eval_tolerance, (number, name)
        losses = segment_losses(result.logits, kit.boards("batch").labels, result.q_halt, result.q_continue, None)
        assert kit.difference(f"eval/seg{number}/loss", losses.total) < 10 * kit.eval_tolerance


def test_every_call_of_a_module(kit: Kit) -> None:
    """The embedded input, and the state after every call of a level in the first segment, in order."""
    model, boards, calls = kit.model(), kit.boards("batch"), []
    for level in {model.l_level, model.h_level}:
        level.register_forward_hook(lambda module, inputs, output: calls.append(output))
    with torch.no_grad():
        x = model.embed(boards.inputs, model.puzzles[boards.puzzle_ids.long()])
        model.segment(model.initial_carry(8), boards.inputs, boards.puzzle_ids)
    assert kit.difference("trace/input_embeddings", x).max() < 1e-6
    keys = sorted(key.split("@")[0] for key in kit.arrays if key.startswith("trace/") and "_level" in key)
    assert len(keys) == len(calls)
    for key, state in zip(keys, calls, strict=True):
        assert kit.difference(key, state).max() < kit.eval_tolerance, key


def test_bfloat16_loosely(kit: Kit) -> None:
    """Which kernel a processor takes decides the last bits, so this shows only that the casts are where they belong."""
    for number, result in zip(SEGMENTS, segments_of(kit, kit.model(dtype="bfloat16")), strict=True):
        assert result.logits.dtype == torch.bfloat16
        for name, value in (("logits", result.logits), ("q_halt", result.q_halt), ("q_continue", result.q_continue)):
            found = kit.difference(f"eval_bf16/seg{number}/{name}", value).max()
            assert found < kit.bfloat16_tolerance, (number, name)


def test_losses_gradients_and_one_update(kit: Kit) -> None:
    model, boards = kit.model(), kit.boards("batch")
    puzzles = F.embedding(boards.puzzle_ids.long(), model.puzzles)
    puzzles.retain_grad()
    result = model.run(model.initial_carry(8), boards.inputs, puzzles)
    states = {"logits": result.logits, "q_halt_logits": result.q_halt, "q_continue_logits": result.q_continue}
    for name, value in {**states, "z_H": result.carry.z_h, "z_L": result.carry.z_l}.items():
        assert kit.difference(f"train/{name}", value).max() < kit.eval_tolerance, name
    target = target_of(model, result, torch.ones(8, dtype=torch.int32), boards)
    losses = segment_losses(result.logits, boards.labels, result.q_halt, result.q_continue, target)
    expected = {"lm_loss": losses.answer, "q_halt_loss": losses.q_halt, "total_loss": losses.total}
    if target is not None:
        expected |= {"q_continue_loss": losses.q_continue, "target_q_continue": target}
    for name, value in expected.items():
        assert kit.difference(f"train/{name}", value).max() < 2e-5, name
    assert torch.equal(losses.exact, kit.tensor("train/seq_is_correct").bool())

    (losses.total / 8).backward()
    ours = dict(model.named_parameters())
    gradients = kit.named("train/grad/")
    assert set(gradients) >= {name for name in ours if name != "puzzles" and not name.startswith("h_level")}
    for name, key in gradients.items():
        assert kit.difference(key, ours[name].grad).max() < 1e-5, name
    assert kit.difference("train/grad_puzzle_emb_local", puzzles.grad).max() < 1e-5

    optimizer_of(kit, model).step()
    optim = kit.settings["optim"]
    rows = boards.puzzle_ids.long().unique()
    sign_sgd_rows(
        model.puzzles.data,
        rows,
        model.puzzles.grad[rows],
        optim["puzzle_emb_lr"],
        optim["puzzle_emb_weight_decay"],
    )
    assert kit.difference("train/puzzle_emb_after", model.puzzles).max() < 1e-6
    off = [int((kit.difference(key, ours[name]) > 1e-6).sum()) for name, key in kit.named("train/param_after/").items()]
    assert sum(off) <= 4, "AdamATan2's first step may flip an element whose gradient is float noise, but only a few"


@pytest.mark.parametrize("name", ["A", "B"])
def test_trajectory(kit: Kit, name: str) -> None:
    """Eight training updates with slot refill, forced and learned halts, exploration (B), warm-up (B) and EMA."""
    told, optim = kit.settings["trajectories"][name], kit.settings["optim"]
    model = kit.model(max_segments=told["halt_max_steps"], exploration=told["halt_exploration_prob"])
    optimizer, ema = optimizer_of(kit, model), EMA(model.named_parameters(), 0.999)
    slots = Slots.empty(model, kit.boards(f"traj_{name}/1/batch"))
    for number in range(1, 9):
        here = f"traj_{name}/{number}"
        slots.refill(model, kit.boards(f"{here}/batch"))
        for ours, official in zip(slots.boards, kit.boards(f"{here}/current"), strict=True):
            assert torch.equal(ours, official)
        slots.segments = slots.segments + 1
        puzzles = F.embedding(slots.boards.puzzle_ids.long(), model.puzzles)
        result = model.run(slots.carry, slots.boards.inputs, puzzles)
        explore = kit.tensor(f"{here}/explore_u") < model.config.exploration
        exploration = Exploration(explore, kit.tensor(f"{here}/explore_min"))
        slots.halted = training_halt(model.config, slots.segments, result, exploration)
        assert torch.equal(slots.halted, kit.tensor(f"{here}/halted"))
        assert torch.equal(slots.segments, kit.tensor(f"{here}/steps"))
        target = target_of(model, result, slots.segments, slots.boards)
        losses = segment_losses(result.logits, slots.boards.labels, result.q_halt, result.q_continue, target)
        expected = {"lm_loss": losses.answer, "q_halt_loss": losses.q_halt}
        for key, value in (expected | ({} if target is None else {"q_continue_loss": losses.q_continue})).items():
            assert kit.difference(f"{here}/{key}", value / 8) < 1e-5
        metrics = metrics_of(slots, losses, result.q_halt)
        for key, value in metrics.items():
            assert kit.difference(f"{here}/metric_{key}", value / metrics["count"].clamp(min=1)) < 1e-6, key
        rate = learning_rate(number, optim["lr"], told["lr_warmup_steps"], 8)
        assert rate == pytest.approx(float(kit.arrays[f"{here}/lr"]), abs=1e-12)
        model.zero_grad()
        (losses.total / 8).backward()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        puzzle_rate = optim["puzzle_emb_lr"] * rate / optim["lr"]
        rows, decay = slots.boards.puzzle_ids.long().unique(), optim["puzzle_emb_weight_decay"]
        sign_sgd_rows(model.puzzles.data, rows, model.puzzles.grad[rows], puzzle_rate, decay)
        ema.update(model)
        slots.carry = Carry(*result.carry)
    for parameter, key in kit.named(f"traj_{name}/final/").items():
        assert kit.difference(key, dict(model.named_parameters())[parameter]).max() < 5e-6, parameter
    for parameter, key in kit.named(f"traj_{name}/ema/").items():
        assert kit.difference(key, ema.shadow[parameter]).max() < 5e-6, parameter
    assert kit.difference(f"traj_{name}/final_z_H", slots.carry.z_h).max() < 2e-4
