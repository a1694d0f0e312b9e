"""Official ARC weights know tasks by name: every task and image finds its row, however environments number tasks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
import yaml
from official_reference import HRM, random_state

import hrm_gym
from hrm_gym.agents.hrm import HRMAgent
from hrm_gym.agents.hrm.images import images_of
from hrm_gym.agents.hrm.task_rows import IDENTIFIERS, NamedRows

NAMES = {"plain": "{task}_t{turn}_{colours}", "bars": "{task}|||t{turn}|||{colours}"}
"""How the two official builds of the data name an image: HRM's, and TRM's."""

Official = tuple[list[str], dict[int, tuple[str, int, np.ndarray]]]


def official_names(tasks: list[str], images: int, form: str) -> Official:
    """The names of all rows, and for each what it stands for, in an order that is not that of the tasks."""
    rng = np.random.default_rng(3)
    entries = [(task, 0, np.arange(10)) for task in tasks]
    entries += [(t, int(rng.integers(8)), np.r_[0, 1 + rng.permutation(9)]) for t in tasks for _ in range(images)]
    entries = [entries[place] for place in rng.permutation(len(entries))]
    names, meaning, plain = ["<blank>"], {}, set()
    for row, (task, turn, colours) in enumerate(entries, 1):
        as_it_is = task not in plain and turn == 0 and (colours == np.arange(10)).all()
        plain |= {task} if as_it_is else set()
        digits = "".join(map(str, colours))
        names.append(task if as_it_is else NAMES[form].format(task=task, turn=turn, colours=digits))
        meaning[row] = (task, turn, colours)
    return names, meaning


def official_turn(grid: np.ndarray, turn: int) -> np.ndarray:
    """The eight turns, as the official data number them, written down plainly."""
    if turn < 4:
        return np.rot90(grid, turn)
    return {4: grid[:, ::-1], 5: grid[::-1], 6: grid.T, 7: np.rot90(grid)[:, ::-1]}[turn]


@pytest.fixture(params=["plain", "bars"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Official]:
    """An official run for 12x12 boards, beside it the names of its rows: of every other evaluation task."""
    every = gym.make("HRMARCMini-v0", split="evaluation").unwrapped.puzzle_source.task_names
    official = official_names(list(every[400::2]), 3, request.param)
    arch = {**HRM, "vocab_size": 12, "seq_len": 144, "num_puzzle_identifiers": len(official[0])}
    torch.save(random_state(arch, prefix="_orig_mod.model.inner."), tmp_path / "step_9")
    (tmp_path / "all_config.yaml").write_text(yaml.dump({"arch": arch, "data_path": "data/arc-aug-1000"}))
    (tmp_path / IDENTIFIERS).write_text(json.dumps(official[0]))
    return tmp_path, official


def evaluation(**kwargs: object) -> gym.Env:
    return gym.make("HRMARCMini-v0", split="evaluation", **kwargs)


def test_every_task_finds_its_rows_and_its_images(run: tuple[Path, Official]) -> None:
    folder, (_, meaning) = run
    env = evaluation()
    panel = hrm_gym.make_agent("hrm-vote", env, weights=folder, votes=4, device="cpu")
    layout = panel.members[0].task_rows
    assert isinstance(layout, NamedRows)
    found = unknown = 0
    for index in range(40):
        observation, _ = env.reset(options={"index": index})
        task, side = int(observation["task"].item()), 12
        name = layout.tasks[task - 1]
        assert f"/{name}:" in env.unwrapped.puzzle_source[index].name
        rows = layout.rows(np.full(4, task), np.arange(4), 10**6)
        keys = layout.keys_of(panel.family, task, panel.images - 1) or panel.keys
        if not any(entry[0] == name for entry in meaning.values()):
            unknown += 1
            assert rows.tolist() == [0] * 4
            assert keys == panel.keys
            continue
        found += 1
        assert len(set(rows.tolist())) == 4
        images = images_of(panel.family, observation["puzzle"][None], keys)[0]
        shown = observation["puzzle"]
        height, width = (int((shown[:, 0] > 1).sum()), int((shown[0] > 1).sum()))
        for row, image in zip(rows.tolist(), images, strict=True):
            of, turn, colours = meaning[row]
            assert of == name
            grid = official_turn(colours[shown[:height, :width].astype(int) - 2], turn)
            expected = np.zeros((side + 1, side + 1), np.uint8)
            expected[: grid.shape[0], : grid.shape[1]] = grid + 2
            expected[grid.shape[0], : grid.shape[1]] = expected[: grid.shape[0], grid.shape[1]] = 1
            assert (image == expected[:side, :side]).all()
        assert (images[0] == shown).all()
    assert min(found, unknown) >= 5


def test_a_vote_thinks_with_the_row_of_every_image(run: tuple[Path, Official]) -> None:
    """The votes of a batch of tasks are the answers of the bare network to images made by hand, brought back."""
    folder, _ = run
    env = evaluation()
    panel = hrm_gym.make_agent("hrm-vote", env, weights=folder, votes=3, device="cpu", max_segments=1)
    observations = [env.reset(options={"index": index})[0] for index in range(6)]
    batch = {key: np.stack([one[key] for one in observations]) for key in observations[0]}
    _, mind = panel.predict(batch)
    member = panel.members[0]
    for board, one in enumerate(observations):
        keys = member.task_rows.keys_of(panel.family, int(one["task"].item()), panel.images - 1) or panel.keys
        images = images_of(panel.family, one["puzzle"][None], keys)[0]
        rows = member.task_rows.rows(np.full(3, int(one["task"].item())), np.arange(3), 10**6)
        tokens = torch.from_numpy(images.reshape(3, -1).astype(np.int32))
        with torch.no_grad():
            result = member.model.segment(member.model.initial_carry(3), tokens, torch.from_numpy(rows))
        mine = mind.lanes[0].carry.z_h[board * 3 : board * 3 + 3].float()
        assert torch.allclose(mine, result.carry.z_h.float(), atol=0.1)  # bfloat16, another size of batch


def test_adaptation_begins_with_the_rows_of_a_named_task(run: tuple[Path, Official]) -> None:
    folder, _ = run
    env = evaluation()
    settings = {"votes": 3, "updates": 0, "known": True, "device": "cpu", "max_segments": 1}
    agent = hrm_gym.make_agent("hrm-adapt", env, weights=folder, **settings)
    vote = hrm_gym.make_agent("hrm-vote", env, weights=folder, votes=3, device="cpu", max_segments=1)
    for index in range(6):
        observation, _ = env.reset(options={"index": index})
        layout = agent.member.task_rows
        if layout.keys_of(agent.family, int(observation["task"].item()), 2) is None:
            continue
        first, second = agent.predict(observation)[0], vote.predict(observation)[0]
        assert (first[:-1] == second[:-1]).mean() > 0.95  # bfloat16


def test_names_go_with_the_weights(run: tuple[Path, Official], tmp_path: Path) -> None:
    folder, _ = run
    agent = HRMAgent.from_pretrained(folder, device="cpu")
    assert agent.boards(np.ones((1, 12, 12), np.uint8), np.array([[3]])).puzzle_ids.tolist() == [0]  # no environment
    agent.save_pretrained(tmp_path / "saved")
    env = evaluation()
    again = HRMAgent.for_env(env, tmp_path / "saved", device="cpu")
    first = HRMAgent.for_env(env, folder, device="cpu")
    every = np.arange(1, 801)
    rows = [agent.task_rows.rows(every, np.zeros_like(every), 10**6).tolist() for agent in (first, again)]
    assert rows[0] == rows[1]
    assert len(set(rows[0])) == 201


def test_names_that_lie_with_the_data(run: tuple[Path, Official], tmp_path: Path) -> None:
    folder, _ = run
    (tmp_path / "arc-data").mkdir()
    shutil.move(folder / IDENTIFIERS, tmp_path / "arc-data" / IDENTIFIERS)
    settings = yaml.safe_load((folder / "all_config.yaml").read_text())
    settings["data_paths"] = [str(tmp_path / "arc-data")]
    del settings["data_path"]
    (folder / "all_config.yaml").write_text(yaml.dump(settings))
    agent = HRMAgent.for_env(evaluation(), folder, device="cpu")
    assert isinstance(agent.task_rows, NamedRows)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2]", "expected a JSON list of names"),
        ('{"a": 1}', "expected a JSON list of names, got dict"),
        ('["a"', "identifiers.json: expected JSON, got a text that is none"),
        ('["<blank>", "a"]', r"expected \d+ names, one for each row of the puzzle embedding, got 2"),
    ],
)
def test_bad_names(run: tuple[Path, Official], text: str, said: str) -> None:
    folder, _ = run
    (folder / IDENTIFIERS).write_text(text)
    with pytest.raises(ValueError, match=said):
        HRMAgent.from_pretrained(folder)


def test_names_that_are_no_images_are_tasks(tmp_path: Path) -> None:
    path = tmp_path / IDENTIFIERS
    path.write_text(json.dumps(["<blank>", "a_t3_x", "b_t1_0123456798", "b", "c_t9_0123456789"]))
    found = NamedRows.read(path, 5).images
    assert [(name, [image.row for image in images]) for name, images in found.items()] == [
        ("a_t3_x", [1]), ("b", [3, 2]), ("c_t9_0123456789", [4]),
    ]  # fmt: skip
