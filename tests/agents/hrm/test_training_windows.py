"""Gradient through several segments, random starts, and the Q-head that sees the worst cell."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import MAZES, TINY
from torch import Tensor

from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.losses import IGNORE
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.recipes import Recipe
from hrm_gym.agents.hrm.run_folder import with_fresh_q_head
from hrm_gym.agents.hrm.trainer import Trainer

NETWORK = HRMConfig(
    vocab_size=6,
    grid=(4, 4),
    hidden_size=16,
    h_layers=1,
    l_layers=1,
    h_cycles=1,
    l_cycles=2,
    mixer="symbols",
    symbols=4,
    box=(2, 2),
    mlp_width=16,
    positions="none",
    gradient="last_cycle",
    halting="bce",
    q_features="worst",
    dtype="float32",
)
RECIPE = dataclasses.replace(
    TINY, env_id="HRMSudokuMini-v0", env={}, model=NETWORK, loss="softmax", gradient_segments=4, random_starts=1.0
)


def unrolled(model: HRM, inputs: Tensor, labels: Tensor, window: int, cut: bool) -> list[Tensor]:
    """Gradients of the mean loss of `window` segments, as the paper's double loop written out."""
    config = model.config
    x = model.embed(inputs, model.puzzles[torch.zeros(len(inputs), dtype=torch.int64)])
    z_h, z_l = model.initial_carry(len(inputs))
    total = torch.zeros(())
    for _ in range(window):
        for _ in range(config.h_cycles):
            for _ in range(config.l_cycles):
                z_l = model.l_level(z_l, z_h + x, None)
            z_h = model.h_level(z_h, z_l, None)
        logits, q_halt, _ = model.heads(z_h, z_h)
        exact = ((logits.argmax(-1) == labels) | (labels == IGNORE)).all(1)
        total = total + F.cross_entropy(logits.flatten(0, 1), labels.flatten().long(), ignore_index=IGNORE)
        total = total + 0.5 * F.binary_cross_entropy_with_logits(q_halt, exact.float())
        if cut:
            z_h, z_l = z_h.detach(), z_l.detach()
    named = [parameter for name, parameter in model.named_parameters() if name != "puzzles"]
    return list(torch.autograd.grad(total / window, named))


@pytest.mark.parametrize("window", [1, 4])
def test_an_update_has_the_gradient_of_the_unrolled_segments(tmp_path: Path, window: int) -> None:
    recipe = dataclasses.replace(RECIPE, gradient_segments=window, random_starts=0.0)
    trainer = Trainer(recipe, tmp_path)
    before = HRM.from_state(NETWORK, {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()})
    trainer.step()
    boards = trainer.slots.boards
    found = [parameter.grad for _, parameter in trainer.named]
    expected = unrolled(before, boards.inputs, boards.labels, window, cut=False)
    for own, wanted in zip(found, expected, strict=True):
        assert own is not None
        assert torch.allclose(own, wanted, rtol=1e-3, atol=1e-6)
    if window > 1:
        cut = unrolled(before, boards.inputs, boards.labels, window, cut=True)
        assert any(not torch.allclose(own, other, rtol=1e-2) for own, other in zip(expected, cut, strict=True))
    assert not any(state.requires_grad for state in trainer.slots.carry), "the next update starts without history"
    assert (trainer.slots.segments == window).all()


def test_a_run_with_windows_and_random_starts_continues_exactly(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, updates=6, checkpoint_every=3, eval_every=6)
    straight = Trainer(recipe, tmp_path / "straight")
    list(straight.fit())
    first = Trainer(recipe, tmp_path / "twice")
    for _ in range(3):
        first.step()
    first.save()
    second = Trainer(recipe, tmp_path / "twice")
    assert second.update == 3
    list(second.fit())
    for name, tensor in straight.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name


@pytest.mark.parametrize("network", [NETWORK, dataclasses.replace(NETWORK, levels=1, shared=True)])
def test_a_random_start_belongs_to_a_puzzle_number_and_not_to_a_slot(tmp_path: Path, network: HRMConfig) -> None:
    recipe = dataclasses.replace(RECIPE, model=network)
    few, many = (Trainer(dataclasses.replace(recipe, batch_size=batch), tmp_path / str(batch)) for batch in (4, 8))
    for trainer in (few, many):
        trainer.group.refill([1])
    initial = few.model.initial_carry(4)
    for own, other, start in zip(few.slots.carry, many.slots.carry, initial, strict=True):
        assert torch.equal(own, other[:4])
        noise = own - start
        assert noise.std() == pytest.approx(1.0, abs=0.05)
        assert not torch.equal(noise[0], noise[1])


def test_windows_need_gradient_in_whole_segments() -> None:
    for changes in ({"silent_segments": 1}, {"model": dataclasses.replace(NETWORK, gradient="one_step")}):
        with pytest.raises(ValueError, match="gradient_segments above 1"):
            dataclasses.replace(RECIPE, **changes)
    for changes in ({"gradient_segments": 0}, {"random_starts": -1.0}):
        with pytest.raises(ValueError, match="gradient_segments of at least 1"):
            dataclasses.replace(RECIPE, **changes)
    assert isinstance(RECIPE, Recipe)


