"""The chaos, short: two jobs, killed once or twice."""

from __future__ import annotations

import pytest

from fuzz import chaos
from hrm_gym.scripts.main import run


@pytest.mark.slow
def test_killed_work_ends_with_the_same_bits(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(chaos.main, ["--kills", "3", "--job", "train", "bank.npz"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("the same bits in") == 2
    assert "bytes of disk: exit code 2" in shown
