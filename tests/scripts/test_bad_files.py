"""Every command on spoilt files: done, or one line and exit code 2; never a traceback of any kind."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from hrm_gym.scripts.main import main, run

SMALL = ["--model.hidden-size", "16", "--model.heads", "2", "--model.h-layers", "1", "--model.l-layers", "1",
         "--batch-size", "8", "--eval-every", "4", "--eval-puzzles", "4", "--checkpoint-every", "4",
         "--no-compile"]  # fmt: skip
TRAIN = ["train", "sudoku-4x4", "--out", "hrm", "--updates", "8", *SMALL]
TRAIN_RL = ["train-rl", "sudoku-4x4-dqn", "--out", "dqn", "--timesteps", "64", "--envs", "4", "--eval-every", "32",
            "--eval-puzzles", "4", "--checkpoint-every", "32", "--learning-starts", "16",
            "--batch-size", "8"]  # fmt: skip
BUILD = ["data", "build", "maze", "--size", "6", "--train", "20", "--test", "4", "--out", "data"]
BANK = ["halting", "bank", "build", "--env", "HRMSudokuMini-v0", "--puzzles", "12", "--batch", "4", "--max-segments",
        "3", "--out", "bank.npz"]  # fmt: skip
COMPARE = ["compare", "--env", "HRMSudokuMini-v0", "--agent", "dqn=dqn/model", "hrm=hrm/model", "--episodes", "2",
           "--films", "0", "--out", "page"]  # fmt: skip
REPORT = ["halting", "report", "--bank", "bank.npz", "--out", "report", "--costs", "0.01", "--seeds", "1",
          "--steps", "64"]  # fmt: skip

SCRAPS: tuple[Any, ...] = (None, True, -1, 2**70, 1.5, 1e300, "x", "\x1b[31m", "../..", [], {}, [None], {"a": 1})
LITERALS = ("NaN", "1e999", "-Infinity")
TEXTS = (b"", b"\0" * 9, b"\xff\xfe", b"null", b"[]", b"[" * 5000, b'"x"\n"y"\n', b"{}\n")


@dataclass(frozen=True)
class Reader:
    """A command and the file it reads; {} in the command stands for nothing: the file lies where it looks."""

    file: str
    command: list[str]
    spoil: Callable[[bytes, Random], Iterator[bytes]]
    fresh: tuple[str, ...] = ()
    """Folders that the command writes to: made anew each time."""


def spoilt_json(content: bytes, rng: Random) -> Iterator[bytes]:
    """Every field lost or exchanged."""

    def places(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        items: Any = (
            value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
        )
        for key, inner in items:
            yield (*path, key)
            yield from places(inner, (*path, key))

    good = json.loads(content)
    for place in places(good, ()):
        for scrap in (*rng.sample(SCRAPS, 3), None, "gone", LITERALS):
            copy = json.loads(content)
            holder = copy
            for key in place[:-1]:
                holder = holder[key]
            if scrap == "gone":
                del holder[place[-1]]
            else:
                holder[place[-1]] = "<here>" if scrap is LITERALS else scrap
            yield json.dumps(copy).replace('"<here>"', rng.choice(LITERALS)).encode()
    yield from spoilt_text(content, rng)


def spoilt_lines(content: bytes, rng: Random) -> Iterator[bytes]:
    """JSON lines."""
    lines = content.splitlines(keepends=True)
    for bad in spoilt_json(lines[0].strip(), rng):
        yield bad + b"\n" + b"".join(lines[1:])
    yield content[:-5]


def spoilt_text(content: bytes, rng: Random) -> Iterator[bytes]:
    """Cut, empty, exchanged, a letter lost here and there."""
    yield from TEXTS
    yield content[: len(content) // 2]
    for _ in range(6):
        place = rng.randrange(max(1, len(content)))
        yield content[:place] + rng.choice((b"", b"\0", b"9", b",", b'"', b"\xff", b"\n")) + content[place + 1 :]


def spoilt_npy(content: bytes, rng: Random) -> Iterator[bytes]:
    """Other shapes, dtypes and numbers, and damaged bytes."""
    array = np.load(io.BytesIO(content))
    for other in spoilt_arrays(array):
        held = io.BytesIO()
        np.save(held, other, allow_pickle=True)
        yield held.getvalue()
    yield from spoilt_text(content, rng)


def spoilt_arrays(array: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    """An array otherwise."""
    yield array[..., :0] if array.ndim else array.reshape(1)
    yield array[:1] if array.ndim else np.array(7)
    yield array.reshape(-1)
    yield array.astype(object)
    yield array.astype("U3")
    yield array.astype(np.complex64) if array.dtype.kind in "iufb" else array
    if array.dtype.kind in "iufb":
        with np.errstate(all="ignore"):
            yield (array.astype(np.float64) * np.nan).astype(array.dtype)
            yield np.full_like(array, np.iinfo(array.dtype).max if array.dtype.kind in "iu" else 1)
            yield array.astype(np.float64)
            yield array.astype(np.int64) * 1000 - 500


def spoilt_npz(content: bytes, rng: Random) -> Iterator[bytes]:
    """Every array lost or otherwise, and damaged bytes."""
    good = dict(np.load(io.BytesIO(content)))
    for name, array in good.items():
        for other in (None, *spoilt_arrays(array)):
            arrays = {key: value for key, value in good.items() if key != name} | (
                {} if other is None else {name: other}
            )
            held = io.BytesIO()
            np.savez(held, **arrays)
            yield held.getvalue()
    if "about" in good:
        for text in spoilt_json(str(good["about"]).encode(), rng):
            held = io.BytesIO()
            np.savez(held, **{**good, "about": np.array(text.decode(errors="replace"))})
            yield held.getvalue()
    yield from spoilt_text(content, rng)


READERS = {
    "csv": Reader("mazes.csv", ["data", "info", "mazes.csv"], spoilt_text),
    "csv build": Reader("mazes.csv", ["data", "build", "maze", "--from", "mazes.csv", "--out", "fresh"], spoilt_text,
                        ("fresh", "fresh.partial")),
    "csv solve": Reader("mazes.csv", ["solve", "HRMMaze-v0", "--source", "mazes.csv", "--agent", "oracle", "stored",
                                      "--no-render"], spoilt_text),
    "dataset.json": Reader("data/train/dataset.json", ["data", "info", "data"], spoilt_json),
    "manifest.json": Reader("data/manifest.json", ["data", "info", "data"], spoilt_json),
    "inputs": Reader("data/train/all__inputs.npy", ["data", "info", "data"], spoilt_npy),
    "labels": Reader("data/train/all__labels.npy", ["data", "info", "data"], spoilt_npy),
    "identifiers": Reader("data/train/all__puzzle_identifiers.npy", ["data", "info", "data"], spoilt_npy),
    "groups": Reader("data/train/all__group_indices.npy", ["data", "info", "data"], spoilt_npy),
    "arc": Reader("tasks.json", ["data", "info", "tasks.json"], spoilt_json),
    "arc solutions": Reader("some_solutions.json", ["data", "info", "some_challenges.json"], spoilt_json),
    "arc solve": Reader("tasks.json", ["solve", "HRMARC-v0", "--source", "tasks.json", "--agent", "stored",
                                       "--no-render"], spoilt_json),
    "puzzle": Reader("puzzle.txt", ["play", "HRMMaze-v0", "--puzzle", "puzzle.txt", "--no-render"], spoilt_text),
    "bank": Reader("bank.npz", ["halting", "bank", "info", "bank.npz"], spoilt_npz),
    "bank learn": Reader("bank.npz", ["halting", "learn", "--agent", "dqn", "--bank", "bank.npz", "--steps", "32",
                                      "--out", "fresh"], spoilt_text, ("fresh",)),
    "curve": Reader("hrm/curve.jsonl", ["analyze", "curve", "hrm", "--out", "figure"], spoilt_lines),
    "curve resumed": Reader("hrm/curve.jsonl", TRAIN, spoilt_lines),
    "rl curve resumed": Reader("dqn/curve.jsonl", TRAIN_RL, spoilt_lines),
    "compare curve": Reader("hrm/curve.jsonl", COMPARE, spoilt_lines),
    "compare config": Reader("hrm/model/config.json", COMPARE, spoilt_json),
    "compare rl config": Reader("dqn/model/config.json", COMPARE, spoilt_json),
    "compare part": Reader("page/parts/*", COMPARE, spoilt_json),
    "config": Reader("hrm/model/config.json", ["solve", "HRMSudokuMini-v0", "--agent", "hrm=hrm/model", "--episodes",
                                               "2", "--no-render"], spoilt_json),
    "rl config": Reader("dqn/model/config.json", ["solve", "HRMSudokuMini-v0", "--agent", "dqn=dqn/model",
                                                  "--episodes", "2", "--no-render"], spoilt_json),
    "verify": Reader("hrm/model/config.json", ["weights", "verify", "hrm/model"], spoilt_json),
    "verify rl": Reader("dqn/model/config.json", ["weights", "verify", "dqn/model"], spoilt_json),
    "verify sums": Reader("hrm/model/SHA256SUMS", ["weights", "verify", "hrm/model"], spoilt_text),
    "verify tensors": Reader("hrm/model/model.safetensors", ["weights", "verify", "hrm/model"], spoilt_text),
    "average": Reader("hrm/model/config.json", ["weights", "average", "hrm/model", "hrm/model", "--out", "fresh"],
                      spoilt_json, ("fresh",)),
    "resume": Reader("hrm/update_*8/config.json", TRAIN, spoilt_json),
    "resume state": Reader("hrm/update_*8/training_state.safetensors", TRAIN, spoilt_text),
    "resume rl": Reader("dqn/update_*/config.json", TRAIN_RL, spoilt_json),
    "resume rl replay": Reader("dqn/update_*/replay.npz", TRAIN_RL, spoilt_npz),
    "report policy": Reader("report/policies/dqn-0.01-seed0/config.json", REPORT, spoilt_json),
    "init": Reader("hrm/model/config.json", [*TRAIN[:2], "--out", "fresh", "--updates", "1", "--init", "hrm/model",
                                             *SMALL], spoilt_json, ("fresh",)),
    "build recipe": Reader("begun.partial/recipe.json", [*BUILD[:-1], "begun"], spoilt_json, ("begun",)),
    "build part": Reader("begun.partial/parts/train-000000.npz", [*BUILD[:-1], "begun"], spoilt_npz, ("begun",)),
    "bank recipe": Reader("other.npz.partial/recipe.json", [*BANK[:-1], "other.npz"], spoilt_json, ("other.npz",)),
    "bank part": Reader("other.npz.partial/block-000000.npz", [*BANK[:-1], "other.npz"], spoilt_npz, ("other.npz",)),
}  # fmt: skip
"""What is read, by which command."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with one good file of every kind."""
    with furnished(tmp_path_factory.mktemp("shop")) as folder:
        yield folder


