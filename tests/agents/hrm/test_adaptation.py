"""Test-time adaptation: a task is learnt from its demonstrations, answered, forgotten; the network stays as it was."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from tiny import TINY_MODEL

import hrm_gym
from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.images import distinct_keys
from hrm_gym.agents.hrm.inference.adapt import Adaptation, AdaptingAgent, adapt, examples_of, shifted_boards
from hrm_gym.agents.hrm.losses import IGNORE
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.agents.hrm.slots import Examples
from hrm_gym.evaluation.rollout import rollout_batched
from hrm_gym.scripts.options import PanelOptions

hrm_gym.register_environments()
SIDE = 4
plain = functools.partial(
    Adaptation, batch=4, whole=False, lr=1e-4, optimizer="adam_atan2", shift=False, known=False, snapshots=1
)
"""The paper's way, with the network as it is and one answer at the end."""
CONFIG = dataclasses.replace(TINY_MODEL, vocab_size=12, grid=(SIDE, SIDE), max_segments=2)


def task(number: int) -> dict[str, Any]:
    """Grids in one colour each, which lose a column and turn black; the colour of the test is new."""
    colours = np.random.default_rng(number).permutation(np.arange(1, 10))[:4]
    pairs = [{"input": [[int(c)] * 3] * 2, "output": [[0] * 2] * 2} for c in colours]
    return {"train": pairs[:3], "test": pairs[3:]}


@pytest.fixture
def env() -> Any:
    return gym.make("HRMARC-v0", split="train", canvas=SIDE, disable_env_checker=True)


def member(env: Any, **changes: Any) -> HRMAgent:
    torch.manual_seed(0)
    model = HRM(dataclasses.replace(CONFIG, **changes))
    return HRMAgent(model, env.unwrapped.family, env.unwrapped.action_mode, 2, "cpu")


def state_of(model: HRM) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def zeros(model: HRM, images: int = 3) -> torch.Tensor:
    return torch.zeros(images, model.config.embedding_dim)


def boards(env: Any, images: int = 3) -> Any:
    observation, _ = env.reset(options={"puzzle": task(0)})
    keys = distinct_keys(env.unwrapped.family, (SIDE, SIDE), images - 1)
    pairs = observation["demonstrations"][: int(observation["pairs"][0])]
    return examples_of(env.unwrapped.family, pairs, keys, torch.device("cpu"))


def test_examples_are_the_demonstrations_under_every_image(env: Any) -> None:
    found = boards(env)
    family = env.unwrapped.family
    key = distinct_keys(family, (SIDE, SIDE), 2)[1]
    shown, wanted = (env.unwrapped.puzzle.extras["demonstrations"][1:2, part] for part in (0, 1))
    row = 1 * 3 + 2  # demonstration 1, image 2
    assert found.puzzle_ids.tolist() == [0, 1, 2] * 3
    assert np.array_equal(found.inputs[row].numpy().reshape(SIDE, SIDE), family.image(shown, key)[0])
    labels = np.where(found.labels[row] == -100, 0, found.labels[row]).reshape(SIDE, SIDE)
    assert np.array_equal(labels, family.image(wanted, key)[0])
    assert (found.labels == -100).any()


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("halting", ["q_learning", "bce"])
def test_the_loss_falls_and_the_network_stays(env: Any, whole: bool, halting: Any) -> None:
    model = member(env, halting=halting).model
    before = state_of(model)
    settings = plain(updates=40, batch=9, puzzle_lr=0.05, whole=whole, lr=3e-3)
    (learnt,) = adapt(model, boards(env), zeros(model), settings)
    assert np.mean(learnt.losses[-10:]) < (0.75 if whole else 0.97) * np.mean(learnt.losses[:5])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert (learnt.model is model) != whole
    assert not any(parameter.requires_grad for parameter in learnt.model.parameters()), "it is done learning"
    assert learnt.vectors.abs().amin(dim=1).gt(0).all(), "every image has learnt a vector of its own"
    assert not torch.equal(learnt.vectors[0], learnt.vectors[1])


