"""Losses, optimisers, schedule, rotary positions, norms and initialisation against the official numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hrm_gym.agents import devices
from hrm_gym.agents.hrm.accelerate import float32_product
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.layers import (
    Linear,
    apply_rotary,
    grid_angles,
    rms_norm,
    rotary_tables,
    swiglu_width,
    truncated_normal,
)
from hrm_gym.agents.hrm.losses import softmax_cross_entropy, stablemax_cross_entropy
from hrm_gym.agents.hrm.optim import AdamATan2, Muon, learning_rate, orthogonalised, sign_sgd_rows, sum_by_row

with np.load(Path(__file__).parent / "golden" / "components.npz") as _arrays:
    GOLDEN = {name: torch.from_numpy(np.array(array)) for name, array in _arrays.items()}


def test_cross_entropies() -> None:
    logits = GOLDEN["ce/logits"].clone().requires_grad_()
    losses = stablemax_cross_entropy(logits, GOLDEN["ce/labels"])
    torch.testing.assert_close(losses, GOLDEN["ce/stablemax"], atol=1e-9, rtol=1e-9)
    losses.sum().backward()
    torch.testing.assert_close(logits.grad, GOLDEN["ce/stablemax_grad"], atol=1e-6, rtol=1e-6)
    ours = softmax_cross_entropy(GOLDEN["ce/logits"], GOLDEN["ce/labels"])
    torch.testing.assert_close(ours, GOLDEN["ce/softmax"], atol=1e-5, rtol=1e-5)


def test_adam_atan2_over_twenty_updates() -> None:
    p = torch.nn.Parameter(GOLDEN["adam/p0"].clone())
    q = torch.nn.Parameter(GOLDEN["adam/q0"].clone())
    optimizer = AdamATan2([p, q], lr=1e-2, weight_decay=0.5)
    for update in range(1, 21):
        p.grad = GOLDEN[f"adam/{update:02d}/gp"].clone()
        q_gradient = GOLDEN.get(f"adam/{update:02d}/gq")
        q.grad = None if q_gradient is None else q_gradient.clone()
        optimizer.step()
        torch.testing.assert_close(p.data, GOLDEN[f"adam/{update:02d}/p"], atol=1e-6, rtol=0)
        torch.testing.assert_close(q.data, GOLDEN[f"adam/{update:02d}/q"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("ratio", [1.0, 0.1])
def test_learning_rate(ratio: float) -> None:
    for update, expected in zip(GOLDEN["lr/steps"], GOLDEN[f"lr/min_ratio_{ratio}"], strict=True):
        ours = learning_rate(int(update), 1e-4, 2000, 26041, ratio)
        assert ours == pytest.approx(float(expected), rel=1e-9), int(update)


def test_linear_decay_ends_at_zero() -> None:
    assert learning_rate(100, 1.0, 10, 100, 0.0, "linear") == 0.0
    assert learning_rate(55, 1.0, 10, 100, 0.0, "linear") == pytest.approx(0.5)


def test_sign_sgd_touches_only_rows_of_the_batch() -> None:
    weights, ids = GOLDEN["sign/w0"].clone(), GOLDEN["sign/ids"]
    places, sums = sum_by_row(ids, GOLDEN["sign/grad"])
    assert torch.equal(places, torch.unique(ids, return_inverse=True)[1]), "the order of sums, and so their bits"
    sign_sgd_rows(weights, ids, sums[places], lr=0.1, weight_decay=0.5)
    torch.testing.assert_close(weights, GOLDEN["sign/w1"], atol=1e-7, rtol=0)


def test_rotary() -> None:
    config = HRMConfig(vocab_size=11, grid=(1, 16), hidden_size=64, heads=2)
    cos, sin = rotary_tables(config)
    torch.testing.assert_close(cos, GOLDEN["rope/cos"], atol=1e-6, rtol=0)
    torch.testing.assert_close(sin, GOLDEN["rope/sin"], atol=1e-6, rtol=0)
    for name in "qk":
        ours = apply_rotary(GOLDEN[f"rope/{name}"].transpose(1, 2), cos, sin).transpose(1, 2)
        torch.testing.assert_close(ours, GOLDEN[f"rope/{name}_out"], atol=1e-6, rtol=0)


def test_grid_positions_know_rows_and_columns() -> None:
    """The product of two rotated vectors depends on the offset in rows and columns alone, whatever the board."""
    q, k = torch.randn(32), torch.randn(32)

    def score(grid: tuple[int, int], a: tuple[int, int], b: tuple[int, int]) -> float:
        angles = grid_angles(grid, 1, 32, 100.0)
        doubled = torch.cat((angles, angles), dim=-1)
        rows = [1 + r * grid[1] + c for r, c in (a, b)]
        turned = [
            apply_rotary(x[None], doubled[i : i + 1].cos(), doubled[i : i + 1].sin())
            for x, i in zip((q, k), rows, strict=True)
        ]
        return float((turned[0] * turned[1]).sum())

    near = score((5, 7), (1, 2), (3, 3))
    assert near == pytest.approx(score((5, 7), (2, 5), (4, 6)), abs=1e-4)
    assert near == pytest.approx(score((9, 9), (0, 0), (2, 1)), abs=1e-4)
    assert abs(near - score((5, 7), (1, 2), (2, 4))) > 1e-3


def test_norm_width_and_initialisation() -> None:
    torch.testing.assert_close(rms_norm(GOLDEN["rms/x"], 1e-5), GOLDEN["rms/y_eps1e-5"], atol=1e-6, rtol=0)
    widths = [swiglu_width(int(hidden), 4) for hidden in GOLDEN["swiglu/hidden"]]
    assert widths == GOLDEN["swiglu/inter_expansion4"].tolist()
    torch.manual_seed(0)
    drawn = truncated_normal((100_000,), 0.5)
    assert drawn.std() == pytest.approx(0.5, abs=0.005)
    assert drawn.abs().max() <= 2.28 * 0.5


@pytest.mark.parametrize("shape", [(5, 12), (12, 5), (8, 8)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalised(1e-3 * matrix))
    assert values.min() > 0.6
    assert values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    assert torch.cosine_similarity(orthogonalised(matrix).flatten(), (left @ right).flatten(), dim=0) > 0.95


def test_muon_moves_matrices_and_the_rest_by_steps_of_one_size() -> None:
    torch.manual_seed(0)
    matrix, vector = torch.nn.Parameter(torch.zeros(16, 64)), torch.nn.Parameter(torch.zeros(200))
    groups = [{"params": [matrix], "orthogonal": True}, {"params": [vector]}]
    optimizer = Muon(groups, lr=0.1, weight_decay=0.0)
    matrix.grad, vector.grad = torch.randn(16, 64), torch.randn(200)
    optimizer.step()
    assert vector.abs().sub(0.1).abs().max() < 1e-5, "Adam's first step is the learning rate in every place"
    assert 0.1 * 0.13 < matrix.square().mean().sqrt() < 0.1 * 0.25, "0.2 sqrt(64) / sqrt(64), times the singular values"


def test_muon_without_a_gradient_leaves_a_parameter_alone_and_decays_the_others() -> None:
    still, moved = torch.nn.Parameter(torch.ones(3, 3)), torch.nn.Parameter(torch.ones(3, 3))
    optimizer = Muon([{"params": [still, moved], "orthogonal": True}], lr=0.5, weight_decay=0.1)
    moved.grad = torch.zeros(3, 3)
    optimizer.step()
    assert torch.equal(still, torch.ones(3, 3))
    assert torch.allclose(moved, torch.full((3, 3), 0.95))


def test_products_in_float32_are_the_bfloat16_ones_rounded_once() -> None:
    torch.manual_seed(0)
    linear, x = Linear(96, 64), torch.randn(40, 96, dtype=torch.bfloat16)
    exact = x.double() @ linear.weight.bfloat16().double().T
    results = []
    for wide in (True, False):
        linear.product = float32_product if wide else F.linear
        entry = x.clone().requires_grad_()
        linear.weight.grad = None
        y = linear(entry)
        y.sum().backward()
        assert y.dtype == entry.grad.dtype == torch.bfloat16
        assert linear.weight.grad.dtype == torch.float32
        torch.testing.assert_close(y.double(), exact, rtol=2**-8, atol=1e-5)
        results.append((entry.grad, linear.weight.grad))
    torch.testing.assert_close(results[0], results[1], rtol=2**-7, atol=2**-7)


@pytest.mark.parametrize(
    ("vendor", "amx", "slow"),
    [("GenuineIntel", False, True), ("GenuineIntel", True, False), ("AuthenticAMD", False, False)],
)
def test_which_processors_multiply_bfloat16_slowly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, vendor: str, amx: bool, slow: bool
) -> None:
    (tmp_path / "cpuinfo").write_text(f"vendor_id\t: {vendor}\n")
    monkeypatch.setattr(devices, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert devices.has_slow_bfloat16_products() is slow
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert not devices.has_slow_bfloat16_products()
