"""A person's hand: which events mean which actions, in every mode, without a window."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pygame
import pytest

import hrm_gym
from hrm_gym.envs.maze.tokens import OPEN, PATH
from hrm_gym.envs.rendering.player import Hand, PaintingHand, TypingHand, WalkingHand, make_hand
from hrm_gym.envs.rendering.screen import Cells

hrm_gym.register_environments()
ENTER = pygame.event.Event(pygame.KEYDOWN, key=pygame.K_RETURN, unicode="\r")
RELEASE = pygame.event.Event(pygame.MOUSEBUTTONUP, button=1, pos=(0, 0))


def key(code: int, letter: str = "") -> pygame.event.Event:
    return pygame.event.Event(pygame.KEYDOWN, key=code, unicode=letter)


def typed(letter: str) -> pygame.event.Event:
    return key(ord(letter), letter)


def place(env: gym.Env, cell: Any) -> tuple[int, int]:
    left, top, width, height = Cells.of(env.family, env.shape).rect(*cell)
    return 20 + left + width // 2, 20 + top + height // 2


def click(env: gym.Env, cell: Any, button: int = 1) -> pygame.event.Event:
    return pygame.event.Event(pygame.MOUSEBUTTONDOWN, button=button, pos=place(env, cell))


def drag(env: gym.Env, cell: Any) -> pygame.event.Event:
    return pygame.event.Event(pygame.MOUSEMOTION, pos=place(env, cell), rel=(1, 1), buttons=(1, 0, 0))


def start(env_id: str, mode: str, **options) -> tuple[gym.Env, Hand]:
    env = gym.make(env_id, action_mode=mode, render_mode="rgb_array", disable_env_checker=True, **options).unwrapped
    env.reset(seed=5)
    hand = make_hand(env.family, mode, env.puzzle)
    hand.begin(env.puzzle)
    return env, hand


def give(env: gym.Env, hand: Hand, *events: pygame.event.Event) -> list[tuple]:
    """Hand every action of the events to the environment."""
    return [env.step(action) for event in events for action in hand.actions(event, env._mode.shown)]


def painted(env: gym.Env, hand: Hand) -> bytes:
    picture = pygame.image.frombuffer(env.render().tobytes(), env.render().shape[1::-1], "RGB")
    hand.paint(picture)
    return pygame.image.tobytes(picture, "RGB")


def test_walking():
    env, hand = start("HRMMaze-v0", "move")
    assert isinstance(hand, WalkingHand)
    shown = env._mode.shown
    keys = ((pygame.K_UP, "w"), (pygame.K_RIGHT, "d"), (pygame.K_DOWN, "s"), (pygame.K_LEFT, "a"))
    for move, (arrow, letter) in enumerate(keys):
        assert hand.actions(key(arrow), shown) == hand.actions(typed(letter), shown) == [move]
    assert hand.actions(typed("x"), shown) == hand.actions(RELEASE, shown) == hand.actions(ENTER, shown) == []
    assert painted(env, hand) == env.render().tobytes()


def test_a_walk_to_the_goal_solves_the_maze():
    env, hand = start("HRMMaze-v0", "move")
    arrows, last = (pygame.K_UP, pygame.K_RIGHT, pygame.K_DOWN, pygame.K_LEFT), None
    while last is None or not last[2]:
        move = env.family.next_move(env.puzzle.clues, env._mode.shown, env.puzzle.solution)
        (last,) = give(env, hand, key(arrows[move]))
    assert last[-1]["solved"]


def test_a_click_draws_and_clears_in_a_maze_and_walls_stay():
    env, hand = start("HRMMaze-v0", "cell")
    assert isinstance(hand, PaintingHand)
    cell, wall = np.argwhere(env.puzzle.clues == OPEN)[4], np.argwhere(env.puzzle.clues == 1)[0]
    assert len(give(env, hand, click(env, cell), RELEASE)) == 1
    assert env._mode.shown[tuple(cell)] == PATH
    give(env, hand, click(env, cell), RELEASE)
    assert env._mode.shown[tuple(cell)] == OPEN
    assert give(env, hand, click(env, wall), click(env, cell, button=3), key(pygame.K_LEFT), typed("q")) == []


def test_dragging_draws_every_cell_in_between_once():
    env, hand = start("HRMMaze-v0", "cell")
    free = env.family.free(env.puzzle.clues)
    row = int(np.argmax(free.sum(1)))
    first, ends = np.flatnonzero(free[row])[0], ((row, 0), (row, env.shape[1] - 1))
    give(env, hand, click(env, (row, first)), drag(env, (row, first)), drag(env, ends[1]), RELEASE, drag(env, ends[0]))
    assert (env._mode.shown[row][free[row]] == PATH).all()
    assert (env._mode.shown == PATH).sum() == free[row].sum() == env._steps


def test_a_path_drawn_cell_by_cell_solves_the_maze():
    env, hand = start("HRMMaze-v0", "cell")
    cells = np.argwhere(env.puzzle.solution == PATH)
    steps = give(env, hand, *(event for cell in cells for event in (click(env, cell), RELEASE)))
    assert [step[2] for step in steps] == [False] * (len(cells) - 1) + [True]
    assert steps[-1][-1]["solved"]


def test_the_keyboard_alone_draws_too():
    env, hand = start("HRMMaze-v0", "cell")
    before = painted(env, hand)
    cursor = hand.cursor
    give(env, hand, key(pygame.K_DOWN), key(pygame.K_LEFT))
    assert hand.cursor == ((cursor[0] + 1) % 10, (cursor[1] - 1) % 10)
    assert painted(env, hand) != before
    give(env, hand, key(pygame.K_UP), key(pygame.K_RIGHT), key(pygame.K_SPACE, " "))
    assert env._mode.shown[cursor] == PATH


@pytest.mark.parametrize("env_id", ["HRMMaze-v0", "HRMSudokuMini-v0"])
def test_enter_hands_in(env_id):
    env, hand = start(env_id, "cell")
    (step,) = give(env, hand, ENTER)
    assert step[2]
    assert not step[-1]["solved"]
    assert hand.actions(key(pygame.K_h, "h"), env._mode.shown) == [env.action_space.n - 1]


@pytest.mark.parametrize("env_id", ["HRMSudoku-v0", "HRMSudokuMini-v0"])
def test_digits_typed_into_the_cells_solve_a_sudoku(env_id):
    env, hand = start(env_id, "cell")
    assert isinstance(hand, TypingHand)
    steps = []
    for cell in np.argwhere(env.family.free(env.puzzle.clues)):
        letter = env.family.symbols[env.puzzle.solution[tuple(cell)]]
        steps += give(env, hand, click(env, cell), typed(letter), typed(letter))
    assert len(steps) == env.family.free(env.puzzle.clues).sum()
    assert steps[-1][2]
    assert steps[-1][-1]["solved"]


def test_in_a_sudoku_a_digit_is_written_over_and_nothing_is_erased():
    env, hand = start("HRMSudokuMini-v0", "cell")
    cell = hand.cursor
    give(env, hand, typed("3"), typed("2"), key(pygame.K_BACKSPACE, "\b"), key(pygame.K_0, "0"), typed("9"))
    assert env._mode.shown[cell] == env.family.symbols.index("2")
    given = np.argwhere(~env.family.free(env.puzzle.clues))[0]
    assert give(env, hand, click(env, given), typed("1"), typed("2")) == []
    assert hand.cursor == tuple(given)
    give(env, hand, pygame.event.Event(pygame.MOUSEBUTTONDOWN, button=1, pos=(755, 5)))
    assert hand.cursor == tuple(given)


def test_arc_is_painted_with_a_chosen_colour():
    env, hand = start("HRMARCMini-v0", "cell")
    assert isinstance(hand, PaintingHand)
    give(env, hand, typed("3"), click(env, (0, 0)), drag(env, (0, 3)), RELEASE, typed("e"), click(env, (1, 1)), RELEASE)
    shown = env.family.to_text(env._mode.shown).splitlines()
    assert shown[0].startswith("3333.")
    assert shown[1].startswith(".|.")


def test_the_palette_is_shown_and_takes_clicks():
    env, hand = start("HRMARCMini-v0", "cell")
    pictures = set()
    for token, area in hand._palette._swatches.items():
        give(env, hand, pygame.event.Event(pygame.MOUSEBUTTONDOWN, button=1, pos=area.center), RELEASE)
        assert hand.token == token
        pictures.add(painted(env, hand))
    assert len(pictures) == len(env.family.writable)
    assert env._steps == 0


def test_an_arc_answer_can_be_handed_in_twice():
    env, hand = start("HRMARCMini-v0", "cell")
    assert [step[2] for step in give(env, hand, ENTER, ENTER)] == [False, True]


def test_a_person_gives_no_whole_answers():
    env, _ = start("HRMMaze-v0", "cell")
    with pytest.raises(ValueError, match="'move' or 'cell' for a person, got 'answer'"):
        make_hand(env.family, "answer", env.puzzle)
