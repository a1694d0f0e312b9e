"""Where tensors live."""

from __future__ import annotations

import torch


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


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is worth using: on a CPU only where its matrix products have instructions of their own."""
    if device.type != "cpu":
        return True
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return supported is not None and bool(supported())
