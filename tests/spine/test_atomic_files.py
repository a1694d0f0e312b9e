"""Atomic writes."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hrm_gym.agents.checkpoint import drop_old, write_folder
from hrm_gym.agents.hrm.run_folder import CURVE, append_curve
from hrm_gym.files import (
    MARKER,
    check_ours,
    check_writable,
    held,
    replace_folder,
    run_lock,
    sweep,
    write_atomically,
    write_npz,
    written_atomically,
)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text("old")

    def fail_half_way() -> None:
        with written_atomically(path) as draft:
            draft.write_text("ne")
            raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_content_is_on_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    replace, fsync = os.replace, os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda old, new: (calls.append("replace"), replace(old, new)))
    write_atomically(tmp_path / "deep" / "scores.json", "é")
    assert calls[:2] == ["fsync", "replace"]
    assert (tmp_path / "deep" / "scores.json").read_bytes() == "é".encode()


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("name", ["bank.npz", "bank", "bank.v2"])
def test_arrays_lie_under_the_very_name(name: str, compressed: bool, tmp_path: Path) -> None:
    for content in ([1, 2], [3, 4]):
        write_npz(tmp_path / name, {"a": np.array(content)}, compressed)
        with np.load(tmp_path / name) as stored:
            assert stored["a"].tolist() == content
    with pytest.raises(ValueError, match="dimension"):
        write_npz(tmp_path / name, {"a": np.array(5), "b": [[1], [2, 3]]}, compressed)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert np.load(tmp_path / name)["a"].tolist() == [3, 4]


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    for name in ("draft", "data"):
        (tmp_path / name / "train").mkdir(parents=True)
        (tmp_path / name / "train" / name).write_text(name)
    with pytest.raises(FileExistsError, match="got one that holds train/data"):
        replace_folder(tmp_path / "draft", tmp_path / "data")
    shutil.rmtree(tmp_path / "data")
    replace_folder(tmp_path / "draft", tmp_path / "data")
    (tmp_path / "draft" / "x[1]").mkdir(parents=True)
    (tmp_path / "draft" / "x[1]" / "y*").touch()
    replace_folder(tmp_path / "draft", tmp_path / "data")
    check_ours(tmp_path / "data")
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert found == ["data/.hrm-gym", "data/x[1]/y*"]
    for name in ("x[1]/notes", "x1/y", "x[1]/y1"):
        (tmp_path / "data" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "data" / name).touch()
        with pytest.raises(FileExistsError, match=re.escape(name)):
            check_ours(tmp_path / "data")
        (tmp_path / "data" / name).unlink()


@pytest.mark.parametrize("error", [KeyboardInterrupt, PermissionError])
@pytest.mark.parametrize("call", [1, 2])
def test_a_folder_that_cannot_be_replaced_keeps_its_name(
    error: type[BaseException], call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal between two renamings left no folder of that name until the next start."""
    for name in ("old", "new"):
        (tmp_path / "draft").mkdir()
        (tmp_path / "draft" / "text").write_text(name)
        if name == "old":
            replace_folder(tmp_path / "draft", tmp_path / "data")
    replace, calls = os.replace, []

    def stopped(old: Path, new: Path) -> None:
        calls.append(old)
        if len(calls) == call:
            raise error
        replace(old, new)

    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises(error):
        replace_folder(tmp_path / "draft", tmp_path / "data")
    assert (tmp_path / "data" / "text").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "draft"]


