"""`hrm-gym compare`: the figures are right, every figure can be traced, and a kill loses nothing that was finished."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from hrm_gym import registry
from hrm_gym.scripts.main import main

MINI = ["--env", "HRMSudokuMini-v0"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in an empty folder, without a display, and with agents of its own in `own_agents.py`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.delenv("HRM_GYM_DEBUG", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "own_agents", raising=False)
    Path("own_agents.py").write_text(
        textwrap.dedent(
            """
            import time
            import numpy as np
            from hrm_gym import make_agent

            def slow(env):
                agent = make_agent("random", env, name="slow")
                quick = agent.predict
                def predict(*arguments, **named):
                    time.sleep(0.01)
                    return quick(*arguments, **named)
                agent.predict = predict
                return agent

            class Bare:
                def predict(self, observation, state=None, episode_start=None, deterministic=True):
                    return np.zeros(len(observation["puzzle"]), dtype=np.int64), None

            def walker(env):
                if env.unwrapped.action_mode != "move":
                    raise ValueError("this one walks only")
                return Bare()

            def useless(env):
                return object()
            """
        )
    )
    return tmp_path


def compare(*argv: str) -> dict[str, Any]:
    """Run the command; returns what compare.json holds."""
    assert main(["compare", *argv]) == 0
    out = argv[argv.index("--out") + 1] if "--out" in argv else "compare"
    found: dict[str, Any] = json.loads((Path(out) / "compare.json").read_text())
    return found


def failure(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run a command that must fail, and return its one line."""
    assert main(["compare", *argv]) == 2
    line = capsys.readouterr().err
    assert line.startswith("hrm-gym: error: ")
    assert line.count("\n") == 1
    return line


def figures(data: dict[str, Any]) -> list[Any]:
    """All that does not depend on the clock."""
    names = (
        "world",
        "agent",
        "absent",
        "mode",
        "puzzles",
        "solved",
        "exact",
        "cell_accuracy",
        "total_return",
        "actions",
    )
    return [[row[name] for name in names] for row in data["rows"]]


def test_figures(capsys: pytest.CaptureFixture[str]) -> None:
    data = compare(
        *MINI, "--env", "HRMMaze-v0:size=6", "--agent", "oracle", "random", "--episodes", "30", "--films", "0"
    )
    rows = {(row["world"], row["agent"]): row for row in data["rows"]}
    assert list(rows) == [(w, a) for w in ("HRMSudokuMini-v0", "HRMMaze-v0:size=6") for a in ("oracle", "random")]
    for world in ("HRMSudokuMini-v0", "HRMMaze-v0:size=6"):
        oracle = rows[world, "oracle"]
        assert oracle["puzzles"] == 30
        low = 0.8865 if "Maze" in world else 0.862  # of 30 4x4 Sudokus 24 are no symmetric images of one another
        assert oracle["solved"] == {"value": 1.0, "low": pytest.approx(low, abs=1e-3), "high": 1.0}
        assert oracle["total_return"] == {"value": 1.0, "low": 1.0, "high": 1.0}
        assert rows[world, "random"]["solved"]["value"] < 0.2
        assert oracle["difference"] is None
        gap = rows[world, "random"]["difference"]
        assert gap["low"] <= gap["difference"] < -0.8
        assert gap["p"] < 1e-4
    assert rows["HRMSudokuMini-v0", "oracle"]["reached"] is None
    assert rows["HRMMaze-v0:size=6", "oracle"]["reached"] == 1.0
    assert "HRMSudokuMini-v0" in capsys.readouterr().out


def test_every_figure_can_be_traced() -> None:
    argv = [*MINI, "--agent", "oracle", "own_agents:slow", "--episodes", "8", "--chunk", "5", "--seed", "3"]
    argv += ["--seeds", "2"]
    data = compare(*argv)
    page, markdown = (Path("compare", name).read_text() for name in ("index.html", "compare.md"))
    for text in (page, markdown):
        assert "hrm-gym compare --env HRMSudokuMini-v0 --agent oracle own_agents:slow --episodes 8" in text
        for fact in (*data["facts"].values(), data["versions"]["hrm-gym"]):
            assert fact in text
        assert data["rows"][1]["runs"][0]["fingerprint"][:16] in text, "the hash of foreign code"
    parts = [json.loads(path.read_text()) for path in Path("compare/parts").iterdir()]
    assert {(part["key"]["seed"], part["key"]["first"], part["key"]["count"]) for part in parts} == {
        (seed, first, count) for seed in (3, 4) for first, count in ((0, 5), (5, 3))
    }
    assert all(part["machine"] and part["versions"] and part["date"] for part in parts)
    assert data["rows"][0]["puzzles"] == 16


