"""Files that lie in the current folder run no code, whoever wrote them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hrm_gym
from hrm_gym.scripts.launch import Training
from hrm_gym.scripts.main import main

CHECKOUT = Path(hrm_gym.__file__).resolve().parents[1]
OPTIONAL = ("pandas", "triton", "opt_einsum", "tensorflow", "cv2", "dill", "brotli", "tree", "sklearn", "xarray")
"""Modules that libraries import where they are installed."""


START = "import sys; sys.path.remove(''); from hrm_gym.scripts.main import main; sys.exit(main())"
WITHOUT_SAFE_PATH = "import contextlib, hrm_gym.scripts.main as m; m._safe_path = contextlib.nullcontext"


def run(folder: Path, *arguments: str, start: str = START) -> subprocess.CompletedProcess[str]:
    """`hrm-gym` in a folder, as its script starts it: the folder is not on the path."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    environment.pop("PYTHONSAFEPATH", None)
    environment |= {"PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", start, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_nothing_in_the_current_folder_is_imported_or_unpickled(tmp_path: Path) -> None:
    """`cd` into a stranger's data set, then any command: optional modules of libraries came from there, and a cache."""
    for name in OPTIONAL:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write('{name} ')\n")
    (tmp_path / ".numba_config.yaml").write_text(f"cache_dir: {tmp_path / 'cache'}\n")
    done = run(tmp_path, "solve", "HRMSudokuMini-v0", "--agent", "hrm", "--episodes", "1", "--no-render")
    assert (done.returncode, (tmp_path / "ran").exists()) == (0, False), done.stderr
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("python", ["this one", "3.10"])
def test_worker_processes_import_nothing_from_the_current_folder(tmp_path: Path, python: str) -> None:
    """`python -c`, which multiprocessing starts workers by, looks for modules where it is started.

    Python 3.10 knows no PYTHONSAFEPATH: as such a one this one stands, if nobody sets it.
    """
    for name in ("multiprocessing", "random", "signal", "numpy", "hrm_gym"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})\n")
    build = ["data", "build", "HRMSudokuMini-v0", "--train", "4", "--test", "2", "--processes", "2", "--out", "built"]
    start = START if python == "this one" else START.replace("sys.exit", f"{WITHOUT_SAFE_PATH}; sys.exit")
    done = run(tmp_path, *build, start=start)
    assert (done.returncode, (tmp_path / "ran").exists()) == (0, False), done.stderr
    assert (tmp_path / "built" / "train").is_dir()


def test_trainings_of_a_launcher_import_nothing_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hrm_gym.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(CHECKOUT)
    command = Training(("maze", "--help"), tmp_path / "run").command
    listens, open_end = os.pipe()  # a training ends with its standard input
    done = subprocess.run(command, cwd=tmp_path, stdin=listens, capture_output=True, text=True)
    for end in (listens, open_end):
        os.close(end)
    assert (done.returncode, (tmp_path / "ran").exists()) == (0, False), done.stderr
    assert "usage: hrm-gym train maze" in done.stdout


def test_matplotlibrc_in_the_current_folder_sets_nothing_up(tmp_path: Path) -> None:
    """LaTeX ran with a stranger's preamble, or all the work ended with a traceback where there is none."""
    pytest.importorskip("matplotlib")
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
    done = run(tmp_path, "compare", "--env", "HRMSudokuMini-v0", "--agent", "random", "--episodes", "2", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "index.html").is_file()


def test_a_module_that_is_named_is_found_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "named_agent.py").write_text(
        "from hrm_gym.agents.baselines import RandomAgent\n\n\n"
        "def make(env, **rest):\n    return RandomAgent(env.unwrapped.family, env.unwrapped.action_mode)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
    solve = ["solve", "HRMSudokuMini-v0", "--episodes", "1", "--no-render", "--agent"]
    assert main([*solve, "random"]) == 0
    assert str(tmp_path) not in sys.path
    assert main([*solve, "named_agent:make"]) == 0
    assert str(tmp_path) in sys.path


def test_a_current_folder_that_is_gone(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    # PyTorch itself cannot be loaded there.
    command = (
        f"cd {gone} && rmdir {gone} && {sys.executable} -c 'from hrm_gym.scripts.main import main; main()' --version"
    )
    done = subprocess.run(command, shell=True, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
