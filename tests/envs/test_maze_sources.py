"""Where mazes come from: generator, banks, files."""

from __future__ import annotations

import pickle

import gymnasium as gym
import numpy as np
import pytest

from hrm_gym.envs.maze import rules, tokens
from hrm_gym.envs.maze.bank import BUNDLED, FOLDER, BankedMazes, build_bank
from hrm_gym.envs.maze.source import GeneratedMazes, MazeFile, make_source, split_of
from hrm_gym.envs.puzzle import PuzzleSource, puzzle_key

HEADER = "source,question,answer,rating\n"
KEYS = np.array([puzzle_key(0, k) for k in range(300)], dtype=np.uint64)


def write(tmp_path, text: str):
    path = tmp_path / "train.csv"
    path.write_text(text)
    return path


def row(question: str, answer: str, rating: str = "") -> str:
    return f"own,{question},{answer},{rating}\n"


@pytest.mark.parametrize("split", ["train", "test"])
def test_split_holds_for_generator_and_bank(split):
    for source in (GeneratedMazes(8, split), make_source("bank", 8, split)):
        assert isinstance(source, PuzzleSource)
        batch = source.batch(KEYS)
        assert {split_of(clues) for clues in batch.clues} == {split}


def test_batch_equals_single():
    for source in (GeneratedMazes(8), make_source("bank", 8), GeneratedMazes(12, "test", 20, 0.3)):
        batch = source.batch(KEYS)
        for i in (0, 5, 299):
            puzzle = source.puzzle(int(KEYS[i]))
            assert np.array_equal(puzzle.clues, batch.clues[i])
            assert np.array_equal(puzzle.solution, batch.solutions[i])


def test_generator_is_pinned():
    """The mazes of a key must never change: numbers in reports rest on them."""
    key = puzzle_key(0, 0)
    made = " S #  #   # #G     #    #      # #  #####   #   #####      #    "
    banked = "     S#     # # ##      ##    ###        # G   ##     #  #    # "
    assert tokens.decode(make_source("generate", 8).puzzle(key).clues) == made
    assert tokens.decode(make_source("bank", 8).puzzle(key).clues) == banked


def test_hard_mazes_have_long_paths():
    source = GeneratedMazes(30, "all", 110, 0.37)
    batch = source.batch(KEYS[:5])
    assert min(map(rules.path_length, batch.clues)) >= 110


@pytest.mark.parametrize(
    "arguments",
    [{"size": 1}, {"size": 8, "split": "dev"}, {"size": 8, "min_path": 1}, {"size": 8, "wall_share": 1.0}],
)
def test_bad_generator_arguments(arguments):
    with pytest.raises(ValueError, match=r"expected .* got"):
        GeneratedMazes(**arguments)


def test_impossible_mazes_are_given_up():
    with pytest.raises(ValueError, match="to exist, got none"):
        GeneratedMazes(4, min_path=16, wall_share=0.0).puzzle(0)


@pytest.mark.parametrize("made", BUNDLED, ids=lambda made: str(made["size"]))
def test_bundled_banks_are_what_their_seed_makes(made, tmp_path):
    some = {**made, "train": 3 if made["size"] == 30 else 200, "test": 1 if made["size"] == 30 else 50}
    built = BankedMazes(build_bank(**some, folder=tmp_path))
    bundled = BankedMazes(FOLDER / f"maze-{made['size']}-{made['min_path']}.npz")
    assert len(bundled) == made["train"]
    assert np.array_equal(bundled.clues[: len(built)], built.clues)
    assert int(np.load(bundled._path)["seed"]) == made["seed"]


def test_bank_stays_small_pickles_small_and_numbers_its_mazes():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.npz")) < 600_000
    bank = make_source("bank", 8, "all")
    assert isinstance(bank, BankedMazes)
    assert len(pickle.dumps(bank)) < 1000
    assert np.array_equal(bank[3].clues, bank.clues[3])
    with pytest.raises(IndexError, match="expected a maze index"):
        bank[len(bank)]
    assert isinstance(make_source("bank", 9), GeneratedMazes)


def test_file_keeps_stored_answers(tmp_path):
    path = write(tmp_path, HEADER + row("S     G  ", "S  o  G  ", "4") + row("S   #   G", "S  o# ooG", ""))
    mazes = MazeFile(path)
    assert len(mazes) == 2
    assert mazes.shape == (3, 3)
    assert mazes[0].name == "train.csv:2"
    assert mazes[0].rating == 4.0
    assert mazes[1].rating is None
    assert rules.is_solved(mazes[0].clues, mazes[0].solution)
    assert not np.array_equal(rules.solve(mazes[1].clues), mazes[1].solution)
    assert np.array_equal(mazes.puzzle(7).clues, mazes[1].clues)
    assert np.array_equal(mazes.batch(np.array([4, 7], dtype=np.uint64)).clues[1], mazes[1].clues)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"train.csv:1: expected the columns .* got an empty file"),
        ("a,b\n", r"train.csv:1: expected the columns .* got 'a,b'"),
        (HEADER, "train.csv: expected at least one maze"),
        (HEADER + "own,S  G\n", "train.csv:2: expected 4 fields, got 2"),
        (HEADER + row("S G", "SoG"), "train.csv:2: expected a square maze .* got 3 characters in question"),
        (HEADER + row("S  G", "So G") + row("S  G", "SoG"), "train.csv:3: expected 4 characters in answer"),
        (
            HEADER + row("S  X", "So G"),
            "train.csv:2: expected only the characters .* got 'X' at position 3 in question",
        ),
        (HEADER + row("S   ", "So  "), "train.csv:2: expected exactly one goal 'G', got 0"),
        (HEADER + row("SS G", "SS G"), "train.csv:2: expected exactly one start 'S', got 2"),
        (HEADER + row("S##G", "S##G"), "train.csv:2: expected a maze with a way"),
        (HEADER + row("S# G", "SooG"), "train.csv:2: expected an answer that keeps the maze, got 'o' for '#'"),
        (HEADER + row("So G", "So G"), "train.csv:2: expected a question without path"),
        (HEADER + row("S  G", "So G", "hard"), "train.csv:2: expected a number as rating, got 'hard'"),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        MazeFile(write(tmp_path, text))


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="found no such file"):
        make_source(tmp_path / "absent.csv")
    with pytest.raises(ValueError, match="got a folder"):
        make_source(tmp_path)
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ValueError, match=r"x.csv: expected a text file"):
        make_source(tmp_path / "x.csv")


def test_environment_takes_the_size_of_a_file(tmp_path):
    path = write(tmp_path, HEADER + row("S  G", "So G"))
    env = gym.make("HRMMaze-v0", source=path)
    observation, _ = env.reset(options={"index": 0})
    assert observation["puzzle"].shape == (2, 2)
    _, reward, terminated, _, info = env.step(np.append(env.unwrapped.puzzle.solution.ravel(), 1))
    assert (reward, terminated, info["exact"]) == (1.0, True, True)
