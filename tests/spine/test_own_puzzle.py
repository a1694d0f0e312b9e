"""docs/own_puzzle.md to the letter: examples/takuzu.py installed as a package, checked, trained on and played."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "own_puzzle.md").read_text()
EXAMPLE = ROOT / "examples" / "takuzu.py"


def block(kind: str, part: str) -> str:
    """The code block of the page that contains `part`."""
    return next(found for found in re.findall(rf"```{kind}\n(.*?)```", PAGE, re.S) if part in found)


def commands(*parts: str) -> list[list[str]]:
    """The commands of the page that contain all parts, as arguments after `hrm-gym`."""
    lines = re.findall(r"^hrm-gym (.+)$", PAGE, re.M)
    return [line.split() for line in lines if all(part in line for part in parts)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the example is installed as the package that the page describes."""
    package, target = tmp_path_factory.mktemp("package"), tmp_path_factory.mktemp("site")
    shutil.copy(EXAMPLE, package)
    (package / "pyproject.toml").write_text(block("toml", "hrm_gym.families"))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps"]
    subprocess.run([*pip, "--target", str(target), str(package)], check=True, capture_output=True)
    return target


def run(code: str, folder: Path, site: Path) -> str:
    """The output of a script in a process of its own that finds the installed package."""
    places = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, "PYTHONPATH": places, "SDL_VIDEODRIVER": "dummy"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_shows_the_file() -> None:
    code = block("python", "register_family").split("\n\n\n")
    text = EXAMPLE.read_text()
    assert code[-1].strip() in text
    assert len(text.splitlines()) < 220


def test_the_entry_point_registers_it(site: Path, tmp_path: Path) -> None:
    code = (
        "import sys, gymnasium as gym, hrm_gym\n"
        "env = gym.make('Takuzu-v0')\n"
        "assert env.unwrapped.shape == (6, 6)\n"
        "assert not {'torch', 'pygame'} & set(sys.modules)\n"
        "from hrm_gym.testing import check_family\n"
        "check_family(env.unwrapped.family, env.unwrapped.puzzle_source)\n"
    )
    run(code + block("python", "check_family"), tmp_path, site)


def test_a_module_that_is_being_imported_itself_is_no_obstacle(site: Path, tmp_path: Path) -> None:
    run("import takuzu, gymnasium as gym\nassert gym.make('TakuzuMini-v0').unwrapped.shape == (4, 4)", tmp_path, site)


def test_an_hrm_learns_it_and_plays_it(site: Path, tmp_path: Path) -> None:
    short = 'env_id="TakuzuMini-v0", updates=3, batch_size=8, eval_puzzles=8'
    train = block("python", "Trainer").replace('env_id="TakuzuMini-v0"', short)
    (compare,) = commands("compare")
    (solve,) = commands("takuzu:Takuzu-v0", "solve")
    (installed,) = commands("solve Takuzu-v0")
    compare += ["--episodes", "4", "--films", "0"]
    train_more, build = commands("train takuzu:")[0], commands("data build")[0]
    train_more += ["--updates", "2", "--batch-size", "4", "--eval-puzzles", "4", "--no-compile", "--out", "runs/more"]
    build += ["--train", "8", "--test", "4", "--aug", "1"]
    record = ["record", "TakuzuMini-v0", "--agent", "hrm=runs/takuzu/model", "--episodes", "1", "--html", "one.html"]
    info = ["data", "info", "data/takuzu"]
    code = (
        "import gymnasium as gym, hrm_gym\n"
        "from hrm_gym.agents.hrm import HRMAgent\n"
        "from hrm_gym.scripts.main import main\n"
        "from hrm_gym.testing import check_agent\n"
        "agent = HRMAgent.from_pretrained('runs/takuzu/model', device='cpu')\n"
        "assert agent.family.name == 'takuzu'\n"
        "env = gym.make('TakuzuMini-v0')\n"
        "check_agent(agent, env)\n"
        "check_agent(hrm_gym.make_agent('hrm-vote', env, weights='runs/takuzu/model', votes=3, device='cpu'), env)\n"
        f"for argv in {[compare, solve, installed, record, train_more, build, info]!r}:\n"
        "    assert main(argv) == 0, argv\n"
    )
    out = run(train + code, tmp_path, site)
    assert "'eval_solved'" in out
    assert "takuzu" in out.lower()
    assert (tmp_path / "compare" / "compare.json").is_file()
    assert (tmp_path / "one.html").is_file()
    assert "takuzu 4x4, 16 examples of 16 puzzles in 8 groups, 1 identifiers, all valid" in out


def test_weights_of_a_family_that_is_not_there_import_nothing(site: Path, tmp_path: Path) -> None:
    """A plug-in that fails is named and skipped; weights for its family then name the family."""
    (tmp_path / "takuzu.py").write_text("raise RuntimeError('broken today')\n")
    code = (
        "import hrm_gym, logging\n"
        "from hrm_gym.registry import family_names, make_family\n"
        "assert 'takuzu' not in family_names()\n"
        "try:\n    make_family('takuzu', (4, 4))\n"
        "except ValueError as error:\n    print(error)\n"
    )
    assert "unknown family of puzzles 'takuzu'" in run(code, tmp_path, site)
