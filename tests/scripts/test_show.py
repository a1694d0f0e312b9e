"""The window in which agents are watched, driven by posted events under a display that nobody sees."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pygame
import pytest

import hrm_gym
from hrm_gym.envs.maze.tokens import GOAL, OPEN, PATH, START, WALL
from hrm_gym.envs.puzzle import Thought
from hrm_gym.envs.rendering.screen import MARGIN, Cells
from hrm_gym.scripts import show
from hrm_gym.scripts.show import Show


class Counting:
    """Gives the stored answer; halts after `length` segments. Its state is the number of segments."""

    action_mode = "answer"

    def __init__(self, length: int, name: str, wait: float = 0.0) -> None:
        self.length, self.name, self.max_segments, self.wait = length, name, 16, wait
        self.asked: list[tuple[int, np.ndarray]] = []

    def predict(self, observation: Any, state: Any, episode_start: Any, deterministic: bool = True) -> Any:
        time.sleep(self.wait)
        count = 1 if state is None else int(state[0]) + 1
        puzzle = observation["puzzle"]
        self.asked.append((count, puzzle[0]))
        self.count, self.answer = count, puzzle[0]
        return np.append(puzzle[0].ravel(), count >= self.length)[None].astype(np.int64), np.array([count])

    def thoughts(self) -> list[Thought]:
        return [Thought(self.answer, q_halt=self.count / 10, segment=self.count)]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Show]]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    made: list[Show] = []

    def of(env_id: str, *agents: Any, **options: Any) -> Show:
        players = []
        for agent in agents:
            mode = getattr(agent, "action_mode", "answer")
            env = gym.make(env_id, render_mode="rgb_array", action_mode=mode, disable_env_checker=True)
            players.append((env, agent(env) if callable(agent) else agent))
        made.append(Show(players, 2, 5, **options))
        return made[-1]

    yield of
    for one in made:
        one._pool.shutdown()
        one.window.close()
    pygame.display.quit()


def key(code: int, letter: str = "") -> pygame.event.Event:
    return pygame.event.Event(pygame.KEYDOWN, key=code, unicode=letter)


def settle(window: Show, *codes: int) -> None:
    """Give keys, and let the worker finish what they ask for."""
    for code in codes:
        window.answer(key(code))
        for _ in range(20_000):
            window.work()
            if not window.thinking:
                break
            time.sleep(0.002)


def click(window: Show, code: int) -> None:
    deck = window._deck if window.draft is None else window._editing
    x, y = deck.place(code)
    window.answer(pygame.event.Event(pygame.MOUSEBUTTONDOWN, button=1, pos=(x, y + window._height)))
    window.work()


def test_steps_forwards_and_back_keep_all_agents_in_step(make: Callable[..., Show]) -> None:
    window = make("HRMSudokuMini-v0", Counting(2, "short"), Counting(4, "long"))
    settle(window, *[show.STEP] * 3)
    assert (window.place, window.rounds, window.over) == (3, 4, False)
    assert [len(seat.steps) for seat in window.seats] == [3, 4], "who has halted waits with the last moment"
    settle(window, show.BACK, show.BACK)
    assert window.place == 1
    assert [window._shown(seat).moment.used for seat in window.seats] == [1, 1]
    settle(window, show.STEP)
    assert (window.place, window.rounds) == (2, 4), "what was thought is not thought again"
    settle(window, *[show.STEP] * 5)
    assert window.over
    assert window.place == 4
    settle(window, show.REPLAY)
    assert (window.place, window.playing) == (0, True)


def test_buttons_do_what_their_keys_do(make: Callable[..., Show]) -> None:
    window = make("HRMSudokuMini-v0", Counting(3, "one"))
    click(window, show.PLAY)
    assert not window.playing
    click(window, show.FASTER)
    click(window, show.FASTER)
    click(window, show.SLOWER)
    assert window.speed == 2
    before = window.seats[0].steps[0].moment.puzzle
    click(window, show.NEXT)
    assert window.index == 1
    assert not np.array_equal(window.seats[0].steps[0].moment.puzzle.clues, before.clues)
    window.paint()
    click(window, show.QUIT)
    assert window.window.closed


def test_an_edited_puzzle_is_thought_on_from_where_it_was(make: Callable[..., Show]) -> None:
    thinker = Counting(6, "thinker")
    window = make("HRMSudokuMini-v0", thinker)
    settle(window, *[show.STEP] * 3)
    settle(window, show.BACK, show.EDIT)
    clues = window.seats[0].steps[0].moment.puzzle.clues
    row, column = np.argwhere(clues == 1)[0]
    right = window.seats[0].steps[0].moment.puzzle.solution[row, column]
    click(window, show._TOKEN + int(right))
    left, top, width, height = Cells.of(window.family, (4, 4)).rect(row, column)
    pos = (MARGIN + left + width // 2, MARGIN + top + height // 2)
    window.answer(pygame.event.Event(pygame.MOUSEBUTTONDOWN, button=1, pos=pos))
    window.paint()
    assert window.draft[row, column] == right
    settle(window, show.FROM_HERE, show.STEP)
    seat = window.seats[0]
    assert [step.moment.used for step in seat.steps] == [0, 1, 2, 3]
    assert thinker.asked[-1][0] == 3, "its state went on from segment 2"
    assert thinker.asked[-1][1][row, column] == right
    assert [thought.segment for thought in seat.steps[-1].moment.thoughts] == [1, 2, 3]


def test_typing_clearing_and_leaving_a_draft(make: Callable[..., Show]) -> None:
    window = make("HRMSudokuMini-v0", Counting(6, "thinker"))
    settle(window, show.EDIT)
    old = window.draft.copy()
    window.answer(key(pygame.K_DOWN))
    window.answer(key(pygame.K_4, "4"))
    assert window._cursor == (1, 0)
    assert window.draft[1, 0] == 5
    window.answer(key(pygame.K_BACKSPACE, "\b"))
    assert window.draft[1, 0] == 1
    settle(window, show.CLEAR)
    assert (window.draft == 1).all()
    settle(window, show.QUIT)
    assert window.draft is None
    assert np.array_equal(window.seats[0].steps[0].moment.puzzle.clues, old)
    assert not window.window.closed


def test_letters_of_buttons_write_nothing_into_a_draft_of_16x16(make: Callable[..., Show]) -> None:
    gym.register("Test/Large-v0", entry_point="hrm_gym.envs.sudoku.env:SudokuEnv", kwargs={"box": (4, 4)})
    window = make("Test/Large-v0", Counting(3, "a"))
    settle(window, show.EDIT)
    empty = window.family.clue_tokens[0]
    row, column = (int(place[0]) for place in np.nonzero(window.draft == empty))
    window._cursor = (row, column)
    click(window, show.CLEAR)
    assert (window.draft == empty).all()
    window.answer(key(pygame.K_c, "c"))
    assert window.family.symbols[window.draft[row, column]] == "C"


def test_a_puzzle_that_cannot_be_solved_is_told_and_thought_about(make: Callable[..., Show]) -> None:
    window = make("HRMSudokuMini-v0", Counting(3, "thinker"), lambda env: hrm_gym.make_agent("oracle", env))
    settle(window, show.EDIT, show.CLEAR, show.RESTART)
    assert "exactly one solution" in window._said
    settle(window, show.STEP)
    window.paint()
    assert (window.seats[0].steps[0].moment.puzzle.clues == 1).all()


def test_a_maze_keeps_one_start_and_one_goal(make: Callable[..., Show]) -> None:
    window = make("HRMMaze-v0", Counting(3, "thinker"))
    settle(window, show.EDIT, show.CLEAR)
    assert sorted(np.unique(window.draft)) == [OPEN, START, GOAL]
    free = np.argwhere(window.draft == OPEN)[0]
    moved = window.family.edited(window.draft, tuple(free), START)
    assert (moved == START).sum() == 1
    assert moved[tuple(free)] == START
    assert np.array_equal(window.family.edited(moved, tuple(free), WALL), moved), "no wall over the start"


def test_more_segments_while_it_thinks_and_after_it_was_cut_off(make: Callable[..., Show]) -> None:
    window = make("HRMSudokuMini-v0", Counting(99, "slow"))
    settle(window, *[show.STEP] * 17)
    assert window.over
    assert window.place == 16
    settle(window, show.MORE)
    assert not window.over
    settle(window, show.STEP)
    assert window.seats[0].steps[-1].moment.used == 17
    assert window.seats[0].steps[-1].moment.budget == 24
    assert window.seats[0].agent.max_segments == 24


def test_thinking_on_after_the_halt(make: Callable[..., Show]) -> None:
    window = make("HRMSudokuMini-v0", Counting(2, "thinker"))
    settle(window, *[show.STEP] * 3)
    assert window.over
    settle(window, show.ON, show.STEP)
    assert window.seats[0].steps[-1].moment.used == 3


def test_it_answers_while_an_agent_thinks(make: Callable[..., Show]) -> None:
    window = make("HRMSudokuMini-v0", Counting(3, "slow", wait=0.5))
    window.answer(key(show.STEP))
    window.answer(key(show.FASTER))
    window.paint()
    assert window.thinking
    assert window.speed == 2
    window.answer(key(show.NEXT))
    assert window.index == 0, "what would disturb the thought waits for its end"
    while window.thinking:
        window.work()
    assert window.index == 1


def test_the_loop_plays_waits_at_the_end_and_can_be_closed(make: Callable[..., Show]) -> None:
    window = make("HRMSudokuMini-v0", Counting(2, "one"), speed=16.0)
    end, real = time.monotonic() + 20, window.window.events

    def events(timeout: float) -> list[pygame.event.Event]:
        if (window.over and not window.playing) or time.monotonic() > end:
            pygame.event.post(pygame.event.Event(pygame.QUIT))
        return real(timeout)

    window.window.events = events  # type: ignore[method-assign]
    window.run()
    assert (window.place, window.playing, window.index) == (2, False, 0)


def test_errors_of_agents_are_not_swallowed(make: Callable[..., Show]) -> None:
    thinker = Counting(2, "bad")
    thinker.predict = lambda *_, **__: 1 / 0  # type: ignore[method-assign]
    window = make("HRMSudokuMini-v0", thinker)
    with pytest.raises(ZeroDivisionError):
        settle(window, show.STEP)


def test_an_hrm_thinks_on_exactly(make: Callable[..., Show]) -> None:
    """Back and on again without an edit is the same thought."""
    window = make("HRMSudokuMini-v0", lambda env: hrm_gym.make_agent("hrm", env, halting="never"))
    settle(window, *[show.STEP] * 4)
    once = window.seats[0].steps[-1].moment
    settle(window, show.BACK, show.BACK, show.EDIT, show.FROM_HERE, show.STEP, show.STEP)
    again = window.seats[0].steps[-1].moment
    assert once.used == again.used == 4
    assert np.array_equal(once.answer, again.answer)
    assert [thought.q_halt for thought in once.thoughts] == [thought.q_halt for thought in again.thoughts]


@pytest.mark.parametrize("name", ["oracle", "stored"])
def test_an_agent_that_had_ended_answers_the_edited_puzzle_in_the_same_round(
    make: Callable[..., Show], name: str
) -> None:
    window = make("HRMMaze-v0", Counting(9, "thinker"), lambda env: hrm_gym.make_agent(name, env))
    settle(window, *[show.STEP] * 3)
    settle(window, show.BACK, show.EDIT)
    old = window.draft
    assert old is not None
    on_the_way = np.argwhere(window.seats[1].steps[0].moment.puzzle.solution == PATH)[0]
    window.draft = window.family.edited(old, tuple(on_the_way.tolist()), GOAL)
    settle(window, show.FROM_HERE, show.STEP)
    thinker, keeper = window.seats
    assert len(keeper.steps) == len(thinker.steps) == 4
    for one, other in zip(thinker.steps, keeper.steps, strict=True):
        assert np.array_equal(one.moment.puzzle.clues, other.moment.puzzle.clues)
    assert keeper.steps[1].last
    assert keeper.steps[3].moment.solved
