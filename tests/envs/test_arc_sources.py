"""Where ARC puzzles come from: the public tasks and their symmetric images, and files good and bad."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from hrm_gym.envs.arc import rules, tokens
from hrm_gym.envs.arc.rules import ArcFamily
from hrm_gym.envs.arc.source import ArcTasks, make_source
from hrm_gym.envs.puzzle import PuzzleSource, puzzle_keys

KEYS = puzzle_keys(np.full(60, 7, dtype=np.uint64), np.arange(60, dtype=np.uint64))


def pair(first: list, second: list | None) -> dict:
    return {"input": first, **({} if second is None else {"output": second})}


def task(test: list | None = None) -> dict:
    """Turn a row upside down."""
    shown = [pair([[1, 2]], [[1], [2]]), pair([[3, 4, 5]], [[3], [4], [5]])]
    return {"train": shown, "test": [pair([[6, 7]], [[6], [7]])] if test is None else test}


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("dataset", "split", "canvas", "count", "tasks"),
    [
        (1, "train", 30, 416, 800),
        (1, "evaluation", 30, 419, 800),
        (1, "all", 30, 835, 800),
        (1, "train", 12, 234, 800),
        (1, "test", 12, 127, 800),
        (2, "evaluation", 30, 167, 1120),
    ],
)
def test_the_public_tasks(dataset, split, canvas, count, tasks):
    source = ArcTasks(dataset, split, canvas)
    assert isinstance(source, PuzzleSource)
    assert (len(source), len(source.task_names), source.shape) == (count, tasks, (canvas, canvas))
    assert source.augment == (split == "train")


def test_every_board_shows_one_grid_and_fits_the_canvas():
    source, family = ArcTasks(1, "all", 12), ArcFamily(12)
    for index in range(len(source)):
        puzzle = source[index]
        assert family.make_puzzle(puzzle) is puzzle
        assert 1 <= int(puzzle.extras["pairs"][0]) <= 10
        assert not puzzle.extras["demonstrations"][int(puzzle.extras["pairs"][0]) :].any()
        family.check(puzzle.solution)


def test_names_and_numbers_count_through_both_splits():
    source = ArcTasks(1, "evaluation")
    puzzle = source[0]
    assert (puzzle.name, puzzle.puzzle_id) == ("arc1/evaluation/00576224:0", 401)
    assert tokens.crop(puzzle.clues).tolist() == [[3, 2], [7, 8]]
    assert tokens.crop(puzzle.solution).shape == (6, 6)
    small = ArcTasks(1, "evaluation", 12)[0]
    assert (small.name, small.puzzle_id) == (puzzle.name, 401)
    both = ArcTasks(1, "all")
    assert {int(number) for number in both.batch(np.arange(835, dtype=np.uint64)).puzzle_ids} == set(range(1, 801))


def test_an_index_is_checked():
    with pytest.raises(IndexError, match=r"0..418 of arc1, got 419"):
        ArcTasks(1, "evaluation")[419]


@pytest.mark.parametrize("augment", [False, True])
def test_a_batch_is_its_puzzles(augment):
    source = ArcTasks(1, "all", 12, augment)
    batch = source.batch(KEYS)
    for row, key in enumerate(KEYS.tolist()):
        one, other = source.puzzle(key), batch[row]
        for name in ("clues", "solution"):
            assert np.array_equal(getattr(one, name), getattr(other, name))
        assert np.array_equal(one.extras["demonstrations"], other.extras["demonstrations"])
        assert (one.puzzle_id, int(one.extras["pairs"][0])) == (other.puzzle_id, int(other.extras["pairs"][0]))


def test_a_symmetry_is_the_same_for_all_grids_of_a_puzzle():
    plain, augmented = ArcTasks(1, "train", augment=False), ArcTasks(1, "train", augment=True)
    turns, colours = rules.draw_symmetries(KEYS)
    for row, key in enumerate(KEYS.tolist()):
        stored, image = plain.puzzle(key), augmented.puzzle(key)

        def turned(board: np.ndarray, row: int = row) -> np.ndarray:
            grid = rules.turned(tokens.crop(board), turns[row])
            return tokens.place(colours[row][grid + 2] - np.uint8(2), 30)

        assert np.array_equal(image.clues, turned(stored.clues))
        assert np.array_equal(image.solution, turned(stored.solution))
        assert (image.puzzle_id, int(image.extras["pairs"][0])) == (stored.puzzle_id, int(stored.extras["pairs"][0]))
        assert image.name == f"{stored.name} t{turns[row]}"
        for number in range(int(stored.extras["pairs"][0])):
            for side in range(2):
                assert np.array_equal(
                    image.extras["demonstrations"][number, side], turned(stored.extras["demonstrations"][number, side])
                )


def test_what_is_handed_out_is_the_callers_own():
    source = ArcTasks(1, "evaluation", 12)
    first = source[3]
    first.extras["demonstrations"].fill(9)
    first.clues.fill(9)
    assert not np.array_equal(source[3].extras["demonstrations"], first.extras["demonstrations"])
    assert not np.array_equal(source[3].clues, first.clues)


def test_a_pickled_source_is_small_and_gives_the_same():
    source = ArcTasks(1, "train", 12)
    kept = pickle.dumps(source)
    assert len(kept) < 1000
    twin = pickle.loads(kept)
    assert np.array_equal(twin.batch(KEYS).extras["demonstrations"], source.batch(KEYS).extras["demonstrations"])


def test_a_folder_with_splits(tmp_path):
    for name in ("b", "a"):
        write(tmp_path / "arc" / "training" / f"{name}.json", task())
    write(tmp_path / "arc" / "evaluation" / "c.json", task([pair([[1]], [[1]]), pair([[2]], [[2]])]))
    train, evaluation, both = (ArcTasks(tmp_path / "arc", split, augment=False) for split in ("train", "test", "all"))
    assert [len(source) for source in (train, evaluation, both)] == [2, 2, 4]
    assert [train[i].name for i in range(2)] == ["arc/train/a:0", "arc/train/b:0"]
    assert [(both[i].name, both[i].puzzle_id) for i in (2, 3)] == [
        ("arc/evaluation/c:0", 3),
        ("arc/evaluation/c:1", 3),
    ]
    assert tokens.crop(train[0].solution).tolist() == [[6], [7]]


@pytest.mark.parametrize("split", ["train", "evaluation"])
def test_a_heap_of_files_is_taken_whole(tmp_path, split):
    write(tmp_path / "heap" / "a.json", task())
    source = make_source(tmp_path / "heap", split=split)
    assert len(source) == 1
    assert source[0].name == "heap/a:0"
    assert len(make_source(str(tmp_path / "heap" / "a.json"))) == 1


def test_solutions_beside_challenges(tmp_path):
    challenges = {"x": task([pair([[1]], None), pair([[2]], None)]), "y": task([pair([[3]], None)])}
    path = write(tmp_path / "arc-agi_training_challenges.json", challenges)
    with pytest.raises(ValueError, match="expected a task of split 'train' with test outputs"):
        ArcTasks(path)
    solutions = write(tmp_path / "arc-agi_training_solutions.json", {"x": [[[5]], [[6]]], "y": [[[7]]]})
    source = ArcTasks(path, augment=False)
    assert [tokens.crop(source[i].solution).item() for i in range(3)] == [5, 6, 7]
    write(solutions, {"x": [[[5]]]})
    with pytest.raises(ValueError, match=r"challenges.json:x: expected 2 solutions, one a test pair, got 1"):
        ArcTasks(path)


def test_test_pairs_without_output_are_left_out_and_large_tasks_too(tmp_path):
    path = write(tmp_path / "a.json", task([pair([[1]], None), pair([[2]], [[3] * 5])]))
    source = ArcTasks(path, augment=False)
    assert len(source) == 1
    assert tokens.crop(source[0].solution).tolist() == [[3] * 5]
    with pytest.raises(ValueError, match="at most 4x4 cells, got none"):
        ArcTasks(path, canvas=4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "bad.json: expected JSON"),
        ("[" * 100_000, "bad.json: expected JSON of at most 100 levels"),
        ([1], "bad.json: expected a task with the keys 'train' and 'test'"),
        ({"train": [], "test": []}, "bad.json: expected a list of at least one train pair"),
        ({"train": [{"output": [[1]]}], "test": []}, r"expected a pair with an 'input', got .* as train pair 0"),
        ({**task(), "train": [pair([[1]], None)]}, "expected an output, got none in train pair 0"),
        (task([pair([[1, 2], [3]], [[1]])]), r"got lengths \[2, 1\] in the input of test pair 0"),
        (task([pair([[1]], [[1, 10]])]), "expected colours 0..9, got 10 in the output of test pair 0"),
        (task([pair([[1]], [[-1]])]), "expected colours 0..9, got -1"),
        (task([pair([[1] * 31], [[1]])]), "at most 30x30 cells, got 1x31 in the input of test pair 0"),
        (task([pair([[0.5]], [[1]])]), "expected rows of whole numbers"),
        (task([pair([], [[1]])]), "expected rows of whole numbers"),
        (task([pair("12", [[1]])]), "expected rows of whole numbers, got '12'"),
    ],
)
def test_bad_files_are_named(tmp_path, content, message):
    write(tmp_path / "heap" / "good.json", task())
    write(tmp_path / "heap" / "bad.json", content)
    with pytest.raises(ValueError, match=message) as caught:
        ArcTasks(tmp_path / "heap")
    assert str(caught.value).removeprefix(f"{tmp_path / 'heap'}/").startswith("bad.json: ")


def test_bad_places_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="found neither"):
        ArcTasks(tmp_path / "nothing")
    with pytest.raises(ValueError, match="expected JSON files of ARC tasks, found none"):
        ArcTasks(tmp_path)
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(ValueError, match="UTF-8"):
        ArcTasks(tmp_path / "bytes.json")
    with pytest.raises(ValueError, match="a dictionary of tasks, got list"):
        ArcTasks(write(tmp_path / "list.json", "[]"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "generate"}, "cannot be generated"),
        ({"source": "nowhere"}, "expected source 'bank', a folder or JSON file of tasks, or a PuzzleSource, got"),
        ({"source": 3}, "PuzzleSource, got 3"),
        ({"dataset": 3}, "expected dataset to be 1 or 2, got 3"),
        ({"dataset": [1]}, "expected dataset to be 1 or 2"),
        ({"split": "dev"}, "expected split to be one of train, evaluation, test, all, got 'dev'"),
        ({"canvas": 31}, r"expected canvas in 1..30, got 31"),
        ({"augment": "yes"}, "expected augment to be True, False or None, got 'yes'"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_source(**arguments)


def test_a_source_is_taken_as_it_is():
    source = ArcTasks(1, "all", 12)
    assert make_source(source, dataset=2, canvas=30) is source


def test_a_test_grid_keeps_its_number_in_the_file(tmp_path):
    """Test grids without an output cannot be judged and are left out; the others keep the file's numbers."""
    tests = [{"input": [[3]]}, {"input": [[4]], "output": [[5]]}]
    task = {"train": [{"input": [[1]], "output": [[2]]}], "test": tests}
    file = tmp_path / "second.json"
    file.write_text(json.dumps(task))
    assert ArcTasks(file)[0].name == "second/second:1"
    family = ArcFamily(4)
    assert family.make_puzzle((task, 1)).name == family.make_puzzle(task).name == "own task:1"
    with pytest.raises(ValueError, match="expected a test pair out of 1 with an output, got 0"):
        family.make_puzzle((task, 0))
