"""Families, environments and plug-ins by name; and that a file can name nothing that is not registered."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import gymnasium as gym
import pytest

import hrm_gym
from hrm_gym import registry
from hrm_gym.agents import pretrained
from hrm_gym.envs.maze.env import MazeEnv, MazeVectorEnv
from hrm_gym.envs.maze.rules import MazeFamily

BUNDLED_FOLDER = Path(pretrained.__file__).parent


@pytest.fixture
def own() -> Iterator[None]:
    """Forgets families that a test registers."""
    families, ids = dict(registry._families), dict(gym.registry)
    yield
    registry._families.clear()
    registry._families.update(families)
    gym.registry.clear()
    gym.registry.update(ids)


def register(name: str = "mine", **ids: dict[str, object]) -> None:
    ids = ids or {"Mine-v0": {"size": 6}}
    hrm_gym.register_family(name, family=lambda grid: MazeFamily(), env=MazeEnv, vector_env=MazeVectorEnv, ids=ids)


def helper(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A module `helpers` that would be found by an import."""
    (folder / "helpers.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "helpers", raising=False)


def test_a_registered_family_is_found_by_name_and_by_id(own: None) -> None:
    register()
    assert "mine" in registry.family_names()
    assert isinstance(registry.make_family("mine", (6, 6)), MazeFamily)
    assert hrm_gym.make_env("Mine-v0").unwrapped.shape == (6, 6)
    assert gym.make_vec("Mine-v0", num_envs=3).unwrapped.world.shape == (6, 6)
    assert "Mine-v0" in registry.environment_ids()


def test_registering_again_replaces(own: None, recwarn: pytest.WarningsRecorder) -> None:
    register()
    register(**{"Other-v0": {"size": 5}})
    assert "Mine-v0" not in gym.registry
    assert hrm_gym.make_env("Other-v0").unwrapped.shape == (5, 5)
    assert not recwarn


@pytest.mark.parametrize(
    ("name", "ids", "message"),
    [
        ("maze", {"Mine-v0": {}}, "bundled"),
        ("mine", {"HRMMaze-v0": {}}, "HRMMaze-v0"),
        ("mine", {"CartPole-v1": {}}, "CartPole-v1"),
        ("a b", {"Mine-v0": {}}, "'a b'"),
    ],
)
def test_names_that_belong_to_others_are_refused(
    own: None, name: str, ids: dict[str, dict[str, object]], message: str
) -> None:
    with pytest.raises(ValueError, match=rf"expected .*{message}"):
        register(name, **ids)
    assert hrm_gym.make_env("HRMMaze-v0").unwrapped.shape == (10, 10)


def test_a_person_may_name_a_module(own: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(
        tmp_path,
        monkeypatch,
        "import hrm_gym\n"
        "from hrm_gym.envs.maze.env import MazeEnv, MazeVectorEnv\n"
        "hrm_gym.register_family('mine', family='hrm_gym.envs.maze.rules:MazeFamily', env=MazeEnv,\n"
        "                        vector_env=MazeVectorEnv, ids={'Mine-v0': {'size': 6}})\n",
    )
    assert registry.read_env("helpers:Mine-v0:size=7,source=generate") == (
        "Mine-v0",
        {"size": 7, "source": "generate"},
    )
    assert hrm_gym.make_env("Mine-v0:size=7").unwrapped.shape == (7, 7)


@pytest.mark.parametrize("env_id", ["helpers:HRMMaze-v0", "helpers:Other-v0", "Nowhere-v0", "", None, 3])
def test_an_id_from_a_file_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env_id: str) -> None:
    helper(tmp_path, monkeypatch, "raise SystemExit('imported')\n")
    with pytest.raises(ValueError, match="environment"):
        registry.registered_env(env_id)
    assert "helpers" not in sys.modules
    assert registry.registered_env("HRMMaze-v0") == "HRMMaze-v0"


def test_weights_import_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Policies of RL make the environment that they were trained in, for the rules by which they mask actions."""
    helper(tmp_path, monkeypatch, "raise SystemExit('imported')\n")
    folder = shutil.copytree(BUNDLED_FOLDER / "maskableppo-sudoku-4x4", tmp_path / "weights")
    about = json.loads((folder / "config.json").read_text())
    about["recipe"].update(env_id="helpers:HRMMaze-v0", env={"legal_only": True})
    (folder / "config.json").write_text(json.dumps(about))
    env = gym.make("HRMSudokuMini-v0", action_mode="cell")
    with pytest.raises(ValueError, match="registered environment, got 'helpers:HRMMaze-v0'"):
        hrm_gym.make_agent("maskableppo", env, weights=folder, device="cpu")
    assert "helpers" not in sys.modules


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("HRMMaz-v0", "did you mean 'HRMMaze-v0'"),
        ("no_such_module:HRMMaze-v0", "cannot be loaded: ModuleNotFoundError"),
        ("HRMMaze-v0:size", "expected an environment as"),
        ("", "expected an environment as"),
        ("helpers:HRMMaze-v0", "cannot be loaded: SystemExit: stop"),
    ],
)
def test_bad_texts_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    helper(tmp_path, monkeypatch, "raise SystemExit('stop')\n")
    with pytest.raises(ValueError, match=message):
        registry.read_env(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data='my dir, 2/t.csv'", {"data": "my dir, 2/t.csv"}),
        ('data="a,b(c.csv",size=3', {"data": "a,b(c.csv", "size": 3}),
        ("box=(2,3),data=it's.csv,size=3", {"box": (2, 3), "data": "it's.csv", "size": 3}),
        ("names=['a,b', 'c'],size=3", {"names": ["a,b", "c"], "size": 3}),
        ("data=a)b.csv,size=3", {"data": "a)b.csv", "size": 3}),
        ("data='open,size=3", {"data": "'open", "size": 3}),
        (",,size=3,", {"size": 3}),
        (f"deep={'[' * 5000}", {"deep": "[" * 5000}),
        ("odd={[]: 1}", {"odd": "{[]: 1}"}),
    ],
)
def test_commas_within_quotes_and_brackets_separate_nothing(text: str, expected: dict[str, object]) -> None:
    assert registry.read_arguments(text) == expected


def test_arguments_are_bounded() -> None:
    with pytest.raises(ValueError, match="expected at most 10,000 characters of arguments, got 60,000"):
        registry.read_arguments("," * 60_000)


def test_an_argument_that_the_environment_does_not_take_is_named() -> None:
    with pytest.raises(ValueError, match="HRMMaze-v0 has no argument 'box'"):
        hrm_gym.make_env("HRMMaze-v0:box=3")


def test_a_family_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="unknown family of puzzles 'sudoko', did you mean 'sudoku'"):
        registry.make_family("sudoko", (9, 9))


def test_plug_ins_that_fail_are_named_and_skipped(
    own: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    helper(tmp_path, monkeypatch, "raise RuntimeError('not today')\n")
    values = {"bad": "helpers", "gone": "no_such_module", "odd": "a[", "good": "good_plug_in:register"}
    points = [EntryPoint(name, value, registry.FAMILY_GROUP) for name, value in values.items()]
    module = type(sys)("good_plug_in")
    module.register = register  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "good_plug_in", module)
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    with caplog.at_level(logging.WARNING):
        registry.load_plug_ins()
    assert [record.getMessage().split(" is skipped: ")[0] for record in caplog.records] == [
        "the plug-in bad (hrm_gym.families = helpers)",
        "the plug-in gone (hrm_gym.families = no_such_module)",
        "the plug-in odd (hrm_gym.families = a[)",
    ]
    assert caplog.records[-1].getMessage().endswith("ValueError: expected a module or module:object")
    assert "RuntimeError: not today" in caplog.text
    assert "mine" in registry.family_names()


def test_an_agent_plug_in_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, "raise RuntimeError('not today')\n")
    point = EntryPoint("guesser", "helpers:make", registry.AGENT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    assert registry.agent_names()[-1] == "guesser"
    with pytest.raises(ValueError, match="agent 'guesser' cannot be loaded: RuntimeError: not today"):
        hrm_gym.make_agent("guesser", gym.make("HRMMaze-v0"))


def test_the_version_is_said_once() -> None:
    from importlib.metadata import version

    assert hrm_gym.__version__ == version("hrm-gym")
