"""Puzzles as text: what is written is read back, errors are explained, and the environment underneath is unchanged."""

from __future__ import annotations

import string
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

import hrm_gym  # noqa: F401
from hrm_gym.wrappers import TextObservation, read_reply

IDS = ["HRMSudoku-v0", "HRMSudokuMini-v0", "HRMMaze-v0", "HRMARCMini-v0"]


def fenced(rows: str) -> str:
    return f"Let me think. 1 2 3\n```text\n{rows}\n```\n"


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("seed", range(3))
def test_solutions_are_read_from_what_is_written(env_id: str, seed: int) -> None:
    env = TextObservation(gym.make(env_id))
    text, _ = env.reset(seed=seed)
    world: Any = env.unwrapped
    assert text in env.observation_space
    assert world.family.answer_text(world.puzzle.clues) in text
    assert world.family.answer_text(world.puzzle.solution) not in text
    _, reward, terminated, truncated, info = env.step(fenced(world.family.answer_text(world.puzzle.solution)))
    assert (reward, terminated, truncated, info["solved"], info["text_error"]) == (1.0, True, False, True, "")


@pytest.mark.parametrize(
    "dressed",
    [
        lambda rows: "\n".join(" ".join(row) for row in rows),
        lambda rows: "\n".join("| " + " | ".join(row) + " |" for row in rows),
        lambda rows: "Draft:\n```\n1\n```\nNo:\n```\n" + "\n".join(rows) + "\n```",
        lambda rows: "The answer is\n" + "\n".join(rows) + "\nwhich is right.",
        lambda rows: "```\n" + "\n".join(rows),
        lambda rows: "\r\n".join(["```", *rows, "```", "", "Done."]),
        lambda rows: "\n".join(["```", rows[0], "---+---", *rows[1:], "```"]),
    ],
)
def test_answers_are_found_in_what_people_write(dressed: Any) -> None:
    family: Any = gym.make("HRMSudokuMini-v0").unwrapped.family  # type: ignore[attr-defined]
    reply = read_reply(family, (4, 4), dressed(["1234", "3412", "2143", "4321"]))
    assert reply.error == ""
    assert reply.final
    assert family.answer_text(reply.answer) == "1234\n3412\n2143\n4321"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "expected an answer between two lines of ```, got an empty reply"),
        ("No.", "expected an answer between two lines of ```, got 'No.' at the end"),
        ("```\n```", "expected an answer between"),
        ("```\n1234\n```", "expected 4 lines in the answer, got 1"),
        ("```\n1234\n341\n2143\n4321\n```", "expected 4 characters in line 2, got 3: '341'"),
        ("```\n1234\n3412\n21é3\n4321\n```", r"expected one of . 1 2 3 4 in line 3, column 3, got '\xe9'"),
        ("```\n1234\n3412\n2153\n4321\n```", "expected one of . 1 2 3 4 in line 3, column 3, got '5'"),
    ],
)
def test_what_is_no_answer_is_explained(text: str, error: str) -> None:
    env = TextObservation(gym.make("HRMSudokuMini-v0"))
    before, _ = env.reset(seed=1)
    after, reward, terminated, truncated, info = env.step(text)
    assert info["text_error"].startswith(error)
    assert error in after
    assert (reward, terminated, truncated, info["segment"]) == (0.0, False, False, 1)
    assert before.split("Think")[0] == after.split("Your last reply")[0]


def test_a_turn_more_shows_the_answer_and_what_breaks_a_rule() -> None:
    env = TextObservation(gym.make("HRMSudokuMini-v0", max_segments=2))
    env.reset(options={"puzzle": "12.4 3412 2143 4321"})
    text, _, terminated, _, _ = env.step("```\n1224\n3412\n2143\n4321\n```\ncontinue")
    assert not terminated
    assert "\n4321\nIt breaks a rule in 4 cells: row 1 column 2, row 1 column 3, " in text
    assert "turn 2 of 2" in text
    _, reward, terminated, _, _ = env.step("```\n1234\n3412\n2143\n4321\n```\nCONTINUE")
    assert (reward, terminated) == (1.0, True), "the last turn is judged in any case"


def test_arc_has_a_second_attempt_and_sizes_of_its_own() -> None:
    env = TextObservation(gym.make("HRMARCMini-v0"))
    task = {"train": [{"input": [[1]], "output": [[1, 1]]}], "test": [{"input": [[2]], "output": [[2, 2]]}]}
    text, _ = env.reset(options={"puzzle": task})
    assert "Example 1, input:\n1\n\nExample 1, output:\n11\n\nTest input:\n2" in text
    text, _, terminated, _, _ = env.step("```\n2\n```")
    assert not terminated
    assert "Attempt 2 of 2: the one before was wrong." in text
    assert env.step("```\n222\n22\n```")[4]["text_error"].startswith("expected a grid with rows of one length")
    assert env.step("```\n22\n```")[1:3] == (1.0, True)


@settings(max_examples=150, deadline=None)
@given(text=st.text(st.sampled_from(" \n`1234.#oSG|-,CONTINUEé\x1b\x00"), max_size=80), env_id=st.sampled_from(IDS))
def test_any_text_is_taken_and_any_prompt_is_printable(text: str, env_id: str) -> None:
    env = TextObservation(gym.make(env_id, max_segments=4))
    env.reset(seed=3)
    after, _, _, _, info = env.step(text)
    assert after in env.observation_space
    assert set(info["text_error"]) <= set(string.printable)


def test_it_is_the_environment_underneath() -> None:
    text, plain = TextObservation(gym.make("HRMMaze-v0")), gym.make("HRMMaze-v0")
    text.reset(seed=4)
    plain.reset(seed=4)
    for _ in range(3):
        world: Any = text.unwrapped
        rows = world.family.answer_text(world.puzzle.solution)
        told = text.step(fenced(rows) + "CONTINUE")
        found = plain.step(np.append(plain.unwrapped.puzzle.solution.ravel(), 0).astype(np.int64))  # type: ignore[attr-defined]
        assert told[1:4] == found[1:4]
        assert told[4] == {**found[4], "text_error": ""}


def test_gymnasium_finds_nothing_wrong_with_it() -> None:
    check_env(TextObservation(gym.make("HRMSudokuMini-v0", render_mode="ansi")), skip_render_check=True)
    made = gym.make(TextObservation(gym.make("HRMSudokuMini-v0")).spec)  # type: ignore[arg-type]
    assert isinstance(made, TextObservation)


def test_only_answer_mode_is_wrapped() -> None:
    with pytest.raises(ValueError, match="puzzles in answer mode, got MazeEnv in move mode"):
        TextObservation(gym.make("HRMMaze-v0", action_mode="move"))
    with pytest.raises(ValueError, match="got CartPoleEnv"):
        TextObservation(gym.make("CartPole-v1"))
    env = TextObservation(gym.make("HRMMaze-v0"))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="as text, got int"):
        env.step(3)  # type: ignore[arg-type]
