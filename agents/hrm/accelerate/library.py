"""The compiled routine as a shared library: built on the machine that runs it, and kept for the next run.

A library runs as whoever loads it, and a damaged one ends the process (bus error) rather than raise. So it lies in a
folder that no other user can write to, its name holds a hash of its content, and it is loaded only if both are right.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import logging
import os
import platform
import shlex
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from hrm_gym.agents.devices import CPU_INFO
from hrm_gym.files import write_atomically

SOURCE = Path(__file__).with_name("cpu_level.cpp")
FLAGS = (
    "-O3",
    "-march=native",
    "-mprefer-vector-width=512",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp",
    "-fPIC",
    "-shared",
    "-std=c++20",
)
FUNCTIONS = ("level_pack", "level_forward", "level_backward")
"""What the library registers in `torch.ops.hrm_gym`."""

BUILD_SECONDS = 600
"""A compiler that takes longer hangs; a quarter of a minute is usual."""

TRIAL = "import sys, torch; torch.ops.load_library(sys.argv[1]); [getattr(torch.ops.hrm_gym, n) for n in sys.argv[2:]]"
"""Loads a fresh library in a separate process, which may crash."""

logger = logging.getLogger(__name__)


def library() -> Path:
    """The library for this source, PyTorch, compiler and processor; it is compiled if there is no intact one.

    Raises:
        OSError: it cannot be had on this machine; the message is one line that says why.
    """
    compiler = find_compiler()
    stem = f"cpu_level_{_machine(compiler)}_"
    folder = private_folder()
    for path in folder.glob(stem + "*.so"):
        if _is_intact(path, path.stem.removeprefix(stem)):
            return path
        with contextlib.suppress(OSError):
            path.unlink()
    logger.warning("compiling a routine for attention on this CPU: a quarter of a minute, once on a machine")
    with tempfile.TemporaryDirectory() as draft:
        built = Path(draft) / "cpu_level.so"
        _execute(_command(compiler, built))
        _execute([sys.executable, "-c", TRIAL, str(built), *FUNCTIONS], cwd=draft)  # a torch.py may lie where we are
        content = built.read_bytes()
    name = f"{stem}{hashlib.sha256(content).hexdigest()}.so"
    try:
        write_atomically(folder / name, content)
    except OSError as error:
        logger.info("the compiled routine is not kept: %s", error)
        folder = temporary_folder()
        write_atomically(folder / name, content)
    return folder / name


def find_compiler() -> list[str]:
    """The C++ compiler as the first words of a command; `CXX` may hold options as well ("g++ -O1").

    Raises:
        OSError: there is none, or this is not a processor that the routine is written for.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise OSError(f"there are no kernels for {sys.platform} on {platform.machine()}")
    if "avx2" not in _cpu_features().split():
        raise OSError("there are no kernels for a processor without AVX2")
    try:
        words = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise OSError(f"expected a command in CXX, got {os.environ['CXX']!r} ({error})") from None
    words = words or [name for name in ("g++", "clang++") if shutil.which(name)][:1]
    if not words:
        raise OSError("there is no C++ compiler")
    return words


ELF_HEADER = struct.Struct("<40sQ10sHHH")
"""Of a 64-bit ELF file: what is before the section table's offset, the offset, what is between, the size and number of
the table's entries, and the last field."""


def private_folder() -> Path:
    """Where libraries are kept: `hrm_gym` in `XDG_CACHE_HOME` or `~/.cache`, if no other user can write to it.

    Where it cannot be made, is someone else's or open to others, a temporary one takes its place.
    """
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hrm_gym"
        if not folder.is_absolute():
            raise OSError(f"expected an absolute path, got {folder}")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _check_private(folder)
    except (OSError, RuntimeError) as error:  # RuntimeError: this user has no home
        logger.info("the compiled routine is not kept: %s", error)
        return temporary_folder()
    return folder


def _check_private(folder: Path) -> None:
    """Raise OSError unless this user, and nobody else, can write to a folder."""
    about = folder.lstat()
    if not stat.S_ISDIR(about.st_mode):
        raise OSError(f"{folder} is not a folder")
    if about.st_uid != os.geteuid() or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError(f"others can write to {folder}")
    if not os.access(folder, os.W_OK):
        raise OSError(f"nothing can be written to {folder}")


