"""Reading files that come from elsewhere: everything is bounded before memory is taken, and nothing is executed.

A file may say anything. It is refused with one line if it is larger, nested deeper or unpacks to more than its kind
ever needs, if a JSON number is not one (NaN, Infinity), or if YAML builds on itself (aliases: 300 bytes can mean half a
gigabyte). Names in files are looked up in tables of what is registered; they are never imported or evaluated.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import reprlib
import typing
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

MOST_JSON = 16 * 2**20
"""Bytes of a JSON file, whose values may take 25 times as much; the largest official one has six million."""

MOST_CONFIG = 2**20
"""Bytes of a config.json of weights; the largest bundled one has some thousands."""

MOST_YAML = 2**20
"""Bytes of a YAML file; an official run's settings have about two thousand."""

MOST_ARRAYS = 2**29
"""Bytes that the arrays of one npz file may unpack to; the largest bundled bank has 1.5 million."""

MOST_READ = 2**28
"""Bytes of an npy file that is read as a whole."""

DEEPEST = 100
"""Levels of nesting; the files of this field have four or five."""

T = TypeVar("T")

Schema = Mapping[str, tuple[Any, tuple[int | str, ...]]]
"""Array -> its dtype and its shape; lengths with the same name are the same in all arrays."""


def read_text(path: Path, most: int = MOST_JSON) -> str:
    """The text of a UTF-8 file.

    Raises:
        OSError: it cannot be read.
        ValueError: it has more than `most` bytes, is not UTF-8, or no file (a pipe never ends).
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: expected a file, got {'a folder' if path.is_dir() else 'a device or a pipe'}")
    size = path.stat().st_size
    if size > most:
        raise ValueError(f"{path}: expected at most {most:,} bytes, got {size:,}")
    with path.open("rb") as file:
        content = file.read(size)  # a link may lead to a file of /proc, which has no size and no end
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
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
    deepest = _nesting(text) if text.count("[") + text.count("{") > DEEPEST else 0
    if deepest > DEEPEST:
        raise ValueError(f"{origin}: expected JSON of at most {DEEPEST} levels, got {deepest}")
    try:
        return json.loads(text, parse_constant=_number, parse_float=_number)
    except ValueError as error:
        raise ValueError(f"{origin}: expected JSON, got a text that is none: {' '.join(str(error).split())}") from None


def _nesting(text: str) -> int:
    """The most brackets of JSON text that are open at once, those in strings left out."""
    letters = np.frombuffer(text.replace("\\\\", "").replace('\\"', "").encode(errors="replace"), np.uint8)
    outside = np.cumsum(letters == ord('"'), dtype=np.uint8) % 2 == 0
    opens, closes = (np.isin(letters, np.frombuffer(two, np.uint8)) & outside for two in (b"[{", b"]}"))
    return int(np.cumsum(opens.astype(np.int8) - closes, dtype=np.int32).max(initial=0))


def _number(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"expected a finite number, got {text[:40]}")
    return value


def read_object(path: Path, kind: type[T]) -> T:
    """The content of a JSON file as a dataclass; fields that it does not name are passed over.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such JSON; names the field, what was expected and what came.
    """
    return convert(read_json(path), kind, path, whole=False)


def read_curve(path: Path, needed: Iterable[str] = ()) -> list[dict[str, float]]:
    """The rows of a learning curve: a JSON object of numbers a line. A last line that was cut short is left out.

    Args:
        path: the file.
        needed: names that every row must have.

    Raises:
        OSError: it cannot be read.
        ValueError: a line is something else; names the line.
    """
    import msgspec

    text, rows = read_text(path), []
    for number, line in enumerate(text.splitlines() if text.endswith("\n") else text.splitlines()[:-1], 1):
        row = parse_json(line, f"{path}:{number}")
        try:
            row = msgspec.convert(row, dict[str, int | float])
        except msgspec.ValidationError as error:
            raise ValueError(f"{path}:{number}: expected an object of numbers, got {error}") from None
        if missing := [name for name in needed if name not in row]:
            raise ValueError(f"{path}:{number}: expected the number {missing[0]!r}, found {reprlib.repr(sorted(row))}")
        if large := [name for name, value in row.items() if abs(value) > 2**63]:
            raise ValueError(f"{path}:{number}: expected {large[0]} within 2**63, got {reprlib.repr(row[large[0]])}")
        rows.append(row)
    return rows


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
        raise ValueError(f"{path}: expected YAML, got a text that is none: {' '.join(str(error).split())}") from None


def whole_number(name: str, otherwise: int, least: int, most: int) -> int:
    """An environment variable that is a whole number, `otherwise` if it is not set.

    Raises:
        ValueError: it is none, or out of range; names the variable.
    """
    text = os.environ.get(name, str(otherwise))
    if not re.fullmatch(r"[0-9]{1,18}", text) or not least <= int(text) <= most:
        span = f"from {least} to {most}" if most < 2**31 else f"of at least {least}"
        raise ValueError(f"expected the environment variable {name} as a whole number {span}, got {text[:40]!r}")
    return int(text)


def read_npz(
    path: Path, names: Iterable[str] | Schema | None = None, most: int = MOST_ARRAYS
) -> dict[str, NDArray[Any]]:
    """Arrays of an npz file, without pickles.

    Args:
        path: the file.
        names: which arrays, or their schema; all by default.
        most: bytes that all arrays of the file may unpack to.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, unpacks to more, or lacks an array or has it otherwise.
    """
    try:
        if (size := path.stat().st_size) > most + 2**24:  # a sparse file may have a directory of gigabytes
            raise ValueError(f"expected a file of at most {most + 2**24:,} bytes, got {size:,}")
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > most:
            raise ValueError(f"expected arrays of at most {most:,} bytes, got {size:,}")
        with np.load(path, allow_pickle=False) as stored:
            wanted = stored.files if names is None else [name for name in names if name in stored.files]
            arrays = {name: stored[name] for name in wanted}
            if bare := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
                raise ValueError(f"{bare[0]!r} is no array")  # NumPy gives the bytes of a member that is no npy file
            found = ", ".join(stored.files[:10])
    except OSError:
        raise
    except Exception as error:  # zlib's, zipfile's, numpy's, and whatever its parser makes of a damaged header
        said = " ".join(str(error).split())[:200] or type(error).__name__  # names in the archive may be of any length
        raise ValueError(f"{path}: expected an npz file of arrays, got one that is none: {said}") from None
    if missing := [name for name in names or () if name not in arrays]:
        raise ValueError(f"{path}: expected the array {missing[0]!r}, found {found or 'none'}")
    if isinstance(names, Mapping):
        check_arrays(arrays, names, path)
    return arrays


def open_npy(path: Path) -> NDArray[Any] | NpyRows:
    """The array of an npy file: in memory up to `MOST_READ` bytes, else rows that are read when they are asked for.

    It is never mapped into memory: a file that is cut short while it is mapped ends the process with a bus error.

    Raises:
        OSError: it cannot be read.
        ValueError: there is none, or it is damaged or cut short.
    """
    if not path.is_file():
        raise ValueError(f"{path}: expected a file with an array, found no such file")
    with path.open("rb") as file:
        try:
            headers = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
            read_header = headers[np.lib.format.read_magic(file)[0]]
            shape, by_columns, dtype = read_header(file)
            wanted, found = math.prod(shape) * dtype.itemsize, os.fstat(file.fileno()).st_size - file.tell()
            if min(shape, default=0) < 0 or dtype.hasobject or wanted > found:
                raise ValueError(f"{shape} of {dtype} in {found} bytes")
        except OSError:
            raise
        except Exception as error:  # numpy hands on whatever the parser of a damaged header raises
            kind = type(error).__name__
            raise ValueError(f"{path}: expected an array in the npy format, got a file that is none ({kind})") from None
        if wanted > MOST_READ and len(shape) == 2 and not by_columns:
            return NpyRows(path, dtype, (shape[0], shape[1]), file.tell())
        content = file.read(wanted)
    if len(content) != wanted:
        raise ValueError(f"{path}: expected {wanted:,} bytes, got a file that was cut short while it was read")
    return np.ndarray(shape, dtype, content, order="F" if by_columns else "C")


@dataclass(frozen=True)
class NpyRows:
    """A large (N, L) array in an npy file, row by row.

    Attributes:
        path: the file.
        dtype: of the numbers.
        shape: (N, L).
        start: bytes of the header.
    """

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, int]
    start: int
    ndim: ClassVar[int] = 2

    def __len__(self) -> int:
        """N."""
        return self.shape[0]

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> NDArray[Any]:
        """(K, L) numbers of some rows, none negative. ValueError if the file was cut short since it was opened."""
        numbers = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else rows
        found = np.empty((len(numbers), self.shape[1]), self.dtype)
        stride = self.shape[1] * self.dtype.itemsize
        # Neighbours are read at once: whole files are looked at in blocks.
        pieces = np.split(np.arange(len(numbers)), np.flatnonzero(np.diff(numbers) != 1) + 1) if len(numbers) else []
        with self.path.open("rb", buffering=0) as file:
            for piece in pieces:
                target = found[piece[0] : piece[-1] + 1]
                file.seek(self.start + int(numbers[piece[0]]) * stride)
                if file.readinto(target.data.cast("B")) != target.nbytes:
                    raise ValueError(f"{self.path}: expected {self.shape[0]} rows, got a file that was cut short")
        return found


def check_arrays(arrays: Mapping[str, NDArray[Any]], schema: Schema, origin: object) -> None:
    """Refuse arrays that are not as their schema says, or hold numbers that are none.

    Raises:
        ValueError: names the array, what was expected and what came.
    """
    lengths: dict[str, int] = {}
    for name, (dtype, shape) in schema.items():
        if name not in arrays:
            raise ValueError(f"{origin}: expected the array {name!r}, found {reprlib.repr(sorted(arrays))}")
        found = arrays[name]
        wanted = tuple(lengths.get(length, length) if isinstance(length, str) else length for length in shape)
        fits = len(wanted) == found.ndim and all(
            isinstance(a, str) or a == b for a, b in zip(wanted, found.shape, strict=False)
        )
        if not fits or found.dtype != dtype:
            said = f"{np.dtype(dtype)} of shape ({', '.join(map(str, wanted))})"
            raise ValueError(f"{origin}: expected {name} as {said}, got {found.dtype} of shape {found.shape}")
        lengths |= {length: n for length, n in zip(shape, found.shape, strict=True) if isinstance(length, str)}
        if found.dtype.kind == "f" and not np.isfinite(found).all():
            raise ValueError(f"{origin}: expected finite numbers in {name}, got {found[~np.isfinite(found)][0]}")


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
        text, _, place = str(error).replace("`", "").replace("Expected", "expected").partition(" - at $.")
        value: Any = values
        wanted: Any = kind
        for row, key in re.findall(r"\[(\d+)\]|(\w+)", "" if "[...]" in place else place):
            value = value[key] if key else value[int(row)]
            wanted = typing.get_type_hints(wanted).get(key) if dataclasses.is_dataclass(wanted) else None
        if "Invalid enum value" in text and (choices := re.findall(r"Literal\[(.+?)\]", str(wanted))):
            text = f"expected one of {choices[0]}, got {reprlib.repr(value)}"
        elif missing := re.fullmatch(r"Object missing required field (\w+)", text):
            text = f"expected the field {missing[1]!r}, found {reprlib.repr(sorted(map(str, value)))}"
        elif place and "got" not in text and value is not values:
            text += f", got {reprlib.repr(value)}"
        raise ValueError(f"{origin}: {place + ': ' if place else ''}{text}") from None
