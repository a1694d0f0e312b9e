"""The rules of Sudoku, from boards written by hand and from properties that must hold on any."""

from __future__ import annotations

import csv
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from hrm_gym.envs.puzzle import puzzle_key
from hrm_gym.envs.sudoku import rules, solver, symmetry, tokens
from hrm_gym.envs.sudoku.boxes import BOXES, board, usual_box
from hrm_gym.envs.sudoku.generator import GeneratedSudoku, split_of
from hrm_gym.envs.sudoku.rules import sudoku
from hrm_gym.envs.sudoku.solver import difficulty_of, rate
from hrm_gym.envs.sudoku.symmetry import canonical, line_orders, random_symmetry

NINE = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
NINE_SOLVED = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
FOUR, FOUR_SOLVED = "1...|...2|..4.|.3..", "1234|3412|2143|4321"
KEYS = st.integers(0, 2**64 - 1)
MINI = [box for box in BOXES if box[0] * box[1] < 9]


def family_of(clues: np.ndarray, box: tuple[int, int] | None) -> rules.SudokuFamily:
    return sudoku(box or usual_box(len(clues)))


def is_solved(clues: np.ndarray, answer: np.ndarray, box: tuple[int, int] | None = None) -> bool:
    return bool(family_of(clues, box).judge(clues[None], clues[None], answer[None])[0])


def violations(clues: np.ndarray, answer: np.ndarray, box: tuple[int, int] | None = None) -> np.ndarray:
    return family_of(clues, box).violations(clues[None], answer[None])[0]


def check(clues: np.ndarray, box: tuple[int, int] | None = None) -> None:
    family_of(clues, box).check(clues)


def grid(text: str, box=None) -> np.ndarray:
    size = 9 if len(text) == 81 else len(text.split("|")[0])
    return np.array([tokens.encode(row, size) for row in text.replace("?", "0").split("|")]).reshape(size, size)


def puzzle(box, key: int):
    return GeneratedSudoku(box, split="all").puzzle(key)


def turned(grid: np.ndarray, symmetry) -> np.ndarray:
    cells, names = symmetry
    return names[grid.ravel()[cells]].reshape(grid.shape)


# ---- text ----


@pytest.mark.parametrize("text", [NINE, NINE.replace(".", "0"), "\n".join(NINE[i : i + 9] for i in range(0, 81, 9))])
def test_parse_reads_what_people_write(text):
    clues = tokens.parse(text, (3, 3))
    assert tokens.decode(clues) == NINE
    assert np.array_equal(tokens.parse(tokens.to_text(clues, (3, 3)), (3, 3)), clues)
    assert np.array_equal(tokens.parse(clues.tolist(), (3, 3)), clues)


@pytest.mark.parametrize("box", BOXES)
def test_text_round_trip(box):
    clues = puzzle(box, 5).clues
    assert np.array_equal(tokens.parse(tokens.to_text(clues, box), box), clues)
    assert np.array_equal(tokens.parse(tokens.decode(clues), box), clues)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (NINE[:-1], "expected 81 characters in one line .* got 80"),
        ("", "expected 9 lines of 9 characters, or one line of all, got 0 lines"),
        ("1.\n.2", "expected 9 lines .* got 2 lines"),
        ("\n".join(["." * 9] * 8 + ["." * 8]), "expected 9 characters in every line, got 8 in line 9"),
        ("x" + NINE[1:], "expected only digits 1..9, '.' and '0', got 'x' at position 0"),
        ([[1, 2], [3]], "rows of several lengths"),
        (np.ones((9, 8), dtype=int), r"expected a \(9, 9\) grid .* got shape \(9, 8\)"),
        (np.ones((9, 9)), "dtype float64"),
        (np.full((9, 9), 11), "expected Sudoku tokens 1..10, got 11..11"),
        (np.zeros((9, 9), dtype=int), "expected Sudoku tokens 1..10, got 0..0"),
    ],
)
def test_bad_boards_are_refused(value, message):
    with pytest.raises(ValueError, match=message):
        tokens.parse(value, (3, 3))


