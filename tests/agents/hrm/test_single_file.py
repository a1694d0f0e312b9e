"""`examples/hrm_single_file.py`: the numbers of the official code, the outputs of `model.py`, and a few updates."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from golden_kit import Kit

from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.model import HRM

PATH = Path(__file__).parents[3] / "examples" / "hrm_single_file.py"
SHARED = (
    "vocab_size", "grid", "hidden_size", "heads", "h_layers", "l_layers", "h_cycles", "l_cycles", "positions",
    "puzzle_count", "max_segments", "exploration",
)  # fmt: skip
"""Settings that have one name and meaning in both."""


@pytest.fixture(scope="module")
def single() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hrm_single_file", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def kit() -> Kit:
    return Kit("hrm")


def twin(single: ModuleType, model: HRM, **changes: Any) -> Any:
    """The single file's network with the weights of ours; a name that only one of them has is an error."""
    shared = {name: getattr(model.config, name) for name in SHARED}
    network = single.HRM(single.Config(**{**shared, **changes}))
    network.load_state_dict(model.state_dict(), strict=True)
    return network


def slots_of(single: ModuleType, kit: Kit, network: Any, prefix: str) -> Any:
    """Slots with the official batch, one segment each to come."""
    boards = kit.boards(prefix)
    slots = single.Slots.empty(network, len(boards.inputs))
    slots.refill(network, boards.inputs.long(), boards.labels.clamp(min=0).long(), boards.puzzle_ids.long())
    return slots


def optimizer_of(single: ModuleType, kit: Kit, network: Any) -> Any:
    return single.AdamATan2((p for name, p in network.named_parameters() if name != "puzzles"), network.config)


def golden_settings(kit: Kit) -> dict[str, Any]:
    optim = kit.settings["optim"]
    return {"lr": optim["lr"], "weight_decay": optim["weight_decay"], "betas": tuple(optim["betas"])}


def test_every_segment_has_the_official_numbers(single: ModuleType, kit: Kit) -> None:
    network, boards = twin(single, kit.model()), kit.boards("batch")
    carry = network.initial_carry(8)
    with torch.no_grad():
        for number in (1, 2, 3, 4):
            puzzles = network.puzzles[boards.puzzle_ids.long()]
            carry, logits, q_halt, q_continue = network(carry, boards.inputs, puzzles)
            found = {"logits": logits, "q_halt": q_halt, "q_continue": q_continue, "z_H": carry[0], "z_L": carry[1]}
            for name, value in found.items():
                assert kit.difference(f"eval/seg{number}/{name}", value).max() < kit.eval_tolerance, (number, name)


def test_one_update_has_the_official_gradients(single: ModuleType, kit: Kit) -> None:
    network = twin(single, kit.model(), **golden_settings(kit))
    slots, optimizer = slots_of(single, kit, network, "batch"), optimizer_of(single, kit, network)
    rate = kit.settings["optim"]["puzzle_emb_lr"]
    loss, exact = single.train_step(network, optimizer, slots, torch.zeros(8), rate)
    assert loss == pytest.approx(float(kit.tensor("train/total_loss")) / 8, abs=1e-5)
    assert torch.equal(exact, kit.tensor("train/seq_is_correct").bool())
    ours = dict(network.named_parameters())
    for name, key in kit.named("train/grad/").items():
        assert kit.difference(key, ours[name].grad).max() < 1e-5, name
    assert kit.difference("train/puzzle_emb_after", network.puzzles).max() < 1e-6
    off = [int((kit.difference(key, ours[name]) > 1e-6).sum()) for name, key in kit.named("train/param_after/").items()]
    assert sum(off) <= 4, "AdamATan2's first step may flip an element whose gradient is float noise, but only a few"


@pytest.mark.parametrize("name", ["A", "B"])
def test_eight_updates_follow_the_official_ones(single: ModuleType, kit: Kit, name: str) -> None:
    """Refilled slots, forced and learned halts, exploration (B), warm-up (B)."""
    told, optim = kit.settings["trajectories"][name], kit.settings["optim"]
    limits = {"max_segments": told["halt_max_steps"], "exploration": told["halt_exploration_prob"]}
    network = twin(single, kit.model(), **golden_settings(kit), **limits)
    optimizer, slots = optimizer_of(single, kit, network), single.Slots.empty(network, 8)
    for number in range(1, 9):
        here = f"traj_{name}/{number}"
        boards = kit.boards(f"{here}/batch")
        slots.refill(network, boards.inputs.long(), boards.labels.clamp(min=0).long(), boards.puzzle_ids.long())
        assert torch.equal(slots.tokens, kit.boards(f"{here}/current").inputs.long())
        explores = kit.tensor(f"{here}/explore_u") < network.config.exploration
        minimum = torch.where(explores, kit.tensor(f"{here}/explore_min"), 0)
        rate = float(kit.arrays[f"{here}/lr"])
        optimizer.param_groups[0]["lr"] = rate
        single.train_step(network, optimizer, slots, minimum, optim["puzzle_emb_lr"] * rate / optim["lr"])
        assert torch.equal(slots.halted, kit.tensor(f"{here}/halted"))
        assert torch.equal(slots.segments, kit.tensor(f"{here}/steps").long())
    for parameter, key in kit.named(f"traj_{name}/final/").items():
        assert kit.difference(key, dict(network.named_parameters())[parameter]).max() < 5e-6, parameter


@pytest.mark.parametrize("positions", ["rope", "learned"])
def test_it_is_the_network_of_the_package(single: ModuleType, positions: Any) -> None:
    torch.manual_seed(3)
    config = HRMConfig(
        vocab_size=6, grid=(4, 4), hidden_size=64, heads=2, h_layers=2, l_layers=1, h_cycles=3, l_cycles=2,
        positions=positions, max_segments=4, dtype="float32",
    )  # fmt: skip
    model = HRM(config)
    torch.nn.init.normal_(model.puzzles)
    torch.nn.init.normal_(model.q_head.weight)
    network = twin(single, model)
    assert set(network.state_dict()) == set(model.state_dict())
    tokens, ids = torch.randint(1, 6, (5, 16)), torch.zeros(5, dtype=torch.int64)
    carry, ours = model.initial_carry(5), network.initial_carry(5)
    for _ in range(3):
        result = model.segment(carry, tokens, ids)
        ours, *heads = network(ours, tokens, network.puzzles[ids])
        carry = result.carry
        for found, expected in zip((*ours, *heads), (*carry, *result[1:]), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_it_trains_and_plays(single: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    config = single.Config(vocab_size=6, grid=(4, 4), updates=150, batch_size=16, warmup=20)
    model = single.train(config)
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in capsys.readouterr().out.splitlines()]
    assert losses[-1] < losses[0] - 0.1
    few = single.Config(**{**vars(config), "test_puzzles": 20})
    model.config = few
    solved, segments = single.evaluate(model, max_segments=6)
    assert 0 <= solved <= 1
    assert 1 <= segments <= 6


def test_it_needs_the_environments_alone() -> None:
    tree = ast.parse(PATH.read_text())
    used = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    used |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    outside = {module for module in used if module.split(".")[0] not in sys.stdlib_module_names}
    assert outside == {"gymnasium", "numpy", "torch", "torch.nn.functional", "hrm_gym", "hrm_gym.envs.puzzle"}
