"""The example files for clusters: each starts two machines, which are this one twice, and they train together."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
STAND_INS = {
    "scontrol": "echo localhost",
    "srun": 'for node in 1 2; do "$@" & done; wait -n && wait -n',
    "ssh": 'shift 2; exec bash -c "$1"',  # what follows -tt and the machine
}
TINY = [
    "maze", "--size", "4", "--updates", "3", "--batch-size", "4", "--no-compile", "--eval-puzzles", "2",
    "--workers", "0", "--model.hidden-size", "24", "--model.heads", "2", "--device", "cpu",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize("example", ["slurm.sh", "ssh.sh"])
def test_two_machines_train_together(example: str, tmp_path: Path) -> None:
    for name, body in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    slurm = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "7"}
    own = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": sys.executable, "PORT": str(port), "PROCESSES": "1"}
    machines = ["localhost localhost"] if example == "ssh.sh" else []
    command = ["bash", str(EXAMPLES / example), *machines, *TINY, "--out", str(tmp_path / "run")]
    ran = subprocess.run(command, env={**os.environ, **slurm, **own}, capture_output=True, text=True, timeout=580)
    assert ran.returncode == 0, ran.stderr
    assert "on cpu, 2 processes" in ran.stderr
    assert ran.stderr.count("finished weights") == 1
    assert (tmp_path / "run" / "model" / "config.json").is_file()