def test_rows_of_official_files():
    clues, solution = tokens.read_row(NINE, NINE_SOLVED, (3, 3))
    assert np.array_equal(solution, grid(NINE_SOLVED))
    many = tokens.read_rows([NINE, NINE.replace(".", "0")], [NINE_SOLVED] * 2, (3, 3))
    assert all(np.array_equal(row, clues) for row in many[0])
    assert all(np.array_equal(row, solution) for row in many[1])


@pytest.mark.parametrize(
    ("question", "answer", "message"),
    [
        (NINE[1:], NINE_SOLVED, "expected 81 characters in question, got 80"),
        (NINE, NINE_SOLVED.replace("5", "x"), "got 'x' at position 0 in answer"),
        (NINE, "4" + NINE_SOLVED[1:], "expected an answer that keeps the clues, got '4' for '5' at row 0, column 0"),
        (NINE, NINE_SOLVED[:2] + "8" + NINE_SOLVED[3:], "expected an answer with every digit once"),
    ],
)
def test_bad_rows_are_refused(question, answer, message):
    with pytest.raises(ValueError, match=message):
        tokens.read_row(question, answer, (3, 3))
    with pytest.raises(ValueError, match="expected"):
        tokens.read_rows([NINE, question], [NINE_SOLVED, answer], (3, 3))


def test_boxes():
    assert [usual_box(size) for size in (4, 6, 8, 9, 16)] == [(2, 2), (2, 3), (2, 4), (3, 3), (4, 4)]
    assert [board(box).name for box in BOXES] == ["4x4", "6x6", "6x6-3x2", "8x8", "8x8-4x2", "9x9", "16x16"]
    with pytest.raises(ValueError, match=r"expected a box out of .* got \(3, 4\)"):
        board((3, 4))
    with pytest.raises(ValueError, match="expected a board of side 4, 6, 8, 9 or 16, got 5"):
        usual_box(5)


# ---- one board ----


@pytest.mark.parametrize(("clues", "solved"), [(NINE, NINE_SOLVED), (FOUR, FOUR_SOLVED)])
def test_solve(clues, solved):
    assert np.array_equal(solver.solve(grid(clues)), grid(solved))
    check(grid(clues))
    assert is_solved(grid(clues), grid(solved))
    assert not violations(grid(clues), grid(solved)).any()


@pytest.mark.parametrize(
    ("clues", "message"),
    [
        ("11..|....|....|....", "got digit 1 at row 0, column 0 once more"),
        ("1...|.1..|....|....", "got digit 1 at row 0, column 0 once more"),
        ("123.|...4|....|....", "expected a puzzle with exactly one solution, got one with none"),
        ("1...|....|....|....", "expected a puzzle with exactly one solution, got one with several"),
    ],
)
def test_check_refuses(clues, message):
    with pytest.raises(ValueError, match=message):
        check(grid(clues))


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (FOUR_SOLVED, "....|....|....|...."),
        (FOUR, "....|....|....|...."),  # blanks break no rule
        ("2234|3412|2143|4321", "xx..|....|x...|...."),  # an altered clue, and its digit twice in row and column
        ("....|...2|..4.|.3..", "x...|....|....|...."),  # a clue taken away
        ("1..1|...2|..4.|.3..", "x..x|....|....|...."),
        ("1...|.1.2|..4.|.3..", "x...|.x..|....|...."),  # in one box
        ("1...|...2|..4.|13..", "x...|....|....|x..."),
    ],
)
def test_violations_and_wrong_answers(answer, wrong):
    marks = np.array([[cell == "x" for cell in row] for row in wrong.split("|")])
    assert np.array_equal(violations(grid(FOUR), grid(answer)), marks)
    assert is_solved(grid(FOUR), grid(answer)) == (answer == FOUR_SOLVED)


def test_padding_and_unknown_tokens_solve_nothing():
    for token in (0, 6, 255):
        answer = grid(FOUR_SOLVED)
        answer[0, 1] = token
        assert not is_solved(grid(FOUR), answer)
        assert not violations(grid(FOUR), answer).any()