def test_the_worst_cell_is_seen_by_q_without_shaping_the_answer() -> None:
    torch.manual_seed(0)
    model = HRM(NETWORK)
    torch.nn.init.normal_(model.q_head.weight)
    z_h = torch.randn(3, NETWORK.length, NETWORK.hidden_size)
    states = z_h.view(3, 16, 4, -1)
    q_halt, _ = model.q_values(z_h, z_h)
    renamed = states[:, :, torch.tensor([2, 0, 3, 1])].flatten(1, 2)
    assert torch.allclose(model.q_values(renamed, renamed)[0], q_halt, atol=1e-4), "symbols have no names"
    q_halt.sum().backward()
    assert model.answer_head.weight.grad is None
    # exchanging two cells' states changes no mean, and no extreme either
    swapped = states[:, torch.tensor([1, 0, *range(2, 16)])].flatten(1, 2)
    assert torch.allclose(model.q_values(swapped, swapped)[0], q_halt, atol=1e-4)
    with pytest.raises(ValueError, match="q_features"):
        HRMConfig(vocab_size=6, grid=(4, 4), q_features="worst")


def test_one_undecided_cell_moves_the_worst_features_and_hardly_the_mean() -> None:
    torch.manual_seed(0)
    model = HRM(NETWORK)
    z_h = 0.1 * torch.randn(1, NETWORK.length, NETWORK.hidden_size)
    direction = model.answer_head.weight[0].detach()
    states = z_h.view(1, 16, 4, -1)
    states[:, :, 0] += 20 * direction  # every cell is decided …
    before = model.mixer.q_features(model, z_h, z_h)
    states[:, 5, 0] -= 20 * direction  # … but one
    after = model.mixer.q_features(model, z_h, z_h)
    margin = -2
    assert after[0, margin] < 0.2 * before[0, margin]


def test_building_from_weights_draws_nothing_and_ignores_the_default_dtype() -> None:
    state = HRM(NETWORK).state_dict()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    built = HRM.from_state(NETWORK, state)
    assert torch.equal(torch.get_rng_state(), before)
    torch.set_default_dtype(torch.float64)
    try:
        for config in (NETWORK, TINY.model):
            torch.manual_seed(0)
            wide = HRM(config).state_dict()
            torch.set_default_dtype(torch.float32)
            torch.manual_seed(0)
            usual = HRM(config).state_dict()
            torch.set_default_dtype(torch.float64)
            for name, tensor in usual.items():
                assert wide[name].dtype == tensor.dtype, name
                assert torch.equal(wide[name], tensor), name
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(tensor, state[name]) for name, tensor in built.state_dict().items())


def test_a_q_head_that_reads_drift_plays_every_size_and_leaves_the_answer_alone() -> None:
    torch.manual_seed(0)
    model = HRM(MAZES)
    torch.nn.init.normal_(model.q_head.weight)
    z_h = torch.randn(2, 49, 16, requires_grad=True)
    resting, moving = z_h.detach().clone(), z_h.detach().clone()
    moving[:, 3] += 1.0  # one cell of 49
    still, moved = (model.mixer.q_features(model, z_h, before)[0] for before in (resting, moving))
    assert moved[16] - still[16] > 10.0, "the greatest movement"
    assert torch.equal(moved[:16], still[:16])
    model.q_values(z_h, moving)[0].sum().backward()
    assert model.answer_head.weight.grad is None
    through_mean = model.q_head.weight[0, :16].detach() / 49
    assert torch.allclose(z_h.grad, through_mean.expand_as(z_h), atol=1e-6), "drift and margins pass no gradient"
    larger = model.on_grid((9, 5))
    assert larger.q_values(torch.randn(2, 45, 16), torch.randn(2, 45, 16))[0].shape == (2,)
    with pytest.raises(ValueError, match="'drift' needs an equivariant mixer"):
        HRMConfig(vocab_size=6, grid=(4, 4), q_features="drift")


def test_auxiliary_labels_teach_the_states_and_come_back_with_a_checkpoint(tmp_path: Path) -> None:
    network = dataclasses.replace(MAZES, auxiliary=4)
    recipe = dataclasses.replace(TINY, env_id="HRMMaze-v0", env={"size": 7}, model=network, loss="softmax", updates=4)
    trainer = Trainer(recipe, tmp_path / "run")
    head = trainer.model.auxiliary_head.weight.detach().clone()
    trainer.step()
    trainer.step()
    assert not torch.equal(trainer.model.auxiliary_head.weight, head)
    labels = trainer.slots.auxiliary
    clues = trainer.slots.boards.inputs.numpy().astype(np.uint8).reshape(-1, 7, 7)
    assert torch.equal(labels, torch.from_numpy(trainer.feed.family.auxiliary_labels(clues)).flatten(1))
    trainer.save()
    again = Trainer(recipe, tmp_path / "run")
    assert torch.equal(again.slots.auxiliary, labels)
    for run in (trainer, again):
        run.step()
    state = again.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in trainer.model.state_dict().items())
    network = dataclasses.replace(network, grid=(4, 4))
    wrong = Trainer(dataclasses.replace(recipe, env_id="HRMSudokuMini-v0", env={}, model=network), tmp_path / "wrong")
    with pytest.raises(ValueError, match="sudoku puzzles have no auxiliary labels"):
        wrong.step()


def test_a_network_takes_weights_whose_q_head_reads_something_else(tmp_path: Path) -> None:
    mean = HRM(dataclasses.replace(MAZES, q_features="mean"))
    model = HRM(MAZES)
    model.load_state_dict(with_fresh_q_head(mean.state_dict(), model))
    boards = torch.randint(1, 5, (2, 49))
    own, other = (network.segment(network.initial_carry(2), boards, torch.zeros(2)) for network in (model, mean))
    assert torch.equal(own.logits, other.logits)
