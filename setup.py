"""Maps the top-level folders envs/, agents/ and scripts/ into the one installed package `hrm_gym`.

The package list is computed: a sub-package forgotten in a written-out list would work from an editable install and be
silently absent from the wheel. The README's links are made absolute, so that they work on a package index.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
ROOMS = ("envs", "agents", "scripts")
INCLUDE = [pattern for room in ROOMS for pattern in (room, f"{room}.*")]
LINKS = [pattern for room in ROOMS for pattern in (f"hrm_gym.{room}", f"hrm_gym.{room}.*")]  # set by `make`
SPINE = find_packages(include=["hrm_gym", "hrm_gym.*"], exclude=LINKS)


def readme() -> str:
    """The README with absolute links: pictures as they are, everything else as the repository shows it."""
    home = re.search(r'^Homepage = "(.*)"$', (HERE / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    assert home is not None
    text = (HERE / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"(!\[[^\]]*\])\((?!https?:|#)([^)]+)\)", rf"\1({home[1]}/raw/main/\2)", text)
    return re.sub(r"(?<!!)(\[[^\]]*\])\((?!https?:|#)([^)]+)\)", rf"\1({home[1]}/blob/main/\2)", text)


setup(
    long_description=readme(),
    long_description_content_type="text/markdown",
    packages=[*SPINE, *(f"hrm_gym.{name}" for name in find_packages(include=INCLUDE))],
    package_dir={"hrm_gym": "hrm_gym", **{f"hrm_gym.{room}": room for room in ROOMS}},
    package_data={
        "hrm_gym": ["py.typed"],
        "hrm_gym.evaluation": ["web/*.css", "web/*.html", "web/*.js"],
        "hrm_gym.agents.hrm.accelerate": ["*.cpp"],
        "hrm_gym.agents.pretrained": ["**/*.safetensors", "**/*.json", "**/*.jsonl", "**/*.md", "**/SHA256SUMS"],
        "hrm_gym.envs": ["**/*.npz"],
    },
)
