"""Pictures and windows: sizes, what the panel tells, greyed changes, films, and a window that always answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import pygame
import pytest
from gymnasium.wrappers import RecordVideo

import hrm_gym
from hrm_gym.envs.maze.tokens import OPEN, PATH
from hrm_gym.envs.puzzle import Thought
from hrm_gym.envs.rendering.lettering import lettering
from hrm_gym.envs.rendering.screen import Cells
from hrm_gym.envs.rendering.window import OPEN_WINDOWS, Window

hrm_gym.register_environments()
IDS = sorted(name for name in gym.registry if name.startswith("HRM") and name != "HRMHalting-v0")
SIZE = (760, 520)


@pytest.fixture(autouse=True)
def no_display(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    yield
    for window in list(OPEN_WINDOWS):
        window.close()
    pygame.display.quit()


def maze(**options) -> gym.Env:
    env = gym.make("HRMMaze-v0", render_mode="rgb_array", disable_env_checker=True, **options).unwrapped
    env.reset(seed=3)
    return env


def answer(env: gym.Env, halt: int = 0, without: int = 0) -> np.ndarray:
    """The solution as an action, its first path cells left out."""
    grid = env.puzzle.solution.copy()
    for row, column in np.argwhere(grid == PATH)[:without]:
        grid[row, column] = OPEN
    return np.append(grid.ravel(), halt)


def is_grey(env: gym.Env, cell: np.ndarray) -> bool:
    """Whether the ground of a light cell is darker than paper or rose."""
    left, top, *_ = Cells.of(env.family, env.shape).rect(*cell)
    return bool(env.render()[20 + top + 8, 20 + left + 8].max() < 230)


def test_every_picture_has_the_same_size():
    env = maze()
    pictures = [env.render()]
    env.set_caption("an agent with quite a long name and a path=runs/of/its/weights", [("a note", "told here")] * 3)
    env.set_thought(Thought(env.puzzle.solution, np.full(env.shape, 0.4, np.float32), 0.7, None, 1))
    env.step(answer(env, halt=1, without=2))
    pictures.append(env.render())
    assert {picture.shape for picture in pictures} == {(520, 760, 3)}
    assert not np.array_equal(*pictures)
    assert np.array_equal(pictures[1], env.render())


def test_cells_that_a_segment_changed_are_grey_until_the_next():
    env = maze()
    cells = np.argwhere(env.puzzle.solution == PATH)
    for without, changed in ((2, []), (3, [2]), (1, [1, 2]), (1, [])):
        env.step(answer(env, without=without))
        for _ in range(2):
            assert [k for k, cell in enumerate(cells) if is_grey(env, cell)] == changed
    env.reset(seed=3)
    env.step(answer(env, without=2))
    assert not any(is_grey(env, cell) for cell in cells)


def test_single_writes_are_not_greyed():
    env = maze(action_mode="cell")
    cell, *_ = np.argwhere(env.puzzle.solution == PATH)
    for token in (1, 0):
        env.render()
        env.step(2 * int(cell[0] * env.shape[1] + cell[1]) + token)
    assert not is_grey(env, cell)


def test_a_film_by_gymnasium(tmp_path: Path):
    env = RecordVideo(maze(max_segments=2), str(tmp_path), disable_logger=True)
    env.reset(seed=3)
    env.step(answer(env.unwrapped, halt=1))
    env.close()
    (film,) = tmp_path.glob("*.mp4")
    assert film.stat().st_size > 0


@pytest.mark.parametrize("env_id", IDS)
def test_cells_are_where_the_family_says(env_id):
    env = gym.make(env_id, disable_env_checker=True).unwrapped
    if not hasattr(env, "family"):
        pytest.skip("no board")
    cells = Cells.of(env.family, env.shape)
    for row, column in ((0, 0), (env.shape[0] - 1, 0), (env.shape[0] - 1, env.shape[1] - 1)):
        left, top, width, height = cells.rect(row, column)
        for x, y in ((left, top), (left + width - 1, top + height - 1)):
            assert env.family.cell_at(env.shape, (x, y)) == (row, column)


def test_long_lines_keep_beginning_and_end():
    def line(text: str, width: int | None = None) -> bytes:
        words = lettering(text, 20, (255, 255, 255), width)
        assert width is None or words.get_width() <= width
        return pygame.image.tobytes(words, "RGBA")

    name = "sudoku-extreme/test.csv:4711"
    assert line(name) == line(name, 300) != line(name, 100)
    assert line(name, 100) != line(name[:-1] + "2", 100)
    assert line(name, 100) != line("S" + name[1:], 100)


def test_a_window_letterboxes_and_tells_places_in_the_picture():
    window = Window((100, 50), "test")
    picture = pygame.Surface((100, 50))
    picture.fill((200, 0, 0))
    window.show(picture)
    window._window.size = (400, 400)
    pygame.event.post(pygame.event.Event(pygame.MOUSEBUTTONDOWN, button=1, pos=(200, 200), window=window._window))
    (pressed,) = [event for event in window.events() if event.type == pygame.MOUSEBUTTONDOWN]
    assert pressed.pos == (50, 25)
    surface = window._window.get_surface()
    assert surface.get_at((200, 200))[:3] == (200, 0, 0)
    assert surface.get_at((200, 20))[:3] == (15, 23, 42)


def test_a_waiting_window_can_be_closed():
    window = Window((100, 50), "test")
    window.wait(0.05)
    assert not window.closed
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    start = time.monotonic()
    window.wait(30.0)
    assert window.closed
    assert time.monotonic() - start < 5
    window.show(pygame.Surface((100, 50)))
    assert window.events() == []


def test_a_watched_environment_goes_on_after_its_window_was_closed():
    env = gym.make("HRMMaze-v0", render_mode="human", disable_env_checker=True).unwrapped
    env.wait(1.0)
    env.reset(seed=3)
    assert not env.closed_by_user
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    env.wait(30.0)
    assert env.closed_by_user
    env.step(answer(env, halt=1))
    env.close()


def test_frames_stay_for_their_time():
    env = gym.make("HRMMaze-v0", render_mode="human", disable_env_checker=True).unwrapped
    env.reset(seed=3)
    start = time.monotonic()
    for _ in range(3):
        env.step(answer(env))
    assert 0.3 < time.monotonic() - start < 5
    env.close()
