"""The rules of mazes, from boards written by hand and from properties that must hold on any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrm_gym.envs.maze import rules, tokens
from hrm_gym.envs.maze.rules import MAZE
from hrm_gym.envs.maze.source import GeneratedMazes, split_of

MAZE_4 = "S  #\n #  \n   #\n## G"


def is_solved(clues: np.ndarray, answer: np.ndarray) -> bool:
    return bool(MAZE.judge(clues[None], clues[None], answer[None])[0])


def violations(clues: np.ndarray, answer: np.ndarray) -> np.ndarray:
    return MAZE.violations(clues[None], answer[None])[0]


def is_connected(clues: np.ndarray, answer: np.ndarray) -> bool:
    return bool(MAZE.connected(clues[None], answer[None])[0])


def grid(text: str) -> np.ndarray:
    return np.stack([tokens.encode(row) for row in text.split("\n")])


@pytest.mark.parametrize(
    ("maze", "solution"),
    [
        ("SG", "SG"),
        ("S G", "SoG"),
        ("S  \n   \n  G", "Soo\n  o\n  G"),  # right before down
        ("  G\n   \nS  ", "ooG\no  \nS  "),  # up before right
        ("G  \n   \n  S", "Goo\n  o\n  S"),  # up before left
        ("  S\n   \nG  ", "  S\n  o\nGoo"),  # down before left
        (MAZE_4, "Soo#\n #o \n  o#\n##oG"),
    ],
)
def test_canonical_solution(maze, solution):
    assert tokens.to_text(MAZE.solve(grid(maze))) == solution
    assert is_solved(grid(maze), grid(solution))
    assert not violations(grid(maze), grid(solution)).any()


@pytest.mark.parametrize("maze", ["S#G", "S #\n## \n# G"])
def test_no_way(maze):
    assert MAZE.solve(grid(maze)) is None
    with pytest.raises(ValueError, match="expected a maze with a way"):
        MAZE.check(grid(maze))


@pytest.mark.parametrize("answer", ["Soo\n  o\n  G", "So \n oo\n  G", "S  \no  \nooG"])
def test_every_shortest_path_is_right(answer):
    assert is_solved(grid("S  \n   \n  G"), grid(answer))


@pytest.mark.parametrize(
    ("maze", "answer", "wrong"),
    [
        ("S  \n   \n  G", "S  \n   \n  G", 0),  # nothing drawn
        ("S  \n   \n  G", "So \n   \n  G", 1),  # loose end
        ("S  \n   \n  G", "Soo\n oo\n  G", 2),  # too many path cells: a knot
        ("S#G\n   ", "SoG\n   ", 1),  # through a wall: the answer opens it
        ("S#G\n   ", "S G\n   ", 1),
        ("S G\n   ", "SoS\n   ", 1),  # a goal made a start
        ("S G\n   ", "S?G\n   ", 1),  # padding in the grid
        ("S   \n### \n#G  ", "Sooo\n###o\n#Goo", 0),  # right, see below
        ("S  G\n    ", "S  G\noooo", 0),  # a detour keeps every local rule and is still no shortest path
    ],
)
def test_violations_and_wrong_answers(maze, answer, wrong):
    clues = grid(maze)
    shown = np.stack([np.array([tokens.SYMBOLS.index(c) for c in row], np.uint8) for row in answer.split("\n")])
    assert np.count_nonzero(violations(clues, shown)) == wrong
    right = answer == "Sooo\n###o\n#Goo"
    assert is_solved(clues, shown) == right


def test_a_detour_is_connected_but_not_solved():
    clues = grid("S  G\n    ")
    assert is_connected(clues, grid("S  G\noooo"))
    assert not is_solved(clues, grid("S  G\noooo"))
    assert not is_connected(clues, grid("So G\n    "))


@pytest.mark.parametrize(
    ("puzzle", "message"),
    [
        ("S#\nG", "expected 2 characters in every line"),
        ("S#G", "expected a square maze"),
        ("SX\n G", "got 'X' at position 1"),
        ("So\n G", "without path cells"),
        ("", "got an empty text"),
        ([[1, 2], [3]], "rows of one length"),
        ([[1, 9], [3, 4]], "expected maze tokens"),
        ([1, 2, 3], r"expected an \(H, W\) grid"),
        (np.ones((2, 2)), "integer token ids"),
    ],
)
def test_parse_says_what_is_wrong(puzzle, message):
    with pytest.raises(ValueError, match=message):
        MAZE.parse(puzzle)


@pytest.mark.parametrize("maze", ["S \n  ", "SS\nG ", "SG\nG ", "# \n G"])
def test_check_counts_starts_and_goals(maze):
    with pytest.raises(ValueError, match="expected exactly one"):
        MAZE.check(grid(maze))


def test_text_round_trip():
    clues = GeneratedMazes(9, "all").puzzle(5).clues
    assert np.array_equal(MAZE.parse(tokens.to_text(clues)), clues)
    assert np.array_equal(MAZE.parse(tokens.decode(clues)), clues)
    assert np.array_equal(MAZE.parse(clues.tolist()), clues)


keys = st.integers(0, 2**64 - 1)


@settings(max_examples=60, deadline=None)
@given(key=keys, size=st.integers(4, 14))
def test_generated_mazes_are_valid_and_their_symmetric_images_too(key, size):
    puzzle = GeneratedMazes(size, "all").puzzle(key)
    MAZE.check(puzzle.clues)
    assert rules.path_length(puzzle.clues) >= size
    assert np.array_equal(MAZE.solve(puzzle.clues), puzzle.solution)
    for order in rules.dihedral(size, size):
        clues, answer = (g.ravel()[order].reshape(puzzle.shape) for g in (puzzle.clues, puzzle.solution))
        assert is_solved(clues, answer)
        assert not violations(clues, answer).any()
        assert is_solved(clues, MAZE.solve(clues))
        assert split_of(clues) == split_of(puzzle.clues)


@settings(max_examples=60, deadline=None)
@given(key=keys, cell=st.integers(0, 63), token=st.integers(0, 5))
def test_any_other_token_in_one_cell_makes_the_solution_wrong(key, cell, token):
    puzzle = GeneratedMazes(8, "all").puzzle(key)
    answer = puzzle.solution.copy()
    answer.flat[cell] = token
    assert is_solved(puzzle.clues, answer) == (token == puzzle.solution.flat[cell])


@settings(max_examples=30, deadline=None)
@given(key=keys)
def test_distances_fall_by_one_along_the_solution(key):
    puzzle = GeneratedMazes(8, "all").puzzle(key)
    distance = rules.distances(puzzle.clues)
    on_path = np.isin(puzzle.solution, (tokens.START, tokens.PATH, tokens.GOAL))
    assert sorted(distance[on_path]) == list(range(on_path.sum()))


@settings(max_examples=30, deadline=None)
@given(key=keys)
def test_next_move_carries_out_the_solution(key):
    puzzle = GeneratedMazes(8, "all").puzzle(key)
    current, moves = puzzle.clues.copy(), 0
    while (current == tokens.GOAL).any():
        place = np.argwhere(current == tokens.START)[0]
        step = rules.MOVES[MAZE.next_move(puzzle.clues, current, puzzle.solution)]
        current[tuple(place)] = tokens.PATH
        current[tuple(place + step)] = tokens.START
        moves += 1
    assert moves + 1 == rules.path_length(puzzle.clues)


def test_symmetries_are_eight_different_permutations():
    table = np.stack([MAZE.symmetry((5, 5), key)[0] for key in range(8)])
    assert table.shape == (8, 25)
    assert np.array_equal(table[0], np.arange(25))
    assert len({tuple(row) for row in table}) == 8
    assert (np.sort(table, axis=1) == np.arange(25)).all()


def test_auxiliary_labels_lead_from_every_cell_to_the_goal_by_a_shortest_way() -> None:
    batch = GeneratedMazes((9, 12), min_path=5).batch(np.arange(30, dtype=np.uint64))
    labels = MAZE.auxiliary_labels(batch.clues)
    for clues, solution, own in zip(batch.clues, batch.solutions, labels, strict=True):
        distance = rules.distances(clues)
        for row, column in np.ndindex(clues.shape):
            if own[row, column] == -100:
                assert distance[row, column] <= 0 or clues[row, column] == tokens.WALL
                continue
            down, right = ((-1, 0), (0, 1), (1, 0), (0, -1))[own[row, column]]
            assert distance[row + down, column + right] == distance[row, column] - 1
        at, walked = tuple(np.argwhere(clues == tokens.START)[0]), clues.copy()
        while True:
            down, right = ((-1, 0), (0, 1), (1, 0), (0, -1))[own[at]]
            at = (at[0] + down, at[1] + right)
            if clues[at] == tokens.GOAL:
                break
            walked[at] = tokens.PATH
        assert np.array_equal(walked, solution), "followed from the start they are the canonical path"
