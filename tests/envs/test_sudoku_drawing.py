"""How a Sudoku looks: every difference that matters can be seen, and no token grid stops the painter."""

from __future__ import annotations

import numpy as np
import pygame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_gym.envs.puzzle import Grid, Thought
from hrm_gym.envs.sudoku.boxes import BOXES
from hrm_gym.envs.sudoku.drawing import draw_sudoku
from hrm_gym.envs.sudoku.tokens import BLANK, PAD

RED = (220, 38, 38)


def solved(box: tuple[int, int]) -> Grid:
    """A full board by shifting the first row."""
    rows, columns = box
    size = rows * columns
    lines = [[(columns * (i % rows) + i // rows + j) % size + 2 for j in range(size)] for i in range(size)]
    return np.array(lines, dtype=np.uint8)


def clues(box: tuple[int, int]) -> Grid:
    """Every third cell given."""
    board = solved(box)
    return np.where(np.arange(board.size).reshape(board.shape) % 3 == 0, board, np.uint8(BLANK))


def paint(board: Grid, answer: Grid, thought: Thought | None = None, box: tuple[int, int] = (3, 3)) -> pygame.Surface:
    surface = pygame.Surface((480, 480), 0, 24)
    surface.fill((15, 23, 42))
    draw_sudoku(surface, board, answer, thought, box)
    return surface


def pixels(*arguments, **options) -> bytes:
    return pygame.image.tobytes(paint(*arguments, **options), "RGB")


@pytest.mark.parametrize("box", BOXES)
def test_every_board_fills_the_picture(box):
    surface = paint(clues(box), solved(box), None, box)
    size = box[0] * box[1]
    left = (480 - 480 // size * size) // 2
    assert surface.get_at((240, left))[:3] == surface.get_at((left, 240))[:3] == (51, 65, 85)
    assert surface.get_at((240, 479 - left - (480 - size * (480 // size)) % 2))[:3] == (51, 65, 85)


@pytest.mark.parametrize("box", BOXES)
def test_each_digit_looks_different_given_or_written(box):
    blank = np.full(solved(box).shape, BLANK, dtype=np.uint8)
    pictures = []
    for token in range(2, 2 + len(blank)):
        one = blank.copy()
        one[0, 1] = token
        pictures += [pixels(one, one, box=box), pixels(blank, one, box=box)]
    assert len({pixels(blank, blank, box=box), *pictures}) == 2 * len(blank) + 1


def test_conflicts_and_altered_clues_are_red():
    board, answer = clues((3, 3)), solved((3, 3))

    def reds(grid: Grid) -> int:
        return int((pygame.surfarray.array3d(paint(board, grid)) == RED).all(axis=2).sum())

    assert reds(answer) == 0
    conflict, altered = answer.copy(), answer.copy()
    conflict[0, 1] = conflict[0, 2]
    altered[0, 0] = BLANK
    assert reds(conflict) > 0
    assert pixels(board, altered) != pixels(board, answer)


def test_a_thought_is_drawn_small_and_candidates_without_one():
    board, answer = clues((3, 3)), solved((3, 3))
    half = np.where(np.arange(81).reshape(9, 9) % 2 == 0, answer, board)
    other = np.where(board == BLANK, 12 - answer, board).astype(np.uint8)
    fewer = np.where(board == answer, board, np.uint8(BLANK))
    fewer[0] = answer[0]
    pictures = [
        pixels(board, half),
        pixels(board, half, Thought(answer)),
        pixels(board, half, Thought(other)),
        pixels(board, board),
        pixels(board, fewer),
    ]
    assert len(set(pictures)) == len(pictures)
    assert pixels(board, answer, Thought(answer)) == pixels(board, answer)
    assert pixels(board, board, Thought(board)) != pixels(board, board), "candidates only without a thought"


def test_painting_changes_none_of_its_arguments():
    board, answer = clues((3, 3)), solved((3, 3))
    thought = Thought(answer[::-1].copy(), np.full((9, 9), np.nan, np.float32))
    before = board.copy(), answer.copy(), thought.answer.copy()
    paint(board, answer, thought)
    assert all(np.array_equal(*pair) for pair in zip(before, (board, answer, thought.answer), strict=True))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_tokens_can_be_painted(data):
    box = data.draw(st.sampled_from(BOXES))
    size = box[0] * box[1]
    token = st.integers(0, 255) if data.draw(st.booleans()) else st.integers(PAD, size + 1)
    grids = [
        np.array(data.draw(st.lists(token, min_size=size**2, max_size=size**2)), np.uint8).reshape(size, size)
        for _ in range(2)
    ]
    sure = np.array(data.draw(st.lists(st.floats(-1, 2), min_size=size, max_size=size)), np.float32)
    thought = data.draw(st.sampled_from([None, Thought(grids[1]), Thought(grids[1], np.tile(sure, (size, 1)))]))
    assert paint(clues(box), grids[0], thought, box).get_size() == (480, 480)
