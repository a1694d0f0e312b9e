"""Work killed at random moments, with a damaged newest checkpoint or a full disk, ends with the same bits.

`python -m tests.fuzz.chaos --kills 50`: every job once undisturbed, then again with kill -9 at random moments.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from hrm_gym.scripts.main import run
from hrm_gym.scripts.options import parse

RL = ["--timesteps", "192", "--envs", "4", "--eval-every", "64", "--eval-puzzles", "4", "--checkpoint-every", "32"]
JOBS: dict[str, list[str]] = {
    "train": ["train", "sudoku-4x4", "--updates", "40", "--model.hidden-size", "16", "--model.heads", "2",
              "--batch-size", "8", "--eval-every", "10", "--eval-puzzles", "4", "--checkpoint-every", "5",
              "--no-compile"],
    "dqn": ["train-rl", "sudoku-4x4-dqn", *RL, "--learning-starts", "16", "--batch-size", "8"],
    "ppo": ["train-rl", "sudoku-4x4-ppo", *RL, "--n-steps", "8", "--batch-size", "16"],
    "maskableppo": ["train-rl", "sudoku-4x4-maskableppo", *RL, "--n-steps", "8", "--batch-size", "16"],
    "data": ["data", "build", "maze-hard", "--size", "20", "--min-path", "30", "--train", "600", "--test", "50"],
    "bank.npz": ["halting", "bank", "build", "--env", "HRMSudokuMini-v0", "--puzzles", "40", "--batch", "4",
                 "--max-segments", "4"],
    "compare": ["compare", "--env", "HRMSudokuMini-v0", "--agent", "random", "oracle", "--episodes", "40", "--chunk",
                "5", "--batch", "5", "--films", "1"],
}  # fmt: skip
"""Command by the name of its output."""


@dataclass(frozen=True)
class ChaosConfig:
    """Kill training, data sets, banks and comparisons at random moments, and compare their bits with those of a run in
    peace.

    Attributes:
        kills: In all.
        seed: Of the moments.
        job: Which jobs; all by default.
    """

    kills: int = 50
    seed: int = 0
    job: tuple[str, ...] = ()


def digest(out: Path) -> dict[str, str]:
    """A hash of everything in an output that does not tell the time."""
    found: dict[str, str] = {}
    files = [out] if out.is_file() else sorted(path for path in out.rglob("*") if path.is_file())
    for path in files:
        content: bytes | None = None
        if path.suffix in (".npy", ".safetensors", ".gif"):
            content = path.read_bytes()
        elif path.suffix == ".npz":
            arrays = np.load(path)
            content = b"".join(arrays[name].tobytes() for name in sorted(arrays.files) if name != "about")
        elif path.suffix == ".jsonl":
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            content = repr([{k: v for k, v in row.items() if "seconds" not in k} for row in rows]).encode()
        elif path.parent.name == "parts" and path.suffix == ".json":
            episodes = json.loads(path.read_text())["episodes"]
            content = repr({k: v for k, v in episodes.items() if k != "seconds"}).encode()
        if content is not None:
            found[path.relative_to(out).as_posix()] = hashlib.sha256(content).hexdigest()
    return found


def started(job: str, folder: Path, **limits: Callable[[], None]) -> subprocess.Popen[str]:
    """The command of a job in a process group of its own."""
    command = [sys.executable, "-m", "hrm_gym.scripts.main", *JOBS[job], "--out", job]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, preexec_fn=limits.get("before"),
    )  # fmt: skip


def finished(job: str, folder: Path) -> float:
    """Run a job to its end; returns the seconds.

    Raises:
        AssertionError: it did not end well.
    """
    began = time.perf_counter()
    process = started(job, folder)
    told = process.communicate()[1]
    assert process.returncode == 0, f"{job}: {process.returncode}: {told[-2000:]}"
    assert "Traceback" not in told, f"{job}: {told[-2000:]}"
    return time.perf_counter() - began


def full_disk() -> None:
    """No file of the process may grow beyond 3,000 bytes."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that a write fails, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))


def damage_newest(out: Path, rng: Random) -> bool:
    """Cut a file of the newest checkpoint short, if it is not the only one."""
    found = sorted(out.glob("update_*"))
    if len(found) < 2:
        return False
    file = rng.choice([path for path in found[-1].iterdir() if path.suffix in (".safetensors", ".npz")])
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return True


def disturbed(job: str, folder: Path, seconds: float, kills: int, rng: Random) -> list[str]:
    """Disturb a job, then let it end; returns what was done to it."""
    done = []
    for _ in range(kills):
        process = started(job, folder)
        moment = rng.uniform(0.2, 1.0) * seconds
        try:
            told = process.communicate(timeout=moment)[1]
            assert process.returncode == 0, f"{job}: {process.returncode}: {told[-2000:]}"
            shutil.rmtree(folder / job) if (folder / job).is_dir() else (folder / job).unlink()
            done.append("ended before it was killed, begun anew")
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            done.append(f"killed after {moment:.1f} s")
            if rng.random() < 0.3 and damage_newest(folder / job, rng):
                done.append("newest checkpoint cut short")
    process = started(job, folder, before=full_disk)
    told = process.communicate()[1]
    assert process.returncode in (0, 2), f"{job} on a full disk: {process.returncode}: {told[-2000:]}"
    assert "Traceback" not in told, f"{job} on a full disk: {told[-2000:]}"
    return [*done, f"full disk: exit code {process.returncode}"]


def main(argv: Sequence[str]) -> int:
    """Run the chaos; returns 0, or 1 if bits differ."""
    config = parse(ChaosConfig, "python -m tests.fuzz.chaos", argv)
    rng, jobs, wrong = Random(config.seed), config.job or tuple(JOBS), 0
    for place, job in enumerate(jobs):
        with tempfile.TemporaryDirectory() as name:
            peace, war = Path(name) / "peace", Path(name) / "war"
            peace.mkdir()
            war.mkdir()
            seconds = finished(job, peace)
            kills = config.kills // len(jobs) + (place < config.kills % len(jobs))
            done = disturbed(job, war, seconds, kills, rng)
            finished(job, war)
            wanted, found = (
                {n: d for n, d in digest(root / job).items() if "events" not in n} for root in (peace, war)
            )
            different = sorted(n for n in {*wanted, *found} if wanted.get(n) != found.get(n))
            wrong += bool(different)
            verdict = f"DIFFERENT: {different}" if different else f"the same bits in {len(wanted)} files"
            print(f"{job}: {seconds:.0f} s in peace; {'; '.join(done)}; {verdict}", flush=True)
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(run(main))
