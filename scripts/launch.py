"""Many trainings by one command, `hrm-gym train RECIPE,… --seeds N`: processes here, Ray or Slurm say where and when.

Nothing is scheduled here. Every training has a folder; one that is finished is skipped, any other continues from its
newest checkpoint, so that the same command given again after a crash does what is left.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hrm_gym.extras import load_extra
from hrm_gym.files import check_in_place
from hrm_gym.scripts.output import say

Launcher = Literal["local", "ray", "slurm"]

RETRIES = 3
"""Times that Ray starts a training again whose process or machine was lost."""

SAVING = 60.0
"""Seconds that Ray's trainings have to save a checkpoint when the command is stopped."""

MINUTES = 24 * 60
"""Time limit of a Slurm job unless `--slurm timeout_min=` says; when it has passed, the job is queued again."""


@dataclass(frozen=True)
class Training:
    """One training, in a process of its own.

    Attributes:
        arguments: of `hrm-gym train`.
        out: its folder, absolute: elsewhere the current folder is another one.
        cores: threads that it computes with.
        gpu: whether it wants a GPU where there is one.
    """

    arguments: tuple[str, ...]
    out: Path
    cores: int = 1
    gpu: bool = True

    @property
    def name(self) -> str:
        """RECIPE/seed-K, as lines call it."""
        return f"{self.out.parent.name}/{self.out.name}"

    @property
    def log(self) -> Path:
        """What it prints."""
        return self.out.with_suffix(".log")

    @property
    def command(self) -> list[str]:
        """The command line of its process, which saves a checkpoint and ends once its standard input ends."""
        # -m would look for modules in the current folder first
        path = [*map(str, sys.path)]
        start = f"import sys; sys.argv[0] = 'hrm-gym'; sys.path[:] = {path}; from hrm_gym import _program"
        ends = "_program.end_with_standard_input(); from hrm_gym.scripts.main import main"
        return [sys.executable, "-c", f"{start}; {ends}; sys.exit(main())", "train", *self.arguments]

    def __call__(self) -> int:
        """Train in this process, which a launcher made for it; returns the exit code."""
        from hrm_gym.scripts.main import main

        with _printing_to(self.log):
            return main(["train", *self.arguments])

    def checkpoint(self, *_: Any) -> Any:
        """What Slurm queues again when the job's time is over, or somebody else needs its place: the same."""
        return load_extra("submitit").helpers.DelayedSubmission(self)


@contextlib.contextmanager
def _printing_to(path: Path) -> Iterator[None]:
    """Within, this process prints to the end of a file, compiled code and child processes included."""
    kept = [os.dup(number) for number in (1, 2)]
    with path.open("a", buffering=1) as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            try:
                yield
            finally:
                for number, before in zip((1, 2), kept, strict=True):
                    os.dup2(before, number)
                    os.close(before)


def launch(trainings: Sequence[Training], launcher: Launcher, jobs: int = 1, slurm: Sequence[str] = ()) -> int:
    """Run trainings to their end.

    Args:
        trainings: those that are not finished.
        launcher: where.
        jobs: of local ones, how many at a time.
        slurm: NAME=VALUE, parameters of submitit's executor.

    Returns:
        0, or 1 if one of them failed, whatever became of the others; a line says which.

    Raises:
        OSError: a log would be written into a link or a device.
        ValueError: the launcher is not installed, or does not know a parameter.
    """
    if not trainings:
        return 0
    for training in trainings:
        training.out.parent.mkdir(parents=True, exist_ok=True)
        check_in_place(training.log)
    ways = {"local": lambda: _local(trainings, jobs), "ray": lambda: _ray(trainings)}
    ended = ways.get(launcher, lambda: _slurm(trainings, slurm))()
    failed = 0
    for training, code in ended:
        failed += code != 0
        outcome = "finished" if code == 0 else f"failed, see {training.log}"
        say(f"{training.name}: {outcome}", file=sys.stderr)
    if failed:
        say(f"{failed} of {len(trainings)} trainings failed: the same command continues them", file=sys.stderr)
    return int(failed > 0)


