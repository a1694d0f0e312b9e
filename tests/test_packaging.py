"""The wheel holds every module, weight file and puzzle bank of the repository."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import hrm_gym

ROOT = Path(__file__).parent.parent
LINKS = ("hrm_gym/envs/", "hrm_gym/agents/", "hrm_gym/scripts/")
KEPT = (".py", ".safetensors", ".json", ".jsonl", ".md", ".npz", ".css", ".js")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    source = out / "source"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.split("\n"):
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(out),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_everything_is_in_the_wheel(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = set()
    for room in ("hrm_gym", "envs", "agents", "scripts"):
        for path in (ROOT / room).rglob("*"):
            inner = path.relative_to(ROOT).as_posix()
            if inner.startswith(LINKS):
                continue
            if path.suffix in KEPT and "__pycache__" not in path.parts:
                expected.add(inner if room == "hrm_gym" else f"hrm_gym/{inner}")
    assert "hrm_gym/py.typed" in inside
    assert expected <= inside, sorted(expected - inside)
    assert not [name for name in inside if name.startswith(("envs/", "agents/", "scripts/", "tests/"))]


def test_the_command_is_declared(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        entry = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "hrm-gym = hrm_gym.scripts.main:main" in archive.read(entry).decode()


def test_the_description_has_links_that_work_on_a_package_index(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(next(name for name in archive.namelist() if name.endswith("METADATA"))).decode()
    links = re.findall(r"\]\(([^)]+)\)", metadata.partition("\n\n")[2])
    assert len(links) > 10
    assert not [link for link in links if not link.startswith("https://")]
    assert f"\nVersion: {hrm_gym.__version__}\n" in metadata
    needed = [line for line in re.findall(r"^Requires-Dist: (.*)$", metadata, re.M) if "extra ==" not in line]
    required = {re.split(r"[ <>=;\[]", line)[0] for line in needed}
    assert not required & {"matplotlib", "scipy", "imageio", "imageio-ffmpeg", "moviepy", "tensorboard", "minari"}
