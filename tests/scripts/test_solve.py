"""`hrm-gym solve` as a person types it: figures, films, and one line for everything that goes wrong."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import pytest
from PIL import Image

from hrm_gym import registry
from hrm_gym.envs.rendering.window import Window
from hrm_gym.scripts import solve, viewer
from hrm_gym.scripts.main import COMMANDS, main
from hrm_gym.scripts.options import gathered


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in an empty folder and without a display."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.delenv("HRM_GYM_DEBUG", raising=False)
    return tmp_path


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents with weights find none, so that these tests do not depend on what is bundled."""
    module: Any = ModuleType("without_weights")

    def for_env(env: gym.Env, **kwargs: Any) -> None:
        raise ValueError("no bundled weights fit this grid")

    module.for_env = for_env
    monkeypatch.setitem(sys.modules, "without_weights", module)
    for name in ("hrm", "ppo"):
        monkeypatch.setitem(registry.FACTORIES, name, "without_weights:for_env")


@pytest.fixture
def mazes(tmp_path: Path) -> Path:
    """A data file of three mazes, 5x5, in the official layout."""
    question, answer = "S   #" + "### #" + "#G  #" + "#####" * 2, "Sooo#" + "###o#" + "#Goo#" + "#####" * 2
    path = tmp_path / "mazes.csv"
    path.write_text("source,question,answer,rating\n" + f"mine,{question},{answer},8\n" * 3)
    return path


