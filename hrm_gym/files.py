"""Files and folders written atomically: a reader, or a start after a crash, finds the old one or the new one."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any

import numpy as np

logger = logging.getLogger(__name__)


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """A path to write in place of `path`, in the same folder; it takes that name only if the block succeeds.

    Raises:
        OSError: if the folder cannot be made, or the file not be put in place.
    """
    _expect_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft(path)
    try:
        draft.unlink(missing_ok=True)  # a link that lay there would be written through
        yield draft
        # Without this order a power cut can leave the new name on an empty file.
        sync(draft)
        os.replace(draft, path)
        sync(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a whole file, text as UTF-8.

    Raises:
        OSError: if it cannot be written.
    """
    with written_atomically(path) as draft:
        draft.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def write_npz(path: Path, arrays: Mapping[str, Any], compressed: bool = True) -> None:
    """Write arrays under their names, atomically; the file has the very name `path`, whatever its suffix.

    Raises:
        OSError: if it cannot be written.
    """
    with written_atomically(path) as draft, draft.open("wb") as file:  # to a name, NumPy may add a suffix
        (np.savez_compressed if compressed else np.savez)(file, **arrays)


MARKER = ".hrm-gym"
"""The file in a folder that lists what this program has written there: nothing else is ever deleted with the folder."""

UNFINISHED = frozenset(("parts/*", "whole/*", ".*.part*"))
"""What may lie in the folder of a data set that is being built."""


def check_ours(folder: Path) -> None:
    """Find out whether a folder may be replaced: it is empty, or holds only what its marker lists.

    Raises:
        FileExistsError: names what else there is.
    """
    marker = folder / MARKER
    listed = set(marker.read_text(encoding="utf-8", errors="replace").splitlines() if marker.is_file() else ())
    patterns = listed & UNFINISHED  # others could be `*`, in a marker that someone else wrote
    for place, folders, files in os.walk(folder):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for path in sorted(Path(place, name) for name in (*files, *links)):
            name = path.relative_to(folder).as_posix()
            known = name in (MARKER, ".lock") or glob.escape(name) in listed
            if not known and not any(fnmatchcase(name, pattern) for pattern in patterns):
                wanted = "expected a new folder or one that hrm-gym wrote"
                raise FileExistsError(f"{folder}: {wanted}, got one that holds {name}")


def replace_folder(draft: Path, folder: Path, ours: bool = False) -> None:
    """Give the finished folder `draft` the name `folder`; a folder of that name is deleted once its successor is there.

    Args:
        draft: gets a marker.
        folder: new, or one that `check_ours` lets pass.
        ours: whether it lies in a folder of this program, and needs no marker.

    Raises:
        OSError: if it cannot be moved, or something in `folder` would be lost; the old folder has its name then.
    """
    sweep(folder.parent, folder.name)
    if folder.is_dir() and not ours:
        check_ours(folder)
    names = sorted(path.relative_to(draft).as_posix() for path in draft.rglob("*") if path.is_file())
    (draft / MARKER).write_text("".join(f"{glob.escape(name)}\n" for name in names), encoding="utf-8")
    for path in draft.rglob("*"):
        sync(path)
    sync(draft)
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        if folder.is_dir():
            os.replace(folder, old)
        os.replace(draft, folder)
    except BaseException:  # a signal between the two, too
        if os.path.lexists(old) and not os.path.lexists(folder):
            os.replace(old, folder)
        raise
    sync(folder.parent)
    if old.is_symlink():
        old.unlink()
    elif old.is_dir():
        shutil.rmtree(old)


def delete_folder(folder: Path) -> None:
    """Delete a folder atomically: it loses its name before its files, so that no start finds half of it."""
    gone = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(gone, ignore_errors=True)
    os.replace(folder, gone)
    shutil.rmtree(gone)


def check_writable(path: Path) -> None:
    """Find out whether `path` can be written, without touching what is there; folders that are missing are made.

    Drafts of `path` that killed processes left go.

    Raises:
        OSError: if the folder cannot be made or written to, or `path` is a folder.
    """
    _expect_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, path.name)
    draft = _draft(path)
    draft.unlink(missing_ok=True)
    draft.touch()
    draft.unlink()