def test_the_box_matters():
    wide = solver.solve(puzzle((2, 3), 3).clues, (2, 3))
    assert is_solved(wide, wide)
    assert not is_solved(wide, wide, (3, 2))


def brute_force(clues: np.ndarray) -> int:
    """Solutions of a 4x4 board, counted from all ways to fill the rows."""
    rows = [
        [np.array(p) for p in permutations(range(2, 6)) if all(c in (1, t) for c, t in zip(r, p, strict=True))]
        for r in clues
    ]
    halves = [[np.stack([a, b]) for a in rows[i] for b in rows[i + 1] if box_rows(a, b)] for i in (0, 2)]
    whole = (np.concatenate([top, low]) for top in halves[0] for low in halves[1])
    return sum(all(len(set(column)) == 4 for column in full.T) for full in whole)


def box_rows(above: np.ndarray, below: np.ndarray) -> bool:
    return len({*above[:2], *below[:2]}) == 4 and len({*above[2:], *below[2:]}) == 4


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 15), st.integers(2, 5)), min_size=2, max_size=7))
def test_solver_counts_as_brute_force_does(written):
    clues = np.ones((4, 4), dtype=np.uint8)
    for cell, token in written:
        clues.flat[cell] = token
    assert solver.count_solutions(clues, 1000) == brute_force(clues)


@pytest.mark.parametrize("box", BOXES)
def test_solver_finds_the_solution_of_generated_puzzles(box):
    for key in range(5):
        made = puzzle(box, key)
        assert np.array_equal(solver.solve(made.clues, box), made.solution)
        assert solver.count_solutions(np.ones_like(made.clues), 5, box) == 5


# ---- many boards ----


@pytest.mark.parametrize("box", [(2, 2), (2, 3), (3, 2), (3, 3), (4, 4)])
def test_many_boards_are_judged_as_one(box):
    rng = np.random.default_rng(0)
    size = box[0] * box[1]
    made = [puzzle(box, key) for key in range(40)]
    clues = np.stack([one.clues for one in made])
    answers = np.stack([one.solution for one in made])
    spoilt = rng.random(answers.shape) < rng.choice([0, 0, 0.02, 0.5], size=(40, 1, 1))
    answers[spoilt] = rng.integers(0, size + 2, spoilt.sum(), dtype=np.uint8)
    solved, counts = sudoku(box).judge(clues, clues, answers), sudoku(box).count_violations(clues, answers)
    assert solved.tolist() == [is_solved(c, a, box) for c, a in zip(clues, answers, strict=True)]
    assert counts.tolist() == [violations(c, a, box).sum() for c, a in zip(clues, answers, strict=True)]
    assert 5 < solved.sum() < 35


def peers(box):
    found = np.empty(((box[0] * box[1]) ** 2, 4 if box == (4, 4) else 2), dtype=np.uint64)
    rules.fill_peers_kernel(*box, found)
    return found


@pytest.mark.parametrize("box", BOXES)
def test_candidates_are_the_digits_that_clash_with_nothing(box):
    family = sudoku(box)
    clues = np.stack([puzzle(box, key).clues for key in range(3)])
    candidates = family.candidates(clues)
    for row, shown in enumerate(clues):
        for cell in range(shown.size):
            for digit, token in enumerate(family.writable):
                written = shown.copy()
                written.flat[cell] = token
                fits = shown.flat[cell] == tokens.BLANK and not family.count_violations(shown[None], written[None])[0]
                assert candidates[row, cell, digit] == fits


@pytest.mark.parametrize("legal_only", [False, True])
@pytest.mark.parametrize("box", [(2, 2), (2, 3), (3, 3), (4, 4)])
def test_writing_keeps_violations_right(box, legal_only):
    rng = np.random.default_rng(1)
    size = box[0] * box[1]
    clues = np.stack([puzzle(box, key).clues for key in range(30)])
    shown, active = clues.copy(), np.ones(30, dtype=np.bool_)
    counts, ended = np.zeros(30, np.int32), np.zeros(30, np.bool_)
    for _ in range(8 * size * size):
        actions = rng.integers(0, size**3, 30)
        rules.write_kernel(clues, shown, actions, active, legal_only, peers(box), counts, ended)
        full = sudoku(box).count_violations(clues, shown)
        assert np.array_equal(counts, full)
        assert not legal_only or not full.any()
        assert np.array_equal(shown[clues != 1], clues[clues != 1])
        assert np.array_equal(ended, (full == 0) & (shown > 1).all((1, 2)))


