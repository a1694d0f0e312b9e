"""Pictures and windows: sizes, what the panel tells, greyed changes, films, and a window that always answers."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import pygame
import pytest
from gymnasium.wrappers import RecordVideo
from PIL import Image

import hrm_gym
from hrm_gym.envs.maze.tokens import OPEN, PATH
from hrm_gym.envs.puzzle import Moment, Thought
from hrm_gym.envs.rendering.colours import AMBER, CORAL, CYAN, MINT, NAMED, PAPER, VIOLET
from hrm_gym.envs.rendering.lettering import lettering, wrapped
from hrm_gym.envs.rendering.screen import Cells, decision
from hrm_gym.envs.rendering.timeline import Curve, paint_timeline, slots_for
from hrm_gym.envs.rendering.window import BACK, FASTER, OPEN_WINDOWS, PLAY, STEP, Window
from hrm_gym.evaluation.films import FilmRecorder

hrm_gym.register_environments()
IDS = sorted(name for name in gym.registry if name.startswith("HRM") and name != "HRMHalting-v0")
SIZE = (820, 520)


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


def is_framed(env: gym.Env, cell: np.ndarray) -> bool:
    """Whether the middle of a cell's upper edge is of the frame's colour."""
    left, top, width, _ = Cells.of(env.family, env.shape).rect(*cell)
    return tuple(env.render()[20 + top + 1, 20 + left + width // 2]) == VIOLET


def test_every_picture_has_the_same_size():
    env = maze()
    pictures = [env.render()]
    env.set_caption("an agent with quite a long name and a path=runs/of/its/weights", [("a note", "told here")] * 3)
    env.set_thought(Thought(env.puzzle.solution, np.full(env.shape, 0.4, np.float32), 0.7, None, 1))
    env.step(answer(env, halt=1, without=2))
    pictures.append(env.render())
    assert {picture.shape for picture in pictures} == {(520, 820, 3)}
    assert not np.array_equal(*pictures)
    assert np.array_equal(pictures[1], env.render())


def test_cells_that_a_segment_changed_are_framed_until_the_next():
    env = maze()
    cells = np.argwhere(env.puzzle.solution == PATH)
    for without, changed in ((2, []), (3, [2]), (1, [1, 2]), (1, [])):
        env.step(answer(env, without=without))
        for _ in range(2):
            assert [k for k, cell in enumerate(cells) if is_framed(env, cell)] == changed
    env.reset(seed=3)
    env.step(answer(env, without=2))
    assert not any(is_framed(env, cell) for cell in cells)


def test_single_writes_are_not_framed():
    env = maze(action_mode="cell")
    cell, *_ = np.argwhere(env.puzzle.solution == PATH)
    for token in (1, 0):
        env.render()
        env.step(2 * int(cell[0] * env.shape[1] + cell[1]) + token)
    assert not is_framed(env, cell)


def count(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((picture == np.array(colour, np.uint8)).all(axis=2).sum())


def test_nothing_is_drawn_that_an_agent_does_not_have():
    env = maze()
    env.step(answer(env, without=1))
    bare = env.render()
    assert [count(bare, colour) for colour in (MINT, AMBER, CYAN, CORAL)] == [0] * 4
    env.set_thought(Thought(env.puzzle.solution, q_halt=0.2))
    env.step(answer(env, without=1))
    one = env.render()
    assert count(one, MINT) > 0
    assert count(one, AMBER) == count(one, CYAN) == 0
    sure = np.where(env.puzzle.solution == PATH, np.float32(0.5), np.float32(1.0))
    env.set_thought(Thought(env.puzzle.solution, sure, 0.2, 0.8, residuals=(("H", 0.5), ("L", 0.2))))
    env.step(answer(env, without=1))
    both = env.render()
    assert count(both, AMBER) > 0
    assert count(both, CYAN) > 0
    assert count(both[200:, 520:], PAPER) > count(one[200:, 520:], PAPER), "the line of the residual of H"


def test_the_decision_is_told_in_words_and_marked_in_the_timeline():
    env = maze()
    thoughts = [Thought(env.puzzle.solution, q_halt=k / 4, q_continue=0.6) for k in range(3)]
    thoughts[1] = dataclasses.replace(thoughts[1], event="restarts", reason="restart 1, from another image")
    thoughts[2] = dataclasses.replace(thoughts[2], event="halts", reason="Q(halt) 0.50 > Q(continue) 0.40: halts")
    moments = []
    for number, thought in enumerate(thoughts):
        env.set_thought(thought)
        env.step(answer(env, halt=number == 2))
        moments.append(env.moment())
    assert [decision(moment, "segment")[0] for moment in moments] == ["", thoughts[1].reason, thoughts[2].reason]
    pictures = [env.picture(moment) for moment in moments]
    assert count(pictures[0], CORAL) == 0 < count(pictures[1], CORAL)
    assert count(pictures[2], MINT) > count(pictures[1], MINT) + 300, "the line, the words and the verdict"
    assert np.array_equal(pictures[0], env.picture(moments[0])), "a picture depends on its moment alone"


@pytest.mark.parametrize(
    ("solved", "used", "unit", "words"),
    [
        (None, 3, "segment", ""),
        (True, 3, "segment", "halts"),
        (False, 16, "segment", "budget spent: halts"),
        (False, 16, "step", "all steps used"),
        (True, 3, "step", "the answer is right: ends"),
    ],
)
def test_why_an_agent_without_thoughts_stopped(solved, used, unit, words):
    env = maze()
    assert decision(Moment(env.puzzle, env.puzzle.clues, used, 16, 0, solved=solved), unit)[0] == words


@pytest.mark.parametrize("env_id", ["HRMMaze-v0", "HRMSudoku-v0", "HRMARCMini-v0"])
@pytest.mark.parametrize(
    "facts", [(), (("Lanes", "64"), ("Cells guessed in each", "3"), ("Segments of all lanes", "999"))]
)
def test_the_fullest_panel_ends_above_the_verdict(env_id, facts):
    env = gym.make(env_id, render_mode="rgb_array", disable_env_checker=True).unwrapped
    env.reset(seed=3)
    env.set_caption("hrm\nfixed 1 + rule check + restarts every 16")
    wrong = np.full(env.shape, env.family.writable[-1], np.uint8)
    reason = "Q(halt) 0.98123 > Q(continue) 0.98122, but a rule is broken: continues, and some more words"
    doubt = np.full(env.shape, 0.3, np.float32)
    moved = (("H", 0.5), ("L", 0.2)) if not facts else ()
    thoughts = tuple(Thought(wrong, doubt, 0.5, 0.5, 3, reason, "halts", None, moved, facts) for _ in range(3))
    moment = Moment(env.puzzle, wrong, 3, 64, 81, env.puzzle.clues, 0, False, thoughts)
    env.picture(moment)
    assert 300 < env._screen.legend_end <= env._screen.size[1] - 46


def test_axes_grow_and_keep_their_words_apart():
    surface = pygame.Surface((260, 132))
    for length in (1, 3, 16, 17, 64, 200):
        slots = slots_for(length, 64)
        assert slots >= length
        curves = [Curve("Q(halt)", MINT, [0.5] * length)]
        events = ["restarts" if k % 3 == 2 else "" for k in range(length)]
        paint_timeline(surface, surface.get_rect(), curves, slots, events=events, threshold=0.5)
    assert slots_for(3, 8) == 8


def test_lines_break_between_words():
    lines = wrapped("Q(halt) 0.9812 > Q(continue) 0.9809: halts", 22, 200)
    assert " ".join(lines) == "Q(halt) 0.9812 > Q(continue) 0.9809: halts"
    assert len(lines) > 1
    assert all(lettering(line, 22, PAPER).get_width() <= 200 for line in lines)


@pytest.mark.slow
def test_colours_with_a_meaning_survive_a_gif(tmp_path: Path):
    env = maze()
    pictures = []
    for k in range(3):
        sure = np.where(env.puzzle.solution == PATH, np.float32(0.5), np.float32(1.0))
        env.set_thought(Thought(env.puzzle.solution, sure, 0.2, 0.8))
        env.step(answer(env, without=2 + k % 2))
        pictures.append(env.render())
    recorder = FilmRecorder(colours=env.colours)
    rng = np.random.default_rng(0)
    crowd = rng.integers(0, 256, pictures[0].shape, dtype=np.uint8)  # a frame with every colour there is
    for picture in (*pictures, crowd):
        recorder.add(picture, last=False)
    recorder.save(tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as film:
        for number, picture in enumerate(pictures):
            film.seek(number)
            shown = np.asarray(film.convert("RGB"))
            named = np.isin(picture.astype(np.int64) @ [65536, 256, 1], [r << 16 | g << 8 | b for r, g, b in NAMED])
            assert named.mean() > 0.5
            assert np.array_equal(shown[named], picture[named])


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


def test_a_watched_environment_can_be_paused_stepped_and_looked_back_at():
    env = gym.make("HRMMaze-v0", render_mode="human", disable_env_checker=True).unwrapped
    env.reset(seed=3)
    screen = env._screen

    def press(*keys: int) -> None:
        for key in keys:
            pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key, unicode="", window=screen._window._window))

    press(PLAY, STEP)  # pause; then one picture more
    env.step(answer(env))
    assert screen.paused
    press(BACK, FASTER, STEP, STEP)
    env.step(answer(env, without=1))
    assert (screen.paused, screen._place, screen.speed) == (True, 0, 2.0)
    press(BACK, BACK)
    press(PLAY)
    env.step(answer(env, halt=1))
    assert not screen.paused
    assert len(screen._pictures) == 4
    x, y = screen._deck.place(PLAY)
    event = pygame.event.Event(pygame.MOUSEBUTTONDOWN, button=1, pos=(x, y + screen.size[1]))
    screen._answer(event)
    assert screen.paused
    press(PLAY)
    env.wait(0.0)
    env.close()


def test_frames_stay_for_their_time():
    env = gym.make("HRMMaze-v0", render_mode="human", disable_env_checker=True).unwrapped
    env.reset(seed=3)
    start = time.monotonic()
    for _ in range(3):
        env.step(answer(env))
    assert 0.3 < time.monotonic() - start < 5
    env.close()
