"""Maps the top-level folders envs/, agents/ and scripts/ into the one installed package `hrm_gym`.

The package list is computed: a sub-package forgotten in a written-out list would work from an editable install and be
silently absent from the wheel.
"""

from setuptools import find_packages, setup

ROOMS = ("envs", "agents", "scripts")
INCLUDE = [pattern for room in ROOMS for pattern in (room, f"{room}.*")]
LINKS = [pattern for room in ROOMS for pattern in (f"hrm_gym.{room}", f"hrm_gym.{room}.*")]  # set by `make`
SPINE = find_packages(include=["hrm_gym", "hrm_gym.*"], exclude=LINKS)

setup(
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
