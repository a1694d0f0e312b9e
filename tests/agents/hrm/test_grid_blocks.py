"""Networks that know the shape of a board: what they are equivariant under, and what follows from it."""

from __future__ import annotations

import dataclasses

import gymnasium as gym
import pytest
import torch

import hrm_gym  # noqa: F401
from hrm_gym.agents.hrm import thinking
from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.feed import apply_symmetries, draw_symmetries
from hrm_gym.agents.hrm.halting import Never
from hrm_gym.agents.hrm.images import Turns, answers_back, images_of, known_keys
from hrm_gym.agents.hrm.inference.vote import VotingAgent
from hrm_gym.agents.hrm.model import HRM, Carry, Segment

NINE = HRMConfig(
    vocab_size=11, grid=(9, 9), hidden_size=16, h_layers=1, l_layers=1, mixer="symbols", symbols=9, box=(3, 3),
    mlp_width=24, positions="none", gradient="last_cycle", halting="bce", dtype="float32",
)  # fmt: skip
FOUR = dataclasses.replace(NINE, vocab_size=6, grid=(4, 4), symbols=4, box=(2, 2))
SIX = dataclasses.replace(NINE, vocab_size=8, grid=(6, 6), symbols=6, box=(2, 3))
MAZE = HRMConfig(
    vocab_size=6, grid=(7, 7), hidden_size=16, h_layers=1, l_layers=1, mixer="convolution", mlp_width=24,
    positions="none", gradient="last_cycle", halting="bce", dtype="float32",
)  # fmt: skip
ARC = HRMConfig(
    vocab_size=12, grid=(12, 12), hidden_size=16, heads=2, h_layers=1, l_layers=1, mixer="colours", symbols=10,
    mlp_width=24, positions="learned_rope2d", gradient="last_cycle", halting="bce", dtype="float32", puzzle_count=3,
)  # fmt: skip
WORLDS = [
    pytest.param("HRMSudoku-v0", {}, NINE, id="9x9"),
    pytest.param("HRMSudokuMini-v0", {}, FOUR, id="4x4"),
    pytest.param("HRMSudokuMini-v0", {"box": (2, 3)}, SIX, id="6x6"),
]


def network(config: HRMConfig) -> HRM:
    torch.manual_seed(1)
    model = HRM(config)
    torch.nn.init.normal_(model.q_head.weight)
    return model


def after(model: HRM, boards: torch.Tensor, segments: int = 2) -> Segment:
    carry, ids = model.initial_carry(len(boards)), torch.zeros(len(boards), dtype=torch.int32)
    with torch.no_grad():
        for _ in range(segments):
            result = model.segment(carry, boards, ids)
            carry = result.carry
    return result


def puzzles(env_id: str, arguments: dict, count: int = 4) -> torch.Tensor:
    env = gym.make(env_id, **arguments)
    boards = [env.reset(seed=seed)[0]["puzzle"] for seed in range(count)]
    return torch.stack([torch.from_numpy(board).flatten().int() for board in boards])


@pytest.mark.parametrize(("env_id", "arguments", "config"), WORLDS)
def test_a_symmetric_puzzle_gets_the_symmetric_answer(env_id: str, arguments: dict, config: HRMConfig) -> None:
    family = gym.make(env_id, **arguments).unwrapped.family
    boards, model = puzzles(env_id, arguments), network(config)
    images = draw_symmetries(family, config.grid, [11, 12, 13, 14])
    found, turned = after(model, boards), after(model, apply_symmetries(images, boards))
    cells = found.logits.gather(1, images.cells[..., None].expand_as(found.logits))
    expected = torch.empty_like(cells).scatter_(2, images.tokens[:, None].expand_as(cells), cells)
    assert (expected - turned.logits).abs().max() < 1e-4
    assert (found.q_halt - turned.q_halt).abs().max() < 1e-4
    assert (found.logits - turned.logits).abs().max() > 0.1, "the images should differ, or this shows nothing"


def test_answers_are_made_of_symbols_alone() -> None:
    logits = after(network(NINE), puzzles("HRMSudoku-v0", {})).logits
    assert logits.shape == (4, 81, 11)
    assert (logits.argmax(-1) >= 2).all()
    assert torch.isfinite(torch.log_softmax(logits, -1)).all()


def test_exchanged_colours_exchange_the_answer() -> None:
    """If the task's vectors of the colours are exchanged too."""
    model, boards = network(ARC), puzzles("HRMARCMini-v0", {"split": "evaluation"})
    vectors = torch.randn((4, 11, 16), generator=torch.Generator().manual_seed(3))
    order = torch.tensor([3, 0, 9, 1, 2, 7, 8, 4, 5, 6])  # colour c becomes order[c]
    renamed = torch.cat((torch.tensor([0, 1]), order + 2))
    exchanged = vectors.clone()
    exchanged[:, order] = vectors[:, :10]

    def logits(inputs: torch.Tensor, tasks: torch.Tensor) -> Segment:
        with torch.no_grad():
            first = model.run(model.initial_carry(4), inputs, tasks.flatten(1))
            return model.run(first.carry, inputs, tasks.flatten(1))

    found, images = logits(boards, vectors), logits(renamed[boards.long()].int(), exchanged)
    assert (images.logits[..., renamed] - found.logits).abs().max() < 1e-4
    assert (images.q_halt - found.q_halt).abs().max() < 1e-4
    assert (images.logits - found.logits).abs().max() > 0.1, "the images should differ, or this shows nothing"
    assert (found.logits.argmax(-1) >= 1).all(), "an answer has ends and colours"
    assert (logits(boards, 0 * vectors).logits - found.logits).abs().max() > 0.1, "the task should matter"


