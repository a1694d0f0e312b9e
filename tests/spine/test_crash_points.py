"""A process that is killed before any one of its file operations loses nothing that was finished."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from fuzz.crash import killed_before

from hrm_gym.agents import checkpoint
from hrm_gym.data.build import DatasetBuild, Plan, Workplace
from hrm_gym.data.folder import check_place, write_dataset
from hrm_gym.envs.maze.env import MazeEnv
from hrm_gym.envs.puzzle import PuzzleSource
from hrm_gym.files import replace_folder, sweep, write_atomically

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that share what is compiled")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def put(root: Path, text: str) -> None:
    """Put a folder of two files in the place of `root/data`."""
    draft = root / f".data.{os.getpid()}.tmp"
    draft.mkdir()
    for name in ("a", "b"):
        (draft / name).write_text(text)
    replace_folder(draft, root / "data")


def test_a_folder_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    nth, found, killed = 0, set(), True
    while killed:
        nth += 1
        root = tmp_path / str(nth)
        root.mkdir()
        put(root, "old")
        (root / ".notes.1.tmp").write_text("not this program's")
        killed = killed_before(nth, lambda root=root: put(root, "new"))
        sweep(root, "data")
        texts = {(root / "data" / name).read_text() for name in ("a", "b")}
        assert len(texts) == 1
        found |= texts
        assert sorted(path.name for path in root.iterdir()) == [".notes.1.tmp", "data"]
    assert found == {"old", "new"}
    assert nth > 8


def small_mazes(split: str) -> PuzzleSource:
    found: PuzzleSource = MazeEnv(size=5, source="generate", split=split).puzzle_source
    return found


def build(root: Path) -> None:
    """A data set of 30 mazes in three parts, replacing what is there."""
    family = MazeEnv(size=5).family
    check_place(root / "data", overwrite=True)
    workplace = Workplace(root / "data", {"seed": 1})
    work = DatasetBuild(Plan(family, small_mazes, {"train": 30}, 1, 10), workplace)
    for _ in work.run():
        pass
    draft = workplace.path / "whole"
    shutil.rmtree(draft, ignore_errors=True)
    groups = ((batch, np.ones(len(batch), np.int64)) for batch in work.batches("train"))
    write_dataset(draft, "train", groups, family.vocab_size)
    write_atomically(draft / "manifest.json", "{}")
    workplace.finish(draft)


def test_a_data_set_killed_anywhere_ends_the_same(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    build(tmp_path / "whole")
    wanted = contents(tmp_path / "whole")
    nth, killed = 0, True
    while killed:
        nth += 1
        root = tmp_path / str(nth)
        root.mkdir()
        killed = killed_before(nth, lambda root=root: build(root))
        build(root)
        assert contents(root) == wanted, f"killed before change {nth}"
    assert nth > 20


def save(run: Path, update: int) -> None:
    """The checkpoint of an update; two are kept."""

    def fill(folder: Path) -> None:
        checkpoint.write_config(folder, {"model": {}, "recipe": {}, "update": update})
        np.savez(folder / "state.npz", state=np.full(100, update))

    checkpoint.write_folder(checkpoint.checkpoint_path(run, update), fill, ours=True)
    checkpoint.drop_old(run, 2, checkpoint.checkpoint_path(run, update))


def test_a_checkpoint_killed_anywhere_leaves_the_one_before(tmp_path: Path) -> None:
    nth, found, killed = 0, set(), True
    while killed:
        nth += 1
        run = tmp_path / str(nth)
        for update in (1, 2):
            save(run, update)
        (run / "update_notes").mkdir()
        killed = killed_before(nth, lambda run=run: save(run, 3))
        sweep(run)
        newest = checkpoint.newest(run, {})
        assert newest is not None
        found.add(newest[1]["update"])
        assert (np.load(newest[0] / "state.npz")["state"] == newest[1]["update"]).all()
        assert (run / "update_notes").is_dir()
    assert found == {2, 3}
    save(run, 4)
    assert [path.name for path in checkpoint.checkpoints(run)] == ["update_00000003", "update_00000004"]
