"""Boards and judging of ARC: grids placed and read back, by hand and by property; compiled code against plain code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from hrm_gym.envs.arc import rules, tokens
from hrm_gym.envs.arc.rules import ArcFamily
from hrm_gym.envs.arc.tokens import turn_kernel
from hrm_gym.envs.family import CellBoards, PuzzleFamily

SIDE = 6
FAMILY = ArcFamily(SIDE)
grids = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=SIDE), elements=st.integers(0, 9))
boards = arrays(np.uint8, (5, SIDE, SIDE), elements=st.integers(0, 11))
mostly_coloured = arrays(np.uint8, (5, SIDE, SIDE), elements=st.integers(0, 24).map(lambda n: min(n, 3)))


def board(text: str) -> np.ndarray:
    return np.array([[tokens.SYMBOLS.index(symbol) for symbol in row] for row in text.split()], dtype=np.uint8)


def official_crop(grid: np.ndarray) -> np.ndarray:
    """The crop of the official evaluation, written down plainly: every rectangle is tried."""
    best = (0, 0)
    for rows in range(1, len(grid) + 1):
        for columns in range(1, len(grid) + 1):
            if (grid[:rows, :columns] >= 2).all() and rows * columns > best[0] * best[1]:
                best = (rows, columns)
    return grid[: best[0], : best[1]]


@pytest.mark.parametrize(
    ("grid", "text"),
    [
        ([[3, 0]], "30|. ||.. .... ...."),
        ([[1], [2]], "1|.. 2|.. |... ...."),
        ([[1, 2, 3, 4]], "1234 |||| .... ...."),  # as wide as the board: no end on the right
        ([[1], [2], [3], [4]], "1|.. 2|.. 3|.. 4|.."),
        ([[7] * 4] * 4, "7777 7777 7777 7777"),
    ],
)
def test_a_grid_lies_top_left_with_end_below_and_beside_it(grid, text):
    placed = tokens.place(np.array(grid, dtype=np.uint8), 4)
    assert np.array_equal(placed, board(text))
    assert tokens.to_text(placed).split() == text.split()


@given(grids)
def test_what_is_placed_is_read_back(grid):
    placed = tokens.place(grid, SIDE)
    assert np.array_equal(tokens.crop(placed), grid)
    assert np.array_equal(FAMILY.parse(placed), placed)
    assert np.array_equal(FAMILY.parse(FAMILY.to_text(placed)), placed)
    FAMILY.check(placed)


@given(mostly_coloured)
def test_the_crop_is_the_largest_rectangle_of_colours(many):
    for one in many:
        expected = official_crop(one)
        found = tokens.crop(one)
        assert found.size == expected.size
        assert np.array_equal(found + 2, one[: found.shape[0], : found.shape[1]])
        assert found.shape == expected.shape


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("12|. 34|. ||.. ....", True),
        ("12.. 34.. .... ....", True),  # pad ends a grid as well
        ("12|9 34|9 ||99 9999", True),  # what lies outside means nothing
        ("12|. 35|. ||.. ....", False),
        ("12|. 34|. 12|. ||..", False),  # one row too many
        ("1|.. 3|.. |... ....", False),  # one column too few
        ("|... .... .... ....", False),
        (".12. .34. .... ....", False),  # not top left
    ],
)
def test_shape_and_content_count(answer, right):
    family, solution = ArcFamily(4), board("12|. 34|. ||.. ....")
    boards = solution[None], solution[None], board(answer)[None]
    assert family.judge(*boards).tolist() == [right]
    assert family.verdict(*boards)["exact"].tolist() == [right]


def test_accuracy_counts_the_cells_of_the_stored_grid():
    family, solution = ArcFamily(4), board("12|. 34|. ||.. ....")
    assert family.counted(solution, solution).sum() == 4
    assert family.cell_accuracy(solution[None], solution[None], board("12|9 |999 9999 9999")[None]) == 0.5


def test_no_answer_is_like_a_board_without_a_grid():
    empty = np.zeros((1, 4, 4), dtype=np.uint8)
    assert not ArcFamily(4).judge(empty, empty, empty)[0]


@given(boards, mostly_coloured, st.integers(0, 31))
def test_compiled_judging_is_plain_judging(noise, solutions, likeness):
    answers = np.where((np.arange(5) < likeness % 6)[:, None, None], solutions, noise)
    pairs = [(tokens.crop(solution), tokens.crop(answer)) for solution, answer in zip(solutions, answers, strict=True)]
    plain = [wanted.size > 0 and np.array_equal(wanted, shown) for wanted, shown in pairs]
    assert FAMILY.judge(noise, solutions, answers).tolist() == plain
    verdict = FAMILY.verdict(noise, solutions, answers)
    assert verdict["solved"].tolist() == verdict["exact"].tolist() == plain
    assert FAMILY.count_violations(noise, answers).tolist() == [0] * 5
    assert FAMILY.legal_writes(noise, answers).all()


def cell_boards(solutions: np.ndarray, shown: np.ndarray, free: np.ndarray) -> CellBoards:
    zeros = np.zeros(len(shown), np.int32), np.zeros(len(shown), np.bool_)
    return CellBoards(solutions, solutions, shown.copy(), free, *zeros)


@settings(max_examples=30)
@given(grids, st.integers(0, 2**32 - 1))
def test_compiled_writing_is_plain_writing(grid, seed):
    rng = np.random.default_rng(seed)
    solutions = np.repeat(tokens.place(grid, SIDE)[None], 4, axis=0)
    free = rng.random((4, SIDE * SIDE)) < 0.9
    ours, plain = (cell_boards(solutions, np.where(solutions > 2, solutions, 0), free) for _ in range(2))
    for _ in range(30):
        actions = rng.integers(11 * SIDE * SIDE + 1, size=4)
        cells = rng.integers(SIDE * SIDE, size=4)
        right = cells * 11 + np.maximum(solutions.reshape(4, -1)[np.arange(4), cells].astype(int), 1) - 1
        actions = np.where(rng.random(4) < 0.8, right, actions)
        active = rng.random(4) < 0.9
        FAMILY.write_many(ours, actions, active)
        PuzzleFamily.write_many(FAMILY, plain, actions, active)
        assert np.array_equal(ours.shown, plain.shown)
        assert np.array_equal(ours.ended, plain.ended)
        assert np.array_equal(ours.violations, plain.violations)


@given(grids, st.integers(0, 7), st.permutations(range(1, 10)))
def test_the_turning_kernel_turns_like_numpy(grid, turn, order):
    colours = np.array([0, 1, 2, *(2 + colour for colour in order)], dtype=np.uint8)
    image = np.zeros((SIDE, SIDE), dtype=np.uint8)
    turn_kernel(tokens.place(grid, SIDE), turn, colours, image)
    expected = colours[rules.turned(grid, turn) + 2] - np.uint8(2)
    assert np.array_equal(image, tokens.place(expected, SIDE))


def test_turns_are_the_official_ones():
    grid = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8)
    expected = [
        [[1, 2, 3], [4, 5, 6]], [[3, 6], [2, 5], [1, 4]], [[6, 5, 4], [3, 2, 1]], [[4, 1], [5, 2], [6, 3]],
        [[3, 2, 1], [6, 5, 4]], [[4, 5, 6], [1, 2, 3]], [[1, 4], [2, 5], [3, 6]], [[6, 3], [5, 2], [4, 1]],
    ]  # fmt: skip
    assert [rules.turned(grid, turn).tolist() for turn in range(8)] == expected


def test_every_turn_and_colour_is_drawn_and_black_stays():
    turns, colours = rules.draw_symmetries(np.arange(1, 2001, dtype=np.uint64) << np.uint64(40))
    assert set(turns.tolist()) == set(range(8))
    assert (np.sort(colours, axis=1) == np.arange(12)).all()
    assert (colours[:, :3] == [0, 1, 2]).all()
    assert all(set(colours[:, token].tolist()) == set(range(3, 12)) for token in range(3, 12))


def test_the_family_changes_colours_only():
    cells, colours = FAMILY.symmetry((SIDE, SIDE), 5)
    assert np.array_equal(cells, np.arange(SIDE * SIDE))
    assert np.array_equal(colours, rules.draw_symmetries(np.array([5], dtype=np.uint64))[1][0])


@pytest.mark.parametrize(
    ("puzzle", "message"),
    [
        ("12\n3", r"rows of one length, got lengths \[2, 1\]"),
        ("12\nab", "lines of digits, got 'ab'"),
        ("", "lines of digits, got none"),
        ("1234567", "at most 6x6 cells, got 1x7"),
        ([[1, 2], [3]], "rows of one length"),
        ([[1, 2], [3, 4]], r"6x6 board of token ids, got \(2, 2\)"),
        (np.full((6, 6), 12), r"token ids 0..11, got 12..12"),
        (np.zeros((6, 6), dtype=int), "a grid top left"),
        (np.diag(np.full(6, 5)), "expected end and pad around a 1x1 grid, got token 0 at row 0, column 1"),
    ],
)
def test_bad_boards_are_named(puzzle, message):
    with pytest.raises(ValueError, match=message):
        FAMILY.parse(puzzle)


def test_every_pixel_of_the_answer_has_its_cell():
    for canvas in (12, 30):
        family = ArcFamily(canvas)
        width, height = family.board_size
        shape = (canvas, canvas)
        cells = [family.cell_at(shape, (x, y)) for x in range(0, width, 5) for y in range(0, height, 5)]
        assert {cell for cell in cells if cell} == set(np.ndindex(shape))
        assert family.cell_at(shape, (0, 0)) is None
        assert family.cell_at(shape, (width - 1, height - 1)) is None


# ---- symmetries by name ----


@given(turn=st.integers(0, 7), colours=st.permutations(range(1, 10)), grid=grids)
def test_a_symmetry_has_a_key_of_its_own(turn: int, colours: list[int], grid: np.ndarray) -> None:
    key = FAMILY.symmetry_key(turn, [0, *colours])
    assert 0 <= key < 8 * 362_880
    drawn, tokens_of = rules.draw_symmetries(np.array([key, key], dtype=np.uint64))
    assert drawn.tolist() == [turn, turn]
    assert tokens_of.tolist() == [[0, 1, 2, *(colour + 2 for colour in colours)]] * 2
    shown = tokens.place(grid, SIDE)
    recoloured = np.array([0, *colours], np.uint8)[grid]
    image = FAMILY.image(shown[None], key)
    assert (image[0] == tokens.place(rules.turned(recoloured, turn), SIDE)).all()
    assert (FAMILY.preimage(image, key)[0] == shown).all()


def test_no_symmetry_is_no_key() -> None:
    assert FAMILY.symmetry_key(0, range(10)) == 0
    for turn, colours in ((8, range(10)), (0, [1, 0, *range(2, 10)]), (0, [0, *range(8), 8])):
        with pytest.raises(ValueError, match="expected a turn"):
            FAMILY.symmetry_key(turn, list(colours))
