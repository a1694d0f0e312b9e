"""A language model behind an OpenAI-compatible endpoint as an agent: `--agent llm=URL#MODEL`."""

from __future__ import annotations

import http.client
import json
import math
import os
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from hrm_gym.agents.agent import Observation, StatefulAgent
from hrm_gym.envs.family import PuzzleFamily
from hrm_gym.envs.puzzle import Thought
from hrm_gym.reading import convert, parse_json
from hrm_gym.wrappers import prompt, read_reply, turn_of

KEY, TIMEOUT = "HRM_GYM_LLM_KEY", "HRM_GYM_LLM_TIMEOUT"
"""Environment variables: the endpoint's key; seconds that it may be silent."""

FORM = "llm=URL#MODEL or llm=URL#MODEL?name=value&name=value, e.g. llm=http://localhost:8000/v1#my-model?temperature=0"

_MOST = 16 << 20
"""Most bytes of a response."""

_LONGEST_WAIT, _LONGEST_SILENCE = 60.0, 1e6
_BUSY = (408, 409, 425, 429, 500, 502, 503, 504, 529)
"""HTTP statuses after which a request is repeated."""


@dataclass(frozen=True)
class Usage:
    """What the requests about one puzzle took.

    Attributes:
        requests: replies got.
        prompt_tokens: tokens of all prompts, as the endpoint counts them; 0 if it does not.
        completion_tokens: tokens of all replies.
        error: why the last reply could not be read; "".
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str = ""


@dataclass(frozen=True)
class _Tokens:
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class _Message:
    content: str | None = None


@dataclass(frozen=True)
class _Choice:
    message: _Message


@dataclass(frozen=True)
class _Completion:
    """What is read of a response."""

    choices: list[_Choice]
    usage: _Tokens | None = None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would send the key to another host."""

    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        return None


class ChatEndpoint:
    """A model behind `POST …/chat/completions`.

    Attributes:
        url: of the requests.
        model: its name there.
        options: further fields of every request, such as temperature.
        timeout: seconds that the endpoint may be silent.
        tries: requests made before it is given up.
        first_wait: seconds before the second try; it doubles with every further one.
    """

    def __init__(self, spec: str, timeout: float | None = None, tries: int = 5, first_wait: float = 1.0) -> None:
        """Read `URL#MODEL?name=value&…`; nothing is sent.

        Raises:
            ValueError: it has another form, or a number is out of range.
        """
        parts = urlsplit(spec)
        self.model, _, written = parts.fragment.partition("?")
        if parts.scheme not in ("http", "https") or not parts.hostname or not self.model:
            raise ValueError(f"expected {FORM}, got {spec!r}")
        if not (parts.netloc + parts.path + parts.query).isascii():
            raise ValueError(f"expected a URL in ASCII characters (%C3%A9 for é), got {spec!r}")
        if parts.username is not None or parts.password is not None:
            raise ValueError(f"expected a URL without a name and a password: a key is read from the variable {KEY}")
        path = parts.path.rstrip("/")
        path += "" if path.endswith("/chat/completions") else "/chat/completions"
        self.url = urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))
        self.options = {name: _value(value) for name, value in parse_qsl(written, keep_blank_values=True)}
        if taken := sorted({"model", "messages", "stream", "n"} & set(self.options)):
            raise ValueError(f"expected options other than {', '.join(taken)}, got {spec!r}")
        self.timeout = _positive(os.environ.get(TIMEOUT, "600") if timeout is None else timeout)
        self.tries, self.first_wait = tries, first_wait
        self._open = urllib.request.build_opener(_NoRedirect()).open

    def ask(self, question: str) -> tuple[str, int, int]:
        """The model's reply, the tokens of the question and those of the reply.

        Raises:
            ConnectionError: the endpoint refuses, or does not reply in any of the tries.
            ValueError: it replies with something other than a chat completion.
        """
        body = {**self.options, "model": self.model, "messages": [{"role": "user", "content": question}]}
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY, "").strip():
            if not key.isascii() or not key.isprintable():  # http.client's error would show it
                raise ValueError(f"expected a key of printable ASCII characters in {KEY}, got others")
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self.url, json.dumps(body).encode(), headers)
        found = convert(parse_json(self._send(request), self.url), _Completion, self.url, whole=False)
        if not found.choices:
            raise ValueError(f"{self.url}: expected a completion with a choice, got none")
        tokens = found.usage or _Tokens()
        return found.choices[0].message.content or "", tokens.prompt_tokens, tokens.completion_tokens

    def _send(self, request: urllib.request.Request) -> str:
        """The body of the response, after as many tries as it takes."""
        wait, last = self.first_wait, ""
        for number in range(self.tries):
            if number:
                time.sleep(min(wait, _LONGEST_WAIT))
            wait = self.first_wait * 2 ** (number + 1)
            try:
                with self._open(request, timeout=self.timeout) as response:
                    content = response.read(_MOST + 1)
                if len(content) > _MOST:
                    raise ValueError(f"{self.url}: expected a response of at most {_MOST >> 20} MiB, got a longer one")
                if response.length:  # what is left of the length that was promised
                    raise http.client.IncompleteRead(content, response.length)
                return str(content, "utf-8", "replace")
            except urllib.error.HTTPError as error:
                with error:
                    said = ascii(str(error.read(200), "utf-8", "replace"))
                last = f"status {error.code} {said}"
                if error.code not in _BUSY:
                    raise ConnectionError(f"{self.url}: {last}") from error
                wait = max(wait, _seconds(error.headers.get("Retry-After")))
            except (OSError, http.client.HTTPException) as error:
                reason = error.reason if isinstance(error, urllib.error.URLError) else error
                timed_out = isinstance(reason, TimeoutError)
                last = f"silent for {self.timeout:g} s" if timed_out else f"{type(reason).__name__}: {reason}"
        raise ConnectionError(f"{self.url}: no reply in {self.tries} tries, the last time: {last}")


