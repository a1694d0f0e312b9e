"""The HRM as a policy of stable-baselines3: the same network, its heads as distributions, its gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3 import A2C, PPO

import hrm_gym
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.sb3.hrm_policy import HRMPolicy, MaskableHRMPolicy, network_parameters
from hrm_gym.agents.sb3.vec_env import make_sb3_vec

gym.register_envs(hrm_gym)
TINY = HRMConfig(6, (4, 4), hidden_size=16, heads=2, h_layers=1, l_layers=1, dtype="float32")
SMALL = {"n_steps": 4, "batch_size": 8, "n_epochs": 1, "device": "cpu"}


def policy(mode: str, segments: int = 2, **arguments: Any) -> Any:
    env = gym.make("HRMSudokuMini-v0", action_mode=mode)
    torch.manual_seed(0)
    return HRMPolicy(env.observation_space, env.action_space, lambda _: 1e-3, hrm=TINY, segments=segments, **arguments)


def seen(mode: str, count: int = 3) -> dict[str, torch.Tensor]:
    envs = gym.make_vec("HRMSudokuMini-v0", num_envs=count, action_mode=mode)
    observation, _ = envs.reset(seed=1)
    return {name: torch.as_tensor(array) for name, array in observation.items()}


@pytest.mark.parametrize("algorithm", [PPO, A2C, MaskablePPO])
@pytest.mark.parametrize("mode", ["cell", "answer"])
def test_sb3_trains_it(algorithm: Any, mode: str) -> None:
    envs = make_sb3_vec("HRMSudokuMini-v0", 8, seed=0, action_mode=mode, reward="dense")
    kind = MaskableHRMPolicy if algorithm is MaskablePPO else HRMPolicy
    arguments = {"n_steps": 4, "device": "cpu"} if algorithm is A2C else SMALL
    model = algorithm(kind, envs, policy_kwargs={"hrm": TINY, "segments": 1}, seed=0, **arguments)
    before = {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
    model.learn(64)
    moved = {name for name, tensor in model.policy.state_dict().items() if not torch.equal(tensor, before[name])}
    for part in ("hrm.l_level", "hrm.h_level", "hrm.answer_head", "value_net"):
        assert any(part in name for name in moved), part


def test_answer_mode_is_the_networks_own_answer_after_its_segments() -> None:
    made, observation = policy("answer", segments=3), seen("answer")
    hrm: HRM = made.features_extractor.hrm
    with torch.no_grad():
        carry = hrm.initial_carry(3)
        for _ in range(3):
            result = hrm.segment(carry, observation["puzzle"].flatten(1), torch.zeros(3))
            carry = result.carry
        found = made.get_distribution(observation)
    logits = torch.stack([factor.logits for factor in found.distribution[:-1]], 1)
    torch.testing.assert_close(logits, torch.log_softmax(result.logits, -1))
    halting = found.distribution[-1].probs[:, 1]
    torch.testing.assert_close(halting, torch.sigmoid(result.q_halt - result.q_continue))


def test_cell_mode_has_an_action_for_every_digit_in_every_cell() -> None:
    made, observation = policy("cell", segments=1), seen("cell")
    hrm: HRM = made.features_extractor.hrm
    with torch.no_grad():
        result = hrm.segment(hrm.initial_carry(3), observation["answer"].flatten(1), torch.zeros(3))
        logits = made.get_distribution(observation).distribution.logits
    wanted = torch.cat([result.logits[..., 2:].flatten(1), result.q_halt[:, None]], 1)
    torch.testing.assert_close(logits, torch.log_softmax(wanted, 1))


def test_writable_tokens_name_the_symbols() -> None:
    env = gym.make("HRMMaze-v0", size=4, action_mode="cell")
    made = HRMPolicy(env.observation_space, env.action_space, lambda _: 1e-3, hrm=TINY, writable=(2, 5))
    assert made.symbols.tolist() == [2, 5]
    with pytest.raises(ValueError, match="expected 2 writable tokens"):
        HRMPolicy(env.observation_space, env.action_space, lambda _: 1e-3, hrm=TINY, writable=(2, 3, 5))


def test_only_the_last_segment_has_gradient() -> None:
    """One more segment in front changes the values, not the length of the graph."""
    made, observation = policy("answer", segments=4), seen("answer")
    values, log_prob, _ = made.evaluate_actions(observation, torch.ones(3, 17, dtype=torch.long))
    (values.sum() + log_prob.sum()).backward()
    for name, parameter in made.features_extractor.hrm.named_parameters():
        assert parameter.grad is not None, name


def test_equal_parameters_but_for_the_value() -> None:
    made = policy("answer")
    assert network_parameters(made) == HRM(TINY).parameter_count()
    own = sum(parameter.numel() for parameter in made.parameters())
    assert own == HRM(TINY).parameter_count() + TINY.embedding_dim + TINY.hidden_size + 1


def test_an_sb3_model_with_it_is_saved_and_loaded(tmp_path: Any) -> None:
    envs = make_sb3_vec("HRMSudokuMini-v0", 2, seed=0, action_mode="cell")
    model = PPO(HRMPolicy, envs, policy_kwargs={"hrm": TINY, "segments": 1}, **SMALL)
    model.save(tmp_path / "model.zip")
    again = PPO.load(tmp_path / "model.zip", device="cpu")
    observation = envs.reset()
    np.testing.assert_array_equal(
        model.predict(observation, deterministic=True)[0], again.predict(observation, deterministic=True)[0]
    )
    made = model.policy
    made.save(str(tmp_path / "policy.pth"))
    assert HRMPolicy.load(str(tmp_path / "policy.pth"), device="cpu").features_extractor.segments == 1


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="expected segments of at least 1, got 0"):
        policy("cell", segments=0)
    env = gym.make("HRMMaze-v0", size=5, action_mode="move")
    with pytest.raises(ValueError, match="expected the actions of cell or answer mode on 25 cells"):
        HRMPolicy(env.observation_space, env.action_space, lambda _: 1e-3, hrm=replace(TINY, grid=(5, 5)))
    sudoku = gym.make("HRMSudokuMini-v0", action_mode="cell")
    with pytest.raises(ValueError, match="expected an HRM"):
        HRMPolicy(sudoku.observation_space, sudoku.action_space, lambda _: 1e-3, hrm=replace(TINY, vocab_size=3))


def test_an_equivariant_policy_renames_its_actions_with_the_digits() -> None:
    env = gym.make("HRMSudokuMini-v0", action_mode="cell")
    symbols = {"mixer": "symbols", "symbols": 4, "box": (2, 2), "mlp_width": 16, "positions": "none"}
    hrm = replace(TINY, gradient="last_cycle", **symbols)
    torch.manual_seed(0)
    made = HRMPolicy(env.observation_space, env.action_space, lambda _: 1e-3, hrm=hrm, segments=1)
    torch.nn.init.normal_(made.value_net.layer.weight)
    names = torch.tensor([0, 1, 4, 5, 3, 2])
    observation = seen("cell")
    renamed = {name: names[tokens.long()] if tokens.ndim == 3 else tokens for name, tokens in observation.items()}
    with torch.no_grad():
        features, others = made.extract_features(observation), made.extract_features(renamed)
        logits, renamed_logits = made._logits(features), made._logits(others)
        torch.testing.assert_close(made.value_net(features), made.value_net(others))
    cells, renamed_cells = (given[:, :-1].view(3, 16, 4) for given in (logits, renamed_logits))
    torch.testing.assert_close(renamed_cells[..., names[2:] - 2], cells)
    torch.testing.assert_close(renamed_logits[:, -1], logits[:, -1])
