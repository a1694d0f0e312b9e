"""The numbers of the official HRM and TRM code: forward, losses, gradients, optimisers, halting, trajectories."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hrm_gym.agents.hrm import act
from hrm_gym.agents.hrm.losses import segment_losses
from hrm_gym.agents.hrm.network import HRM, Carry
from hrm_gym.agents.hrm.official import our_name, translate_config, translate_state
from hrm_gym.agents.hrm.optim import EMA, AdamATan2, learning_rate, sign_sgd

GOLDEN = Path(__file__).parent / "golden"
STRIDE = 13


class Kit:
    """One official model: its settings, its arrays, and our network with its weights."""

    def __init__(self, name: str) -> None:
        self.settings: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            self.arrays = dict(arrays)
        self.config = translate_config(self.settings["arch"])
        self.eval_tolerance = {"hrm": 2e-4, "trm_att": 2e-5}[name]

    def tensor(self, key: str) -> Tensor:
        return torch.from_numpy(np.array(self.arrays[key]))

    def model(self, **changes: Any) -> HRM:
        config = dataclasses.replace(self.config, **changes)
        model = HRM(config)
        state = {key[len("state/") :]: self.tensor(key) for key in self.arrays if key.startswith("state/")}
        model.load_state_dict(translate_state(state, config))
        return model

    def boards(self, prefix: str) -> act.Boards:
        names = ("inputs", "labels", "puzzle_identifiers")
        return act.Boards(*(self.tensor(f"{prefix}/{name}") for name in names))

    def difference(self, key: str, ours: Tensor) -> Tensor:
        """Absolute differences from the official numbers, of every 13th element where only those were kept."""
        ours = ours.detach().float()
        if key in self.arrays:
            return (ours - self.tensor(key).float()).abs()
        return (ours.flatten()[::STRIDE] - self.tensor(f"{key}@{STRIDE}").float()).abs()

    def named(self, prefix: str) -> dict[str, str]:
        """Our parameter names -> keys under `prefix`, the mark of thinned arrays cut off."""
        keys = (key.split("@")[0] for key in self.arrays if key.startswith(prefix))
        return {our_name(key[len(prefix) :]): key for key in keys}


@pytest.fixture(params=["hrm", "trm_att"])
def kit(request: pytest.FixtureRequest) -> Kit:
    return Kit(request.param)


def optimizer_of(kit: Kit, model: HRM) -> AdamATan2:
    optim = kit.settings["optim"]
    params = [p for name, p in model.named_parameters() if name != "puzzles"]
    return AdamATan2(params, lr=optim["lr"], betas=tuple(optim["betas"]), weight_decay=optim["weight_decay"])


def target_of(model: HRM, result: Any, segments: Tensor, boards: act.Boards) -> Tensor | None:
    if model.config.halting != "q_learning":
        return None
    puzzles = model.puzzles[boards.puzzle_ids.long()]
    return act.continue_target(model.config, model.run, result, segments, boards.inputs, puzzles)


def test_every_segment(kit: Kit) -> None:
    model, boards = kit.model(), kit.boards("batch")
    carry = model.initial_carry(8)
    for number in range(1, 5):
        with torch.no_grad():
            result = model.segment(carry, boards.inputs, boards.puzzle_ids)
        carry = result.carry
        found = {
            "logits": result.logits, "q_halt": result.q_halt, "q_continue": result.q_continue,
            "z_H": carry.z_h, "z_L": carry.z_l,
        }  # fmt: skip
        for name, value in found.items():
            assert kit.difference(f"eval/seg{number}/{name}", value).max() < kit.eval_tolerance, (number, name)


def test_losses_gradients_and_one_update(kit: Kit) -> None:
    model, boards = kit.model(), kit.boards("batch")
    result = model.segment(model.initial_carry(8), boards.inputs, boards.puzzle_ids)
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

    optimizer_of(kit, model).step()
    optim = kit.settings["optim"]
    sign_sgd(
        model.puzzles.data,
        model.puzzles.grad,
        boards.puzzle_ids,
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
    slots = act.Slots.empty(model, kit.boards(f"traj_{name}/1/batch"))
    for number in range(1, 9):
        here = f"traj_{name}/{number}"
        slots.refill(model, kit.boards(f"{here}/batch"))
        for ours, official in zip(slots.boards, kit.boards(f"{here}/current"), strict=True):
            assert torch.equal(ours, official)
        slots.segments = slots.segments + 1
        puzzles = F.embedding(slots.boards.puzzle_ids.long(), model.puzzles)
        result = model.run(slots.carry, slots.boards.inputs, puzzles)
        explore = kit.tensor(f"{here}/explore_u") < model.config.exploration
        exploration = act.Exploration(explore, kit.tensor(f"{here}/explore_min"))
        slots.halted = act.training_halt(model.config, slots.segments, result, exploration)
        assert torch.equal(slots.halted, kit.tensor(f"{here}/halted"))
        assert torch.equal(slots.segments, kit.tensor(f"{here}/steps"))
        target = target_of(model, result, slots.segments, slots.boards)
        losses = segment_losses(result.logits, slots.boards.labels, result.q_halt, result.q_continue, target)
        for key, value in (("lm_loss", losses.answer), ("q_halt_loss", losses.q_halt)):
            assert kit.difference(f"{here}/{key}", value / 8) < 1e-5
        rate = learning_rate(number, optim["lr"], told["lr_warmup_steps"], 8)
        assert rate == pytest.approx(float(kit.arrays[f"{here}/lr"]), abs=1e-12)
        model.zero_grad()
        (losses.total / 8).backward()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        puzzle_rate = optim["puzzle_emb_lr"] * rate / optim["lr"]
        ids = slots.boards.puzzle_ids
        sign_sgd(model.puzzles.data, model.puzzles.grad, ids, puzzle_rate, optim["puzzle_emb_weight_decay"])
        ema.update(model)
        slots.carry = Carry(*result.carry)
    for parameter, key in kit.named(f"traj_{name}/final/").items():
        assert kit.difference(key, dict(model.named_parameters())[parameter]).max() < 5e-6, parameter
    for parameter, key in kit.named(f"traj_{name}/ema/").items():
        assert kit.difference(key, ema.shadow[parameter]).max() < 5e-6, parameter
    assert kit.difference(f"traj_{name}/final_z_H", slots.carry.z_h).max() < 2e-4
