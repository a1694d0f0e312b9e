"""The folder of compiled libraries: private, verified before loading, rebuilt when damaged; machines without one."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from hrm_gym.agents.hrm import accelerate as fast
from hrm_gym.agents.hrm.accelerate import cpu_level, library
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.model import HRM

CONFIG = HRMConfig(vocab_size=11, grid=(4, 4), hidden_size=64, heads=2, mlp_width=64, dtype="float32")

TRIAL = library.TRIAL
needs_routine = pytest.mark.skipif(not cpu_level.load(), reason="levels have no routine of their own on this machine")


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache of its own, for a library that is made and tried quickly."""
    (tmp_path / "small.cpp").write_text("int nothing;")
    monkeypatch.setattr(library, "SOURCE", tmp_path / "small.cpp")
    monkeypatch.setattr(library, "TRIAL", "import ctypes, sys; ctypes.CDLL(sys.argv[1])")
    monkeypatch.setattr(library, "FLAGS", ("-O0", "-fPIC", "-shared", "-std=c++20"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hrm_gym"


@needs_routine
def test_a_library_is_kept_in_a_private_folder_and_rebuilt_when_it_is_damaged(cache: Path) -> None:
    path = library.library()
    assert path.parent == cache
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    made, content = path.stat().st_mtime_ns, path.read_bytes()
    assert library.library() == path
    assert path.stat().st_mtime_ns == made
    for damaged in (content[: len(content) // 2], b"", b"garbage", content[:-1] + b"x"):
        path.write_bytes(damaged)
        again = library.library()
        assert library._is_intact(again, again.stem.rsplit("_", 1)[1])
        assert [found.name for found in cache.iterdir()] == [again.name], "the damaged one and drafts are gone"
        path = again


@needs_routine
def test_a_library_is_tried_without_modules_of_the_current_folder(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ctypes.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    assert library.library().parent == cache
    assert not (tmp_path / "ran").exists()


@needs_routine
def test_a_truncated_library_neither_crashes_nor_is_loaded(tmp_path: Path) -> None:
    """In a process of its own, which would end with a bus error."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    kept = library.library()
    copy = tmp_path / "hrm_gym" / kept.name
    copy.parent.mkdir(mode=0o700)
    copy.write_bytes(kept.read_bytes()[:4096])
    program = "from hrm_gym.agents.hrm.accelerate import cpu_level; print(cpu_level.load())"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
    (built,) = copy.parent.glob("*.so")  # its name holds the hash of its content, which builds need not share
    assert built.stat().st_size > 4096


@needs_routine
def test_a_folder_that_others_can_write_to_is_not_used(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    with caplog.at_level(logging.INFO, library.__name__):
        path = library.library()
    assert path.parent != cache
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not list(cache.iterdir())
    assert "others can write" in caplog.text


def test_somebody_elses_folder_or_file_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if not hasattr(os, "geteuid"):
        pytest.skip("this system has no owners of files in this sense")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    own = library.private_folder()
    assert own == tmp_path / "hrm_gym"
    (own / "file").write_bytes(b"")
    nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert library._is_intact(own / "file", nothing)
    (own / "link").symlink_to(own / "file")
    assert not library._is_intact(own / "link", nothing)
    monkeypatch.setattr(os, "geteuid", lambda: own.stat().st_uid + 1)
    assert not library._is_intact(own / "file", nothing)
    with caplog.at_level(logging.INFO, library.__name__):
        assert library.private_folder() != own
    assert "others can write" in caplog.text


@pytest.mark.parametrize("place", ["a_file", "relative"])
def test_where_no_folder_can_be_made_a_temporary_one_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    (tmp_path / "a_file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", place if place == "relative" else str(tmp_path / place))
    folder = library.private_folder()
    assert folder.is_dir()
    assert tmp_path not in folder.parents
    assert not Path("relative").exists()


@needs_routine
def test_a_compiler_with_options(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    compiler = library.find_compiler()[0]
    monkeypatch.setenv("CXX", f"{compiler} -O1")
    assert library.find_compiler() == [compiler, "-O1"]
    assert library.library().is_file()


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"HRM_GYM_CPU_LEVEL": "0"}, "HRM_GYM_CPU_LEVEL is 0"),
        ({"CXX": "/no/such/compiler"}, "/no/such/compiler"),
        ({"CXX": "false"}, ""),
        ({"CXX": "'unfinished"}, "unfinished"),
        ({"PATH": "/nowhere"}, "there is no C++ compiler"),
    ],
)
def test_without_a_routine_pytorch_executes_levels(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variables: dict[str, str], reason: str
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with caplog.at_level(logging.INFO, cpu_level.__name__):
        assert not cpu_level.load.__wrapped__()
    assert "left to PyTorch" in caplog.text
    assert reason in caplog.text or "there are no kernels" in caplog.text


@needs_routine
@pytest.mark.parametrize("content", ["int main( {", "", "int nothing;"])
def test_a_source_or_a_compiler_that_is_broken_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, cache: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    monkeypatch.setattr(library, "TRIAL", TRIAL)
    library.SOURCE.write_text(content)
    with caplog.at_level(logging.INFO, cpu_level.__name__):
        assert not cpu_level.load.__wrapped__()
    assert "left to PyTorch" in caplog.text
    assert not list(cache.iterdir())


@needs_routine
def test_a_compiler_that_writes_garbage(
    monkeypatch: pytest.MonkeyPatch, cache: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    script = tmp_path / "compiler"
    script.write_text('#!/bin/sh\nwhile [ $# -gt 0 ]; do [ "$1" = -o ] && echo garbage > "$2"; shift; done\necho 1.0\n')
    script.chmod(0o700)
    monkeypatch.setenv("CXX", str(script))
    with caplog.at_level(logging.INFO, cpu_level.__name__):
        assert not cpu_level.load.__wrapped__()
    assert "left to PyTorch" in caplog.text
    assert not list(cache.iterdir())


def test_without_any_compiler_there_is_one_warning_and_the_network_runs(tmp_path: Path) -> None:
    """In a fresh process, since PyTorch remembers the compilers that it found."""
    program = """
import torch
from hrm_gym.agents.hrm.accelerate import accelerate
from hrm_gym.agents.hrm.config import HRMConfig
from hrm_gym.agents.hrm.model import HRM
for mixer in ("attention", "mlp"):
    model = accelerate(HRM(HRMConfig(vocab_size=3, grid=(2, 2), hidden_size=32, heads=2, mixer=mixer)), compile=True)
    result = model.segment(model.initial_carry(2), torch.ones(2, 4, dtype=torch.int32), torch.zeros(2))
    result.logits.sum().backward()
print("done")
"""
    environment = {name: value for name, value in os.environ.items() if name != "CXX"}
    environment |= {"PATH": str(tmp_path), "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    environment["TORCHINDUCTOR_CACHE_DIR"] = str(tmp_path / "inductor")
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "done"
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert "not compiled here" in lines[0]


def test_a_compiler_that_does_not_work_is_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler\nmany more lines")

    monkeypatch.setattr(torch, "compile", broken)
    fast.can_compile.cache_clear()
    try:
        model = fast.accelerate(HRM(CONFIG), compile=True, routine=False)
        fast.accelerate(HRM(CONFIG), compile=True, routine=False)
    finally:
        fast.can_compile.cache_clear()
    assert [record.message for record in caplog.records] == ["networks are not compiled here: no compiler"]
    assert model.l_level._compiled_call_impl is None


@pytest.mark.skipif(os.name == "nt", reason="folders have no modes")
def test_the_cache_of_torch_compile_is_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What lies in it is loaded, as compiled code and as pickles."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "own"))
    library.prepare_compile_cache()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "own")
    (tmp_path / "own").chmod(0o777)
    with caplog.at_level(logging.WARNING):
        library.prepare_compile_cache()
    assert "others can write to" in caplog.text
    assert stat.S_IMODE(Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).stat().st_mode) == 0o700


@pytest.mark.skipif(sys.platform != "linux", reason="knows ELF files only")
def test_what_a_killed_compiler_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    whole = next(Path(torch.__file__).parent.glob("lib/libtorch_global_deps.so")).read_bytes()
    ages = {"whole": 60, "cut": 60, "empty": 60, "cut_before_the_clock_was_set_back": -86400, "cut_just_now": 0}
    for name, age in ages.items():
        path = tmp_path / "ab" / f"{name}.main.so"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes({"whole": whole, "empty": b""}.get(name, whole[: len(whole) // 2]))
        os.utime(path, (time.time() - age,) * 2)
    library.remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("ab/*")) == ["cut_just_now.main.so", "whole.main.so"]
