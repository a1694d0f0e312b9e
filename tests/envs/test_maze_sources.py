"""Where mazes come from: generator, banks, files."""

from __future__ import annotations

import pickle

import gymnasium as gym
import numpy as np
import pytest

from hrm_gym.envs.maze import rules, tokens
from hrm_gym.envs.maze.rules import MAZE
from hrm_gym.envs.maze.source import BUNDLED, FOLDER, BankedMazes, GeneratedMazes, build_bank, make_source, split_of
from hrm_gym.envs.puzzle import BANK_SEED, PuzzleSource, puzzle_key

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
    some = {**made, "train": 3 if made["size"] == 30 else 200, "test": 1 if made["size"] == 30 else 50, "validation": 1}
    built = BankedMazes(build_bank(**some, folder=tmp_path))
    bundled = BankedMazes(FOLDER / f"maze-{made['size']}-{made['min_path']}.npz")
    assert len(bundled) == made["train"]
    assert np.array_equal(bundled.clues[: len(built)], built.clues)
    assert int(np.load(bundled._path)["seed"]) == BANK_SEED


def test_bank_stays_small_pickles_small_and_numbers_its_mazes():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.npz")) < 600_000
    bank = make_source("bank", 8, "all")
    assert isinstance(bank, BankedMazes)
    assert len(pickle.dumps(bank)) < 1000
    assert np.array_equal(bank[3].clues, bank.clues[3])
    with pytest.raises(IndexError, match="expected a maze index"):
        bank[len(bank)]
    assert isinstance(make_source("bank", 9), GeneratedMazes)


def test_a_file_is_played_as_it_is_stored(tmp_path):
    path = write(tmp_path, HEADER + row("S     G  ", "S  o  G  ", "4") + row("S   #   G", "S  o# ooG", ""))
    mazes = make_source(path)
    assert mazes.shape == (3, 3)
    assert mazes.puzzle(7).name == "train.csv:3"
    one = mazes.puzzle(0)
    assert MAZE.judge(*(grid[None] for grid in (one.clues, one.solution, one.solution)))[0]
    assert not np.array_equal(MAZE.solve(mazes.puzzle(1).clues), mazes.puzzle(1).solution)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + row("S G", "SoG"), "train.csv:2: expected a square maze .* got 3 characters in question"),
        (HEADER + row("S  X", "So G"), "train.csv:2: expected only the characters .* 'X' at position 3 in question"),
        (HEADER + row("S   ", "So  "), "train.csv:2: expected exactly one goal 'G', got 0"),
        (HEADER + row("SS G", "SS G"), "train.csv:2: expected exactly one start 'S', got 2"),
        (HEADER + row("S##G", "S##G"), "train.csv:2: expected a maze with a way"),
        (HEADER + row("S# G", "SooG"), "train.csv:2: expected an answer that keeps the maze, got 'o' for '#'"),
        (HEADER + row("So G", "So G"), "train.csv:2: expected a question without path"),
        (HEADER + row("S  G", "So G") * 3 + row("S  G", "S 0G"), "train.csv:5: expected only the characters"),
    ],
)
def test_rows_that_are_no_mazes_are_named_with_their_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        make_source(write(tmp_path, text))


def test_sources_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="found no such file"):
        make_source(tmp_path / "absent.csv")
    with pytest.raises(ValueError, match="got a folder without"):
        make_source(tmp_path)
    with pytest.raises(ValueError, match="expected source 'bank', 'generate', a file or a PuzzleSource, got 'banks'"):
        make_source("banks")


def test_environment_takes_the_size_of_a_file(tmp_path):
    path = write(tmp_path, HEADER + row("S  G", "So G"))
    env = gym.make("HRMMaze-v0", source=path)
    observation, _ = env.reset(options={"index": 0})
    assert observation["puzzle"].shape == (2, 2)
    _, reward, terminated, _, info = env.step(np.append(env.unwrapped.puzzle.solution.ravel(), 1))
    assert (reward, terminated, info["exact"]) == (1.0, True, True)


@pytest.mark.parametrize("shape", [(4, 6), (9, 3)])
def test_rectangular_mazes(shape):
    for split in ("train", "test", "all"):
        batch = GeneratedMazes(shape, split).batch(np.arange(20, dtype=np.uint64))
        assert batch.clues.shape == (20, *shape)
        assert MAZE.judge(batch.clues, batch.solutions, batch.solutions).all()
        assert split == "all" or {split_of(clues) for clues in batch.clues} == {split}
        images = batch.clues[0].ravel()[rules.dihedral(*shape)].reshape(-1, *shape)
        assert len({split_of(image) for image in images}) == 1
        assert len({MAZE.canonical(image).tobytes() for image in images}) == 1
        assert np.array_equal(MAZE.preimage(MAZE.image(batch.clues, 3), 3), batch.clues)
    with pytest.raises(ValueError, match=r"expected size to be an integer, or \(rows, columns\), got"):
        GeneratedMazes((4, 5, 6))