def test_writing_with_altered_clues_and_padding():
    clues, shown = grid(FOUR)[None], grid("2...|...2|..4.|.3..")[None]
    shown[0, 3, 3] = 0
    counts, ended, active = np.array([1], np.int32), np.zeros(1, np.bool_), np.ones(1, np.bool_)
    for action in (3 * 4 + 1, 4 * 4 + 1, 3 * 4 + 0, 4 * 4 + 3, 15 * 4 + 2):
        rules.write_kernel(clues, shown, np.array([action]), active, False, peers((2, 2)), counts, ended)
        assert counts[0] == violations(clues[0], shown[0]).sum()


def test_writing_ends_solves_halts_and_leaves_alone():
    clues = np.stack([grid(FOUR)] * 4)
    shown = np.stack([grid(FOUR_SOLVED)] * 4)
    shown[:, 0, 1] = 1
    counts, ended, active = np.zeros(4, np.int32), np.zeros(4, np.bool_), np.array([True, True, True, False])
    actions = np.array([1 * 4 + 1, 64, 0 * 4 + 2, 1 * 4 + 1])  # the right digit, halt, onto a clue, not active
    rules.write_kernel(clues, shown, actions, active, False, peers((2, 2)), counts, ended)
    assert ended.tolist() == [True, True, False, False]
    assert shown[:, 0, 1].tolist() == [3, 1, 1, 1]
    assert shown[2, 0, 0] == 2


# ---- symmetries ----


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(BOXES), KEYS, KEYS)
def test_symmetries_keep_what_matters(box, key, other):
    made, symmetry = puzzle(box, key), random_symmetry(box, other)
    clues, solution = turned(made.clues, symmetry), turned(made.solution, symmetry)
    assert is_solved(clues, solution, box)
    assert split_of(clues, solution, box) == split_of(made.clues, made.solution, box)
    assert np.array_equal(canonical(clues, box), canonical(made.clues, box))
    assert sorted(symmetry[0]) == list(range(clues.size))
    assert symmetry[1][:2].tolist() == [0, 1]


def test_different_puzzles_have_different_canonical_forms():
    forms = {canonical(puzzle((3, 3), puzzle_key(9, k)).clues).tobytes() for k in range(12)}
    assert len(forms) == 12
    clues = puzzle((3, 3), 1).clues
    more = np.where(np.arange(81).reshape(9, 9) == np.argmax(clues == 1), solver.solve(clues), clues)
    assert not np.array_equal(canonical(more), canonical(clues))
    with pytest.raises(ValueError, match="expected a puzzle with exactly one solution"):
        canonical(np.ones((9, 9), dtype=np.uint8))


def test_canonical_forms_of_large_boards_tell_puzzles_apart():
    puzzles = [puzzle((4, 4), key) for key in range(3)]
    forms = [canonical(made.clues, (4, 4)) for made in puzzles]
    assert len({form.tobytes() for form in forms}) == 3
    for made, form in zip(puzzles, forms, strict=True):
        assert (form > 1).sum() == (made.clues > 1).sum()
        assert np.array_equal(canonical(form, (4, 4)), form)


@pytest.mark.parametrize("box", [(2, 2), (2, 3), (4, 2), (3, 3)])
def test_orders_are_drawn_from_all_that_keep_bands_together(box):
    orders = line_orders(*box)
    found = np.empty(box[0] * box[1], dtype=np.int64)
    for number in np.linspace(0, len(orders) - 1, 50).astype(np.int64):
        symmetry._nth_order(number, *box, found)
        assert found.tolist() == orders[number].tolist()


