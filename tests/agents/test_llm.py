"""Language models as agents, against a stub endpoint on this machine."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import hrm_gym
from hrm_gym.agents.llm import ChatEndpoint, LLMAgent
from hrm_gym.evaluation.rollout import play, rollout_batched
from hrm_gym.scripts.main import main

Answer = Callable[[BaseHTTPRequestHandler, dict[str, Any]], Any]
MINI = "HRMSudokuMini-v0"


class Stub(ThreadingHTTPServer):
    """Answers the n-th request as the n-th of `answers` says, the last of them for all that follow."""

    daemon_threads = True

    def __init__(self, *answers: Answer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers, self.requests, self.headers = list(answers), [], []  # type: ignore[var-annotated]
        self.lock, self.gone = threading.Lock(), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1#stub"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        stub: Any = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with stub.lock:
            number = len(stub.requests)
            stub.requests.append(body)
            stub.headers.append((self.path, dict(self.headers)))
        content = stub.answers[min(number, len(stub.answers) - 1)](self, body)
        if content is not None:
            usage = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
            message = {"role": "assistant", "content": content}
            send(self, 200, json.dumps({"id": "1", "choices": [{"index": 0, "message": message}], "usage": usage}))

    def log_message(self, *arguments: Any) -> None:
        pass


def send(handler: BaseHTTPRequestHandler, status: int, text: str, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(text)))
    handler.end_headers()
    handler.wfile.write(text.encode())


def solve(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> str:
    """The right answer of a 4x4 Sudoku, found from nothing but the prompt."""
    grid = re.search(r"^(?:[.1-4]{4}\n){4}", body["messages"][0]["content"], re.M)
    assert grid is not None
    family = gym.make(MINI).unwrapped.family  # type: ignore[attr-defined]
    rows = family.answer_text(family.make_puzzle(grid[0]).solution)
    return f"<think>\n1234\n</think>\nSo it is\n```\n{rows}\n```\n"


def say(text: str | None) -> Answer:
    return lambda handler, body: text


def status(code: int, text: str = "", **headers: str) -> Answer:
    return lambda handler, body: send(handler, code, text, **headers)


def hang_up(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    handler.connection.close()
    handler.close_connection = True


def cut_short(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices"')
    handler.close_connection = True


def sleep(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    handler.server.gone.wait(20)  # type: ignore[attr-defined]


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Stub]]:
    for name in ("HRM_GYM_LLM_KEY", "HRM_GYM_LLM_TIMEOUT", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    running: list[Stub] = []

    def start(*answers: Answer) -> Stub:
        running.append(Stub(*answers))
        threading.Thread(target=running[-1].serve_forever, args=(0.01,), daemon=True).start()
        return running[-1]

    yield start
    for server in running:
        server.gone.set()
        server.shutdown()
        server.server_close()


def agent_for(server: Stub, env_id: str = MINI, **options: Any) -> tuple[gym.Env[Any, Any], LLMAgent]:
    env = gym.make(env_id, max_segments=3)
    agent: Any = hrm_gym.make_agent("llm", env, weights=server.url, **{"first_wait": 0.01, **options})
    return env, agent


def test_a_right_answer_solves_and_tokens_are_counted(stub: Callable[..., Stub]) -> None:
    server = stub(solve)
    env, agent = agent_for(server)
    episode = play(env, agent, 0, seed=5)
    assert episode.solved
    assert (episode.steps, episode.total_return) == (1, 1.0)
    assert episode.usage == {"requests": 1, "prompt_tokens": 100, "completion_tokens": 7}
    assert episode.tokens == 107
    thought = episode.frames[-1].thought
    assert thought is not None
    assert (thought.event, thought.reason) == ("halts", "gives its answer")
    assert server.requests[0]["model"] == "stub"
    assert server.headers[0][0] == "/v1/chat/completions"
    assert "Authorization" not in server.headers[0][1]


def test_a_wrong_answer_is_judged_wrong(stub: Callable[..., Stub]) -> None:
    env, agent = agent_for(stub(say("```\n1111\n1111\n1111\n1111\n```")))
    episode = play(env, agent, 0, seed=5)
    assert not episode.solved
    assert episode.steps == 1


def test_malformed_text_spends_a_turn_and_the_next_prompt_says_why(stub: Callable[..., Stub]) -> None:
    server = stub(say("```\n12\n```"), say(None), solve)
    server.answers[1] = lambda handler, body: ""
    env, agent = agent_for(server)
    episode = play(env, agent, 0, seed=5)
    assert episode.solved
    assert episode.usage["requests"] == episode.steps == 3
    asked = [request["messages"][0]["content"] for request in server.requests]
    assert "could not be read" not in asked[0]
    assert "expected 4 lines in the answer, got 1" in asked[1]
    assert "an empty reply" in asked[2]
    assert "turn 3 of 3" in asked[2]


def test_a_reply_that_asks_for_another_turn_gets_one(stub: Callable[..., Stub]) -> None:
    server = stub(say("```\n1111\n1111\n1111\n1111\n```\nCONTINUE"), solve)
    env, agent = agent_for(server)
    assert play(env, agent, 0, seed=5).solved
    assert "It breaks a rule in 16 cells: row 1 column 1" in server.requests[1]["messages"][0]["content"]


def test_malformed_text_to_the_end_is_no_answer(stub: Callable[..., Stub]) -> None:
    env, agent = agent_for(stub(say("I will not.")))
    episode = play(env, agent, 0, seed=5)
    assert not episode.solved
    assert episode.steps == 3


@pytest.mark.parametrize("trouble", [status(429, "slow down"), status(503), hang_up, cut_short, sleep])
def test_trouble_is_tried_again(stub: Callable[..., Stub], trouble: Answer) -> None:
    server = stub(trouble, solve)
    env, agent = agent_for(server, timeout=0.5)
    assert play(env, agent, 0, seed=5).solved
    assert len(server.requests) == 2


def test_the_server_says_how_long_to_wait(stub: Callable[..., Stub], monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    server = stub(
        status(429, Retry_After="7"), status(429, Retry_After="tomorrow"), status(429, Retry_After="900"), solve
    )
    env, agent = agent_for(server, first_wait=1.0)
    assert play(env, agent, 0, seed=5).solved
    assert waits == [7.0, 4.0, 60.0]


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        (status(429, "slow down"), "no reply in 2 tries, the last time: status 429 'slow down'"),
        (hang_up, "no reply in 2 tries, the last time: RemoteDisconnected"),
        (sleep, "no reply in 2 tries, the last time: silent for 0.2 s"),
        (status(401, "bad\x1b[31m key"), r"status 401 'bad\\x1b\[31m key'"),
        (status(302, Location="http://127.0.0.1:9/"), "status 302"),
        (status(200, "<html>"), "expected JSON"),
        (status(200, '{"choices": []}'), "expected a completion with a choice, got none"),
        (status(200, '{"choices": [{"message": {"content": 3}}]}'), "choices.*expected"),
    ],
)
def test_an_endpoint_that_fails_ends_the_run(stub: Callable[..., Stub], trouble: Answer, message: str) -> None:
    server = stub(trouble)
    env, agent = agent_for(server, tries=2, timeout=0.2)
    with pytest.raises((ConnectionError, ValueError), match=message):
        play(env, agent, 0, seed=5)
    assert len(server.requests) == (2 if "2 tries" in message else 1)


def test_batches_ask_together_and_once_a_prompt(stub: Callable[..., Stub]) -> None:
    server = stub(solve)
    _, agent = agent_for(server)
    runs = [list(rollout_batched(lambda: gym.make(MINI), agent, 12, batch=5, seed=5)) for _ in range(2)]
    assert sorted(episode.index for episode in runs[0]) == list(range(12))
    assert all(episode.solved and episode.tokens == 107 for run in runs for episode in run)
    asked = [request["messages"][0]["content"] for request in server.requests]
    assert len(asked) == len(set(asked)) <= 12


def test_a_mended_error_of_one_board_stays_with_it(stub: Callable[..., Stub]) -> None:
    """The state follows its row when other boards end."""

    def once(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> str:
        text = body["messages"][0]["content"]
        hard = sum(character in "1234" for character in text[: text.index("Think")]) % 2
        return "nothing" if hard and "turn 1 of" in text else solve(handler, body)

    _, agent = agent_for(stub(once))
    episodes = list(rollout_batched(lambda: gym.make(MINI, max_segments=3), agent, 10, batch=4, seed=2))
    assert {episode.steps for episode in episodes} == {1, 2}
    assert all(episode.solved and episode.usage["requests"] == episode.steps for episode in episodes)


def test_key_options_and_model_go_into_the_request(stub: Callable[..., Stub], monkeypatch: pytest.MonkeyPatch) -> None:
    server = stub(solve)
    monkeypatch.setenv("HRM_GYM_LLM_KEY", "sesame\n")
    ChatEndpoint(server.url.replace("#stub", "/chat/completions?api-version=2#org/big?temperature=0&stop=x")).ask(
        "1234\n3412\n2143\n432.\n"
    )
    path, headers = server.headers[0]
    assert path == "/v1/chat/completions?api-version=2"
    assert headers["Authorization"] == "Bearer sesame"
    assert {name: server.requests[0][name] for name in ("model", "temperature", "stop")} == {
        "model": "org/big",
        "temperature": 0,
        "stop": "x",
    }


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "expected llm=URL#MODEL"),
        ("http://localhost:1/v1", "expected llm=URL#MODEL"),
        ("file:///etc/passwd#x", "expected llm=URL#MODEL"),
        ("http://me:secret@localhost/v1#x", "HRM_GYM_LLM_KEY"),
        ("http://localhost/v1#x?stream=true", "other than stream"),
        ("http://localhost/v\u00e9#x", "a URL in ASCII characters"),
    ],
)
def test_bad_specs_are_named(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        hrm_gym.make_agent("llm", gym.make(MINI), weights=spec)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan", "1e12"])
def test_bad_timeouts_are_named(seconds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRM_GYM_LLM_TIMEOUT", seconds)
    with pytest.raises(ValueError, match="HRM_GYM_LLM_TIMEOUT=600"):
        ChatEndpoint("http://localhost/v1#x")


@pytest.mark.parametrize("key", ["sk-secret\nmore", "sk-secret\u2603"])
def test_a_key_that_cannot_be_sent_is_not_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The HTTP library's error has it in full."""
    monkeypatch.setenv("HRM_GYM_LLM_KEY", key)
    with pytest.raises(ValueError, match="printable ASCII characters in HRM_GYM_LLM_KEY") as caught:
        ChatEndpoint("http://localhost/v1#x").ask("?")
    assert "secret" not in str(caught.value)


