"""The baselines' network: shapes, what it can see, and the order of its logits."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hrm_gym
from hrm_gym.agents.sb3.agent import legal_actions
from hrm_gym.agents.sb3.networks import (
    ActionForm,
    CellHead,
    DuelingHead,
    GridFeatures,
    GridModel,
    SymbolFeatures,
    SymbolModel,
    line_means,
)

SUDOKU = GridModel(channels=8, iterations=3, kernel=1, lines=True, box=(2, 2))
gym.register_envs(hrm_gym)


def batch_of(env_id: str, count: int = 3, steps: int = 4, **arguments: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """A vector environment after a few random actions, and what it shows."""
    envs = gym.make_vec(env_id, num_envs=count, **arguments)
    observation, _ = envs.reset(seed=5)
    envs.action_space.seed(1)
    for _ in range(steps):
        observation = envs.step(envs.action_space.sample())[0]
    return envs, observation


def tensors(batch: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.as_tensor(array).float() for name, array in batch.items()}


@pytest.mark.parametrize(
    ("env_id", "arguments", "vocab", "model"),
    [
        ("HRMSudokuMini-v0", {"action_mode": "cell"}, 6, SUDOKU),
        ("HRMSudokuMini-v0", {"action_mode": "answer"}, 6, SUDOKU),
        ("HRMMaze-v0", {"action_mode": "cell", "size": 6}, 6, GridModel(channels=4)),
        ("HRMARCMini-v0", {"action_mode": "cell"}, 12, GridModel(channels=4, iterations=2)),
    ],
)
def test_a_logit_for_every_action(env_id: str, arguments: dict[str, Any], vocab: int, model: GridModel) -> None:
    envs, seen = batch_of(env_id, **arguments)
    features = GridFeatures(envs.single_observation_space, vocab, model)
    found = features(tensors(seen))
    assert found.shape == (3, features.features_dim)
    form = ActionForm.of(envs.single_action_space, features.height * features.width)
    space = envs.single_action_space
    actions = int(space.n) if isinstance(space, gym.spaces.Discrete) else int(space.nvec.sum())
    assert CellHead(model.channels, form, features.height * features.width)(found).shape == (3, actions)


def test_what_a_cell_shows_decides_its_own_logits() -> None:
    """Symbols of cell c stand at c * symbols: without lines and with a 1x1 kernel nothing else can reach them."""
    envs, seen = batch_of("HRMSudokuMini-v0", count=1, steps=0, action_mode="cell")
    features = GridFeatures(envs.single_observation_space, 6, GridModel(channels=4, iterations=2, kernel=1))
    head = CellHead(4, ActionForm.of(envs.single_action_space, 16), 16)
    before = head(features(tensors(seen)))
    changed = {**seen, "answer": seen["answer"].copy()}
    changed["answer"][0, 1, 2] = 5 if seen["answer"][0, 1, 2] != 5 else 4
    moved = (head(features(tensors(changed))) != before)[0, :-1].unflatten(0, (16, 4)).any(1)
    assert moved.nonzero().ravel().tolist() == [6]


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([(2, 2), (2, 3), (3, 3), (3, 2)]))
def test_lines_average_over_rows_columns_and_boxes(box: tuple[int, int]) -> None:
    size = box[0] * box[1]
    grid = torch.rand(size, size)
    row, column, inside = (means @ grid.flatten() for means in line_means((size, size), box))
    torch.testing.assert_close(row.view(size, size), grid.mean(1, keepdim=True).expand(size, size))
    torch.testing.assert_close(column.view(size, size), grid.mean(0, keepdim=True).expand(size, size))
    top, left = size - box[0], size - box[1]
    torch.testing.assert_close(inside[-1], grid[top:, left:].mean())


def test_the_network_commutes_with_the_symmetries_of_sudoku() -> None:
    """Lines know rows, columns and boxes by what is in them: shuffled bands and rows shuffle the states alike."""
    envs, seen = batch_of("HRMSudokuMini-v0", action_mode="cell")
    features = GridFeatures(envs.single_observation_space, 6, SUDOKU)
    order = [3, 2, 0, 1]
    turned = {name: array[:, order] if array.ndim == 3 else array for name, array in seen.items()}
    states = features(tensors(seen)).view(3, 4, 4, -1)
    torch.testing.assert_close(features(tensors(turned)).view(3, 4, 4, -1), states[:, order])


def by_symbol(env_id: str, vocab: int, **settings: Any) -> tuple[SymbolFeatures, CellHead, dict[str, np.ndarray]]:
    """A network with a state for every cell and symbol, its head, and boards in play."""
    envs, seen = batch_of(env_id, steps=12, action_mode="cell", legal_only=True)
    torch.manual_seed(0)
    features = SymbolFeatures(envs.single_observation_space, vocab, SymbolModel(**settings))
    cells = features.height * features.width
    return features, CellHead(features.model.channels, ActionForm.of(envs.single_action_space, cells), cells * 9), seen


def test_symbols_lines_and_boxes_are_all_alike_to_a_network_by_symbol() -> None:
    """Renamed digits, shuffled bands and a transposed board do the same to the logits."""
    features, head, seen = by_symbol("HRMSudoku-v0", 11, channels=8, layers=2)
    family = gym.make("HRMSudoku-v0").unwrapped.family  # type: ignore[attr-defined]
    cells, names = family.symmetry((9, 9), 7)
    turned = {name: names[seen[name].reshape(3, 81)[:, cells]].reshape(3, 9, 9) for name in ("puzzle", "answer")}
    logits = head(features(tensors(seen)))[:, :-1].view(3, 81, 9)
    images = head(features(tensors({**seen, **turned})))[:, :-1].view(3, 81, 9)
    places = torch.from_numpy(names[2:].astype(np.int64) - 2)
    torch.testing.assert_close(images[:, :, places], logits[:, cells])
    assert (images - logits).abs().max() > 1e-3, "the images should differ, or this shows nothing"


def test_a_network_by_symbol_tells_given_from_written() -> None:
    features, _, seen = by_symbol("HRMSudoku-v0", 11, channels=8)
    before = features(tensors(seen))
    assert not torch.equal(features(tensors({**seen, "puzzle": seen["answer"]})), before)


def test_a_maze_is_seen_from_corner_to_corner() -> None:
    space = gym.make("HRMMaze-v0", size=8, action_mode="cell").observation_space
    features = GridFeatures(space, 6, GridModel(channels=8))  # type: ignore[arg-type]
    board = torch.full((1, 8, 8), 2.0)
    seen = []
    for goal in ((7, 7), (7, 6)):
        maze = board.clone()
        maze[0, goal[0], goal[1]] = 4
        seen.append(features({"puzzle": maze, "answer": maze, "segment": torch.zeros(1, 1)}).view(64, -1)[0])
    assert not torch.equal(*seen)


def test_padding_pairs_of_arc_do_not_count() -> None:
    envs, seen = batch_of("HRMARCMini-v0", steps=0, action_mode="cell")
    features = GridFeatures(envs.single_observation_space, 12, GridModel(channels=4, iterations=1))
    before = features(tensors(seen))
    pairs = int(seen["pairs"].max())
    assert pairs < 10
    seen["demonstrations"][:, pairs:] = 7
    assert torch.equal(features(tensors(seen)), before)
    seen["demonstrations"][:, 0] = 7
    assert not torch.equal(features(tensors(seen)), before)


def test_dueling_advantages_have_mean_zero() -> None:
    form = ActionForm("cell", 4, 3, 1)
    head = DuelingHead(5, 6, form, states=4)
    features = torch.randn(2, 20)
    torch.testing.assert_close(head(features).mean(1), head.value(features)[:, 0])


def test_what_does_not_fit_is_refused() -> None:
    space = gym.make("HRMSudokuMini-v0").observation_space
    with pytest.raises(ValueError, match="expected boxes that tile 4x4 cells, got \\(3, 3\\)"):
        GridFeatures(space, 6, GridModel(lines=True, box=(3, 3)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected a board of 9x9 cells and 9 symbols"):
        SymbolFeatures(space, 6, SymbolModel())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected a state for each of 16 cells or 6 symbols, got 64"):
        CellHead(4, ActionForm("answer", 16, 6, 2), 64)
    with pytest.raises(ValueError, match="expected channels, layers"):
        SymbolModel(layers=0)
    with pytest.raises(ValueError, match="expected an odd kernel, got 2"):
        GridModel(kernel=2)
    with pytest.raises(ValueError, match="expected the actions of cell or answer mode on 16 cells"):
        ActionForm.of(gym.spaces.Discrete(4), 16)


@pytest.mark.parametrize("env_id", ["HRMSudokuMini-v0", "HRMMaze-v0", "HRMARCMini-v0"])
@pytest.mark.parametrize("mode", ["cell", "answer"])
def test_masks_from_observations_are_the_environments_own(env_id: str, mode: str) -> None:
    envs, seen = batch_of(env_id, action_mode=mode, autoreset_mode="SameStep")
    np.testing.assert_array_equal(legal_actions(envs.world.family, mode, seen), envs.action_masks())


def test_masks_of_walks_are_the_environments_own() -> None:
    envs, seen = batch_of("HRMMaze-v0", action_mode="move", autoreset_mode="SameStep", size=6)
    draw = np.random.default_rng(0)
    for _ in range(30):
        masks = envs.action_masks()
        np.testing.assert_array_equal(legal_actions(envs.world.family, "move", seen), masks)
        assert masks.any(axis=1).all()
        seen = envs.step(np.array([draw.choice(np.flatnonzero(mask)) for mask in masks]))[0]


def test_masks_obey_legal_only() -> None:
    envs, seen = batch_of("HRMSudokuMini-v0", action_mode="cell", legal_only=True, autoreset_mode="SameStep")
    np.testing.assert_array_equal(legal_actions(envs.world.family, "cell", seen), envs.action_masks())
