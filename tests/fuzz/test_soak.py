"""`make soak`: it plays everything, tells steps and memory, and knows a slope when it sees one."""

from __future__ import annotations

import json
from itertools import count, repeat
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import pytest

from fuzz import soak
from hrm_gym.scripts.main import run


def samples(rss: list[float]) -> list[soak.Sample]:
    return [soak.Sample(60.0 * minute, memory, 1000, 0, 0) for minute, memory in enumerate(rss)]


def test_growth_is_told_from_warming_up() -> None:
    flat = soak.judge(samples([100, 300, 400] + [500.0, 501.0, 499.0] * 3), limit=5)
    assert flat.flat
    assert abs(flat.growth) < 5
    leak = soak.judge(samples([500 + 2.0 * minute for minute in range(12)]), limit=5)
    assert not leak.flat
    assert leak.slope == pytest.approx(120)
    assert leak.growth == pytest.approx(12)


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 3 samples"):
        soak.judge(samples([1, 2]), limit=5)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves ten milliseconds whenever it is looked at, and play that takes no time."""
    ticks = count()
    monkeypatch.setattr(soak, "time", SimpleNamespace(perf_counter=lambda: next(ticks) / 100))
    monkeypatch.setattr(soak, "visits", lambda seed: repeat(lambda: (10, 1)))


@pytest.mark.usefixtures("quick")
def test_samples_come_in_time() -> None:
    found = list(soak.soak(soak.visits(0), 1.2))
    assert [round(sample.seconds, 1) for sample in found] == [round(0.1 * n, 1) for n in range(1, 13)]
    assert found[-1].steps == 10 * found[-1].episodes
    assert found[0].rss > 10


@pytest.mark.parametrize("env_id", sorted(name for name in gym.registry if name.startswith("HRM")))
def test_every_id_is_played_alone_and_in_batches(env_id: str) -> None:
    for world in soak.worlds_of(env_id, seed=0):
        for turn in (0, 9, 10):
            steps, ended = world(turn)
            assert steps >= soak.VISIT
            assert ended >= 0


@pytest.mark.usefixtures("quick")
def test_a_short_soak_prints_a_table_and_a_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = tmp_path / "soak.json"
    code = run(soak.main, ["--minutes", "0.1", "--limit", "1000", "--json", str(found)])
    shown = capsys.readouterr().out
    assert code == 0
    assert "RSS MB" in shown
    assert "verdict: flat" in shown
    told = json.loads(found.read_text())
    assert told["verdict"]["flat"] is True
    assert told["samples"][-1]["steps"] > 0


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf"])
def test_bad_minutes_are_refused(minutes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(soak.main, [f"--minutes={minutes}"]) == 2
    assert "expected minutes above 0" in capsys.readouterr().err