Ended = Iterable[tuple[Training, int]]
"""Trainings as they end, each with its exit code."""


def _local(trainings: Sequence[Training], jobs: int) -> Ended:
    """Processes on this machine.

    What asks them to end is the end of their standard input: the system closes this pipe even when this process is
    killed, and a process that is stopped first and killed then asks once. Asked twice, they would end without a
    checkpoint.
    """
    running: set[subprocess.Popen[bytes]] = set()
    stopped, starting = threading.Event(), threading.Lock()

    def run(training: Training) -> int:
        with starting, training.log.open("ab") as log:
            if stopped.is_set():
                return 1
            # a session of its own: Ctrl-C reaches this process alone, which passes it on once
            streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": log, "stderr": log}
            child = subprocess.Popen(training.command, start_new_session=True, **streams)
            running.add(child)
        code = child.wait()
        end(child)
        return code

    def end(child: subprocess.Popen[bytes]) -> None:
        if child.stdin is not None:
            child.stdin.close()

    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(run, training): training for training in trainings}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:  # a signal, above all
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            with starting:  # one that is just starting is told, too
                for child in running:
                    end(child)
            raise


def _ray(trainings: Sequence[Training]) -> Ended:
    """Tasks of the Ray cluster that this machine belongs to, or of one that is started here."""
    ray = load_extra("ray")
    path = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
    try:
        ray.init(runtime_env={"env_vars": path}, ignore_reinit_error=True, **quiet)
    except Exception as error:  # Ray has no class for what goes wrong when it starts
        raise ValueError(f"Ray does not start: {' '.join(str(error).split())}") from error
    try:
        gpus = ray.cluster_resources().get("GPU", 0) >= 1
        tasks = {}
        for training in trainings:
            wanted = {"num_cpus": training.cores, "num_gpus": int(gpus and training.gpu), "max_retries": RETRIES}
            tasks[ray.remote(**wanted)(Training.__call__).remote(training)] = training
        while tasks:
            (done, *_), _ = ray.wait(list(tasks))
            training = tasks.pop(done)
            try:
                yield training, ray.get(done)
            except ray.exceptions.RayError as error:
                say(f"{training.name}: {str(error).strip().splitlines()[-1]}", file=sys.stderr)
                yield training, 1
    finally:
        for task in tasks:
            ray.cancel(task)  # as Ctrl-C: it saves a checkpoint and ends
        if tasks:
            ray.wait(list(tasks), num_returns=len(tasks), timeout=SAVING)
        ray.shutdown()


def _slurm(trainings: Sequence[Training], parameters: Sequence[str]) -> Ended:
    """Jobs of Slurm through submitit, one a training; `cluster=local` makes them processes here."""
    submitit = load_extra("submitit")
    given: dict[str, Any] = {"timeout_min": MINUTES, "cpus_per_task": trainings[0].cores}
    for text in parameters:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ValueError(f"expected --slurm NAME=VALUE, got {text!r}")
        given[name] = int(value) if value.isdecimal() else value
    cluster = given.pop("cluster", None)
    try:
        executor = submitit.AutoExecutor(folder=trainings[0].out.parent / "slurm", cluster=cluster)
        executor.update_parameters(**given)
    except (TypeError, NameError, ValueError, RuntimeError) as error:
        raise ValueError(f"submitit refuses {' '.join(parameters) or 'this machine'}: {error}") from error
    jobs = [(training, executor.submit(training)) for training in trainings]
    say(
        f"{len(jobs)} jobs: {' '.join(str(job.job_id) for _, job in jobs)}; they go on without this command",
        file=sys.stderr,
    )
    for training, job in jobs:
        try:
            yield training, job.result()
        except submitit.core.utils.UncompletedJobError as error:
            say(f"{training.name}: {str(error).strip().splitlines()[0]}", file=sys.stderr)
            yield training, 1