def prepare_compile_cache() -> None:
    """Make the cache of `torch.compile` safe to use: it loads whatever lies there.

    Libraries that a killed compiler left unfinished are removed; a cache that cannot be had, or is open to others, is
    replaced by a temporary one.
    """
    if os.name == "nt":  # folders have no modes
        return
    try:
        if given := os.environ.get("TORCHINDUCTOR_CACHE_DIR"):
            os.makedirs(given, exist_ok=True)  # as the import below does, which must not be what fails
        from torch._inductor.runtime.cache_dir_utils import cache_dir

        _check_private(Path(cache_dir()))
        if sys.platform == "linux":
            remove_unfinished(Path(cache_dir()))
    except OSError as error:
        said = error if error.filename is None else f"{error.strerror}: {error.filename}"
        logger.warning("what torch.compile makes is not kept: %s", said)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(temporary_folder())


def remove_unfinished(folder: Path) -> None:
    """Delete 64-bit Linux libraries below a folder that end before the section table that their ELF header announces.

    Nobody would make them again, and loading one ends the run. Files that changed in the last half minute stay: another
    process may be writing them.
    """
    for path in folder.glob("**/*.so"):
        about = path.stat()
        if abs(time.time() - about.st_mtime) < 30:  # a clock that was set back leaves files of the future
            continue
        with path.open("rb") as file:
            header = file.read(ELF_HEADER.size)
        whole = header.startswith(b"\x7fELF\x02") and len(header) == ELF_HEADER.size
        if whole:
            _, table, _, entry, count, _ = ELF_HEADER.unpack(header)
            whole = about.st_size >= table + entry * count
        if not whole:
            logger.warning("removed %s, which a compiler left unfinished", path)
            path.unlink(missing_ok=True)


def temporary_folder() -> Path:
    """A new private folder that is deleted at the end of the process."""
    folder = Path(tempfile.mkdtemp(prefix="hrm_gym_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _is_intact(path: Path, expected: str) -> bool:
    """Whether a file is this user's and has the content that it was written with."""
    about = path.lstat()
    ours = stat.S_ISREG(about.st_mode) and about.st_uid == os.geteuid()
    return ours and hashlib.sha256(path.read_bytes()).hexdigest() == expected


def _machine(compiler: list[str]) -> str:
    """16 digits that stand for the source, and for everything that its translation depends on.

    Homes are shared between machines, and `-march=native` means another processor on each.
    """
    version = _execute([*compiler, "--version"])
    parts = (
        SOURCE.read_text(),
        torch.__version__,
        sys.version,
        " ".join([*compiler, *FLAGS]),
        version,
        _cpu_features(),
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _cpu_features() -> str:
    """The processor's model and instructions, as Linux lists them."""
    lines = CPU_INFO.read_text(errors="replace").splitlines()
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "model name"))}))


def _command(compiler: list[str], target: Path) -> list[str]:
    """What compiles the routine; it shares PyTorch's own threads."""
    home = Path(torch.__file__).parent
    include = [f"-I{home / 'include'}", f"-I{home / 'include/torch/csrc/api/include'}"]
    threads = [str(path) for path in sorted((home / "lib").glob("libgomp*.so*"))[:1]]
    libraries = ["-L" + str(home / "lib"), "-ltorch", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{home / 'lib'}"]
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    return [*compiler, *FLAGS, abi, *include, str(SOURCE), *threads, "-o", str(target), *libraries]


def _execute(command: list[str], cwd: str | None = None) -> str:
    """The output of a command; an OSError of one line if it fails."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=BUILD_SECONDS, cwd=cwd
        ).stdout
    except subprocess.CalledProcessError as error:
        lines = [line for line in (error.stderr or "").splitlines() if line.strip()] or [str(error)]
        wanted = [line for line in lines if "error" in line.lower()] or lines
        raise OSError(f"{command[0]}: {wanted[0].strip()}") from None
    except subprocess.TimeoutExpired as error:
        raise OSError(str(error)) from None
