"""Guesses after restarts: what is guessed, that no more is changed than that, and that pieces make the same whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_grid_blocks import FOUR, agent_for
from test_hrm_agent import model_that_halts_at_random

import hrm_gym
from hrm_gym.agents.hrm.agent import HRMAgent
from hrm_gym.agents.hrm.guessing import CERTAIN, CHOICES, add_guess
from hrm_gym.agents.hrm.halting import Fixed, Never
from hrm_gym.agents.hrm.thinking import AgentState, Boards, Rules, finish, think

RESTART, GUESS = 6, 2
BOARDS = 5


def puzzles(count: int) -> tuple[HRMAgent, Boards]:
    """A 4x4 network, and as many puzzles for it."""
    agent, env = agent_for(FOUR), gym.make("HRMSudokuMini-v0")
    clues = np.stack([env.reset(seed=seed)[0]["puzzle"] for seed in range(count)])
    return agent, agent.boards(clues)


def rules(limit: int, rule: Any = None, check: Any = None) -> Rules:
    return Rules(rule or Never(), limit, check, restart=RESTART, guess=GUESS)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), draw=st.integers(0, 2**40), cells=st.integers(1, 30))
def test_a_guess_is_a_likely_open_cell(seed: int, draw: int, cells: int) -> None:
    torch.manual_seed(seed)
    guesses = torch.randint(0, 4, (8, cells), dtype=torch.uint8) * (torch.rand(8, cells) < 0.3)
    answers = torch.randint(1, 9, (8, cells), dtype=torch.uint8)
    probability, free, rows = torch.rand(8, cells) * 1.2, torch.rand(8, cells) < 0.7, torch.rand(8) < 0.7
    draws = torch.arange(8) + draw
    found = add_guess(guesses, answers, probability, free, rows, draws)
    assert torch.equal(found, add_guess(guesses, answers, probability, free, rows, draws))
    for row in range(8):
        new = (found[row] != guesses[row]).nonzero()[:, 0].tolist()
        candidates = [c for c in range(cells) if free[row, c] and not guesses[row, c] and probability[row, c] < CERTAIN]
        best = sorted(candidates, key=lambda c: -float(probability[row, c]))[:CHOICES]
        assert len(new) == (1 if rows[row] and candidates else 0)
        assert set(new) <= set(best)
        assert all(found[row, c] == answers[row, c] for c in new)


def test_guesses_come_with_restarts_and_are_forgotten_with_the_next() -> None:
    agent, boards = puzzles(BOARDS)
    before: AgentState | None = None
    for step in think(agent.model, boards, rules(3 * RESTART)):
        state, segment = step.state, int(step.state.segments[0]) - 1
        attempt, since = divmod(segment, RESTART)
        made = (state.guesses > 0).sum(dim=1)
        assert (made <= (0 if attempt == 0 else 1 + since // GUESS)).all()
        assert not (state.guesses.bool() & ~boards.free).any(), "given cells are not guessed"
        if before is not None and since:
            kept = before.guesses > 0
            assert torch.equal(state.guesses[kept], before.guesses[kept]), "a guess stays until the next restart"
        if attempt == 1 and since == GUESS:
            assert (made == 2).all(), "no board guesses: the test shows nothing"
        before = state
    assert before is not None


def test_without_guesses_nothing_is_written() -> None:
    agent, boards = puzzles(2)
    for step in think(agent.model, boards, Rules(Never(), 9, restart=3)):
        assert not step.state.guesses.any()
        assert step.state.belief.shape[-1] == 0


def test_a_guess_is_what_the_network_is_shown() -> None:
    """A second attempt is another start on the puzzle with the guesses as clues."""
    agent, boards = puzzles(BOARDS)
    steps = [step.state for step in think(agent.model, boards, rules(RESTART + GUESS))]
    shown = torch.where(steps[-1].guesses > 0, steps[-1].guesses.int(), boards.inputs)
    again = list(
        think(agent.model, boards._replace(inputs=shown), Rules(Never(), GUESS), numbers=torch.ones(BOARDS).long())
    )
    assert torch.equal(again[-1].state.answers, steps[-1].answers)
    torch.testing.assert_close(again[-1].state.q_logits, steps[-1].q_logits)


def test_belief_is_the_mean_of_the_second_half_of_the_first_attempt() -> None:
    agent, boards = puzzles(3)
    wanted = []
    for step in think(agent.model, boards, rules(2 * RESTART)):
        if RESTART // 2 < int(step.state.segments[0]) <= RESTART:
            wanted.append(torch.softmax(agent.model.answer_logits(step.state.carry.z_h).float(), dim=-1))
    torch.testing.assert_close(step.state.belief, torch.stack(wanted).mean(dim=0))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(pattern=st.lists(st.integers(1, 15), min_size=BOARDS, max_size=BOARDS), every=st.integers(1, 5))
def test_pieces_and_companions_change_nothing(pattern: list[int], every: int) -> None:
    """Segment by segment, and whoever else is in the batch, a board comes to the same."""
    agent, boards = puzzles(BOARDS)
    number, asked = {row.numpy().tobytes(): k for k, row in enumerate(boards.inputs)}, torch.zeros(BOARDS)

    def check(inputs: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        places = [number[row.numpy().tobytes()] for row in inputs]
        asked[places] += 1
        return asked[places] >= torch.tensor(pattern)[places]

    found = finish(think(agent.model, boards, rules(14, Fixed(1), check), every=every))
    state: AgentState | None = None
    for segment in range(1, 15):
        state = next(think(agent.model, boards, rules(99), state)).state
        for row in (row for row in range(BOARDS) if min(pattern[row], 14) == segment):
            assert torch.equal(found[[row]].guesses, state[[row]].guesses)
            assert torch.equal(found[[row]].answers, state[[row]].answers)


def test_an_agent_guesses_in_every_mode_and_says_so() -> None:
    agent, _ = puzzles(1)
    member = HRMAgent(agent.model, agent.family, device="cpu", restart=2, guess=1, halting="never", max_segments=8)
    assert member.halting_rules == "limit alone + restarts every 2 with guesses every 1"
    env = gym.make("HRMSudokuMini-v0", max_segments=8)
    observation, _ = env.reset(seed=3)
    said, state = [], None
    for _ in range(6):
        action, state = member.predict(observation, state)
        observation = env.step(action)[0]
        assert member.thought is not None
        said.append((member.thought.reason, dict(member.thought.facts)["Guesses"]))
    assert said[2] == ("restart 1, with a guess", "1")
    assert [int(guesses) for _, guesses in said][:2] == [0, 0]
    cells = HRMAgent(
        agent.model, agent.family, "cell", device="cpu", restart=2, guess=1, halting="never", max_segments=8
    )
    cells.act(gym.make("HRMSudokuMini-v0", action_mode="cell").reset(seed=3)[0])
    assert cells.thought is not None
    assert dict(cells.thought.facts)["Guesses"] in "012"


def test_bad_guesses_are_refused() -> None:
    agent, _ = puzzles(1)
    for settings_ in ({"guess": 2}, {"guess": 9, "restart": 8}, {"guess": -1, "restart": 8}):
        with pytest.raises(ValueError, match="expected guess of 0, or of 1 to"):
            HRMAgent(agent.model, agent.family, device="cpu", **settings_)
    family: Any = gym.make("HRMMaze-v0", size=6).unwrapped
    with pytest.raises(ValueError, match="mixer 'symbols' for guesses"):
        HRMAgent(model_that_halts_at_random(), family.family, device="cpu", restart=4, guess=2)


def test_the_flag_reaches_the_agent_and_weights_remember_it(tmp_path: Path) -> None:
    agent, _ = puzzles(1)
    agent.about = {**(agent.about or {}), "restart": 8, "guess": 2}
    agent.save_pretrained(tmp_path / "model")
    env = gym.make("HRMSudokuMini-v0")
    own: Any = hrm_gym.make_agent("hrm", env, weights=tmp_path / "model", device="cpu")
    assert (own.restart, own.guess) == (8, 2)
    other: Any = hrm_gym.make_agent("hrm", env, weights=tmp_path / "model", device="cpu", guess=4)
    assert other.rules.guess == 4