def test_the_page_needs_nothing_beside_itself() -> None:
    compare(*MINI, "--agent", "oracle", "random", "--episodes", "5", "--films", "1")
    page = Path("compare/index.html").read_text()
    assert page.count("data:image/gif;base64,") == 2
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert not re.findall(r"url\((?!#)|@import", page)
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_all_agents_get_the_same_puzzles_in_their_own_modes() -> None:
    argv = ["--env", "HRMMaze-v0:size=6", "--agent", "oracle", "random", "oracle@move", "random@cell"]
    data = compare(*argv, "--episodes", "12", "--chunk", "5", "--films", "0")
    assert len({row["puzzles_sha256"] for row in data["rows"]}) == 1
    other = compare(*argv, "--episodes", "12", "--chunk", "5", "--films", "0", "--seed", "1", "--out", "other")
    assert other["rows"][0]["puzzles_sha256"] != data["rows"][0]["puzzles_sha256"]


def test_an_agent_without_weights_is_told_in_words() -> None:
    data = compare("--env", "HRMSudoku-v0:box=(2,4)", "--agent", "hrm", "oracle", "--episodes", "3", "--films", "0")
    assert "no bundled HRM weights fit sudoku 8x8" in data["rows"][0]["absent"]
    for name in ("index.html", "compare.md"):
        assert "no bundled HRM weights fit sudoku 8x8" in Path("compare", name).read_text()


def test_an_agent_plays_in_the_mode_that_it_can_or_is_asked_for() -> None:
    argv = ["--env", "HRMMaze-v0:size=5", "--agent", "own_agents:walker", "oracle@move", "random@cell", "random"]
    data = compare(*argv, "--episodes", "4", "--films", "0")
    assert [row["mode"] for row in data["rows"]] == ["move", "move", "cell", "answer"]
    assert data["rows"][1]["solved"]["value"] == 1.0


def test_a_file_is_played_row_by_row() -> None:
    question, answer = "S   #" + "### #" + "#G  #" + "#####" * 2, "Sooo#" + "###o#" + "#Goo#" + "#####" * 2
    Path("mazes.csv").write_text("source,question,answer,rating\n" + f"mine,{question},{answer},8\n" * 7)
    data = compare("--env", "HRMMaze-v0:data=mazes.csv", "--agent", "stored", "--seeds", "2", "--films", "0")
    assert (data["rows"][0]["puzzles"], data["rows"][0]["exact"]["value"]) == (7, 1.0)


def test_where_no_puzzles_can_be_made_the_bank_serves() -> None:
    argv = ["--env", "HRMARCMini-v0", *MINI, "--agent", "stored", "--episodes", "3", "--films", "0"]
    data = compare(*argv, "--source", "auto")
    assert [row["solved"]["value"] for row in data["rows"]] == [1.0, 1.0]
    assert "HRMARCMini-v0: from the bundled bank" in data["facts"]["puzzles"]
    assert "HRMSudokuMini-v0: newly generated" in data["facts"]["puzzles"]


