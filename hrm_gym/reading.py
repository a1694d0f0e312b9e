"""Reading files that come from elsewhere: everything is bounded before memory is taken, and nothing is executed.

A file may say anything. It is refused with one line if it is larger, nested deeper or unpacks to more than its kind
ever needs, if a JSON number is not one (NaN, Infinity), or if YAML builds on itself (aliases: 300 bytes can mean half a
gigabyte). Names in files are looked up in tables of what is registered; they are never imported or evaluated.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

MOST_JSON = 64 * 2**20
"""Bytes of a JSON file; the largest official one (ARC's tasks) has six million."""

MOST_YAML = 2**20
"""Bytes of a YAML file; an official run's settings have about two thousand."""

MOST_ARRAYS = 4 * 2**30
"""Bytes that the arrays of one npz file may unpack to."""

DEEPEST = 100
"""Levels of nesting; the files of this field have four or five."""

T = TypeVar("T")


def read_text(path: Path, most: int = MOST_JSON) -> str:
    """The text of a UTF-8 file.

    Raises:
        OSError: it cannot be read.
        ValueError: it has more than `most` bytes, or is not UTF-8.
    """
    size = path.stat().st_size
    if size > most:
        raise ValueError(f"{path}: expected at most {most:,} bytes, got {size:,}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text in UTF-8, got {error}") from None


def read_json(path: Path, most: int = MOST_JSON) -> Any:
    """The content of a JSON file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON, too large, nested too deep, or holds numbers that are none.
    """
    return parse_json(read_text(path, most), path)


def parse_json(text: str, origin: object) -> Any:
    """The content of JSON text; `origin` is named in errors.

    Raises:
        ValueError: it is no JSON, nested too deep, or holds numbers that are none.
    """
    depth = deepest = 0
    inside = escaped = False
    for character in text if text.count("[") + text.count("{") > DEEPEST else "":
        if inside:
            inside = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            inside = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    if deepest > DEEPEST:
        raise ValueError(f"{origin}: expected JSON of at most {DEEPEST} levels, got {deepest}")
    try:
        return json.loads(text, parse_constant=_no_number)
    except ValueError as error:
        raise ValueError(f"{origin} is not readable JSON: {' '.join(str(error).split())}") from None


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"expected a number, got {text}")


def read_yaml(path: Path, most: int = MOST_YAML) -> Any:
    """The content of a YAML file of plain values, without anchors and aliases.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no YAML, too large, nested too deep, or refers to itself.
    """
    import yaml

    text, depth = read_text(path, most), 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                line = event.start_mark.line + 1 if event.start_mark else "?"
                raise ValueError(f"{path}: expected YAML without anchors and aliases, got one in line {line}")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise ValueError(f"{path}: expected YAML of at most {DEEPEST} levels, got more")
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from None


def read_npz(path: Path, names: Iterable[str] | None = None, most: int = MOST_ARRAYS) -> dict[str, NDArray[Any]]:
    """Arrays of an npz file, without pickles.

    Args:
        path: the file.
        names: which arrays; all by default.
        most: bytes that they may unpack to.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, lacks an array, or unpacks to more.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > most:
            raise ValueError(f"expected arrays of at most {most:,} bytes, got {size:,}")
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in (stored.files if names is None else names)}
    except KeyError as error:
        raise ValueError(f"{path}: expected the array {error}, found {_names(path)}") from None
    except (ValueError, zipfile.BadZipFile, EOFError, NotImplementedError, MemoryError) as error:
        raise ValueError(f"{path} is no readable npz file: {' '.join(str(error).split())}") from None


def _names(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        return ", ".join(name.removesuffix(".npy") for name in archive.namelist()[:10]) or "none"


def convert(values: Mapping[str, Any], kind: type[T], origin: object, whole: bool = True) -> T:
    """Plain values as a dataclass: every field of its type, none unknown.

    Args:
        values: of a JSON object.
        kind: the dataclass.
        origin: where they come from, for errors.
        whole: whether unknown fields are refused.

    Raises:
        ValueError: names the field, what was expected and what came.
    """
    import dataclasses

    import msgspec

    if not isinstance(values, Mapping):
        raise ValueError(
            f"{origin}: expected an object with the fields of {kind.__name__}, got {type(values).__name__}"
        )
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if whole and (unknown := sorted(set(values) - known)):
        raise ValueError(f"{origin}: unknown settings {unknown}; known are {sorted(known)}")
    try:
        return msgspec.convert(dict(values), kind)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$.")
        raise ValueError(f"{origin}: {place.rstrip('`') + ': ' if place else ''}{text}") from None
