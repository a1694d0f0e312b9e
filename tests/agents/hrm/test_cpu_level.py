"""Levels through their own routine on a CPU against the same levels as PyTorch carries them out."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hrm_gym.agents.hrm import accelerate as fast
from hrm_gym.agents.hrm import thinking
from hrm_gym.agents.hrm.accelerate import cpu_level
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.model import HRM, Level

CONFIG = HRMConfig(
    vocab_size=11, grid=(4, 4), hidden_size=64, heads=2, h_layers=2, l_layers=2, mlp_width=64, dtype="float32"
)


def a_level(config: HRMConfig) -> tuple[Level, tuple[Tensor, Tensor] | None]:
    torch.manual_seed(0)
    model = HRM(config)
    return model.l_level, model.rotary


def routine(level: Level, config: HRMConfig = CONFIG) -> Level:
    """The level through the compiled routine; the same object."""
    level.forward = cpu_level.CPULevel(level, config)  # type: ignore[method-assign]
    return level


def through(
    level: Level, own: bool, state: Tensor, injection: Tensor, rotary: tuple[Tensor, Tensor] | None, gradient: Tensor
) -> list[Tensor]:
    """The next state, and the gradients of the state, of the injection and of all weights."""
    level.__dict__.pop("forward", None)
    if own:
        heads = level.blocks[0].attention.heads
        routine(level, dataclasses.replace(CONFIG, hidden_size=state.shape[-1], heads=heads))
    level.zero_grad()
    inputs = [part.clone().requires_grad_() for part in (state, injection)]
    found = level(*inputs, rotary)
    found.backward(gradient)
    return [found.detach(), *(part.grad for part in inputs), *(p.grad for p in level.parameters())]


def far(found: Tensor, expected: Tensor) -> float:
    """The distance of two tensors, in units of the second one's length."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


shapes = st.fixed_dictionaries(
    {
        "grid": st.tuples(st.integers(1, 14), st.integers(1, 14)),
        "hidden_size": st.sampled_from([32, 96, 128, 288]),
        "heads": st.sampled_from([1, 2, 4]),
        "l_layers": st.integers(1, 3),
        "mlp_width": st.sampled_from([64, 192]),
        "positions": st.sampled_from(["rope", "learned"]),
    }
)


needs_routine = pytest.mark.skipif(not cpu_level.load(), reason="levels have no routine of their own on this machine")


@needs_routine
@settings(max_examples=25, deadline=None)
@given(shapes, st.integers(1, 9))
def test_a_level_and_its_gradients_in_float32(shape: dict[str, Any], boards: int) -> None:
    config = dataclasses.replace(CONFIG, **shape)
    level, rotary = a_level(config)
    state, injection, gradient = torch.randn(3, boards, config.length, config.hidden_size)
    expected = through(level, False, state, injection, rotary, gradient)
    for found, wanted in zip(through(level, True, state, injection, rotary, gradient), expected, strict=True):
        assert found.shape == wanted.shape
        assert far(found, wanted) < 1e-5


@needs_routine
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("grid", [(3, 3), (10, 10), (13, 17)])
def test_bfloat16_is_as_near_to_float32_as_roundings_let_it(
    monkeypatch: pytest.MonkeyPatch, narrow: bool, grid: tuple[int, int]
) -> None:
    """Both kinds of products: those of bfloat16 numbers, and those of the same numbers as float32."""
    monkeypatch.setattr(cpu_level, "has_bfloat16_products", lambda: narrow)
    config = dataclasses.replace(CONFIG, grid=grid, hidden_size=128)
    level, rotary = a_level(config)
    given_ = torch.randn(3, 3, config.length, config.hidden_size).bfloat16()
    expected = through(level, False, *given_[:2].float(), rotary, given_[2].float())
    try:
        found = through(level, True, *given_[:2], rotary, given_[2])
    except RuntimeError as error:
        pytest.skip(f"this processor lacks the products: {error}")
    assert found[0].dtype == found[1].dtype == torch.bfloat16
    for own, wanted in zip(found, expected, strict=True):
        assert far(own, wanted) < 2**-6


@needs_routine
def test_a_board_does_not_depend_on_the_others_nor_on_the_number_of_threads() -> None:
    config = dataclasses.replace(CONFIG, hidden_size=256, grid=(9, 9))
    level, rotary = a_level(config)
    routine(level, config)
    state, injection = torch.randn(2, 7, 82, 256)
    threads = torch.get_num_threads()
    try:
        with torch.no_grad():
            torch.set_num_threads(1)
            alone = torch.cat([level(state[[n]], injection[[n]], rotary) for n in range(7)])
            torch.set_num_threads(2)
            together = level(state, injection, rotary)
    finally:
        torch.set_num_threads(threads)
    assert torch.allclose(alone, together, atol=1e-5)


@needs_routine
def test_a_routine_that_is_wrong_here_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert cpu_level.serves(CONFIG)
    advance = cpu_level.advance
    monkeypatch.setattr(cpu_level, "advance", lambda *given: 1.01 * advance(*given))
    assert not cpu_level.serves.__wrapped__(CONFIG)
    assert not cpu_level.load.__wrapped__()
    assert "differ from PyTorch's" in caplog.text