def test_a_link_to_a_folder_is_replaced_and_the_folder_kept(tmp_path: Path) -> None:
    for name in ("draft", "next"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text(name)
    replace_folder(tmp_path / "draft", tmp_path / "far")
    (tmp_path / "data").symlink_to(tmp_path / "far")
    replace_folder(tmp_path / "next", tmp_path / "data")
    assert [(tmp_path / name / "a").read_text() for name in ("far", "data")] == ["draft", "next"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "far"]


def test_paths_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OSError, match="file"):
        check_writable(tmp_path / "file" / "film.gif")
    with pytest.raises(OSError, match="folder"):
        check_writable(tmp_path)
    check_writable(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"


def test_a_run_folder_belongs_to_one_process(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom hrm_gym.files import run_lock\n"
        "with run_lock(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(BlockingIOError, match=f"in use by process {holder.pid} on .* since 20") as error,
        run_lock(folder),
    ):
        pass
    assert "\n" not in str(error.value)
    holder.kill()  # without a chance to clean up
    holder.wait()
    with run_lock(folder):
        pass


def test_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every training there was refused as one that another process holds."""
    fcntl = pytest.importorskip("fcntl")

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with run_lock(tmp_path / "run"), held(tmp_path):
        pass
    assert [record.message for record in caplog.records] == [
        "nothing keeps a second process from this folder: No locks available"
    ] * 2


def test_leftovers_of_killed_processes_are_swept(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = [f".scores.{dead.pid}.part.json", f".update_7.{dead.pid}.tmp", f".model.{dead.pid}.old"]
    kept = [f".scores.{os.getpid()}.part.json", ".lock", ".git", "scores.json", ".notes.12.txt"]
    for name in (*left, *kept):
        (tmp_path / name).mkdir() if name.endswith(("tmp", "old")) else (tmp_path / name).touch()
    (tmp_path / "model").mkdir()
    (tmp_path / f".only.{dead.pid}.old").mkdir()
    assert [path.name for path in sweep(tmp_path)] == sorted(left)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "model", "only"])
    assert sweep(tmp_path / "nowhere") == []


def test_links_that_someone_else_put_in_a_run_folder_are_not_written_through(tmp_path: Path) -> None:
    """The lock emptied what it led to; the curve and drafts were written into it."""
    precious, run = tmp_path / "precious", tmp_path / "run"
    precious.write_text("mine")
    run.mkdir()
    (run / ".lock").symlink_to(precious)
    with pytest.raises(OSError, match="got a symbolic link"), run_lock(run):
        pass
    (run / CURVE).symlink_to(precious)
    with pytest.raises(OSError, match="got a symbolic link"):
        append_curve(run, {"update": 1})
    (run / f".scores.{os.getpid()}.part.json").symlink_to(precious)
    check_writable(run / "scores.json")
    (run / f".scores.{os.getpid()}.part.json").symlink_to(precious)
    write_atomically(run / "scores.json", "{}")
    assert (precious.read_text(), (run / "scores.json").is_symlink()) == ("mine", False)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_pipes_and_devices_are_not_written(tmp_path: Path) -> None:
    """A curve that is a pipe kept a training waiting; a device that was to be written was replaced by a file."""
    writers: tuple[Callable[[Path], None], ...] = (
        lambda path: append_curve(path.parent, {"update": 1}),
        check_writable,
        lambda path: write_atomically(path, "x"),
    )
    for write in writers:
        os.mkfifo(tmp_path / CURVE)
        with pytest.raises(OSError, match="got the device or pipe"):
            write(tmp_path / CURVE)
        assert (tmp_path / CURVE).is_fifo()
        (tmp_path / CURVE).unlink()


def test_links_in_place_of_checkpoints_are_removed_and_not_followed(tmp_path: Path) -> None:
    precious, run = tmp_path / "precious", tmp_path / "run"
    precious.mkdir()
    (precious / "mine").touch()
    run.mkdir()
    (run / f".model.{os.getpid()}.tmp").symlink_to(precious)
    write_folder(run / "model", lambda folder: (folder / "a").touch())
    (run / "update_00000001").symlink_to(precious)
    (run / "update_00000002").mkdir()
    drop_old(run, 1, run / "update_00000002")
    assert sorted(path.name for path in run.iterdir()) == ["model", "update_00000002"]
    assert (precious / "mine").exists()


def test_damaged_checkpoints_do_not_push_whole_ones_out(tmp_path: Path) -> None:
    """With two damaged ones ahead, every new checkpoint was removed as soon as it was written."""
    for update in (1, 2, 3, 8, 9):
        (tmp_path / f"update_{update:08d}").mkdir()
    drop_old(tmp_path, 2, tmp_path / "update_00000003")
    assert [int(path.name[-1]) for path in sorted(tmp_path.iterdir())] == [2, 3, 8, 9]


def test_a_marker_that_someone_else_wrote_lists_no_patterns(tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text("*\n**\n[a-z]*\n\xff")
    (tmp_path / "notes").touch()
    with pytest.raises(FileExistsError, match="notes"):
        check_ours(tmp_path)
