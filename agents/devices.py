"""Where tensors live."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

CPU_INFO = Path("/proc/cpuinfo")


def choose_device(name: str = "auto") -> torch.device:
    """The device of a name; "auto" takes cuda, else mps, else cpu.

    Raises:
        ValueError: the device is unknown or not to be had here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from None
    return device


@contextmanager
def float32_numbers() -> Iterator[None]:
    """Within, new tensors are float32, whatever torch's default dtype is; networks of stable-baselines3 follow it."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is worth thinking in: on a CPU only where its matrix products have fast instructions."""
    if device.type != "cpu":
        return True
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return supported is not None and bool(supported()) and not has_slow_bfloat16_products()


@functools.cache
def has_bfloat16_products() -> bool:
    """Whether this CPU multiplies bfloat16 numbers faster than float32 ones."""
    amx, avx = (getattr(torch.cpu, f"_is_{name}_supported", bool) for name in ("amx_tile", "avx512_bf16"))
    return bool(amx() or avx()) and not has_slow_bfloat16_products()


def has_slow_bfloat16_products() -> bool:
    """Whether this CPU has instructions for bfloat16 products that are slower than its float32 ones.

    So it is with AVX512-BF16 on Intel's processors where AMX is absent or hidden by a virtual machine: there they reach
    half the rate of float32 (`hrm-gym bench --only training` shows what that costs). AMD's reach twice the rate.
    """
    known = all(hasattr(torch.cpu, name) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    if not (known and torch.cpu._is_avx512_bf16_supported() and CPU_INFO.is_file()):
        return False
    return "GenuineIntel" in CPU_INFO.read_text(errors="replace") and not torch.cpu._is_amx_tile_supported()


# ---- memory ----


def reset_peak_memory(device: torch.device) -> int | None:
    """Bytes of `device` (CPU: of memory) that this process occupies now, from which on `peak_memory` is measured.

    None where the system does not tell: a CPU without Linux's /proc, and Apple's mps.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return None if device.type != "cpu" else _kilobytes(Path("/proc/self/status"), "VmRSS")


def peak_memory(device: torch.device) -> int:
    """Bytes that this process occupied at its highest since `reset_peak_memory`, which had told a figure."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _kilobytes(Path("/proc/self/status"), "VmHWM") or 0


def _kilobytes(path: Path, name: str) -> int | None:
    """A size in bytes out of one of Linux's accounts, which are in kB; None elsewhere."""
    lines = path.read_text().splitlines() if path.exists() else []
    sizes = [int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")]
    return sizes[0] if sizes else None


def free_memory(device: torch.device) -> int | None:
    """Bytes of `device` (CPU: of memory) that can be had now; None where the system does not tell."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return _kilobytes(Path("/proc/meminfo"), "MemAvailable") if device.type == "cpu" else None
