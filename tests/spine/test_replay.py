"""HTML replays: every segment is there, what is said of it is right, and the page asks the network for nothing."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
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
        end = {"event": "halts", "reason": "Q(halt) 0.40 > Q(continue) 0.30: halts"} if rows == 4 else {}
        self.thought = Thought(answer, sure, q_halt=rows / 10, q_continue=0.5, segment=rows, **end)  # type: ignore[arg-type]
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
        assert changed == [cell for cell in range(4 * row, 4 * row + 4) if blanks[cell]] * (row > 0)
    assert frames[-1]["words"] == "Q(halt) 0.40 > Q(continue) 0.30: halts"
    assert [frame["event"] for frame in frames] == ["", "", "", "", "halts"]
    assert data["puzzles"][0]["free"] == np.flatnonzero(blanks).tolist()


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


DRIVE = """
<script>
const press = (key) => document.body.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
const all = (where, what) => [...where.querySelectorAll(what)], words = (id) => document.getElementById(id).textContent;
const told = (one) => [one.querySelector(".count").textContent, one.querySelector(".words").textContent.trim(),
  all(one, "polyline").length, all(one, ".board rect").length];
const seen = [], look = () => seen.push([words("where"), words("which"), ...all(document, ".player").map(told)]);
look();
press("ArrowRight"), press("ArrowRight"), look();
press("End"), look();
press("ArrowDown"), look();
press("ArrowUp"), document.getElementById("step").click(), look();
const bottoms = all(document, ".player").map((one) => one.getBoundingClientRect().bottom);
const room = [document.documentElement.scrollWidth, innerWidth, Math.max(...bottoms),
  document.querySelector(".controls").getBoundingClientRect().top];
document.body.replaceChildren(JSON.stringify({seen, room}));
</script>
"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium to drive the page with")
@pytest.mark.parametrize("size", ["1280,800", "500,844"])  # a headless window is at least 500 pixels wide
def test_a_browser_steps_all_players_together(
    written: tuple[str, dict[str, Any], list[Any]], size: str, tmp_path: Path
) -> None:
    (tmp_path / "page.html").write_text(written[0].replace("</body>", f"{DRIVE}</body>"))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={size}", "--dump-dom"]
    done = subprocess.run(
        [*command, f"--user-data-dir={tmp_path / 'profile'}", str(tmp_path / "page.html")],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = json.loads(re.search(r"<body>(.*?)</body>", done.stdout, re.S)[1].replace("&gt;", ">"))  # type: ignore[index]
    (start, two, end, other, stepped), (wide, width, bottom, bar) = found["seen"], found["room"]
    assert start[:3] == ["0 of " + end[0].split()[-1], "puzzle 1 of 2", ["segment 0 of 4", "", 2, 0]]
    assert two[2][0] == "segment 2 of 4"
    assert two[3][0].startswith("step 2 of"), "in step"
    assert two[2][3] > 0, "changed cells and doubt are marked"
    assert two[3][2] == 0, "no curve for an agent without Q-values"
    assert end[2][:2] == ["segment 4 of 4", "Q(halt) 0.40 > Q(continue) 0.30: halts"]
    assert other[1] == "puzzle 2 of 2"
    assert (stepped[0].split()[0], stepped[1]) == ("1", "puzzle 1 of 2")
    assert wide <= width, "nothing sticks out"
    assert bottom <= bar, "everything is in view above the controls"
