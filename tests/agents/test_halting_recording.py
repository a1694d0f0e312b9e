"""A bank is what the network really does, whatever becomes of the process that builds it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from fuzz.crash import killed_before

import hrm_gym
from hrm_gym.agents.halting import recording
from hrm_gym.agents.halting.recording import (
    BankBuild,
    World,
    agent_on,
    is_test,
    load_for,
    pooled,
    principal,
    puzzle_digest,
    record,
    summary,
)
from hrm_gym.agents.halting.rules import QHead, halting_segments, solved_at
from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.analysis.segments import joined, think_through
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.hub import Pretrained
from hrm_gym.agents.hrm.model import HRM
from hrm_gym.envs.halting.bank import BUNDLED, find_bank
from hrm_gym.envs.puzzle import Puzzle
from hrm_gym.evaluation.rollout import puzzle_for, rollout_batched

MODEL = HRMConfig(
    vocab_size=6, grid=(5, 5), hidden_size=16, heads=1, h_layers=1, l_layers=1, positions="rope2d", dtype="float32"
)
SEGMENTS = 4


@cache
def world(size: int = 5, split: str = "test") -> Any:
    return gym.make("HRMMaze-v0", size=size, source="generate", split=split, disable_env_checker=True).unwrapped


def network(**changes: Any) -> HRM:
    torch.manual_seed(0)
    model = HRM(HRMConfig(**{**MODEL.to_json(), **changes}))
    with torch.no_grad():
        model.q_head.weight.normal_(std=3)
        model.q_head.bias.zero_()
    return model


def agent(size: int = 5, **changes: Any) -> HRMAgent:
    found = Pretrained(network(**changes), {"family": "maze"}, None)
    return agent_on(found, world(size).family, (size, size), "cpu")


def mazes(count: int, size: int = 5) -> list[Any]:
    return [puzzle_for(world(size), 0, k) for k in range(count)]


def build(path: Path, puzzles: int = 40, sizes: Sequence[int] = (5, 6), **recipe: Any) -> BankBuild:
    worlds = [World(agent(size), lambda k, size=size: puzzle_for(world(size), 0, k), puzzles) for size in sizes]
    told = {
        "test_share": 0.4, "created": "today", "agent": "tiny", "env": "HRMMaze-v0", "worlds": list(map(str, sizes)),
        "unit": "cells", "weights": "0", "command": "none", **recipe,
    }  # fmt: skip
    return BankBuild(path, worlds, told, SEGMENTS, 16, 3)


def test_what_is_recorded_is_what_halting_rules_see() -> None:
    one, puzzles = agent(), mazes(12)
    found, seen = record(one, puzzles, SEGMENTS), joined(list(think_through(one, puzzles, SEGMENTS)))
    assert np.array_equal(found["solved"], seen.right)
    evidence = seen.evidence
    for name, expected in (("q_halt", evidence.q_halt), ("q_continue", evidence.q_continue)):
        assert np.array_equal(found[name], expected.clamp(-16, 16).numpy().astype(np.float16))
    assert evidence.mean is not None
    assert evidence.unchanged is not None
    probability = 1 / (1 + np.exp(-found["confidence_mean"].astype(np.float64)))
    assert probability == pytest.approx(evidence.mean.numpy(), abs=2e-3)
    free = np.stack([one.family.free(puzzle.clues) for puzzle in puzzles]).sum(axis=(1, 2))
    assert (found["changed"][:, 0] == 1).all()
    assert free.min() > 0
    assert (found["changed"][:, 1:][evidence.unchanged.numpy()[:, 1:] > 0] == 0).all()


def test_the_q_head_on_a_bank_halts_where_the_hrm_does(tmp_path: Path) -> None:
    work = build(tmp_path / "bank.npz", sizes=[5])
    list(work.run())
    work.finish()
    bank = find_bank(tmp_path / "bank.npz")
    env = gym.make("HRMMaze-v0", size=5, source="generate", split="test", max_segments=SEGMENTS)
    one = HRMAgent(network(), world().family, max_segments=SEGMENTS, device="cpu")
    played = sorted(rollout_batched(lambda: env, one, 40, 1, seed=0), key=lambda episode: episode.index)
    index = np.load(tmp_path / "bank.npz")["index"]
    segments = halting_segments(QHead(), bank)
    assert len(set(segments.tolist())) > 1
    for k, used, right in zip(index, segments, solved_at(bank, segments), strict=True):
        if k < len(played):
            assert (played[k].segments, played[k].solved) == (used, right)


def test_a_network_with_bce_has_no_q_continue() -> None:
    assert not record(agent(halting="bce"), mazes(3), 2)["q_continue"].any()


def test_the_state_is_pooled_over_the_cells_and_position_0() -> None:
    model = network()
    z = torch.randn(2, model.config.prefix + 25, 16)
    found = pooled(model, z)
    assert found.shape == (2, 32)
    assert torch.allclose(found[:, :16], z[:, 1:].mean(dim=1), atol=1e-6)
    assert torch.equal(found[:, 16:], z[:, 0])


def test_principal_components_are_uncorrelated_and_of_deviation_1() -> None:
    rng = np.random.default_rng(0)
    states = (rng.normal(size=(200, 3, 4)) @ rng.normal(size=(4, 6))).astype(np.float32)
    basis, centre = principal(states, 4)
    found = ((states - centre) @ basis.T).reshape(-1, 4)
    assert np.cov(found, rowvar=False) == pytest.approx(np.eye(4), abs=1e-3)
    assert summary(states, basis, centre).reshape(-1, 4) == pytest.approx(found, abs=5e-3)
    assert (np.take_along_axis(basis, np.abs(basis).argmax(axis=1)[:, None], axis=1) > 0).all()
    assert principal(states, 0)[0].shape == (0, 6)


def test_an_interrupted_build_ends_with_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = build(tmp_path / "whole.npz")
    assert list(whole.run()) == list(range(1, whole.total + 1))
    whole.finish()
    thought = recording.record
    calls = []

    def tired(*args: Any) -> Any:
        calls.append(1)
        if len(calls) % 3 == 0:
            raise KeyboardInterrupt
        return thought(*args)

    monkeypatch.setattr(recording, "record", tired)
    while True:
        work = build(tmp_path / "parts.npz", created="later")
        assert work.resumed == bool(calls)
        try:
            list(work.run())
        except KeyboardInterrupt:
            continue
        break
    work.finish()
    assert len(calls) == whole.total + (len(calls) - 1) // 3, "nothing finished is computed again"
    assert not (tmp_path / "parts.npz.partial").exists()
    a, b = np.load(tmp_path / "whole.npz"), np.load(tmp_path / "parts.npz")
    assert a.files == b.files
    for name in set(a.files) - {"about"}:
        assert np.array_equal(a[name], b[name]), name
    assert str(b["about"]) == str(a["about"]).replace('"today"', '"later"')


def test_another_recipe_is_refused(tmp_path: Path) -> None:
    next(build(tmp_path / "bank.npz").run())
    with pytest.raises(ValueError, match="begun with another weights"):
        build(tmp_path / "bank.npz", weights="1")


def test_no_two_puzzles_are_images_of_each_other(tmp_path: Path) -> None:
    five, family = mazes(5), world().family

    def draw(k: int) -> Puzzle:
        clues, solution = family.image(np.stack([five[k % 5].clues, five[k % 5].solution]), k)
        return Puzzle(clues, solution)

    work = BankBuild(tmp_path / "bank.npz", [World(agent(), draw, 30)] * 2, {"test_share": 0.4}, 2, 16, 2)
    assert work.puzzles == 5
    assert work.total == 1


def test_symmetric_images_are_in_one_split() -> None:
    family = world().family
    for puzzle in mazes(10):
        images = [family.image(puzzle.clues[None], key)[0] for key in range(8)]
        twins = [type(puzzle)(image, image) for image in images]
        assert {puzzle_digest(family, twin) for twin in twins} == {puzzle_digest(family, puzzle)}
    assert np.mean([is_test(family, puzzle, 0.4) for puzzle in mazes(300)]) == pytest.approx(0.4, abs=0.1)


def test_weights_that_do_not_fit_are_named() -> None:
    family = world().family
    with pytest.raises(ValueError, match="tied"):
        agent_on(Pretrained(network(positions="learned"), {"family": "maze"}, None), family, (6, 6))
    sudoku = gym.make("HRMSudokuMini-v0").unwrapped
    folder, name = load_for(family, (12, 12), None)
    assert name.startswith("hrm-maze")
    assert folder.about["family"] == "maze"
    with pytest.raises(ValueError, match="are for maze, the puzzles are sudoku"):
        load_for(sudoku.family, (4, 4), hrm_gym.agents.pretrained.FOLDER / name)  # type: ignore[attr-defined]


def test_the_bundled_bank_holds_the_puzzles_it_names() -> None:
    bank, stored = find_bank(None), np.load(BUNDLED)
    about = bank.about
    for row in range(0, len(bank), len(bank) // 12):
        size = int(about["worlds"][bank.world[row]].split("size=")[1].split(",")[0])
        puzzle = puzzle_for(world(size, about["split"]), about["seed"], int(stored["index"][row]))
        assert is_test(world(size).family, puzzle, about["test_share"]) == bank.test[row]
        assert world(size).family.difficulty(puzzle) == bank.difficulty[row]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_bank_killed_anywhere_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes share what was recorded here: PyTorch's threads do not survive a fork."""
    parts: dict[bytes, Any] = {}
    thought = recording.record
    monkeypatch.setattr(recording, "record", lambda a, p, s: parts.setdefault(p[0].clues.tobytes(), thought(a, p, s)))

    def make(path: Path) -> BankBuild:
        work = build(path, sizes=[5])
        list(work.run())
        work.finish()
        return work

    make(tmp_path / "bank.npz")
    wanted = {name: array.tobytes() for name, array in np.load(tmp_path / "bank.npz").items()}
    monkeypatch.setattr(recording, "record", lambda a, p, s: parts[p[0].clues.tobytes()])
    for nth in count(1):
        root = tmp_path / str(nth)
        root.mkdir()
        killed = killed_before(nth, lambda root=root: make(root / "bank.npz"))
        make(root / "bank.npz")
        assert {name: array.tobytes() for name, array in np.load(root / "bank.npz").items()} == wanted
        assert [path.name for path in root.iterdir()] == ["bank.npz"], f"killed before change {nth}"
        if not killed:
            break


def test_a_damaged_block_is_made_again(tmp_path: Path) -> None:
    work = build(tmp_path / "bank.npz", sizes=[5])
    list(work.run())
    block = work.place / "block-000001.npz"
    content = block.read_bytes()
    block.write_bytes(content[: len(content) // 2])
    work = build(tmp_path / "bank.npz", sizes=[5])
    list(work.run())
    work.finish()
    assert len(find_bank(tmp_path / "bank.npz")) == 40
