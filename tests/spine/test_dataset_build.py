"""Computing data sets: no puzzle twice, images in groups, and the same result however the work was cut up."""

from __future__ import annotations

import multiprocessing
import os
import signal
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hrm_gym.data.build import DatasetBuild, Plan, Workplace, with_images
from hrm_gym.data.stream import stream_keys
from hrm_gym.data.workers import Workers
from hrm_gym.envs.maze import rules
from hrm_gym.envs.maze.rules import MAZE, MazeFamily
from hrm_gym.envs.maze.source import GeneratedMazes
from hrm_gym.envs.puzzle import PuzzleBatch


def small_mazes(split: str, size: int = 3) -> GeneratedMazes:
    return GeneratedMazes(size, split, 3)


class UprightMazes(MazeFamily):
    """Mazes that are the same only if they are equal."""

    def canonical(self, clues: Any) -> Any:
        return clues


def plan(block: int = 16, **changes: Any) -> Plan:
    wanted: dict[str, Any] = {"family": UprightMazes(), "source": small_mazes, "counts": {"train": 60, "test": 5}}
    return Plan(**{**wanted, "seed": 1, "block": block, **changes})


def built(folder: Path, plan: Plan, processes: int = 1) -> dict[str, np.ndarray]:
    work = DatasetBuild(plan, Workplace(folder, {"seed": plan.seed}))
    assert list(work.run(processes))[-1:] in ([], [sum(plan.counts.values())])
    return {split: np.concatenate([batch.clues for batch in work.batches(split)]) for split in plan.counts}


def test_no_puzzle_comes_twice_and_the_order_is_that_of_the_keys(tmp_path: Path) -> None:
    found = built(tmp_path / "a", plan())
    assert {split: len(clues) for split, clues in found.items()} == {"train": 60, "test": 5}
    texts = [clues.tobytes() for split in found for clues in found[split]]
    assert len(set(texts)) == 65
    drawn = small_mazes("train").batch(stream_keys(1, 0, 400)).clues
    assert [clues.tobytes() for clues in found["train"]] == list(dict.fromkeys(c.tobytes() for c in drawn))[:60]
    again = built(tmp_path / "b", plan(block=7))
    assert np.array_equal(found["train"], again["train"])


def test_up_to_symmetry_where_the_family_says_so(tmp_path: Path) -> None:
    found = built(tmp_path / "a", plan(family=MAZE, counts={"train": 30}))["train"]
    assert len({MAZE.canonical(clues).tobytes() for clues in found}) == 30


def test_a_world_with_too_few_puzzles_is_given_up(tmp_path: Path) -> None:
    world = plan(source=partial(small_mazes, size=2), counts={"train": 1000})
    work = DatasetBuild(world, Workplace(tmp_path / "a", {}))
    with pytest.raises(
        ValueError, match=r"expected 1000 different puzzles for train to exist, got no more than \d+ in"
    ):
        list(work.run())


def test_the_result_does_not_depend_on_the_number_of_processes_and_none_stays(tmp_path: Path) -> None:
    one, two = built(tmp_path / "one", plan()), built(tmp_path / "two", plan(), processes=2)
    assert all(np.array_equal(one[split], two[split]) for split in one)
    parts = [sorted((tmp_path / f"{name}.partial" / "parts").iterdir()) for name in ("one", "two")]
    assert [file.read_bytes() for file in parts[0]] == [file.read_bytes() for file in parts[1]]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("stop", [1, 3, 9])
def test_an_interrupted_build_goes_on(tmp_path: Path, stop: int) -> None:
    whole = built(tmp_path / "whole", plan())
    work = DatasetBuild(plan(), Workplace(tmp_path / "a", {"seed": 1}))
    for _, _ in zip(range(stop), work.run(), strict=False):
        pass
    again = DatasetBuild(plan(), Workplace(tmp_path / "a", {"seed": 1}))
    assert 0 < again.done == work.done
    rest = built(tmp_path / "a", plan())
    assert all(np.array_equal(whole[split], rest[split]) for split in whole)


def awkward(number: int) -> int:
    """Work that answers, complains or dies."""
    if number == 3:
        raise ValueError("expected another number, got 3")
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_worker_that_complains_or_dies_is_heard() -> None:
    with Workers(1, awkward) as workers:
        results = workers.ordered((number,) for number in count())
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="got 3"):
            next(results)
        assert next(workers.ordered((number,) for number in count(10))) == 10
        with pytest.raises(OSError, match=r"a worker process died \(out of memory\?\)"):
            next(workers.ordered(iter([(5,)] * 9)))
    assert not multiprocessing.active_children()


def test_another_recipe_is_refused_unless_that_is_wanted(tmp_path: Path) -> None:
    built(tmp_path / "a", plan())
    with pytest.raises(ValueError, match=r"a.partial: expected seed 1, as the build there was begun, got 2; use"):
        Workplace(tmp_path / "a", {"seed": 2})
    assert Workplace(tmp_path / "a", {"seed": 1}, overwrite=True).resumed
    assert not Workplace(tmp_path / "a", {"seed": 2}, overwrite=True).resumed


def test_images_are_different_and_stand_behind_their_puzzle() -> None:
    batch = GeneratedMazes(6).batch(stream_keys(0, 0, 5))
    found, sizes = with_images(MAZE, batch, 3, seed=4, first=10)
    assert sizes.tolist() == [4] * 5
    for group in range(5):
        rows = slice(4 * group, 4 * group + 4)
        assert np.array_equal(found.clues[4 * group], batch.clues[group])
        turned = {image.tobytes() for image in batch.clues[group].ravel()[rules.dihedral(6, 6)]}
        images = [clues.tobytes() for clues in found.clues[rows]]
        assert len(set(images)) == 4
        assert set(images) <= turned
        assert MAZE.judge(found.clues[rows], found.solutions[rows], found.solutions[rows]).all()
    last = PuzzleBatch(batch.clues[4:], batch.solutions[4:], batch.puzzle_ids[4:])
    alone, _ = with_images(MAZE, last, 3, seed=4, first=14)
    assert np.array_equal(alone.clues, found.clues[16:]), "images depend on the batches"


def test_a_puzzle_has_no_more_images_than_there_are() -> None:
    batch = GeneratedMazes(6).batch(stream_keys(0, 0, 5))
    assert with_images(MAZE, batch, 50, 0, 0)[1].tolist() == [8] * 5
    assert with_images(MAZE, batch, 0, 0, 0)[1].tolist() == [1] * 5


def test_a_link_in_the_place_of_a_build_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data.partial").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="got a symbolic link to"):
        Workplace(tmp_path / "data", {"seed": 1})
    assert not any((tmp_path / "elsewhere").iterdir())