@contextlib.contextmanager
def furnished(folder: Path) -> Iterator[Path]:
    """The folder with one good file of every kind in it; it is the current one meanwhile."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        for command in (TRAIN, TRAIN_RL, BUILD, COMPARE, BANK, REPORT):
            code, told = said(command)
            assert code == 0, (command, told)
        from hrm_gym.agents.halting.recording import BankBuild
        from hrm_gym.data.build import Workplace

        for kind, command in ((Workplace, [*BUILD[:-1], "begun"]), (BankBuild, [*BANK[:-1], "other.npz"])):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(kind, "finish", stopped)
                assert said(command)[0] == 130
        rows = [(clue, answer) for clue, answer in mazes()]
        (folder / "mazes.csv").write_text(
            "source,question,answer,rating\n" + "".join(f"a,{q},{a},3\n" for q, a in rows)
        )
        (folder / "puzzle.txt").write_text("S  \n # \n  G\n")
        pair = {"input": [[1, 2], [3, 4]], "output": [[4, 3]]}
        (folder / "tasks.json").write_text(json.dumps({"train": [pair], "test": [pair]}))
        (folder / "some_challenges.json").write_text(json.dumps({"a": {"train": [pair], "test": [{"input": [[1]]}]}}))
        (folder / "some_solutions.json").write_text(json.dumps({"a": [[[2]]]}))
        yield folder
    finally:
        os.chdir(before)


def stopped(*_: Any) -> None:
    raise KeyboardInterrupt


def mazes() -> Iterator[tuple[str, str]]:
    """Questions and answers of a few mazes."""
    from hrm_gym.envs.maze.rules import MAZE
    from hrm_gym.envs.maze.source import GeneratedMazes

    for key in range(4):
        puzzle = GeneratedMazes(6, "train").puzzle(key)
        yield tuple(MAZE.to_text(grid).replace("\n", "") for grid in (puzzle.clues, puzzle.solution))  # type: ignore[misc]


def said(command: list[str]) -> tuple[int | None, str]:
    """The exit code of a command and what it says on stderr; None and the error if one got out."""
    held = io.StringIO()
    with contextlib.redirect_stderr(held), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(command)
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException as error:
            import traceback

            where = traceback.extract_tb(error.__traceback__)[-1]
            return None, f"{type(error).__name__}: {error} at {Path(where.filename).name}:{where.lineno}"
    return code, held.getvalue()


def findings(shop: Path, reader: Reader, seed: int, most: int) -> Iterator[str]:
    """What is wrong with how a command takes spoilt files; `most` of them, drawn by the seed."""
    rng = Random(seed)
    file = next(shop.glob(reader.file))
    good = file.read_bytes()
    cases = list(reader.spoil(good, rng))
    room = shop / Path(reader.file).parts[0]
    kept = shop / "kept" / room.name
    for bad in rng.sample(cases, min(most, len(cases))):
        for name in reader.fresh:
            shutil.rmtree(shop / name, ignore_errors=True)
            if (shop / name).is_file():
                (shop / name).unlink()
        if file != room:
            shutil.copytree(room, kept)
        file.write_bytes(bad)
        if file.suffix in (".safetensors", ".npz"):
            (file.parent / "SHA256SUMS").unlink(missing_ok=True)
        code, told = said(reader.command)
        if file != room:
            shutil.rmtree(room, ignore_errors=True)
            shutil.move(kept, room)
        else:
            file.write_bytes(good)
        lines = [line for line in told.splitlines() if line.startswith("hrm-gym: error:")]
        if code not in (0, 2) or "Traceback" in told or (code == 2 and len(lines) != 1):
            yield f"{reader.command[:3]} {reader.file} {bad[:300]!r}: {code} {told[-300:]}"


@pytest.mark.parametrize("name", READERS)
def test_spoilt_files_are_refused_with_one_line(shop: Path, name: str) -> None:
    found = list(findings(shop, READERS[name], seed=1, most=12))
    assert not found, "\n".join(found)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
@pytest.mark.parametrize("command", [
    ["data", "info", "pipe"], ["play", "HRMMaze-v0", "--puzzle", "pipe", "--no-render"],
    ["solve", "HRMMaze-v0", "--source", "pipe", "--agent", "oracle", "--no-render"],
    ["solve", "HRMARC-v0", "--source", "pipe", "--agent", "stored", "--no-render"],
    ["halting", "bank", "info", "pipe"], ["analyze", "curve", "pipe"],
    ["data", "build", "maze", "--from", "pipe", "--out", "x"],
    ["solve", "HRMMaze-v0", "--agent", "random", "--episodes", "1", "--no-render", "--json", "pipe"],
])  # fmt: skip
def test_a_pipe_in_place_of_a_file_keeps_no_command_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """A device that was to be written, like /dev/null, was replaced by a file."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits"))
    signal.alarm(120)
    try:
        code, told = said(command)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert (code, told.count("hrm-gym: error:"), (tmp_path / "pipe").is_fifo()) == (2, 1, True), told


def explore(argv: list[str]) -> int:
    """`python -m tests.scripts.test_bad_files SEED MOST [NAME …]`: more of the same."""
    import tempfile

    count = 0
    with tempfile.TemporaryDirectory() as folder, furnished(Path(folder)) as place:
        for name in argv[2:] or READERS:
            for finding in findings(place, READERS[name], int(argv[0]), int(argv[1])):
                count += 1
                print(f"{name}: {finding}", flush=True)
            print(f"{name}: done", flush=True)
    return min(count, 1)


if __name__ == "__main__":
    raise SystemExit(run(explore))
