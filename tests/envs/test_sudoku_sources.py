"""Where Sudokus come from: generator, walk, banks."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from hrm_gym.envs.puzzle import BANK_SEED, PuzzleSource, puzzle_key
from hrm_gym.envs.sudoku import extreme, tokens
from hrm_gym.envs.sudoku.backdoors import effects
from hrm_gym.envs.sudoku.boxes import BOXES
from hrm_gym.envs.sudoku.extreme import BUNDLED_FOUNDERS, load_founders
from hrm_gym.envs.sudoku.generator import CLUES
from hrm_gym.envs.sudoku.rules import sudoku
from hrm_gym.envs.sudoku.solver import difficulty_of, rate, solve
from hrm_gym.envs.sudoku.source import (
    BUNDLED,
    FOLDER,
    BankedSudoku,
    ExtremeSudoku,
    GeneratedSudoku,
    build_bank,
    find_bank,
    make_source,
    split_of,
)
from hrm_gym.envs.sudoku.tokens import pack, unpack

KEYS = np.array([puzzle_key(0, k) for k in range(300)], dtype=np.uint64)
SOURCES = [
    *(GeneratedSudoku(box) for box in BOXES),
    GeneratedSudoku((2, 2), split="test"),
    GeneratedSudoku((3, 3), "medium", "test"),
    ExtremeSudoku("test"),
    *(make_source("bank", made["box"], made["difficulty"], "test") for made in BUNDLED),
]


def name(source: PuzzleSource) -> str:
    box = getattr(source, "box", source.shape[:1])
    return f"{type(source).__name__}-{box}-{getattr(source, 'difficulty', '')}"


@pytest.mark.parametrize("source", SOURCES, ids=name)
def test_sources_give_puzzles_with_one_solution(source):
    assert isinstance(source, PuzzleSource)
    keys = KEYS[: 3 if isinstance(source, ExtremeSudoku) else 20]
    batch = source.batch(keys)
    box = source.box if isinstance(source, BankedSudoku) else source.board.box if hasattr(source, "board") else (3, 3)
    for clues, solution in zip(batch.clues, batch.solutions, strict=True):
        assert np.array_equal(solve(clues, box), solution)
        assert source.split in ("all", split_of(clues, solution, box))
    puzzle = source.puzzle(int(keys[2]))
    assert np.array_equal(puzzle.clues, batch.clues[2])
    assert np.array_equal(puzzle.solution, batch.solutions[2])
    assert len({clues.tobytes() for clues in batch.clues}) == len(keys)


@pytest.mark.parametrize(("difficulty", "count"), [("easy", 30), ("medium", 10), ("hard", 3), ("extreme", 3)])
def test_difficulty_is_kept(difficulty, count):
    source = make_source("generate", difficulty=difficulty)
    for key in KEYS[:count].tolist():
        puzzle = source.puzzle(key)
        assert puzzle.rating == rate(puzzle.clues)
        assert difficulty_of(puzzle.rating) == difficulty


def test_generator_is_pinned():
    """The puzzles of a key must never change: numbers in reports rest on them."""
    key = puzzle_key(0, 0)
    pinned = {
        ("generate", (2, 2), "easy"): "1..33..42...413.",
        (
            "generate",
            (3, 3),
            "easy",
        ): "2.7............6..4.8.7.3....1.....5....238.6.9...8.2....9...61.12.4...3..3..1.7.",
        (
            "generate",
            (3, 3),
            "medium",
        ): ".............41.8.4..8.239.....57....79..4..68..1.......8...1...2.5......67..34..",
        (
            "generate",
            (3, 3),
            "extreme",
        ): "..9.5.1..8.1....2.2..6........7...4.4.6....1..1...3..8..3.987.....3......7..6...9",
        ("bank", (2, 2), "easy"): ".4.2.24..12.....",
        (
            "bank",
            (3, 3),
            "extreme",
        ): ".8......6....52.1.19.......86.3......7...9..5.......3...4..89.7...4...5....67....",
    }
    made = {about: tokens.decode(make_source(*about).puzzle(key).clues) for about in pinned}
    assert made == pinned


def test_clues_and_filling():
    few = GeneratedSudoku(clues=(50, 50)).batch(KEYS)
    assert {int(count) for count in (few.clues > 1).sum((1, 2))} == {50}
    usual = (GeneratedSudoku().batch(KEYS).clues > 1).sum((1, 2))
    assert usual.min() >= CLUES[9][0]
    assert 32 < usual.mean() < 35
    half = GeneratedSudoku(difficulty="medium", filled=0.5)
    counts = (half.batch(KEYS[:50]).clues > 1).sum((1, 2))
    assert 49 < counts.mean() < 56
    assert half.puzzle(1).rating == rate(half.puzzle(1).clues)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"box": (3, 4)}, "expected a box out of"),
        ({"box": (2, 2), "difficulty": "hard"}, "expected difficulty out of easy on a 4x4 board, got 'hard'"),
        ({"difficulty": "easier"}, "expected difficulty out of easy, medium, hard, extreme on a 9x9 board"),
        ({"difficulty": "extreme"}, "ExtremeSudoku makes those"),
        ({"difficulty": np.array([])}, "expected difficulty out of easy, medium, hard, extreme"),
        ({"split": "dev"}, "expected split to be one of train, test, all, validation, held-out, got 'dev'"),
        ({"clues": (30, 20)}, r"expected clues \(least, most\) in 0..81, got \(30, 20\)"),
        ({"filled": 1.0}, "expected 0 <= filled < 1, got 1.0"),
    ],
)
def test_bad_generator_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        GeneratedSudoku(**arguments)


def test_bad_sources():
    for bad in (None, "banks"):
        with pytest.raises(ValueError, match="expected source 'bank', 'generate', a file or a PuzzleSource, got"):
            make_source(bad)
    with pytest.raises(ValueError, match="expected split"):
        make_source(split="dev")
    with pytest.raises(ValueError, match="expected split"):
        ExtremeSudoku("dev")
    for absent in ("absent.csv", "/absent/folder", "absent/"):
        with pytest.raises(FileNotFoundError):
            make_source(absent)
    source = GeneratedSudoku()
    assert make_source(source) is source
    assert isinstance(make_source("bank", (3, 2)), GeneratedSudoku)


@pytest.mark.parametrize("box", [(2, 2), (2, 3), (3, 3)])
def test_packing_round_trip(box):
    batch = GeneratedSudoku(box).batch(KEYS[:7])
    packed = unpack(*pack(batch.clues, batch.solutions), batch.clues.shape[1])
    assert np.array_equal(packed[:, 0], batch.clues.reshape(7, -1))
    assert np.array_equal(packed[:, 1], batch.solutions.reshape(7, -1))


@pytest.mark.parametrize("made", BUNDLED, ids=lambda made: f"{made['box']}-{made['difficulty']}")
def test_bundled_banks_are_what_their_seed_makes(made, tmp_path):
    some = 60 if made["difficulty"] == "easy" else 2
    there = build_bank(**{**made, "train": some, "test": some, "validation": some}, folder=tmp_path)
    path = find_bank(made["box"], made["difficulty"])
    for split in ("train", "test", "validation", "held-out"):
        built, bundled = BankedSudoku(there, split), BankedSudoku(path, split)
        assert len(bundled) == made[split.replace("held-out", "test")]
        assert np.array_equal(bundled.clues[:some], built.clues)
        fitting = [difficulty_of(rating) == made["difficulty"] for rating in bundled.ratings]
        assert np.mean(fitting) > 0.99, "the image of a puzzle may be rated a guess lower than the puzzle itself"
    assert int(np.load(path)["seed"]) == BANK_SEED


def test_extreme_bank_is_as_hard_as_sudoku_extreme():
    bank = make_source("bank", difficulty="extreme", split="all")
    assert isinstance(bank, BankedSudoku)
    assert 24 <= bank.ratings.mean() <= 32
    assert np.percentile(bank.ratings, 5) < 18 < 45 < np.percentile(bank.ratings, 95), "easier and harder ones"
    assert bank.ratings[7] == rate(bank[7].clues)


def test_founders_are_extreme_and_of_their_split():
    for split in ("train", "test"):
        founders = load_founders(split).reshape(-1, 2, 9, 9)
        assert len(founders) == BUNDLED_FOUNDERS[split] * (1 + BUNDLED_FOUNDERS["rounds"])
        expected = {"train"} if split == "train" else {"test", "validation"}
        assert {split_of(*founder, (3, 3)) for founder in founders} == expected
        assert min(rate(clues) for clues, _ in founders[::16]) >= 15


def test_hardening_makes_no_puzzle_easier_and_leaves_its_split_alone(monkeypatch):
    monkeypatch.setattr(extreme, "TRIALS", 60)
    founders = load_founders("test")[:8].reshape(-1, 2, 9, 9)
    given, solved = founders[:, 0].copy(), founders[:, 1].copy()
    clues, solutions = extreme.harden(given, solved, "test", seed=3, rounds=2)
    assert clues.shape == solutions.shape == (24, 9, 9)
    np.testing.assert_array_equal(clues[:8], founders[:, 0])
    ratings = [rate(puzzle) for puzzle in clues]
    assert all(after >= before for before, after in zip(ratings[:8], ratings[8:16], strict=True))
    assert sum(ratings[8:16]) > sum(ratings[:8])
    assert min(ratings[16:]) >= min(ratings[8:16])
    for puzzle, solution in zip(clues, solutions, strict=True):
        assert split_of(puzzle, solution, (3, 3)) in ("test", "validation")
        assert sudoku((3, 3)).judge(puzzle[None], solution[None], solution[None])[0]


def test_banks_stay_small_pickle_small_and_number_their_puzzles():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.npz")) < 2_000_000
    bank = make_source("bank", split="all")
    assert isinstance(bank, BankedSudoku)
    assert len(pickle.dumps(bank)) < 1000
    assert np.array_equal(pickle.loads(pickle.dumps(bank)).clues, bank.clues)
    assert np.array_equal(bank[3].clues, bank.clues[3])
    assert bank[3].name == "sudoku-9x9-easy/all:3"
    with pytest.raises(IndexError, match="expected a puzzle index"):
        bank[len(bank)]


def test_a_backdoor_is_a_cell_whose_right_digit_leaves_nothing_to_guess():
    easy = make_source("bank", difficulty="easy", split="all").batch(np.arange(3, dtype=np.uint64))
    assert (effects(easy.clues, easy.solutions) == 1).all()  # nothing to guess
    boards = make_source("bank", difficulty="extreme", split="all").batch(np.arange(40, dtype=np.uint64))
    found = effects(boards.clues, boards.solutions)[:, 1]
    for clues, solution, share in zip(boards.clues, boards.solutions, found, strict=True):
        cells = np.flatnonzero(clues < 2)
        backdoors = sum(rate(np.where(np.arange(81).reshape(9, 9) == cell, solution, clues)) == 0 for cell in cells)
        assert backdoors / len(cells) <= share <= backdoors  # cells that need no guess are not among those that count
    assert 0 < (found == 0).sum() < len(found)