def _expect_file(path: Path) -> None:
    """Raise OSError if something is at `path` that is no file: a new file would take the place of /dev/null."""
    if path.exists() and not path.is_file():
        kind = "folder" if path.is_dir() else "device or pipe"
        raise OSError(f"expected a file to write, got the {kind} {path}")


def remove(path: Path) -> None:
    """Remove a file, a link (not what it leads to) or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_in_place(path: Path) -> None:
    """Find out whether `path` may be written in place: a link may lead to any file, and a pipe keeps a writer waiting.

    Raises:
        OSError: something is there that is no file.
    """
    check_no_link(path)
    _expect_file(path)


def check_no_link(path: Path) -> None:
    """Refuse a link in the place of a file or folder of this program. OSError names where it leads to."""
    if path.is_symlink():
        raise OSError(f"{path}: expected what this program wrote, got a symbolic link to {os.readlink(path)}")


def finished_weights(path: Path) -> Path:
    """The folder of finished weights if `path` is the folder of a training run; else `path`."""
    inner = path / "model"
    return inner if (inner / "config.json").is_file() and not (path / "config.json").is_file() else path


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal, read in blocks: data files may be larger than memory."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            found.update(block)
    return found.hexdigest()


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on disk; systems that cannot say are not asked."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _draft(path: Path) -> Path:
    """The temporary name for `path`, which keeps its suffix: film writers go by it."""
    return path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Keep other processes from writing into a run's folder; the system lets go of it when this process ends.

    A folder that was made for the lock goes again if an error comes before anything is written.

    Raises:
        BlockingIOError: another process holds it; the message says which, and since when.
        OSError: the folder cannot be made.
    """
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    check_in_place(folder / ".lock")
    with (folder / ".lock").open("a+", encoding="utf-8", errors="replace") as file:
        try:
            _lock(file)
        except BlockingIOError:
            file.seek(0)
            holder = " ".join(file.read(200).split()) or "another process"
            raise BlockingIOError(f"{folder} is in use by {holder}; give another --out, or wait") from None
        file.seek(0)
        file.truncate()
        since = datetime.now(timezone.utc).astimezone().isoformat(" ", "seconds")
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}\n")
        file.flush()
        sweep(folder)
        try:
            yield
        except Exception:
            with suppress(OSError):  # of a folder that is not empty
                if made and [one.name for one in folder.iterdir()] == [".lock"]:
                    (folder / ".lock").unlink()
                    for one in made:
                        one.rmdir()
            raise


def _lock(file: IO[str]) -> None:
    """Take the lock of a file at once; a killed process's lock is gone with it.

    Raises:
        BlockingIOError: another process has it.
    """
    if os.name == "nt":
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError as error:
            raise BlockingIOError(*error.args) from None
    else:
        _flock(file.fileno())


def _flock(handle: int) -> None:
    """As `_lock`; where the file system knows no locks, one warning."""
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:  # some network file systems
        logger.warning("nothing keeps a second process from this folder: %s", error.strerror)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes that hold a folder from it, without a file in it, which may be moved meanwhile.

    Raises:
        BlockingIOError: another process holds it.
    """
    if os.name == "nt":  # opens no folders
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            _flock(handle)
        except BlockingIOError:
            raise BlockingIOError(f"{folder} is in use by another process; give another --out, or wait") from None
        yield
    finally:
        os.close(handle)


def sweep(folder: Path, name: str = "") -> list[Path]:
    """Delete what killed processes of this machine left half-written in a folder; returns what is gone.

    Drafts and folders put aside carry the number of the process that made them; those of living ones stay. A folder put
    aside that has no successor gets its name back.

    Args:
        folder: where.
        name: of the one file or folder whose drafts are meant, in a folder that is not this program's; all by default.
    """
    gone = []
    for path in sorted(folder.glob(".*")) if folder.is_dir() else ():
        found = re.fullmatch(r"\.(.+)\.(\d+)\.(part(\..+)?|tmp|old)", path.name)
        if not found or name not in ("", found[1], found[1].removesuffix(".partial"), f"{found[1]}{found[4] or ''}"):
            continue
        put_aside_before = found[3] == "old" and int(found[2]) == os.getpid()  # in containers numbers come again
        if _lives(int(found[2])) and not put_aside_before:
            continue
        if found[3] == "old" and not (folder / found[1]).exists():
            path.rename(folder / found[1])
        else:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            gone.append(path)
    return gone


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError, OSError):
        return True
    return True