@needs_routine
def test_a_network_solves_as_before_and_sees_new_weights() -> None:
    torch.manual_seed(0)
    plain = HRM(CONFIG)
    own = HRM(CONFIG)
    own.load_state_dict(plain.state_dict())
    fast.accelerate(own, compile=True)
    assert fast.uses_cpu_routine(own)
    assert not fast.uses_cpu_routine(plain)
    boards = torch.randint(1, 11, (5, 16))
    for scale in (1.0, 0.5):
        for network in (plain, own):
            with torch.no_grad():
                for parameter in network.l_level.parameters():
                    parameter.mul_(scale)
        found, expected = (thinking.solve(model, boards, torch.zeros(5), 3) for model in (own, plain))
        assert torch.equal(found.answers, expected.answers)
        assert torch.allclose(found.confidence, expected.confidence, atol=1e-5)


@needs_routine
@pytest.mark.parametrize("hidden", [64, 256])
@pytest.mark.parametrize("own", [False, True])
def test_next_q_values_are_those_that_a_segment_ends_with(own: bool, hidden: int) -> None:
    torch.manual_seed(0)
    model = HRM(dataclasses.replace(CONFIG, hidden_size=hidden, grid=(9, 9)))
    torch.nn.init.normal_(model.q_head.weight)
    if own:
        fast.accelerate(model, compile=True)
    carry, boards, puzzles = model.initial_carry(5), torch.randint(1, 11, (5, 81)), torch.randn(5, hidden)
    with torch.no_grad():
        expected = model.run(carry, boards, puzzles)
    q_halt, q_continue = model.next_q_values(carry, boards, puzzles)
    assert expected.q_halt.std() > 0.1
    assert torch.allclose(q_halt, expected.q_halt, atol=1e-4)
    assert torch.allclose(q_continue, expected.q_continue, atol=1e-4)


@needs_routine
def test_hooks_on_blocks_are_called() -> None:
    level, rotary = a_level(CONFIG)
    routine(level)
    seen: list[Tensor] = []
    with torch.no_grad():
        state, injection = torch.randn(2, 1, CONFIG.length, CONFIG.hidden_size)
        unwatched = level(state, injection, rotary)
        for part in (level.blocks[0], level.blocks[1].get_submodule("mlp")):
            part.register_forward_hook(lambda module, inputs, output: seen.append(output))
        watched = level(state, injection, rotary)
    assert len(seen) == 2
    assert torch.allclose(watched, unwatched, atol=1e-5)


@needs_routine
def test_a_level_with_a_wrapped_map_is_left_to_pytorch() -> None:
    """An adapter around a linear map: the routine would read past it."""

    class Adapter(torch.nn.Module):
        def __init__(self, inside: torch.nn.Module) -> None:
            super().__init__()
            self.inside, self.weight = inside, inside.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.inside(x) + 1.0

    plain, rotary = a_level(CONFIG)
    with torch.no_grad():
        state, injection = torch.randn(2, 1, CONFIG.length, CONFIG.hidden_size)
        before = routine(plain)(state, injection, rotary)
        plain.blocks[1].mlp.down = Adapter(plain.blocks[1].mlp.down)
        adapted = plain(state, injection, rotary)
        assert torch.equal(adapted, Level.forward(plain, state, injection, rotary))
        assert not torch.allclose(adapted, before, atol=1e-2)


@needs_routine
def test_weights_are_packed_again_only_after_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, packed = fast.accelerate(HRM(CONFIG), compile=True), []
    pack = cpu_level.pack
    monkeypatch.setattr(cpu_level, "pack", lambda *given, **named: packed.append(1) or pack(*given, **named))
    boards, ids = torch.ones(2, 16, dtype=torch.int32), torch.zeros(2, dtype=torch.int32)
    with torch.no_grad():
        carry = model.segment(model.initial_carry(2), boards, ids).carry
        carry = model.segment(carry, boards, ids).carry
        assert len(packed) == 2, "one of each level"
        model.l_level.blocks[0].mlp.down.weight.mul_(0.5)
        model.segment(carry, boards, ids)
        assert len(packed) == 3
    copied = copy.deepcopy(model)
    assert copied.l_level.forward.level is copied.l_level


def test_what_does_not_fit_goes_another_way() -> None:
    assert cpu_level.fits(CONFIG)
    assert not cpu_level.fits(dataclasses.replace(CONFIG, mixer="mlp"))
    assert not cpu_level.fits(dataclasses.replace(CONFIG, mlp_width=72))
    assert not cpu_level.takes(torch.zeros(1, 2, 4, dtype=torch.float16), [])
    assert not cpu_level.takes(torch.zeros(1, 2, 4), [torch.zeros(1, dtype=torch.bfloat16)])


@needs_routine
def test_weights_that_changed_through_data_are_seen_in_training() -> None:
    """`_version` does not count what goes through `.data`, but an optimiser and `load_state_dict` do not go there."""
    torch.manual_seed(0)
    model, plain = fast.accelerate(HRM(CONFIG), compile=True), HRM(CONFIG)
    boards, ids = torch.ones(2, 16, dtype=torch.int32), torch.zeros(2, dtype=torch.int32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        plain.load_state_dict(model.state_dict())
        found, expected = (network.segment(network.initial_carry(2), boards, ids) for network in (model, plain))
        assert torch.allclose(found.logits, expected.logits, atol=1e-4)
        found.logits.square().sum().backward()
        optimizer.step()
    model.load_state_dict(HRM(CONFIG).state_dict())
    plain.load_state_dict(model.state_dict())
    found, expected = (network.segment(network.initial_carry(2), boards, ids) for network in (model, plain))
    assert torch.allclose(found.logits, expected.logits, atol=1e-4)
