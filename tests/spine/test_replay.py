"""HTML replays: every segment is there, what is said of it is right, and the page asks the network for nothing."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

import hrm_gym
from hrm_gym.envs.puzzle import Thought
from hrm_gym.envs.sudoku.rules import sudoku
from hrm_gym.evaluation.pages import render
from hrm_gym.evaluation.replay import follow, write_replay


class Thinker:
    """Draws the solution row by row, surer every time."""

    name, action_mode = "<thinker & co>", "answer"

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> Any:
        rows = 1 if state is None or episode_start.all() else int(state[0]) + 1
        puzzle = observation["puzzle"][0]
        solution = sudoku((2, 2)).solve(puzzle)
        answer = puzzle.copy()
        answer[:rows] = solution[:rows]  # type: ignore[index]
        sure = np.full(puzzle.shape, min(1.0, 0.5 + rows / 10), dtype=np.float32)
        self.thought = Thought(answer, sure, q_halt=rows / 10, q_continue=0.5, segment=rows)
        return np.append(answer.ravel(), rows == 4)[None].astype(np.int64), np.array([rows])

    def thoughts(self) -> list[Thought]:
        return [self.thought]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any], list[Any]]:
    env = gym.make("HRMSudokuMini-v0", render_mode="rgb_array", disable_env_checker=True)
    other = gym.make("HRMSudokuMini-v0", render_mode="rgb_array", disable_env_checker=True, action_mode="cell")
    players = [(env, Thinker()), (other, hrm_gym.make_agent("oracle", other))]
    puzzles = [[follow(player, index, 5) for player in players] for index in range(2)]
    path = tmp_path_factory.mktemp("replay") / "new" / "replay.html"
    write_replay(players, puzzles, path, "hrm-gym solve --save '</script>'", 5)
    text = path.read_text()
    return text, json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1]), puzzles  # type: ignore[index]


def test_every_segment_is_there(written: tuple[str, dict[str, Any], list[Any]]) -> None:
    _, data, puzzles = written
    assert [agent["mode"] for agent in data["agents"]] == ["answer", "cell"]
    for shown, courses in zip(data["puzzles"], puzzles, strict=True):
        for player, course in zip(shown["players"], courses, strict=True):
            assert len(player["frames"]) == course.episode.steps + 1
            assert player["solved"] is True


def test_what_is_said_of_a_segment(written: tuple[str, dict[str, Any], list[Any]]) -> None:
    _, data, puzzles = written
    frames = data["puzzles"][0]["players"][0]["frames"]
    assert [frame["q_halt"] for frame in frames] == [None, 0.1, 0.2, 0.3, 0.4]
    assert [frame["confidence"] and frame["confidence"][0] for frame in frames] == [None, 60, 70, 80, 90]
    blanks = puzzles[0][0].episode.puzzle.clues.ravel() == 1
    for row in range(4):
        changed = frames[row + 1]["changed"]
        assert changed == [cell for cell in range(4 * row, 4 * row + 4) if blanks[cell]]


def test_boards_are_pictures_in_the_page(written: tuple[str, dict[str, Any], list[Any]]) -> None:
    _, data, _ = written
    address = data["puzzles"][1]["players"][1]["frames"][0]["board"]
    picture = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    assert list(picture.size) == data["board"] == [480, 480]
    assert len(data["columns"]) == len(data["rows"]) == 4


def test_nothing_is_fetched_and_nothing_breaks_out(written: tuple[str, dict[str, Any], list[Any]]) -> None:
    text, _, _ = written
    assert not re.findall(r"https?://(?!www\.w3\.org)", text)
    assert "&lt;thinker &amp; co&gt;" in text
    assert text.count("</script>") == 2
    assert "&#39;&lt;/script&gt;&#39;" in text


def test_json_in_a_page_cannot_end_its_element() -> None:
    page = render("page.html", title="a < b", data={"a": "</script><b>"})
    held = re.search(r'id="data">(.*?)</script>', page, re.S)
    assert held is not None
    assert json.loads(held[1]) == {"a": "</script><b>"}
    assert "<title>a &lt; b</title>" in page
    assert page.startswith("<!doctype html>")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    env = gym.make("HRMSudokuMini-v0", render_mode="rgb_array", disable_env_checker=True)
    player = (env, hrm_gym.make_agent("oracle", env))
    with pytest.raises(OSError, match="file"):
        write_replay([player], [[follow(player, 0, 0)]], tmp_path / "file" / "out.html", "x", 0)
