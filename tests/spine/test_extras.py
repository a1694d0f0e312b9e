"""A package that few need and that is missing is one line that names the extra; the rest works without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hrm_gym.evaluation.films import check_save_path
from hrm_gym.extras import EXTRAS, load_extra
from hrm_gym.scripts.main import main

ROOT = Path(__file__).parents[2]


def run_without(packages: list[str], code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process in which some packages cannot be imported."""
    hide = (
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {packages!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
    )
    return subprocess.run([sys.executable, "-c", hide + code], capture_output=True, text=True, cwd=folder)


@pytest.mark.parametrize("package", EXTRAS)
def test_a_missing_package_names_its_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"this needs {package}, .* pip install 'hrm-gym\[{EXTRAS[package]}\]'"):
        load_extra(package)


def test_a_film_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ValueError, match=r"hrm-gym\[films\]"):
        check_save_path(tmp_path / "film.mp4")
    check_save_path(tmp_path / "film.gif")


def test_a_command_says_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(argv: list[str]) -> int:
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib.figure")

    monkeypatch.setattr("hrm_gym.scripts.main._command", lambda name: raises)
    assert main(["list"]) == 2
    assert capsys.readouterr().err == (
        "hrm-gym: error: this needs matplotlib, which is not installed: pip install 'hrm-gym[plots]'\n"
    )


def test_the_core_solves_and_writes_a_gif_without_any_extra(tmp_path: Path) -> None:
    code = (
        "from hrm_gym.scripts.main import main\n"
        "argv = ['HRMMaze-v0', '--agent', 'hrm', '--episodes', '2', '--save', 'solved.gif']\n"
        "sys.exit(main(['solve', *argv]))\n"
    )
    # torch looks for ONNX by `find_spec`, which answers None for a missing package where the hiding finder raises
    hidden = [package for package, extra in EXTRAS.items() if extra != "web"]
    done = run_without([*hidden, "scipy"], code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "solved.gif").read_bytes()[:4] == b"GIF8"


def test_training_goes_without_tensorboard(tmp_path: Path) -> None:
    code = (
        "from hrm_gym.scripts.main import main\n"
        "argv = ['--updates', '2', '--eval-puzzles', '4', '--no-compile', '--out', 'run']\n"
        "sys.exit(main(['train', 'sudoku-4x4', *argv]))\n"
    )
    done = run_without(["tensorboard"], code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "hrm-gym[tensorboard]" in done.stderr
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
