"""Files that ask for more than there is: every reader refuses them in one line, in a few seconds and little memory."""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fuzz import readers
from hrm_gym.agents.halting.learning import DecisionNet, Learned
from hrm_gym.agents.hrm import run_folder
from hrm_gym.agents.hrm.official.weights import read_state
from hrm_gym.agents.sb3.policies import read_policy
from hrm_gym.reading import read_npz

MEMORY = 2**30
"""Bytes that an input may take besides what the process has."""

SECONDS = 15
"""CPU time of an input."""

MIB = 2**20
NUMBERS = ("1" * 200_000, "1e999999", "-1e999999", "NaN", "Infinity", "1" + "0" * 400)
TEXTS = {
    "brackets": b"[" * 15 * MIB,
    "braces": b'{"a":' * MIB,
    "many lists": b"[" + b"[]," * 5 * MIB + b"0]",
    "many objects": b"[" + b"{}," * 5 * MIB + b"0]",
    "a long text": b'"' + b"x" * 15 * MIB + b'"',
    "quotation marks": b'"' * 15 * MIB,
    "backslashes": b'"' + b"\\" * 15 * MIB,
    "too large": b"[" + b" " * 80 * MIB + b"]",
    "zeros": bytes(80 * MIB),
    **{f"number {text[:12]}": text.encode() for text in NUMBERS},
}
YAML = {
    "aliases": b"\n".join(
        [b"a0: &a0 [x]", *(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]".encode() for k in range(1, 30))]
    ),
    "merge keys": b"a: &a {x: 1}\nb:\n  <<: [*a, *a]\n",
    "indents": b"".join(b" " * k + b"a:\n" for k in range(1200)),
    "dashes": b"- " * 300_000,
    "tags": b"a: !!python/object/apply:os.system [':']",
}


def npy(shape: str, dtype: str = "|u1") -> bytes:
    """An npy file that has nothing but its header."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


NPY = {
    **{f"shape {shape[:20]}": npy(shape) for shape in ("(1099511627776, 9)", "(2305843009213693952, 16)", "(-1, -9)",
                                                       "(0, 9)", "()", "(" + "(" * 3000, "(9" + "9" * 9000 + ",)")},
    "wide numbers": npy("(1,)", "|V1000000000"),
    "wide texts": npy("(1,)", "<U500000000"),
    "objects": npy("(1, 9)", "|O"),
    "a long header": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"{",
}  # fmt: skip


def npz(good: bytes, name: str, content: bytes) -> bytes:
    """A good npz file with other content in one of its members."""
    held = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(good)) as source, zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in source.namelist():
            archive.writestr(member, content if member == f"{name}.npy" else source.read(member))
    return held.getvalue()


def arrays(reader: str) -> dict[str, bytes]:
    """Hostile npz files for a reader."""
    good = next(iter(readers.seeds(reader)))
    name = {"bank": "solved", "part": "clues"}[reader]
    found = {text: npz(good, name, content) for text, content in NPY.items()}
    found["unpacks to more"] = npz(good, name, npy("(700000000,)") + bytes(700_000_000))
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for number in range(30_000):
            archive.writestr(f"{number}.npy", b"")
    return {**found, "members": held.getvalue()}


def networks() -> dict[str, bytes]:
    """Configs of networks that are larger than any, or never end."""
    good = json.loads(next(iter(readers.seeds("config"))))
    changes = (
        {"grid": [10**6, 10**6]}, {"grid": [2**62, 2**62]}, {"hidden_size": 2**16, "h_layers": 256, "l_layers": 256},
        {"puzzle_count": 10**8, "puzzle_dim": 2**20}, {"vocab_size": 10**6, "hidden_size": 2**16}, {"expansion": 64.0},
        {"positions": "learned", "grid": [10**5, 10**5]}, {"mixer": "mlp", "grid": [10**4, 10**4]},
        {"mixer": "symbols", "grid": [4096, 4096], "symbols": 4096, "box": [64, 64], "vocab_size": 5000},
        {"heads": 1024, "hidden_size": 65536}, {"puzzle_positions": 4096, "puzzle_dim": 2**20},
    )  # fmt: skip
    return {str(change): json.dumps({**good, "model": {**good["model"], **change}}).encode() for change in changes}


def safetensors(header: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header


def walkers() -> dict[str, bytes]:
    """Configs of opponents that are larger than any, or never end."""
    good = json.loads(next(iter(readers.seeds("rl agent"))))
    changes = (
        {"grid": [10**6, 10**6]}, {"channels": 4096, "hidden": 4096}, {"iterations": 10**9}, {"vocab_size": 10**9},
        {"alternatives": 4096, "channels": 4096}, {"moves": 10**9}, {"iterations": 4096}, {"hidden": -1},
        {"walker_token": 10**6},
    )  # fmt: skip
    return {str(change): json.dumps({**good, "model": {**good["model"], **change}}).encode() for change in changes}


def tensors() -> dict[str, bytes]:
    entry = '"t{}": {{"dtype": "F32", "shape": [{}], "data_offsets": [0, {}]}}'
    return {
        "a long header": safetensors(b"{}", 2**60),
        "brackets": safetensors(b"{" + b'"a":[' * 10**6),
        "large shapes": safetensors(("{" + entry.format(0, 2**40, 2**42) + "}").encode()),
        "wrapping shapes": safetensors(("{" + entry.format(0, f"{2**32}, {2**32}", 0) + "}").encode()),
        "no numbers": safetensors(("{" + entry.format(0, f"0, {2**40}", 0) + "}").encode()),
        "names": safetensors(("{" + ", ".join(entry.format(k, 0, 0) for k in range(100_000)) + "}").encode()),
    }


def pickles() -> dict[str, bytes]:
    found: dict[str, bytes] = {
        "a long text": b"\x80\x02\x8d" + struct.pack("<Q", 2**40) + b".",
        "a long number": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b".",
        "tuples": b"\x80\x02)" + b"\x85" * 10**6 + b".",
        "lists": b"\x80\x02" + b"]" * 10**6 + b"a" * (10**6 - 1) + b".",
        "memo": b"\x80\x02]r" + struct.pack("<I", 2**32 - 1) + b".",
    }
    for name, tensor in (("repeated", torch.zeros(1).expand(2**40)), ("shared", torch.zeros(10**6))):
        held = io.BytesIO()
        torch.save({f"a{k}": tensor for k in range(50)}, held)
        found[name] = held.getvalue()
    return found


HOSTILE: dict[str, Callable[[], dict[str, bytes]]] = {
    "config": lambda: {**TEXTS, **networks()},
    "weights": tensors,
    "rl config": lambda: TEXTS,
    "sums": lambda: {**TEXTS, "lines": b"0  ../../x\n" * 80_000},
    "official": lambda: {**pickles(), **tensors(), "zeros": bytes(80 * MIB)},
    "official config": lambda: {**{name: text[: MIB - 1] for name, text in TEXTS.items()}, **TEXTS, **YAML},
    "csv": lambda: {
        **TEXTS,
        "commas": b"question,answer\n" + b"," * 15 * MIB,
        "an open quote": b'question,answer\n"' + b"x\n" * 10 * MIB,
        "open quotes": b"question,answer\n" + b'"x' * 10 * MIB,
        "columns": b",".join([b"question"] * 10**6) + b"\n",
        "a large maze": b"question,answer\nSG" + b" " * (1000 * 1000 - 2) + b"," + b"\n",
        "headers": b"question,answer\n" * 10**6,
    },
    "npy": lambda: NPY,
    "dataset.json": lambda: {
        **TEXTS,
        **{
            str(change): json.dumps({**readers.FACTS, **change}).encode()
            for change in ({"seq_len": 2**30}, {"seq_len": 10**400}, {"vocab_size": 2**31 - 1},
                           {"num_puzzle_identifiers": 2**31 - 1}, {"sets": ["all"] * 10**5},
                           {"sets": ["x" * 10**6]}, {"sets": ["\x1b[2J"]})
        },
    },
    "bank": lambda: arrays("bank"),
    "part": lambda: arrays("part"),
    "arc": lambda: {
        **TEXTS,
        "a large grid": json.dumps({"train": [{"input": [[0] * 3000] * 900, "output": [[0]]}], "test": []}).encode(),
        "tasks": json.dumps({str(k): {"train": [], "test": []} for k in range(100_000)}).encode(),
    },
    "curve": lambda: {
        **{name: b'{"update": ' + text[:8] + b"}\n" + text + b"\n" for name, text in TEXTS.items()},
        "lines": b'{"update": 1}\n' * 500_000,
        "names": json.dumps({"update": 1, **{str(k): k for k in range(500_000)}}).encode() + b"\n",
    },
    "id": lambda: {
        "commas": b"HRMMaze-v0:size=" + b"," * 10**6,
        "brackets": b"HRMMaze-v0:size=" + b"(" * 10**6,
        "digits": b"HRMMaze-v0:size=" + b"9" * 10**6,
        "power": b"HRMMaze-v0:size=9**9**9**9",
        "text": b"HRMMaze-v0:size='" + b"x" * 10**7,
        "name": b"x" * 10**6 + b":",
        "arguments": b"HRMMaze-v0:" + b",".join(b"a%d=1" % k for k in range(10**5)),
    },
    "options": lambda: {
        **{name: b'{"index": ' + text + b"}" for name, text in TEXTS.items() if name.startswith("number")},
        "text": json.dumps({"puzzle": "." * 10**7}).encode(),
        "lines": json.dumps({"puzzle": ".\n" * 10**6}).encode(),
        "grid": json.dumps({"puzzle": [[1] * 1000] * 1000}).encode(),
        "deep": b'{"puzzle": ' + b"[" * 900 + b"]" * 900 + b"}",
        "names": json.dumps({str(k): k for k in range(10**5)}).encode(),
    },
    "agent": lambda: {**TEXTS, **networks()},
    "agent weights": tensors,
    "rl agent": lambda: {**TEXTS, **walkers()},
    "rl agent weights": tensors,
    "halting policy": lambda: {
        **TEXTS,
        **{str(size): json.dumps({**json.loads(next(iter(readers.seeds("halting policy")))), "model": size}).encode()
           for size in ({"features": 10**9, "hidden": 4}, {"features": 4, "hidden": 10**9},
                        {"features": 0, "hidden": 0}, {"features": -1, "hidden": 1})},
    },
    "plug-ins": lambda: {
        "a long name": b"[hrm_gym.agents]\n" + b"x" * 10**6 + b" = a:b\n",
        "names": b"[hrm_gym.agents]\n" + b"".join(b"x%d = a:b\n" % k for k in range(20_000)),
        "sections": b"[" * 10**6,
        "zeros": bytes(10**6),
    },
}  # fmt: skip
"""Of every reader: contents by what is wrong with them."""


def in_a_process(task: Callable[[], str], memory: int, seconds: int) -> str:
    """What `task` returns in a process of its own that may take so much more memory, and CPU time; or how it ended."""
    begun, ended = os.pipe()
    if (child := os.fork()) == 0:
        os.close(begun)
        try:
            with Path("/proc/self/statm").open() as sizes:
                own = int(sizes.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (own + memory, own + memory))
            resource.setrlimit(resource.RLIMIT_CPU, (seconds + int(time.process_time()) + 1, resource.RLIM_INFINITY))
            said = task()
        except BaseException:
            said = traceback.format_exc()
        os.write(ended, said.encode()[:60_000])
        os._exit(0)
    os.close(ended)
    with os.fdopen(begun, "rb") as pipe:
        said = pipe.read().decode()
    status = os.waitpid(child, 0)[1]
    return said if status == 0 else f"{said} ended by {status}"


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory")
@pytest.mark.parametrize("name", readers.READERS)
def test_what_asks_for_more_than_there_is_costs_little(name: str) -> None:
    """Within the limits, or refused in one line; MemoryError is no refusal."""
    for seed in readers.seeds(name):
        with tempfile.TemporaryDirectory() as folder:
            readers.finding(name, Path(folder), seed)  # imports and compiles

    found = {}
    for label, content in HOSTILE[name]().items():
        with tempfile.TemporaryDirectory() as folder:
            task = lambda folder=folder, content=content: readers.finding(name, Path(folder), content) or ""  # noqa: E731
            if said := in_a_process(task, MEMORY, SECONDS):
                found[label] = said
    assert found == {}


LARGE = 50 * 2**30
"""Bytes that a sparse file claims to have; on disk it takes a few."""


def sparse(folder: Path, name: str) -> Path:
    """A safetensors file of one tensor of zeros, whose sizes agree."""
    header = json.dumps({"a": {"dtype": "U8", "shape": [LARGE], "data_offsets": [0, LARGE]}}).encode()
    path = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(safetensors(header))
    os.truncate(path, 8 + len(header) + LARGE)
    return path


def load_sparse_hrm(folder: Path) -> None:
    sparse(folder, "model.safetensors")
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  model.safetensors\n")
    (folder / "config.json").write_bytes(next(iter(readers.seeds("config"))))
    run_folder.load_model(folder)


def load_sparse_policy(folder: Path) -> None:
    sparse(folder, "model.safetensors")
    (folder / "config.json").write_bytes(next(iter(readers.seeds("rl config"))))
    read_policy(folder)


def load_sparse_halting_policy(folder: Path) -> None:
    Learned(DecisionNet(3, 4), {"recipe": {"agent": "ppo"}}).save(folder)
    (folder / "model.safetensors").unlink()
    sparse(folder, "model.safetensors")
    Learned.load(folder)


def load_sparse_official(folder: Path) -> None:
    read_state(sparse(folder, "step_7.safetensors"))


def load_sparse_arrays(folder: Path) -> None:
    path = folder / "bank.npz"
    path.write_bytes(next(iter(readers.seeds("bank"))))
    os.truncate(path, LARGE)
    read_npz(path)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory, sparse files")
@pytest.mark.parametrize(
    "task",
    [load_sparse_hrm, load_sparse_policy, load_sparse_halting_policy, load_sparse_official, load_sparse_arrays],
)
def test_a_sparse_file_of_gigabytes_is_refused_before_it_is_read(task: Callable[[Path], None], tmp_path: Path) -> None:
    def refusal() -> str:
        try:
            task(tmp_path)
        except ValueError as error:
            return f"refused: {error}"
        return "read"

    said = in_a_process(refusal, MEMORY, 5)
    assert said.startswith("refused: ")
    assert "expected " in said
    assert " at most " in said
    assert "53,687,091" in said