def test_a_colour_is_thought_about_alike_wherever_its_neighbourhood_lies() -> None:
    """Without positions and attention, a pattern that is moved moves what is thought of it."""
    model = network(dataclasses.replace(ARC, positions="none"))
    block = model.l_level.blocks[0]
    torch.nn.init.zeros_(block.what.weight)
    state = torch.zeros(1, 12, 12, 10, 16)
    moved = state.clone()
    state[:, 3:6, 3:6], moved[:, 5:8, 4:7] = (torch.randn(1, 3, 3, 10, 16),) * 2
    with torch.no_grad():
        one, two = (block(x.view(1, -1, 16), None).view(12, 12, 10, 16) for x in (state, moved))
    assert torch.allclose(one[2:7, 2:7], two[4:9, 3:8], atol=1e-5)


@pytest.mark.parametrize("config", [NINE, MAZE])
def test_every_parameter_gets_a_gradient(config: HRMConfig) -> None:
    model = network(config)
    boards = torch.randint(1, config.vocab_size, (2, config.cells), generator=torch.Generator().manual_seed(0))
    result = model.segment(model.initial_carry(2), boards, torch.zeros(2, dtype=torch.int32))
    (result.logits[..., 2:].square().sum() + result.q_halt.sum()).backward()
    idle = [name for name, p in model.named_parameters() if p.numel() and (p.grad is None or not p.grad.any())]
    assert idle == []