def test_text_of_large_boards_has_letters():
    text = "123456789ABCDEFG" + "." * 240
    clues = tokens.parse(text, (4, 4))
    assert clues[0].tolist() == list(range(2, 18))
    assert np.array_equal(tokens.parse(text.lower(), (4, 4)), clues)
    with pytest.raises(ValueError, match=r"expected only digits 1..9 and A..G, '.' and '0', got 'H' at position 255"):
        tokens.parse(text[:-1] + "H", (4, 4))


def test_canonical_form_is_the_least_of_all_images():
    """Checked against every one of the 4x4 symmetries."""
    made = puzzle((2, 2), 4)
    images = []
    for rows in line_orders(2, 2):
        for columns in line_orders(2, 2):
            for names in permutations(range(2, 6)):
                table = np.array([0, 1, *names])
                for flip in (False, True):
                    both = [table[g.T if flip else g][rows][:, columns] for g in (made.solution, made.clues)]
                    images.append((both[0].tolist(), both[1].tolist()))
    assert canonical(made.clues).tolist() == min(images)[1]


def test_symmetries_are_uniform():
    drawn = [random_symmetry((2, 2), key) for key in range(4000)]
    cells = {tuple(cells) for cells, _ in drawn}
    assert len(cells) == 128
    assert len({tuple(names) for _, names in drawn}) == 24
    corner = np.bincount([cells[0] for cells, _ in drawn], minlength=16)
    assert corner.min() > 180  # 250 are expected
    assert 3300 < len({tuple(random_symmetry((2, 3), key)[0]) for key in range(12000)}) <= 72 * 48  # not transposed


# ---- rating ----


def rated() -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    with (Path(__file__).parent / "sudoku_rated.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    hard = np.array([row["source"] == "generated_hard" for row in rows])
    return [grid(row["question"]) for row in rows], np.array([float(row["rating"]) for row in rows]), hard


def test_rating_agrees_with_sudoku_extreme():
    clues, ratings, hard = rated()
    ours = np.array([rate(one) for one in clues])
    assert spearmanr(ours, ratings)[0] > 0.9
    assert 0.7 < ours[hard].mean() / ratings[hard].mean() < 1.4


def test_rating_does_not_hang_on_names_and_hardly_on_places():
    clues, _, _ = rated()
    images = [turned(one, random_symmetry((3, 3), key)) for key, one in enumerate(clues)]
    assert sum(rate(one) != rate(image) for one, image in zip(clues, images, strict=True)) <= 2


def test_difficulties():
    assert [difficulty_of(guesses) for guesses in (0, 1, 4, 5, 14, 15, 99)] == [
        "easy", "medium", "medium", "hard", "hard", "extreme", "extreme",
    ]  # fmt: skip
    assert rate(grid(NINE)) == 0
    with pytest.raises(ValueError, match="expected a puzzle with exactly one solution, got one with several"):
        rate(np.ones((9, 9), dtype=np.uint8))


@pytest.mark.parametrize("shape", [(0, 0), (1, 5), (4, 4), (16, 16), (300, 2)])
def test_boards_of_another_size_are_refused_by_compiled_rules(shape: tuple[int, int]) -> None:
    """They wrote past the ends of their arrays, and the process crashed later."""
    family, board = sudoku(), np.full(shape, 3, np.uint8)
    for rule in (family.solve, family.canonical):
        with pytest.raises(ValueError, match="expected boards of 9x9"):
            rule(board)
    for several in (family.violations, family.cost, family.count_violations):
        with pytest.raises(ValueError, match="expected boards of 9x9"):
            several(board[None], board[None])


def test_tokens_that_do_not_exist_are_refused_by_compiled_rules() -> None:
    for rule in (sudoku().solve, sudoku().canonical):
        with pytest.raises(ValueError, match=r"expected tokens 0\.\.10, got 3\.\.200"):
            rule(np.where(np.eye(9), 200, 3).astype(np.uint8))


def test_batches_of_different_lengths_are_refused() -> None:
    board = np.ones((5, 9, 9), np.uint8)
    with pytest.raises(ValueError, match="expected boards of one shape"):
        sudoku().judge(board, board, board[:2])