class LLMAgent(StatefulAgent):
    """A language model that reads prompts and writes answers; one request is one segment.

    Every request holds the whole puzzle, the model's last answer and what is wrong with it (`hrm_gym.wrappers.prompt`),
    nothing of earlier requests. The same prompt is sent once; so a film shows what the figures are of. An endpoint
    that does not reply raises: a puzzle is never counted as unsolved because a request failed.

    Attributes:
        endpoint: where the model is.
        at_once: requests under way at a time.
    """

    action_mode = "answer"
    halting_rules = "own decision (CONTINUE in its text)"
    warm_up = False
    """Nothing is compiled, and a request costs money."""

    def __init__(
        self, family: PuzzleFamily, grid: tuple[int, int], turns: int, endpoint: ChatEndpoint, at_once: int = 8
    ) -> None:
        self.family, self.grid, self.shape, self.turns = family, grid, grid, turns
        self.vocab_size = family.vocab_size
        self.endpoint, self.at_once = endpoint, at_once
        self.name = f"llm={endpoint.model}"
        self._replies: dict[str, tuple[str, int, int]] = {}
        self._thoughts: list[Thought] = []
        self._used: list[Usage] = []

    @classmethod
    def for_env(cls, env: gym.Env[Any, Any], weights: str = "", **options: Any) -> LLMAgent:
        """An agent for `env`.

        Args:
            env: a puzzle environment in answer mode.
            weights: `URL#MODEL`, which may be followed by `?name=value&…`, fields of every request.
            **options: of `ChatEndpoint`.

        Raises:
            ValueError: another action mode, or `weights` has another form.
        """
        world: Any = env.unwrapped
        if world.action_mode != "answer":
            raise ValueError(f"a language model plays in answer mode, got {world.action_mode!r}")
        return cls(world.family, world.shape, world.max_steps, ChatEndpoint(weights, **options))

    def decide(self, observation: Observation, state: Any, starts: NDArray[np.bool_]) -> tuple[NDArray[Any], Any]:
        """One request a board; the state is a Usage a board."""
        rows = [{name: values[row] for name, values in observation.items()} for row in range(len(starts))]
        before = [Usage() if start or state is None else state[row] for row, start in enumerate(starts)]
        questions = [
            prompt(self.family, row, turn_of(row, self.turns), self.turns, used.error)
            for row, used in zip(rows, before, strict=True)
        ]
        self._ask([one for one in dict.fromkeys(questions) if one not in self._replies])
        actions, self._thoughts, after = [], [], np.empty(len(rows), dtype=object)
        for place, (row, used, question) in enumerate(zip(rows, before, questions, strict=True)):
            text, asked, told = self._replies[question]
            reply = read_reply(self.family, self.shape, text)
            answer = row["answer"] if reply.answer is None else reply.answer
            after[place] = now = Usage(
                used.requests + 1, used.prompt_tokens + asked, used.completion_tokens + told, reply.error
            )
            actions.append(np.append(answer.ravel(), reply.final).astype(np.int64))
            reason = "gives its answer" if reply.final else "asks for another turn"
            self._thoughts.append(
                Thought(
                    answer,
                    segment=now.requests,
                    reason=f"no answer read: {reply.error}" if reply.error else reason,
                    event="halts" if reply.final else "",
                    facts=(("Tokens", f"{now.prompt_tokens:,} + {now.completion_tokens:,}"),),
                )
            )
        self._used = after.tolist()
        return np.stack(actions), after

    def thoughts(self) -> list[Thought] | None:
        """The answers that were read, with the decision in words and the tokens so far."""
        return self._thoughts

    def usage(self) -> list[dict[str, int]]:
        """Requests and tokens so far, a board of the last `predict`."""
        names = ("requests", "prompt_tokens", "completion_tokens")
        return [{name: getattr(used, name) for name in names} for used in self._used]

    def _ask(self, questions: Sequence[str]) -> None:
        """Get the replies, several at a time; raises what the first failure raised."""
        waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        for question in questions:
            waiting.put(question)
        for _ in range(min(self.at_once, len(questions))):  # daemons: Ctrl-C waits for no reply
            threading.Thread(target=_work, args=(self.endpoint.ask, waiting, done), daemon=True).start()
        for _ in questions:
            question, found = done.get()
            if isinstance(found, Exception):
                while not waiting.empty():
                    waiting.get()
                raise found
            self._replies[question] = found


def _work(ask: Callable[[str], Any], waiting: queue.SimpleQueue[str], done: queue.SimpleQueue[tuple[str, Any]]) -> None:
    """Ask until nothing is waiting."""
    while True:
        try:
            question = waiting.get_nowait()
        except queue.Empty:
            return
        try:
            found = ask(question)
        except Exception as error:  # raised where the replies are collected
            found = error
        done.put((question, found))


def _value(written: str) -> Any:
    """A field of a request: JSON, or text where it is none."""
    try:
        return json.loads(written)
    except ValueError:
        return written


def _positive(value: float | str) -> float:
    """Seconds; ValueError unless they are a positive number."""
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= _LONGEST_SILENCE:
        raise ValueError(f"expected a timeout in seconds, e.g. {TIMEOUT}=600, got {value!r}")
    return seconds


def _seconds(retry_after: str | None) -> float:
    """The seconds of a header Retry-After; 0 without one, or where it is a date."""
    return float(retry_after) if retry_after is not None and retry_after.isascii() and retry_after.isdigit() else 0.0
