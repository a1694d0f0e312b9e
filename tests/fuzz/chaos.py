"""Work killed at random moments, under a jumping clock, on full disks and with damaged newest files: the same bits.

`python -m tests.fuzz.chaos --kills 50`: every job once undisturbed, then again with kill -9 at random moments. The
disk is a tmpfs that is made as small as it is filled; who may not mount one gets a limit of the size of files instead.
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
    "submission.json": ["predict", "tasks", "--agent", "hrm", "--max-segments", "2"],
}  # fmt: skip
"""Command by the name of its output."""


JUMPING_CLOCK = """
import random, time
_draws, _time, _time_ns = random.Random(), time.time, time.time_ns
_jump = lambda: _draws.choice((-2 * 10**8, -3600, -1, 0, 0, 3600, 10**9))
time.time = lambda: _time() + _jump()
time.time_ns = lambda: _time_ns() + _jump() * 10**9
"""
"""A `sitecustomize` in which each look at the clock tells another hour, or another decade."""


@dataclass(frozen=True)
class ChaosConfig:
    """Kill training, data sets, banks, comparisons and predictions at random moments, and compare their bits with those
    of a run in peace.

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
        if path.suffix in (".npy", ".safetensors", ".gif") or path.name == "submission.json":
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


@dataclass
class Place:
    """Where a job is disturbed.

    Attributes:
        folder: on a disk of its own, where that may be mounted.
        mounted: whether it is.
        clock: the folder of the jumping clock.
    """

    folder: Path
    mounted: bool
    clock: Path

    @classmethod
    def prepared(cls, root: Path) -> Place:
        """A new one in `root`."""
        folder, clock = root / "war", root / "clock"
        folder.mkdir()
        clock.mkdir()
        (clock / "sitecustomize.py").write_text(JUMPING_CLOCK)
        mount = ["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", str(folder)]
        mounted = shutil.which("mount") is not None and subprocess.run(mount, capture_output=True).returncode == 0
        return cls(folder, mounted, clock)

    def resize(self, free: int | None) -> None:
        """Leave `free` bytes on the disk; None for plenty."""
        if self.mounted:
            used = shutil.disk_usage(self.folder).used
            size = 2**30 if free is None else used + free
            subprocess.run(["mount", "-o", f"remount,size={size}", str(self.folder)], check=True)

    def close(self) -> None:
        """Give the disk back."""
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)


