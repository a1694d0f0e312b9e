"""An exported segment: ONNX Runtime thinks what PyTorch thinks, for every mixer, an HRM and a TRM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import hrm_gym
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.export import names_of, to_onnx
from hrm_gym.agents.hrm.model import HRM, Carry
from hrm_gym.scripts.main import main

onnxruntime = pytest.importorskip("onnxruntime", reason="the web extra is not installed: pip install -e '.[web]'")
pytest.importorskip("onnx", reason="the web extra is not installed: pip install -e '.[web]'")

SMALL = {"hidden_size": 16, "h_layers": 1, "l_layers": 1, "dtype": "float32"}
EQUIVARIANT = {**SMALL, "positions": "none", "gradient": "last_cycle", "halting": "bce", "mlp_width": 24}
CONFIGS = {
    "hrm": HRMConfig(vocab_size=11, grid=(9, 9), heads=2, **SMALL),
    "hrm-bfloat16": HRMConfig(vocab_size=11, grid=(4, 4), heads=2, **{**SMALL, "dtype": "bfloat16"}),
    "trm": HRMConfig(
        vocab_size=11, grid=(9, 9), heads=2, shared=True, h_cycles=3, l_cycles=4, gradient="last_cycle", halting="bce",
        puzzle_positions=4, **{**SMALL, "h_layers": 0, "l_layers": 2},
    ),
    "transformer": HRMConfig(vocab_size=6, grid=(5, 5), heads=2, levels=1, shared=True, **SMALL),
    "mlp": HRMConfig(vocab_size=6, grid=(4, 4), heads=2, mixer="mlp", **SMALL),
    "symbols": HRMConfig(vocab_size=11, grid=(9, 9), mixer="symbols", symbols=9, box=(3, 3), **EQUIVARIANT),
    "convolution": HRMConfig(vocab_size=6, grid=(7, 7), mixer="convolution", **EQUIVARIANT),
    "colours": HRMConfig(
        vocab_size=12, grid=(6, 6), heads=2, mixer="colours", symbols=10, puzzle_count=3,
        **{**EQUIVARIANT, "positions": "learned_rope2d"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_onnx_runtime_thinks_what_pytorch_thinks(name: str) -> None:
    torch.manual_seed(3)
    model = HRM(CONFIGS[name]).eval()
    torch.nn.init.normal_(model.q_head.weight, std=0.1)
    session = onnxruntime.InferenceSession(to_onnx(model), providers=["CPUExecutionProvider"])
    model = HRM.from_state(model.with_config(dtype="float32").config, model.state_dict())
    config = model.config
    tokens = torch.randint(1, config.vocab_size, (1, config.cells))
    puzzle = torch.tensor([config.puzzle_count - 1])
    carry = model.initial_carry(1)
    states = [np.full(state.shape, 7.0, np.float32) for state in carry]  # forgotten: the first segment begins
    for segment in range(8):
        with torch.no_grad():
            expected = model.segment(carry, tokens, puzzle)
        given = [tokens.numpy(), puzzle.numpy(), np.array([segment == 0], np.float32), *states]
        fed = dict(zip(["tokens", "puzzle", "begin", *names_of(model)], given, strict=True))
        known = {one.name for one in session.get_inputs()}  # a network without puzzle embedding does not read its row
        answers, confidence, q, logits, moved, *states = session.run(None, {k: v for k, v in fed.items() if k in known})
        np.testing.assert_allclose(logits, expected.logits, atol=1e-4)
        np.testing.assert_allclose(q, torch.stack((expected.q_halt, expected.q_continue), 1), atol=1e-4)
        for state, other in zip(states, expected.carry, strict=True):
            np.testing.assert_allclose(state, other, atol=1e-4)
        for share, other, before in zip(moved[0], expected.carry, carry, strict=True):
            assert share == pytest.approx(float((other - before).norm() / other.norm()), abs=1e-4)
        assert np.array_equal(answers[0], logits[0, :, 1:].argmax(-1) + 1)
        assert (confidence > 0).all()
        carry = Carry(*map(torch.from_numpy, states))  # else an untrained network multiplies every rounding


def test_the_command_writes_a_bundled_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "hrm-sudoku-4x4", "--onnx", str(tmp_path / "four.onnx")]) == 0
    assert "four.onnx" in capsys.readouterr().out
    about = json.loads((tmp_path / "four.json").read_text())
    assert (about["family"], about["grid"], about["states"]) == ("sudoku", [4, 4], ["state_h", "state_l"])
    session = onnxruntime.InferenceSession(tmp_path / "four.onnx", providers=["CPUExecutionProvider"])
    env = gym.make("HRMSudokuMini-v0", disable_env_checker=True)
    agent: Any = hrm_gym.make_agent("hrm", env, halting="never", check=False, restart=0)
    observation, _ = env.reset(seed=4)
    states = [np.zeros((1, *about["width"]), np.float32)] * 2
    state: Any = None
    for segment in range(8):
        _, state = agent.predict({**observation, "segment": np.array([segment / 16], np.float32)}, state)
        begin = np.array([segment == 0], np.float32)
        fed = {
            "tokens": observation["puzzle"].reshape(1, -1).astype(np.int64),
            "begin": begin,
            "puzzle": np.zeros(1, int),
        }
        answers, confidence, q, _, _, *states = session.run(
            None, {**fed, **dict(zip(about["states"], states, strict=True))}
        )
        assert np.array_equal(answers[0], agent.thought.answer.ravel())
        np.testing.assert_allclose(confidence[0], agent.thought.confidence.ravel(), atol=0.02)  # bfloat16 in PyTorch
        assert 1 / (1 + np.exp(-q[0, 0])) == pytest.approx(agent.thought.q_halt, abs=0.02)


def test_a_file_that_someone_else_wrote_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--onnx weights/config.onnx` took the place of weights/config.json."""
    (tmp_path / "config.json").write_text("mine")
    assert main(["export", "hrm-sudoku-4x4", "--onnx", str(tmp_path / "config.onnx")]) == 2
    assert "config.json, which would be replaced" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == "mine"