def test_a_neighbourhood_is_the_same_everywhere() -> None:
    """A maze in the corner of a wide network is thought about as in a network of another size, away from the edges."""
    small, wide = network(MAZE), network(dataclasses.replace(MAZE, grid=(12, 12)))
    assert small.state_dict().keys() == wide.state_dict().keys()
    wide.load_state_dict(small.state_dict())
    shifted = torch.zeros((1, 12, 12), dtype=torch.int32)
    board = torch.randint(1, 6, (1, 5, 5), generator=torch.Generator().manual_seed(2), dtype=torch.int32)
    first, second = shifted.clone(), shifted.clone()
    first[:, 2:7, 2:7], second[:, 4:9, 5:10] = board, board
    with torch.no_grad():
        wide.l_level.blocks[0].board.weight.zero_()  # the mean of the board sees the edges
        one, two = (
            wide.l_level(wide.embed(b.flatten(1), wide.puzzles[:1]), torch.zeros(()), None).view(12, 12, -1)
            for b in (first, second)
        )
    assert torch.allclose(one[2:7, 2:7], two[4:9, 5:10], atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"symbols": 8}, "one symbol a column"),
        ({"grid": (9, 8)}, "square grid"),
        ({"box": None}, "box"),
        ({"box": (2, 3)}, "box"),
        ({"vocab_size": 9}, "fewer than token ids"),
        ({"mlp_width": 0}, "mlp_width"),
    ],
)
def test_a_config_that_does_not_fit_together_is_refused(changes: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(NINE, **changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"symbols": 11}, "mixer 'colours' expects"),
        ({"symbols": 0}, "got 0 symbols"),
        ({"hidden_size": 18}, "multiple of 8"),
    ],
)
def test_a_network_of_colours_that_does_not_fit_together_is_refused(changes: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(ARC, **changes)


def test_weights_for_boards_of_any_size_make_an_agent_for_another_one() -> None:
    model = network(MAZE)
    wide = model.on_grid((9, 9))
    assert wide.config.grid == (9, 9)
    assert all(torch.equal(value, wide.state_dict()[name]) for name, value in model.state_dict().items())
    assert model.on_grid((7, 7)) is model
    with pytest.raises(ValueError, match=r"expected a board of \(9, 9\)"):
        network(NINE).on_grid((4, 4))


def agent_for(config: HRMConfig, **settings: object) -> HRMAgent:
    env = gym.make("HRMSudokuMini-v0")
    return HRMAgent(network(config), env.unwrapped.family, halting="never", device="cpu", **settings)


def test_starts_differ_and_are_always_the_same() -> None:
    model = network(FOUR)
    assert torch.equal(model.start(0).z_h, model.initial_carry(1).z_h[0])
    assert torch.equal(model.start(3).z_l, model.start(3).z_l)
    assert not torch.equal(model.start(3).z_l, model.start(4).z_l)
    numbers, rows = torch.tensor([0, 3, 4, 3]), torch.tensor([True, True, False, True])
    carry = model.reset_rows(Carry(*(state + 7 for state in model.initial_carry(4))), rows, numbers)
    for row, number in enumerate(numbers.tolist()):
        expected = model.start(number).z_h if rows[row] else model.initial_carry(1).z_h[0] + 7
        assert torch.equal(carry.z_h[row], expected)


def test_a_thought_begins_anew_from_another_start() -> None:
    agent = agent_for(FOUR, restart=3, max_segments=8)
    boards = agent.boards(puzzles("HRMSudokuMini-v0", {}).numpy().astype("uint8").reshape(4, 4, 4))
    *_, (_, state) = agent.think(boards, rules=dataclasses.replace(agent.rules, rule=Never()))
    model, ids = agent.model, torch.zeros(4, dtype=torch.int32)
    carry = Carry(*(state.expand(4, -1, -1) for state in model.start(2)))
    with torch.no_grad():
        for _ in range(2):  # segments 7 and 8
            result = model.segment(carry, boards.inputs, ids)
            carry = result.carry
    assert torch.equal(state.carry.z_h, carry.z_h)


PLACES = HRMConfig(vocab_size=6, grid=(4, 4), hidden_size=16, heads=2, h_layers=1, l_layers=1, dtype="float32")
"""A network that knows places and digits apart: attention, for 4x4 Sudoku."""


@pytest.mark.parametrize(
    ("env_id", "arguments", "config"),
    [("HRMMaze-v0", {"size": 7}, MAZE), ("HRMSudokuMini-v0", {}, PLACES)],
    ids=["maze", "sudoku"],
)
def test_a_network_that_tells_images_apart_begins_anew_on_another_one(env_id, arguments, config) -> None:
    side, every = config.grid[0], 3
    agent = HRMAgent(network(config), gym.make(env_id, **arguments).unwrapped.family, restart=every, max_segments=99)
    shown = puzzles(env_id, arguments).numpy().astype("uint8").reshape(-1, side, side)
    keys = known_keys(agent.family, config.grid, 7)
    images = images_of(agent.family, shown, keys)
    steps = agent.think(agent.boards(shown), rules=dataclasses.replace(agent.rules, rule=Never()))
    other = "0.50" if config.halting == "bce" else "Q(continue) 0.90"
    for segment in range(every * (len(keys) + 1)):
        state = next(steps).state
        restarted = segment and segment % every == 0
        expected = (
            f"restart {segment // every}, from another image" if restarted else f"Q(halt) 0.10 < {other}: continues"
        )
        assert agent.rules.reason(int(state.outcome[0]), 0.1, 0.9, segment + 1) == expected
        if segment % every == 0:  # the first thought of an attempt: that of the image, brought back
            image = segment // every
            seen = torch.from_numpy(images[:, image].reshape(len(shown), -1).astype("int32"))
            answers = thinking.read_answer(after(agent.model, seen, 1).logits)[0].numpy().reshape(-1, 1, side, side)
            there = answers_back(agent.family, answers.repeat(1 + len(keys), axis=1), keys)[:, image]
            assert (state.answers.numpy().reshape(there.shape) == there).all(), image
    state = next(steps).state  # all images were tried: now another start
    boards, begun = agent.boards(shown), Carry(*(state.expand(len(shown), -1, -1) for state in agent.model.start(1)))
    with torch.no_grad():
        expected = agent.model.segment(begun, boards.inputs, boards.puzzle_ids).carry
    assert torch.allclose(state.carry.z_h, expected.z_h, atol=1e-5)


def test_answers_and_doubts_are_brought_back_from_an_image() -> None:
    family = gym.make("HRMSudokuMini-v0").unwrapped.family
    turns = Turns(family, (4, 4), 6, torch.device("cpu"))
    boards, numbers = torch.randint(1, 6, (12, 16), generator=torch.Generator().manual_seed(0)), torch.arange(12) % 6
    logits = torch.nn.functional.one_hot(turns.images(boards, numbers), 6).float()
    assert torch.equal(turns.back(logits, numbers).argmax(-1), boards)
    assert torch.equal(turns.images(boards, numbers * 0), boards)


def test_an_ensemble_of_an_equivariant_network_thinks_differently_about_every_image() -> None:
    voting = VotingAgent([agent_for(FOUR, max_segments=2)], 3)
    puzzle = gym.make("HRMSudokuMini-v0").reset(seed=3)[0]
    _, state = voting.predict(puzzle)
    z_h = state.lanes[0].carry.z_h
    assert not torch.allclose(z_h[0].mean(0), z_h[1].mean(0), atol=1e-3)
    alone, numbers = voting.members[0], torch.tensor([1])
    boards = alone.boards(images_of(voting.family, puzzle["puzzle"][None], voting.keys)[0, 1:2])
    expected = next(alone.think(boards, numbers=numbers)).state
    assert torch.allclose(z_h[1], expected.carry.z_h[0], atol=1e-5)