def failure(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run a command that must fail, and return its one line."""
    assert main(["solve", *argv]) == 2
    line = capsys.readouterr().err
    assert line.startswith("hrm-gym: error: ")
    assert line.count("\n") == 1
    return line


def test_figures_as_table_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", "--agent", "oracle", "random", "--episodes", "12", "--json", "out/scores.json"]) == 0
    rows = json.loads(Path("out/scores.json").read_text())
    assert [(row["agent"], row["env"], row["episodes"]) for row in rows] == [
        ("oracle", "HRMMaze-v0", 12),
        ("random", "HRMMaze-v0", 12),
    ]
    assert (rows[0]["solved"], rows[0]["exact"], rows[0]["mean_segments"]) == (1.0, 1.0, 1.0)
    printed = capsys.readouterr().out
    assert "HRMMaze-v0, 12 puzzles" in printed
    assert not Path("solves").exists()


def test_votes_are_for_the_voting_agent_if_it_is_named() -> None:
    def seats(*agents: str, **options: int) -> list[tuple[str, dict[str, Any]]]:
        config = solve.Solve(agent=agents, **options)
        return [config.settings(agent) for agent in agents]

    assert seats("hrm", votes=4) == [("hrm-vote", {"votes": 4})]
    assert seats("hrm", "hrm-vote", votes=4) == [("hrm", {}), ("hrm-vote", {"votes": 4})]
    assert seats("hrm", "hrm-first", first=4) == [("hrm", {}), ("hrm-first", {"images": 4})]
    assert seats("hrm", "hrm-vote", agree=2) == [("hrm", {}), ("hrm-vote", {"agree": 2})]
    assert seats("hrm-vote", first=4) == [("hrm-first", {"images": 4})]
    assert seats("hrm-first", "hrm-vote") == [("hrm-first", {}), ("hrm-vote", {})]
    assert seats("hrm", "hrm-vote", votes=1) == [("hrm", {}), ("hrm-vote", {"votes": 1})]
    assert seats("hrm", "hrm-first", first=1) == [("hrm", {}), ("hrm-first", {"images": 1})]


def test_votes_that_agree_need_votes(capsys: pytest.CaptureFixture[str]) -> None:
    assert "expected --agree of at least 0, with --votes or hrm-vote, got 2" in failure(capsys, "--agree", "2")
    assert "got -1" in failure(capsys, "--agree", "-1", "--votes", "4")


def test_a_budget_is_for_the_search(capsys: pytest.CaptureFixture[str]) -> None:
    config = solve.Solve(agent=("hrm", "hrm-search"), budget=99, no_check=True)
    assert config.settings("hrm-search") == ("hrm-search", {"check": False, "budget": 99})
    assert config.settings("hrm") == ("hrm", {"check": False})
    assert "expected hrm-search among the agents for --budget, got hrm" in failure(
        capsys, "--agent", "hrm", "--budget", "9"
    )
    assert "expected --budget of at least 1, got 0" in failure(capsys, "--agent", "hrm-search", "--budget", "0")


def test_the_default_agents_without_weights_are_skipped_in_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", "--episodes", "2", "--no-render"]) == 0
    streams = capsys.readouterr()
    assert streams.err.splitlines() == [
        f"{name}: no bundled weights fit this grid (skipped)" for name in ("hrm", "ppo")
    ]
    assert "oracle" in streams.out


def test_an_agent_that_was_named_is_not_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no bundled weights" in failure(capsys, "--agent", "hrm", "--no-render")


def test_without_a_display_a_gif_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", "--agent", "oracle", "--episodes", "7"]) == 0
    assert "5 puzzles on film in solves" in capsys.readouterr().out
    with Image.open("solves/HRMMaze-v0-oracle.gif") as gif:
        assert gif.n_frames == 10


def test_several_agents_share_a_film_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    walk = ["--agent", "oracle", "--agent", "walker:make", "--episodes", "2", "--save", "film.gif"]
    sys.modules["walker"] = ModuleType("walker")
    sys.modules["walker"].make = slow_walker  # type: ignore[attr-defined]
    assert main(["solve", *walk]) == 0
    assert "oracle, slow: 2 puzzles on film in film.gif" in capsys.readouterr().out
    with Image.open("film.gif") as gif:
        assert gif.width > 1.5 * gif.height, "two boards side by side"
        assert gif.n_frames >= 2 * 4, "the oracle is done after one segment, the other takes three"


def slow_walker(env: gym.Env) -> Any:
    """An oracle that gives its answer in the third segment."""
    agent: Any = registry.make_agent("oracle", env, name="slow")
    solve_now = agent.predict

    def predict(observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True) -> Any:
        actions, answers = solve_now(observation, state, episode_start)
        actions = actions.copy()
        actions[..., -1] = observation["segment"][..., 0] > 0.12
        return actions, answers

    agent.predict = predict
    return agent


def test_one_film_an_agent_on_request() -> None:
    arguments = ["--agent", "oracle,stored", "--episodes", "1", "--save", "film.gif", "--no-together"]
    assert main(["solve", *arguments]) == 0
    assert sorted(path.name for path in Path().iterdir()) == ["film-oracle.gif", "film-stored.gif"]


def test_a_page_that_goes_through_the_segments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", "--agent", "oracle", "--agent", "random", "--episodes", "7", "--save", "out.html"]) == 0
    page = Path("out.html").read_text()
    assert "replay of 5 puzzles in out.html" in capsys.readouterr().out
    assert "hrm-gym solve --agent oracle --agent random --episodes 7 --save out.html" in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page), "nothing is fetched from anywhere"


def test_the_table_fits_a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    said = io.StringIO()
    narrow = Console(file=said, width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr("rich.console.Console", lambda *_, **__: narrow)
    monkeypatch.setattr(solve, "with_progress", lambda episodes, *_: episodes)
    assert main(["solve", "--agent", "oracle", "random", "--episodes", "3", "--no-render"]) == 0
    lines = said.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "…" not in said.getvalue()
    assert any(line.startswith("oracle") and "100.0%" in line for line in lines), "a row begins with its agent's name"


def test_one_window_shows_all_agents_and_closes_after_a_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer, "has_display", lambda: True)
    shown: list[tuple[int, int]] = []
    monkeypatch.setattr(Window, "show", lambda self, picture: shown.append(picture.get_size()))
    agents = ["--agent", "oracle", "--agent", "stored", "--speed", "16", "--hold", "0"]
    assert main(["solve", *agents, "--episodes", "2"]) == 0
    assert len(shown) >= 2 * 2
    assert {size[0] for size in shown} == {2 * 820}
    assert list(Path().iterdir()) == []


def test_closing_the_shared_window_goes_on_to_the_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(viewer, "has_display", lambda: True)
    monkeypatch.setattr(Window, "show", lambda self, picture: self.close())
    assert main(["solve", "--agent", "oracle", "--agent", "stored", "--episodes", "2"]) == 0
    assert "stored" in capsys.readouterr().out


def test_records(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", "--agent", "oracle", "--episodes", "7", "--save", "play.jsonl"]) == 0
    records = [json.loads(line) for line in Path("play.jsonl").read_text().splitlines()]
    assert [record["index"] for record in records] == list(range(7))
    assert all(len(record["frames"]) == 2 for record in records)


def test_a_data_file_is_played_row_by_row(mazes: Path) -> None:
    assert main(["solve", "--data", str(mazes), "--agent", "stored", "--save", "play.jsonl", "--no-render"]) == 0
    records = [json.loads(line) for line in Path("play.jsonl").read_text().splitlines()]
    assert [record["name"] for record in records] == ["mazes.csv:2", "mazes.csv:3", "mazes.csv:4"]
    assert all(record["solved"] and record["exact"] for record in records)


def test_fewer_rows_on_request(mazes: Path) -> None:
    for wanted, played in (("2", 2), ("9", 3)):
        arguments = ["--data", str(mazes), "--agent", "oracle", "--episodes", wanted, "--json", "scores.json"]
        assert main(["solve", *arguments]) == 0
        assert json.loads(Path("scores.json").read_text())[0]["episodes"] == played


def test_a_walker_is_scored_without_segments() -> None:
    assert main(["solve", "--agent", "random@move", "--episodes", "3", "--json", "scores.json"]) == 0
    (row,) = json.loads(Path("scores.json").read_text())
    assert row["agent"] == "random@move"
    assert row["mean_segments"] is None
    assert row["mean_steps"] > 1


def test_a_seed_names_the_puzzles() -> None:
    shown = []
    for seed in ("1", "1", "2"):
        assert main(["solve", "--agent", "oracle", "--episodes", "3", "--seed", seed, "--save", "p.jsonl"]) == 0
        shown.append([json.loads(line)["puzzle"] for line in Path("p.jsonl").read_text().splitlines()])
    assert shown[0] == shown[1] != shown[2]


def test_max_segments_is_the_budget() -> None:
    arguments = ["--agent", "random", "--episodes", "30", "--max-segments", "1", "--json", "scores.json"]
    assert main(["solve", *arguments]) == 0
    assert json.loads(Path("scores.json").read_text())[0]["mean_segments"] == 1.0


def test_weights_are_handed_to_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("weighted")

    def for_env(env: gym.Env, weights: Path | None = None) -> Any:
        assert weights == "runs/a"
        return registry.make_agent("oracle", env)

    module.for_env = for_env
    monkeypatch.setitem(sys.modules, "weighted", module)
    monkeypatch.setitem(registry.FACTORIES, "hrm", "weighted:for_env")
    assert main(["solve", "--agent", "hrm=runs/a", "--episodes", "1", "--json", "scores.json"]) == 0
    assert json.loads(Path("scores.json").read_text())[0]["agent"] == "hrm=runs/a"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["HRMMaez-v0"], "HRMMaez"),
        (["CartPole-v1"], "expected an environment of puzzles, one of HRMSudoku-v0"),
        (["--agent", "orcale"], "unknown agent 'orcale'"),
        (["--data", "nowhere.csv"], "nowhere.csv"),
        (["--episodes", "0"], "--episodes of at least 1, got 0"),
        (["--batch", "-3"], "--batch"),
        (["--max-segments", "0"], "--max-segments"),
        (["--save", "film.avi"], "film.avi"),
        (["--save", "mazes.csv/film.gif"], "mazes.csv"),
        (["--json", "."], "folder"),
    ],
)
def test_bad_input_gets_one_line(argv: list[str], said: str, mazes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = mazes.read_text()
    assert said in failure(capsys, *argv)
    assert list(Path().iterdir()) == [Path("mazes.csv")]
    assert mazes.read_text() == before


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("mine,S G", "bad.csv:5"),
        ("mine,S   ,Sooo,1", "bad.csv:5"),
        (f"mine,{'S' + ' ' * 24},{'S' + 'o' * 24},1", "goal"),
    ],
)
def test_bad_rows_get_one_line_and_overwrite_nothing(
    row: str, said: str, mazes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.csv").write_text(mazes.read_text() + row + "\n")
    Path("scores.json").write_text("kept")
    assert said in failure(capsys, "--data", "bad.csv", "--agent", "oracle", "--json", "scores.json")
    assert Path("scores.json").read_text() == "kept"


def test_usage_errors_exit_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Unrecognized options: --episods" in failure(capsys, "--episods", "3")
    assert "abc" in failure(capsys, "--episodes", "abc")


def test_debugging_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRM_GYM_DEBUG", "1")
    with pytest.raises(ValueError, match="unknown agent"):
        main(["solve", "--agent", "nobody"])


def test_ctrl_c_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(solve, "_agents", interrupt)
    assert main(["solve"]) == 130
    assert capsys.readouterr().err == ""


def test_defects_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(*_: Any) -> None:
        raise IndexError("a defect")

    monkeypatch.setattr(solve, "_agents", stumble)
    with pytest.raises(IndexError):
        main(["solve"])


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {command.split()[0]} " in text for command in COMMANDS)
    assert "examples:" in text
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("hrm-gym ")
    assert main([]) == 2
    assert main(["slove"]) == 2
    assert "unknown command 'slove'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "together"),
    [
        (["--agent", "a", "b", "--seed", "1"], ["--seed", "1", "--agent", "a", "b"]),
        (["--agent=a,b", "HRMMaze-v0"], ["HRMMaze-v0", "--agent", "a", "b"]),
        (["HRMMaze-v0", "--agent", "a", "--agent", "b=w-v1"], ["HRMMaze-v0", "--agent", "a", "b=w-v1"]),
        (["--agent", "a", "mine:Own-v0:size=4"], ["mine:Own-v0:size=4", "--agent", "a"]),
        (["--seed", "1"], ["--seed", "1"]),
    ],
)
def test_agents_may_be_listed_in_any_way(given: list[str], together: list[str]) -> None:
    assert gathered(given, {"--agent": True}) == together


@pytest.mark.parametrize(
    ("platform", "settings", "display"),
    [
        ("linux", {}, False),
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("linux", {"DISPLAY": ":0", "SDL_VIDEODRIVER": "dummy"}, False),
        ("darwin", {}, True),
        ("win32", {"SDL_VIDEODRIVER": "dummy"}, False),
    ],
)
def test_displays(platform: str, settings: dict[str, str], display: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert viewer.has_display() == display


def test_where_no_window_opens_a_gif_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(viewer, "has_display", lambda: True)
    monkeypatch.setenv("SDL_VIDEODRIVER", "no_such_driver")
    import pygame

    pygame.display.quit()
    assert main(["solve", "--agent", "oracle", "--episodes", "2"]) == 0
    assert "no window" in capsys.readouterr().err
    assert Path("solves/HRMMaze-v0-oracle.gif").exists()


def test_source_takes_a_file_as_data_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("source,question,answer,rating\nmine,1.3434122143.321,1234341221434321,0\n")
    for name in ("--source", "--data"):
        assert main(["solve", "HRMSudokuMini-v0", "--agent", "oracle", name, str(file), "--no-render"]) == 0
        assert "100.0" in capsys.readouterr().out
    for arguments, said in (
        (["--source", "nowhere.csv"], "bank, generate, auto, or a file"),
        (["--source", str(file), "--data", str(file)], "both"),
    ):
        assert main(["solve", "HRMSudokuMini-v0", "--agent", "oracle", *arguments]) == 2
        assert said in capsys.readouterr().err