def test_muon_learns_too(env: Any) -> None:
    model = member(env).model
    settings = plain(updates=40, batch=9, whole=True, lr=3e-3, optimizer="muon")
    (learnt,) = adapt(model, boards(env), zeros(model), settings)
    (other,) = adapt(model, boards(env), zeros(model), dataclasses.replace(settings, optimizer="adam_atan2"))
    assert np.mean(learnt.losses[-10:]) < 0.75 * np.mean(learnt.losses[:5])
    assert learnt.losses[-1] != other.losses[-1]


def test_shifts_move_input_and_output_alike_and_lose_nothing(env: Any) -> None:
    family, given = env.unwrapped.family, boards(env)
    given = Examples(*(torch.cat([part] * 20) for part in given))
    shifted = shifted_boards(given, (SIDE, SIDE), torch.Generator().manual_seed(0))
    assert torch.equal(shifted.puzzle_ids, given.puzzle_ids)
    seen = set()
    for row in range(len(given.inputs)):
        corners, sizes = [], []
        for before, after in ((given.inputs[row], shifted.inputs[row]), (given.labels[row], shifted.labels[row])):
            old, new = (torch.where(part == IGNORE, 0, part).view(SIDE, SIDE).numpy() for part in (before, after))
            filled = np.argwhere(new >= 2)
            corners.append(tuple(filled.min(0)))
            sizes.append(filled.max(0) - filled.min(0) + 1)
            (top, left), (height, width) = corners[-1], sizes[-1]
            assert np.array_equal(new[top : top + height, left : left + width], old[:height, :width])
            assert (old[old >= 2] == new[new >= 2]).all()
            assert (old >= 2).sum() == (new >= 2).sum() == height * width
            assert (new == 1).sum() == height * (left + width < SIDE) + width * (top + height < SIDE), "framed by ends"
        assert corners[0] == corners[1]
        seen.add(corners[0])
    assert (0, 0) in seen, "some stay where test grids lie"
    assert len(seen) >= 3
    assert not (shifted.labels == 0).any(), "what lies around is not learnt"
    assert family.vocab_size > int(shifted.inputs.max())


def test_learning_with_shifts_is_the_same_each_time_and_another_one(env: Any) -> None:
    model, found = member(env).model, []
    for shift in (True, True, False):
        settings = plain(updates=5, whole=True, lr=1e-3, shift=shift)
        (learnt,) = adapt(model, boards(env), zeros(model), settings)
        found.append(learnt.vectors)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_task_never_seen_is_solved(env: Any) -> None:
    """Three demonstrations and their images teach an untrained network a task well enough for the test grid."""
    settings = plain(updates=40, batch=16, whole=True, lr=3e-3)
    agent = AdaptingAgent(member(env), 8, settings)
    observation, _ = env.reset(options={"puzzle": task(1)})
    ended, halts = False, 0
    while not ended:
        observation, _, ended, _, info = env.step(agent.act(observation))
        halts += 1
    assert info["solved"]
    assert halts <= 2
    assert agent.spent()[0] >= 40 * 16 + 8
    assert agent.thought is not None