def write_tasks(folder: Path) -> None:
    """ARC tasks whose outputs nobody knows."""
    if not folder.exists():
        folder.mkdir()
        pairs = [{"input": [[colour]], "output": [[colour, colour]]} for colour in (1, 2)]
        for number in range(60):
            task = {"train": pairs, "test": [{"input": [[number % 10, number // 10]]}]}
            (folder / f"{number}.json").write_text(json.dumps(task))


def started(
    job: str, folder: Path, clock: Path | None = None, before: Callable[[], None] | None = None
) -> subprocess.Popen[str]:
    """The command of a job in a process group of its own."""
    write_tasks(folder / "tasks")
    command = [sys.executable, "-m", "hrm_gym.scripts.main", *JOBS[job], "--out", job]
    paths = [str(path) for path in (clock, os.environ.get("PYTHONPATH")) if path]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}, preexec_fn=before,
    )  # fmt: skip


def ended(job: str, process: subprocess.Popen[str], codes: Sequence[int], timeout: float | None = None) -> int:
    """Wait for a job; returns its exit code.

    Raises:
        AssertionError: it is none of `codes`, or there is a traceback.
        TimeoutExpired: it has not ended.
    """
    shown = process.communicate(timeout=timeout)[1]
    assert process.returncode in codes, f"{job}: {process.returncode}: {shown[-2000:]}"
    assert "Traceback" not in shown, f"{job}: {shown[-2000:]}"
    return process.returncode


def limited() -> None:
    """No file of the process may grow beyond 3,000 bytes."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that a write fails, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))


def finished_pieces(job: str, folder: Path) -> list[Path]:
    """What is finished of a job, oldest first: checkpoints, or parts of a data set, a bank or a comparison."""
    places = [(job, "update_*"), (f"{job}.partial/parts", "*"), (f"{job}.partial", "block-*"), (f"{job}/parts", "*")]
    return [path for place, names in places for path in sorted((folder / place).glob(names))]


def damage_newest(job: str, folder: Path, rng: Random) -> bool:
    """Cut a file of the newest finished piece short, if it is not the only one."""
    pieces = finished_pieces(job, folder)
    if len(pieces) < 2:
        return False
    inside = [path for path in pieces[-1].glob("*") if path.suffix in (".safetensors", ".npz", ".json")]
    file = rng.choice(sorted(inside) or pieces[-1:])
    os.truncate(file, file.stat().st_size // 2)
    return True


def delete(out: Path) -> None:
    """Delete an output, so that a job begins again."""
    shutil.rmtree(out) if out.is_dir() else out.unlink()


def disturbed(job: str, place: Place, seconds: float, size: int, kills: int, rng: Random) -> list[str]:
    """Disturb a job; returns what was done to it.

    Args:
        job: which.
        place: where.
        seconds: that it takes undisturbed.
        size: bytes of what it writes.
        kills: how often it is killed.
        rng: says when.

    Raises:
        AssertionError: it failed otherwise than with one line, or something finished is gone.
    """
    done, folder, out = [], place.folder, place.folder / job
    while sum(text.startswith("killed") for text in done) < kills:
        before = finished_pieces(job, folder)[-1:]
        began, moment = time.perf_counter(), rng.uniform(0.2, 1.0) * seconds
        process = started(job, folder, place.clock)
        try:
            ended(job, process, [0], moment)
            seconds = min(0.9 * seconds, time.perf_counter() - began)
            delete(out)
            continue
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        done.append(f"killed after {moment:.1f} s")
        if job in ("data", "bank.npz", "submission.json") and out.exists():  # their pieces go when all is finished
            delete(out)
            continue
        assert finished_pieces(job, folder)[-1:] >= before, f"{job}: lost {before}"
        if rng.random() < 0.3 and damage_newest(job, folder, rng):
            done.append("newest piece cut short")
    for share in (0.1, rng.random()):
        place.resize(free := int(share * size))
        code = ended(job, started(job, folder, place.clock, None if place.mounted else limited), (0, 2))
        place.resize(None)
        done.append(f"{free:,} bytes of disk: exit code {code}")
    return done


def main(argv: Sequence[str]) -> int:
    """Run the chaos; returns 0, or 1 if bits differ."""
    config = parse(ChaosConfig, "python -m tests.fuzz.chaos", argv)
    rng, jobs, wrong = Random(config.seed), config.job or tuple(JOBS), 0
    for number, job in enumerate(jobs):
        with tempfile.TemporaryDirectory() as name:
            peace, place = Path(name) / "peace", Place.prepared(Path(name))
            peace.mkdir()
            try:
                began = time.perf_counter()
                ended(job, started(job, peace), [0])
                seconds = time.perf_counter() - began
                size = sum(path.stat().st_size for path in peace.rglob("*") if path.is_file())
                kills = config.kills // len(jobs) + (number < config.kills % len(jobs))
                done = disturbed(job, place, seconds, size, kills, rng)
                if finished_pieces(job, place.folder) or not (place.folder / job).exists():
                    ended(job, started(job, place.folder, place.clock), [0])
                wanted, found = (
                    {n: d for n, d in digest(root / job).items() if "events" not in n} for root in (peace, place.folder)
                )
            finally:
                place.close()
            different = sorted(n for n in {*wanted, *found} if wanted.get(n) != found.get(n))
            wrong += bool(different)
            verdict = f"DIFFERENT: {different}" if different else f"the same bits in {len(wanted)} files"
            print(f"{job}: {seconds:.0f} s in peace; {'; '.join(done)}; {verdict}", flush=True)
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(run(main))
