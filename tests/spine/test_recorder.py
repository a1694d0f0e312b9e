"""Films and records on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

import gymnasium as gym
import imageio.v3 as iio
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

import hrm_gym
from hrm_gym.envs.puzzle import Thought
from hrm_gym.evaluation.films import FilmRecorder, check_save_path, write_jsonl
from hrm_gym.evaluation.rollout import Frame, rollout

BLANK = Frame(np.zeros((2, 2), dtype=np.uint8))
LAST = Frame(np.zeros((2, 2), dtype=np.uint8), last=True)


class Painter:
    """Stands in for an environment: every picture has another colour."""

    def __init__(self) -> None:
        self.count = 0

    def render(self) -> np.ndarray:
        self.count += 1
        return np.full((41, 61, 3), 20 * self.count, dtype=np.uint8)


def film(frames: list[Frame], **kwargs: int) -> FilmRecorder:
    recorder, painter = FilmRecorder(**kwargs), Painter()
    for frame in frames:
        recorder(painter, frame)  # type: ignore[arg-type]
    return recorder


def test_a_gif_holds_every_frame_and_lingers_on_the_last(tmp_path: Path) -> None:
    path = tmp_path / "new" / "film.gif"
    film([BLANK, BLANK, LAST]).save(path)
    with Image.open(path) as gif:
        assert (gif.size, gif.n_frames) == ((61, 41), 3)
        durations = []
        for index in range(3):
            gif.seek(index)
            durations.append(gif.info["duration"])
    assert durations == [400, 400, 1600]
    assert list(path.parent.iterdir()) == [path]


def test_an_mp4_can_be_read_back(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    film([BLANK, LAST]).save(path)
    pictures = iio.imread(path)
    assert pictures.shape == (20, 40, 60, 3)


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_a_film_that_was_not_written_whole_does_not_replace_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full when ffmpeg writes the end: imageio does not ask how ffmpeg ended."""
    real, script, path = imageio_ffmpeg.get_ffmpeg_exe(), tmp_path / "ffmpeg", tmp_path / "film.mp4"
    full = 'case "$*" in *-s*) for last; do :; done; truncate -s -600 "$last"; exit 1;; esac'
    script.write_text(f'#!/bin/bash\n{real} "$@" || exit\n{full}\n')
    script.chmod(0o700)
    path.write_text("old")
    monkeypatch.setattr(imageio_ffmpeg._io, "get_ffmpeg_exe", lambda: str(script))
    with pytest.raises(OSError, match="is the disk full"):
        film([BLANK, LAST]).save(path)
    assert path.read_text() == "old"


def test_only_the_first_episodes_are_filmed() -> None:
    assert len(film([BLANK, LAST] * 4, max_episodes=3).images) == 6


def test_nothing_to_save() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        film([]).save(Path("film.gif"))


def test_an_unknown_suffix() -> None:
    with pytest.raises(ValueError, match=r"\.gif"):
        film([LAST]).save(Path("film.avi"))
    with pytest.raises(ValueError, match=r"\.jsonl"):
        check_save_path(Path("film"))


def test_records_are_plain_json(tmp_path: Path) -> None:
    env = gym.make("HRMMaze-v0", source="generate")
    episodes = list(rollout(env, hrm_gym.make_agent("oracle", env), 3, seed=0))
    write_jsonl(episodes, tmp_path / "play.jsonl")
    records = [json.loads(line) for line in (tmp_path / "play.jsonl").read_text().splitlines()]
    assert [record["index"] for record in records] == [0, 1, 2]
    assert records[0]["frames"][-1]["answer"] == records[0]["solution"]
    assert records[0]["frames"][0]["thought"] is None


def test_confidence_is_recorded(tmp_path: Path) -> None:
    env = gym.make("HRMMaze-v0", source="generate")
    agent = hrm_gym.make_agent("oracle", env)
    sure = np.full((8, 8), 0.12345, dtype=np.float32)
    agent.thoughts = lambda: [Thought(sure.astype(np.uint8), sure, 0.5, 0.25, 1)]  # type: ignore[method-assign]
    write_jsonl(list(rollout(env, agent, 1, seed=0)), tmp_path / "play.jsonl")
    thought = json.loads((tmp_path / "play.jsonl").read_text())["frames"][1]["thought"]
    assert (thought["segment"], thought["q_halt"], thought["q_continue"]) == (1, 0.5, 0.25)
    assert thought["confidence"][0][0] == pytest.approx(0.123)