def test_several_training_seeds_are_one_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, rate in enumerate((0.2, 0.6, 1.0)):
        folder = Path(f"runs/ppo-{seed}/model")
        folder.mkdir(parents=True)
        recipe = {"seed": seed, "batch_size": 1}
        (folder / "config.json").write_text(json.dumps({"timesteps": 5000, "seconds": 60.0, "recipe": recipe}))
        rows = [{"seconds": 20.0 * n, "eval_solved": rate * n / 3} for n in (1, 2, 3)]
        (folder.parent / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"seco')
    Path("seeded.py").write_text(
        "import hrm_gym\n"
        "def make(env, weights):\n"
        "    return hrm_gym.make_agent('oracle' if '2' in str(weights) else 'random', env)\n"
    )
    monkeypatch.delitem(sys.modules, "seeded", raising=False)
    data = compare(*MINI, "--agent", "seeded:make=runs/ppo-*", "oracle", "--episodes", "20", "--films", "0")
    row = data["rows"][0]
    assert [run["weights"] for run in row["runs"]] == [f"runs/ppo-{seed}/model" for seed in range(3)]
    assert row["solved"]["value"] == pytest.approx(1 / 3, abs=0.1)
    assert row["solved"]["high"] - row["solved"]["low"] > 0.5, "the doubt about training seeds is in the interval"
    assert [run["curve"]["solved"][-1] for run in row["runs"]] == pytest.approx([0.2, 0.6, 1.0])
    assert "(3 seeds)" in Path("compare/index.html").read_text()
    assert row["runs"][1]["training"]["transitions"] == 5000


def test_more_is_added_to_what_is_there() -> None:
    compare(*MINI, "--agent", "random", "--episodes", "10", "--chunk", "5", "--films", "0")
    before = stamps()
    compare(*MINI, "--agent", "random", "oracle", "--episodes", "15", "--chunk", "5", "--films", "0")
    after = stamps()
    assert before.items() <= after.items()
    assert len(after) == 6


def test_a_damaged_chunk_is_played_again() -> None:
    argv = (*MINI, "--agent", "random", "--episodes", "10", "--chunk", "5", "--films", "0")
    wanted = figures(compare(*argv))
    chunk = sorted(Path("compare/parts").iterdir())[-1]
    chunk.write_bytes(chunk.read_bytes()[:100])
    assert figures(compare(*argv)) == wanted


def test_changed_foreign_code_is_played_again() -> None:
    argv = (*MINI, "--agent", "own_agents:slow", "--episodes", "5", "--films", "0")
    compare(*argv)
    path = Path("own_agents.py")
    path.write_text(path.read_text() + "\n# another version\n")
    compare(*argv)
    assert len(stamps()) == 2


def test_other_settings_are_played_again() -> None:
    """Also those that the words for its halting rules leave out."""
    argv = ("--env", "HRMARCMini-v0", "--agent", "hrm-adapt", "--adapt", "1", "--episodes", "1", "--films", "0")
    first = compare(*argv, "--adapt-batch", "2")
    assert compare(*argv, "--adapt-batch", "2")["rows"][0]["halting_rules"] == first["rows"][0]["halting_rules"]
    assert len(stamps()) == 1
    assert compare(*argv, "--adapt-batch", "3")["rows"][0]["halting_rules"] == first["rows"][0]["halting_rules"]
    assert len(stamps()) == 2


def test_ctrl_c_is_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hrm_gym.evaluation.compare.run.rollout_batched", interrupt)
    assert main(["compare", *MINI, "--agent", "oracle"]) == 130
    assert "the same command continues in compare" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this test kills forked processes, and there is no fork here")
def test_killed_at_several_moments_it_loses_nothing_that_was_finished() -> None:
    argv = ["--env", "HRMSudokuMini-v0", "--env", "HRMMaze-v0:size=6", "--agent", "own_agents:slow", "oracle"]
    argv += ["--episodes", "40", "--chunk", "5", "--films", "1"]
    whole = compare(*argv, "--out", "undisturbed")
    known: dict[str, int] = {}
    kills = 0
    for wanted in (0, 1, 3, 7, 12, 18, 25, 31, 32, 33):
        if killed_with(argv, wanted):
            kills += 1
        now = stamps()
        assert known.items() <= now.items(), "a finished chunk was lost or played again"
        for path in Path("compare/parts").glob("[!.]*"):
            json.loads(path.read_text())
        known = now
    assert kills >= 6
    data = compare(*argv)
    assert known.items() <= stamps().items()
    assert figures(data) == figures(whole)
    assert not list(Path("compare").rglob(".*"))


def stamps() -> dict[str, int]:
    """When each finished chunk and film was written."""
    places = [*Path("compare/parts").glob("[!.]*"), *Path("compare/films").glob("[!.]*")]
    return {str(path): path.stat().st_mtime_ns for path in places}


def killed_with(argv: list[str], finished: int) -> bool:
    """Start the command and kill -9 it a moment after so many files are finished; False if it was done before."""
    process = multiprocessing.get_context("fork").Process(target=quiet, args=(argv,))
    process.start()
    assert process.pid is not None
    deadline = time.monotonic() + 60
    while process.is_alive() and len(stamps()) < finished and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(0.013 * (finished % 3))
    alive = process.is_alive()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    return alive and process.exitcode == -signal.SIGKILL


def quiet(argv: list[str]) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    main(["compare", *argv])


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--env", "HRMMaez-v0"], "HRMMaez"),
        (["--env", "CartPole-v1"], "expected an environment of puzzles, one of HRMSudoku-v0"),
        (["--env", "HRMMaze-v0:size"], "expected an environment as ID"),
        (["--env", "HRMMaze-v0:size=huge"], "size"),
        (["--env", "HRMMaze-v0:data=nowhere.csv"], "nowhere.csv"),
        (["--agent", "orcale"], "unknown agent 'orcale'"),
        (["--agent", "oracle@fly"], "expected a mode among"),
        (["--agent", "oracle", "oracle"], "oracle twice"),
        (["--agent", "hrm=runs/nothing-*"], "found none"),
        (["--agent", "no_such_module:make"], "cannot be loaded"),
        (["--agent", "own_agents:useless"], "method predict"),
        (["--episodes", "0"], "--episodes of at least 1, got 0"),
        (["--chunk", "0"], "--chunk"),
        (["--films", "-1"], "--films"),
        (["--seed", "x"], "x"),
        (["--out", "own_agents.py"], "own_agents.py"),
    ],
)
def test_bad_input_gets_one_line(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    rest = [] if "--env" in argv else MINI
    rest = rest if "--agent" in argv else [*rest, "--agent", "oracle"]
    assert said in failure(capsys, *rest, *argv)


def test_a_plug_in_may_name_its_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(env: Any) -> Any:
        return registry.make_agent("oracle", env)

    make.action_modes = ("move",)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mover", type(sys)("mover"))
    sys.modules["mover"].make = make  # type: ignore[attr-defined]
    data = compare("--env", "HRMMaze-v0:size=5", *MINI, "--agent", "mover:make", "--episodes", "2", "--films", "0")
    assert [row["mode"] for row in data["rows"]] == ["move", ""]
    assert "no move mode here" in data["rows"][1]["absent"]
