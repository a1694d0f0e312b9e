"""Malformed files for `make fuzz`: spoilt CSV, npy and JSON files, handed to environments as their source."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from hrm_gym.envs.puzzle import Puzzle

from . import garbage
from .cases import Attempt, World, bad_puzzle_on_board, construction

HEADER = "source,question,answer,rating"
JSON_SCRAPS: tuple[Any, ...] = (
    None,
    True,
    -1,
    1e999,
    "x",
    [],
    {},
    [[]],
    [[1, 2], [3]],
    [[0] * 31],
    [["1"]],
    [[1.5]],
    [[10]],
    10**30,
)


class Files:
    """Draws malformed files and writes them into one folder, each over the last of its name.

    Attributes:
        folder: where to; the caller empties it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def bad_file(self, world: World, rng: Random) -> Attempt:
        """A file that may or may not be one of the puzzles of `world`, as its source."""
        path = rng.choice((self._csv, self._csv, self._csv, self._json, self._npy, self._npy_folder, self._nothing))(
            world, rng
        )
        made = construction(type(world.env), {**world.arguments, "source": rng.choice((str(path), path))})
        content = path.read_bytes()[:300] if path.is_file() else None
        given = f"{path.name}: {content!r}"
        return Attempt(
            given,
            made.call,
            lambda env: _bad_source(env, rng) or made.complaint(env),
            made.refusals,
            made.after,
            late=True,
        )

    def _csv(self, world: World, rng: Random) -> Path:
        rows = [_row(world, puzzle) for puzzle in _puzzles(world, rng)]
        fields = [HEADER.split(","), *rows]
        for _ in range(rng.choice((0, 1, 1, 2))):
            rng.choice(FIELD_CHANGES)(rng, fields)
        lines = rng.choice(("\n", "\n", "\r\n", "\r")).join(",".join(map(str, row)) for row in fields)
        content = lines.encode("utf-8", errors="replace")
        name = rng.choice(("puzzles.csv", "puzzles.csv", "puzzles.txt", "ü.csv"))
        return self._write(name, garbage.mutated_bytes(rng, content) if rng.random() < 0.5 else content)

    def _json(self, world: World, rng: Random) -> Path:
        def grid() -> list[list[int]]:
            height, width = rng.randrange(1, 6), rng.randrange(1, 6)
            return [[rng.randrange(10) for _ in range(width)] for _ in range(height)]

        pairs: Any = {part: [{"input": grid(), "output": grid()} for _ in range(2)] for part in ("train", "test")}
        content: Any = rng.choice((pairs, {"00000000": pairs, "11111111": pairs}, [pairs]))
        for _ in range(rng.choice((0, 1, 1, 2))):
            content = _spoilt(rng, content)
        text = json.dumps(content).encode()
        name = rng.choice(("task.json", "tasks_challenges.json"))
        return self._write(name, garbage.mutated_bytes(rng, text) if rng.random() < 0.4 else text)

    def _npy(self, world: World, rng: Random) -> Path:
        content = _npy_bytes(garbage.array(rng, rng.choice((None, (3, world_cells(world)), (3, *_shape(world))))))
        name = rng.choice(("puzzles.npy", "all__inputs.npy", "puzzles.npz"))
        return self._write(name, garbage.mutated_bytes(rng, content) if rng.random() < 0.5 else content)

    def _npy_folder(self, world: World, rng: Random) -> Path:
        """A folder in the layout of the official data sets, with one of its files spoilt."""
        puzzles = _puzzles(world, rng)
        count, cells = len(puzzles), world_cells(world)
        arrays = {
            "inputs": np.stack([puzzle.clues.ravel() for puzzle in puzzles]),
            "labels": np.stack([puzzle.solution.ravel() for puzzle in puzzles]),
            "puzzle_identifiers": np.zeros(count, np.int32),
            "puzzle_indices": np.arange(count + 1, dtype=np.int32),
            "group_indices": np.arange(count + 1, dtype=np.int32),
        }
        facts: Any = {
            "pad_id": 0, "ignore_label_id": 0, "blank_identifier_id": 0, "vocab_size": world.env.family.vocab_size,
            "seq_len": cells, "num_puzzle_identifiers": 1, "total_groups": count, "mean_puzzle_examples": 1,
            "sets": ["all"],
        }  # fmt: skip
        files = {f"all__{name}.npy": _npy_bytes(array) for name, array in arrays.items()}
        files["dataset.json"] = json.dumps(facts if rng.random() < 0.7 else _spoilt(rng, facts)).encode()
        spoilt = rng.choice(sorted(files))
        if rng.random() < 0.7:
            array = garbage.array(rng, rng.choice((None, (count,), (count, cells))))
            files[spoilt] = rng.choice((garbage.mutated_bytes(rng, files[spoilt]), _npy_bytes(array)))
        for name, content in files.items():
            self._write(f"data/train/{name}", content)
        if rng.random() < 0.1:
            (self.folder / "data" / "train" / spoilt).unlink()
        return self.folder / rng.choice(("data", "data", "data/train", "data/train/all__inputs.npy"))

    def _nothing(self, world: World, rng: Random) -> Path:
        """A path without a file, or a folder without anything that is wanted."""
        (self.folder / "empty.csv").mkdir(exist_ok=True)
        return self.folder / rng.choice(("nowhere.csv", "no/where.json", "empty.csv", "nowhere", "x" * 200 + ".csv"))

    def _write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path


