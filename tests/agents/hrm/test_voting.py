"""Voting and first-to-halt: what a network sees and says under symmetries comes back as answers to the puzzle."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from test_hrm_agent import make, model_that_halts_at_random
from tiny import TINY_MODEL

import hrm_gym
from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.images import distinct_keys, images_of
from hrm_gym.agents.hrm.inference.vote import (
    EnsembleAgent,
    FirstToHaltAgent,
    Votes,
    VotingAgent,
    cell_by_cell,
    count_votes,
    decide,
    decide_by_outline,
    first_different,
    of_usual_outline,
)
from hrm_gym.agents.hrm.model import HRM, Carry
from hrm_gym.envs.arc import tokens
from hrm_gym.evaluation.rollout import rollout, rollout_batched

hrm_gym.register_environments()
Answer = Callable[[int, np.ndarray], tuple[np.ndarray, bool]]


class Scripted(HRM):
    """A network that says what a function says: (segment, what it is shown) -> (answer, whether it wants to halt)."""

    def __init__(self, config: HRMConfig, answer: Answer) -> None:
        super().__init__(config)
        self.answer, self.rows = answer, 0

    def embed(self, tokens: torch.Tensor, puzzles: torch.Tensor) -> torch.Tensor:
        return tokens

    def updates(self, carry: Carry, x: torch.Tensor) -> Iterator[tuple[str, Carry]]:
        self.rows += len(x)
        segments = 1 + torch.where(carry.z_l[:, 0, 0] == self.l_init[0], 0, carry.z_h[:, 0, 0])
        said = [
            self.answer(int(n), board.numpy().astype(np.uint8).reshape(self.config.grid))
            for n, board in zip(segments, x, strict=True)
        ]
        self.said = torch.from_numpy(np.stack([grid.ravel() for grid, _ in said])).long()
        z_h = segments[:, None, None].expand(carry.z_h.shape).float().clone()
        z_h[:, 0, 1] = torch.tensor([1.0 if halts else -1.0 for _, halts in said])
        yield "h", Carry(z_h, torch.zeros_like(carry.z_l))

    def answer_logits(self, z_h: torch.Tensor) -> torch.Tensor:
        return 8.0 * torch.nn.functional.one_hot(self.said, self.config.vocab_size).float()

    def q_values(self, z_h: torch.Tensor, before: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return z_h[:, 0, 1], torch.zeros(len(z_h))


def scripted(env: Any, answer: Answer) -> HRMAgent:
    world = env.unwrapped
    config = HRMConfig(
        world.family.vocab_size, world.shape, hidden_size=8, heads=1, h_layers=1, l_layers=1, dtype="float32"
    )
    return HRMAgent(Scripted(config, answer), world.family, world.action_mode, world.max_segments, "cpu")


def sudoku(**kwargs: Any) -> Any:
    return gym.make("HRMSudoku-v0", disable_env_checker=True, **kwargs)


WORLDS: dict[str, Callable[..., Any]] = {"maze": make, "sudoku": sudoku}
every_world = pytest.mark.parametrize("world", WORLDS)


def solving(family: Any, right: Callable[[np.ndarray], bool]) -> Answer:
    """Says the solution of what it is shown where `right`, else a board that breaks the rules; halts at once."""

    def answer(segment: int, shown: np.ndarray) -> tuple[np.ndarray, bool]:
        solution = family.solve(shown)
        assert solution is not None, "an image of a puzzle must be a puzzle"
        return (solution if right(shown) else np.full_like(shown, family.vocab_size - 1)), True

    return answer


def some(shown: np.ndarray) -> bool:
    """True for about a third of all boards."""
    return int(shown.ravel().astype(np.int64) @ np.arange(shown.size)) % 3 == 0


@every_world
def test_votes_are_mapped_back(world: str) -> None:
    """Most images get a broken answer, the puzzle itself too; yet the valid answers win."""
    env = WORLDS[world]()
    family = env.unwrapped.family
    found = 0
    for seed in range(10):
        observation, _ = env.reset(seed=seed)
        own = observation["puzzle"]
        right = lambda shown, own=own: some(shown) and not np.array_equal(shown, own)  # noqa: E731
        ensemble = VotingAgent([scripted(env, solving(family, right))], 8)
        voters = [right(board) for board in images_of(family, own[None], ensemble.keys)[0]]
        info = env.step(ensemble.act(observation))[-1]
        assert info["solved"] == any(voters)
        found += any(voters)
        if any(voters):
            assert 0 < ensemble.thought.confidence.min() <= sum(voters) / 8  # type: ignore[union-attr]
    assert found >= 4, "too few puzzles had a right voter: the test shows nothing"


@every_world
def test_images_are_distinct_and_first_is_the_puzzle(world: str) -> None:
    env = WORLDS[world]()
    puzzle = env.reset(seed=1)[0]["puzzle"]
    ensemble = VotingAgent([scripted(env, solving(env.unwrapped.family, some))], 8)
    images = images_of(ensemble.family, puzzle[None], ensemble.keys)[0]
    assert np.array_equal(images[0], puzzle)
    assert len({image.tobytes() for image in images}) == 8


def test_there_are_only_eight_mazes() -> None:
    family = make().unwrapped.family
    assert len(distinct_keys(family, (5, 5), 7)) == 7
    with pytest.raises(ValueError, match=r"expected at most 8 images.*maze 5x5, got 9"):
        distinct_keys(family, (5, 5), 8)
    assert len(distinct_keys(family, (5, 6), 3)) == 3  # an oblong board has no quarter turns
    with pytest.raises(ValueError, match="at most 4 images"):
        distinct_keys(family, (5, 6), 4)


def board(*tokens: int) -> np.ndarray:
    return np.array([tokens], np.uint8)


def test_counting() -> None:
    a, b, c = board(1, 1), board(2, 2), board(3, 3)
    answers, even = np.stack([a, a, b, b, b, c]), np.full(6, 0.5, np.float32)
    every = np.zeros(6)
    assert [candidate.votes for candidate in count_votes(answers, every, even, even)] == [3, 2, 1]
    one_valid = np.array([np.inf, np.inf, np.inf, np.inf, np.inf, 7.0])
    assert count_votes(answers, one_valid, even, even)[0].answer.tolist() == c.tolist()
    shortest = np.array([5.0, 5.0, 7.0, 7.0, 7.0, 9.0])
    assert [candidate.answer[0, 0] for candidate in count_votes(answers, shortest, even, even)] == [1, 2, 3]
    two = answers[1:3]
    q = np.array([0.5, 0.6], np.float32)
    assert count_votes(two, every[:2], q, even[:2])[0].answer.tolist() == b.tolist()
    assert count_votes(two, every[:2], even[:2], q[::-1])[0].answer.tolist() == a.tolist()
    assert count_votes(two, every[:2], even[:2], even[:2])[0].answer.tolist() == a.tolist()


def test_the_first_that_differ() -> None:
    a, b = board(1), board(2)
    assert first_different([a, a, b, a], 2).ravel().tolist() == [1, 2]
    assert first_different([b, a, b], 2).ravel().tolist() == [2, 1]
    assert first_different([a, a], 3).ravel().tolist() == [1, 1, 1]


def votes_of(*answers: np.ndarray) -> Votes:
    """Of one board, all lanes equally sure."""
    even = np.full((1, len(answers)), 0.5, np.float32)
    segments = np.ones((1, len(answers)), np.int64)
    return Votes(np.stack(answers)[None], even, even, segments, segments > 0)


def placed(*grids: list[list[int]]) -> list[np.ndarray]:
    return [tokens.place(np.array(grid, np.uint8), 4) for grid in grids]


def test_the_size_of_a_grid_is_voted_on_before_its_cells() -> None:
    """The most voted answer is alone with its size; three others agree on another, and differ in a cell each."""
    family = gym.make("HRMARC-v0", split="train", canvas=4, disable_env_checker=True).unwrapped.family  # type: ignore[attr-defined]
    wide, one, two, three = placed([[5, 5, 5]], [[1, 3], [3, 3]], [[3, 1], [3, 3]], [[3, 3], [1, 3]])
    (between,) = placed([[3, 3], [3, 3]])
    votes, clues = votes_of(wide, wide, one, two, three), placed([[0]])[0][None]
    assert of_usual_outline(votes.answers[0]).tolist() == [False, False, True, True, True]
    assert np.array_equal(cell_by_cell(np.stack([one, two, three])), between)
    assert np.array_equal(decide(family, clues, votes).answers[0, 0], wide)
    found = decide_by_outline(family, clues, votes)
    assert np.array_equal(found.answers[0], [one, between])
    assert found.confidence[0, 0, 1] == np.float32(2 / 5), "the share of all lanes, whatever their size"
    both = decide_by_outline(family, np.repeat(clues, 2, 0), Votes(*(np.repeat(part, 2, 0) for part in votes)))
    assert np.array_equal(both.answers[1], found.answers[0])


def test_where_all_agree_both_attempts_are_the_same_and_others_fill_the_second() -> None:
    family = gym.make("HRMARC-v0", split="train", canvas=4, disable_env_checker=True).unwrapped.family  # type: ignore[attr-defined]
    one, wide = placed([[1, 3]], [[5, 5, 5]])
    clues = placed([[0]])[0][None]
    assert np.array_equal(decide_by_outline(family, clues, votes_of(one, one)).answers[0], [one, one])
    assert np.array_equal(decide_by_outline(family, clues, votes_of(one, one, wide)).answers[0], [one, wide])


def test_thoughts_that_halted_leave_the_batch_and_are_counted() -> None:
    """Image number n halts after n + 1 segments."""
    env = make()
    observation, _ = env.reset(seed=2)
    order: dict[bytes, int] = {}
    member = scripted(env, lambda segment, shown: (shown, segment > order[shown.tobytes()]))
    ensemble = VotingAgent([member], 4)
    order.update(
        {
            image.tobytes(): n
            for n, image in enumerate(images_of(ensemble.family, observation["puzzle"][None], ensemble.keys)[0])
        }
    )
    state, ended, rows = None, False, []
    while not ended:
        action, state = ensemble.predict(observation, state)
        observation, _, ended, _, info = env.step(action)
        rows.append(member.model.rows)
    assert info["segment"] == 4
    assert np.diff([0, *rows]).tolist() == [4, 3, 2, 1]
    assert ensemble.spent().tolist() == [10]
    assert ensemble.thought.segment == 10  # type: ignore[union-attr]


@pytest.mark.parametrize(("agree", "segments"), [(0, 4), (1, 1), (2, 3), (3, 4)])
def test_a_board_halts_when_enough_thoughts_agree(agree: int, segments: int) -> None:
    """Image number n halts after n + 1 segments; all but image 1, which draws no path, solve the maze."""
    env = make()
    family = env.unwrapped.family
    observation, _ = env.reset(seed=2)
    names: dict[bytes, int] = {}

    def answer(segment: int, shown: np.ndarray) -> tuple[np.ndarray, bool]:
        name = names[shown.tobytes()]
        return (shown if name == 1 else family.solve(shown)), segment > name

    ensemble = VotingAgent([scripted(env, answer)], 4, agree=agree)
    images = images_of(family, observation["puzzle"][None], ensemble.keys)[0]
    names.update({image.tobytes(): n for n, image in enumerate(images)})
    state, ended = None, False
    while not ended:
        action, state = ensemble.predict(observation, state)
        observation, _, ended, _, info = env.step(action)
    assert (info["segment"], info["solved"]) == (segments, True)
    assert ensemble.spent().tolist() == [sum(min(segments, n + 1) for n in range(4))]


def test_there_must_be_enough_thoughts_to_agree() -> None:
    member = scripted(make(), solving(make().unwrapped.family, some))
    with pytest.raises(ValueError, match=r"expected agree of 0 to 4.*got 5"):
        VotingAgent([member], 4, agree=5)


def test_the_first_to_halt_answers_and_stops_the_others() -> None:
    """Only image 2 halts, after two segments; it alone is right."""
    env = make()
    family = env.unwrapped.family
    observation, _ = env.reset(seed=2)
    names: dict[bytes, int] = {}

    def answer(segment: int, shown: np.ndarray) -> tuple[np.ndarray, bool]:
        chosen = names[shown.tobytes()] == 2
        return (family.solve(shown) if chosen else shown), chosen and segment == 2

    member = scripted(env, answer)
    ensemble = FirstToHaltAgent([member], 4)
    names.update(
        {
            image.tobytes(): n
            for n, image in enumerate(images_of(ensemble.family, observation["puzzle"][None], ensemble.keys)[0])
        }
    )
    observation, _, ended, *_ = env.step(ensemble.act(observation))
    assert not ended
    *_, ended, _, info = env.step(ensemble.act(observation))
    assert ended
    assert info["solved"]
    assert ensemble.spent().tolist() == [8]
    assert member.model.rows == 8


@pytest.mark.parametrize("mode", ["answer", "cell", "move"])
@pytest.mark.parametrize("kind", [VotingAgent, FirstToHaltAgent])
def test_batches_change_nothing(kind: type[EnsembleAgent], mode: str) -> None:
    """Two networks, four images; boards of a batch end at different times."""

    def ensemble() -> EnsembleAgent:
        world = make(mode).unwrapped
        members = []
        for shift in (0.0, 0.3):
            model = model_that_halts_at_random()
            with torch.no_grad():
                model.q_head.bias[0] += shift
            members.append(HRMAgent(model, world.family, mode, 6, "cpu"))
        return kind(members, 4)

    alone = list(rollout(make(mode), ensemble(), 8, seed=4))
    together = sorted(rollout_batched(lambda: make(mode), ensemble(), 8, 3, seed=4), key=lambda e: e.index)
    for a, b in zip(alone, together, strict=True):
        assert (a.segments, a.spent, a.solved, a.steps) == (b.segments, b.spent, b.solved, b.steps)
    assert len({episode.spent for episode in alone}) > 1, "all boards cost the same: the test shows nothing"


def test_two_attempts_at_arc_are_the_two_most_voted_grids() -> None:
    env = gym.make("HRMARCMini-v0", split="train", augment=False, disable_env_checker=True)
    family = env.unwrapped.family
    index = next(i for i in range(50) if env.unwrapped.puzzle_source[i].solution[0, 0] > 1)
    observation, _ = env.reset(options={"index": index})
    puzzle = env.unwrapped.puzzle
    wrong = puzzle.clues
    keys = distinct_keys(family, puzzle.shape, 4)
    solutions = [family.image(puzzle.solution[None], key)[0] for key in keys]
    said = {image[0].tobytes(): n for n, image in enumerate([family.image(puzzle.clues[None], key) for key in keys])}

    def answer(segment: int, shown: np.ndarray) -> tuple[np.ndarray, bool]:
        """Two of five say the solution, around which lies rubbish; three say that nothing is to be changed."""
        n = said.get(shown.tobytes())
        if n not in (0, 2):
            return shown, True
        solution = solutions[n].copy()
        solution[solution == 0] = 1
        return solution, True

    ensemble = VotingAgent([scripted(env, answer)], 5)
    first = ensemble.act(observation)
    assert np.array_equal(family.image(family.preimage(first[:-1].reshape(1, 12, 12).astype(np.uint8), 1), 1)[0], wrong)
    observation, _, ended, _, _ = env.step(first)
    assert not ended
    assert observation["attempt"] == 1
    *_, info = env.step(ensemble.act(observation))
    assert info["solved"]


def test_networks_for_different_boards_are_refused() -> None:
    small, large = make(), gym.make("HRMMaze-v0", size=6)
    members = [scripted(env, lambda segment, shown: (shown, True)) for env in (small, large)]
    with pytest.raises(ValueError, match="same boards"):
        VotingAgent(members)
    with pytest.raises(ValueError, match="at least one network and one image, got 0 and 1"):
        VotingAgent([])


def test_several_checkpoints_in_one_text(tmp_path: Any) -> None:
    from hrm_gym.agents.checkpoint import write_folder
    from hrm_gym.agents.hrm.run_folder import write_model

    for name in "ab":
        model = HRM(TINY_MODEL)
        write_folder(
            tmp_path / name,
            lambda path, model=model: write_model(path, model.state_dict(), model.config, {"family": "maze"}),
        )
    ensemble: Any = hrm_gym.make_agent("hrm-first", make(), weights=f"{tmp_path / 'a'}+{tmp_path / 'b'}", images=3)
    assert len(ensemble.members) == 2
    assert ensemble.name == "hrm-first-6"


def test_images_with_an_embedding_of_their_own_keep_their_symmetry_and_their_row(tmp_path: Any) -> None:
    """A network whose recipe embeds 3 variants of each task votes over those, each with its own row."""
    import dataclasses

    from hrm_gym.agents.checkpoint import write_folder
    from hrm_gym.agents.hrm.feed import embedded_variant_key
    from hrm_gym.agents.hrm.run_folder import write_model

    env = gym.make("HRMARCMini-v0", split="train", augment=False, canvas=5, disable_env_checker=True)
    config = dataclasses.replace(TINY_MODEL, vocab_size=12, positions="rope", puzzle_count=4 * 801)
    about = {"family": "arc", "recipe": {"embed_variants": True, "variants": 3, "seed": 7}}
    model = HRM(config)
    write_folder(tmp_path / "m", lambda path: write_model(path, model.state_dict(), config, about))
    observation, _ = env.reset(seed=0)
    ensemble: Any = hrm_gym.make_agent("hrm-vote", env, weights=tmp_path / "m", votes=4)
    assert ensemble.keys == tuple(embedded_variant_key(7, image) for image in (1, 2, 3))
    seen, boards = [], ensemble.members[0].boards
    ensemble.members[0].boards = lambda *a: seen.append(boards(*a)) or seen[-1]
    ensemble.predict(observation)
    task = int(observation["task"][0])
    assert task > 0
    assert seen[0].puzzle_ids.tolist() == [4 * task + image for image in range(4)]
    assert boards(observation["puzzle"][None], np.array([[900]])).puzzle_ids.tolist() == [0]
    assert boards(observation["puzzle"][None], observation["task"][None]).puzzle_ids.tolist() == [4 * task]
    with pytest.raises(ValueError, match="at most 4 images"):
        hrm_gym.make_agent("hrm-vote", env, weights=tmp_path / "m", votes=5)


def test_an_equivariant_network_looks_at_the_images_it_knows_again_from_other_starts(tmp_path: Any) -> None:
    from hrm_gym.agents.checkpoint import write_folder
    from hrm_gym.agents.hrm.feed import embedded_variant_key
    from hrm_gym.agents.hrm.run_folder import write_model

    env = gym.make("HRMARCMini-v0", split="train", augment=False, canvas=5, disable_env_checker=True)
    config = HRMConfig(
        vocab_size=12, grid=(5, 5), hidden_size=8, heads=1, h_layers=1, l_layers=1, mixer="colours", symbols=10,
        mlp_width=8, positions="none", gradient="last_cycle", halting="bce", puzzle_count=3 * 801, max_segments=2,
    )  # fmt: skip
    about = {"family": "arc", "recipe": {"embed_variants": True, "variants": 2, "seed": 7}}
    write_folder(tmp_path / "m", lambda path: write_model(path, HRM(config).state_dict(), config, about))
    observation, _ = env.reset(seed=0)
    ensemble: Any = hrm_gym.make_agent("hrm-vote", env, weights=tmp_path / "m", votes=5)
    first, second = (embedded_variant_key(7, image) for image in (1, 2))
    assert ensemble.keys == (first, second, None, first)
    seen, think = [], ensemble.members[0].think
    ensemble.members[0].think = lambda *a: seen.append(a) or think(*a)
    ensemble.predict(observation)
    boards, numbers = seen[0][0], seen[0][3]
    task = int(observation["task"][0])
    assert boards.puzzle_ids.tolist() == [3 * task, 3 * task + 1, 3 * task + 2, 3 * task, 3 * task + 1]
    assert torch.equal(boards.inputs[0], boards.inputs[3])
    assert torch.equal(boards.inputs[1], boards.inputs[4])
    assert numbers.tolist() == [0, 1, 2, 3, 4]
    assert all(np.array_equal(t.answer, ensemble.family.image(t.answer[None], 0)[0]) for t in ensemble.thoughts())


def test_nine_images_of_a_maze_are_eight_and_one_from_another_start() -> None:
    env = gym.make("HRMMaze-v0", size=5, disable_env_checker=True)
    config = HRMConfig(
        vocab_size=6, grid=(5, 5), hidden_size=8, heads=1, h_layers=1, l_layers=1, mixer="convolution", mlp_width=8,
        positions="none", gradient="last_cycle", halting="bce", dtype="float32",
    )  # fmt: skip
    member = HRMAgent(HRM(config), env.unwrapped.family, max_segments=1, device="cpu")
    ensemble = VotingAgent([member], 9)
    assert len(set(ensemble.keys)) == 8
    assert ensemble.keys[7] is None
    numbers: list[torch.Tensor] = []
    think = member.think
    member.think = lambda *given: numbers.append(given[3]) or think(*given)  # type: ignore[func-returns-value,method-assign]
    ensemble.predict(env.reset(seed=0)[0])
    assert numbers[0].tolist() == list(range(9))
    placed = dataclasses.replace(config, mixer="attention", positions="rope2d")
    bare = HRMAgent(HRM(placed), member.family, device="cpu")
    with pytest.raises(ValueError, match="at most 8 images"):
        VotingAgent([bare], 9)