def test_other_modes_are_refused() -> None:
    with pytest.raises(ValueError, match="answer mode"):
        hrm_gym.make_agent("llm", gym.make(MINI, action_mode="cell"), weights="http://localhost/v1#x")


def test_every_command_takes_one(
    stub: Callable[..., Stub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    server = stub(solve)
    agent = f"llm={server.url}?temperature=0"
    assert main(["solve", MINI, "--agent", agent, "random", "--episodes", "3", "--json", "scores.json"]) == 0
    row = json.loads(Path("scores.json").read_text())[0]
    assert (row["agent"], row["solved"], row["mean_tokens"]) == (agent, 1.0, 107.0)
    assert "tokens" in capsys.readouterr().out
    assert main(["compare", "--env", MINI, "--agent", agent, "oracle", "--episodes", "3", "--films", "1"]) == 0
    row = json.loads(Path("compare/compare.json").read_text())["rows"][0]
    assert (row["solved"]["value"], row["tokens"]["value"]) == (1.0, 107.0)
    files = ["--html", "replay.html", "--jsonl", "record.jsonl"]
    assert main(["record", MINI, "--agent", agent, "--episodes", "1", *files]) == 0
    assert "gives its answer" in Path("replay.html").read_text()
    assert json.loads(Path("record.jsonl").read_text())["usage"]["completion_tokens"] == 7


def test_a_command_ends_with_one_line(
    stub: Callable[..., Stub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    server = stub(status(404, "no such model"))
    assert main(["solve", MINI, "--agent", f"llm={server.url}", "--episodes", "2", "--json", "scores.json"]) == 2
    assert re.fullmatch(r"hrm-gym: error: http://127\S+: status 404 'no such model'\n", capsys.readouterr().err[-90:])
    assert not Path("scores.json").exists()


def test_sb3_loops_take_one(stub: Callable[..., Stub]) -> None:
    env, agent = agent_for(stub(solve))
    observation, _ = env.reset(seed=5)
    action = agent.act(observation)
    assert action.shape == (17,)
    assert action.dtype == np.int64


def test_the_block_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "text.md").read_text(encoding="utf-8")
    block = re.search(r"```python\n(.*?)\n```\n\n- A reply", page, re.S)
    assert block is not None
    exec(compile(block[1], "text.md", "exec"), {})
    comment = block[1].rpartition("# ")[2]
    assert capsys.readouterr().out.endswith(comment + "\n")