def world_cells(world: World) -> int:
    """Cells of a board."""
    height, width = _shape(world)
    return height * width


def _shape(world: World) -> tuple[int, int]:
    shape: tuple[int, int] = world.env.shape
    return shape


def _puzzles(world: World, rng: Random) -> list[Puzzle]:
    return [world.env.puzzle_source.puzzle(rng.getrandbits(64)) for _ in range(3)]


def _row(world: World, puzzle: Puzzle) -> list[Any]:
    question, answer = (world.env.family.to_text(grid).replace("\n", "") for grid in (puzzle.clues, puzzle.solution))
    return ["fuzz", question, answer, 3]


def _npy_bytes(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def _spoil_text(rng: Random, fields: list[list[Any]]) -> None:
    row = rng.choice(fields)
    place = rng.randrange(len(row)) if row else 0
    row[place : place + 1] = [garbage.mutated_text(rng, str(row[place] if row else ""))]


def _swap(rng: Random, fields: list[list[Any]]) -> None:
    rng.shuffle(rng.choice(fields))


def _drop(rng: Random, fields: list[list[Any]]) -> None:
    fields[rng.randrange(len(fields))] = rng.choice(([], [""], ["fuzz"], ["fuzz", "", "", ""], [*fields[-1], 1]))


def _rate(rng: Random, fields: list[list[Any]]) -> None:
    row = rng.choice(fields)
    row[-1:] = [rng.choice(("", " ", "nan", "inf", "-1", "x", "1e999", "0x10", "١", "1_0", "None"))]


def _answer(rng: Random, fields: list[list[Any]]) -> None:
    """The answer of another row, or the question itself."""
    row, other = rng.choice(fields), rng.choice(fields)
    if len(row) > 2 and len(other) > 2:
        row[2] = rng.choice((row[1], other[2]))


FIELD_CHANGES: tuple[Callable[[Random, list[list[Any]]], None], ...] = (
    _spoil_text,
    _spoil_text,
    _swap,
    _drop,
    _rate,
    _answer,
)


def _spoilt(rng: Random, content: Any) -> Any:
    """JSON content with one thing somewhere inside it exchanged or gone."""
    if isinstance(content, dict | list) and content and rng.random() < 0.8:
        key: Any = rng.choice(sorted(content)) if isinstance(content, dict) else rng.randrange(len(content))
        copy: Any = dict(content) if isinstance(content, dict) else list(content)
        if rng.random() < 0.1:
            del copy[key]
        else:
            copy[key] = _spoilt(rng, copy[key])
        return copy
    return rng.choice(JSON_SCRAPS)


def _bad_source(env: Any, rng: Random) -> str | None:
    """Complain of a file that was read, unless its puzzles (some are looked at) follow the rules."""
    source = env.puzzle_source
    if len(source) < 1:
        return "a file without puzzles, accepted"
    for row in {0, len(source) - 1, rng.randrange(len(source))}:
        puzzle = source[row]
        complaint = bad_puzzle_on_board(env, puzzle)
        if complaint is None and puzzle.rating is not None and not np.isfinite(puzzle.rating):
            complaint = f"a rating of {puzzle.rating}"
        if complaint:
            return f"{complaint}, in a file"
    return None
