"""Faults that users of such packages report, by kind: five variants of each, none of them the case that was reported.

The reports are those of other projects: caches that cannot be written, a step that is a reset, windows that close each
other, compilers that are missing, limits of steps, global state, held-out puzzles that are training puzzles, folders of
runs, separators in names, and ARC's numbers of test grids.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

import hrm_gym
from hrm_gym.agents.pretrained import FOLDER
from hrm_gym.scripts.main import main

# ---- compiled code where nothing can be kept ----

KERNEL = """
import os
from hrm_gym.envs.compiled import compiled
@compiled
def add(a, b):
    return a + b
print("ok", add(1, 2))
"""
UNWRITABLE = {
    "the cache is a file": {"NUMBA_CACHE_DIR": "file"},
    "home and cache lie under a file": {"XDG_CACHE_HOME": "file/cache", "HOME": "file/home"},
    "nor is there a temporary folder": {"XDG_CACHE_HOME": "file/cache", "HOME": "file", "TMPDIR": "file/tmp"},
    "no byte can be written": {"NUMBA_CACHE_DIR": "cache"},
    "the cache was cut in half": {"NUMBA_CACHE_DIR": "cache"},
}


@pytest.mark.parametrize("variant", UNWRITABLE)
def test_compiled_code_runs_where_nothing_can_be_kept(tmp_path: Path, variant: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "__pycache__").touch()  # a file in the place of the folder in which numba keeps code
    (tmp_path / "kernel.py").write_text(KERNEL)
    places = {name: str(tmp_path / path) for name, path in UNWRITABLE[variant].items()}
    env = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")} | places
    command = [sys.executable, "-B", "kernel.py"]
    if variant == "no byte can be written":
        pytest.importorskip("resource")  # not on Windows
        limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); "
        command[2:] = ["-c", f"{limit}import runpy; runpy.run_path('kernel.py')"]
    if variant == "the cache was cut in half":
        subprocess.run(command, env=env, cwd=tmp_path, check=True, capture_output=True)
        kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
        assert kept
        for path in kept:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "ok 3"), done.stderr


# ---- the step after an end is a reset ----


def ends(env_id: str, mode: AutoresetMode, agent: str, arguments: dict[str, Any], episodes: int = 2) -> Any:
    """The returns of the first episodes of three boards, played without a word to the agent about what ended."""
    sync, options = arguments.pop("sync", False), arguments.pop("options", {})
    if sync:
        envs = gym.make_vec(env_id, 3, "sync", vector_kwargs={"autoreset_mode": mode}, split="test", **arguments)
    else:
        envs = gym.make_vec(env_id, 3, autoreset_mode=mode, split="test", **arguments)
    player = hrm_gym.make_agent(agent, gym.make(env_id, split="test", **arguments), **options)
    seen, _ = envs.reset(seed=7)
    state, found, resetting = None, [[0.0], [0.0], [0.0]], np.zeros(3, bool)
    while min(map(len, found)) <= episodes:
        actions, state = player.predict(seen, state)
        seen, rewards, terminated, truncated, _ = envs.step(actions)
        ended = terminated | truncated
        for row in np.flatnonzero(~resetting):
            found[row][-1] += rewards[row]
            found[row] += [0.0] if ended[row] else []
        resetting = ended & (mode == AutoresetMode.NEXT_STEP)
        if mode == AutoresetMode.DISABLED and ended.any():
            seen, _ = envs.reset(options={"reset_mask": ended})
    return [row[:episodes] for row in found]


MINI = "HRMSudokuMini-v0"
STEPS_THAT_RESET: dict[str, tuple[str, str, dict[str, Any]]] = {
    "single environments inside": (MINI, "hrm", {"sync": True}),
    "the HRM writes cells": (MINI, "hrm", {"action_mode": "cell"}),
    "images vote": (MINI, "hrm-vote", {"options": {"votes": 2}}),
    "the first image to halt": ("HRMMaze-v0", "hrm-first", {"options": {"images": 2}, "size": 6}),
    "two attempts": ("HRMARCMini-v0", "hrm", {"max_segments": 2}),
}


@pytest.mark.parametrize("variant", STEPS_THAT_RESET)
def test_an_agent_plays_the_same_in_every_autoreset_mode(variant: str) -> None:
    env_id, agent, arguments = STEPS_THAT_RESET[variant]
    modes = list(AutoresetMode) if variant == "images vote" else [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]
    found = [ends(env_id, mode, agent, dict(arguments)) for mode in modes]
    assert all(one == found[0] for one in found), found


# ---- windows next to each other, and next to other users of pygame ----


def walker(render_mode: str = "human") -> Any:
    env = gym.make("HRMMaze-v0", action_mode="move", render_mode=render_mode)
    env.reset(seed=1)
    return env


def show_the_other() -> None:
    one, two = walker(), walker()
    one.close()
    two.render()
    two.reset(seed=2)
    two.step(1)
    two.close()


def close_in_any_order() -> None:
    one, two, three = walker(), walker(), walker()
    three.close()
    one.step(0)
    one.close()
    one.close()
    two.step(1)
    two.close()
    last = walker()
    last.step(0)
    last.close()


def quit_pygame() -> None:
    import pygame

    env = walker()
    pygame.quit()
    env.step(0)
    env.reset(seed=3)
    env.close()


def next_to_cart_pole() -> None:
    import pygame

    cart: Any = gym.make("CartPole-v1", render_mode="human")
    cart.reset(seed=1)
    env, size = walker(), pygame.display.get_surface().get_size()
    walker("rgb_array").render()
    env.step(1)
    cart.step(1)
    env.close()
    cart.step(0)
    assert pygame.display.get_surface().get_size() == size
    cart.close()


def picture_without_fonts() -> None:
    import pygame

    env = walker("rgb_array")
    first = env.render()
    pygame.font.quit()
    np.testing.assert_array_equal(env.render(), first)
    pygame.quit()
    np.testing.assert_array_equal(env.render(), first)


@pytest.mark.parametrize(
    "variant", [show_the_other, close_in_any_order, quit_pygame, next_to_cart_pole, picture_without_fonts]
)
def test_windows_do_not_close_each_other(variant: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    variant()


# ---- max_episode_steps in make_vec ----

WALK = {"action_mode": "move"}
LIMITS: dict[str, tuple[str, AutoresetMode, int, dict[str, Any]]] = {
    "moves, next step": ("HRMMaze-v0", AutoresetMode.NEXT_STEP, 3, WALK),
    "moves, same step": ("HRMMaze-v0", AutoresetMode.SAME_STEP, 3, WALK),
    "segments, with the halt forced in the same step": (MINI, AutoresetMode.NEXT_STEP, 3, {"max_segments": 3}),
    "halting": ("HRMHalting-v0", AutoresetMode.NEXT_STEP, 2, {}),
    "no limit": (MINI, AutoresetMode.NEXT_STEP, -1, {"action_mode": "cell", "max_steps": 4}),
}


@pytest.mark.parametrize("variant", LIMITS)
def test_a_limit_of_steps_means_what_it_does_around_single_environments(variant: str) -> None:
    env_id, mode, limit, arguments = LIMITS[variant]
    courses = []
    for sync in (True, False):
        how: dict[str, Any] = {"autoreset_mode": mode}
        how = {"vectorization_mode": "sync", "vector_kwargs": how} if sync else how
        envs = gym.make_vec(env_id, num_envs=2, max_episode_steps=limit, **how, **arguments)
        envs.reset(seed=5)
        envs.action_space.seed(1)
        courses.append([[part.tolist() for part in envs.step(envs.action_space.sample())[1:4]] for _ in range(7)])
    assert courses[0] == courses[1]


# ---- global state is neither read nor moved ----


def thoughts(agent: str, env_id: str, **arguments: Any) -> list[Any]:
    """The first actions of an agent."""
    env = gym.make(env_id, **arguments)
    player, state, found = hrm_gym.make_agent(agent, env), None, []
    seen, _ = env.reset(seed=3)
    for _ in range(2):
        action, state = player.predict(seen, state)
        found.append(np.array(action).tolist())
        seen, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            break
    return found


PLAYERS: dict[str, tuple[str, dict[str, Any]]] = {
    "hrm": ("HRMMaze-v0", {}),
    "hrm-vote": (MINI, {}),
    "hrm-search": ("HRMSudoku-v0", {}),
    "ppo": ("HRMMaze-v0", {"action_mode": "move"}),
    "maskableppo": (MINI, {"action_mode": "cell"}),
}


def global_state() -> list[Any]:
    drawn = np.random.get_state()  # noqa: NPY002
    return [
        torch.get_rng_state().tolist(), str(drawn[1].tolist()), drawn[2], random.getstate(), torch.get_default_dtype(),
        torch.get_num_threads(), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled(),
    ]  # fmt: skip


@pytest.fixture
def odd_defaults() -> Iterator[None]:
    """Tensors are of another kind and elsewhere unless one says what and where."""
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    yield
    torch.set_default_device("cpu")
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("agent", PLAYERS)
def test_agents_neither_read_nor_move_global_state(agent: str, request: pytest.FixtureRequest) -> None:
    env_id, arguments = PLAYERS[agent]
    before = global_state()
    first = thoughts(agent, env_id, **arguments)
    assert global_state() == before
    torch.manual_seed(99)
    random.seed(99)
    request.getfixturevalue("odd_defaults")
    assert thoughts(agent, env_id, **arguments) == first


def test_importing_opponents_leaves_pythons_own_generator_alone() -> None:
    code = "import random; s = random.getstate(); import hrm_gym.agents.sb3.agent; print(s == random.getstate())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "True"


# ---- the numbers of ARC's test grids ----


def pair(colour: int, answer: Any = None) -> dict[str, Any]:
    return {"input": [[colour]]} if answer is None else {"input": [[colour]], "output": answer}


SHOWN = [pair(1, [[2]]), pair(3, [[4]])]
ARC: dict[str, tuple[dict[str, Any], list[str]]] = {
    "the last of three": ({"a.json": {"train": SHOWN, "test": [pair(1), pair(2), pair(3, [[5]])]}}, ["a:2"]),
    "a gap": ({"a.json": {"train": SHOWN, "test": [pair(1, [[5]]), pair(2), pair(3, [[6]])]}}, ["a:0", "a:2"]),
    "null": ({"a.json": {"train": SHOWN, "test": [{**pair(1), "output": None}, pair(2, [[5]])]}}, ["a:1"]),
    "a folder": (
        {
            "x.json": {"train": SHOWN, "test": [pair(1), pair(2, [[7]])]},
            "y.json": {"train": SHOWN, "test": [pair(3, [[8]])]},
            "z.json": {"train": SHOWN, "test": [pair(3)]},
        },
        ["x:1", "y:0"],
    ),
    "answers in a file of their own": (
        {
            "arc_challenges.json": {"t": {"train": SHOWN, "test": [pair(1), pair(2)]}},
            "arc_solutions.json": {"t": [[[5]], [[6]]]},
        },
        ["t:0", "t:1"],
    ),
}


@pytest.mark.parametrize("variant", ARC)
def test_puzzles_of_arc_have_the_numbers_of_their_test_grids(tmp_path: Path, variant: str) -> None:
    files, names = ARC[variant]
    folder = tmp_path / "tasks"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    source = folder if variant == "a folder" else folder / next(iter(files))
    env: Any = gym.make("HRMARC-v0", source=str(source), augment=False)
    found = set()
    for seed in range(16):
        env.reset(seed=seed)
        found.add(env.unwrapped.puzzle.name.rpartition("/")[2])
    assert sorted(found) == names
    out = tmp_path / "submission.json"
    assert main(["predict", str(source), "--agent", "random", "--out", str(out)]) == 0
    asked = [task for content in files.values() for task in ([content] if "test" in content else content.values())]
    asked = [task for task in asked if "test" in task] if variant != "answers in a file of their own" else asked[:1]
    answered = json.loads(out.read_text())
    assert [len(grids) for grids in answered.values()] == [len(task["test"]) for task in asked]


# ---- which path is a checkpoint ----


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a finished run, by its layout, in the present folder, which is also the home."""
    for part in ("model", "update_00000002"):
        shutil.copytree(FOLDER / "hrm-sudoku-4x4", tmp_path / "run" / part)
    (tmp_path / "link").symlink_to("run", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return tmp_path / "run"


def solve(*words: str) -> int:
    return main(["solve", MINI, "--episodes", "1", "--no-render", *words])


@pytest.mark.parametrize("path", ["run/", "link", "~/run", "run/model/..", "."])
def test_a_folder_of_a_finished_run_is_its_weights_however_it_is_named(
    run: Path, path: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if path == ".":
        monkeypatch.chdir(run)
    assert solve("--agent", f"hrm={path}") == 0, capsys.readouterr().err


@pytest.mark.parametrize("path", ["empty", "strangers", "file.txt", "run/update_00000009", "runs"])
def test_what_is_no_run_is_refused_in_one_line(run: Path, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("empty", "strangers"):
        Path(name).mkdir()
    Path("strangers/notes.txt").touch()
    Path("file.txt").touch()
    for name in ("one", "two"):
        shutil.copytree(run, Path("runs") / name)
    assert solve("--agent", f"hrm={path}") == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1, said
    assert path in said[0]


# ---- separators in paths and names ----

SEPARATORS: dict[str, tuple[str, Callable[[str], list[str]]]] = {
    "a comma in weights": ("a,b", lambda path: ["--agent", f"hrm={path}/model", "oracle"]),
    "a plus sign where networks vote": ("my+runs", lambda path: ["--agent", f"hrm-vote={path}/model", "--votes", "2"]),
    "wildcards that are none": ("s[1]*q", lambda path: ["--agent", f"hrm={path}/model"]),
    "a dash, an equals sign and an at sign": ("-lr=0.1@home", lambda path: ["--agent", f"hrm={path}/model"]),
    "the id of an environment": ("HRMMaze-v0", lambda path: ["--agent", "oracle", "--source", f"{path}/t.csv"]),
}


@pytest.mark.skipif(os.name == "nt", reason="such names are none on Windows")
@pytest.mark.parametrize("variant", SEPARATORS)
def test_separators_in_names_separate_nothing(run: Path, variant: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, words = SEPARATORS[variant]
    run.rename(name)
    Path(name, "t.csv").write_text("source,question,answer,rating\nx,1.3434122143.321,1234341221434321,0\n")
    assert solve(*words(name)) == 0, capsys.readouterr().err


# ---- held-out puzzles that are training puzzles ----


def renamed(text: str) -> str:
    """The same Sudoku with other digits."""
    return text.translate(str.maketrans("1234", "3142"))


def rows(first: int, count: int, change: Callable[[str], str] = str) -> list[str]:
    """Rows of a CSV file: puzzles of the training split."""
    env: Any = gym.make(MINI, split="train")
    found = []
    for seed in range(first, first + count):
        env.reset(seed=seed)
        puzzle = env.unwrapped.puzzle
        texts = ("".join(".1234"[v - 1] for v in grid.ravel()) for grid in (puzzle.clues, puzzle.solution))
        found.append(f"mine,{','.join(map(change, texts))},0")
    return found


def write_rows(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(["source,question,answer,rating", *lines]) + "\n")
    return path


HELD_OUT: dict[str, tuple[Callable[[Path], str], str]] = {
    "the file itself": (lambda file: str(file), "expected --test-source of puzzles"),
    "the file by another name": (lambda file: str(file.parent / "x" / ".." / "link.csv"), "expected --test-source of"),
    "a copy in another order": (
        lambda file: str(write_rows(file.with_name("copy.csv"), rows(0, 12)[::-1])),
        "expected --test-source of puzzles",
    ),
    "images of its puzzles": (
        lambda file: str(write_rows(file.with_name("images.csv"), rows(0, 12, renamed))),
        "expected --test-source of puzzles",
    ),
    "some of its puzzles": (
        lambda file: str(write_rows(file.with_name("some.csv"), [*rows(0, 3), OTHER])),
        "3 of 4 held-out puzzles are trained on too",
    ),
}
OTHER = "mine,12.43412214.4321,1234341221434321,0"


@pytest.mark.parametrize("variant", HELD_OUT)
def test_held_out_puzzles_are_not_those_of_training(
    tmp_path: Path, variant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make, expected = HELD_OUT[variant]
    file = write_rows(tmp_path / "train.csv", rows(0, 12))
    (tmp_path / "x").mkdir()
    (tmp_path / "link.csv").symlink_to("train.csv")
    short = ["--updates", "1", "--eval-every", "1", "--eval-puzzles", "2", "--batch-size", "2", "--no-compile"]
    words = ["--source", str(file), "--test-source", make(file), "--workers", "0", "--out", str(tmp_path / "run")]
    assert main(["train", "sudoku-4x4", *short, *words]) == (2 if "expected" in expected else 0)
    assert expected in capsys.readouterr().err


# ---- a compiler that is missing, broken, or killed ----

THINK = f"""
import gymnasium as gym, hrm_gym
env = gym.make("{MINI}")
agent = hrm_gym.make_agent("hrm", env, compile=True)
seen, _ = env.reset(seed=1)
print("ok", agent.predict(seen)[0].shape)
"""
COMPILERS: dict[str, tuple[str, dict[str, str]]] = {
    "none": ("", {}),
    "CXX names nothing": ("", {"CXX": "/nowhere/g++"}),
    "it fails": ("exit 1", {}),
    "it is killed": ("kill -9 $$", {}),
    "it writes garbage where code cannot be kept": (
        'while [ $# -gt 0 ]; do if [ "$1" = -o ]; then echo garbage > "$2"; fi; shift; done',
        {"TORCHINDUCTOR_CACHE_DIR": "/proc/nowhere"},
    ),
}


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
@pytest.mark.parametrize("variant", COMPILERS)
def test_networks_run_whatever_the_compiler_does(tmp_path: Path, variant: str) -> None:
    script, places = COMPILERS[variant]
    (tmp_path / "bin").mkdir()
    for name in ("g++", "c++", "clang++", "gcc", "cc") if script else ():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    own = {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    env = {k: v for k, v in os.environ.items() if k not in ("CXX", "TORCHINDUCTOR_CACHE_DIR")} | own | places
    done = subprocess.run([sys.executable, "-c", THINK], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "ok (17,)"), done.stderr
    assert "Traceback" not in done.stderr