def test_the_second_attempt_gives_another_answer_and_batches_change_nothing(
    env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = lambda: gym.make("HRMARC-v0", split="train", canvas=SIDE, disable_env_checker=True)  # noqa: E731
    runs = []
    for batch in (1, 3):
        agent = AdaptingAgent(member(env), 4, plain(updates=2))
        monkeypatch.setattr(agent, "most_boards", batch)
        runs.append(sorted(rollout_batched(make, agent, 4, batch, seed=3), key=lambda episode: episode.index))
    for alone, together in zip(*runs, strict=True):
        assert (alone.solved, alone.spent, alone.segments) == (together.solved, together.spent, together.segments)
        assert alone.cell_accuracy == together.cell_accuracy
    observation, _ = env.reset(seed=0)
    action, state = agent.predict(observation)
    second = {**observation, "attempt": np.ones(1, np.uint8)}
    again, _ = agent.predict(second, state, np.zeros(1, np.bool_))
    assert not np.array_equal(action, again)
    assert np.array_equal(again[:-1].reshape(SIDE, SIDE), state.answers[0, 1])


def test_a_rollout_learns_every_task_once(env: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make = lambda: gym.make("HRMARC-v0", split="train", canvas=SIDE, disable_env_checker=True)  # noqa: E731
    agent = AdaptingAgent(member(env), 2, plain(updates=1, batch=2))
    learnt: list[int] = []
    answer = agent._answer
    monkeypatch.setattr(agent, "_answer", lambda given: learnt.append(1) or answer(given))
    done = [len(learnt) for _ in rollout_batched(make, agent, 5, 3, seed=3)]
    assert done == [1, 2, 3, 4, 5]  # an episode ends as soon as its task is learnt, not when all are


def test_a_task_without_demonstrations_is_answered_all_the_same(env: Any) -> None:
    agent = AdaptingAgent(member(env), 2, plain(updates=5, snapshots=2))
    observation, _ = env.reset(options={"puzzle": {**task(0), "train": task(0)["train"][:1]}})
    agent.predict({**observation, "pairs": np.zeros(1, np.uint8)})
    assert agent.losses == []
    assert agent.spent()[0] <= 4


def test_by_name_with_settings(tmp_path: Path, env: Any) -> None:
    from hrm_gym.agents.checkpoint import write_folder
    from hrm_gym.agents.hrm.run_folder import write_model

    model = HRM(CONFIG)
    write_folder(tmp_path / "m", lambda path: write_model(path, model.state_dict(), CONFIG, {"family": "arc"}))
    agent: Any = hrm_gym.make_agent("hrm-adapt", env, weights=tmp_path / "m", votes=2, updates=3, whole=True)
    assert (agent.settings.updates, agent.settings.whole, agent.name) == (3, True, "hrm-adapt-2")
    with pytest.raises(ValueError, match="shows demonstrations"):
        hrm_gym.make_agent("hrm-adapt", gym.make("HRMMaze-v0"))
    with pytest.raises(ValueError, match="'demonstrations'"):
        agent.predict({"puzzle": np.ones((SIDE, SIDE), np.uint8)})


def test_the_options_of_commands_are_the_defaults() -> None:
    options = {field.name: field.default for field in dataclasses.fields(PanelOptions)}
    of = {"updates": "adapt"} | {
        name: f"adapt_{name}" for name in ("whole", "lr", "optimizer", "shift", "batch", "known", "snapshots")
    }
    assert {name: getattr(Adaptation(), name) for name in of} == {name: options[option] for name, option in of.items()}


def test_by_default_a_task_has_the_images_that_the_network_has_rows_for(env: Any) -> None:
    known = hrm_gym.make_agent("hrm-adapt", gym.make("HRMARCMini-v0"))
    assert (known.name, known.settings) == ("hrm-adapt-4", Adaptation())
    assert known.keys == known.member.task_rows.keys(3)
    assert known.halting_rules.endswith("adaptation 120 updates of all weights with shifts + votes 4 x 12")
    assert hrm_gym.make_agent("hrm-adapt", gym.make("HRMARCMini-v0"), known=False).name == "hrm-adapt-8"
    without_rows = AdaptingAgent(member(env))
    assert without_rows.keys == distinct_keys(without_rows.family, (SIDE, SIDE), 7)


@pytest.mark.parametrize(("updates", "answers"), [(0, 1), (9, 1), (10, 1), (25, 2), (120, 12)])
def test_by_default_it_answers_once_in_ten_updates(updates: int, answers: int) -> None:
    assert Adaptation(updates=updates).answers == answers


@pytest.mark.parametrize(("updates", "snapshots"), [(0, 1), (1, 1), (7, 1), (7, 3), (8, 4), (5, 5)])
def test_snapshots_lie_at_equal_distances_and_the_last_is_at_the_end(env: Any, updates: int, snapshots: int) -> None:
    model = member(env).model
    settings = plain(updates=updates, snapshots=snapshots)
    seen = [(len(one.losses), one.vectors.clone()) for one in adapt(model, boards(env), zeros(model), settings)]
    distance = updates // snapshots
    assert [count for count, _ in seen] == [updates - distance * k for k in reversed(range(snapshots))]
    for count, vectors in seen:  # to be asked on the way changes nothing
        *_, alone = adapt(model, boards(env), zeros(model), plain(updates=count))
        assert torch.equal(alone.vectors, vectors)


def test_the_answers_of_all_snapshots_vote(env: Any) -> None:
    observation, _ = env.reset(seed=0)
    agent = AdaptingAgent(member(env), 4, plain(updates=6, whole=True, snapshots=3))
    last = AdaptingAgent(member(env), 4, plain(updates=6, whole=True))
    for one in (agent, last):
        one.predict(observation)
    assert last.losses == agent.losses
    assert last.spent()[0] == 6 * 4 + 4 * 2
    assert agent.spent()[0] == 6 * 4 + 3 * 4 * 2
    assert agent.halting_rules.endswith("votes 4 x 3")
    assert agent.thought is not None
    assert ("Votes", "12") in agent.thought.facts


@pytest.mark.parametrize(
    "changes",
    [
        {"updates": -1},
        {"batch": 0},
        {"lr": 0.0},
        {"puzzle_lr": -1.0},
        {"snapshots": 0},
        {"updates": 4, "snapshots": 5},
        {"optimizer": "adam"},
    ],
)
def test_bad_settings(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Adaptation(**changes)


def test_nothing_to_learn_with(env: Any) -> None:
    model = member(env, puzzle_dim=0).model
    with pytest.raises(ValueError, match="puzzle embedding"):
        next(adapt(model, boards(env), zeros(model), plain(updates=1)))


def test_what_learns_is_compiled_on_demand(env: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[HRM] = []

    def note(model: HRM, compile: bool = False, dynamic: bool = True) -> HRM:
        compiled.extend([model] if compile else [])
        return model

    monkeypatch.setattr("hrm_gym.agents.hrm.inference.adapt.accelerate", note)
    for compile in (False, True):
        agent = AdaptingAgent(member(env), 2, plain(updates=1, batch=2, whole=True, compile=compile))
        agent.predict(env.reset(options={"puzzle": task(0)})[0])
    assert len(compiled) == 2
    assert compiled[0] is agent.member.model
    assert compiled[1] is not agent.member.model


def test_a_task_that_is_known_begins_with_its_rows() -> None:
    env = gym.make("HRMARCMini-v0", split="evaluation", disable_env_checker=True)
    agent: Any = hrm_gym.make_agent("hrm-adapt", env, votes=4, updates=0, known=True)
    observation, _ = env.reset(seed=0)
    begun: list[torch.Tensor] = []
    start = agent._start
    agent._start = lambda given: begun.append(start(given)) or begun[0]
    agent.predict(observation)
    task, model = int(observation["task"][0]), agent.member.model
    assert torch.equal(begun[0], model.puzzles[4 * task : 4 * task + 4])
    assert begun[0].abs().max() > 0
    alone: Any = hrm_gym.make_agent("hrm-adapt", env, votes=1, updates=0, known=True, max_segments=2)
    plain: Any = hrm_gym.make_agent("hrm", env, max_segments=2)
    alone.predict(observation)
    plain.predict({**observation, "segment": np.full(1, 0.5, np.float32)}, plain.predict(observation)[1])
    shown = plain.family.preimage(plain.thought.answer[None], 0)[0]  # the grid that is read off the board
    np.testing.assert_array_equal(alone.thought.answer, shown)
    with pytest.raises(ValueError, match="at most 4 images"):
        hrm_gym.make_agent("hrm-adapt", env, votes=5, known=True)
