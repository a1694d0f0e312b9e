"""Several windows, and other users of pygame in the same process: nothing that one does breaks another."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import pygame
import pytest

import hrm_gym  # noqa: F401
from hrm_gym.envs.rendering.lettering import lettering
from hrm_gym.envs.rendering.window import OPEN_WINDOWS, Window


@pytest.fixture(autouse=True)
def dummy_display(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame.quit()
    yield
    for window in list(OPEN_WINDOWS):
        window.close()
    pygame.quit()


def watched(env_id: str = "HRMMaze-v0", **options: Any) -> Any:
    env: Any = gym.make(env_id, render_mode="human", disable_env_checker=True, **options).unwrapped
    env.metadata = {**env.metadata, "render_fps": 1000}
    env.reset(seed=1)
    return env


def move(env: Any) -> None:
    """An action, or a new puzzle where the last one is over."""
    try:
        if env.step(env.action_space.sample())[2]:
            env.reset()
    except gym.error.ResetNeeded:
        env.reset()


def windows() -> tuple[Window, Window]:
    return Window((100, 50), "one"), Window((60, 40), "two")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_windows_close_in_any_order(order: tuple[int, ...]) -> None:
    envs = [watched(action_mode="move"), watched("HRMSudokuMini-v0"), watched("HRMHalting-v0")]
    for place in order:
        envs[place].close()
        for env in envs:
            move(env)
    envs[0].close()


def test_a_window_is_opened_again_after_pygame_was_quit() -> None:
    env = watched(action_mode="move")
    for quit_it in (pygame.quit, pygame.display.quit, lambda: (pygame.quit(), pygame.init())):
        quit_it()
        for _ in range(3):
            move(env)
        assert not env.closed_by_user
        env.wait(0.01)
        pygame.quit()
        env.wait(0.01)
    env.close()


def test_fonts_do_not_outlive_their_module() -> None:
    lettering("one", 20, (255, 255, 255))
    pygame.quit()
    pygame.init()
    assert lettering("two", 20, (255, 255, 255)).get_width() > 10
    assert lettering("nul \0 and \x1b", 20, (255, 255, 255)).get_width() > 10


def test_gymnasiums_own_environments_share_the_process() -> None:
    ours, theirs = watched(action_mode="move"), gym.make("CartPole-v1", render_mode="human")
    theirs.reset(seed=0)
    theirs.step(0)
    move(ours)
    theirs.close()  # quits pygame
    move(ours)
    again = gym.make("CartPole-v1", render_mode="human")
    again.reset(seed=0)
    ours.close()
    again.step(0)
    again.close()


def test_the_main_window_of_another_library_stays_as_it_is() -> None:
    main = pygame.display.set_mode((320, 200))
    main.fill((1, 2, 3))
    env = watched(action_mode="move")
    move(env)
    assert pygame.display.get_surface() is main
    env.close()
    assert pygame.display.get_init()
    assert pygame.display.get_surface().get_size() == (320, 200)
    assert main.get_at((5, 5))[:3] == (1, 2, 3)


def test_another_librarys_events_are_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []
    take = Window._take
    monkeypatch.setattr(Window, "_take", lambda self, timeout: (looks.append(timeout), take(self, timeout)))
    pygame.display.set_mode((320, 200))
    window = Window((100, 50), "ours")
    pygame.event.clear()
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_a, unicode="a"))
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    window.wait(0.3)
    assert len(looks) < 100, "a wait does not spin on events of others"
    assert not window.closed
    assert {event.type for event in pygame.event.get()} >= {pygame.KEYDOWN, pygame.QUIT}


def test_each_window_gets_its_own_events() -> None:
    one, two = windows()
    one.events()
    for window, key in ((one, pygame.K_a), (two, pygame.K_b)):
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key, unicode="", window=window._window))
    assert [event.key for event in two.events() if event.type == pygame.KEYDOWN] == [pygame.K_b]
    assert [event.key for event in one.events() if event.type == pygame.KEYDOWN] == [pygame.K_a]


def test_closing_one_window_leaves_the_other() -> None:
    one, two = windows()
    pygame.event.post(pygame.event.Event(pygame.WINDOWCLOSE, window=one._window))
    two.wait(0.01)
    assert not two.closed
    one.wait(0.01)
    assert one.closed
    two.show(pygame.Surface((60, 40)))
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    two.wait(1.0)
    assert two.closed
    assert OPEN_WINDOWS == []


def test_a_new_window_does_not_inherit_the_end_of_the_one_before() -> None:
    window = Window((100, 50), "one")
    window.close()
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    window = Window((100, 50), "two")
    window.wait(0.01)
    assert not window.closed
